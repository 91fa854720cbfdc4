use std::fs;
use std::time::{Duration, Instant};

use crate::sandbox::{Sandbox, guests, systemctl};

#[test]
fn a_vm_runs_as_its_unit_and_the_unit_s_main_process_is_qemu() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok().saying("started");

    assert_eq!(sandbox.property("web", "ActiveState"), "active");
    assert_eq!(sandbox.property("web", "Slice"), "maqet.slice");
    assert_eq!(sandbox.qemus("web"), [sandbox.pid("web")]);
    let status = systemctl(&["status", &sandbox.unit("web")]).ok();
    assert!(status.stdout.contains("qemu-system"), "{}", status.stdout);
}

#[test]
fn starting_what_runs_is_no_failure() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    let pid = sandbox.pid("web");
    sandbox
        .maqet(&["start", "@web"])
        .ok()
        .saying("is already running");
    assert_eq!(sandbox.pid("web"), pid);
}

#[test]
fn nothing_is_left_of_a_start_that_fails_and_the_next_one_works() {
    let sandbox = Sandbox::new();
    let kernel = guests().join("probe/kernel");
    fs::copy(&kernel, sandbox.path("kernel")).unwrap();
    let kernel = sandbox.path("kernel");
    let qcow2 = sandbox.path("disk.qcow2");
    // What is wrong, what maqet says of it, and what makes it right.
    sandbox.add(
        "argument",
        &[
            "--qemu-arg=-S",
            "--qemu-arg=-device",
            "--qemu-arg=no-such-device",
        ],
    );
    sandbox.add(
        "machine",
        &[
            "--qemu-arg=-S",
            "--qemu-arg=-machine",
            "--qemu-arg=no-such-machine",
        ],
    );
    sandbox.add(
        "kernel",
        &["--qemu-arg=-S", "--kernel", kernel.to_str().unwrap()],
    );
    sandbox.add(
        "disk",
        &[
            "--qemu-arg=-S",
            "--disk",
            &format!("{}:1M", qcow2.display()),
        ],
    );
    sandbox.add("program", &["--qemu-arg=-S", "--qemu", "no-such-qemu"]);
    fs::remove_file(&kernel).unwrap();
    fs::remove_file(&qcow2).unwrap();
    for (name, words) in [
        (
            "argument",
            "'no-such-device' is not a valid device model name",
        ),
        ("machine", "unsupported machine type"),
        ("kernel", "No such file or directory"),
        ("disk", "disk `disk0`"),
        ("program", "no `no-such-qemu` in $PATH"),
    ] {
        let begin = Instant::now();
        sandbox
            .maqet(&["start", &format!("@{name}")])
            .fails(1)
            .saying(words);
        // A second is what is promised; this only tells a quick refusal from a time-out.
        assert!(begin.elapsed() < Duration::from_secs(60), "{name}");
        assert!(sandbox.qemus(name).is_empty(), "{name}");
        let again = sandbox
            .maqet(&["start", &format!("@{name}")])
            .fails(1)
            .saying(words);
        assert!(!again.stderr.contains("UnitExists"), "{}", again.stderr);
        sandbox.maqet(&["rm", &format!("@{name}")]).ok();
        sandbox.add_prelaunch(name);
        sandbox.maqet(&["start", &format!("@{name}")]).ok();
    }
}

#[test]
fn several_start_at_once_each_with_a_line_of_its_own() {
    let sandbox = Sandbox::new();
    for name in ["a", "b", "c"] {
        sandbox.add_prelaunch(name);
    }
    sandbox.add(
        "bad",
        &["--qemu-arg=-machine", "--qemu-arg=no-such-machine"],
    );
    let pattern = sandbox.name("*");
    let ran = sandbox.maqet(&["start", &pattern]).fails(1);
    for name in ["a", "b", "c"] {
        let line = format!("VM `{}` started", sandbox.name(name));
        assert!(
            ran.stderr.lines().any(|said| said == line),
            "{}",
            ran.stderr
        );
        assert_eq!(sandbox.state(name), "prelaunch");
    }
    assert!(
        ran.stderr.contains("unsupported machine type"),
        "{}",
        ran.stderr
    );
    assert_eq!(sandbox.state("bad"), "failed");
}

#[test]
fn a_vm_that_no_one_knows_is_exit_status_4_with_the_nearest_name() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    let wrong = format!("{}x", sandbox.name("web"));
    let hint = format!("did you mean `{}`?", sandbox.name("web"));
    sandbox
        .maqet(&["start", &wrong])
        .fails(4)
        .saying("no VM is named")
        .saying(&hint);
    sandbox
        .maqet(&["start", "nothing-like-*"])
        .fails(4)
        .saying("no VM's name matches");
}

#[test]
fn a_definition_from_a_file_boots_a_guest() {
    let sandbox = Sandbox::new();
    sandbox.add_probe("probe", "probe.act=idle");
    sandbox.maqet(&["start", "@probe"]).ok();
    sandbox.wait_for_console("probe", "probe: ready");
    assert_eq!(sandbox.state("probe"), "running");
}

#[test]
fn a_disk_or_a_base_that_is_gone_is_named_with_what_mends_it() {
    let sandbox = Sandbox::new();
    let (base, disk) = (sandbox.path("base.qcow2"), sandbox.path("disk.qcow2"));
    sandbox.add("base", &["--disk", "base.qcow2:1M"]);
    let made = std::process::Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
        .args([&base, &disk])
        .status();
    assert!(made.unwrap().success());
    sandbox.add("web", &["--disk", "disk.qcow2:1M"]);
    std::fs::remove_file(&base).unwrap();
    let mend = format!(
        "`maqet disk rebase {} disk0 --moved FILE`",
        sandbox.name("web")
    );
    sandbox
        .maqet(&["start", "@web"])
        .fails(1)
        .saying("the backing file of")
        .saying(&mend);
    let check = format!("`maqet disk check {} disk0`", sandbox.name("web"));
    for verb in ["ls", "info"] {
        sandbox.maqet(&["disk", verb, "@web"]).ok().saying(&check);
    }
    std::fs::remove_file(&disk).unwrap();
    sandbox
        .maqet(&["start", "@web"])
        .fails(1)
        .saying("disk.qcow2 does not exist")
        .saying(&format!(
            "maqet disk add {} disk0 --size",
            sandbox.name("web")
        ));
    // As it says.
    sandbox.maqet(&["disk", "rm", "@web", "disk0"]).ok();
    sandbox
        .maqet(&["disk", "add", "@web", "disk0", "--size", "1M"])
        .ok();
    sandbox.maqet(&["start", "@web"]).ok();
}
