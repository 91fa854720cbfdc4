//! Which properties there are, and of which kind.
//!
//! Facts: the manual pages of systemd 252 and 257, and org.freedesktop.systemd1(5).
//! `Name=Bus` gives the name on the bus where that is another, `Name@254` the
//! version that first has it, where that is newer than 252.

use super::kind::{Kind, Unit};
use super::names::{
    CPU_SCHEDULING, IO_SCHEDULING, NUMA_POLICIES, SYSLOG_FACILITIES, SYSLOG_LEVELS,
};

/// One property.
pub(super) struct Entry {
    /// Its name in unit files.
    pub name: &'static str,
    bus: &'static str,
    pub kind: Kind,
    /// Whether it can be changed while the unit runs.
    pub is_live: bool,
    /// The version that first has it, if not the oldest that maqet runs with.
    pub since: Option<u32>,
}

impl Entry {
    pub fn find(name: &str) -> Option<Self> {
        entries().find(|entry| entry.name == name)
    }

    /// The name on the bus.
    pub fn on_bus(&self) -> &'static str {
        self.bus
    }
}

/// All of them.
pub(super) fn entries() -> impl Iterator<Item = Entry> {
    let live = RESOURCE_CONTROL.iter().map(|row| (row, true));
    let fixed = OTHERS.iter().map(|row| (row, false));
    live.chain(fixed).flat_map(|((kind, names), is_live)| {
        names.split_whitespace().map(move |word| {
            let (word, since) = word.split_once('@').unwrap_or((word, ""));
            let (name, bus) = word.split_once('=').unwrap_or((word, word));
            let bus = match kind {
                Kind::Condition if name.starts_with("Condition") => "Conditions",
                Kind::Condition => "Asserts",
                _ => bus,
            };
            Entry {
                name,
                bus,
                kind: *kind,
                is_live,
                since: since.parse().ok(),
            }
        })
    })
}

/// systemd.resource-control(5): what the kernel's control groups do, and so at any time.
const RESOURCE_CONTROL: &[(Kind, &str)] = &[
    (
        Kind::Bool,
        "CPUAccounting MemoryAccounting TasksAccounting IOAccounting IPAccounting CoredumpReceive@255 MemoryZSwapWriteback@256",
    ),
    (
        Kind::Weight,
        "CPUWeight StartupCPUWeight IOWeight StartupIOWeight",
    ),
    (Kind::CpuQuota, "CPUQuota=CPUQuotaPerSecUSec"),
    (
        Kind::Time,
        "CPUQuotaPeriodSec=CPUQuotaPeriodUSec MemoryPressureThresholdSec=MemoryPressureThresholdUSec@254 ManagedOOMMemoryPressureDurationSec=ManagedOOMMemoryPressureDurationUSec@257",
    ),
    (
        Kind::Set,
        "AllowedCPUs StartupAllowedCPUs AllowedMemoryNodes StartupAllowedMemoryNodes",
    ),
    (
        Kind::Memory,
        "MemoryHigh MemoryMax MemorySwapMax MemoryZSwapMax@253 StartupMemoryHigh@254 StartupMemoryMax@254 StartupMemorySwapMax@254 StartupMemoryZSwapMax@254",
    ),
    (
        Kind::Protection,
        "MemoryMin MemoryLow DefaultMemoryMin DefaultMemoryLow StartupMemoryLow@254 DefaultStartupMemoryLow@254",
    ),
    (Kind::Tasks, "TasksMax"),
    // What is wrong with these, systemd tells without saying where.
    (Kind::Choice(&["auto", "closed", "strict"]), "DevicePolicy"),
    (
        Kind::Choice(&["auto", "kill"]),
        "ManagedOOMSwap ManagedOOMMemoryPressure",
    ),
    (
        Kind::Choice(&["none", "avoid", "omit"]),
        "ManagedOOMPreference",
    ),
    (
        Kind::Choice(&["auto", "on", "off", "skip"]),
        "MemoryPressureWatch@254",
    ),
    (Kind::Percentage, "ManagedOOMMemoryPressureLimit"),
    (Kind::Devices, "DeviceAllow"),
    (Kind::DeviceWeight, "IODeviceWeight"),
    (
        Kind::DeviceLatency,
        "IODeviceLatencyTargetSec=IODeviceLatencyTargetUSec",
    ),
    (
        Kind::Bandwidth,
        "IOReadBandwidthMax IOWriteBandwidthMax IOReadIOPSMax IOWriteIOPSMax",
    ),
    (Kind::Networks, "IPAddressAllow IPAddressDeny"),
    (
        Kind::Words,
        "IPIngressFilterPath IPEgressFilterPath DisableControllers",
    ),
    (Kind::Ports, "SocketBindAllow SocketBindDeny"),
    (Kind::Filter, "RestrictNetworkInterfaces"),
];

/// systemd.exec(5), systemd.service(5), systemd.kill(5), systemd.unit(5).
const OTHERS: &[(Kind, &str)] = &[
    (Kind::Delegate, "Delegate"),
    (Kind::Text, "DelegateSubgroup@254"),
    // How it runs.
    (
        Kind::Text,
        "User Group WorkingDirectory RootDirectory RootImage LogNamespace Personality SELinuxContext NetworkNamespacePath IPCNamespacePath TTYPath UtmpIdentifier PAMName",
    ),
    (
        Kind::Words,
        "SupplementaryGroups UnsetEnvironment PassEnvironment Environment SystemCallArchitectures",
    ),
    (
        Kind::Choice(&["inherit", "private", "shared"]),
        "KeyringMode",
    ),
    (Kind::Choice(&["init", "login", "user"]), "UtmpMode"),
    (Kind::Files, "EnvironmentFile=EnvironmentFiles"),
    (Kind::Int(-20, 19), "Nice"),
    (Kind::Int(-1000, 1000), "OOMScoreAdjust"),
    (Kind::Int(0, 99), "CPUSchedulingPriority"),
    (Kind::Int(0, 7), "IOSchedulingPriority"),
    (Kind::Word(&CPU_SCHEDULING), "CPUSchedulingPolicy"),
    (Kind::Word(&IO_SCHEDULING), "IOSchedulingClass"),
    (Kind::Word(&NUMA_POLICIES), "NUMAPolicy"),
    (Kind::Set, "NUMAMask"),
    (Kind::Affinity, "CPUAffinity"),
    (Kind::TimerSlack, "TimerSlackNSec"),
    (Kind::Coredump, "CoredumpFilter"),
    (Kind::Limit(Unit::Seconds), "LimitCPU"),
    (Kind::Limit(Unit::Microseconds), "LimitRTTIME"),
    (
        Kind::Limit(Unit::Bytes),
        "LimitFSIZE LimitDATA LimitSTACK LimitCORE LimitRSS LimitAS LimitMEMLOCK LimitMSGQUEUE",
    ),
    (
        Kind::Limit(Unit::Number),
        "LimitNOFILE LimitNPROC LimitLOCKS LimitSIGPENDING LimitNICE LimitRTPRIO",
    ),
    (
        Kind::Bool,
        "CPUSchedulingResetOnFork IgnoreSIGPIPE MemoryKSM@254 RemoveIPC SetLoginEnvironment@255",
    ),
    // Log.
    (Kind::Word(&SYSLOG_LEVELS), "SyslogLevel LogLevelMax"),
    (Kind::Word(&SYSLOG_FACILITIES), "SyslogFacility"),
    (Kind::Bool, "SyslogLevelPrefix"),
    (
        Kind::Time,
        "LogRateLimitIntervalSec=LogRateLimitIntervalUSec",
    ),
    (Kind::U32, "LogRateLimitBurst"),
    (Kind::Bytes, "LogExtraFields"),
    (Kind::Pattern, "LogFilterPatterns@253"),
    // Sandbox.
    (
        Kind::Bool,
        "NoNewPrivileges PrivateDevices PrivateNetwork PrivateMounts PrivateIPC MountAPIVFS ProtectKernelTunables ProtectKernelModules ProtectKernelLogs ProtectClock LockPersonality MemoryDenyWriteExecute RestrictRealtime RestrictSUIDSGID DynamicUser RootEphemeral@254 BindLogSockets@257",
    ),
    (Kind::BoolOrWord(&["disconnected"]), "PrivateTmp"),
    (
        Kind::BoolOrWord(&["self", "identity", "full"]),
        "PrivateUsers",
    ),
    (
        Kind::BoolOrWord(&["private", "strict"]),
        "ProtectControlGroups",
    ),
    (Kind::BoolOrWord(&["private"]), "ProtectHostname"),
    (Kind::YesOrWord(&["full", "strict"]), "ProtectSystem"),
    (Kind::YesOrWord(&["read-only", "tmpfs"]), "ProtectHome"),
    (
        Kind::Choice(&["noaccess", "invisible", "ptraceable", "default"]),
        "ProtectProc",
    ),
    (Kind::Choice(&["all", "pid"]), "ProcSubset"),
    (Kind::YesOrWord(&[]), "PrivatePIDs@257"),
    (
        Kind::Words,
        "ReadWritePaths ReadOnlyPaths InaccessiblePaths ExecPaths NoExecPaths ExecSearchPath StateDirectory CacheDirectory LogsDirectory ConfigurationDirectory ExtensionDirectories",
    ),
    (
        Kind::Mode,
        "StateDirectoryMode CacheDirectoryMode LogsDirectoryMode ConfigurationDirectoryMode",
    ),
    (Kind::Binds, "BindPaths BindReadOnlyPaths"),
    (Kind::Mounts, "TemporaryFileSystem"),
    (Kind::MountFlags, "MountFlags"),
    (
        Kind::Filter,
        "SystemCallFilter SystemCallLog RestrictAddressFamilies RestrictFileSystems",
    ),
    (Kind::Errno, "SystemCallErrorNumber"),
    (Kind::Namespaces, "RestrictNamespaces"),
    (
        Kind::Capabilities,
        "CapabilityBoundingSet AmbientCapabilities",
    ),
    (Kind::SecureBits, "SecureBits"),
    (Kind::Credentials, "LoadCredential LoadCredentialEncrypted"),
    (Kind::Secret, "SetCredential SetCredentialEncrypted"),
    (Kind::Words, "ImportCredential@254"),
    (Kind::OpenFile, "OpenFile@253"),
    // Life.
    (
        Kind::Choice(&[
            "no",
            "on-success",
            "on-failure",
            "on-abnormal",
            "on-watchdog",
            "on-abort",
            "always",
        ]),
        "Restart",
    ),
    (
        Kind::Choice(&["normal", "direct", "debug"]),
        "RestartMode@254",
    ),
    (Kind::Choice(&["continue", "stop", "kill"]), "OOMPolicy"),
    (
        Kind::Choice(&["terminate", "abort", "kill"]),
        "TimeoutStartFailureMode TimeoutStopFailureMode",
    ),
    (
        Kind::YesOrWord(&["restart"]),
        "FileDescriptorStorePreserve@254",
    ),
    (
        Kind::Time,
        "RestartSec=RestartUSec RestartMaxDelaySec=RestartMaxDelayUSec@254 RuntimeMaxSec=RuntimeMaxUSec RuntimeRandomizedExtraSec=RuntimeRandomizedExtraUSec StartLimitIntervalSec=StartLimitIntervalUSec JobRunningTimeoutSec=JobRunningTimeoutUSec",
    ),
    (
        Kind::U32,
        "RestartSteps@254 StartLimitBurst FileDescriptorStoreMax",
    ),
    (
        Kind::Exits,
        "SuccessExitStatus RestartPreventExitStatus RestartForceExitStatus",
    ),
    (
        Kind::Command,
        "ExecCondition ExecStartPre ExecStopPost ExecReload",
    ),
    (
        Kind::Bool,
        "SendSIGHUP SendSIGKILL RootDirectoryStartOnly SurviveFinalKillSignal@255",
    ),
    (
        Kind::Signal,
        "FinalKillSignal WatchdogSignal ReloadSignal@253",
    ),
    (
        // The others are for units of the system manager.
        Kind::Choice(&["none", "exit", "exit-force"]),
        "StartLimitAction FailureAction SuccessAction JobTimeoutAction",
    ),
    (
        Kind::Choice(&[
            "fail",
            "replace",
            "replace-irreversibly",
            "isolate",
            "flush",
            "ignore-dependencies",
            "ignore-requirements",
        ]),
        "OnSuccessJobMode OnFailureJobMode",
    ),
    (
        Kind::Text,
        "JobTimeoutRebootArgument RebootArgument SourcePath",
    ),
    (
        Kind::Int(0, 255),
        "FailureActionExitStatus SuccessActionExitStatus",
    ),
    (
        Kind::Bool,
        "StopWhenUnneeded RefuseManualStart RefuseManualStop AllowIsolate IgnoreOnIsolate DefaultDependencies",
    ),
    // Others.
    (
        Kind::Words,
        "Requires Requisite Wants BindsTo PartOf Upholds Conflicts Before After OnFailure OnSuccess PropagatesReloadTo ReloadPropagatedFrom PropagatesStopTo StopPropagatedFrom JoinsNamespaceOf RequiresMountsFor WantsMountsFor@256",
    ),
    (
        Kind::Condition,
        "ConditionArchitecture ConditionFirmware ConditionVirtualization ConditionHost ConditionKernelCommandLine ConditionKernelVersion ConditionEnvironment ConditionSecurity ConditionCapability ConditionACPower ConditionNeedsUpdate ConditionFirstBoot ConditionPathExists ConditionPathExistsGlob ConditionPathIsDirectory ConditionPathIsSymbolicLink ConditionPathIsMountPoint ConditionPathIsReadWrite ConditionPathIsEncrypted ConditionDirectoryNotEmpty ConditionFileNotEmpty ConditionFileIsExecutable ConditionUser ConditionGroup ConditionControlGroupController ConditionMemory ConditionCPUs ConditionCPUFeature ConditionOSRelease ConditionMemoryPressure ConditionCPUPressure ConditionIOPressure",
    ),
    (
        Kind::Condition,
        "AssertArchitecture AssertFirmware AssertVirtualization AssertHost AssertKernelCommandLine AssertKernelVersion AssertEnvironment AssertSecurity AssertCapability AssertACPower AssertNeedsUpdate AssertFirstBoot AssertPathExists AssertPathExistsGlob AssertPathIsDirectory AssertPathIsSymbolicLink AssertPathIsMountPoint AssertPathIsReadWrite AssertPathIsEncrypted AssertDirectoryNotEmpty AssertFileNotEmpty AssertFileIsExecutable AssertUser AssertGroup AssertControlGroupController AssertMemory AssertCPUs AssertCPUFeature AssertOSRelease AssertMemoryPressure AssertCPUPressure AssertIOPressure",
    ),
];
