//! Networks, and the NICs on them.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::schema::text_schema;
use super::{Forward, Mac, text};

/// One network, and the NIC on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table",
    rename_all(serialize = "snake_case", deserialize = "kebab-case")
)]
pub struct Net {
    /// What the NIC is connected to.
    #[serde(rename = "type")]
    pub kind: NetKind,
    /// Ports of the host that lead into the guest.
    pub forward: Vec<Forward>,
    /// Whether the guest reaches nothing, and is reached by forwards only.
    pub restrict: bool,
    /// The addresses of a user network.
    pub network: Option<Network>,
    /// The host's address on it.
    #[schemars(with = "Option<NetAddress>")]
    pub host: Option<Ipv4Addr>,
    /// The address that the guest asks for names.
    #[schemars(with = "Option<NetAddress>")]
    pub dns: Option<Ipv4Addr>,
    /// The first address that DHCP gives.
    #[schemars(with = "Option<NetAddress>")]
    pub dhcp_start: Option<Ipv4Addr>,
    /// The name that DHCP gives to the guest.
    pub hostname: Option<DomainName>,
    /// The domain that DHCP gives to the guest.
    pub domain: Option<DomainName>,
    /// The domains in which the guest is to look for names.
    pub dns_search: Vec<DomainName>,
    /// Whether a user network has IPv4.
    pub ipv4: Option<bool>,
    /// Whether a user network has IPv6.
    pub ipv6: Option<bool>,
    /// The bridge of the host that the NIC is on.
    pub bridge: Option<InterfaceName>,
    /// The tap device of the host that the NIC is behind.
    pub ifname: Option<InterfaceName>,
    /// The unix socket on which the other end of a stream connects.
    #[schemars(length(min = 1))]
    pub listen: Option<PathBuf>,
    /// The unix socket on which the other end of a stream listens.
    #[schemars(length(min = 1))]
    pub connect: Option<PathBuf>,
    /// The unix socket on which packets come in.
    #[schemars(length(min = 1))]
    pub local: Option<PathBuf>,
    /// The unix socket to which packets go.
    #[schemars(length(min = 1))]
    pub remote: Option<PathBuf>,
    /// The multicast group that VMs share.
    pub group: Option<McastGroup>,
    /// QEMU's name of the NIC.
    #[schemars(extend("default" = null))]
    pub model: String,
    /// Its address; by default one that is always the same for this VM and name.
    pub mac: Option<Mac>,
    /// Whether its cable is plugged in when the VM starts.
    pub link: bool,
    /// Its place in the order in which firmware tries to boot, the lowest first.
    pub boot_index: Option<u16>,
    /// The largest packet that the guest may send, in bytes.
    #[schemars(range(min = 68, max = 65535))]
    pub mtu: Option<u16>,
}

impl Default for Net {
    fn default() -> Self {
        Self {
            kind: NetKind::default(),
            forward: Vec::new(),
            restrict: false,
            network: None,
            host: None,
            dns: None,
            dhcp_start: None,
            hostname: None,
            domain: None,
            dns_search: Vec::new(),
            ipv4: None,
            ipv6: None,
            bridge: None,
            ifname: None,
            listen: None,
            connect: None,
            local: None,
            remote: None,
            group: None,
            model: String::new(),
            mac: None,
            link: true,
            boot_index: None,
            mtu: None,
        }
    }
}

/// What a NIC is connected to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NetKind {
    /// QEMU's own network: out through the host, in through forwards only.
    #[default]
    User,
    /// A bridge of the host, by way of qemu-bridge-helper.
    Bridge,
    /// A tap device of the host.
    Tap,
    /// A unix socket on which one of two listens.
    Stream,
    /// A unix socket on each side.
    Dgram,
    /// A multicast group on the host's loopback, for any number of VMs.
    Multicast,
}

impl NetKind {
    /// As a definition writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Bridge => "bridge",
            Self::Tap => "tap",
            Self::Stream => "stream",
            Self::Dgram => "dgram",
            Self::Multicast => "multicast",
        }
    }
}

/// How long the path of a unix socket can be (`sun_path`, unix(7)).
const MAX_SOCKET_PATH: usize = 107;

impl Net {
    /// The paths of its sockets, with their keys.
    pub(super) fn paths_mut(&mut self) -> [(&'static str, Option<&mut PathBuf>); 4] {
        [
            ("listen", self.listen.as_mut()),
            ("connect", self.connect.as_mut()),
            ("local", self.local.as_mut()),
            ("remote", self.remote.as_mut()),
        ]
    }

    /// Settings that do not go together, with the key to blame; empty for the table.
    pub(super) fn faults(&self) -> Vec<(&'static str, String)> {
        use NetKind::{Bridge, Dgram, Multicast, Stream, Tap, User};
        let mut faults = Vec::new();
        for (key, said, kind) in [
            ("forward", !self.forward.is_empty(), User),
            ("restrict", self.restrict, User),
            ("network", self.network.is_some(), User),
            ("host", self.host.is_some(), User),
            ("dns", self.dns.is_some(), User),
            ("dhcp-start", self.dhcp_start.is_some(), User),
            ("hostname", self.hostname.is_some(), User),
            ("domain", self.domain.is_some(), User),
            ("dns-search", !self.dns_search.is_empty(), User),
            ("ipv4", self.ipv4.is_some(), User),
            ("ipv6", self.ipv6.is_some(), User),
            ("bridge", self.bridge.is_some(), Bridge),
            ("ifname", self.ifname.is_some(), Tap),
            ("listen", self.listen.is_some(), Stream),
            ("connect", self.connect.is_some(), Stream),
            ("local", self.local.is_some(), Dgram),
            ("remote", self.remote.is_some(), Dgram),
            ("group", self.group.is_some(), Multicast),
        ] {
            if said && self.kind != kind {
                let (kind, other) = (self.kind.as_str(), kind.as_str());
                let message =
                    format!("a `{kind}` network has no `{key}`: that is for type `{other}`");
                faults.push((key, message));
            }
        }
        let lacks = match self.kind {
            Tap if self.ifname.is_none() => "a `tap` network needs an `ifname`, such as \"tap0\"",
            Stream if self.listen.is_some() == self.connect.is_some() => {
                "a `stream` network needs either `listen` or `connect`, the path of a socket"
            }
            Dgram if self.local.is_none() || self.remote.is_none() => {
                "a `dgram` network needs `local` and `remote`, the paths of two sockets"
            }
            Multicast if self.group.is_none() => {
                "a `multicast` network needs a `group`, such as \"230.0.0.1:1234\""
            }
            User if self.ipv4 == Some(false) && self.ipv6 == Some(false) => {
                "a network has IPv4, IPv6 or both"
            }
            _ => "",
        };
        if !lacks.is_empty() {
            faults.push(("", lacks.to_owned()));
        }
        if self.local.is_some() && self.local == self.remote {
            faults.push(("remote", "the same socket as `local`".to_owned()));
        }
        for (key, path) in [
            ("listen", &self.listen),
            ("connect", &self.connect),
            ("local", &self.local),
            ("remote", &self.remote),
        ] {
            let length = path.as_ref().map_or(0, |path| path.as_os_str().len());
            if length > MAX_SOCKET_PATH {
                let message = format!(
                    "the path of a socket has {MAX_SOCKET_PATH} bytes at most, and this one {length}"
                );
                faults.push((key, message));
            }
        }
        if self.mtu.is_some() && !self.model.starts_with("virtio-net") {
            faults.push((
                "mtu",
                "only a virtio-net NIC tells its guest an MTU".to_owned(),
            ));
        }
        if self.mtu.is_some_and(|mtu| mtu < 68) {
            faults.push(("mtu", "an MTU is 68 to 65535 bytes".to_owned()));
        }
        self.check_addresses(&mut faults);
        faults
    }

    /// The rules of libslirp, in QEMU's net/slirp.c.
    fn check_addresses(&self, faults: &mut Vec<(&'static str, String)>) {
        let network = self.network.unwrap_or_default();
        let said = [
            ("host", self.host),
            ("dns", self.dns),
            ("dhcp-start", self.dhcp_start),
        ];
        for (key, address) in said {
            if address.is_some_and(|address| !network.contains(address)) {
                faults.push((key, format!("not an address of the network {network}")));
            }
        }
        if self.dns.unwrap_or(network.host(3)) == self.host.unwrap_or(network.host(2)) {
            let key = if self.dns.is_some() { "dns" } else { "host" };
            faults.push((key, "`host` and `dns` cannot have one address".to_owned()));
        }
    }
}

/// The addresses of a user network, `10.0.2.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: Ipv4Addr,
    prefix: u8,
}

/// A text that is not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a network: write its first address and 8 to 28 bits, as in \"10.0.2.0/24\"", .0.escape_debug())]
pub struct InvalidNetwork(String);

impl Network {
    fn mask(self) -> u32 {
        u32::MAX << (32 - self.prefix)
    }

    fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask() == self.address.to_bits()
    }

    fn host(self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | ((0x200 | number) & !self.mask()))
    }
}

/// libslirp's own.
impl Default for Network {
    fn default() -> Self {
        Self {
            address: Ipv4Addr::new(10, 0, 2, 0),
            prefix: 24,
        }
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let invalid = || InvalidNetwork(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(invalid)?;
        let network = Self {
            address: address.parse().map_err(|_| invalid())?,
            prefix: prefix.parse().map_err(|_| invalid())?,
        };
        let fits = (8..=28).contains(&network.prefix)
            && network.address.to_bits() & !network.mask() == 0
            && !prefix.starts_with('+');
        fits.then_some(network).ok_or_else(invalid)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::deserialize(deserializer, "a network such as \"10.0.2.0/24\"")
    }
}

/// The name of a network interface of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct InterfaceName(String);

/// A text that is not the name of an interface.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` cannot name a network interface: 1 to 15 of A-Z a-z 0-9 `-` `_` `.` `@`", .0.escape_debug())]
pub struct InvalidInterfaceName(String);

impl InterfaceName {
    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the kernel has to say of it.
    pub fn sysfs(&self) -> PathBuf {
        Path::new("/sys/class/net").join(&self.0)
    }
}

impl FromStr for InterfaceName {
    type Err = InvalidInterfaceName;

    fn from_str(text: &str) -> Result<Self, InvalidInterfaceName> {
        // The kernel takes more (`dev_valid_name`), and the programs that name interfaces do not;
        // QEMU takes `%d` for a number to choose.
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.@".contains(&b);
        let fits = (1..16).contains(&text.len())
            && text.bytes().all(is_plain)
            && !text.starts_with(['-', '.', '@']);
        match fits {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidInterfaceName(text.to_owned())),
        }
    }
}

impl<'de> Deserialize<'de> for InterfaceName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::deserialize(deserializer, "the name of a network interface")
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The name of a host or a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct DomainName(String);

/// A text that is not the name of a host or a domain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` cannot name a host or a domain: letters, digits and `-`, with dots between them", .0.escape_debug())]
pub struct InvalidDomainName(String);

impl DomainName {
    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DomainName {
    type Err = InvalidDomainName;

    fn from_str(text: &str) -> Result<Self, InvalidDomainName> {
        let is_label = |label: &str| {
            (1..64).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        match text.len() < 254 && text.split('.').all(is_label) {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidDomainName(text.to_owned())),
        }
    }
}

impl<'de> Deserialize<'de> for DomainName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::deserialize(deserializer, "the name of a host or a domain")
    }
}

/// A multicast group and its port, `230.0.0.1:1234`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct McastGroup(SocketAddrV4);

/// A text that is not a multicast group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a multicast group: write an address from 224.0.0.0 to 239.255.255.255 and a port, as in \"230.0.0.1:1234\"", .0.escape_debug())]
pub struct InvalidMcastGroup(String);

impl McastGroup {
    /// The address and the port.
    pub fn address(self) -> SocketAddrV4 {
        self.0
    }
}

impl FromStr for McastGroup {
    type Err = InvalidMcastGroup;

    fn from_str(text: &str) -> Result<Self, InvalidMcastGroup> {
        text.parse()
            .ok()
            .filter(|it: &SocketAddrV4| it.ip().is_multicast() && it.port() > 0)
            .map(Self)
            .ok_or_else(|| InvalidMcastGroup(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for McastGroup {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::deserialize(deserializer, "a multicast group such as \"230.0.0.1:1234\"")
    }
}

/// An IPv4 address, for the schema.
enum NetAddress {}

macro_rules! octet {
    () => {
        "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
    };
}

text_schema!(
    NetAddress,
    concat!("^(", octet!(), r"\.){3}", octet!(), "$"),
    ["10.0.2.2"]
);
text_schema!(
    Network,
    concat!(
        "^(",
        octet!(),
        r"\.){3}",
        octet!(),
        "/0*([89]|1[0-9]|2[0-8])$"
    ),
    ["10.0.2.0/24"]
);
text_schema!(
    InterfaceName,
    "^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,14}$",
    ["br0"]
);
text_schema!(
    DomainName,
    r"^(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$",
    ["example.org"]
);
text_schema!(
    McastGroup,
    concat!(
        r"^2(2[4-9]|3[0-9])(\.",
        octet!(),
        "){3}:0*([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$"
    ),
    ["230.0.0.1:1234"]
);
