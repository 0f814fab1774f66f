//! One listener: its connections one after the other, and what it does while it listens.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::player::Player;
use crate::protocol::frame::{DEGRADED, FrameHeader, Payload};

/// From one acknowledgement to the next.
const ACKNOWLEDGE: Duration = Duration::from_millis(100);
/// For a connection to be opened.
const CONNECT: Duration = Duration::from_secs(10);
/// A slow reader reads when it holds no more than this.
const SLOW: Duration = Duration::from_millis(500);
/// Sessions that would be shorter are not begun.
const SHORTEST: Duration = Duration::from_secs(2);

/// What a listener does beside listening.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Habits {
    /// Changes its prompt so often, on average.
    pub change_every: Option<Duration>,
    /// Vanishes so often, on average.
    pub vanish_every: Option<Duration>,
    /// Reads no more than it needs.
    pub slow: bool,
}

/// How an attempt to listen ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It was let in.
    Heard(Heard),
    /// There was no room; after this time it was told so.
    Refused(Duration),
    /// Something else.
    Failed(String),
}

impl Outcome {
    pub(super) fn heard(&self) -> Option<&Heard> {
        if let Self::Heard(heard) = self { Some(heard) } else { None }
    }

    pub(super) fn refusal(&self) -> Option<Duration> {
        if let Self::Refused(after) = self { Some(*after) } else { None }
    }

    pub(super) fn failure(&self) -> Option<&str> {
        if let Self::Failed(reason) = self { Some(reason) } else { None }
    }
}

/// What was heard in one session.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// From opening the connection to sound, if there was any.
    pub first_sound: Option<Duration>,
    /// From each change sent to its being heard.
    pub controls: Vec<Duration>,
    /// Times of silence.
    pub gaps: Vec<Duration>,
    /// Samples received.
    pub samples: u64,
    /// Of these with the degraded flag.
    pub degraded: u64,
}

/// Listens until `until`, with another connection whenever it has vanished.
pub async fn listen(url: &str, seed: u64, habits: &Habits, prompts: &[String], until: Instant) -> Vec<Outcome> {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut outcomes = Vec::new();
    while Instant::now() + SHORTEST <= until || outcomes.is_empty() {
        let vanishes = habits.vanish_every.map(|mean| Instant::now() + some(&mut chance, mean));
        let end = vanishes.unwrap_or(until).min(until);
        match Session::open(url, habits, prompts, &mut chance).await {
            Err(outcome) => {
                outcomes.push(outcome);
                break;
            }
            Ok(session) => {
                let (heard, failure) = session.run(&mut chance, end, until, end < until).await;
                outcomes.push(Outcome::Heard(heard));
                if let Some(reason) = failure {
                    outcomes.push(Outcome::Failed(reason));
                    break;
                }
            }
        }
        sleep(Duration::from_millis(chance.random_range(20..200))).await;
    }
    outcomes
}

/// A time around this one.
fn some(chance: &mut StdRng, mean: Duration) -> Duration {
    mean.mul_f64(chance.random_range(0.5..1.5))
}

/// A change on its way.
struct Pending {
    sent: Instant,
    /// The first sample that obeys, once it is told.
    at_sample: Option<u64>,
    /// When the sound came that does.
    came: Option<Instant>,
}

struct Session<'a> {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    habits: &'a Habits,
    prompts: &'a [String],
    /// Which of them it asked for last.
    prompt: usize,
    began: Instant,
    player: Option<Player>,
    pending: Option<Pending>,
    heard: Heard,
    underruns_told: usize,
}

impl<'a> Session<'a> {
    async fn open(url: &str, habits: &'a Habits, prompts: &'a [String], chance: &mut StdRng) -> Result<Self, Outcome> {
        let began = Instant::now();
        let socket = match timeout(CONNECT, connect_async(format!("{}/v1/stream", url.trim_end_matches('/')))).await {
            Ok(Ok((socket, _))) => socket,
            Ok(Err(Error::Http(response))) if response.status() == 503 => {
                return Err(Outcome::Refused(began.elapsed()));
            }
            Ok(Err(error)) => return Err(Outcome::Failed(error.to_string())),
            Err(_) => return Err(Outcome::Failed("the connection was not opened in time".into())),
        };
        let (player, pending, heard, underruns_told) = Default::default();
        let mut session = Self { socket, habits, prompts, prompt: 0, began, player, pending, heard, underruns_told };
        let seed: u32 = chance.random();
        let start = json!({ "type": "session.start", "prompts": session.mix(chance), "config": { "seed": seed } });
        let play = json!({ "type": "playback.set", "state": "PLAY" });
        for message in [start, play] {
            session.send(message).await.map_err(Outcome::Failed)?;
        }
        Ok(session)
    }

    /// Another prompt than before: a change to what is in force would change nothing.
    fn mix(&mut self, chance: &mut StdRng) -> Value {
        let others = self.prompts.len().saturating_sub(1).max(1);
        self.prompt = (self.prompt + chance.random_range(1..=others)) % self.prompts.len().max(1);
        json!([{ "text": self.prompts.get(self.prompt) }])
    }

    async fn send(&mut self, message: Value) -> Result<(), String> {
        let sent = timeout(CONNECT, self.socket.send(Message::text(message.to_string()))).await;
        sent.map_err(|_| "the server does not read".to_owned())?.map_err(|error| error.to_string())
    }

    /// Listens until `end`; what was heard, and what went wrong, after which there is silence until `until`.
    async fn run(
        mut self,
        chance: &mut StdRng,
        end: Instant,
        until: Instant,
        vanishes: bool,
    ) -> (Heard, Option<String>) {
        let failure = self.converse(chance, end).await.err();
        let silent_from = if failure.is_some() { until } else { Instant::now() };
        // One that was let in and was never told the terms heard nothing.
        let player = self.player.take().unwrap_or_else(|| Player::new(1, self.began));
        self.heard.first_sound = player.first_sound();
        self.heard.gaps = player.finish(silent_from);
        if failure.is_none() && !vanishes {
            // What comes meanwhile is not of interest.
            let farewell = async {
                if self.socket.close(None).await.is_ok() {
                    while let Some(Ok(_)) = self.socket.next().await {}
                }
            };
            let _ = timeout(CONNECT, farewell).await;
        }
        (self.heard, failure)
    }

    async fn converse(&mut self, chance: &mut StdRng, end: Instant) -> Result<(), String> {
        let mut ticks = interval(ACKNOWLEDGE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changes = self.habits.change_every.map(|mean| Instant::now() + some(chance, mean));
        loop {
            let reads = !self.habits.slow || self.player.as_mut().is_none_or(|p| p.held(Instant::now()) < SLOW);
            tokio::select! {
                message = self.socket.next(), if reads => self.take(message)?,
                now = ticks.tick() => {
                    if now >= end {
                        return Ok(());
                    }
                    self.acknowledge(now).await?;
                    if changes.is_some_and(|at| now >= at) && self.pending.is_none() {
                        let message = json!({ "type": "prompts.set", "prompts": self.mix(chance) });
                        self.send(message).await?;
                        self.pending = Some(Pending { sent: now, at_sample: None, came: None });
                        changes = self.habits.change_every.map(|mean| now + some(chance, mean));
                    }
                }
            }
            self.judge_change();
        }
    }

    async fn acknowledge(&mut self, now: Instant) -> Result<(), String> {
        let Some(player) = &mut self.player else { return Ok(()) };
        let (sample, underruns) = (player.advance(now), player.underruns());
        if sample == 0 {
            return Ok(());
        }
        let new = underruns - std::mem::replace(&mut self.underruns_told, underruns);
        self.send(json!({ "type": "played", "sample": sample, "underruns": new })).await
    }

    fn take(&mut self, message: Option<Result<Message, Error>>) -> Result<(), String> {
        let now = Instant::now();
        match message {
            None => Err("the connection ended".into()),
            Some(Err(error)) => Err(error.to_string()),
            Some(Ok(Message::Close(frame))) => {
                let reason = frame.map(|frame| format!("{} {}", frame.code, frame.reason)).unwrap_or_default();
                Err(format!("the server closed the session: {reason}"))
            }
            Some(Ok(Message::Text(text))) => self.read(&text),
            Some(Ok(Message::Binary(bytes))) => self.hear(&bytes, now),
            Some(Ok(_)) => Ok(()),
        }
    }

    fn read(&mut self, text: &str) -> Result<(), String> {
        let event: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match event["type"].as_str() {
            Some("session.created") => {
                let rate = event["sample_rate"].as_u64().and_then(|rate| u32::try_from(rate).ok());
                self.player = Some(Player::new(rate.ok_or("a session without a sample rate")?, self.began));
            }
            Some("applied") => {
                // The first one answers PLAY.
                if let Some(pending) = &mut self.pending
                    && pending.at_sample.is_none()
                {
                    pending.at_sample = event["at_sample"].as_u64();
                }
            }
            Some("error") => return Err(event["error"]["message"].as_str().unwrap_or("an error").to_owned()),
            _ => {}
        }
        Ok(())
    }

    fn hear(&mut self, bytes: &[u8], now: Instant) -> Result<(), String> {
        let (header, _) = FrameHeader::decode(bytes).map_err(|error| error.to_string())?;
        if header.payload == Payload::Spectrogram {
            return Ok(());
        }
        let player = self.player.as_mut().ok_or("sound before session.created")?;
        let samples = u64::from(header.samples);
        player.push(header.first_sample, samples, now);
        self.heard.samples += samples;
        self.heard.degraded += if header.flags & DEGRADED == 0 { 0 } else { samples };
        if let Some(pending) = &mut self.pending
            && pending.at_sample.is_some_and(|at| header.first_sample + samples > at)
        {
            pending.came.get_or_insert(now);
        }
        Ok(())
    }

    /// Takes note of a change once it is heard. A slow reader's would tell of the reader.
    fn judge_change(&mut self) {
        let Some(Pending { sent, at_sample: Some(at), came: Some(came) }) = self.pending else { return };
        let reached = self.player.as_ref().and_then(|player| player.reaches(at)).map(|at| at.max(came));
        if let Some(heard) = reached.filter(|&heard| heard <= Instant::now()) {
            self.pending = None;
            if !self.habits.slow {
                self.heard.controls.push(heard - sent);
            }
        }
    }
}
