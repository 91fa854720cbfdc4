use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rusqlite::{Connection, params};
use serde_json::{Value, json};

use crate::sandbox::Sandbox;

/// The tables of a database of Python maqet 0.0.15.
const SCHEMA: &str = "
    CREATE TABLE vm_instances (
        id TEXT PRIMARY KEY, name TEXT UNIQUE NOT NULL, config_path TEXT, config_data TEXT NOT NULL,
        status TEXT NOT NULL DEFAULT 'created', pid INTEGER, runner_pid INTEGER, socket_path TEXT,
        created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
        qmp_socket_path TEXT);
    CREATE TABLE schema_version (version INTEGER PRIMARY KEY, applied_at TIMESTAMP, description TEXT);
    INSERT INTO schema_version (version) VALUES (6);";

/// A database of Python maqet, in a directory of its own.
struct Python {
    dir: PathBuf,
    db: Connection,
}

impl Python {
    fn new(sandbox: &Sandbox) -> Self {
        let dir = sandbox.path("old, %41");
        fs::create_dir(&dir).unwrap();
        let db = Connection::open(dir.join("instances.db")).unwrap();
        db.pragma_update(None, "journal_mode", "wal").unwrap();
        db.execute_batch(SCHEMA).unwrap();
        Self { dir, db }
    }

    fn add(&self, id: &str, name: &str, definition: &Value) {
        let row = params![id, name, definition.to_string()];
        let sql = "INSERT INTO vm_instances (id, name, config_data) VALUES (?1, ?2, ?3)";
        self.db.execute(sql, row).unwrap();
    }

    /// All that is in it, and in its directory.
    fn content(&self) -> (Vec<PathBuf>, Vec<u8>) {
        let mut files: Vec<_> = fs::read_dir(&self.dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        (files, fs::read(self.dir.join("instances.db")).unwrap())
    }
}

/// A process that has such words as its command line, until it is dropped.
struct Running(Child);

impl Running {
    fn with(words: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command
            .args(["-c", "read line", "sh"])
            .args(words)
            .stdin(Stdio::piped());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn disk(path: &Path) -> Value {
    json!({"name": "hdd", "type": "raw", "file": path, "size": "1M", "interface": "virtio"})
}

#[test]
fn vms_of_python_maqet_are_taken_over_with_their_disks_where_they_are() {
    let sandbox = Sandbox::new();
    let old = Python::new(&sandbox);
    let image = sandbox.path("disk.raw");
    fs::write(&image, vec![7; 1 << 20]).unwrap();
    let name = sandbox.name("web");
    old.add(
        "0b5e3d2c-0000-4000-8000-000000000001",
        &name,
        &json!({"memory": "64M", "cpu": 1, "arguments": ["S", {"display": "none"}], "storage": [disk(&image)]}),
    );
    let before = old.content();
    let from = old.dir.to_str().unwrap();

    let tried = sandbox
        .maqet(&["migrate", "--from", from, "--dry-run"])
        .ok();
    assert!(
        tried.stdout.contains("memory = \"64M\""),
        "{}",
        tried.stdout
    );
    sandbox.maqet(&["show", "@web"]).fails(4);

    let done = sandbox.maqet(&["migrate", "--from", from, "--json"]).json();
    assert_eq!(done["name"], *name);
    assert_eq!(done["made"], json!([]));
    assert_eq!(old.content(), before, "the old database is as it was");

    sandbox.maqet(&["start", "@web"]).ok();
    assert_eq!(sandbox.state("web"), "prelaunch");
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    // It is the user's, and stays.
    sandbox.maqet(&["rm", "--disks", "@web"]).ok();
    assert_eq!(fs::read(&image).unwrap(), vec![7; 1 << 20]);
}

#[test]
fn a_vm_that_still_runs_under_python_maqet_is_refused() {
    let sandbox = Sandbox::new();
    let old = Python::new(&sandbox);
    let from = old.dir.to_str().unwrap();
    let id = "0b5e3d2c-0000-4000-8000-0000000000";
    let ids: Vec<String> = (10..13).map(|i| format!("{id}{i}")).collect();
    for (id, short) in ids.iter().zip(["qemu", "runner", "socket"]) {
        old.add(
            id,
            &sandbox.name(short),
            &json!({"memory": "64M", "arguments": ["S"]}),
        );
    }
    let socket = sandbox.path("old.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    old.db
        .execute(
            "UPDATE vm_instances SET qmp_socket_path = ?1 WHERE id = ?2",
            params![socket.to_str(), ids[2]],
        )
        .unwrap();
    // What the database says of processes went stale, and so it does of these.
    let chardev = format!("socket,id=mon,path=/run/{}.sock", ids[0]);
    let qemu = Running::with(&["-chardev", &chardev, "-mon", "chardev=mon,mode=control"]);
    let runner = Running::with(&["-m", "maqet.vm_runner", &ids[1], "instances.db"]);

    let refused = sandbox.maqet(&["migrate", "--from", from]).fails(1);
    for (short, pid) in [
        ("qemu", Some(qemu.0.id())),
        ("runner", Some(runner.0.id())),
        ("socket", None),
    ] {
        let process = pid
            .map(|pid| format!(" (process {pid})"))
            .unwrap_or_default();
        let name = sandbox.name(short);
        let told = format!("VM `{name}` still runs under Python maqet{process}\n");
        assert!(refused.stderr.contains(&told), "{}", refused.stderr);
        sandbox.maqet(&["show", &name]).fails(4);
    }
    drop((qemu, runner, listener));
    sandbox.maqet(&["migrate", "--from", from]).ok();
}

#[test]
fn each_vm_is_taken_over_whole_or_not_at_all() {
    let sandbox = Sandbox::new();
    let old = Python::new(&sandbox);
    let from = old.dir.to_str().unwrap();
    let id = |i: u32| format!("0b5e3d2c-0000-4000-8000-{i:012}");
    let made = sandbox.path("made.raw");
    sandbox.add_prelaunch("taken");
    let fits = json!({"memory": "64M", "arguments": ["S"], "storage": [disk(&made)]});
    let wrong = json!({"memory": "lots", "storage": [disk(&sandbox.path("never.raw"))]});
    for (i, (name, definition)) in [
        (sandbox.name("fits"), &fits),
        (sandbox.name("taken"), &fits),
        (
            format!("{}.prod", sandbox.name("web")),
            &json!({"memory": "64M"}),
        ),
        (sandbox.name("wrong"), &wrong),
    ]
    .into_iter()
    .enumerate()
    {
        old.add(&id(i as u32), &name, definition);
    }

    let dotted = format!("{}.prod", sandbox.name("web"));
    let dashed = format!("{}-prod", sandbox.name("web"));
    sandbox
        .maqet(&["migrate", "--from", from])
        .fails(1)
        .saying(&format!("VM `{}` taken over", sandbox.name("fits")))
        .saying(&format!(
            "there is a VM `{}` already",
            sandbox.name("taken")
        ))
        .saying(&format!("`{dotted}` cannot name a VM here"))
        .saying(&format!("`--rename {dotted}={dashed}`"))
        .saying("instances.db/")
        .saying("\"memory\": \"lots\"");
    assert!(made.exists());
    assert!(!sandbox.path("never.raw").exists());
    assert!(!sandbox.vm_dir("wrong").exists());
    sandbox.maqet(&["show", "@wrong"]).fails(4);

    sandbox
        .maqet(&[
            "migrate",
            "--from",
            from,
            "--rename",
            &format!("{dotted}={dashed}"),
            &dotted,
        ])
        .ok();
    sandbox.maqet(&["show", &dashed]).ok();
    sandbox.maqet(&["rm", &dashed]).ok();
    sandbox
        .maqet(&["migrate", "--from", from, "nobody"])
        .fails(4)
        .saying("no VM of Python maqet is named `nobody`");
    sandbox
        .maqet(&["migrate", "--from", "nowhere"])
        .fails(1)
        .saying("nowhere is no database of Python maqet");
    fs::write(sandbox.path("junk"), "junk").unwrap();
    sandbox
        .maqet(&["migrate", "--from", "junk"])
        .fails(1)
        .saying("junk");
}

#[test]
fn old_spellings_are_done_and_told_anew() {
    let sandbox = Sandbox::new();
    let name = sandbox.name("web");
    fs::write(sandbox.path("old.yaml"), "memory: 64M\narguments: [S]\n").unwrap();
    sandbox
        .maqet(&["add", "--vm-config", "old.yaml", "--name", &name])
        .ok()
        .saying(&format!("now this is `maqet add old.yaml --name {name}`"));
    let shown = sandbox.maqet(&["info", "@web"]).ok();
    assert_eq!(shown.stdout, sandbox.maqet(&["show", "@web"]).ok().stdout);
    sandbox.maqet(&["start", "@web"]).ok();
    let ran = sandbox
        .maqet(&["qmp", "run", "@web", "query-status"])
        .ok()
        .saying(&format!("now this is `maqet qmp {name} query-status`"));
    assert!(ran.stdout.contains("prelaunch"), "{}", ran.stdout);
}

#[test]
fn a_file_that_is_no_database_is_told_as_such() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("x.toml"), "memory = \"1G\"\n".repeat(99)).unwrap();
    let ran = sandbox.maqet(&["migrate", "--from", "x.toml"]).fails(1);
    let ran = ran.saying("cannot read x.toml as a database of Python maqet");
    assert!(!ran.stderr.contains("--rebuild"), "{}", ran.stderr);
}
