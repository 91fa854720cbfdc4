//! The transient unit of a VM, as D-Bus properties.
//!
//! Signatures: org.freedesktop.systemd1(5). Values over D-Bus are taken
//! literally, but for `$` in the arguments of Exec lines (facts differ between
//! systemd 252 and 254), so no argument made here may hold one.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use zbus::Variant;

use crate::vm::{GroupName, VmName};

use super::property::Setting;

/// The name of a unit, as systemd writes it.
pub type UnitName = String;

/// The name of the unit that runs a VM: `maqet-NAME.service`.
pub fn unit_name(name: &VmName) -> UnitName {
    format!("maqet-{name}.service")
}

/// The slice that the units of a group are in, below `maqet.slice`: `maqet-GROUP.slice`.
pub fn slice_name(group: &GroupName) -> UnitName {
    format!("maqet-{group}.slice")
}

/// Runs `maqet internal trim` now and then while VMs run. Not `maqet-…`: those are VMs.
pub const TRIM_TIMER: &str = "maqet.trim.timer";
const TRIM_SERVICE: &str = "maqet.trim.service";

/// How often console logs are looked at: short against the time in which a
/// guest could fill a disk, long against what a look costs (2 ms).
const TRIM_INTERVAL: Duration = Duration::from_secs(30);

/// How long a start may take: the launcher, and QEMU up to its first answer.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// What systemd gets on top of the guest's own stop timeout, before it sends SIGTERM.
pub const STOP_MARGIN: Duration = Duration::from_secs(15);

/// What the event log's monitor reads: negotiation, after which QEMU prints events.
const EVENT_LOG_INPUT: &[u8] = b"{\"execute\":\"qmp_capabilities\"}\n";

/// What a VM's transient unit is made from.
#[derive(Clone, Debug)]
pub struct Transient<'a> {
    /// The VM.
    pub name: &'a VmName,
    /// Shown by `systemctl status`; one line.
    pub description: String,
    /// The maqet program that the unit runs. UTF-8, absolute.
    pub maqet: &'a Path,
    /// What the launcher gets to see beside systemd's own variables.
    pub environment: Vec<(String, OsString)>,
    /// How long the guest may take to power down; zero if it is not to be asked.
    pub stop_timeout: Duration,
    /// Whether stopping saves its state instead of asking it.
    pub save: bool,
    /// What a start may take on top of the usual: to load a saved state, or for the
    /// guest to be up.
    pub start_time: Duration,
    /// Those that it starts after, and stops before.
    pub after: Vec<VmName>,
    /// Those of them that it does not start without. systemd stops it when one of them is stopped.
    pub requires: Vec<VmName>,
    /// How long after the start of the last of those it starts.
    pub start_delay: Duration,
    /// The group whose slice it is in.
    pub group: Option<&'a GroupName>,
    /// What its definition says of it.
    pub settings: Vec<Setting>,
    /// Where QEMU's output goes instead of the journal, when the user cannot read that.
    pub output: Option<&'a Path>,
}

pub(super) type Property<'a> = (&'a str, Variant<'static>);

/// One Exec line: path, arguments, whether a failure is ignored.
type Exec = (String, Vec<String>, bool);

impl Transient<'_> {
    /// The unit's name.
    pub fn unit(&self) -> UnitName {
        unit_name(self.name)
    }

    /// The `properties` argument of StartTransientUnit.
    pub(super) fn properties(&self) -> Vec<Property<'_>> {
        let stop_seconds = self.stop_timeout.as_secs().to_string();
        let mut power_down = vec!["power-down", "--timeout", &stop_seconds];
        if self.save {
            power_down.push("--save");
        }
        let mut properties: Vec<Property<'_>> = vec![
            ("Description", one_line(&self.description).into()),
            ("Documentation", vec!["man:maqet(1)"].into()),
            (
                "Slice",
                self.group
                    .map_or("maqet.slice".to_owned(), slice_name)
                    .into(),
            ),
            // `notify` and not `exec`: the launcher speaks for the moment when the
            // monitor sockets exist, and READY comes before ExecStartPost runs.
            ("Type", "notify".into()),
            ("NotifyAccess", "main".into()),
            (
                "ExecStart",
                self.exec(&["launch", self.name.as_str()], false),
            ),
            ("ExecStartPost", self.exec(&["ready"], false)),
            // Ignored when it fails, so that a removed maqet costs no more than the grace.
            ("ExecStop", self.exec(&power_down, true)),
            // Also after a crash, and before a restart.
            ("ExecStopPost", self.exec(&["ended"], true)),
            ("KillMode", "mixed".into()),
            ("TimeoutStartUSec", micros(START_TIMEOUT + self.start_time)),
            ("TimeoutStopUSec", micros(self.stop_timeout + STOP_MARGIN)),
            (
                "RuntimeDirectory",
                vec![format!("maqet/{}", self.name)].into(),
            ),
            ("RuntimeDirectoryMode", 0o700u32.into()),
            ("RuntimeDirectoryPreserve", "restart".into()),
            ("UMask", 0o077u32.into()),
            ("CollectMode", "inactive".into()),
            ("SyslogIdentifier", format!("maqet-{}", self.name).into()),
            ("StandardInput", "data".into()),
            ("StandardInputData", EVENT_LOG_INPUT.to_vec().into()),
        ];
        for (property, names) in [("After", &self.after), ("Requires", &self.requires)] {
            if !names.is_empty() {
                let units: Vec<UnitName> = names.iter().map(unit_name).collect();
                properties.push((property, units.into()));
            }
        }
        match self.output {
            None => {
                properties.push(("StandardOutput", "journal".into()));
                properties.push(("StandardError", "journal".into()));
            }
            Some(file) => {
                let file = file.to_string_lossy().into_owned();
                properties.push(("StandardOutputFileToAppend", file.clone().into()));
                properties.push(("StandardErrorFileToAppend", file.into()));
            }
        }
        let environment: Vec<String> = self
            .environment
            .iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", value.to_str()?)))
            .collect();
        if !environment.is_empty() {
            properties.push(("Environment", environment.into()));
        }
        // Last: of a property that is not a list, the last one holds.
        properties.extend(self.settings.iter().flat_map(Setting::properties));
        properties
    }

    fn exec(&self, args: &[&str], ignore_failure: bool) -> Variant<'static> {
        exec(self.maqet, args, ignore_failure)
    }
}

/// An Exec line that runs `maqet internal ARGS…`.
fn exec(maqet: &Path, args: &[&str], ignore_failure: bool) -> Variant<'static> {
    let argv = ["maqet", "internal"]
        .iter()
        .chain(args)
        .map(|arg| (*arg).to_owned());
    let line: Exec = (
        maqet.to_string_lossy().into_owned(),
        argv.collect(),
        ignore_failure,
    );
    vec![line].into()
}

/// The timer's properties.
pub(super) fn trim_timer() -> Vec<Property<'static>> {
    let monotonic: Vec<(String, u64)> = ["OnActiveSec", "OnUnitActiveSec"]
        .map(|base| (base.to_owned(), TRIM_INTERVAL.as_micros() as u64))
        .to_vec();
    vec![
        ("Description", "Keep the console logs of VMs bounded".into()),
        ("TimersMonotonic", monotonic.into()),
        // Whenever the machine is awake anyway.
        ("AccuracyUSec", micros(TRIM_INTERVAL / 3)),
        ("CollectMode", "inactive-or-failed".into()),
    ]
}

/// What the timer runs.
pub(super) fn trim_service(maqet: &Path) -> (&'static str, Vec<Property<'static>>) {
    let properties: Vec<Property<'static>> = vec![
        ("Description", "Keep the console logs of VMs bounded".into()),
        ("Slice", "maqet.slice".into()),
        ("Type", "oneshot".into()),
        ("ExecStart", exec(maqet, &["trim"], false)),
        ("CollectMode", "inactive-or-failed".into()),
    ];
    (TRIM_SERVICE, properties)
}

fn micros(duration: Duration) -> Variant<'static> {
    u64::try_from(duration.as_micros())
        .unwrap_or(u64::MAX)
        .into()
}

/// systemd shows a description on one line and refuses control characters.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// The object path of a unit: every byte outside `[A-Za-z0-9]`, and a leading
/// digit, as `_xx` (sd_bus_path_encode(3)).
pub(super) fn object_path(unit: &str) -> String {
    let mut path = String::from("/org/freedesktop/systemd1/unit/");
    for (i, b) in unit.bytes().enumerate() {
        if b.is_ascii_alphabetic() || (i > 0 && b.is_ascii_digit()) {
            path.push(char::from(b));
        } else {
            path.push_str(&format!("_{b:02x}"));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_paths_are_escaped_as_systemd_does() {
        assert_eq!(
            object_path("maqet-my-vm_1.service"),
            "/org/freedesktop/systemd1/unit/maqet_2dmy_2dvm_5f1_2eservice"
        );
    }

    #[test]
    fn a_description_stays_on_one_line() {
        assert_eq!(one_line("a\nb\tc"), "a b c");
    }
}
