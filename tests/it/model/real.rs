//! The same VMs, made by maqet, with QEMUs: what is done to them, and what is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use maqet::qmp::{Monitor, lock_path};
use serde_json::{Value, json};

use crate::sandbox::{PATIENCE, Ran, Sandbox, signal};

use super::step::Step;
use super::world::{BLOCK, Content, Disks, Format, Id, Image, Kind, Run, Vm, World};

/// What is not as it should be, in words.
pub type Wrong = String;

pub struct Real {
    sandbox: Sandbox,
}

fn fail_if(is_wrong: bool, what: impl FnOnce() -> Wrong) -> Result<(), Wrong> {
    match is_wrong {
        true => Err(what()),
        false => Ok(()),
    }
}

/// Both must be the same.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, is: &T, should: &T) -> Result<(), Wrong> {
    fail_if(is != should, || {
        format!("{what}\n  is        {is:?}\n  should be {should:?}")
    })
}

impl Real {
    /// A world with one VM, which has these disks.
    pub fn new(world: &World) -> Self {
        let sandbox = Sandbox::new();
        std::fs::create_dir(sandbox.path("out")).unwrap();
        for (name, vm) in &world.vms {
            let lines = vm.disks.iter().map(|(name, disk)| {
                let image = &world.images[disk.image];
                let size = image.content.len() as u64 * BLOCK / 1024;
                format!("disk.{name} = {{ size = '{size}K' }}\n")
            });
            sandbox.add_lines(name, &lines.collect::<String>());
        }
        Self { sandbox }
    }

    /// Where an image is.
    fn path(&self, place: &str) -> PathBuf {
        match place.split_once('/') {
            Some(("out", file)) => self.sandbox.path("out").join(file),
            Some((vm, file)) => self.sandbox.vm_dir(vm).join(file),
            None => unreachable!("{place}"),
        }
    }

    /// Does a step that may be refused.
    pub fn perform(&self, step: &Step, world: &World) -> Result<Option<Ran>, Wrong> {
        match step {
            Step::Write {
                vm,
                disk,
                at,
                count,
                byte,
            } => {
                let it = &world.vms[vm];
                let words = format!(
                    "write -q -P {byte} {} {}",
                    *at as u64 * BLOCK,
                    *count as u64 * BLOCK
                );
                match it.machine() {
                    Some(_) => self.write_live(vm, disk, &words)?,
                    None => {
                        let image = &world.images[it.disks[disk].image];
                        let args = ["-f", image.format.as_str(), "-c", &words];
                        self.tool("qemu-io", &args, &self.path(&image.place))?;
                    }
                }
                Ok(None)
            }
            Step::Kill { vm } => {
                signal(self.sandbox.pid(vm), libc::SIGKILL);
                self.sandbox.wait_for_state(vm, "failed");
                Ok(None)
            }
            // A guest that has not run cannot be saved; this one has, for a moment.
            Step::Start { vm } if world.vms.get(vm).is_some_and(|it| it.machine().is_none()) => {
                let ran = self.sandbox.maqet(&["start", &format!("@{vm}")]);
                if ran.status == 0 {
                    self.run_a_moment(vm)?;
                }
                Ok(Some(ran))
            }
            Step::Restore {
                vm, reset: true, ..
            } if world.vms.get(vm).is_some_and(|it| it.machine().is_some()) => {
                let ran = self.do_it(step);
                if ran.status == 0 {
                    self.run_a_moment(vm)?;
                }
                Ok(Some(ran))
            }
            step => Ok(Some(self.do_it(step))),
        }
    }

    fn do_it(&self, step: &Step) -> Ran {
        let path = |place: &str| self.path(place).to_str().unwrap().to_owned();
        let args = step.args(path).expect("a command of maqet's");
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.sandbox.maqet(&args)
    }

    fn run_a_moment(&self, vm: &str) -> Result<(), Wrong> {
        let mut monitor = self.monitor(vm)?;
        for command in ["cont", "stop"] {
            monitor.execute(command, ()).map_err(words)?;
        }
        Ok(())
    }

    fn monitor(&self, vm: &str) -> Result<Monitor, Wrong> {
        let socket = self.sandbox.runtime(vm).join("qmp.sock");
        let monitor = Monitor::open(&socket, &lock_path(&socket), PATIENCE);
        let mut monitor = monitor.map_err(|error| format!("{vm}'s monitor: {error}"))?;
        monitor.set_timeout(PATIENCE);
        Ok(monitor)
    }

    /// What a running VM has, by disk: the device, and the node of the image.
    fn drives(monitor: &mut Monitor) -> Result<BTreeMap<String, (String, String)>, Wrong> {
        let blocks = monitor.execute("query-block", ()).map_err(words)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let found = blocks.as_array().unwrap().iter().filter_map(|block| {
            let device = text(&block["qdev"]);
            let id = device.trim_start_matches("/machine/peripheral/");
            let disk = id.split('/').next()?.strip_prefix("disk-")?.to_owned();
            Some((disk, (device, text(&block["inserted"]["node-name"]))))
        });
        Ok(found.collect())
    }

    fn write_live(&self, vm: &str, disk: &str, words: &str) -> Result<(), Wrong> {
        let mut monitor = self.monitor(vm)?;
        let drives = Self::drives(&mut monitor)?;
        let (device, _) = drives.get(disk).ok_or(format!("{vm} has no disk {disk}"))?;
        for words in [words, "flush"] {
            let line = format!("qemu-io -d {device} \"{words}\"");
            let arguments = json!({ "command-line": line });
            let said = monitor.execute("human-monitor-command", arguments);
            let said = said.map_err(crate::model::real::words)?;
            fail_if(said != json!(""), || format!("{line}: {said}"))?;
        }
        Ok(())
    }

    fn tool(&self, program: &str, args: &[&str], image: &Path) -> Result<String, Wrong> {
        let output = Command::new(program).args(args).arg(image).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let is_fine = output.status.success() && !said.contains("failed");
        fail_if(!is_fine, || {
            format!("{program} {args:?} {}: {said}", image.display())
        })?;
        Ok(said)
    }

    /// What must not change when something is refused, besides what the model knows.
    pub fn definitions(&self, world: &World) -> Vec<String> {
        let show = |vm: &String| self.sandbox.maqet(&["show", &format!("@{vm}")]).stdout;
        world.vms.keys().map(show).collect()
    }

    /// Compares all that can be seen with what should be.
    pub fn compare(&self, world: &World) -> Result<(), Wrong> {
        // Running VMs of others would be listed, too.
        let own = self.sandbox.name("*");
        let list = self.sandbox.maqet(&["ls", "--json", &own]).json();
        let states: BTreeMap<String, String> = list
            .as_array()
            .unwrap()
            .iter()
            .map(|it| (text(&it["name"]), text(&it["state"])))
            // What one is that did not answer in time; it is asked again below.
            .map(|(name, state)| (name, state.replace("running", "paused")))
            .collect();
        let should = world.vms.iter().map(|(name, vm)| {
            let state = match &vm.run {
                Run::Stopped => "stopped",
                Run::Failed => "failed",
                Run::Running(_) => "paused",
                Run::Saved(_) => "saved",
            };
            (self.sandbox.name(name), state.to_owned())
        });
        same("the VMs", &states, &should.collect())?;
        for (name, vm) in &world.vms {
            let at = |wrong: Wrong| format!("{name}: {wrong}");
            self.compare_disks(world, name, vm).map_err(at)?;
            self.compare_snapshots(world, name, vm).map_err(at)?;
            self.compare_contents(world, name, vm).map_err(at)?;
        }
        self.compare_files(world)
    }

    fn compare_disks(&self, world: &World, name: &str, vm: &Vm) -> Result<(), Wrong> {
        let list = self
            .sandbox
            .maqet(&["disk", "ls", &format!("@{name}"), "--json"]);
        let mut is = BTreeMap::new();
        for it in list.json().as_array().unwrap() {
            same("what is wrong with a disk", &it["fault"], &Value::Null)?;
            let (defined, plugged) = (it["defined"] == true, it["plugged"] == true);
            let facts = (
                defined,
                plugged,
                PathBuf::from(text(&it["file"])),
                text(&it["format"]),
                it["virtual_size"].as_u64().unwrap(),
                it["snapshots"].as_u64().unwrap(),
                it["bases"].as_array().unwrap().iter().map(text).collect(),
            );
            is.insert(text(&it["disk"]), facts);
        }
        let empty = Disks::new();
        let plugged = vm.machine().map_or(&empty, |machine| &machine.disks);
        let mut should = BTreeMap::new();
        for (disk, it) in vm.disks.iter().chain(plugged) {
            // Of one that is another one now, QEMU's is shown.
            let it = plugged.get(disk).unwrap_or(it);
            let image = &world.images[it.image];
            let bases: Vec<String> = world.chain(it.image)[1..]
                .iter()
                .map(|id| self.path(&world.images[*id].place).display().to_string())
                .collect();
            let facts = (
                vm.disks.contains_key(disk),
                plugged.contains_key(disk),
                self.path(&image.place),
                image.format.as_str().to_owned(),
                image.content.len() as u64 * BLOCK,
                image.within.len() as u64,
                bases,
            );
            should.insert(disk.clone(), facts);
        }
        same("its disks", &is, &should)
    }

    fn compare_snapshots(&self, world: &World, name: &str, vm: &Vm) -> Result<(), Wrong> {
        let list = self
            .sandbox
            .maqet(&["snapshot", "ls", &format!("@{name}"), "--json"]);
        let list = list.json();
        let mut is = BTreeMap::new();
        for it in list.as_array().unwrap() {
            let facts = (
                it["parent"].as_str().map(str::to_owned),
                it["memory_bytes"].is_u64(),
                it["is_external"] == true,
                it["is_current"] == true,
                it["resumes"] == true,
                it["is_foreign"] == true,
                it["description"].is_string(),
                it["missing"] == json!([]),
            );
            let is_new = is.insert(text(&it["name"]), facts).is_none();
            fail_if(!is_new, || format!("two snapshots of one name: {list}"))?;
        }
        let tops: BTreeSet<Id> = vm.disks_now().values().map(|disk| disk.image).collect();
        let mut should = BTreeMap::new();
        for it in &vm.snapshots {
            let parent = vm.snapshots.iter().find(|one| Some(one.id) == it.parent);
            let is_within = |id: Id| {
                let image = &world.images[id];
                image.exists && image.within.contains_key(&it.name)
            };
            // It is in the first of them.
            let has_memory = matches!(it.kind, Kind::Within(Some(_)));
            let memory = has_memory && is_within(it.disks[0].1);
            let is_whole = it.is_beside() || it.disks.iter().all(|(_, id)| is_within(*id));
            let facts = (
                parent.map(|parent| parent.name.clone()),
                memory,
                it.is_beside(),
                vm.at == Some(it.id),
                vm.at == Some(it.id) && vm.resumes,
                false,
                it.described,
                is_whole,
            );
            should.insert(it.name.clone(), facts);
        }
        for image in &tops {
            for name in world.images[*image].within.keys() {
                should
                    .entry(name.clone())
                    .or_insert((None, false, false, false, false, true, false, true));
            }
        }
        // Whether another's has memory is not known.
        for (name, facts) in &mut should {
            if let (true, Some(is)) = (facts.5, is.get(name)) {
                facts.1 = is.1;
            }
        }
        same("its snapshots", &is, &should)
    }

    fn compare_contents(&self, world: &World, name: &str, vm: &Vm) -> Result<(), Wrong> {
        let raw = self.sandbox.path("content");
        let to = raw.to_str().unwrap();
        match vm.machine() {
            None => {
                for (disk, it) in &vm.disks {
                    let image = &world.images[it.image];
                    self.check_image(image)?;
                    let args = ["convert", "-f", image.format.as_str(), "-O", "raw"];
                    let from = self.path(&image.place);
                    let args = [&args[..], &[from.to_str().unwrap()]].concat();
                    self.tool("qemu-img", &args, &raw)?;
                    compare_content(disk, &raw, &image.content)?;
                }
            }
            Some(machine) if !machine.disks.is_empty() => {
                let mut monitor = self.monitor(name)?;
                let drives = Self::drives(&mut monitor)?;
                let socket = self.sandbox.path("nbd");
                let mut ask = |command: &str, arguments: Value| {
                    let said = monitor.execute(command, arguments);
                    said.map_err(|error| format!("{command}: {}", words(error)))
                };
                let status = ask("query-status", json!({}))?;
                same("its state", &text(&status["status"]), &"paused".to_owned())?;
                let data = json!({ "path": socket });
                let address = json!({ "addr": { "type": "unix", "data": data } });
                ask("nbd-server-start", address)?;
                for (disk, it) in &machine.disks {
                    let (_, node) = drives.get(disk).ok_or(format!("it has no disk {disk}"))?;
                    let export =
                        json!({ "type": "nbd", "id": disk, "node-name": node, "name": disk });
                    ask("block-export-add", export)?;
                    let from = format!("nbd+unix:///{disk}?socket={}", socket.display());
                    let args = ["convert", "-f", "raw", "-O", "raw", &from];
                    self.tool("qemu-img", &args, Path::new(to))?;
                    compare_content(disk, &raw, &world.images[it.image].content)?;
                    ask("block-export-del", json!({ "id": disk, "mode": "hard" }))?;
                }
                while ask("query-block-exports", json!({}))? != json!([]) {}
                ask("nbd-server-stop", json!({}))?;
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn check_image(&self, image: &Image) -> Result<(), Wrong> {
        if image.format == Format::Raw {
            return Ok(());
        }
        let args = ["check", "-q", "-f", "qcow2"];
        let path = self.path(&image.place);
        let checked = Command::new("qemu-img").args(args).arg(path).output();
        let checked = checked.unwrap();
        // 3 is for leaks alone.
        let is_fine = checked.status.success() || image.leaks && checked.status.code() == Some(3);
        fail_if(!is_fine, || {
            let said = String::from_utf8_lossy(&checked.stderr);
            format!("{} is not sound: {checked:?} {said}", image.place)
        })
    }

    fn compare_files(&self, world: &World) -> Result<(), Wrong> {
        let orphans = self.sandbox.maqet(&["disk", "orphans", "--json"]).json();
        same("what is missing", &orphans["missing"], &json!([]))?;
        let files = orphans["files"].as_array().unwrap().iter();
        let is: BTreeSet<PathBuf> = files.map(|it| text(&it["file"]).into()).collect();
        let should = world.orphans();
        let should = should.iter().map(|place| self.path(place)).collect();
        same("the orphans", &is, &should)?;
        for image in &world.images {
            let path = self.path(&image.place);
            let is_again = world
                .images
                .iter()
                .any(|other| other.exists && other.place == image.place);
            fail_if(path.exists() != is_again, || match is_again {
                true => format!("{} is gone", path.display()),
                false => format!("{} is still there", path.display()),
            })?;
        }
        Ok(())
    }

    /// Compares what is in all images that anything goes by, snapshots included; no VM runs.
    pub fn compare_images(&self, world: &World) -> Result<(), Wrong> {
        let raw = self.sandbox.path("content");
        for image in world.used().into_iter().map(|id| &world.images[id]) {
            self.check_image(image)?;
            let from = self.path(&image.place);
            let from = from.to_str().unwrap();
            let args = ["convert", "-f", image.format.as_str(), "-O", "raw", from];
            self.tool("qemu-img", &args, &raw)?;
            compare_content(&image.place, &raw, &image.content)?;
            let ids = match image.within.is_empty() {
                true => Value::Null,
                false => {
                    let args = ["info", "--output=json", "-f", "qcow2"];
                    let info = self.tool("qemu-img", &args, Path::new(from))?;
                    serde_json::from_str::<Value>(&info).unwrap()["snapshots"].clone()
                }
            };
            for (name, content) in &image.within {
                let mut all = ids.as_array().into_iter().flatten();
                let found = all.find(|it| it["name"] == name.as_str());
                let found = found.ok_or(format!("{from} has no snapshot {name}"))?;
                let id = format!("snapshot.id={}", text(&found["id"]));
                let args = ["convert", "-f", "qcow2", "-l", &id, "-O", "raw", from];
                self.tool("qemu-img", &args, &raw)?;
                // It has the size that the disk has now.
                let now = image.content.len();
                let file = std::fs::File::options().write(true).open(&raw).unwrap();
                let shorter = content.len().min(now);
                file.set_len(shorter as u64 * BLOCK).unwrap();
                let content = content[..shorter].to_vec();
                compare_content(&format!("{} at {name}", image.place), &raw, &content)?;
            }
        }
        Ok(())
    }
}

fn compare_content(what: &str, raw: &Path, should: &Content) -> Result<(), Wrong> {
    let bytes = std::fs::read(raw).unwrap();
    let mut is = Content::new();
    for block in bytes.chunks(BLOCK as usize) {
        let all_same = block.iter().all(|byte| *byte == block[0]);
        fail_if(!all_same, || format!("{what}: a block is torn"))?;
        is.push(block[0]);
    }
    fail_if(is != *should, || {
        format!(
            "{what} reads\n  {}\n  and should read\n  {}",
            runs(&is),
            runs(should)
        )
    })
}

/// The bytes of a content, each with how many blocks have it in a row.
fn runs(content: &Content) -> String {
    let runs = content.chunk_by(|a, b| a == b);
    let runs = runs.map(|run| format!("{}x{}", run[0], run.len()));
    runs.collect::<Vec<_>>().join(" ")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn words(error: maqet::qmp::Error) -> Wrong {
    error.to_string()
}
