//! A Debian guest that writes and never stops, while its disk is snapshotted, restored, merged and
//! resized.
//!
//! What it has written and synced it acknowledges on its console. Records are numbered and
//! have checksums, and a word in them by which the host tells before from after; so what is
//! on a disk is all that was acknowledged, in order, and nothing that was undone.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use maqet::qmp::{Agent, lock_path};
use serde_json::{Value, json};

use crate::sandbox::{Sandbox, wait_until};

/// Appends records to a file: their number, the word of now, something, and a checksum.
const WRITER: &str = r#"
    use IO::Handle;
    open my $log, '>>', '/mnt/log' or die;
    open my $console, '>', '/dev/ttyS0' or die;
    $console->autoflush(1);
    for (my $n = 1;; $n++) {
        open my $file, '<', '/run/word' or die;
        chomp(my $word = <$file>);
        my $record = "$n $word " . 'x' x ($n * 37 % 300);
        print $log $record . ' ' . unpack('%32W*', $record) . "\n" or die;
        $log->flush && $log->sync or die;
        print $console "wrote $n $word\n";
        select undef, undef, undef, 0.02;
    }
"#;

/// Longer than an emulated Debian takes to do anything on a busy machine.
const LIMIT: Duration = Duration::from_secs(1800);

/// What is in the file of a guest: how many records there are with each word, in order.
type Written = Vec<(String, usize)>;

struct Guest {
    sandbox: Sandbox,
    /// How much of the console is of what was before.
    seen: usize,
}

impl Guest {
    /// One that writes, to a file system on a disk of its own, under the word `one`.
    fn writing() -> Self {
        let sandbox = Sandbox::new();
        let image = sandbox.path("data.raw");
        std::fs::File::create(&image)
            .unwrap()
            .set_len(64 << 20)
            .unwrap();
        tool("mke2fs", &["-q", "-t", "ext4", "-b", "4096"], &image);
        sandbox.add_debian("web", "ready.level = 'agent'\nready.timeout = '30m'");
        let from = ["--from", image.to_str().unwrap()];
        let add = [&["disk", "add", "@web", "data"][..], &from].concat();
        sandbox.maqet(&add).ok();
        sandbox.maqet(&["start", "@web"]).ok();
        let guest = Self { sandbox, seen: 0 };
        guest.shell("mount /dev/vdb /mnt && echo one >/run/word");
        guest.spawn("perl", &["-e", WRITER]);
        guest.goes_on("one");
        guest
    }

    fn maqet(&self, args: &[&str]) {
        self.sandbox.maqet(args).ok();
    }

    fn spawn(&self, program: &str, args: &[&str]) -> Value {
        let mut agent = self.agent();
        let arguments = json!({ "path": program, "arg": args, "capture-output": true });
        let started = agent.execute("guest-exec", arguments).unwrap();
        started["pid"].clone()
    }

    fn agent(&self) -> Agent {
        let socket = self.sandbox.runtime("web").join("agent.sock");
        let mut agent = Agent::open(&socket, &lock_path(&socket), LIMIT).unwrap();
        agent.set_timeout(LIMIT);
        agent
    }

    /// Runs a command in the guest, which must succeed.
    #[track_caller]
    fn shell(&self, command: &str) {
        let pid = self.spawn("sh", &["-c", command]);
        let deadline = Instant::now() + LIMIT;
        loop {
            let status = self
                .agent()
                .execute("guest-exec-status", json!({ "pid": pid }));
            let status = status.unwrap();
            if status["exited"] == true {
                assert_eq!(status["exitcode"], 0, "{command}: {status}");
                return;
            }
            assert!(Instant::now() < deadline, "{command}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn console(&self) -> String {
        let log = std::fs::read(self.sandbox.vm_dir("web").join("console.log"));
        String::from_utf8_lossy(&log.unwrap_or_default()).into_owned()
    }

    /// The last record that was acknowledged with a word, since the VM went back last.
    fn acknowledged(&self, word: &str) -> Option<usize> {
        let console = self.console();
        let lines = console[self.seen..].lines().rev();
        // The last line may not be whole.
        let mut whole = lines.skip(usize::from(!console.ends_with('\n')));
        whole.find_map(|line| {
            let (n, said) = line.trim().strip_prefix("wrote ")?.split_once(' ')?;
            (said == word).then(|| n.parse().ok())?
        })
    }

    /// Has the disk grow to this many MiB, and the file system on it.
    #[track_caller]
    fn grow(&self, size: usize) {
        self.maqet(&["disk", "resize", "@web", "data", &format!("{size}M")]);
        // EXT4_IOC_RESIZE_FS, as resize2fs(8) does, which the guest has not got.
        let blocks = size << 20 >> 12;
        self.shell(&format!(
            "perl -e 'my $blocks = pack q(Q), {blocks}; open F, q(/mnt/log) or die; \
             ioctl F, 0x40086610, $blocks or die $!'"
        ));
    }

    /// Waits until it has written on.
    #[track_caller]
    fn goes_on(&self, word: &str) -> usize {
        let then = self.acknowledged(word).unwrap_or(0);
        let what = format!("the guest writes `{word}`");
        wait_until(&what, || {
            self.acknowledged(word).is_some_and(|now| now > then + 5)
        });
        self.acknowledged(word).unwrap()
    }

    /// Has it write under another word, and waits until it does; its number then.
    #[track_caller]
    fn say(&self, word: &str) -> usize {
        self.shell(&format!(
            "echo {word} >/run/word.new && mv /run/word.new /run/word"
        ));
        self.goes_on(word)
    }

    /// It has gone back: what it says from now on is of the other past.
    fn forget(&mut self) {
        self.seen = self.console().len();
    }

    /// The image of its disk now.
    fn image(&self) -> PathBuf {
        let list = self.sandbox.maqet(&["disk", "ls", "@web", "--json"]).json();
        let mut all = list.as_array().unwrap().iter();
        let data = all.find(|it| it["disk"] == "data").unwrap();
        data["file"].as_str().unwrap().into()
    }

    /// What is on its disk, or was at a snapshot, while it does not run: the file system is
    /// clean, once its journal was replayed unless it was frozen.
    fn written(&self, snapshot: Option<&str>, frozen: bool) -> Written {
        let image = self.image();
        tool("qemu-img", &["check", "-q"], &image);
        let raw = self.sandbox.path("copy.raw");
        let name = snapshot.map(|name| format!("snapshot.name={name}"));
        let snapshot = name.iter().flat_map(|name| ["-l", name]);
        let mut args = vec!["convert", "-f", "qcow2", "-O", "raw"];
        args.extend(snapshot);
        args.push(image.to_str().unwrap());
        tool("qemu-img", &args, &raw);
        if !frozen {
            tool("e2fsck", &["-p", "-E", "journal_only"], &raw);
        }
        tool("e2fsck", &["-fn"], &raw);
        let log = self.sandbox.path("log");
        let dump = format!("dump /log {}", log.display());
        tool("debugfs", &["-R", &dump], &raw);
        let log = std::fs::read_to_string(&log).unwrap();
        read(&log)
    }
}

/// Reads records, which must follow each other from the first on, all of them whole.
#[track_caller]
fn read(log: &str) -> Written {
    let mut words: Written = Vec::new();
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    for (index, line) in whole.lines().enumerate() {
        let (record, sum) = line.rsplit_once(' ').unwrap();
        let is: u64 = record.bytes().map(u64::from).sum();
        assert_eq!(sum, is.to_string(), "record {} is torn: {line}", index + 1);
        let mut parts = record.split(' ');
        assert_eq!(parts.next(), Some(&*(index + 1).to_string()), "{line}");
        let word = parts.next().unwrap();
        match words.last_mut() {
            Some((last, count)) if last == word => *count += 1,
            _ => words.push((word.to_owned(), 1)),
        }
    }
    words
}

/// It has been written under these words and no others, and up to this record at least.
#[track_caller]
fn assert_written(written: &Written, words: &[&str], acknowledged: usize) {
    let is: Vec<&str> = written.iter().map(|(word, _)| word.as_str()).collect();
    assert_eq!(is, words);
    let all: usize = written.iter().map(|(_, count)| count).sum();
    assert!(
        all >= acknowledged,
        "{acknowledged} records were acknowledged, and {all} are there"
    );
}

#[track_caller]
fn tool(program: &str, args: &[&str], image: &Path) {
    let output = Command::new(program)
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
        .args(args)
        .arg(image)
        .output()
        .unwrap();
    // e2fsck says 1 if it has replayed a journal.
    let is_fine = match program {
        "e2fsck" if !args.contains(&"-fn") => output.status.code() <= Some(1),
        _ => output.status.success(),
    };
    assert!(is_fine, "{program} {args:?}: {output:?}");
}

#[test]
fn what_a_guest_has_synced_is_on_its_disk_through_snapshots_restores_merges_and_resizes() {
    let mut guest = Guest::writing();
    let create = |name: &'static str| ["snapshot", "create", "@web", name];
    let before_all = guest.goes_on("one");
    guest.maqet(&create("all"));

    // It grows, and is frozen for a moment.
    guest.say("two");
    guest.grow(96);
    let before_disks = guest.goes_on("two");
    guest.maqet(&[&create("disks")[..], &["--disk-only", "--quiesce"]].concat());
    guest.say("three");

    // Back, with its memory: it never was larger, nor wrote `two`.
    guest.maqet(&["snapshot", "restore", "@web", "all"]);
    guest.forget();
    guest.say("four");

    // In an overlay, which grows and is merged while it writes.
    guest.maqet(&[&create("beside")[..], &["--external", "--quiesce"]].concat());
    guest.say("five");
    guest.grow(80);
    guest.say("six");
    guest.maqet(&["snapshot", "merge", "@web", "beside"]);
    guest.say("seven");
    let last = guest.goes_on("seven");

    // Its power is cut.
    guest.maqet(&["stop", "--force", "@web"]);
    let words = ["one", "four", "five", "six", "seven"];
    assert_written(&guest.written(None, false), &words, last);
    assert_written(&guest.written(Some("all"), false), &["one"], before_all);
    let disks = guest.written(Some("disks"), true);
    assert_written(&disks, &["one", "two"], before_disks);

    // From the disks alone it would boot there, and with memory it goes on.
    guest.maqet(&["snapshot", "restore", "@web", "disks"]);
    assert_eq!(guest.written(None, true), disks);
    guest.maqet(&["snapshot", "restore", "@web", "all"]);
    guest.maqet(&["start", "@web"]);
    guest.forget();
    guest.say("eight");
    guest.maqet(&[&create("again")[..], &["--external"]].concat());
    let last = guest.say("nine");
    guest.maqet(&["stop", "--force", "@web"]);
    assert_written(&guest.written(None, false), &["one", "eight", "nine"], last);
    guest.maqet(&["snapshot", "merge", "@web", "again"]);
    assert_written(&guest.written(None, false), &["one", "eight", "nine"], last);
}
