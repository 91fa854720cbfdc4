//! Disks: what goes together and what does not.

use super::*;

#[test]
fn settings_of_a_disk_that_do_not_go_together_are_refused() {
    for (disk, said) in [
        (
            "aio = \"native\"",
            ":3:7: `native` goes past the host's page cache",
        ),
        (
            "aio = \"native\"\ncache = \"unsafe\"",
            ":3:7: `native` goes past the host's page cache",
        ),
        (
            "detect-zeroes = \"unmap\"\ndiscard = \"ignore\"",
            ":3:17: `unmap` gives blocks back",
        ),
        (
            "cache = \"directsync\"\ninterface = \"usb\"",
            ":3:9: a `usb` disk cannot do without its write cache",
        ),
        ("serial = \"\"", ":3:10: a serial number is 1 to 20"),
        (
            "serial = \"123456789012345678901\"",
            ":3:10: a serial number is 1 to 20",
        ),
        ("serial = \"é\"", ":3:10: a serial number is 1 to 20"),
        ("serial = \"a\\nb\"", ":3:10: a serial number is 1 to 20"),
        (
            "iothread = true\ninterface = \"nvme\"",
            ":3:12: only a `virtio` disk can have a thread",
        ),
        ("iothread = \"a b\"", ":3:12: `a b` cannot name a device"),
        (
            "iothread = 1",
            ":3:12: invalid type: integer `1`, expected `true`, `false` or the name of a thread",
        ),
        ("rotation-rate = 1", ":3:17: only `scsi` and `sata`"),
        ("removable = true", ":3:13: only `scsi` and `usb`"),
        (
            "logical-block-size = 1000",
            ":3:22: a block size is a power",
        ),
        (
            "logical-block-size = 4096\ninterface = \"sata\"",
            ":3:22: a SATA disk has 512",
        ),
        (
            "logical-block-size = 4096\nphysical-block-size = 512",
            ":4:23: it cannot be smaller",
        ),
        ("boot-index = -1", ":3:14: invalid value: integer `-1`"),
        (
            "cache = \"wirteback\"",
            ":3:9: unknown value `wirteback`, did you mean `writeback`?",
        ),
        (
            "aio = \"io-uring\"",
            ":3:7: unknown value `io-uring`, did you mean `io_uring`?",
        ),
        (
            "[disk.b]\nsize = \"1G\"\nboot-index = 1\n[disk.c]\nsize = \"1G\"\nboot-index = 1",
            ":8:14: `disk.b` has the same place",
        ),
        (
            "limits.iops = 0",
            ":3:15: a limit cannot be 0: leave it out for none",
        ),
        (
            "limits.iops = \"1k\"",
            ":3:15: invalid type: string \"1k\", expected a whole number",
        ),
        (
            "limits.bps = 1000",
            ":3:14: `1000` has no unit: write \"1000M\"",
        ),
        (
            "limits.bsp = \"1M\"",
            ":3:8: unknown key `bsp`, did you mean `bps`?",
        ),
        (
            "limits = { iops = 1, iops-read = 1 }",
            ":3:19: either `iops`, or `iops-read` and `iops-write`",
        ),
        (
            "limits.iops = { rate = 10, burst = 5 }",
            ":3:36: a burst is not less than the rate",
        ),
        (
            "limits.iops = { rate = 10, burst-length = \"1s\" }",
            ":3:43: `burst-length` needs a `burst`",
        ),
        (
            "limits.iops = { rate = 10, burst = 20, burst-length = \"0s\" }",
            ":3:55: a burst lasts one second at least",
        ),
        (
            "limits.bps = { rate = \"1M\", burst = \"500T\", burst-length = \"1h\" }",
            ":3:60: too long for a burst of this rate",
        ),
        (
            "limits.bps = { burst = \"1M\" }",
            ":3:14: missing field `rate`",
        ),
    ] {
        let said_instead = mistakes(&format!("[disk.a]\nsize = \"1G\"\n{disk}"));
        assert!(said_instead.contains(said), "{disk}:\n{said_instead}");
    }
}

#[test]
fn an_empty_drive_is_a_cd_rom_without_a_file() {
    let config = parse("[disk.cd]\ninterface = \"cdrom\"").unwrap();
    let (name, disk) = config.disks.get_index(0).unwrap();
    assert_eq!(disk.path(name, Path::new("/vms/web")), None);
}

#[test]
fn a_thread_on_microvm_needs_kvm() {
    let with = |first: &str| {
        parse(&format!(
            "{first}\ndisk.a = {{ size = \"1G\", iothread = true }}"
        ))
    };
    let error = with("machine = \"microvm\"").unwrap_err().to_string();
    assert!(error.contains(":2:36: on `microvm` only KVM"), "{error}");
    for fine in ["", "machine = \"microvm\"\naccel = \"kvm\""] {
        with(fine).unwrap_or_else(|error| panic!("{error}"));
    }
}
