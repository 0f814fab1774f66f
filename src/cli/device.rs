//! `--device`: where the networks run.

use candle_core::Device;
use clap::Args;

/// The device option, shared by the subcommands.
#[derive(Args, Clone, Debug)]
pub struct DeviceArg {
    /// Where the networks run: auto (CUDA if there is any), cpu, or cuda:N
    #[arg(long, env = "TWOSTEP_DEVICE", default_value = "auto")]
    device: String,
}

impl DeviceArg {
    /// Opens the device and says in the log which it is.
    pub fn open(&self) -> anyhow::Result<Device> {
        let device = match self.device.as_str() {
            "cpu" => Device::Cpu,
            "auto" if cfg!(feature = "cuda") && candle_core::utils::cuda_is_available() => {
                cuda(0).unwrap_or(Device::Cpu)
            }
            "auto" => Device::Cpu,
            name => match name.strip_prefix("cuda:").map(str::parse) {
                Some(Ok(ordinal)) => cuda(ordinal)?,
                _ => anyhow::bail!("--device {name}: must be auto, cpu or cuda:N"),
            },
        };
        tracing::info!(?device, "networks run here");
        Ok(device)
    }
}

fn cuda(ordinal: usize) -> anyhow::Result<Device> {
    if !cfg!(feature = "cuda") {
        anyhow::bail!("--device cuda:{ordinal}: this program was built without the feature \"cuda\"");
    }
    Device::new_cuda_with_stream(ordinal).map_err(|e| anyhow::anyhow!("--device cuda:{ordinal}: {e}"))
}
