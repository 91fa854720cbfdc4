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
