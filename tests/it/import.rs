use std::fs;

use crate::sandbox::Sandbox;

const UUID: &str = "0b6c1d1e-7c7e-4b52-9f6e-2d0a3c1f5a77";

fn write(sandbox: &Sandbox, file: &str, vms: &[(&str, &str, &str)]) -> String {
    let mut text = "# kept on a rainy day\n\n".to_owned();
    for (name, uuid, definition) in vms {
        let name = sandbox.name(name);
        text += &format!("#-- VM {name}, UUID {uuid} --\nname = '{name}'\n{definition}\n\n");
    }
    fs::write(sandbox.path(file), &text).unwrap();
    text
}

#[test]
fn all_are_imported_or_none() {
    let sandbox = Sandbox::new();
    let other = UUID.replace('0', "1");
    for (vms, said) in [
        (
            [("a", UUID, "cpus = 1"), ("b", UUID, "cpus = 1")],
            "has the UUID of VM",
        ),
        (
            [("a", UUID, "cpus = 1"), ("b", &other, "cups = 1")],
            // Where it is in the whole text.
            "all.toml:9:1: unknown key `cups`, did you mean `cpus`?",
        ),
        (
            [("a", UUID, "cpus = 1"), ("a", &other, "cpus = 1")],
            "two definitions of VM",
        ),
        (
            [("a", UUID, "cpus = 1"), ("b", "no", "cpus = 1")],
            "`no` is not a UUID",
        ),
        (
            [
                ("a", UUID, "cpus = 1"),
                ("b", &other, "disk.root.file = '/'"),
            ],
            "is a directory",
        ),
    ] {
        write(&sandbox, "all.toml", &vms);
        sandbox.maqet(&["import", "all.toml"]).fails(1).saying(said);
        assert_eq!(sandbox.state("a"), "not listed", "{said}");
    }
}

#[test]
fn what_is_there_is_replaced_only_by_name() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("a", "disk.root.size = '1M'");
    write(
        &sandbox,
        "a.toml",
        &[(
            "a",
            UUID,
            "cpus = 3\nmemory = '64M'\ndisk.root.size = '1M'\ndisk.b.file = '/nosuch/b'",
        )],
    );
    sandbox
        .maqet(&["import", "a.toml"])
        .fails(1)
        .saying("there is a VM");
    sandbox
        .maqet(&["import", "a.toml", "--replace", "@a", "--replace", "@b"])
        .fails(1)
        .saying("there is no VM");
    sandbox.maqet(&["start", "@a"]).ok();
    sandbox
        .maqet(&["import", "a.toml", "--replace", "@a"])
        .fails(1)
        .saying("is running");
    sandbox.maqet(&["stop", "--force", "@a"]).ok();
    sandbox
        .maqet(&["import", "a.toml", "--replace", "@a"])
        .ok()
        .saying("replaced")
        .saying("/nosuch/b is not there");
    assert_eq!(sandbox.listed("a")["cpus"], 3);
    let shown = sandbox.maqet(&["show", "@a", "--json"]).json();
    assert_eq!(shown["uuid"], UUID);
    // What maqet has made for it is still known to be its own.
    sandbox
        .maqet(&["rm", "@a", "--disks"])
        .ok()
        .saying("deleted");
}

#[test]
fn a_definition_by_hand_is_taken_from_standard_input() {
    use std::io::Write;
    use std::process::Stdio;
    let sandbox = Sandbox::new();
    let mut child = sandbox
        .command(&["import", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let text = format!("name = '{}'\ncpus = 2\n", sandbox.name("web"));
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(sandbox.listed("web")["cpus"], 2);
}

#[test]
fn a_definition_that_extends_others_is_for_add() {
    let sandbox = Sandbox::new();
    let text = format!("name = '{}'\nextends = 'base.toml'\n", sandbox.name("web"));
    fs::write(sandbox.path("web.toml"), text).unwrap();
    sandbox
        .maqet(&["import", "web.toml"])
        .fails(1)
        .saying("extends others")
        .saying("`maqet add` reads it");
}
