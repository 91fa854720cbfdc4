// A real QEMU for tests, those in the documentation included: a guest that has
// not run one instruction.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(crate) struct Prelaunch {
    pub(crate) socket: PathBuf,
    pub(crate) qemu: Child,
    _directory: TempDir,
}

impl Prelaunch {
    pub(crate) fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let socket = directory.path().join("qmp.sock");
        let chardev = format!("socket,id=m,path={},server=on,wait=off", socket.display());
        let qemu = Command::new("qemu-system-x86_64")
            .args(["-machine", "q35", "-accel", "tcg", "-S", "-nodefaults"])
            .args(["-display", "none", "-mon", "chardev=m,mode=control"])
            .args(["-chardev", &chardev])
            .stdin(Stdio::null())
            .spawn()
            .expect("qemu-system-x86_64 is installed");
        let mut started = Self {
            socket,
            qemu,
            _directory: directory,
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        while UnixStream::connect(&started.socket).is_err() {
            assert_eq!(started.qemu.try_wait().unwrap(), None, "QEMU ended");
            assert!(Instant::now() < deadline, "QEMU made no socket");
            thread::sleep(Duration::from_millis(5));
        }
        started
    }
}

impl Drop for Prelaunch {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
