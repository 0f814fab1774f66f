//! `twostep bench load`: what real listeners of a server find.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use twostep::engine::{EngineConfig, Readiness};
use twostep::load::search::find_capacity;
use twostep::load::{Crowd, http, run};
use twostep::server::{self, App, Limits, Loaded, TokenKey};

use super::model::ModelArg;

/// Options of `twostep bench load`.
#[derive(Args, Debug)]
pub struct BenchLoad {
    /// Listeners at once
    #[arg(long, env = "TWOSTEP_LOAD_LISTENERS", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=4096))]
    listeners: u16,
    /// How long they listen; with --find-capacity, each time
    #[arg(long, env = "TWOSTEP_LOAD_SECONDS", default_value_t = 30.0)]
    seconds: f64,
    /// The server, "ws://HOST:PORT"; if not given, one is started here, and shares this machine with its listeners
    #[arg(long, env = "TWOSTEP_LOAD_URL")]
    url: Option<String>,
    /// Seconds between two changes of prompt of one listener, on average; 0 for none
    #[arg(long, env = "TWOSTEP_LOAD_CHANGE_SECONDS", default_value_t = 10.0)]
    change_seconds: f64,
    /// Share of the listeners who vanish without a word every ten seconds or so, and come back
    #[arg(long, env = "TWOSTEP_LOAD_VANISHING", default_value_t = 0.1)]
    vanishing: f64,
    /// Share of the listeners who read no more than they need for the next half second
    #[arg(long, env = "TWOSTEP_LOAD_SLOW", default_value_t = 0.1)]
    slow: f64,
    /// Search for the largest crowd that is served without a refusal or a gap over 50 ms, from one listener on
    #[arg(long, env = "TWOSTEP_LOAD_FIND_CAPACITY", conflicts_with = "listeners")]
    find_capacity: bool,
    /// Let in more listeners than the server started here was measured to serve; with --find-capacity, to find out by ear
    #[arg(long, env = "TWOSTEP_LOAD_NO_ADMISSION", conflicts_with = "url")]
    no_admission: bool,
    #[command(flatten)]
    model: ModelArg,
    /// Also write the figures here, as JSON
    #[arg(long, env = "TWOSTEP_LOAD_JSON")]
    json: Option<PathBuf>,
}

/// Listeners that are let in where nothing is refused.
const EVERYBODY: usize = 4096;
/// Between two crowds.
const REST: Duration = Duration::from_secs(3);

impl BenchLoad {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<()> {
        let longest = 7.0 * 86_400.0;
        anyhow::ensure!(
            self.seconds >= 1.0 && self.seconds <= longest,
            "--seconds {}: must be 1 to a week",
            self.seconds
        );
        for (name, share) in [("vanishing", self.vanishing), ("slow", self.slow)] {
            anyhow::ensure!((0.0..=1.0).contains(&share), "--{name} {share}: a share is between 0 and 1");
        }
        let change = self.change_seconds;
        anyhow::ensure!((0.0..=longest).contains(&change), "--change-seconds {change}: must be 0 to a week");
        tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(self.measure())
    }

    async fn measure(self) -> anyhow::Result<()> {
        let (url, server) = match &self.url {
            Some(url) => (url.clone(), None),
            None => {
                let (url, stop, task) = self.serve().await?;
                (url, Some((stop, task)))
            }
        };
        let prompts = http::prompts(&url).await?;
        let crowd = Crowd {
            change_every: (self.change_seconds > 0.0).then(|| Duration::from_secs_f64(self.change_seconds)),
            vanishing: self.vanishing,
            slow: self.slow,
            ..Crowd::steady(&url, self.listeners.into(), Duration::from_secs_f64(self.seconds), prompts)
        };
        let (text, json) = if self.find_capacity {
            let found = find_capacity(&crowd, async || tokio::time::sleep(REST).await).await;
            (found.to_string(), serde_json::to_string_pretty(&found)?)
        } else {
            let report = run(&crowd).await;
            (report.to_string(), serde_json::to_string_pretty(&report)?)
        };
        println!("{text}");
        if let Some(path) = &self.json {
            std::fs::write(path, json).with_context(|| format!("--json {}", path.display()))?;
        }
        if let Some((stop, task)) = server {
            let _ = stop.send(());
            task.await??;
        }
        Ok(())
    }

    /// A server of our own on a free port.
    async fn serve(
        &self,
    ) -> anyhow::Result<(String, oneshot::Sender<()>, tokio::task::JoinHandle<Result<(), server::ServerError>>)> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port to listen on")?;
        let model = Loaded::from(self.model.load()?);
        let config = EngineConfig { max_listeners: self.no_admission.then_some(EVERYBODY), ..EngineConfig::default() };
        let limits = Limits { drain: Duration::ZERO, ..Limits::default().for_one_address() };
        let app = App::new(model, config, limits, TokenKey::random())?;
        if let Readiness::Failed(reason) = app.engine.warmed_up().await {
            anyhow::bail!("the model does not work on this machine: {reason}");
        }
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server::run(listener, app, async {
            let _ = stopped.await;
        }));
        Ok((format!("ws://{address}"), stop, task))
    }
}
