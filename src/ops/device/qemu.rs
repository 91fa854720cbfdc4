//! What a running QEMU is asked and told about its devices.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::ops::{Error, Host, monitor, qmp as ops_qmp};
use crate::qemu::disk;
use crate::qemu::part::{Kind, Part};
use crate::qmp::schema::FurtherType;
use crate::qmp::{self, Monitor};
use crate::vm::VmName;

use super::Error as DeviceError;

/// How long the monitor is waited for.
const OPEN: Duration = Duration::from_secs(5);

/// How long QEMU may take for one command: opening an image on a slow network is one.
const ANSWER: Duration = Duration::from_secs(60);

/// The monitor, and the devices that have an id.
pub(super) struct Qemu {
    pub(super) monitor: Monitor,
    /// Drivers by id.
    pub(super) devices: BTreeMap<String, String>,
    name: VmName,
}

/// How long QEMU may take to let go of what a device had that is gone.
const LET_GO: Duration = Duration::from_secs(5);

/// Between tries.
const PAUSE: Duration = Duration::from_millis(5);

impl Qemu {
    pub(super) fn open(host: &Host, name: &VmName) -> Result<Self, Error> {
        let mut monitor = monitor::open(host, name, OPEN)?;
        let devices = monitor
            .execute("qom-list", json!({ "path": PERIPHERAL }))
            .map_err(monitor::or_why_gone(host, name))?;
        monitor.set_timeout(ANSWER);
        Ok(Self {
            monitor,
            devices: children(&devices).into_iter().collect(),
            name: name.clone(),
        })
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.devices.contains_key(id)
    }

    /// Where the driver's device is to be plugged, if that is not for QEMU to choose:
    /// into a free port, for a PCI device on a board that has ports.
    pub(super) fn free_port(&mut self, driver: &str) -> Result<Option<String>, Error> {
        if !self.is_pci(driver)? {
            return Ok(None);
        }
        let ports: Vec<String> = self
            .devices
            .iter()
            .filter(|(_, driver)| *driver == "pcie-root-port")
            .map(|(id, _)| id.clone())
            .collect();
        let mut asked = Vec::new();
        for port in &ports {
            let path = json!({ "path": format!("{PERIPHERAL}/{port}/{port}") });
            asked.push(self.monitor.send("qom-list", path)?);
        }
        let mut free = None;
        for (id, port) in asked.into_iter().zip(&ports) {
            let bus = self.monitor.receive(id)?;
            let is_taken = names(&bus).any(|name| name.starts_with("child["));
            if !is_taken && free.is_none() {
                free = Some(port.clone());
            }
        }
        match free {
            None if !ports.is_empty() => Err(DeviceError::NoPort {
                name: self.name.clone(),
                ports: ports.len(),
            }
            .into()),
            free => Ok(free),
        }
    }

    pub(super) fn is_pci(&mut self, driver: &str) -> Result<bool, Error> {
        let properties = ops_qmp::device_properties(&mut self.monitor, driver)?;
        let has = |name| properties.contains_key(name);
        Ok(has("addr") && matches!(properties.get("multifunction"), Some(FurtherType::Bool)))
    }

    /// The driver of a device, by its id or by the path of one that has none.
    pub(super) fn driver(&mut self, id: &str) -> Result<Option<String>, Error> {
        let prefix = format!("{ANONYMOUS}/");
        let Some(child) = id.strip_prefix(&prefix) else {
            return Ok(self.devices.get(id).cloned());
        };
        let all = json!({ "path": ANONYMOUS });
        let all = children(&self.monitor.execute("qom-list", all)?);
        let found = all.into_iter().find(|(name, _)| name == child);
        Ok(found.map(|(_, driver)| driver))
    }

    /// Whether a device is of a kind, and on a bus, that lets it go while the guest runs.
    pub(super) fn can_unplug(&mut self, id: &str) -> Result<bool, Error> {
        let path = match id.starts_with('/') {
            true => id.to_owned(),
            false => format!("{PERIPHERAL}/{id}"),
        };
        let property = json!({ "path": path, "property": "hotpluggable" });
        Ok(self.monitor.execute("qom-get", property)? == true)
    }

    /// Takes all steps, in order; undoes them if one is refused.
    pub(super) fn plug(&mut self, steps: &[Step]) -> Result<(), qmp::Error> {
        for (done, step) in steps.iter().enumerate() {
            let plugged = self.monitor.execute(step.kind.command(), &step.arguments);
            let Err(error) = plugged else {
                continue;
            };
            // After any other error QEMU may have done it; the next command will see.
            if let qmp::Error::Refused { .. } = error {
                for step in steps[..done].iter().rev() {
                    // What will not go is found by the next command, too.
                    let _ = self.unmake(step.kind, &step.id);
                }
            }
            return Err(error);
        }
        Ok(())
    }

    /// Makes a part go; a device only asks its guest.
    pub(super) fn unmake(&mut self, kind: Kind, id: &str) -> Result<(), qmp::Error> {
        let (command, key) = kind.removal();
        self.monitor.execute(command, json!({ key: id })).map(drop)
    }

    /// Whether there is an object of this id.
    pub(super) fn has_object(&mut self, id: &str) -> Result<bool, Error> {
        let all = self
            .monitor
            .execute("qom-list", json!({ "path": "/objects" }))?;
        Ok(names(&all).any(|name| name == id))
    }

    /// Closes what was behind a disk; whether there was something.
    pub(super) fn close_disk(&mut self, id: &str) -> Result<bool, Error> {
        let nodes = self.nodes(id)?;
        for (node, _) in &nodes {
            self.close(node)?;
        }
        let limits = disk::limits_id(id);
        if self.has_object(&limits)? {
            self.unmake(Kind::Object, &limits)?;
        }
        Ok(!nodes.is_empty())
    }

    /// Closes a block node. QEMU may take a moment to let a device go that has no id any more.
    fn close(&mut self, node: &str) -> Result<(), Error> {
        let deadline = Instant::now() + LET_GO;
        loop {
            match self.unmake(Kind::Blockdev, node) {
                Err(qmp::Error::Refused { desc, .. })
                    if desc.ends_with("is in use") && Instant::now() < deadline =>
                {
                    thread::sleep(PAUSE);
                }
                done => return Ok(done?),
            }
        }
    }

    /// The block nodes of a disk that there are, the upper one first.
    pub(super) fn nodes(&mut self, id: &str) -> Result<Vec<(String, Value)>, Error> {
        let all = self
            .monitor
            .execute("query-named-block-nodes", json!({ "flat": true }))?;
        let [limit, format, file] = disk::node_names(id);
        let mut layers: Vec<(i64, String)> = all
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|node| {
                let name = node["node-name"].as_str()?;
                Some((disk::layer(id, name)?, name.to_owned()))
            })
            .collect();
        // The last one is the upper one.
        layers.sort_by_key(|(number, _)| -number);
        let layers = layers.into_iter().map(|(_, name)| name);
        let mut found = Vec::new();
        for name in [limit].into_iter().chain(layers).chain([format, file]) {
            let node = all.as_array().into_iter().flatten();
            if let Some(node) = node.into_iter().find(|node| node["node-name"] == *name) {
                found.push((name, node["file"].clone()));
            }
        }
        Ok(found)
    }
}

/// One thing to be added.
pub(super) struct Step {
    pub(super) kind: Kind,
    pub(super) id: String,
    pub(super) arguments: Value,
}

impl From<&Part> for Step {
    fn from(part: &Part) -> Self {
        Self {
            kind: part.kind(),
            id: part.id().to_owned(),
            arguments: part.arguments(),
        }
    }
}

/// Where QEMU keeps the devices that have an id.
pub(super) const PERIPHERAL: &str = "/machine/peripheral";

/// Where QEMU keeps those that were given none.
pub(super) const ANONYMOUS: &str = "/machine/peripheral-anon";

/// The children in an answer to `qom-list`: name and type.
pub(super) fn children(list: &Value) -> Vec<(String, String)> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let kind = entry["type"].as_str()?.strip_prefix("child<")?;
            let name = entry["name"].as_str()?;
            Some((name.to_owned(), kind.trim_end_matches('>').to_owned()))
        })
        .collect()
}

fn names(list: &Value) -> impl Iterator<Item = &str> {
    let entries = list.as_array().into_iter().flatten();
    entries.filter_map(|entry| entry["name"].as_str())
}
