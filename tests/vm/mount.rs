use std::process::Command;

use crate::host::TESTER;

/// A file system of its own.
const PLACE: &str = "/run/mount";

/// Runs a command as root.
#[track_caller]
fn root(command: &str) {
    let ran = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(ran.status.success(), "{command}: {ran:?}");
}

#[test]
fn a_file_system_that_is_mounted_read_only_is_told_and_how_to_mend_it() {
    root(&format!(
        "mkdir -p {PLACE} && mount -t tmpfs -o size=64M tmpfs {PLACE} && chmod 1777 {PLACE}"
    ));
    let there = |command: &str| {
        TESTER.run(&format!(
            "cd {PLACE}; export XDG_DATA_HOME={PLACE}/data; {command}"
        ))
    };
    there(
        "printf '%s\\n' 'accel = \"tcg\"' 'net = {}' 'memory = \"64M\"' 'qemu.args = [\"-S\"]' \
         'disk.root.size = \"4M\"' >m.toml && maqet add m.toml && maqet snapshot create m then",
    )
    .fails(0);
    let look = "maqet show m; maqet disk ls m; maqet snapshot ls m; maqet ls m | cut -c 1-14";
    let before = there(look).fails(0).said();
    root(&format!("mount -o remount,ro {PLACE}"));
    assert_eq!(there(look).fails(0).said(), before);
    let mut mends = None;
    for command in [
        "disk add m new --size 1M",
        "disk compact m root",
        "disk resize m root +1M",
        "disk rm m root --delete",
        "set m memory=128M",
        "snapshot create m x",
        "snapshot create m x --external",
        "snapshot restore m then",
        "snapshot rm m then",
        "clone m zoe",
        "rename m zoe",
        "rm m",
        "rm m --disks",
        "start m",
    ] {
        let ran = there(&format!("maqet {command}")).fails(1).said();
        assert!(
            ran.contains("hint: it is mounted read-only"),
            "{command}: {ran}"
        );
        assert_eq!(there(look).fails(0).said(), before, "{command}");
        mends = ran
            .split('`')
            .rfind(|words| words.starts_with("mount "))
            .map(str::to_owned);
    }
    root(&mends.unwrap());
    there(
        "maqet snapshot create m x && maqet start m && maqet stop --force m && maqet rm m --disks",
    )
    .fails(0);
}
