use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use crate::host::{KEEPER, TESTER};

/// The `edu` device of QEMU that tests/host/vm has there: 1234:11e8.
const ADDRESS: &str = "0000:00:1e.0";

#[test]
fn a_pci_device_of_the_host_is_the_guest_s_once_its_user_may_have_it() {
    KEEPER.begin();
    let line = format!("pci.edu.address = \"{ADDRESS}\"");
    KEEPER.add_prelaunch("gone", "pci.edu.address = \"00:1d.7\"");
    for vm in ["edu", "other"] {
        KEEPER.add_prelaunch(vm, &line);
    }
    TESTER.add_prelaunch("small", &line);
    let start = |vm: &str| KEEPER.run(&format!("maqet start {vm}"));
    start("gone")
        .fails(1)
        .saying("`pci.edu`: this host has no PCI device 0000:00:1d.7");
    start("edu")
        .fails(1)
        .saying("has no driver, not vfio-pci: `driverctl set-override");

    let device = Path::new("/sys/bus/pci/devices").join(ADDRESS);
    fs::write(device.join("driver_override"), "vfio-pci").unwrap();
    fs::write("/sys/bus/pci/drivers_probe", ADDRESS).unwrap();
    let group = fs::read_link(device.join("iommu_group")).unwrap();
    let node = Path::new("/dev/vfio").join(group.file_name().unwrap());
    start("edu")
        .fails(1)
        .saying(&format!("`chown keeper {}` as root", node.display()));
    // Who has the device may still not have the memory that it needs.
    chown(&node, Some(1500), None).unwrap();
    TESTER
        .run("maqet start small")
        .fails(1)
        .saying("all of the guest's memory, 64 MiB, has to stay in the host's")
        .saying("unit.LimitMEMLOCK=infinity");
    chown(&node, Some(1501), None).unwrap();
    start("edu").fails(0);
    KEEPER.ok("maqet qmp edu query-pci | grep 4584");
    KEEPER.ok(&format!(
        "ls -l /proc/$(systemctl --user show -P MainPID maqet-edu)/fd | grep {}",
        node.display()
    ));
    // That it has the device itself is not in its way, and is in another's.
    start("edu").fails(0).saying("already");
    start("other")
        .fails(1)
        .saying("0000:00:1e.0 is taken, VM `edu` has it");
    KEEPER.ok("maqet stop --force edu");
    start("other").fails(0);
    KEEPER.ok("maqet stop --force other");
}
