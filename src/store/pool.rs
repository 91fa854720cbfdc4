//! Open databases, kept for whoever asks next: to open one, and to close the last, costs
//! more than most of what is asked.

use std::borrow::Borrow;
use std::fs;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Error, Store};

/// The databases of one path that nobody uses now. Clones share them.
#[derive(Clone, Default)]
pub struct Pool(Arc<Mutex<Vec<Kept>>>);

/// An open database, with the file that it is.
struct Kept {
    store: Store,
    file: Option<(u64, u64)>,
}

/// An open database, which is given back when this is dropped.
pub struct Lent {
    kept: Option<Kept>,
    pool: Pool,
}

impl Pool {
    /// Opens the database, unless that has been done, and makes or upgrades it where need be.
    pub fn open(&self, path: &Path) -> Result<Lent, Error> {
        let kept = loop {
            let Some(kept) = self.idle().pop() else {
                let store = Store::open(path)?;
                let file = file(path);
                break Kept { store, file };
            };
            // Another one may be there by now; this one is of no use then.
            if kept.file.is_some() && kept.file == file(path) {
                break kept;
            }
        };
        Ok(Lent {
            kept: Some(kept),
            pool: self.clone(),
        })
    }

    /// The same, to read it; `None` where there is none yet.
    pub fn open_existing(&self, path: &Path) -> Result<Option<Lent>, Error> {
        match path.try_exists().unwrap_or(true) {
            true => self.open(path).map(Some),
            false => Ok(None),
        }
    }

    /// Closes those that nobody uses.
    pub fn close(&self) {
        let idle = std::mem::take(&mut *self.idle());
        drop(idle);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

/// What tells the file at `path` from any other that there is.
fn file(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

impl Deref for Lent {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.kept.as_ref().expect("it is there until the end").store
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Store {
        &mut self.kept.as_mut().expect("it is there until the end").store
    }
}

impl Borrow<Store> for Lent {
    fn borrow(&self) -> &Store {
        self
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // Where there was no room, there may be some for whoever asks next.
        let kept = self.kept.take().filter(|kept| !kept.store.is_read_only());
        self.pool.idle().extend(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_opened_once_unless_it_is_another_or_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("maqet.db");
        let pool = Pool::default();
        assert!(pool.open_existing(&path).unwrap().is_none());
        drop(pool.open(&path).unwrap());
        let (one, two) = (pool.open(&path).unwrap(), pool.clone().open(&path).unwrap());
        assert_eq!(pool.idle().len(), 0);
        drop((one, two));
        assert_eq!(pool.idle().len(), 2);

        let mut store = pool.open(&path).unwrap();
        store
            .begin_operation(&"web".parse().unwrap(), "")
            .unwrap_err();
        drop(store);
        // Someone puts it aside, with its journal, and there is another one.
        for suffix in ["", "-wal", "-shm"] {
            let name = dir.path().join(format!("maqet.db{suffix}"));
            fs::rename(&name, dir.path().join(format!("aside{suffix}"))).unwrap();
        }
        let other = Store::open(&path).unwrap();
        let opened = pool.open(&path).unwrap();
        assert_eq!(pool.idle().len(), 0);
        assert_eq!(opened.kept.as_ref().unwrap().file, file(&path));
        assert!(dir.path().join("maqet.db-wal").exists());
        drop((other, opened));
        pool.close();
        // Who closes it last leaves no journal.
        assert!(!dir.path().join("maqet.db-wal").exists());
    }
}
