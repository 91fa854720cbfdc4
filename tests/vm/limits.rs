use crate::host::{KEEPER, TESTER};

/// Makes QEMU take 640 MiB.
const GREED: &str = "object-add qom-type=memory-backend-ram id=greed size=640M prealloc=true";

fn bytes(mebibytes: u64) -> String {
    (mebibytes << 20).to_string()
}

#[test]
fn a_vm_beyond_its_memory_is_killed_and_status_says_so() {
    TESTER.add_prelaunch("greedy", "unit.MemoryMax = \"600M\"");
    TESTER.ok("maqet start greedy");
    assert_eq!(TESTER.cgroup("maqet-greedy", "memory.max"), bytes(600));
    TESTER.run(&format!("maqet qmp greedy {GREED}"));
    TESTER.wait_until("it has failed", "systemctl --user is-failed maqet-greedy");
    TESTER.ok("maqet ls greedy | grep failed");
    TESTER
        .run("maqet status greedy")
        .fails(3)
        .saying("failed  oom-kill");
    TESTER.wait_until(
        "the journal says why",
        "maqet status greedy | grep 'A process of this unit has been killed by the OOM killer'",
    );
    TESTER.ok("maqet start greedy && maqet stop --force greedy");
}

#[test]
fn a_vm_that_is_killed_for_its_memory_is_restarted_if_it_is_to_be() {
    TESTER.add_prelaunch(
        "again",
        "[unit]\nMemoryMax = \"600M\"\nRestart = \"on-failure\"\nRestartSec = 0",
    );
    TESTER.ok("maqet start again");
    TESTER.run(&format!("maqet qmp again {GREED}"));
    TESTER.wait_until(
        "it is restarted",
        "systemctl --user show -P NRestarts maqet-again | grep 1 && systemctl --user is-active maqet-again",
    );
    TESTER.wait_until(
        "the journal says why",
        "maqet status again | grep 'after a failure at'",
    );
    TESTER
        .run("maqet status again")
        .fails(0)
        .saying("restarts  1, after a failure at")
        .saying(": oom-kill (code=killed, status=9/KILL)");
    TESTER.ok("maqet stop --force again");
}

#[test]
fn a_group_has_no_more_memory_than_its_budget() {
    TESTER.ok("maqet group set ci MemoryMax=1G");
    TESTER.add_prelaunch("member", "group = \"ci\"");
    TESTER.ok("maqet start member");
    assert_eq!(TESTER.cgroup("maqet-ci.slice", "memory.max"), bytes(1024));
    assert_eq!(TESTER.cgroup("maqet-member", "memory.max"), "max");
    TESTER.ok("maqet group set ci MemoryMax=600M");
    assert_eq!(TESTER.cgroup("maqet-ci.slice", "memory.max"), bytes(600));
    TESTER.run(&format!("maqet qmp member {GREED}"));
    TESTER.wait_until("it has failed", "systemctl --user is-failed maqet-member");
    TESTER.ok("maqet ls member | grep failed");
    TESTER
        .run("maqet status member")
        .fails(3)
        .saying("failed  oom-kill");
}

#[test]
fn what_is_set_while_a_vm_runs_holds_at_once() {
    // A boot sector that jumps to itself: as much of a processor as there is.
    TESTER.ok("{ printf '\\xeb\\xfe'; head -c 508 /dev/zero; printf '\\x55\\xaa'; } >spin.raw");
    TESTER.add(
        "spin",
        "memory = \"64M\"\ndisk.boot = { file = \"spin.raw\", format = \"raw\", read-only = true }",
    );
    TESTER.ok("maqet start spin");
    TESTER.ok("maqet set spin CPUQuota=10% CPUWeight=50 MemoryHigh=3G TasksMax=99");
    assert_eq!(TESTER.cgroup("maqet-spin", "cpu.max"), "10000 100000");
    assert_eq!(TESTER.cgroup("maqet-spin", "cpu.weight"), "50");
    assert_eq!(TESTER.cgroup("maqet-spin", "memory.high"), bytes(3072));
    assert_eq!(TESTER.cgroup("maqet-spin", "pids.max"), "99");

    // All at one moment.
    let look = || {
        let stat = TESTER.cgroup("maqet-spin", "cpu.stat");
        ["nr_periods", "usage_usec", "nr_throttled"].map(|key| {
            let mut lines = stat.lines().filter_map(|line| line.split_once(' '));
            let (_, number) = lines.find(|(name, _)| *name == key).unwrap();
            number.parse::<u64>().unwrap()
        })
    };
    let [periods, used, throttled] = look();
    TESTER.wait_until(
        "it was held back fifty times",
        &format!(
            "awk '$1 == \"nr_throttled\" {{ exit $2 < {} }}' \
             /sys/fs/cgroup/$(systemctl --user show -P ControlGroup maqet-spin)/cpu.stat",
            throttled + 50
        ),
    );
    // Of each 100 ms it had 10, and what two processors had in hand at the beginning.
    let [periods_now, used_now, _] = look();
    let (periods, used) = (periods_now - periods, used_now - used);
    assert!(
        used <= periods * 10_000 * 5 / 4 + 50_000,
        "{used} us in {periods} periods of 100 ms"
    );
    TESTER.ok("maqet stop --force spin");
}

#[test]
fn a_vm_gets_no_more_tasks_than_it_may_have() {
    // With 1, nothing but QEMU itself, which systemd looks after in vain.
    for limit in [1, 2] {
        TESTER.add_prelaunch("alone", &format!("unit.TasksMax = {limit}"));
        TESTER
            .run("maqet start alone")
            .fails(1)
            .saying("VM `alone` stopped while starting")
            .saying("Resource temporarily unavailable");
        TESTER.ok("maqet rm alone");
    }
}

#[test]
fn limits_of_controllers_that_are_not_delegated_are_told_by_doctor() {
    TESTER
        .run("maqet doctor --all")
        .saying(
            "note     controllers: not delegated to you: cpuset, io; limits on these do nothing",
        )
        .saying("Delegate=cpu cpuset io memory pids");

    KEEPER.begin();
    KEEPER
        .run("maqet doctor --all")
        .saying("ok       controllers: all are delegated to you");
    KEEPER.add_prelaunch("pinned", "unit = { AllowedCPUs = 1, IOWeight = 50 }");
    KEEPER.ok("maqet start pinned");
    assert_eq!(KEEPER.cgroup("maqet-pinned", "cpuset.cpus.effective"), "1");
    KEEPER.ok("grep -P '^Cpus_allowed_list:\\t1$' /proc/$(systemctl --user show -P MainPID maqet-pinned)/status");
    assert_eq!(KEEPER.count("maqet-pinned", "io.weight", "default"), 50);
    KEEPER.ok("maqet set pinned AllowedCPUs=0 IOWeight=200");
    assert_eq!(KEEPER.cgroup("maqet-pinned", "cpuset.cpus.effective"), "0");
    assert_eq!(KEEPER.count("maqet-pinned", "io.weight", "default"), 200);
    KEEPER.ok("maqet stop --force pinned");
}
