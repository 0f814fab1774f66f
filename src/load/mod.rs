//! Listeners as a server meets them: real connections that play in real time, acknowledge, change their prompts, vanish,
//! and read slowly. What they heard of the server's promises is measured.
//!
//! * [`player`]: a listener's ears, a clock and a buffer; [`listener`]: its connection and its deeds
//! * [`report`]: what many of them found; [`search`]: how many of them a server serves without a gap
//! * [`http`]: the few words of plain HTTP that this needs

pub mod http;
pub mod listener;
pub mod player;
pub mod report;
pub mod search;

use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep};

use listener::{Habits, listen};
pub use report::Report;

/// Who listens, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct Crowd {
    /// `ws://HOST:PORT`, without a path.
    pub url: String,
    /// How many.
    pub listeners: usize,
    /// How long.
    pub duration: Duration,
    /// Over which the listeners come, one after the other.
    pub ramp: Duration,
    /// Between two changes of prompt of one listener, on average; none for listeners who change nothing.
    pub change_every: Option<Duration>,
    /// Between two disappearances of one listener who vanishes, on average.
    pub vanish_every: Duration,
    /// Share of the listeners who vanish without a word, now and then, and come back as new ones.
    pub vanishing: f64,
    /// Share of the listeners who read no more than they need for the next half second.
    pub slow: f64,
    /// What they choose their prompts from; at least one.
    pub prompts: Vec<String>,
}

impl Crowd {
    /// Steady listeners at this address who change their prompt every ten seconds, come within two seconds, and are asked for
    /// what `prompts` knows.
    pub fn steady(url: &str, listeners: usize, duration: Duration, prompts: Vec<String>) -> Self {
        Self {
            url: url.to_owned(),
            listeners,
            duration,
            ramp: Duration::from_secs(2).min(duration / 4),
            change_every: Some(Duration::from_secs(10)),
            vanish_every: Duration::from_secs(10),
            vanishing: 0.0,
            slow: 0.0,
            prompts,
        }
    }
}

/// Lets them listen, and tells what they found.
pub async fn run(crowd: &Crowd) -> Report {
    let began = Instant::now();
    let until = began + crowd.duration;
    let one = |i: usize| async move {
        // Spread evenly over the crowd, whatever its size.
        let falls_in = |share: f64, shift: f64| ((i as f64 + 0.5) * 0.618_034 + shift).fract() < share;
        let habits = Habits {
            change_every: crowd.change_every,
            vanish_every: falls_in(crowd.vanishing, 0.0).then_some(crowd.vanish_every),
            slow: falls_in(crowd.slow, 0.5),
        };
        sleep(crowd.ramp.mul_f64(i as f64 / crowd.listeners.max(1) as f64)).await;
        listen(&crowd.url, i as u64, &habits, &crowd.prompts, until).await
    };
    let heard = join_all((0..crowd.listeners).map(one)).await.into_iter().flatten().collect::<Vec<_>>();
    Report::of(crowd.listeners, began.elapsed(), &heard)
}

/// Why a load cannot be put on a server.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The address is none that listeners can use.
    #[error("{0:?} is not an address like ws://127.0.0.1:3000")]
    Address(String),
    /// The server did not answer a plain question.
    #[error("{url} does not answer: {reason}")]
    NoAnswer {
        /// What was asked for.
        url: String,
        /// What happened instead.
        reason: String,
    },
}
