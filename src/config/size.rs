//! Amounts of bytes as people write them: `"4G"`, `"512M"`, `"1.5G"`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use super::schema::text_schema;
use super::text;

/// An amount of memory or disk, in bytes.
///
/// Units count in 1024s, as QEMU's do: `K M G T P`, also spelt `KiB` and so
/// on, and `B`. Serialized as a whole number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Size(u64);

text_schema!(
    Size,
    r"^[0-9]+(\.[0-9]{1,18})?([KMGTPkmgtp](iB)?|[Bb])$",
    ["4G", "512M"],
    unit = size
);

/// Units from the largest, with the power of two that each stands for.
const UNITS: [(char, u32); 6] = [
    ('P', 50),
    ('T', 40),
    ('G', 30),
    ('M', 20),
    ('K', 10),
    ('B', 0),
];

/// A text that is not a size; says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSize {
    /// Not a number and a unit.
    #[error("`{}` is not a size: write a number and a unit, as in \"4G\" or \"512M\"", .0.escape_debug())]
    Malformed(String),
    /// A number alone, of which anything can be made but nothing of 0.
    #[error("{}", no_unit(*.0))]
    NoUnit(u64),
    /// Units spelt otherwise: the size that was meant, maybe.
    #[error("`{}` is not a size: write \"{meant}\"", .text.escape_debug())]
    Spelling {
        /// What was written.
        text: String,
        /// How it is spelt.
        meant: Size,
    },
    /// A fraction of a byte, or more than 2^64 bytes.
    #[error("`{0}` is not a whole number of bytes below 2^64")]
    OutOfRange(String),
}

impl Size {
    /// A size of `bytes`.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// A size of `mebibytes` times 1024 times 1024 bytes.
    pub const fn from_mebibytes(mebibytes: u64) -> Self {
        Self(mebibytes << 20)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

fn no_unit(number: u64) -> String {
    match number {
        0 => InvalidSize::Malformed("0".to_owned()).to_string(),
        _ => format!("`{number}` has no unit: write \"{}\"", with_unit(number)),
    }
}

/// The size that a text would be if it was spelt as sizes are: `4GB`, `4 G`.
fn respelt(text: &str) -> Option<Size> {
    let mut plain = text.replace(char::is_whitespace, "");
    if plain.len() > 2 && plain.ends_with(['b', 'B']) {
        plain.pop();
    }
    let has_unit = plain.ends_with(|c: char| c.is_ascii_alphabetic());
    // It is shorter: this comes to an end.
    (plain != text && has_unit).then(|| plain.parse().ok())?
}

/// What a bare number was probably meant to be: small ones are mebibytes, as
/// in QEMU's `-m 512`, large ones are bytes.
fn with_unit(number: u64) -> String {
    if number < 1 << 20 {
        format!("{number}M")
    } else {
        Size(number).to_string()
    }
}

impl FromStr for Size {
    type Err = InvalidSize;

    fn from_str(s: &str) -> Result<Self, InvalidSize> {
        let malformed = || match respelt(s) {
            Some(meant) => InvalidSize::Spelling {
                text: s.to_owned(),
                meant,
            },
            None => InvalidSize::Malformed(s.to_owned()),
        };
        let out_of_range = || InvalidSize::OutOfRange(s.to_owned());
        let unit_at = s
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(s.len());
        let (number, unit) = s.split_at(unit_at);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
            return Err(malformed());
        }
        let whole: u64 = whole.parse().map_err(|_| out_of_range())?;
        if unit.is_empty() {
            return Err(if number.contains('.') {
                malformed()
            } else {
                InvalidSize::NoUnit(whole)
            });
        }
        let letter = unit.chars().next().unwrap_or_default().to_ascii_uppercase();
        let known = matches!(&unit[letter.len_utf8().min(unit.len())..], "")
            || (letter != 'B' && unit.get(1..) == Some("iB"));
        let shift = UNITS
            .iter()
            .find(|(name, _)| known && *name == letter)
            .map(|(_, shift)| *shift)
            .ok_or_else(malformed)?;

        // Exact: 18 digits after the point times 2^50 still fit a u128.
        if fraction.len() > 18 {
            return Err(out_of_range());
        }
        let scale = 10u128.pow(fraction.len() as u32);
        let fraction: u128 = fraction.parse().map_err(|_| malformed())?;
        let scaled = (u128::from(whole) * scale + fraction) << shift;
        if !scaled.is_multiple_of(scale) {
            return Err(out_of_range());
        }
        u64::try_from(scaled / scale)
            .map(Self)
            .map_err(|_| out_of_range())
    }
}

/// The shortest text that means exactly this size.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shortest = UNITS
            .iter()
            .filter_map(|&(name, shift)| Some(format!("{}{name}", decimal(self.0, shift)?)))
            .min_by_key(|text| (text.len(), text.contains('.')))
            .expect("a size is a whole number of bytes");
        f.pad(&shortest)
    }
}

/// `bytes / 2^shift` as a decimal number, if three digits after the point are enough.
fn decimal(bytes: u64, shift: u32) -> Option<String> {
    let thousandths = u128::from(bytes) * 1000;
    if !thousandths.is_multiple_of(1 << shift) {
        return None;
    }
    let thousandths = thousandths >> shift;
    if thousandths == 0 {
        return (shift == 0).then(|| "0".to_owned());
    }
    let text = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
    Some(text.trim_end_matches('0').trim_end_matches('.').to_owned())
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::deserialize_unit(deserializer, "a size such as \"4G\"", |number| {
            InvalidSize::NoUnit(number).to_string()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_numbers_with_a_unit() {
        for (text, bytes) in [
            ("4G", 4 << 30),
            ("512M", 512 << 20),
            ("1.5G", 3 << 29),
            ("64K", 64 << 10),
            ("1T", 1 << 40),
            ("2P", 2 << 50),
            ("2GiB", 2 << 30),
            ("100m", 100 << 20),
            ("1000B", 1000),
            ("0M", 0),
            ("0.001953125K", 2),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_says_what_to_write() {
        for (text, message) in [
            ("512", "`512` has no unit: write \"512M\""),
            ("1073741824", "`1073741824` has no unit: write \"1G\""),
            (
                "",
                "`` is not a size: write a number and a unit, as in \"4G\" or \"512M\"",
            ),
            (
                "0",
                "`0` is not a size: write a number and a unit, as in \"4G\" or \"512M\"",
            ),
            ("4 G", "`4 G` is not a size: write \"4G\""),
            ("4GB", "`4GB` is not a size: write \"4G\""),
            (" 512 mb ", "` 512 mb ` is not a size: write \"512M\""),
            (
                "4GBB",
                "`4GBB` is not a size: write a number and a unit, as in \"4G\" or \"512M\"",
            ),
            (
                "4 ",
                "`4 ` is not a size: write a number and a unit, as in \"4G\" or \"512M\"",
            ),
            (
                "-1G",
                "`-1G` is not a size: write a number and a unit, as in \"4G\" or \"512M\"",
            ),
            (
                "1.G",
                "`1.G` is not a size: write a number and a unit, as in \"4G\" or \"512M\"",
            ),
            (
                "4é",
                "`4é` is not a size: write a number and a unit, as in \"4G\" or \"512M\"",
            ),
            ("0.3B", "`0.3B` is not a whole number of bytes below 2^64"),
            (
                "99999P",
                "`99999P` is not a whole number of bytes below 2^64",
            ),
        ] {
            assert_eq!(
                text.parse::<Size>().unwrap_err().to_string(),
                message,
                "{text}"
            );
        }
    }

    #[test]
    fn sizes_are_shown_as_short_as_can_be() {
        for (bytes, text) in [
            (0, "0B"),
            (1000, "1000B"),
            (1536, "1.5K"),
            (1 << 20, "1M"),
            (512 << 20, "512M"),
            (3 << 29, "1.5G"),
            (5 << 28, "1280M"),
            (u64::MAX, "18446744073709551615B"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}
