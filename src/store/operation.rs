//! What is being done to VMs in more than one step.

use rusqlite::params;

use crate::vm::VmName;

use super::{Error, Store, now};

/// An operation that was begun and has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its number, which no other operation ever has.
    pub id: i64,
    /// What is to be done, by which it can be finished or undone.
    pub plan: String,
}

impl Store {
    /// Records an operation before it begins; its number.
    pub fn begin_operation(&mut self, vm: &VmName, plan: &str) -> Result<i64, Error> {
        self.db.execute(
            "INSERT INTO operation (vm, plan, created_at) VALUES (?1, ?2, ?3)",
            params![vm.as_str(), plan, now()],
        )?;
        Ok(self.db.last_insert_rowid())
    }

    /// Records another plan of an operation.
    pub fn change_operation(&mut self, id: i64, plan: &str) -> Result<(), Error> {
        let update = "UPDATE operation SET plan = ?2 WHERE id = ?1";
        self.db.execute(update, params![id, plan])?;
        Ok(())
    }

    /// The operations of a VM that have not ended, the oldest first.
    pub fn operations(&self, vm: &VmName) -> Result<Vec<Operation>, Error> {
        let mut statement = self
            .db
            .prepare_cached("SELECT id, plan FROM operation WHERE vm = ?1 ORDER BY id")?;
        let rows = statement.query_map([vm.as_str()], |row| {
            Ok(Operation {
                id: row.get(0)?,
                plan: row.get(1)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Notes that an operation has ended, whichever way.
    pub fn end_operation(&mut self, id: i64) -> Result<(), Error> {
        self.db
            .execute("DELETE FROM operation WHERE id = ?1", [id])?;
        Ok(())
    }
}
