//! What a device of the host becomes in QEMU: `hostusb-NAME`, `hostpci-NAME`.

use super::part::{Part, Setting, USB};
use crate::config::{DeviceName, Pci, Usb};

/// A USB device of the host, on the controller that maqet adds.
pub fn usb(name: &DeviceName, usb: &Usb) -> Part {
    let device = Part::device("usb-host", usb_id(name)).on(&format!("{USB}.0"));
    let number = |device: Part, key: &str, number: Option<u16>| match number {
        Some(number) => device.set(key, Setting::Int(number.into())),
        None => device,
    };
    let device = number(device, "vendorid", usb.vendor.map(|id| id.number()));
    let device = number(device, "productid", usb.product.map(|id| id.number()));
    let device = number(device, "hostbus", usb.bus);
    match &usb.port {
        Some(port) => device.with("hostport", port.as_str()),
        None => device,
    }
}

/// A PCI device of the host.
pub fn pci(name: &DeviceName, pci: &Pci) -> Part {
    Part::device("vfio-pci", pci_id(name)).with("host", pci.address.as_str())
}

/// The id of a USB device of the host.
pub fn usb_id(name: &DeviceName) -> String {
    format!("hostusb-{name}")
}

/// The id of a PCI device of the host.
pub fn pci_id(name: &DeviceName) -> String {
    format!("hostpci-{name}")
}
