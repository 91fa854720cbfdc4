use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::sandbox::{Ran, Sandbox, signal, wait_until, wait_until_open};

fn prelaunch() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox
}

/// A running guest; `words` are its kernel's.
fn probe(words: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.add_probe("web", words);
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox.wait_for_console("web", "probe: ready");
    sandbox
}

impl Sandbox {
    fn image(&self, file: &str) {
        let image = std::fs::File::create(self.path(file)).unwrap();
        image.set_len(1 << 20).unwrap();
    }

    fn device(&self, verb: &str, words: &[&str]) -> Ran {
        self.maqet(&[&["device", verb, "@web"], words].concat())
    }

    /// The device as `ls --json` shows it; null if it does not.
    fn device_listed(&self, name: &str) -> Value {
        let devices = self.device("ls", &["--json"]).json();
        let mut devices = devices.as_array().unwrap().iter();
        let found = devices.find(|device| device["name"] == name);
        found.cloned().unwrap_or_default()
    }

    fn definition(&self) -> String {
        self.maqet(&["show", "@web"]).ok().stdout
    }

    /// Block nodes of disks, by QEMU's names.
    fn nodes(&self) -> Vec<String> {
        let words = [
            "qmp",
            "@web",
            "query-named-block-nodes",
            "flat=on",
            "--json",
        ];
        let nodes = self.maqet(&words).json();
        let names = nodes.as_array().unwrap().iter();
        let names = names.map(|node| node["node-name"].as_str().unwrap().to_owned());
        names.filter(|name| name.starts_with("disk-")).collect()
    }

    /// What `status` says when QEMU has answered it, which is not waited for very long.
    fn whole_status(&self) -> Value {
        let mut status = Value::Null;
        wait_until("QEMU answers", || {
            status = self.maqet(&["status", "@web", "--json"]).json();
            status["monitor_error"].is_null()
        });
        status
    }

    fn is_pending(&self) -> bool {
        self.whole_status()["definition_changed"].as_bool().unwrap()
    }

    /// What came of an `add`, when it had the monitor: of many, the last may have to try again.
    fn added(&self, words: &[&str], add: Child) -> Ran {
        let mut ran = Ran::of(add);
        wait_until("it has the monitor", || {
            if ran.status == 6 {
                ran = self.device("add", words);
            }
            ran.status != 6
        });
        ran
    }
}

#[test]
fn a_disk_is_plugged_with_the_keys_of_its_table_whatever_its_file_is_called() {
    let sandbox = prelaunch();
    sandbox.image("a,b=c $x.img");
    let words = ["disk.data", "file=a,b=c $x.img", "read-only=on", "--json"];
    let added = sandbox.device("add", &words).json();
    assert_eq!(added["id"], "disk-data");
    assert_eq!(added["bus"], "hotplug0");
    assert_eq!(added["persistent"], false);
    let disk = sandbox.device_listed("disk.data");
    assert_eq!(disk["driver"], "virtio-blk-pci");
    assert_eq!(disk["hotplugged"], true);
    assert_eq!(disk["unpluggable"], true);
    assert_eq!(disk["defined"], false);
    let file = sandbox.path("a,b=c $x.img");
    assert_eq!(disk["backing"], file.to_str().unwrap());
    assert_eq!(sandbox.whole_status()["drives"][0]["read_only"], true);
    assert!(sandbox.is_pending(), "a restart would lose it");
}

#[test]
fn a_disk_is_plugged_with_all_that_its_table_says_and_nothing_of_it_is_left() {
    let sandbox = prelaunch();
    sandbox.image("a.img");
    let qom = |path: &str, property: &str| {
        let path = format!("path={path}");
        let property = format!("property={property}");
        let words = ["qmp", "@web", "qom-get", &path, &property, "--json"];
        sandbox.maqet(&words).json()
    };
    let words = [
        "disk.a",
        "file=a.img",
        "cache=directsync",
        "aio=native",
        "serial=a,b c",
        "interface=scsi",
        "rotation-rate=1",
        "limits.iops=100",
        "limits.bps-read=1M",
        "limits.bps-write=2M",
    ];
    sandbox.device("add", &words).ok();
    let nodes = ["disk-a-limit", "disk-a", "disk-a-file"];
    assert_eq!(sandbox.nodes(), nodes);
    let listed = sandbox.device_listed("disk.a");
    assert_eq!(listed["backing"], sandbox.path("a.img").to_str().unwrap());
    let drive = &sandbox.whole_status()["drives"][0];
    assert_eq!(drive["format"], "raw");
    assert_eq!(drive["virtual_size"], 1 << 20);
    assert_eq!(qom("disk-a", "serial"), "a,b c");
    assert_eq!(qom("disk-a", "rotation_rate"), 1);
    assert_eq!(qom("disk-a", "write-cache"), "off");
    let limits = qom("/objects/disk-a-limits", "limits");
    assert_eq!(limits["iops-total"], 100);
    assert_eq!(limits["bps-read"], 1 << 20);
    assert_eq!(limits["bps-write"], 2 << 20);
    sandbox.device("rm", &["disk.a"]).ok();
    assert!(sandbox.nodes().is_empty());

    // Two disks share a thread, whoever comes first.
    sandbox.image("b.img");
    for (disk, file) in [("disk.a", "file=a.img"), ("disk.b", "file=b.img")] {
        let words = [disk, file, "iothread=both", "cache=unsafe"];
        sandbox.device("add", &words).ok();
    }
    for disk in ["disk-a", "disk-b"] {
        assert_eq!(qom(disk, "iothread"), "/objects/iothread-both");
    }
    let words = ["disk.c", "file=a.img", "aio=native"];
    sandbox
        .device("add", &words)
        .fails(2)
        .saying("goes past the host's page cache");
}

#[test]
fn every_interface_that_can_be_plugged_is() {
    let sandbox = prelaunch();
    for (interface, driver) in [
        ("virtio", "virtio-blk-pci"),
        ("scsi", "scsi-hd"),
        ("usb", "usb-storage"),
    ] {
        sandbox.image(interface);
        let what = format!("disk.{interface}");
        let words = [&what, &format!("file={interface}"), "format=raw"].map(String::from);
        let interface = format!("interface={interface}");
        let words = [&words[0], &words[1], &words[2], &interface].map(String::as_str);
        sandbox.device("add", &words).ok();
        assert_eq!(sandbox.device_listed(&what)["driver"], driver);
    }
    // The controllers that the VM lacked have come along.
    assert_eq!(sandbox.device_listed("scsi")["driver"], "virtio-scsi-pci");
    assert_eq!(sandbox.device_listed("usb")["driver"], "qemu-xhci");
    sandbox
        .device("add", &["disk.cd", "file=virtio", "interface=sata"])
        .fails(1)
        .saying("a SATA drive cannot be added");
    // Neither needs the guest's consent.
    sandbox.device("rm", &["disk.scsi"]).ok();
    sandbox.device("rm", &["disk.usb"]).ok();
    assert_eq!(sandbox.nodes().len(), 2);
}

#[test]
fn a_disk_that_is_missing_or_in_use_or_misspelt_is_refused_and_leaves_nothing() {
    let sandbox = prelaunch();
    sandbox.image("used.img");
    sandbox.image("free.img");
    sandbox.device("add", &["disk.a", "file=used.img"]).ok();
    sandbox.add_prelaunch("other");
    sandbox.maqet(&["start", "@other"]).ok();
    let before = sandbox.nodes();
    sandbox
        .maqet(&["device", "add", "@other", "disk.b", "file=used.img"])
        .fails(1)
        .saying("used.img is in use by VM `")
        .saying("-web`");
    for (words, status, said) in [
        (
            &["disk.b", "file=nope.img"][..],
            1,
            "nope.img does not exist",
        ),
        (&["disk.b", "fiel=free.img"], 2, "did you mean `file`?"),
        (&["disk.b", "file=free.img", "format=qcow2"], 5, "qcow2"),
        (&["disk.b"], 2, "a disk needs a `file`"),
        (
            &["disk.a", "file=free.img"],
            1,
            "has a device `disk-a` already",
        ),
        (&["disk.b,c", "file=free.img"], 2, "cannot name a device"),
        (&["dsk.b", "file=free.img"], 2, "neither disk.NAME"),
        (&["net.b", "forward=22"], 2, "is not a forward"),
        (
            &["net.b", "model=virtoi-net-pci"],
            2,
            "did you mean `virtio-net-pci`?",
        ),
        (&["usb-tabelt"], 2, "did you mean `usb-tablet`?"),
        (&["usb-tablet", "prot=1"], 2, "did you mean `port`?"),
        (
            &["usb-tablet", "msos-desc=perhaps"],
            2,
            "expected on or off",
        ),
        (&["device.tab", "port=1"], 2, "a device needs a `driver`"),
        (
            &["device.usb", "driver=usb-tablet", "--persist"],
            2,
            "maqet itself",
        ),
        (&["virtio-blk-pci", "drive=nope"], 5, "nope"),
    ] {
        sandbox.device("add", words).fails(status).saying(said);
        assert_eq!(sandbox.nodes(), before, "{words:?}");
    }
    let devices = sandbox.device("ls", &["--json"]).json();
    let devices = devices.as_array().unwrap().iter();
    assert_eq!(
        devices
            .filter(|device| device["hotplugged"] == true)
            .count(),
        1
    );
    assert!(!sandbox.definition().contains("disk"));
}

#[test]
fn what_half_succeeded_is_undone() {
    let sandbox = prelaunch();
    sandbox.image("data.img");
    for port in 0..4 {
        let words = ["virtio-rng-pci", &format!("id=r{port}")].map(str::to_owned);
        sandbox.device("add", &[&words[0], &words[1]]).ok();
    }
    let full = ["disk.data", "file=data.img"];
    sandbox
        .device("add", &full)
        .fails(1)
        .saying("all 4 are taken");
    assert!(sandbox.nodes().is_empty());
    // Here QEMU itself refuses the device, when the nodes are there.
    let usb = ["qmp", "@web", "device_add", "driver=qemu-xhci", "id=usb"];
    sandbox.maqet(&usb).fails(5);
    let made = ["disk.made", "size=1M", "interface=nvme"];
    sandbox.device("add", &made).fails(1);
    assert!(!sandbox.vm_dir("web").join("made.qcow2").exists());
    let net = ["net.lan", "forward=127.0.0.1:1:22", "model=usb-net"];
    sandbox.device("add", &net).fails(1);
    // Its netdev is gone, or this would be a duplicate.
    let netdev = ["qmp", "@web", "netdev_add", "type=user", "id=net-lan"];
    sandbox.maqet(&netdev).ok();
}

#[test]
fn a_device_that_qemu_refuses_takes_its_nodes_along() {
    let sandbox = prelaunch();
    let disk = ["disk.made", "size=1M", "interface=scsi"];
    sandbox.device("add", &disk).ok();
    sandbox.device("rm", &["disk.made"]).ok();
    let made = sandbox.vm_dir("web").join("made.qcow2");
    assert!(made.exists(), "its file stays");
    assert!(sandbox.nodes().is_empty());
    // An empty image that was made for a device that did not come is not kept.
    let blocker = ["scsi-cd", "id=disk-more"];
    sandbox.device("add", &blocker).ok();
    let more = ["disk.more", "size=1M", "interface=scsi"];
    sandbox.device("add", &more).fails(1).saying("already");
    assert!(!sandbox.vm_dir("web").join("more.qcow2").exists());
}

#[test]
fn what_is_persistent_is_there_after_a_restart_and_what_is_not_is_not() {
    let sandbox = prelaunch();
    sandbox.image("data.img");
    let before = sandbox.definition();
    for words in [
        &["disk.data", "file=data.img", "--persist"][..],
        &["net.lan", "forward=127.0.0.1:0022901:22", "--persist"],
        &["usb-tablet", "id=tab", "serial=17", "--persist"],
        &["virtio-rng-pci", "max-bytes=1024", "--persist"],
    ] {
        let plugged = sandbox.device("add", words).ok();
        let plugged = plugged.saying("in the definition");
        let is_told = plugged.stderr.contains("its controller `usb` is plugged");
        assert_eq!(is_told, words[0] == "usb-tablet", "{}", plugged.stderr);
    }
    assert!(!sandbox.is_pending());
    let plugged = sandbox.device("add", &["usb-kbd"]).ok();
    // The first USB device has brought it.
    assert!(!plugged.stderr.contains("controller"), "{}", plugged.stderr);
    assert!(sandbox.is_pending());
    sandbox.maqet(&["stop", "@web"]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    for name in ["disk.data", "net.lan", "net.net0", "tab", "virtio-rng0"] {
        let device = sandbox.device_listed(name);
        assert_eq!(device["defined"], true, "{name}");
        assert_eq!(device["plugged"], true, "{name}");
        assert_eq!(device["hotplugged"], false, "{name}");
    }
    assert_eq!(sandbox.device_listed("usb-kbd0"), Value::Null);
    // USB has hot-plug even so; what is on q35's root bus goes at the next start.
    let tab = sandbox.device("rm", &["tab", "--persist", "--json"]).json();
    assert_eq!(tab["outcome"], "unplugged");
    sandbox
        .device("rm", &["disk.data"])
        .fails(1)
        .saying("--persist");
    for name in ["disk.data", "net.lan", "virtio-rng0"] {
        let gone = sandbox.device("rm", &[name, "--persist", "--json"]).json();
        assert_eq!(gone["outcome"], "at-next-start", "{name}");
    }
    let defined = sandbox.definition();
    assert_eq!(defined.replace("\n[net.net0]\n", ""), before);
    sandbox.maqet(&["stop", "@web"]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    assert_eq!(sandbox.device_listed("disk.data"), Value::Null);
    assert!(sandbox.path("data.img").exists());
}

#[test]
fn comments_and_layout_of_a_definition_stay() {
    let sandbox = Sandbox::new();
    let name = sandbox.name("web");
    let text = format!(
        "# Ours.\nname = \"{name}\"\naccel = \"tcg\" # slow\nqemu.args = [ \"-S\" ]\n\n[net]\n"
    );
    std::fs::write(sandbox.path("web.toml"), &text).unwrap();
    sandbox.maqet(&["add", "web.toml"]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    sandbox
        .device("add", &["device.tab", "driver=usb-tablet", "--persist"])
        .ok();
    assert_eq!(
        sandbox.definition(),
        format!("{text}\n[device.tab]\ndriver = \"usb-tablet\"\n")
    );
    sandbox.device("rm", &["device.tab", "--persist"]).ok();
    assert_eq!(sandbox.definition(), text);
    // Without a key it is plugged as it is defined.
    sandbox
        .device("add", &["device.tab", "driver=usb-tablet", "--persist"])
        .ok();
    sandbox.device("rm", &["device.tab"]).ok();
    assert_eq!(sandbox.device_listed("tab")["plugged"], false);
    sandbox
        .device("add", &["device.tab", "driver=usb-kbd"])
        .fails(1)
        .saying("already");
    sandbox.device("add", &["device.tab"]).ok();
    assert_eq!(sandbox.device_listed("tab")["driver"], "usb-tablet");
    assert!(!sandbox.is_pending());
}

#[test]
fn of_several_at_once_each_gets_its_own_port_and_id_and_none_is_lost() {
    let sandbox = prelaunch();
    let tablet = ["usb-tablet", "--persist"];
    let adds: Vec<_> = (0..8)
        .map(|_| sandbox.spawn(&[&["device", "add", "@web"], &tablet[..]].concat()))
        .collect();
    for add in adds {
        sandbox.added(&tablet, add).ok();
    }
    let definition = sandbox.definition();
    for number in 0..8 {
        let table = format!("[device.usb-tablet{number}]");
        assert!(definition.contains(&table), "{definition}");
    }
    let adds: Vec<_> = (0..5)
        .map(|_| sandbox.spawn(&["device", "add", "@web", "virtio-rng-pci"]))
        .collect();
    let adds = adds.into_iter();
    let statuses: Vec<i32> = adds
        .map(|add| sandbox.added(&["virtio-rng-pci"], add).status)
        .collect();
    // One port has the USB controller.
    assert_eq!(statuses.iter().filter(|status| **status == 0).count(), 3);
    assert!(!sandbox.is_pending() || sandbox.device_listed("virtio-rng2")["plugged"] == true);
}

#[test]
fn a_command_that_is_killed_halfway_is_finished_or_undone_by_the_next() {
    let sandbox = prelaunch();
    sandbox.image("data.img");
    // Nodes without a device: killed between the two.
    for words in [
        &[
            "driver=file",
            "node-name=disk-data-file",
            "filename=data.img",
        ][..],
        &["driver=raw", "node-name=disk-data", "file=disk-data-file"],
    ] {
        let file = format!("filename={}", sandbox.path("data.img").display());
        let words = words.iter().map(|word| match *word {
            "filename=data.img" => file.as_str(),
            word => word,
        });
        let words: Vec<&str> = ["qmp", "@web", "blockdev-add"]
            .into_iter()
            .chain(words)
            .collect();
        sandbox.maqet(&words).ok();
    }
    sandbox
        .device("rm", &["disk.data"])
        .ok()
        .saying("was not plugged");
    assert!(sandbox.nodes().is_empty());
    sandbox
        .device("rm", &["disk.data"])
        .fails(1)
        .saying("has no device");

    let add = ["disk.data", "file=data.img", "interface=scsi", "--persist"];
    let begin = Instant::now();
    sandbox.device("add", &add).ok();
    let whole = begin.elapsed();
    sandbox.device("rm", &["disk.data", "--persist"]).ok();
    let mut killed = 0;
    for twentieth in 0..20 {
        let mut child = sandbox.spawn(&[&["device", "add", "@web"], &add[..]].concat());
        thread::sleep(whole * twentieth / 20);
        if child.try_wait().unwrap().is_none() {
            signal(child.id(), libc::SIGKILL);
            killed += 1;
        }
        child.wait().unwrap();
        let again = sandbox.device("add", &add);
        // It was quicker than the signal, or it was not.
        if again.status != 0 {
            again.fails(1).saying("is in the definition");
        }
        assert_eq!(sandbox.device_listed("disk.data")["plugged"], true);
        assert!(sandbox.definition().contains("[disk.data]"));
        sandbox.device("rm", &["disk.data", "--persist"]).ok();
        assert!(sandbox.nodes().is_empty());
        assert!(!sandbox.definition().contains("[disk.data]"));
    }
    assert!(killed > 0, "none was killed in time");
}

#[test]
fn a_guest_that_runs_sees_a_new_disk_and_lets_go_of_it() {
    let sandbox = probe("");
    sandbox.image("data.img");
    sandbox.device("add", &["disk.data", "file=data.img"]).ok();
    // Its driver reads the partition table.
    wait_until("the guest reads its new disk", || {
        let stats = ["qmp", "@web", "query-blockstats", "--json", "--timeout=60s"];
        let stats = sandbox.maqet(&stats).json();
        stats[0]["stats"]["rd_operations"].as_u64() > Some(0)
    });
    let address = sandbox.device_listed("disk.data")["address"].clone();
    assert!(address.as_str().unwrap().ends_with(":00.0"), "{address}");
    sandbox.device("rm", &["disk.data", "--timeout", "5m"]).ok();
    assert_eq!(sandbox.device_listed("disk.data"), Value::Null);
    assert!(sandbox.nodes().is_empty());
    assert!(!sandbox.is_pending(), "it is as it was at the start");
    // Free again, for another to write.
    Command::new("qemu-io")
        .args(["-f", "raw", "-c", "write 0 512"])
        .arg(sandbox.path("data.img"))
        .output()
        .ok()
        .filter(|ran| ran.status.success())
        .expect("nobody has the file open");
    sandbox.device("add", &["net.lan"]).ok();
    sandbox
        .device("rm", &["net.lan", "--no-wait"])
        .ok()
        .saying("was asked");
    wait_until("the NIC is gone", || {
        sandbox.device_listed("net.lan").is_null()
    });
    // What was behind it is closed by the next command about it.
    sandbox.device("add", &["net.lan"]).ok();
    assert_eq!(sandbox.device_listed("net.lan")["backing"], "net-lan");
}

#[test]
fn a_guest_that_does_not_let_go_keeps_the_device_and_the_monitor_is_free_meanwhile() {
    let sandbox = probe("acpiphp.disable=1");
    sandbox.image("data.img");
    let add = ["disk.data", "file=data.img", "--persist"];
    sandbox.device("add", &add).ok();
    let rm = [
        "device",
        "rm",
        "@web",
        "disk.data",
        "--persist",
        "--timeout",
        "8s",
    ];
    let mut rm = sandbox.spawn(&rm);
    let mut others = 0;
    while rm.try_wait().unwrap().is_none() {
        let query = ["qmp", "@web", "query-status", "--timeout", "60s"];
        sandbox.maqet(&query).ok();
        others += 1;
    }
    // One may have waited for its end.
    assert!(others > 1, "{others}");
    Ran::of(rm)
        .fails(1)
        .saying("did not let go of `disk-data` within 8 s")
        .saying("it is still plugged");
    assert_eq!(sandbox.device_listed("disk.data")["plugged"], true);
    assert!(sandbox.definition().contains("[disk.data]"));
    assert_eq!(sandbox.nodes().len(), 2);
    // Whoever waits hears of it when the VM ends.
    let rm = sandbox.spawn(&["device", "rm", "@web", "disk.data", "--timeout", "60s"]);
    // By then it has the monitor, which another one gets when it has asked the guest.
    wait_until_open(&rm, &sandbox.runtime("web").join("events.log"));
    let query = ["qmp", "@web", "query-status", "--timeout", "60s"];
    sandbox.maqet(&query).ok();
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    Ran::of(rm).fails(3).saying("is not running");
}

#[test]
fn a_guest_that_does_not_run_is_not_waited_for() {
    let sandbox = prelaunch();
    sandbox.image("data.img");
    sandbox.device("add", &["disk.data", "file=data.img"]).ok();
    let begin = Instant::now();
    sandbox
        .device("rm", &["disk.data", "--timeout", "50s"])
        .fails(1)
        .saying("is prelaunch: it cannot let go");
    assert!(begin.elapsed() < Duration::from_secs(40));
    sandbox
        .device("rm", &["rng"])
        .fails(1)
        .saying("without hot-plug");
    sandbox
        .device("rm", &["dsk.data"])
        .fails(1)
        .saying("did you mean `disk.data`?");
}

#[test]
fn a_device_without_an_id_goes_by_its_path() {
    let sandbox = Sandbox::new();
    sandbox.add(
        "web",
        &[
            "--qemu-arg=-S",
            "--qemu-arg=-usb",
            "--qemu-arg=-device",
            "--qemu-arg=usb-tablet",
        ],
    );
    sandbox.maqet(&["start", "@web"]).ok();
    let devices = sandbox.device("ls", &["--json"]).json();
    let mut devices = devices.as_array().unwrap().iter();
    let tablet = devices
        .find(|device| device["driver"] == "usb-tablet")
        .unwrap();
    assert_eq!(tablet["defined"], false);
    let path = tablet["id"].as_str().unwrap();
    assert!(path.starts_with("/machine/"), "{path}");
    sandbox.device("rm", &[path]).ok().saying("is unplugged");
    sandbox
        .device("rm", &[path])
        .fails(1)
        .saying("has no device");
}

#[test]
fn a_definition_can_have_more_ports() {
    let sandbox = Sandbox::new();
    let name = sandbox.name("web");
    let text = format!(
        "name = \"{name}\"\naccel = \"tcg\"\nqemu.args = [\"-S\"]\n\
         [device.hotplug4]\ndriver = \"pcie-root-port\"\nchassis = 5\n"
    );
    std::fs::write(sandbox.path("web.toml"), text).unwrap();
    sandbox.maqet(&["add", "web.toml"]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    for port in ["hotplug0", "hotplug1", "hotplug2", "hotplug3", "hotplug4"] {
        let added = sandbox.device("add", &["virtio-rng-pci", "--json"]).json();
        assert_eq!(added["bus"], port);
    }
    sandbox
        .device("add", &["virtio-rng-pci"])
        .fails(1)
        .saying("all 5 are taken")
        .saying("pcie-root-port");
}

#[test]
fn a_vm_that_does_not_run_has_no_devices_to_change() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    for words in [
        &["device", "add", "@web", "usb-tablet"][..],
        &["device", "rm", "@web", "tab"],
        &["device", "ls", "@web"],
    ] {
        sandbox.maqet(words).fails(3).saying("is not running");
    }
    sandbox.maqet(&["device", "ls", "@other"]).fails(4);
}

#[test]
fn a_pc_needs_no_ports_and_a_microvm_says_that_it_has_none() {
    let sandbox = Sandbox::new();
    for machine in ["pc", "microvm"] {
        sandbox.add(machine, &["--qemu-arg=-S", "--machine", machine]);
        let name = format!("@{machine}");
        sandbox.maqet(&["start", &name]).ok();
        let devices = sandbox.maqet(&["device", "ls", &name, "--json"]).json();
        assert!(!devices.as_array().unwrap().is_empty());
    }
    let rng = ["device", "add", "@pc", "virtio-rng-pci", "--json"];
    let added = sandbox.maqet(&rng).json();
    assert_eq!(added["bus"], Value::Null);
    sandbox
        .maqet(&["device", "add", "@microvm", "usb-tablet"])
        .fails(5);
}
