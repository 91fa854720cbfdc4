//! Definitions, in SQLite. What a VM *is*; never what it is doing.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use indexmap::IndexMap;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::vm::{GroupName, VmName};

mod budget;
mod error;
mod open;
mod operation;
mod pool;
pub mod python;
mod renaming;
mod snapshot;

pub use budget::Limit;
pub use error::Error;
pub use operation::Operation;
pub use pool::{Lent, Pool};
pub use renaming::Renaming;
pub use snapshot::{Position, Snapshot};

/// One VM as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub name: VmName,
    /// Its SMBIOS UUID, from which its MAC addresses derive too.
    pub uuid: String,
    /// The definition: TOML with absolute paths.
    pub definition: String,
    /// Guest memory in bytes, if the definition says.
    pub memory: Option<u64>,
    /// vCPUs, if the definition says.
    pub cpus: Option<u32>,
    /// The group, if the definition says.
    pub group: Option<GroupName>,
    /// Its labels.
    pub labels: Labels,
    /// Whether it is not to be removed.
    pub protected: bool,
}

/// What users tell VMs from others by: texts by name, in the order of the definition.
pub type Labels = IndexMap<String, String>;

/// A disk that maqet made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeDisk {
    /// Where it was made.
    pub path: PathBuf,
    /// Tells it from another file of that name.
    pub identity: String,
}

/// One VM in a list.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Its name.
    pub name: VmName,
    /// Guest memory in bytes, if the definition says.
    pub memory: Option<u64>,
    /// vCPUs, if the definition says.
    pub cpus: Option<u32>,
    /// The group, if the definition says.
    pub group: Option<GroupName>,
    /// Its labels.
    pub labels: Labels,
}

/// The open database.
pub struct Store {
    db: Connection,
    /// Whether it can only be read: what SQLite has beside it cannot be made, for want of room
    /// or of the right to.
    is_read_only: bool,
}

impl Store {
    /// Whether it can only be read, for want of room or of the right to write.
    pub fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// Begins to write: nobody else does until that is committed, or dropped and undone.
    fn write(&self) -> Result<Transaction<'_>, Error> {
        let begun = Transaction::new_unchecked(&self.db, TransactionBehavior::Immediate);
        Ok(begun?)
    }

    /// Adds a VM, with the disks that `make` makes for it and returns; whether it wants to.
    ///
    /// They are made when the name is this VM's, and before anyone else can see it:
    /// of two that add the same one, only one ever touches its disks. What `make` reads
    /// stays so until the VM is added.
    pub fn insert<E: From<Error>>(
        &mut self,
        row: &Row,
        make: impl FnOnce(&Self) -> Result<Option<Vec<MadeDisk>>, E>,
    ) -> Result<bool, E> {
        let tx = self.write()?;
        if !insert_row(&tx, row)? {
            return Err(Error::Exists(row.name.clone()).into());
        }
        let Some(made) = make(self)? else {
            return Ok(false);
        };
        for disk in made {
            record_disk(&tx, &row.name, &disk)?;
        }
        tx.commit().map_err(Error::from)?;
        Ok(true)
    }

    /// One VM.
    pub fn get(&self, name: &VmName) -> Result<Option<Row>, Error> {
        Ok(self
            .db
            .prepare_cached(
                "SELECT uuid, definition, memory, cpus, team, labels, protected
                 FROM vm WHERE name = ?1",
            )?
            .query_row([name.as_str()], |row| read_row(name.clone(), row))
            .optional()?)
    }

    /// The VMs whose definition has `word` in it, by name; all, if it is empty.
    pub fn rows_with(&self, word: &str) -> Result<Vec<Row>, Error> {
        let mut statement = self.db.prepare(
            "SELECT uuid, definition, memory, cpus, team, labels, protected, name
             FROM vm WHERE instr(definition, ?1) ORDER BY name",
        )?;
        let rows = statement.query_map([word], |row| {
            let name = row.get::<_, String>(7)?.parse().ok();
            name.map(|name| read_row(name, row)).transpose()
        })?;
        // Every name went in as a `VmName`.
        Ok(rows
            .filter_map(Result::transpose)
            .collect::<Result<_, _>>()?)
    }

    /// All VMs, by name.
    pub fn list(&self) -> Result<Vec<Summary>, Error> {
        let mut statement = self
            .db
            .prepare("SELECT name, memory, cpus, team, labels FROM vm ORDER BY name")?;
        let rows = statement.query_map([], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, Option<i64>>(1)?,
                row.get(2)?,
                row.get(3)?,
                row.get(4)?,
            ))
        })?;
        let mut all = Vec::new();
        for row in rows {
            let (name, memory, cpus, team, text) = row?;
            // Every name went in as a `VmName`.
            if let Ok(name) = name.parse() {
                all.push(Summary {
                    name,
                    memory: memory.map(|bytes| bytes as u64),
                    cpus,
                    group: group(team),
                    labels: labels(text),
                });
            }
        }
        Ok(all)
    }

    /// The disks that maqet made for a VM.
    pub fn made_disks(&self, name: &VmName) -> Result<Vec<MadeDisk>, Error> {
        let mut statement = self
            .db
            .prepare("SELECT path, identity FROM made_disk WHERE vm = ?1 ORDER BY path")?;
        let disks = statement.query_map([name.as_str()], |row| {
            Ok(MadeDisk {
                path: row.get::<_, String>(0)?.into(),
                identity: row.get(1)?,
            })
        })?;
        Ok(disks.collect::<Result<_, _>>()?)
    }

    /// Puts a definition in the place of `old`; whether that was still it.
    ///
    /// The caller has read `old` and made `new` of it: what someone else wrote
    /// meanwhile is not overwritten. Name and UUID stay.
    pub fn replace(&mut self, old: &str, new: &Row) -> Result<bool, Error> {
        replace_row(&self.db, old, new)
    }

    /// Adds VMs, or puts them in the places of those that are given with them, all or none;
    /// whether `judge` lets it, and what that reads stays so until they are added.
    ///
    /// # Errors
    /// [`Error::Exists`] for one that is there, or is not as it was; [`Error::SameUuid`].
    pub fn import<E: From<Error>>(
        &mut self,
        rows: &[(Row, Option<Row>)],
        judge: impl FnOnce(&Self) -> Result<bool, E>,
    ) -> Result<bool, E> {
        let tx = self.write()?;
        import_rows(&tx, rows)?;
        let is_done = judge(self)?;
        if is_done {
            tx.commit().map_err(Error::from)?;
        }
        Ok(is_done)
    }
    /// Adds VMs, and puts others in the place of their old definitions, all or none, with
    /// the disks that `make` makes for them; whether that wants to, and each was still as the
    /// caller has read it, which is not to be there for one without an old definition. What
    /// `make` reads stays so until all is done. Ends the operation that does so, if that is
    /// its last step.
    pub fn put<E: From<Error>>(
        &mut self,
        rows: &[(Option<String>, Row)],
        operation: Option<i64>,
        make: impl FnOnce(&Self) -> Result<Option<Vec<(VmName, MadeDisk)>>, E>,
    ) -> Result<bool, E> {
        let tx = self.write()?;
        for (old, row) in rows {
            let is_done = match old {
                Some(old) => replace_row(&tx, old, row)?,
                None => insert_row(&tx, row)?,
            };
            if !is_done {
                return Ok(false);
            }
        }
        let Some(made) = make(self)? else {
            return Ok(false);
        };
        for (name, disk) in made {
            record_disk(&tx, &name, &disk)?;
        }
        tx.execute("DELETE FROM operation WHERE id = ?1", [operation])
            .map_err(Error::from)?;
        tx.commit().map_err(Error::from)?;
        Ok(true)
    }

    /// Notes that maqet made a disk for a VM.
    pub fn record_disk(&mut self, name: &VmName, disk: &MadeDisk) -> Result<(), Error> {
        record_disk(&self.db, name, disk)
    }

    /// Forgets that maqet made a disk.
    pub fn forget_disk(&mut self, path: &Path) -> Result<(), Error> {
        self.db.execute(
            "DELETE FROM made_disk WHERE path = ?1",
            [path.to_string_lossy()],
        )?;
        Ok(())
    }

    /// Forgets a VM that is not protected. Whether it was there, and is no more.
    pub fn remove(&mut self, name: &VmName) -> Result<bool, Error> {
        Ok(self.db.execute(
            "DELETE FROM vm WHERE name = ?1 AND NOT protected",
            [name.as_str()],
        )? > 0)
    }
}

fn record_disk(db: &Connection, name: &VmName, disk: &MadeDisk) -> Result<(), Error> {
    db.execute(
        "INSERT INTO made_disk (path, identity, vm) VALUES (?1, ?2, ?3)
         ON CONFLICT (path) DO UPDATE SET identity = excluded.identity, vm = excluded.vm",
        params![disk.path.to_string_lossy(), disk.identity, name.as_str()],
    )?;
    Ok(())
}

/// Adds a VM; whether its name was free.
fn insert_row(db: &Connection, row: &Row) -> Result<bool, Error> {
    let added = db.execute(
        "INSERT INTO vm
                (name, uuid, definition, memory, cpus, team, labels, protected, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (name) DO NOTHING",
        params![
            row.name.as_str(),
            row.uuid,
            row.definition,
            row.memory.map(|bytes| bytes as i64),
            row.cpus,
            row.group.as_ref().map(GroupName::as_str),
            labels_text(&row.labels),
            row.protected,
            now()
        ],
    )?;
    Ok(added > 0)
}

fn import_rows(db: &Connection, rows: &[(Row, Option<Row>)]) -> Result<(), Error> {
    for (row, old) in rows {
        let other: Option<String> = db
            .query_row(
                "SELECT name FROM vm WHERE uuid = ?1 AND name != ?2",
                [&row.uuid, row.name.as_str()],
                |row| row.get(0),
            )
            .optional()?;
        if let Some(other) = other {
            return Err(Error::SameUuid {
                name: row.name.clone(),
                other,
            });
        }
        let is_done = match old {
            None => insert_row(db, row)?,
            Some(old) => {
                db.execute(
                    "UPDATE vm SET uuid = ?2 WHERE name = ?1",
                    [row.name.as_str(), &row.uuid],
                )?;
                replace_row(db, &old.definition, row)?
            }
        };
        if !is_done {
            return Err(Error::Exists(row.name.clone()));
        }
    }
    Ok(())
}

/// Now, in seconds since 1970.
fn now() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs().cast_signed())
}

/// Puts `new` in the place of `old`, if that is still as it was.
fn replace_row(db: &Connection, old: &str, new: &Row) -> Result<bool, Error> {
    Ok(db.execute(
        "UPDATE vm SET definition = ?3, memory = ?4, cpus = ?5, team = ?6, labels = ?7,
            protected = ?8
         WHERE name = ?1 AND definition = ?2",
        params![
            new.name.as_str(),
            old,
            new.definition,
            new.memory.map(|bytes| bytes as i64),
            new.cpus,
            new.group.as_ref().map(GroupName::as_str),
            labels_text(&new.labels),
            new.protected,
        ],
    )? > 0)
}

/// The columns `uuid, definition, memory, cpus, team, labels, protected`.
fn read_row(name: VmName, row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        name,
        uuid: row.get(0)?,
        definition: row.get(1)?,
        memory: row.get::<_, Option<i64>>(2)?.map(|bytes| bytes as u64),
        cpus: row.get(3)?,
        group: group(row.get(4)?),
        labels: labels(row.get(5)?),
        protected: row.get(6)?,
    })
}

/// What went in as a name comes out as one.
fn group(text: Option<String>) -> Option<GroupName> {
    text?.parse().ok()
}

fn labels(text: Option<String>) -> Labels {
    text.and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default()
}

fn labels_text(labels: &Labels) -> Option<String> {
    (!labels.is_empty()).then(|| serde_json::to_string(labels).expect("texts are JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str) -> Row {
        Row {
            name: name.parse().unwrap(),
            uuid: format!("uuid of {name}"),
            definition: "memory = \"1G\"\n".to_owned(),
            memory: Some(1 << 30),
            cpus: None,
            group: None,
            labels: Labels::from([("env".to_owned(), "c=i, \"x\"".to_owned())]),
            protected: true,
        }
    }

    fn disk() -> MadeDisk {
        MadeDisk {
            path: "/a/disk".into(),
            identity: "1".to_owned(),
        }
    }

    pub(super) fn insert(store: &mut Store, name: &str, disks: &[MadeDisk]) -> Result<bool, Error> {
        store.insert(&row(name), |_| Ok(Some(disks.to_vec())))
    }

    #[test]
    fn a_name_is_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("a/maqet.db")).unwrap();
        insert(&mut store, "web", &[disk()]).unwrap();
        assert!(matches!(
            insert(&mut store, "web", &[]),
            Err(Error::Exists(_))
        ));
        assert_eq!(
            store.get(&"web".parse().unwrap()).unwrap(),
            Some(row("web"))
        );
        assert_eq!(store.list().unwrap().len(), 1);
    }

    #[test]
    fn a_vm_takes_its_disk_records_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("maqet.db")).unwrap();
        let web = "web".parse().unwrap();
        insert(&mut store, "web", &[disk()]).unwrap();
        assert!(!store.remove(&web).unwrap(), "it is protected");
        let free = Row {
            protected: false,
            ..row("web")
        };
        assert!(store.replace(&free.definition, &free).unwrap());
        assert_eq!(store.made_disks(&web).unwrap(), [disk()]);
        assert!(store.remove(&web).unwrap());
        assert!(!store.remove(&web).unwrap());
        assert!(store.made_disks(&web).unwrap().is_empty());
    }

    #[test]
    fn a_definition_that_has_changed_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("maqet.db")).unwrap();
        insert(&mut store, "web", &[]).unwrap();
        let web = "web".parse().unwrap();
        let old = row("web").definition;
        let new = Row {
            definition: "cpus = 2\n".to_owned(),
            memory: None,
            cpus: Some(2),
            group: Some("ci".parse().unwrap()),
            labels: Labels::new(),
            protected: false,
            ..row("web")
        };
        assert!(store.replace(&old, &new).unwrap());
        assert!(!store.replace(&old, &row("web")).unwrap());
        assert_eq!(store.get(&web).unwrap(), Some(new));
        assert!(!store.replace("", &row("other")).unwrap());
    }

    #[test]
    fn a_disk_is_recorded_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("maqet.db")).unwrap();
        insert(&mut store, "web", &[]).unwrap();
        let web = "web".parse().unwrap();
        store.record_disk(&web, &disk()).unwrap();
        assert_eq!(store.made_disks(&web).unwrap(), [disk()]);
        store.forget_disk(&disk().path).unwrap();
        assert!(store.made_disks(&web).unwrap().is_empty());
    }
}
