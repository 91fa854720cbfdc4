//! Having VMs no longer started at boot.

use crate::systemd::boot;
use crate::vm::VmName;

use super::{Error, Host, Selector};

/// The VMs that `selectors` name, for disabling: also those that are enabled and have
/// no definition any more.
///
/// # Errors
/// [`Error::NoSuchVm`] and [`Error::NoMatch`], as for [`super::select`].
pub fn select(host: &Host, selectors: &[Selector]) -> Result<Vec<VmName>, Error> {
    let enabled = boot::enabled(&host.scope)?;
    let mut chosen: Vec<VmName> = Vec::new();
    for selector in selectors {
        let orphans: Vec<VmName> = enabled
            .iter()
            .filter(|name| selector.matches(name))
            .cloned()
            .collect();
        let defined = match super::select(host, std::slice::from_ref(selector)) {
            Err(Error::NoSuchVm { .. } | Error::NoMatch(_)) if !orphans.is_empty() => Vec::new(),
            other => other?,
        };
        for name in defined.into_iter().chain(orphans) {
            if !chosen.contains(&name) {
                chosen.push(name);
            }
        }
    }
    Ok(chosen)
}

/// Has VMs no longer started at boot. Returns those that were before.
pub fn disable(host: &Host, names: &[VmName]) -> Result<Vec<VmName>, Error> {
    Ok(boot::disable(&host.scope, names)?)
}
