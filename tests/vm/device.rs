use crate::host::{Ran, TESTER};

const DEVICE: &str = "/dev/vdc";

/// Has a running guest's QEMU write to its disk, as the guest would.
fn write(pattern: u8) {
    TESTER.ok(&format!(
        "maqet hmp blk 'qemu-io -d /machine/peripheral/disk-blk/virtio-backend \"write -P {pattern} 1M 1M\"'"
    ));
}

/// The device has that byte where it was written to.
#[track_caller]
fn assert_reads(pattern: u8) {
    let said = TESTER.ok(&format!(
        "qemu-io -f raw -c 'read -P {pattern} 1M 1M' {DEVICE}"
    ));
    assert!(said.contains("1 MiB") && !said.contains("failed"), "{said}");
}

fn disk(verb: &str, words: &str) -> Ran {
    TESTER.run(&format!("maqet disk {verb} blk {words}"))
}

#[test]
fn a_block_device_is_used_in_place_and_never_made_resized_or_deleted() {
    TESTER.add_prelaunch("blk", &format!("disk.blk.file = \"{DEVICE}\""));
    let info = TESTER.ok("maqet disk info blk");
    assert!(
        info.contains("a block device") && info.contains("raw"),
        "{info}"
    );
    TESTER.ok("maqet start blk");
    write(7);
    TESTER
        .run("maqet snapshot create blk within")
        .fails(1)
        .saying("`--external`");
    let refused = || {
        for (verb, words) in [
            ("resize", "blk +1M"),
            ("move", "blk elsewhere.raw"),
            ("compact", "blk"),
            ("rm", "blk --delete"),
        ] {
            disk(verb, words)
                .fails(1)
                .saying("is a block device of the host");
        }
    };
    refused();
    TESTER.ok("maqet snapshot create blk beside --external");
    write(8);
    // The overlay grows, and the device cannot.
    disk("resize", "blk +1M").fails(0);
    let merge = || TESTER.run("maqet snapshot merge blk beside");
    for stop in ["true", "maqet stop --force blk"] {
        TESTER.ok(stop);
        merge()
            .fails(1)
            .saying("/dev/vdc has 16M and gets no other size");
    }
    assert_reads(7);
    disk("resize", "blk 16M --shrink").fails(0);
    merge().fails(0);
    assert_reads(8);
    TESTER.ok("maqet start blk");
    TESTER.ok("maqet snapshot create blk beside --external");
    write(9);
    merge().fails(0);
    TESTER.ok("maqet disk ls blk | grep /dev/vdc && maqet stop --force blk");
    assert_reads(9);
    refused();

    // It is shared as little as any disk, and not made anew.
    TESTER.add_prelaunch("other", "");
    for (words, said) in [
        ("attach other d /dev/vdc", "disk `blk` of VM `blk`"),
        (
            "add other d file=/dev/vdc --size 1M",
            "has the size that it has",
        ),
    ] {
        let ran = TESTER.run(&format!("maqet disk {words} && exit 0; exit 1"));
        ran.fails(1).saying(said);
    }
    TESTER
        .run("maqet disk attach other d /dev/nope")
        .fails(1)
        .saying("/dev/nope");
    TESTER.ok("maqet rm other --disks && maqet rm blk --disks");
    TESTER.ok("test -b /dev/vdc");
    assert_reads(9);
}
