use serde_json::Value;

use crate::sandbox::{Sandbox, signal, wait_until};

#[test]
fn a_running_vm_is_described_by_systemd_qemu_and_the_kernel() {
    let sandbox = Sandbox::new();
    sandbox.add("web", &["--qemu-arg=-S", "--disk", "root.qcow2:5M"]);
    sandbox.maqet(&["start", "@web"]).ok();
    let mut status = Value::Null;
    wait_until("QEMU answers in time", || {
        status = sandbox.maqet(&["status", "--json", "@web"]).json();
        status["monitor_error"].is_null()
    });
    assert_eq!(status["state"], "prelaunch");
    assert_eq!(status["active_state"], "active");
    assert_eq!(status["main_pid"], sandbox.pid("web"));
    assert!(status["memory_used"].as_u64().unwrap() > 1 << 20);
    assert!(status["cpu_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(
        status["invocation_id"],
        sandbox.property("web", "InvocationID")
    );
    let drive = &status["drives"][0];
    assert_eq!(drive["name"], "disk-disk0");
    assert_eq!(drive["file"], sandbox.path("root.qcow2").to_str().unwrap());
    assert_eq!(drive["virtual_size"], 5 << 20);
    for socket in status["sockets"].as_array().unwrap() {
        assert_eq!(socket["exists"], Value::Bool(true), "{socket}");
    }
}

#[test]
fn a_stopped_vm_says_how_it_ended_with_exit_status_3() {
    let sandbox = Sandbox::new();
    // It does not end before systemd has looked after its start.
    sandbox.add_probe_with("web", "probe.act=poweroff", &["--qemu-arg=-S"]);
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.maqet(&["resume", "@web"]).ok();
    sandbox.wait_for_state("web", "stopped");
    wait_until("the journal has its end", || {
        let status = sandbox.maqet(&["status", "@web"]);
        status.status == 3 && status.stdout.contains("guest-shutdown")
    });
}

#[test]
fn a_stopped_vm_says_what_it_has() {
    let sandbox = Sandbox::new();
    let limits = ["--unit=MemoryMax=6G", "--unit=Restart=on-failure"];
    let disks = ["--disk=a.qcow2:5M", "--disk=b.raw:3M", "--group=of_three"];
    sandbox.add("web", &[&limits[..], &disks].concat());
    let told = sandbox.maqet(&["status", "@web"]).fails(3).stdout;
    assert!(told.contains("    group  of_three\n"), "{told}");
    assert!(told.contains("   limits  MemoryMax=6G\n"), "{told}");
    let status = sandbox.maqet(&["status", "--json", "@web"]).fails(3).stdout;
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["drives"][0]["virtual_size"], 5 << 20);
    assert_eq!(status["drives"][1]["virtual_size"], 3 << 20);
}

#[test]
fn a_failed_vm_shows_its_last_lines() {
    let sandbox = Sandbox::new();
    sandbox.add_probe("web", "probe.act=idle");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.wait_for_console("web", "probe: ready");
    signal(sandbox.pid("web"), libc::SIGKILL);
    sandbox.wait_for_state("web", "failed");
    wait_until("the journal has its last lines", || {
        let status = sandbox.maqet(&["status", "@web"]).fails(3);
        status.stdout.contains("Main process exited")
    });
    let status = sandbox.maqet(&["status", "@web"]).fails(3);
    for words in ["failed", "signal 9", "probe: ready", "Main process exited"] {
        assert!(status.stdout.contains(words), "{words}: {}", status.stdout);
    }
}

#[test]
fn a_vm_that_no_one_knows_is_exit_status_4() {
    let sandbox = Sandbox::new();
    sandbox
        .maqet(&["status", "@nobody"])
        .fails(4)
        .saying("no VM is named");
}
