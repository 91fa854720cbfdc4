//! Values that are lists or have parts, as unit files write them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Given;
use super::names;
use super::scalar::{Read, microseconds, one_of, size, whole};

impl Given<'_> {
    /// The one value of a property that takes one.
    pub(super) fn one(&self) -> Read<&str> {
        match self {
            Self::Text(text) => Ok(text.trim()),
            Self::List(_) => Err("it takes one value, and not a list".to_owned()),
        }
    }

    /// Its words; of a list, its items.
    pub(super) fn words(&self) -> Read<Vec<String>> {
        match self {
            Self::Text(text) => split(text),
            Self::List(items) => Ok(items.to_vec()),
        }
    }

    /// Its lines, for values of several words each.
    fn lines(&self) -> Vec<&str> {
        match self {
            Self::Text(text) if text.trim().is_empty() => Vec::new(),
            Self::Text(text) => vec![text.trim()],
            Self::List(items) => items.iter().map(String::as_str).collect(),
        }
    }

    /// Each line read by `parse`.
    pub(super) fn read<T>(&self, parse: impl FnMut(&str) -> Read<T>) -> Read<Vec<T>> {
        self.lines().into_iter().map(parse).collect()
    }

    /// Each word read by `parse`.
    pub(super) fn read_words<T>(&self, mut parse: impl FnMut(&str) -> Read<T>) -> Read<Vec<T>> {
        self.words()?.iter().map(|word| parse(word)).collect()
    }

    /// Words behind a `~`, which stands for all others: whether it is not there, and the words.
    pub(super) fn filter(&self) -> Read<(bool, Vec<String>)> {
        let mut words = self.words()?;
        let denies = words.first().is_some_and(|word| word.starts_with('~'));
        if denies {
            words[0].remove(0);
            words.retain(|word| !word.is_empty());
        }
        if words.iter().any(|word| word.starts_with('~')) {
            return Err("`~` goes before the first of the list".to_owned());
        }
        Ok((!denies, words))
    }

    /// Names joined to a mask; with a leading `~`, all of `known` but these.
    pub(super) fn mask(&self, known: &[(&str, u64)]) -> Read<u64> {
        let (allows, words) = self.filter()?;
        let mut mask = 0;
        for word in &words {
            mask |= one_of(word, known)?;
        }
        let all: u64 = known
            .iter()
            .map(|(_, bit)| bit)
            .fold(0, |all, bit| all | bit);
        Ok(if allows { mask } else { all & !mask })
    }
}

/// Splits at white space, as unit files are: quotes join, backslashes escape (systemd.syntax(7)).
pub(super) fn split(text: &str) -> Read<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (_, '\\') => {
                let escaped = unescape(&mut chars).ok_or("a backslash escapes nothing here")?;
                word.get_or_insert_default().push(escaped);
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    words.extend(word);
    Ok(words)
}

/// What follows a backslash.
fn unescape(chars: &mut std::str::Chars<'_>) -> Option<char> {
    Some(match chars.next()? {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        's' => ' ',
        'x' => {
            let digits: String = chars.by_ref().take(2).collect();
            char::from(u8::from_str_radix(&digits, 16).ok().filter(u8::is_ascii)?)
        }
        c @ ('\\' | '"' | '\'') => c,
        _ => return None,
    })
}

/// CPUs or NUMA nodes such as `0-3 5,7`, as a mask of bytes, the lowest first.
pub(super) fn set(given: Given<'_>) -> Read<Vec<u8>> {
    let wanted = || "it is a list of numbers and ranges, such as 0-3,6".to_owned();
    let number = |text: &str| whole(text, 0, 8191).map_err(|_| wanted());
    let mut mask = Vec::new();
    for word in given.words()? {
        for part in word.split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(wanted());
            }
            for bit in first..=last {
                let byte = bit as usize / 8;
                if mask.len() <= byte {
                    mask.resize(byte + 1, 0u8);
                }
                mask[byte] |= 1 << (bit % 8);
            }
        }
    }
    Ok(mask)
}

/// Exit statuses and signals.
pub(super) fn exits(given: Given<'_>) -> Read<(Vec<i32>, Vec<i32>)> {
    let (mut codes, mut signals) = (Vec::new(), Vec::new());
    for word in given.words()? {
        match names::exit_status(&word) {
            Some(code) => codes.push(code),
            None => signals.push(names::signal(&word).map_err(|_| {
                "it is exit statuses (0 to 255) and signals, such as \"1 SIGKILL\"".to_owned()
            })?),
        }
    }
    Ok((codes, signals))
}

/// `KEY:VALUE` or `KEY VALUE`, cut at the first `separator`.
pub(super) fn pair(line: &str, separator: char, form: &str) -> Read<(String, String)> {
    let (key, value) = line
        .split_once(separator)
        .filter(|(key, _)| !key.is_empty())
        .ok_or_else(|| format!("it is {form}"))?;
    Ok((key.to_owned(), value.trim_start().to_owned()))
}

/// A device and, behind a space, what `parse` reads.
pub(super) fn device<T>(
    line: &str,
    form: &str,
    parse: impl Fn(&str) -> Read<T>,
) -> Read<(String, T)> {
    let (device, value) = pair(line, ' ', form)?;
    Ok((device, parse(&value)?))
}

/// Bytes a second, with suffixes of 1000.
pub(super) fn bandwidth(text: &str) -> Read<u64> {
    match text {
        "infinity" => Ok(u64::MAX),
        _ => size(text, 1000),
    }
}

pub(super) fn latency(text: &str) -> Read<u64> {
    microseconds(text)
}

/// `PATH` with what a group of processes may do there; all of it, if it does not say.
pub(super) fn device_rule(line: &str) -> Read<(String, String)> {
    let (path, access) = line.split_once(' ').unwrap_or((line, "rwm"));
    Ok((path.to_owned(), access.trim().to_owned()))
}

/// `[-]SOURCE[:DESTINATION[:rbind|norbind]]`: source, destination, whether it may be missing, flags.
pub(super) fn bind(word: &str) -> Read<(String, String, bool, u64)> {
    let (optional, rest) = match word.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, word),
    };
    let mut parts = rest.splitn(3, ':');
    let source = parts.next().unwrap_or_default();
    let destination = parts.next().unwrap_or(source);
    let flags = match parts.next() {
        None | Some("rbind") => libc::MS_REC,
        Some("norbind") => 0,
        Some(_) => return Err("it is SOURCE:DESTINATION:norbind".to_owned()),
    };
    Ok((source.to_owned(), destination.to_owned(), optional, flags))
}

/// `PATH[:OPTIONS]`.
pub(super) fn path_and_options(word: &str) -> Read<(String, String)> {
    let (path, options) = word.split_once(':').unwrap_or((word, ""));
    Ok((path.to_owned(), options.to_owned()))
}

/// `[-]PATH`: the path, and whether it may be missing.
pub(super) fn optional_path(word: &str) -> Read<(String, bool)> {
    Ok(match word.strip_prefix('-') {
        Some(path) => (path.to_owned(), true),
        None => (word.to_owned(), false),
    })
}

/// `[|][!]PARAMETER`: name, whether one of several will do, whether it is turned round, parameter.
pub(super) fn condition(name: &str, line: &str) -> (String, bool, bool, String) {
    let (triggers, rest) = match line.strip_prefix('|') {
        Some(rest) => (true, rest.trim_start()),
        None => (false, line),
    };
    let (negates, parameter) = match rest.strip_prefix('!') {
        Some(parameter) => (true, parameter.trim_start()),
        None => (false, rest),
    };
    (name.to_owned(), triggers, negates, parameter.to_owned())
}

/// `PATH[:NAME[:OPTION]]`, with the option as a flag.
pub(super) fn open_file(line: &str) -> Read<(String, String, u64)> {
    let mut parts = line.splitn(3, ':');
    let path = parts.next().unwrap_or_default().to_owned();
    let name = parts.next().unwrap_or_default().to_owned();
    let options = [
        ("read-only", 1),
        ("append", 2),
        ("truncate", 4),
        ("graceful", 8),
    ];
    let mut flags = 0;
    for option in parts.next().unwrap_or_default().split(',') {
        if !option.is_empty() {
            flags |= one_of(option, &options)?;
        }
    }
    Ok((path, name, flags))
}

/// A command of a hook: its path, its words, whether its failure is ignored.
pub(super) fn command(line: &str) -> Read<(String, Vec<String>, bool)> {
    let (ignore, line) = match line.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    if line.contains('$') {
        // Over the bus, `$` means something else from one systemd to the next.
        return Err("it cannot hold a `$`: put the command into a script".to_owned());
    }
    let words = split(line)?;
    match words.first() {
        Some(program) if program.starts_with('/') => Ok((program.clone(), words, ignore)),
        _ => {
            Err("it is an absolute path and its arguments, behind a `-` if it may fail".to_owned())
        }
    }
}

/// A network as `(family, address, length of prefix)`; some words are one for each family.
pub(super) fn networks(given: Given<'_>) -> Read<Vec<(i32, Vec<u8>, u32)>> {
    let mut found = Vec::new();
    for word in given.words()? {
        let named: &[&str] = match word.as_str() {
            "any" => &["0.0.0.0/0", "::/0"],
            "localhost" => &["127.0.0.0/8", "::1/128"],
            "link-local" => &["169.254.0.0/16", "fe80::/64"],
            "multicast" => &["224.0.0.0/4", "ff00::/8"],
            other => {
                found.push(network(other)?);
                continue;
            }
        };
        for text in named {
            found.push(network(text)?);
        }
    }
    Ok(found)
}

fn network(text: &str) -> Read<(i32, Vec<u8>, u32)> {
    let wanted =
        || "it is networks such as 192.168.0.0/16, or any, localhost, link-local, multicast";
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| wanted().to_owned())?;
    let (family, bytes, most) = match address {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec(), Ipv4Addr::BITS),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec(), Ipv6Addr::BITS),
    };
    let length = match length {
        None => most,
        Some(length) => whole(length, 0, most.into()).map_err(|_| wanted().to_owned())? as u32,
    };
    Ok((family, bytes, length))
}

/// `[FAMILY:][PROTOCOL:]PORT[-PORT]` as `(family, protocol, number of ports, first port)`.
pub(super) fn socket_bind(word: &str) -> Read<(i32, i32, u16, u16)> {
    let wanted = || "it is `any` or such as ipv4:tcp:8000-8100".to_owned();
    let (mut family, mut protocol) = (libc::AF_UNSPEC, 0);
    let mut ports = None;
    for part in word.split(':') {
        match part {
            "ipv4" => family = libc::AF_INET,
            "ipv6" => family = libc::AF_INET6,
            "tcp" => protocol = libc::IPPROTO_TCP,
            "udp" => protocol = libc::IPPROTO_UDP,
            "any" => ports = Some((0, 0)),
            range => {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let first = whole(first, 1, 65535).map_err(|_| wanted())?;
                let last = whole(last, first, 65535).map_err(|_| wanted())?;
                ports = Some(((last - first + 1) as u16, first as u16));
            }
        }
    }
    let (count, first) = ports.unwrap_or_default();
    Ok((family, protocol, count, first))
}
