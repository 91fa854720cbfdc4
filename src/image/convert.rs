//! Copies of images, in the same format or another.

use std::path::Path;

use super::create::rename;
use super::header::{Header, size_at};
use super::rebase::rename_backing_at;
use super::tool::{Tool, Watch, absolute};
use super::{Error, Link, resize};

/// What a copy is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Conversion<'a> {
    /// What is copied.
    pub from: &'a Link,
    /// The format of the copy.
    pub format: &'a str,
    /// The backing file that the copy has, too: what is in there is not copied. All
    /// is, if it has none.
    pub backing: Option<&'a Link>,
    /// The id of the internal snapshot that is copied instead of what there is now. A
    /// running QEMU may have the image then: it writes no more what is in a snapshot.
    pub snapshot: Option<&'a str>,
}

/// Copies an image to a file that is not there; internal snapshots are not copied.
///
/// `path` is what the file will be called, for messages.
pub fn convert(
    conversion: Conversion<'_>,
    file: &Path,
    path: &Path,
    watch: Watch<'_>,
) -> Result<(), Error> {
    let Conversion {
        from,
        format,
        backing,
        snapshot,
    } = conversion;
    let size = match snapshot {
        Some(id) => size_of(from, id)?,
        None => None,
    };
    let tool = Tool::new("convert", "make", path).args(["-f", &from.format, "-O", format]);
    let tool = match backing {
        Some(backing) => tool
            .args(["-F", &backing.format, "-B"])
            .arg(absolute(&backing.path)?),
        None => tool,
    };
    let tool = match snapshot {
        Some(id) => tool.args(["-U", "-l", &format!("snapshot.id={id}")]),
        None => tool,
    };
    tool.file(&from.path)?
        .file(file)?
        .run_watched(watch)
        .map_err(|error| rename(error, path, file))?;
    if let Some(size) = size {
        resize(file, format, size, true).map_err(|error| rename(error, path, file))?;
    }
    // As every other overlay names what is below it.
    match backing {
        Some(backing) => {
            let copy = Link {
                path: file.to_owned(),
                format: format.to_owned(),
            };
            rename_backing_at(path, &copy, backing)
        }
        None => Ok(()),
    }
}

/// The size of a disk at a snapshot within its image, if it was smaller: qemu-img gives the
/// copy the size that it has now.
fn size_of(image: &Link, snapshot: &str) -> Result<Option<u64>, Error> {
    let failed = || Error::file("read", &image.path);
    let then = size_at(&image.path, snapshot).map_err(failed())?;
    let now = Header::read(&image.path).map_err(failed())?.virtual_size;
    match then {
        // What is behind its end now cannot be had.
        Some(then) if then > now => Err(Error::Failed {
            doing: "copy a snapshot of",
            path: image.path.clone(),
            words: format!("the disk had {then} bytes then, and has {now} now: let it grow first"),
        }),
        Some(then) if then < now => Ok(Some(then)),
        _ => Ok(None),
    }
}
