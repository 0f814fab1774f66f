//! CUDA graphs: work on tensors that is recorded once and then launched as a whole.
//!
//! A chunk at batch 1 is some hundred small kernels, and launching them one by one takes the CPU longer than the device
//! needs to run them. candle 0.11 has no interface for graphs, but what it needs to be recorded: it allocates in stream
//! order, so that allocations become part of the graph, and [`CudaDevice::enable_cuda_graph_htod_cache`] keeps the small
//! uploads (strides and shapes for its kernels) of a first run for the recorded one. Host copies of more than 4 kB
//! cannot be recorded: inputs and results lie in arrays of the graph's own, written before a launch and read after it.

use candle_core::backend::BackendStorage;
use candle_core::bail;
use candle_core::cuda_backend::cudarc::driver::CudaGraph;
use candle_core::cuda_backend::cudarc::driver::sys::CUgraphInstantiate_flags;
use candle_core::cuda_backend::cudarc::driver::sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
use candle_core::cuda_backend::{CudaStorageSlice, WrapErr};
use candle_core::{
    CpuStorage, CudaDevice, CudaStorage, Device, InplaceOp1, InplaceOp2, Layout, Result, Storage, Tensor,
};

/// Recorded work, with the arrays it reads and writes.
pub struct Graph {
    graph: CudaGraph,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

// SAFETY: CUDA's graphs may be used from any thread, by one at a time; `replay` needs `&mut self`.
unsafe impl Send for Graph {}

impl Graph {
    /// Records `body`, a function of arrays like `inputs`, on a device opened by [`crate::device`]: with one stream and
    /// without event tracking. `body` must launch the same work every time and read nothing back.
    pub fn record(
        device: &CudaDevice,
        inputs: &[Tensor],
        body: impl Fn(&[Tensor]) -> Result<Vec<Tensor>>,
    ) -> Result<Self> {
        let there = Device::Cuda(device.clone());
        let own = inputs.iter().map(|x| Tensor::zeros(x.shape(), x.dtype(), &there)).collect::<Result<Vec<_>>>()?;
        inputs.iter().zip(&own).try_for_each(|(from, to)| upload(from, to))?;
        let inputs = own;
        let stream = device.cuda_stream();
        let _cache = device.enable_cuda_graph_htod_cache();
        // Loads modules, chooses algorithms, fills the cache; its results show what the graph's look like.
        let outputs = body(&inputs)?.iter().map(Tensor::zeros_like).collect::<Result<Vec<_>>>()?;
        stream.synchronize().w()?;
        stream.begin_capture(CU_STREAM_CAPTURE_MODE_RELAXED).w()?;
        // Everything that is allocated in here is also freed in here, as part of the graph.
        let recorded = body(&inputs).and_then(|results| {
            results.iter().zip(&outputs).try_for_each(|(from, to)| to.inplace_op2(&from.contiguous()?, &Copy))
        });
        let graph = stream.end_capture(CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH).w();
        recorded?;
        match graph? {
            Some(graph) => {
                graph.upload().w()?;
                Ok(Self { graph, inputs, outputs })
            }
            None => bail!("nothing was recorded"),
        }
    }

    /// Runs the work on these arrays (on the CPU, shaped as those it was recorded with), and gives its results there.
    pub fn replay(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        if inputs.len() != self.inputs.len() {
            bail!("recorded work has {} arrays, not {}", self.inputs.len(), inputs.len());
        }
        inputs.iter().zip(&self.inputs).try_for_each(|(from, to)| upload(from, to))?;
        self.graph.launch().w()?;
        self.outputs.iter().map(|x| x.to_device(&Device::Cpu)).collect()
    }
}

/// Copies an array on the CPU over one of the graph's own.
fn upload(from: &Tensor, to: &Tensor) -> Result<()> {
    if from.shape() != to.shape() || from.dtype() != to.dtype() {
        bail!("recorded work reads {:?} {:?}, not {:?} {:?}", to.dtype(), to.shape(), from.dtype(), from.shape());
    }
    let from = from.contiguous()?;
    let (storage, layout) = from.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(storage), Some(range)) => to.inplace_op1(&Upload { storage, range }),
        _ => bail!("recorded work takes arrays from the CPU"),
    }
}

/// Copies a part of an array on the CPU over one on the device.
struct Upload<'a> {
    storage: &'a CpuStorage,
    range: (usize, usize),
}

impl InplaceOp1 for Upload<'_> {
    fn name(&self) -> &'static str {
        "upload"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> Result<()> {
        bail!("upload: the array is not on a device")
    }

    fn cuda_fwd(&self, to: &mut CudaStorage, _: &Layout) -> Result<()> {
        let (stream, (start, end)) = (to.device.cuda_stream(), self.range);
        match (&mut to.slice, self.storage) {
            (CudaStorageSlice::F32(to), CpuStorage::F32(from)) => stream.memcpy_htod(&from[start..end], to).w(),
            (CudaStorageSlice::F64(to), CpuStorage::F64(from)) => stream.memcpy_htod(&from[start..end], to).w(),
            (CudaStorageSlice::BF16(to), CpuStorage::BF16(from)) => stream.memcpy_htod(&from[start..end], to).w(),
            _ => bail!("upload: {:?} is not an element type of networks", to.dtype()),
        }
    }
}

/// Copies one array over another.
struct Copy;

impl InplaceOp2 for Copy {
    fn name(&self) -> &'static str {
        "copy"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<()> {
        bail!("copy: the arrays are not on a device")
    }

    fn cuda_fwd(&self, to: &mut CudaStorage, _: &Layout, from: &CudaStorage, layout: &Layout) -> Result<()> {
        let Some((start, end)) = layout.contiguous_offsets() else { bail!("copy: {layout:?} is not contiguous") };
        let device = from.device.clone();
        match (&mut to.slice, &from.slice) {
            (CudaStorageSlice::F32(to), CudaStorageSlice::F32(from)) => device.memcpy_dtod(&from.slice(start..end), to),
            (CudaStorageSlice::F64(to), CudaStorageSlice::F64(from)) => device.memcpy_dtod(&from.slice(start..end), to),
            (CudaStorageSlice::BF16(to), CudaStorageSlice::BF16(from)) => {
                device.memcpy_dtod(&from.slice(start..end), to)
            }
            _ => bail!("copy: {:?} is not an element type of networks", from.dtype()),
        }
    }
}
