//! The command line, one file a subcommand. Every flag is also an environment variable `TWOSTEP_*`.

mod asked;
mod bench;
mod bench_generator;
mod bench_load;
mod config;
mod corpus;
mod device;
mod doctor;
mod eval;
mod generate;
mod model;
mod models;
mod picture;
mod security;
mod selftest;
mod serve;
mod train;

pub use config::parse;

use clap::{Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

/// Endless, promptable sound from a two-step consistency model.
#[derive(Debug, Parser)]
#[command(name = "twostep", version, about, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// What to log, e.g. "warn" or "twostep=debug"
    #[arg(long, env = "TWOSTEP_LOG", default_value = "info", global = true)]
    log: String,
    /// How to log
    #[arg(long, env = "TWOSTEP_LOG_FORMAT", default_value = "text", global = true)]
    log_format: LogFormat,
    /// Something that goes wrong: worker-panic, slow-tick, out-of-memory or full-disk; NAME:N on the Nth occasion
    #[cfg(feature = "fault")]
    #[arg(long, value_name = "NAME[:N]", global = true)]
    fault: Vec<twostep::fault::Order>,
}

/// How to log.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the page and live streams to browsers
    Serve(serve::ServeArgs),
    /// Check whether this machine can serve with these settings, how many listeners, and what would be slow
    Doctor(doctor::Doctor),
    /// Render a prompt to a WAV file
    Generate(generate::Generate),
    /// List the models in a folder
    Models(models::Models),
    /// Time every stage of a chunk on this machine
    Bench(bench::Bench),
    /// Time the two steps of a generator of any size, with random weights
    BenchGenerator(bench_generator::BenchGenerator),
    /// Check every operation and the model on this machine's device, against definitions in double precision
    Selftest(selftest::SelfTest),
    /// Compare generated sound with the training sounds
    Eval(eval::Eval),
    /// Export the procedural training sounds as WAV files with captions
    Corpus(corpus::Corpus),
    /// Train a model of your own, stage by stage
    Train(train::Train),
}

impl Cli {
    /// Sets up logging and runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        let filter = EnvFilter::try_new(&self.log).map_err(|e| anyhow::anyhow!("--log {}: {e}", self.log))?;
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        match self.log_format {
            LogFormat::Text => log.init(),
            LogFormat::Json => log.json().init(),
        }
        #[cfg(feature = "fault")]
        self.fault.iter().for_each(|fault| fault.arm());
        match self.command {
            Command::Serve(serve) => serve.run(),
            Command::Doctor(doctor) => doctor.run(),
            Command::Generate(generate) => generate.run(),
            Command::Models(models) => models.run(),
            Command::Bench(bench) => bench.run(),
            Command::BenchGenerator(bench) => bench.run(),
            Command::Selftest(selftest) => selftest.run(),
            Command::Eval(eval) => eval.run(),
            Command::Corpus(corpus) => corpus.run(),
            Command::Train(train) => train.run(),
        }
    }
}
