use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Child;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::sandbox::{PATIENCE, Sandbox, signal, wait_until};

fn running() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox
}

/// Makes QEMU send one event after the other: RESUME, STOP, RESUME …
fn make_events(sandbox: &Sandbox, count: usize) {
    for command in ["cont", "stop"].into_iter().cycle().take(count) {
        sandbox.maqet(&["qmp", "@web", command]).ok();
    }
}

fn names(lines: &str) -> Vec<String> {
    let name = |line| serde_json::from_str::<Value>(line).unwrap()["event"].clone();
    let names = lines.lines().map(name);
    names
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_misspelt_event_is_told() {
    let sandbox = running();
    let mut ran = None;
    // If it is slow to say which events it knows, it is not waited for.
    wait_until("QEMU says which events it knows", || {
        let ran = ran.insert(sandbox.maqet(&["events", "@web", "--filter", "STOP,RESMUE"]));
        ran.status != 0
    });
    ran.unwrap()
        .fails(2)
        .saying("QEMU has no event `RESMUE`, did you mean `RESUME`?");
    sandbox
        .maqet(&["events", "@web", "--filter", "resume,BLOCK_*"])
        .ok();
}

struct Follower {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Follower {
    fn start(sandbox: &Sandbox, args: &[&str]) -> Self {
        let mut child = sandbox.spawn(&[&["events", "--follow", "--json"], args].concat());
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = mpsc::channel();
        // Closes the pipe when nobody wants its lines any more.
        thread::spawn(move || stdout.lines().try_for_each(|line| tell.send(line.unwrap())));
        Self { child, lines }
    }

    fn event(&mut self) -> Value {
        let line = self.lines.recv_timeout(PATIENCE).expect("an event comes");
        serde_json::from_str(&line).unwrap()
    }

    /// Reads on until this event, and returns all that came.
    fn until(&mut self, name: &str) -> Vec<String> {
        let mut names = Vec::new();
        while names.last().is_none_or(|last| last != name) {
            names.push(self.event()["event"].as_str().unwrap().to_owned());
        }
        names
    }

    /// It, and what it started.
    fn processes(&self) -> Vec<u32> {
        let is_child = |pid: &u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let parent = stat
                .rsplit_once(") ")
                .and_then(|(_, rest)| rest.split(' ').nth(1));
            parent == Some(&self.child.id().to_string())
        };
        let all = fs::read_dir("/proc").unwrap().flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(is_child).chain([self.child.id()]).collect()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_events_of_each_run_are_kept() {
    let sandbox = running();
    make_events(&sandbox, 2);
    // A `stop` may come to ask the guest before its power is cut, which is an event, too.
    sandbox.maqet(&["qmp", "@web", "quit"]).ok();
    sandbox.wait_for_state("web", "stopped");
    let events = |args: &[&str]| {
        let ran = sandbox.maqet(&[&["events", "--json", "@web"], args].concat());
        ran.ok().stdout
    };
    let wait_for = |count| {
        // The journal has two streams in the order in which it came to read them.
        wait_until("all are in the journal", || {
            names(&events(&["--all-runs"])).len() == count
        });
    };
    wait_for(3);
    sandbox.maqet(&["start", "@web"]).ok();
    make_events(&sandbox, 1);
    wait_for(4);
    assert_eq!(names(&events(&[])), ["RESUME"]);
    assert_eq!(
        names(&events(&["--run", "-1"])),
        ["RESUME", "STOP", "SHUTDOWN"]
    );
    let all = ["RESUME", "STOP", "SHUTDOWN", "RESUME"];
    assert_eq!(names(&events(&["--all-runs"])), all);
    assert_eq!(names(&events(&["--since", "-1h"])), all);
    assert_eq!(names(&events(&["--all-runs", "-n", "2"])), all[2..]);
    assert_eq!(
        names(&events(&["--all-runs", "--filter", "st*,SHUTDOWN"])),
        all[1..3]
    );
    assert!(names(&events(&["--since", "2999-01-01"])).is_empty());
    sandbox
        .maqet(&["events", "@web", "--run", "-2"])
        .fails(1)
        .saying("has no run -2");

    let all = events(&["--all-runs"]);
    let runs: BTreeSet<String> = all
        .lines()
        .map(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            assert_eq!(event["vm"], *sandbox.name("web"));
            assert!(event["time"].as_str().unwrap().ends_with('Z'), "{event}");
            event["run"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(runs.len(), 2, "{all}");
    assert!(runs.contains(&sandbox.property("web", "InvocationID")));
}

#[test]
fn people_see_one_line_for_each_event() {
    let sandbox = running();
    sandbox.maqet(&["qmp", "@web", "quit"]).ok();
    wait_until("the event is in the journal", || {
        let events = sandbox.maqet(&["events", "@web"]).ok().stdout;
        events.ends_with(" SHUTDOWN guest=false reason=host-qmp-quit\n")
            && events.lines().count() == 1
    });
    // Of several VMs each says which it is.
    let pattern = sandbox.name("*");
    let events = sandbox.maqet(&["events", &pattern]).ok().stdout;
    let vm = sandbox.name("web");
    assert!(
        events.contains(&format!(" {vm} SHUTDOWN guest=false")),
        "{events}"
    );
}

#[test]
fn events_of_a_vm_that_is_not_there_are_exit_status_4() {
    let sandbox = running();
    sandbox.maqet(&["events", "@wbe"]).fails(4);
    sandbox.maqet(&["events", &sandbox.name("x*")]).fails(4);
    sandbox
        .maqet(&["events", "@web", "--since", "noon"])
        .fails(2);
}

#[test]
fn a_follower_may_be_there_before_the_vm_and_stays_over_its_restarts() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    let mut one = Follower::start(&sandbox, &["@web"]);
    let pattern = sandbox.name("*");
    let mut all = Follower::start(&sandbox, &[&pattern]);
    for _ in 0..2 {
        sandbox.maqet(&["start", "@web"]).ok();
        make_events(&sandbox, 1);
        sandbox.maqet(&["stop", "--force", "@web"]).ok();
        for follower in [&mut one, &mut all] {
            let mut heard = follower.until("SHUTDOWN");
            // The unit's own stop may ask the guest before the power is cut.
            heard.retain(|event| event != "POWERDOWN");
            assert_eq!(heard, ["RESUME", "SHUTDOWN"]);
        }
    }
    // Whoever follows a pattern hears of VMs that were not there.
    sandbox.add_prelaunch("db");
    sandbox.maqet(&["start", "@db"]).ok();
    sandbox.maqet(&["stop", "--force", "@db"]).ok();
    let mut event = all.event();
    if event["event"] == "POWERDOWN" {
        event = all.event();
    }
    assert_eq!(event["vm"], *sandbox.name("db"));
    assert_eq!(event["event"], "SHUTDOWN");
}

#[test]
fn fifty_followers_miss_nothing_and_sleep_when_nothing_happens() {
    let sandbox = running();
    make_events(&sandbox, 1);
    let mut followers: Vec<Follower> = (0..50)
        .map(|_| Follower::start(&sandbox, &["@web"]))
        .collect();
    for follower in &mut followers {
        follower.until("RESUME");
    }
    let mut expected = Vec::new();
    for _ in 0..20 {
        sandbox.maqet(&["qmp", "@web", "stop"]).ok();
        sandbox.maqet(&["qmp", "@web", "cont"]).ok();
        expected.extend(["STOP", "RESUME"]);
    }
    sandbox.maqet(&["qmp", "@web", "system_reset"]).ok();
    expected.push("RESET");
    for follower in &mut followers {
        assert_eq!(follower.until("RESET"), expected);
    }

    sandbox.maqet(&["qmp", "@web", "stop"]).ok();
    for follower in &mut followers {
        follower.until("STOP");
    }
    wait_until("each is there with one journalctl", || {
        followers
            .iter()
            .all(|follower| follower.processes().len() == 2)
    });
    // But journalctl wakes with every line of anybody's.
    let mut all: Vec<u32> = followers.iter().map(|it| it.child.id()).collect();
    all.push(sandbox.pid("web"));
    let cpu = || -> Vec<u64> { all.iter().map(|pid| cpu_ticks(*pid)).collect() };
    // The journal's own writing may go on for a moment.
    let mut before = cpu();
    wait_until("nobody has used any CPU for a second", || {
        thread::sleep(Duration::from_secs(1));
        let now = cpu();
        std::mem::replace(&mut before, now.clone()) == now
    });
}

/// What a process has used of the CPU, in ticks of 10 ms (proc_pid_stat(5)).
fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn what_a_follower_started_ends_with_it() {
    let sandbox = running();
    make_events(&sandbox, 1);
    let mut follower = Follower::start(&sandbox, &["@web"]);
    follower.until("RESUME");
    // What is past was read by another one than follows.
    let mut processes = Vec::new();
    wait_until("it and its journalctl are there", || {
        processes = follower.processes();
        processes.len() == 2
    });
    signal(follower.child.id(), libc::SIGKILL);
    let is_there = |pid: &u32| fs::exists(format!("/proc/{pid}")).unwrap();
    wait_until("both are gone", || {
        let _ = follower.child.try_wait();
        !processes.iter().any(is_there)
    });
}

#[test]
fn a_follower_ends_with_its_reader_though_nothing_is_written() {
    let sandbox = running();
    let mut child = sandbox.spawn(&["events", "--follow", "@web"]);
    drop(child.stdout.take());
    wait_until("it is gone", || child.try_wait().unwrap().is_some());
}
