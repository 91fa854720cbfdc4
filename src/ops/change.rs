//! Changing a VM: its definition, and at once what can be changed while it runs.
//!
//! A running VM is changed first and noted as changed, its definition is replaced
//! then, and what fails is undone. A command that is killed on the way leaves a VM
//! whose difference from its definition can be seen, and the same command again goes
//! on where it was.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::{self, Difference, Document, Interface, VmConfig, differences};
use crate::qmp::Monitor;
use crate::store::Row;
use crate::systemd::property::{self, Given, Setting};
use crate::systemd::{self, unit_name};
use crate::vm::VmName;

use super::claims::Claims;
use super::in_force::{self, Definition, InForce, take_over};
use super::{Error, Host, add, check, disk, live, monitor, operation, policy, snapshot};

/// A VM that was changed.
#[derive(Clone, Debug, Serialize)]
pub struct Changed {
    /// Its name.
    pub name: VmName,
    /// Whether its definition is another now.
    pub persisted: bool,
    /// What is another now, key by key.
    pub changes: Vec<Change>,
    /// The disks that were made for it.
    pub made: Vec<PathBuf>,
    /// The files of disks that its definition does not have any more.
    pub kept: Vec<KeptFile>,
    /// What may be in its way one day, and was not before.
    pub warnings: Vec<String>,
}

/// A file that was a disk, and is none now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeptFile {
    /// Where it is.
    pub file: PathBuf,
    /// Whether maqet made it.
    pub is_made: bool,
    /// Whether it is in a directory of maqet's own.
    pub is_orphan: bool,
}

/// A key that has another value.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// The key and its values.
    #[serde(flatten)]
    pub difference: Difference,
    /// From when on.
    pub when: When,
}

/// From when on a change is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// Now.
    Now,
    /// Now, until the VM stops: the definition does not have it.
    UntilStop,
    /// From the next start on.
    NextStart,
}

/// What is to be changed, and how far.
pub(super) struct Request<'a> {
    /// Makes the new text of the old one. Done again if someone else changes it meanwhile.
    pub edit: &'a mut dyn FnMut(&Row) -> Result<String, Error>,
    /// What relative paths in the text are relative to the directory of.
    pub file: &'a Path,
    /// What the text is called in messages.
    pub label: &'a Path,
    /// What of a running VM is to be as its definition says.
    pub reach: Reach<'a>,
    /// Properties of the unit that are to change, and the definition is not to have.
    pub limits: &'a [(String, String)],
    /// What all VMs want of the host.
    pub claims: &'a Claims<'a>,
}

/// What of a running VM is to be as its definition says, if it can be.
pub(super) enum Reach<'a> {
    /// These keys, and all below them.
    Keys(&'a [String]),
    /// What the definition is changed in.
    Edited,
    /// All of it.
    All,
    /// Nothing.
    Nothing,
}

/// The definition that is to come.
pub(super) struct Proposal {
    pub row: Row,
    pub definition: Definition,
}

impl Proposal {
    /// Reads and checks a text.
    pub fn read(
        claims: &Claims<'_>,
        text: &str,
        old: Option<&Row>,
        file: &Path,
        label: &Path,
    ) -> Result<Self, Error> {
        let read = || {
            let defaults = claims.host.defaults()?;
            let judge = check::faults(claims, old);
            let config = VmConfig::parse_checked(text, file, &defaults, judge)?;
            let whole = config::with_defaults(text, file, &defaults)?;
            Ok((config, config::resolve(text, file)?, whole))
        };
        let (config, text, whole) = read().map_err(|error: Error| match error {
            Error::Config(error) => error.in_file(label).into(),
            other => other,
        })?;
        let uuid = match old {
            Some(old) => old.uuid.clone(),
            None => claims.new_uuid(&config)?,
        };
        // It is TOML, whatever it was made from.
        let document = Document::parse(&whole, &file.with_extension("toml"))?;
        Ok(Self {
            row: add::row(&config, text, uuid, file)?,
            definition: Definition { document, config },
        })
    }
}

/// Changes a VM; all that is asked for or nothing.
pub(super) fn change(
    host: &Host,
    name: &VmName,
    mut request: Request<'_>,
) -> Result<Changed, Error> {
    operation::settle(host, name)?;
    let mut doing = Doing {
        host,
        name,
        monitor: None,
        no_monitor: None,
        running: None,
        started_as: None,
        made: Vec::new(),
    };
    let done = doing.change(&mut request);
    if done.is_err() {
        doing.undo();
    }
    done
}

/// What is to be known of a changed VM that does not run and does not boot with its next
/// start.
pub(super) fn goes_on(host: &Host, name: &VmName) -> Result<Option<String>, Error> {
    if host.unit(name)?.active_state.is_up() {
        return Ok(None);
    }
    if host.paths.saved(name).state().exists() {
        return Ok(Some(format!(
            "VM `{name}` is saved, and goes on as it was: what was changed is for when it boots, \
             as with `maqet start --discard-saved {name}`"
        )));
    }
    let snapshot = snapshot::awaited(host, name)?;
    Ok(snapshot.map(|snapshot| {
        format!(
            "VM `{name}` is to go on at snapshot `{snapshot}`, and cannot as another machine: \
             `maqet start --discard-saved {name}` boots it"
        )
    }))
}

/// The files that a definition leaves behind, of disks that could be written.
pub(super) fn kept_files(
    host: &Host,
    old: Option<&VmConfig>,
    new: &VmConfig,
) -> Result<Vec<KeptFile>, Error> {
    let had = old.map_or_else(Vec::new, |old| disk::defined(host, old));
    let has = disk::defined(host, new);
    let is_left = |it: &disk::Defined| {
        let is_medium = it.disk.read_only || it.disk.interface == Interface::Cdrom;
        !is_medium && it.path.exists() && !has.iter().any(|other| other.path == it.path)
    };
    let left: Vec<disk::Defined> = had.into_iter().filter(is_left).collect();
    if left.is_empty() {
        return Ok(Vec::new());
    }
    let made = host.store()?.made_disks(&new.name)?;
    let kept = left.into_iter().map(|it| KeptFile {
        is_made: made.iter().any(|disk| disk.path == it.path),
        is_orphan: it.path.starts_with(host.paths.vms()),
        file: it.path,
    });
    Ok(kept.collect())
}

struct Doing<'a> {
    host: &'a Host,
    name: &'a VmName,
    /// Open if QEMU may have to be told something.
    monitor: Option<Monitor>,
    /// Why it is not, although it should be.
    no_monitor: Option<Error>,
    running: Option<InForce>,
    /// What the VM went by before anything was done.
    started_as: Option<Definition>,
    made: Vec<PathBuf>,
}

impl Doing<'_> {
    fn change(&mut self, request: &mut Request<'_>) -> Result<Changed, Error> {
        loop {
            let row = self.host.vm(self.name)?;
            let text = (request.edit)(&row)?;
            let (claims, file) = (request.claims, request.file);
            let new = Proposal::read(claims, &text, Some(&row), file, request.label)?;
            if new.row.name != *self.name {
                return Err(Error::Renamed {
                    name: self.name.clone(),
                    other: new.row.name,
                });
            }
            // One that cannot be read any more can be changed all the same.
            let old = Definition::read(self.host, self.name, &row.definition).ok();
            let edited = old
                .as_ref()
                .map_or_else(Vec::new, |old| between(old, &new.definition));
            let old_config = old.as_ref().map(|old| &old.config);
            // What is not there, QEMU would tell in other words.
            add::disks_to_make(self.host, &new.definition.config, old_config)?;
            let live = self.change_live(&new.definition, &edited, request)?;
            add::make_disks(
                self.host,
                &new.definition.config,
                old_config,
                &mut self.made,
            )?;
            let is_changed = new.row.definition != row.definition;
            if (is_changed || !self.made.is_empty()) && !self.keep(claims, row, &new.row)? {
                continue;
            }
            let config = &new.definition.config;
            let mut warnings = check::new_warnings(claims, config, old_config);
            let limits = request
                .limits
                .iter()
                .map(|(name, value)| (&**name, &**value));
            warnings.extend(claims.controllers.idle(limits));
            if is_changed {
                warnings.extend(goes_on(self.host, self.name)?);
            }
            return Ok(Changed {
                kept: kept_files(self.host, old_config, config)?,
                warnings,
                name: self.name.clone(),
                persisted: is_changed,
                changes: self.judge(&new.definition, edited, live, request.limits),
                made: std::mem::take(&mut self.made),
            });
        }
    }

    /// Puts a definition in the place of another, with the disks that were made for it, if
    /// nobody has changed that meanwhile, or wants what it wants.
    fn keep(&self, claims: &Claims<'_>, old: Row, new: &Row) -> Result<bool, Error> {
        let rows = [(Some(old.definition), new.clone())];
        self.host.store()?.put(&rows, None, |store| {
            let made = self.made.iter();
            let made = made.map(|path| Ok((self.name.clone(), add::made_disk(path)?)));
            match claims.still_hold(store)? {
                true => made.collect::<Result<_, Error>>().map(Some),
                false => Ok(None),
            }
        })
    }

    /// Changes what can be changed while the VM runs, and is asked for; what was.
    fn change_live(
        &mut self,
        new: &Definition,
        edited: &[Difference],
        request: &Request<'_>,
    ) -> Result<Vec<Difference>, Error> {
        if self.running.is_none() && self.host.unit(self.name)?.active_state.is_up() {
            self.take(request, edited)?;
        }
        let Some(running) = &mut self.running else {
            return Ok(Vec::new());
        };
        let before = running.definition.clone();
        let keys = live_keys(&before, new, &request.reach, edited);
        let mut settings = Vec::new();
        for key in request.reach.named().iter().chain(&keys) {
            if let Some(property) = property_of(key).filter(|name| property::is_live(name)) {
                settings.push(setting(property, &new.config)?);
            }
        }
        for (property, value) in request.limits {
            settings.push(property::parse(property, Given::Text(value))?);
        }
        self.perform(&before.config, &new.config, &keys, &settings)?;
        let running = self.running.as_mut().expect("it was there a moment ago");
        let mut document = taken_over(&before, new, &keys)?;
        for (property, value) in request.limits {
            set_property(&mut document, property, value)?;
        }
        running.note(document)?;
        Ok(between(&before, &running.definition))
    }

    /// Takes the right to change the running VM, and its monitor if that may be needed.
    fn take(&mut self, request: &Request<'_>, edited: &[Difference]) -> Result<(), Error> {
        let Some(used) = in_force::read(self.host, self.name)? else {
            return Ok(());
        };
        let asks = |key: &String| request.reach.covers(key, edited);
        if live::keys(&used.config).iter().any(asks) {
            match monitor::open(self.host, self.name, live::ANSWER) {
                Ok(monitor) => self.monitor = Some(monitor),
                // It is an error only if there is something to tell.
                Err(error) => self.no_monitor = Some(error),
            }
        }
        self.running = InForce::take(self.host, self.name)?;
        if let Some(running) = &mut self.running {
            if let Some(monitor) = &mut self.monitor {
                running.definition = corrected(self.host, self.name, monitor, &running.definition)?;
            }
            self.started_as = Some(running.definition.clone());
        }
        Ok(())
    }

    /// Changes the running VM, all of it or nothing.
    fn perform(
        &mut self,
        from: &VmConfig,
        to: &VmConfig,
        keys: &[String],
        settings: &[Setting],
    ) -> Result<(), Error> {
        let mut steps = Vec::new();
        for step in keys.iter().filter_map(|key| live::step(key, from, to)) {
            if !steps.contains(&step) {
                steps.push(step);
            }
        }
        if let Some(error) = self.no_monitor.take_if(|_| !steps.is_empty()) {
            return Err(error);
        }
        let mut all = || {
            if let Some(monitor) = &mut self.monitor {
                for step in &steps {
                    live::perform(monitor, step, to)?;
                }
            }
            set_properties(self.host, self.name, settings)
        };
        let done = all();
        if let (Err(_), Some(monitor)) = (&done, &mut self.monitor) {
            for step in steps.iter().rev() {
                // What cannot be taken back, `diff` shows: it asks QEMU.
                let _ = live::perform(monitor, step, from);
            }
        }
        done
    }

    /// What was changed, and from when on.
    fn judge(
        &self,
        new: &Definition,
        edited: Vec<Difference>,
        live: Vec<Difference>,
        limits: &[(String, String)],
    ) -> Vec<Change> {
        let used = self.running.as_ref().map(|running| &running.definition);
        let mut changes = judge(used, new, edited, live);
        for change in &mut changes {
            let property = property_of(&change.difference.key);
            if limits.iter().any(|(name, _)| property == Some(name)) {
                change.when = When::UntilStop;
            }
        }
        changes
    }

    /// Takes back what was done, as far as that can be done.
    fn undo(&mut self) {
        for disk in &self.made {
            // Made a moment ago, and empty.
            let _ = std::fs::remove_file(disk);
        }
        let (Some(running), Some(before)) = (&mut self.running, &self.started_as) else {
            return;
        };
        let done = between(before, &running.definition);
        let settings: Vec<Setting> = done
            .iter()
            .filter_map(|it| setting(property_of(&it.key)?, &before.config).ok())
            .collect();
        let mut is_undone = set_properties(self.host, self.name, &settings).is_ok();
        if let Some(monitor) = &mut self.monitor {
            let used = &running.definition.config;
            let steps = done
                .iter()
                .filter_map(|it| live::step(&it.key, used, &before.config));
            for step in steps {
                is_undone &= live::perform(monitor, &step, &before.config).is_ok();
            }
        }
        // What cannot be taken back stays noted, and can be seen.
        if is_undone {
            let _ = running.note(before.document.clone());
        }
    }
}

/// What would be changed by giving a VM another definition, and from when on.
///
/// `old` is its definition now, if that can be read, and `reach` what of it is changed
/// while it runs.
pub(super) fn foreseen(
    host: &Host,
    old: Option<&Definition>,
    new: &Definition,
    reach: &Reach<'_>,
) -> Result<Vec<Change>, Error> {
    let name = &new.config.name;
    let edited = old.map_or_else(Vec::new, |old| between(old, new));
    let Some(mut used) = in_force::read(host, name)? else {
        return Ok(judge(None, new, edited, Vec::new()));
    };
    if !live::keys(&used.config).is_empty()
        && let Ok(mut monitor) = monitor::open(host, name, live::ANSWER)
    {
        used = corrected(host, name, &mut monitor, &used)?;
    }
    let keys = live_keys(&used, new, reach, &edited);
    let text = taken_over(&used, new, &keys)?.to_string();
    let changed = Definition::whole(host, name, &text)?;
    let live = between(&used, &changed);
    Ok(judge(Some(&changed), new, edited, live))
}

/// The definition that a VM goes by, as far as QEMU itself can tell.
pub(super) fn corrected(
    host: &Host,
    name: &VmName,
    monitor: &mut Monitor,
    used: &Definition,
) -> Result<Definition, Error> {
    let document = live::corrected(monitor, &used.document, &used.config)?;
    Definition::whole(host, name, &document.to_string())
}

/// The keys that a VM is given the new value of while it runs.
fn live_keys(
    used: &Definition,
    new: &Definition,
    reach: &Reach<'_>,
    edited: &[Difference],
) -> Vec<String> {
    between(used, new)
        .into_iter()
        .map(|difference| difference.key)
        .filter(|key| reach.covers(key, edited) && is_live(key, &used.config, &new.config))
        .collect()
}

/// The definition that a VM goes by when some keys are as in another.
fn taken_over(
    used: &Definition,
    new: &Definition,
    keys: &[String],
) -> Result<Document, config::Error> {
    let mut document = used.document.clone();
    for key in keys {
        take_over(&mut document, &new.document, key)?;
    }
    Ok(document)
}

/// From when on each change is in force: those of the definition, and those of the running
/// VM alone, which goes by `used` now.
fn judge(
    used: Option<&Definition>,
    new: &Definition,
    edited: Vec<Difference>,
    live: Vec<Difference>,
) -> Vec<Change> {
    let waiting = match used {
        Some(used) => between(used, new),
        None => edited.clone(),
    };
    let when = |key: &str| match waiting.iter().any(|it| overlap(&it.key, key)) {
        true if !is_at_once(key) => When::NextStart,
        _ => When::Now,
    };
    let also = live
        .into_iter()
        .filter(|it| !edited.iter().any(|other| overlap(&it.key, &other.key)))
        .collect::<Vec<_>>();
    edited
        .into_iter()
        .chain(also)
        .map(|difference| Change {
            when: when(&difference.key),
            difference,
        })
        .collect()
}

fn set_properties(host: &Host, name: &VmName, settings: &[Setting]) -> Result<(), Error> {
    match settings.is_empty() {
        true => Ok(()),
        false => Ok(systemd::set_properties(
            &host.scope,
            &unit_name(name),
            settings,
        )?),
    }
}

impl Reach<'_> {
    /// The keys that were named.
    fn named(&self) -> &[String] {
        match self {
            Self::Keys(keys) => keys,
            _ => &[],
        }
    }

    fn covers(&self, key: &str, edited: &[Difference]) -> bool {
        match self {
            Self::Edited => edited.iter().any(|it| overlap(&it.key, key)),
            Self::All => true,
            Self::Keys(keys) => keys.iter().any(|named| overlap(named, key)),
            Self::Nothing => false,
        }
    }
}

/// What differs between two definitions.
pub(super) fn between(old: &Definition, new: &Definition) -> Vec<Difference> {
    differences((&old.document, &old.config), (&new.document, &new.config))
}

/// Whether a key is another, or the table of it.
fn overlap(a: &str, b: &str) -> bool {
    let is_in = |inner: &str, outer: &str| {
        let rest = inner.strip_prefix(outer);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    is_in(a, b) || is_in(b, a)
}

/// The property of the unit that a key sets.
fn property_of(key: &str) -> Option<&str> {
    key.strip_prefix("unit.")
}

/// Whether the value of a key is nothing to the VM, so that the definition has the last word.
pub(super) fn is_at_once(key: &str) -> bool {
    ["description", "labels", "protect"]
        .into_iter()
        .any(|known| overlap(known, key))
}

/// Whether a VM that runs with `from` can be given the value that a key has in `to`.
pub(super) fn is_live(key: &str, from: &VmConfig, to: &VmConfig) -> bool {
    is_at_once(key)
        || property_of(key).is_some_and(property::is_live)
        || live::step(key, from, to).is_some()
}

/// A property as a definition has it; with no value, if that says nothing.
fn setting(property: &str, config: &VmConfig) -> Result<Setting, property::Error> {
    let given = config.unit.get(property).map(policy::given);
    property::parse(property, given.unwrap_or(Given::Text("")))
}

/// Gives a property another text in a definition; an empty one takes it out.
pub(super) fn set_property(
    document: &mut Document,
    property: &str,
    value: &str,
) -> Result<(), config::Error> {
    let key = format!("unit.{property}");
    match value {
        "" => {
            document.remove(&key);
            Ok(())
        }
        value => document.set(&key, value),
    }
}
