//! What images cannot say of their snapshots.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use crate::vm::VmName;

use super::{Error, Store, now};

/// A snapshot of a VM, as it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its number, which no other snapshot ever has.
    pub id: i64,
    /// Its name: any text.
    pub name: String,
    /// The one that the VM was at when it was made.
    pub parent: Option<i64>,
    /// What its user says of it.
    pub description: Option<String>,
    /// When it was made, in seconds since 1970.
    pub created_at: i64,
    /// What must be known to restore it, in the caller's own form.
    pub facts: String,
}

/// Where a VM is among its snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The snapshot that its disks have come from.
    pub snapshot: i64,
    /// Whether the next start goes on there, with memory and devices.
    pub resumes: bool,
}

impl Store {
    /// Adds a snapshot below the one that the VM is at, and ends the operation that has
    /// made it. The VM is at the new one then.
    pub fn add_snapshot(
        &mut self,
        vm: &VmName,
        name: &str,
        description: Option<&str>,
        facts: &str,
        operation: i64,
    ) -> Result<(), Error> {
        let tx = self
            .db
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let parent = position(&tx, vm)?.map(|position| position.snapshot);
        tx.execute(
            "INSERT INTO snapshot (vm, name, parent, description, created_at, facts)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![vm.as_str(), name, parent, description, now(), facts],
        )?;
        let id = tx.last_insert_rowid();
        set_position(&tx, vm, id, false)?;
        tx.execute("DELETE FROM operation WHERE id = ?1", [operation])?;
        tx.commit()?;
        Ok(())
    }

    /// The snapshots of a VM, the oldest first.
    pub fn snapshots(&self, vm: &VmName) -> Result<Vec<Snapshot>, Error> {
        let mut statement = self.db.prepare(
            "SELECT id, name, parent, description, created_at, facts
             FROM snapshot WHERE vm = ?1 ORDER BY id",
        )?;
        let rows = statement.query_map([vm.as_str()], read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The snapshots of all VMs, each with its VM.
    pub fn all_snapshots(&self) -> Result<Vec<(VmName, Snapshot)>, Error> {
        let mut statement = self.db.prepare(
            "SELECT id, name, parent, description, created_at, facts, vm
             FROM snapshot ORDER BY id",
        )?;
        let rows = statement.query_map([], |row| {
            let vm = row.get::<_, String>(6)?.parse().ok();
            vm.map(|vm| Ok((vm, read(row)?))).transpose()
        })?;
        // Every name went in as a `VmName`.
        Ok(rows
            .filter_map(Result::transpose)
            .collect::<Result<_, _>>()?)
    }

    /// Where a VM is among its snapshots; `None` if it is below none.
    pub fn position(&self, vm: &VmName) -> Result<Option<Position>, Error> {
        position(&self.db, vm)
    }

    /// Notes at which snapshot a VM is, if at one that is kept, and ends the operation that
    /// has put it there.
    pub fn restore_snapshot(
        &mut self,
        vm: &VmName,
        position: Option<Position>,
        operation: i64,
    ) -> Result<(), Error> {
        let tx = self
            .db
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        match position {
            Some(position) => set_position(&tx, vm, position.snapshot, position.resumes)?,
            None => {
                tx.execute("DELETE FROM position WHERE vm = ?1", [vm.as_str()])?;
            }
        }
        tx.execute("DELETE FROM operation WHERE id = ?1", [operation])?;
        tx.commit()?;
        Ok(())
    }

    /// Notes that a VM has gone on from its snapshot, or never will.
    pub fn end_resume(&mut self, vm: &VmName) -> Result<(), Error> {
        self.db.execute(
            "UPDATE position SET resumes = 0 WHERE vm = ?1",
            [vm.as_str()],
        )?;
        Ok(())
    }

    /// Keeps other facts of a snapshot.
    pub fn set_facts(&mut self, id: i64, facts: &str) -> Result<(), Error> {
        self.db.execute(
            "UPDATE snapshot SET facts = ?2 WHERE id = ?1",
            params![id, facts],
        )?;
        Ok(())
    }

    /// Forgets a snapshot, if it was kept, and ends the operation that has deleted it. What
    /// was below it is below its parent then.
    pub fn remove_snapshot(&mut self, id: Option<i64>, operation: i64) -> Result<(), Error> {
        let tx = self
            .db
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute(
            "UPDATE snapshot SET parent = (SELECT parent FROM snapshot WHERE id = ?1)
             WHERE parent = ?1",
            [id],
        )?;
        tx.execute(
            "UPDATE position SET resumes = 0,
                snapshot = (SELECT parent FROM snapshot WHERE id = ?1)
             WHERE snapshot = ?1
                AND (SELECT parent FROM snapshot WHERE id = ?1) IS NOT NULL",
            [id],
        )?;
        tx.execute("DELETE FROM snapshot WHERE id = ?1", [id])?;
        tx.execute("DELETE FROM operation WHERE id = ?1", [operation])?;
        tx.commit()?;
        Ok(())
    }
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Snapshot> {
    Ok(Snapshot {
        id: row.get(0)?,
        name: row.get(1)?,
        parent: row.get(2)?,
        description: row.get(3)?,
        created_at: row.get(4)?,
        facts: row.get(5)?,
    })
}

fn position(db: &Connection, vm: &VmName) -> Result<Option<Position>, Error> {
    Ok(db
        .prepare_cached("SELECT snapshot, resumes FROM position WHERE vm = ?1")?
        .query_row([vm.as_str()], |row| {
            Ok(Position {
                snapshot: row.get(0)?,
                resumes: row.get(1)?,
            })
        })
        .optional()?)
}

fn set_position(db: &Connection, vm: &VmName, snapshot: i64, resumes: bool) -> Result<(), Error> {
    db.execute(
        "INSERT INTO position (vm, snapshot, resumes) VALUES (?1, ?2, ?3)
         ON CONFLICT (vm) DO UPDATE SET snapshot = excluded.snapshot, resumes = excluded.resumes",
        params![vm.as_str(), snapshot, resumes],
    )?;
    Ok(())
}
