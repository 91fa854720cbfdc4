use crate::host::{Host, PATIENCE, probe, words};

/// Adds and enables VMs that differ in what they do when they are to power down.
fn add_all(host: &Host) {
    host.install_template();
    host.add("db", &probe(""));
    host.add("app", &("requires = [\"db\"]\n".to_owned() + &probe("")));
    host.add(
        "stubborn",
        &(probe("probe.button=ignore") + "[stop]\ntimeout = \"3s\""),
    );
    host.add("slow", &probe("probe.button-delay=2"));
    host.ok("maqet enable --all");
}

const NAMES: [&str; 4] = ["db", "app", "stubborn", "slow"];

/// The journal's place once all are up.
fn mark(host: &Host) -> String {
    for name in NAMES {
        host.wait_until_ready(name);
    }
    cursor(host)
}

fn cursor(host: &Host) -> String {
    let said = host.ok("journalctl --user -n 0 --show-cursor");
    let cursor = said.split("cursor: ").nth(1).expect(&said);
    cursor.trim().to_owned()
}

/// Asserts that all have gone down since as they should: each after those that
/// require it, all others at once, and only one of them by force.
#[track_caller]
fn assert_gone_down(host: &Host, mark: &str, how: &str) {
    // What journald has taken in and not written yet is not to be missed.
    let since = format!("journalctl --user -o cat --no-pager --after-cursor='{mark}'");
    host.wait_until(
        &format!("{how}: the journal has four ends, and how three of them came"),
        &format!(
            "test $({since} | grep -cE '^Stopped .*VM') -ge 4 -a $({since} | grep -c '\"guest-shutdown\"') -ge 3"
        ),
    );
    let journal = host.ok(&since);
    let at = |word: &str, name: &str| {
        let unit = format!("VM {name}");
        let found = journal.lines().position(|line| {
            line.starts_with(word) && line.trim_end_matches(['.', '…']).ends_with(&unit)
        });
        found.unwrap_or_else(|| panic!("{how}: no `{word} {name}`: {journal}"))
    };
    assert!(
        at("Stopped", "app") < at("Stopping", "db"),
        "{how}: {journal}"
    );
    for stopping in ["app", "stubborn", "slow"] {
        for stopped in ["stubborn", "slow"] {
            assert!(
                at("Stopping", stopping) < at("Stopped", stopped),
                "{how}: {journal}"
            );
        }
    }
    let cut: Vec<&str> = journal
        .lines()
        .filter(|line| line.contains("cutting the power"))
        .collect();
    let expected = "the guest did not power down within 3 s: cutting the power";
    assert!(
        cut.len() == 1 && cut[0].ends_with(expected),
        "{how}: {cut:?}"
    );
    let powered_off = journal.matches("\"guest-shutdown\"").count();
    assert_eq!(powered_off, 3, "{how}: {journal}");
}

#[test]
fn whoever_stops_the_vms_they_go_down_in_order_and_within_their_time() {
    let host = Host::start("shutdown", &[]);
    add_all(&host);
    let root = |command: &str| {
        let ran = host.run("--root", command);
        assert!(ran.status.success(), "{command}: {}", words(&ran));
    };

    host.ok("maqet start --all");
    let since = mark(&host);
    host.ok("systemctl --user stop 'maqet-*'");
    assert_gone_down(&host, &since, "systemctl stop");

    host.ok("maqet start --all");
    let since = mark(&host);
    root("systemctl restart user@1500.service");
    assert_gone_down(&host, &since, "user@.service restarted");

    // They are enabled, and so they run again.
    let since = mark(&host);
    // No session is there, and this ends what lingers.
    root("loginctl disable-linger tester");
    let gone = "! test -e /run/user/1500/systemd";
    host.wait_until("the user manager is gone", gone);
    assert_gone_down(&host, &since, "no linger");

    // They start with a session, and go with it.
    let since = cursor(&host);
    let (maqet, names) = (env!("CARGO_BIN_EXE_maqet"), NAMES.join(" "));
    root(&format!(
        "timeout {} su - tester -c 'for vm in {names}; do \
         until {maqet} ls $vm | grep -q running && {maqet} logs --console $vm | grep -q \"probe: ready\"; do sleep 0.2; done; done'",
        PATIENCE.as_secs()
    ));
    host.wait_until("the user manager is gone", gone);
    assert_gone_down(&host, &since, "logout");

    root("loginctl enable-linger tester");
    host.wait_until("the VMs are up again", "maqet ls slow | grep -q running");
    let since = mark(&host);
    host.control("reboot", &[]);
    assert_gone_down(&host, &since, "reboot");
    mark(&host);
}

#[test]
fn a_user_manager_with_little_time_is_found_and_mended() {
    let host = Host::start("little-time", &[]);
    host.install_template();
    host.add("slow", &probe("probe.button-delay=4"));
    host.ok("maqet enable slow && maqet start slow");
    let root = |command: &str| {
        let ran = host.run("--root", command);
        assert!(ran.status.success(), "{command}: {}", words(&ran));
    };
    let dir = "/etc/systemd/system/user@.service.d";
    root(&format!(
        "mkdir -p {dir} && printf '[Service]\\nTimeoutStopSec=2\\n' >{dir}/distribution.conf && \
         systemctl daemon-reload"
    ));
    let found = host.ok("maqet doctor --json 2>/dev/null || true");
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    let found = found.as_array().unwrap().iter();
    let mut found = found.filter(|finding| finding["check"] == "stop timeout");
    let finding = found.next().unwrap();
    assert_eq!(finding["severity"], "warning", "{finding}");
    let message = finding["message"].as_str().unwrap();
    assert!(message.contains("killed after 2 s"), "{message}");

    // What it warns of.
    host.wait_until_ready("slow");
    root("systemctl restart user@1500.service");
    host.wait_until_ready("slow");
    let console = host.ok("maqet logs --console --run -1 slow");
    assert!(!console.contains("probe: powering off"), "{console}");

    let mend = finding["mend"].as_str().unwrap();
    root(mend.strip_prefix("sudo ").expect(mend));
    let found = host.ok("maqet doctor --all || true");
    assert!(found.contains("ok       stop timeout:"), "{found}");
    root("systemctl restart user@1500.service");
    host.wait_until_ready("slow");
    let console = host.ok("maqet logs --console --run -1 slow");
    assert!(console.contains("probe: powering off"), "{console}");
}
