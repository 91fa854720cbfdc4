use super::*;

fn env(name: &str) -> Option<std::ffi::OsString> {
    (name == "HOME").then(|| "/home/me".into())
}

fn parse(text: &str) -> Result<VmConfig, Error> {
    VmConfig::parse_in(
        text,
        Path::new("/vms/web.toml"),
        &Defaults::default(),
        &env,
        |_| Vec::new(),
    )
}

fn mistakes(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn two_lines_are_a_vm() {
    let config = parse("memory = \"2G\"\ndisk.root.file = \"root.qcow2\"").unwrap();
    assert_eq!(config.name.as_str(), "web", "from the file's name");
    assert_eq!((config.machine.as_str(), config.cpus), ("q35", 1));
    assert_eq!(config.memory.size, Size::from_mebibytes(2048));
    assert_eq!(
        config.disks["root"].file.as_deref(),
        Some(Path::new("/vms/root.qcow2"))
    );
    assert_eq!(config.nets["net0"].model, "virtio-net-pci");
    assert!(config.agent && config.rng.is_some() && config.serial);
    assert_eq!(
        (config.display.kind, config.vga),
        (DisplayKind::None, Vga::Std)
    );
}

#[test]
fn disks_keep_the_order_of_the_file() {
    let config =
        parse("[disk.z]\nsize = \"1G\"\n[disk.a]\nsize = \"1G\"\n[disk.m]\nsize = \"1G\"").unwrap();
    let names: Vec<&str> = config.disks.keys().map(DeviceName::as_str).collect();
    assert_eq!(names, ["z", "a", "m"]);
}

#[test]
fn the_format_follows_the_file() {
    for (disk, format) in [
        ("file = \"a\"", Format::Qcow2),
        ("file = \"a.qcow2\"", Format::Qcow2),
        ("file = \"a.img\"", Format::Raw),
        ("file = \"a.raw\"", Format::Raw),
        ("file = \"a.ISO\"", Format::Raw),
        ("file = \"/dev/vg/a\"", Format::Raw),
        ("file = \"/dev/shm/a\"", Format::Qcow2),
        ("file = \"a\"\ninterface = \"cdrom\"", Format::Raw),
        ("size = \"1G\"", Format::Qcow2),
        ("file = \"a.img\"\nformat = \"qcow2\"", Format::Qcow2),
    ] {
        let config = parse(&format!("[disk.a]\n{disk}")).unwrap();
        assert_eq!(config.disks["a"].format, format, "{disk}");
    }
}

#[test]
fn net_can_be_none_one_or_many() {
    for (text, names) in [
        ("", vec!["net0"]),
        ("net = {}", vec![]),
        ("[net]", vec![]),
        ("[net.lan]", vec!["lan"]),
        ("[net.lan]\n[net.dmz]", vec!["lan", "dmz"]),
        ("machine = \"none\"", vec![]),
    ] {
        let config = parse(text).unwrap();
        let found: Vec<&str> = config.nets.keys().map(DeviceName::as_str).collect();
        assert_eq!(found, names, "{text}");
    }
}

#[test]
fn every_mistake_is_shown_in_its_place() {
    insta::assert_snapshot!(mistakes(r#"name = "we/b"
memroy = "1G"
cpus = "two"
display = "gkt"

[disk.root]
file = "a.raw"
read_only = true

[disk."x y"]
size = 10

[net.lan]
forward = ["2222:22", "22", "0:1"]
mac = "01:00:00:00:00:00"
stop = 5
"#), @r#"
/vms/web.toml:1:8: `we/b` cannot name a VM: use 1 to 63 of A-Z a-z 0-9 `-` `_`, starting with a letter or digit
  1 | name = "we/b"
    |        ^^^^^^
/vms/web.toml:2:1: unknown key `memroy`, did you mean `memory`?
  2 | memroy = "1G"
    | ^^^^^^
/vms/web.toml:3:8: invalid type: string "two", expected a whole number from 0 to 4294967295
  3 | cpus = "two"
    |        ^^^^^
/vms/web.toml:4:11: unknown value `gkt`, did you mean `gtk`?
  4 | display = "gkt"
    |           ^^^^^
/vms/web.toml:8:1: unknown key `read_only`, did you mean `read-only`?
  8 | read_only = true
    | ^^^^^^^^^
/vms/web.toml:10:7: `x y` cannot name a device: use 1 to 20 of A-Z a-z 0-9 `-` `_`, starting with a letter
  10 | [disk."x y"]
     |       ^^^^^
/vms/web.toml:14:23: `22` is not a forward: write HOST-PORT:GUEST-PORT, as in "2222:22", "0.0.0.0:8080:80" or "udp:5353:53"
  14 | forward = ["2222:22", "22", "0:1"]
     |                       ^^^^
/vms/web.toml:14:29: `0` is not a port: ports are 1 to 65535
  14 | forward = ["2222:22", "22", "0:1"]
     |                             ^^^^^
/vms/web.toml:15:7: `01:00:00:00:00:00` is not the address of one NIC: make its first pair even, as in "52:54:00:12:34:56"
  15 | mac = "01:00:00:00:00:00"
     |       ^^^^^^^^^^^^^^^^^^^
/vms/web.toml:16:1: unknown key `stop`, expected one of `type`, `forward`, `restrict`, `network`, `host`, `dns`, `dhcp-start`, `hostname`, `domain`, `dns-search`, `ipv4`, `ipv6`, `bridge`, `ifname`, `listen`, `connect`, `local`, `remote`, `group`, `model`, `mac`, `link`, `boot-index`, `mtu`
  16 | stop = 5
     | ^^^^
"#);
}

#[test]
fn mistakes_of_syntax_are_shown_in_their_place() {
    insta::assert_snapshot!(mistakes("name = web\ncpus = 1 2\n[disk\n"), @r#"
/vms/web.toml:1:8: string values must be quoted, expected literal string
  1 | name = web
    |        ^^^
/vms/web.toml:2:8: string values must be quoted, expected literal string
  2 | cpus = 1 2
    |        ^^^
/vms/web.toml:3:6: unclosed table, expected `]`
  3 | [disk
    |      ^
"#);
    insta::assert_snapshot!(mistakes("cpus = 1\ncpus = 2\n"), @r#"
/vms/web.toml:2:1: duplicate key
  2 | cpus = 2
    | ^^^^
"#);
    insta::assert_snapshot!(mistakes("append = \"a\\u0000b\"\n\"a\\u0000\" = 1\nqemu.args = [\"\\u0000\"]"), @r#"
/vms/web.toml:1:10: holds a NUL character, which no program argument can
  1 | append = "a\u0000b"
    |          ^^^^^^^^^^
/vms/web.toml:2:1: holds a NUL character, which no program argument can
  2 | "a\u0000" = 1
    | ^^^^^^^^^
/vms/web.toml:3:14: holds a NUL character, which no program argument can
  3 | qemu.args = ["\u0000"]
    |              ^^^^^^^^
"#);
}

#[test]
fn what_does_not_fit_together_is_a_mistake() {
    insta::assert_snapshot!(mistakes(r#"memory = "1.5K"
cpus = 0
cpu = "max,la57=off"
initrd = "$NOPE/initrd"
append = "quiet"

[disk.a]
[disk.b]
file = "x.raw"
[disk.c]
file = "./x.raw"
[disk.d]
file = ""
interface = "sata"
read-only = true

[net.lan]
forward = ["80:80"]
[net.wan]
forward = ["0.0.0.0:80:81"]
"#), @r#"
/vms/web.toml:1:10: memory is a whole number of mebibytes, such as "512M"
  1 | memory = "1.5K"
    |          ^^^^^^
/vms/web.toml:2:8: a VM has 1 to 1024 CPUs
  2 | cpus = 0
    |        ^
/vms/web.toml:3:7: a CPU model has letters, digits and `-`, `_`, `.` only; features have a key of their own, as in cpu = { model = "max", features = ["-la57"] }
  3 | cpu = "max,la57=off"
    |       ^^^^^^^^^^^^^^
/vms/web.toml:4:10: the environment variable `NOPE` is not set
  4 | initrd = "$NOPE/initrd"
    |          ^^^^^^^^^^^^^^
/vms/web.toml:4:10: `initrd` needs a `kernel`
  4 | initrd = "$NOPE/initrd"
    |          ^^^^^^^^^^^^^^
/vms/web.toml:5:10: `append` needs a `kernel`
  5 | append = "quiet"
    |          ^^^^^^^
/vms/web.toml:7:7: a disk needs a `file`, a `size` or both
  7 | [disk.a]
    |       ^
/vms/web.toml:11:8: disk `b` has the same file
  11 | file = "./x.raw"
     |        ^^^^^^^^^
/vms/web.toml:13:8: a path cannot be empty
  13 | file = ""
     |        ^^
/vms/web.toml:15:13: a SATA disk cannot be read-only: use another interface
  15 | read-only = true
     |             ^^^^
/vms/web.toml:20:12: `net.lan.forward` has port 80 of the host already
  20 | forward = ["0.0.0.0:80:81"]
     |            ^^^^^^^^^^^^^^^
"#);
    insta::assert_snapshot!(mistakes(r#"machine = "microvm"
vga = "std"
[disk.a]
file = "a"
interface = "sata"
"#), @r#"
/vms/web.toml:2:7: machine `microvm` cannot have this video device
  2 | vga = "std"
    |       ^^^^^
/vms/web.toml:5:13: machine `microvm` cannot have this interface
  5 | interface = "sata"
    |             ^^^^^^
"#);
    insta::assert_snapshot!(mistakes(r#"machine = "none"
[disk.a]
file = "a"
[net.lan]
"#), @r#"
/vms/web.toml:2:7: machine `none` cannot have this interface
  2 | [disk.a]
    |       ^
/vms/web.toml:4:6: machine `none` cannot have a NIC
  4 | [net.lan]
    |      ^^^
"#);
}

#[test]
fn cpus_memory_and_boot_order_have_short_forms() {
    for (short, table) in [
        ("cpu = \"max\"", "cpu.model = \"max\""),
        ("memory = \"2G\"", "memory.size = \"2G\""),
        ("memory = {}", "memory = \"1G\""),
        ("boot = [\"net0\"]", "boot.order = [\"net0\"]"),
        ("balloon = true", "balloon = {}"),
    ] {
        assert_eq!(parse(short).unwrap(), parse(table).unwrap(), "{short}");
    }
    for text in [
        "balloon = false",
        "device.b.driver = \"virtio-balloon-pci\"",
    ] {
        assert_eq!(parse(text).unwrap().balloon, None, "{text}");
    }
    let defaults = Defaults::parse("defaults.memory = \"2G\"", Path::new("config.toml")).unwrap();
    for (text, size) in [
        ("memory.shared = true", 2048),
        ("memory = { size = \"1G\" }", 1024),
    ] {
        let config = VmConfig::parse_with(text, Path::new("web.toml"), &defaults).unwrap();
        assert_eq!(config.memory.size, Size::from_mebibytes(size), "{text}");
    }
}

#[test]
fn the_topology_makes_the_number_of_cpus() {
    for (text, cpus, [sockets, dies, cores, threads]) in [
        ("cpus = 6", 6, [None; 4]),
        (
            "cpu = { sockets = 2, cores = 3 }",
            6,
            [Some(2), None, Some(3), None],
        ),
        (
            "cpus = 8\ncpu = { sockets = 2, threads = 2 }",
            8,
            [Some(2), None, Some(2), Some(2)],
        ),
        ("cpus = 8\ncpu.cores = 4", 8, [Some(2), None, Some(4), None]),
        (
            "cpus = 8\ncpu = { sockets = 2, dies = 2, cores = 1 }",
            8,
            [Some(2), Some(2), Some(1), Some(2)],
        ),
        ("cpus = 4\ncpu.threads = 4", 4, [None, None, None, Some(4)]),
    ] {
        let config = parse(text).unwrap();
        assert_eq!(config.cpus, cpus, "{text}");
        let levels = config.cpu.levels().map(|(_, number)| number);
        assert_eq!(levels, [sockets, dies, cores, threads], "{text}");
    }
}

#[test]
fn what_cpus_memory_and_boot_cannot_be_is_shown_in_its_place() {
    insta::assert_snapshot!(mistakes(r#"cpus = 6
cpu = { modle = "max", features = ["+a", "x", "-a", 1], cores = 4 }
boot = ["root", "lna", "net.root", "disk.lan", "net.root"]
balloon = "on"
[memory]
size = 512
hugepages = "1"
shard = true
[disk.root]
size = "1G"
[net.root]
[net.lan]
"#), @r#"
/vms/web.toml:2:9: unknown key `modle`, did you mean `model`?
  2 | cpu = { modle = "max", features = ["+a", "x", "-a", 1], cores = 4 }
    |         ^^^^^
/vms/web.toml:2:42: `x` is not a CPU feature: write "+avx2", "-svm" or "name=value", of letters, digits, `-`, `_` and `.`
  2 | cpu = { modle = "max", features = ["+a", "x", "-a", 1], cores = 4 }
    |                                          ^^^
/vms/web.toml:2:53: invalid type: integer `1`, expected a CPU feature such as "+avx2"
  2 | cpu = { modle = "max", features = ["+a", "x", "-a", 1], cores = 4 }
    |                                                     ^
/vms/web.toml:4:11: invalid type: string "on", expected `true`, `false` or a table
  4 | balloon = "on"
    |           ^^^^
/vms/web.toml:6:8: `512` has no unit: write "512M"
  6 | size = 512
    |        ^^^
/vms/web.toml:7:13: `1` has no unit: write "1M"
  7 | hugepages = "1"
    |             ^^^
/vms/web.toml:8:1: unknown key `shard`, did you mean `shared`?
  8 | shard = true
    | ^^^^^
"#);
    insta::assert_snapshot!(mistakes(r#"cpus = 6
cpu = { features = ["+a", "-a"], cores = 4 }
boot = ["root", "lna", "net.root", "disk.lan", "net.root"]
dtb = "x"
[memory]
size = "1025M"
hugepages = "2M"
[disk.root]
size = "1G"
[net.root]
[net.lan]
"#), @r#"
/vms/web.toml:1:8: 4 cores are 4 CPUs, and not 6
  1 | cpus = 6
    |        ^
/vms/web.toml:2:27: `a` is there twice
  2 | cpu = { features = ["+a", "-a"], cores = 4 }
    |                           ^^^^
/vms/web.toml:3:9: `root` is a disk and a network: write `disk.root` or `net.root`
  3 | boot = ["root", "lna", "net.root", "disk.lan", "net.root"]
    |         ^^^^^^
/vms/web.toml:3:17: no disk or network is called `lna`, did you mean `lan`?
  3 | boot = ["root", "lna", "net.root", "disk.lan", "net.root"]
    |                 ^^^^^
/vms/web.toml:3:36: no disk or network is called `disk.lan`, did you mean `disk.root`?
  3 | boot = ["root", "lna", "net.root", "disk.lan", "net.root"]
    |                                    ^^^^^^^^^^
/vms/web.toml:3:48: `net.root` is there twice
  3 | boot = ["root", "lna", "net.root", "disk.lan", "net.root"]
    |                                                ^^^^^^^^^^
/vms/web.toml:4:7: `dtb` needs a `kernel`
  4 | dtb = "x"
    |       ^^^
/vms/web.toml:7:13: 1025M of memory are not a whole number of pages of 2M
  7 | hugepages = "2M"
    |             ^^^^
"#);
    insta::assert_snapshot!(mistakes("cpu = { sockets = 0, cores = 4000000000, threads = 4000000000 }\nmemory.hugepages = \"3M\"\nmachine = \"none\"\nballoon = true\n[device.b]\ndriver=\"virtio-balloon-pci\""), @r#"
/vms/web.toml:1:19: there are 1 to 1024 sockets
  1 | cpu = { sockets = 0, cores = 4000000000, threads = 4000000000 }
    |                   ^
/vms/web.toml:1:30: there are 1 to 1024 cores
  1 | cpu = { sockets = 0, cores = 4000000000, threads = 4000000000 }
    |                              ^^^^^^^^^^
/vms/web.toml:1:52: there are 1 to 1024 threads
  1 | cpu = { sockets = 0, cores = 4000000000, threads = 4000000000 }
    |                                                    ^^^^^^^^^^
/vms/web.toml:2:20: huge pages are of a size that the host has, such as "2M" or "1G"
  2 | memory.hugepages = "3M"
    |                    ^^^^
/vms/web.toml:4:11: machine `none` cannot have a balloon
  4 | balloon = true
    |           ^^^^
/vms/web.toml:4:11: there can be one balloon, and a `device` is one
  4 | balloon = true
    |           ^^^^
"#);
    insta::assert_snapshot!(mistakes("cpu = { sockets = 64, cores = 64 }\nboot = \"root\"\nmemory = true"), @r#"
/vms/web.toml:2:8: invalid type: string "root", expected a list of disks and networks, or a table
  2 | boot = "root"
    |        ^^^^^^
/vms/web.toml:3:10: invalid type: boolean `true`, expected a size such as "4G", or a table
  3 | memory = true
    |          ^^^^
"#);
}

#[test]
fn a_file_without_a_usable_name_needs_one_inside() {
    let parse = |text: &str| VmConfig::parse(text, Path::new("/vms/my vm.toml"));
    assert_eq!(
        parse("cpus = 2").unwrap_err().to_string(),
        "/vms/my vm.toml: the VM has no name: write `name = \"web\"` (`my vm` cannot be one)"
    );
    assert_eq!(parse("cpus = []").unwrap_err().mistakes().len(), 2);
    assert_eq!(parse("name = \"db\"").unwrap().name.as_str(), "db");
}

#[test]
fn defaults_hold_for_what_is_not_said() {
    let file = Path::new("config.toml");
    let defaults = Defaults::parse(
        "[defaults]\nmemory = \"2G\"\ncpus = 4\naccel = \"tcg\"",
        file,
    )
    .unwrap();
    let config = VmConfig::parse_with("cpus = 1", Path::new("web.toml"), &defaults).unwrap();
    assert_eq!(config.memory.size, Size::from_mebibytes(2048));
    assert_eq!((config.cpus, config.accel), (1, AccelChoice::Tcg));
    assert_eq!(config.machine, "q35");
    assert_eq!(Defaults::parse("", file), Ok(Defaults::default()));

    insta::assert_snapshot!(
        Defaults::parse("[defaults]\nmemory = \"1K\"\ncpu = 1\n[default]\n", file).unwrap_err(),
        @r#"
config.toml:3:7: invalid type: integer `1`, expected a CPU model such as "max", or a table
  3 | cpu = 1
    |       ^
config.toml:4:2: unknown key `default`, did you mean `defaults`?
  4 | [default]
    |  ^^^^^^^
"#
    );
}

#[test]
fn a_definition_is_shown_as_json() {
    let config =
        parse("[disk.root]\nsize = \"1G\"\nread-only = false\n[net.lan]\nforward = [\"2222:22\"]")
            .unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&config).unwrap(), @r#"
{
  "name": "web",
  "description": null,
  "group": null,
  "labels": {},
  "protect": false,
  "machine": "q35",
  "accel": "auto",
  "memory": {
    "size": 1073741824,
    "hugepages": false,
    "shared": false,
    "prealloc": false
  },
  "cpus": 1,
  "cpu": {
    "model": null,
    "features": [],
    "sockets": null,
    "dies": null,
    "cores": null,
    "threads": null
  },
  "kernel": null,
  "initrd": null,
  "append": null,
  "dtb": null,
  "boot": {
    "order": [],
    "menu": false
  },
  "agent": true,
  "balloon": {
    "free_page_reporting": true,
    "deflate_on_oom": true,
    "target": null
  },
  "rng": {
    "source": null,
    "max_bytes": null,
    "period": null
  },
  "watchdog": null,
  "panic": "exit-failure",
  "smbios": {
    "manufacturer": null,
    "product": null,
    "version": null,
    "serial": null,
    "sku": null,
    "family": null,
    "oem": []
  },
  "rtc": "utc",
  "serial": true,
  "vsock": null,
  "port": {},
  "display": {
    "type": "none",
    "listen": "unix"
  },
  "vga": "std",
  "audio": null,
  "input": [],
  "disk": {
    "root": {
      "file": null,
      "format": "qcow2",
      "size": 1073741824,
      "read_only": false,
      "interface": "virtio",
      "cache": "writeback",
      "aio": "threads",
      "discard": "unmap",
      "detect_zeroes": "off",
      "serial": null,
      "boot_index": null,
      "iothread": null,
      "limits": {
        "iops": null,
        "iops_read": null,
        "iops_write": null,
        "bps": null,
        "bps_read": null,
        "bps_write": null
      },
      "rotation_rate": null,
      "removable": false,
      "logical_block_size": null,
      "physical_block_size": null
    }
  },
  "net": {
    "lan": {
      "type": "user",
      "forward": [
        {
          "protocol": "tcp",
          "host_address": "127.0.0.1",
          "host_port": 2222,
          "guest_port": 22
        }
      ],
      "restrict": false,
      "network": null,
      "host": null,
      "dns": null,
      "dhcp_start": null,
      "hostname": null,
      "domain": null,
      "dns_search": [],
      "ipv4": null,
      "ipv6": null,
      "bridge": null,
      "ifname": null,
      "listen": null,
      "connect": null,
      "local": null,
      "remote": null,
      "group": null,
      "model": "virtio-net-pci",
      "mac": null,
      "link": true,
      "boot_index": null,
      "mtu": null
    }
  },
  "device": {},
  "usb": {},
  "pci": {},
  "after": [],
  "requires": [],
  "start_delay": 0,
  "ready": {
    "level": "monitor",
    "timeout": 120
  },
  "stop": {
    "timeout": 60,
    "action": "powerdown"
  },
  "unit": {},
  "qemu": {
    "binary": "qemu-system-x86_64",
    "args": []
  }
}
"#);
}

#[test]
fn a_resolved_definition_can_stand_anywhere() {
    let text = r#"# my server
memory = "2G"   # enough
kernel = "boot/vmlinuz"
qemu.binary = "qemu-system-i386"
disk = { root = { file = "root $$1.qcow2" }, data = { size = "1G" } }
"#;
    let file = Path::new("/vms/web.toml");
    let resolved = resolve(text, file).unwrap();
    insta::assert_snapshot!(resolved, @r#"
# my server
memory = "2G"   # enough
kernel = "/vms/boot/vmlinuz"
qemu.binary = "qemu-system-i386"
disk = { root = { file = "/vms/root $$1.qcow2" }, data = { size = "1G" } }
name = "web"
"#);
    let elsewhere = VmConfig::parse(&resolved, Path::new("/else/where.toml")).unwrap();
    assert_eq!(elsewhere, VmConfig::parse(text, file).unwrap());
    assert_eq!(
        resolve(&resolved, Path::new("x")).unwrap(),
        resolved,
        "twice is once"
    );
}

#[test]
fn vsock_is_there_when_asked_for_or_needed() {
    let vsock = |text: &str| parse(text).unwrap().vsock;
    assert_eq!(vsock(""), None);
    assert_eq!(vsock("vsock = false"), None);
    assert_eq!(vsock("vsock = true"), Some(Vsock { cid: None }));
    assert_eq!(vsock("vsock = {}"), Some(Vsock { cid: None }));
    assert_eq!(vsock("[vsock]\ncid = 42"), Some(Vsock { cid: Some(42) }));
    assert_eq!(vsock("ready.level = \"notify\""), Some(Vsock { cid: None }));
    let both = "ready.level = \"notify\"\nvsock.cid = 42";
    assert_eq!(vsock(both), Some(Vsock { cid: Some(42) }));
    for (text, message) in [
        (
            "vsock = 42",
            "expected `true`, `false` or a table with a `cid`",
        ),
        ("vsock.cdi = 42", "did you mean `cid`?"),
        (
            "vsock.cid = 2",
            ":1:13: 2 is no guest's: a guest's CID is 3 to 4294967294",
        ),
        ("vsock.cid = 4294967295", "4294967295 is no guest's"),
        (
            "vsock = true\nmachine = \"none\"\nnet = {}",
            ":1:9: machine `none` cannot have a vsock device",
        ),
        (
            "vsock = false\nready.level = \"notify\"",
            ":2:15: there is nothing to notify over: `vsock` is off",
        ),
    ] {
        let said = mistakes(text);
        assert!(said.contains(message), "{text}: {said}");
    }
}

#[test]
fn a_device_is_a_driver_and_what_it_is_given() {
    let config =
        parse("[device.tab]\ndriver = \"usb-tablet\"\nport = 1\nmsos-desc = false").unwrap();
    let device = &config.devices["tab"];
    assert_eq!(device.driver(), "usb-tablet");
    let properties: Vec<_> = device.properties().collect();
    assert_eq!(
        properties,
        [
            ("port", &Property::Int(1)),
            ("msos-desc", &Property::Bool(false))
        ]
    );
    for (text, message) in [
        ("[device.tab]\nport = 1", "a device needs a `driver`"),
        ("[device.tab]\ndriver = 1", "a device needs a `driver`"),
        (
            "[device.tab]\ndriver = \"a\"\nid = \"b\"",
            "the id of the device is its name, `tab`",
        ),
        (
            "[device.tab]\ndriver = \"a\"\n\"b=c,d\" = \"e\"",
            "`b=c,d` is no property",
        ),
        (
            "[device.tab]\ndriver = \"a\"\nb = [1]",
            "a property is a text in quotes",
        ),
        (
            "[device.usb]\ndriver = \"qemu-xhci\"",
            "maqet itself calls a device `usb`",
        ),
        (
            "[device.nic-a]\ndriver = \"e1000\"",
            "maqet itself calls a device `nic-a`",
        ),
    ] {
        let said = mistakes(text);
        assert!(said.contains(message), "{text}: {said}");
    }
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sizes_and_time_spans_are_read_back(number: u64, shift in 0u32..64) {
            let size = Size::from_bytes(number >> shift << (shift / 2));
            prop_assert_eq!(size.to_string().parse(), Ok(size));
            let span = TimeSpan::from_secs(number >> shift);
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "(\\PC|[\n\"\\[\\]{}=.,#])*") {
            // Showing the mistakes must not panic either.
            let _ = parse(&text).map_err(|error| error.to_string());
        }

        #[test]
        fn no_slip_of_the_pen_makes_the_parser_panic(at in 0usize..400, len in 0usize..20, new in "[\\PC\n]{0,3}") {
            let mut text: Vec<char> = include_str!("../../tests/argv/02-full/definition.toml").chars().collect();
            let at = at.min(text.len());
            let end = (at + len).min(text.len());
            text.splice(at..end, new.chars());
            let text: String = text.into_iter().collect();
            let _ = parse(&text).map_err(|error| error.to_string());
        }
    }
}

#[test]
fn properties_of_the_unit_are_texts_or_lists_of_texts() {
    let config =
        parse("unit = { Nice = 5, MemoryHigh = \"3G\", After = [\"a\"], SendSIGHUP = true }");
    let text = |text: &str| UnitValue::Text(text.to_owned());
    let unit: Vec<_> = config.unwrap().unit.into_iter().collect();
    assert_eq!(
        unit,
        [
            ("Nice".to_owned(), text("5")),
            ("MemoryHigh".to_owned(), text("3G")),
            ("After".to_owned(), UnitValue::List(vec!["a".to_owned()])),
            ("SendSIGHUP".to_owned(), text("true")),
        ]
    );
    insta::assert_snapshot!(mistakes("[unit]\nNice = 1.5\nAfter = [1]\nIOWeight = \"1\\n2\"\n"), @r#"
    /vms/web.toml:2:8: invalid type: floating point `1.5`, expected a text as in a unit file, a whole number, `true`, `false` or a list of texts
      2 | Nice = 1.5
        |        ^^^
    /vms/web.toml:3:10: invalid type: integer `1`, expected a text in quotes
      3 | After = [1]
        |          ^
    /vms/web.toml:4:12: holds a control character, which no line of a unit file can
      4 | IOWeight = "1\n2"
        |            ^^^^^^
    "#);
}

#[test]
fn what_another_finds_wrong_is_shown_where_it_is_written() {
    let fault = |key: &str, in_name| Fault {
        key: key.to_owned(),
        in_name,
        message: format!("{key} is wrong"),
    };
    let text = "memory = \"1M\"\nunit.A = 1\n[qemu]\nbinary = \"\"";
    let judge = |_: &VmConfig| vec![fault("unit.A", true), fault("memory", false)];
    let file = Path::new("web.toml");
    let error = VmConfig::parse_checked(text, file, &Defaults::default(), judge).unwrap_err();
    insta::assert_snapshot!(error, @r#"
    web.toml:1:10: memory is wrong
      1 | memory = "1M"
        |          ^^^^
    web.toml:2:6: unit.A is wrong
      2 | unit.A = 1
        |      ^
    web.toml:4:10: a path cannot be empty
      4 | binary = ""
        |          ^^
    "#);
}

mod disks;
mod networks;

mod man_page {
    use super::*;

    const PAGE: &str = include_str!("../../man/maqet.toml.5");

    #[test]
    fn its_examples_of_keys_make_one_definition() {
        let examples = PAGE.lines().filter_map(|line| line.strip_prefix(".Dl "));
        let text: Vec<&str> = examples.collect();
        let config = parse(&text.join("\n").replace("\\(dq", "\""))
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.qemu.args, ["-cpu", "max,la57=off"]);
    }

    #[test]
    fn its_examples_of_short_forms_make_one_definition() {
        let examples = PAGE.lines().filter_map(|line| line.strip_prefix(".D1 "));
        let examples: Vec<&str> = examples.filter(|line| line.contains(" = ")).collect();
        assert!(examples.len() >= 4);
        let there = "\ndisk = { root = { size = \"1G\" }, cd = { size = \"1G\" } }\nnet.lan = {}";
        let text = examples.join("\n").replace("\\(dq", "\"") + there;
        parse(&text).unwrap_or_else(|error| panic!("{error}"));
    }

    #[test]
    fn its_whole_definitions_are_valid() {
        let examples = PAGE.split(".Bd -literal -offset indent\n").skip(1);
        for example in examples.map(|rest| rest.split(".Ed").next().unwrap()) {
            let file = if example.contains(" = ") {
                "web.toml"
            } else {
                "web.yaml"
            };
            if example.starts_with("[defaults]") {
                Defaults::parse(example, Path::new("config.toml")).unwrap();
                continue;
            }
            // What is for several files is tried in `layer`.
            let of_one =
                |line: &&str| !line.starts_with("extends =") && !line.starts_with("unset =");
            let lines: Vec<&str> = example.lines().filter(of_one).collect();
            let config = VmConfig::parse(&lines.join("\n"), Path::new(file));
            config.unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

#[test]
fn a_label_is_written_as_it_is_selected() {
    let config = parse("labels = { env = \"ci\", team = \"a, b=c\" }").unwrap();
    assert_eq!(config.labels["team"], "a, b=c");
    insta::assert_snapshot!(mistakes("[labels]\n\"a=b\" = \"c\"\nlines = \"1\\n2\"\n"), @r#"
/vms/web.toml:2:9: `a=b` cannot be a label: use 1 to 63 of A-Z a-z 0-9 `-` `_`, starting with a letter or digit
  2 | "a=b" = "c"
    |         ^^^
/vms/web.toml:3:9: the value of a label is one line of text
  3 | lines = "1\n2"
    |         ^^^^^^
"#);
}
