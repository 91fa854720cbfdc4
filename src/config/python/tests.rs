use std::path::Path;

use super::super::{Document, VmConfig, notes};

fn toml(yaml: &str) -> String {
    let file = Path::new("/vms/old.yaml");
    VmConfig::parse(yaml, file).unwrap_or_else(|error| panic!("{yaml}\n{error}"));
    Document::parse(yaml, file).unwrap().to_string()
}

fn wrong(yaml: &str) -> String {
    VmConfig::parse(yaml, Path::new("/vms/old.yaml"))
        .unwrap_err()
        .to_string()
}

/// The words that QEMU gets, from a definition whose other keys are quiet.
fn passed(arguments: &str) -> Vec<String> {
    let yaml = format!("arguments:\n{arguments}\n");
    let config = VmConfig::parse(&yaml, Path::new("/vms/old.yaml"));
    config.unwrap_or_else(|error| panic!("{error}")).qemu.args
}

#[test]
fn each_form_of_an_argument_is_one_option() {
    for (argument, words) in [
        ("- no-reboot", &["-no-reboot"][..]),
        ("- -no-reboot", &["-no-reboot"]),
        ("- no-reboot: null", &["-no-reboot"]),
        ("- no-reboot:", &["-no-reboot"]),
        ("- rtc: base=utc", &["-rtc", "base=utc"]),
        ("- gdb: 1234", &["-gdb", "1234"]),
        (
            "- rtc: {base: utc, clock: host}",
            &["-rtc", "base=utc,clock=host"],
        ),
        (
            "- display: gtk\n  zoom-to-fit: on",
            &["-display", "gtk,zoom-to-fit=on"],
        ),
        (
            "- display: {gtk: null, zoom-to-fit: on}",
            &["-display", "gtk,zoom-to-fit=on"],
        ),
        ("- display: {curses: {}}", &["-display", "curses"]),
        (
            "- numa: {node: {nodeid: 0, cpus: 0-3}}",
            &["-numa", "node.nodeid=0,node.cpus=0-3"],
        ),
        ("- boot: [order=d, menu=on]", &["-boot", "order=d,menu=on"]),
        ("- foo: a\n  bar: [x, {y: 1}]", &["-foo", "a,bar.x,bar.y=1"]),
        // Also what the old parser made of `on`.
        (
            "- display: gtk\n  zoom-to-fit: true",
            &["-display", "gtk,zoom-to-fit=on"],
        ),
        ("- bios: ./ovmf.fd", &["-bios", "/vms/ovmf.fd"]),
        (
            "- drive: file=a.img,if=floppy",
            &["-drive", "file=/vms/a.img,if=floppy"],
        ),
        (
            "- chardev: {socket: , id: a, path: /run/a}",
            &["-chardev", "socket,id=a,path=/run/a"],
        ),
        ("- vnc: unix:vnc.sock", &["-vnc", "unix:/vms/vnc.sock"]),
    ] {
        assert_eq!(passed(argument), words, "{argument}");
    }
}

#[test]
fn what_has_a_key_gets_it() {
    let bare = "machine = \"pc\"\n\n[net.net0]\nmodel = \"e1000\"\n";
    for (yaml, expected) in [
        ("binary: /bin/q\n", "machine = \"pc\"\n\n[qemu]\nbinary = \"/bin/q\"\n\n[net.net0]\nmodel = \"e1000\"\n".to_owned()),
        ("memory: 512\nargs: []\n", format!("memory = \"512M\"\n{bare}")),
        ("memory: 4G\ncpu: 2\n", format!("memory = \"4G\"\ncpus = 2\n{bare}")),
        ("cpu: '3'\nvga: std\ndisplay: gtk\n", format!("cpus = 3\nvga = \"std\"\ndisplay = \"gtk\"\n{bare}")),
        ("args: [-m, 1G, -enable-kvm, -nographic]\n", format!("memory = \"1G\"\naccel = \"kvm\"\ndisplay = \"none\"\n{bare}")),
        ("cpu: 2\narguments: [{smp: 2}, {cpu: host}, {kernel: a}, {append: 'a b'}]\n", format!("cpus = 2\ncpu = \"host\"\nkernel = \"a\"\nappend = \"a b\"\n{bare}")),
        ("arguments: [{machine: q35}, nodefaults]\n", "machine = \"q35\"\n\n[net]\n".to_owned()),
        ("arguments: [{machine: 'q35,accel=tcg'}]\n", "machine = \"q35\"\naccel = \"tcg\"\n\n[net.net0]\nmodel = \"e1000e\"\n".to_owned()),
        (
            "arguments: [cdrom: a.iso, drive: 'file=b,media=cdrom', nodefaults]\n",
            "machine = \"pc\"\n\n[disk.cdrom]\nfile = \"a.iso\"\ninterface = \"cdrom\"\n\n[disk.cdrom2]\nfile = \"b\"\ninterface = \"cdrom\"\n\n[net]\n".to_owned(),
        ),
        (
            "arguments: [{device: 'e1000,netdev=n,mac=52:54:00:00:00:01'}, {netdev: 'user,id=n,hostfwd=tcp:127.0.0.1:80-:8080,hostfwd=udp::53-:53'}]\n",
            "machine = \"pc\"\n\n[net.n]\nforward = [\"127.0.0.1:80:8080\", \"udp:0.0.0.0:53:53\"]\nmodel = \"e1000\"\nmac = \"52:54:00:00:00:01\"\n".to_owned(),
        ),
        (
            "storage: [{type: virtfs, path: 'a,b', options: {readonly: on}}]\narguments: [nodefaults]\n",
            "machine = \"pc\"\n\n[net]\n\n[qemu]\nargs = [\"-virtfs\", \"local,path=/vms/a,,b,mount_tag=storage0,security_model=passthrough,id=storage0,readonly=on\"]\n".to_owned(),
        ),
        // What our keys cannot say stays as it was.
        (
            "arguments: [{device: 'e1000,netdev=n'}, {netdev: 'user,id=n,net=10.1.0.0/24'}]\n",
            "machine = \"pc\"\n\n[net]\n\n[qemu]\nargs = [\"-device\", \"e1000,netdev=n\", \"-netdev\", \"user,id=n,net=10.1.0.0/24\"]\n".to_owned(),
        ),
        (
            "storage: [{type: qcow2, file: '~/a$b.qcow2'}, {type: raw, size: 1048576, name: 9.x}]\narguments: [nodefaults]\n",
            "machine = \"pc\"\n\n[disk.storage0]\nformat = \"qcow2\"\nfile = \"./~/a$$b.qcow2\"\nsize = \"10G\"\n\n[disk.disk-9-x]\nformat = \"raw\"\nsize = \"1048576B\"\n\n[net]\n".to_owned(),
        ),
    ] {
        assert_eq!(toml(yaml).trim_start(), expected, "{yaml}");
    }
}

#[test]
fn what_would_be_lost_is_a_mistake() {
    for (yaml, message) in [
        (
            "args: []\nmemroy: 1G\n",
            "2:1: `memroy` is no key of Python maqet",
        ),
        (
            "memory: 1G\narguments:\n- m: 2G\n",
            "3:3: sets `memory`, which is set already",
        ),
        (
            "arguments: [daemonize]\n",
            "1:13: QEMU is the main process of a unit",
        ),
        (
            "arguments: ['device foo']\n",
            "1:13: an option with a value is written `device: foo`",
        ),
        ("arguments: foo\n", "1:12: expected a list"),
        ("args: [foo]\n", "1:8: belongs to no option"),
        (
            "storage:\n- {type: vmdk}\n",
            "2:3: there is no storage of type `vmdk`",
        ),
        (
            "storage:\n- {type: raw, interface: none}\n",
            "2:26: no device has the interface `none`",
        ),
        (
            "storage:\n- {type: raw, cache: none}\n",
            "2:15: `cache` is no key of a disk",
        ),
        (
            "storage:\n- {type: qcow2, backing_file: a}\n",
            "2:17: a disk on top of another is not made here",
        ),
        (
            "storage:\n- {type: virtfs}\n",
            "2:3: a shared directory needs a `path`",
        ),
        (
            "storage: [{name: a}, {name: a}]\n",
            "1:22: another disk is called `a`, too",
        ),
        ("memory: lots\nargs: []\n", "1:9: `lots"),
        ("memory: 1G\nargs: []\nname: [a]\n", "3:7: expected a text"),
    ] {
        let wrong = wrong(yaml);
        let message = format!("/vms/old.yaml:{message}");
        assert!(wrong.contains(&message), "{message} is not in\n{wrong}");
    }
}

#[test]
fn only_a_definition_with_their_keys_is_theirs() {
    for yaml in [
        "name: a\nmemory: 1G\ncpu: max\n",
        "cpus: 2\ndisk: {a: {size: 1G}}\n",
        "",
    ] {
        assert!(!toml(yaml).contains("machine"), "{yaml}");
        assert!(notes(yaml, Path::new("a.yaml")).is_empty());
    }
    let told = notes(
        "cpu: 2\narguments: [{rtc: 'base=utc'}, nographic]\n",
        Path::new("a.yaml"),
    );
    assert!(told.iter().any(|note| note.contains("-rtc")), "{told:?}");
    assert!(
        told.iter().any(|note| note.contains("nographic")),
        "{told:?}"
    );
}

#[test]
fn each_mistake_is_told_once() {
    let yaml =
        "memory: lots\nstorage: [{type: raw, file: a, size: big, interface: sata}]\ncpu: 0\n";
    assert_eq!(
        wrong(yaml).matches("/vms/old.yaml:").count(),
        2,
        "{}",
        wrong(yaml)
    );
    assert_eq!(wrong("cpu: 0\nargs: []\n").lines().count(), 3);
}
