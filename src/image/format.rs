//! What a file is, by its first bytes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// What a file's first bytes say that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An image of a format that QEMU calls so.
    Image(&'static str),
    /// Something that is compressed, with the suffix that such files have.
    Compressed(&'static str),
    /// Nothing that is known: the bytes of a disk, one may hope.
    Unknown,
}

/// Where a known sequence of bytes is: offset, bytes, what it says.
const MAGIC: [(usize, &[u8], Kind); 16] = [
    (0, b"QFI\xfb\0\0\0\x01", Kind::Image("qcow")),
    (0, b"QFI\xfb", Kind::Image("qcow2")),
    (0, b"KDMV", Kind::Image("vmdk")),
    (0, b"COWD", Kind::Image("vmdk")),
    (0, b"# Disk DescriptorFile", Kind::Image("vmdk")),
    (0x40, b"\x7f\x10\xda\xbe", Kind::Image("vdi")),
    (0, b"vhdxfile", Kind::Image("vhdx")),
    (0, b"conectix", Kind::Image("vpc")),
    (0, b"QED\0", Kind::Image("qed")),
    (0, b"WithoutFreeSpace", Kind::Image("parallels")),
    (0, b"WithouFreSpacExt", Kind::Image("parallels")),
    (0, b"\x1f\x8b", Kind::Compressed("gz")),
    (0, b"\xfd7zXZ\0", Kind::Compressed("xz")),
    (0, b"\x28\xb5\x2f\xfd", Kind::Compressed("zst")),
    (0, b"BZh", Kind::Compressed("bz2")),
    (0, b"PK\x03\x04", Kind::Compressed("zip")),
];

impl Kind {
    /// Looks at a file.
    pub fn of(path: &Path) -> io::Result<Self> {
        let mut head = Vec::new();
        File::open(path)?.take(512).read_to_end(&mut head)?;
        Ok(Self::of_bytes(&head))
    }

    fn of_bytes(head: &[u8]) -> Self {
        let mut known = MAGIC.iter();
        let found = known.find(|(at, magic, _)| {
            head.get(*at..)
                .is_some_and(|bytes| bytes.starts_with(magic))
        });
        found.map_or(Self::Unknown, |(_, _, kind)| *kind)
    }

    /// QEMU's name of the format, if it is that of an image or of a plain disk.
    pub fn driver(self) -> Option<&'static str> {
        match self {
            Self::Image(driver) => Some(driver),
            Self::Unknown => Some("raw"),
            Self::Compressed(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_format_is_known_by_the_first_bytes_that_qemu_img_writes() {
        let dir = tempfile::tempdir().unwrap();
        for format in [
            "raw",
            "qcow2",
            "qcow",
            "vmdk",
            "vdi",
            "vhdx",
            "vpc",
            "qed",
            "parallels",
        ] {
            let path = dir.path().join(format);
            let made = Command::new("qemu-img")
                .args(["create", "-q", "-f", format])
                .args([path.as_os_str(), "8M".as_ref()])
                .status();
            // QEMU can be built without some that it calls legacy.
            if made.unwrap().success() {
                assert_eq!(Kind::of(&path).unwrap().driver(), Some(format));
            } else {
                assert!(matches!(format, "qcow" | "qed" | "parallels"), "{format}");
            }
        }
        let path = dir.path().join("flat.vmdk");
        let made = Command::new("qemu-img")
            .args([
                "create",
                "-q",
                "-f",
                "vmdk",
                "-o",
                "subformat=monolithicFlat",
            ])
            .args([path.as_os_str(), "8M".as_ref()])
            .status();
        assert!(made.unwrap().success());
        assert_eq!(Kind::of(&path).unwrap(), Kind::Image("vmdk"));
        std::fs::write(&path, "x").unwrap();
        assert_eq!(Kind::of(&path).unwrap(), Kind::Unknown);
        std::fs::write(&path, b"\x1f\x8b\x08").unwrap();
        assert_eq!(Kind::of(&path).unwrap(), Kind::Compressed("gz"));
    }
}
