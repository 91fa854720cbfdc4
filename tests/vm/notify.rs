use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::host::TESTER;

/// Held by tests that use the machine's vsock: one of them takes it away.
static VSOCK: Mutex<()> = Mutex::new(());

const DEVICE: &str = "/dev/vhost-vsock";
const ELSEWHERE: &str = "/dev/elsewhere";

fn cid(name: &str) -> u32 {
    let status = TESTER.ok(&format!("maqet status {name} --json"));
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    status["vsock_cid"].as_u64().unwrap().try_into().unwrap()
}

#[test]
fn a_vm_is_up_when_its_guest_says_so_over_vsock() {
    let _vsock = VSOCK.lock().unwrap_or_else(PoisonError::into_inner);
    add_probe(
        "told",
        "",
        "ready = { level = \"notify\", timeout = \"20m\" }",
    );
    let start = TESTER.spawn("maqet start told");
    TESTER.wait_until(
        "QEMU is there",
        "test -S $XDG_RUNTIME_DIR/maqet/told/qmp.sock",
    );
    // While the unit listens, and afterwards.
    for _ in 0..2 {
        TESTER.ok("maqet wait told --ready notify --timeout 20m");
    }
    start.join().unwrap().fails(0).saying("VM `told` started");
    TESTER.ok(&format!(
        "maqet status told | grep 'vsock  CID {}'",
        cid("told")
    ));
    TESTER.ok("maqet stop --force told");
}

#[test]
fn a_real_systemd_says_over_vsock_that_it_is_up() {
    let _vsock = VSOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let guests = std::env::var_os("MAQET_TEST_GUESTS").expect("tests/host/test sets it");
    let kernel = PathBuf::from(guests).join("debian/kernel");
    TESTER.add(
        "systemd",
        &format!(
            "memory = \"256M\"\nkernel = \"{}\"\n\
             initrd = \"/usr/share/maqet-test-systemd.initrd\"\n\
             append = \"console=ttyS0 quiet cryptomgr.notests systemd.log_target=console\"\n\
             ready = {{ level = \"notify\", timeout = \"20m\" }}",
            kernel.display()
        ),
    );
    TESTER
        .run("maqet start systemd || { maqet logs --console systemd; false; }")
        .fails(0)
        .saying("VM `systemd` started");
    TESTER.ok("maqet logs --console systemd | grep 'systemd 25[0-9].* running in system mode'");
    TESTER.ok("maqet wait systemd --ready notify --timeout 1s");
    TESTER.ok("maqet stop --force systemd");
}

#[test]
fn what_a_guest_says_is_heard_when_nobody_waits_for_it() {
    let _vsock = VSOCK.lock().unwrap_or_else(PoisonError::into_inner);
    add_probe("alone", "", "vsock = true");
    let said = "maqet logs --console alone | grep -q '^probe: notified'";
    let is_up = "maqet wait alone --ready notify --timeout 1s";
    TESTER.ok("maqet start alone");
    TESTER.wait_until("the guest has said that it is up", said);
    // Its word may not be left yet.
    TESTER.ok("maqet wait alone --ready notify --timeout 5m");
    TESTER.ok(is_up);
    // It goes on where it was, and does not say so again.
    TESTER.ok("maqet save alone && maqet start alone");
    TESTER.ok(is_up);
    // A guest that boots again is not up before it says so again.
    TESTER.ok("maqet pause alone && maqet reset alone");
    TESTER.run(is_up).fails(7);
    TESTER.ok("maqet resume alone && maqet wait alone --ready notify --timeout 20m");
    // Nothing of maqet is left when QEMU has ended.
    TESTER.ok("maqet stop --force alone");
    TESTER.run("pgrep -fa 'internal listen'").fails(1);
}

#[test]
fn a_guest_that_is_saved_before_it_is_up_is_waited_for_when_it_goes_on() {
    let _vsock = VSOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let ready = "ready = { level = \"notify\", timeout = \"5s\" }";
    add_probe("silent", "probe.notify=never", ready);
    for command in [
        "maqet start silent",
        // Also one that goes on from a saved state.
        "maqet save silent && maqet start silent",
    ] {
        TESTER
            .run(command)
            .fails(1)
            .saying("runs, but is not ready: the guest did not say over vsock");
    }
    TESTER.ok("maqet stop --force silent");
}

/// Adds a probe guest whose definition goes on with `more`.
fn add_probe(name: &str, words: &str, more: &str) {
    let guests = std::env::var_os("MAQET_TEST_GUESTS").expect("tests/host/test sets it");
    let guest = PathBuf::from(guests).join("probe");
    let guest = guest.display();
    TESTER.add(
        name,
        &format!(
            "memory = \"128M\"\nkernel = \"{guest}/kernel\"\ninitrd = \"{guest}/initrd\"\n\
             append = \"console=ttyS0 quiet cryptomgr.notests {words}\"\n{more}"
        ),
    );
}

#[test]
fn a_cid_is_one_vm_s_and_stays_the_same() {
    let _vsock = VSOCK.lock().unwrap_or_else(PoisonError::into_inner);
    TESTER.add_prelaunch("steady", "vsock = true");
    let argv = TESTER.ok("maqet show --argv steady");
    let (_, usual) = argv.split_once("guest-cid=").unwrap();
    let usual: u32 = usual.split_whitespace().next().unwrap().parse().unwrap();
    TESTER.ok("maqet start steady");
    assert_eq!(cid("steady"), usual);

    // Another VM may ask for that one, and has it as long as it runs.
    TESTER.add_prelaunch("chosen", &format!("vsock.cid = {usual}"));
    TESTER
        .run("maqet start chosen")
        .fails(1)
        .saying(&format!("CID {usual} cannot be had"));
    TESTER.ok("maqet stop --force steady && maqet start chosen && maqet start steady");
    assert_eq!(cid("chosen"), usual);
    assert_ne!(cid("steady"), usual);
    TESTER.ok("maqet stop --force chosen steady && maqet start steady");
    assert_eq!(cid("steady"), usual);

    TESTER.ok("maqet stop --force steady");
    TESTER.add_prelaunch("deaf", "");
    TESTER.ok("maqet start deaf");
    TESTER
        .run("maqet wait deaf --ready notify")
        .fails(1)
        .saying("it has no vsock device");
    TESTER.ok("maqet stop --force deaf");
}

#[test]
fn a_host_without_vsock_is_told_what_to_do() {
    let _vsock = VSOCK.lock().unwrap_or_else(PoisonError::into_inner);
    TESTER.add_prelaunch("waits", "ready.level = \"notify\"");
    TESTER
        .run("maqet doctor --all")
        .saying("ok       vsock: /dev/vhost-vsock opens");
    let refused = |reason: &str, command: &str| {
        TESTER
            .run("maqet start waits")
            .fails(1)
            .saying("vsock needs /dev/vhost-vsock, which does not open")
            .saying(reason)
            .saying(&format!("hint: `{command}`"));
        TESTER
            .run("maqet doctor")
            .fails(1)
            .saying("error    vsock: /dev/vhost-vsock does not open")
            .saying("needs it")
            .saying(command);
    };
    let _back = Device;
    Device::set_mode(0o600);
    refused(
        "Permission denied",
        "sudo usermod --append --groups kvm \"$USER\"",
    );
    fs::rename(DEVICE, ELSEWHERE).unwrap();
    refused("No such file or directory", "sudo modprobe vhost_vsock");
}

/// Puts the device back.
struct Device;

impl Device {
    fn set_mode(mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(DEVICE, fs::Permissions::from_mode(mode)).unwrap();
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // Not if it was not taken away yet.
        let _ = fs::rename(ELSEWHERE, DEVICE);
        Self::set_mode(0o660);
    }
}
