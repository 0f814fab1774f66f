//! The op layer: arrays over candle tensors, plain and dual, channels-last.
//!
//! Every network is written once over [`Array`] and runs in two ways: over a plain [`candle_core::Tensor`]
//! (inference, and training through candle's reverse mode) and over [`Dual`] (forward mode: a value together with
//! its directional derivative, which is how the sCM objective gets its Jacobian-vector product in one pass).
//!
//! Why a layer of our own: candle 0.11 has fused ops that cut the gradient silently and batched convolutions that are
//! wrong, and its element-wise ops run on one thread. Each op here is one file with its fused CPU kernel, its
//! derivative, and a composed reference of plain candle ops, which tests compare with. On a CUDA device it calls `cuda`.
//! Weights are rank 2, `(in, out)`; a convolution is a sum of shifted slices. A [`Weight`] that never changes is laid
//! out once for the product of `gemm`; one that learns is multiplied by the gemm crate (`product`). `simd` chooses vector
//! instructions when the program runs.

/// Returns `$there` from the calling function if the array `$x` is on a CUDA device.
macro_rules! on_cuda {
    ($x:expr => $there:expr) => {
        #[cfg(feature = "cuda")]
        if $x.device().is_cuda() {
            return $there;
        }
    };
}

mod array;
mod attention;
mod bag;
mod conv;
#[cfg(any(feature = "cuda", all(test, feature = "cuda-emulation")))]
mod cuda;
mod dual;
mod fast;
mod gemm;
mod group_norm;
mod kernel;
mod linear;
mod norm_modulate;
mod params;
mod patches;
mod product;
mod rms_norm;
mod silu;
pub mod simd;
mod softmax;
mod sums;
#[cfg(test)]
pub(crate) mod testing;
mod weight;

pub use array::Array;
pub use bag::bag_mean;
#[cfg(feature = "cuda")]
pub(crate) use cuda::optimiser;
pub use dual::Dual;
pub(crate) use fast::{exp, ln, nearest, sin_cos};
pub use group_norm::{Groups, group_norm};
pub use kernel::{as_part, in_pool, map_each, threads};
pub use linear::linear;
pub use params::{Init, Params, Scope};
pub use patches::{Taps, patches};
pub(crate) use simd::vectorised;
pub use softmax::softmax;
pub use weight::Weight;
