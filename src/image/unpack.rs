//! Compressed files, and sums of files.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use sha2::{Digest, Sha256};

use super::Error;
use super::copy::fill;
use super::tool::{Progress, Watch};

/// How much is read at once, in bytes; zeroes are left out in pieces of this size.
pub(super) const PIECE: usize = 1 << 16;

/// How much memory an xz file may ask for, in KiB: `xz -9` needs 64 MiB.
const XZ_MEMORY: u32 = 1 << 20;

/// The SHA-256 of a file, in hexadecimal digits.
pub fn sha256(path: &Path, watch: Watch<'_>) -> Result<String, Error> {
    let mut hasher = Sha256::new();
    let mut file = Watched::open(path, "sha256", watch)?;
    let mut buffer = vec![0; PIECE];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => hasher.update(&buffer[..length]),
            Err(error) => return Err(or_canceled(error, "read", path)),
        }
    }
    let digest = hasher.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Writes what is in a compressed file, `suffix` of its kind, to one that is not there.
pub fn unpack(from: &Path, suffix: &str, to: &Path, watch: Watch<'_>) -> Result<(), Error> {
    let file = BufReader::with_capacity(PIECE, Watched::open(from, "unpack", watch)?);
    let to_file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(Error::file("make", to))?;
    let mut reader: Box<dyn Read + '_> = match suffix {
        "gz" => Box::new(MultiGzDecoder::new(file)),
        "xz" => Box::new(XzReader::new_mem_limit(file, true, XZ_MEMORY)),
        "zst" => Box::new(Zstd::new(file)),
        other => {
            return Err(Error::Failed {
                doing: "unpack",
                path: from.to_owned(),
                words: format!("`{other}` is not among gz, xz and zst"),
            });
        }
    };
    write_sparse(&mut reader, &to_file).map_err(|error| match error {
        Failed::Reading(error) => or_canceled(error, "unpack", from),
        Failed::Writing(error) => Error::file("make", to)(error),
    })
}

pub(super) enum Failed {
    Reading(io::Error),
    Writing(io::Error),
}

/// Copies, with holes where there are zeroes.
pub(super) fn write_sparse(reader: &mut dyn Read, mut file: &File) -> Result<(), Failed> {
    let mut buffer = vec![0; PIECE];
    let mut length = 0;
    loop {
        let filled = fill(reader, &mut buffer).map_err(Failed::Reading)?;
        let piece = &buffer[..filled];
        let written = match piece.iter().all(|byte| *byte == 0) {
            true => file.seek(SeekFrom::Current(filled as i64)).map(drop),
            false => file.write_all(piece),
        };
        written.map_err(Failed::Writing)?;
        length += filled as u64;
        if filled < PIECE {
            return file.set_len(length).map_err(Failed::Writing);
        }
    }
}

/// A file of which someone sees how much has been read.
pub(super) struct Watched<'a> {
    file: File,
    read: u64,
    length: u64,
    step: &'static str,
    watch: Watch<'a>,
}

impl<'a> Watched<'a> {
    pub fn open(path: &Path, step: &'static str, watch: Watch<'a>) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::file("read", path))?;
        let length = file.metadata().map_err(Error::file("read", path))?.len();
        Ok(Self {
            file,
            read: 0,
            length,
            step,
            watch,
        })
    }
}

/// How one that was called off looks to the decoder above it.
#[derive(Debug, thiserror::Error)]
#[error("called off")]
struct CalledOff;

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let progress = Progress {
            step: self.step,
            done: self.read as f64 / self.length.max(1) as f64,
        };
        if !(self.watch)(progress) {
            return Err(io::Error::other(CalledOff));
        }
        let length = self.file.read(buffer)?;
        self.read += length as u64;
        Ok(length)
    }
}

pub(super) fn or_canceled(error: io::Error, doing: &'static str, path: &Path) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(known) = cause {
        if known.is::<CalledOff>() {
            return Error::Canceled(path.to_owned());
        }
        let inner = known
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        cause = match inner {
            Some(inner) => Some(inner),
            None => known.source(),
        };
    }
    Error::file(doing, path)(error)
}

/// All frames of a zstd file, of which the decoder knows one at a time (RFC 8878, 3).
struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    is_within: bool,
}

/// The largest window that a frame may ask for, in bytes: `zstd -22` asks for 128 MiB.
const ZSTD_WINDOW: u64 = 1 << 28;

impl<R: BufRead> Zstd<R> {
    fn new(source: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(ZSTD_WINDOW);
        Self {
            source,
            decoder,
            is_within: false,
        }
    }

    /// Goes on to the next frame; whether there is one.
    fn begin_frame(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let mut skipped = (&mut self.source).take(length.into());
                    io::copy(&mut skipped, &mut io::sink())?;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.is_within {
                self.is_within = self.begin_frame()?;
                if !self.is_within {
                    return Ok(0);
                }
            }
            let length = self.decoder.read(buffer)?;
            if length > 0 {
                return Ok(length);
            }
            if self.decoder.is_finished() {
                let written = self.decoder.get_checksum_from_data();
                if written.is_some() && written != self.decoder.get_calculated_checksum() {
                    let why = "its checksum is not that of what is in it";
                    return Err(io::Error::new(ErrorKind::InvalidData, why));
                }
                self.is_within = false;
            } else {
                self.decoder
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(io::Error::other)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::super::unwatched;
    use super::*;

    /// What a program of that name makes of `bytes`, in two parts one after the other.
    fn packed(program: &str, parts: [&[u8]; 2]) -> Vec<u8> {
        let mut all = Vec::new();
        for part in parts {
            let mut child = Command::new(program)
                .args(["-c", "-q"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut stdin = child.stdin.take().unwrap();
            std::thread::scope(|scope| {
                scope.spawn(move || stdin.write_all(part).unwrap());
                all.extend(child.wait_with_output().unwrap().stdout);
            });
        }
        all
    }

    #[test]
    fn what_was_packed_is_unpacked_with_holes_for_zeroes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let noise: Vec<u8> = (0..300_000u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let mut first = vec![0; 1 << 20];
        first.extend(&noise);
        let second = vec![0; 100_001];
        let whole = [&first[..], &second].concat();
        for (program, suffix) in [("gzip", "gz"), ("xz", "xz"), ("zstd", "zst")] {
            let mut bytes = packed(program, [&first, &second]);
            if suffix == "zst" {
                // A frame to be skipped, as pzstd writes them.
                bytes.splice(0..0, *b"\x50\x2a\x4d\x18\x04\0\0\0abcd");
            }
            std::fs::write(&from, &bytes).unwrap();
            unpack(&from, suffix, &to, &mut unwatched).unwrap();
            assert!(std::fs::read(&to).unwrap() == whole, "{program}");
            let blocks = std::os::unix::fs::MetadataExt::blocks(&to.metadata().unwrap());
            assert!(blocks * 512 < 600_000, "{program}: {blocks} blocks");
            std::fs::remove_file(&to).unwrap();

            // Cut off, or another byte in it.
            for wrong in [bytes[..bytes.len() - 5].to_vec(), {
                let mut bytes = bytes.clone();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0x55;
                bytes
            }] {
                std::fs::write(&from, wrong).unwrap();
                let error = unpack(&from, suffix, &to, &mut unwatched).unwrap_err();
                assert!(matches!(error, Error::File { .. }), "{program}: {error:?}");
                std::fs::remove_file(&to).unwrap();
            }

            std::fs::write(&from, &bytes).unwrap();
            let error = unpack(&from, suffix, &to, &mut |_| false).unwrap_err();
            assert!(matches!(error, Error::Canceled(_)), "{program}: {error:?}");
            std::fs::remove_file(&to).unwrap();
        }
    }

    #[test]
    fn a_sum_is_that_of_sha256sum() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        // FIPS 180-2, B.1.
        assert_eq!(
            sha256(&path, &mut unwatched).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
