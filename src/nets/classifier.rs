//! A small classifier of sounds, for measuring: a convolutional network over a band spectrogram, pooled over time.
//!
//! ```text
//! (B, T, bands) --four frames side by side--> (B, T / 4, width) --blocks x + mlp(rms(depthwise(x)))-->
//!     mean and mean square over time --> embedding --> logits
//! ```
//! It takes sounds of any length, and only ever hears them: nothing is trained against it.

use super::layers::{EPS, Linear, Mlp};
use crate::ops::{Array, Init, Scope};
use candle_core::{Result, Tensor, bail};
use serde::{Deserialize, Serialize};

/// Frames that one step of the network sees side by side.
const STACK: usize = 4;
/// Taps of the depthwise convolutions.
const KERNEL: usize = 7;

/// Hyper-parameters of the classifier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierConfig {
    /// Values of a frame.
    pub bands: usize,
    /// Width of the network.
    pub width: usize,
    /// Blocks.
    pub blocks: usize,
    /// Width of the embedding.
    pub embedding: usize,
    /// Classes.
    pub classes: usize,
}

/// The classifier.
pub struct Classifier {
    input: Linear,
    blocks: Vec<(Tensor, Mlp)>,
    embedding: Linear,
    output: Linear,
}

impl Classifier {
    /// Builds it from the parameters at `scope`.
    pub fn new(config: &ClassifierConfig, scope: &mut Scope<'_>) -> Result<Self> {
        let width = config.width;
        let gain = 1.0 / (2.0 * config.blocks.max(1) as f64).sqrt();
        let block = |i: usize| {
            let mut scope = scope.at("blocks");
            let mut scope = scope.at(i);
            let kernel = scope.get("kernel", (KERNEL, width), Init::FanIn(1.0))?;
            Ok((kernel, Mlp::new(&mut scope.at("mlp"), width, 2 * width, gain)?))
        };
        let blocks = (0..config.blocks).map(block).collect::<Result<_>>()?;
        Ok(Self {
            blocks,
            input: Linear::new(&mut scope.at("input"), STACK * config.bands, width, 1.0)?,
            embedding: Linear::new(&mut scope.at("embedding"), 2 * width, config.embedding, 1.0)?,
            output: Linear::new(&mut scope.at("output"), config.embedding, config.classes, 1.0)?,
        })
    }

    /// Embeddings (B, embedding) of spectrograms (B, T, bands); frames beyond a multiple of four are ignored.
    pub fn embed<A: Array>(&self, frames: &A) -> Result<A> {
        let (batch, count, bands) = frames.value().dims3()?;
        let steps = count / STACK;
        if steps == 0 {
            bail!("the classifier needs {STACK} frames at least, not {count}");
        }
        let stacked = frames.narrow(1, 0, steps * STACK)?.reshape(&[batch, steps, STACK * bands])?;
        let mut x = self.input.forward(&stacked)?;
        for (kernel, mlp) in &self.blocks {
            let side = Tensor::zeros((batch, KERNEL / 2, kernel.dim(1)?), kernel.dtype(), kernel.device())?;
            let side = A::constant(&side);
            let mixed = A::cat(&[&side, &x, &side], 1)?.depthwise(kernel)?.rms_norm(EPS)?;
            x = mlp.forward_add(&mixed, &x)?;
        }
        let x = x.rms_norm(EPS)?;
        self.embedding.forward(&A::cat(&[&over_time(&x)?, &over_time(&x.mul(&x)?)?], 1)?)
    }

    /// Logits (B, classes) of embeddings.
    pub fn logits<A: Array>(&self, embedding: &A) -> Result<A> {
        self.output.forward(&embedding.silu()?)
    }
}

/// Mean over time: (B, T, C) to (B, C).
fn over_time<A: Array>(x: &A) -> Result<A> {
    let (batch, count, width) = x.value().dims3()?;
    let share = Tensor::ones((count, width), x.value().dtype(), x.value().device())?;
    x.depthwise(&share)?.scale(1.0 / count as f64)?.reshape(&[batch, width])
}

/// Mean cross entropy of logits (B, classes) against `targets` (B, classes), whose rows sum to 1.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let shifted = logits.broadcast_sub(&logits.max_keepdim(1)?.detach())?;
    let normaliser = shifted.exp()?.sum_keepdim(1)?.log()?;
    (targets * shifted.broadcast_sub(&normaliser)?)?.sum(1)?.mean_all()?.neg()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Params;
    use crate::ops::testing::{check_gradient, check_op, normal};
    use candle_core::{DType, Device};

    fn tiny() -> (Classifier, Params) {
        let config = ClassifierConfig { bands: 3, width: 8, blocks: 2, embedding: 5, classes: 4 };
        let mut params = Params::init(3, DType::F64, &Device::Cpu);
        let network = Classifier::new(&config, &mut params.tracked()).unwrap();
        (network, params)
    }

    #[test]
    fn derivatives() {
        let (network, _) = tiny();
        check_op(&[&[2, 9, 3]], |x| network.logits(&network.embed(&x[0])?), |x| network.logits(&network.embed(&x[0])?));
    }

    #[test]
    fn every_parameter_learns() {
        let (network, params) = tiny();
        let logits = network.logits(&network.embed(&normal(1, &[2, 12, 3])).unwrap()).unwrap();
        crate::nets::tests::every_parameter_learns(&params, &logits);
    }

    #[test]
    fn cross_entropy_is_that_of_the_softmax() {
        let logits = Tensor::new(&[[0.0f64, 2.0f64.ln()], [1e3, 0.0]], &Device::Cpu).unwrap();
        let targets = Tensor::new(&[[1.0f64, 0.0], [0.5, 0.5]], &Device::Cpu).unwrap();
        // -ln(1/3) of the first row, 1000 / 2 of the second.
        let found = cross_entropy(&logits, &targets).unwrap().to_scalar::<f64>().unwrap();
        assert!((found - 0.5 * (3.0f64.ln() + 500.0)).abs() < 1e-9, "{found}");
        let target = normal(4, &[3, 4]);
        check_gradient(&[&[3, 4]], |x| cross_entropy(&x[0], &target)?.reshape(1));
    }

    #[test]
    fn too_few_frames_are_refused() {
        let error = tiny().0.embed(&normal(1, &[1, 3, 3])).unwrap_err().to_string();
        assert!(error.contains("needs 4 frames at least, not 3"), "{error}");
    }
}
