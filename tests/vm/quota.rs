use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Command;

use crate::host::{Ran, TESTER};

/// A file system on which each user may have 12 MiB.
const PLACE: &str = "/run/quota";

/// All that is kept there, and what VM `q` is.
const LOOK: &str = "find data -name 'maqet.db*' -o -type f ! -name '*lock' -printf '%p %s\\n' | sort; \
     maqet show q; maqet disk ls q; maqet snapshot ls q; maqet ls q | cut -c 1-14";

/// Makes that file system.
fn place() {
    let made = format!(
        "printf 'loop\\nquota_v2\\n' >/run/quota.conf && \
         /usr/lib/systemd/systemd-modules-load /run/quota.conf && \
         truncate -s 64M /var/tmp/quota.ext4 && \
         mke2fs -q -t ext4 -O quota -E quotatype=usrquota /var/tmp/quota.ext4 && \
         mkdir -p {PLACE} && mount -o loop,usrquota /var/tmp/quota.ext4 {PLACE} && chmod 1777 {PLACE}"
    );
    let ran = Command::new("sh").args(["-c", &made]).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    // SAFETY: all zeroes are numbers.
    let mut limit: libc::dqblk = unsafe { std::mem::zeroed() };
    // In KiB.
    limit.dqb_bhardlimit = 12 << 10;
    limit.dqb_valid = libc::QIF_BLIMITS;
    let dir = File::open(PLACE).unwrap();
    let command = libc::QCMD(libc::Q_SETQUOTA, libc::USRQUOTA);
    let file = dir.as_raw_fd();
    // SAFETY: the kernel reads one `dqblk` there.
    let set =
        unsafe { libc::syscall(libc::SYS_quotactl_fd, file, command, 1500, &raw const limit) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

/// Runs a command with its definitions and disks there.
fn there(command: &str) -> Ran {
    TESTER.run(&format!(
        "cd {PLACE}; export XDG_DATA_HOME={PLACE}/data; {command}"
    ))
}

#[track_caller]
fn ok(command: &str) -> String {
    there(command).fails(0).said()
}

/// Uses the quota up, but for so many KiB.
fn fill(but: usize) {
    ok(&format!(
        "cat /dev/zero >ballast 2>/dev/null; truncate -s -{but}K ballast; test -s ballast"
    ));
}

/// Is refused by the quota, and nothing is left of it when there is room.
#[track_caller]
fn is_told(command: &str) {
    let before = ok(LOOK);
    fill(0);
    let ran = there(&format!("maqet {command}"));
    ok("rm ballast");
    // What could not be undone without room is so now.
    there("maqet snapshot rm q nosuch").fails(1);
    ran.fails(1).saying("your quota");
    assert_eq!(ok(LOOK), before, "{command}");
    ok(
        "for disk in $(find data -name '*.qcow2'); do qemu-img check -U -q -f qcow2 $disk || exit; done",
    );
}

#[test]
fn a_quota_that_is_used_up_is_told_as_such_and_all_is_as_before() {
    place();
    ok(
        "printf '%s\\n' 'accel = \"tcg\"' 'net = {}' 'memory = \"64M\"' 'qemu.args = [\"-S\"]' \
         'disk.root.size = \"4M\"' >q.toml && maqet add q.toml",
    );
    ok("qemu-io -f qcow2 -c 'write -P 7 0 1M' data/maqet/vms/q/root.qcow2");
    // Asked for beforehand.
    fill(64);
    there("maqet disk compact q root")
        .fails(1)
        .saying("your quota in")
        .saying("quota -s");
    there("maqet ls").fails(0).saying("stopped");
    ok("rm ballast");
    for start in ["true", "maqet start q && maqet resume q"] {
        ok(start);
        for command in [
            "disk add q new --size 1M",
            "set q description=words",
            "disk compact q root",
            "snapshot create q x",
            "snapshot create q x --external",
            "clone q zoe",
            "clone q zoe --full",
        ] {
            is_told(command);
        }
    }
    is_told("save q");
    ok("maqet stop --force q && maqet disk move q root /var/tmp/quota.qcow2 && maqet rm q --disks");
}
