//! A batch's work on the model's device: inputs there, one computation, results back.
//!
//! On a CUDA device batches are filled up to a few fixed sizes, and work of one kind and size is recorded as a graph
//! when it comes a second time ([`crate::device::graph`]): from then on it is one launch. Samples do not read each
//! other, so those that fill up, zeros, change nothing.

use candle_core::{Device, Result, Tensor};

/// Kinds of work; with the size of the batch they decide what is launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// Sampling of latents in that many steps.
    Sample(usize),
    /// Decoding of that many latent frames.
    Decode(usize),
}

/// The model's device and what was recorded for it.
pub struct Worker {
    device: Device,
    #[cfg(feature = "cuda")]
    recordings: std::sync::Mutex<std::collections::HashMap<(Work, usize), recorded::Recording>>,
}

impl Worker {
    /// Works on this device.
    pub fn new(device: &Device) -> Self {
        Self {
            device: device.clone(),
            #[cfg(feature = "cuda")]
            recordings: Default::default(),
        }
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Runs `body` on arrays (B, ...) from the CPU and gives its results, (B, ...) too, there.
    ///
    /// `body` must do the same for the same work and shapes.
    pub fn run(
        &self,
        work: Work,
        inputs: &[Tensor],
        body: impl Fn(&[Tensor]) -> Result<Vec<Tensor>>,
    ) -> Result<Vec<Tensor>> {
        match &self.device {
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => self.run_on_cuda(device, work, inputs, body),
            device => {
                let _ = work;
                let there = inputs.iter().map(|x| x.to_device(device)).collect::<Result<Vec<_>>>()?;
                body(&there)?.iter().map(|x| x.to_device(&Device::Cpu)).collect()
            }
        }
    }
}

/// Batches up to this one are filled up to powers of two and recorded.
pub const RECORDED: usize = 64;

/// The size that a batch is filled up to: a power of two, or for a large one, which launching does not hold up, a
/// multiple of 64.
#[cfg(any(test, feature = "cuda"))]
fn bucket(batch: usize) -> usize {
    if batch <= RECORDED { batch.next_power_of_two() } else { batch.next_multiple_of(RECORDED) }
}

#[cfg(feature = "cuda")]
mod recorded {
    use super::*;
    use crate::device::graph::Graph;
    use candle_core::CudaDevice;
    use std::collections::hash_map::Entry;
    use std::sync::PoisonError;

    /// What is known of a kind and size of work.
    pub enum Recording {
        /// It was done once; the next time it is recorded.
        Seen,
        /// It is recorded.
        Ready(Box<Graph>),
        /// It cannot be recorded and is launched kernel by kernel.
        Refused,
    }

    impl Worker {
        pub(super) fn run_on_cuda(
            &self,
            device: &CudaDevice,
            work: Work,
            inputs: &[Tensor],
            body: impl Fn(&[Tensor]) -> Result<Vec<Tensor>>,
        ) -> Result<Vec<Tensor>> {
            let batch = inputs.first().map_or(Ok(0), |x| x.dim(0))?;
            let size = bucket(batch);
            let filled = inputs.iter().map(|x| x.pad_with_zeros(0, 0, size - batch)).collect::<Result<Vec<_>>>()?;
            let results = if size <= RECORDED {
                self.replay(device, (work, size), &filled, body)?
            } else {
                Self::plain(device, &filled, body)?
            };
            results.iter().map(|x| x.narrow(0, 0, batch)).collect()
        }

        fn plain(
            device: &CudaDevice,
            inputs: &[Tensor],
            body: impl Fn(&[Tensor]) -> Result<Vec<Tensor>>,
        ) -> Result<Vec<Tensor>> {
            let there = Device::Cuda(device.clone());
            let inputs = inputs.iter().map(|x| x.to_device(&there)).collect::<Result<Vec<_>>>()?;
            body(&inputs)?.iter().map(|x| x.to_device(&Device::Cpu)).collect()
        }

        fn replay(
            &self,
            device: &CudaDevice,
            key: (Work, usize),
            inputs: &[Tensor],
            body: impl Fn(&[Tensor]) -> Result<Vec<Tensor>>,
        ) -> Result<Vec<Tensor>> {
            let mut recordings = self.recordings.lock().unwrap_or_else(PoisonError::into_inner);
            let recording = match recordings.entry(key) {
                Entry::Vacant(entry) => {
                    entry.insert(Recording::Seen);
                    return Self::plain(device, inputs, body);
                }
                Entry::Occupied(entry) => entry.into_mut(),
            };
            if let Recording::Seen = recording {
                *recording = match Graph::record(device, inputs, &body) {
                    Ok(graph) => Recording::Ready(Box::new(graph)),
                    Err(error) => {
                        let (work, batch) = key;
                        tracing::warn!(?work, batch, %error, "no CUDA graph: kernels are launched one by one");
                        Recording::Refused
                    }
                };
            }
            match recording {
                Recording::Ready(graph) => graph.replay(inputs),
                Recording::Seen | Recording::Refused => Self::plain(device, inputs, body),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_sizes_and_little_waste() {
        let sizes: std::collections::BTreeSet<usize> = (1..=1024).map(bucket).collect();
        assert_eq!(sizes.len(), 7 + 15);
        for batch in 1..=1024 {
            assert!(bucket(batch) >= batch && bucket(batch) < 2 * batch.max(1) + usize::from(batch == 1), "{batch}");
        }
        assert_eq!([1, 2, 3, 33, 64, 65, 1000].map(bucket), [1, 2, 4, 64, 64, 128, 1024]);
    }

    #[test]
    fn results_come_back_in_order() {
        let worker = Worker::new(&Device::Cpu);
        let x = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
        let body = |x: &[Tensor]| Ok(vec![(&x[0] * 2.0)?, x[0].sum_keepdim(1)?]);
        let results = worker.run(Work::Sample(2), &[x], body).unwrap();
        assert_eq!(results[0].to_vec2::<f32>().unwrap(), [[2.0, 4.0], [6.0, 8.0]]);
        assert_eq!(results[1].to_vec2::<f32>().unwrap(), [[3.0], [7.0]]);
    }
}
