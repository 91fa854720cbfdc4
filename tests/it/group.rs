use crate::sandbox::{Sandbox, signal, systemctl, wait_until};

/// A group that no other test uses.
fn group(sandbox: &Sandbox) -> String {
    sandbox.name("g").replace('-', "_")
}

fn limit(group: &str, property: &str) -> String {
    let slice = format!("maqet-{group}.slice");
    let ran = systemctl(&["show", "--value", "--property", property, &slice]).ok();
    ran.stdout.trim().to_owned()
}

#[test]
fn a_group_is_a_slice_and_can_be_named_as_one() {
    let sandbox = Sandbox::new();
    let group = group(&sandbox);
    sandbox.add("a", &["--qemu-arg=-S", "--group", &group]);
    sandbox.add("b", &["--qemu-arg=-S", "--group", &group]);
    sandbox.add_prelaunch("c");
    sandbox.maqet(&["start", "--group", &group]).ok();
    assert_eq!(
        sandbox.property("a", "Slice"),
        format!("maqet-{group}.slice")
    );
    assert_eq!(limit(&group, "ActiveState"), "active");
    assert_eq!(sandbox.state("c"), "stopped");

    let listed = sandbox.maqet(&["ls", "--json", "--group", &group]).json();
    let names: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|vm| vm["name"].clone())
        .collect();
    assert_eq!(names, [sandbox.name("a"), sandbox.name("b")]);
    let shown = sandbox.maqet(&["group", "show", "--json", &group]).json();
    assert_eq!(shown["vms"], shown["running"]);
    assert_eq!(shown["slice"], format!("maqet-{group}.slice"));

    sandbox
        .maqet(&["stop", "--force", "--group", &group, "@c"])
        .fails(3);
    assert_eq!(sandbox.state("a"), "stopped");
    sandbox
        .maqet(&["start", "--group", "nobody_here"])
        .fails(4)
        .saying("no VM is in a group `nobody_here`");
    sandbox
        .maqet(&["start", "--group", "a-b"])
        .fails(2)
        .saying("would nest its slice");
}

#[test]
fn a_budget_holds_at_once_and_at_every_start() {
    let sandbox = Sandbox::new();
    let group = group(&sandbox);
    // Before there is anyone to use it.
    sandbox
        .maqet(&["group", "set", &group, "MemoryMax=16G", "CPUQuota=400%"])
        .ok();
    sandbox.add("a", &["--qemu-arg=-S", "--group", &group]);
    sandbox.maqet(&["start", "@a"]).ok();
    assert_eq!(limit(&group, "MemoryMax"), "17179869184");
    assert_eq!(limit(&group, "CPUQuotaPerSecUSec"), "4s");

    sandbox
        .maqet(&["group", "set", &group, "MemoryMax=8G"])
        .ok();
    assert_eq!(limit(&group, "MemoryMax"), "8589934592");
    systemctl(&["daemon-reload"]).ok();
    assert_eq!(limit(&group, "MemoryMax"), "8589934592");

    // The last VM ends, and the slice with it; as after a reboot, nothing is known of it.
    sandbox.maqet(&["stop", "--force", "@a"]).ok();
    let slice = format!("maqet-{group}.slice");
    systemctl(&["stop", &slice]).ok();
    systemctl(&["revert", &slice]).ok();
    assert_eq!(limit(&group, "MemoryMax"), "infinity");
    sandbox.maqet(&["start", "@a"]).ok();
    assert_eq!(limit(&group, "MemoryMax"), "8589934592");

    sandbox.maqet(&["group", "set", &group, "MemoryMax="]).ok();
    assert_eq!(limit(&group, "MemoryMax"), "infinity");
    let shown = sandbox.maqet(&["group", "show", "--json", &group]).json();
    assert_eq!(shown["limits"], serde_json::json!({"CPUQuota": "400%"}));
    systemctl(&["revert", &slice]).ok();
}

#[test]
fn a_budget_that_cannot_be_is_refused_and_the_old_one_stays() {
    let sandbox = Sandbox::new();
    let group = group(&sandbox);
    sandbox.add("a", &["--qemu-arg=-S", "--group", &group]);
    sandbox
        .maqet(&["group", "set", &group, "TasksMax=500"])
        .ok();
    for (wrong, words, status) in [
        ("MemoryMax=100M", "are 580 MiB", 2),
        ("MemroyMax=8G", "did you mean `MemoryMax`?", 2),
        ("Restart=always", "systemd.resource-control(5)", 2),
        // Only systemd knows this.
        ("DeviceAllow=x r", "requires device node", 1),
    ] {
        sandbox
            .maqet(&["group", "set", &group, "TasksMax=9", wrong])
            .fails(status)
            .saying(words);
    }
    assert_eq!(limit(&group, "TasksMax"), "500");
    let listed = sandbox.maqet(&["group", "ls"]).ok().stdout;
    assert!(listed.contains("TasksMax=500"), "{listed}");
    systemctl(&["revert", &format!("maqet-{group}.slice")]).ok();
}

#[test]
fn a_group_that_runs_more_than_it_has_memory_for_is_told_with_the_arithmetic() {
    let sandbox = Sandbox::new();
    let group = group(&sandbox);
    for short in ["a", "b"] {
        sandbox.add(short, &["--qemu-arg=-S", "--group", &group]);
    }
    sandbox
        .maqet(&["group", "set", &group, "MemoryMax=1G"])
        .ok();
    let one = sandbox.maqet(&["start", "@a"]).ok();
    assert!(!one.stderr.contains("may need"), "{}", one.stderr);
    let (a, b) = (sandbox.name("a"), sandbox.name("b"));
    sandbox.maqet(&["start", "@b"]).ok().saying(&format!(
        "warning: group `{group}` has a MemoryMax of 1024 MiB, and its VMs that run may need \
         1160 MiB (`{a}` 580, `{b}` 580)"
    ));
    // Nothing has started, and nothing is to be said.
    let again = sandbox.maqet(&["start", "@b"]).ok();
    assert!(!again.stderr.contains("warning"), "{}", again.stderr);
    systemctl(&["revert", &format!("maqet-{group}.slice")]).ok();
}

#[test]
fn limits_without_a_controller_are_told_wherever_they_are_given() {
    let sandbox = Sandbox::new();
    let group = group(&sandbox);
    let told = |args: &[&str], limits: &[&str]| {
        let ran = sandbox.maqet(args).ok();
        let lines = ran.stderr.lines();
        let lines: Vec<_> = lines.filter(|line| line.contains("do nothing")).collect();
        let idle: Vec<&&str> = limits.iter().filter(|limit| is_idle(limit)).collect();
        assert_eq!(lines.len(), usize::from(!idle.is_empty()), "{lines:?}");
        for limit in limits {
            let is_told = lines.iter().any(|line| line.contains(limit));
            assert_eq!(is_told, is_idle(limit), "{limit}: {lines:?}");
        }
    };
    let (memory, cpus, tasks) = (
        "`MemoryHigh` (memory)",
        "`AllowedCPUs` (cpuset)",
        "`TasksMax` (pids)",
    );
    let name = sandbox.name("a");
    let add = ["add", "--name", &name, "--memory=64M", "--qemu-arg=-S"];
    let own = ["--unit=MemoryHigh=3G", "--unit=AllowedCPUs=0", "--group"];
    told(&[&add[..], &own, &[&group]].concat(), &[memory, cpus]);
    told(&["group", "set", &group, "TasksMax=900"], &[tasks]);
    told(&["group", "set", &group, "MemoryMax="], &[]);
    told(&["start", &name], &[memory, cpus, tasks]);
    told(&["start", &name], &[]);
    // Of what is there already nothing is said again.
    told(&["set", &name, "unit.CPUWeight=20"], &["`CPUWeight` (cpu)"]);
    told(&["set", &name, "TasksMax=800"], &[tasks]);
    told(&["set", &name, "description=one"], &[]);
    systemctl(&["revert", &format!("maqet-{group}.slice")]).ok();
}

/// Whether the controller that a limit's words name was not given to the user manager.
fn is_idle(limit: &str) -> bool {
    let own = systemctl(&["show", "--value", "--property", "ControlGroup"]).ok();
    let file = format!("/sys/fs/cgroup{}/cgroup.controllers", own.stdout.trim());
    let there = std::fs::read_to_string(file).unwrap();
    let wanted = limit.split(['(', ')']).nth(1).unwrap();
    !there.split_whitespace().any(|it| it == wanted)
}

#[test]
fn a_restarted_vm_stays_in_its_group() {
    let sandbox = Sandbox::new();
    let group = group(&sandbox);
    sandbox.add(
        "a",
        &[
            "--qemu-arg=-S",
            "--group",
            &group,
            "--unit=Restart=on-failure",
        ],
    );
    sandbox.maqet(&["start", "@a"]).ok();
    signal(sandbox.pid("a"), libc::SIGKILL);
    wait_until("it is back", || {
        sandbox.property("a", "NRestarts") == "1"
            && sandbox.property("a", "ActiveState") == "active"
    });
    let cgroup = std::fs::read_to_string(format!("/proc/{}/cgroup", sandbox.pid("a"))).unwrap();
    assert!(
        cgroup.contains(&format!("/maqet.slice/maqet-{group}.slice/maqet-")),
        "{cgroup}"
    );
}
