use std::fs;
use std::os::unix::net::UnixDatagram;

use crate::sandbox::{PATIENCE, Sandbox, guests, wait_until};

impl Sandbox {
    /// Adds a VM whose firmware boots from its only network, and writes what that
    /// network carries to `SHORT.pcap`.
    fn add_network_boot(&self, short: &str, mac: &str, net: &str) {
        let name = self.name(short);
        let dump = self.path(&format!("{short}.pcap"));
        let file = self.path(&format!("{short}.toml"));
        let definition = format!(
            "name = \"{name}\"\nmemory = \"64M\"\naccel = \"tcg\"\n\
             [net.lan]\nmac = \"{mac}\"\nboot-index = 0\n{net}\n\
             [qemu]\nargs = [\"-object\", \"filter-dump,id=dump,netdev=net-lan,file={}\"]\n",
            dump.display()
        );
        fs::write(&file, definition).unwrap();
        self.maqet(&["add", file.to_str().unwrap()]).ok();
    }

    /// Whether a VM's network has carried a packet from this address.
    fn has_heard(&self, short: &str, mac: [u8; 6]) -> bool {
        let dump = fs::read(self.path(&format!("{short}.pcap"))).unwrap_or_default();
        // Ethernet to everyone, from that address (RFC 894).
        let start = [&[0xff; 6][..], &mac].concat();
        dump.windows(start.len()).any(|bytes| bytes == start)
    }
}

const A: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0xa];
const B: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0xb];

/// The networks that are between VMs alone: the lines of one's table, and of the other's.
/// `nth` tells the multicast groups of tests from each other.
fn between_two(nth: u32) -> [(&'static str, String, String); 3] {
    let port = 20_000 + (std::process::id() + nth) % 40_000;
    let group = format!("type = \"multicast\"\ngroup = \"230.0.0.1:{port}\"");
    let dgram = |local: &str, remote: &str| {
        format!("type = \"dgram\"\nlocal = \"{local}\"\nremote = \"{remote}\"")
    };
    let stream = |end: &str| format!("type = \"stream\"\n{end} = \"link.sock\"");
    [
        (
            "dgram",
            dgram("a,=$$.sock", "b.sock"),
            dgram("b.sock", "a,=$$.sock"),
        ),
        ("stream", stream("listen"), stream("connect")),
        ("multicast", group.clone(), group),
    ]
}

#[test]
fn two_guests_ping_each_other_on_each_kind_of_network_between_them() {
    let sandbox = Sandbox::new();
    let guests = guests();
    for (kind, a, b) in between_two(1) {
        let ends = [(a, "10.7.0.1", "10.7.0.2"), (b, "10.7.0.2", "10.7.0.1")];
        for (net, own, other) in &ends {
            let short = format!("{kind}-{own}").replace('.', "-");
            let text = format!(
                "name = \"{}\"\nmemory = \"128M\"\naccel = \"tcg\"\n\
                 kernel = \"{}/probe/kernel\"\ninitrd = \"{1}/probe/initrd\"\n\
                 append = \"console=ttyS0 quiet cryptomgr.notests probe.address={own} \
                 probe.ping={other}\"\n\
                 [net.lan]\n{net}\n",
                sandbox.name(&short),
                guests.display(),
            );
            fs::write(sandbox.path("vm.toml"), text).unwrap();
            sandbox.maqet(&["add", "vm.toml"]).ok();
            sandbox.maqet(&["start", &format!("@{short}")]).ok();
        }
        for (_, own, other) in &ends {
            let short = format!("{kind}-{own}").replace('.', "-");
            sandbox.wait_for_console(&short, &format!("probe: {other} answers"));
        }
        for (_, own, _) in &ends {
            let short = format!("@{kind}-{own}").replace('.', "-");
            sandbox.maqet(&["stop", "--force", &short]).ok();
        }
    }
}

#[test]
fn two_vms_hear_each_other_on_each_kind_of_network_between_them() {
    let sandbox = Sandbox::new();
    for (kind, a, b) in between_two(0) {
        let (first, second) = (format!("{kind}-a"), format!("{kind}-b"));
        sandbox.add_network_boot(&first, "52:54:00:00:00:0a", &a);
        sandbox.add_network_boot(&second, "52:54:00:00:00:0b", &b);
        for short in [&first, &second] {
            sandbox.maqet(&["start", &format!("@{short}")]).ok();
        }
        wait_until(&format!("{first} hears {second}"), || {
            sandbox.has_heard(&first, B)
        });
        // Their firmware gives up after a while.
        sandbox.maqet(&["reset", &format!("@{first}")]).ok();
        wait_until(&format!("{second} hears {first}"), || {
            sandbox.has_heard(&second, A)
        });
        for short in [&first, &second] {
            let vm = format!("@{short}");
            sandbox.maqet(&["stop", "--force", &vm]).ok();
            sandbox.maqet(&["rm", &vm]).ok();
        }
    }
}

#[test]
fn what_sits_at_the_other_socket_gets_what_the_guest_sends() {
    let sandbox = Sandbox::new();
    let peer = UnixDatagram::bind(sandbox.path("peer.sock")).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let net = "type = \"dgram\"\nlocal = \"vm.sock\"\nremote = \"peer.sock\"";
    sandbox.add_network_boot("web", "52:54:00:00:00:0a", net);
    sandbox.maqet(&["start", "@web"]).ok();
    let mut frame = [0; 65536];
    peer.recv(&mut frame).unwrap();
    assert_eq!(frame[6..12], A);
}

#[test]
fn a_network_is_plugged_into_a_running_vm_with_the_keys_of_its_table() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.maqet(&["start", "@web"]).ok();
    for words in [
        &["net.pair", "type=dgram", "local=l,=$.sock", "remote=r.sock"][..],
        &["net.first", "type=stream", "listen=first.sock", "link=off"],
        &[
            "net.lan",
            "restrict=on",
            "ipv6=off",
            "hostname=web",
            "dns-search=a.example",
            "dns-search=b.example",
            "mtu=1400",
        ],
    ] {
        let all = [&["device", "add", "@web"], words].concat();
        sandbox.maqet(&all).ok();
    }
    assert!(sandbox.path("l,=$.sock").exists());
    assert!(sandbox.path("first.sock").exists());
    let words = [
        "qmp",
        "@web",
        "qom-get",
        "path=nic-lan",
        "property=host_mtu",
        "--json",
    ];
    assert_eq!(sandbox.maqet(&words).json(), 1400);
    for what in ["net.pair", "net.first", "net.lan"] {
        let devices = sandbox.maqet(&["device", "ls", "@web", "--json"]).json();
        let mut devices = devices.as_array().unwrap().iter();
        assert!(devices.any(|device| device["name"] == what), "{what}");
    }
}

#[test]
fn what_the_host_lacks_is_said_before_qemu_starts() {
    let sandbox = Sandbox::new();
    for (short, table, said) in [
        (
            "bridge",
            "[net.lan]\ntype = \"bridge\"\nbridge = \"no-such-br\"",
            "`net.lan`: this host has no bridge `no-such-br`: make it with `ip link add no-such-br type bridge`",
        ),
        (
            "tap",
            "[net.lan]\ntype = \"tap\"\nifname = \"no-such-tap\"",
            "`net.lan`: this host has no tap device `no-such-tap`: make it with `ip tuntap add no-such-tap mode tap user ",
        ),
        (
            "usb",
            "[usb.key]\nvendor = \"0bad\"\nproduct = \"cafe\"",
            "`usb.key`: no USB device 0bad:cafe is plugged in",
        ),
        (
            "port",
            "[usb.key]\nbus = 250\nport = \"1.2\"",
            "`usb.key`: nothing is plugged into port 1.2 of USB bus 250",
        ),
        (
            "pci",
            "[pci.gpu]\naddress = \"fffe:fe:1f.7\"",
            "`pci.gpu`: this host has no PCI device fffe:fe:1f.7",
        ),
    ] {
        let name = sandbox.name(short);
        let file = sandbox.path(&format!("{short}.toml"));
        fs::write(
            &file,
            format!("name = \"{name}\"\naccel = \"tcg\"\n{table}\n"),
        )
        .unwrap();
        sandbox.maqet(&["add", file.to_str().unwrap()]).ok();
        let vm = format!("@{short}");
        sandbox.maqet(&["start", &vm]).fails(1).saying(said);
    }
}
