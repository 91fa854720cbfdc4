//! The database of Python maqet, which is read and never changed.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::Error;
use super::open::as_it_is;

/// One VM of Python maqet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonVm {
    /// Its UUID, which names its sockets.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its definition, in JSON.
    pub definition: String,
    /// The process that was its QEMU, if it says.
    pub pid: Option<u32>,
    /// Where its sockets are, or were.
    pub sockets: Vec<PathBuf>,
}

/// The VMs in such a database, by name.
pub fn read(path: &Path) -> Result<Vec<PythonVm>, Error> {
    let open = |source: rusqlite::Error| Error::Open {
        path: path.to_owned(),
        source: source.into(),
    };
    let db = as_it_is(path).map_err(open)?;
    read_from(&db).map_err(open)
}

fn read_from(db: &Connection) -> rusqlite::Result<Vec<PythonVm>> {
    // What it knew of a VM came by and by: its schema has six versions.
    let column = |name: &str| -> rusqlite::Result<String> {
        let is_there = "SELECT count(*) FROM pragma_table_info('vm_instances') WHERE name = ?1";
        let count: u32 = db.query_row(is_there, [name], |row| row.get(0))?;
        Ok(if count == 1 {
            name.to_owned()
        } else {
            "NULL".to_owned()
        })
    };
    let mut query = db.prepare(&format!(
        "SELECT id, name, config_data, {}, {}, {} FROM vm_instances ORDER BY name",
        column("pid")?,
        column("socket_path")?,
        column("qmp_socket_path")?,
    ))?;
    let vms = query.query_map([], |row| {
        let sockets = [row.get::<_, Option<String>>(4)?, row.get(5)?];
        Ok(PythonVm {
            id: row.get(0)?,
            name: row.get(1)?,
            definition: row.get(2)?,
            pid: row.get(3)?,
            sockets: sockets.into_iter().flatten().map(PathBuf::from).collect(),
        })
    })?;
    vms.collect()
}
