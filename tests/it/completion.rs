use std::path::Path;
use std::process::Command;

use crate::sandbox::Sandbox;

/// What bash offers for the last of these words.
fn offered(sandbox: &Sandbox, words: &[&str]) -> Vec<String> {
    let script = sandbox.maqet(&["completion", "bash"]).ok().stdout;
    let file = sandbox.path("maqet.bash");
    std::fs::write(&file, script).unwrap();
    let (last, before) = words.split_last().unwrap();
    // As bash calls it (Programmable Completion): the command, the word, and the one before.
    let program = Path::new(env!("CARGO_BIN_EXE_maqet")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let bash = Command::new("bash")
        .env("PATH", path)
        .env("XDG_DATA_HOME", sandbox.path("data"))
        .env("XDG_CONFIG_HOME", sandbox.path("config"))
        .arg("-c")
        .arg(
            "source \"$0\"; last=$1 before=$2; shift 2; COMP_WORDS=(\"$@\"); \
             COMP_CWORD=$(($# - 1)); _clap_complete_maqet maqet \"$last\" \"$before\"; \
             printf '%s\\n' \"${COMPREPLY[@]}\"",
        )
        .arg(&file)
        .args([last, before.last().unwrap()])
        .args(words)
        .output()
        .unwrap();
    let said = String::from_utf8(bash.stderr).unwrap();
    assert!(bash.status.success(), "{said}");
    let offers = String::from_utf8(bash.stdout).unwrap();
    offers.lines().map(str::to_owned).collect()
}

#[test]
fn commands_options_and_files_are_completed_in_bash() {
    let sandbox = Sandbox::new();
    assert_eq!(offered(&sandbox, &["maqet", "sta"]), ["start", "status"]);
    assert_eq!(offered(&sandbox, &["maqet", "snapshot", "re"]), ["restore"]);
    assert_eq!(
        offered(&sandbox, &["maqet", "start", "--disc"]),
        ["--discard-saved"]
    );
    let file = sandbox.path("web.toml");
    std::fs::write(&file, "").unwrap();
    let begun = file.to_str().unwrap().strip_suffix(".toml").unwrap();
    assert_eq!(
        offered(&sandbox, &["maqet", "add", begun]),
        [file.to_str().unwrap()]
    );
}

#[test]
fn names_of_vms_are_completed_where_one_is_meant_that_there_is() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.add_prelaunch("web2");
    sandbox.add_prelaunch("db");
    let name = sandbox.name("web");
    let both = [name.clone(), sandbox.name("web2")];
    for before in [
        &["start"][..],
        &["rm", "--disks"],
        &["snapshot", "restore"],
        &["disk", "add"],
    ] {
        let words = [&["maqet"], before, &[&name]].concat();
        assert_eq!(offered(&sandbox, &words), both, "{words:?}");
    }
    // A name that none has is meant.
    for before in [
        &["clone", &name][..],
        &["rename", &name],
        &["add", "--name"],
    ] {
        let words = [&["maqet"], before, &[&name]].concat();
        assert_eq!(offered(&sandbox, &words), [""], "{words:?}");
    }
}

#[test]
fn there_are_scripts_for_other_shells() {
    let sandbox = Sandbox::new();
    for shell in ["zsh", "fish"] {
        let script = sandbox.maqet(&["completion", shell]).ok().stdout;
        assert!(script.contains("MAQET_COMPLETE"), "{shell}");
    }
}
