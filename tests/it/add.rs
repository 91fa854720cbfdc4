use std::fs;
use std::process::Command;

use crate::sandbox::Sandbox;

#[test]
fn a_file_is_a_definition_and_options_win_over_it() {
    let sandbox = Sandbox::new();
    let name = sandbox.name("web");
    fs::create_dir(sandbox.path("sub")).unwrap();
    fs::write(
        sandbox.path("sub/web.toml"),
        format!("# mine\nname = \"{name}\"\nmemory = \"64M\" # small\n\n[disk.root]\nfile = \"a, b.raw\"\nsize = \"1M\"\n"),
    )
    .unwrap();
    sandbox
        .maqet(&["add", "sub/web.toml", "--memory", "96M"])
        .ok()
        .saying("added");

    let shown = sandbox.maqet(&["show", "@web"]).ok();
    assert!(shown.stdout.contains("# mine\n"), "{}", shown.stdout);
    assert!(
        shown.stdout.contains("memory = \"96M\" # small"),
        "{}",
        shown.stdout
    );
    let shown = sandbox.maqet(&["show", "@web", "--json"]).json();
    assert_eq!(shown["memory"]["size"], 96 << 20);
    // Relative to the file that says it.
    let disk = sandbox.path("sub/a, b.raw");
    assert_eq!(shown["disk"]["root"]["file"], disk.to_str().unwrap());
    assert_eq!(fs::metadata(&disk).unwrap().len(), 1 << 20);
}

#[test]
fn a_yaml_file_is_a_definition_that_is_stored_as_toml() {
    let sandbox = Sandbox::new();
    let name = sandbox.name("web");
    let text = "# theirs\nmemory: 64M\nappend: on\nkernel: a.raw\ndisk:\n  root: {file: a.raw, size: 1M}\n";
    fs::write(sandbox.path(&format!("{name}.yaml")), text).unwrap();
    sandbox
        .maqet(&["add", "@web.yaml", "--cpus", "2"])
        .ok()
        .saying("added");
    let shown = sandbox.maqet(&["show", "@web"]).ok().stdout;
    let definition: toml::Table = shown.parse().unwrap();
    assert_eq!(definition["name"].as_str(), Some(&*name));
    assert_eq!(definition["append"].as_str(), Some("on"));
    assert_eq!(definition["cpus"].as_integer(), Some(2));
    let disk = sandbox.path("a.raw");
    let root = &definition["disk"]["root"];
    assert_eq!(root["file"].as_str(), disk.to_str());

    fs::write(sandbox.path("db.yml"), "name: db\nmemory: 64M\n  cpus: 1\n").unwrap();
    sandbox
        .maqet(&["add", "db.yml"])
        .fails(1)
        .saying("db.yml:3:")
        .saying("  3 |   cpus: 1");
    fs::write(
        sandbox.path("db.yml"),
        "name: db\ncpus: on\nunit: {}\nvga: 1\n",
    )
    .unwrap();
    sandbox
        .maqet(&["add", "db.yml"])
        .fails(1)
        .saying("db.yml:2:7: ")
        .saying("db.yml:4:6: ");
}

#[test]
fn a_definition_of_python_maqet_is_added_and_starts() {
    let sandbox = Sandbox::new();
    let name = sandbox.name("old");
    let text = format!(
        "name: {name}\nmemory: 64\ncpu: 1\narguments:\n- S\n- rtc: {{base: localtime}}\n- display: none\n\
         storage:\n- {{name: hdd, type: qcow2, file: ./hdd.qcow2, size: 1M}}\n"
    );
    fs::write(sandbox.path("old.yaml"), text).unwrap();
    sandbox
        .maqet(&["add", "old.yaml"])
        .ok()
        .saying("passed to QEMU as it is: -S -rtc 'base=localtime'")
        .saying("added");
    let disk = sandbox.path("hdd.qcow2");
    assert!(disk.exists());
    sandbox.maqet(&["start", "@old"]).ok();
    assert_eq!(sandbox.state("old"), "prelaunch");
    let blocks = sandbox.maqet(&["qmp", "@old", "query-block"]).ok().stdout;
    assert!(blocks.contains(disk.to_str().unwrap()), "{blocks}");
}

#[test]
fn a_mistake_is_shown_where_it_stands_and_nothing_is_left() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("web.toml"), "memroy = \"1G\"\n").unwrap();
    sandbox
        .maqet(&["add", "web.toml"])
        .fails(1)
        .saying("web.toml:1:1: unknown key `memroy`, did you mean `memory`?");
    // Several mistakes are told at once.
    fs::write(sandbox.path("web.toml"), "cpus = 0\nmachine = \"\"\n").unwrap();
    sandbox
        .maqet(&["add", "web.toml"])
        .fails(1)
        .saying("web.toml:1:")
        .saying("web.toml:2:");
    for bad in ["12", "1 potato", "-1G", "0"] {
        sandbox
            .maqet(&["add", "--name", "x", &format!("--memory={bad}")])
            .fails(2)
            .saying("memory");
    }
    assert!(!sandbox.path("data").exists() || sandbox.maqet(&["show", "web"]).status == 4);
}

#[test]
fn names_that_could_be_paths_or_options_are_refused() {
    let sandbox = Sandbox::new();
    let long = "a".repeat(300);
    for bad in ["../x", "-x", "", long.as_str(), "a/b", "a.b", "a b", "a\nb"] {
        let flag = format!("--name={bad}");
        sandbox
            .maqet(&["add", &flag])
            .fails(2)
            .saying("cannot name a VM");
        sandbox
            .maqet(&["start", "--", bad])
            .fails(2)
            .saying("cannot name a VM");
        sandbox
            .maqet(&["rm", "--", bad])
            .fails(2)
            .saying("cannot name a VM");
    }
    assert!(!sandbox.path("data").exists());
}

#[test]
fn a_disk_that_is_there_is_used_as_it_is() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("mine.raw"), vec![7; 1 << 20]).unwrap();
    let disk = format!("{}:8M", sandbox.path("mine.raw").display());
    sandbox.add("web", &["--disk", &disk]);
    assert_eq!(
        fs::read(sandbox.path("mine.raw")).unwrap(),
        vec![7; 1 << 20]
    );
}

#[test]
fn a_disk_that_is_neither_there_nor_has_a_size_is_refused() {
    let sandbox = Sandbox::new();
    let name = sandbox.name("web");
    sandbox
        .maqet(&[
            "add",
            "--name",
            &name,
            "--disk",
            "good.qcow2:1M",
            "--disk",
            "none.qcow2",
        ])
        .fails(1)
        .saying("none.qcow2 does not exist")
        .saying("`size`");
    sandbox
        .maqet(&["add", "--name", &name, "--disk", "none.qcow2", "--dry-run"])
        .fails(1)
        .saying("none.qcow2 does not exist");
    // What had been made before that is gone again.
    assert!(!sandbox.path("good.qcow2").exists());
    sandbox.maqet(&["show", "@web"]).fails(4);
}

#[test]
fn a_disk_is_made_in_its_format_and_size() {
    let sandbox = Sandbox::new();
    sandbox.add("web", &["--disk", "root.qcow2:5M"]);
    let info = Command::new("qemu-img")
        .args(["info", "--output=json"])
        .arg(sandbox.path("root.qcow2"))
        .output()
        .unwrap();
    let info: serde_json::Value = serde_json::from_slice(&info.stdout).unwrap();
    assert_eq!(info["format"], "qcow2");
    assert_eq!(info["virtual-size"], 5 << 20);
}

#[test]
fn a_name_is_taken_once() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    let name = sandbox.name("web");
    sandbox
        .maqet(&["add", "--name", &name, "--disk", "other.qcow2:1M"])
        .fails(1)
        .saying("there is a VM")
        .saying("maqet show");
    assert!(!sandbox.path("other.qcow2").exists());
}

#[test]
fn several_files_are_one_definition_and_each_value_says_where_it_is_from() {
    let sandbox = Sandbox::new();
    let name = sandbox.name("web");
    fs::create_dir(sandbox.path("sub")).unwrap();
    fs::write(
        sandbox.path("sub/base.toml"),
        "memory = \"64M\"\n[disk.root]\nfile = \"root.raw\"\nsize = \"1M\"\n[qemu]\nargs = [\"-S\"]\n",
    )
    .unwrap();
    fs::write(
        sandbox.path("web.toml"),
        format!("extends = \"sub/base.toml\"\nname = \"{name}\"\nqemu.args = [\"-usb\"]\n"),
    )
    .unwrap();
    let words = ["add", "web.toml", "--template", "ci", "--cpus", "3"];
    let with = |more: &[&str]| sandbox.maqet(&[&words[..], more].concat());

    let shown = with(&["--dry-run"]).ok().stdout;
    for part in [
        "sub/base.toml:1\n",
        "# --cpus 3\n",
        "# template:ci:",
        "base.toml:6, ",
        "# default\n",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let json = with(&["--dry-run", "--json"]).json();
    assert_eq!(json["definition"]["cpus"], 3);
    let values = json["values"].as_array().unwrap();
    let memory = values.iter().find(|it| it["key"] == "memory").unwrap();
    assert_eq!(memory["from"][0]["line"], 1);
    let argv = with(&["--dry-run", "--argv"])
        .ok()
        .saying("the UUID is made when the VM is added");
    assert!(argv.stdout.contains("-smp"));
    // None of that has touched anything.
    assert!(!sandbox.path("data").exists());
    assert!(!sandbox.path("sub/root.raw").exists());

    with(&["--set", "stop.timeout=7s", "--unset", "unit.RuntimeMaxSec"]).ok();
    let shown = sandbox.maqet(&["show", "@web", "--json"]).json();
    assert_eq!(shown["qemu"]["args"], serde_json::json!(["-S", "-usb"]));
    assert_eq!(shown["stop"]["timeout"], 7);
    assert!(shown["unit"].get("RuntimeMaxSec").is_none(), "{shown}");
    // It is complete in itself.
    fs::remove_file(sandbox.path("sub/base.toml")).unwrap();
    sandbox.maqet(&["start", "@web"]).ok();
    let all = sandbox.maqet(&["show", "@web", "--all"]).ok().stdout;
    assert!(
        all.contains("# definition:") && all.contains("# default\n"),
        "{all}"
    );
}

#[test]
fn what_is_wrong_with_an_option_is_told_of_the_option() {
    let sandbox = Sandbox::new();
    for (words, said) in [
        (
            &["--append", "quiet"][..],
            "error: --append quiet: `append` needs a `kernel`",
        ),
        (&["--cpus", "0"], "error: --cpus 0: a VM has 1 to 1024 CPUs"),
        (&["--disk", ""], "a disk is a FILE, or FILE:SIZE"),
        (
            &["--accel", "kmv"],
            "error: --accel kmv: unknown value `kmv`, did you mean `kvm`?",
        ),
        (
            &["--forward", "22"],
            "error: --forward 22: `22` is not a forward",
        ),
        (
            &["--set", "stop.timeout=5"],
            "error: --set stop.timeout=5: `5` has no unit",
        ),
        (
            &["--set", "memroy=5G"],
            "unknown key `memroy`, did you mean `memory`?",
        ),
        (&["--set", "memory"], "is not KEY=VALUE"),
        (
            &["--unset", "memory"],
            "error: --unset memory: nothing before this says `memory`",
        ),
        (
            &["--template", "linus"],
            "there is no template `linus`, did you mean `linux`?",
        ),
        (&["--argv"], "--dry-run"),
    ] {
        sandbox
            .maqet(&[&["add", "--name", "x"], words].concat())
            .fails(2)
            .saying(said);
    }
    // What is wrong with a file is none of the command line's.
    fs::write(sandbox.path("web.toml"), "cpus = 0\n").unwrap();
    sandbox
        .maqet(&["add", "web.toml", "--append", "x"])
        .fails(1)
        .saying("web.toml:1:8: ")
        .saying("--append x: ");
    assert!(!sandbox.path("data").exists());
}

#[test]
fn a_disk_is_not_taken_for_what_it_is_not() {
    let sandbox = Sandbox::new();
    let image = sandbox.path("cloud.img");
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .args([image.as_os_str(), "1M".as_ref()])
        .status();
    assert!(made.unwrap().success());
    fs::write(sandbox.path("notes"), "some text").unwrap();
    sandbox
        .try_lines("web", "[disk.root]\nfile = \"cloud.img\"")
        .fails(1)
        .saying(":5:8: ")
        .saying(
            "would be taken for a disk of format `raw`, and looks like `qcow2`: say its `format`",
        );
    sandbox
        .try_lines("web", "[disk.root]\nfile = \"notes\"")
        .fails(1)
        .saying("`qcow2`, and does not look like one: `format = \"raw\"` has it taken as it is");
    sandbox
        .try_lines("web", "[disk.root]\nfile = \"notes\"\nformat = \"qcow2\"")
        .fails(1)
        .saying(":6:10: ");
    // What is said is so; and a raw disk has what its guest likes.
    sandbox.add_lines(
        "web",
        "[disk.root]\nfile = \"cloud.img\"\nformat = \"qcow2\"",
    );
    sandbox
        .maqet(&["set", "@web", "disk.root.file=notes"])
        .fails(1)
        .saying("does not look like one");
    sandbox.add_lines("raw", "[disk.root]\nfile = \"notes\"\nformat = \"raw\"");
}

#[test]
fn an_empty_file_is_no_definition() {
    let sandbox = Sandbox::new();
    for verb in ["add", "import", "apply"] {
        sandbox
            .maqet(&[verb, "/dev/null"])
            .fails(1)
            .saying("/dev/null is empty");
    }
}

#[test]
fn a_definition_can_come_from_a_pipe() {
    let sandbox = Sandbox::new();
    let name = sandbox.name("web");
    let add = |text: &str| {
        fs::write(sandbox.path("piped"), text).unwrap();
        let mut command = sandbox.command(&["add", "-"]);
        command.stdin(fs::File::open(sandbox.path("piped")).unwrap());
        command.output().unwrap()
    };
    let text = format!("name = \"{name}\"\ndisk.root.file = \"d.raw\"\ndisk.root.size = \"1M\"\n");
    assert!(add(&text).status.success());
    assert!(sandbox.path("d.raw").exists());
    let wrong = add("memory = 1\n");
    let words = String::from_utf8(wrong.stderr).unwrap();
    assert!(words.contains("standard input:1:10: "), "{words}");
}
