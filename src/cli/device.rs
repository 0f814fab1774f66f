//! `--device`: where the networks run.

use candle_core::Device;
use clap::Args;
use twostep::device::Wanted;

/// The device option, shared by the subcommands.
#[derive(Args, Clone, Debug)]
pub struct DeviceArg {
    /// Where the networks run: auto (CUDA if there is any), cpu, or cuda:N
    #[arg(long, env = "TWOSTEP_DEVICE", default_value = "auto")]
    device: String,
}

impl DeviceArg {
    /// Whether the device is the program's to choose.
    pub fn is_auto(&self) -> bool {
        self.device == "auto"
    }

    /// Opens the device and says in the log which it is.
    pub fn open(&self) -> anyhow::Result<Device> {
        let opened = self.device.parse::<Wanted>().and_then(Wanted::open);
        opened.map_err(|error| anyhow::anyhow!("--device {error}"))
    }
}
