//! Devices of one option each.

use super::Argv;
use crate::config::VmConfig;
use crate::qemu::optarg::OptArg;
use crate::qemu::part::virtio;

/// A guest that panics is noticed.
pub(super) fn panic(argv: &mut Argv, config: &VmConfig) {
    if config.board().is_pc() {
        argv.opt(
            "-device",
            OptArg::new("driver", "pvpanic").with("id", "pvpanic"),
        );
    }
    argv.opt("-action", OptArg::new("panic", config.panic.as_str()));
}

/// Random numbers from the host.
pub(super) fn rng(argv: &mut Argv, config: &VmConfig) {
    if let Some(driver) = virtio(config.board(), "virtio-rng")
        && let Some(rng) = &config.rng
    {
        let mut arg = OptArg::new("driver", driver).with("id", "rng");
        if let Some(source) = &rng.source {
            let id = "rng-source";
            let object = OptArg::new("qom-type", "rng-random").with("id", id);
            argv.opt("-object", object.with("filename", source));
            arg = arg.with("rng", id);
        }
        if let Some(bytes) = rng.max_bytes {
            let period = rng.period.map_or(1000, |it| it.duration().as_millis());
            arg = arg
                .with("max-bytes", bytes.bytes().to_string())
                .with("period", period.to_string());
        }
        argv.opt("-device", arg);
    }
}

/// What acts when the guest is not heard of.
pub(super) fn watchdog(argv: &mut Argv, config: &VmConfig) {
    if let Some(watchdog) = config.watchdog {
        let device = OptArg::new("driver", watchdog.model.driver());
        argv.opt("-device", device.with("id", "watchdog"));
        argv.opt("-action", OptArg::new("watchdog", watchdog.action.as_str()));
    }
}

/// Memory that the guest gives back.
pub(super) fn balloon(argv: &mut Argv, config: &VmConfig) {
    if let Some(driver) = virtio(config.board(), "virtio-balloon")
        && let Some(balloon) = &config.balloon
    {
        let arg = OptArg::new("driver", driver)
            .with("id", "balloon")
            .with_bool("deflate-on-oom", balloon.deflate_on_oom)
            .with_bool("free-page-reporting", balloon.free_page_reporting);
        argv.opt("-device", arg);
    }
}
