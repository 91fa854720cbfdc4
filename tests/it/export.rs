use std::fs;

use crate::sandbox::Sandbox;

#[test]
fn what_is_exported_and_imported_is_the_same() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("base.raw"), [0; 4096]).unwrap();
    let definitions = [
        ("plain", ""),
        (
            "disks",
            "# ours\n[disk.root] # it\nfile = 'base.raw'\n[disk.data]\nsize = '1M'\n\n\n# end",
        ),
        (
            "nets",
            "group = 'ci'\nlabels = { a = 'b', c = '#-- VM x' }\n[net.lan]\nforward = [\n  '2222:22', # ssh\n]\n[net.wan]",
        ),
        (
            "texts",
            "description = \"a 'b' \\\"c\\\" \\u00fc\"\nprotect = true\nstop = { timeout = \"3s\" }",
        ),
        (
            "after",
            "after = ['@plain', '@disks']\n[unit]\nMemoryMax = '8G'\nEnvironment = ['A=b c', \"D='e'\"]",
        ),
    ];
    for (name, lines) in definitions {
        sandbox.add_lines(name, lines);
    }
    let all = |text: &str| -> Vec<(String, String, String)> {
        let argv = |name: &str| sandbox.maqet(&["show", "--argv", name]).ok().stdout;
        definitions
            .iter()
            .map(|(name, _)| {
                let vm = format!("@{name}");
                let shown = sandbox.maqet(&["show", "--json", &vm]).ok().stdout;
                (argv(&vm), shown, text.to_owned())
            })
            .collect()
    };
    let text = sandbox.maqet(&["export", "--all"]).ok().stdout;
    let before = all(&text);
    assert_eq!(text.matches("#-- VM ").count(), definitions.len() + 1);
    fs::write(sandbox.path("all.toml"), &text).unwrap();

    let refused = sandbox.maqet(&["import", "all.toml"]).fails(1);
    assert!(
        refused.stderr.contains("there is a VM"),
        "{}",
        refused.stderr
    );
    sandbox.maqet(&["set", "@texts", "protect=false"]).ok();
    sandbox.maqet(&["rm", &sandbox.name("*")]).ok();
    sandbox.maqet(&["import", "all.toml"]).ok();
    let again = sandbox.maqet(&["export", "--all"]).ok().stdout;
    assert_eq!(again, text);
    assert_eq!(all(&again), before);
}

#[test]
fn one_vm_s_text_is_a_definition() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("web", "cpus = 2");
    let file = sandbox.path("kept.toml");
    let kept = file.to_str().unwrap();
    sandbox
        .maqet(&["export", "@web", "-o", kept])
        .ok()
        .saying("1 VM written");
    sandbox
        .maqet(&["export", "@web", "-o", kept])
        .fails(1)
        .saying("is there already")
        .saying("--force");
    sandbox
        .maqet(&["export", "@web", "-o", kept, "--force"])
        .ok();
    sandbox.maqet(&["rm", "@web"]).ok();
    sandbox.maqet(&["add", kept]).ok();
    assert_eq!(sandbox.listed("web")["cpus"], 2);
    // The line of the first export is not there twice.
    let again = sandbox.maqet(&["export", "@web"]).ok().stdout;
    assert_eq!(again.matches("#-- VM").count(), 1, "{again}");
    sandbox.maqet(&["export", "@nosuch"]).fails(4);
}

#[test]
fn each_vm_has_a_file_of_its_own_and_none_is_written_over() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("a", "");
    sandbox.add_lines("b", "");
    let pattern = sandbox.name("*");
    let export = ["export", &pattern, "-o", "all/"];
    sandbox.maqet(&export).ok().saying("2 VMs written to all/");
    let file = |short: &str| sandbox.path(&format!("all/{}.toml", sandbox.name(short)));
    let text = fs::read_to_string(file("b")).unwrap();
    assert_eq!(text, sandbox.maqet(&["export", "@b"]).ok().stdout);
    fs::remove_file(file("a")).unwrap();
    fs::write(file("b"), "mine").unwrap();
    sandbox.maqet(&export).fails(1);
    assert!(!file("a").exists());
    assert_eq!(fs::read_to_string(file("b")).unwrap(), "mine");
    sandbox.maqet(&[&export[..], &["--force"]].concat()).ok();
    assert_eq!(fs::read_to_string(file("b")).unwrap(), text);
}

#[test]
fn what_starts_at_boot_and_which_disks_are_maqet_s_comes_back() {
    let sandbox = Sandbox::new();
    sandbox.install_template();
    sandbox.add_lines("a", "disk.data.size = '1M'");
    sandbox.add_lines("b", "");
    sandbox.maqet(&["enable", "@a"]).ok();
    let pattern = sandbox.name("*");
    let text = sandbox.maqet(&["export", &pattern]).ok().stdout;
    assert_eq!(text.matches(", starts at boot --\n").count(), 1, "{text}");
    fs::write(sandbox.path("all"), &text).unwrap();
    sandbox.maqet(&["rm", &pattern]).ok();
    let disk = sandbox.vm_dir("a").join("data.qcow2");
    assert!(disk.exists());
    assert_eq!(
        sandbox.maqet(&["ls", "--json", &pattern]).json(),
        serde_json::json!([])
    );

    sandbox.maqet(&["import", "all"]).ok().saying(&format!(
        "VM `{}` added\n  it starts at boot",
        sandbox.name("a")
    ));
    assert_eq!(sandbox.maqet(&["export", &pattern]).ok().stdout, text);
    sandbox.maqet(&["rm", "--disks", "@a"]).ok();
    assert!(!disk.exists());
}
