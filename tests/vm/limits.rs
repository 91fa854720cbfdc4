use crate::host::TESTER;

/// Makes QEMU take 640 MiB, which is more than any of these may have.
const GREEDY: &str = "object-add qom-type=memory-backend-ram id=greedy size=640M prealloc=true";

#[test]
fn a_vm_beyond_its_memory_is_killed_and_status_says_so() {
    TESTER.add_prelaunch("greedy", "unit.MemoryMax = \"600M\"");
    TESTER.ok("maqet start greedy");
    assert_eq!(
        TESTER.cgroup("maqet-greedy", "memory.max"),
        (600 << 20).to_string()
    );
    TESTER.run(&format!("maqet qmp greedy {GREEDY}"));
    TESTER.wait_until("it has failed", "maqet ls greedy | grep failed");
    TESTER
        .run("maqet status greedy")
        .fails(3)
        .saying("failed  oom-kill")
        .saying("A process of this unit has been killed by the OOM killer");
    TESTER.ok("maqet start greedy && maqet stop --force greedy");
}
