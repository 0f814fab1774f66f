//! The text encoder: a prompt's words, as bags of hashed character n-grams, to one embedding.
//!
//! ```text
//! word i: e_i = mean of its n-grams' table rows
//! text:   y = rms(W4 silu(W3 rms(sum_i silu(W1 e_i) (W2 e_i))))
//! ```
//! Words enter through a gated sum without biases, so an absent word adds exactly nothing, unimportant words can learn
//! to add little, and a text of any length costs no mask.

use super::layers::{EPS, Linear};
use crate::ops::{Array, Init, Scope, bag_mean};
use candle_core::{Device, Result, Tensor};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Hyper-parameters of the text encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextConfig {
    /// Rows of the n-gram table.
    pub buckets: usize,
    /// Width of an n-gram's row.
    pub word_width: usize,
    /// Width of a text's embedding.
    pub width: usize,
}

/// A text as the n-gram rows of each of its words.
pub type Words = Vec<Vec<u32>>;

/// The text encoder.
pub struct TextEncoder {
    table: Tensor,
    gate: Linear,
    value: Linear,
    hidden: Linear,
    out: Linear,
}

impl TextEncoder {
    /// Builds it from the parameters at `scope`.
    pub fn new(config: &TextConfig, scope: &mut Scope<'_>) -> Result<Self> {
        let width = config.width;
        Ok(Self {
            table: scope.get("table", (config.buckets, config.word_width), Init::Normal(1.0))?,
            gate: Linear::without_bias(&mut scope.at("gate"), config.word_width, width, 1.0)?,
            value: Linear::without_bias(&mut scope.at("value"), config.word_width, width, 1.0)?,
            hidden: Linear::new(&mut scope.at("hidden"), width, width, 1.0)?,
            out: Linear::new(&mut scope.at("out"), width, width, 1.0)?,
        })
    }

    /// Embeddings (B, width) of root mean square 1, one a text.
    pub fn forward(&self, texts: &[Words]) -> Result<Tensor> {
        let mut words: Vec<Vec<u32>> = texts.iter().flatten().cloned().collect();
        if words.is_empty() {
            // A word of no n-grams, which adds nothing.
            words.push(vec![]);
        }
        let counts: Vec<usize> = texts.iter().map(Vec::len).collect();
        self.pool(&bag_mean(&self.table, &words.into())?, &counts)
    }

    /// Embeddings (B, width) from the vectors (N, word_width) of all texts' words, one text behind the other, which have
    /// `counts` words.
    fn pool(&self, words: &Tensor, counts: &[usize]) -> Result<Tensor> {
        // A word is the mean of some 15 independent rows: bring it back to unit scale before the gate.
        let words = Array::scale(words, 4.0)?;
        let gated = Array::mul(&self.gate.forward_silu(&words)?, &self.value.forward(&words)?)?;
        let mut first = 0;
        let of_text = |&count: &usize| {
            first += count as u32;
            (first - count as u32..first).collect()
        };
        let texts: Arc<[Vec<u32>]> = counts.iter().map(of_text).collect();
        let counts: Vec<f64> = counts.iter().map(|&count| count as f64).collect();
        let counts = Tensor::from_vec(counts, (texts.len(), 1), &Device::Cpu)?;
        let sum =
            bag_mean(&gated, &texts)?.broadcast_mul(&counts.to_dtype(gated.dtype())?.to_device(gated.device())?)?;
        self.out.forward(&self.hidden.forward_silu(&Array::rms_norm(&sum, EPS)?)?)?.rms_norm(EPS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Params;
    use crate::ops::testing::{check_gradient, close};
    use candle_core::DType;

    fn tiny() -> (TextEncoder, Params) {
        let mut params = Params::init(3, DType::F64, &Device::Cpu);
        let config = TextConfig { buckets: 16, word_width: 5, width: 6 };
        let encoder = TextEncoder::new(&config, &mut params.tracked()).unwrap();
        (encoder, params)
    }

    #[test]
    fn gradient_of_the_words() {
        let (encoder, _) = tiny();
        check_gradient(&[&[5, 5]], |words| encoder.pool(&words[0], &[2, 0, 3]));
    }

    #[test]
    fn company_changes_nothing_and_every_parameter_learns() {
        let (encoder, params) = tiny();
        let short = vec![vec![1, 2], vec![3]];
        let long = vec![vec![4], vec![5, 6], vec![7], vec![8, 9]];
        let alone = encoder.forward(std::slice::from_ref(&short)).unwrap();
        let both = encoder.forward(&[short, long]).unwrap();
        close(&both.narrow(0, 0, 1).unwrap(), &alone, 1e-12);
        assert_eq!(encoder.forward(&[vec![]]).unwrap().dims(), [1, 6]);
        crate::nets::tests::every_parameter_learns(&params, &both);
    }
}
