//! Devices of the host that are given to the guest.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::schema::text_schema;
use super::text;

/// A USB device of the host: any one of a kind, or what is in a port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table",
    rename_all(serialize = "snake_case", deserialize = "kebab-case")
)]
pub struct Usb {
    /// Who made it.
    pub vendor: Option<UsbId>,
    /// What of theirs it is.
    pub product: Option<UsbId>,
    /// The bus that it is on.
    #[schemars(range(min = 1, max = 65535))]
    pub bus: Option<u16>,
    /// The port of the bus that it is in; behind hubs, `2.1.4`.
    pub port: Option<UsbPort>,
}

impl Usb {
    /// Why it does not say which device.
    pub(super) fn fault(&self) -> Option<(&'static str, &'static str)> {
        match (self.vendor, self.product, self.bus, &self.port) {
            (_, _, Some(0), _) => Some(("bus", "USB buses are numbered from 1")),
            (Some(_), Some(_), None, None) | (None, None, Some(_), Some(_)) => None,
            _ => Some((
                "",
                "a USB device is named by `vendor` and `product`, or by `bus` and `port`",
            )),
        }
    }
}

/// A number of a USB vendor or product, four hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct UsbId(u16);

/// A text that is not such a number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not the number of a USB vendor or product: four hexadecimal digits, as lsusb(8) shows them, as in \"046d\"", .0.escape_debug())]
pub struct InvalidUsbId(String);

impl UsbId {
    /// The number.
    pub fn number(self) -> u16 {
        self.0
    }
}

impl FromStr for UsbId {
    type Err = InvalidUsbId;

    fn from_str(text: &str) -> Result<Self, InvalidUsbId> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        u16::from_str_radix(digits, 16)
            .ok()
            .filter(|_| digits.len() == 4 && !digits.starts_with('+'))
            .map(Self)
            .ok_or_else(|| InvalidUsbId(text.to_owned()))
    }
}

impl fmt::Display for UsbId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}", self.0)
    }
}

impl From<UsbId> for String {
    fn from(id: UsbId) -> Self {
        id.to_string()
    }
}

impl<'de> Deserialize<'de> for UsbId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::deserialize(deserializer, "a text such as \"046d\"")
    }
}

/// A port of a USB bus, `2`, and those of the hubs that are behind it, `2.1.4`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct UsbPort(String);

/// A text that is not a port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a USB port: its number, and those on the hubs behind it, as in \"2\" or \"2.1.4\"", .0.escape_debug())]
pub struct InvalidUsbPort(String);

impl UsbPort {
    /// The port as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UsbPort {
    type Err = InvalidUsbPort;

    fn from_str(text: &str) -> Result<Self, InvalidUsbPort> {
        let is_number = |word: &str| {
            (1..4).contains(&word.len())
                && word.bytes().all(|b| b.is_ascii_digit())
                && !word.starts_with('0')
        };
        // A root port and five hubs at most, as in the USB specification.
        match text.split('.').all(is_number) && text.split('.').count() <= 6 {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidUsbPort(text.to_owned())),
        }
    }
}

impl<'de> Deserialize<'de> for UsbPort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::deserialize(deserializer, "a text such as \"2\" or \"2.1.4\"")
    }
}

/// A PCI device of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a table",
    rename_all(serialize = "snake_case", deserialize = "kebab-case")
)]
pub struct Pci {
    /// Where it is.
    pub address: PciAddress,
}

/// Where a PCI device is: domain, bus, slot and function, `0000:01:00.0`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct PciAddress(String);

/// A text that is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a PCI address: as lspci(8) shows them, as in \"0000:01:00.0\"", .0.escape_debug())]
pub struct InvalidPciAddress(String);

impl PciAddress {
    /// The address with its domain.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PciAddress {
    type Err = InvalidPciAddress;

    fn from_str(text: &str) -> Result<Self, InvalidPciAddress> {
        let is_hex =
            |word: &str, len| word.len() == len && word.bytes().all(|b| b.is_ascii_hexdigit());
        let parse = || {
            let (domain, rest) = match text.matches(':').count() {
                1 => ("0000", text),
                _ => text.split_once(':')?,
            };
            let (bus, rest) = rest.split_once(':')?;
            let (slot, function) = rest.split_once('.')?;
            let slot_number = u8::from_str_radix(slot, 16).ok()?;
            let fits = is_hex(domain, 4)
                && is_hex(bus, 2)
                && is_hex(slot, 2)
                && slot_number < 0x20
                && matches!(function, "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7");
            fits.then(|| format!("{domain}:{bus}:{slot}.{function}").to_ascii_lowercase())
        };
        parse()
            .map(Self)
            .ok_or_else(|| InvalidPciAddress(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for PciAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::deserialize(deserializer, "a PCI address such as \"0000:01:00.0\"")
    }
}

text_schema!(UsbId, "^(0x)?[0-9a-fA-F]{4}$", ["046d"]);
text_schema!(
    UsbPort,
    r"^[1-9][0-9]{0,2}(\.[1-9][0-9]{0,2}){0,5}$",
    ["2", "2.1.4"]
);
text_schema!(
    PciAddress,
    "^([0-9a-fA-F]{4}:)?[0-9a-fA-F]{2}:[01][0-9a-fA-F]\\.[0-7]$",
    ["0000:01:00.0"]
);
