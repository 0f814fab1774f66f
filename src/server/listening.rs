//! The half of a session that listens: reads messages, does what they ask, and says what it cannot do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::App;
use super::native::binary;
use super::rate::Rates;
use super::socket::{Ending, Incoming, Source, receive};
use super::steering::Steering;
use crate::engine::{Change, StreamControl, Transport};
use crate::protocol::client::{ClientMessage, Played, Received};
use crate::protocol::fields::Refusal;
use crate::protocol::server::{ErrorCode, ServerMessage};

/// The half that listens.
pub(super) struct Listening<'a> {
    pub(super) app: &'a App,
    pub(super) control: StreamControl,
    pub(super) steering: Steering,
    pub(super) rates: Rates,
    pub(super) began: Instant,
}

/// Underruns that one message can tell of.
const MAX_UNDERRUNS: u64 = 10;

impl App {
    /// How far a listener is who was sent sound up to `sent`, if that can be; counts its underruns.
    pub(super) fn played(&self, Played { sample, underruns }: Played, sent: u64) -> Result<u64, Refusal> {
        // No counter is to be driven far by one liar.
        self.metrics.underruns(underruns.min(MAX_UNDERRUNS));
        if sample > sent {
            let message = format!("sample {sample} has not been sent; {sent} is the end so far");
            return Err(Refusal::of("sample", ErrorCode::InvalidValue, message));
        }
        Ok(sample)
    }
}

/// What a second `session.start` is told.
pub(super) fn started_already() -> Refusal {
    Refusal::of("type", ErrorCode::SessionAlreadyStarted, "the session has been started already")
}

impl Listening<'_> {
    /// Reads until the client leaves, breaks the rules of the transport, or falls silent.
    pub(super) async fn run(
        mut self,
        source: &mut Source,
        answers: &mpsc::Sender<ServerMessage>,
        sent: &AtomicU64,
    ) -> Ending {
        let limits = &self.app.limits;
        let (mut alive, mut spoke) = (Instant::now(), Instant::now());
        loop {
            let deadline = (alive + limits.dead).min(spoke + limits.idle);
            let text = match timeout_at(deadline, receive(source)).await {
                Ok(Ok(incoming)) => {
                    alive = Instant::now();
                    match incoming {
                        Incoming::Text(text) => text,
                        Incoming::Binary(_) => return binary(),
                        Incoming::Alive => continue,
                        Incoming::Pong(payload) => {
                            self.pong(&payload);
                            continue;
                        }
                    }
                }
                Ok(Err(ending)) => return ending,
                Err(_) if deadline == spoke + limits.idle => {
                    return Ending::idle(limits);
                }
                Err(_) => return Ending::Lost("no sign of life"),
            };
            spoke = alive;
            let Received { event_id, message } = Received::parse(&text);
            let refusal = match message {
                Ok(message) => match self.obey(message, event_id.clone(), answers, sent).await {
                    Ok(refusal) => refusal,
                    Err(ending) => return ending,
                },
                Err(refusal) => Some(refusal),
            };
            if let Some(refusal) = refusal {
                let error = refusal.into_body(event_id);
                self.app.count(&error);
                if answers.send(ServerMessage::Error { error }).await.is_err() {
                    return Ending::Lost("nobody sends the answers");
                }
            }
        }
    }

    /// Takes the time of a ping's way there and back. Pings carry when they left, in microseconds of the session.
    fn pong(&self, payload: &[u8]) {
        if let Ok(left) = payload.try_into().map(u64::from_le_bytes) {
            let left = Duration::from_micros(left);
            self.control.set_round_trip(self.began.elapsed().saturating_sub(left));
        }
    }

    /// Does what a message asks, or says why not.
    async fn obey(
        &mut self,
        message: ClientMessage,
        event_id: Option<String>,
        answers: &mpsc::Sender<ServerMessage>,
        sent: &AtomicU64,
    ) -> Result<Option<Refusal>, Ending> {
        let change = match message {
            ClientMessage::Start(_) => return Ok(Some(started_already())),
            ClientMessage::Played(played) => {
                let heard = self.app.played(played, sent.load(Ordering::Relaxed));
                return Ok(heard.map(|sample| self.control.hear(self.rates.to_model(sample))).err());
            }
            ClientMessage::Prompts(prompts) => {
                let judged = self.steering.judge(prompts, "prompts");
                for notice in judged.notices {
                    if answers.send(notice).await.is_err() {
                        return Err(Ending::Lost("nobody sends the answers"));
                    }
                }
                self.steering.mix(judged.prompts, "prompts")
            }
            ClientMessage::Config(config) => self.steering.configure(config, ""),
            ClientMessage::Playback(transport) => self.playback(transport),
        };
        match change {
            Ok(change) => match self.control.apply(change, event_id).await {
                Ok(()) => Ok(None),
                Err(error) => Err(Ending::failure(error.to_string())),
            },
            Err(refusal) => Ok(Some(refusal)),
        }
    }

    fn playback(&self, transport: Transport) -> Result<Change, Refusal> {
        if transport == Transport::Play && self.steering.condition().is_none() {
            let message = "there is nothing to play before a prompt is set";
            return Err(Refusal::of("prompts", ErrorCode::NoUsablePrompt, message));
        }
        Ok(Change { transport: Some(transport), ..Change::default() })
    }
}
