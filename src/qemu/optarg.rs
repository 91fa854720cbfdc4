//! Arguments of QEMU options: `driver=file,filename=/vms/a,,b.raw`.
//!
//! A comma separates, a doubled comma is itself (qemu(1)). This is the one
//! place that doubles them. Nothing else needs quoting: newlines, quotes,
//! spaces and `=` in a value reach QEMU as they are.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// A list of `key=value` pairs, made from the left.
///
/// The first pair has its key as well: QEMU would take a bare `a=b` there for
/// another key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OptArg(Vec<(String, OsString)>);

impl OptArg {
    /// An argument of one pair.
    pub fn new(key: &str, value: impl AsRef<OsStr>) -> Self {
        Self::default().with(key, value)
    }

    /// The same with one pair more.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.push((key.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The value of a key, if it has that.
    pub fn get(&self, wanted: &str) -> Option<&OsStr> {
        let mut pairs = self.0.iter();
        pairs.find_map(|(key, value)| (key == wanted).then_some(value.as_os_str()))
    }

    /// The same with one pair more, `on` or `off`.
    #[must_use]
    pub fn with_bool(self, key: &str, value: bool) -> Self {
        self.with(key, if value { "on" } else { "off" })
    }

    /// The same with one pair more if `condition` holds.
    #[must_use]
    pub fn with_if(self, condition: bool, key: &str, value: impl AsRef<OsStr>) -> Self {
        if condition {
            self.with(key, value)
        } else {
            self
        }
    }
}

impl From<OptArg> for OsString {
    fn from(arg: OptArg) -> Self {
        let mut text = Vec::new();
        for (i, (key, value)) in arg.0.iter().enumerate() {
            if i > 0 {
                text.push(b',');
            }
            text.extend_from_slice(key.as_bytes());
            text.push(b'=');
            for &byte in value.as_bytes() {
                if byte == b',' {
                    text.push(b',');
                }
                text.push(byte);
            }
        }
        Self::from_vec(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_are_doubled_and_nothing_else_changes() {
        for (value, text) in [
            ("/a.raw", "driver=file,filename=/a.raw"),
            ("/a,b.raw", "driver=file,filename=/a,,b.raw"),
            (",,", "driver=file,filename=,,,,"),
            ("a=b,read-only=on", "driver=file,filename=a=b,,read-only=on"),
            (" \n\"'%n$HOME\\", "driver=file,filename= \n\"'%n$HOME\\"),
            ("", "driver=file,filename="),
        ] {
            let arg: OsString = OptArg::new("driver", "file").with("filename", value).into();
            assert_eq!(arg, *text);
        }
    }

    #[test]
    fn values_need_not_be_utf8() {
        let arg: OsString = OptArg::new("path", OsStr::from_bytes(b"/\xff,")).into();
        assert_eq!(arg.as_bytes(), b"path=/\xff,,");
    }
}
