use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

use crate::sandbox::{Sandbox, systemctl};

impl Sandbox {
    /// What the doctor finds of `check`, and of nothing else, that is not ok.
    fn found(&self, check: &str) -> Vec<Value> {
        let ran = self.command(&["doctor", "--json"]).output().unwrap();
        let all: Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| {
            panic!("{error}: {}", String::from_utf8_lossy(&ran.stderr));
        });
        let all = all.as_array().unwrap().iter();
        let bad = all.filter(|finding| finding["severity"] != "ok");
        let of = bad.filter(|finding| finding["check"] == check);
        of.cloned().collect()
    }

    /// The one finding of `check` that names `what`.
    #[track_caller]
    fn finding(&self, check: &str, what: &str) -> Value {
        let found = self.found(check);
        let mut of = found.iter();
        of.find(|finding| finding["message"].as_str().unwrap().contains(what))
            .unwrap_or_else(|| panic!("no finding of {check} says {what:?}: {found:?}"))
            .clone()
    }

    /// Runs the command that a finding says.
    #[track_caller]
    fn mend(&self, finding: &Value) -> Output {
        let command = finding["mend"].as_str().unwrap();
        let maqet = env!("CARGO_BIN_EXE_maqet");
        let script = format!("maqet() {{ {maqet} \"$@\"; }}; {command}");
        let ran = Command::new("bash")
            .args(["-c", &script])
            .env("XDG_DATA_HOME", self.path("data"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .output()
            .unwrap();
        assert!(ran.status.success(), "{command}: {ran:?}");
        ran
    }

    fn database(&self) -> std::path::PathBuf {
        self.path("data/maqet/maqet.db")
    }
}

#[test]
fn each_finding_has_its_keys_and_the_exit_status_says_whether_one_is_bad() {
    let sandbox = Sandbox::new();
    let ran = sandbox.command(&["doctor", "--json"]).output().unwrap();
    let all: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let mut bad = false;
    for finding in all.as_array().unwrap() {
        let keys: Vec<&String> = finding.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["check", "mend", "message", "severity"]);
        bad |= ["warning", "error"].contains(&finding["severity"].as_str().unwrap());
    }
    assert_eq!(ran.status.code(), Some(i32::from(bad)));
    let shown = sandbox.maqet(&["doctor", "--all"]);
    assert!(
        shown.stdout.contains("ok       qemu: QEMU"),
        "{}",
        shown.stdout
    );
}

#[test]
fn a_broken_environment_is_a_finding_and_ends_nothing() {
    let sandbox = Sandbox::new();
    let run = |remove: &[&str], set: &[(&str, &str)]| {
        let mut command = sandbox.command(&["doctor", "--json"]);
        for name in remove {
            command.env_remove(name);
        }
        let ran = command.envs(set.iter().copied()).output().unwrap();
        assert_eq!(ran.status.code(), Some(1), "{ran:?}");
        let all: Value = serde_json::from_slice(&ran.stdout).unwrap();
        all.as_array().unwrap().clone()
    };
    let has = |all: &[Value], check: &str, severity: &str| {
        all.iter()
            .any(|finding| finding["check"] == check && finding["severity"] == severity)
    };
    let all = run(&["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"], &[]);
    assert!(has(&all, "environment", "error"), "{all:?}");
    assert!(has(&all, "qemu", "ok"), "the rest is looked at: {all:?}");
    let nowhere = sandbox.path("nowhere");
    let nowhere = nowhere.to_str().unwrap();
    let all = run(
        &["DBUS_SESSION_BUS_ADDRESS"],
        &[("XDG_RUNTIME_DIR", nowhere)],
    );
    assert!(has(&all, "user manager", "error"), "{all:?}");
    let all = run(&[], &[("PATH", nowhere)]);
    assert!(has(&all, "qemu", "error"), "{all:?}");
    assert!(has(&all, "helper", "error"), "{all:?}");
}

#[test]
fn a_damaged_database_is_found_kept_aside_and_made_again() {
    let sandbox = Sandbox::new();
    sandbox.add("web", &["--qemu-arg=-S", "--disk", "root.qcow2:1M"]);
    sandbox.add_prelaunch("never");
    sandbox.maqet(&["start", "@web"]).ok();
    let before = sandbox.maqet(&["show", "--json", "@web"]).json();
    fs::write(
        sandbox.database(),
        "this is no database, and it is long enough to be read",
    )
    .unwrap();
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(sandbox.path(&format!("data/maqet/maqet.db{suffix}")));
    }
    sandbox.maqet(&["ls"]).fails(1).saying("doctor --rebuild");

    let finding = sandbox.finding("database", "not a database");
    assert_eq!(finding["severity"], "error");
    let said = sandbox.mend(&finding);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("kept the damaged database as"), "{said}");
    assert!(said.contains("1 restored"), "{said}");
    let kept = fs::read_dir(sandbox.path("data/maqet")).unwrap();
    let kept = kept.filter(|file| {
        let name = file.as_ref().unwrap().file_name();
        name.to_string_lossy().contains("damaged")
    });
    assert_eq!(kept.count(), 1);

    assert!(sandbox.found("database").is_empty());
    assert_eq!(sandbox.maqet(&["show", "--json", "@web"]).json(), before);
    assert_eq!(sandbox.state("web"), "prelaunch", "it ran all the time");
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    // No one knows any more that maqet made it.
    sandbox.maqet(&["rm", "--disks", "@web"]).ok();
    assert!(sandbox.path("root.qcow2").exists());
}

#[test]
fn a_database_that_is_fine_is_only_added_to() {
    let sandbox = Sandbox::new();
    for name in ["a", "b"] {
        sandbox.add("x", &["--qemu-arg=-S"]);
        sandbox.maqet(&["rm", "@x"]).ok();
        sandbox.add_prelaunch(name);
        sandbox.maqet(&["start", &format!("@{name}")]).ok();
        sandbox
            .maqet(&["stop", "--force", &format!("@{name}")])
            .ok();
    }
    let definition = sandbox.vm_dir("a").join("definition.toml");
    let text = fs::read_to_string(&definition).unwrap();
    // As if it had been lost: the one way that leaves the kept definition.
    sandbox.maqet(&["rm", "@a"]).ok();
    fs::create_dir_all(sandbox.vm_dir("a")).unwrap();
    fs::write(&definition, text).unwrap();
    fs::create_dir_all(sandbox.vm_dir("c")).unwrap();
    fs::write(sandbox.vm_dir("c").join("definition.toml"), "memroy = '1G'").unwrap();

    sandbox.finding("lost VMs", &sandbox.name("a"));
    let rebuilt = sandbox.maqet(&["doctor", "--rebuild", "--json"]).fails(1);
    let rebuilt: Value = serde_json::from_str(&rebuilt.stdout).unwrap();
    assert_eq!(rebuilt["kept_aside"], Value::Null);
    assert_eq!(rebuilt["restored"], serde_json::json!([sandbox.name("a")]));
    assert_eq!(rebuilt["untouched"], 1);
    let failed = rebuilt["failed"].as_array().unwrap();
    assert!(
        failed[0][1].as_str().unwrap().contains("memroy"),
        "{failed:?}"
    );
    assert_eq!(sandbox.state("a"), "stopped");
}

#[test]
fn mistakes_in_config_toml_and_definitions_are_found() {
    let sandbox = Sandbox::new();
    sandbox.add("web", &["--qemu-arg=-S", "--disk", "root.qcow2:1M"]);
    fs::remove_file(sandbox.path("root.qcow2")).unwrap();
    let finding = sandbox.finding("files", "does not exist");
    assert!(
        finding["message"]
            .as_str()
            .unwrap()
            .contains(&sandbox.name("web"))
    );
    sandbox.mend(&finding);

    fs::create_dir_all(sandbox.path("config/maqet")).unwrap();
    fs::write(
        sandbox.path("config/maqet/config.toml"),
        "[defaults]\nmemroy = '1G'",
    )
    .unwrap();
    let finding = sandbox.finding("config.toml", "memroy");
    assert_eq!(finding["severity"], "error");
}

#[test]
fn units_without_a_definition_are_found_and_mended() {
    let sandbox = Sandbox::new();
    sandbox.install_template();
    sandbox.add_prelaunch("runs");
    sandbox.add(
        "failed",
        &["--qemu-arg=-machine", "--qemu-arg=no-such-machine"],
    );
    sandbox.add_prelaunch("boots");
    sandbox.maqet(&["start", "@runs"]).ok();
    sandbox.maqet(&["start", "@failed"]).fails(1);
    sandbox.maqet(&["enable", "@boots"]).ok();
    fs::remove_dir_all(sandbox.path("data/maqet")).unwrap();

    for (name, what) in [
        ("runs", "runs, and"),
        ("failed", "failed, and"),
        ("boots", "enabled, and"),
    ] {
        let found = sandbox.found("units");
        let name = sandbox.name(name);
        let finding = found.iter().find(|finding| {
            let message = finding["message"].as_str().unwrap();
            message.contains(&name) && message.contains(what)
        });
        sandbox.mend(finding.unwrap_or_else(|| panic!("{name}: {found:?}")));
        let found = sandbox.found("units");
        let mut left = found.iter();
        assert!(
            !left.any(|finding| finding["message"].as_str().unwrap().contains(&name)),
            "{found:?}"
        );
    }
    let unit = format!("maqet@{}.service", sandbox.name("boots"));
    assert_eq!(systemctl(&["is-enabled", &unit]).stdout.trim(), "disabled");
}

#[test]
fn a_guest_that_may_take_longer_than_its_user_manager_is_found() {
    let sandbox = Sandbox::new();
    let file = sandbox.path("slow.toml");
    fs::write(
        &file,
        "stop.timeout = '1d'\nqemu.args = ['-S']\nrequires = ['nosuch']\n",
    )
    .unwrap();
    let name = sandbox.name("slow");
    sandbox
        .maqet(&["add", file.to_str().unwrap(), "--name", &name])
        .ok();
    let finding = sandbox.finding("stop timeout", &name);
    assert!(
        finding["mend"]
            .as_str()
            .unwrap()
            .contains("TimeoutStopSec=86415")
    );
    sandbox.finding("order", "requires `nosuch`");
}
