//! Training steps on a fixed batch: loss, gradient and AdamW as the trainer does them, without drawing data, without the
//! moving average and the log.

use super::{Arrays, Inputs, Run, networks};
use candle_core::{DType, Device, Tensor, Var};
use rand_chacha::ChaCha8Rng;
use std::path::Path;
use twostep::model::{Conditioned, ModelSpec};
use twostep::nets::codec::{Decoder, Encoder};
use twostep::nets::generator::{Generator, GeneratorConfig};
use twostep::nets::text::TextEncoder;
use twostep::ops::Params;
use twostep::scm::distill::{self, Points};
use twostep::scm::trigflow::{SD, diffusion_loss, noised};
use twostep::scm::{Guided, Network};
use twostep::train::TrainError;
use twostep::train::adamw::{AdamW, AdamWOptions};
use twostep::train::gradient::gradient;
use twostep::train::trainer::{Objective, Report};
use twostep::train::weight::LogWeight;

const RATE: f64 = 1e-3;

/// What a finished model has no more: the codec's encoder and the weighting w(t), as they begin.
pub fn initial(model: &Path) -> anyhow::Result<Arrays> {
    let spec = ModelSpec::read(model)?;
    let mut params = Params::init(1, DType::F32, &Device::Cpu);
    Encoder::new(&spec.codec, &mut params.tracked().at("encoder"))?;
    LogWeight::new(&mut params.tracked().at("weight"))?;
    Ok(params.vars().map(|(name, var)| (name.to_owned(), var.as_detached_tensor())).collect())
}

/// Trainable parameters: the model's, and initial ones where it has none.
fn trainable(model: &Path, parts: &[&str]) -> anyhow::Result<Params> {
    let mut params = Params::init(1, DType::F32, &Device::Cpu);
    for part in parts {
        for (name, var) in networks::params(model, part)?.vars().filter(|(name, _)| !name.starts_with("latent.")) {
            params.insert(name, var.as_detached_tensor())?;
        }
    }
    Ok(params)
}

/// An objective on one batch; a part is named by its first sample.
struct Fixed<F> {
    size: usize,
    loss: F,
}

impl<F: Fn(usize, usize) -> candle_core::Result<Tensor> + Sync> Objective for Fixed<F> {
    type Batch = usize;

    fn name(&self) -> &str {
        "fixed batch"
    }

    fn draw(&self, _: &mut ChaCha8Rng) -> Result<usize, TrainError> {
        Ok(0)
    }

    fn loss(&self, _: u64, start: usize) -> Result<Report, TrainError> {
        Ok(Report { loss: (self.loss)(start, self.size)?, samples: self.size, metrics: vec![] })
    }
}

/// `loss(start, size)` is the objective on a part of the batch.
fn step(
    inputs: &Inputs,
    params: &Params,
    clip: f64,
    loss: impl Fn(usize, usize) -> candle_core::Result<Tensor> + Sync + 'static,
) -> anyhow::Result<Run> {
    let count = |name: &str| -> anyhow::Result<usize> { Ok(inputs.get(name)?.to_vec1::<f32>()?[0] as usize) };
    let (parts, batch) = (count("parts")?, count("batch")?);
    let objective = Fixed { size: batch / parts, loss };
    let vars: Vec<(String, Var)> = params.vars().map(|(name, var)| (name.to_owned(), var.clone())).collect();
    let options = AdamWOptions { beta1: 0.9, beta2: 0.99, clip: Some(clip), ..Default::default() };
    let mut adamw = AdamW::new(&vars, options)?;
    Ok(Box::new(move || {
        let step =
            gradient(&objective, &vars, adamw.updates(), (0..parts).map(|part| part * objective.size).collect())?;
        let norm = adamw.step(&step.grads, RATE)?.gradient_norm;
        Ok(networks::single(Tensor::new(&[step.loss as f32, norm as f32], &Device::Cpu)?))
    }))
}

/// The text encoder's answer and the controls: condition features (B, condition_width), rows of zeros where dropped.
fn condition(
    text: &TextEncoder,
    texts: &[Vec<Vec<u32>>],
    controls: &Tensor,
    keep: &Tensor,
) -> candle_core::Result<Tensor> {
    Tensor::cat(&[&text.forward(texts)?, controls], 1)?.broadcast_mul(keep)
}

/// The generator of a teacher, or of a student that jumps to the end from everywhere, whatever the model's is.
fn plain(spec: &ModelSpec) -> GeneratorConfig {
    GeneratorConfig { segments: false, ..spec.generator.clone() }
}

/// The teacher's step: diffusion, the text encoder learning too.
pub fn teacher(model: &Path, inputs: Inputs) -> anyhow::Result<Run> {
    let spec = ModelSpec::read(model)?;
    let mut params = trainable(model, &["generator", "text"])?;
    let generator = Generator::new(&plain(&spec), &mut params.tracked().at("generator"))?;
    let text = TextEncoder::new(&spec.text, &mut params.tracked().at("text"))?;
    let weight = LogWeight::new(&mut params.tracked().at("weight"))?;
    let texts = inputs.texts()?;
    let names = ["x0", "z", "t", "context", "present", "noise", "controls", "keep"];
    let given = names.map(|name| inputs.get(name)).into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    step(&inputs, &params, 1.0, move |start, size| {
        let part = given.iter().map(|x| x.narrow(0, start, size)).collect::<candle_core::Result<Vec<_>>>()?;
        let [x0, z, t, context, present, noise, controls, keep] = &part[..] else { candle_core::bail!("eight inputs") };
        let condition = condition(&text, &texts[start..start + size], controls, keep)?;
        let context = generator.encode_context(context, present, noise)?;
        let network =
            Conditioned { generator: &generator, condition: &condition, guidance: None, end: None, context: &context };
        Ok(diffusion_loss(&network, x0, z, t, &weight.forward(t)?)?.loss)
    })
}

/// The student's step: consistency distillation from the frozen teacher, here of the same weights, with the tangent in
/// forward mode.
pub fn student(model: &Path, inputs: Inputs) -> anyhow::Result<Run> {
    let spec = ModelSpec::read(model)?;
    let mut params = trainable(model, &["generator"])?;
    let mut frozen = trainable(model, &["generator", "text"])?;
    let student = Generator::new(&plain(&spec), &mut params.tracked().at("generator"))?;
    let still = Generator::new(&plain(&spec), &mut params.detached().at("generator"))?;
    let weight = LogWeight::new(&mut params.tracked().at("weight"))?;
    let teacher = Generator::new(&plain(&spec), &mut frozen.frozen().at("generator"))?;
    let text = TextEncoder::new(&spec.text, &mut frozen.frozen().at("text"))?;
    let texts = inputs.texts()?;
    let names = ["x0", "z", "t", "context", "present", "noise", "controls", "keep", "guidance"];
    let given = names.map(|name| inputs.get(name)).into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    step(&inputs, &params, 100.0, move |start, size| {
        let part = given.iter().map(|x| x.narrow(0, start, size)).collect::<candle_core::Result<Vec<_>>>()?;
        let [x0, z, t, context, present, noise, controls, keep, guidance] = &part[..] else {
            candle_core::bail!("nine inputs")
        };
        let condition = condition(&text, &texts[start..start + size], controls, keep)?;
        let encode = |generator: &Generator| generator.encode_context(context, present, noise);
        let x = noised(x0, z, t)?;

        let (null, seen) = (condition.zeros_like()?, encode(&teacher)?);
        let conditional =
            Conditioned { generator: &teacher, condition: &condition, guidance: None, end: None, context: &seen };
        let unconditional = Conditioned { condition: &null, end: None, ..conditional };
        let guided = Guided { conditional: &conditional, unconditional: &unconditional, scale: guidance };
        let dx_dt = (guided.forward(&(&x / SD)?, t)? * SD)?;

        let seen = encode(&still)?;
        let frozen = Conditioned {
            generator: &still,
            condition: &condition,
            guidance: Some(guidance),
            end: None,
            context: &seen,
        };
        let tangent = distill::tangent(&frozen, &Points { x: &x, t, end: None, before: None, dx_dt: &dx_dt }, 1.0)?;
        let seen = encode(&student)?;
        let output =
            Conditioned { generator: &student, end: None, context: &seen, ..frozen }.forward(&(&x / SD)?, t)?;
        Ok(distill::loss(&output, &tangent.target()?, &weight.forward(t)?)?.loss)
    })
}

/// The codec's step: reconstruction through noisy latents.
pub fn codec(model: &Path, inputs: Inputs) -> anyhow::Result<Run> {
    let spec = ModelSpec::read(model)?;
    let mut params = trainable(model, &["decoder"])?;
    let encoder = Encoder::new(&spec.codec, &mut params.tracked().at("encoder"))?;
    let decoder = Decoder::new(&spec.codec, &mut params.tracked().at("decoder"))?;
    let [frames, importance, noise] = [inputs.get("frames")?, inputs.get("importance")?, inputs.get("noise")?];
    step(&inputs, &params, 1.0, move |start, size| {
        let part = |x: &Tensor| x.narrow(0, start, size);
        let (y, importance, noise) = (part(&frames)?, part(&importance)?, part(&noise)?);
        let z = encoder.forward(&y)?;
        let flat = z.detach().flatten_to(1)?;
        let std = flat.broadcast_sub(&flat.mean_keepdim(0)?)?.sqr()?.mean_keepdim(0)?.sqrt()?;
        let noisy = (&z + noise.broadcast_mul(&(std * 0.05)?)?)?;
        let error = (decoder.forward(&noisy)? - y)?.abs()?;
        (error * importance)?.mean_all()? + (z.sqr()?.mean_all()? * 1e-4)?
    })
}
