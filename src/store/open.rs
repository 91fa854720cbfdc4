//! Opening the database: its schema, and what it takes to get there from an older one.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::paths::create_private_dir;

use super::{Error, Store};

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

/// How long to wait for another process that writes; one that adds VMs makes their disks too.
const BUSY: Duration = Duration::from_secs(30);

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
        let mut store = Self {
            db,
            is_read_only: false,
        };
        let error = match store.prepare(path) {
            Ok(()) => return Ok(store),
            Err(error) => error,
        };
        if error.is_for_writing()
            && let Ok(db) = as_it_is(path)
        {
            let store = Self {
                db,
                is_read_only: true,
            };
            // Whoever makes or upgrades it, writes.
            if store.schema().is_ok_and(|it| it == MIGRATIONS.len() as u32) {
                return Ok(store);
            }
        }
        Err(match error {
            Error::Sqlite(source) => open(source.into()),
            // Where it is to be made, it has to be named.
            Error::Full => open(Error::Full.into()),
            other => other,
        })
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
            self.write_ahead()?;
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

    /// Has the database written ahead to a log. Of two that make it at once, SQLite tells
    /// one that it is locked, and does not wait as it does elsewhere.
    fn write_ahead(&self) -> Result<(), Error> {
        let deadline = Instant::now() + BUSY;
        loop {
            match self.db.pragma_update(None, "journal_mode", "wal") {
                Err(error)
                    if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                        && Instant::now() < deadline =>
                {
                    std::thread::sleep(Duration::from_millis(1));
                }
                other => return Ok(other?),
            }
        }
    }

    fn schema(&self) -> Result<u32, Error> {
        Ok(self
            .db
            .pragma_query_value(None, "user_version", |row| row.get(0))?)
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
}

/// Opens a database to read it as it is, with nothing beside it where its log is empty.
pub(super) fn as_it_is(path: &Path) -> rusqlite::Result<Connection> {
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
    use crate::store::tests::insert;

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
