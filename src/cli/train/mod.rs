//! `twostep train`: codec, then teacher, then student; or all of them in a row; and what can follow.

mod all;
mod common;
mod distil;
mod subject;

use clap::{Args, Subcommand};
use common::{CODEC, Common, DECODER, Run, TEACHER, TUNING};
use distil::{Distil, STUDENT};
use std::path::PathBuf;
use std::time::Duration;
use subject::Subject;
use twostep::train::attention::Attended;
use twostep::train::average::{Share, average};
use twostep::train::pace::Length;
use twostep::train::start::Start;
use twostep::train::times::Method;

/// Options of `twostep train`.
#[derive(Args, Debug)]
pub struct Train {
    #[command(subcommand)]
    stage: StageName,
}

#[derive(Debug, Subcommand)]
enum StageName {
    /// All stages in a row: from sounds to a finished model
    All(all::All),
    /// Spectrogram to latents and back; run this first
    Codec {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        part: Part,
        #[command(flatten)]
        subject: Subject,
        /// Start from this finished model's codec (with --steps 0 it is taken as it is)
        #[arg(long, env = "TWOSTEP_FROM", conflicts_with = "size")]
        from: Option<PathBuf>,
    },
    /// The codec's decoder alone, further: latents, teacher and student stay valid
    Decoder {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        part: Part,
        /// Kinds to learn from more often than from others, so many times as often
        #[arg(long, env = "TWOSTEP_ATTEND", value_name = "KIND=TIMES", value_delimiter = ',')]
        attend: Vec<Attended>,
        /// Train nothing but the decoder's branch to the lowest values, which it is given if it has none
        #[arg(long, env = "TWOSTEP_LOW_BRANCH")]
        low_branch: bool,
    },
    /// The latent diffusion model and the text encoder
    Teacher {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        part: Part,
        /// Start from this finished model's generator and text encoder
        #[arg(long, env = "TWOSTEP_FROM")]
        from: Option<PathBuf>,
    },
    /// The two-step consistency model, distilled from the teacher; writes the finished model
    Student {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        part: Part,
        #[command(flatten)]
        distil: Distil,
        /// How to distil: scd (a consistency model), ms-scd (two segments) or dscd (like scd, by differences)
        #[arg(long, env = "TWOSTEP_OBJECTIVE", default_value = "scd")]
        objective: Method,
        /// Start from this finished model's student instead of from the teacher
        #[arg(long, env = "TWOSTEP_FROM")]
        from: Option<PathBuf>,
    },
    /// A finished model, further, by ear: notes in the asked-for scale, sounds as wide as the data's
    Tuning {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        part: Part,
        /// The finished model to tune
        #[arg(long, env = "TWOSTEP_FROM")]
        from: PathBuf,
        /// Folder of the tuned model
        #[arg(long, env = "TWOSTEP_OUT")]
        out: PathBuf,
    },
    /// The mean of finished models that went on from the same one: what they do not have in common averages out
    Average {
        /// Models, and how much each counts
        #[arg(required = true, value_name = "MODEL=WEIGHT")]
        models: Vec<Share>,
        /// Folder of the mean
        #[arg(long, env = "TWOSTEP_OUT")]
        out: PathBuf,
    },
}

/// Options of a single stage.
#[derive(Args, Debug)]
struct Part {
    /// Optimiser steps in all
    #[arg(long, env = "TWOSTEP_STEPS")]
    steps: Option<u64>,
    /// Learning rate of the plateau
    #[arg(long, env = "TWOSTEP_LR")]
    lr: Option<f64>,
    /// Stop with a checkpoint after so many minutes
    #[arg(long, env = "TWOSTEP_MINUTES")]
    minutes: Option<f64>,
}

impl Part {
    /// What to run: a stage with these habits, changed by what was asked for.
    fn run<'a>(&self, run: Run<'a>) -> Run<'a> {
        let steps = self.steps.unwrap_or(run.habits.steps);
        let limit = self.minutes.map(|minutes| Duration::from_secs_f64(60.0 * minutes.clamp(0.0, 1e9)));
        Run { length: Length::Steps(steps), lr: self.lr, limit, ..run }
    }
}

impl Train {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        match self.stage {
            StageName::All(all) => all.run(),
            StageName::Codec { common, part, subject, from } => {
                let session = common.open()?;
                let data = subject.data(&common)?;
                let start = from.as_deref().map(Start::open).transpose()?;
                let (name, sizes) = (subject.name("default"), subject.sizes()?);
                let run = part.run(session.run(&CODEC, start.as_ref()));
                if start.is_some() && part.steps == Some(0) {
                    run.stage()?.keep_codec(&name, sizes, &data)?;
                    println!("the codec is the start model's");
                    return Ok(());
                }
                run.report(|stage| stage.codec(&name, sizes, &data)).map(drop)
            }
            StageName::Teacher { common, part, from } => {
                let session = common.open()?;
                let start = from.as_deref().map(Start::open).transpose()?;
                let run = part.run(session.run(&TEACHER, start.as_ref()));
                run.report(|stage| stage.teacher(common.clips)).map(drop)
            }
            StageName::Decoder { common, part, attend, low_branch } => {
                let session = common.open()?;
                let run = part.run(session.run(&DECODER, None));
                run.report(|stage| stage.decoder(common.clips, &attend, low_branch)).map(drop)
            }
            StageName::Student { common, part, distil, objective, from } => {
                let ask = distil.ask(objective)?;
                let session = common.open()?;
                let start = from.as_deref().map(Start::open).transpose()?;
                let run = part.run(session.run(&STUDENT, start.as_ref()));
                run.report(|stage| stage.student(&distil.out, common.clips, &ask)).map(drop)
            }
            StageName::Tuning { common, part, from, out } => {
                let session = common.open()?;
                let start = Start::open(&from)?;
                let run = part.run(session.run(&TUNING, Some(&start)));
                run.report(|stage| stage.tuning(&out, common.clips)).map(drop)
            }
            StageName::Average { models, out } => {
                average(&models, &out)?;
                println!("the mean of {} models is in {}", models.len(), out.display());
                Ok(())
            }
        }
    }
}
