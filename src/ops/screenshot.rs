//! What a VM's screen shows.

use std::fs::{self, File};
use std::io::{Cursor, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use image::ImageFormat;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::Serialize;
use serde_json::{Value, json};

use crate::qmp;
use crate::vm::VmName;

use super::{Error, Host, monitor};

/// How a picture is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Portable Network Graphics.
    Png,
    /// Portable pixmap: no compression, read by everything; see ppm(5).
    Ppm,
}

/// Which screen, of a VM that has several.
#[derive(Clone, Debug, Default)]
pub struct Screen {
    /// The id of the video device; the first one if not given.
    pub device: Option<String>,
    /// Which of the device's outputs, from 0.
    pub head: Option<u32>,
}

/// A picture of a screen.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The whole file.
    pub bytes: Vec<u8>,
    /// How it is written.
    pub format: Format,
    /// Pixels from left to right.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
}

/// Takes a picture of a VM's screen.
///
/// # Errors
/// [`Error::NoScreen`] for a VM without a video device.
pub fn screenshot(
    host: &Host,
    name: &VmName,
    screen: &Screen,
    format: Format,
    limit: Duration,
) -> Result<Picture, Error> {
    let mut monitor = monitor::open(host, name, limit)?;
    // QEMU writes where it always can, and need not reach the caller's files. Under
    // the monitor's lock nobody else does; what is there was left by a killed one.
    let file = host.paths.sockets(name).screenshot();
    remove(&file)?;
    let mut arguments = json!({ "filename": &file });
    if let Some(device) = &screen.device {
        arguments["device"] = device.as_str().into();
    }
    if let Some(head) = screen.head {
        arguments["head"] = head.into();
    }
    let mut with_format = arguments.clone();
    with_format["format"] = json!(format);
    let (taken, is_png) = match monitor.execute("screendump", with_format) {
        // QEMU 7.0 and older, or one that was built without libpng, knows PPM alone.
        Err(qmp::Error::Refused { ref desc, .. })
            if desc.contains("'format'") || desc.contains("PNG") =>
        {
            (monitor.execute("screendump", arguments), false)
        }
        taken => (taken, format == Format::Png),
    };
    let taken = taken
        .map_err(|error| or_no_screen(name, error))
        .and_then(|_: Value| {
            fs::read(&file).map_err(Error::io(format_args!("cannot read {}", file.display())))
        });
    remove(&file)?;
    let mut bytes = taken?;
    if format == Format::Png && !is_png {
        bytes = png_of(&bytes).ok_or_else(|| Error::BrokenPicture(name.clone()))?;
    }
    let size = match format {
        Format::Png => png_size(&bytes),
        Format::Ppm => ppm_size(&bytes),
    };
    let (width, height) = size.ok_or_else(|| Error::BrokenPicture(name.clone()))?;
    Ok(Picture {
        bytes,
        format,
        width,
        height,
    })
}

/// A PPM as PNG; none if it is no PPM.
pub fn png_of(ppm: &[u8]) -> Option<Vec<u8>> {
    let picture = image::load_from_memory_with_format(ppm, ImageFormat::Pnm).ok()?;
    let mut png = Cursor::new(Vec::new());
    picture.write_to(&mut png, ImageFormat::Png).ok()?;
    Some(png.into_inner())
}

fn or_no_screen(name: &VmName, error: qmp::Error) -> Error {
    match error {
        // ui/console.c and ui/ui-qmp-cmds.c; its class is that of all the others.
        qmp::Error::Refused { ref desc, .. } if desc.contains("no console") => {
            Error::NoScreen(name.clone())
        }
        error => error.into(),
    }
}

fn remove(file: &Path) -> Result<(), Error> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io(format_args!(
            "cannot remove {}",
            file.display()
        ))(error)),
        _ => Ok(()),
    }
}

/// Width and height of a PNG that is whole.
fn png_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let rest = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")?;
    let number = |at: usize| Some(u32::from_be_bytes(rest.get(at..at + 4)?.try_into().ok()?));
    let is_whole = bytes.ends_with(b"IEND\xae\x42\x60\x82");
    is_whole.then_some((number(0)?, number(4)?))
}

/// Width and height of a PPM that is whole.
fn ppm_size(bytes: &[u8]) -> Option<(u32, u32)> {
    // As QEMU writes it: a line each for kind, size and largest value.
    let mut lines = bytes.splitn(4, |byte| *byte == b'\n');
    let kind = lines.next()?;
    let (width, height) = str::from_utf8(lines.next()?).ok()?.split_once(' ')?;
    let (width, height) = (width.parse().ok()?, height.parse().ok()?);
    let (largest, pixels) = (lines.next()?, lines.next()?);
    let is_whole = kind == b"P6"
        && largest == b"255"
        && pixels.len() as u64 == 3 * u64::from(width) * u64::from(height);
    is_whole.then_some((width, height))
}

impl Picture {
    /// Writes the picture to `file`: all of it or nothing. A file that is there
    /// is only replaced with `replace`.
    ///
    /// # Errors
    /// [`Error::FileExists`], also for what is no regular file and so is never replaced.
    pub fn save(&self, file: &Path, replace: bool) -> Result<(), Error> {
        // What a link leads to is what is replaced.
        let target = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
        let found = fs::symlink_metadata(&target).ok();
        let replaceable = |found: &fs::Metadata| replace && found.is_file();
        if found.as_ref().is_some_and(|found| !replaceable(found)) {
            return Err(Error::FileExists(file.to_owned()));
        }
        let failed = |error| Error::io(format_args!("cannot write {}", file.display()))(error);
        let unfinished = unfinished(&target);
        let written = File::create_new(&unfinished)
            .and_then(|mut out| out.write_all(&self.bytes))
            .and_then(|()| put(&unfinished, &target, replace));
        written.map_err(|error| {
            // A process of this number, long dead, may have left one: then it is that one.
            let _ = fs::remove_file(&unfinished);
            match error.kind() {
                ErrorKind::AlreadyExists => Error::FileExists(file.to_owned()),
                _ => failed(error),
            }
        })
    }

    /// Writes the picture to a file in `directory` that is not there yet, named
    /// after the VM and the time; returns its path.
    pub fn save_in(&self, directory: &Path, name: &VmName) -> Result<PathBuf, Error> {
        let time = Timestamp::now().to_zoned_datetime(TimeZone::system());
        let time = time.strftime("%Y%m%d-%H%M%S").to_string();
        let suffix = match self.format {
            Format::Png => "png",
            Format::Ppm => "ppm",
        };
        let mut count = 1;
        loop {
            let more = match count {
                1 => String::new(),
                _ => format!("-{count}"),
            };
            let file = directory.join(format!("{name}-{time}{more}.{suffix}"));
            match self.save(&file, false) {
                Err(Error::FileExists(_)) => count += 1,
                saved => return saved.map(|()| file),
            }
        }
    }
}

/// Where a file is written before it is put in its place: beside it.
fn unfinished(target: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    target.with_file_name(name)
}

fn put(unfinished: &Path, target: &Path, replace: bool) -> std::io::Result<()> {
    if replace {
        return fs::rename(unfinished, target);
    }
    match renameat_with(CWD, unfinished, CWD, target, RenameFlags::NOREPLACE) {
        // Not every file system can do that; those that cannot mostly have links.
        Err(Errno::INVAL | Errno::NOSYS) => {
            fs::hard_link(unfinished, target)?;
            fs::remove_file(unfinished)
        }
        renamed => Ok(renamed?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_that_is_cut_off_is_none() {
        let ppm = b"P6\n2 1\n255\nabcdef";
        assert_eq!(ppm_size(ppm), Some((2, 1)));
        let png =
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x02\x80\0\0\x01\xe0\x08\x02IEND\xae\x42\x60\x82";
        assert_eq!(png_size(png), Some((640, 480)));
        for end in 0..ppm.len() {
            assert_eq!(ppm_size(&ppm[..end]), None, "{end}");
        }
        for end in 0..png.len() {
            assert_eq!(png_size(&png[..end]), None, "{end}");
        }
    }

    #[test]
    fn only_a_regular_file_is_replaced_and_only_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let picture = Picture {
            bytes: b"new".to_vec(),
            format: Format::Png,
            width: 1,
            height: 1,
        };
        fs::write(at("mine"), "old").unwrap();
        std::os::unix::fs::symlink("mine", at("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        for (name, replace) in [
            ("mine", false),
            ("link", false),
            ("dangling", false),
            ("folder", false),
            ("folder", true),
        ] {
            let error = picture.save(&at(name), replace).unwrap_err();
            assert!(matches!(error, Error::FileExists(_)), "{name}: {error}");
        }
        assert_eq!(fs::read(at("mine")).unwrap(), b"old");
        picture.save(&at("link"), true).unwrap();
        assert_eq!(fs::read(at("mine")).unwrap(), b"new");
        assert!(at("link").symlink_metadata().unwrap().is_symlink());
        picture.save(&at("other"), false).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 5, "no scraps");
    }
}
