//! Where the user manager is weak.

use std::time::Duration;

use crate::config::VmConfig;
use crate::systemd::{self, Scope, boot, journal, manager};
use crate::vm::VmName;

use super::super::{Host, enable};
use super::{Finding, Severity, with_causes};

/// Whether there is one, and how it does.
pub(super) fn user_manager(host: &Host) -> Vec<Finding> {
    const CHECK: &str = "user manager";
    vec![match manager::state(&host.scope) {
        Ok(state) if state == "degraded" => {
            Finding::note(CHECK, "units of yours have failed").mend("systemctl --user --failed")
        }
        Ok(state) if state == "maintenance" || state == "stopping" => {
            Finding::warning(CHECK, format!("it is {state}")).mend("systemctl --user default")
        }
        Ok(state) => Finding::ok(CHECK, state),
        Err(error) => Finding::error(CHECK, with_causes(&error))
            .mend(format!("sudo loginctl enable-linger {}", enable::uid())),
    }]
}

/// The template that starts VMs at boot.
pub(super) fn template(host: &Host) -> Finding {
    const CHECK: &str = "template";
    match boot::is_installed(&host.scope) {
        Ok(true) => Finding::ok(CHECK, format!("{} is installed", boot::TEMPLATE)),
        Ok(false) => Finding::warning(
            CHECK,
            format!(
                "{} is not installed: no VM can start at boot",
                boot::TEMPLATE
            ),
        )
        .mend("sudo make install"),
        Err(error) => Finding::warning(CHECK, with_causes(&error)),
    }
}

pub(super) fn linger() -> Finding {
    const CHECK: &str = "linger";
    match enable::lingers() {
        Some(true) => Finding::ok(CHECK, "you linger"),
        Some(false) => Finding::warning(
            CHECK,
            "you do not linger: VMs stop when you log out, and none starts at boot",
        )
        .mend("loginctl enable-linger"),
        None => Finding::warning(CHECK, "logind does not say whether you linger")
            .mend(format!("sudo loginctl enable-linger {}", enable::uid())),
    }
}

/// What time the system gives the user manager to stop.
pub(super) fn time_to_stop(definitions: &[(VmName, VmConfig)]) -> Finding {
    let unit = format!("user@{}.service", enable::uid());
    let limit = match manager::stop_timeout(&Scope::System, &unit) {
        Ok(limit) => limit,
        Err(error) => return Finding::warning("stop timeout", with_causes(&error)),
    };
    let slowest = definitions
        .iter()
        .max_by_key(|(_, config)| config.stop.timeout);
    let (name, needed) = match slowest {
        Some((name, config)) => (name.as_str(), config.stop.timeout.duration()),
        None => ("any", crate::config::Stop::default().timeout.duration()),
    };
    let needed = needed + systemd::STOP_MARGIN;
    stop_timeout(limit, name, needed)
}

fn stop_timeout(limit: Option<Duration>, name: &str, needed: Duration) -> Finding {
    const CHECK: &str = "stop timeout";
    let (Some(limit), needed) = (limit, needed.as_secs()) else {
        return Finding::ok(CHECK, "the user manager may take its time to stop");
    };
    let limit = limit.as_secs();
    if limit >= needed {
        return Finding::ok(CHECK, format!("the user manager has {limit} s to stop"));
    }
    let message = format!(
        "at shutdown the user manager is killed after {limit} s, and VM `{name}` may take {needed} s"
    );
    Finding::warning(CHECK, message)
        .mend(drop_in("maqet-stop", &format!("TimeoutStopSec={needed}")))
}

/// What the system gives the user manager of control groups.
pub(super) fn controllers(host: &Host) -> Finding {
    match manager::controllers(&host.scope) {
        Ok(there) => delegated(&there.unwrap_or_default()),
        Err(error) => Finding::warning(CONTROLLERS, with_causes(&error)),
    }
}

const CONTROLLERS: &str = "controllers";

/// Without a controller, limits on what it controls are accepted and do nothing.
fn delegated(controllers: &[String]) -> Finding {
    let missing: Vec<&str> = ["cpu", "memory", "pids", "cpuset", "io"]
        .into_iter()
        .filter(|name| !controllers.iter().any(|word| word == *name))
        .collect();
    if missing.is_empty() {
        return Finding::ok(CONTROLLERS, "all are delegated to you");
    }
    let message = format!(
        "not delegated to you: {}; limits on these do nothing",
        missing.join(", ")
    );
    // The last two are not, as systemd comes.
    let severity = match missing[0] {
        "cpuset" | "io" => Severity::Note,
        _ => Severity::Warning,
    };
    Finding::new(CONTROLLERS, severity, message).mend(drop_in(
        "maqet-delegate",
        "Delegate=cpu cpuset io memory pids",
    ))
}

/// A command that gives all user managers a line of configuration; in force from their next start.
fn drop_in(name: &str, line: &str) -> String {
    let dir = "/etc/systemd/system/user@.service.d";
    format!(
        "sudo sh -c 'mkdir -p {dir} && printf \"[Service]\\n{line}\\n\" >{dir}/{name}.conf && systemctl daemon-reload'"
    )
}

pub(super) fn journal() -> Finding {
    const CHECK: &str = "journal";
    if journal::readable() {
        return Finding::ok(CHECK, "yours to read");
    }
    Finding::note(
        CHECK,
        "not yours to read: what QEMU prints goes to a file, for one run only",
    )
    .mend("sudo sh -c 'mkdir -p /var/log/journal && systemctl restart systemd-journald && journalctl --flush'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_that_systemd_never_delegates_are_only_worth_a_note() {
        for (controllers, severity) in [
            ("cpuset cpu io memory hugetlb pids", Severity::Ok),
            ("cpu memory pids", Severity::Note),
            ("memory pids", Severity::Warning),
            ("", Severity::Warning),
        ] {
            let words = controllers.split_whitespace().map(str::to_owned);
            let words: Vec<String> = words.collect();
            assert_eq!(delegated(&words).severity, severity, "{controllers}");
        }
    }

    #[test]
    fn a_stop_timeout_is_compared_with_that_of_the_user_manager() {
        let minute = Duration::from_secs(60);
        let severity = |limit, needed| stop_timeout(limit, "web", needed).severity;
        assert_eq!(severity(None, minute), Severity::Ok);
        assert_eq!(severity(Some(minute), minute), Severity::Ok);
        assert_eq!(severity(Some(minute), minute * 2), Severity::Warning);
    }
}
