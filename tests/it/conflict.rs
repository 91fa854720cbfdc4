use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use maqet::config::Mac;

use crate::sandbox::{Ran, Sandbox, wait_until};

/// A port of the loopback that nobody has.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn a_port_that_two_vms_want_is_told_when_added_and_refused_when_started() {
    let sandbox = Sandbox::new();
    let port = free_port();
    let forward = format!("net.lan.forward = ['{port}:22']");
    sandbox.add_lines("a", &forward);
    sandbox.try_lines("b", &forward).ok().saying(&format!(
        "VM `{}` has port {port} of the host, too",
        sandbox.name("a")
    ));
    sandbox.add_lines("c", "");
    let setting = format!("net.net0.forward={port}:22");
    sandbox
        .maqet(&["set", "@c", &setting])
        .ok()
        .saying(&format!(
            "VM `{}` has port {port} of the host, too",
            sandbox.name("b")
        ));
    let again = sandbox.maqet(&["set", "@c", "cpus=2"]).ok().stderr;
    assert!(!again.contains("warning"), "{again}");
    sandbox.maqet(&["start", "@a"]).ok();
    // Its own port is no reason not to say that it runs.
    sandbox.maqet(&["start", "@a"]).ok().saying("already");
    sandbox
        .maqet(&["start", "@b"])
        .fails(1)
        .saying(&format!("port {port} (tcp, 127.0.0.1)"))
        .saying(&format!("VM `{}` has it", sandbox.name("a")))
        .saying("maqet stop");
    assert_eq!(sandbox.state("b"), "stopped");
    sandbox.maqet(&["stop", "--force", "@a"]).ok();
    sandbox.maqet(&["start", "@b"]).ok();
    sandbox.maqet(&["stop", "--force", "@b"]).ok();

    // Of two that start together, one does.
    let ran = sandbox.maqet(&["start", "@a", "@b"]).fails(1);
    assert!(ran.stderr.contains("has it"), "{}", ran.stderr);
    assert_eq!(sandbox.state("a"), "prelaunch");
    assert_eq!(sandbox.state("b"), "stopped");
}

#[test]
fn a_port_that_another_process_has_is_told_with_the_process() {
    let sandbox = Sandbox::new();
    let us = format!("process {}", std::process::id());
    // A process that another test is about to start has our sockets, too, until it executes.
    let starts = |vm: &str| {
        let is_started = || sandbox.maqet(&["start", vm]).status == 0;
        wait_until("the port is free", is_started);
    };
    let tcp = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = tcp.local_addr().unwrap().port();
    sandbox.add_lines("tcp", &format!("net.lan.forward = ['{port}:22']"));
    sandbox
        .maqet(&["start", "@tcp"])
        .fails(1)
        .saying(&us)
        .saying(&format!("port {port} "));
    drop(tcp);
    starts("@tcp");

    let tcp = TcpListener::bind(("::", 0)).unwrap();
    let port = tcp.local_addr().unwrap().port();
    sandbox.add_lines("six", &format!("net.lan.forward = ['0.0.0.0:{port}:22']"));
    sandbox.maqet(&["start", "@six"]).fails(1).saying(&us);

    let udp = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let port = udp.local_addr().unwrap().port();
    sandbox.add_lines("udp", &format!("net.lan.forward = ['udp:{port}:53']"));
    sandbox.maqet(&["start", "@udp"]).fails(1).saying(&us);
    drop(udp);
    starts("@udp");
}

#[test]
fn a_port_of_no_address_of_this_host_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("web", "net.lan.forward = ['192.0.2.77:2222:22']");
    sandbox
        .maqet(&["start", "@web"])
        .fails(1)
        .saying("cannot listen on port 2222 (tcp, 192.0.2.77)")
        .saying("caused by: Cannot assign requested address");
    assert!(sandbox.qemus("web").is_empty());
}

#[test]
fn an_address_is_one_vm_s_whether_it_was_written_or_derived() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("a", "net.lan.mac = '52:54:00:ab:cd:ef'\n[net.wan]");
    sandbox
        .try_lines("b", "net.x.mac = '52:54:00:AB:CD:EF'")
        .fails(1)
        .saying(".toml:4:13: ")
        .saying(&format!("VM `{}` has the same address", sandbox.name("a")))
        .saying("network `lan`");
    let argv = sandbox.maqet(&["show", "--argv", "@a"]).ok().stdout;
    let derived = argv
        .split("mac=")
        .skip(1)
        .map(|rest| &rest[..17])
        .find(|mac| *mac != "52:54:00:ab:cd:ef")
        .unwrap()
        .to_owned();
    sandbox
        .try_lines("b", &format!("net.x.mac = '{derived}'"))
        .fails(1)
        .saying("network `wan`");
    sandbox.maqet(&["show", "@b"]).fails(4);
    sandbox.add_lines("b", "");
    sandbox.maqet(&["start", "@b"]).ok();
    let mac = format!("mac={derived}");
    sandbox
        .maqet(&["device", "add", "@b", "net.x", &mac])
        .fails(2)
        .saying(&format!("VM `{}` has the same address", sandbox.name("a")));
}

#[test]
fn a_derived_address_is_no_one_else_s_where_they_could_meet() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("a", "");
    let text = sandbox.maqet(&["export", "@a"]).ok().stdout;
    let uuid = text.split("UUID ").nth(1).unwrap().get(..36).unwrap();
    let meets = "type = 'multicast', group = '230.0.0.1:4321'";
    sandbox.add_lines("b", &format!("net.x.mac = '{}'", Mac::derive(uuid, "lan")));
    // Nobody else is on a network of its own.
    sandbox.maqet(&["set", "@a", "net.lan={}"]).ok();
    let told = format!("VM `{}` has the address that derives", sandbox.name("b"));
    sandbox
        .maqet(&["set", "@a", &format!("net.lan={{ {meets} }}")])
        .fails(2)
        .saying(&told);
    let other = format!("net.lan={{ {meets}, mac = '52:54:00:aa:bb:cc' }}");
    sandbox.maqet(&["set", "@a", &other]).ok();

    // One that is imported brings its UUID along.
    let uuid = "2b6a5e0c-9c1f-4a55-8f1c-0d7f6d1f2a01";
    let mac = Mac::derive(uuid, "lan");
    sandbox
        .maqet(&["set", "@b", &format!("net.x.mac={mac}")])
        .ok();
    let name = sandbox.name("c");
    let text = format!("#-- VM {name}, UUID {uuid} --\nname = '{name}'\nnet.lan = {{ {meets} }}\n");
    fs::write(sandbox.path("c.txt"), text).unwrap();
    sandbox.maqet(&["import", "c.txt"]).fails(1).saying(&told);
    sandbox.maqet(&["show", "@c"]).fails(4);
    // A new one gets a UUID of which this is not so.
    sandbox
        .try_lines("d", &format!("net.lan = {{ {meets} }}"))
        .ok();
}

#[test]
fn a_disk_that_another_vm_writes_is_told_with_that_vm() {
    let sandbox = Sandbox::new();
    let disk = sandbox.path("shared.qcow2");
    let lines = format!("disk.root = {{ file = '{}', size = '1M' }}", disk.display());
    sandbox.add_lines("a", &lines);
    sandbox
        .try_lines("b", &lines)
        .ok()
        .saying(&format!("VM `{}` has the file", sandbox.name("a")));
    // Once, however many of its disks are on it.
    let twice = ["c", "d"].map(|name| {
        let file = disk.display();
        format!("disk.{name} = {{ file = '{file}', read-only = true }}")
    });
    let told = sandbox.try_lines("c", &twice.join("\n")).ok().stderr;
    let has = format!("VM `{}` has the file", sandbox.name("a"));
    assert_eq!(told.matches(&has).count(), 1, "{told}");
    sandbox.maqet(&["rm", "@c"]).ok();
    sandbox.maqet(&["start", "@a"]).ok();
    let has = format!("VM `{}` has it", sandbox.name("a"));
    sandbox.maqet(&["start", "@b"]).fails(1).saying(&has);

    // An overlay on it would change under its reader.
    let overlay = sandbox.path("overlay.qcow2");
    let made = std::process::Command::new("qemu-img")
        .args(["create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b"])
        .args([&disk, &overlay])
        .arg("1M")
        .status();
    assert!(made.unwrap().success());
    sandbox.add_lines("c", &format!("disk.root.file = '{}'", overlay.display()));
    sandbox.maqet(&["start", "@c"]).fails(1).saying(&has);
}

#[test]
fn what_cannot_be_a_disk_is_refused_where_it_is_written() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("dir.raw")).unwrap();
    let fifo = sandbox.path("fifo.raw");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    for (file, what) in [("dir.raw", "is a directory"), ("fifo.raw", "is a FIFO")] {
        sandbox
            .try_lines("web", &format!("disk.root.file = '{file}'"))
            .fails(1)
            .saying(".toml:4:18: ")
            .saying(what);
        sandbox.maqet(&["show", "@web"]).fails(4);
    }
    let mine = sandbox.path("mine.raw");
    fs::write(&mine, [0; 1 << 16]).unwrap();
    sandbox.add_lines("web", "disk.root.file = 'mine.raw'");
    fs::remove_file(&mine).unwrap();
    fs::rename(&fifo, &mine).unwrap();
    sandbox
        .maqet(&["start", "@web"])
        .fails(1)
        .saying("is a FIFO");
}

#[test]
fn a_disk_that_the_user_may_not_write_can_be_read() {
    let sandbox = Sandbox::new();
    let file = sandbox.path("base.raw");
    fs::write(&file, [0; 1 << 16]).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    sandbox
        .try_lines("web", "disk.root.file = 'base.raw'")
        .fails(1)
        .saying("cannot be written")
        .saying("read-only = true");
    sandbox.add_lines("web", "disk.root = { file = 'base.raw', read-only = true }");
    sandbox.maqet(&["start", "@web"]).ok();
}

#[test]
fn what_this_qemu_does_not_know_is_told_where_it_is_written() {
    let sandbox = Sandbox::new();
    let lines = "machine = 'q53'\ncpu = 'EPIC'\nnet.lan.model = 'e100'\n\
                 device.pad.driver = 'usb-tabet'\nunit.MemoryMax = '1M'";
    let ran = sandbox.try_lines("web", lines).fails(1);
    for said in [
        ".toml:4:11: QEMU ",
        "no machine type `q53`, did you mean `q35`?",
        ".toml:5:7: QEMU ",
        "no CPU model `EPIC`, did you mean `EPYC`?",
        ".toml:6:17: QEMU ",
        "no device `e100`, did you mean `e1000`?",
        ".toml:7:21: QEMU ",
        "no device `usb-tabet`, did you mean `usb-tablet`?",
        // With all that is wrong besides.
        "a MemoryMax of 1 MiB is too little",
    ] {
        assert!(ran.stderr.contains(said), "{said}: {}", ran.stderr);
    }
    sandbox.maqet(&["show", "@web"]).fails(4);

    sandbox.add_lines("web", "");
    sandbox
        .maqet(&["set", "@web", "machine=q53"])
        .fails(2)
        .saying("did you mean `q35`?");
    // A definition can be written where there is no QEMU.
    let elsewhere = "machine = 'virt'\nqemu.binary = 'qemu-system-nosuch'";
    let file = sandbox.path("elsewhere.toml");
    fs::write(
        &file,
        format!("name = '{}'\n{elsewhere}", sandbox.name("arm")),
    )
    .unwrap();
    sandbox.maqet(&["add", file.to_str().unwrap()]).ok();
    // What was wrong before is not the fault of a change.
    sandbox
        .maqet(&["set", "@arm", "qemu.binary=qemu-system-x86_64"])
        .fails(1);
    sandbox.maqet(&["set", "@arm", "description=far away"]).ok();
}

#[test]
fn taps_and_sockets_that_two_vms_want_are_told() {
    let sandbox = Sandbox::new();
    let lines = "[net.a]\ntype = 'tap'\nifname = 'tap7'\n\
                 [net.b]\ntype = 'dgram'\nlocal = 'b.sock'\nremote = 'other.sock'\n\
                 [net.c]\ntype = 'stream'\nlisten = 'c.sock'\n";
    sandbox.add_lines("one", lines);
    let has = |what: &str| format!("VM `{}` has the {what}", sandbox.name("one"));
    sandbox
        .try_lines("two", lines)
        .ok()
        .saying(&has("tap device `tap7`, too"))
        .saying(&has(&format!(
            "socket {}",
            sandbox.path("b.sock").display()
        )))
        .saying(&has(&format!(
            "socket {}",
            sandbox.path("c.sock").display()
        )));
    // The two ends of one line are none.
    let ends = "[net.b]\ntype = 'dgram'\nlocal = 'other.sock'\nremote = 'b.sock'\n\
                [net.c]\ntype = 'stream'\nconnect = 'c.sock'\n";
    let told = sandbox.try_lines("three", ends).ok().stderr;
    assert!(!told.contains("warning"), "{told}");
}

#[test]
fn a_port_that_a_definition_forwards_twice_is_told_at_its_entry() {
    let sandbox = Sandbox::new();
    sandbox
        .try_lines(
            "web",
            "net.lan.forward = ['2222:22', '8080:80', 'tcp:127.0.0.1:2222:23']",
        )
        .fails(1)
        .saying(".toml:4:42: `net.lan.forward` has port 2222 of the host already");
}

#[test]
fn a_program_that_a_definition_brings_along_is_not_run_before_the_vm_is() {
    let sandbox = Sandbox::new();
    let mark = sandbox.path("was-run");
    let program = sandbox.path("qemu-system-x86_64");
    let script = format!(
        "#!/bin/sh\n: >{}\nexec /usr/bin/qemu-system-x86_64 \"$@\"\n",
        mark.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let lines = "machine = 'q54'\nqemu.binary = './qemu-system-x86_64'";
    let file = sandbox.path("web.toml");
    fs::write(&file, format!("name = '{}'\n{lines}", sandbox.name("web"))).unwrap();
    for verb in [&["add", "--dry-run", "web.toml"][..], &["add", "web.toml"]] {
        sandbox
            .maqet(verb)
            .ok()
            .saying("was not asked what machine types");
    }
    sandbox.maqet(&["set", "@web", "cpus=2"]).ok();
    sandbox.maqet(&["apply", "web.toml"]).ok();
    assert!(!mark.exists());
    // One's own default is.
    fs::create_dir_all(sandbox.path("config/maqet")).unwrap();
    let config = format!("[defaults]\nqemu.binary = '{}'\n", program.display());
    fs::write(sandbox.path("config/maqet/config.toml"), config).unwrap();
    sandbox
        .maqet(&["set", "@web", "machine=q53"])
        .fails(2)
        .saying("no machine type `q53`, did you mean `q35`?");
    assert!(mark.exists());
}

/// Runs two commands at the same moment: both have looked at what there is, if they look
/// before they have the right to write.
fn at_once(sandbox: &Sandbox, commands: [Command; 2]) -> [Ran; 2] {
    let db = rusqlite::Connection::open(sandbox.path("data/maqet/maqet.db")).unwrap();
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    let children = commands.map(|mut command| {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    });
    // They wait for the database by and by, and not for ever.
    let deadline = Instant::now() + Duration::from_secs(2);
    let waits = |child: &Child| {
        let call = fs::read_to_string(format!("/proc/{}/syscall", child.id()));
        call.is_ok_and(|call| {
            let number = call.split(' ').next().and_then(|word| word.parse().ok());
            number == Some(libc::SYS_clock_nanosleep)
        })
    };
    while !children.iter().all(waits) && Instant::now() < deadline {
        std::thread::yield_now();
    }
    drop(db);
    children.map(Ran::of)
}

#[test]
fn of_two_that_come_to_want_one_address_at_once_one_gets_it() {
    let sandbox = Sandbox::new();
    for vm in ["a", "b", "like"] {
        sandbox.add_prelaunch(vm);
    }
    sandbox.maqet(&["start", "@b"]).ok();
    let file = |vm: &str, lines: &str| {
        let name = sandbox.name(vm);
        let text = format!("name = '{name}'\nmemory = '64M'\naccel = 'tcg'\n{lines}\n");
        let path = sandbox.path(&format!("{vm}.toml"));
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let way = |verb: &str, vm: &str, mac: &str| {
        let lines = format!("net.net0.mac = '{mac}'");
        let setting = format!("net.net0.mac={mac}");
        let new = format!("@new-{vm}");
        let run = |args: &[&str]| sandbox.command_of(args);
        match verb {
            "set" => run(&["set", &format!("@{vm}"), &setting]),
            "add" | "import" => run(&[verb, &file(&new[1..], &lines)]),
            "apply" => run(&[verb, &file(vm, &lines)]),
            "clone" => run(&[verb, "@like", &new, "--set", &setting]),
            _ => {
                let mut edit = run(&[verb, &format!("@{vm}")]);
                let line = format!("sed -i '1i {}'", lines.replace('\'', "\""));
                edit.env("VISUAL", line);
                edit
            }
        }
    };
    let mut number = 0;
    for (one, other) in [
        ("set", "set"),
        ("add", "add"),
        ("add", "set"),
        ("apply", "apply"),
        ("import", "import"),
        ("import", "clone"),
        ("edit", "apply"),
    ] {
        for _ in 0..5 {
            number += 1;
            let mac = format!("52:54:00:aa:00:{number:02x}");
            let both = [way(one, "a", &mac), way(other, "b", &mac)];
            let both = at_once(&sandbox, both);
            let status = both.each_ref().map(|ran| ran.status);
            let said = both.each_ref().map(|ran| &ran.stderr);
            assert!(
                matches!(status, [0, 1 | 2] | [1 | 2, 0]),
                "{one}, {other}: {said:?}"
            );
            let refused = said[usize::from(status[1] != 0)];
            assert!(refused.contains("has the same address"), "{refused}");
            let all = sandbox.maqet(&["export", "--all"]).ok().stdout;
            assert_eq!(all.matches(&mac).count(), 1, "{one}, {other}: {all}");
            // Which of them there is to take back depends on who was first.
            for vm in ["a", "b"] {
                let _ = sandbox.maqet(&["rm", &format!("@new-{vm}")]);
                let _ = sandbox.maqet(&["unset", &format!("@{vm}"), "net"]);
            }
        }
    }
}

#[test]
fn of_two_that_come_to_want_one_port_at_once_one_is_told() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("a");
    sandbox.add_prelaunch("b");
    for port in 20_001..20_011 {
        let setting = format!("net.net0.forward={port}:22");
        let both = ["@a", "@b"].map(|vm| sandbox.command_of(&["set", vm, &setting]));
        let both = at_once(&sandbox, both).map(|ran| ran.ok().stderr);
        let told = format!("has port {port} of the host, too");
        assert!(both.iter().any(|said| said.contains(&told)), "{both:?}");
    }
}

#[test]
fn what_is_a_disk_or_a_kernel_is_not_printed_into() {
    let sandbox = Sandbox::new();
    for file in ["disk.raw", "own.raw", "kernel", "initrd", "free.log"] {
        fs::write(sandbox.path(file), [0; 1 << 16]).unwrap();
    }
    for (file, link) in [("disk.raw", "link.log"), ("own.raw", "own.log")] {
        std::os::unix::fs::symlink(sandbox.path(file), sandbox.path(link)).unwrap();
    }
    for (image, base) in [("base.img", None), ("over.qcow2", Some("base.img"))] {
        let mut create = Command::new("qemu-img");
        create
            .args(["create", "-q", "-f", "qcow2"])
            .arg(sandbox.path(image));
        match base {
            Some(base) => create.args(["-F", "qcow2", "-b"]).arg(sandbox.path(base)),
            None => create.arg("1M"),
        };
        assert!(create.status().unwrap().success());
    }
    let lines = "kernel = 'kernel'\ninitrd = 'initrd'\n\
                 disk.a = { file = 'disk.raw' }\ndisk.b = { file = 'over.qcow2' }\n\
                 disk.c = { size = '1M' }\ndisk.d = { file = 'read.raw', size = '1M' }";
    sandbox.add_lines("db", lines);
    let made = sandbox.vm_dir("db").join("c.qcow2");
    let made = made.to_str().unwrap();
    let db = sandbox.name("db");
    let port = |file: &str| {
        let before = "disk.own.file = 'own.raw'\n";
        sandbox.try_lines(
            "web",
            &format!("{before}[port.log]\ntype = 'serial'\nfile = '{file}'"),
        )
    };
    for (file, what) in [
        ("own.raw", "the file is a disk's".to_owned()),
        ("own.log", "is `disk.own.file`, too".to_owned()),
        ("disk.raw", format!("is `disk.a.file` of VM `{db}`")),
        ("link.log", format!("is `disk.a.file` of VM `{db}`")),
        ("base.img", "is an image of format qcow2".to_owned()),
        (made, format!("is `disk.c.file` of VM `{db}`")),
        ("kernel", format!("is `kernel` of VM `{db}`")),
        ("initrd", format!("is `initrd` of VM `{db}`")),
        (".", "is a directory".to_owned()),
    ] {
        port(file).fails(1).saying(".toml:7:8: ").saying(&what);
        sandbox.maqet(&["show", "@web"]).fails(4);
    }
    for file in ["free.log", "/dev/null"] {
        port(file).ok();
        sandbox.maqet(&["rm", "@web"]).ok();
    }

    // And the other way round.
    port("free.log").ok();
    let prints = format!(
        "is what the guest of VM `{}` prints into, by its `port.log`",
        sandbox.name("web")
    );
    for lines in ["disk.x.file = 'free.log'", "kernel = 'free.log'"] {
        sandbox.try_lines("other", lines).fails(1).saying(&prints);
    }
    let disk = ["set", "@db", "disk.x.file=free.log", "disk.x.format=raw"];
    for (verb, status) in [
        (&disk[..], 2),
        (&["set", "@db", "initrd=free.log"], 2),
        (&["disk", "attach", "@db", "x", "free.log"], 1),
    ] {
        sandbox.maqet(verb).fails(status).saying(&prints);
    }
    sandbox.maqet(&["set", "@db", "cpus=2"]).ok();
    sandbox
        .maqet(&["disk", "attach", "@web", "x", "free.log"])
        .fails(2)
        .saying("the file is a disk's");
    // Two that print into one file may both run.
    let said = sandbox
        .try_lines("too", "port.p = { type = 'serial', file = 'free.log' }")
        .ok()
        .stderr;
    assert!(said.contains("prints into"), "{said}");
    assert!(!said.contains("at a time"), "{said}");

    // What has become an image since is not printed into either.
    fs::remove_file(sandbox.path("free.log")).unwrap();
    fs::copy(sandbox.path("base.img"), sandbox.path("free.log")).unwrap();
    sandbox
        .maqet(&["start", "@too"])
        .fails(1)
        .saying("is an image of format qcow2");
}

#[test]
fn a_file_in_the_place_of_a_socket_is_not_deleted() {
    let sandbox = Sandbox::new();
    let file = sandbox.path("precious");
    fs::write(&file, "mine").unwrap();
    let lines = [
        "type = 'stream'\nlisten = 'precious'",
        "type = 'dgram'\nlocal = 'precious'\nremote = 'b.sock'",
    ];
    for (lines, key) in lines.into_iter().zip(["listen", "local"]) {
        sandbox
            .try_lines("web", &format!("[net.a]\n{lines}"))
            .fails(1)
            .saying("precious is there and no socket: QEMU would delete it")
            .saying(&format!("  6 | {key} = "));
    }
    let moved = sandbox.path("moved");
    fs::rename(&file, &moved).unwrap();
    sandbox.add_lines("web", &format!("[net.a]\n{}", lines[0]));
    fs::rename(&moved, &file).unwrap();
    sandbox
        .maqet(&["start", "@web"])
        .fails(1)
        .saying("`net.a`")
        .saying("precious is there");
    sandbox.add_prelaunch("other");
    sandbox.maqet(&["start", "@other"]).ok();
    let add = [
        "device",
        "add",
        "@other",
        "net.a",
        "type=stream",
        "listen=precious",
    ];
    sandbox.maqet(&add).fails(1).saying("precious is there");
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}

#[test]
fn what_is_in_a_module_that_is_not_installed_is_told_where_it_is_written() {
    let sandbox = Sandbox::new();
    // A QEMU that looks for its modules elsewhere: the path in it is another of that length.
    let modules = "/usr/lib/x86_64-linux-gnu/qemu";
    let elsewhere = format!("/tmp/maqet-{:019}", std::process::id());
    let lib = sandbox.path("lib");
    fs::create_dir(&lib).unwrap();
    std::os::unix::fs::symlink(&lib, &elsewhere).unwrap();
    let mut qemu = fs::read("/usr/bin/qemu-system-x86_64").unwrap();
    let found = qemu
        .windows(modules.len())
        .position(|it| it == modules.as_bytes());
    let at = found.expect("Debian's QEMU has its modules there");
    qemu[at..at + modules.len()].copy_from_slice(elsewhere.as_bytes());
    let program = sandbox.path("qemu-system-x86_64");
    fs::write(&program, qemu).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let install = |prefix: &str| {
        for entry in fs::read_dir(modules).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                fs::copy(entry.path(), lib.join(entry.file_name())).unwrap();
            }
        }
    };
    // TCG is in one, too, where it is.
    install("accel-");
    fs::create_dir_all(sandbox.path("config/maqet")).unwrap();
    let config = format!("[defaults]\nqemu.binary = '{}'\n", program.display());
    fs::write(sandbox.path("config/maqet/config.toml"), config).unwrap();

    let ran = sandbox
        .try_lines("web", "display = 'spice'\naudio = 'pa'")
        .fails(1);
    for said in [
        ".toml:4:11: QEMU ",
        "has no SPICE here: install its module, which is in `qemu-system-modules-spice` on Debian",
        ".toml:5:9: QEMU ",
        "has no audio driver `pa` here",
    ] {
        assert!(ran.stderr.contains(said), "{said}: {}", ran.stderr);
    }
    sandbox
        .try_lines("web", "display = 'gtk'")
        .fails(1)
        .saying("has no display `gtk` here");
    sandbox.maqet(&["show", "@web"]).fails(4);
    sandbox.add_lines("web", "display = 'vnc'");
    sandbox
        .maqet(&["set", "@web", "display=spice"])
        .fails(2)
        .saying("has no SPICE here");
    // It is seen at once when it is installed.
    install("ui-");
    sandbox.maqet(&["set", "@web", "display=spice"]).ok();
    fs::remove_file(elsewhere).unwrap();
}
