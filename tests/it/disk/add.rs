use std::fs;
use std::process::Command;

use super::{assert_clean, run};
use crate::sandbox::Sandbox;

impl Sandbox {
    /// An image of 10 MiB with data in it, in each of these formats, and its plain bytes.
    fn sources(&self, formats: &[&str]) -> Vec<u8> {
        let mut bytes = vec![0; 10 << 20];
        for (at, byte) in bytes.iter_mut().enumerate().take(3 << 20).skip(1 << 20) {
            *byte = (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0];
        }
        fs::write(self.path("x.img"), &bytes).unwrap();
        for format in formats {
            let to = format!("x.{format}");
            self.qemu_img(&["convert", "-f", "raw", "-O", format, "x.img", &to]);
        }
        bytes
    }

    /// Fails unless a disk of `web` reads as these bytes do.
    #[track_caller]
    fn assert_content(&self, disk: &str, bytes: &[u8]) {
        let info = self.disk_info(disk);
        let (file, format) = (
            info["file"].as_str().unwrap(),
            info["format"].as_str().unwrap(),
        );
        let out = self.path("content");
        self.qemu_img(&[
            "convert",
            "-f",
            format,
            "-O",
            "raw",
            file,
            out.to_str().unwrap(),
        ]);
        assert!(
            fs::read(&out).unwrap() == bytes,
            "disk {disk} reads otherwise"
        );
        if format == "qcow2" {
            assert_clean(file.as_ref());
        }
    }
}

#[test]
fn an_empty_disk_is_made_in_the_vm_s_directory_and_in_its_definition() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    let added = sandbox
        .disk("add", &["data", "--size", "20M", "--json"])
        .json();
    let file = sandbox.vm_dir("web").join("data.qcow2");
    assert_eq!(added["file"], file.to_str().unwrap());
    assert_eq!(
        (&added["when"], &added["virtual_size"]),
        (&"stopped".into(), &(20 << 20).into())
    );
    assert_clean(&file);
    assert_eq!(sandbox.disk_info("data")["made"], true);
    let words = [
        "fast",
        "--size",
        "5M",
        "--format",
        "raw",
        "interface=scsi",
        "cache=none",
    ];
    sandbox.disk("add", &words).ok();
    let definition = sandbox.maqet(&["show", "@web"]).ok().stdout;
    assert!(definition.contains("cache = \"none\""), "{definition}");
    let fast = sandbox.disk_info("fast");
    assert_eq!(
        (&fast["format"], &fast["interface"]),
        (&"raw".into(), &"scsi".into())
    );
    sandbox.maqet(&["start", "@web"]).ok();
}

#[test]
fn a_running_vm_gets_a_disk_at_once_where_its_bus_takes_it() {
    let sandbox = Sandbox::running();
    let added = sandbox
        .disk("add", &["data", "--size", "20M", "--json"])
        .json();
    assert_eq!(added["when"], "now");
    assert_eq!(sandbox.disk_info("data")["plugged"], true);
    sandbox
        .disk("add", &["sata", "--size", "1M", "interface=sata"])
        .ok()
        .saying("from the next start on");
    assert_eq!(sandbox.disk_info("sata")["plugged"], false);
    sandbox.maqet(&["stop", "--force", "@web"]).ok();
    sandbox.maqet(&["start", "@web"]).ok();
    assert_eq!(sandbox.disk_info("sata")["plugged"], true);
    assert_eq!(sandbox.disk_info("data")["plugged"], true);
}

#[test]
fn an_image_of_any_format_is_converted_compressed_or_not() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    let bytes = sandbox.sources(&["qcow2", "vmdk", "vdi", "vhdx"]);
    for format in ["qcow2", "vmdk", "vdi", "vhdx"] {
        let from = format!("x.{format}");
        let words = [format, "--from", &from, "--json"];
        let added = sandbox.disk("add", &words).json();
        assert_eq!(added["virtual_size"], 10 << 20, "{format}");
        sandbox.assert_content(format, &bytes);
    }
    for (program, suffix) in [("gzip", "gz"), ("xz", "xz"), ("zstd", "zst")] {
        for (name, file) in [("raw", "x.img"), ("vmdk", "x.vmdk")] {
            let packed = sandbox.path(&format!("{name}.{suffix}"));
            let out = fs::File::create(&packed).unwrap();
            let mut command = Command::new(program);
            command
                .args(["-c", "-q"])
                .arg(sandbox.path(file))
                .stdout(out);
            run(&mut command);
            let disk = format!("{name}-{suffix}");
            let sum = run(Command::new("sha256sum").arg(&packed));
            let sum = sum.split_whitespace().next().unwrap();
            let from = packed.to_str().unwrap();
            let words = [&*disk, "--from", from, "--sha256", sum, "--format", "raw"];
            sandbox.disk("add", &words).ok();
            sandbox.assert_content(&disk, &bytes);
        }
    }
    // Larger than what it is made from.
    let words = ["larger", "--from", "x.vdi", "--size", "12M"];
    sandbox.disk("add", &words).ok();
    let mut larger = bytes.clone();
    larger.resize(12 << 20, 0);
    sandbox.assert_content("larger", &larger);
    sandbox.maqet(&["start", "@web"]).ok();
    assert!(sandbox.orphans().is_empty());
}

#[test]
fn what_cannot_be_taken_is_refused_and_leaves_nothing() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.sources(&["vmdk"]);
    sandbox.images("10M", &["base.qcow2", "over.qcow2"]);
    let outside = [
        "create",
        "-q",
        "-f",
        "qcow2",
        "-o",
        "data_file=secret",
        "out.qcow2",
        "1M",
    ];
    sandbox.qemu_img(&outside);
    let descriptor = "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n\
                      createType=\"monolithicFlat\"\n\nRW 2048 FLAT \"/etc/passwd\" 0\n";
    fs::write(sandbox.path("evil.vmdk"), descriptor).unwrap();
    fs::write(sandbox.path("x.bz2"), "BZh91AY").unwrap();
    fs::write(sandbox.path("cut.gz"), b"\x1f\x8b\x08\0\0\0\0\0").unwrap();
    fs::write(sandbox.path("cut.qcow2"), b"QFI\xfb\0\0\0\x03").unwrap();
    let before = sandbox.maqet(&["show", "@web"]).ok().stdout;
    let wrong_sum = "0".repeat(64);
    for (words, status, said) in [
        (
            &["d", "--from", "over.qcow2"][..],
            1,
            "base.qcow2 read, too",
        ),
        (&["d", "--from", "out.qcow2"], 1, "a file with its data"),
        (&["d", "--from", "evil.vmdk"], 1, "/etc/passwd"),
        (&["d", "--from", "x.bz2"], 1, "cannot unpack `bz2`"),
        (&["d", "--from", "cut.gz"], 1, "cannot unpack"),
        (&["d", "--from", "cut.qcow2"], 1, "cut.qcow2"),
        (&["d", "--from", "nope"], 1, "cannot read"),
        (&["d", "--from", "."], 1, "directory"),
        (
            &["d", "--from", "x.img", "--from-format", "qcow2"],
            1,
            "no qcow2 image",
        ),
        (
            &["d", "--from", "x.img", "--size", "1M"],
            1,
            "was to have 1M",
        ),
        (
            &["d", "--from", "x.img", "--sha256", &wrong_sum],
            1,
            "SHA-256",
        ),
        (&["d", "--from", "x.img", "--sha256", "abc"], 2, "64 digits"),
        (&["d"], 2, "--size"),
        (&["d", "--size", "1M", "fiel=x"], 2, "did you mean `file`?"),
        (&["d", "--size", "1M", "file=x.img"], 1, "is there already"),
        (
            &["d", "--size", "1M", "file=/dev/null"],
            2,
            "has the size that it has",
        ),
        (
            &["d", "--size", "1M", "file=/proc/d.qcow2"],
            1,
            "cannot make",
        ),
    ] {
        sandbox.disk("add", words).fails(status).saying(said);
    }
    assert_eq!(sandbox.maqet(&["show", "@web"]).ok().stdout, before);
    assert!(sandbox.orphans().is_empty());
    sandbox
        .disk("add", &["d", "--from", "over.qcow2", "--trust-names"])
        .ok();
    sandbox
        .disk("add", &["d", "--size", "1M"])
        .fails(1)
        .saying("has a disk `d` already");
    assert_eq!(sandbox.disk_info("d")["bases"].as_array().unwrap().len(), 0);
}

#[test]
fn a_full_disk_leaves_nothing() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    let mut noise = vec![0; 6 << 20];
    for (at, byte) in noise.iter_mut().enumerate() {
        *byte = (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0];
    }
    fs::write(sandbox.path("noise.img"), &noise).unwrap();
    let packed = fs::File::create(sandbox.path("noise.gz")).unwrap();
    let mut command = Command::new("gzip");
    run(command
        .args(["-c", "-q"])
        .arg(sandbox.path("noise.img"))
        .stdout(packed));
    let before = sandbox.maqet(&["show", "@web"]).ok().stdout;
    // Known beforehand, and found while it is unpacked.
    for (from, said) in [("noise.img", "has room for"), ("noise.gz", "No space left")] {
        let words = [
            "disk",
            "add",
            "@web",
            "d",
            "--from",
            from,
            "file=full/d.qcow2",
        ];
        let left = sandbox.with_little_room(&words, |ran| {
            ran.fails(1).saying(said);
        });
        assert_eq!(left, [""; 0]);
        assert_eq!(sandbox.maqet(&["show", "@web"]).ok().stdout, before);
    }
}

#[test]
fn a_directory_that_cannot_be_written_leaves_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    let before = sandbox.maqet(&["show", "@web"]).ok().stdout;
    let closed = sandbox.path("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    sandbox
        .disk("add", &["d", "--size", "1M", "file=closed/d.qcow2"])
        .fails(1)
        .saying("Permission denied");
    assert_eq!(sandbox.maqet(&["show", "@web"]).ok().stdout, before);
    assert_eq!(fs::read_dir(&closed).unwrap().count(), 0);
}

#[test]
fn an_image_of_which_a_part_is_missing_is_not_copied() {
    let sandbox = Sandbox::new();
    sandbox.add_prelaunch("web");
    sandbox.images("10M", &["whole.qcow2"]);
    let whole = sandbox.path("whole.qcow2");
    run(Command::new("qemu-io")
        .args(["-c", "write -P 7 0 4M"])
        .arg(&whole));
    let bytes = fs::read(&whole).unwrap();
    fs::write(sandbox.path("part.qcow2"), &bytes[..bytes.len() / 2]).unwrap();
    let before = sandbox.maqet(&["show", "@web"]).ok().stdout;
    sandbox
        .disk("add", &["d", "--from", "part.qcow2"])
        .fails(1)
        .saying("part.qcow2 cannot be a disk")
        .saying("contradicts itself");
    assert_eq!(sandbox.maqet(&["show", "@web"]).ok().stdout, before);
    assert_eq!(sandbox.orphans().len(), 0);
    sandbox.disk("add", &["d", "--from", "whole.qcow2"]).ok();
}
