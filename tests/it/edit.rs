use std::fs;
use std::path::Path;

use crate::sandbox::{Ran, Sandbox, signal, wait_until};

/// Runs `maqet edit web` with an editor that is this shell script; `$1` is the file.
fn edit(sandbox: &Sandbox, script: &str) -> Ran {
    Ran::of(spawn(sandbox, script))
}

fn spawn(sandbox: &Sandbox, script: &str) -> std::process::Child {
    let editor = sandbox.path("editor");
    fs::write(&editor, format!("set -e\n{script}\n")).unwrap();
    fs::create_dir_all(sandbox.path("tmp")).unwrap();
    sandbox
        .command(&["edit", &sandbox.name("web")])
        .env("VISUAL", format!("sh {}", editor.display()))
        .env("TMPDIR", sandbox.path("tmp"))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap()
}

/// The files that edits have left.
fn left(sandbox: &Sandbox) -> Vec<String> {
    let files = fs::read_dir(sandbox.path("tmp")).unwrap();
    files
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .collect()
}

fn add(sandbox: &Sandbox) -> String {
    let name = sandbox.name("web");
    let text = format!(
        "# Ours.\nname = \"{name}\"\nmemory = \"64M\" # small\naccel = \"tcg\"\nqemu.args = [\"-S\"]\n"
    );
    fs::write(sandbox.path("web.toml"), &text).unwrap();
    sandbox.maqet(&["add", "web.toml"]).ok();
    text
}

#[test]
fn what_was_edited_is_checked_and_kept_as_it_is_written() {
    let sandbox = Sandbox::new();
    let text = add(&sandbox);
    sandbox.maqet(&["start", "@web"]).ok();
    let mode = "test $(stat -c %a \"$1\") = 600";
    let script =
        format!("{mode}; sed -i s/64M/96M/ \"$1\"; echo 'unit.CPUWeight = 7 # new' >> \"$1\"");
    edit(&sandbox, &script)
        .ok()
        .saying("memory: 64M -> 96M, from its next start on")
        .saying("unit.CPUWeight: none -> 7\n");
    let expected = text.replace("64M", "96M") + "unit.CPUWeight = 7 # new\n";
    assert_eq!(sandbox.maqet(&["show", "@web"]).ok().stdout, expected);
    assert_eq!(sandbox.property("web", "CPUWeight"), "7");
    edit(&sandbox, "cat \"$1\" > /dev/null")
        .ok()
        .saying("nothing changed");
    // An editor that makes a new file.
    edit(
        &sandbox,
        "sed 's/# new/# old/' \"$1\" > \"$1.x\"; mv \"$1.x\" \"$1\"",
    )
    .ok()
    .saying("only the text");
    assert_eq!(left(&sandbox), [""; 0]);
}

#[test]
fn with_mistakes_and_no_terminal_the_text_is_kept() {
    let sandbox = Sandbox::new();
    let text = add(&sandbox);
    let ran = edit(
        &sandbox,
        "echo 'cpsu = 2' >> \"$1\"; echo 'machine = \"\"' >> \"$1\"",
    )
    .fails(1);
    ran.saying("6:1: unknown key `cpsu`, did you mean `cpus`?")
        .saying("the text is kept in ");
    assert_eq!(sandbox.maqet(&["show", "@web"]).ok().stdout, text);
    assert_eq!(
        left(&sandbox),
        [format!("{text}cpsu = 2\nmachine = \"\"\n")]
    );
}

#[test]
fn on_a_terminal_one_may_edit_again_or_discard() {
    let sandbox = Sandbox::new();
    let text = add(&sandbox);
    // script(1) gives the command a terminal, and types what it is given.
    let dialogue = |answers: &str, editor: &str| -> String {
        let script = sandbox.path("editor");
        fs::write(&script, editor).unwrap();
        fs::create_dir_all(sandbox.path("tmp")).unwrap();
        let maqet = Path::new(env!("CARGO_BIN_EXE_maqet"));
        let command = format!("{} edit {}", maqet.display(), sandbox.name("web"));
        let mut command = {
            let mut script = std::process::Command::new("script");
            script.args(["-q", "-e", "-c", &command, "/dev/null"]);
            script
        };
        command
            .env("XDG_DATA_HOME", sandbox.path("data"))
            .env("XDG_CONFIG_HOME", sandbox.path("config"))
            .env("EDITOR", format!("sh {}", script.display()))
            .env_remove("VISUAL")
            .env("TMPDIR", sandbox.path("tmp"))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), answers.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let once = "grep -q cpsu \"$1\" && sed -i s/cpsu/cpus/ \"$1\" || echo 'cpsu = 2' >> \"$1\"";
    let said = dialogue("d\n", once);
    assert!(
        said.contains("edit again, or discard") && said.contains("nothing changed"),
        "{said}"
    );
    assert_eq!(sandbox.maqet(&["show", "@web"]).ok().stdout, text);
    let said = dialogue("e\n", once);
    assert!(said.contains("cpus: 1 -> 2"), "{said}");
    assert_eq!(left(&sandbox), [""; 0]);
}

#[test]
fn what_someone_else_changes_meanwhile_is_not_lost_and_neither_is_the_text() {
    let sandbox = Sandbox::new();
    add(&sandbox);
    let go = sandbox.path("go");
    let there = sandbox.path("there");
    let script = format!(
        "echo cpus = 2 >> \"$1\"; touch {}; while ! [ -e {} ]; do sleep 0.01; done",
        there.display(),
        go.display()
    );
    let child = spawn(&sandbox, &script);
    wait_until("the editor is there", || there.exists());
    sandbox.maqet(&["set", "@web", "description=theirs"]).ok();
    fs::write(&go, "").unwrap();
    let ran = Ran::of(child).fails(1);
    ran.saying("was changed by someone else meanwhile")
        .saying("the text is kept in ");
    let shown = sandbox.maqet(&["show", "@web"]).ok().stdout;
    assert!(
        shown.contains("theirs") && !shown.contains("cpus"),
        "{shown}"
    );
    assert!(left(&sandbox)[0].contains("cpus = 2"));
}

#[test]
fn an_edit_that_is_cut_short_changes_nothing() {
    let sandbox = Sandbox::new();
    let text = add(&sandbox);
    edit(&sandbox, "echo cpus = 2 >> \"$1\"; exit 1")
        .fails(1)
        .saying("failed (exit status: 1), and nothing was changed")
        .saying("the text is kept in ");
    edit(&sandbox, "exit 1")
        .fails(1)
        .saying("nothing was changed");
    assert_eq!(left(&sandbox).len(), 1);
    let there = sandbox.path("there");
    let script = format!(
        "echo $$ > {0}.x; mv {0}.x {0}; exec sleep 600",
        there.display()
    );
    let mut child = spawn(&sandbox, &script);
    wait_until("the editor is there", || there.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    let editor = fs::read_to_string(&there).unwrap().trim().parse().unwrap();
    signal(editor, 9);
    assert_eq!(sandbox.maqet(&["show", "@web"]).ok().stdout, text);
    sandbox.maqet(&["edit", "@nobody"]).fails(4);
}

#[test]
fn a_disk_that_is_edited_out_is_kept_and_named() {
    let sandbox = Sandbox::new();
    add(&sandbox);
    edit(&sandbox, "echo 'disk.data.size = \"1M\"' >>\"$1\"").ok();
    let file = sandbox.vm_dir("web").join("data.qcow2");
    edit(&sandbox, "sed -i /disk/d \"$1\"")
        .ok()
        .saying(&format!(
            "kept {}: `maqet disk orphans --delete FILE` deletes it",
            file.display()
        ));
    assert!(file.exists());
}

#[test]
fn a_text_that_was_emptied_changes_nothing() {
    let sandbox = Sandbox::new();
    let text = add(&sandbox);
    edit(&sandbox, ": >\"$1\"").ok().saying("nothing changed");
    assert_eq!(sandbox.maqet(&["show", "@web"]).ok().stdout, text);
    assert!(left(&sandbox).is_empty());
}
