//! Giving a VM another name.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, TransactionBehavior, params};

use crate::vm::VmName;

use super::{Error, Row, Store};

/// A VM that has another name, while some of what belongs to it may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renaming {
    /// What it was called.
    pub old: VmName,
    /// What it is called.
    pub new: VmName,
    /// Whether it starts at boot.
    pub enabled: bool,
}

impl Store {
    /// Gives a VM another name and definition, and others the definitions that go with
    /// it; whether all of them were still as they were read.
    ///
    /// `facts` are what is kept of its snapshots from now on. `new_path` tells where a file of the VM will be, if it is moved. What is to be done
    /// besides is kept until [`finish_renamings`](Self::finish_renamings).
    pub fn rename(
        &mut self,
        old: &Row,
        definition: &str,
        others: &[(Row, String)],
        facts: &[(i64, String)],
        renaming: &Renaming,
        new_path: impl Fn(&Path) -> Option<PathBuf>,
    ) -> Result<bool, Error> {
        let new = &renaming.new;
        let tx = self
            .db
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let taken: bool = tx.query_row(
            "SELECT EXISTS (SELECT 1 FROM vm WHERE name = ?1)",
            [new.as_str()],
            |row| row.get(0),
        )?;
        if taken {
            return Err(Error::Exists(new.clone()));
        }
        let mut is_as_read = tx.execute(
            "UPDATE vm SET name = ?3, definition = ?4 WHERE name = ?1 AND definition = ?2",
            [old.name.as_str(), &old.definition, new.as_str(), definition],
        )? > 0;
        for (other, definition) in others {
            is_as_read &= tx.execute(
                "UPDATE vm SET definition = ?3 WHERE name = ?1 AND definition = ?2",
                [other.name.as_str(), &other.definition, definition],
            )? > 0;
        }
        if !is_as_read {
            return Ok(false);
        }
        for (snapshot, facts) in facts {
            tx.execute(
                "UPDATE snapshot SET facts = ?2 WHERE id = ?1",
                params![snapshot, facts],
            )?;
        }
        let disks: Vec<String> = tx
            .prepare("SELECT path FROM made_disk WHERE vm = ?1")?
            .query_map([new.as_str()], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for disk in disks {
            if let Some(path) = new_path(Path::new(&disk)) {
                tx.execute(
                    "UPDATE made_disk SET path = ?2 WHERE path = ?1",
                    [disk.into(), path.to_string_lossy()],
                )?;
            }
        }
        tx.execute(
            "INSERT INTO renaming (old, new, enabled) VALUES (?1, ?2, ?3)",
            params![renaming.old.as_str(), new.as_str(), renaming.enabled],
        )?;
        tx.commit()?;
        Ok(true)
    }

    /// The renames that are not finished.
    pub fn renamings(&self) -> Result<Vec<Renaming>, Error> {
        renamings(&self.db)
    }

    /// Finishes renames by `finish`, which says whether nothing is left to do.
    ///
    /// Only one process does so at a time.
    pub fn finish_renamings<E: From<Error>>(
        &mut self,
        finish: impl Fn(&Renaming) -> Result<bool, E>,
    ) -> Result<(), E> {
        let tx = self
            .db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(Error::from)?;
        for renaming in renamings(&tx)? {
            if finish(&renaming)? {
                tx.execute(
                    "DELETE FROM renaming WHERE old = ?1",
                    [renaming.old.as_str()],
                )
                .map_err(Error::from)?;
            }
        }
        tx.commit().map_err(Error::from)?;
        Ok(())
    }
}

fn renamings(db: &Connection) -> Result<Vec<Renaming>, Error> {
    let mut statement = db.prepare("SELECT old, new, enabled FROM renaming")?;
    let rows = statement.query_map([], |row| {
        let names = (row.get::<_, String>(0)?, row.get::<_, String>(1)?);
        Ok((names.0, names.1, row.get(2)?))
    })?;
    let mut all = Vec::new();
    for row in rows {
        let (old, new, enabled) = row?;
        // They went in as names.
        if let (Ok(old), Ok(new)) = (old.parse(), new.parse()) {
            all.push(Renaming { old, new, enabled });
        }
    }
    Ok(all)
}
