//! The half of a session that speaks: sends what the engine makes and what the other half answers, and pings.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::App;
use super::output::{self, Encoder};
use super::socket::{Ending, Message, Outgoing};
use crate::engine::{Checkpoint, Rendered, StreamEvent, StreamOutput};
use crate::protocol::server::ServerMessage;

/// The half that speaks.
pub(super) struct Speaking<'a> {
    pub(super) app: &'a App,
    pub(super) output: StreamOutput,
    pub(super) encoder: Encoder,
    pub(super) began: Instant,
    pub(super) token: TokenClock,
}

/// Which resume token comes next, and when.
#[derive(Default)]
pub(super) struct TokenClock {
    latest: Option<Box<Checkpoint>>,
    /// Whether the latest has been sent.
    told: bool,
    /// Whether it is the first since a change, after which older ones lead into a past that nobody heard.
    urgent: bool,
    sent: Option<Instant>,
}

impl TokenClock {
    fn note(&mut self, rendered: &mut Rendered) {
        self.urgent |= rendered.span.replace;
        if let Some(checkpoint) = rendered.checkpoint.take() {
            (self.latest, self.told) = (Some(checkpoint), false);
        }
    }

    /// The checkpoint to be sent now, if any.
    fn due(&mut self, interval: Duration) -> Option<Checkpoint> {
        let late = self.sent.is_none_or(|sent| sent.elapsed() >= interval);
        if self.told || !(late || self.urgent) {
            return None;
        }
        let latest = self.latest.as_deref()?.clone();
        (self.told, self.urgent, self.sent) = (true, false, Some(Instant::now()));
        Some(latest)
    }
}

impl Speaking<'_> {
    /// Speaks until the stream or the connection fails. `sent` is told where the sound sent so far ends.
    pub(super) async fn run(
        mut self,
        outgoing: &mut Outgoing,
        greetings: Vec<ServerMessage>,
        answers: &mut mpsc::Receiver<ServerMessage>,
        sent: &AtomicU64,
    ) -> Ending {
        let ended: Result<Infallible, Ending> = self.speak(outgoing, greetings, answers, sent).await;
        match ended {
            Ok(never) => match never {},
            Err(ending) => ending,
        }
    }

    async fn speak(
        &mut self,
        outgoing: &mut Outgoing,
        greetings: Vec<ServerMessage>,
        answers: &mut mpsc::Receiver<ServerMessage>,
        sent: &AtomicU64,
    ) -> Result<Infallible, Ending> {
        for greeting in &greetings {
            outgoing.tell(greeting).await?;
        }
        // The first goes at once, so that changes know how far the listener is away.
        let mut ping = interval(self.app.limits.ping);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut going = false;
        loop {
            tokio::select! {
                event = self.output.next() => match event {
                    Some(StreamEvent::Sound(rendered)) => self.sound(outgoing, *rendered, sent).await?,
                    Some(StreamEvent::Applied { event_id, at_sample }) => {
                        let at_sample = self.encoder.rates().to_output(at_sample);
                        outgoing.tell(&ServerMessage::Applied { event_id, at_sample }).await?;
                    }
                    Some(StreamEvent::Failed(error)) => return Err(Ending::failure(error.to_string())),
                    None => return Err(Ending::failure("the engine has stopped")),
                },
                Some(answer) = answers.recv() => outgoing.tell(&answer).await?,
                () = self.app.draining.cancelled(), if !going => {
                    going = true;
                    self.going_away(outgoing).await?;
                }
                _ = ping.tick() => {
                    let now = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
                    outgoing.send(Message::Ping(Bytes::copy_from_slice(&now.to_le_bytes()))).await?;
                }
            }
        }
    }

    async fn sound(&mut self, outgoing: &mut Outgoing, mut rendered: Rendered, sent: &AtomicU64) -> Result<(), Ending> {
        self.token.note(&mut rendered);
        let frames = self.encoder.step(&rendered).map_err(|error| Ending::failure(error.to_string()))?;
        // Before they leave, so that no acknowledgement can overtake them.
        sent.fetch_max(output::end(&frames), Ordering::Relaxed);
        outgoing.send_frames(&frames).await?;
        // Behind the sound, so that whoever resumes holds more than the token needs.
        match self.token.due(self.app.limits.token) {
            Some(checkpoint) => {
                let at_sample = self.encoder.rates().to_output(checkpoint.sample);
                let resume_token = self.app.seal(checkpoint);
                outgoing.tell(&ServerMessage::Token { resume_token, at_sample }).await
            }
            None => Ok(()),
        }
    }

    async fn going_away(&mut self, outgoing: &mut Outgoing) -> Result<(), Ending> {
        let deadline_ms = u64::try_from(self.app.limits.drain.as_millis()).unwrap_or(u64::MAX);
        let resume_token = self.token.latest.as_deref().map(|checkpoint| self.app.seal(checkpoint.clone()));
        outgoing.tell(&ServerMessage::GoingAway { deadline_ms, resume_token }).await
    }
}
