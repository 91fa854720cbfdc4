use std::path::PathBuf;
use std::time::Duration;

use crate::kill;
use crate::sandbox::{Ran, Sandbox, signal, systemctl, wait_until};

/// A guest that counts on its disk, without end.
fn counting(definition: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let guest = crate::sandbox::guests().join("probe");
    let text = format!(
        "memory = \"128M\"\naccel = \"tcg\"\nkernel = \"{0}/kernel\"\ninitrd = \"{0}/initrd\"\n\
         append = \"console=ttyS0 quiet cryptomgr.notests probe.write=1\"\n{definition}\n\
         [disk.data]\nfile = \"data.raw\"\nsize = \"1M\"\n",
        guest.display()
    );
    std::fs::write(sandbox.path("web.toml"), text).unwrap();
    let name = sandbox.name("web");
    sandbox.maqet(&["add", "web.toml", "--name", &name]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.wait_for_console("web", "probe: ready");
    wait_until("the guest counts", || count(&sandbox) > 3);
    sandbox
}

/// The number that the guest wrote last.
fn count(sandbox: &Sandbox) -> u64 {
    let bytes = std::fs::read(sandbox.path("data.raw")).unwrap();
    let digits: String = bytes
        .iter()
        .map(|&byte| char::from(byte))
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().unwrap_or(0)
}

fn saved_state(sandbox: &Sandbox) -> PathBuf {
    let file = format!("data/maqet/saved/{}.state", sandbox.name("web"));
    sandbox.path(&file)
}

#[test]
fn a_saved_guest_goes_on_where_it_was() {
    let sandbox = counting("");
    sandbox.maqet(&["save", "@web"]).ok().saying("saved");
    assert_eq!(sandbox.state("web"), "saved");
    let then = count(&sandbox);
    let status = sandbox.maqet(&["status", "@web", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status.fails(3).stdout).unwrap();
    assert!(
        status["saved"]["bytes"].as_u64().unwrap() > 1 << 20,
        "{status}"
    );
    let status = sandbox.maqet(&["status", "@web"]).fails(3).stdout;
    assert!(
        status.contains("saved") && !status.contains("host-signal"),
        "{status}"
    );

    sandbox
        .maqet(&["start", "@web"])
        .ok()
        .saying("goes on where it was saved");
    assert_eq!(sandbox.state("web"), "running");
    wait_until("the guest goes on counting", || count(&sandbox) > then);
    // It did not boot.
    let console = sandbox.maqet(&["logs", "--console", "@web"]).ok().stdout;
    assert!(!console.contains("probe: ready"), "{console}");
    // The state was for this once.
    assert!(!saved_state(&sandbox).exists());
    sandbox.maqet(&["stop", "@web"]).ok().saying("powered down");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.wait_for_console("web", "probe: ready");
}

#[test]
fn a_guest_that_was_paused_is_paused_when_it_is_loaded() {
    let sandbox = counting("");
    sandbox.maqet(&["qmp", "@web", "stop"]).ok();
    sandbox.maqet(&["save", "@web"]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.wait_for_state("web", "paused");
}

#[test]
fn a_guest_that_was_up_when_it_was_saved_is_up_when_it_goes_on() {
    let sandbox = counting("ready.level = \"console:/probe: ready/\"");
    sandbox.maqet(&["save", "@web"]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    // It does not print it again.
    sandbox
        .maqet(&["wait", "@web", "--ready", "--timeout", "1s"])
        .ok();
    // And once more, as a guest is saved that never printed it in that run.
    sandbox.maqet(&["save", "@web"]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox
        .maqet(&["wait", "@web", "--ready", "--timeout", "1s"])
        .ok();
}

#[test]
fn a_guest_that_was_not_up_yet_when_it_was_saved_is_waited_for_when_it_goes_on() {
    let sandbox = Sandbox::new();
    sandbox.add_lines(
        "web",
        "ready = { level = \"console:/never/\", timeout = \"1s\" }",
    );
    sandbox.maqet(&["start", "@web"]).fails(1);
    sandbox.maqet(&["resume", "@web"]).ok();
    sandbox.maqet(&["save", "@web"]).ok();
    sandbox
        .maqet(&["start", "@web"])
        .fails(1)
        .saying("runs, but is not ready: the console did not say /never/");
}

#[test]
fn a_definition_that_changed_since_does_not_count_until_the_next_boot() {
    let sandbox = counting("");
    sandbox.maqet(&["save", "@web"]).ok();
    // Forgotten and added again, with twice the memory.
    let text = std::fs::read_to_string(sandbox.path("web.toml")).unwrap();
    let state = std::fs::read(saved_state(&sandbox)).unwrap();
    let facts_file = saved_state(&sandbox).with_extension("json");
    let facts = std::fs::read(&facts_file).unwrap();
    sandbox.maqet(&["rm", "--discard-saved", "@web"]).ok();
    std::fs::write(sandbox.path("web.toml"), text.replace("128M", "256M")).unwrap();
    let name = sandbox.name("web");
    sandbox.maqet(&["add", "web.toml", "--name", &name]).ok();
    std::fs::write(saved_state(&sandbox), state).unwrap();
    std::fs::write(facts_file, facts).unwrap();
    sandbox.maqet(&["start", "@web"]).ok();
    let size = || sandbox.maqet(&["qmp", "@web", "query-memory-size-summary", "--json"]);
    assert_eq!(size().json()["base-memory"], 128 << 20);
    sandbox.maqet(&["stop", "@web"]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    assert_eq!(size().json()["base-memory"], 256 << 20);
}

#[test]
fn a_state_is_refused_when_a_disk_has_changed_since() {
    let sandbox = counting("");
    sandbox.maqet(&["save", "@web"]).ok();
    let disk = std::fs::File::options()
        .append(true)
        .open(sandbox.path("data.raw"))
        .unwrap();
    disk.set_len(2 << 20).unwrap();
    sandbox
        .maqet(&["start", "@web"])
        .fails(1)
        .saying("data.raw changed since")
        .saying("--discard-saved");
    assert!(saved_state(&sandbox).exists());
    sandbox.maqet(&["start", "--discard-saved", "@web"]).ok();
    sandbox.wait_for_console("web", "probe: ready");
    assert!(!saved_state(&sandbox).exists());
}

#[test]
fn a_saved_state_is_not_removed_by_the_way() {
    let sandbox = counting("");
    sandbox.maqet(&["save", "@web"]).ok();
    sandbox
        .maqet(&["rm", "--disks", "@web"])
        .fails(1)
        .saying("has a saved state")
        .saying("--discard-saved");
    assert_eq!(sandbox.state("web"), "saved");
    sandbox.maqet(&["rm", "--discard-saved", "@web"]).ok();
    assert!(!saved_state(&sandbox).exists());
    assert!(sandbox.path("data.raw").exists());
}

#[test]
fn what_cannot_be_saved_is_named_and_runs_on() {
    let sandbox = counting("");
    sandbox
        .maqet(&[
            "qmp",
            "@web",
            "device_add",
            "driver=virtio-rng-pci",
            "id=extra",
            "bus=hotplug0",
        ])
        .ok();
    sandbox
        .maqet(&["save", "@web"])
        .fails(1)
        .saying("device `extra` was plugged while the VM ran")
        .saying(&format!("`maqet device rm {} extra`", sandbox.name("web")));
    assert_eq!(sandbox.state("web"), "running");
    let then = count(&sandbox);
    wait_until("the guest runs on", || count(&sandbox) > then);
}

#[test]
fn a_vm_that_does_not_run_is_exit_status_3() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox
        .maqet(&["save", "@web"])
        .fails(3)
        .saying("is not running");
    sandbox
        .maqet(&["save", "@nobody"])
        .fails(4)
        .saying("no VM is named");
}

#[test]
fn a_full_disk_leaves_the_guest_running_and_no_state() {
    let sandbox = counting("");
    let saved = sandbox.path("data/maqet/saved");
    std::fs::create_dir(&saved).unwrap();
    let unfinished = saved_state(&sandbox).with_extension("unfinished");
    std::os::unix::fs::symlink("/dev/full", unfinished).unwrap();
    sandbox
        .maqet(&["save", "@web"])
        .fails(1)
        .saying("goes on as before");
    assert_eq!(sandbox.state("web"), "running");
    assert_eq!(saved.read_dir().unwrap().count(), 0);
    // The next one finds room.
    sandbox.maqet(&["save", "@web"]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
}

#[test]
fn a_save_that_is_killed_at_any_moment_leaves_a_guest_that_can_be_saved() {
    let sandbox = counting("");
    let save = ["save", "@web"];
    let changes = kill::count(&sandbox, &save);
    sandbox.maqet(&["start", "@web"]).ok();
    for point in 0..10 {
        kill::at(&sandbox, point * changes / 10, &save);
        let then = count(&sandbox);
        // Whatever it came to, the next one brings it to its end.
        let next = sandbox.maqet(&["save", "@web"]);
        if next.status != 0 {
            // The first one was done, all but the telling.
            sandbox.wait_for_state("web", "saved");
        }
        sandbox.maqet(&["start", "@web"]).ok().saying("goes on");
        wait_until("the guest goes on counting", || count(&sandbox) > then);
    }
    let console = sandbox.maqet(&["logs", "--console", "@web"]).ok().stdout;
    assert!(
        !console.contains("probe: ready"),
        "it booted anew: {console}"
    );
}

#[test]
fn a_guest_whose_save_was_killed_goes_on_with_the_next_command() {
    let sandbox = counting("");
    // As a save leaves it that is killed when it has written, and has not said so.
    let runtime = sandbox.runtime("web");
    let freeze = || {
        std::fs::write(runtime.join("saving"), "").unwrap();
        sandbox.maqet(&["qmp", "@web", "stop"]).ok();
        let null = r#"{"uri":"exec:cat >/dev/null"}"#;
        sandbox.maqet(&["qmp", "@web", "migrate", null]).ok();
        sandbox.wait_for_state("web", "postmigrate");
    };
    freeze();
    let told = "a save of it was killed";
    // Not where QEMU does not answer at once, or another test has its monitor.
    wait_until("ls tells it", || {
        let ran = sandbox.maqet(&["ls", "@web"]).ok();
        ran.stderr.contains(told)
    });
    for words in [&["status", "@web"][..], &["doctor"]] {
        wait_until(&format!("{words:?} tells it"), || {
            sandbox.maqet(words).stdout.contains(told)
        });
    }
    sandbox
        .maqet(&["start", "@web"])
        .ok()
        .saying("goes on: a save of it was killed")
        .saying("is already running");
    assert_eq!(sandbox.state("web"), "running");
    freeze();
    sandbox
        .maqet(&["set", "@web", "description=x"])
        .ok()
        .saying("goes on");
    assert_eq!(sandbox.state("web"), "running");
    // Of those of other tests, which are not its own, it may be said.
    let ran = sandbox.maqet(&["ls", "@web"]).ok();
    assert!(!ran.stderr.contains("killed"), "{}", ran.stderr);
}

#[test]
fn an_interrupted_save_is_called_off() {
    let sandbox = counting("");
    // However quick it is, it ends in one of two states.
    for delay in [10, 50, 200] {
        let save = sandbox.spawn(&["save", "@web"]);
        std::thread::sleep(Duration::from_millis(delay));
        signal(save.id(), libc::SIGINT);
        let ran = Ran::of(save);
        if ran.status == 0 {
            sandbox.maqet(&["start", "@web"]).ok();
        }
        sandbox.wait_for_state("web", "running");
        assert!(!saved_state(&sandbox).exists());
    }
}

#[test]
fn a_qemu_that_is_killed_meanwhile_leaves_no_state() {
    let sandbox = counting("");
    let mut killed = 0;
    // However quick the save is, the first of these come before its end.
    for delay in [0, 5, 20, 60, 100] {
        let pid = sandbox.pid("web");
        let save = sandbox.spawn(&["save", "@web"]);
        std::thread::sleep(Duration::from_millis(delay));
        // It may have ended by itself, saved.
        signal(pid, libc::SIGKILL);
        let ran = Ran::of(save);
        if ran.status != 0 {
            killed += 1;
            assert!(!saved_state(&sandbox).exists(), "{}", ran.stderr);
        }
        sandbox.maqet(&["start", "@web"]).ok();
        sandbox.wait_for_state("web", "running");
    }
    assert!(killed > 0, "each save was done before QEMU was killed");
}

#[test]
fn stop_action_save_saves_whoever_stops_it() {
    let sandbox = counting("[stop]\naction = \"save\"");
    systemctl(&["stop", &sandbox.unit("web")]).ok();
    assert_eq!(sandbox.state("web"), "saved");
    let then = count(&sandbox);
    sandbox.maqet(&["start", "@web"]).ok().saying("goes on");
    wait_until("the guest goes on counting", || count(&sandbox) > then);
    sandbox.maqet(&["stop", "@web"]).ok().saying("saved");
    assert_eq!(sandbox.state("web"), "saved");
    sandbox.maqet(&["start", "@web"]).ok().saying("goes on");
}

#[test]
fn a_stop_that_cannot_save_powers_the_guest_down() {
    let sandbox = counting("[stop]\naction = \"save\"");
    let saved = sandbox.path("data/maqet/saved");
    std::fs::write(&saved, "in the way").unwrap();
    systemctl(&["stop", &sandbox.unit("web")]).ok();
    sandbox.wait_for_console("web", "probe: powering off");
    assert_eq!(sandbox.state("web"), "stopped");
    wait_until("the journal says so", || {
        let logs = sandbox.maqet(&["logs", "@web"]).ok().stdout;
        logs.contains("asking the guest to power down")
    });
}

#[test]
fn defaults_that_changed_since_do_not_count_until_the_next_boot() {
    let sandbox = Sandbox::new();
    let defaults = |cpus: u32| {
        let text = format!("[defaults]\ncpus = {cpus}\nunit.CPUWeight = {cpus}\n");
        std::fs::create_dir_all(sandbox.path("config/maqet")).unwrap();
        std::fs::write(sandbox.path("config/maqet/config.toml"), text).unwrap();
    };
    let cpus = || {
        let all = sandbox.maqet(&["qmp", "@web", "query-cpus-fast"]).json();
        all.as_array().unwrap().len()
    };
    defaults(2);
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    assert_eq!(sandbox.maqet(&["diff", "@web"]).ok().stdout, "");
    defaults(3);
    let differs = "cpus: 2 -> 3\nunit.CPUWeight: 2 -> 3, live\n";
    assert_eq!(sandbox.maqet(&["diff", "@web"]).ok().stdout, differs);
    // What is set of it is as the definition has it now, defaults and all.
    sandbox.maqet(&["set", "@web", "description=it"]).ok();
    assert_eq!(sandbox.maqet(&["diff", "@web"]).ok().stdout, differs);
    sandbox.maqet(&["qmp", "@web", "cont"]).ok();
    sandbox.maqet(&["save", "@web"]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    assert_eq!(
        (cpus(), sandbox.property("web", "CPUWeight")),
        (2, "2".to_owned())
    );
    sandbox.maqet(&["unset", "@web", "description"]).ok();
    sandbox
        .maqet(&["set", "@web", "unit.CPUWeight=4", "unit.Nice=1"])
        .ok();
    sandbox.maqet(&["unset", "@web", "unit"]).ok();
    assert_eq!(sandbox.property("web", "CPUWeight"), "3");
    assert_eq!(
        sandbox.maqet(&["diff", "@web"]).ok().stdout,
        "cpus: 2 -> 3\n"
    );
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    assert_eq!(cpus(), 3);
}

#[test]
fn devices_are_where_they_were_though_others_were_removed() {
    let sandbox = counting(
        "disk.a = { size = \"1M\", interface = \"scsi\" }\n\
         disk.b = { size = \"1M\", interface = \"scsi\" }\n\
         disk.s = { size = \"1M\", interface = \"usb\" }\n\
         disk.t = { size = \"1M\", interface = \"usb\" }",
    );
    // First those before others on the same bus, then the last: its controller stays.
    for removed in [["a", "s"], ["b", "t"]] {
        for disk in removed {
            sandbox
                .maqet(&["disk", "rm", "@web", disk, "--delete"])
                .ok();
        }
        // What was loaded can be saved and loaded again.
        for _ in 0..2 {
            sandbox.maqet(&["save", "@web"]).ok();
            let then = count(&sandbox);
            sandbox.maqet(&["start", "@web"]).ok().saying("goes on");
            wait_until("the guest goes on counting", || count(&sandbox) > then);
        }
    }
    // A disk that comes is on the controller that is there.
    for interface in ["scsi", "usb"] {
        let key = format!("interface={interface}");
        let words = ["disk", "add", "@web", interface, "--size", "1M", &key];
        sandbox.maqet(&words).ok();
    }
}

#[test]
fn pci_devices_are_where_they_were_though_others_were_removed() {
    let sandbox = counting(
        "machine = \"pc\"\nnet.a = { type = \"multicast\", group = \"230.0.0.1:12345\" }\n\
         net.b = {}\nnet.c = {}",
    );
    // The guest has to let go of it.
    let unplug = |net: &str| {
        let words = ["device", "rm", "@web", net, "--timeout", "5m"];
        sandbox.maqet(&words).ok();
    };
    unplug("net.a");
    sandbox.maqet(&["save", "@web"]).ok();
    let then = count(&sandbox);
    sandbox.maqet(&["start", "@web"]).ok().saying("goes on");
    wait_until("the guest goes on counting", || count(&sandbox) > then);
    let argv = std::fs::read(format!("/proc/{}/cmdline", sandbox.pid("web"))).unwrap();
    let argv = String::from_utf8_lossy(&argv).replace('\0', "\n");
    assert!(argv.contains("net-b") && !argv.contains("net-a"), "{argv}");
    // QEMU numbers its user networks, from the first on.
    unplug("net.b");
    sandbox
        .maqet(&["save", "@web"])
        .fails(1)
        .saying("user network `b` was removed while the VM ran");
    unplug("net.c");
    sandbox.maqet(&["save", "@web"]).ok();
    sandbox.maqet(&["start", "@web"]).ok().saying("goes on");
}
