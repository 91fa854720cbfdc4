//! Commands that are killed just before each thing that they change.
//!
//! An operation is done once in a VM of its own, and what it and the programs that it runs
//! change is recorded ([`trace`]). Then it is done again as often as there are points, and
//! killed at one of them each time: in the VM of the last point if that is as it was before,
//! else in a new one. Whatever comes next, all there is must be then as it was before or as
//! it is after.

mod trace;

/// Tests that kill operations, and at how many points each of them does: that is asserted, and
/// added up.
macro_rules! kills {
    ($($test:ident { $($how:ident($setup:expr, $operation:expr) at $kills:literal;)+ })+) => {
        $(
            #[test]
            fn $test() {
                $($how($setup, $operation, $kills);)+
            }
        )+

        /// At how many points these kill something.
        pub const KILLS: usize = 0 $($(+ $kills)+)+;
    };
}

/// Of disks.
mod disk;
/// Not killed, but without room.
mod full;
/// Not killed, but called off.
mod interrupt;
/// QEMU is killed, and not the command.
mod qemu;
/// Of snapshots, within images and beside them.
mod snapshot;
/// Of whole VMs.
pub mod vm;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::sandbox::{Sandbox, signal, wait_until};
use trace::{Change, Fate, Point, Traced};

/// How often something is killed at least, when nobody asks for another number.
const _: () = assert!(disk::KILLS + snapshot::KILLS + vm::KILLS + qemu::KILLS >= 300);

/// An operation.
struct Case {
    /// Makes the VM `web`, and what else is there before.
    setup: fn(&Sandbox),
    /// What is done.
    operation: &'static [&'static str],
    /// Whether `web` runs meanwhile.
    runs: bool,
}

/// Kills an operation on `web`, which does not run.
#[track_caller]
fn stopped(setup: fn(&Sandbox), operation: &'static [&'static str], kills: usize) {
    Case {
        setup,
        operation,
        runs: false,
    }
    .is_whole_or_not_there(kills);
}

/// The same while it runs.
#[track_caller]
fn running(setup: fn(&Sandbox), operation: &'static [&'static str], kills: usize) {
    Case {
        setup,
        operation,
        runs: true,
    }
    .is_whole_or_not_there(kills);
}

/// What comes after a command that was killed.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// Another command on the VM.
    Other,
    /// A start; if the VM ran, its QEMU is killed, too.
    Start,
    /// The same again.
    Same,
}

/// A VM, and `there`, a directory on another file system.
struct World {
    sandbox: Sandbox,
    _there: tempfile::TempDir,
}

impl World {
    fn new(case: &Case) -> Self {
        Self::within(Sandbox::new(), case)
    }

    fn within(sandbox: Sandbox, case: &Case) -> Self {
        let there = tempfile::tempdir_in("/dev/shm").unwrap();
        std::os::unix::fs::symlink(there.path(), sandbox.path("there")).unwrap();
        (case.setup)(&sandbox);
        let world = Self {
            sandbox,
            _there: there,
        };
        if case.runs {
            world.start();
        }
        world
    }

    /// The VMs that there are.
    fn vms(&self) -> Vec<String> {
        // The user's manager knows of others, whose monitors are to be left alone.
        let own = self.sandbox.name("*");
        let all = self.sandbox.maqet(&["ls", "--json", &own]).json();
        let all = all.as_array().unwrap().iter();
        all.map(|vm| vm["name"].as_str().unwrap().to_owned())
            .collect()
    }

    /// All VMs can be started, and are.
    #[track_caller]
    fn start(&self) {
        for vm in self.vms() {
            self.sandbox.maqet(&["start", &vm]).ok();
            let status = self.sandbox.maqet(&["qmp", &vm, "query-status"]).json();
            assert_eq!(status["running"], false, "{status}");
        }
    }

    #[track_caller]
    fn stop(&self) {
        for vm in self.vms() {
            let ran = self.sandbox.maqet(&["stop", "--force", &vm]);
            assert!(matches!(ran.status, 0 | 3), "{}", ran.stderr);
        }
    }

    /// Does what comes next.
    #[track_caller]
    fn go_on(&self, case: &Case, next: Next) {
        let vm = self.vms().remove(0);
        match next {
            // It settles what is left, and then there is no such snapshot.
            Next::Other => {
                let rm = ["snapshot", "rm", &vm, "no such"];
                self.sandbox.maqet(&rm).fails(1).saying("has no snapshot");
                // A reset may be killed while systemd stops the unit, or starts it again, and 257
                // now and then calls one failed whose power was cut.
                let mut state = String::new();
                wait_until("it is on or off", || {
                    state = self.sandbox.state("web");
                    !["stopping", "starting"].contains(&state.as_str())
                });
                let is_reset = case.operation.contains(&"--reset");
                let is_off = is_reset && ["stopped", "failed"].contains(&state.as_str());
                assert!(!case.runs || state == "prelaunch" || is_off, "{state}");
                if state == "prelaunch" {
                    self.require_settled(&vm);
                }
            }
            Next::Start => {
                if case.runs {
                    let pid = self.sandbox.pid("web");
                    if pid != 0 {
                        signal(pid, libc::SIGKILL);
                    }
                    wait_until("QEMU is gone", || self.sandbox.state("web") != "prelaunch");
                }
                self.sandbox.maqet(&["start", &vm]).ok();
            }
            Next::Same => {
                let ran = self.sandbox.maqet(case.operation);
                // It may have been done, and even the VM may have another name.
                assert!(matches!(ran.status, 0 | 1 | 2 | 4), "{}", ran.stderr);
                if case.runs && self.sandbox.state("web") == "prelaunch" {
                    self.require_settled(&self.sandbox.name("web"));
                }
            }
        }
    }

    /// QEMU does nothing any more, and has no images but those that the definition names.
    #[track_caller]
    fn require_settled(&self, vm: &str) {
        let ask = |command: &str| self.sandbox.maqet(&["qmp", vm, command]).json();
        assert_eq!(ask("query-block-jobs"), json!([]));
        let blocks = ask("query-block");
        let disks = self.sandbox.maqet(&["disk", "ls", vm, "--json"]).json();
        let files = |all: &Value, at: &str| -> BTreeSet<String> {
            let all = all.as_array().unwrap().iter();
            all.map(|it| it.pointer(at).unwrap().to_string()).collect()
        };
        let has = files(&blocks, "/inserted/image/filename");
        // What it has let go of, or has not got yet, it has at the next start.
        assert!(has.is_subset(&files(&disks, "/file")), "{blocks}");
        for block in blocks.as_array().unwrap() {
            let file = block["inserted"]["file"].as_str().unwrap();
            assert!(Path::new(file).exists(), "it writes to nowhere: {blocks}");
        }
    }

    /// All that there is, when no VM runs. Every image is sound, but that one of a QEMU that
    /// was killed may have clusters that nothing is in.
    #[track_caller]
    fn look(&self, leaks: bool) -> String {
        let sandbox = &self.sandbox;
        let mut text = String::new();
        for vm in self.vms() {
            let shown = sandbox.maqet(&["show", &vm]).ok().stdout;
            let list = |verb: &str| {
                let mut list = sandbox.maqet(&[verb, "ls", &vm, "--json"]).json();
                for entry in list.as_array_mut().unwrap() {
                    let entry = entry.as_object_mut().unwrap();
                    // What depends on time.
                    for key in ["created_at", "memory_bytes", "actual_size"] {
                        entry.remove(key);
                    }
                }
                serde_json::to_string_pretty(&list).unwrap()
            };
            let (snapshots, disks) = (list("snapshot"), list("disk"));
            writeln!(text, "{vm}\n{shown}\n{snapshots}\n{disks}").unwrap();
        }
        let orphans = sandbox.maqet(&["disk", "orphans", "--json"]).json();
        writeln!(text, "orphans: {orphans}").unwrap();
        let db = rusqlite::Connection::open(sandbox.path("data/maqet/maqet.db")).unwrap();
        for table in ["operation", "renaming"] {
            let count = format!("SELECT count(*) FROM {table}");
            let count: i64 = db.query_row(&count, [], |row| row.get(0)).unwrap();
            assert_eq!(count, 0, "{table}: something is left to do");
        }
        for (file, what) in images(sandbox.dir.path(), leaks) {
            writeln!(text, "{}: {what}", file.display()).unwrap();
        }
        let dir = sandbox.dir.path().to_str().unwrap();
        text.replace(dir, "DIR").replace(&sandbox.name(""), "@")
    }
}

/// All files below a directory that could be images or parts of them, and what is in them.
#[track_caller]
fn images(dir: &Path, leaks: bool) -> BTreeMap<PathBuf, Value> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.append(&mut images(&path, leaks));
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let suffix = name.rsplit('.').next().unwrap_or_default();
        match suffix {
            "qcow2" => drop(found.insert(path.clone(), qcow2(&path, leaks))),
            "raw" => drop(found.insert(path.clone(), json!(hash(&path)))),
            "unfinished" | "state" | "unpacked" => drop(found.insert(path.clone(), json!("left"))),
            _ => {}
        }
    }
    found
}

/// What is in a sound qcow2 image, and in its snapshots.
#[track_caller]
fn qcow2(path: &Path, leaks: bool) -> Value {
    let tool = |args: &[&str]| {
        let ran = Command::new("qemu-img").args(args).output().unwrap();
        let words = String::from_utf8_lossy(&ran.stdout).into_owned();
        let error = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(ran.status.success(), "qemu-img {args:?}: {words}{error}");
        words
    };
    let image = path.to_str().unwrap();
    match leaks {
        true => tool(&["check", "-q", "-r", "leaks", "-f", "qcow2", image]),
        false => tool(&["check", "-q", "-f", "qcow2", image]),
    };
    let info: Value = serde_json::from_str(&tool(&["info", "--output=json", image])).unwrap();
    let raw = tempfile::NamedTempFile::new().unwrap();
    let to = raw.path().to_str().unwrap();
    tool(&["convert", "-f", "qcow2", "-O", "raw", image, to]);
    let mut what = BTreeMap::from([("now".to_owned(), json!(hash(raw.path())))]);
    for snapshot in info["snapshots"].as_array().into_iter().flatten() {
        let name = snapshot["name"].as_str().unwrap();
        let id = format!("snapshot.id={}", snapshot["id"].as_str().unwrap());
        tool(&["convert", "-f", "qcow2", "-O", "raw", "-l", &id, image, to]);
        let has_memory = snapshot["vm-state-size"] != 0;
        what.insert(
            format!("snapshot {name}"),
            json!([hash(raw.path()), has_memory]),
        );
    }
    json!({
        "size": info["virtual-size"],
        "below": info["full-backing-filename"],
        "reads": what,
    })
}

fn hash(file: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    std::fs::read(file).unwrap().hash(&mut hasher);
    hasher.finish()
}

/// An operation that was recorded.
struct Recorded {
    changes: Vec<Change>,
    before: String,
    after: String,
    /// When it was done twice.
    again: String,
}

impl Case {
    #[track_caller]
    fn record(&self) -> Recorded {
        let world = World::new(self);
        world.stop();
        let before = world.look(false);
        let restart = || {
            if self.runs {
                world.start();
            }
        };
        restart();
        let done = trace::run(world.sandbox.command_of(self.operation), None);
        assert!(
            done.status.success(),
            "{:?}: {}",
            self.operation,
            done.words
        );
        world.stop();
        let after = world.look(false);
        restart();
        let _ = world.sandbox.maqet(self.operation);
        world.stop();
        let again = world.look(false);
        Recorded {
            changes: done.changes,
            before,
            after,
            again,
        }
    }

    /// Kills it at so many points.
    #[track_caller]
    fn is_whole_or_not_there(&self, kills: usize) {
        let recorded = self.record();
        let points = spread(&recorded.changes, points(&recorded.changes), wanted(kills));
        self.at_each(points, kills, |number, (point, fate), world, ran| {
            let next = [Next::Other, Next::Start, Next::Same][number % 3];
            world.go_on(self, next);
            world.stop();
            let now = world.look(self.runs && matches!(next, Next::Start));
            let is_right = match next {
                Next::Same => now == recorded.after || now == recorded.again,
                Next::Other => now == recorded.before || now == recorded.after,
                Next::Start => recorded.is_either(&now),
            };
            assert!(
                is_right,
                "{}, then {next:?}",
                recorded.told(point, fate, ran, &now)
            );
            world.start();
            self.again(world, &recorded, &now)
        });
    }

    /// Does it so often, or as often as is asked for, with something that happens at one of
    /// these points each time; `after` sees what came of it, and has the VM for the next.
    ///
    /// A point that it does not come to, as it had less to do than when it was recorded,
    /// does not count: there are others.
    #[track_caller]
    fn at_each(
        &self,
        points: Vec<(Point, Fate)>,
        kills: usize,
        mut after: impl FnMut(usize, (Point, Fate), World, &Traced) -> Option<World>,
    ) {
        let wanted = wanted(kills);
        let (mut met, mut last) = (0, None);
        for (number, (point, fate)) in points.into_iter().enumerate() {
            if met == wanted {
                break;
            }
            let (world, ran) = self.meets(last.take(), point, fate);
            met += usize::from(ran.is_met);
            last = after(number, (point, fate), world, &ran);
        }
        let operation = self.operation;
        assert!(
            met >= kills.min(wanted),
            "{operation:?}: killed at {met} points only"
        );
    }

    /// The same VM for the next point, if it is as it was before this one. It runs.
    fn again(&self, world: World, recorded: &Recorded, now: &str) -> Option<World> {
        if now != recorded.before {
            return None;
        }
        if !self.runs {
            world.stop();
        }
        Some(world)
    }

    /// Does it, in a new VM if there is none, and has something happen at a point of it.
    #[track_caller]
    fn meets(&self, world: Option<World>, point: Point, fate: Fate) -> (World, Traced) {
        let world = world.unwrap_or_else(|| World::new(self));
        let fate = match fate {
            Fate::KillOther(_, delay) => Fate::KillOther(world.sandbox.pid("web"), delay),
            fate => fate,
        };
        let command = world.sandbox.command_of(self.operation);
        let ran = trace::run(command, Some((point, fate)));
        (world, ran)
    }
}

/// So many of the points of these changes, from the first to the last, and then the others.
///
/// Most are those where the next change is to the database, or a file gets or loses its name:
/// what is done by then and what is known of it differ there.
fn spread(changes: &[Change], points: Vec<(Point, Fate)>, wanted: usize) -> Vec<(Point, Fate)> {
    let is_weighty = |it: &(Point, Fate)| {
        let Change { own, call, what } = &changes[it.0.at];
        match *call {
            "unlink" | "name" => !what.ends_with("-wal"),
            "write" => *own && what.ends_with("-wal"),
            _ => false,
        }
    };
    let wanted = wanted.min(points.len());
    let (weighty, others): (Vec<_>, Vec<_>) = points.iter().copied().partition(is_weighty);
    let most = weighty.len().min(wanted - wanted / 4);
    let most = most.max(wanted - others.len().min(wanted));
    let evenly = |all: Vec<(Point, Fate)>, many: usize| {
        let (last, gaps) = (all.len().saturating_sub(1), many.saturating_sub(1).max(1));
        (0..many).map(move |number| all[number * last / gaps])
    };
    let mut all: Vec<_> = evenly(weighty, most)
        .chain(evenly(others, wanted - most))
        .collect();
    all.sort_by_key(|(point, _)| (point.at, point.after));
    let left = points.into_iter().filter(|it| !all.contains(it));
    let left: Vec<_> = left.collect();
    all.extend(left);
    all
}

/// So many of them.
fn some(changes: &[Change], wanted: usize) -> impl Iterator<Item = (Point, Fate)> {
    let all = spread(changes, points(changes), wanted);
    all.into_iter().take(wanted)
}

impl Recorded {
    /// Whether it is as before or as after, but for whether the next start goes on with memory:
    /// it was started since, or its QEMU was killed.
    fn is_either(&self, now: &str) -> bool {
        let of = |text: &str| text.replace("\"resumes\": true", "\"resumes\": false");
        [&self.before, &self.after]
            .iter()
            .any(|it| of(it) == of(now))
    }

    /// What has gone wrong, for a person.
    fn told(&self, point: Point, fate: Fate, ran: &Traced, now: &str) -> String {
        let Traced { status, words, .. } = ran;
        let (change, before, after) = (&self.changes[point.at], &self.before, &self.after);
        let done = |it: &Change| {
            format!(
                "{} {} {}",
                if it.own { "maqet" } else { "tool" },
                it.call,
                it.what
            )
        };
        let so_far: Vec<String> = ran.changes.iter().map(done).collect();
        format!(
            "{point:?} ({change:?}), {fate:?}: {status}\n{words}\nnow {now}\nbefore {before}\nafter \
             {after}\n{}",
            so_far.join("\n")
        )
    }
}

/// At how many points something happens to an operation: usually at so many, and
/// `MAQET_TEST_KILLS` says another number.
fn wanted(usual: usize) -> usize {
    let wanted = std::env::var("MAQET_TEST_KILLS").ok();
    wanted.map_or(usual, |points| points.parse().expect("a number"))
}

/// How many changes a command makes, which it does.
#[track_caller]
pub fn count(sandbox: &Sandbox, args: &[&str]) -> usize {
    let ran = trace::run(sandbox.command_of(args), None);
    assert!(ran.status.success(), "{args:?}: {}", ran.words);
    ran.changes.len()
}

/// Runs a command that is killed before its change of that number, if it makes so many.
pub fn at(sandbox: &Sandbox, at: usize, args: &[&str]) {
    let point = Point { at, after: false };
    trace::run(sandbox.command_of(args), Some((point, Fate::Kill)));
}

/// The points between which nothing changes that anybody sees, and who is killed at each.
fn points(changes: &[Change]) -> Vec<(Point, Fate)> {
    let mut points = Vec::new();
    let mut fates = [Fate::Kill, Fate::KillAll, Fate::KillCaller]
        .into_iter()
        .cycle();
    for (at, change) in changes.iter().enumerate() {
        let is_told = change.what == "socket";
        // One file is written piece by piece.
        if at > 0 && changes[at - 1] == *change && !is_told {
            continue;
        }
        let fate = match change.own {
            true => Fate::Kill,
            false => fates.next().expect("they come again"),
        };
        points.push((Point { at, after: false }, fate));
        if is_told && change.own {
            points.push((Point { at, after: true }, fate));
        }
    }
    points
}
