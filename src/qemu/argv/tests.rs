use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::address::Address;
use crate::config::{Document, path_text};

fn host() -> Host {
    Host {
        binary: "/usr/bin/qemu-system-x86_64".into(),
        accel: Accel::Tcg,
        uuid: "2b6a5e0c-9c1f-4a55-8f1c-0d7f6d1f2a01".to_owned(),
        vhost_net: false,
        vm_dir: "/vms/web".into(),
        sockets: Sockets::in_dir(Path::new("/run/web"), &config("")),
        console_log: "/run/web/console.log".into(),
        port_logs: Vec::new(),
        incoming: false,
        addresses: Addresses::default(),
    }
}

fn config(text: &str) -> VmConfig {
    VmConfig::parse(text, Path::new("/vms/web.toml")).unwrap_or_else(|error| panic!("{error}"))
}

/// The arguments of all options called `option`.
fn values(argv: &[OsString], option: &str) -> Vec<String> {
    argv.windows(2)
        .filter(|pair| pair[0] == option)
        .map(|pair| pair[1].to_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_device_is_put_where_it_was_unless_it_says_where_it_is() {
    let of = |id: &str, key: &str, value: &str| {
        let address = Address::from([(key.to_owned(), value.to_owned())]);
        (id.to_owned(), address)
    };
    let all = [of("nic", "addr", "1e.3"), of("disk-b", "scsi-id", "1")];
    let addresses = all.into_iter().collect();
    for (device, is) in [
        ("id=nic", "driver=x,id=nic,addr=1e.3"),
        ("id=nic,addr=4", "driver=x,id=nic,addr=4"),
        ("id=disk-b", "driver=x,id=disk-b,scsi-id=1"),
        ("id=other", "driver=x,id=other"),
    ] {
        let pairs = device.split(',').filter_map(|pair| pair.split_once('='));
        let device = pairs.fold(OptArg::new("driver", "x"), |arg, (key, value)| {
            arg.with(key, value)
        });
        assert_eq!(OsString::from(placed(device, &addresses)), *is);
    }
}

#[test]
fn the_cpu_model_suits_the_accelerator() {
    for (accel, text, accel_value, cpu) in [
        (Accel::Kvm, "", "accel=kvm", vec!["host"]),
        (Accel::Tcg, "", "accel=tcg", vec!["max"]),
        (Accel::Kvm, "cpu = \"qemu64\"", "accel=kvm", vec!["qemu64"]),
        (Accel::Tcg, "machine = \"none\"", "accel=tcg", vec![]),
    ] {
        let argv = argv(&config(text), &Host { accel, ..host() });
        assert_eq!(values(&argv, "-accel"), [accel_value]);
        assert_eq!(values(&argv, "-cpu"), cpu, "{text}");
    }
}

#[test]
fn sockets_may_be_inherited() {
    let sockets = Sockets {
        ctl: Listen::Fd(3),
        qmp: Listen::Fd(4),
        user: Listen::Fd(5),
        serial: Listen::Fd(6),
        agent: Listen::Fd(7),
        ports: Vec::new(),
        vnc: "/run/web/vnc.sock".into(),
        spice: "/run/web/spice.sock".into(),
        events_log: "/run/web/events.log".into(),
        vsock: Some((1234, 8)),
    };
    let argv = argv(&config("vsock = true"), &Host { sockets, ..host() });
    assert!(
        values(&argv, "-device")
            .contains(&"driver=vhost-vsock-pci,id=vsock,vhostfd=8,guest-cid=1234".to_owned())
    );
    assert_eq!(
        values(&argv, "-chardev"),
        [
            "backend=socket,id=ctl,fd=3,server=on,wait=off",
            "backend=socket,id=qmp,fd=4,server=on,wait=off",
            "backend=socket,id=user,fd=5,server=on,wait=off",
            "backend=stdio,id=events,signal=off,logfile=/run/web/events.log,logappend=on",
            "backend=socket,id=serial,fd=6,server=on,wait=off,logfile=/run/web/console.log,logappend=on",
            "backend=socket,id=agent,fd=7,server=on,wait=off",
        ]
    );
}

#[test]
fn device_nodes_have_a_driver_of_their_own() {
    let argv = argv(&config("disk.root.file = \"/dev/vg/root\""), &host());
    assert_eq!(
        values(&argv, "-blockdev"),
        [
            "driver=host_device,node-name=disk-root-file,filename=/dev/vg/root,discard=unmap",
            "driver=raw,node-name=disk-root,file=disk-root-file,discard=unmap",
        ]
    );
}

#[test]
fn windows_are_asked_for() {
    for (display, kind) in [
        ("gtk", "type=gtk"),
        ("sdl", "type=sdl"),
        ("none", "type=none"),
    ] {
        let argv = argv(&config(&format!("display = \"{display}\"")), &host());
        assert_eq!(values(&argv, "-display"), [kind]);
    }
}

#[test]
fn an_unknown_board_gets_no_parts_of_a_pc() {
    let argv = argv(&config("machine = \"virt\"\nvga = \"virtio\""), &host());
    let drivers: BTreeSet<String> = values(&argv, "-device")
        .iter()
        .filter_map(|value| value.split(',').next().map(str::to_owned))
        .collect();
    let expected = [
        "virtio-balloon-pci",
        "virtio-gpu-pci",
        "virtio-net-pci",
        "virtio-rng-pci",
        "virtio-serial-pci",
        "virtserialport",
    ];
    assert_eq!(
        drivers,
        expected.map(|driver| format!("driver={driver}")).into()
    );
}

#[test]
fn paths_of_the_host_need_not_be_utf8() {
    let vm_dir = PathBuf::from(OsString::from_vec(b"/vms/\xff".to_vec()));
    let argv = argv(
        &config("disk.root.size = \"1G\""),
        &Host { vm_dir, ..host() },
    );
    let wanted = b"filename=/vms/\xff/root.qcow2,";
    assert!(argv.iter().any(|arg| {
        arg.as_bytes()
            .windows(wanted.len())
            .any(|part| part == wanted)
    }));
}

/// Splits an option's argument as QEMU does (get_opt_value in util/qemu-option.c).
fn qemu_pairs(arg: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = arg;
    while let Some((key, mut tail)) = rest.split_once('=') {
        let mut value = String::new();
        loop {
            let (part, after) = tail.split_once(',').unwrap_or((tail, ""));
            value += part;
            match after.strip_prefix(',') {
                Some(after) if tail != part => {
                    value.push(',');
                    tail = after;
                }
                _ => break rest = after,
            }
        }
        pairs.push((key.to_owned(), value));
    }
    pairs
}

proptest! {
    #[test]
    fn qemu_reads_back_what_was_put_together(values in prop::collection::vec("[a=,\\-\n ]{0,6}", 1..4)) {
        let arg = values.iter().fold(OptArg::new("driver", "file"), |arg, value| arg.with("k", value));
        let read = qemu_pairs(OsString::from(arg).to_str().unwrap());
        let expected: Vec<_> = std::iter::once(("driver".to_owned(), "file".to_owned()))
            .chain(values.into_iter().map(|value| ("k".to_owned(), value)))
            .collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn no_text_adds_an_option(text in prop_oneof!["[^\\x00]{1,20}", "[,=\\-$~ \n'\"%a]{1,12}"]) {
        let benign = hostile_argv("x");
        let hostile = hostile_argv(&text);
        prop_assert_eq!(hostile.len(), benign.len());
        let path = std::path::absolute(Path::new("/").join(&text)).unwrap();
        let path = path.to_str().unwrap();
        for (mine, theirs) in benign.iter().zip(&hostile) {
            let (mine, theirs) = (mine.to_str().unwrap(), theirs.to_str().unwrap());
            if !mine.contains('=') {
                let expected = match mine { "x" => &text, "/x" => path, same => same };
                prop_assert_eq!(theirs, expected);
                continue;
            }
            let (mine, theirs) = (qemu_pairs(mine), qemu_pairs(theirs));
            prop_assert_eq!(mine.len(), theirs.len());
            for ((key, value), (their_key, their_value)) in mine.iter().zip(&theirs) {
                let expected = match value.as_str() { "x" => &text, "/x" => path, same => same };
                prop_assert_eq!((key.as_str(), expected), (their_key.as_str(), their_value.as_str()));
            }
        }
    }
}

/// The command line of a definition with `text` in all places that take any text.
fn hostile_argv(text: &str) -> Vec<OsString> {
    let mut document = Document::parse("", Path::new("web.toml")).unwrap();
    let path = path_text(&Path::new("/").join(text)).unwrap();
    for key in ["description", "append", "machine", "net.lan.model"] {
        document.set(key, text).unwrap();
    }
    for key in ["kernel", "initrd", "disk.a.file"] {
        document.set(key, &path).unwrap();
    }
    argv(&config(&document.to_string()), &host())
}
