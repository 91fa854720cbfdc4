use serde_json::Value;

use crate::sandbox::Sandbox;

#[test]
fn states_are_the_words_of_systemd_and_qemu() {
    let sandbox = Sandbox::new();
    sandbox.add_probe("runs", "probe.act=idle");
    sandbox.add(
        "bad",
        &["--qemu-arg=-machine", "--qemu-arg=no-such-machine"],
    );
    sandbox.add_prelaunch("idle");
    assert_eq!(sandbox.state("idle"), "stopped");

    sandbox.maqet(&["start", "@runs"]).ok();
    sandbox.maqet(&["start", "@bad"]).fails(1);
    sandbox.maqet(&["start", "@idle"]).ok();
    assert_eq!(sandbox.state("runs"), "running");
    assert_eq!(sandbox.state("bad"), "failed");
    assert_eq!(sandbox.state("idle"), "prelaunch");

    sandbox.maqet(&["qmp", "@runs", "stop"]).ok();
    // QEMU is asked, and not for long.
    sandbox.wait_for_state("runs", "paused");
}

#[test]
fn an_entry_has_all_its_keys_known_or_null() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    let listed = sandbox.listed("web");
    let keys: Vec<&String> = listed.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "cpus", "enabled", "group", "labels", "memory", "name", "state", "unit", "uptime"
        ]
    );
    assert_eq!(listed["memory"], 64 << 20);
    assert_eq!(listed["cpus"], 1);
    assert_eq!(listed["uptime"], Value::Null);
    assert_eq!(listed["unit"], sandbox.unit("web"));

    sandbox.maqet(&["start", "@web"]).ok();
    assert!(sandbox.listed("web")["uptime"].as_u64().unwrap() < 60);
}

#[test]
fn a_pattern_lists_what_matches_and_nothing_is_an_empty_list() {
    let sandbox = Sandbox::new();
    for name in ["ci-1", "ci-2", "web"] {
        sandbox.add_prelaunch(name);
    }
    let list = sandbox
        .maqet(&["ls", "--json", &sandbox.name("ci-*")])
        .json();
    let names: Vec<&str> = list
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|vm| vm["name"].as_str())
        .collect();
    assert_eq!(names, [sandbox.name("ci-1"), sandbox.name("ci-2")]);

    let none = sandbox.maqet(&["ls", &sandbox.name("x*")]).ok();
    assert_eq!(
        none.stdout,
        "NAME  STATE  MEMORY  CPUS  UPTIME  BOOT  UNIT\n"
    );
    assert_eq!(
        sandbox.maqet(&["ls", "--json", &sandbox.name("x*")]).json(),
        Value::Array(Vec::new())
    );
}

#[test]
fn what_runs_without_a_definition_is_listed_all_the_same() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    std::fs::remove_dir_all(sandbox.path("data/maqet")).unwrap();
    let listed = sandbox.listed("web");
    assert_eq!(listed["state"], "prelaunch");
    assert_eq!(listed["memory"], 64 << 20);
    sandbox.maqet(&["stop", "@web"]).ok();
    assert!(sandbox.qemus("web").is_empty());
}

#[test]
fn the_user_s_defaults_hold_for_what_a_definition_does_not_say() {
    let sandbox = Sandbox::new();
    let name = sandbox.name("web");
    sandbox.maqet(&["add", "--name", &name]).ok();
    assert_eq!(sandbox.listed("web")["memory"], 1 << 30);
    std::fs::create_dir_all(sandbox.path("config/maqet")).unwrap();
    std::fs::write(
        sandbox.path("config/maqet/config.toml"),
        "[defaults]\nmemory = \"80M\"\n",
    )
    .unwrap();
    assert_eq!(sandbox.listed("web")["memory"], 80 << 20);
}

#[test]
fn labels_select_vms_all_of_them_at_once() {
    let sandbox = Sandbox::new();
    for (name, labels) in [
        ("a", r#"env = "ci", team = "web""#),
        ("b", r#"env = "ci""#),
        ("c", r#"env = "prod, old""#),
        ("d", ""),
    ] {
        let file = sandbox.path(&format!("{}.toml", sandbox.name(name)));
        let text = format!(
            "memory = \"64M\"\naccel = \"tcg\"\nqemu.args = [\"-S\"]\nlabels = {{ {labels} }}\n"
        );
        std::fs::write(&file, text).unwrap();
        sandbox.maqet(&["add", file.to_str().unwrap()]).ok();
    }
    let names = |args: &[&str]| -> Vec<String> {
        let list = sandbox.maqet(&[&["ls", "--json"], args].concat()).json();
        let list = list.as_array().unwrap().iter();
        list.map(|vm| vm["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let named =
        |short: &[&str]| -> Vec<String> { short.iter().map(|name| sandbox.name(name)).collect() };
    assert_eq!(names(&["--label", "env=ci"]), named(&["a", "b"]));
    assert_eq!(names(&["--label", "env"]), named(&["a", "b", "c"]));
    assert_eq!(names(&["--label", "env=prod, old"]), named(&["c"]));
    assert_eq!(
        names(&["--label", "env=ci", "--label", "team"]),
        named(&["a"])
    );
    assert_eq!(names(&["@b", "@c", "--label", "env=ci"]), named(&["b"]));
    assert!(names(&["--label", "env="]).is_empty());
    assert_eq!(sandbox.listed("a")["labels"]["team"], "web");

    sandbox.maqet(&["start", "--label", "env=ci"]).ok();
    assert_eq!(sandbox.state("a"), "prelaunch");
    assert_eq!(sandbox.state("c"), "stopped");
    let status = sandbox.maqet(&["status", "@a"]).ok();
    assert!(
        status.stdout.contains("labels  env=ci, team=web"),
        "{}",
        status.stdout
    );
    sandbox
        .maqet(&["events", "--label", "team=web", "--json"])
        .ok();
    sandbox
        .maqet(&["stop", "--force", "--all", "--label", "team=web"])
        .ok();
    assert_eq!(sandbox.state("a"), "stopped");
    assert_eq!(sandbox.state("b"), "prelaunch");
    sandbox
        .maqet(&["start", "--label", "env=none"])
        .fails(4)
        .saying("no VM has the label: `env=none`");
    sandbox
        .maqet(&["ls", "--label", "=x"])
        .fails(2)
        .saying("KEY=VALUE");
}

#[test]
fn a_mistake_in_the_user_s_defaults_is_told_and_hides_no_vm() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    std::fs::create_dir_all(sandbox.path("config/maqet")).unwrap();
    let file = sandbox.path("config/maqet/config.toml");
    std::fs::write(&file, "[defaults]\nmemroy = \"80M\"\n").unwrap();
    let warning = "config.toml:2:1: unknown key `memroy`, did you mean `memory`?";
    let listed = sandbox
        .maqet(&["ls", "--json", "@web"])
        .ok()
        .saying(warning);
    assert!(listed.stdout.contains("prelaunch"), "{}", listed.stdout);
    let status = sandbox.maqet(&["status", "@web"]).ok().saying(warning);
    assert!(status.stdout.contains("prelaunch"), "{}", status.stdout);
}

#[test]
fn an_empty_database_is_not_the_same_as_no_vms() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    let data = sandbox.path("data/maqet");
    for file in ["maqet.db-wal", "maqet.db-shm"] {
        let _ = std::fs::remove_file(data.join(file));
    }
    std::fs::write(data.join("maqet.db"), "").unwrap();
    sandbox.maqet(&["ls"]).ok().saying("maqet doctor");
    sandbox.maqet(&["doctor", "--rebuild"]).ok();
    assert_eq!(sandbox.state("web"), "stopped");
    assert!(!sandbox.maqet(&["ls"]).ok().stderr.contains("doctor"));
}

#[test]
fn a_vm_that_runs_has_what_it_was_started_with() {
    let sandbox = Sandbox::running();
    sandbox.maqet(&["set", "@web", "memory=96M", "cpus=2"]).ok();
    let web = sandbox.listed("web");
    assert_eq!(web["memory"], 64 << 20, "{web}");
    assert_eq!(web["cpus"], 1, "{web}");
    sandbox.maqet(&["stop", "@web", "--force"]).ok();
    assert_eq!(sandbox.listed("web")["memory"], 96 << 20);
}
