//! An image and those below it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Header, Kind};

/// One image of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its file.
    pub path: PathBuf,
    /// Its format, as QEMU calls it.
    pub format: String,
}

/// An image and those below it, as far as they can be followed.
#[derive(Debug)]
pub struct Chain {
    /// The image itself, then its backing file, and so on.
    pub links: Vec<Link>,
    /// Why the last one is not the end of it, if it is not; else that one is damaged.
    pub fault: Option<Fault>,
}

/// What is wrong with what is below an image.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// An image says that another one is below it, and it is not there.
    #[error("the backing file of {} is missing: {}", .image.display(), .backing.display())]
    Missing {
        /// The image.
        image: PathBuf,
        /// Its backing file.
        backing: PathBuf,
    },
    /// An image is below itself.
    #[error("{} has a backing file that is above it: {}", .image.display(), .backing.display())]
    Circle {
        /// The image.
        image: PathBuf,
        /// Its backing file.
        backing: PathBuf,
    },
    /// What is below an image is none of this host's files.
    #[error("the backing file of {} is no file: {backing}", .image.display())]
    NoFile {
        /// The image.
        image: PathBuf,
        /// What it says.
        backing: String,
    },
    /// An image is marked as damaged: QEMU has found that it contradicts itself.
    #[error("{} is marked as damaged", .image.display())]
    Damaged {
        /// The image.
        image: PathBuf,
    },
    /// An image contradicts itself, as a check has found.
    #[error("{} contradicts itself in {places} places", .image.display())]
    Unsound {
        /// The image.
        image: PathBuf,
        /// How often.
        places: u64,
    },
    /// An image cannot be read.
    #[error("cannot read {}", .image.display())]
    Unreadable {
        /// The image.
        image: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Chain {
    /// Follows an image down.
    pub fn of(path: &Path, format: &str) -> Self {
        let mut chain = Self {
            links: Vec::new(),
            fault: None,
        };
        let mut damaged = None;
        let followed = chain.follow(path.to_owned(), format.to_owned(), &mut damaged);
        chain.fault = followed.err().or(damaged);
        chain
    }

    /// The images, if all of them are there.
    pub fn sound(self) -> Result<Vec<Link>, Fault> {
        match self.fault {
            None => Ok(self.links),
            Some(fault) => Err(fault),
        }
    }

    fn follow(
        &mut self,
        path: PathBuf,
        format: String,
        damaged: &mut Option<Fault>,
    ) -> Result<(), Fault> {
        let mut seen = BTreeSet::new();
        let unreadable = |image: &Path| {
            let image = image.to_owned();
            move |source| Fault::Unreadable { image, source }
        };
        let (mut path, mut format) = (path, Some(format));
        loop {
            let metadata = fs::metadata(&path).map_err(unreadable(&path))?;
            let is_new = seen.insert((metadata.dev(), metadata.ino()));
            if let (false, Some(last)) = (is_new, self.links.last()) {
                return Err(Fault::Circle {
                    image: last.path.clone(),
                    backing: path,
                });
            }
            let known = match format {
                Some(format) => format,
                None => {
                    let kind = Kind::of(&path).map_err(unreadable(&path))?;
                    kind.driver().unwrap_or("raw").to_owned()
                }
            };
            let is_qcow2 = known == "qcow2";
            self.links.push(Link {
                path: path.clone(),
                format: known,
            });
            // Of the other formats, none has a backing file here: `add --from` takes none that has.
            if !is_qcow2 {
                return Ok(());
            }
            let header = Header::read(&path).map_err(unreadable(&path))?;
            if header.is_corrupt {
                let image = path.clone();
                damaged.get_or_insert(Fault::Damaged { image });
            }
            let Some(written) = header.backing else {
                return Ok(());
            };
            let Some(backing) = resolve(&path, &written) else {
                return Err(Fault::NoFile {
                    image: path,
                    backing: written,
                });
            };
            match fs::metadata(&backing) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(Fault::Missing {
                        image: path,
                        backing,
                    });
                }
                _ => {}
            }
            (path, format) = (backing, header.backing_format);
        }
    }
}

/// The file that the name of a backing file means; `None` if it names no file.
///
/// As in QEMU (`path_combine`): what has a `:` before any `/` is a protocol.
fn resolve(image: &Path, written: &str) -> Option<PathBuf> {
    let name = written.strip_prefix("file:").unwrap_or(written);
    let first = name.split('/').next().unwrap_or_default();
    if first.contains(':') || name.is_empty() {
        return None;
    }
    // Of a link to an image, QEMU takes the directory of the link.
    let dir = image.parent().unwrap_or(Path::new("/"));
    Some(dir.join(name))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn overlay(dir: &Path, name: &str, backing: &str) {
        let made = Command::new("qemu-img")
            .args([
                "create", "-q", "-f", "qcow2", "-u", "-F", "qcow2", "-b", backing,
            ])
            .args([name, "1M"])
            .current_dir(dir)
            .status();
        assert!(made.unwrap().success());
    }

    #[test]
    fn a_chain_is_followed_to_its_end_or_to_what_is_wrong_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        std::fs::create_dir(dir.join("sub")).unwrap();
        overlay(dir, "sub/top", "../middle");
        overlay(dir, "middle", "base");
        let top = dir.join("sub/top");
        let chain = Chain::of(&top, "qcow2");
        assert_eq!(chain.links.len(), 2);
        let error = chain.sound().unwrap_err();
        assert!(matches!(error, Fault::Missing { .. }), "{error}");

        std::fs::write(dir.join("base"), "no image").unwrap();
        let error = Chain::of(&top, "qcow2").sound().unwrap_err();
        assert!(matches!(error, Fault::Unreadable { .. }), "{error}");

        overlay(dir, "base", "sub/top");
        let error = Chain::of(&top, "qcow2").sound().unwrap_err();
        assert!(matches!(error, Fault::Circle { .. }), "{error}");

        overlay(dir, "base", "nbd://host/x");
        let error = Chain::of(&top, "qcow2").sound().unwrap_err();
        assert!(matches!(error, Fault::NoFile { .. }), "{error}");

        let made = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "base", "1M"])
            .current_dir(dir)
            .status();
        assert!(made.unwrap().success());
        let links = Chain::of(&top, "qcow2").sound().unwrap();
        assert_eq!(links.len(), 3);
        // What a raw disk begins with is its guest's.
        assert_eq!(Chain::of(&top, "raw").sound().unwrap().len(), 1);
    }
}
