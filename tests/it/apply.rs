use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::process::Stdio;

use crate::sandbox::{Ran, Sandbox, free_ports};

/// Writes the definition of a VM that never runs an instruction; its file.
fn write(sandbox: &Sandbox, short: &str, more: &str) -> String {
    let name = sandbox.name(short);
    let text = format!(
        "name = \"{name}\" # {short}\nmemory = \"64M\"\naccel = \"tcg\"\nqemu.args = [\"-S\"]\n{more}"
    );
    let file = format!("{short}.toml");
    fs::write(sandbox.path(&file), text).unwrap();
    file
}

#[test]
fn twice_is_the_same_as_once() {
    let sandbox = Sandbox::new();
    let web = write(&sandbox, "web", "disk.data.size = \"1M\"\n");
    let db = write(&sandbox, "db", "");
    let all = ["apply", &web, &db];
    sandbox
        .maqet(&all)
        .ok()
        .saying(&format!("VM `{}`: created", sandbox.name("web")))
        .saying(&format!("VM `{}`: created", sandbox.name("db")))
        .saying("made ");
    let before = sandbox.maqet(&["show", "--json", "@web"]).json();
    let again = sandbox.maqet(&all).ok();
    assert_eq!(
        again.stderr.matches(": unchanged\n").count(),
        2,
        "{}",
        again.stderr
    );
    write(&sandbox, "web", "disk.data.size = \"1M\"\ncpus = 2\n");
    let json = sandbox.maqet(&[&all[..], &["--json"]].concat()).json();
    assert_eq!(json[0]["outcome"], "changed", "{json}");
    assert_eq!(json[0]["changes"][0]["key"], "cpus");
    assert_eq!(json[0]["changes"][0]["when"], "next-start");
    assert_eq!(json[1]["outcome"], "unchanged");
    let shown = sandbox.maqet(&["show", "@web"]).ok().stdout;
    assert!(shown.contains("# web"), "{shown}");
    let after = sandbox.maqet(&["show", "--json", "@web"]).json();
    assert_eq!(before["uuid"], after["uuid"]);
    // The same in other words.
    write(
        &sandbox,
        "web",
        "disk = { data = { size = \"1024K\" } }\ncpus = 2\n",
    );
    sandbox
        .maqet(&all)
        .ok()
        .saying("only the text of its definition has changed");
}

#[test]
fn a_running_vm_is_changed_at_once_where_that_can_be() {
    let sandbox = Sandbox::new();
    let web = write(&sandbox, "web", "");
    sandbox.maqet(&["apply", &web]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    let [port, _] = free_ports();
    let more = format!("cpus = 2\nunit.CPUWeight = 77\n[net.net0]\nforward = [\"{port}:22\"]\n");
    write(&sandbox, "web", &more);
    let dry = sandbox.maqet(&["apply", "--dry-run", &web]).ok();
    sandbox.maqet(&["diff", "@web", "--exit-code"]).ok();
    let done = sandbox.maqet(&["apply", &web]).ok();
    assert_eq!(dry.stderr, done.stderr);
    done.saying("cpus: 1 -> 2, from its next start on")
        .saying(&format!("net.net0.forward: [] -> [\"{port}:22\"]\n"))
        .saying("unit.CPUWeight: none -> 77\n");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    assert_eq!(sandbox.property("web", "CPUWeight"), "77");
    // What was changed of the running VM alone is as the file says again.
    sandbox.maqet(&["set", "@web", "CPUWeight=5"]).ok();
    sandbox
        .maqet(&["apply", &web])
        .ok()
        .saying("unit.CPUWeight: 5 -> 77\n");
    assert_eq!(sandbox.property("web", "CPUWeight"), "77");
    sandbox.maqet(&["apply", &web]).ok().saying(": unchanged");
    write(&sandbox, "web", "cpus = 2\n");
    sandbox.maqet(&["apply", "--no-live", &web]).ok();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    sandbox.maqet(&["apply", &web]).ok();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn all_mistakes_of_all_files_are_told_and_nothing_is_done() {
    let sandbox = Sandbox::new();
    let good = write(&sandbox, "good", "disk.data.size = \"1M\"\n");
    fs::write(sandbox.path("a.toml"), "memroy = \"1G\"\ncpus = 0\n").unwrap();
    fs::write(sandbox.path("b.toml"), "[disk.x]\ninterface = \"scsy\"\n").unwrap();
    fs::copy(sandbox.path(&good), sandbox.path("twin.toml")).unwrap();
    sandbox
        .maqet(&["apply", &good, "a.toml", "b.toml", "missing.toml"])
        .fails(1)
        .saying("missing.toml");
    sandbox
        .maqet(&["apply", &good, "a.toml", "b.toml", "twin.toml"])
        .fails(1)
        .saying("a.toml:1:1: unknown key `memroy`, did you mean `memory`?")
        .saying("b.toml:2:13: unknown value `scsy`, did you mean `scsi`?")
        .saying("two definitions of VM");
    let image = sandbox.path("absent.qcow2");
    let bad = write(&sandbox, "bad", &format!("disk.x.file = {image:?}\n"));
    sandbox
        .maqet(&["apply", &good, &bad])
        .fails(1)
        .saying("does not exist");
    for name in ["@good", "@bad"] {
        sandbox.maqet(&["show", name]).fails(4);
    }
    assert!(!sandbox.vm_dir("good").join("data.qcow2").exists());
}

#[test]
fn standard_input_is_a_file_too_and_has_to_name_its_vm() {
    let sandbox = Sandbox::new();
    let pipe = |text: &str| {
        let mut command = sandbox.command(&["apply", "-"]);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        Ran::of(child)
    };
    pipe("cpus = 1\n").fails(1).saying("the VM has no name");
    pipe(&format!("name = \"{}\"\ncpus = 2\n", sandbox.name("web")))
        .ok()
        .saying("created");
    assert_eq!(sandbox.listed("web")["cpus"], 2);
}

#[test]
fn of_many_at_once_all_agree() {
    let sandbox = Sandbox::new();
    let files: Vec<String> = (0..20)
        .map(|n| write(&sandbox, &format!("vm{n}"), "disk.data.size = \"1M\"\n"))
        .collect();
    let args: Vec<&str> = ["apply"]
        .into_iter()
        .chain(files.iter().map(String::as_str))
        .collect();
    let both = [sandbox.spawn(&args), sandbox.spawn(&args)];
    for child in both {
        Ran::of(child).ok();
    }
    for n in 0..20 {
        let short = format!("vm{n}");
        assert!(
            sandbox.vm_dir(&short).join("data.qcow2").exists(),
            "{short}"
        );
    }
    let again = sandbox.maqet(&args).ok();
    assert_eq!(
        again.stderr.matches(": unchanged\n").count(),
        20,
        "{}",
        again.stderr
    );
}

#[test]
fn a_file_that_extends_another_is_applied_and_compared_as_the_whole_that_it_is() {
    let sandbox = Sandbox::new();
    let name = sandbox.name("web");
    fs::write(sandbox.path("base.toml"), "memory = \"64M\"\n").unwrap();
    let text = format!("extends = \"base.toml\"\nname = \"{name}\"\ncpus = 2\n");
    fs::write(sandbox.path("web.toml"), text).unwrap();
    sandbox.maqet(&["apply", "web.toml"]).ok();
    let shown = sandbox.maqet(&["show", "@web", "--json"]).json();
    assert_eq!(
        (&shown["memory"]["size"], &shown["cpus"]),
        (&(64 << 20).into(), &2.into())
    );
    fs::write(sandbox.path("base.toml"), "memory = \"96M\"\n").unwrap();
    let diff = sandbox.maqet(&["diff", "@web", "web.toml"]).ok().stdout;
    assert!(diff.contains("memory"), "{diff}");
    sandbox.maqet(&["apply", "web.toml"]).ok();
    assert_eq!(sandbox.maqet(&["diff", "@web", "web.toml"]).ok().stdout, "");
    fs::write(sandbox.path("base.toml"), "\nmemory = \"1K\"\n").unwrap();
    sandbox
        .maqet(&["apply", "web.toml"])
        .fails(1)
        .saying("base.toml:2:10: ");
}

#[test]
fn a_disk_that_a_file_no_longer_has_is_kept_and_named() {
    let sandbox = Sandbox::new();
    let own = "disk.own.file = 'own.qcow2'\ndisk.own.size = '1M'\n";
    let web = write(&sandbox, "web", &format!("disk.data.size = '1M'\n{own}"));
    sandbox.maqet(&["apply", &web]).ok();
    let data = sandbox.vm_dir("web").join("data.qcow2");
    let own = sandbox.path("own.qcow2");
    write(&sandbox, "web", "");
    let mut ran = sandbox.maqet(&["apply", &web]).ok();
    for (file, how) in [
        (data, "`maqet disk orphans --delete FILE` deletes it"),
        (own, "if it is to go, `rm` deletes it"),
    ] {
        ran = ran.saying(&format!("kept {}: {how}", file.display()));
        assert!(file.exists());
    }
}

#[test]
fn a_dry_run_tells_what_is_done_then() {
    let sandbox = Sandbox::new();
    let web = write(&sandbox, "web", "");
    sandbox.maqet(&["apply", &web]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    let both = |options: &[&str]| {
        let told = sandbox.maqet(&[&["apply", "--dry-run", &web], options].concat());
        let done = sandbox.maqet(&[&["apply", &web], options].concat());
        let would = told.ok().stderr;
        assert_eq!(would, done.ok().stderr);
        would
    };
    // What the running VM alone has.
    sandbox.maqet(&["set", "@web", "CPUWeight=5"]).ok();
    assert!(both(&[]).contains("unit.CPUWeight: 5 -> none\n"));
    assert!(both(&[]).contains(": unchanged\n"));
    // What it has already, when the definition comes back to it.
    sandbox
        .maqet(&["set", "@web", "cpus=2", "unit.CPUWeight=7"])
        .ok();
    let told = both(&[]);
    assert!(told.contains("cpus: 2 -> 1\n"), "{told}");
    assert!(told.contains("unit.CPUWeight: 7 -> none\n"), "{told}");
    write(&sandbox, "web", "unit.CPUWeight = 9\n");
    let told = both(&["--no-live"]);
    assert!(told.contains("-> 9, from its next start on\n"), "{told}");
    assert!(both(&[]).contains("unit.CPUWeight: none -> 9\n"));
}

#[test]
fn what_is_in_the_way_is_told_whether_or_not_a_vm_runs() {
    let sandbox = Sandbox::new();
    let [port, other] = free_ports();
    let lines = format!("[net.lan]\nforward = [\"{port}:22\"]\n");
    let (a, b) = (write(&sandbox, "a", &lines), write(&sandbox, "b", &lines));
    let told = |of: &str| format!("VM `{}` has port {port} of the host", sandbox.name(of));
    for options in [&["--dry-run"][..], &[]] {
        sandbox
            .maqet(&[&["apply", &a, &b], options].concat())
            .ok()
            .saying(&told("a"))
            .saying(&told("b"));
    }
    let again = sandbox.maqet(&["apply", &a, &b]).ok().stderr;
    assert!(!again.contains("warning"), "{again}");
    write(
        &sandbox,
        "b",
        &lines.replace(&port.to_string(), &other.to_string()),
    );
    let changed = sandbox.maqet(&["apply", &b]).ok().stderr;
    assert!(!changed.contains("warning"), "{changed}");
    sandbox.maqet(&["start", "@b"]).ok();
    write(&sandbox, "b", &lines);
    for options in [&["--dry-run", "--no-live"][..], &["--no-live"]] {
        sandbox
            .maqet(&[&["apply", &b], options].concat())
            .ok()
            .saying(&told("a"));
    }
    // Two files of one call want what only one can have at all.
    let mac = "net.lan.mac = \"52:54:00:00:00:77\"\n";
    let (c, d) = (write(&sandbox, "c", mac), write(&sandbox, "d", mac));
    sandbox
        .maqet(&["apply", &c, &d])
        .fails(1)
        .saying(&format!("VM `{}` has the same address", sandbox.name("c")));
}

#[test]
fn a_protected_vm_is_kept_and_its_definition_is_not() {
    let sandbox = Sandbox::new();
    let web = write(&sandbox, "web", "protect = true\n");
    sandbox.maqet(&["apply", &web]).ok();
    let text = sandbox.maqet(&["export", "@web"]).ok().stdout;
    fs::write(sandbox.path("all"), text.replace("64M", "96M")).unwrap();
    let name = sandbox.name("web");
    sandbox.maqet(&["import", "all", "--replace", &name]).ok();
    assert_eq!(sandbox.listed("web")["memory"], 96 << 20);
    sandbox.maqet(&["rm", "@web"]).fails(1).saying("protected");
    write(&sandbox, "web", "");
    sandbox
        .maqet(&["apply", &web])
        .ok()
        .saying("protect: true -> false\n");
    sandbox.maqet(&["rm", "@web"]).ok();
}

#[test]
fn a_line_of_json_has_each_key_once() {
    let sandbox = Sandbox::new();
    let text = format!("name = '{}'\n", sandbox.name("web"));
    std::fs::write(sandbox.path("web.toml"), text).unwrap();
    let ran = sandbox.maqet(&["apply", "web.toml", "--json"]).ok();
    assert_eq!(ran.stdout.matches("\"name\":").count(), 1, "{}", ran.stdout);
}

#[test]
fn a_disk_that_maqet_has_put_elsewhere_is_as_its_file_says() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("own.raw"), vec![7; 1 << 20]).unwrap();
    let disks = "disk.root.size = \"1M\"\ndisk.own = { file = \"own.raw\", format = \"raw\" }\n";
    let web = write(&sandbox, "web", disks);
    sandbox.maqet(&["apply", &web]).ok();
    let files = || {
        let disks = sandbox.maqet(&["disk", "ls", "@web", "--json"]).json();
        let disks = disks.as_array().unwrap().iter();
        disks.map(|it| it["file"].clone()).collect::<Vec<_>>()
    };
    let to = sandbox.path("moved.qcow2");
    for command in [
        &["snapshot", "create", "@web", "x", "--external"][..],
        &["snapshot", "merge", "@web", "x"],
        &["clone", "@web", "@db"],
        &["disk", "move", "@web", "root", to.to_str().unwrap()],
    ] {
        sandbox.maqet(command).ok();
        let before = files();
        let json = sandbox.maqet(&["apply", &web, "--json"]).json();
        assert_eq!(
            json[0]["changes"],
            serde_json::json!([]),
            "{command:?} {json}"
        );
        assert_eq!(files(), before, "{command:?}");
    }
    // What else it says is done.
    let web = write(&sandbox, "web", &format!("cpus = 2\n{disks}"));
    sandbox.maqet(&["apply", &web]).ok().saying("cpus: 1 -> 2");
}

#[test]
fn what_the_next_start_goes_on_at_is_told_when_its_vm_is_changed() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("web", "disk.root.size = '1M'");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.maqet(&["snapshot", "create", "@web", "then"]).ok();
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    sandbox.maqet(&["snapshot", "restore", "@web", "then"]).ok();
    let status = sandbox.maqet(&["status", "@web"]).fails(3).stdout;
    assert!(status.contains("goes on at `then`"), "{status}");
    sandbox
        .maqet(&["set", "@web", "memory=80M"])
        .ok()
        .saying("snapshot `then`");
    sandbox.maqet(&["start", "@web", "--discard-saved"]).ok();
    sandbox.maqet(&["resume", "@web"]).ok();
    sandbox.maqet(&["save", "@web"]).ok();
    sandbox
        .maqet(&["set", "@web", "memory=96M"])
        .ok()
        .saying("goes on as it was");
}

#[test]
fn an_image_of_another_size_than_is_said_is_told() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("own.raw"), vec![7; 1 << 20]).unwrap();
    let disk = "disk.own = { file = \"own.raw\", format = \"raw\", size = \"2M\" }\n";
    let web = write(&sandbox, "web", disk);
    sandbox
        .maqet(&["apply", &web])
        .ok()
        .saying("has 1048576 bytes");
}
