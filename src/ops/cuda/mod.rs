//! Our own CUDA kernels for what would be many launches of candle's: one file a family of operations, each with its
//! derivative and gradient, for f32, f64 (in checks) and bf16 with sums in f32.
//!
//! `kernels/` is CUDA C++, compiled to PTX by the build script; `launch` turns a kernel into an operation on tensors.
//! The same sources compile as C++ for the CPU, where the tests of this module run them thread by thread.

mod attention;
mod bag;
mod depthwise;
mod device;
mod element_wise;
mod emulation;
mod launch;
mod norm;
pub mod optimiser;
#[cfg(all(test, feature = "cuda-emulation"))]
mod tests;

pub use attention::{attention, attention_jvp};
pub use bag::bag_mean;
pub use depthwise::depthwise;
pub use element_wise::{add, bias_silu, silu, silu_jvp};
pub use norm::{norm_modulate, norm_modulate_jvp, rms_norm, rms_norm_jvp};
