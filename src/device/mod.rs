//! Where the networks run: the CPU, or an NVIDIA GPU in a program built with the feature `cuda`.
//!
//! A CUDA device is opened with one stream of its own, and everything on it goes through that stream in the order in
//! which it is asked for. So tensors may move between threads, as a model does from the one that loads it to the
//! engine's, without a race; candle's default, a stream a thread, leaves such tensors unordered. With one stream there
//! is nothing for cudarc's events to order either: they are off, which saves two a tensor.

#[cfg(cuda_delayed)]
mod delay;
#[cfg(feature = "cuda")]
pub mod graph;

use candle_core::Device;
use std::str::FromStr;

/// A device as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The first CUDA device if there is one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of this number.
    Cuda(usize),
}

/// Why there is no CUDA device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoCuda {
    /// The program has no CUDA code.
    #[error("this program was built without the feature \"cuda\"")]
    Feature,
    /// The driver's library could not be loaded.
    #[error("there is no NVIDIA driver ({0})")]
    Driver(String),
    /// The driver is there, but not a library of the CUDA toolkit's.
    #[error("the CUDA library {file} could not be loaded ({reason}); LD_LIBRARY_PATH may name its folder")]
    Library {
        /// The library.
        file: &'static str,
        /// What the dynamic linker says.
        reason: String,
    },
    /// The driver finds no device.
    #[error("the driver finds no CUDA device ({0})")]
    Device(String),
}

/// Why a device could not be opened.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// Not a device's name.
    #[error("{0}: must be auto, cpu or cuda:N")]
    Name(String),
    /// A CUDA device was asked for by number, and there is none at all.
    #[error("cuda:{ordinal}: {reason}")]
    NoCuda {
        /// The number.
        ordinal: usize,
        /// Why there is none.
        reason: NoCuda,
    },
    /// There are CUDA devices, but not one of that number.
    #[error("cuda:{ordinal}: there are {count} CUDA devices, numbered from 0")]
    Ordinal {
        /// The number.
        ordinal: usize,
        /// How many there are.
        count: usize,
    },
    /// The device is there and cannot be used.
    #[error("cuda:{ordinal}: {reason}")]
    Unusable {
        /// Its number.
        ordinal: usize,
        /// What the driver says.
        reason: String,
    },
}

impl FromStr for Wanted {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        match name {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            _ => match name.strip_prefix("cuda:").map(str::parse) {
                Some(Ok(ordinal)) => Ok(Self::Cuda(ordinal)),
                _ if name == "cuda" => Ok(Self::Cuda(0)),
                _ => Err(DeviceError::Name(name.to_owned())),
            },
        }
    }
}

/// What a wish comes to, given what there is.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    Cuda(usize),
    /// The CPU; for [`Wanted::Auto`], with the reason why it is not a CUDA device.
    Cpu(Option<NoCuda>),
}

impl Wanted {
    /// `count` is the number of CUDA devices, of which there is at least one if it is `Ok`.
    fn choose(self, count: impl FnOnce() -> Result<usize, NoCuda>) -> Result<Choice, DeviceError> {
        match self {
            Self::Cpu => Ok(Choice::Cpu(None)),
            Self::Auto => Ok(count().map_or_else(|reason| Choice::Cpu(Some(reason)), |_| Choice::Cuda(0))),
            Self::Cuda(ordinal) => match count() {
                Ok(count) if ordinal < count => Ok(Choice::Cuda(ordinal)),
                Ok(count) => Err(DeviceError::Ordinal { ordinal, count }),
                Err(reason) => Err(DeviceError::NoCuda { ordinal, reason }),
            },
        }
    }

    /// Opens the device and says in the log which it is.
    ///
    /// # Errors
    /// When a CUDA device was asked for by number and cannot be used. `auto` takes the CPU then, and says why.
    pub fn open(self) -> Result<Device, DeviceError> {
        let device = match self.choose(cuda_devices)? {
            Choice::Cpu(None) => Device::Cpu,
            Choice::Cpu(Some(NoCuda::Feature)) => Device::Cpu,
            Choice::Cpu(Some(reason)) => {
                tracing::warn!(%reason, "no CUDA device was found: the networks run on the CPU");
                Device::Cpu
            }
            Choice::Cuda(ordinal) => match (open_cuda(ordinal), self) {
                (Ok(device), _) => device,
                (Err(error), Self::Auto) => {
                    tracing::warn!(%error, "the CUDA device cannot be used: the networks run on the CPU");
                    Device::Cpu
                }
                (Err(error), _) => return Err(error),
            },
        };
        tracing::info!(device = describe(&device), "networks run here");
        Ok(device)
    }
}

/// How many CUDA devices there are, at least one.
#[cfg(feature = "cuda")]
pub fn cuda_devices() -> Result<usize, NoCuda> {
    use candle_core::cuda_backend::cudarc::driver::CudaContext;
    #[cfg(cuda_delayed)]
    delay::load()?;
    match CudaContext::device_count() {
        Ok(0) => Err(NoCuda::Device("it counts none".into())),
        Ok(count) => Ok(count.unsigned_abs() as usize),
        Err(error) => Err(NoCuda::Device(error.to_string())),
    }
}

/// How many CUDA devices there are, at least one.
#[cfg(not(feature = "cuda"))]
pub fn cuda_devices() -> Result<usize, NoCuda> {
    Err(NoCuda::Feature)
}

fn open_cuda(ordinal: usize) -> Result<Device, DeviceError> {
    let unusable = |e: candle_core::Error| {
        let reason = e.to_string().lines().next().unwrap_or_default().to_owned();
        DeviceError::Unusable { ordinal, reason }
    };
    let device = Device::new_cuda_with_stream(ordinal).map_err(unusable)?;
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = &device {
        // SAFETY: all work on the device goes through the one stream made above, so there is nothing to order.
        unsafe { device.disable_event_tracking() };
    }
    Ok(device)
}

/// The device's name for people: `cpu`, or `cuda:0` with the name the driver has for it.
pub fn describe(device: &Device) -> String {
    match device {
        Device::Cpu => "cpu".to_owned(),
        #[cfg(feature = "cuda")]
        Device::Cuda(cuda) => {
            let context = cuda.cuda_stream().context().clone();
            let name = context.name().unwrap_or_else(|_| "unknown".to_owned());
            format!("cuda:{} ({name})", context.ordinal())
        }
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let parsed = ["auto", "cpu", "cuda", "cuda:0", "cuda:7"].map(|name| name.parse::<Wanted>().unwrap());
        let expected = [Wanted::Auto, Wanted::Cpu, Wanted::Cuda(0), Wanted::Cuda(0), Wanted::Cuda(7)];
        assert_eq!(parsed, expected);
        for bad in ["", "tpu", "cuda:", "cuda:-1", "cuda:x", "cuda0", "CPU"] {
            let error = bad.parse::<Wanted>().unwrap_err().to_string();
            assert_eq!(error, format!("{bad}: must be auto, cpu or cuda:N"));
        }
    }

    #[test]
    fn without_a_device_auto_takes_the_cpu_and_a_number_is_an_error() {
        let none = || Err(NoCuda::Driver("libcuda.so.1 is not there".into()));
        assert_eq!(Wanted::Auto.choose(none), Ok(Choice::Cpu(Some(none().unwrap_err()))));
        assert_eq!(Wanted::Cpu.choose(|| panic!("nobody asked for CUDA")), Ok(Choice::Cpu(None)));
        let refused = Wanted::Cuda(0).choose(none).unwrap_err().to_string();
        assert_eq!(refused, "cuda:0: there is no NVIDIA driver (libcuda.so.1 is not there)");
        let refused = Wanted::Cuda(2).choose(|| Err(NoCuda::Feature)).unwrap_err().to_string();
        assert_eq!(refused, "cuda:2: this program was built without the feature \"cuda\"");
    }

    #[test]
    fn with_devices_numbers_are_checked() {
        assert_eq!(Wanted::Auto.choose(|| Ok(2)), Ok(Choice::Cuda(0)));
        assert_eq!(Wanted::Cuda(1).choose(|| Ok(2)), Ok(Choice::Cuda(1)));
        let refused = Wanted::Cuda(2).choose(|| Ok(2)).unwrap_err().to_string();
        assert_eq!(refused, "cuda:2: there are 2 CUDA devices, numbered from 0");
    }

    #[test]
    fn the_cpu_always_opens() {
        assert!(matches!(Wanted::Cpu.open(), Ok(Device::Cpu)));
        assert_eq!(describe(&Device::Cpu), "cpu");
    }
}
