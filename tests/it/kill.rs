//! `kill -9` at a system call, by strace(1).

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use crate::sandbox::Sandbox;

/// At how many points a command is killed; `MAQET_TEST_KILLS` says another number.
pub fn points(usual: usize) -> usize {
    let wanted = std::env::var("MAQET_TEST_KILLS").ok();
    wanted.map_or(usual, |points| points.parse().expect("a number"))
}

/// How many system calls the main thread of a maqet makes that does this, which it does.
#[track_caller]
pub fn count(sandbox: &Sandbox, args: &[&str]) -> usize {
    let log = sandbox.path("strace.log");
    let log = log.to_str().unwrap();
    let ended = traced(sandbox, &["-o", log], args);
    assert!(ended.success(), "maqet {args:?}: {ended}");
    std::fs::read_to_string(log).unwrap().lines().count()
}

/// Runs a maqet that is killed at its system call number `at`; whether that came.
#[track_caller]
pub fn at(sandbox: &Sandbox, at: usize, args: &[&str]) -> bool {
    let inject = format!("inject=all:signal=KILL:when={at}");
    let ended = traced(sandbox, &["-o", "/dev/null", "-e", &inject], args);
    // strace ends as the program did.
    match ended.signal() {
        Some(signal) => {
            assert_eq!(signal, libc::SIGKILL, "maqet {args:?}");
            true
        }
        None => false,
    }
}

fn traced(sandbox: &Sandbox, options: &[&str], args: &[&str]) -> std::process::ExitStatus {
    let maqet = sandbox.command_of(args);
    let mut strace = Command::new("strace");
    strace.arg("-qq").args(options).arg(maqet.get_program());
    for (name, value) in maqet.get_envs() {
        strace.env(name, value.unwrap_or_default());
    }
    let strace = strace
        .args(maqet.get_args())
        .current_dir(sandbox.dir.path());
    let quiet = strace.stdin(Stdio::null()).stdout(Stdio::null());
    quiet.stderr(Stdio::null()).status().expect("strace(1)")
}
