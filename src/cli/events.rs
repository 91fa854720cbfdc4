use std::fmt::Write as _;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::config::TimeSpan;
use crate::ops::events::{Past, VmEvent};
use crate::ops::logs::Run;
use crate::ops::{self, Host, Selector};
use crate::qmp::Event;

use super::output::Output;
use super::several::Several;

/// Show the events of VMs: what QEMU told of its guests
///
/// By default those of this run, or the last one, from the journal; with --since
/// those of all runs since then. People are not shown RTC_CHANGE and
/// NIC_RX_FILTER_CHANGED, which are frequent, unless --filter asks for them.
/// --follow goes on over restarts, costs QEMU nothing, and may be started before
/// the VM is. Where the user cannot read the journal, only the last run is known.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    several: Several,
    /// Go on printing events as they come
    #[arg(long, short)]
    follow: bool,
    /// Only the last events
    #[arg(long, short = 'n', value_name = "N")]
    lines: Option<usize>,
    /// Which run: 0 this or the last one, -1 the one before, and so on
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(..=0))]
    run: Option<i32>,
    /// All runs
    #[arg(long, conflicts_with = "run")]
    all_runs: bool,
    /// Only events since then: a time such as '2026-01-31 12:00', or -1h, or '10m ago'
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<Moment>,
    /// Only these events: names, or patterns such as 'BLOCK_*'; several with commas
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = event_pattern)]
    filter: Vec<glob::Pattern>,
}

/// Events that a guest causes all the time.
pub(super) const FREQUENT: [&str; 2] = ["RTC_CHANGE", "NIC_RX_FILTER_CHANGED"];

pub(super) fn run(out: &Output, host: &Host, args: Args) -> anyhow::Result<ExitCode> {
    let selectors = args.several.selectors();
    let is_wanted = |event: &Event| {
        if args.filter.is_empty() {
            out.json || !FREQUENT.contains(&&*event.name)
        } else {
            args.filter.iter().any(|filter| filter.matches(&event.name))
        }
    };
    let past = Past {
        run: match args.run {
            Some(run) => Run::Back(run),
            None if args.all_runs || args.since.is_some() => Run::All,
            None => Run::Back(0),
        },
        since: args.since.map(|since| since.0),
    };
    if !ops::events::has_history() {
        out.note("you cannot read the journal: only events of this or the last run are known");
    }
    let vms = ops::events::vms(host, &selectors)?;
    ops::events::check(host, &vms, &args.filter)?;
    let is_one = matches!(selectors[..], [Selector::Name(_)]);
    let (events, position) = ops::events::past(host, &vms, past, is_wanted)?;
    let skip = events.len() - args.lines.unwrap_or(usize::MAX).min(events.len());
    for event in &events[skip..] {
        print(out, event, !is_one)?;
    }
    if args.follow {
        super::output::end_with_reader();
        for event in ops::events::follow(host, &selectors, position)? {
            if is_wanted(&event.event) {
                print(out, &event, !is_one)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One event for programs.
#[derive(Serialize)]
struct Printed<'a> {
    vm: &'a str,
    time: Option<String>,
    event: &'a str,
    data: &'a Map<String, Value>,
    run: Option<&'a str>,
}

fn print(out: &Output, event: &VmEvent, with_name: bool) -> std::io::Result<()> {
    let VmEvent { vm, event, run } = event;
    let time = event.timestamp.time();
    let time = time.and_then(|time| jiff::Timestamp::try_from(time).ok());
    let value = Printed {
        vm: vm.as_str(),
        time: time.map(|time| time.to_string()),
        event: &event.name,
        data: &event.data,
        run: run.as_deref(),
    };
    out.answer(&value, |w| {
        if let Some(time) = time {
            let local = time.to_zoned_datetime(jiff::tz::TimeZone::system());
            write!(w, "{} ", local.strftime("%b %d %H:%M:%S.%3f"))?;
        }
        if with_name {
            write!(w, "{vm} ")?;
        }
        writeln!(w, "{}", words(event))
    })
}

/// An event on one line, its data as `key=value`, as `maqet qmp` takes them.
pub(super) fn words(event: &Event) -> String {
    fn add(line: &mut String, key: &str, value: &Value) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    add(line, &format!("{key}.{name}"), value);
                }
            }
            Value::String(text) if !text.is_empty() && !text.contains([' ', '"', '\n']) => {
                let _ = write!(line, " {key}={text}");
            }
            value => {
                let _ = write!(line, " {key}={value}");
            }
        }
    }
    let mut line = event.name.clone();
    for (key, value) in &event.data {
        add(&mut line, key, value);
    }
    line
}

/// A pattern over names of events; case does not matter.
pub(super) fn event_pattern(text: &str) -> Result<glob::Pattern, String> {
    glob::Pattern::new(&text.to_uppercase()).map_err(|error| error.msg.to_owned())
}

/// A moment of the past, as people write it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment(pub SystemTime);

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let now = jiff::Timestamp::now().to_zoned_datetime(jiff::tz::TimeZone::system());
        Self::parse(text, &now)
    }
}

impl Moment {
    fn parse(text: &str, now: &jiff::ZonedDateTime) -> Result<Self, String> {
        let too_far = |_| format!("`{text}` is out of range");
        let moment = |time: jiff::Timestamp| time.try_into().map(Self).map_err(too_far);
        let span = text.strip_suffix(" ago").or(text.strip_prefix('-'));
        if let Some(span) = span {
            let span: TimeSpan = span.trim().parse().map_err(|error| format!("{error}"))?;
            let time = now.timestamp().checked_sub(span.duration());
            return moment(time.map_err(too_far)?);
        }
        if let Ok(time) = text.parse() {
            return moment(time);
        }
        let day = match text {
            "today" => Some(now.date()),
            "yesterday" => Some(now.date().yesterday().map_err(too_far)?),
            _ => None,
        };
        let local: jiff::civil::DateTime = match day {
            Some(day) => day.into(),
            None => text.parse().map_err(|_| {
                "write a time as in '2026-01-31 12:00', '2026-01-31T12:00:00Z', '-1h' or '10m ago'"
                    .to_owned()
            })?,
        };
        let local = local.to_zoned_datetime(now.time_zone().clone());
        moment(local.map_err(too_far)?.timestamp())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn moments_as_people_write_them() {
        let now: jiff::ZonedDateTime = "2026-03-05T12:00:00+01:00[+01:00]".parse().unwrap();
        for (text, expected) in [
            ("-1h", "2026-03-05T10:00:00Z"),
            ("90s ago", "2026-03-05T10:58:30Z"),
            ("2026-03-01 08:30", "2026-03-01T07:30:00Z"),
            ("2026-03-01 08:30:15", "2026-03-01T07:30:15Z"),
            ("2026-03-01", "2026-02-28T23:00:00Z"),
            ("2026-03-01T08:30:00Z", "2026-03-01T08:30:00Z"),
            ("2026-03-01T08:30:00.5+02:00", "2026-03-01T06:30:00.5Z"),
            ("today", "2026-03-04T23:00:00Z"),
            ("yesterday", "2026-03-03T23:00:00Z"),
        ] {
            let moment =
                Moment::parse(text, &now).unwrap_or_else(|error| panic!("{text}: {error}"));
            let time = jiff::Timestamp::try_from(moment.0).unwrap();
            assert_eq!(time.to_string(), expected, "{text}");
        }
        for text in ["", "-", "-1", "noon", "25:00", "2026-13-01", "1h", " ago"] {
            assert!(Moment::parse(text, &now).is_err(), "{text}");
        }
    }

    #[test]
    fn an_event_is_one_line_of_words() {
        let event: Event = serde_json::from_value(json!({
            "timestamp": {"seconds": 1, "microseconds": 2},
            "event": "X",
            "data": {"a": true, "b": "text", "c": "two words", "d": {"e": 1, "f": [1]}, "g": ""},
        }))
        .unwrap();
        assert_eq!(
            words(&event),
            r#"X a=true b=text c="two words" d.e=1 d.f=[1] g="""#
        );
    }

    #[test]
    fn patterns_of_events_heed_no_case() {
        assert!(event_pattern("block_*").unwrap().matches("BLOCK_JOB_READY"));
        assert!(!event_pattern("block").unwrap().matches("BLOCK_JOB_READY"));
        assert!(event_pattern("[").is_err());
    }
}
