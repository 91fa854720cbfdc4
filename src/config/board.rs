//! What a machine type has built in, and what it can carry.

use super::{Interface, Vga};

/// The kinds of machine that maqet tells apart.
///
/// The name of the machine type decides. One that is not known here is taken
/// for a board with PCI and nothing of a PC: it gets virtio devices only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Board {
    /// `q35`: a PC with PCI Express, which needs ports for hot-plug.
    Q35,
    /// `pc`: a PC with PCI.
    Pc,
    /// `virt` and others: PCI, but nothing of a PC.
    Pci,
    /// `microvm`: virtio devices without PCI.
    Microvm,
    /// `none`: no devices at all.
    None,
}

impl Board {
    /// The board of a machine type.
    pub fn of(machine_type: &str) -> Self {
        match machine_type {
            "none" => Self::None,
            "microvm" => Self::Microvm,
            "q35" => Self::Q35,
            "pc" => Self::Pc,
            other if other.starts_with("pc-q35-") => Self::Q35,
            other if other.starts_with("pc-i440fx-") => Self::Pc,
            _ => Self::Pci,
        }
    }

    /// Whether it has what every PC has: ISA, VGA.
    pub fn is_pc(self) -> bool {
        matches!(self, Self::Q35 | Self::Pc)
    }

    /// Whether it has a PCI bus.
    pub fn has_pci(self) -> bool {
        self.is_pc() || self == Self::Pci
    }

    /// The video device when the definition says none.
    pub(super) fn default_vga(self) -> Vga {
        if self.is_pc() { Vga::Std } else { Vga::None }
    }

    /// The NIC when the definition says none.
    pub(super) fn default_nic(self) -> &'static str {
        if self == Self::Microvm {
            "virtio-net-device"
        } else {
            "virtio-net-pci"
        }
    }

    pub(super) fn has_interface(self, interface: Interface) -> bool {
        match interface {
            Interface::Virtio | Interface::Scsi => self != Self::None,
            Interface::Sata | Interface::Cdrom | Interface::Nvme | Interface::Usb => self.has_pci(),
        }
    }

    pub(super) fn has_vga(self, vga: Vga) -> bool {
        match vga {
            Vga::None => true,
            Vga::VirtioGpu => self != Self::None,
            Vga::Virtio | Vga::Bochs => self.has_pci(),
            Vga::Std | Vga::Qxl | Vga::Cirrus => self.is_pc(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_type_decides() {
        for (machine_type, board) in [
            ("q35", Board::Q35),
            ("pc-q35-7.2", Board::Q35),
            ("pc", Board::Pc),
            ("pc-i440fx-7.2", Board::Pc),
            ("microvm", Board::Microvm),
            ("none", Board::None),
            ("virt", Board::Pci),
        ] {
            assert_eq!(Board::of(machine_type), board, "{machine_type}");
        }
    }
}
