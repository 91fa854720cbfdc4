//! The properties of a unit, written as in unit files.
//!
//! A name and a text, as systemd.exec(5), systemd.service(5), systemd.unit(5) and
//! systemd.resource-control(5) have them, become what the bus wants: another name
//! (`RestartUSec` for `RestartSec`), a type, and a value. What only systemd can
//! judge is left to it; everything else is refused here, before anything starts.

mod kind;
mod list;
mod names;
mod own;
mod scalar;
mod table;

use zbus::Variant;

use table::Entry;

/// A value as it was written.
#[derive(Clone, Copy, Debug)]
pub enum Given<'a> {
    /// As behind the `=` of a unit file: words are split at white space, with quotes.
    Text(&'a str),
    /// Already split: each text is one item, as it is. For properties that take several.
    List(&'a [String]),
}

/// What one line of a unit file becomes on the bus.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Name on the bus, and value. Mostly one; a resource limit is two.
    values: Vec<(String, Variant<'static>)>,
}

impl Setting {
    /// Names on the bus, and values.
    pub fn properties(&self) -> impl Iterator<Item = (&str, Variant<'static>)> {
        self.values
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()))
    }
}

/// Why a property cannot be set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// systemd has no such property, or none that a VM's unit can have.
    #[error("unknown property `{name}`{}", did_you_mean(*.nearest))]
    Unknown {
        /// As it was written.
        name: String,
        /// The nearest there is.
        nearest: Option<&'static str>,
    },
    /// maqet sets it itself.
    #[error("`{name}` cannot be set: {reason}")]
    Own {
        /// As it was written.
        name: String,
        /// Why, and what to use instead.
        reason: &'static str,
    },
    /// The value is none of this property's.
    #[error("`{}` is not a value of `{name}`: {wanted}", .given.escape_debug())]
    Value {
        /// The property.
        name: String,
        /// As it was written.
        given: String,
        /// What it takes.
        wanted: String,
    },
}

impl Error {
    /// Whether it is the name that is wrong, and not the value.
    pub fn is_in_name(&self) -> bool {
        !matches!(self, Self::Value { .. })
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    match nearest {
        Some(name) => format!(", did you mean `{name}`?"),
        None => ": systemd.resource-control(5), systemd.exec(5), systemd.service(5) and \
                 systemd.unit(5) have the names"
            .to_owned(),
    }
}

/// Reads one property.
pub fn parse(name: &str, given: Given<'_>) -> Result<Setting, Error> {
    let entry = entry(name)?;
    let values = entry
        .kind
        .values(&entry, given)
        .map_err(|wanted| Error::Value {
            name: name.to_owned(),
            given: given.to_string(),
            wanted,
        })?;
    Ok(Setting { values })
}

/// Reads a property that a slice, too, can have: one of systemd.resource-control(5).
pub fn parse_for_slice(name: &str, text: &str) -> Result<Setting, Error> {
    let entry = entry(name)?;
    if !entry.is_live {
        return Err(Error::Own {
            name: name.to_owned(),
            reason: "a group can have what is in systemd.resource-control(5)",
        });
    }
    parse(name, Given::Text(text))
}

/// Whether a running unit can be given another value: those of systemd.resource-control(5).
pub fn is_live(name: &str) -> bool {
    Entry::find(name).is_some_and(|entry| entry.is_live)
}

/// The controller of control groups (cgroups(7)) without which a property does nothing;
/// `None` for those that systemd sees to without one.
pub fn controller(name: &str) -> Option<&'static str> {
    let entry = Entry::find(name)?;
    let name = name.trim_start_matches("Default");
    let name = name.trim_start_matches("Startup");
    let is_resource = entry.is_live && !name.ends_with("Accounting");
    Some(match name {
        _ if !is_resource => return None,
        // Of systemd itself, which looks at a file of the kernel, or at systemd-oomd's part.
        "MemoryPressureWatch" | "MemoryPressureThresholdSec" => return None,
        "AllowedCPUs" | "AllowedMemoryNodes" => "cpuset",
        "TasksMax" => "pids",
        _ if name.starts_with("CPU") => "cpu",
        _ if name.starts_with("Memory") => "memory",
        _ if name.starts_with("IO") => "io",
        _ => return None,
    })
}

/// Every name there is.
pub fn names() -> impl Iterator<Item = &'static str> {
    table::entries().map(|entry| entry.name)
}

/// The systemd that first has a property, if that is newer than the oldest one that
/// maqet runs with; by its name in unit files or on the bus.
pub fn since(name: &str) -> Option<u32> {
    table::entries()
        .find(|entry| entry.name == name || entry.on_bus() == name)?
        .since
}

/// The bytes of memory that a limit such as `MemoryMax` allows, of `total` that the host
/// has; `None` if it sets no limit.
pub fn memory_limit(text: &str, total: u64) -> Option<u64> {
    match scalar::memory(text, u64::MAX).ok()? {
        scalar::Amount::Absolute(u64::MAX) => None,
        scalar::Amount::Absolute(bytes) => Some(bytes),
        scalar::Amount::Share(permyriad) => {
            Some((u128::from(total) * u128::from(permyriad) / 10_000) as u64)
        }
    }
}

fn entry(name: &str) -> Result<Entry, Error> {
    if let Some(entry) = Entry::find(name) {
        return Ok(entry);
    }
    if let Some(reason) = own::reason(name) {
        return Err(Error::Own {
            name: name.to_owned(),
            reason,
        });
    }
    Err(Error::Unknown {
        name: name.to_owned(),
        nearest: nearest(name),
    })
}

/// The name that was most likely meant.
fn nearest(name: &str) -> Option<&'static str> {
    let word = name.to_lowercase().replace(['-', '_'], "");
    names()
        .map(|known| {
            let lower = known.to_lowercase();
            let likeness = match strsim::damerau_levenshtein(&word, &lower) {
                0 => 2.0,
                1 => 1.0,
                _ => strsim::jaro_winkler(&word, &lower),
            };
            (likeness, known)
        })
        .filter(|(likeness, _)| *likeness > 0.85)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

impl std::fmt::Display for Given<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::List(items) => f.write_str(&items.join(" ")),
        }
    }
}

#[cfg(test)]
mod tests;
