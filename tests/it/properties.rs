//! The table of properties, against systemd itself.

use std::collections::HashSet;
use std::path::Path;

use maqet::systemd::property::{self, Given};
use zbus::{Connection, Message, OwnedObjectPath, OwnedVariant, Variant};

const SYSTEMD: &str = "org.freedesktop.systemd1";

/// `NAME=VALUE`, and what systemd says of it, if that is not what it was told.
struct Sample {
    name: &'static str,
    value: &'static str,
    reads: Option<&'static str>,
}

fn samples() -> Vec<Sample> {
    include_str!("properties.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (line, reads) = match line.split_once(" => ") {
                Some((line, reads)) => (line, Some(reads)),
                None => (line, None),
            };
            let (name, value) = line.split_once('=').unwrap();
            Sample { name, value, reads }
        })
        .collect()
}

#[test]
fn each_property_has_a_sample() {
    let samples: HashSet<&str> = samples().iter().map(|sample| sample.name).collect();
    let names: HashSet<&str> = property::names().collect();
    let missing: Vec<_> = names.symmetric_difference(&samples).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn each_property_is_taken_by_systemd_and_reads_back_as_it_was_meant() {
    zbus::block_on(async {
        let bus = Manager::connect().await;
        let version = bus.version().await;
        let mut wrong = Vec::new();
        for (i, sample) in samples().into_iter().enumerate() {
            let unit = format!("t{}-property-{i}.service", std::process::id());
            let line = format!("{}={}", sample.name, sample.value);
            let setting = property::parse(sample.name, Given::Text(sample.value)).unwrap();
            let is_known = property::since(sample.name).is_none_or(|since| version >= since);
            let (name, sent) = setting.properties().next().unwrap();
            let (name, sent) = (name.to_owned(), sent.clone());
            match bus.start(&unit, setting.properties().collect()).await {
                Err(_) if !is_known => continue,
                Err(error) => wrong.push(format!("{line}: {error}")),
                Ok(()) if !is_known => wrong.push(format!("{line}: is in systemd {version}")),
                Ok(()) => {
                    let read = bus.read(&unit, &name).await;
                    let wanted = sample.reads.map_or(sent.to_string(), str::to_owned);
                    let is_wanted = |read: &str| wanted.split(" | ").any(|one| is_same(read, one));
                    if !read.as_deref().is_some_and(is_wanted) {
                        wrong.push(format!("{line}: {name} is {read:?}, not {wanted}"));
                    }
                }
            }
            bus.stop(&unit).await;
        }
        assert!(wrong.is_empty(), "systemd {version}:\n{}", wrong.join("\n"));
    });
}

#[test]
fn no_number_is_taken_that_systemd_refuses() {
    zbus::block_on(async {
        let bus = Manager::connect().await;
        let version = bus.version().await;
        let edges = [
            "0",
            "-1",
            "1",
            "0%",
            "1%",
            "100%",
            "101%",
            "0s",
            "1us",
            "infinity",
            "10001",
            "65536",
            "4294967296",
            "18446744073709551615",
        ];
        let mut wrong = Vec::new();
        let mut taken = 0;
        let numbers = samples().into_iter().filter(|sample| {
            let is_known = property::since(sample.name).is_none_or(|since| version >= since);
            // Neither a list of CPUs nor a port.
            let is_number = !sample.value.contains(['-', ':', ' ', '.', '/']);
            is_known && is_number && sample.value.starts_with(|c: char| c.is_ascii_digit())
        });
        for Sample { name, .. } in numbers {
            for value in edges {
                let Ok(setting) = property::parse(name, Given::Text(value)) else {
                    continue;
                };
                taken += 1;
                let unit = format!("t{}-edge-{taken}.service", std::process::id());
                if let Err(error) = bus.start(&unit, setting.properties().collect()).await {
                    wrong.push(format!("{name}={value}: {error}"));
                }
                bus.stop(&unit).await;
            }
        }
        assert!(taken > 100, "{taken}");
        assert!(wrong.is_empty(), "systemd {version}:\n{}", wrong.join("\n"));
    });
}

/// Whether systemd says what it was told. To a list it may add: dependencies of its own,
/// the empty rest of a mask, how a condition turned out, when a command ran.
fn is_same(read: &str, told: &str) -> bool {
    match told.ends_with(']') {
        true => read.contains(told.trim_matches(['(', ')', '[', ']'])),
        false => read == told,
    }
}

struct Manager(Connection);

impl Manager {
    async fn connect() -> Self {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").expect("run with tests/host/test");
        let socket = std::os::unix::net::UnixStream::connect(Path::new(&runtime).join("bus"));
        let builder = zbus::connection::Builder::unix_stream(socket.unwrap());
        Self(builder.build().await.unwrap())
    }

    async fn call<B>(&self, member: &str, body: &B) -> zbus::Result<Message>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        let interface = "org.freedesktop.systemd1.Manager";
        let path = "/org/freedesktop/systemd1";
        self.0
            .call_method(Some(SYSTEMD), path, Some(interface), member, body)
            .await
    }

    async fn get(&self, path: &str, interface: &str, name: &str) -> Option<OwnedVariant> {
        let properties = Some("org.freedesktop.DBus.Properties");
        let reply = self
            .0
            .call_method(Some(SYSTEMD), path, properties, "Get", &(interface, name))
            .await;
        reply.ok()?.body().deserialize().ok()
    }

    async fn version(&self) -> u32 {
        let interface = "org.freedesktop.systemd1.Manager";
        let version = self
            .get("/org/freedesktop/systemd1", interface, "Version")
            .await;
        let text = version.unwrap().to_string();
        let digits = text
            .trim_matches('"')
            .split(|c: char| !c.is_ascii_digit())
            .next();
        digits.unwrap().parse().unwrap()
    }

    /// A unit that stays for as long as it is looked at, and does nothing.
    async fn start(&self, unit: &str, property: Vec<(&str, Variant<'_>)>) -> zbus::Result<()> {
        let command: (&str, Vec<&str>, bool) = ("/bin/true", vec!["true"], true);
        let mut properties: Vec<(&str, Variant<'_>)> = vec![
            ("Type", "simple".into()),
            ("RemainAfterExit", true.into()),
            ("ExecStart", vec![command].into()),
            // Nobody shall see it fail, as many do: an ordinary user may not do all that.
            ("AddRef", true.into()),
        ];
        properties.extend(property);
        let aux: Vec<(&str, Vec<(&str, Variant<'_>)>)> = Vec::new();
        self.call("StartTransientUnit", &(unit, "fail", properties, aux))
            .await
            .map(drop)
    }

    async fn read(&self, unit: &str, name: &str) -> Option<String> {
        let reply = self.call("GetUnit", &(unit,)).await.ok()?;
        let path: OwnedObjectPath = reply.body().deserialize().unwrap();
        for interface in ["Service", "Unit"] {
            let interface = format!("{SYSTEMD}.{interface}");
            if let Some(value) = self.get(path.as_str(), &interface, name).await {
                return Some(value.to_string());
            }
        }
        None
    }

    async fn stop(&self, unit: &str) {
        let _ = self.call("StopUnit", &(unit, "replace")).await;
        let _ = self.call("ResetFailedUnit", &(unit,)).await;
        let _ = self.call("UnrefUnit", &(unit,)).await;
    }
}
