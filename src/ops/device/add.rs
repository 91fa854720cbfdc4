//! Plugging a device into a running VM.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

use crate::config::{self, DeviceName, Document, Interface, VmConfig};
use crate::image;
use crate::ops::add::made_disk;
use crate::ops::claims::Claims;
use crate::ops::{Error, Host, check, plumbing, qmp as ops_qmp};
use crate::qemu::part::{self, Kind, Part};
use crate::qemu::{disk, net, passthrough};
use crate::qmp;
use crate::store::Row;
use crate::vm::VmName;

use super::definition::{self, Edit, edited, keep, note};
use super::qemu::{Qemu, Step};
use super::{Error as DeviceError, Target};

/// How to add a device.
#[derive(Clone, Debug)]
pub struct Options {
    /// What relative paths are relative to.
    pub dir: PathBuf,
    /// Whether the definition is to have it, too.
    pub persist: bool,
}

/// A device that was plugged.
#[derive(Debug, Serialize)]
pub struct Added {
    /// The VM.
    pub vm: VmName,
    /// The id by which QEMU knows the device.
    pub id: String,
    /// Its driver.
    pub driver: String,
    /// The bus that maqet chose; QEMU chose it if there is none here.
    pub bus: Option<String>,
    /// The controller that was plugged for it, and stays when it goes.
    pub controller: Option<String>,
    /// Whether the definition has it, too.
    pub persistent: bool,
    /// Whether it was plugged already, and has only been made persistent.
    pub was_plugged: bool,
    /// The image that was made for it.
    pub made: Option<PathBuf>,
}

/// Plugs `what`: `disk.NAME`, `net.NAME` or `device.NAME` with the keys of their
/// tables, or a driver of QEMU with its properties, as `key=value` words.
///
/// Whatever fails before QEMU has taken the device leaves everything as it was.
pub fn add(
    host: &Host,
    name: &VmName,
    what: &str,
    words: &[String],
    options: &Options,
) -> Result<Added, Error> {
    let row = host.vm(name)?;
    let mut adding = Adding {
        qemu: Qemu::open(host, name)?,
        host,
        row: &row,
        options,
        controller: None,
    };
    let wrong = |error: config::InvalidDeviceName| settings(what, error);
    match what.split_once('.') {
        Some(("disk", disk)) => adding.disk(disk.parse().map_err(wrong)?, words),
        Some(("net", net)) => adding.net(net.parse().map_err(wrong)?, words),
        Some(("usb", usb)) => adding.of_host(Target::Usb(usb.parse().map_err(wrong)?), words),
        Some(("pci", pci)) => adding.of_host(Target::Pci(pci.parse().map_err(wrong)?), words),
        Some(("device", device)) => adding.named_device(&device.parse().map_err(wrong)?, words),
        None if !what.contains(['=', '/']) => adding.device(what, words),
        _ => Err(DeviceError::What(what.to_owned()).into()),
    }
}

struct Adding<'a> {
    qemu: Qemu,
    host: &'a Host,
    row: &'a Row,
    options: &'a Options,
    /// The controller that is plugged with the device.
    controller: Option<String>,
}

/// A mistake in the words rather than in a file.
fn settings(what: &str, message: impl ToString) -> Error {
    DeviceError::Settings {
        what: what.to_owned(),
        message: message.to_string(),
    }
    .into()
}

impl Adding<'_> {
    fn disk(&mut self, name: DeviceName, words: &[String]) -> Result<Added, Error> {
        let target = Target::Disk(name.clone());
        let what = target.to_string();
        let (with, config) = self.defined(&what, words, &|document| {
            document.set_words(&what, words, &self.options.dir)
        })?;
        let disk = &config.disks[&name];
        if disk.interface.waits_for_start() {
            return Err(DeviceError::Sata { what }.into());
        }
        let vm_dir = self.host.paths.vm(&self.row.name);
        let path = disk.path(&name, vm_dir.path());
        let path = path.expect("only CD-ROM drives are empty");
        check::not_printed(self.host, self.row, &config, &name)?;
        let parts = disk::parts(&name, disk, config.board(), vm_dir.path(), None);
        let mut added = self.added(&parts.device);
        if self.qemu.has(&added.id) {
            let nodes = self.qemu.nodes(&added.id)?;
            let is_it = nodes.last().is_some_and(|(_, file)| *file == json!(path));
            return self.only_persist(&target, added, is_it, &with);
        }
        added.made = self.make_image(&name, &path, disk)?;
        match self.plug_disk(&parts, disk.interface) {
            Ok(bus) => {
                added.bus = bus;
                self.finish(&target, added, Some(&with))
            }
            Err(error) => {
                if let Some(made) = added.made {
                    // Made a moment ago, and empty.
                    let _ = std::fs::remove_file(&made);
                    self.host.store()?.forget_disk(&made)?;
                }
                Err(self.or_in_use(&name, &path, error))
            }
        }
    }

    fn plug_disk(
        &mut self,
        parts: &disk::Parts,
        interface: Interface,
    ) -> Result<Option<String>, Error> {
        let (controller, bus) = match interface {
            Interface::Scsi => (self.controller(part::SCSI)?, None),
            Interface::Usb => (self.controller(part::USB)?, None),
            _ => (None, self.qemu.free_port(parts.device.driver())?),
        };
        // Left by an add that was killed before it came to the device, or by a
        // removal that was not waited for.
        self.qemu.close_disk(parts.device.id())?;
        let mut steps = Vec::new();
        if let Some(thread) = &parts.iothread
            && !self.qemu.has_object(thread.id())?
        {
            steps.push(thread.into());
        }
        steps.extend(parts.limits.iter().chain(&parts.nodes).map(Step::from));
        steps.extend(controller.as_ref().map(Step::from));
        steps.push(on(&parts.device, bus.as_deref()));
        self.qemu.plug(&steps)?;
        Ok(bus)
    }

    fn net(&mut self, name: DeviceName, words: &[String]) -> Result<Added, Error> {
        let target = Target::Net(name.clone());
        let what = target.to_string();
        let (with, config) = self.defined(&what, words, &|document| {
            definition::write_default_net(document)?;
            document.set_words(&what, words, &self.options.dir)
        })?;
        let net = &config.nets[&name];
        plumbing::check_net(&name, net)?;
        let claims = Claims::for_vms(self.host, 1);
        let rivals = claims.rival_macs(&self.row.name, Some(&self.row.uuid), &config)?;
        if let Some(rival) = rivals.iter().find(|it| it.net == name.as_str()) {
            return Err(settings(&what, check::same_address(rival).message));
        }
        let vhost = plumbing::has_vhost_net();
        let [netdev, nic] = net::parts(&name, net, &self.row.uuid, vhost);
        let mut added = self.added(&nic);
        if let Some(driver) = self.qemu.devices.get(nic.id()) {
            let is_it = driver == nic.driver();
            return self.only_persist(&target, added, is_it, &with);
        }
        let (controller, bus) = self.place(nic.driver())?;
        // Left as the nodes of a disk may be; mostly there is none.
        let _ = self.qemu.unmake(Kind::Netdev, netdev.id());
        let mut steps: Vec<Step> = vec![(&netdev).into()];
        steps.extend(controller.as_ref().map(Step::from));
        steps.push(on(&nic, bus.as_deref()));
        self.qemu.plug(&steps)?;
        if !net.link {
            let link = json!({ "name": nic.id(), "up": false });
            self.qemu.monitor.execute("set_link", link)?;
        }
        added.bus = bus;
        self.finish(&target, added, Some(&with))
    }

    /// A device of the host.
    fn of_host(&mut self, target: Target, words: &[String]) -> Result<Added, Error> {
        let what = target.to_string();
        let (with, config) = self.defined(&what, words, &|document| {
            document.set_words(&what, words, &self.options.dir)
        })?;
        let (device, controller, bus) = match &target {
            Target::Usb(name) => {
                let usb = &config.usbs[name];
                plumbing::check_usb(name, usb)?;
                (
                    passthrough::usb(name, usb),
                    self.controller(part::USB)?,
                    None,
                )
            }
            Target::Pci(name) => {
                let pci = &config.pcis[name];
                plumbing::check_pci(&self.row.name, name, pci)?;
                let device = passthrough::pci(name, pci);
                let port = self.qemu.free_port(device.driver())?;
                (device, None, port)
            }
            _ => unreachable!("the others are not the host's"),
        };
        let mut added = self.added(&device);
        if self.qemu.has(device.id()) {
            return self.only_persist(&target, added, true, &with);
        }
        let mut steps: Vec<Step> = controller.as_ref().map(Step::from).into_iter().collect();
        steps.push(on(&device, bus.as_deref()));
        self.qemu.plug(&steps)?;
        added.bus = bus;
        self.finish(&target, added, Some(&with))
    }

    /// A device by its table: what it is, its words say or the definition does.
    fn named_device(&mut self, name: &DeviceName, words: &[String]) -> Result<Added, Error> {
        let what = format!("device.{name}");
        let mut words = words.to_vec();
        let config = self.host.config(self.row)?;
        match config.devices.get(name) {
            Some(_) if !words.is_empty() => return Err(self.is_defined(&what)),
            Some(device) => {
                words = part::device(name, device).words();
                words.retain(|word| !word.starts_with("id="));
            }
            None => {}
        }
        if words.iter().any(|word| word.starts_with("id=")) {
            let message = format_args!("the id of the device is its name, `{name}`");
            return Err(settings(&what, message));
        }
        let Some(at) = words.iter().position(|word| word.starts_with("driver=")) else {
            let message = "a device needs a `driver`, such as driver=usb-tablet";
            return Err(settings(&what, message));
        };
        let driver = words.remove(at).split_off("driver=".len());
        words.push(format!("id={name}"));
        self.device(&driver, &words)
    }

    fn device(&mut self, driver: &str, words: &[String]) -> Result<Added, Error> {
        let mut words = words.to_vec();
        if !words.iter().any(|word| word.starts_with("id=")) {
            words.push(format!("id={}", self.free_id(driver)));
        }
        words.insert(0, format!("driver={driver}"));
        let properties = ops_qmp::device_properties(&mut self.qemu.monitor, driver)?;
        let schema = ops_qmp::schema_of(self.host, &mut self.qemu.monitor)?;
        let mut arguments = schema
            .arguments("device_add", &words, &properties)
            .map_err(|error| DeviceError::Properties {
                name: self.row.name.clone(),
                driver: driver.to_owned(),
                error,
            })?;
        let id = arguments["id"].as_str().unwrap_or_default().to_owned();
        let target = Target::Device(id.clone());
        let with = self.device_defined(&id, &words, &arguments);
        let with = if self.options.persist {
            Some(with?)
        } else {
            // An id that no definition can have, for one; then it is just plugged.
            with.ok()
        };
        let mut added = Added {
            vm: self.row.name.clone(),
            id: id.clone(),
            driver: driver.to_owned(),
            bus: None,
            controller: None,
            persistent: false,
            was_plugged: false,
            made: None,
        };
        match (self.qemu.devices.get(&id), &with) {
            (Some(is), Some(with)) => {
                let is_it = is == driver;
                return self.only_persist(&target, added, is_it, with);
            }
            (Some(_), None) => return Err(self.is_plugged(&id)),
            (None, _) => {}
        }
        let mut steps = Vec::new();
        if arguments["bus"].is_null() {
            let (controller, bus) = self.place(driver)?;
            steps.extend(controller.as_ref().map(Step::from));
            if let Some(bus) = &bus {
                arguments["bus"] = json!(bus);
            }
            added.bus = bus;
        }
        steps.push(Step {
            kind: Kind::Device,
            id,
            arguments,
        });
        self.qemu.plug(&steps)?;
        self.finish(&target, added, with.as_ref())
    }

    /// What has to be there for a driver's device, and the port for it.
    fn place(&mut self, driver: &str) -> Result<(Option<Part>, Option<String>), Error> {
        if !part::is_usb_device(driver) {
            return Ok((None, self.qemu.free_port(driver)?));
        }
        let mut drivers = self.qemu.devices.values();
        if drivers.any(|driver| part::is_usb_controller(driver)) {
            return Ok((None, None));
        }
        Ok((self.controller(part::USB)?, None))
    }

    /// The controller that maqet adds, if it is not there yet.
    fn controller(&mut self, id: &str) -> Result<Option<Part>, Error> {
        if self.qemu.has(id) {
            return Ok(None);
        }
        let controller = match id {
            part::USB => Some(part::usb_controller()),
            _ => part::scsi_controller(self.host.config(self.row)?.board()),
        };
        let Some(controller) = controller else {
            return Ok(None);
        };
        self.controller = Some(controller.id().to_owned());
        Ok(Some(match self.qemu.free_port(controller.driver())? {
            Some(port) => controller.on(&port),
            None => controller,
        }))
    }

    /// An id that neither a device nor the definition has: `usb-tablet0`.
    fn free_id(&self, driver: &str) -> String {
        // Short enough to name a device in a definition.
        let mut stem: String = driver.trim_end_matches("-pci").chars().take(16).collect();
        if stem.ends_with(|c: char| c.is_ascii_digit()) {
            stem.push('-');
        }
        (0..)
            .map(|number| format!("{stem}{number}"))
            .find(|id| !self.qemu.has(id) && !self.row.definition.contains(id.as_str()))
            .expect("numbers do not end")
    }

    /// The definition with the disk or network in it, checked.
    fn defined(
        &self,
        what: &str,
        words: &[String],
        write: Edit<'_>,
    ) -> Result<(Document, VmConfig), Error> {
        let document = Document::parse(&self.row.definition, Path::new(what))?;
        match document.says(what) {
            // As it is defined, but not plugged.
            true if words.is_empty() => Ok((document, self.host.config(self.row)?)),
            true => Err(self.is_defined(what)),
            false => self.checked(what, write),
        }
    }

    /// The definition with a device in it: `arguments` has what the words say, typed.
    fn device_defined(
        &self,
        id: &str,
        words: &[String],
        arguments: &Value,
    ) -> Result<Document, Error> {
        let _: DeviceName = id.parse().map_err(|error| settings(id, error))?;
        let table = format!("device.{id}");
        let keys = words.iter().filter_map(|word| word.split_once('='));
        let keys = keys.map(|(key, _)| key.trim_end_matches(':'));
        let mut values: Vec<(String, toml_edit::Value)> = Vec::new();
        for key in keys.filter(|key| *key != "id") {
            let value = match &arguments[key] {
                Value::Bool(value) => Some((*value).into()),
                Value::String(text) => Some(text.into()),
                Value::Number(number) => number.as_i64().map(toml_edit::Value::from),
                _ => None,
            };
            let value = value.ok_or_else(|| {
                settings(
                    id,
                    format_args!("`{key}` cannot be written into a definition"),
                )
            })?;
            values.push((format!("{table}.{key}"), value));
        }
        let (document, _) = self.checked(&table, &|document| {
            values
                .iter()
                .try_for_each(|(key, value)| document.set(key, value.clone()))
        })?;
        Ok(document)
    }

    fn checked(&self, what: &str, write: Edit<'_>) -> Result<(Document, VmConfig), Error> {
        let file = self.host.paths.vm(&self.row.name).definition();
        edited(self.host, &self.row.definition, &file, write).map_err(|error| match error {
            Error::Config(error) => {
                let mistakes = error.mistakes().iter();
                let said: Vec<&str> = mistakes.map(|mistake| mistake.message.as_str()).collect();
                settings(what, said.join("; "))
            }
            other => other,
        })
    }

    fn is_defined(&self, what: &str) -> Error {
        DeviceError::Defined {
            name: self.row.name.clone(),
            what: what.to_owned(),
        }
        .into()
    }

    fn is_plugged(&self, id: &str) -> Error {
        DeviceError::Plugged {
            name: self.row.name.clone(),
            id: id.to_owned(),
        }
        .into()
    }

    /// Makes the image that a disk of some size lacks; one without a size must be there.
    fn make_image(
        &self,
        name: &DeviceName,
        path: &Path,
        disk: &config::Disk,
    ) -> Result<Option<PathBuf>, Error> {
        match (File::open(path), disk.size) {
            (Ok(_), _) => Ok(None),
            (Err(error), Some(size)) if error.kind() == ErrorKind::NotFound => {
                image::create(path, disk.format.as_str(), size.bytes())?;
                let mut store = self.host.store()?;
                store.record_disk(&self.row.name, &made_disk(path)?)?;
                Ok(Some(path.to_owned()))
            }
            (Err(error), None) if error.kind() == ErrorKind::NotFound => Err(Error::NoDisk {
                disk: name.to_string(),
                path: path.to_owned(),
            }),
            (Err(source), _) => Err(Error::Missing {
                what: format!("disk `{name}`"),
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Says of a disk that QEMU could not lock who has it.
    fn or_in_use(&self, name: &DeviceName, path: &Path, error: Error) -> Error {
        match &error {
            Error::Qmp(qmp::Error::Refused { desc, .. }) if desc.contains(" lock") => {
                DeviceError::InUse {
                    disk: name.to_string(),
                    path: path.to_owned(),
                    by: self.user_of(path),
                }
                .into()
            }
            _ => error,
        }
    }

    /// The running VM that has a disk with that file.
    fn user_of(&self, path: &Path) -> Option<VmName> {
        let all = self.host.store().ok()?.list().ok()?;
        all.into_iter().map(|vm| vm.name).find(|name| {
            // There while it runs.
            let file = self.host.paths.sockets(name).definition();
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let dir = self.host.paths.vm(name);
            VmConfig::parse(&text, &file).is_ok_and(|config| {
                let mut disks = config.disks.iter();
                disks.any(|(name, disk)| disk.path(name, dir.path()).as_deref() == Some(path))
            })
        })
    }

    fn added(&self, device: &Part) -> Added {
        Added {
            vm: self.row.name.clone(),
            id: device.id().to_owned(),
            driver: device.driver().to_owned(),
            bus: None,
            controller: None,
            persistent: false,
            was_plugged: false,
            made: None,
        }
    }

    /// Of what is plugged already, the rest: what a command that was killed did not come to.
    fn only_persist(
        &mut self,
        target: &Target,
        mut added: Added,
        is_it: bool,
        with: &Document,
    ) -> Result<Added, Error> {
        if !is_it || !self.options.persist {
            return Err(self.is_plugged(&added.id));
        }
        added.was_plugged = true;
        self.finish(target, added, Some(with))
    }

    /// Tells the definitions, of which `with` has the device.
    fn finish(
        &mut self,
        target: &Target,
        mut added: Added,
        with: Option<&Document>,
    ) -> Result<Added, Error> {
        added.controller = self.controller.take();
        let Some(with) = with else {
            return Ok(added);
        };
        let edit = |document: &mut Document| definition::with(document, with, target);
        note(self.host, &self.row.name, &edit);
        if self.options.persist {
            keep(self.host, &self.row.name, &edit).map_err(|source| DeviceError::NotKept {
                name: self.row.name.clone(),
                what: target.to_string(),
                done: "plugged",
                source: source.into(),
            })?;
            added.persistent = true;
        }
        Ok(added)
    }
}

fn on(device: &Part, bus: Option<&str>) -> Step {
    match bus {
        Some(bus) => (&device.clone().on(bus)).into(),
        None => device.into(),
    }
}
