//! The networks, forward only, as the program runs them.

use super::{Arrays, Inputs, Run, training};
use rayon::prelude::*;
use std::path::Path;
use std::sync::Arc;
use twostep::model::{ModelSpec, weights};
use twostep::nets::codec::{Decoder, Encoder};
use twostep::nets::generator::Generator;
use twostep::nets::text::TextEncoder;
use twostep::ops::{Params, as_part, in_pool};

use candle_core::{DType, Device, Tensor};

/// A single output.
pub fn single(y: Tensor) -> Arrays {
    Arrays::from([("y".to_owned(), y)])
}

/// The weights of a part of a model.
pub fn params(model: &Path, part: &str) -> anyhow::Result<Params> {
    Ok(weights::read_params(&model.join(format!("{part}.safetensors")), &Device::Cpu)?)
}

/// The rows that each thread runs of a batch: as the engine deals out the streams of a tick.
fn parts(batch: usize) -> impl Iterator<Item = (usize, usize)> {
    let size = batch.div_ceil(rayon::current_num_threads()).max(1);
    (0..batch).step_by(size).map(move |first| (first, size.min(batch - first)))
}

/// A network on its parts of a batch; a single part's products use all threads.
fn in_parts(mut parts: Vec<Box<dyn FnMut() -> candle_core::Result<Tensor> + Send>>) -> anyhow::Result<Run> {
    Ok(Box::new(move || {
        let outputs: candle_core::Result<Vec<Tensor>> = match &mut parts[..] {
            [one] => in_pool(one).map(|y| vec![y]),
            many => many.par_iter_mut().map(as_part).collect(),
        };
        Ok(single(Tensor::cat(&outputs?, 0)?))
    }))
}

/// Prompts to embeddings.
pub fn text(model: &Path, inputs: &Inputs) -> anyhow::Result<Run> {
    let spec = ModelSpec::read(model)?;
    let encoder = Arc::new(TextEncoder::new(&spec.text, &mut params(model, "text")?.frozen().at("text"))?);
    let texts = inputs.texts()?;
    let part = |(first, size): (usize, usize)| {
        let (encoder, texts) = (encoder.clone(), texts[first..first + size].to_vec());
        Box::new(move || encoder.forward(&texts)) as _
    };
    in_parts(parts(texts.len()).map(part).collect())
}

fn load_generator(model: &Path) -> anyhow::Result<Arc<Generator>> {
    let spec = ModelSpec::read(model)?;
    Ok(Arc::new(Generator::new(&spec.generator, &mut params(model, "generator")?.frozen().at("generator"))?))
}

/// The context encoder; its results show in the generator's.
pub fn context(model: &Path, inputs: &Inputs) -> anyhow::Result<Run> {
    let generator = load_generator(model)?;
    let all = [inputs.get("context")?, inputs.get("present")?, inputs.get("noise")?];
    let part = |(first, size): (usize, usize)| -> anyhow::Result<Box<_>> {
        let [context, present, noise] = all.each_ref().map(|t| t.narrow(0, first, size));
        let (generator, context, present, noise) = (generator.clone(), context?, present?, noise?);
        Ok(Box::new(move || {
            generator.encode_context(&context, &present, &noise)?;
            Ok(present.clone())
        }) as _)
    };
    in_parts(parts(all[0].dim(0)?).map(part).collect::<anyhow::Result<_>>()?)
}

/// One step of the generator, its context being encoded already.
pub fn generator(model: &Path, inputs: Inputs) -> anyhow::Result<Run> {
    let generator = load_generator(model)?;
    let all = ["x", "t", "condition", "guidance", "end", "context", "present", "noise"].map(|name| inputs.get(name));
    let [x, t, condition, guidance, end, context, present, noise] = all;
    let all = [x?, t?, condition?, guidance?, end?, context?, present?, noise?];
    let part = |(first, size): (usize, usize)| -> anyhow::Result<Box<_>> {
        let [x, t, condition, guidance, end, context, present, noise] =
            all.each_ref().map(|tensor| tensor.narrow(0, first, size));
        let (x, t, condition, guidance, end) = (x?, t?, condition?, guidance?, end?);
        let generator = generator.clone();
        let cache = generator.encode_context(&context?, &present?, &noise?)?;
        let end = generator.config().segments.then_some(end);
        Ok(Box::new(move || generator.forward(&x, &t, &condition, Some(&guidance), end.as_ref(), &cache)) as _)
    };
    in_parts(parts(all[0].dim(0)?).map(part).collect::<anyhow::Result<_>>()?)
}

/// The next chunk of a stream through the codec's decoder.
pub fn decoder(model: &Path, inputs: Inputs) -> anyhow::Result<Run> {
    let spec = ModelSpec::read(model)?;
    let decoder = Arc::new(Decoder::new(&spec.codec, &mut params(model, "decoder")?.frozen().at("decoder"))?);
    let latents = inputs.get("latents")?;
    let part = |(first, size): (usize, usize)| -> anyhow::Result<Box<_>> {
        let (decoder, latents) = (decoder.clone(), latents.narrow(0, first, size)?);
        let mut state = decoder.start(size, DType::F32, &Device::Cpu)?;
        Ok(Box::new(move || decoder.step(&latents, &mut state)) as _)
    };
    in_parts(parts(latents.dim(0)?).map(part).collect::<anyhow::Result<_>>()?)
}

/// The codec's encoder; a finished model has none, so it runs on initial weights.
pub fn encoder(model: &Path, inputs: Inputs) -> anyhow::Result<Run> {
    let spec = ModelSpec::read(model)?;
    let mut params = Params::load(training::initial(model)?, DType::F32, &Device::Cpu)?;
    let encoder = Arc::new(Encoder::new(&spec.codec, &mut params.frozen().at("encoder"))?);
    let frames = inputs.get("frames")?;
    let part = |(first, size): (usize, usize)| -> anyhow::Result<Box<_>> {
        let (encoder, frames) = (encoder.clone(), frames.narrow(0, first, size)?);
        Ok(Box::new(move || encoder.forward(&frames)) as _)
    };
    in_parts(parts(frames.dim(0)?).map(part).collect::<anyhow::Result<_>>()?)
}
