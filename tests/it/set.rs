use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::sandbox::{PATIENCE, Ran, Sandbox, free_ports, wait_until};

#[test]
fn the_definition_s_properties_are_the_unit_s() {
    let sandbox = Sandbox::new();
    sandbox.add(
        "web",
        &[
            "--qemu-arg=-S",
            "--unit=MemoryMax=2G",
            "--unit=CPUQuota=150%",
            "--unit=Environment=A='b c'",
            "--unit=Environment=D=e",
            "--unit=RestartSec=1min 30s",
        ],
    );
    sandbox.maqet(&["start", "@web"]).ok();
    assert_eq!(sandbox.property("web", "MemoryMax"), "2147483648");
    assert_eq!(sandbox.property("web", "CPUQuotaPerSecUSec"), "1.500000s");
    assert_eq!(sandbox.property("web", "RestartUSec"), "1min 30s");
    let environment = fs::read(format!("/proc/{}/environ", sandbox.pid("web"))).unwrap();
    let variables: Vec<&[u8]> = environment.split(|b| *b == 0).collect();
    for wanted in ["A='b c'", "D=e"] {
        assert!(variables.contains(&wanted.as_bytes()), "{wanted}");
    }
    assert!(
        variables
            .iter()
            .any(|variable| variable.starts_with(b"PATH="))
    );
}

#[test]
fn what_systemd_refuses_is_told_in_its_words_and_nothing_starts() {
    let sandbox = Sandbox::new();
    sandbox.add("web", &["--qemu-arg=-S", "--unit=DeviceAllow=x r"]);
    sandbox
        .maqet(&["start", "@web"])
        .fails(1)
        .saying("DeviceAllow= requires device node");
    assert_eq!(sandbox.state("web"), "stopped");
    assert!(sandbox.qemus("web").is_empty());
}

#[test]
fn what_is_wrong_with_a_property_is_found_when_the_vm_is_added() {
    let sandbox = Sandbox::new();
    let text =
        "memory = \"4G\"\n[unit]\nMemoryMax = \"3G\"\nMemoryHihg = \"1G\"\nKillMode = \"none\"\n";
    fs::write(sandbox.path("web.toml"), text).unwrap();
    let ran = sandbox.maqet(&["add", "web.toml"]).fails(1);
    ran.saying("web.toml:3:13: a MemoryMax of 3072 MiB is too little")
        .saying("web.toml:4:1: unknown property `MemoryHihg`, did you mean `MemoryHigh`?")
        .saying("web.toml:5:1: `KillMode` cannot be set");
    sandbox.maqet(&["show", "web"]).fails(4).saying("no VM");
}

#[test]
fn a_running_vm_is_changed_at_once_and_its_definition_only_if_asked() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    let before = sandbox.maqet(&["show", "@web"]).ok().stdout;
    sandbox
        .maqet(&["set", "@web", "MemoryHigh=3G", "CPUQuota=150%"])
        .ok()
        .saying("unit.MemoryHigh: none -> 3G, until it stops")
        .saying("unit.CPUQuota: none -> 150%, until it stops");
    assert_eq!(sandbox.property("web", "MemoryHigh"), "3221225472");
    assert_eq!(sandbox.property("web", "CPUQuotaPerSecUSec"), "1.500000s");
    assert_eq!(sandbox.maqet(&["show", "@web"]).ok().stdout, before);

    sandbox
        .maqet(&["set", "@web", "MemoryHigh=2G", "RestartSec=9", "--persist"])
        .ok()
        .saying("unit.MemoryHigh: none -> 2G\n")
        .saying("unit.RestartSec: none -> 9, from its next start on");
    assert_eq!(sandbox.property("web", "MemoryHigh"), "2147483648");
    let after = sandbox.maqet(&["show", "@web"]).ok().stdout;
    assert!(
        after.contains("MemoryHigh = \"2G\"\nRestartSec = \"9\""),
        "{after}"
    );
    sandbox
        .maqet(&["set", "@web", "MemoryHigh=", "RestartSec=", "--persist"])
        .ok();
    assert_eq!(sandbox.property("web", "MemoryHigh"), "infinity");
    let after = sandbox.maqet(&["show", "@web"]).ok().stdout;
    assert!(!after.contains("MemoryHigh"), "{after}");
}

#[test]
fn one_wrong_word_among_several_changes_nothing() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    let before = sandbox.maqet(&["show", "@web"]).ok().stdout;
    for (wrong, words) in [
        ("MemoryHihg=1G", "did you mean `MemoryHigh`?"),
        ("CPUWeight=a", "it is a weight"),
        ("MemoryMax=100M", "are 580 MiB"),
        // Only systemd knows this.
        ("DeviceAllow=x r", "DeviceAllow= requires device node"),
    ] {
        for persist in [&[][..], &["--persist"]] {
            let args = [&["set", "@web", "TasksMax=99", wrong], persist].concat();
            let ran = sandbox.maqet(&args);
            let is_systemd_s = wrong.starts_with("DeviceAllow");
            ran.fails(if is_systemd_s { 1 } else { 2 }).saying(words);
        }
    }
    sandbox
        .maqet(&["set", "@web", "TasksMax=99", "Restart=on-failure"])
        .fails(1)
        .saying("Cannot set property Restart")
        .saying("`--persist`");
    sandbox
        .maqet(&["set", "@web", "memory"])
        .fails(2)
        .saying("is not KEY=VALUE");
    // All of them are told together, whatever they are of.
    let all = ["MemoryHihg=1G", "MemoryMax=100M", "memroy=1G", "cpus=many"];
    sandbox
        .maqet(&[&["set", "@web", "TasksMax=99"], &all[..]].concat())
        .fails(2)
        .saying("did you mean `MemoryHigh`?")
        .saying("are 580 MiB")
        .saying("did you mean `memory`?")
        .saying("expected a whole number");
    assert_ne!(sandbox.property("web", "TasksMax"), "99");
    assert_eq!(sandbox.maqet(&["show", "@web"]).ok().stdout, before);
}

#[test]
fn a_stopped_vm_has_only_a_definition_to_change() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox
        .maqet(&["set", "@web", "CPUWeight=200"])
        .fails(3)
        .saying("`--persist`");
    sandbox
        .maqet(&["set", "@web", "CPUWeight=200", "--persist"])
        .ok()
        .saying("unit.CPUWeight: none -> 200, from its next start on");
    sandbox.maqet(&["start", "@web"]).ok();
    assert_eq!(sandbox.property("web", "CPUWeight"), "200");
    sandbox.maqet(&["set", "@nobody", "CPUWeight=1"]).fails(4);
}

#[test]
fn a_definition_changed_by_two_at_once_has_both_changes() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    let changes: Vec<_> = [
        "CPUWeight=1",
        "IOWeight=2",
        "TasksMax=333",
        "Nice=4",
        "MemoryLow=5",
    ]
    .iter()
    .map(|change| sandbox.spawn(&["set", "@web", change, "--persist"]))
    .collect();
    for change in changes {
        Ran::of(change).ok();
    }
    let text = sandbox.maqet(&["show", "@web"]).ok().stdout;
    for key in ["CPUWeight", "IOWeight", "TasksMax", "Nice", "MemoryLow"] {
        assert!(text.contains(key), "{key} is lost:\n{text}");
    }
}

#[test]
fn keys_of_the_definition_are_changed_and_wait_for_the_next_start() {
    let sandbox = Sandbox::new();
    let text = "# A web server.\nmemory = \"64M\" # small\naccel = \"tcg\"\nqemu.args = [\"-S\"]\n";
    let file = format!("{}.toml", sandbox.name("web"));
    fs::write(sandbox.path(&file), text).unwrap();
    sandbox.maqet(&["add", &file]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox
        .maqet(&["set", "@web", "memory=96M", "cpus=2", "disk.data.size=1M"])
        .ok()
        .saying("memory: 64M -> 96M, from its next start on")
        .saying("cpus: 1 -> 2, from its next start on")
        .saying("disk.data: none -> { size = \"1M\" }, from its next start on")
        .saying("made ");
    let shown = sandbox.maqet(&["show", "@web"]).ok().stdout;
    assert!(
        shown.starts_with("# A web server.\nmemory = \"96M\" # small\n"),
        "{shown}"
    );
    assert!(sandbox.vm_dir("web").join("data.qcow2").exists());
    let runs_with = || sandbox.listed("web")["cpus"].clone();
    assert_eq!(runs_with(), 1);
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    assert_eq!(runs_with(), 2);
    let memory = sandbox
        .maqet(&["qmp", "@web", "query-memory-size-summary"])
        .json();
    assert_eq!(memory["base-memory"], 96 << 20);
}

#[test]
fn a_limit_in_the_definition_is_changed_at_once_unless_told_otherwise() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox
        .maqet(&[
            "set",
            "@web",
            "unit.CPUWeight=200",
            "unit.Nice=3",
            "description=it",
        ])
        .ok()
        .saying("description: none -> it\n")
        .saying("unit.CPUWeight: none -> 200\n")
        .saying("unit.Nice: none -> 3, from its next start on");
    assert_eq!(sandbox.property("web", "CPUWeight"), "200");
    sandbox
        .maqet(&["set", "@web", "unit.CPUWeight=300", "--no-live"])
        .ok()
        .saying("unit.CPUWeight: 200 -> 300, from its next start on");
    assert_eq!(sandbox.property("web", "CPUWeight"), "200");
    // The same again does now what it did not do.
    let changed = sandbox
        .maqet(&["set", "@web", "unit.CPUWeight=300", "--json"])
        .json();
    assert_eq!(changed["persisted"], false, "{changed}");
    assert_eq!(changed["changes"][0]["when"], "now", "{changed}");
    assert_eq!(sandbox.property("web", "CPUWeight"), "300");
}

#[test]
fn all_mistakes_are_told_together_and_nothing_is_changed() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    let before = sandbox.maqet(&["show", "@web"]).ok().stdout;
    let words = [
        "memroy=4G",
        "cpus=many",
        "disk.root.size=1X",
        "agent=perhaps",
    ];
    let ran = sandbox
        .maqet(&[&["set", "@web"][..], &words].concat())
        .fails(2);
    ran.saying("memroy=4G: unknown key `memroy`, did you mean `memory`?")
        .saying("cpus=many: ")
        .saying("expected a whole number")
        .saying("disk.root.size=1X: `1X` is not a size")
        .saying("agent=perhaps: ")
        .saying("expected `true` or `false`");
    // The exit status of all that could be seen on the command line is 2.
    for (word, words, status) in [
        ("name=other", "a name is not changed so", 1),
        ("after+=@web", "cannot name a VM", 2),
        ("memory-=64M", "memory-=64M: `memory` has no items", 2),
        ("unit.MemoryMax=1M", "is too little", 2),
        ("unit.MemoryHihg=1G", "did you mean `MemoryHigh`?", 2),
        ("dsk.root.size=1G", "did you mean `disk`?", 2),
        ("memory.sise=1G", "did you mean `size`?", 2),
        ("memory=", "memory=: `` is not a size", 2),
        ("agent.x=1", "agent.x=1: invalid type: a table", 2),
        ("disk.root.file=/nonexistent/x.qcow2", "does not exist", 1),
    ] {
        sandbox
            .maqet(&["set", "@web", "cpus=2", word])
            .fails(status)
            .saying(words);
    }
    assert_eq!(sandbox.maqet(&["show", "@web"]).ok().stdout, before);
    sandbox.maqet(&["set", "@nobody", "cpus=1"]).fails(4);
}

#[test]
fn keys_changed_by_many_at_once_are_all_there() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    let words: Vec<String> = (0..8).map(|n| format!("after+=vm{n}")).collect();
    let changes: Vec<_> = words
        .iter()
        .map(|word| sandbox.spawn(&["set", "@web", word]))
        .collect();
    for change in changes {
        Ran::of(change).ok();
    }
    let shown = sandbox.maqet(&["show", "--json", "@web"]).json();
    let mut after: Vec<_> = shown["after"].as_array().unwrap().clone();
    after.sort_by_key(ToString::to_string);
    let expected: Vec<String> = (0..8).map(|n| format!("vm{n}")).collect();
    assert_eq!(after, expected);
}

#[test]
fn a_relative_path_is_relative_to_where_one_is() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    fs::write(sandbox.path("a b.raw"), vec![0; 1 << 16]).unwrap();
    sandbox
        .maqet(&["set", "@web", "disk.data.file=a b.raw"])
        .ok();
    let shown = sandbox.maqet(&["show", "--json", "@web"]).json();
    assert_eq!(
        shown["disk"]["data"]["file"].as_str(),
        sandbox.path("a b.raw").to_str()
    );
}

/// Whether somebody listens on a port of this host.
fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[test]
fn forwarded_ports_come_and_go_while_the_vm_runs() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    let [one, two] = free_ports();
    // The network that a definition has by default.
    sandbox
        .maqet(&["set", "@web", &format!("net.net0.forward={one}:22")])
        .ok()
        .saying(&format!("net.net0.forward: [] -> [\"{one}:22\"]\n"));
    assert!(listens(one));
    sandbox
        .maqet(&["set", "@web", &format!("net.net0.forward+=udp:{two}:53")])
        .ok();
    sandbox
        .maqet(&["set", "@web", &format!("net.net0.forward+={two}:80")])
        .ok();
    assert!(listens(one) && listens(two));
    sandbox
        .maqet(&[
            "set",
            "@web",
            &format!("net.net0.forward-={one}:22"),
            "cpus=2",
        ])
        .ok()
        .saying("cpus: 1 -> 2, from its next start on");
    assert!(!listens(one) && listens(two));
    // The same port to another one of the guest.
    sandbox
        .maqet(&["set", "@web", &format!("net.net0.forward=[\"{two}:81\"]")])
        .ok();
    let ran = sandbox.maqet(&["hmp", "@web", "info", "usernet"]).ok();
    assert!(
        ran.stdout.contains(" 81 ") && !ran.stdout.contains("UDP"),
        "{}",
        ran.stdout
    );
    sandbox.maqet(&["unset", "@web", "net"]).ok();
    assert!(!listens(two));
    let waits = sandbox.maqet(&["diff", "--json", "@web"]).json();
    assert_eq!(waits.as_array().unwrap().len(), 1, "{waits}");
    assert_eq!(waits[0]["key"], "cpus");
}

#[test]
fn a_port_that_is_taken_is_told_and_all_stays_as_it_was() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    let [old, free] = free_ports();
    sandbox
        .maqet(&["set", "@web", &format!("net.net0.forward={old}:22")])
        .ok();
    let before = sandbox.maqet(&["show", "@web"]).ok().stdout;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().port();
    let word = format!("net.net0.forward=[\"{taken}:22\"]");
    sandbox
        .maqet(&["set", "@web", "unit.CPUWeight=7", &word])
        .fails(1)
        .saying("`net.net0.forward`: port ")
        .saying(&format!("process {} (", std::process::id()));
    assert!(listens(old));
    assert_ne!(sandbox.property("web", "CPUWeight"), "7");
    assert_eq!(sandbox.maqet(&["show", "@web"]).ok().stdout, before);
    assert_eq!(sandbox.maqet(&["diff", "@web"]).ok().stdout, "");
    // systemd refuses, when QEMU has done its part already.
    let word = format!("net.net0.forward=[\"{free}:22\"]");
    sandbox
        .maqet(&["set", "@web", &word, "unit.DeviceAllow=x r"])
        .fails(1)
        .saying("requires device node");
    assert!(listens(old) && !listens(free));
    assert_eq!(sandbox.maqet(&["diff", "@web"]).ok().stdout, "");
    drop(listener);
}

/// The forwards that QEMU has, by their ports of the host.
fn forwarded(sandbox: &Sandbox) -> Vec<String> {
    let printed = sandbox
        .maqet(&["hmp", "@web", "info", "usernet"])
        .ok()
        .stdout;
    let lines = printed.lines().filter(|line| line.contains("HOST_FORWARD"));
    let mut ports: Vec<_> = lines
        .map(|line| line.split_whitespace().nth(3).unwrap().to_owned())
        .collect();
    ports.sort();
    ports
}

#[test]
fn killed_at_any_moment_it_leaves_what_diff_shows_and_can_be_done_again() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    let ports = free_ports();
    let began = Instant::now();
    sandbox
        .maqet(&["set", "@web", &format!("net.net0.forward={}:22", ports[0])])
        .ok();
    let whole = began.elapsed();
    for moment in 0..24 {
        let port = ports[(moment + 1) % 2];
        let word = format!("net.net0.forward={port}:22");
        let mut child = sandbox.spawn(&["set", "@web", &word]);
        std::thread::sleep(whole * moment as u32 / 20);
        child.kill().unwrap();
        child.wait().unwrap();

        let defined = sandbox.maqet(&["show", "--json", "@web"]).json();
        let defined = defined["net"]["net0"]["forward"]
            .as_array()
            .unwrap()
            .clone();
        let defined: Vec<String> = defined
            .iter()
            .map(|it| it["host_port"].to_string())
            .collect();
        let waits = sandbox.maqet(&["diff", "--json", "@web"]).json();
        let differs = waits.as_array().unwrap();
        assert_eq!(
            differs.is_empty(),
            forwarded(&sandbox) == defined,
            "{waits}"
        );
        if let Some(it) = differs.first() {
            let has = it["old"].as_array().unwrap();
            let mut has: Vec<String> = has.iter().map(|it| it["host_port"].to_string()).collect();
            has.sort();
            assert_eq!(has, forwarded(&sandbox), "{waits}");
        }
        sandbox.maqet(&["set", "@web", &word]).ok();
        assert_eq!(forwarded(&sandbox), [port.to_string()]);
        assert_eq!(sandbox.maqet(&["diff", "@web"]).ok().stdout, "");
    }
}

/// What a guest's SSH server says first, through a forwarded port.
fn banner(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .ok()?;
    let mut text = [0; 4];
    stream.read_exact(&mut text).ok()?;
    String::from_utf8(text.to_vec()).ok()
}

#[test]
fn a_forwarded_port_answers_is_removed_and_is_added_again() {
    let sandbox = Sandbox::new();
    let [ssh, _] = free_ports();
    sandbox.add_debian("web", &format!("net.lan.forward = [\"{ssh}:22\"]"));
    sandbox.maqet(&["start", "@web"]).ok();
    let answers = || {
        // A whole system boots, on a processor that is emulated.
        let deadline = Instant::now() + 10 * PATIENCE;
        while banner(ssh).as_deref() != Some("SSH-") {
            assert!(Instant::now() < deadline, "no SSH server answers");
        }
    };
    answers();
    sandbox.maqet(&["set", "@web", "net.lan.forward=[]"]).ok();
    assert!(TcpStream::connect(("127.0.0.1", ssh)).is_err());
    sandbox
        .maqet(&["set", "@web", &format!("net.lan.forward+={ssh}:22")])
        .ok();
    answers();
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
}

/// The answer of QEMU to a QMP command.
fn qmp(sandbox: &Sandbox, words: &[&str]) -> serde_json::Value {
    sandbox.maqet(&[&["qmp", "@web"], words].concat()).json()
}

#[test]
fn media_limits_and_links_change_while_the_vm_runs() {
    let sandbox = Sandbox::new();
    let name = sandbox.name("web");
    for iso in ["a,$x.iso", "b.iso"] {
        fs::write(sandbox.path(iso), vec![0; 1 << 20]).unwrap();
    }
    let text = format!(
        "name = \"{name}\"\nmemory = \"64M\"\naccel = \"tcg\"\nqemu.args = [\"-S\"]\n\
         [disk.cd]\ninterface = \"cdrom\"\nfile = \"a,$$x.iso\"\n\
         [disk.data]\nsize = \"1M\"\nlimits.iops = 100\n[net.lan]\n"
    );
    fs::write(sandbox.path("web.toml"), text).unwrap();
    sandbox.maqet(&["add", "web.toml"]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    let medium = || {
        let drives = qmp(&sandbox, &["query-block"]);
        let drives = drives.as_array().unwrap();
        let drive = drives
            .iter()
            .find(|it| it["qdev"].as_str().unwrap().contains("disk-cd"));
        let file = drive.unwrap()["inserted"]["file"]
            .as_str()
            .map(str::to_owned);
        file.map(|file| file.rsplit('/').next().unwrap().to_owned())
    };
    assert_eq!(medium().as_deref(), Some("a,$x.iso"));
    assert_eq!(sandbox.maqet(&["diff", "@web"]).ok().stdout, "");
    let set = |word: &str| sandbox.maqet(&["set", "@web", word]);
    for (word, file) in [
        ("disk.cd.file=b.iso", Some("b.iso")),
        ("disk.cd.file=a,$$x.iso", Some("a,$x.iso")),
    ] {
        let ran = set(word).ok();
        assert!(!ran.stderr.contains("next start"), "{}", ran.stderr);
        assert_eq!(medium().as_deref(), file);
    }
    // What QEMU cannot open leaves the medium that there is.
    fs::create_dir(sandbox.path("dir")).unwrap();
    assert_ne!(set("disk.cd.file=dir").status, 0);
    assert_ne!(set("disk.cd.file=missing.iso").status, 0);
    assert_eq!(medium().as_deref(), Some("a,$x.iso"));
    assert_eq!(sandbox.maqet(&["diff", "@web"]).ok().stdout, "");
    sandbox.maqet(&["unset", "@web", "disk.cd.file"]).ok();
    assert_eq!(medium(), None);
    set("disk.cd.file=b.iso").ok();
    assert_eq!(medium().as_deref(), Some("b.iso"));

    let limits = || {
        let object = [
            "qom-get",
            "path=/objects/disk-data-limits",
            "property=limits",
        ];
        let limits = qmp(&sandbox, &object);
        ["iops-total", "iops-total-max", "bps-read"].map(|key| limits[key].as_u64().unwrap())
    };
    assert_eq!(limits(), [100, 0, 0]);
    set("disk.data.limits={ iops = { rate = 50, burst = 70 }, bps-read = \"1M\" }").ok();
    assert_eq!(limits(), [50, 70, 1 << 20]);
    assert_eq!(sandbox.maqet(&["diff", "@web"]).ok().stdout, "");
    let object = "path=/objects/disk-data-limits";
    let behind = [
        "qom-set",
        object,
        "property=limits",
        "value={\"iops-total\":9,\"iops-total-max\":0}",
    ];
    sandbox
        .maqet(&[&["qmp", "@web"], &behind[..]].concat())
        .ok();
    let told = sandbox.maqet(&["diff", "@web"]).ok().stdout;
    assert!(
        told.starts_with("disk.data.limits.iops: 9 -> {") && told.ends_with(", live\n"),
        "{told}"
    );
    sandbox.maqet(&["unset", "@web", "disk.data.limits"]).ok();
    assert_eq!(limits(), [0, 0, 0]);

    set("net.lan.link=false")
        .ok()
        .saying("net.lan.link: true -> false\n");
    let network = sandbox
        .maqet(&["hmp", "@web", "info", "network"])
        .ok()
        .stdout;
    assert!(network.contains("nic-lan"), "{network}");
    assert_eq!(sandbox.maqet(&["diff", "@web"]).ok().stdout, "");
}

/// The node that the guest's requests to a disk go to.
fn node_of(sandbox: &Sandbox, disk: &str) -> Option<String> {
    let drives = qmp(sandbox, &["query-block"]);
    let mut drives = drives.as_array().unwrap().iter();
    let drive = drives.find(|it| {
        let mut words = it["qdev"].as_str().unwrap().split('/');
        words.any(|word| word == format!("disk-{disk}"))
    });
    Some(drive?["inserted"]["node-name"].as_str()?.to_owned())
}

#[test]
fn a_disk_that_was_started_without_limits_gets_some() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("cd.iso"), vec![0; 1 << 20]).unwrap();
    let kinds = ["virtio", "scsi", "nvme", "sata"];
    let mut lines = "[disk.cd]\ninterface = \"cdrom\"\n".to_owned();
    for kind in kinds {
        lines += &format!("[disk.{kind}]\nsize = \"1M\"\ninterface = \"{kind}\"\n");
    }
    lines += "[disk.usb]\nsize = \"1M\"\ninterface = \"usb\"\n\
              [disk.threaded]\nsize = \"1M\"\niothread = true\n";
    sandbox.add_lines("web", &lines);
    sandbox.maqet(&["start", "@web"]).ok();
    let limit = |disk: &str| {
        let path = format!("path=/objects/disk-{disk}-limits");
        qmp(&sandbox, &["qom-get", &path, "property=limits"])["iops-total"].clone()
    };
    for kind in kinds {
        let word = format!("disk.{kind}.limits.iops=100");
        let ran = sandbox.maqet(&["set", "@web", &word]).ok();
        assert!(!ran.stderr.contains("next start"), "{}", ran.stderr);
        assert_eq!(limit(kind), 100);
        let node = node_of(&sandbox, kind).unwrap();
        assert_eq!(node, format!("disk-{kind}-limit"));
        assert_eq!(sandbox.maqet(&["diff", "@web"]).ok().stdout, "");
        let key = format!("disk.{kind}.limits");
        sandbox.maqet(&["unset", "@web", &key]).ok();
        assert_eq!(limit(kind), 0);
        sandbox.maqet(&["set", "@web", &word]).ok();
        assert_eq!(limit(kind), 100);
        assert_eq!(sandbox.maqet(&["diff", "@web"]).ok().stdout, "");
    }
    // A drive without a medium has limits for the one that comes.
    let words = ["disk.cd.limits.iops=50", "disk.cd.file=cd.iso"];
    sandbox.maqet(&[&["set", "@web"], &words[..]].concat()).ok();
    assert_eq!(limit("cd"), 50);
    let node = node_of(&sandbox, "cd").unwrap();
    assert_eq!(node, "disk-cd-limit");
    assert_eq!(sandbox.maqet(&["diff", "@web"]).ok().stdout, "");
    for kind in ["usb", "threaded"] {
        sandbox
            .maqet(&["set", "@web", &format!("disk.{kind}.limits.iops=100")])
            .ok()
            .saying("from its next start on");
    }
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    for disk in ["usb", "threaded", "virtio"] {
        assert_eq!(limit(disk), 100);
    }
    assert_eq!(limit("cd"), 50);
}

#[test]
fn a_guest_is_asked_for_memory_and_given_it_back() {
    const M: u64 = 1 << 20;
    let sandbox = Sandbox::new();
    sandbox.add_probe("web", "");
    sandbox
        .maqet(&["set", "@web", "balloon.target=112M"])
        .ok()
        .saying("balloon.target: none -> 112M, from its next start on");
    sandbox.maqet(&["start", "@web"]).ok();
    let has = |mebibytes: u64| {
        wait_until(&format!("the guest has {mebibytes} MiB"), || {
            qmp(&sandbox, &["query-balloon"])["actual"] == mebibytes * M
        });
    };
    has(112);
    let ran = sandbox
        .maqet(&["set", "@web", "balloon.target=96M"])
        .ok()
        .saying("balloon.target: 112M -> 96M\n");
    assert!(!ran.stderr.contains("next start"), "{}", ran.stderr);
    has(96);
    let balloon = || {
        let status = sandbox.maqet(&["status", "@web"]).ok().stdout;
        let line = status.lines().find(|line| line.contains("balloon"));
        line.map(|line| line.trim().to_owned())
    };
    wait_until("status tells what the guest has", || {
        balloon().is_some_and(|said| said.ends_with("the guest has 96 MiB of 128 MiB"))
    });
    assert_eq!(sandbox.maqet(&["diff", "@web"]).ok().stdout, "");
    // More than it was started with it cannot have.
    sandbox
        .maqet(&["set", "@web", "memory=256M", "balloon.target=160M"])
        .ok()
        .saying("memory: 128M -> 256M, from its next start on")
        .saying("balloon.target: 96M -> 160M, from its next start on");
    has(96);
    sandbox.maqet(&["set", "@web", "balloon=true"]).ok();
    has(128);
    assert_eq!(balloon(), None);
    for (word, words) in [
        ("balloon.target=512M", "to 256M, which is its `memory`"),
        ("balloon.target=4", "`4` has no unit"),
        ("balloon.target=4B", "to do with 1M to"),
    ] {
        sandbox.maqet(&["set", "@web", word]).fails(2).saying(words);
    }
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
}

#[test]
fn of_a_description_of_several_lines_the_unit_has_the_first() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("web", "description = \"\"\"It serves.\nAsk db.\"\"\"");
    sandbox.maqet(&["start", "@web"]).ok();
    let unit = format!("VM {}: It serves.", sandbox.name("web"));
    assert_eq!(sandbox.property("web", "Description"), unit);
    let shown = sandbox.maqet(&["show", "--json", "@web"]).json();
    assert_eq!(shown["description"], "It serves.\nAsk db.");
}

#[test]
fn a_medium_that_is_not_there_is_told_before_a_drive_is_opened() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path("one.iso"), vec![0; 2048]).unwrap();
    sandbox.add_lines("web", "disk.cd = { interface = 'cdrom', file = 'one.iso' }");
    sandbox.maqet(&["start", "@web"]).ok();
    let before = sandbox.maqet(&["show", "@web"]).ok().stdout;
    let ran = sandbox.maqet(&["set", "@web", "disk.cd.file=two.iso"]);
    let ran = ran.fails(1).saying("disk `cd`").saying("two.iso");
    assert!(!ran.stderr.contains("QEMU"), "{}", ran.stderr);
    assert_eq!(sandbox.maqet(&["show", "@web"]).ok().stdout, before);
    let drives = sandbox.maqet(&["qmp", "@web", "query-block"]).ok().stdout;
    assert!(drives.contains("one.iso"), "{drives}");
}
