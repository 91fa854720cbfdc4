//! The kinds of values, and what each becomes on the bus: org.freedesktop.systemd1(5).

use zbus::Variant;

use super::Given;
use super::list::{
    bandwidth, bind, command, condition, device, device_rule, exits, latency, networks, open_file,
    optional_path, pair, path_and_options, set, socket_bind,
};
use super::names::{self, CAPABILITIES, COREDUMP, MOUNT_FLAGS, NAMESPACES, SECURE_BITS};
use super::scalar::{
    Amount, Read, any_percentage, boolean, is_nothing, memory, microseconds, mode, one_of,
    percentage, scale, size, tasks, timer_slack, unsigned, whole,
};
use super::table::Entry;

/// What a property's value is. The type on the bus is in brackets.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A text. (s)
    Text,
    /// One of some words. (s)
    Choice(&'static [&'static str]),
    /// Yes or no. (b)
    Bool,
    /// Yes or no (b), or a word, for which the name on the bus ends in `Ex` (s).
    BoolOrWord(&'static [&'static str]),
    /// Yes or no, or a word, all as a text. (s)
    YesOrWord(&'static [&'static str]),
    /// A whole number from, to. (i)
    Int(i64, i64),
    /// A whole number. (u)
    U32,
    /// One of some words, or its number. (i)
    Word(&'static [(&'static str, i32)]),
    /// A signal. (i)
    Signal,
    /// An error number. (i)
    Errno,
    /// A file mode. (u)
    Mode,
    /// A time span in microseconds. (t)
    Time,
    /// A time span in nanoseconds. (t)
    TimerSlack,
    /// A limit of memory (t), or a share of it (u), for which the name ends in `Scale`.
    /// Nothing at all means no limit.
    Memory,
    /// The same for memory that is protected: nothing at all means none.
    Protection,
    /// A number of tasks, or a share as with memory. (t, u)
    Tasks,
    /// A percentage of one CPU, as CPU time for each second. (t)
    CpuQuota,
    /// A weight up to 10000; for CPUs also `idle`. Nothing means the default. (t)
    Weight,
    /// A percentage up to 100, scaled to 32 bits. (u)
    Percentage,
    /// A limit as in `SOFT:HARD` of bytes, seconds, microseconds or a number. (t, t)
    Limit(Unit),
    /// Words. (as)
    Words,
    /// Words that are bytes on the bus. (aay)
    Bytes,
    /// CPUs or NUMA nodes. (ay)
    Set,
    /// CPUs, or `numa` for those of the NUMA nodes. (ay, b)
    Affinity,
    /// Words to allow, or behind `~` to deny. ((bas))
    Filter,
    /// Names of capabilities. (t)
    Capabilities,
    /// Yes, no, or names of namespaces. (t)
    Namespaces,
    /// Names of bits. (i or t)
    SecureBits,
    /// Names of kinds of memory. (t)
    Coredump,
    /// A way of mounting. (t)
    MountFlags,
    /// Exit statuses and signals. ((aiai))
    Exits,
    /// `PATH ACCESS`. (a(ss))
    Devices,
    /// `PATH BYTES`, a second. (a(st))
    Bandwidth,
    /// `PATH WEIGHT`. (a(st))
    DeviceWeight,
    /// `PATH TIME`. (a(st))
    DeviceLatency,
    /// `SOURCE:DESTINATION:OPTIONS`. (a(ssbt))
    Binds,
    /// `PATH:OPTIONS`. (a(ss))
    Mounts,
    /// `PATH`, behind `-` if it may be missing. (a(sb))
    Files,
    /// `ID:PATH`. (a(ss))
    Credentials,
    /// `ID:VALUE`. (a(say))
    Secret,
    /// `PATH:NAME:OPTIONS`. (a(sst))
    OpenFile,
    /// A regular expression, behind `~` if it is to keep lines out. (a(bs))
    Pattern,
    /// A command. (a(sasb))
    Command,
    /// Networks. (a(iayu))
    Networks,
    /// Ports to bind. (a(iiqq))
    Ports,
    /// A condition or an assertion. (a(sbbs))
    Condition,
    /// Yes or no, or the controllers that are handed down. (b, as)
    Delegate,
}

/// What a resource limit counts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unit {
    Number,
    Bytes,
    Seconds,
    Microseconds,
}

type Values = Vec<(String, Variant<'static>)>;

impl Kind {
    /// What `given` is on the bus; otherwise what was wanted.
    pub(super) fn values(self, entry: &Entry, given: Given<'_>) -> Read<Values> {
        let name = entry.on_bus();
        let value: Variant<'static> = match self {
            Self::Text => given.one()?.to_owned().into(),
            Self::Choice(words) => word(given.one()?, words)?.into(),
            Self::YesOrWord(words) => match boolean(given.one()?) {
                Ok(true) => "yes".into(),
                Ok(false) => "no".into(),
                Err(_) => word(given.one()?, &[&["yes", "no"], words].concat())?.into(),
            },
            Self::Bool => boolean(given.one()?)?.into(),
            Self::BoolOrWord(words) => match boolean(given.one()?) {
                Ok(value) => value.into(),
                Err(_) => {
                    let word = word(given.one()?, &[&["yes", "no"], words].concat())?;
                    return Ok(vec![(format!("{name}Ex"), word.into())]);
                }
            },
            Self::Int(min, max) => (whole(given.one()?, min, max)? as i32).into(),
            Self::U32 => (whole(given.one()?, 0, u32::MAX.into())? as u32).into(),
            Self::Word(words) => {
                let text = given.one()?;
                let most = words.iter().map(|(_, number)| *number).max().unwrap_or(0);
                match whole(text, 0, most.into()) {
                    Ok(number) => (number as i32).into(),
                    Err(_) => one_of(text, words)?.into(),
                }
            }
            Self::Signal => names::signal(given.one()?)?.into(),
            Self::Errno => names::error_number(given.one()?)?.into(),
            Self::Mode => mode(given.one()?)?.into(),
            Self::Time => {
                let time = microseconds(given.one()?)?;
                // src/core/dbus-cgroup.c
                if name.starts_with("ManagedOOM") && time < 1_000_000 {
                    return Err("it is at least 1s".to_owned());
                }
                time.into()
            }
            Self::TimerSlack => timer_slack(given.one()?)?.into(),
            Self::Memory => {
                let limit = memory(given.one()?, u64::MAX)?;
                // Of swap there can be none.
                if !name.contains("Swap") && is_nothing(limit) {
                    return Err("it is more than nothing: leave it out for no limit".to_owned());
                }
                return amount(name, limit);
            }
            Self::Protection => return amount(name, memory(given.one()?, 0)?),
            Self::Tasks => return amount(name, tasks(given.one()?)?),
            Self::CpuQuota => match given.one()? {
                "" => u64::MAX.into(),
                // 100 % is a second of CPU time in each second.
                text => match any_percentage(text)? {
                    0 => return Err("it is more than 0%: leave it out for no limit".to_owned()),
                    share => (share * 100).into(),
                },
            },
            Self::Weight => weight(given.one()?)?.into(),
            Self::Percentage => scale(percentage(given.one()?)?).into(),
            Self::Limit(unit) => return limit(name, unit, given.one()?),
            Self::Words => given.words()?.into(),
            Self::Bytes => given
                .words()?
                .into_iter()
                .map(String::into_bytes)
                .collect::<Vec<_>>()
                .into(),
            Self::Set => set(given)?.into(),
            Self::Affinity => match given {
                Given::Text("numa") => return Ok(vec![(format!("{name}FromNUMA"), true.into())]),
                _ => set(given)?.into(),
            },
            Self::Filter => given.filter()?.into(),
            Self::Capabilities => {
                let bits = CAPABILITIES.iter().enumerate();
                given
                    .mask(
                        &bits
                            .map(|(bit, name)| (*name, 1 << bit))
                            .collect::<Vec<_>>(),
                    )?
                    .into()
            }
            Self::Namespaces => namespaces(given)?.into(),
            Self::SecureBits => (given.mask(&SECURE_BITS)? as i32).into(),
            Self::Coredump => given.mask(&COREDUMP)?.into(),
            Self::MountFlags => one_of(given.one()?, &MOUNT_FLAGS)?.into(),
            Self::Exits => exits(given)?.into(),
            Self::Devices => given.read(device_rule)?.into(),
            Self::Bandwidth => given
                .read(|line| {
                    device(
                        line,
                        "a path and bytes a second, such as \"/dev/sda 5M\"",
                        bandwidth,
                    )
                })?
                .into(),
            Self::DeviceWeight => given
                .read(|line| {
                    device(
                        line,
                        "a path and a weight, such as \"/dev/sda 200\"",
                        weight,
                    )
                })?
                .into(),
            Self::DeviceLatency => given
                .read(|line| {
                    device(
                        line,
                        "a path and a time, such as \"/dev/sda 25ms\"",
                        latency,
                    )
                })?
                .into(),
            Self::Binds => given.read_words(bind)?.into(),
            Self::Mounts => given.read_words(path_and_options)?.into(),
            Self::Files => given.read_words(optional_path)?.into(),
            Self::Credentials => given
                .read(|line| {
                    pair(line, ':', "ID:PATH").or_else(|_| Ok((line.to_owned(), String::new())))
                })?
                .into(),
            Self::Secret => given
                .read(|line| {
                    let (id, value) = pair(line, ':', "ID:VALUE")?;
                    Ok((id, value.into_bytes()))
                })?
                .into(),
            Self::OpenFile => given.read(open_file)?.into(),
            Self::Pattern => given
                .read(|line| {
                    Ok(match line.strip_prefix('~') {
                        Some(pattern) => (false, pattern.to_owned()),
                        None => (true, line.to_owned()),
                    })
                })?
                .into(),
            Self::Command => given.read(command)?.into(),
            Self::Networks => networks(given)?.into(),
            Self::Ports => given.read_words(socket_bind)?.into(),
            Self::Condition => given.read(|line| Ok(condition(entry.name, line)))?.into(),
            Self::Delegate => {
                return Ok(match given.one().and_then(boolean) {
                    Ok(value) => vec![(name.to_owned(), value.into())],
                    Err(_) => vec![(format!("{name}Controllers"), given.words()?.into())],
                });
            }
        };
        Ok(vec![(name.to_owned(), value)])
    }
}

/// One of some words, as it is.
fn word(text: &str, words: &[&'static str]) -> Read<&'static str> {
    let words: Vec<_> = words.iter().map(|word| (*word, *word)).collect();
    one_of(text, &words)
}

fn amount(name: &str, amount: Amount) -> Read<Values> {
    Ok(vec![match amount {
        Amount::Absolute(number) => (name.to_owned(), number.into()),
        // Seen with systemd 257; unit files may say it.
        Amount::Share(_) if name.contains("Startup") => {
            return Err("it is an amount of memory, such as 1G".to_owned());
        }
        Amount::Share(permyriad) => (format!("{name}Scale"), scale(permyriad).into()),
    }])
}

fn weight(text: &str) -> Read<u64> {
    match text {
        "" => Ok(u64::MAX),
        "idle" => Ok(0),
        _ => whole(text, 1, 10_000)
            .map(|weight| weight as u64)
            .map_err(|_| "it is a weight from 1 to 10000".to_owned()),
    }
}

fn namespaces(given: Given<'_>) -> Read<u64> {
    let all = NAMESPACES.iter().fold(0, |all, (_, flag)| all | flag);
    match given.one().and_then(boolean) {
        // What the value holds is what stays allowed.
        Ok(restricted) => Ok(if restricted { 0 } else { all }),
        Err(_) => given
            .mask(&NAMESPACES)
            .map_err(|wanted| wanted.replace("it is", "it is `yes`, `no` or")),
    }
}

/// A soft and a hard limit; one number is both.
fn limit(name: &str, unit: Unit, text: &str) -> Read<Values> {
    let read = |text: &str| match (text, unit) {
        ("infinity", _) => Ok(u64::MAX),
        (text, Unit::Number) => unsigned(text),
        (text, Unit::Bytes) => size(text, 1024),
        (text, Unit::Seconds) => microseconds(text).map(|span| span.div_ceil(1_000_000)),
        // A bare number is microseconds, as the limit itself is.
        (text, Unit::Microseconds) => unsigned(text).or_else(|_| microseconds(text)),
    };
    let (soft, hard) = text.split_once(':').unwrap_or((text, text));
    let (soft, hard) = (read(soft)?, read(hard)?);
    if soft > hard {
        return Err("the limit before the colon is at most the one behind it".to_owned());
    }
    Ok(vec![
        (name.to_owned(), hard.into()),
        (format!("{name}Soft"), soft.into()),
    ])
}
