use crate::sandbox::{Sandbox, signal};

impl Sandbox {
    /// A time of the VM's unit, in microseconds.
    fn micros(&self, short: &str, property: &str) -> u64 {
        self.property(short, property).parse().unwrap()
    }

    /// Whether `first` was up before `second` was begun with.
    #[track_caller]
    fn assert_order(&self, first: &str, second: &str) {
        let up = self.micros(first, "ActiveEnterTimestampMonotonic");
        let begun = self.micros(second, "ExecMainStartTimestampMonotonic");
        assert!(up < begun, "{first} up at {up}, {second} begun at {begun}");
    }
}

#[test]
fn what_a_vm_requires_is_started_first_and_waited_for() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("db", "");
    sandbox.add_lines("cache", "after = ['@db']");
    sandbox.add_lines("app", "requires = ['@db', '@cache']");
    let started = sandbox.maqet(&["start", "@app"]).ok();
    assert_eq!(
        started.stderr.matches("started").count(),
        3,
        "{}",
        started.stderr
    );
    sandbox.assert_order("db", "cache");
    sandbox.assert_order("cache", "app");
    // Running already is as good, and not worth a word.
    sandbox.maqet(&["stop", "@app"]).ok();
    let again = sandbox.maqet(&["start", "@app"]).ok();
    assert_eq!(again.stderr.matches("VM `").count(), 1, "{}", again.stderr);
}

#[test]
fn several_that_are_started_together_keep_their_order() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("a-app", "after = ['@z-db', '@nosuch']");
    sandbox.add_lines("b-web", "after = ['@a-app']");
    sandbox.add_lines("z-db", "");
    sandbox.maqet(&["start", &sandbox.name("*")]).ok();
    sandbox.assert_order("z-db", "a-app");
    sandbox.assert_order("a-app", "b-web");
    sandbox.maqet(&["stop", "--force", &sandbox.name("*")]).ok();
    // `after` alone starts no one.
    sandbox.maqet(&["start", "@a-app"]).ok();
    assert_eq!(sandbox.state("z-db"), "stopped");
}

#[test]
fn what_requires_a_vm_that_fails_does_not_start() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("db", "device.x = { driver = 'usb-tablet', none = 1 }");
    sandbox.add_lines("app", "requires = ['@db']");
    sandbox.add_lines("web", "requires = ['@app']");
    sandbox.add_lines("log", "after = ['@db']");
    sandbox
        .maqet(&["start", "@web", "@log"])
        .fails(1)
        .saying("'usb-tablet.none' not found")
        .saying(&format!("it requires `{}`", sandbox.name("db")))
        .saying(&format!("it requires `{}`", sandbox.name("app")));
    assert_eq!(sandbox.state("app"), "stopped");
    assert_eq!(sandbox.state("log"), "prelaunch", "it only comes after it");
}

#[test]
fn what_requires_a_vm_that_does_not_exist_does_not_start() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("app", "requires = ['@db']");
    sandbox
        .maqet(&["start", "@app"])
        .fails(1)
        .saying(&format!("no VM is named `{}`", sandbox.name("db")))
        .saying("did not start: it requires");
}

#[test]
fn a_circle_is_found_before_anything_starts() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("a", "after = ['@b']");
    sandbox.add_lines("b", "requires = ['@c']");
    sandbox.add_lines("c", "after = ['@a']");
    sandbox.add_lines("d", "");
    let (a, b, c) = (sandbox.name("a"), sandbox.name("b"), sandbox.name("c"));
    sandbox
        .maqet(&["start", "@a", "@d"])
        .fails(1)
        .saying(&format!("{a} -> {b} -> {c} -> {a}"));
    assert_eq!(sandbox.state("a"), "stopped");
    assert_eq!(sandbox.state("d"), "prelaunch");
    let own = sandbox.path("own.toml");
    std::fs::write(&own, "after = ['own']").unwrap();
    sandbox
        .maqet(&["add", own.to_str().unwrap()])
        .fails(1)
        .saying("cannot come after itself");
}

#[test]
fn a_start_delay_counts_from_the_start_of_the_one_before() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("db", "");
    sandbox.add_lines("app", "requires = ['@db']\nstart-delay = '2s'");
    sandbox.maqet(&["start", "@app"]).ok();
    let up = sandbox.micros("db", "ActiveEnterTimestampMonotonic");
    let begun = sandbox.micros("app", "ExecMainStartTimestampMonotonic");
    assert!(begun >= up + 2_000_000, "{up} {begun}");
    // From its start, and not from ours.
    sandbox.maqet(&["stop", "@app"]).ok();
    sandbox.maqet(&["start", "@app"]).ok();
    let again = sandbox.micros("app", "ExecMainStartTimestampMonotonic");
    assert!(again > begun);
}

#[test]
fn a_vm_that_is_required_is_stopped_last() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("db", "");
    sandbox.add_lines("app", "requires = ['@db']");
    sandbox.maqet(&["start", "@app"]).ok();
    let stopped = sandbox.maqet(&["stop", "@db"]).ok().stderr;
    let (app, db) = (
        stopped.find(&sandbox.name("app")),
        stopped.find(&sandbox.name("db")),
    );
    assert!(app.is_some() && app < db, "{stopped}");
    assert_eq!(sandbox.state("app"), "stopped");

    // systemctl(1) does the same.
    sandbox.maqet(&["start", "@app"]).ok();
    crate::sandbox::systemctl(&["stop", &sandbox.unit("db")]).ok();
    assert_eq!(sandbox.state("app"), "stopped");
    assert_eq!(sandbox.state("db"), "stopped");
}

#[test]
fn a_vm_is_not_stopped_while_one_that_requires_it_is_up() {
    let sandbox = Sandbox::new();
    sandbox.add_probe("app", "probe.act=idle probe.button=ignore");
    sandbox.add_lines("db", "");
    let (app, db) = (sandbox.name("app"), sandbox.name("db"));
    let shown = sandbox.maqet(&["show", &app]).ok().stdout;
    sandbox.maqet(&["rm", &app]).ok();
    let file = sandbox.path(&format!("{app}.toml"));
    std::fs::write(&file, format!("requires = ['{db}']\n{shown}")).unwrap();
    sandbox.maqet(&["add", file.to_str().unwrap()]).ok();
    sandbox.maqet(&["start", "@app"]).ok();
    sandbox.wait_for_console("app", "probe: ready");
    // Time enough for QEMU to answer.
    sandbox
        .maqet(&["stop", "--timeout", "10s", "@db"])
        .fails(1)
        .saying("did not power down")
        .saying(&format!("`{app}`, which requires it, is still up"));
    assert_eq!(sandbox.state("db"), "prelaunch");
    sandbox.maqet(&["stop", "--force", "@db"]).ok();
    assert_eq!(sandbox.state("app"), "stopped");
}

#[test]
fn a_vm_that_others_come_after_starts_again_while_they_run() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("db", "");
    sandbox.add_lines("app", "after = ['@db']");
    sandbox.maqet(&["start", "@app", "@db"]).ok();
    let pid = sandbox.pid("app");
    for _ in 0..2 {
        sandbox.maqet(&["stop", "@db"]).ok();
        sandbox.maqet(&["start", "@db"]).ok();
        assert_eq!(sandbox.state("db"), "prelaunch");
    }
    signal(sandbox.pid("db"), libc::SIGKILL);
    sandbox.wait_for_state("db", "failed");
    sandbox.maqet(&["start", "@db"]).ok();
    assert_eq!(sandbox.state("db"), "prelaunch");
    assert_eq!(sandbox.pid("app"), pid, "it was left alone");
    sandbox.maqet(&["stop", "@app"]).ok();
}

#[test]
fn a_circle_is_told_when_it_comes_to_be_and_so_is_what_requires_a_vm_that_goes() {
    let sandbox = Sandbox::new();
    sandbox.add_lines("app", "requires = ['@db']");
    sandbox.add_lines("db", "");
    let (app, db) = (sandbox.name("app"), sandbox.name("db"));
    sandbox
        .maqet(&["set", "@db", &format!("after+={app}")])
        .ok()
        .saying(&format!("in a circle: {db} -> {app} -> {db}"));
    let mended = sandbox.maqet(&["unset", "@db", "after"]).ok();
    assert!(!mended.stderr.contains("circle"), "{}", mended.stderr);
    sandbox
        .maqet(&["rm", "@db"])
        .ok()
        .saying(&format!("VM `{app}` requires `{db}`"));
}
