//! What outlives a reboot and a power cut, and hosts that lack something.
//!
//! Each test boots a host of its own (`tests/host/host`), for which it must be root.

mod host;
/// Bridges and tap devices.
mod network;
/// VMs of every kind, before and after a reboot and a power cut.
mod proof;
/// Who stops the VMs, and in what order they go.
mod shutdown;

use host::{Host, words};

#[test]
fn a_reboot_powers_the_guest_down_and_the_vm_starts_again() {
    let host = Host::start("reboot", &[]);
    host.start_probe();
    host.control("reboot", &[]);
    host.ok("maqet ls web | grep -q stopped");
    // The guest had its say: this is the run before the host's reboot.
    host.ok("maqet logs --console web | grep -q 'probe: powering off'");
    host.ok("maqet start web");
    host.wait_until_ready("web");
    host.ok("maqet stop web");
}

#[test]
fn a_power_cut_leaves_nothing_that_is_in_the_way() {
    let host = Host::start("crash", &[]);
    host.start_probe();
    host.control("crash", &[]);
    host.ok("maqet ls web | grep -q stopped");
    host.ok("maqet start web");
    host.ok("maqet qmp web query-status");
    host.ok("maqet stop --force web && maqet rm web");
}

#[test]
fn an_enabled_vm_runs_after_a_reboot() {
    let host = Host::start("enabled", &[]);
    host.ok(
        "maqet add --name db --memory 64M --accel tcg --qemu-arg=-S && \
         maqet add --name web --memory 64M --accel tcg --qemu-arg=-S",
    );
    let ran = host.run("", "maqet enable db");
    assert_eq!(ran.status.code(), Some(1));
    assert!(words(&ran).contains("is not installed"), "{}", words(&ran));
    assert!(words(&ran).contains("make install"), "{}", words(&ran));
    let found = words(&host.run("", "maqet doctor"));
    assert!(
        found.contains("warning  template: maqet@.service is not installed"),
        "{found}"
    );
    host.install_template();
    let found = host.ok("maqet doctor --all || true");
    assert!(found.contains("ok       template:"), "{found}");
    assert!(found.contains("ok       linger:"), "{found}");
    host.ok("maqet enable db");
    host.control("reboot", &[]);
    host.wait_until("the VM is up", "maqet ls db | grep -q prelaunch");
    host.ok("maqet ls web | grep -q stopped");
}

#[test]
fn vms_come_up_and_go_down_in_order_at_boot_and_shutdown() {
    let host = Host::start("order", &[]);
    host.install_template();
    // Named so that no alphabet helps.
    for (name, lines) in [
        ("b-db", ""),
        ("c-app", "requires = [\\\"b-db\\\"]"),
        ("a-web", "after = [\\\"c-app\\\"]\nstart-delay = \\\"1s\\\""),
    ] {
        host.ok(&format!(
            "printf '%b' \"{lines}\nmemory = \\\"64M\\\"\naccel = \\\"tcg\\\"\nqemu.args = [\\\"-S\\\"]\n\" \
             > ~/{name}.toml && maqet add ~/{name}.toml"
        ));
    }
    // What it requires is started without being enabled.
    host.ok("maqet enable a-web c-app");
    for _ in 0..2 {
        host.control("reboot", &[]);
        host.wait_until("the last is up", "maqet ls a-web | grep -q prelaunch");
        for (first, second) in [("b-db", "c-app"), ("c-app", "a-web")] {
            host.ok(&format!(
                "t() {{ systemctl --user show -P $2 maqet-$1; }}; \
                 test $(t {first} ActiveEnterTimestampMonotonic) -lt \
                      $(t {second} ExecMainStartTimestampMonotonic)"
            ));
        }
    }
    let journal = host
        .ok("journalctl --user -o cat --no-pager | grep -E '^(Stopping|Stopped) .*VM' | tail -n 6");
    let at = |words: &str, name: &str| {
        let mut lines = journal.lines();
        let found = lines.position(|line| line.starts_with(words) && line.contains(name));
        found.unwrap_or_else(|| panic!("{words} {name}: {journal}"))
    };
    assert!(
        at("Stopped", "a-web") < at("Stopping", "c-app"),
        "{journal}"
    );
    assert!(at("Stopped", "c-app") < at("Stopping", "b-db"), "{journal}");
}

#[test]
fn where_the_journal_is_not_the_user_s_to_read_output_goes_to_a_file() {
    let host = Host::start("volatile", &["--volatile-journal"]);
    host.ok("maqet add --name bad --memory 64M --accel tcg --qemu-arg=-machine --qemu-arg=no-such-machine");
    let ran = host.run("", "maqet start bad");
    assert_eq!(ran.status.code(), Some(1));
    assert!(
        words(&ran).contains("unsupported machine type"),
        "{}",
        words(&ran)
    );
    let logs = host.ok("maqet logs bad");
    assert!(logs.contains("unsupported machine type"), "{logs}");
    let found = host.ok("maqet doctor || true");
    assert!(
        found.contains("note     journal: not yours to read"),
        "{found}"
    );

    host.ok("maqet add --name web --memory 64M --accel tcg --qemu-arg=-S && maqet start web && maqet stop web");
    let status = words(&host.run("", "maqet status web"));
    assert!(status.contains("host-"), "{status}");
}

#[test]
fn a_user_without_a_manager_is_told_how_to_have_one() {
    let host = Host::start("nolinger", &["--no-linger"]);
    let ran = host.run("--bare", "maqet ls");
    assert_eq!(ran.status.code(), Some(1));
    let words = words(&ran);
    assert!(
        words.contains("no systemd user manager answers at /run/user/1500/bus"),
        "{words}"
    );
    assert!(words.contains("loginctl enable-linger"), "{words}");
    let found = host.run("--bare", "maqet doctor");
    assert_eq!(found.status.code(), Some(1));
    let found = self::words(&found);
    for finding in ["error    user manager: no systemd", "warning  linger:"] {
        assert!(found.contains(finding), "{found}");
    }
    // As root, what it says.
    host.run("--root", "loginctl enable-linger 1500");
    host.wait_until(
        "the user manager is up",
        "maqet doctor --all | grep -q '^ok       linger'",
    );
}

#[test]
fn who_does_not_linger_is_told_so_and_can() {
    let host = Host::start("linger", &["--no-linger"]);
    let session = |command: &str| {
        let maqet = env!("CARGO_BIN_EXE_maqet");
        let command = command.replace("maqet ", &format!("{maqet} "));
        let ran = host.run("--root", &format!("su - tester -c '{command}'"));
        (ran.status.code(), words(&ran))
    };
    // `su` is a login session, but it does not wait for the manager to be up.
    let up = "until systemctl --user is-system-running --wait >/dev/null; do sleep 0.1; done";
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/units/maqet@.service.in");
    let (code, said) = session(&format!(
        "{up}; mkdir -p ~/.config/systemd/user; cp {unit} ~/.config/systemd/user/maqet@.service; \
         systemctl --user daemon-reload; maqet add --name web && maqet enable web"
    ));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("VM `web` starts when you log in"), "{said}");
    assert!(said.contains("you do not linger"), "{said}");
    assert!(said.contains("maqet enable --linger"), "{said}");
    let (code, said) = session(&format!("{up}; maqet enable --linger web"));
    if code == Some(0) {
        assert!(said.contains("starts at boot already"), "{said}");
    } else {
        // polkit's decision, and root's command.
        assert!(said.contains("cannot enable lingering"), "{said}");
        assert!(said.contains("sudo loginctl enable-linger"), "{said}");
        host.run("--root", "loginctl enable-linger tester");
        let (code, said) = session(&format!("{up}; maqet enable --linger web"));
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("starts at boot already"), "{said}");
    }
}
