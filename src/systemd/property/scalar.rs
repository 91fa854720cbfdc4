//! Single values as unit files write them (systemd.syntax(7), systemd.time(7)).
//!
//! An `Err` is what the property would have taken.

/// A value, or what was wanted instead.
pub(super) type Read<T> = Result<T, String>;

/// An absolute amount, or a share of what the host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Amount {
    Absolute(u64),
    /// In ten-thousandths.
    Share(u32),
}

pub(super) fn boolean(text: &str) -> Read<bool> {
    let word = text.to_ascii_lowercase();
    match word.as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Ok(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Ok(false),
        _ => Err("it is `yes` or `no`".to_owned()),
    }
}

/// A whole number from `min` to `max`; octal and hexadecimal with a prefix.
pub(super) fn whole(text: &str, min: i64, max: i64) -> Read<i64> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x', ..] => (&text[2..], 16),
        [b'0', b'o', ..] => (&text[2..], 8),
        [b'0', b'b', ..] => (&text[2..], 2),
        _ => (text.strip_prefix('+').unwrap_or(text), 10),
    };
    i64::from_str_radix(digits, radix)
        .ok()
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| format!("it is a whole number from {min} to {max}"))
}

pub(super) fn unsigned(text: &str) -> Read<u64> {
    text.parse().map_err(|_| "it is a whole number".to_owned())
}

/// A file mode, in octal.
pub(super) fn mode(text: &str) -> Read<u32> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| "it is a file mode in octal, such as 0700".to_owned())
}

/// Bytes with the suffixes `K M G T P E`, each `base` times the one before.
pub(super) fn size(text: &str, base: u64) -> Read<u64> {
    let wanted = || "it is a number of bytes, such as 512M or 3G".to_owned();
    let text = text.trim();
    let (number, suffix) = split_number(text);
    let power = match suffix.trim() {
        "" | "B" => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        "P" => 5,
        "E" => 6,
        _ => return Err(wanted()),
    };
    scaled(number, u128::from(base).pow(power))
        .and_then(|bytes| bytes.try_into().ok())
        .filter(|bytes| *bytes != u64::MAX)
        .ok_or_else(wanted)
}

/// A limit of memory: bytes, a percentage or `infinity`. `empty` is what no text at all means.
pub(super) fn memory(text: &str, empty: u64) -> Read<Amount> {
    match text {
        "" => Ok(Amount::Absolute(empty)),
        "infinity" => Ok(Amount::Absolute(u64::MAX)),
        _ if text.ends_with('%') => percentage(text).map(Amount::Share),
        _ => size(text, 1024).map(Amount::Absolute),
    }
    .map_err(|_| {
        "it is a number of bytes such as 3G, a percentage such as 50%, or `infinity`".to_owned()
    })
}

/// A number of tasks: an absolute one, a percentage or `infinity`.
pub(super) fn tasks(text: &str) -> Read<Amount> {
    match text {
        "" | "infinity" => Ok(Amount::Absolute(u64::MAX)),
        _ if text.ends_with('%') => percentage(text).map(Amount::Share),
        _ => unsigned(text).map(Amount::Absolute),
    }
    .ok()
    // All of them are `infinity`.
    .filter(|tasks| !is_nothing(*tasks) && *tasks != Amount::Share(10_000))
    .ok_or_else(|| {
        "it is a whole number from 1, a percentage below 100% such as 50%, or `infinity`".to_owned()
    })
}

pub(super) fn is_nothing(amount: Amount) -> bool {
    matches!(amount, Amount::Absolute(0) | Amount::Share(0))
}

/// At most 100 %, in ten-thousandths.
pub(super) fn percentage(text: &str) -> Read<u32> {
    any_percentage(text)
        .ok()
        .filter(|share| *share <= 10_000)
        .map(|share| share as u32)
        .ok_or_else(|| "it is a percentage up to 100%".to_owned())
}

/// A percentage that may be more than 100 %, in ten-thousandths.
pub(super) fn any_percentage(text: &str) -> Read<u64> {
    text.strip_suffix('%')
        .and_then(|number| scaled(number.trim_end(), 100))
        .and_then(|share| share.try_into().ok())
        .ok_or_else(|| "it is a percentage, such as 150%".to_owned())
}

/// A share of the whole as systemd sends it: of `u32::MAX`, rounded.
pub(super) fn scale(permyriad: u32) -> u32 {
    ((u64::from(permyriad) * u64::from(u32::MAX) + 5_000) / 10_000) as u32
}

const NS: u128 = 1;
const US: u128 = 1_000 * NS;
const MS: u128 = 1_000 * US;
const SECOND: u128 = 1_000 * MS;
const MINUTE: u128 = 60 * SECOND;
const HOUR: u128 = 60 * MINUTE;
const DAY: u128 = 24 * HOUR;
/// A twelfth of a year of 365.25 days.
const MONTH: u128 = 2_629_800 * SECOND;

/// Longer words first: each is looked for at the beginning of what is left.
const TIME_UNITS: [(&str, u128); 30] = [
    ("seconds", SECOND),
    ("second", SECOND),
    ("sec", SECOND),
    ("minutes", MINUTE),
    ("minute", MINUTE),
    ("months", MONTH),
    ("month", MONTH),
    ("min", MINUTE),
    ("msec", MS),
    ("ms", MS),
    ("m", MINUTE),
    ("hours", HOUR),
    ("hour", HOUR),
    ("hr", HOUR),
    ("h", HOUR),
    ("days", DAY),
    ("day", DAY),
    ("d", DAY),
    ("weeks", 7 * DAY),
    ("week", 7 * DAY),
    ("w", 7 * DAY),
    ("M", MONTH),
    ("years", 12 * MONTH),
    ("year", 12 * MONTH),
    ("y", 12 * MONTH),
    ("usec", US),
    ("us", US),
    ("µs", US),
    ("nsec", NS),
    ("ns", NS),
];

/// A time span in nanoseconds; a bare number is in `unit`s of as many.
fn nanoseconds(text: &str, unit: u128) -> Option<u128> {
    let mut rest = text.trim();
    if rest == "infinity" {
        return Some(u128::MAX);
    }
    let mut total = 0u128;
    let mut any = false;
    while !rest.is_empty() {
        let (number, tail) = split_number(rest);
        let tail = tail.trim_start();
        // `s` is no prefix of a longer unit that is not in the list.
        let found = TIME_UNITS
            .iter()
            .chain(&[("s", SECOND)])
            .find(|(word, _)| tail.starts_with(word));
        let (length, left) = match found {
            Some((word, length)) => (*length, &tail[word.len()..]),
            None => (unit, tail),
        };
        total = total.checked_add(scaled(number, length)?)?;
        rest = left.trim_start();
        any = true;
    }
    any.then_some(total)
}

/// A time span in microseconds, `infinity` being the largest; a bare number is seconds.
pub(super) fn microseconds(text: &str) -> Read<u64> {
    match nanoseconds(text, SECOND) {
        Some(u128::MAX) => Some(u64::MAX),
        Some(span) => u64::try_from(span / US).ok(),
        None => None,
    }
    .ok_or_else(|| "it is a time span such as 5s or \"1min 30s\", or `infinity`".to_owned())
}

/// A time span in nanoseconds, which is also what a bare number is in.
pub(super) fn timer_slack(text: &str) -> Read<u64> {
    nanoseconds(text, NS)
        .and_then(|span| u64::try_from(span).ok())
        .ok_or_else(|| "it is a time span such as 50us".to_owned())
}

/// One of `words`.
pub(super) fn one_of<T: Copy>(text: &str, words: &[(&str, T)]) -> Read<T> {
    let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    words
        .iter()
        .find(|(word, _)| *word == text)
        .map(|(_, value)| *value)
        .ok_or_else(|| format!("it is one of {}", names.join(", ")))
}

/// The digits and the point at the beginning, and the rest.
fn split_number(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    text.split_at(end)
}

/// A decimal number times `factor`, rounded down.
fn scaled(number: &str, factor: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 18 {
        return None;
    }
    let whole: u128 = whole.parse().ok()?;
    let mut total = whole.checked_mul(factor)?;
    if number.contains('.') {
        let fraction_digits: u128 = fraction.parse().ok()?;
        total += fraction_digits.checked_mul(factor)? / 10u128.pow(fraction.len() as u32);
    }
    Some(total)
}
