//! Having VMs be as files say: made where there are none, changed where they differ.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Serialize;

use crate::config;
use crate::store::Row;
use crate::systemd;
use crate::vm::VmName;

use super::add::{self, Source};
use super::change::{
    self, Change, Changed, Proposal, Reach, Request, When, between, is_at_once, is_live,
};
use super::in_force::{self, Definition};
use super::ls::vm_of;
use super::{Error, Host};

/// How often all is read anew because someone else has changed a VM meanwhile.
const TRIES: usize = 10;

/// What became of a VM.
#[derive(Clone, Debug, Serialize)]
pub struct Applied {
    /// Its name.
    pub name: VmName,
    /// Whether there was anything to do.
    pub outcome: Outcome,
    /// What is another now, key by key.
    pub changes: Vec<Change>,
    /// The disks that were made for it.
    pub made: Vec<PathBuf>,
    /// What may be in the way of one that runs one day, and was not before.
    pub warnings: Vec<String>,
}

/// What became of each VM, in the order of the sources.
pub type Results = Vec<(VmName, Result<Applied, Error>)>;

/// What became of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// There was none of that name.
    Created,
    /// It was another.
    Changed,
    /// It was as the file says.
    Unchanged,
}

/// How to apply.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether running VMs are changed, where they can be.
    pub live: bool,
    /// Whether only to tell what would be done.
    pub dry_run: bool,
}

/// Makes and changes VMs, one for each source; one that is as its source says stays so.
///
/// All sources are checked before anything is done, and their mistakes told together.
/// VMs that do not run are made and changed all or none; those that run follow one by
/// one, each with a result of its own.
///
/// # Errors
/// [`Error::Mistakes`], and what keeps all of them from being applied.
pub fn apply(host: &Host, sources: &[Source], options: Options) -> Result<Results, Error> {
    for _ in 0..TRIES {
        let mut plan = Plan::make(host, sources)?;
        if options.dry_run {
            return Ok(plan.told(host));
        }
        if plan.put(host)? {
            return Ok(plan.finish(host, sources, options.live));
        }
    }
    Err(Error::Contended)
}

/// What is to be done about one source.
struct Item {
    old: Option<(Row, Option<Definition>)>,
    new: Proposal,
    is_up: bool,
    made: Vec<PathBuf>,
}

struct Plan(Vec<Item>);

impl Plan {
    /// Reads all sources, and what there is.
    fn make(host: &Host, sources: &[Source]) -> Result<Self, Error> {
        let units = systemd::list(&host.scope, "maqet-*.service")?;
        let up: BTreeSet<VmName> = units
            .into_iter()
            .filter(|unit| unit.active.is_up())
            .filter_map(|unit| vm_of(&unit.unit))
            .collect();
        let store = host.existing_store()?;
        let mut items: Vec<Item> = Vec::new();
        let mut wrong = Vec::new();
        for source in sources {
            let read = || -> Result<Item, Error> {
                let name = config::name(&source.text, &source.file)?;
                let old = match (&store, &name) {
                    (Some(store), Some(name)) => store.get(name)?,
                    _ => None,
                };
                let new =
                    Proposal::read(host, &source.text, old.as_ref(), &source.file, &source.file)?;
                let name = new.row.name.clone();
                let old = old.map(|row| {
                    // One that cannot be read any more can be changed all the same.
                    let definition = Definition::read(host, &name, &row.definition).ok();
                    (row, definition)
                });
                Ok(Item {
                    is_up: up.contains(&name),
                    old,
                    new,
                    made: Vec::new(),
                })
            };
            match read() {
                Ok(item) if items.iter().any(|it| it.new.row.name == item.new.row.name) => {
                    wrong.push(Error::Twice(item.new.row.name));
                }
                Ok(item) => items.push(item),
                Err(error) => wrong.push(error),
            }
        }
        match wrong.len() {
            0 => Ok(Self(items)),
            1 => Err(wrong.remove(0)),
            _ => Err(Error::Mistakes(wrong)),
        }
    }

    /// What would be done.
    fn told(self, host: &Host) -> Results {
        let told = self.0.into_iter().map(|item| {
            let used = match item.is_up {
                true => in_force::read(host, &item.new.row.name).ok().flatten(),
                false => None,
            };
            let new = &item.new.definition;
            let when = |key: &str| match &used {
                Some(used) if is_live(key, &used.config, &new.config) => When::Now,
                _ if is_at_once(key) => When::Now,
                _ => When::NextStart,
            };
            item.done(when)
        });
        told.map(|applied| (applied.name.clone(), Ok(applied)))
            .collect()
    }

    /// Makes and changes those that do not run, in one go; whether they were still as
    /// they were read.
    fn put(&mut self, host: &Host) -> Result<bool, Error> {
        let is_due = |item: &&mut Item| match &item.old {
            None => true,
            Some((old, _)) => !item.is_up && old.definition != item.new.row.definition,
        };
        let mut due: Vec<&mut Item> = self.0.iter_mut().filter(is_due).collect();
        if due.is_empty() {
            return Ok(true);
        }
        let rows: Vec<(Option<String>, Row)> = due
            .iter()
            .map(|item| {
                let old = item.old.as_ref().map(|(row, _)| row.definition.clone());
                (old, item.new.row.clone())
            })
            .collect();
        let put = host.store()?.put(&rows, || {
            let mut all = Vec::new();
            for item in &mut due {
                let old = item.old.as_ref().and_then(|(_, old)| old.as_ref());
                let config = &item.new.definition.config;
                add::make_disks(host, config, old.map(|old| &old.config), &mut item.made)?;
                for disk in &item.made {
                    all.push((config.name.clone(), add::made_disk(disk)?));
                }
            }
            Ok(all)
        });
        if !matches!(put, Ok(true)) {
            for disk in due.iter().flat_map(|item| &item.made) {
                // Made a moment ago, and empty.
                let _ = std::fs::remove_file(disk);
            }
        }
        put
    }

    /// Changes those that run, and tells of all.
    fn finish(self, host: &Host, sources: &[Source], live: bool) -> Results {
        let one = |(item, source): (Item, &Source)| {
            let name = item.new.row.name.clone();
            let applied = match item.is_up && item.old.is_some() {
                true => change_running(host, &name, source, live),
                false => Ok(item.done(|key| match is_at_once(key) {
                    true => When::Now,
                    false => When::NextStart,
                })),
            };
            (name, applied)
        };
        self.0.into_iter().zip(sources).map(one).collect()
    }
}

impl Item {
    fn done(&self, when: impl Fn(&str) -> When) -> Applied {
        let (changes, is_same) = match &self.old {
            Some((row, old)) => {
                let between = |old| between(old, &self.new.definition);
                let differences = old.as_ref().map_or_else(Vec::new, between);
                (differences, row.definition == self.new.row.definition)
            }
            None => (Vec::new(), false),
        };
        Applied {
            outcome: match (&self.old, is_same) {
                (None, _) => Outcome::Created,
                (Some(_), true) => Outcome::Unchanged,
                (Some(_), false) => Outcome::Changed,
            },
            changes: changes
                .into_iter()
                .map(|difference| Change {
                    when: when(&difference.key),
                    difference,
                })
                .collect(),
            made: self.made.clone(),
            warnings: Vec::new(),
            name: self.new.row.name.clone(),
        }
    }
}

/// Changes a VM that runs.
fn change_running(
    host: &Host,
    name: &VmName,
    source: &Source,
    live: bool,
) -> Result<Applied, Error> {
    let changed = change::change(
        host,
        name,
        Request {
            edit: &mut |_| Ok(source.text.clone()),
            file: &source.file,
            label: &source.file,
            reach: match live {
                true => Reach::All,
                false => Reach::Nothing,
            },
            limits: &[],
        },
    )?;
    let Changed {
        name,
        persisted,
        changes,
        made,
        warnings,
    } = changed;
    Ok(Applied {
        outcome: match persisted || !changes.is_empty() {
            true => Outcome::Changed,
            false => Outcome::Unchanged,
        },
        name,
        changes,
        made,
        warnings,
    })
}
