//! Launches of the kernels, wherever they run.

use candle_core::backend::BackendStorage;
use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Storage};
use candle_core::{Tensor, bail};

/// Threads of a block that goes over elements.
const ELEMENT_BLOCK: u32 = 256;
/// Blocks of such a launch, at most: about as many as the largest device runs at once.
const ELEMENT_BLOCKS: usize = 1024;
/// Width from which a row has a block of its own, and the threads of that block.
const WIDE: usize = 512;
const WIDE_BLOCK: u32 = 256;
/// Narrower rows have a warp each, and this many share a block.
const WARPS: u32 = 4;
/// Bytes of shared memory that all devices since compute capability 8.0 give a block on request.
const MOST_SHARED: usize = 96 * 1024;

/// A launch of one kernel: which one, its geometry, its results, and its arguments behind the arrays.
///
/// A kernel's parameters are its input arrays, its output arrays, its counts and last its real numbers. Its full name ends in the element type of its first input, which is that of its results too.
#[derive(Clone, Debug)]
pub struct Kernel {
    name: &'static str,
    pub(super) grid: [u32; 3],
    pub(super) block: [u32; 3],
    /// Numbers of the accumulator's type in dynamic shared memory.
    shared: usize,
    outputs: Vec<Shape>,
    counts: Vec<usize>,
    reals: Vec<f64>,
    /// Input arrays behind those of the operation that it is applied as.
    beside: Vec<Option<Tensor>>,
}

impl Kernel {
    fn new(name: &'static str, grid: [usize; 3], block: [u32; 3], counts: &[usize]) -> Self {
        let grid = grid.map(|size| u32::try_from(size).unwrap_or(u32::MAX));
        Self { name, grid, block, shared: 0, outputs: vec![], counts: counts.to_vec(), reals: vec![], beside: vec![] }
    }

    /// One that goes over `count` elements; `count` is the first of its counts, `more` are the others.
    pub fn over_elements(name: &'static str, count: usize, more: &[usize]) -> Self {
        let blocks = count.div_ceil(ELEMENT_BLOCK as usize).clamp(1, ELEMENT_BLOCKS);
        Self::new(name, [blocks, 1, 1], [ELEMENT_BLOCK, 1, 1], &[&[count], more].concat())
    }

    /// One that goes over `rows` rows of `width`.
    pub fn over_rows(name: &'static str, rows: usize, width: usize, counts: &[usize]) -> Self {
        match width {
            WIDE.. => Self::new(name, [rows, 1, 1], [WIDE_BLOCK, 1, 1], counts),
            _ => Self::new(name, [rows.div_ceil(WARPS as usize), 1, 1], [32, WARPS, 1], counts),
        }
    }

    /// One whose (32, 32) blocks have 32 of `width` columns each, `layers` times.
    pub fn over_columns(name: &'static str, width: usize, layers: usize, counts: &[usize]) -> Self {
        Self::new(name, [width.div_ceil(32), layers, 1], [32, 32, 1], counts)
    }

    /// One with `blocks` blocks of `threads` threads that share `shared` numbers.
    pub fn of_blocks(name: &'static str, blocks: usize, threads: u32, shared: usize, counts: &[usize]) -> Self {
        Self { shared, ..Self::new(name, [blocks, 1, 1], [threads, 1, 1], counts) }
    }

    /// Adds a result.
    pub fn gives(mut self, shape: impl Into<Shape>) -> Self {
        self.outputs.push(shape.into());
        self
    }

    /// Adds a real number.
    pub fn with(mut self, real: f64) -> Self {
        self.reals.push(real);
        self
    }

    /// Adds an input array behind those of the operation that it is applied as: one that has no gradient, or none.
    pub fn beside(mut self, array: Option<&Tensor>) -> Self {
        self.beside.push(array.cloned());
        self
    }

    /// Whether every device gives a block the shared memory it needs for elements of this type.
    pub fn fits(&self, dtype: DType) -> bool {
        self.shared_bytes(dtype) as usize <= MOST_SHARED
    }

    pub(super) fn shared_bytes(&self, dtype: DType) -> u32 {
        u32::try_from(self.shared * if dtype == DType::F64 { 8 } else { 4 }).unwrap_or(u32::MAX)
    }

    /// Runs it on arrays, of which any but the first may be absent, and gives its results, without gradient.
    pub fn run<const N: usize>(&self, inputs: &[Option<&Tensor>]) -> Result<[Tensor; N]> {
        let inputs = inputs.iter().map(|x| x.map(Tensor::contiguous).transpose()).collect::<Result<Vec<_>>>()?;
        let storages: Vec<Storage> = match inputs.first() {
            Some(Some(x)) if x.device().is_cuda() => {
                self.launch_on::<CudaStorage>(&inputs)?.into_iter().map(Storage::Cuda).collect()
            }
            _ => self.launch_on::<CpuStorage>(&inputs)?.into_iter().map(Storage::Cpu).collect(),
        };
        let tensors = storages.into_iter().zip(&self.outputs);
        let tensors: Vec<Tensor> =
            tensors.map(|(storage, shape)| Tensor::from_storage(storage, shape, BackpropOp::none(), false)).collect();
        match tensors.try_into() {
            Ok(tensors) => Ok(tensors),
            Err(_) => bail!("{}: has {} results, {N} were wanted", self.name, self.outputs.len()),
        }
    }

    fn launch_on<M: Memory>(&self, inputs: &[Option<Tensor>]) -> Result<Vec<M>> {
        let guards: Vec<_> = inputs.iter().map(|x| x.as_ref().map(Tensor::storage_and_layout)).collect();
        let memory = guards.iter().map(|guard| match guard {
            None => Ok(None),
            Some((storage, layout)) => match M::of(storage) {
                Some(memory) => Ok(Some((memory, *layout))),
                None => bail!("{}: all arrays must be on one device", self.name),
            },
        });
        self.launch(&memory.collect::<Result<Vec<_>>>()?)
    }

    fn launch<M: Memory>(&self, inputs: &[Option<(&M, &Layout)>]) -> Result<Vec<M>> {
        let Some(Some((first, _))) = inputs.first() else { bail!("{}: the first array is missing", self.name) };
        let dtype = first.dtype();
        let name = match dtype {
            DType::F32 => format!("{}_f32", self.name),
            DType::F64 => format!("{}_f64", self.name),
            DType::BF16 => format!("{}_bf16", self.name),
            other => bail!("{}: computes in f32, f64 or bf16, not {other:?}", self.name),
        };
        let outputs: Vec<M> =
            self.outputs.iter().map(|shape| first.uninitialised(dtype, shape.elem_count())).collect::<Result<_>>()?;
        let mut arrays = Vec::with_capacity(inputs.len() + outputs.len());
        for input in inputs {
            arrays.push(match input {
                Some((memory, layout)) if memory.dtype() != dtype && memory.dtype() != DType::U32 => {
                    bail!("{name}: an array of {dtype:?} and one of {:?} ({layout:?})", memory.dtype())
                }
                Some((memory, layout)) => match layout.contiguous_offsets() {
                    Some((start, _)) => memory.address(start)?,
                    None => bail!("{name}: arrays must be contiguous, got {layout:?}"),
                },
                None => 0,
            });
        }
        for (output, shape) in outputs.iter().zip(&self.outputs) {
            if shape.elem_count() > i32::MAX as usize {
                bail!("{name}: {shape:?} has more elements than a kernel counts");
            }
            arrays.push(output.address(0)?);
        }
        let counts = self.counts.iter().map(|&count| match i32::try_from(count) {
            Ok(count) => Ok(count),
            Err(_) => bail!("{name}: {count} is more than a kernel counts"),
        });
        let arguments = Arguments { arrays, counts: counts.collect::<Result<_>>()?, reals: self.reals.clone() };
        first.launch(self, &name, &arguments)?;
        Ok(outputs)
    }
}

/// A kernel's arguments, in the order of its parameters.
pub struct Arguments {
    /// Addresses, 0 for an absent array.
    pub arrays: Vec<u64>,
    /// Counts.
    pub counts: Vec<i32>,
    /// Real numbers.
    pub reals: Vec<f64>,
}

/// Memory that kernels run on.
pub trait Memory: BackendStorage {
    /// The memory of a tensor, if it is of this kind.
    fn of(storage: &Storage) -> Option<&Self>;
    /// The address of an element.
    fn address(&self, element: usize) -> Result<u64>;
    /// Room for `count` elements beside this memory.
    fn uninitialised(&self, dtype: DType, count: usize) -> Result<Self>;
    /// Launches a kernel on arrays of this memory's device.
    fn launch(&self, kernel: &Kernel, name: &str, arguments: &Arguments) -> Result<()>;
}

/// The gradients of an operation's N arrays from themselves and the gradient of its result.
type Backward<const N: usize> = dyn Fn([&Tensor; N], &Tensor) -> Result<[Tensor; N]> + Send + Sync;

/// A kernel with one result as an operation of candle's with a gradient.
struct Op<const N: usize> {
    kernel: Kernel,
    backward: Box<Backward<N>>,
}

impl<const N: usize> Op<N> {
    fn forward<M: Memory>(&self, arrays: [(&M, &Layout); N]) -> Result<(M, Shape)> {
        let guards: Vec<_> = self.kernel.beside.iter().map(|x| x.as_ref().map(Tensor::storage_and_layout)).collect();
        let beside = guards.iter().map(|guard| {
            let (storage, layout) = guard.as_ref()?;
            Some((M::of(storage)?, *layout))
        });
        let inputs: Vec<_> = arrays.into_iter().map(Some).chain(beside).collect();
        match (self.kernel.launch(&inputs)?.pop(), self.kernel.outputs.as_slice()) {
            (Some(out), [shape]) => Ok((out, shape.clone())),
            _ => bail!("{}: an operation has one result", self.kernel.name),
        }
    }
}

impl Kernel {
    /// The operation on one array.
    pub fn apply(
        self,
        [x]: [&Tensor; 1],
        backward: impl Fn([&Tensor; 1], &Tensor) -> Result<[Tensor; 1]> + Send + Sync + 'static,
    ) -> Result<Tensor> {
        x.contiguous()?.apply_op1(Op { kernel: self, backward: Box::new(backward) })
    }

    /// The operation on two arrays.
    pub fn apply2(
        self,
        [x, y]: [&Tensor; 2],
        backward: impl Fn([&Tensor; 2], &Tensor) -> Result<[Tensor; 2]> + Send + Sync + 'static,
    ) -> Result<Tensor> {
        x.contiguous()?.apply_op2(&y.contiguous()?, Op { kernel: self, backward: Box::new(backward) })
    }

    /// The operation on three arrays.
    pub fn apply3(
        self,
        [x, y, z]: [&Tensor; 3],
        backward: impl Fn([&Tensor; 3], &Tensor) -> Result<[Tensor; 3]> + Send + Sync + 'static,
    ) -> Result<Tensor> {
        let op = Op { kernel: self, backward: Box::new(backward) };
        x.contiguous()?.apply_op3(&y.contiguous()?, &z.contiguous()?, op)
    }
}

impl CustomOp1 for Op<1> {
    fn name(&self) -> &'static str {
        self.kernel.name
    }
    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward([(x, lx)])
    }
    fn cuda_fwd(&self, x: &CudaStorage, lx: &Layout) -> Result<(CudaStorage, Shape)> {
        self.forward([(x, lx)])
    }
    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let [g_x] = (self.backward)([x], grad)?;
        Ok(Some(g_x))
    }
}

impl CustomOp2 for Op<2> {
    fn name(&self) -> &'static str {
        self.kernel.name
    }
    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, y: &CpuStorage, ly: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward([(x, lx), (y, ly)])
    }
    fn cuda_fwd(&self, x: &CudaStorage, lx: &Layout, y: &CudaStorage, ly: &Layout) -> Result<(CudaStorage, Shape)> {
        self.forward([(x, lx), (y, ly)])
    }
    fn bwd(&self, x: &Tensor, y: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [g_x, g_y] = (self.backward)([x, y], grad)?;
        Ok((Some(g_x), Some(g_y)))
    }
}

impl CustomOp3 for Op<3> {
    fn name(&self) -> &'static str {
        self.kernel.name
    }
    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        y: &CpuStorage,
        ly: &Layout,
        z: &CpuStorage,
        lz: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward([(x, lx), (y, ly), (z, lz)])
    }
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        lx: &Layout,
        y: &CudaStorage,
        ly: &Layout,
        z: &CudaStorage,
        lz: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.forward([(x, lx), (y, ly), (z, lz)])
    }
    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        z: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [g_x, g_y, g_z] = (self.backward)([x, y, z], grad)?;
        Ok((Some(g_x), Some(g_y), Some(g_z)))
    }
}
