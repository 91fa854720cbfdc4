//! The header of a qcow2 image, as far as it tells of other files (docs/interop/qcow2.txt in
//! QEMU). Read without a process of its own, so that all disks of a thousand VMs can be looked at.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// What a qcow2 image says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Size of the disk, in bytes.
    pub virtual_size: u64,
    /// The name of the backing file, as it is written.
    pub backing: Option<String>,
    /// The backing file's format, if it is written.
    pub backing_format: Option<String>,
    /// Whether the data is in another file.
    pub has_data_file: bool,
    /// How many internal snapshots there are.
    pub snapshots: u32,
    /// Whether it was marked as damaged.
    pub is_corrupt: bool,
}

pub(super) const MAGIC: &[u8] = b"QFI\xfb";

/// Of "incompatible features": something in it contradicts itself.
const CORRUPT: u64 = 1 << 1;

/// Of "incompatible features": the data is in an external file.
const DATA_FILE: u64 = 1 << 2;

/// The header extension with the backing file's format.
pub(super) const BACKING_FORMAT: u32 = 0xe279_2aca;

/// No name is longer (`BDRV_MAX...`: the specification says 1023 bytes).
pub(super) const MAX_NAME: usize = 1023;

impl Header {
    /// Reads an image's.
    ///
    /// # Errors
    /// `InvalidData` if it is no qcow2 image.
    pub fn read(path: &Path) -> io::Result<Self> {
        Self::read_from(&mut File::open(path)?)
    }

    fn read_from(file: &mut (impl Read + Seek)) -> io::Result<Self> {
        let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
        let mut head = Vec::new();
        file.take(104).read_to_end(&mut head)?;
        if head.len() < 72 || !head.starts_with(MAGIC) {
            return Err(wrong("it is no qcow2 image"));
        }
        let version = number(&head, 4, 4);
        let is_old = match version {
            2 => true,
            3 if head.len() == 104 => false,
            _ => return Err(wrong("it is a qcow2 image of an unknown version")),
        };
        let mut header = Self {
            virtual_size: number(&head, 24, 8),
            snapshots: number(&head, 60, 4) as u32,
            has_data_file: !is_old && number(&head, 72, 8) & DATA_FILE != 0,
            is_corrupt: !is_old && number(&head, 72, 8) & CORRUPT != 0,
            ..Self::default()
        };
        let (at, length) = (number(&head, 8, 8), number(&head, 16, 4) as usize);
        if at == 0 {
            return Ok(header);
        }
        if length > MAX_NAME {
            return Err(wrong("the name of its backing file is too long"));
        }
        header.backing = Some(text(file, at, length)?);
        let mut at = if is_old { 72 } else { number(&head, 100, 4) };
        // Each is at least eight bytes, and all are in the first cluster.
        for _ in 0..64 {
            let mut head = [0; 8];
            file.seek(SeekFrom::Start(at))?;
            file.read_exact(&mut head)?;
            let (kind, length) = (number(&head, 0, 4) as u32, number(&head, 4, 4));
            match kind {
                0 => break,
                BACKING_FORMAT if length <= MAX_NAME as u64 => {
                    header.backing_format = Some(text(file, at + 8, length as usize)?);
                }
                _ => {}
            }
            at += 8 + length.next_multiple_of(8);
        }
        Ok(header)
    }
}

/// Whether a qcow2 image that no QEMU has open has nothing of its own: all that is read
/// from it comes from below it.
pub fn is_untouched(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    if Header::read_from(&mut file)?.snapshots > 0 {
        return Ok(false);
    }
    let mut place = [0; 12];
    file.seek(SeekFrom::Start(36))?;
    file.read_exact(&mut place)?;
    let (entries, at) = (number(&place, 0, 4), number(&place, 4, 8));
    file.seek(SeekFrom::Start(at))?;
    let mut table = Vec::new();
    file.take(entries * 8).read_to_end(&mut table)?;
    Ok(table.iter().all(|byte| *byte == 0))
}

/// How large the disk of a qcow2 image was at a snapshot within it, in bytes; `None` if it has
/// none with this id, or only what is very old says nothing of it.
pub(super) fn size_at(path: &Path, id: &str) -> io::Result<Option<u64>> {
    let mut file = File::open(path)?;
    let count = Header::read_from(&mut file)?.snapshots;
    let mut place = [0; 8];
    file.seek(SeekFrom::Start(64))?;
    file.read_exact(&mut place)?;
    let mut at = number(&place, 0, 8);
    for _ in 0..count {
        let mut head = [0; 40];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut head)?;
        let [id_length, name_length] = [12, 14].map(|at| number(&head, at, 2) as usize);
        let extra = number(&head, 36, 4);
        if text(&mut file, at + 40 + extra, id_length)? == id {
            // Behind the size of its memory.
            let mut size = [0; 8];
            file.seek(SeekFrom::Start(at + 48))?;
            file.read_exact(&mut size)?;
            return Ok((extra >= 16).then(|| number(&size, 0, 8)));
        }
        let length = 40 + extra + (id_length + name_length) as u64;
        at += length.next_multiple_of(8);
    }
    Ok(None)
}

/// A number in big-endian order.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    let bytes = &bytes[at..at + length];
    bytes
        .iter()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn text(file: &mut (impl Read + Seek), at: u64, length: usize) -> io::Result<String> {
    let mut text = vec![0; length];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut text)?;
    String::from_utf8(text)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a name in it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn qemu_img(dir: &Path, args: &[&str]) {
        let done = Command::new("qemu-img")
            .args(args)
            .current_dir(dir)
            .output();
        let done = done.unwrap();
        assert!(done.status.success(), "{args:?}: {done:?}");
    }

    #[test]
    fn a_header_tells_what_qemu_img_has_written() {
        let dir = tempfile::tempdir().unwrap();
        let create = |args: &[&str]| {
            qemu_img(
                dir.path(),
                &[&["create", "-q", "-f", "qcow2"], args].concat(),
            );
        };
        create(&["base", "10M"]);
        create(&["-b", "base", "-F", "qcow2", "over"]);
        create(&["-o", "compat=0.10", "-b", "base", "-F", "qcow2", "old"]);
        create(&["-o", "data_file=data.raw", "outside", "10M"]);
        qemu_img(dir.path(), &["snapshot", "-c", "a", "over"]);
        let read = |name: &str| Header::read(&dir.path().join(name)).unwrap();
        let base = Header {
            virtual_size: 10 << 20,
            ..Header::default()
        };
        assert_eq!(read("base"), base);
        let over = Header {
            backing: Some("base".to_owned()),
            backing_format: Some("qcow2".to_owned()),
            snapshots: 1,
            ..base.clone()
        };
        assert_eq!(read("over"), over);
        assert_eq!(
            read("old"),
            Header {
                snapshots: 0,
                ..over
            }
        );
        assert!(read("outside").has_data_file);
    }

    #[test]
    fn whatever_bytes_there_are_a_header_is_an_answer_or_an_error() {
        use proptest::prelude::*;
        let good = {
            let dir = tempfile::tempdir().unwrap();
            let create = [
                "create", "-q", "-f", "qcow2", "-u", "-b", "b", "-F", "raw", "x", "1M",
            ];
            qemu_img(dir.path(), &create);
            std::fs::read(dir.path().join("x")).unwrap()
        };
        proptest!(|(changes in proptest::collection::vec((0usize..400, any::<u8>()), 0..20), length in 0usize..70000)| {
            let mut bytes = good.clone();
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            bytes.truncate(length);
            let _ = Header::read_from(&mut io::Cursor::new(bytes));
        });
    }
}
