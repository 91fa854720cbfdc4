//! Files copied as they are, internal snapshots and all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;

use super::Error;
use super::tool::Watch;
use super::unpack::{Failed, PIECE, Watched, or_canceled, write_sparse};

/// Copies a file to one that is not there, with holes for zeroes, and looks whether the
/// copy reads the same.
pub fn copy(from: &Path, to: &Path, watch: Watch<'_>) -> Result<(), Error> {
    let mut source = Watched::open(from, "copy", watch)?;
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(Error::file("make", to))?;
    write_sparse(&mut source, &file).map_err(|error| match error {
        Failed::Reading(error) => or_canceled(error, "copy", from),
        Failed::Writing(error) => Error::file("make", to)(error),
    })?;
    let permissions = fs::metadata(from)
        .map_err(Error::file("read", from))?
        .permissions();
    file.set_permissions(permissions)
        .map_err(Error::file("make", to))?;
    drop(source);
    match is_same(from, to, watch)? {
        true => Ok(()),
        false => Err(Error::Failed {
            doing: "copy",
            path: from.to_owned(),
            words: "the copy does not read the same".to_owned(),
        }),
    }
}

/// Gives back the room of what a file has and nobody has written: it reads as zeroes, and
/// as holes do. Where the file system has no holes, it is left as it is.
pub fn dig(path: &Path) -> Result<(), Error> {
    let failed = Error::file("read", path);
    let file = OpenOptions::new().read(true).write(true).open(path);
    match file.and_then(|file| dig_in(&file)) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        done => done.map_err(failed),
    }
}

fn dig_in(file: &File) -> io::Result<()> {
    let end = file.metadata()?.len();
    let mut at = 0;
    while at < end {
        let data = match seek(file, SeekFrom::Data(at)) {
            // Nothing but holes from there on.
            Err(Errno::NXIO) => end,
            found => found?,
        };
        if data > at {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(file, flags, at, data - at)?;
        }
        if data == end {
            break;
        }
        at = seek(file, SeekFrom::Hole(data))?;
    }
    Ok(())
}

/// Whether two files have the same bytes.
pub fn is_same(from: &Path, to: &Path, watch: Watch<'_>) -> Result<bool, Error> {
    let mut source = Watched::open(from, "verify", watch)?;
    let mut copy = File::open(to).map_err(Error::file("read", to))?;
    let (mut one, mut other) = (vec![0; PIECE], vec![0; PIECE]);
    loop {
        let length =
            fill(&mut source, &mut one).map_err(|error| or_canceled(error, "read", from))?;
        let copied = fill(&mut copy, &mut other).map_err(Error::file("read", to))?;
        if one[..length] != other[..copied] {
            return Ok(false);
        }
        if length == 0 {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or nothing more comes.
pub(super) fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
