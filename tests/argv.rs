//! Each folder of tests/argv holds a definition and the command line that it
//! becomes. `UPDATE=1` writes the latter.
//!
//! QEMU must take each of them. Where that depends on the machine, such as on its
//! huge pages, the folder has a file `refusal`: all that a QEMU then says.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use maqet::address::Addresses;
use maqet::config::{self, Cache, Defaults, Format, Layer, Layers, NetKind, VmConfig};
use maqet::paths::VmDir;
use maqet::qemu::argv::{Accel, Host, Listen, Sockets, argv, paste};
use serde_json::{Value, json};

#[path = "pool.rs"]
mod pool;
#[path = "random.rs"]
mod random;

/// How long QEMU may take until it answers.
const DEADLINE: Duration = Duration::from_secs(120);

#[test]
fn each_definition_becomes_its_command_line() {
    for golden in goldens() {
        let dir = tempfile::tempdir().unwrap();
        let vm = Vm::new(&golden, dir.path());
        let text = paste(&vm.argv()).into_string().unwrap();
        let text = text.replace(dir.path().to_str().unwrap(), "$DIR") + "\n";
        let file = golden.join("argv");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&file, &text).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(
            text,
            expected,
            "{}: see the difference with UPDATE=1",
            file.display()
        );
    }
}

/// JSON is YAML, and what any TOML text can be turned into.
#[test]
fn each_definition_means_the_same_in_yaml() {
    for golden in goldens() {
        let Ok(text) = fs::read_to_string(golden.join("definition.toml")) else {
            continue;
        };
        let tree: Value = toml::from_str(&text).unwrap();
        for yaml in [
            serde_json::to_string(&tree).unwrap(),
            serde_json::to_string_pretty(&tree).unwrap(),
        ] {
            let layers = load(&yaml, "/vms/definition.yaml");
            let config = read(&layers);
            let toml = read(&load(&text, "/vms/definition.toml"));
            assert_eq!(config, toml, "{yaml}");
            let stored = layers.resolve().unwrap();
            assert_eq!(
                config,
                read(&load(&stored, "/elsewhere/x.toml")),
                "{stored}"
            );
        }
    }
}

/// A text, and the templates that it extends.
fn load(text: &str, file: impl AsRef<Path>) -> Layers {
    let layer = Layer::file(file.as_ref(), text.to_owned());
    Layers::load(vec![layer], Path::new("/nonexistent")).unwrap_or_else(|error| panic!("{error}"))
}

fn read(layers: &Layers) -> VmConfig {
    let config = layers.check(&Defaults::default(), |_| Vec::new());
    config.unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn qemu_takes_each_command_line_as_it_is_meant() {
    for golden in goldens() {
        let dir = tempfile::tempdir().unwrap();
        let vm = Vm::new(&golden, dir.path());
        if vm.needs_more_of_the_host() {
            continue;
        }
        vm.make_files();
        let refusal = fs::read_to_string(golden.join("refusal")).ok();
        let Some(mut qemu) = Prelaunch::start_unless(&vm, refusal.as_deref()) else {
            continue;
        };

        assert_eq!(
            qemu.execute("query-name", json!({})),
            json!({"name": vm.config.name})
        );
        let nodes = qemu.execute("query-named-block-nodes", json!({}));
        let blocks = qemu.execute("query-block", json!({}));
        for (name, disk) in &vm.config.disks {
            let Some(path) = disk.path(name, &vm.host.vm_dir) else {
                continue;
            };
            let node = nodes
                .as_array()
                .unwrap()
                .iter()
                .find(|node| node["node-name"] == format!("disk-{name}"))
                .unwrap_or_else(|| panic!("{name} is not in {nodes}"));
            assert_eq!(node["file"], json!(path));
            assert_eq!(node["cache"]["direct"], disk.cache.is_direct());
            assert_eq!(node["cache"]["no-flush"], disk.cache == Cache::Unsafe);
            assert_eq!(node["detect_zeroes"], json!(disk.detect_zeroes));
            let block = blocks.as_array().unwrap().iter().find(|block| {
                let mut words = block["qdev"].as_str().unwrap().split('/');
                words.any(|word| word == format!("disk-{name}"))
            });
            let inserted = &block.unwrap()["inserted"];
            let writeback = &inserted["cache"]["writeback"];
            assert_eq!(*writeback, disk.cache.is_write_back(), "{name}");
            assert_eq!(node["ro"], disk.read_only);
            assert_eq!(node["drv"], json!(disk.format));
        }
        for (property, value) in [
            ("kernel", json!(vm.config.kernel)),
            ("initrd", json!(vm.config.initrd)),
            ("append", json!(vm.config.append)),
            ("dtb", json!(vm.config.dtb)),
        ] {
            let path = json!({"path": "/machine", "property": property});
            let seen = qemu.execute("qom-get", path);
            assert_eq!(
                seen,
                if value.is_null() { json!("") } else { value },
                "{property}"
            );
        }
        qemu.quit();
    }
}

/// The folders, in order.
fn goldens() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/argv");
    let mut goldens: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    goldens.sort();
    assert!(!goldens.is_empty());
    goldens
}

/// A definition that lies in a directory of its own.
struct Vm {
    config: VmConfig,
    host: Host,
}

impl Vm {
    fn new(golden: &Path, dir: &Path) -> Self {
        let name = ["definition.toml", "definition.yaml"]
            .into_iter()
            .find(|name| golden.join(name).exists())
            .unwrap();
        let text = fs::read_to_string(golden.join(name)).unwrap();
        let config = read(&load(&text, dir.join(name)));
        Self::of(config, dir)
    }

    fn of(config: VmConfig, dir: &Path) -> Self {
        let vm_dir = VmDir::at(dir.join("vm"));
        let logged = config.ports.iter().filter(|(_, port)| port.has_log());
        let port_logs = logged.map(|(name, _)| (name.clone(), vm_dir.port_log(name.as_str())));
        let host = Host {
            binary: config.qemu.binary.clone(),
            accel: Accel::Tcg,
            uuid: "2b6a5e0c-9c1f-4a55-8f1c-0d7f6d1f2a01".to_owned(),
            vhost_net: false,
            vm_dir: dir.join("vm"),
            sockets: Sockets::in_dir(&dir.join("run"), &config),
            console_log: dir.join("vm/console.log"),
            port_logs: port_logs.collect(),
            incoming: false,
            addresses: Addresses::default(),
        };
        Self { config, host }
    }

    /// Whether QEMU would want bridges, tap devices, PCI devices or vsock, which not every host
    /// has; tests/boot makes a host that has the first two, tests/vm runs on one with the last.
    fn needs_more_of_the_host(&self) -> bool {
        let of_host = |net: &config::Net| matches!(net.kind, NetKind::Bridge | NetKind::Tap);
        self.config.nets.values().any(of_host)
            || !self.config.pcis.is_empty()
            || self.config.vsock.is_some()
    }

    fn argv(&self) -> Vec<OsString> {
        argv(&self.config, &self.host)
    }

    /// Makes what the definition names, good enough for a guest that never runs.
    fn make_files(&self) {
        let Listen::Path(ctl) = &self.host.sockets.ctl else {
            unreachable!("in_dir gives paths")
        };
        fs::create_dir_all(ctl.parent().unwrap()).unwrap();
        fs::create_dir_all(&self.host.vm_dir).unwrap();
        let config = &self.config;
        let linux = config.kernel.iter().chain(&config.initrd);
        let linux = linux.map(|path| (path, kernel()));
        let dtb = config.dtb.iter().map(|path| (path, device_tree()));
        for (path, content) in linux.chain(dtb) {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        for (name, disk) in &self.config.disks {
            let Some(path) = disk.path(name, &self.host.vm_dir) else {
                continue;
            };
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match disk.format {
                Format::Raw => File::create(path).unwrap().set_len(1 << 20).unwrap(),
                Format::Qcow2 => fs::write(path, qcow2()).unwrap(),
            }
        }
    }
}

/// The header of a Linux kernel (Documentation/arch/x86/boot.rst) and nothing that runs.
fn kernel() -> Vec<u8> {
    let mut image = vec![0; 8192];
    image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x020cu16.to_le_bytes());
    image[0x22c..0x230].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
    image
}

/// A device tree of a root without properties (the Devicetree Specification, chapter 5).
fn device_tree() -> Vec<u8> {
    let (size, structure) = (40 + 16 + 16, 40 + 16);
    [0xd00d_feed, size, structure, size, 40, 17, 16, 0, 0, 16]
        .into_iter()
        .chain([0; 4]) // no reserved memory
        .chain([1, 0, 2, 9]) // a node begins, its empty name, it ends, and so does the tree
        .flat_map(u32::to_be_bytes)
        .collect()
}

/// An empty qcow2 image of 1 MiB (docs/interop/qcow2.txt): header, refcount
/// table, refcount block and L1 table, in one cluster of 64 KiB each.
fn qcow2() -> Vec<u8> {
    const CLUSTER: usize = 1 << 16;
    let mut image = vec![0; 4 * CLUSTER];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"QFI\xfb");
    put(4, &2u32.to_be_bytes());
    put(20, &16u32.to_be_bytes());
    put(24, &(1u64 << 20).to_be_bytes());
    put(36, &1u32.to_be_bytes());
    put(40, &(3 * CLUSTER as u64).to_be_bytes());
    put(48, &(CLUSTER as u64).to_be_bytes());
    put(56, &1u32.to_be_bytes());
    put(CLUSTER, &(2 * CLUSTER as u64).to_be_bytes());
    for cluster in 0..4 {
        put(2 * CLUSTER + 2 * cluster, &1u16.to_be_bytes());
    }
    image
}

/// A QEMU whose guest has not run one instruction; gone when dropped.
struct Prelaunch {
    child: Child,
    monitor: BufReader<UnixStream>,
}

impl Prelaunch {
    fn start(vm: &Vm) -> Self {
        Self::start_unless(vm, None).expect("a refusal is a panic")
    }

    /// `None` if it says `refusal`, and nothing else.
    fn start_unless(vm: &Vm, refusal: Option<&str>) -> Option<Self> {
        let argv = vm.argv();
        let mut child = Command::new(&argv[0])
            .args(&argv[1..])
            .arg("-S")
            // Five hours ahead, for clocks that show local time.
            .env("TZ", "AHEAD-05")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("qemu-system-x86_64 is installed");
        let Listen::Path(ctl) = &vm.host.sockets.ctl else {
            unreachable!("in_dir gives paths")
        };
        let started = Instant::now();
        let stream = loop {
            if let Ok(stream) = UnixStream::connect(ctl) {
                break Some(stream);
            }
            if child.try_wait().unwrap().is_some() || started.elapsed() > DEADLINE {
                break None;
            }
            thread::sleep(Duration::from_millis(5));
        };
        let mut greeting = String::new();
        let monitor = stream.and_then(|stream| {
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            let mut monitor = BufReader::new(stream);
            // It may listen before it has read all of its arguments.
            let read = monitor.read_line(&mut greeting).unwrap_or_default();
            (read > 0).then_some(monitor)
        });
        let Some(monitor) = monitor else {
            // Fails when it has ended, which is what is wanted.
            let _ = child.kill();
            let output = child.wait_with_output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            if refusal.is_some_and(|words| stderr.lines().eq(words.lines())) {
                return None;
            }
            panic!("{stderr}\n{}", paste(&argv).display());
        };
        assert!(greeting.contains("QMP"), "{greeting}");
        let mut qemu = Self { child, monitor };
        qemu.execute("qmp_capabilities", json!({}));
        let status = qemu.execute("query-status", json!({}));
        assert_eq!(status["status"], "prelaunch", "{}", paste(&argv).display());
        Some(qemu)
    }

    fn execute(&mut self, command: &str, arguments: Value) -> Value {
        let line = json!({"execute": command, "arguments": arguments}).to_string() + "\n";
        self.monitor.get_mut().write_all(line.as_bytes()).unwrap();
        loop {
            let mut reply = self.read();
            assert!(reply.get("error").is_none(), "{command}: {reply}");
            if let Some(value) = reply.get_mut("return") {
                return value.take();
            }
        }
    }

    fn read(&mut self) -> Value {
        let mut line = String::new();
        // It may go with a reset, too.
        if self.monitor.read_line(&mut line).unwrap_or(0) == 0 {
            let mut stderr = String::new();
            let mut pipe = self.child.stderr.take().unwrap();
            std::io::Read::read_to_string(&mut pipe, &mut stderr).unwrap();
            panic!("QEMU is gone: {stderr}");
        }
        serde_json::from_str(&line).unwrap()
    }

    /// Ends it at once; it must have had nothing to say.
    fn end(mut self) {
        self.child.kill().unwrap();
        let mut stderr = Vec::new();
        let mut pipe = self.child.stderr.take().unwrap();
        std::io::Read::read_to_end(&mut pipe, &mut stderr).unwrap();
        assert_eq!(String::from_utf8_lossy(&stderr), "");
    }

    /// Ends it; it must have had nothing to say.
    fn quit(mut self) {
        self.execute("quit", json!({}));
        let mut stderr = Vec::new();
        let mut pipe = self.child.stderr.take().unwrap();
        std::io::Read::read_to_end(&mut pipe, &mut stderr).unwrap();
        assert!(self.child.wait().unwrap().success());
        assert_eq!(String::from_utf8_lossy(&stderr), "");
    }
}

impl Drop for Prelaunch {
    fn drop(&mut self) {
        // Fails when it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_clock_shows_utc_or_what_the_host_s_clock_on_the_wall_does() {
    let [utc, local] = ["utc", "localtime"].map(|rtc| {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("name = \"web\"\nrtc = \"{rtc}\"");
        let config = VmConfig::parse(&text, Path::new("web.toml")).unwrap();
        let vm = Vm::of(config, dir.path());
        vm.make_files();
        let mut qemu = Prelaunch::start(&vm);
        let time = of_machine(&mut qemu, "rtc-time");
        qemu.quit();
        let part = |key: &str| time[key].as_i64().unwrap();
        part("tm_hour") * 60 + part("tm_min")
    });
    let ahead = (local - utc).rem_euclid(24 * 60);
    // As far as minutes pass between the two.
    assert!((300..330).contains(&ahead), "{ahead} minutes");
}

/// Text for a shell must be read back by one.
#[test]
fn pasted_into_a_shell_each_argument_is_itself() {
    let words = [
        "plain",
        "",
        "two words",
        "-S",
        "it's",
        "\"",
        "$HOME",
        "`id`",
        "\\",
        "a\nb",
        "%n",
        "*",
        "~",
        "#x",
        "é",
        "a=b,,c",
        "!",
        ";",
        "&&",
    ];
    let argv: Vec<OsString> = ["printf", "%s\\0"]
        .iter()
        .chain(&words)
        .map(OsString::from)
        .collect();
    let output = Command::new("sh")
        .arg("-c")
        .arg(paste(&argv))
        .output()
        .unwrap();
    let seen: Vec<&[u8]> = output.stdout.split(|&byte| byte == 0).collect();
    let expected: Vec<&[u8]> = words
        .iter()
        .map(|word| word.as_bytes())
        .chain([&b""[..]])
        .collect();
    assert_eq!(seen, expected);
}

/// A text of the definition, and how to see what QEMU made of it.
///
/// A key that is not in here yet is one more entry.
struct Told {
    key: &'static str,
    /// What must be in the definition for it.
    with: &'static str,
    /// As it is written; relative paths lie in the directory of the test.
    written: fn(&str) -> String,
    /// What QEMU has.
    seen: fn(&mut Prelaunch, &Vm) -> Value,
    /// What it must have.
    meant: fn(&Vm) -> Value,
}

/// A path that is the text, whatever is in it.
fn as_path(kind: &str, text: &str) -> String {
    format!("{kind}{}", text.replace('/', "_").replace('$', "$$"))
}

fn of_machine(qemu: &mut Prelaunch, property: &str) -> Value {
    let property = json!({"path": "/machine", "property": property});
    qemu.execute("qom-get", property)
}

fn is_socket(path: &Path) -> Value {
    use std::os::unix::fs::FileTypeExt;
    let file = fs::symlink_metadata(path);
    json!(file.is_ok_and(|file| file.file_type().is_socket()))
}

const TOLD: &[Told] = &[
    Told {
        key: "append",
        with: "kernel = \"linux\"",
        written: str::to_owned,
        seen: |qemu, _| of_machine(qemu, "append"),
        meant: |vm| json!(vm.config.append),
    },
    Told {
        key: "kernel",
        with: "",
        written: |text| as_path("kernel", text),
        seen: |qemu, _| of_machine(qemu, "kernel"),
        meant: |vm| json!(vm.config.kernel),
    },
    Told {
        key: "initrd",
        with: "kernel = \"linux\"",
        written: |text| as_path("initrd", text),
        seen: |qemu, _| of_machine(qemu, "initrd"),
        meant: |vm| json!(vm.config.initrd),
    },
    Told {
        key: "device.c.serial",
        with: "device.c.driver = \"usb-tablet\"",
        written: str::to_owned,
        seen: |qemu, _| {
            let serial = json!({"path": "c", "property": "serial"});
            qemu.execute("qom-get", serial)
        },
        meant: |vm| {
            let property = vm.config.devices["c"].properties().next().unwrap();
            json!(property.1)
        },
    },
    Told {
        key: "port.d.file",
        with: "port.d.type = \"virtio\"",
        written: |text| as_path("port", text),
        seen: |_, vm| json!(vm.config.ports["d"].file.as_ref().unwrap().is_file()),
        meant: |_| json!(true),
    },
    Told {
        key: "port.e.name",
        with: "port.e.type = \"virtio-port\"",
        written: str::to_owned,
        seen: |qemu, _| {
            let name = json!({"path": "/machine/peripheral/port-e", "property": "name"});
            qemu.execute("qom-get", name)
        },
        meant: |vm| json!(vm.config.ports["e"].name),
    },
    Told {
        key: "disk.a.file",
        with: "disk.a.interface = \"scsi\"",
        written: |text| as_path("disk", text),
        seen: |qemu, _| {
            let nodes = qemu.execute("query-named-block-nodes", json!({}));
            let mut nodes = nodes.as_array().unwrap().iter();
            let node = nodes.find(|node| node["node-name"] == "disk-a").unwrap();
            node["file"].clone()
        },
        meant: |vm| json!(vm.config.disks["a"].file),
    },
    Told {
        key: "disk.b.serial",
        with: "disk.b.file = \"b.raw\"",
        written: str::to_owned,
        seen: |qemu, _| {
            let serial = json!({"path": "disk-b", "property": "serial"});
            qemu.execute("qom-get", serial)
        },
        meant: |vm| json!(vm.config.disks["b"].serial),
    },
    Told {
        key: "net.a.listen",
        with: "net.a.type = \"stream\"",
        written: |text| as_path("listen", text),
        seen: |_, vm| is_socket(vm.config.nets["a"].listen.as_ref().unwrap()),
        meant: |_| json!(true),
    },
    Told {
        key: "net.b.local",
        with: "net.b = { type = \"dgram\", remote = \"nobody\" }",
        written: |text| as_path("local", text),
        seen: |_, vm| is_socket(vm.config.nets["b"].local.as_ref().unwrap()),
        meant: |_| json!(true),
    },
];

/// Keys whose texts no monitor shows, or that are not told to QEMU; and why that will do.
const UNSEEN: &[(&str, &str)] = &[
    (
        "description",
        "maqet's own, and the unit's: tests/it/set.rs",
    ),
    ("labels.*", "maqet's own"),
    ("extends", "not in what is stored"),
    ("extends[]", "not in what is stored"),
    ("unset", "not in what is stored"),
    ("unset[]", "not in what is stored"),
    ("unit.*[]", "systemd's, by D-Bus: tests/it/properties.rs"),
    (
        "qemu.args[]",
        "each is an argument as it stands, and meant to be options",
    ),
    ("qemu.binary", "a program, and no argument"),
    (
        "machine",
        "QEMU refuses what it does not know, commas and all",
    ),
    ("device.*.driver", "QEMU refuses what it does not know"),
    ("net.*.model", "QEMU refuses what it does not know"),
    ("dtb", "as `initrd`; QEMU itself reads the file"),
    ("net.*.connect", "as `listen`; nobody listens there"),
    ("net.*.remote", "as `local`"),
    (
        "rng.source",
        "as a disk's `file`; its content is the guest's",
    ),
    ("smbios.family", "in the guest's tables: tests/argv"),
    ("smbios.manufacturer", "in the guest's tables: tests/argv"),
    ("smbios.oem[]", "in the guest's tables: tests/argv"),
    ("smbios.product", "in the guest's tables: tests/argv"),
    ("smbios.serial", "in the guest's tables: tests/argv"),
    ("smbios.sku", "in the guest's tables: tests/argv"),
    ("smbios.version", "in the guest's tables: tests/argv"),
];

/// The keys of the schema that are texts, with `*` for what has a name of its own: those
/// that can be any, and those that cannot.
#[derive(Default)]
struct Texts {
    any: BTreeSet<String>,
    some: BTreeSet<String>,
}

impl Texts {
    fn of_schema() -> Self {
        let schema = config::schema();
        let mut found = Self::default();
        find_texts(&schema, String::new(), &schema, &mut found);
        found.some.retain(|key| !found.any.contains(key));
        found
    }
}

fn find_texts(node: &Value, key: String, all: &Value, found: &mut Texts) {
    if !node.is_object() {
        return;
    }
    if let Some(name) = node["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        find_texts(&all["$defs"][name], key.clone(), all, found);
    }
    for way in ["anyOf", "oneOf", "allOf"] {
        for one in node[way].as_array().into_iter().flatten() {
            find_texts(one, key.clone(), all, found);
        }
    }
    let is_text = node["type"] == "string" || node["type"][0] == "string";
    let is_any = ["const", "enum", "pattern"]
        .iter()
        .all(|limit| node[limit].is_null());
    let is_word = node["const"].is_string() || node["enum"][0].is_string();
    match (is_text, is_any) {
        (true, true) => _ = found.any.insert(key.clone()),
        (true, false) => _ = found.some.insert(key.clone()),
        (false, _) if is_word => _ = found.some.insert(key.clone()),
        (false, _) => {}
    }
    let inner = |word: &str| match key.as_str() {
        "" => word.to_owned(),
        outer => format!("{outer}.{word}"),
    };
    for (word, value) in node["properties"].as_object().into_iter().flatten() {
        find_texts(value, inner(word), all, found);
    }
    let patterns = node["patternProperties"].as_object().into_iter().flatten();
    let named = patterns.map(|(_, value)| value);
    for value in named.chain([&node["additionalProperties"]]) {
        find_texts(value, inner("*"), all, found);
    }
    find_texts(&node["items"], format!("{key}[]"), all, found);
}

#[test]
fn each_key_that_can_be_any_text_is_looked_at() {
    let all = Texts::of_schema().any;
    assert!(
        all.contains("append") && all.contains("disk.*.file"),
        "{all:?}"
    );
    // `disk.a.file` is one of `disk.*.file`; what a device has are its properties.
    let general = |key: &str| {
        let words: Vec<&str> = key.split('.').collect();
        match words[..] {
            ["device", _, _] => "device.*.*".to_owned(),
            [table, _, key] => format!("{table}.*.{key}"),
            _ => key.to_owned(),
        }
    };
    let told = TOLD.iter().map(|told| general(told.key));
    let unseen = UNSEEN.iter().map(|(key, _)| (*key).to_owned());
    let looked_at: BTreeSet<String> = told.chain(unseen).collect();
    assert_eq!(all, looked_at, "left: the schema; right: TOLD and UNSEEN");
}

/// What some keys of which not every text is taken need beside them: another mistake
/// would be told in the place of theirs.
const WITH: &[(&str, &str)] = &[
    ("disk.*", "disk.c.file = \"c.raw\""),
    ("net.*.ifname", "net.c.type = \"tap\""),
    ("net.*.bridge", "net.c.type = \"bridge\""),
    ("net.*.group", "net.c.type = \"multicast\""),
    ("usb.*.port", "usb.c.bus = 1"),
];

/// Of the keys that take some texts only, those that take some of [`HOSTILE`]: which, and
/// why that will do.
const TAKEN: &[(&str, &[&str], &str)] = &[
    (
        "cpu",
        &["-S"],
        "no option behind `-cpu`, and QEMU has no such model",
    ),
    (
        "cpu.model",
        &["-S"],
        "no option behind `-cpu`, and QEMU has no such model",
    ),
    (
        "cpu.features[]",
        &["-S", "a=b"],
        "a model has no such feature",
    ),
    (
        "unit.*",
        HOSTILE,
        "systemd's, by D-Bus: tests/it/properties.rs",
    ),
];

/// What would be an option, a specifier or a variable if anyone took it for one.
const HOSTILE: &[&str] = &[
    "a,read-only=on",
    ",,",
    ",",
    "a=b",
    "=",
    "x\ny",
    "%n %h %%",
    "$HOME ${HOME}",
    "-S",
    "é ü",
    "'\"`\\",
    " b ",
    "id=x,driver=y",
    "{\"a\": 1}",
    "json:{}",
    "nbd://x",
    "~",
    "#",
];

/// A new key is in here as soon as the schema has it.
#[test]
fn a_hostile_text_is_refused_where_it_stands_by_each_key_that_takes_only_some() {
    let keys = Texts::of_schema().some;
    assert!(
        keys.contains("net.*.ifname") && keys.contains("name"),
        "{keys:?}"
    );
    let mut wrong = Vec::new();
    for key in &keys {
        let with = WITH
            .iter()
            .filter(|(of, _)| key.starts_with(of.trim_end_matches('*')));
        let with: String = with.map(|(_, line)| format!("{line}\n")).collect();
        let (name, is_item) = match key.strip_suffix("[]") {
            Some(name) => (name, true),
            None => (key.as_str(), false),
        };
        for text in HOSTILE {
            let value = json!(text).to_string();
            let value = if is_item { format!("[{value}]") } else { value };
            let line = format!("{} = {value}", name.replace('*', "c"));
            let number = with.lines().count() + 1;
            let said = VmConfig::parse(&format!("{with}{line}"), Path::new("web.toml"));
            let is_taken = TAKEN
                .iter()
                .any(|(of, texts, _)| of == key && texts.contains(text));
            match said {
                Ok(_) if is_taken => {
                    let stored = config::resolve(&line, Path::new("web.toml")).unwrap();
                    let stored: Value = toml::from_str(&stored).unwrap();
                    let words = name.replace('*', "c").replace('.', "/");
                    let arrived = stored.pointer(&format!("/{words}")).unwrap();
                    let arrived = if is_item { &arrived[0] } else { arrived };
                    assert_eq!(arrived, &json!(text), "{line}");
                }
                Ok(_) => wrong.push(format!("{line}: is taken")),
                Err(error) => {
                    let begin = line.find(" = ").unwrap() + 3;
                    let is_there = error.mistakes().iter().any(|mistake| {
                        let at = mistake.at.as_ref();
                        at.is_some_and(|at| at.line == number && at.column > begin)
                    });
                    if !is_there {
                        wrong.push(format!("{line}: {error}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_text_of_a_definition_becomes_anything_else_in_qemu() {
    let random = {
        use proptest::strategy::{Strategy, ValueTree};
        use proptest::test_runner::TestRunner;
        let mut runner = TestRunner::deterministic();
        let texts = proptest::string::string_regex("[-,=:%$~#a'\"\\\\ \né{}]{1,16}").unwrap();
        std::iter::repeat_with(move || texts.new_tree(&mut runner).unwrap().current())
    };
    let fixed = HOSTILE.iter().map(|text| (*text).to_owned());
    let mut told = 0;
    for text in fixed.chain(random.take(10)) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("definition.toml");
        let parse = |lines: &str| VmConfig::parse(&format!("name = \"web\"\n{lines}"), &file);
        let lines = |told: &Told| {
            let value = json!((told.written)(&text)).to_string();
            let dotted = told.with.starts_with("net.b = ");
            match dotted {
                true => told.with.replace(" }", &format!(", local = {value} }}")),
                false => format!("{}\n{} = {value}", told.with, told.key),
            }
        };
        // `kernel` stands in `with` of another.
        let taken: Vec<&Told> = TOLD
            .iter()
            .filter(|told| parse(&lines(told)).is_ok())
            .collect();
        assert!(taken.len() >= TOLD.len() - 1, "{text:?}");
        let all: Vec<String> = taken
            .iter()
            .map(|told| lines(told).replace("kernel = \"linux\"\n", ""))
            .collect();
        let config = parse(&all.join("\n")).unwrap_or_else(|error| panic!("{error}"));
        let vm = Vm::of(config, dir.path());
        vm.make_files();
        let mut qemu = Prelaunch::start(&vm);
        for it in taken {
            assert_eq!(
                (it.seen)(&mut qemu, &vm),
                (it.meant)(&vm),
                "{} = {text:?}",
                it.key
            );
            told += 1;
        }
        qemu.quit();
    }
    assert!(told > 100, "{told}");
}
