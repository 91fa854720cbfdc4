//! The host as one user sees it: directories, database, service manager.

use std::env;
use std::path::PathBuf;

use crate::config::{Defaults, VmConfig};
use crate::nearest::nearest;
use crate::paths::Paths;
use crate::store::{Lent, Pool, Row, Summary};
use crate::systemd::journal::{self, Entries, Query};
use crate::systemd::{Scope, UnitStatus, status, unit_name};
use crate::vm::VmName;

use super::{Error, policy, rename};

/// Where an operation happens. Making one opens nothing.
#[derive(Clone, Debug)]
pub struct Host {
    /// The user's directories.
    pub paths: Paths,
    /// The service manager that runs the VMs.
    pub scope: Scope,
    /// Is told, in a line, of what an operation does besides, such as to finish what a
    /// command that was killed has begun.
    pub tell: fn(&str),
    databases: Pool,
}

impl Host {
    /// The caller's own host, as the environment describes it.
    pub fn from_env() -> Result<Self, Error> {
        let paths = Paths::from_env()?;
        Ok(Self {
            scope: Scope::User(paths.runtime.clone()),
            paths,
            tell: |_| {},
            databases: Pool::default(),
        })
    }

    /// The database, made where there is none.
    pub(super) fn store(&self) -> Result<Lent, Error> {
        let mut store = self.databases.open(&self.paths.database())?;
        rename::finish(self, &mut store)?;
        Ok(store)
    }

    /// The database, if there is one.
    pub(super) fn existing_store(&self) -> Result<Option<Lent>, Error> {
        let mut store = self.databases.open_existing(&self.paths.database())?;
        if let Some(store) = &mut store {
            rename::finish(self, store)?;
        }
        Ok(store)
    }

    /// Closes the database, which is kept open for who asks next.
    pub(crate) fn close(&self) {
        self.databases.close();
    }

    /// The stored VM of that name.
    pub fn vm(&self, name: &VmName) -> Result<Row, Error> {
        if let Some(store) = self.existing_store()?
            && let Some(row) = store.get(name)?
        {
            return Ok(row);
        }
        Err(Error::NoSuchVm {
            nearest: nearest(name.as_str(), self.list()?.into_iter().map(|vm| vm.name))
                .into_iter()
                .next(),
            name: name.clone(),
        })
    }

    /// All stored VMs, by name.
    pub(super) fn list(&self) -> Result<Vec<Summary>, Error> {
        match self.existing_store()? {
            Some(store) => Ok(store.list()?),
            None => Ok(Vec::new()),
        }
    }

    /// All stored VMs with their definitions, by name.
    pub(super) fn rows(&self) -> Result<Vec<Row>, Error> {
        match self.existing_store()? {
            Some(store) => Ok(store.rows_with("")?),
            None => Ok(Vec::new()),
        }
    }

    /// The definition of a stored VM.
    pub fn config(&self, row: &Row) -> Result<VmConfig, Error> {
        let origin = self.paths.vm(&row.name).definition();
        Ok(VmConfig::parse_with(
            &row.definition,
            &origin,
            &self.defaults()?,
        )?)
    }

    /// A definition that has the user's defaults in it: what a VM runs with, or is saved with.
    pub(crate) fn whole_config(&self, name: &VmName, text: &str) -> Result<VmConfig, Error> {
        Ok(VmConfig::parse(text, &self.paths.vm(name).definition())?)
    }

    /// The definition that a VM is to start with, with what is wrong about its unit told too.
    pub(super) fn checked_config(&self, row: &Row, is_whole: bool) -> Result<VmConfig, Error> {
        let origin = self.paths.vm(&row.name).definition();
        let defaults = match is_whole {
            true => Defaults::default(),
            false => self.defaults()?,
        };
        Ok(VmConfig::parse_checked(
            &row.definition,
            &origin,
            &defaults,
            policy::faults,
        )?)
    }

    /// The user's defaults; none where there is no `config.toml`.
    pub fn defaults(&self) -> Result<Defaults, Error> {
        let file = self.paths.config_file();
        match std::fs::read_to_string(&file) {
            Ok(text) => Ok(Defaults::parse(&text, &file)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Defaults::default()),
            Err(error) => Err(Error::io(format_args!("cannot read {}", file.display()))(
                error,
            )),
        }
    }

    /// What systemd says of a VM.
    pub fn unit(&self, name: &VmName) -> Result<UnitStatus, Error> {
        Ok(status(&self.scope, &unit_name(name))?)
    }

    /// What the VM's unit printed, and where it can be had.
    pub(super) fn output(&self, name: &VmName, query: &Query<'_>) -> Result<Entries, Error> {
        let unit = unit_name(name);
        Ok(match self.output_log(name) {
            None => journal::read(&self.scope, &unit, query)?,
            Some(file) => journal::read_file(&file, &unit, query)?,
        })
    }

    /// The file that a VM's unit prints to, where the journal is not for the user to read.
    pub(super) fn output_log(&self, name: &VmName) -> Option<PathBuf> {
        (!journal::readable()).then(|| self.paths.vm(name).output_log())
    }

    /// The program that units are to run: this one.
    pub(super) fn maqet(&self) -> Result<PathBuf, Error> {
        env::current_exe().map_err(Error::io("cannot tell where the maqet program is"))
    }
}
