//! Bridges and tap devices, which only root can make.

use std::time::{Duration, Instant};

use crate::host::{Host, PATIENCE, words};

/// Two VMs on one bridge: one by the helper, one by a tap device. Their firmware looks for
/// a server to boot from, and the bridge learns their addresses.
#[test]
fn vms_are_on_a_bridge_of_the_host_once_the_host_lets_them() {
    let host = Host::start("bridge", &[]);
    host.add(
        "web",
        "memory = \"64M\"\naccel = \"tcg\"\n\
         net.lan = { type = \"bridge\", mac = \"52:54:00:00:00:0a\", boot-index = 0 }",
    );
    host.add(
        "db",
        "memory = \"64M\"\naccel = \"tcg\"\n\
         net.lan = { type = \"tap\", ifname = \"tap-db\", mac = \"52:54:00:00:00:0b\", boot-index = 0 }",
    );
    let refused = |name: &str, said: &str| {
        let ran = host.run("", &format!("maqet start {name}"));
        assert_eq!(ran.status.code(), Some(1), "{}", words(&ran));
        assert!(words(&ran).contains(said), "{}", words(&ran));
    };
    refused(
        "web",
        "this host has no bridge `br0`: make it with `ip link add br0 type bridge`",
    );
    host.network("ip link add br0 type bridge && ip link set br0 up");
    host.run("--root", "chmod u-s /usr/lib/qemu/qemu-bridge-helper");
    refused("web", "is not set-user-ID");
    host.run("--root", "chmod u+s /usr/lib/qemu/qemu-bridge-helper");
    host.run(
        "--root",
        "mkdir -p /etc/qemu && echo 'allow br1' >/etc/qemu/bridge.conf",
    );
    refused(
        "web",
        "/etc/qemu/bridge.conf does not allow `br0`: add the line `allow br0`",
    );
    host.run("--root", "echo 'allow br0' >>/etc/qemu/bridge.conf");
    host.ok("maqet start web");

    refused("db", "this host has no tap device `tap-db`");
    host.network("ip tuntap add tap-db mode tap user 0 && ip link set tap-db master br0 up");
    refused("db", "the tap device `tap-db` is another user's");
    let uid = host.ok("id -u");
    host.network("ip tuntap del tap-db mode tap");
    host.network(&format!(
        "ip tuntap add tap-db mode tap user {} && ip link set tap-db master br0 up",
        uid.trim()
    ));
    host.ok("maqet start db");

    for mac in ["52:54:00:00:00:0a", "52:54:00:00:00:0b"] {
        let deadline = Instant::now() + PATIENCE;
        let learnt = format!("bridge fdb show br br0 | grep -q {mac}");
        while !host.in_network(&learnt).status.success() {
            assert!(Instant::now() < deadline, "the bridge does not know {mac}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
