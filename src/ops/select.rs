//! Naming several VMs at once.

use std::fmt;
use std::str::FromStr;

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
        }
    }
}

impl Selector {
    /// Whether it means a VM of this name; a group does not tell by names.
    pub fn matches(&self, name: &VmName) -> bool {
        self.means(name, None)
    }

    /// Whether it means this VM, which is in that group.
    pub fn means(&self, name: &VmName, group: Option<&GroupName>) -> bool {
        match self {
            Self::All => true,
            Self::Name(wanted) => wanted == name,
            Self::Pattern(pattern) => pattern.matches(name.as_str()),
            Self::Group(wanted) => group == Some(wanted),
        }
    }
}

/// The stored VMs that `selectors` name, each once, in the order named.
///
/// # Errors
/// [`Error::NoSuchVm`] for a name that no VM has, [`Error::NoMatch`] for a
/// pattern that none has, [`Error::NoGroup`] for a group that none is in.
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
            Selector::All | Selector::Pattern(_) | Selector::Group(_) => {
                let all = match host.existing_store()? {
                    Some(store) => store.list()?,
                    None => Vec::new(),
                };
                let mut matching = all
                    .into_iter()
                    .filter(|vm| selector.means(&vm.name, vm.group.as_ref()))
                    .map(|vm| vm.name)
                    .peekable();
                if matching.peek().is_none() {
                    match selector {
                        Selector::All => {}
                        Selector::Group(group) => return Err(Error::NoGroup(group.clone())),
                        _ => return Err(Error::NoMatch(selector.to_string())),
                    }
                }
                matching.for_each(&mut add);
            }
        }
    }
    Ok(chosen)
}
