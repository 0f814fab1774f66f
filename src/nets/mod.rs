//! The networks, each written once over [`crate::ops::Array`]: plain tensors and dual numbers.
//!
//! * [`classifier`]: which sound it is, for measuring only
//! * [`text`]: a prompt's words to an embedding
//! * [`codec`]: spectrogram to latents and back; the decoder also runs as a stream, and may have a
//!   [branch](low_branch) to the lowest partials
//! * [`generator`]: the latent network F(x / sd, t; condition, context), diffusion teacher and sCM student alike

pub mod classifier;
pub mod codec;
mod conv_block;
pub mod generator;
pub(crate) mod layers;
pub mod low_branch;
pub mod text;

#[cfg(test)]
mod tests {
    use crate::ops::Params;
    use crate::ops::testing::normal;
    use candle_core::Tensor;

    /// Every parameter gets a gradient from `<y, r>`, and one that is not all zero.
    pub fn every_parameter_learns(params: &Params, y: &Tensor) {
        let grads = (y * normal(7, y.dims())).unwrap().sum_all().unwrap().backward().unwrap();
        for (name, var) in params.vars() {
            let grad = grads.get(var).unwrap_or_else(|| panic!("{name} gets no gradient"));
            let norm = grad.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
            assert!(norm.is_finite() && norm > 1e-20, "{name} has gradient norm {norm:e}");
        }
    }
}
