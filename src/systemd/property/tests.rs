use super::*;

fn value(name: &str, text: &str) -> Vec<(String, String)> {
    let setting = parse(name, Given::Text(text)).unwrap_or_else(|error| panic!("{error}"));
    setting
        .values
        .into_iter()
        .map(|(name, value)| (name, value.to_string()))
        .collect()
}

#[test]
fn a_line_of_a_unit_file_becomes_what_the_bus_wants() {
    for (line, name, shown) in [
        ("MemoryMax=3G", "MemoryMax", "uint64 3221225472"),
        ("MemoryMax=1.5G", "MemoryMax", "uint64 1610612736"),
        ("MemoryMax=50%", "MemoryMaxScale", "uint32 2147483648"),
        (
            "MemoryMax=infinity",
            "MemoryMax",
            "uint64 18446744073709551615",
        ),
        ("MemoryMax=", "MemoryMax", "uint64 18446744073709551615"),
        ("MemoryLow=", "MemoryLow", "uint64 0"),
        ("CPUQuota=150%", "CPUQuotaPerSecUSec", "uint64 1500000"),
        ("CPUQuota=12.5%", "CPUQuotaPerSecUSec", "uint64 125000"),
        ("CPUWeight=idle", "CPUWeight", "uint64 0"),
        ("RestartSec=5s", "RestartUSec", "uint64 5000000"),
        ("RestartSec=1min 30s", "RestartUSec", "uint64 90000000"),
        ("RestartSec=1h30m5", "RestartUSec", "uint64 5405000000"),
        ("RestartSec=0.25", "RestartUSec", "uint64 250000"),
        (
            "RuntimeMaxSec=infinity",
            "RuntimeMaxUSec",
            "uint64 18446744073709551615",
        ),
        ("AllowedCPUs=0-2 9", "AllowedCPUs", "[byte 0x07, 0x02]"),
        ("AllowedCPUs=", "AllowedCPUs", "@ay []"),
        ("CPUAffinity=numa", "CPUAffinityFromNUMA", "true"),
        (
            "SystemCallFilter=~@clock @mount",
            "SystemCallFilter",
            "(false, [\"@clock\", \"@mount\"])",
        ),
        ("Nice=-5", "Nice", "-5"),
        (
            "IOWriteBandwidthMax=/dev/sda 5M",
            "IOWriteBandwidthMax",
            "[(\"/dev/sda\", uint64 5000000)]",
        ),
        (
            "RestartPreventExitStatus=0 SIGTERM",
            "RestartPreventExitStatus",
            "([0], [15])",
        ),
        (
            "ConditionPathExists=|!/x",
            "Conditions",
            "[(\"ConditionPathExists\", true, true, \"/x\")]",
        ),
        (
            "Environment=A='b c' D=\\\"",
            "Environment",
            r#"["A=b c", "D=\""]"#,
        ),
        (
            "RestrictNamespaces=~user",
            "RestrictNamespaces",
            "uint64 1845624832",
        ),
        (
            "PrivateTmp=disconnected",
            "PrivateTmpEx",
            "\"disconnected\"",
        ),
    ] {
        let (key, text) = line.split_once('=').unwrap();
        assert_eq!(
            value(key, text),
            [(name.to_owned(), shown.to_owned())],
            "{line}"
        );
    }
    assert_eq!(
        value("LimitNOFILE", "1024:4096"),
        [
            ("LimitNOFILE".to_owned(), "uint64 4096".to_owned()),
            ("LimitNOFILESoft".to_owned(), "uint64 1024".to_owned())
        ]
    );
}

#[test]
fn an_item_of_a_list_is_taken_as_it_is() {
    let items = ["A=b c".to_owned(), "D='".to_owned()];
    let setting = parse("Environment", Given::List(&items)).unwrap();
    assert_eq!(setting.values[0].1, Variant::from(items.to_vec()));
    assert!(parse("Nice", Given::List(&items)).is_err());
}

#[test]
fn what_is_wrong_is_said() {
    for (line, words) in [
        (
            "MemoryMax=3 apples",
            "`3 apples` is not a value of `MemoryMax`: it is a number of bytes",
        ),
        ("CPUQuota=2", "it is a percentage, such as 150%"),
        ("CPUQuota=0%", "it is more than 0%"),
        ("MemoryHigh=0", "it is more than nothing"),
        ("TasksMax=0", "it is a whole number from 1"),
        ("RestartSec=soon", "it is a time span"),
        ("Nice=20", "it is a whole number from -20 to 19"),
        ("NoNewPrivileges=maybe", "it is `yes` or `no`"),
        (
            "IOSchedulingClass=best",
            "it is one of none, realtime, best-effort, idle",
        ),
        ("Environment=A='b", "a quote is not closed"),
        ("AllowedCPUs=3-1", "it is a list of numbers and ranges"),
        ("LimitNOFILE=9:1", "the limit before the colon"),
        (
            "MemoryMaximum=1G",
            "unknown property `MemoryMaximum`, did you mean `MemoryMax`?",
        ),
        ("memory-max=1G", "did you mean `MemoryMax`?"),
        ("CpuQuota=1%", "did you mean `CPUQuota`?"),
        ("RestartUSec=1", "did you mean `RestartSec`?"),
        ("Frobnicate=1", "systemd.exec(5)"),
        (
            "TimeoutStopSec=1s",
            "`TimeoutStopSec` cannot be set: write `stop.timeout`",
        ),
        ("Slice=x.slice", "write `group`"),
        (
            "ExecStartPre=/bin/echo $HOME",
            "put the command into a script",
        ),
    ] {
        let (name, text) = line.split_once('=').unwrap();
        let error = parse(name, Given::Text(text)).unwrap_err().to_string();
        assert!(error.contains(words), "{line}: {error}");
    }
}

#[test]
fn every_name_is_there_once_and_is_not_ours() {
    let mut seen = std::collections::HashSet::new();
    for name in names() {
        assert!(seen.insert(name), "{name} is there twice");
        assert_eq!(own::reason(name), None, "{name}");
        assert!(name.starts_with(|c: char| c.is_ascii_uppercase()), "{name}");
    }
    assert!(seen.len() > 250, "{}", seen.len());
}

#[test]
fn a_word_that_is_none_is_refused_with_those_that_are() {
    for (name, wrong, words) in [
        ("Restart", "sometimes", "no, on-success, on-failure"),
        ("OOMPolicy", "ignore", "continue, stop, kill"),
        ("ProtectSystem", "very", "yes, no, full, strict"),
        ("ProtectHome", "tmp", "yes, no, read-only, tmpfs"),
        ("ProtectProc", "yes", "noaccess, invisible"),
        ("PrivateTmp", "maybe", "yes, no, disconnected"),
        ("FailureAction", "reboot", "none, exit, exit-force"),
        ("KeyringMode", "", "inherit, private, shared"),
    ] {
        let error = parse(name, Given::Text(wrong)).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    for (name, text, bus, value) in [
        ("ProtectSystem", "true", "ProtectSystem", "\"yes\""),
        ("ProtectHome", "off", "ProtectHome", "\"no\""),
        (
            "PrivateTmp",
            "disconnected",
            "PrivateTmpEx",
            "\"disconnected\"",
        ),
        ("PrivateTmp", "yes", "PrivateTmp", "true"),
    ] {
        let setting = parse(name, Given::Text(text)).unwrap();
        let (on_bus, sent) = setting.properties().next().unwrap();
        assert_eq!((on_bus, &*sent.to_string()), (bus, value), "{name}={text}");
    }
}

#[test]
fn what_the_kernel_limits_needs_a_controller() {
    for (name, wanted) in [
        ("MemoryHigh", Some("memory")),
        ("DefaultMemoryLow", Some("memory")),
        ("DefaultStartupMemoryLow", Some("memory")),
        ("StartupCPUWeight", Some("cpu")),
        ("CPUQuotaPeriodSec", Some("cpu")),
        ("AllowedCPUs", Some("cpuset")),
        ("StartupAllowedMemoryNodes", Some("cpuset")),
        ("TasksMax", Some("pids")),
        ("IOReadBandwidthMax", Some("io")),
        ("IODeviceWeight", Some("io")),
        ("MemoryAccounting", None),
        ("MemoryPressureWatch", None),
        ("ManagedOOMSwap", None),
        ("IPAddressDeny", None),
        ("CPUSchedulingPolicy", None),
        ("CPUAffinity", None),
        ("IOSchedulingClass", None),
        ("Restart", None),
        ("Nonsense", None),
    ] {
        assert_eq!(controller(name), wanted, "{name}");
    }
}

#[test]
fn a_limit_of_memory_is_told_in_bytes() {
    for (text, bytes) in [
        ("3G", Some(3 << 30)),
        ("25%", Some(2 << 30)),
        ("infinity", None),
        ("", None),
    ] {
        assert_eq!(memory_limit(text, 8 << 30), bytes, "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,24}", index in 0usize..300) {
        let names: Vec<&str> = names().collect();
        let _ = parse(names[index % names.len()], Given::Text(&text));
    }

    #[test]
    fn time_spans_add_up(hours in 0u64..9999, minutes in 0u64..9999, seconds in 0u64..9999) {
        let text = format!("{hours}h {minutes}min{seconds}");
        proptest::prop_assert_eq!(
            scalar::microseconds(&text),
            Ok((hours * 3600 + minutes * 60 + seconds) * 1_000_000)
        );
    }
}
