//! Devices of one option each.

use super::Argv;
use crate::config::VmConfig;
use crate::qemu::optarg::OptArg;
use crate::qemu::part::virtio;

/// A guest that panics ends QEMU, with a failure.
pub(super) fn panic(argv: &mut Argv, config: &VmConfig) {
    if config.board().is_pc() {
        argv.opt(
            "-device",
            OptArg::new("driver", "pvpanic").with("id", "pvpanic"),
        );
    }
    argv.opt("-action", OptArg::new("panic", "exit-failure"));
}

/// Random numbers from the host.
pub(super) fn rng(argv: &mut Argv, config: &VmConfig) {
    if let Some(driver) = virtio(config.board(), "virtio-rng")
        && config.rng
    {
        argv.opt("-device", OptArg::new("driver", driver).with("id", "rng"));
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
