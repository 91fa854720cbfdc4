use std::fs;

use serde_json::Value;

use crate::sandbox::{Sandbox, wait_until};

/// Adds the probe guest with further keys.
fn add(sandbox: &Sandbox, short: &str, words: &str, settings: &[&str]) {
    let options: Vec<&str> = settings.iter().flat_map(|it| ["--set", it]).collect();
    sandbox.add_probe_with(short, words, &options);
}

/// How QEMU calls the state of the guest.
fn run_state(sandbox: &Sandbox) -> String {
    let status: Value = sandbox
        .maqet(&["qmp", "@web", "query-status", "--json", "--timeout=60s"])
        .json();
    status["status"].as_str().unwrap().to_owned()
}

#[test]
fn a_watchdog_that_is_not_fed_does_what_it_is_there_for() {
    let sandbox = Sandbox::new();
    add(&sandbox, "web", "probe.act=watchdog", &["watchdog=pause"]);
    sandbox.maqet(&["start", "@web"]).ok();
    wait_until("the guest is stopped", || run_state(&sandbox) == "watchdog");
    sandbox.maqet(&["stop", "@web", "--force"]).ok();

    sandbox
        .maqet(&["set", "@web", "watchdog.action=poweroff"])
        .ok();
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.wait_for_state("web", "stopped");
    let bites = || -> Vec<Value> {
        let events = sandbox.maqet(&["events", "@web", "--json"]).ok().stdout;
        let events = events.lines();
        events
            .map(|line| serde_json::from_str(line).unwrap())
            .filter(|event: &Value| event["event"] == "WATCHDOG")
            .collect()
    };
    // Until this run's is there, it may be the last one's that is shown.
    wait_until("its bite is in the journal", || {
        bites()
            .iter()
            .any(|bite| bite["data"]["action"] == "poweroff")
    });
    assert_eq!(bites().len(), 1);
}

#[test]
fn a_panic_keeps_the_guest_for_who_asks_for_that() {
    let sandbox = Sandbox::new();
    add(&sandbox, "web", "probe.act=panic", &["panic=pause"]);
    sandbox.maqet(&["start", "@web"]).ok();
    wait_until("the guest has panicked", || {
        run_state(&sandbox) == "guest-panicked"
    });
    sandbox.maqet(&["stop", "@web", "--force"]).ok();

    sandbox.maqet(&["set", "@web", "panic=shutdown"]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.wait_for_state("web", "stopped");
}

#[test]
fn the_firmware_tells_the_guest_what_the_definition_says() {
    let sandbox = Sandbox::new();
    let settings = [
        "smbios.manufacturer=Example, Inc.",
        "smbios.product=a,type=2",
        "smbios.serial=0042",
        "smbios.oem=[\"first,value=no\", \"second\"]",
    ];
    let words = "probe.cat=/sys/firmware/dmi/tables/DMI";
    add(&sandbox, "web", words, &settings);
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.wait_for_console("web", "probe: ready");
    let console = sandbox.maqet(&["logs", "@web", "--console"]).ok().stdout;
    let lines: Vec<&str> = console.lines().map(|line| line.trim_end()).collect();
    for text in [
        "Example, Inc.",
        "a,type=2",
        "0042",
        "first,value=no",
        "second",
    ] {
        assert!(lines.contains(&text), "{text} is not in {console}");
    }
    assert!(!lines.contains(&"no"), "{console}");
}

#[test]
fn random_numbers_come_from_where_the_definition_says() {
    let sandbox = Sandbox::new();
    let source = sandbox.path("a source, of them");
    fs::write(&source, "x".repeat(4096)).unwrap();
    let lines = format!("rng = {{ source = \"{}\" }}", source.display());
    sandbox.add_lines("web", &lines);
    sandbox.maqet(&["start", "@web"]).ok();
    let open = fs::read_dir(format!("/proc/{}/fd", sandbox.pid("web"))).unwrap();
    let open: Vec<_> = open
        .filter_map(|fd| fs::read_link(fd.unwrap().path()).ok())
        .collect();
    assert!(open.contains(&source), "{open:?}");
}
