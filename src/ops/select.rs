//! Naming several VMs at once.

use std::fmt;
use std::str::FromStr;

use crate::store::{Labels, Summary};
use crate::vm::{GroupName, InvalidVmName, VmName};

use super::{Error, Host};

/// A VM's name, or a shell pattern (`*`, `?`, `[…]`) over names.
#[derive(Clone, Debug)]
pub enum Selector {
    /// Every VM.
    All,
    /// Exactly this VM.
    Name(VmName),
    /// Every VM whose name matches.
    Pattern(glob::Pattern),
    /// Every VM whose definition names this group.
    Group(GroupName),
    /// Those of the VMs meant by another one that have all of these labels.
    Labelled(Box<Selector>, Vec<Label>),
}

/// A label to select by: its name, and its value unless any will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    key: String,
    value: Option<String>,
}

/// A text that is no label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not KEY or KEY=VALUE, as in env=ci")]
pub struct InvalidLabel(String);

impl FromStr for Label {
    type Err = InvalidLabel;

    fn from_str(text: &str) -> Result<Self, InvalidLabel> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text, None),
        };
        // They have the same alphabet.
        key.parse::<VmName>()
            .map_err(|_| InvalidLabel(text.to_owned()))?;
        Ok(Self {
            key: key.to_owned(),
            value,
        })
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        match &self.value {
            Some(value) => write!(f, "={value}"),
            None => Ok(()),
        }
    }
}

impl Label {
    fn is_among(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        value.is_some_and(|has| self.value.as_ref().is_none_or(|wanted| wanted == has))
    }
}

/// A text that is neither a VM's name nor a pattern.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSelector {
    /// Not a name.
    #[error(transparent)]
    Name(#[from] InvalidVmName),
    /// Not a pattern.
    #[error("`{0}` is not a pattern: {1}")]
    Pattern(String, &'static str),
}

impl FromStr for Selector {
    type Err = InvalidSelector;

    fn from_str(text: &str) -> Result<Self, InvalidSelector> {
        if text.contains(['*', '?', '[']) {
            glob::Pattern::new(text)
                .map(Self::Pattern)
                .map_err(|error| InvalidSelector::Pattern(text.to_owned(), error.msg))
        } else {
            Ok(Self::Name(text.parse()?))
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Name(name) => name.fmt(f),
            Self::Pattern(pattern) => pattern.fmt(f),
            Self::Group(group) => group.fmt(f),
            Self::Labelled(selector, labels) => {
                if !matches!(**selector, Self::All) {
                    write!(f, "{selector} ")?;
                }
                let labels: Vec<String> = labels.iter().map(Label::to_string).collect();
                f.write_str(&labels.join(" "))
            }
        }
    }
}

impl Selector {
    /// Whether it means a VM of this name; groups and labels do not tell by names.
    pub fn matches(&self, name: &VmName) -> bool {
        self.means(name, None)
    }

    /// Whether it means this VM, of which that is stored.
    pub fn means(&self, name: &VmName, stored: Option<&Summary>) -> bool {
        match self {
            Self::All => true,
            Self::Name(wanted) => wanted == name,
            Self::Pattern(pattern) => pattern.matches(name.as_str()),
            Self::Group(wanted) => stored.is_some_and(|vm| vm.group.as_ref() == Some(wanted)),
            Self::Labelled(selector, labels) => {
                stored.is_some_and(|vm| labels.iter().all(|label| label.is_among(&vm.labels)))
                    && selector.means(name, stored)
            }
        }
    }

    /// What it is an error for, when it means no VM.
    pub(super) fn means_none(&self) -> Result<(), Error> {
        match self {
            Self::All | Self::Name(_) => Ok(()),
            Self::Group(group) => Err(Error::NoGroup(group.clone())),
            Self::Pattern(_) => Err(Error::NoMatch(self.to_string())),
            Self::Labelled(..) => Err(Error::NoLabel(self.to_string())),
        }
    }
}

/// The stored VMs that `selectors` name, each once, in the order named.
///
/// # Errors
/// [`Error::NoSuchVm`] for a name that no VM has, [`Error::NoMatch`] for a
/// pattern that none has, [`Error::NoGroup`] for a group that none is in,
/// [`Error::NoLabel`] if none has the labels.
pub fn select(host: &Host, selectors: &[Selector]) -> Result<Vec<VmName>, Error> {
    let mut chosen: Vec<VmName> = Vec::new();
    let mut add = |name: VmName| {
        if !chosen.contains(&name) {
            chosen.push(name);
        }
    };
    for selector in selectors {
        match selector {
            Selector::Name(name) => add(host.vm(name)?.name),
            _ => {
                let mut matching = host
                    .list()?
                    .into_iter()
                    .filter(|vm| selector.means(&vm.name, Some(vm)))
                    .map(|vm| vm.name)
                    .peekable();
                if matching.peek().is_none() {
                    selector.means_none()?;
                }
                matching.for_each(&mut add);
            }
        }
    }
    Ok(chosen)
}
