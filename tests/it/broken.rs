use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::sandbox::{Sandbox, signal, systemctl, wait_until};

#[test]
fn a_qemu_that_was_killed_is_a_failed_vm_that_starts_again() {
    let sandbox = Sandbox::new();
    sandbox.add("web", &["--qemu-arg=-S", "--disk", "root.qcow2:1M"]);
    // An end with a SHUTDOWN event, which those that follow are not to be taken for.
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.maqet(&["stop", "@web"]).ok();
    for _ in 0..3 {
        sandbox.maqet(&["start", "@web"]).ok();
        signal(sandbox.pid("web"), libc::SIGKILL);
        sandbox.wait_for_state("web", "failed");
        let status = sandbox.maqet(&["status", "@web"]).fails(3).stdout;
        assert!(status.contains("signal 9"), "{status}");
        assert!(!status.contains("host-qmp-quit"), "{status}");
    }
    sandbox.maqet(&["start", "@web"]).ok();
    assert_eq!(sandbox.state("web"), "prelaunch");
    assert_eq!(sandbox.qemus("web").len(), 1);
    sandbox.maqet(&["stop", "@web"]).ok();
    let check = Command::new("qemu-img")
        .arg("check")
        .arg(sandbox.path("root.qcow2"))
        .output()
        .unwrap();
    assert!(check.status.success(), "{check:?}");
}

#[test]
fn the_manager_s_reload_and_reexecution_change_nothing() {
    let sandbox = Sandbox::new();
    sandbox.add_probe("web", "probe.act=idle");
    sandbox.maqet(&["start", "@web"]).ok();
    let pid = sandbox.pid("web");
    for verb in ["daemon-reload", "daemon-reexec"] {
        systemctl(&[verb]).ok();
        wait_until("the manager is back", || {
            systemctl(&["show", "--property=Version"]).status == 0
        });
        assert_eq!(sandbox.pid("web"), pid, "{verb}");
        assert_eq!(sandbox.state("web"), "running", "{verb}");
        sandbox
            .maqet(&["start", "@web"])
            .ok()
            .saying("already running");
    }
    sandbox.wait_for_console("web", "probe: ready");
    sandbox.maqet(&["stop", "@web"]).ok().saying("powered down");
}

#[test]
fn a_runtime_directory_that_was_deleted_hides_no_vm() {
    let sandbox = Sandbox::new();
    sandbox.add("web", &["--qemu-arg=-S", "--disk", "root.qcow2:1M"]);
    sandbox.maqet(&["start", "@web"]).ok();
    let pid = sandbox.pid("web");
    fs::remove_dir_all(sandbox.runtime("web")).unwrap();

    assert_eq!(sandbox.state("web"), "running");
    let status = sandbox.maqet(&["status", "@web"]).ok();
    assert!(status.stdout.contains("(gone)"), "{}", status.stdout);
    sandbox
        .maqet(&["start", "@web"])
        .ok()
        .saying("is already running");
    assert_eq!(sandbox.qemus("web"), [pid]);
    for command in [
        &["qmp", "@web", "query-status"][..],
        &["stop", "@web"],
        &["wait", "@web", "--ready"],
        &["wait", "@web", "--for", "shutdown"],
    ] {
        sandbox
            .maqet(command)
            .fails(1)
            .saying("is gone")
            .saying("maqet stop --force");
    }
    sandbox.maqet(&["rm", "@web"]).fails(1).saying("is running");

    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    assert!(sandbox.qemus("web").is_empty());
    // It was told to end and could flush its disks: that is no failure.
    assert_eq!(sandbox.state("web"), "stopped");
    sandbox.maqet(&["start", "@web"]).ok();
    assert_eq!(sandbox.state("web"), "prelaunch");
}

#[test]
fn who_holds_a_vm_s_lock_keeps_it_from_starting_and_is_named() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    fs::create_dir_all(sandbox.vm_dir("web")).unwrap();
    let lock = fs::File::create(sandbox.vm_dir("web").join("lock")).unwrap();
    lock.lock().unwrap();
    let me = format!("process {}", std::process::id());
    sandbox.maqet(&["start", "@web"]).fails(1).saying(&me);
    sandbox.maqet(&["rm", "@web"]).fails(1).saying(&me);
    assert!(sandbox.qemus("web").is_empty());
    drop(lock);
    // A process that another test is about to start has it, too, until it executes.
    wait_until("it starts", || {
        sandbox.maqet(&["start", "@web"]).status == 0
    });
}

#[test]
fn a_guest_that_ignores_the_button_keeps_running_until_its_power_is_cut() {
    let sandbox = Sandbox::new();
    sandbox.add_probe("web", "probe.act=idle probe.button=ignore");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.wait_for_console("web", "probe: ready");
    // Time enough for QEMU to answer.
    sandbox
        .maqet(&["stop", "--timeout", "10s", "@web"])
        .fails(1)
        .saying("still running")
        .saying("--force");
    assert_eq!(sandbox.state("web"), "running");
    let begin = Instant::now();
    sandbox
        .maqet(&["stop", "--force-after", "1s", "@web"])
        .ok()
        .saying("its power was cut");
    assert!(begin.elapsed() >= Duration::from_secs(1));
    assert_eq!(sandbox.state("web"), "stopped");
}

#[test]
fn systemctl_cuts_the_power_after_the_unit_s_own_timeout_and_the_journal_says_so() {
    let sandbox = Sandbox::new();
    let name = sandbox.name("web");
    let guests = crate::sandbox::guests();
    let probe = guests.join("probe");
    let definition = |stop: &str| {
        format!(
            "name = \"{name}\"\nmemory = \"128M\"\naccel = \"tcg\"\n\
             kernel = \"{0}/kernel\"\ninitrd = \"{0}/initrd\"\n\
             append = \"console=ttyS0 quiet cryptomgr.notests probe.act=idle probe.button=ignore\"\n[stop]\n{stop}\n",
            probe.display()
        )
    };
    fs::write(sandbox.path("web.toml"), definition("timeout = \"10s\"")).unwrap();
    sandbox.maqet(&["add", "web.toml"]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.wait_for_console("web", "probe: ready");
    let begin = Instant::now();
    systemctl(&["stop", &sandbox.unit("web")]).ok();
    assert!(begin.elapsed() >= Duration::from_secs(10));
    assert!(sandbox.qemus("web").is_empty());
    wait_until("the journal says so", || {
        let logs = sandbox.maqet(&["logs", "@web"]).ok().stdout;
        logs.contains("did not power down within 10 s: cutting the power")
    });
    sandbox.maqet(&["rm", "@web"]).ok();

    // The same guest, which is not to be asked.
    fs::write(sandbox.path("web.toml"), definition("action = \"kill\"")).unwrap();
    sandbox.maqet(&["add", "web.toml"]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox
        .maqet(&["stop", "@web"])
        .ok()
        .saying("its power was cut");
    sandbox.maqet(&["start", "@web"]).ok();
    let begin = Instant::now();
    systemctl(&["stop", &sandbox.unit("web")]).ok();
    assert!(sandbox.qemus("web").is_empty());
    // Tells it from one that was asked, for the minute that is the default.
    assert!(begin.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_guest_that_takes_its_time_or_is_not_up_yet_is_powered_down_all_the_same() {
    let sandbox = Sandbox::new();
    sandbox.add_probe("slow", "probe.act=idle probe.button-delay=2");
    sandbox.add_probe("early", "probe.act=idle");
    sandbox.maqet(&["start", "@slow", "@early"]).ok();
    // Before its kernel is: the request is lost, and repeated.
    sandbox
        .maqet(&["stop", "--timeout", "5m", "@early"])
        .ok()
        .saying("powered down");
    sandbox.wait_for_console("slow", "probe: ready");
    sandbox
        .maqet(&["stop", "@slow"])
        .ok()
        .saying("powered down");
}

#[test]
fn a_paused_guest_is_resumed_to_power_down() {
    let sandbox = Sandbox::new();
    sandbox.add_probe("web", "probe.act=idle");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.wait_for_console("web", "probe: ready");
    sandbox.maqet(&["qmp", "@web", "stop"]).ok();
    // QEMU is asked, and not for long.
    sandbox.wait_for_state("web", "paused");
    sandbox.maqet(&["stop", "@web"]).ok().saying("powered down");
}

#[test]
fn a_guest_s_panic_is_a_failure_and_its_reboot_is_not_an_end() {
    let sandbox = Sandbox::new();
    sandbox.add_probe("panics", "probe.act=panic");
    sandbox.add_probe("reboots", "probe.act=reboot probe.delay=1");
    sandbox.maqet(&["start", "@panics", "@reboots"]).ok();
    let pid = sandbox.pid("reboots");
    sandbox.wait_for_state("panics", "failed");
    let status = sandbox.maqet(&["status", "@panics"]).fails(3);
    assert!(status.stdout.contains("exit status 1"), "{}", status.stdout);
    wait_until("it says why", || {
        sandbox
            .maqet(&["status", "@panics"])
            .fails(3)
            .stdout
            .contains("guest-panic")
    });

    let log = sandbox.vm_dir("reboots").join("console.log");
    wait_until("it came up twice", || {
        fs::read_to_string(&log).is_ok_and(|log| log.matches("probe: ready").count() >= 2)
    });
    assert_eq!(sandbox.pid("reboots"), pid);
}

#[test]
fn a_disk_that_does_not_fit_leaves_nothing_behind() {
    let sandbox = Sandbox::new();
    let name = sandbox.name("web");
    let mut command = sandbox.command(&["add", "--name", &name, "--disk", "big.raw:64M"]);
    // SAFETY: setrlimit(2) is async-signal-safe. What a full disk says is said by
    // the limit on a file's size, too.
    unsafe {
        command.pre_exec(|| {
            let limit = libc::rlimit {
                rlim_cur: 1 << 20,
                rlim_max: 1 << 20,
            };
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            match libc::setrlimit(libc::RLIMIT_FSIZE, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let ran = command.output().unwrap();
    let words = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{words}");
    assert!(
        words.contains("big.raw: The image size is too large"),
        "{words}"
    );
    sandbox.maqet(&["show", "@web"]).fails(4);
    let left: Vec<_> = fs::read_dir(sandbox.dir.path())
        .unwrap()
        .flatten()
        .map(|f| f.file_name())
        .collect();
    assert!(
        left.iter()
            .all(|file| !file.to_string_lossy().contains("big")),
        "{left:?}"
    );
}

#[test]
fn without_a_user_manager_the_error_says_what_is_missing_and_what_to_do() {
    let sandbox = Sandbox::new();
    let ran = sandbox
        .command(&["ls"])
        .env("XDG_RUNTIME_DIR", "/nonexistent")
        .env_remove("DBUS_SESSION_BUS_ADDRESS")
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{words}");
    assert!(
        words.contains("no systemd user manager answers at /nonexistent/bus"),
        "{words}"
    );
    assert!(words.contains("loginctl enable-linger"), "{words}");
    // su and cron set neither, and the manager is there all the same.
    let ran = sandbox
        .command(&["ls"])
        .env_remove("XDG_RUNTIME_DIR")
        .env_remove("DBUS_SESSION_BUS_ADDRESS")
        .output()
        .unwrap();
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
}

#[test]
fn no_text_of_a_definition_adds_an_option_or_is_expanded() {
    let sandbox = Sandbox::new();
    let hostile = "a,b=c 'd' \"e\" %n $HOME ${PATH} $$ \u{e4}";
    // A directory with all of it in its name, for the definition, the disk and the data.
    let dir = sandbox.path(hostile);
    fs::create_dir(&dir).unwrap();
    let name = sandbox.name("web");
    let definition = format!(
        "name = \"{name}\"\ndescription = '''{hostile}\nsecond line'''\nmemory = \"64M\"\naccel = \"tcg\"\n\
         kernel = \"kernel, image\"\nappend = '''{hostile}'''\n[disk.root]\nfile = \"x,y=z.qcow2\"\nsize = \"1M\"\n\
         [qemu]\nargs = [\"-S\"]\n"
    );
    fs::copy(
        crate::sandbox::guests().join("probe/kernel"),
        dir.join("kernel, image"),
    )
    .unwrap();
    fs::write(dir.join("web.toml"), definition).unwrap();
    let run = |args: &[&str]| {
        let ran = sandbox
            .command(args)
            .current_dir(&dir)
            .env("XDG_DATA_HOME", &dir)
            .env("XDG_CONFIG_HOME", &dir)
            .output()
            .unwrap();
        assert!(
            ran.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&ran.stderr)
        );
        String::from_utf8(ran.stdout).unwrap()
    };
    run(&["add", "web.toml"]);
    run(&["start", &name]);

    let blocks: serde_json::Value =
        serde_json::from_str(&run(&["qmp", &name, "query-block", "--json"])).unwrap();
    let disk = dir.join("x,y=z.qcow2");
    assert_eq!(blocks.as_array().unwrap().len(), 1, "{blocks}");
    assert_eq!(
        blocks[0]["inserted"]["image"]["filename"],
        disk.to_str().unwrap()
    );
    let append = run(&[
        "qmp",
        &name,
        "qom-get",
        r#"{"path": "/machine", "property": "append"}"#,
        "--json",
    ]);
    assert_eq!(serde_json::from_str::<String>(&append).unwrap(), hostile);
    // Of a text of several lines, the first.
    assert_eq!(
        sandbox.property("web", "Description"),
        format!("VM {name}: {hostile}")
    );
    // The restart that systemd would do reads the same definition, also when systemd
    // has read again what it wrote down of the unit.
    systemctl(&["daemon-reload"]).ok();
    systemctl(&["restart", &sandbox.unit("web")]).ok();
    run(&["qmp", &name, "query-status"]);
    run(&["stop", &name]);
}

#[test]
fn a_vm_started_by_any_process_is_reached_from_any_other() {
    let sandbox = Sandbox::new();
    for name in ["plain", "killed", "cron"] {
        sandbox.add_prelaunch(name);
    }
    // (a) by a process that is gone.
    sandbox.maqet(&["start", "@plain"]).ok();
    // (b) by one that was killed before it could say anything.
    let mut starter = sandbox.spawn(&["start", "@killed"]);
    wait_until("systemd was asked", || {
        sandbox.property("killed", "LoadState") == "loaded"
    });
    starter.kill().unwrap();
    starter.wait().unwrap();
    // (c) by another service, with hardly an environment.
    let ran = Command::new("systemd-run")
        .args(["--user", "--wait", "--quiet"])
        .arg(format!(
            "--setenv=XDG_DATA_HOME={}",
            sandbox.path("data").display()
        ))
        .arg(env!("CARGO_BIN_EXE_maqet"))
        .args(["start", &sandbox.name("cron")])
        .status()
        .unwrap();
    assert!(ran.success());
    for name in ["plain", "killed", "cron"] {
        wait_until("it is up", || {
            sandbox.property(name, "ActiveState") == "active"
        });
        let vm = format!("@{name}");
        let answer = sandbox
            .maqet(&["qmp", &vm, "query-status", "--json"])
            .json();
        assert_eq!(answer["status"], "prelaunch", "{name}");
    }
}

#[test]
fn the_user_manager_is_found_where_no_variable_names_it() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    let name = sandbox.name("web");
    for args in [
        &["start", &name][..],
        &["ls"],
        &["status", &name],
        &["qmp", &name, "query-status"],
        &["stop", &name],
    ] {
        let output = sandbox
            .command(args)
            .env_remove("DBUS_SESSION_BUS_ADDRESS")
            .env_remove("XDG_RUNTIME_DIR")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn a_disk_without_a_file_of_its_own_lies_in_a_hostile_directory() {
    let sandbox = Sandbox::new();
    let data = sandbox.path("a,b,,readonly=on \"q\" 'k' two\nlines %n %% $HOME ${PATH} #;&*?");
    let name = sandbox.name("web");
    let file = sandbox.path("web.toml");
    fs::write(&file, "accel = \"tcg\"\n[disk.root]\nsize = \"4M\"\n").unwrap();
    let maqet = |args: &[&str]| -> String {
        let output = sandbox
            .command(args)
            .env("XDG_DATA_HOME", &data)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let file = file.to_str().unwrap();
    maqet(&["add", file, "--name", &name, "--qemu-arg=-S"]);
    maqet(&["start", &name]);
    let answer = maqet(&["qmp", "--json", &name, "query-block"]);
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let disk = data.join("maqet/vms").join(&name).join("root.qcow2");
    assert_eq!(answer[0]["inserted"]["file"], disk.to_str().unwrap());
    maqet(&["stop", &name]);
}

#[test]
fn a_database_that_does_not_fit_is_named_and_the_next_add_works() {
    let sandbox = Sandbox::new();
    let name = sandbox.name("web");
    let mut command = sandbox.command(&["add", "--name", &name, "--disk", "root.qcow2:1M"]);
    // SAFETY: as above.
    unsafe {
        command.pre_exec(|| {
            let limit = libc::rlimit {
                rlim_cur: 2048,
                rlim_max: 2048,
            };
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            match libc::setrlimit(libc::RLIMIT_FSIZE, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let ran = command.output().unwrap();
    let words = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{words}");
    assert!(words.contains("maqet.db"), "{words}");
    assert!(!sandbox.path("root.qcow2").exists());
    sandbox.add("web", &["--disk", "root.qcow2:1M"]);
}
