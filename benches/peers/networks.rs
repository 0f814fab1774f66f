//! The networks, forward only, as the program runs them.

use super::{Arrays, Inputs, Run, training};
use std::path::Path;
use twostep::model::{ModelSpec, weights};
use twostep::nets::codec::{Decoder, Encoder};
use twostep::nets::generator::{ContextCache, Generator};
use twostep::nets::text::TextEncoder;
use twostep::ops::Params;

use candle_core::{DType, Device, Tensor};

/// A single output.
pub fn single(y: Tensor) -> Arrays {
    Arrays::from([("y".to_owned(), y)])
}

/// The weights of a part of a model.
pub fn params(model: &Path, part: &str) -> anyhow::Result<Params> {
    Ok(weights::read_params(&model.join(format!("{part}.safetensors")), &Device::Cpu)?)
}

/// Prompts to embeddings.
pub fn text(model: &Path, inputs: &Inputs) -> anyhow::Result<Run> {
    let spec = ModelSpec::read(model)?;
    let encoder = TextEncoder::new(&spec.text, &mut params(model, "text")?.detached().at("text"))?;
    let texts = inputs.texts()?;
    Ok(Box::new(move || Ok(single(encoder.forward(&texts)?))))
}

fn load_generator(model: &Path) -> anyhow::Result<Generator> {
    let spec = ModelSpec::read(model)?;
    Ok(Generator::new(&spec.generator, &mut params(model, "generator")?.detached().at("generator"))?)
}

/// The context's keys and values.
pub fn encode(generator: &Generator, inputs: &Inputs) -> anyhow::Result<ContextCache> {
    Ok(generator.encode_context(&inputs.get("context")?, &inputs.get("present")?, &inputs.get("noise")?)?)
}

/// The context encoder; its results show in the generator's.
pub fn context(model: &Path, inputs: &Inputs) -> anyhow::Result<Run> {
    let generator = load_generator(model)?;
    let [context, present, noise] = [inputs.get("context")?, inputs.get("present")?, inputs.get("noise")?];
    Ok(Box::new(move || {
        generator.encode_context(&context, &present, &noise)?;
        Ok(Arrays::new())
    }))
}

/// One step of the generator, its context being encoded already.
pub fn generator(model: &Path, inputs: Inputs) -> anyhow::Result<Run> {
    let generator = load_generator(model)?;
    let context = encode(&generator, &inputs)?;
    let [x, t, condition, guidance] =
        [inputs.get("x")?, inputs.get("t")?, inputs.get("condition")?, inputs.get("guidance")?];
    Ok(Box::new(move || Ok(single(generator.forward(&x, &t, &condition, Some(&guidance), &context)?))))
}

/// The next chunk of a stream through the codec's decoder.
pub fn decoder(model: &Path, inputs: Inputs) -> anyhow::Result<Run> {
    let spec = ModelSpec::read(model)?;
    let decoder = Decoder::new(&spec.codec, &mut params(model, "decoder")?.detached().at("decoder"))?;
    let latents = inputs.get("latents")?;
    let mut state = decoder.start(latents.dim(0)?, DType::F32, &Device::Cpu)?;
    Ok(Box::new(move || Ok(single(decoder.step(&latents, &mut state)?))))
}

/// The codec's encoder; a finished model has none, so it runs on initial weights.
pub fn encoder(model: &Path, inputs: Inputs) -> anyhow::Result<Run> {
    let spec = ModelSpec::read(model)?;
    let mut params = Params::load(training::initial(model)?, DType::F32, &Device::Cpu)?;
    let encoder = Encoder::new(&spec.codec, &mut params.detached().at("encoder"))?;
    let frames = inputs.get("frames")?;
    Ok(Box::new(move || Ok(single(encoder.forward(&frames)?))))
}
