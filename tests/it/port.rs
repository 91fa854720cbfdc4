use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;

use serde_json::Value;

use crate::sandbox::{PATIENCE, Ran, Sandbox, free_ports, signal, wait_until};

/// Adds the probe guest with further keys. It does not run yet when it is started.
fn add_stopped(sandbox: &Sandbox, words: &str, settings: &[&str]) {
    let settings = settings.iter().flat_map(|it| ["--set", it]);
    let options: Vec<&str> = ["--qemu-arg=-S"].into_iter().chain(settings).collect();
    sandbox.add_probe_with("web", words, &options);
}

/// Reads until it comes to `text`, from a thread of its own: a terminal knows no timeout.
fn expect(mut stream: impl Read + Send + 'static, text: &'static str) -> mpsc::Receiver<()> {
    let (found, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut read = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            read.extend_from_slice(&buffer[..length]);
            if String::from_utf8_lossy(&read).contains(text) {
                // Nobody waits for it any more when the test has failed.
                let _ = found.send(());
                break;
            }
        }
    });
    receiver
}

/// Where `status` says that a port or display is. Some of that QEMU has to tell, and in time.
fn address(sandbox: &Sandbox, name: &str) -> String {
    let mut address = None;
    wait_until(&format!("the address of {name} is known"), || {
        let status: Value = sandbox.maqet(&["status", "@web", "--json"]).json();
        let endpoints = status["endpoints"].as_array().unwrap();
        let endpoint = endpoints.iter().find(|it| it["name"] == name);
        let endpoint = endpoint.unwrap_or_else(|| panic!("{name} is not in {status}"));
        address = endpoint["address"].as_str().map(str::to_owned);
        address.is_some()
    });
    address.unwrap()
}

/// What systemd does every half minute. It complains of a VM that another test deletes
/// meanwhile.
fn trim(sandbox: &Sandbox) {
    wait_until("all is trimmed", || {
        sandbox.maqet(&["internal", "trim"]).status == 0
    });
}

#[test]
fn what_a_guest_writes_to_its_ports_comes_out_at_their_other_ends() {
    let sandbox = Sandbox::new();
    let [tcp, _] = free_ports();
    let log = sandbox.path("log, of it");
    add_stopped(
        &sandbox,
        "console=hvc0 probe.say=ttyS1,ttyS2,ttyS3",
        &[
            "port.second.type=serial",
            "port.third.type=serial",
            &format!("port.third.tcp=127.0.0.1:{tcp}"),
            "port.fourth.type=serial",
            "port.fourth.pty=true",
            "port.console.type=virtio",
            &format!("port.console.file={}", log.display()),
        ],
    );
    sandbox.maqet(&["start", "@web"]).ok();

    let socket = sandbox.runtime("web").join("second.sock");
    let second = UnixStream::connect(&socket).unwrap();
    let third = TcpStream::connect(address(&sandbox, "third")).unwrap();
    let fourth = File::open(address(&sandbox, "fourth")).unwrap();
    let ends = [
        ("ttyS1", expect(second, "probe: this is ttyS1")),
        ("ttyS2", expect(third, "probe: this is ttyS2")),
        ("ttyS3", expect(fourth, "probe: this is ttyS3")),
    ];
    sandbox.maqet(&["resume", "@web"]).ok();
    for (name, end) in ends {
        end.recv_timeout(PATIENCE)
            .unwrap_or_else(|_| panic!("nothing comes from {name}"));
    }
    assert_eq!(address(&sandbox, "console"), log.to_str().unwrap());
    wait_until("the file says that it is up", || {
        fs::read(&log).is_ok_and(|log| String::from_utf8_lossy(&log).contains("probe: ready"))
    });
    let said = sandbox
        .maqet(&["logs", "@web", "--port", "console", "-n", "500"])
        .ok()
        .stdout;
    assert!(said.contains("probe: ready"), "{said}");
    // Whoever was connected, it is in the logs, too.
    for (port, text) in [("second", "ttyS1"), ("third", "ttyS2"), ("fourth", "ttyS3")] {
        let said = sandbox.maqet(&["logs", "@web", "--port", port]).ok().stdout;
        assert!(
            said.contains(&format!("probe: this is {text}")),
            "{port}: {said}"
        );
    }
    for words in [socket.to_str().unwrap(), "pty  fourth /dev/pts/"] {
        wait_until(&format!("`status` shows {words}"), || {
            let shown = sandbox.maqet(&["status", "@web"]).ok().stdout;
            shown.contains(words)
        });
    }
}

#[test]
fn a_file_that_a_port_fills_is_bounded_while_the_port_writes_to_it() {
    let sandbox = Sandbox::new();
    let log = sandbox.path("log");
    // As if it had printed that before: a guest takes minutes for so much.
    fs::write(&log, vec![b'x'; 9 << 20]).unwrap();
    let blocks = || fs::metadata(&log).unwrap().blocks() * 512;
    add_stopped(
        &sandbox,
        "console=hvc0",
        &[
            "port.console.type=virtio",
            &format!("port.console.file={}", log.display()),
        ],
    );
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.maqet(&["resume", "@web"]).ok();
    let says_ready = || {
        let log = fs::read(&log).unwrap();
        String::from_utf8_lossy(&log).contains("probe: ready")
    };
    wait_until("the guest is up", says_ready);
    trim(&sandbox);
    assert!(fs::metadata(&log).unwrap().len() > 9 << 20);
    assert!(blocks() < 5 << 20, "{}", blocks());
    assert!(says_ready());

    // A run without the port has no more to do with the file.
    sandbox.maqet(&["stop", "@web", "--force"]).ok();
    sandbox.maqet(&["unset", "@web", "port.console"]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    let mut file = File::options().append(true).open(&log).unwrap();
    file.write_all(&vec![b'x'; 9 << 20]).unwrap();
    trim(&sandbox);
    assert!(blocks() > 9 << 20, "{}", blocks());
}

#[test]
fn a_port_that_listens_where_another_does_is_refused() {
    let sandbox = Sandbox::new();
    let [port, _] = free_ports();
    let lines = format!("[port.a]\ntype = 'serial'\ntcp = '127.0.0.1:{port}'\n");
    sandbox.add_lines("one", &lines);
    let screen = format!("[display]\ntype = 'spice'\nlisten = '127.0.0.1:{port}'\n");
    sandbox.try_lines("two", &screen).ok().saying(&format!(
        "VM `{}` has port {port} of the host, too",
        sandbox.name("one")
    ));
    sandbox.maqet(&["start", "@one"]).ok();
    sandbox
        .maqet(&["start", "@two"])
        .fails(1)
        .saying(&format!("port {port} (tcp, 127.0.0.1)"))
        .saying(&format!("VM `{}` has it", sandbox.name("one")))
        .saying("another port in `display.listen`");
    sandbox
        .try_lines("three", &(lines + &screen))
        .fails(1)
        .saying(&format!("`port.a.tcp` has port {port} of the host already"));
}

#[test]
fn what_a_guest_writes_to_a_port_is_kept_though_nobody_is_connected() {
    let sandbox = Sandbox::new();
    add_stopped(
        &sandbox,
        "console=hvc0 probe.say=ttyS1",
        &[
            "port.second.type=serial",
            "port.first.type=virtio",
            "port.data.type=virtio-port",
        ],
    );
    let logs = |options: &[&str]| sandbox.maqet(&[&["logs", "@web"], options].concat());
    logs(&["--port", "second"])
        .fails(1)
        .saying("there is no log");
    sandbox.maqet(&["start", "@web"]).ok();
    let mut follower = sandbox.spawn(&["logs", "@web", "--port", "first", "--follow"]);
    let mut lines = BufReader::new(follower.stdout.take().unwrap());
    assert_eq!(logs(&["--port", "second"]).ok().stdout, "");
    sandbox.maqet(&["resume", "@web"]).ok();
    let log = sandbox.vm_dir("web").join("port-second.log");
    wait_until("the port's log has what the guest says", || {
        fs::read_to_string(&log).is_ok_and(|log| log.contains("probe: this is ttyS1\r\n"))
    });
    let mode = fs::metadata(&log).unwrap().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let said = logs(&["--port", "second", "--json", "-n", "1"]).json();
    assert_eq!(said["line"], "probe: this is ttyS1");
    let mut line = String::new();
    while !line.contains("probe: ready") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it follows");
    }
    // A guest that prints without end fills no disk.
    let mut file = File::options().append(true).open(&log).unwrap();
    file.write_all(&vec![b'x'; 9 << 20]).unwrap();
    trim(&sandbox);
    assert!(fs::metadata(&log).unwrap().blocks() * 512 < 5 << 20);

    for (port, status, words) in [
        ("data", 1, "port `data` of VM"),
        ("data", 1, "`port.data.file` can name a file"),
        ("nosuch", 1, "has no port `nosuch`"),
        ("nosuch", 1, "it has `second`, `first`, `data`"),
        ("a b", 2, "a b"),
    ] {
        logs(&["--port", port]).fails(status).saying(words);
    }
    logs(&["--port", "second", "--run", "-2"])
        .fails(1)
        .saying("run");

    // The next run has a log of its own, which a follower goes on with.
    sandbox.maqet(&["stop", "@web", "--force"]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    assert_eq!(logs(&["--port", "second"]).ok().stdout, "");
    let before = logs(&["--port", "first", "--run", "-1"]).ok().stdout;
    assert!(before.contains("probe: ready"), "{before}");
    sandbox.maqet(&["resume", "@web"]).ok();
    line.clear();
    while !line.contains("probe: ready") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it follows");
    }
    signal(follower.id(), libc::SIGTERM);
    let _ = Ran::of(follower);
    sandbox.maqet(&["stop", "@web", "--force"]).ok();

    let orphans = sandbox.maqet(&["disk", "orphans"]).ok().stdout;
    assert!(!orphans.contains("port-"), "{orphans}");
    sandbox.maqet(&["rm", "@web"]).ok();
    assert!(!sandbox.vm_dir("web").exists());
    sandbox.add_lines("db", "");
    sandbox
        .maqet(&["logs", "@db", "--port", "x"])
        .fails(1)
        .saying("--console");
}
