//! Properties that maqet sets itself, with what to use instead.

/// Why a property of that name cannot be set; `None` if maqet leaves it alone.
pub(super) fn reason(name: &str) -> Option<&'static str> {
    Some(match name {
        "Description" => "write `description` at the top of the definition",
        "Documentation" => "maqet says where its own is",
        "Slice" => "write `group` at the top of the definition; a group has a slice of its own",
        "ExecStart" | "ExecStartEx" => "it is QEMU that the unit runs; `qemu.args` has its options",
        "ExecStartPost" => "maqet waits there until QEMU is up",
        "ExecStop" => "maqet powers the guest down there; `[stop]` says how",
        "TimeoutStopSec" | "TimeoutSec" => "write `stop.timeout`",
        "TimeoutAbortSec" => "`stop.timeout` is how long a guest may take to power down",
        "TimeoutStartSec" => "maqet waits for QEMU only, never for the guest",
        "KillMode" | "KillSignal" | "RestartKillSignal" => {
            "the guest is asked first, then QEMU is ended so that it flushes its disks; \
             `[stop]` says how"
        }
        "Type" | "NotifyAccess" | "ExitType" | "RemainAfterExit" | "GuessMainPID" | "PIDFile"
        | "BusName" | "WatchdogSec" => {
            "the unit's main process is QEMU, and maqet tells when it is up"
        }
        "RuntimeDirectory" | "RuntimeDirectoryMode" | "RuntimeDirectoryPreserve" | "UMask" => {
            "the VM's sockets are there, for its user alone"
        }
        "StandardInput" | "StandardInputText" | "StandardInputData" | "StandardOutput"
        | "StandardError" | "SyslogIdentifier" => {
            "QEMU's events go that way; `maqet logs` shows what it prints"
        }
        "CollectMode" => "a unit that failed is kept, so that `maqet status` can tell why",
        "JobTimeoutSec" => {
            "systemd does not take it for a transient unit; \
                            there is `JobRunningTimeoutSec`"
        }
        "RequiredBy" | "WantedBy" | "UpheldBy" | "Alias" | "Also" | "DefaultInstance" => {
            "a transient unit cannot be enabled; `systemctl --user enable maqet@NAME` is for that"
        }
        _ => return None,
    })
}
