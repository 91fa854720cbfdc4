use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::sandbox::{Ran, Sandbox};

/// Made, from nothing and from images of all kinds.
mod add;
/// Attached, resized, moved, rewritten, removed.
mod change;
/// What is known, of stopped and running VMs, whole and broken.
mod info;
/// Moved and rewritten while the VM runs.
mod live;
/// Files that belong to no VM.
mod orphans;
/// Where no disk can be made or moved to.
mod target;

impl Sandbox {
    /// Runs qemu-img in the sandbox's directory.
    #[track_caller]
    fn qemu_img(&self, args: &[&str]) {
        run(Command::new("qemu-img")
            .args(args)
            .current_dir(self.dir.path()));
    }

    /// Makes an image of `size`, and an overlay on each one before it.
    #[track_caller]
    fn images(&self, size: &str, names: &[&str]) {
        for (index, name) in names.iter().enumerate() {
            match index {
                0 => self.qemu_img(&["create", "-q", "-f", "qcow2", name, size]),
                _ => {
                    let below = names[index - 1];
                    let on = [
                        "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", below, name,
                    ];
                    self.qemu_img(&on);
                }
            }
        }
    }

    fn disk(&self, verb: &str, words: &[&str]) -> Ran {
        self.maqet(&[&["disk", verb, "@web"], words].concat())
    }

    /// What `info` tells of one disk of `web`.
    #[track_caller]
    fn disk_info(&self, disk: &str) -> Value {
        self.disk("info", &[disk, "--json"]).json()[0].clone()
    }

    /// The files that belong to no VM.
    fn orphans(&self) -> Vec<Value> {
        let orphans = self.maqet(&["disk", "orphans", "--json"]).json();
        orphans["files"].as_array().unwrap().clone()
    }

    /// Runs maqet where the directory `full` has room for 4 MiB; what is in there then.
    #[track_caller]
    fn with_little_room(&self, args: &[&str], judge: impl FnOnce(Ran)) -> Vec<String> {
        self.with_little_room_after(":", "false", args, judge)
    }

    /// The same after a shell script; if another one ends well afterwards, there is `sound`.
    #[track_caller]
    fn with_little_room_after(
        &self,
        before: &str,
        after: &str,
        args: &[&str],
        judge: impl FnOnce(Ran),
    ) -> Vec<String> {
        let script = format!(
            "mkdir -p full && mount -t tmpfs -o size=4M none full && {before} && \"$@\"; \
             status=$?; ls -A full >left; if {after}; then echo sound >>left; fi; exit $status"
        );
        let maqet = self.command_of(args);
        let mut command = Command::new("unshare");
        command
            .args(["--user", "--map-current-user", "--keep-caps", "--mount"])
            .args(["sh", "-c", &script, "sh"])
            .arg(maqet.get_program())
            .args(maqet.get_args())
            .current_dir(self.dir.path())
            .envs(
                maqet
                    .get_envs()
                    .filter_map(|(key, value)| Some((key, value?))),
            )
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        judge(Ran::of(command.spawn().unwrap()));
        let left = std::fs::read_to_string(self.path("left")).unwrap();
        left.lines().map(str::to_owned).collect()
    }

    /// Writes a byte to a part of a disk, as a guest would.
    #[track_caller]
    fn write(&self, image: &Path, pattern: u8, offset: u64, length: u64) {
        self.qemu_io(image, &format!("write -P {pattern} {offset} {length}"));
    }

    /// Fails unless that part of a disk has that byte.
    #[track_caller]
    fn assert_reads(&self, image: &Path, pattern: u8, offset: u64, length: u64) {
        self.qemu_io(image, &format!("read -P {pattern} {offset} {length}"));
        assert_clean(image);
    }

    #[track_caller]
    fn qemu_io(&self, image: &Path, command: &str) {
        let mut qemu_io = Command::new("qemu-io");
        let qemu_io = qemu_io.args(["-f", "qcow2", "-c", command]).arg(image);
        let said = run(qemu_io.current_dir(self.dir.path()));
        assert!(!said.contains("failed"), "{command}: {said}");
    }
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {done:?}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// It is as qemu-img wants an image to be.
#[track_caller]
fn assert_clean(path: &Path) {
    run(Command::new("qemu-img")
        .args(["check", "-q", "-f", "qcow2"])
        .arg(path));
}
