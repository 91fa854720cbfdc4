//! Options of QEMU into our keys, where one means the same.

use std::ops::Range;

use toml::de::DeValue;

use super::{Converter, plain_path, text};

/// One option of QEMU's command line.
#[derive(Debug)]
pub(super) struct Opt {
    /// Without its dash.
    pub(super) name: String,
    pub(super) value: Option<String>,
    pub(super) span: Range<usize>,
    /// Whether the next word, if it is no option, is its value.
    pub(super) takes_next: bool,
}

impl Opt {
    pub(super) fn new(name: &str, value: Option<String>, span: Range<usize>) -> Self {
        Self {
            name: name.to_owned(),
            value,
            span,
            takes_next: false,
        }
    }
}

/// Options whose value is a path.
const PATHS: [&str; 6] = ["kernel", "initrd", "bios", "pflash", "dtb", "option-rom"];
/// What a path follows within a value.
const BEFORE_PATHS: [&str; 4] = ["file=", "path=", "socket=", "unix:"];

impl<'a> Converter<'_, 'a> {
    /// All options, in their order.
    pub(super) fn options(&mut self, options: Vec<Opt>, nowhere: &Range<usize>) {
        let bare = options.iter().any(|option| option.name == "nodefaults");
        let nets = options
            .iter()
            .any(|option| matches!(&*option.name, "net" | "netdev" | "nic"));
        let options = self.networks(options);
        for option in options {
            self.native(option);
        }
        if !self.says("machine") {
            // QEMU's default, which the guest was installed on.
            self.set("machine", nowhere, text("pc"));
            self.note("machine = \"pc\", as it was; new VMs get \"q35\"");
        }
        if nets && !self.says("net") || bare && !nets {
            self.set("net", nowhere, DeValue::Table(Default::default()));
        } else if !nets {
            // The NIC that QEMU gives a VM that is told of none.
            match self
                .tree
                .get("machine")
                .and_then(|machine| machine.get_ref().as_str())
            {
                Some("pc") => self.set("net.net0.model", nowhere, text("e1000")),
                Some("q35") => self.set("net.net0.model", nowhere, text("e1000e")),
                _ => return,
            }
            self.note("its network is an emulated Intel card, as it was; without `net.net0.model` it is a fast virtio one");
        }
    }

    fn native(&mut self, option: Opt) {
        let Opt {
            name, value, span, ..
        } = &option;
        let whole = value.as_deref().unwrap_or_default();
        let (first, rest) = whole.split_once(',').unwrap_or((whole, ""));
        match (&**name, first, rest) {
            ("m", _, _) => {
                let size = first.strip_prefix("size=").unwrap_or(first);
                // QEMU counts in mebibytes what has no unit.
                let unit = if size.bytes().all(|b| b.is_ascii_digit()) {
                    "M"
                } else {
                    ""
                };
                self.set("memory", span, text(format!("{size}{unit}")));
                if !rest.is_empty() {
                    self.verbatim(&option);
                }
            }
            ("smp", _, _) => {
                let number = first.strip_prefix("cpus=").unwrap_or(first);
                let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
                if plain {
                    self.set_number("cpus", span, number);
                }
                if !plain || !rest.is_empty() {
                    self.verbatim(&option);
                }
            }
            ("cpu", model, "") if !model.is_empty() => self.set("cpu", span, text(model)),
            ("M" | "machine", _, _) => self.machine(whole, span),
            ("enable-kvm", "", "") => self.set("accel", span, text("kvm")),
            ("accel", "kvm" | "tcg", "") => self.set("accel", span, text(first)),
            ("display", "none" | "gtk" | "sdl", "") => self.set("display", span, text(first)),
            ("vga", "none" | "std" | "virtio" | "qxl", "") => self.set("vga", span, text(first)),
            ("vga", _, _) => {
                self.set("vga", span, text("none"));
                self.verbatim(&option);
            }
            ("kernel" | "initrd", _, _) if !whole.is_empty() => {
                self.set(name, span, text(plain_path(whole)));
            }
            ("append", _, _) => self.set("append", span, text(whole)),
            ("cdrom", path, "") if !path.is_empty() => self.cdrom(path, span),
            ("drive", _, _) => match cdrom_image(whole) {
                Some(path) => self.cdrom(path, span),
                None => self.verbatim(&option),
            },
            ("nographic", "", "") => {
                self.set("display", span, text("none"));
                self.note("`nographic`: its console is kept, see maqet-logs(1)");
            }
            ("serial", "stdio" | "mon:stdio", "") => {
                self.note("`serial: stdio`: its console is kept, see maqet-logs(1)");
            }
            ("serial", "none", "") => self.set("serial", span, DeValue::Boolean(false)),
            ("serial", _, _) => {
                self.set("serial", span, DeValue::Boolean(false));
                self.verbatim(&option);
            }
            ("monitor", "stdio" | "none", "") => {
                self.note("`monitor`: see maqet-hmp(1) for QEMU's human monitor");
            }
            ("nodefaults", "", "") => {}
            ("daemonize", _, _) => self.mistake(
                span.clone(),
                "QEMU is the main process of a unit, and cannot go to the background: leave it out",
            ),
            _ => self.verbatim(&option),
        }
    }

    fn cdrom(&mut self, path: &str, span: &Range<usize>) {
        let disks = self
            .tree
            .get("disk")
            .and_then(|disks| disks.get_ref().as_table());
        let is_free = |name: &String| disks.is_none_or(|disks| !disks.contains_key(&**name));
        let names = std::iter::once("cdrom".to_owned()).chain((2..).map(|i| format!("cdrom{i}")));
        let name = names
            .into_iter()
            .find(is_free)
            .expect("there are more names than disks");
        self.set(&format!("disk.{name}.file"), span, text(plain_path(path)));
        self.set(&format!("disk.{name}.interface"), span, text("cdrom"));
    }

    /// `q35,accel=kvm,smm=on`.
    fn machine(&mut self, value: &str, span: &Range<usize>) {
        let mut others = Vec::new();
        for (i, part) in value.split(',').enumerate() {
            match part.split_once('=') {
                None if i == 0 => self.set("machine", span, text(part)),
                Some(("type", kind)) => self.set("machine", span, text(kind)),
                Some(("accel", accel @ ("kvm" | "tcg"))) => self.set("accel", span, text(accel)),
                _ => others.push(part),
            }
        }
        if !others.is_empty() {
            self.pass(span, "-machine");
            self.pass(span, others.join(","));
        }
    }

    /// An option for QEMU itself.
    pub(super) fn verbatim(&mut self, option: &Opt) {
        self.pass(&option.span, format!("-{}", option.name));
        let Some(value) = &option.value else { return };
        let value = if PATHS.contains(&&*option.name) {
            self.absolute(value)
        } else {
            let parts: Vec<String> = value.split(',').map(|part| self.with_path(part)).collect();
            parts.join(",")
        };
        self.pass(&option.span, value);
    }

    fn with_path(&self, part: &str) -> String {
        for before in BEFORE_PATHS {
            match part.strip_prefix(before) {
                Some(path) if !path.is_empty() => {
                    return format!("{before}{}", self.absolute(path));
                }
                _ => {}
            }
        }
        part.to_owned()
    }

    /// A number, which stands within `span`: TOML's numbers are made from text only.
    fn set_number(&mut self, key: &str, span: &Range<usize>, digits: &str) {
        let written = &self.text[span.clone()];
        let number = written
            .find(digits)
            .and_then(|at| DeValue::parse(&written[at..at + digits.len()]).ok());
        match number {
            Some(number) => self.set(key, span, number.into_inner()),
            None => self.mistake(span.clone(), "expected a number"),
        }
    }
}

/// The image of a `-drive` that is a CD-ROM and nothing more.
fn cdrom_image(drive: &str) -> Option<&str> {
    let mut image = None;
    let mut is_cdrom = false;
    for part in drive.split(',') {
        match part.split_once('=')? {
            ("file", path) => image = Some(path),
            ("media", "cdrom") => is_cdrom = true,
            ("format", "raw") | ("if", "ide") | ("readonly", "on") => {}
            _ => return None,
        }
    }
    image.filter(|path| is_cdrom && !path.is_empty())
}
