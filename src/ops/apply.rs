//! Having VMs be as files say: made where there are none, changed where they differ.

mod images;

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Serialize;

use crate::config;
use crate::store::Row;
use crate::systemd;
use crate::vm::VmName;

use super::add::{self, Source};
use super::change::{
    self, Change, Changed, KeptFile, Proposal, Reach, Request, When, between, is_at_once,
};
use super::claims::Claims;
use super::in_force::Definition;
use super::ls::vm_of;
use super::{Error, Host, TRIES, check};

/// What became of a VM.
#[derive(Clone, Debug, Serialize)]
pub struct Applied {
    /// Its name; of those that are listed with what became of them, it is there already.
    #[serde(skip)]
    pub name: VmName,
    /// Whether there was anything to do.
    pub outcome: Outcome,
    /// What is another now, key by key.
    pub changes: Vec<Change>,
    /// The disks that were made for it.
    pub made: Vec<PathBuf>,
    /// The files of disks that it does not have any more.
    pub kept: Vec<KeptFile>,
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
        let claims = Claims::for_vms(host, sources.len());
        let mut plan = Plan::make(&claims, sources)?;
        if options.dry_run {
            return Ok(plan.told(&claims, options.live));
        }
        if plan.put(&claims)? {
            return Ok(plan.finish(&claims, sources, options.live));
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
    fn make(claims: &Claims<'_>, sources: &[Source]) -> Result<Self, Error> {
        let host = claims.host;
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
                let (text, file) = match &old {
                    Some(old) => images::kept(host, old, source)?,
                    None => (source.text.clone(), source.file.clone()),
                };
                let new = Proposal::read(claims, &text, old.as_ref(), &file, &source.file)?;
                claims.expect(&new.row, &new.definition.config);
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
        Error::all(wrong)?;
        Ok(Self(items))
    }

    /// What would be done.
    fn told(self, claims: &Claims<'_>, live: bool) -> Results {
        let one = |item: Item| {
            let name = item.new.row.name.clone();
            let foreseen = match (item.is_up, &item.old) {
                (true, Some((_, old))) => {
                    let (host, new) = (claims.host, &item.new.definition);
                    change::foreseen(host, old.as_ref(), new, &reach(live)).map(Some)
                }
                _ => Ok(None),
            };
            let applied = foreseen.map(|changes| match changes {
                Some(changes) => Applied {
                    outcome: match item.is_same() && changes.is_empty() {
                        true => Outcome::Unchanged,
                        false => Outcome::Changed,
                    },
                    changes,
                    ..item.done(claims)
                },
                None => item.done(claims),
            });
            (name, applied)
        };
        self.0.into_iter().map(one).collect()
    }

    /// Makes and changes those that do not run, in one go; whether all was still as it was
    /// read.
    fn put(&mut self, claims: &Claims<'_>) -> Result<bool, Error> {
        let host = claims.host;
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
        let put = host.store()?.put(&rows, None, |store| {
            if !claims.still_hold(store)? {
                return Ok(None);
            }
            let mut all = Vec::new();
            for item in &mut due {
                let old = item.old.as_ref().and_then(|(_, old)| old.as_ref());
                let config = &item.new.definition.config;
                add::make_disks(host, config, old.map(|old| &old.config), &mut item.made)?;
                for disk in &item.made {
                    all.push((config.name.clone(), add::made_disk(disk)?));
                }
            }
            Ok(Some(all))
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
    fn finish(self, claims: &Claims<'_>, sources: &[Source], live: bool) -> Results {
        let one = |(item, source): (Item, &Source)| {
            let name = item.new.row.name.clone();
            let applied = match item.is_up && item.old.is_some() {
                true => change_running(claims, &name, source, live),
                false => Ok(item.done(claims)),
            };
            (name, applied)
        };
        self.0.into_iter().zip(sources).map(one).collect()
    }
}

impl Item {
    /// Whether there is nothing to do to its definition.
    fn is_same(&self) -> bool {
        let old = self.old.as_ref();
        old.is_some_and(|(row, _)| row.definition == self.new.row.definition)
    }

    /// What is done to one that does not run.
    fn done(&self, claims: &Claims<'_>) -> Applied {
        let old = self.old.as_ref().and_then(|(_, old)| old.as_ref());
        let changes = old.map_or_else(Vec::new, |old| between(old, &self.new.definition));
        let when = |key: &str| match is_at_once(key) {
            true => When::Now,
            false => When::NextStart,
        };
        let config = &self.new.definition.config;
        Applied {
            outcome: match (&self.old, self.is_same()) {
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
            // What cannot be told of them now is no failure.
            kept: change::kept_files(claims.host, old.map(|old| &old.config), config)
                .unwrap_or_default(),
            warnings: match self.is_same() {
                true => Vec::new(),
                false => {
                    let name = &self.new.row.name;
                    let goes_on = change::goes_on(claims.host, name).ok().flatten();
                    let new = check::new_warnings(claims, config, old.map(|old| &old.config));
                    new.into_iter().chain(goes_on).collect()
                }
            },
            name: self.new.row.name.clone(),
        }
    }
}

/// What of a running VM is to be as its file says.
fn reach(live: bool) -> Reach<'static> {
    match live {
        true => Reach::All,
        false => Reach::Nothing,
    }
}

/// Changes a VM that runs.
fn change_running(
    claims: &Claims<'_>,
    name: &VmName,
    source: &Source,
    live: bool,
) -> Result<Applied, Error> {
    let (_, file) = images::kept(claims.host, &claims.host.vm(name)?, source)?;
    let changed = change::change(
        claims.host,
        name,
        Request {
            edit: &mut |row| Ok(images::kept(claims.host, row, source)?.0),
            file: &file,
            label: &source.file,
            reach: reach(live),
            limits: &[],
            claims,
        },
    )?;
    let Changed {
        name,
        persisted,
        changes,
        made,
        kept,
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
        kept,
        warnings,
    })
}
