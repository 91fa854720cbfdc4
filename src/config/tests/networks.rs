//! Networks, and devices of the host: what goes together and what does not.

use super::*;

#[test]
fn settings_of_a_network_that_do_not_go_together_are_refused() {
    for (net, said) in [
        (
            "bridge = \"br0\"",
            ":2:10: a `user` network has no `bridge`: that is for type `bridge`",
        ),
        ("type = \"tap\"", ":1:6: a `tap` network needs an `ifname`"),
        (
            "type = \"tap\"\nifname = \"tap0,x=y\"",
            ":3:10: `tap0,x=y` cannot name a network interface",
        ),
        (
            "type = \"tap\"\nifname = \"tap%d\"",
            ":3:10: `tap%d` cannot name",
        ),
        (
            "type = \"tap\"\nifname = \"-tap\"",
            ":3:10: `-tap` cannot name",
        ),
        (
            "type = \"tap\"\nifname = \"0123456789abcdef\"",
            ":3:10: `0123456789abcdef` cannot name",
        ),
        (
            "type = \"bridge\"\nforward = [\"1:2\"]",
            ":3:11: a `bridge` network has no `forward`",
        ),
        (
            "type = \"stream\"",
            ":1:6: a `stream` network needs either `listen` or `connect`",
        ),
        (
            "type = \"stream\"\nlisten = \"a\"\nconnect = \"b\"",
            ":1:6: a `stream` network needs either",
        ),
        (
            "type = \"dgram\"\nlocal = \"a\"",
            ":1:6: a `dgram` network needs `local` and `remote`",
        ),
        (
            "type = \"dgram\"\nlocal = \"a\"\nremote = \"./a\"",
            ":4:10: the same socket as `local`",
        ),
        (
            "type = \"dgram\"\nlocal = \"\"\nremote = \"a\"",
            ":3:9: a path cannot be empty",
        ),
        (
            "type = \"multicast\"",
            ":1:6: a `multicast` network needs a `group`",
        ),
        (
            "type = \"multicast\"\ngroup = \"192.0.2.1:1\"",
            ":3:9: `192.0.2.1:1` is not a multicast group",
        ),
        (
            "type = \"brigde\"",
            ":2:8: unknown value `brigde`, did you mean `bridge`?",
        ),
        (
            "hostname = \"a,b\"",
            ":2:12: `a,b` cannot name a host or a domain",
        ),
        (
            "domain = \"a..b\"",
            ":2:10: `a..b` cannot name a host or a domain",
        ),
        (
            "dns-search = [\"a\", \"b=c\"]",
            ":2:20: `b=c` cannot name a host or a domain",
        ),
        (
            "network = \"10.0.2.1/24\"",
            ":2:11: `10.0.2.1/24` is not a network",
        ),
        (
            "network = \"10.0.0.0/4\"",
            ":2:11: `10.0.0.0/4` is not a network",
        ),
        (
            "dns = \"10.9.9.9\"",
            ":2:7: not an address of the network 10.0.2.0/24",
        ),
        (
            "network = \"10.1.1.0/24\"\nhost = \"10.1.2.1\"",
            ":3:8: not an address of the network 10.1.1.0/24",
        ),
        (
            "host = \"10.0.2.3\"",
            ":2:8: `host` and `dns` cannot have one address",
        ),
        (
            "ipv4 = false\nipv6 = false",
            ":1:6: a network has IPv4, IPv6 or both",
        ),
        ("mtu = 67", ":2:7: an MTU is 68 to 65535 bytes"),
        (
            "mtu = 1400\nmodel = \"e1000\"",
            ":2:7: only a virtio-net NIC",
        ),
        (
            "forward = [\"[::1]:8080:80\"]",
            ":2:12: `::1` cannot be forwarded: QEMU's user network forwards IPv4",
        ),
        (
            "[net.b]\nboot-index = 1\n[disk.a]\nsize = \"1G\"\nboot-index = 1",
            "has the same place",
        ),
    ] {
        let said_instead = mistakes(&format!("[net.a]\n{net}"));
        assert!(said_instead.contains(said), "{net}:\n{said_instead}");
    }
    let path = "x".repeat(103);
    let long = format!("[net.a]\ntype = \"stream\"\nlisten = \"{path}\"");
    insta::assert_snapshot!(mistakes(&long).lines().next().unwrap(), @"/vms/web.toml:3:10: the path of a socket has 107 bytes at most, and this one 108");
}

#[test]
fn devices_of_the_host_that_cannot_be_are_refused() {
    for (text, said) in [
        (
            "[usb.a]",
            ":1:6: a USB device is named by `vendor` and `product`",
        ),
        (
            "[usb.a]\nvendor = \"046d\"",
            ":1:6: a USB device is named by",
        ),
        (
            "[usb.a]\nvendor = \"046d\"\nproduct = \"c31c\"\nbus = 1",
            ":1:6: a USB device is named by",
        ),
        (
            "[usb.a]\nvendor = \"46d\"",
            ":2:10: `46d` is not the number of a USB vendor",
        ),
        (
            "[usb.a]\nvendor = 1133",
            ":2:10: invalid type: integer `1133`, expected a text such as",
        ),
        (
            "[usb.a]\nbus = 0\nport = \"1\"",
            ":2:7: USB buses are numbered from 1",
        ),
        (
            "[usb.a]\nbus = 1\nport = \"1,2\"",
            ":3:8: `1,2` is not a USB port",
        ),
        ("[pci.a]", ":1:1: missing field `address`"),
        (
            "[pci.a]\naddress = \"1:0.0\"",
            ":2:11: `1:0.0` is not a PCI address",
        ),
        (
            "[pci.a]\naddress = \"0000:01:00.8\"",
            ":2:11: `0000:01:00.8` is not a PCI address",
        ),
        (
            "[pci.a]\naddress = \"01:00.0\"\n[pci.b]\naddress = \"0000:01:00.0\"",
            ":4:11: `pci.a` is the same device",
        ),
        (
            "machine = \"microvm\"\n[pci.a]\naddress = \"01:00.0\"",
            ":2:6: machine `microvm` cannot have a PCI device",
        ),
        (
            "[device.hostusb-a]\ndriver = \"x\"",
            "maqet itself calls a device `hostusb-a`",
        ),
    ] {
        let said_instead = mistakes(text);
        assert!(said_instead.contains(said), "{text}:\n{said_instead}");
    }
}
