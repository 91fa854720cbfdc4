//! Definitions, in SQLite. What a VM *is*; never what it is doing.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use indexmap::IndexMap;
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params,
};

use crate::paths::create_private_dir;
use crate::vm::{GroupName, VmName};

mod budget;
mod operation;
mod pool;
pub mod python;
mod renaming;
mod snapshot;

pub use budget::Limit;
pub use operation::Operation;
pub use pool::{Lent, Pool};
pub use renaming::Renaming;
pub use snapshot::{Position, Snapshot};

/// Schema changes, oldest first. `user_version` counts the ones applied.
///
/// Only ever append: an entry that shipped is never edited, moved or removed.
const MIGRATIONS: &[&str] = &[
    // `memory` (bytes) and `cpus` repeat what the definition says, written with it, so
    // that a list of a thousand VMs parses no definition; NULL where it says nothing.
    "CREATE TABLE vm (
        name       TEXT PRIMARY KEY,
        uuid       TEXT NOT NULL UNIQUE,
        definition TEXT NOT NULL,
        memory     INTEGER,
        cpus       INTEGER,
        created_at INTEGER NOT NULL
    ) STRICT;
    -- Disks that maqet made: the only ones it may ever delete. What is at a path now may
    -- be another file; `identity` tells (image::identity).
    CREATE TABLE made_disk (
        path TEXT PRIMARY KEY,
        identity TEXT NOT NULL,
        vm   TEXT NOT NULL REFERENCES vm (name) ON DELETE CASCADE ON UPDATE CASCADE
    ) STRICT;",
    // `team` repeats the definition's `group`, as `memory` does. A group has no definition:
    // its budget is kept here, as unit files write it.
    "ALTER TABLE vm ADD COLUMN team TEXT;
    CREATE TABLE budget (
        team     TEXT NOT NULL,
        property TEXT NOT NULL,
        value    TEXT NOT NULL,
        PRIMARY KEY (team, property)
    ) STRICT;",
    // `labels` (an object of JSON, NULL for none) and `protected` repeat the definition.
    "ALTER TABLE vm ADD COLUMN labels TEXT;
    ALTER TABLE vm ADD COLUMN protected INTEGER NOT NULL DEFAULT 0;",
    // Renames of which the files are still to be moved.
    "CREATE TABLE renaming (
        old     TEXT PRIMARY KEY,
        new     TEXT NOT NULL,
        enabled INTEGER NOT NULL
    ) STRICT;",
    // What is being done to a VM in more than one step. An id is never given twice: files
    // and jobs are called by it.
    "CREATE TABLE operation (
        id         INTEGER PRIMARY KEY AUTOINCREMENT,
        vm         TEXT NOT NULL REFERENCES vm (name) ON DELETE CASCADE ON UPDATE CASCADE,
        plan       TEXT NOT NULL,
        created_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX operation_vm ON operation (vm);
    -- What images cannot say of a snapshot. Whether there is one, they say.
    CREATE TABLE snapshot (
        id          INTEGER PRIMARY KEY AUTOINCREMENT,
        vm          TEXT NOT NULL REFERENCES vm (name) ON DELETE CASCADE ON UPDATE CASCADE,
        name        TEXT NOT NULL,
        parent      INTEGER REFERENCES snapshot (id) ON DELETE SET NULL,
        description TEXT,
        created_at  INTEGER NOT NULL,
        facts       TEXT NOT NULL,
        UNIQUE (vm, name)
    ) STRICT;
    CREATE INDEX snapshot_parent ON snapshot (parent);
    -- The snapshot that the disks of a VM have come from, and whether its next start goes
    -- on there.
    CREATE TABLE position (
        vm       TEXT PRIMARY KEY REFERENCES vm (name) ON DELETE CASCADE ON UPDATE CASCADE,
        snapshot INTEGER NOT NULL REFERENCES snapshot (id) ON DELETE CASCADE,
        resumes  INTEGER NOT NULL
    ) STRICT;",
];

/// How long to wait for another process that writes.
const BUSY: Duration = Duration::from_secs(5);

/// What can go wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database file or its directory.
    #[error("cannot open {}", .path.display())]
    Open {
        /// The database.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A newer maqet wrote it.
    #[error("{} was made by a newer maqet (schema {found}, this one knows {known})", .path.display())]
    TooNew {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest known here.
        known: u32,
    },
    /// The name is taken.
    #[error("there is a VM `{0}` already")]
    Exists(VmName),
    /// The UUID is another VM's.
    #[error("VM `{other}` has the UUID of VM `{name}`")]
    SameUuid {
        /// The VM that was to have it.
        name: VmName,
        /// The one that has it.
        other: String,
    },
    /// There is no room to write.
    #[error("the database cannot be written: its file system is full, or read-only")]
    Full,
    /// SQLite failed.
    #[error("the database failed")]
    Sqlite(#[source] rusqlite::Error),
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull | ErrorCode::ReadOnly) => Self::Full,
            _ => Self::Sqlite(error),
        }
    }
}

/// Whether it says that SQLite cannot make the file that processes share (`maqet.db-shm`):
/// SQLITE_IOERR_SHMSIZE.
fn is_for_room(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    code == Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE)
}

/// Opens a database to read it as it is, with nothing beside it where its log is empty.
fn as_it_is(path: &Path) -> rusqlite::Result<Connection> {
    // Where nothing waits in its log, SQLite need not even look whether others are there.
    let log = path.with_extension("db-wal");
    let settled = std::fs::metadata(log).map_or(0, |log| log.len()) == 0;
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte)),
            byte => uri += &format!("%{byte:02x}"),
        }
    }
    uri += if settled {
        "?mode=ro&immutable=1"
    } else {
        "?mode=ro"
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let db = Connection::open_with_flags(uri, flags)?;
    db.busy_timeout(BUSY)?;
    Ok(db)
}

impl Error {
    /// Whether it says that the file is damaged, or no database at all.
    pub fn is_damage(&self) -> bool {
        let cause = match self {
            Self::Sqlite(error) => Some(error),
            Self::Open { source, .. } => source.downcast_ref::<rusqlite::Error>(),
            _ => None,
        };
        let code = cause.and_then(rusqlite::Error::sqlite_error_code);
        matches!(
            code,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        )
    }
}

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
    /// Whether it can only be read, because there is no room for what SQLite has beside it.
    is_full: bool,
}

impl Store {
    /// Opens the database, and makes or upgrades it where need be.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let open = |source: Box<dyn std::error::Error + Send + Sync>| Error::Open {
            path: path.to_owned(),
            source,
        };
        if let Some(dir) = path.parent()
            && !dir.is_dir()
        {
            create_private_dir(dir).map_err(|error| open(error.into()))?;
        }
        let db = Connection::open(path).map_err(|error| open(error.into()))?;
        let mut store = Self { db, is_full: false };
        match store.prepare(path) {
            Ok(()) => Ok(store),
            Err(Error::Sqlite(source)) if is_for_room(&source) => {
                let Ok(db) = as_it_is(path) else {
                    return Err(Error::Full);
                };
                let store = Self { db, is_full: true };
                // Whoever makes or upgrades it, needs room.
                let is_known = store.schema().is_ok_and(|it| it == MIGRATIONS.len() as u32);
                is_known.then_some(store).ok_or(Error::Full)
            }
            Err(Error::Sqlite(source)) => Err(open(source.into())),
            Err(other) => Err(other),
        }
    }

    /// Opens the database to read it; `None` where there is none yet.
    pub fn open_existing(path: &Path) -> Result<Option<Self>, Error> {
        if path.try_exists().unwrap_or(true) {
            Self::open(path).map(Some)
        } else {
            Ok(None)
        }
    }

    fn prepare(&mut self, path: &Path) -> Result<(), Error> {
        self.db.busy_timeout(BUSY)?;
        self.db.pragma_update(None, "foreign_keys", true)?;
        let known = MIGRATIONS.len() as u32;
        let applied = self.schema()?;
        if applied > known {
            return Err(Error::TooNew {
                path: path.to_owned(),
                found: applied,
                known,
            });
        }
        if applied == known {
            return Ok(());
        }
        if applied == 0 {
            self.db.pragma_update(None, "journal_mode", "wal")?;
        } else {
            back_up(&self.db, path, applied)?;
        }
        let tx = self
            .db
            .transaction_with_behavior(TransactionBehavior::Exclusive)?;
        // Another process may have been quicker.
        let applied: u32 = tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
        for sql in MIGRATIONS.iter().skip(applied as usize) {
            tx.execute_batch(sql)?;
        }
        tx.pragma_update(None, "user_version", known.max(applied))?;
        tx.commit()?;
        Ok(())
    }

    fn schema(&self) -> Result<u32, Error> {
        Ok(self
            .db
            .pragma_query_value(None, "user_version", |row| row.get(0))?)
    }

    /// Whether it can only be read, for want of room.
    pub fn is_full(&self) -> bool {
        self.is_full
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

    /// What is wrong with the file and the tables in it; nothing, if it is sound.
    pub fn faults(&self) -> Result<Vec<String>, Error> {
        let mut faults = Vec::new();
        let mut check = self.db.prepare("PRAGMA integrity_check(10)")?;
        let words = check.query_map([], |row| row.get::<_, String>(0))?;
        for word in words {
            let word = word?;
            if word != "ok" {
                faults.push(word);
            }
        }
        let mut check = self.db.prepare("PRAGMA foreign_key_check")?;
        let rows = check.query_map([], |row| row.get::<_, String>(0))?;
        for table in rows {
            faults.push(format!("{} has a row of a VM that is not there", table?));
        }
        for columns in [
            "SELECT name, uuid, definition, memory, cpus, team, labels, protected FROM vm",
            "SELECT path, identity, vm FROM made_disk",
            "SELECT team, property, value FROM budget",
            "SELECT old, new, enabled FROM renaming",
            "SELECT id, vm, plan, created_at FROM operation",
            "SELECT id, vm, name, parent, description, created_at, facts FROM snapshot",
            "SELECT vm, snapshot, resumes FROM position",
        ] {
            if let Err(error) = self.db.prepare(columns) {
                faults.push(error.to_string());
            }
        }
        Ok(faults)
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

/// Copies the database beside itself before its schema changes.
fn back_up(db: &Connection, path: &Path, schema: u32) -> Result<(), Error> {
    let mut copy = path.as_os_str().to_owned();
    copy.push(format!(".schema-{schema}"));
    let copy = PathBuf::from(copy);
    if !copy.exists() {
        db.execute("VACUUM INTO ?1", [copy.to_string_lossy()])?;
    }
    Ok(())
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

    fn insert(store: &mut Store, name: &str, disks: &[MadeDisk]) -> Result<bool, Error> {
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

    #[test]
    fn a_newer_schema_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("maqet.db");
        drop(Store::open(&path).unwrap());
        let db = Connection::open(&path).unwrap();
        db.pragma_update(None, "user_version", 99).unwrap();
        drop(db);
        match Store::open(&path) {
            Err(Error::TooNew { found: 99, .. }) => {}
            other => panic!("{:?}", other.err()),
        }
    }

    #[test]
    fn opening_at_once_makes_one_schema() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("maqet.db");
        std::thread::scope(|scope| {
            for i in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    let mut store = Store::open(path).unwrap();
                    insert(&mut store, &format!("vm{i}"), &[]).unwrap();
                });
            }
        });
        assert_eq!(Store::open(&path).unwrap().list().unwrap().len(), 8);
    }

    #[test]
    fn reading_makes_no_database() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("maqet.db");
        assert!(Store::open_existing(&path).unwrap().is_none());
        assert!(!path.exists());
    }
}
