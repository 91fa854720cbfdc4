//! What can go wrong with the database.

use std::path::PathBuf;

use rusqlite::ErrorCode;

use crate::vm::VmName;

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
    /// There is no room to write, or no right to: SQLite does not always tell which, and calls
    /// a quota that is used up an I/O error (`unixWrite` in its os_unix.c).
    #[error(
        "the database cannot be written: its file system is full, your quota is used up, or it \
         is read-only"
    )]
    Full,
    /// SQLite failed.
    #[error("the database failed")]
    Sqlite(#[source] rusqlite::Error),
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull | ErrorCode::ReadOnly) => Self::Full,
            Some(ErrorCode::SystemIoFailure) if is_unwritten(&error) => Self::Full,
            _ => Self::Sqlite(error),
        }
    }
}

/// Whether it says that something could not be written.
fn is_unwritten(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{SQLITE_IOERR_FSYNC, SQLITE_IOERR_TRUNCATE, SQLITE_IOERR_WRITE};

    let code = error.sqlite_error().map(|error| error.extended_code);
    let all = [
        SQLITE_IOERR_WRITE,
        SQLITE_IOERR_FSYNC,
        SQLITE_IOERR_TRUNCATE,
    ];
    code.is_some_and(|code| all.contains(&code))
}

impl Error {
    /// Whether it is for something that only who writes needs: room, rights, or the files that
    /// SQLite makes beside the database, such as the one that processes share (`maqet.db-shm`).
    pub(super) fn is_for_writing(&self) -> bool {
        use rusqlite::ffi::SQLITE_IOERR_SHMSIZE;

        match self {
            Self::Full => true,
            Self::Sqlite(error) => {
                let code = error.sqlite_error().map(|error| error.extended_code);
                error.sqlite_error_code() == Some(ErrorCode::CannotOpen)
                    || code == Some(SQLITE_IOERR_SHMSIZE)
            }
            _ => false,
        }
    }

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
