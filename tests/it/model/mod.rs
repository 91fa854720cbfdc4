//! Random operations on disks and snapshots, against a model of them.
//!
//! Each sequence has VMs, images and QEMUs of its own. After each step, all that maqet,
//! QEMU and its tools show must be what the model says ([`world`]), and what it says must be
//! refused is refused and changes nothing. `MAQET_TEST_SEQUENCES` is how many there are;
//! `MAQET_TEST_SEED` is for others. What fails is told as the shortest sequence that fails.

mod real;
mod step;
mod world;

use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::pool::{Random, number};

use real::{Real, Wrong};
use step::Step;
use world::{Bus, Disk, Disks, Format, World};

/// How many sequences there are where nobody asks for another number.
const MANY: u32 = 12;

/// How many steps each has.
const STEPS: usize = 18;

/// How long to look for a shorter sequence that fails as well.
const SHRINKING: Duration = Duration::from_secs(120);

#[test]
fn random_operations_on_disks_and_snapshots_do_what_a_model_of_them_says() {
    let many = number("MAQET_TEST_SEQUENCES").map_or(MANY, |many| many as u32);
    let next = AtomicU32::new(0);
    let failed = Mutex::new(Vec::new());
    let work = || {
        while failed.lock().unwrap().len() < 3 {
            let nth = next.fetch_add(1, Ordering::Relaxed);
            if nth >= many {
                break;
            }
            let mut random = Random::nth(nth);
            let mut done = Vec::new();
            if let Err(wrong) = caught(|| run(&mut Chosen::Random(&mut random), &mut done)) {
                failed.lock().unwrap().push(shortest(nth, done, wrong));
            }
        }
    };
    // One waits for its QEMU while another looks at files.
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..=workers {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

/// Where steps come from.
enum Chosen<'a> {
    Random(&'a mut Random),
    These(std::slice::Iter<'a, Step>),
}

impl Chosen<'_> {
    fn next(&mut self, world: &World, done: usize) -> Option<Step> {
        match self {
            Self::Random(random) => (done < STEPS).then(|| Step::next(random, world)),
            Self::These(steps) => steps.next().cloned(),
        }
    }
}

/// The world as it is before the first step: a VM with two disks that does not run.
fn beginning() -> World {
    let mut world = World::default();
    let disks = [("a", 256), ("b", 96)].map(|(name, blocks)| {
        let place = format!("web/{name}.qcow2");
        let image = world.add_image(place, Format::Qcow2, vec![0; blocks]);
        let bus = Bus::Virtio;
        (name.to_owned(), Disk { image, bus })
    });
    world.add_vm("web", Disks::from(disks));
    world
}

/// Does a sequence, and notes its steps as it does them.
fn run(chosen: &mut Chosen<'_>, done: &mut Vec<Step>) -> Result<(), Wrong> {
    let mut world = beginning();
    let real = Real::new(&world);
    while let Some(step) = chosen.next(&world, done.len()) {
        let mut after = world.clone();
        let should = after.apply(&step);
        if should.is_err() && step.args(str::to_owned).is_none() {
            // In a sequence that was shortened, its guest cannot do it.
            continue;
        }
        done.push(step.clone());
        let before = should.is_err().then(|| real.definitions(&world));
        let mut made: Option<serde_json::Value> = None;
        if let Some(ran) = real.perform(&step, &world)? {
            let said = || format!("{}{}", ran.stdout, ran.stderr);
            match should {
                Ok(()) if ran.status != 0 => return Err(format!("it is refused: {}", said())),
                Err(why) if ran.status == 0 => {
                    return Err(format!("it is not refused ({why}): {}", said()));
                }
                Err(why) if !(1..=8).contains(&ran.status) => {
                    return Err(format!("it does not refuse ({why}): {}", said()));
                }
                _ if ran.stderr.contains("what was begun") => return Err(said()),
                _ => {}
            }
            made = serde_json::from_str(&ran.stdout).ok();
        }
        if let Step::Clone {
            vm,
            new,
            snapshot: None,
        } = &step
            && let Some(made) = made
        {
            after.note_clone(vm, new, |disk| {
                let mut disks = made["disks"].as_array().unwrap().iter();
                disks.any(|it| it["disk"] == disk && it["source"].is_null())
            });
        }
        if let (Some(before), Err(_)) = (before, should)
            && before != real.definitions(&world)
        {
            return Err("it is refused, and a definition is another one".to_owned());
        }
        world = after;
        real.compare(&world)?;
    }
    let running: Vec<String> = world
        .vms
        .iter()
        .filter(|(_, vm)| vm.machine().is_some())
        .map(|(name, _)| name.clone())
        .collect();
    for vm in running {
        let stop = Step::Stop { vm };
        world.apply(&stop)?;
        if let Some(ran) = real.perform(&stop, &world)? {
            ran.ok();
        }
    }
    real.compare_images(&world)
}

/// The same, whatever it fails of.
fn caught(run: impl FnOnce() -> Result<(), Wrong>) -> Result<(), Wrong> {
    panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        Err(words.unwrap_or_else(|| "it panics".to_owned()))
    })
}

/// Drops steps without which it fails as well, and tells what is left.
fn shortest(nth: u32, mut steps: Vec<Step>, mut wrong: Wrong) -> String {
    let begun = Instant::now();
    let mut part = steps.len() / 2;
    while part > 0 && begun.elapsed() < SHRINKING {
        let mut at = 0;
        while at < steps.len() && begun.elapsed() < SHRINKING {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + part).min(steps.len()));
            let mut done = Vec::new();
            match caught(|| run(&mut Chosen::These(fewer.iter()), &mut done)) {
                Err(now) => (steps, wrong) = (done, now),
                Ok(()) => at += part,
            }
        }
        part /= 2;
    }
    let seed = number("MAQET_TEST_SEED").unwrap_or(0);
    let lines: Vec<String> = steps.iter().map(ToString::to_string).collect();
    format!(
        "sequence {nth} of MAQET_TEST_SEED={seed} fails, and so do these:\n  {}\n{wrong}",
        lines.join("\n  ")
    )
}
