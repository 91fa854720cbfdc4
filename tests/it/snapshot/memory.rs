use serde_json::{Value, json};

use crate::sandbox::{Sandbox, signal, wait_until};

use super::{
    check, count, counting, counting_on, disks, goes_on, has_booted, listed, names, reads, tool,
    two_disks, write,
};

#[test]
fn a_running_vm_s_memory_is_in_its_snapshot_unless_it_is_of_the_disks_alone() {
    let sandbox = two_disks();
    sandbox.maqet(&["start", "@web"]).ok();
    let made = sandbox
        .maqet(&["snapshot", "create", "@web", "all", "--json"])
        .json();
    let memory = made["memory_bytes"].clone();
    assert!(memory.as_u64().unwrap() > 100_000, "{made}");
    let made = sandbox
        .maqet(&[
            "snapshot",
            "create",
            "@web",
            "disks",
            "--disk-only",
            "--json",
        ])
        .json();
    assert_eq!(made["memory_bytes"], Value::Null);
    assert_eq!(sandbox.state("web"), "prelaunch");
    let jobs = sandbox.maqet(&["jobs", "@web", "--json"]).json();
    assert_eq!(jobs.as_array().unwrap().len(), 0, "{jobs}");
    let all = listed(&sandbox);
    assert_eq!(all[0]["memory_bytes"], memory);
    sandbox.maqet(&["snapshot", "rm", "@web", "all"]).ok();
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    for disk in disks(&sandbox) {
        assert_eq!(names(&disk), ["disks"]);
    }
    check(&sandbox);
}

#[test]
fn a_snapshot_with_memory_is_not_named_like_the_number_of_another() {
    let sandbox = two_disks();
    sandbox.maqet(&["start", "@web"]).ok();
    let create = ["snapshot", "create", "@web", "1"];
    let alone = [&create[..], &["--disk-only"]].concat();
    sandbox
        .maqet(&create)
        .fails(2)
        .saying("`1` cannot name a snapshot")
        .saying("number");
    assert_eq!(
        sandbox.maqet(&["snapshot", "ls", "@web", "--json"]).json(),
        json!([])
    );
    sandbox.maqet(&alone).ok();
    let restore = ["snapshot", "restore", "@web", "1", "--reset"];
    sandbox.maqet(&restore).ok();
}

#[test]
fn a_disk_that_qemu_cannot_save_is_named_and_the_disks_alone_can_be_kept() {
    let sandbox = Sandbox::new();
    sandbox.add_lines(
        "web",
        "disk.root.size = '1M'\ndisk.fast = { size = '1M', interface = 'nvme' }",
    );
    sandbox.maqet(&["start", "@web"]).ok();
    let create = ["snapshot", "create", "@web", "x"];
    sandbox
        .maqet(&create)
        .fails(1)
        .saying("QEMU cannot save disk `fast`")
        .saying("hint: `--disk-only`");
    sandbox.maqet(&["resume", "@web"]).ok();
    let save = sandbox.maqet(&["save", "@web"]).fails(1);
    save.saying("QEMU cannot save disk `fast`");
    sandbox
        .maqet(&[&create[..], &["--disk-only"]].concat())
        .ok();
}

#[test]
fn what_keeps_a_snapshot_from_being_made_is_named_before_anything_is_done() {
    let sandbox = Sandbox::new();
    sandbox.add_lines(
        "web",
        "disk.root.size = '1M'\ndisk.a = { file = 'a.raw', size = '1M' }\n\
         disk.b = { file = 'b.raw', size = '1M', interface = 'scsi' }",
    );
    let create = || {
        sandbox
            .maqet(&["snapshot", "create", "@web", "x"])
            .fails(1)
            .saying("disk `a` is not a qcow2 image")
            .saying("disk `b` is not a qcow2 image")
            .saying("--external")
    };
    create();
    sandbox.maqet(&["start", "@web"]).ok();
    create();
    assert!(listed(&sandbox).is_empty());
}

#[test]
fn a_qemu_that_is_killed_while_it_loads_leaves_the_disks_at_the_snapshot() {
    let sandbox = counting();
    sandbox.maqet(&["snapshot", "create", "@web", "then"]).ok();
    for delay in [0, 20, 50, 100, 200] {
        goes_on(&sandbox);
        let pid = sandbox.pid("web");
        let restore = sandbox.spawn(&["snapshot", "restore", "@web", "then"]);
        std::thread::sleep(std::time::Duration::from_millis(delay));
        signal(pid, libc::SIGKILL);
        crate::sandbox::Ran::of(restore);
        wait_until("QEMU is gone", || sandbox.state("web") != "running");
        // Whether it goes on there or boots, its disk is whole.
        sandbox.maqet(&["start", "@web"]).ok();
        goes_on(&sandbox);
        assert_eq!(listed(&sandbox)[0]["resumes"], false);
    }
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    sandbox.maqet(&["snapshot", "rm", "@web", "then"]).ok();
    tool(
        "qemu-img",
        &["check", "-q"],
        &sandbox.vm_dir("web").join("data.qcow2"),
    );
}

#[test]
fn a_qemu_that_is_killed_meanwhile_leaves_no_part_of_a_snapshot() {
    let sandbox = two_disks();
    for delay in [0, 5, 20, 50, 100] {
        sandbox.maqet(&["start", "@web"]).ok();
        let pid = sandbox.pid("web");
        let create = sandbox.spawn(&["snapshot", "create", "@web", "x"]);
        std::thread::sleep(std::time::Duration::from_millis(delay));
        signal(pid, libc::SIGKILL);
        let ran = crate::sandbox::Ran::of(create);
        wait_until("QEMU is gone", || sandbox.state("web") != "prelaunch");
        let [root, data] = disks(&sandbox);
        if ran.status == 0 {
            sandbox.maqet(&["snapshot", "rm", "@web", "x"]).ok();
        }
        sandbox.maqet(&["start", "@web"]).ok();
        sandbox.maqet(&["stop", "--force", "@web"]).ok();
        assert!(
            names(&root).is_empty() && names(&data).is_empty(),
            "{}",
            ran.stderr
        );
        check(&sandbox);
    }
}

#[test]
fn a_guest_goes_on_at_a_snapshot_at_once_if_it_runs_and_with_its_next_start_if_not() {
    let sandbox = counting();
    sandbox
        .maqet(&["snapshot", "create", "@web", "then"])
        .ok()
        .saying("with memory");
    goes_on(&sandbox);
    sandbox
        .maqet(&["snapshot", "restore", "@web", "then"])
        .ok()
        .saying("goes on there");
    assert_eq!(sandbox.state("web"), "running");
    goes_on(&sandbox);
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    let later = count(&sandbox);

    sandbox
        .maqet(&["snapshot", "restore", "@web", "then"])
        .ok()
        .saying("the next start goes on there");
    let then = count(&sandbox);
    assert!(then < later, "{then} {later}");
    assert_eq!(listed(&sandbox)[0]["resumes"], true);
    // Until then it is of use.
    for args in [
        &["snapshot", "rm", "@web", "then"][..],
        &["snapshot", "create", "@web", "other"],
        &["snapshot", "create", "@web", "other", "--external"],
        &["disk", "resize", "@web", "data", "+1M"],
        &["disk", "detach", "@web", "data"],
        &["disk", "move", "@web", "data", "elsewhere"],
    ] {
        sandbox.maqet(args).fails(1).saying("saved state");
    }
    sandbox.maqet(&["start", "@web"]).ok().saying("goes on");
    assert_eq!(sandbox.state("web"), "running");
    assert!(!has_booted(&sandbox));
    assert_eq!(listed(&sandbox)[0]["resumes"], false);
    goes_on(&sandbox);
    // A crash is none of the snapshot's: the guest boots.
    signal(sandbox.pid("web"), libc::SIGKILL);
    sandbox.wait_for_state("web", "failed");
    assert!(count(&sandbox) > then);
    sandbox.maqet(&["start", "@web"]).ok().saying("started");
    sandbox.wait_for_console("web", "probe: ready");
}

#[test]
fn a_guest_that_was_paused_is_paused_at_the_snapshot() {
    let sandbox = counting();
    sandbox.maqet(&["pause", "@web"]).ok();
    sandbox
        .maqet(&["snapshot", "create", "@web", "paused"])
        .ok();
    sandbox.wait_for_state("web", "paused");
    sandbox.maqet(&["resume", "@web"]).ok();
    goes_on(&sandbox);
    sandbox
        .maqet(&["snapshot", "restore", "@web", "paused"])
        .ok();
    // That is also what is said of one whose QEMU does not answer at once.
    wait_until("it does not run", || sandbox.state("web") != "running");
    sandbox.maqet(&["resume", "@web"]).ok();
    goes_on(&sandbox);
}

#[test]
fn memory_that_does_not_fit_the_machine_is_refused_and_what_differs_is_told() {
    let sandbox = two_disks();
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.maqet(&["snapshot", "create", "@web", "ram"]).ok();
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    let restore = |options: &[&str]| {
        sandbox.maqet(&[&["snapshot", "restore", "@web", "ram"][..], options].concat())
    };
    sandbox
        .maqet(&[
            "set",
            "@web",
            "memory=128M",
            "labels.a=b",
            "disk.new.size=1M",
        ])
        .ok();
    let said = |verb: &[&str]| sandbox.maqet(&[&["snapshot"], verb].concat()).ok().stdout;
    let table = said(&["ls", "@web"]);
    assert!(table.contains("only its disks can be restored"), "{table}");
    let shown = said(&["show", "@web", "ram"]);
    assert!(shown.contains("`memory` was 64M and is 128M"), "{shown}");
    restore(&[])
        .fails(1)
        .saying("`memory` was 64M and is 128M")
        .saying("it had not the disk")
        .saying("--disk-only");
    restore(&["--disk-only"])
        .ok()
        .saying("new.qcow2 is not in the snapshot");
    sandbox.maqet(&["unset", "@web", "disk.new"]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    restore(&[]).fails(1).saying("`memory` was 64M");
    restore(&["--disk-only"]).fails(1).saying("is running");
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    // What the guest does not see may differ.
    sandbox.maqet(&["set", "@web", "memory=64M"]).ok();
    assert_eq!(listed(&sandbox)[0]["misfits"], Value::Array(Vec::new()));
    restore(&[]).ok().saying("the next start goes on there");
    // It is the start that finds what was changed after that.
    sandbox.maqet(&["set", "@web", "memory=128M"]).ok();
    sandbox
        .maqet(&["start", "@web"])
        .fails(1)
        .saying("`memory` was 64M");
    sandbox.maqet(&["start", "@web", "--discard-saved"]).ok();
    assert_eq!(listed(&sandbox)[0]["resumes"], false);
}

#[test]
fn memory_fits_a_machine_whose_devices_are_where_they_were() {
    let sandbox = counting_on(
        "disk.data.size = '1M'\ndisk.a = { size = '1M', interface = 'scsi' }\n\
         disk.b = { size = '1M', interface = 'scsi' }",
    );
    sandbox.maqet(&["disk", "rm", "@web", "a", "--delete"]).ok();
    let verb = |verb: &str, options: &[&str]| {
        sandbox.maqet(&[&["snapshot", verb, "@web", "then"], options].concat())
    };
    verb("create", &[]).ok();
    verb("restore", &[]).ok().saying("goes on there");
    goes_on(&sandbox);
    // Booted, its disk is the first on its bus.
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.wait_for_console("web", "probe: ready");
    verb("restore", &[])
        .fails(1)
        .saying("device `disk-b` was at channel=0,lun=0,scsi-id=1 and is at")
        .saying("--reset");
    goes_on(&sandbox);
    verb("restore", &["--reset"]).ok();
    assert!(!has_booted(&sandbox));
    goes_on(&sandbox);
    verb("restore", &[]).ok().saying("goes on there");
    goes_on(&sandbox);
}

#[test]
fn a_running_vm_is_reset_for_disks_that_go_back_and_goes_on_where_there_is_memory() {
    let sandbox = two_disks();
    let [root, data] = disks(&sandbox);
    let restore = |words: &[&str]| {
        let words = [&["snapshot", "restore", "@web"], words].concat();
        sandbox.maqet(&words)
    };
    write(&root, 1);
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.maqet(&["snapshot", "create", "@web", "all"]).ok();
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    for file in [&root, &data] {
        write(file, 2);
    }
    sandbox.maqet(&["start", "@web"]).ok();
    let create = ["snapshot", "create", "@web", "disks", "--disk-only"];
    sandbox.maqet(&create).ok();
    for words in [&["disks"][..], &["all", "--disk-only"]] {
        restore(words).fails(1).saying("`--reset`");
    }
    for (words, then, byte) in [
        (&["all", "--reset", "--disk-only"][..], "boots there", 1),
        (&["disks", "--reset"], "boots there", 2),
        (&["all", "--reset"], "goes on there", 1),
    ] {
        let pid = sandbox.pid("web");
        restore(words).ok().saying(then);
        assert_ne!(sandbox.pid("web"), pid);
        sandbox.maqet(&["stop", "--force", "@web"]).ok();
        assert!(reads(&root, byte) && !reads(&data, 3 - byte), "{words:?}");
        sandbox.maqet(&["start", "@web"]).ok();
    }
    // Nothing runs that could be reset.
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    restore(&["disks", "--reset"]).ok();
    assert_eq!(sandbox.state("web"), "stopped");
    check(&sandbox);
}

#[test]
fn a_disk_with_limits_goes_back_and_on_from_there() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("web", "disk.root = { size = '4M', limits.iops = 1000 }");
    let snapshot =
        |verb: &str, words: &[&str]| sandbox.maqet(&[&["snapshot", verb, "@web"], words].concat());
    let size = || {
        let blocks = sandbox.maqet(&["qmp", "@web", "query-block"]).json();
        blocks[0]["inserted"]["image"]["virtual-size"]
            .as_u64()
            .unwrap()
            >> 20
    };
    sandbox.maqet(&["start", "@web"]).ok();
    let pid = sandbox.pid("web");
    for _ in 0..3 {
        snapshot("create", &["all"]).ok();
        let memory = listed(&sandbox)[0]["memory_bytes"].clone();
        sandbox
            .maqet(&["disk", "resize", "@web", "root", "6M"])
            .ok();
        assert_eq!(size(), 6);
        snapshot("restore", &["all"]).ok().saying("goes on there");
        assert_eq!(size(), 4);
        snapshot("create", &["beside", "--external"]).ok();
        assert_eq!(listed(&sandbox)[0]["memory_bytes"], memory);
        snapshot("merge", &["beside"]).ok();
        snapshot("rm", &["all"]).ok();
    }
    assert_eq!(sandbox.pid("web"), pid);
    snapshot("create", &["all"]).ok();
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    snapshot("restore", &["all"]).ok();
    sandbox.maqet(&["start", "@web"]).ok().saying("goes on");
    snapshot("create", &["beside", "--external"]).ok();
    assert_eq!(size(), 4);
}

#[test]
fn a_saved_state_is_not_lost_by_a_snapshot() {
    let sandbox = counting();
    sandbox
        .maqet(&["snapshot", "create", "@web", "then", "--disk-only"])
        .ok();
    sandbox.maqet(&["save", "@web"]).ok();
    for verb in ["create", "rm", "restore"] {
        let name = if verb == "create" { "other" } else { "then" };
        let ran = sandbox.maqet(&["snapshot", verb, "@web", name]);
        ran.fails(1)
            .saying("has a saved state")
            .saying("--discard-saved");
    }
    sandbox.maqet(&["start", "@web"]).ok().saying("goes on");
    sandbox
        .maqet(&["snapshot", "restore", "@web", "then"])
        .fails(1)
        .saying("the disks alone");
    sandbox.maqet(&["save", "@web"]).ok();
    sandbox
        .maqet(&["snapshot", "restore", "@web", "nosuch", "--discard-saved"])
        .fails(1);
    let image = sandbox.vm_dir("web").join("data.qcow2");
    tool("qemu-img", &["snapshot", "-d", "then"], &image);
    let restore = ["snapshot", "restore", "@web", "then", "--discard-saved"];
    sandbox.maqet(&restore).fails(1).saying("is not whole");
    assert_eq!(sandbox.state("web"), "saved");
    tool("qemu-img", &["snapshot", "-c", "then"], &image);
    sandbox.maqet(&restore).ok();
    assert_eq!(sandbox.state("web"), "stopped");
    sandbox.maqet(&["start", "@web"]).ok().saying("started");
}
