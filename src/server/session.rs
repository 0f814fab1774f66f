//! The conversation with one listener: two loops in one task, one that listens and one that speaks.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket};
use futures::stream::SplitStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout_at};

use super::App;
use super::native::{Ending, Incoming, Outgoing, receive};
use super::output::{Encoder, Rates};
use super::steering::Steering;
use crate::condition::Prompt;
use crate::engine::{Admission, COLUMN_ROWS, Change, StreamControl, StreamEvent, StreamOutput, Transport};
use crate::protocol::client::{ClientMessage, ConfigChange, Received, SessionStart};
use crate::protocol::fields::Refusal;
use crate::protocol::server::{Control, ErrorBody, ErrorCode, ErrorKind, Limits, ServerMessage, SessionCreated};
use crate::protocol::{CHANNELS, MAX_MESSAGE_BYTES, MAX_PROMPT_CHARS, MAX_PROMPTS, close};

/// Answers that may wait to be sent; when they do, the listener's messages wait too.
const ANSWERS: usize = 64;

impl App {
    /// Counts an error that is sent to a client.
    pub(super) fn count(&self, error: &ErrorBody) {
        match error.kind {
            ErrorKind::InvalidRequestError => self.metrics.client_error(),
            ErrorKind::ServerError => self.metrics.server_error(),
        }
    }
}

/// An open session.
pub(super) struct Session<'a> {
    app: &'a App,
    listening: Listening<'a>,
    output: StreamOutput,
    encoder: Encoder,
    greetings: Vec<ServerMessage>,
}

/// The half that listens.
struct Listening<'a> {
    app: &'a App,
    control: StreamControl,
    steering: Steering,
    rates: Rates,
}

impl<'a> Session<'a> {
    /// Opens the stream that `session.start` asks for.
    pub(super) async fn open(
        id: &str,
        app: &'a App,
        admission: Admission,
        start: SessionStart,
        event_id: Option<String>,
    ) -> Result<Self, Ending> {
        let refused = |code, refusal| Ending::refusal(code, refusal, event_id.clone());
        if let Some(model) = &start.model
            && *model != app.info.name
        {
            let message = format!("model {model:?} is not served here; {:?} is", app.info.name);
            return Err(refused(close::POLICY, Refusal::of("model", ErrorCode::UnknownModel, message)));
        }
        let mut steering = Steering::new(app, u64::from(rand::random::<u32>()));
        steering.set_config(start.config, "config.").map_err(|refusal| refused(close::INVALID, refusal))?;
        let rates = Rates { model: app.info.sample_rate, output: start.sample_rate.unwrap_or(app.info.sample_rate) };
        let encoder = Encoder::new(rates, start.format, start.spectrogram).map_err(|error| {
            refused(close::INVALID, Refusal::of("sample_rate", ErrorCode::InvalidValue, error.to_string()))
        })?;
        let mut greetings = Vec::new();
        if let Some(prompts) = start.prompts {
            let judged = steering.judge(prompts, "prompts");
            greetings.extend(judged.notices);
            if let Err(refusal) = steering.set_prompts(judged.prompts, "prompts") {
                greetings.push(ServerMessage::Error { error: refusal.into_body(event_id.clone()) });
            }
        }
        let created = SessionCreated {
            session_id: id.to_owned(),
            model: app.info.name.clone(),
            sample_rate: rates.output,
            channels: CHANNELS,
            format: start.format,
            chunk_samples: rates.to_output(app.info.chunk_samples as u64),
            lead_samples: rates.to_output(app.engine.lead_samples()),
            spectrogram_rows: if start.spectrogram { COLUMN_ROWS } else { 0 },
            seed: steering.seed(),
            controls: app.info.controls.iter().map(Control::from).collect(),
            limits: Limits {
                message_bytes: MAX_MESSAGE_BYTES,
                prompts: MAX_PROMPTS,
                prompt_chars: MAX_PROMPT_CHARS,
                idle_seconds: app.limits.idle.as_secs(),
            },
        };
        greetings.insert(0, ServerMessage::Created(Box::new(created)));
        let stopped = |_| Ending::failure("the engine has stopped");
        let (control, output) = admission.open(steering.seed(), steering.condition()).await.map_err(stopped)?;
        Ok(Self { app, listening: Listening { app, control, steering, rates }, output, encoder, greetings })
    }

    /// Converses until one side has had enough. Whatever is still to be answered is, before the end.
    pub(super) async fn run(self, outgoing: &mut Outgoing, source: &mut SplitStream<WebSocket>) -> Ending {
        let Self { app, listening, output, encoder, greetings } = self;
        let sent = AtomicU64::new(0);
        let (answers, mut queue) = mpsc::channel(ANSWERS);
        let ending = {
            let mut listens = pin!(listening.run(source, &answers, &sent));
            let mut speaks = pin!(speak(app, outgoing, output, encoder, greetings, &mut queue, &sent));
            tokio::select! {
                ending = &mut listens => ending,
                ending = &mut speaks => ending,
            }
        };
        if let Ending::Close(..) = ending {
            while let Ok(answer) = queue.try_recv() {
                if let Err(lost) = outgoing.tell(&answer).await {
                    return lost;
                }
            }
        }
        ending
    }
}

impl Listening<'_> {
    /// Reads until the client leaves, breaks the rules of the transport, or falls silent.
    async fn run(
        mut self,
        source: &mut SplitStream<WebSocket>,
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
                        Incoming::Alive => continue,
                    }
                }
                Ok(Err(ending)) => return ending,
                Err(_) if deadline == spoke + limits.idle => {
                    let message = format!("no message came for {} s", limits.idle.as_secs_f32());
                    return Ending::refusal(close::POLICY, Refusal::whole(ErrorCode::IdleTimeout, message), None);
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

    /// Does what a message asks, or says why not.
    async fn obey(
        &mut self,
        message: ClientMessage,
        event_id: Option<String>,
        answers: &mpsc::Sender<ServerMessage>,
        sent: &AtomicU64,
    ) -> Result<Option<Refusal>, Ending> {
        let change = match message {
            ClientMessage::Start(_) => {
                let message = "the session has been started already";
                return Ok(Some(Refusal::of("type", ErrorCode::SessionAlreadyStarted, message)));
            }
            ClientMessage::Played(sample) => return Ok(self.played(sample, sent.load(Ordering::Relaxed))),
            ClientMessage::Prompts(prompts) => {
                let judged = self.steering.judge(prompts, "prompts");
                for notice in judged.notices {
                    if answers.send(notice).await.is_err() {
                        return Err(Ending::Lost("nobody sends the answers"));
                    }
                }
                self.prompts(judged.prompts)
            }
            ClientMessage::Config(config) => self.config(config),
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

    fn played(&self, sample: u64, sent: u64) -> Option<Refusal> {
        if sample > sent {
            let message = format!("sample {sample} has not been sent; {sent} is the end so far");
            return Some(Refusal::of("sample", ErrorCode::InvalidValue, message));
        }
        self.control.hear(self.rates.to_model(sample));
        None
    }

    fn prompts(&mut self, prompts: Vec<Prompt>) -> Result<Change, Refusal> {
        let condition = self.steering.set_prompts(prompts, "prompts")?;
        Ok(Change { condition: Some(condition), ..Change::default() })
    }

    fn config(&mut self, config: ConfigChange) -> Result<Change, Refusal> {
        let before = self.steering.seed();
        self.steering.set_config(config, "")?;
        let seed = Some(self.steering.seed()).filter(|&seed| seed != before);
        Ok(Change { condition: self.steering.condition(), seed, transport: None })
    }

    fn playback(&self, transport: Transport) -> Result<Change, Refusal> {
        if transport == Transport::Play && self.steering.condition().is_none() {
            let message = "there is nothing to play before a prompt is set";
            return Err(Refusal::of("prompts", ErrorCode::NoUsablePrompt, message));
        }
        Ok(Change { transport: Some(transport), ..Change::default() })
    }
}

/// Sends what the engine makes and what the other half answers, and pings.
async fn speak(
    app: &App,
    outgoing: &mut Outgoing,
    mut output: StreamOutput,
    mut encoder: Encoder,
    greetings: Vec<ServerMessage>,
    answers: &mut mpsc::Receiver<ServerMessage>,
    sent: &AtomicU64,
) -> Ending {
    let rates = encoder.rates();
    let mut ping = interval_at(Instant::now() + app.limits.ping, app.limits.ping);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let spoken = async {
        for greeting in &greetings {
            outgoing.tell(greeting).await?;
        }
        loop {
            tokio::select! {
                event = output.next() => match event {
                    Some(StreamEvent::Chunk(rendered)) => {
                        for frame in encoder.step(*rendered) {
                            // Before it leaves, so that no acknowledgement can overtake it.
                            sent.store(frame.sent, Ordering::Relaxed);
                            outgoing.send(Message::Binary(frame.bytes)).await?;
                        }
                    }
                    Some(StreamEvent::Applied { event_id, at_sample }) => {
                        let at_sample = rates.to_output(at_sample);
                        outgoing.tell(&ServerMessage::Applied { event_id, at_sample }).await?;
                    }
                    Some(StreamEvent::Failed(error)) => return Err(Ending::failure(error.to_string())),
                    None => return Err(Ending::failure("the engine has stopped")),
                },
                Some(answer) = answers.recv() => outgoing.tell(&answer).await?,
                _ = ping.tick() => outgoing.send(Message::Ping(Bytes::new())).await?,
            }
        }
    };
    let ended: Result<std::convert::Infallible, Ending> = spoken.await;
    match ended {
        Ok(never) => match never {},
        Err(ending) => ending,
    }
}
