use std::process::Command;

use serde_json::Value;

use crate::sandbox::{Ran, Sandbox};

/// What is known, of stopped and running VMs, whole and broken.
mod info;

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
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {done:?}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}
