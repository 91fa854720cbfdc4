//! What starts at boot: enabled instances of `maqet@.service`.
//!
//! systemd lists unit files, and an enabled instance of a template has none of its
//! own. So what is enabled is what `default.target` pulls in: one question, however
//! many VMs there are.

use zbus::{OwnedVariant, Variant, fdo};

use crate::vm::VmName;

use super::bus::{Bus, Scope, UNIT, manager_call, property_call};
use super::error::Error;
use super::jobs::is_error;
use super::unit::UnitName;

/// The template, installed by `make install`.
pub const TEMPLATE: &str = "maqet@.service";

/// What is started when the manager starts.
pub(super) const DEFAULT_TARGET: &str = "default.target";

/// By which of its dependencies.
pub(super) const PULLS_IN: [&str; 2] = ["Wants", "Requires"];

/// The unit that starts a VM at boot, if it is enabled: `maqet@NAME.service`.
pub fn boot_unit(name: &VmName) -> UnitName {
    format!("maqet@{name}.service")
}

/// The VM that such a unit starts.
pub(super) fn vm_of(unit: &str) -> Option<VmName> {
    unit.strip_prefix("maqet@")?
        .strip_suffix(".service")?
        .parse()
        .ok()
}

/// The VMs that start at boot.
pub fn enabled(scope: &Scope) -> Result<Vec<VmName>, Error> {
    zbus::block_on(async {
        let mut bus = Bus::connect(scope).await?;
        let calls = PULLS_IN.map(|property| property_call(DEFAULT_TARGET, UNIT, property));
        let calls = calls.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut names = Vec::new();
        for serial in bus.send(&calls).await? {
            names.extend(vms_in(bus.reply(serial).await?));
        }
        Ok(names)
    })
}

/// The VMs that a list of units starts.
pub(super) fn vms_in(reply: zbus::Result<zbus::Message>) -> Vec<VmName> {
    let value = reply.and_then(|reply| reply.body().deserialize::<OwnedVariant>());
    let Ok(value) = value else { return Vec::new() };
    let Variant::Array(units) = &*value else {
        return Vec::new();
    };
    units
        .iter()
        .filter_map(|unit| match unit {
            Variant::Str(unit) => vm_of(unit),
            _ => None,
        })
        .collect()
}

/// Whether the template is where the manager looks for units.
pub fn is_installed(scope: &Scope) -> Result<bool, Error> {
    zbus::block_on(async {
        let mut bus = Bus::connect(scope).await?;
        match bus
            .call(manager_call("GetUnitFileState", &(TEMPLATE,))?)
            .await?
        {
            Ok(_) => Ok(true),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(Error::Bus(error)),
        }
    })
}

/// Has VMs started at boot. Returns those that were not before.
///
/// # Errors
/// [`Error::NoTemplate`] when the template is in none of the manager's directories.
pub fn enable(scope: &Scope, names: &[VmName]) -> Result<Vec<VmName>, Error> {
    let units: Vec<_> = names.iter().map(boot_unit).collect();
    let call = manager_call("EnableUnitFiles", &(&units, false, false))?;
    change(scope, "enable", &units, call, |reply| {
        let (_, changes): (bool, Vec<Change>) = reply.body().deserialize()?;
        Ok(changes)
    })
}

/// Has VMs no longer started at boot. Returns those that were before.
pub fn disable(scope: &Scope, names: &[VmName]) -> Result<Vec<VmName>, Error> {
    let mut enabled = enabled(scope)?;
    enabled.retain(|name| names.contains(name));
    // systemd refuses to disable what is not enabled, where the template is absent.
    let units: Vec<_> = enabled.iter().map(boot_unit).collect();
    let call = manager_call("DisableUnitFiles", &(&units, false))?;
    match change(scope, "disable", &units, call, |reply| {
        reply.body().deserialize()
    }) {
        // Of what is not there nothing is enabled.
        Err(Error::NoTemplate) => Ok(Vec::new()),
        changed => changed,
    }
}

/// What was done, to which file, to what it leads.
type Change = (String, String, String);

fn change(
    scope: &Scope,
    action: &'static str,
    units: &[UnitName],
    call: zbus::Message,
    read: impl FnOnce(zbus::Message) -> zbus::Result<Vec<Change>>,
) -> Result<Vec<VmName>, Error> {
    if units.is_empty() {
        return Ok(Vec::new());
    }
    zbus::block_on(async {
        let mut bus = Bus::connect(scope).await?;
        let changes = match bus.call(call).await? {
            Ok(reply) => read(reply).map_err(Error::Bus)?,
            Err(error) if is_absent(&error) => return Err(Error::NoTemplate),
            Err(source) => {
                return Err(Error::Refused {
                    action,
                    unit: units.join(" "),
                    source,
                });
            }
        };
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        // As systemctl(1) does: the links are on disk, and now the manager knows, too.
        bus.call(manager_call("Reload", &())?)
            .await?
            .map_err(Error::Bus)?;
        Ok(changes
            .iter()
            .filter_map(|(_, file, _)| vm_of(file.rsplit('/').next()?))
            .collect())
    })
}

fn is_absent(error: &zbus::Error) -> bool {
    match error {
        zbus::Error::FDO(error) => matches!(**error, fdo::Error::FileNotFound(_)),
        error => is_error(error, "org.freedesktop.systemd1.NoSuchUnit"),
    }
}
