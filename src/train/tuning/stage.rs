//! The stage that tunes a finished model.

use super::{DECODER_WARM_UP, Networks, TuningObjective, TuningOptions, Widths};
use crate::model::{ModelSpec, weights};
use crate::nets::generator::GeneratorConfig;
use crate::ops::Params;
use crate::train::roll_out::Sampling;
use crate::train::stages::{Stage, begin_with, copies};
use crate::train::store::Store;
use crate::train::trainer::{Objective, Summary};
use crate::train::{StageError, TrainError};
use candle_core::DType;
use std::path::Path;

impl Stage<'_> {
    /// Tunes the model to start from and writes the finished model to `out`, with the codec in the folder; `clips` is how many
    /// to learn from if not as many as before.
    ///
    /// # Errors
    /// When there is no model to start from, or it is of other sizes than the folder's.
    pub fn tuning(&self, out: &Path, clips: Option<usize>) -> Result<Summary, StageError> {
        let Some(start) = self.from else {
            let reason = "only a finished model can be tuned".to_owned();
            return Err(TrainError::Option { option: "from", reason }.into());
        };
        start.fit(&ModelSpec::read(self.work)?)?;
        let mut spec = start.finished();
        let data = self.data(clips)?;
        let latents = self.latents(&spec, &data)?;
        let mut widths = Widths::default();
        let GeneratorConfig { context_frames, chunk_frames, .. } = spec.generator;
        let window = (context_frames + chunk_frames - 2 * DECODER_WARM_UP) * spec.codec.frames_per_latent;
        let apart = chunk_frames * spec.codec.frames_per_latent;
        Store::new(&data, self.work, self.options.progress)?
            .each_shard(|clips| Ok::<(), StageError>(widths.add(&clips, window, apart)?))?;

        let mut codec = weights::read_params(&self.codec_file(), self.device)?;
        let statistics = self.statistics(&spec, &mut codec)?;
        let mut before = Params::load(start.network()?, DType::F32, self.device)?;
        let mut params = Params::init(self.options.seed, DType::F32, self.device);
        begin_with(&mut params, copies(&before, "generator.")?)?;
        let networks = Networks { text: &spec.text, codec: &spec.codec, generator: &spec.generator };
        let options = TuningOptions {
            sampling: Sampling { sampler: spec.sampler.kind, t_mid: spec.sampler.t_mid },
            guidance: spec.sampler.guidance_max,
            batch: self.batch,
        };
        let all = (&mut params, &mut before, &mut codec);
        let objective = TuningObjective::new(&networks, all, &statistics, (latents, widths), options)?;
        let schedule = self.schedule(&objective, &params)?;
        let summary = self.run(&objective, &params, schedule, &spec, &data, serde_json::Value::Null)?;

        self.record(&mut spec, objective.name(), None, &data, &summary);
        self.write_model(out, &spec, copies(&before, "text.")?, &summary)?;
        Ok(summary)
    }
}
