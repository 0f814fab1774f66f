//! `twostep serve`: the page and the streams on one port.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::model::ModelArg;
use super::security::SecurityArgs;
use anyhow::Context;
use clap::Args;
use tokio::net::TcpListener;
use twostep::engine::{EngineConfig, Readiness};
use twostep::families::Family;
use twostep::model::ModelSpec;
use twostep::server::{self, App, Limits, Loaded, TokenKey};

/// Serve the page and live streams to browsers.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Address and port to listen on.
    #[arg(long, env = "TWOSTEP_LISTEN", default_value = "127.0.0.1:3000")]
    pub listen: SocketAddr,
    /// TOML file with settings, named as these flags; variables of the environment win over it, and flags over both
    #[arg(long, env = "TWOSTEP_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Check all settings and what they name, and end
    #[arg(long)]
    pub check_config: bool,
    /// Print the settings in force as a TOML file, without secrets, and end
    #[arg(long)]
    pub print_config: bool,
    #[command(flatten)]
    pub model: ModelArg,
    /// Listeners at once, more are refused; if not given, as many as this machine is measured to serve in time.
    #[arg(long, env = "TWOSTEP_MAX_LISTENERS", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub max_listeners: Option<u16>,
    /// Files made at once over HTTP, when no listener waits; 0 to refuse them.
    #[arg(long, env = "TWOSTEP_MAX_FILES", default_value_t = 2, value_parser = clap::value_parser!(u16).range(0..=64))]
    pub max_files: u16,
    /// Chunks computed together at most; fewer where the device would take longer than 0.15 s for them.
    #[arg(long, env = "TWOSTEP_MAX_BATCH", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub max_batch: u16,
    /// Seconds of sound sent ahead of what is heard: more survives a worse network; if not given, 2, or 12 where a model
    /// makes 8 s at a time.
    #[arg(long, env = "TWOSTEP_LEAD_SECONDS", value_parser = lead)]
    pub lead_seconds: Option<f32>,
    /// Never make sound with fewer steps than asked for, even if it comes too late for that.
    #[arg(long, env = "TWOSTEP_KEEP_QUALITY")]
    pub keep_quality: bool,
    /// Secret that resume and browser tokens are signed with, the same on all servers that are to take over each other's listeners; if
    /// none is given, tokens are good for this process only.
    #[arg(long, env = "TWOSTEP_TOKEN_KEY", hide_env_values = true)]
    pub token_key: Option<String>,
    /// File with that secret.
    #[arg(long, env = "TWOSTEP_TOKEN_KEY_FILE", conflicts_with = "token_key")]
    pub token_key_file: Option<PathBuf>,
    #[command(flatten)]
    pub security: SecurityArgs,
    /// Seconds that listeners have, at a shutdown, to go on at another server.
    #[arg(long, env = "TWOSTEP_DRAIN_SECONDS", default_value_t = 20.0, value_parser = drain)]
    pub drain_seconds: f32,
}

fn lead(text: &str) -> Result<f32, String> {
    seconds(text, 0.25..=60.0)
}

fn drain(text: &str) -> Result<f32, String> {
    seconds(text, 0.0..=3600.0)
}

fn seconds(text: &str, range: RangeInclusive<f32>) -> Result<f32, String> {
    let seconds: f32 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    match range.contains(&seconds) {
        true => Ok(seconds),
        false => Err(format!("between {} and {} seconds", range.start(), range.end())),
    }
}

impl ServeArgs {
    /// Loads the model and serves it until Ctrl-C or SIGTERM.
    pub fn run(self) -> anyhow::Result<()> {
        if self.check_config {
            self.token_key()?;
            self.security.security(self.listen)?;
            let folder = &self.model.model;
            if self.model.family()? == Family::Native {
                ModelSpec::read(folder).with_context(|| format!("--model {}", folder.display()))?;
            }
            eprintln!("The settings are fine");
            return Ok(());
        }
        tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(self.serve())
    }

    /// The secret that tokens are signed with.
    pub fn token_key(&self) -> anyhow::Result<TokenKey> {
        let secret = match (&self.token_key, &self.token_key_file) {
            (Some(secret), _) => secret.clone(),
            (None, Some(path)) => {
                let secret = std::fs::read_to_string(path);
                secret.with_context(|| format!("--token-key-file {}", path.display()))?.trim().to_owned()
            }
            (None, None) => return Ok(TokenKey::random()),
        };
        anyhow::ensure!(secret.len() >= 16, "a token key has at least 16 characters");
        Ok(TokenKey::new(secret.as_bytes()))
    }

    /// Deadlines and bounds.
    pub fn limits(&self) -> Limits {
        self.security.limit(Limits { drain: Duration::from_secs_f32(self.drain_seconds), ..Limits::default() })
    }

    /// How the device is shared, with what suits the model's family where nothing is given.
    pub fn engine(&self, family: Family) -> EngineConfig {
        let (max_batch, lead_seconds) = match family {
            Family::Native => (self.max_batch, 2.0),
            // It makes one stream's sound after another: a batch would only make the first wait for the last.
            Family::ConsistencyTta => (1, 12.0),
        };
        EngineConfig {
            max_listeners: self.max_listeners.map(usize::from),
            max_renders: self.max_files.into(),
            max_batch: max_batch.into(),
            lead_seconds: self.lead_seconds.unwrap_or(lead_seconds),
            degrade: !self.keep_quality,
            ..EngineConfig::default()
        }
    }

    async fn serve(self) -> anyhow::Result<()> {
        let (token_key, security, limits) = (self.token_key()?, self.security.security(self.listen)?, self.limits());
        // Each connection is a file.
        if let Err(error) = rlimit::increase_nofile_limit(2 * limits.connections as u64) {
            tracing::warn!(%error, "the limit of open files stays what it is");
        }
        // Before the model, so that a port in use is told at once.
        let listener =
            TcpListener::bind(self.listen).await.with_context(|| format!("cannot listen on {}", self.listen))?;
        let family = self.model.family()?;
        let engine = self.engine(family);
        let mut app = match family {
            Family::Native => App::new(Loaded::from(self.model.load()?), engine, limits, token_key)?,
            Family::ConsistencyTta => {
                App::new(Loaded::from(self.model.load_consistency_tta()?), engine, limits, token_key)?
            }
        };
        app.security = security;
        if let Readiness::Failed(reason) = app.engine.warmed_up().await {
            anyhow::bail!("the model does not work on this machine: {reason}");
        }
        let address = listener.local_addr()?;
        tracing::info!(%address, model = app.info.name, "serving");
        match &app.security.tls {
            None => eprintln!("Listen at http://{address}/"),
            Some(tls) => {
                eprintln!("Listen at https://{address}/");
                eprintln!("The certificate's SHA-256 fingerprint is {}", tls.fingerprint());
            }
        }
        server::run(listener, app, told_to_stop()).await?;
        Ok(())
    }
}

/// Completes at Ctrl-C or SIGTERM.
async fn told_to_stop() {
    let interrupt = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::error!(%error, "Ctrl-C cannot be heard");
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(error) => {
                tracing::error!(%error, "SIGTERM cannot be heard");
                std::future::pending::<()>().await;
            }
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = interrupt => {}
        () = terminate => {}
    }
}
