//! What VMs want of the host that only one of them can have, and who else wants it.

use std::borrow::Borrow;
use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::config::{HostPort, Mac, NetKind, Protocol, VmConfig};
use crate::store::{Row, Store};
use crate::vm::VmName;

use super::controllers::Controllers;
use super::disk::{Inode, User, Users};
use super::{Error, Host, add};

/// Something that one VM at a time can have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Thing {
    Mac(Mac),
    Port(Protocol, u16),
    File(FileAt),
    Tap(String),
    Socket(PathBuf),
    Pci(String),
}

/// That a VM wants it.
#[derive(Clone, Debug)]
struct Claim {
    thing: Thing,
    /// The network, or the key, that it is for.
    of: String,
    how: How,
}

/// What else decides whether two can have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Alone,
    /// Others may have it as well who say so, too.
    Shared,
    /// What a guest prints is added to the file; nothing of QEMU's guards it.
    Printed,
    At(HostPort),
}

/// A file, whatever name it has.
#[derive(Clone, Debug)]
struct FileAt {
    path: PathBuf,
    /// Of one that is there.
    inode: Option<Inode>,
}

impl FileAt {
    fn of(path: PathBuf) -> Self {
        let inode = Inode::of(&path).ok().flatten();
        Self { path, inode }
    }

    /// Of one that is not there, its name.
    fn key(&self) -> (Option<Inode>, Option<&Path>) {
        let name = self.inode.is_none().then_some(&*self.path);
        (self.inode, name)
    }
}

impl PartialEq for FileAt {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for FileAt {}

impl Hash for FileAt {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

/// What all VMs want, each definition read once, and only those that may matter.
pub(super) struct Claims<'a> {
    pub host: &'a Host,
    pub controllers: Controllers<'a>,
    /// Whether all are read at once, for many VMs to be compared with.
    whole: bool,
    known: RefCell<Known>,
    users: OnceCell<Users>,
}

#[derive(Default)]
struct Known {
    words: HashSet<String>,
    /// Those that are in `by_thing` as they are stored, and as they are about to be.
    stored: HashSet<VmName>,
    to_come: HashSet<VmName>,
    by_thing: HashMap<Thing, Vec<Entry>>,
    /// What the definitions say that were read: none is read twice.
    read: HashMap<VmName, (String, Vec<Claim>)>,
    /// For whom nobody else was to want a thing, and who did.
    asked: Vec<(VmName, Claim, &'static str, Vec<VmName>)>,
}

/// Another VM that has the address of a network.
pub(super) struct RivalMac {
    pub net: String,
    /// The address, if it is in no text.
    pub derived: Option<Mac>,
    pub vm: VmName,
    /// For which of its networks.
    pub theirs: String,
}

struct Entry {
    name: VmName,
    claim: Claim,
    is_stored: bool,
}

impl<'a> Claims<'a> {
    /// For `count` VMs that are about to be checked.
    pub fn for_vms(host: &'a Host, count: usize) -> Self {
        Self {
            host,
            controllers: Controllers::new(host),
            whole: count > 1,
            known: RefCell::default(),
            users: OnceCell::new(),
        }
    }

    /// Counts a VM as it is about to be stored, and no more as it was.
    pub fn expect(&self, row: &Row, config: &VmConfig) {
        let known = &mut *self.known.borrow_mut();
        known.to_come.insert(row.name.clone());
        known.learn(&row.name, all_claims(self.host, row, config), false);
    }

    /// Whether those who were told to want a thing, or that nobody does, are still so: for
    /// one who is about to write, and keeps others from it. If not, all is to be checked anew.
    pub fn still_hold(&self, store: &Store) -> Result<bool, Error> {
        let asked = {
            let known = &mut *self.known.borrow_mut();
            if known.asked.is_empty() {
                return Ok(true);
            }
            known.words.clear();
            known.stored.clear();
            for entries in known.by_thing.values_mut() {
                entries.retain(|it| !it.is_stored);
            }
            std::mem::take(&mut known.asked)
        };
        for (own, claim, word, before) in &asked {
            let now = self.rivals(own, claim, word, || Ok(Some(store)))?;
            if !now.iter().map(|(name, _)| name).eq(before) {
                return Ok(false);
            }
        }
        self.known.borrow_mut().asked = asked;
        Ok(true)
    }

    /// The networks whose address another VM has. With the VM's UUID also those whose address
    /// derives from it, but for a `user` network, where nobody else is.
    pub fn rival_macs(
        &self,
        own: &VmName,
        uuid: Option<&str>,
        config: &VmConfig,
    ) -> Result<Vec<RivalMac>, Error> {
        let mut found = Vec::new();
        for (of, net) in &config.nets {
            let derived = match (net.mac, uuid) {
                (None, Some(uuid)) if net.kind != NetKind::User => {
                    Some(Mac::derive(uuid, of.as_str()))
                }
                _ => None,
            };
            let Some(mac) = net.mac.or(derived) else {
                continue;
            };
            let claim = Claim {
                thing: Thing::Mac(mac),
                of: of.to_string(),
                how: How::Alone,
            };
            // Theirs may be derived, and in no text.
            for (vm, theirs) in self.ask(own, &claim, "")? {
                found.push(RivalMac {
                    net: claim.of.clone(),
                    derived,
                    vm,
                    theirs: theirs.of,
                });
            }
        }
        Ok(found)
    }

    /// A UUID for a new VM, none of whose addresses that derive from it another one has.
    pub fn new_uuid(&self, config: &VmConfig) -> Result<String, Error> {
        loop {
            let uuid = add::uuid()?;
            let rivals = self.rival_macs(&config.name, Some(&uuid), config)?;
            if rivals.iter().all(|rival| rival.derived.is_none()) {
                return Ok(uuid);
            }
        }
    }

    /// The files that a guest would print into, although they are something else: for each
    /// the key that names it, and what it is.
    pub fn overwritten(
        &self,
        own: &VmName,
        config: &VmConfig,
    ) -> Result<Vec<(String, String)>, Error> {
        let all = claims(self.host, own, config);
        let mut found = Vec::new();
        for claim in &all {
            let Thing::File(file) = &claim.thing else {
                continue;
            };
            let path = file.path.display();
            let mut add = |what: String| found.push((claim.of.clone(), format!("{path} {what}")));
            if claim.how != How::Printed {
                let printing = |it: &(VmName, Claim)| it.1.how == How::Printed;
                let rivals = self.ask(own, claim, "port")?;
                if let Some((vm, theirs)) = rivals.into_iter().find(printing) {
                    let port = theirs.of.trim_end_matches(".file");
                    add(format!(
                        "is what the guest of VM `{vm}` prints into, by its `{port}`"
                    ));
                }
                continue;
            }
            // `config` has told of the same name.
            let is_told = config
                .disks
                .values()
                .any(|disk| disk.file.as_deref() == Some(&file.path));
            let is_it = |it: &&Claim| it.thing == claim.thing && it.how != How::Printed && !is_told;
            let not_printed = |it: &(VmName, Claim)| it.1.how != How::Printed;
            if let Some(ours) = all.iter().find(is_it) {
                add(format!(
                    "is `{}`, too: nothing is to be printed into it",
                    ours.of
                ));
            } else if let Some((vm, theirs)) =
                self.ask(own, claim, "")?.into_iter().find(not_printed)
            {
                add(format!(
                    "is `{}` of VM `{vm}`: nothing is to be printed into it",
                    theirs.of
                ));
            } else if let Some(user) = self.stands_on(&file.path)? {
                add(format!(
                    "is what disk `{}` of VM `{}` stands on: nothing is to be printed into it",
                    user.disk, user.vm
                ));
            }
        }
        Ok(found)
    }

    /// A disk that stands on a file, if one does.
    pub fn stands_on(&self, path: &Path) -> Result<Option<User>, Error> {
        Ok(self.users(path)?.into_iter().find(|user| user.as_base))
    }

    /// Those who have a file, or stand on it.
    pub fn users(&self, path: &Path) -> Result<Vec<User>, Error> {
        let users = match self.users.get() {
            Some(users) => users,
            None => {
                let users = Users::find(self.host)?;
                self.users.get_or_init(|| users)
            }
        };
        users.of(path)
    }

    /// What else of a VM's another has, too: a sentence each.
    pub fn conflicts(&self, config: &VmConfig) -> Result<Vec<String>, Error> {
        let mut found = Vec::new();
        for claim in claims(self.host, &config.name, config) {
            let word = match self.whole {
                true => String::new(),
                false => claim.thing.word(),
            };
            let store = || self.host.existing_store();
            for (name, _) in self.rivals(&config.name, &claim, &word, store)? {
                let conflict = match (&claim.thing, claim.how) {
                    (Thing::File(file), How::Printed) => format!(
                        "the guest of VM `{name}` prints into {}, too",
                        file.path.display()
                    ),
                    (thing, _) => {
                        format!("VM `{name}` {thing}, too: only one of them can run at a time")
                    }
                };
                // It may have it for two things.
                if !found.contains(&conflict) {
                    found.push(conflict);
                }
            }
        }
        Ok(found)
    }

    /// The other VMs that want the same, which is looked at again when it is written.
    fn ask(
        &self,
        own: &VmName,
        claim: &Claim,
        word: &'static str,
    ) -> Result<Vec<(VmName, Claim)>, Error> {
        let word = if self.whole { "" } else { word };
        let rivals = self.rivals(own, claim, word, || self.host.existing_store())?;
        let names = rivals.iter().map(|(name, _)| name.clone()).collect();
        let asked = (own.clone(), claim.clone(), word, names);
        self.known.borrow_mut().asked.push(asked);
        Ok(rivals)
    }

    /// The other VMs that want the same, of those that have a word in their definitions.
    fn rivals<S: Borrow<Store>>(
        &self,
        own: &VmName,
        claim: &Claim,
        word: &str,
        store: impl FnOnce() -> Result<Option<S>, Error>,
    ) -> Result<Vec<(VmName, Claim)>, Error> {
        let known = &mut *self.known.borrow_mut();
        if known.words.insert(word.to_owned())
            && let Some(store) = store()?
        {
            for row in store.borrow().rows_with(word)? {
                known.take(self.host, &row);
            }
        }
        let entries = known.by_thing.get(&claim.thing).into_iter().flatten();
        Ok(entries
            .filter(|it| it.name != *own)
            .filter(|it| !(it.is_stored && known.to_come.contains(&it.name)))
            .filter(|it| claim.excludes(&it.claim))
            .map(|it| (it.name.clone(), it.claim.clone()))
            .collect())
    }
}

impl Known {
    /// Learns what a VM wants as it is stored.
    fn take(&mut self, host: &Host, row: &Row) {
        if !self.stored.insert(row.name.clone()) {
            return;
        }
        let claims = match self.read.get(&row.name) {
            Some((definition, claims)) if *definition == row.definition => claims.clone(),
            // Nothing is known of one that cannot be read.
            _ => match host.config(row) {
                Ok(config) => all_claims(host, row, &config),
                Err(_) => return,
            },
        };
        let read = (row.definition.clone(), claims.clone());
        self.read.insert(row.name.clone(), read);
        self.learn(&row.name, claims, true);
    }

    fn learn(&mut self, name: &VmName, claims: Vec<Claim>, is_stored: bool) {
        for claim in claims {
            let entries = self.by_thing.entry(claim.thing.clone()).or_default();
            let name = name.clone();
            entries.push(Entry {
                name,
                claim,
                is_stored,
            });
        }
    }
}

/// What a VM wants, with the addresses that it is given.
fn all_claims(host: &Host, row: &Row, config: &VmConfig) -> Vec<Claim> {
    let macs = config.nets.iter().map(|(of, net)| Claim {
        thing: Thing::Mac(
            net.mac
                .unwrap_or_else(|| Mac::derive(&row.uuid, of.as_str())),
        ),
        of: of.to_string(),
        how: How::Alone,
    });
    macs.chain(claims(host, &row.name, config)).collect()
}

/// What a VM wants, but for addresses.
fn claims(host: &Host, name: &VmName, config: &VmConfig) -> Vec<Claim> {
    let mut found = Vec::new();
    let mut add = |of: &str, thing, how| {
        let of = of.to_owned();
        found.push(Claim { thing, of, how });
    };
    for (key, port) in config.host_ports() {
        let thing = Thing::Port(port.protocol, port.port);
        add(&key, thing, How::At(port));
    }
    for (of, net) in &config.nets {
        let of = of.as_str();
        if let Some(ifname) = &net.ifname {
            add(of, Thing::Tap(ifname.to_string()), How::Alone);
        }
        for socket in [&net.listen, &net.local].into_iter().flatten() {
            add(of, Thing::Socket(socket.clone()), How::Alone);
        }
    }
    for (of, disk) in &config.disks {
        if let Some(path) = disk.path(of, host.paths.vm(name).path()) {
            let how = match disk.read_only {
                true => How::Shared,
                false => How::Alone,
            };
            add(
                &format!("disk.{of}.file"),
                Thing::File(FileAt::of(path)),
                how,
            );
        }
    }
    for (key, path) in [
        ("kernel", &config.kernel),
        ("initrd", &config.initrd),
        ("dtb", &config.dtb),
    ] {
        if let Some(path) = path {
            add(key, Thing::File(FileAt::of(path.clone())), How::Shared);
        }
    }
    for (of, port) in &config.ports {
        // A terminal, or nothing at all, can be everybody's.
        if let Some(path) = &port.file
            && !is_character_device(path)
        {
            let thing = Thing::File(FileAt::of(path.clone()));
            add(&format!("port.{of}.file"), thing, How::Printed);
        }
    }
    for (of, pci) in &config.pcis {
        add(
            of.as_str(),
            Thing::Pci(pci.address.as_str().to_owned()),
            How::Alone,
        );
    }
    found
}

fn is_character_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.file_type().is_char_device())
}

impl Claim {
    fn excludes(&self, other: &Self) -> bool {
        match (self.how, other.how) {
            (How::Shared, How::Shared) => false,
            (How::At(ours), How::At(theirs)) => ours.collides_with(&theirs),
            _ => true,
        }
    }
}

impl Thing {
    /// What is mostly in the text of a definition that wants it.
    fn word(&self) -> String {
        let file_name = |path: &Path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.unwrap_or_default().to_owned()
        };
        match self {
            // It may be derived.
            Self::Mac(_) => String::new(),
            Self::Port(_, port) => port.to_string(),
            Self::File(file) => file_name(&file.path),
            Self::Socket(path) => file_name(path),
            Self::Tap(word) | Self::Pci(word) => word.clone(),
        }
    }
}

/// What a VM that has it does.
impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(mac) => write!(f, "has the address {mac}"),
            Self::Port(_, port) => write!(f, "has port {port} of the host"),
            Self::File(file) => write!(f, "has the file {}", file.path.display()),
            Self::Tap(name) => write!(f, "has the tap device `{name}`"),
            Self::Socket(path) => write!(f, "has the socket {}", path.display()),
            Self::Pci(address) => write!(f, "has the PCI device {address}"),
        }
    }
}
