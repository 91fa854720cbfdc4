//! The limits of groups.

use rusqlite::{TransactionBehavior, params};

use crate::vm::GroupName;

use super::{Error, Store, group};

/// A limit of a group: a property of its slice, and its value as in a unit file.
pub type Limit = (String, String);

impl Store {
    /// The limits of a group, by property.
    pub fn budget(&self, group: &GroupName) -> Result<Vec<Limit>, Error> {
        let mut statement = self
            .db
            .prepare("SELECT property, value FROM budget WHERE team = ?1 ORDER BY property")?;
        let limits = statement.query_map([group.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(limits.collect::<Result<_, _>>()?)
    }

    /// The groups that have a budget.
    pub fn budgeted(&self) -> Result<Vec<GroupName>, Error> {
        let mut statement = self.db.prepare("SELECT DISTINCT team FROM budget")?;
        let names = statement.query_map([], |row| row.get(0))?;
        Ok(names
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .filter_map(group)
            .collect())
    }

    /// Sets limits of a group; one whose value is empty is forgotten.
    ///
    /// They are kept when `apply` has applied them, and all or none are.
    pub fn set_budget<E: From<Error>>(
        &mut self,
        group: &GroupName,
        limits: &[Limit],
        apply: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let tx = self
            .db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(Error::from)?;
        for (property, value) in limits {
            let key = params![group.as_str(), property];
            match value.as_str() {
                "" => tx.execute("DELETE FROM budget WHERE team = ?1 AND property = ?2", key),
                value => tx.execute(
                    "INSERT INTO budget (team, property, value) VALUES (?1, ?2, ?3)
                     ON CONFLICT DO UPDATE SET value = excluded.value",
                    params![group.as_str(), property, value],
                ),
            }
            .map_err(Error::from)?;
        }
        apply()?;
        tx.commit().map_err(Error::from)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_kept_only_if_it_could_be_applied() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("maqet.db")).unwrap();
        let ci = "ci".parse().unwrap();
        let limits = |value: &str| vec![("MemoryMax".to_owned(), value.to_owned())];
        store
            .set_budget::<Error>(&ci, &limits("1G"), || Ok(()))
            .unwrap();
        store
            .set_budget(&ci, &limits("2G"), || {
                Err(Error::Exists("x".parse().unwrap()))
            })
            .unwrap_err();
        assert_eq!(store.budget(&ci).unwrap(), limits("1G"));
        assert_eq!(store.budgeted().unwrap(), std::slice::from_ref(&ci));
        store
            .set_budget::<Error>(&ci, &limits(""), || Ok(()))
            .unwrap();
        assert!(store.budgeted().unwrap().is_empty());
    }
}
