//! A conversation in Lyria RealTime's protocol, from `setup` to the close.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use serde_json::{Map, Value};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::messages::{ClientMessage, Content, ServerMessage, Source};
use super::settings::Settings;
use crate::condition::Prompt;
use crate::engine::{Admission, Change, Transport};
use crate::protocol::close;
use crate::protocol::fields::Refusal;
use crate::protocol::server::{self, ErrorCode, Pcm};
use crate::server::App;
use crate::server::guard::Place;
use crate::server::output::pcm_bytes;
use crate::server::paced::{Due, Paced};
use crate::server::rate::{Rates, Resampling};
use crate::server::socket::{self, Conversation, Ending, Incoming, Message, Outgoing, in_time, receive};
use crate::server::steering::Steering;

/// The rate of this protocol, in Hz.
const SAMPLE_RATE: u32 = 48_000;
/// Sound sent ahead of real time. Clients keep a second or two themselves before they begin.
const LEAD: Duration = Duration::from_millis(500);
/// Changes that may wait to take effect; then the client's messages wait too.
const PENDING: usize = 16;
/// Warnings that are remembered, so that a client that repeats itself is warned once.
const REMEMBERED: usize = 64;

/// A conversation with a place for its stream.
pub(super) struct Lyria {
    pub(super) place: Place,
}

impl Conversation for Lyria {
    const ERROR_EVENTS: bool = false;

    async fn converse(self, _id: &str, app: &App, outgoing: &mut Outgoing, source: &mut socket::Source) -> Ending {
        let Place { admission, seat: _seat } = self.place;
        if let Err(ending) = in_time(app, "setup", setup(app, source)).await {
            return ending;
        }
        let ended: Result<Infallible, Ending> = match Session::open(app, admission).await {
            Ok(mut session) => session.run(outgoing, source).await,
            Err(ending) => Err(ending),
        };
        match ended {
            Ok(never) => match never {},
            Err(ending) => ending,
        }
    }
}

/// Waits for `setup`; anything else ends the conversation.
async fn setup(app: &App, source: &mut socket::Source) -> Result<(), Ending> {
    loop {
        let bytes = match receive(source).await? {
            Incoming::Text(text) => Bytes::from(text),
            Incoming::Binary(bytes) => bytes,
            Incoming::Alive | Incoming::Pong(_) => continue,
        };
        let refusal = match ClientMessage::parse(&bytes) {
            Ok(ClientMessage::Setup(model)) => {
                let name = model.strip_prefix("models/").unwrap_or(&model);
                // Whoever comes with Google's library asks for Google's model.
                if name == app.info.name || name.starts_with("lyria") {
                    return Ok(());
                }
                let message = format!("model {model:?} is not served here; \"models/{}\" is", app.info.name);
                let refusal = Refusal::of("setup.model", ErrorCode::UnknownModel, message);
                return Err(Ending::refusal(close::POLICY, refusal, None));
            }
            Ok(_) => Refusal::whole(ErrorCode::SessionNotStarted, "the first message must be setup"),
            Err(refusal) => refusal,
        };
        return Err(Ending::refusal(close::INVALID, refusal, None));
    }
}

/// What a change brings when it takes effect.
struct Pending {
    source: Option<Arc<Source>>,
    transport: Option<Transport>,
}

/// An open session.
struct Session<'a> {
    app: &'a App,
    steering: Steering,
    paced: Paced,
    resampling: Resampling,
    /// The mix and the settings that were asked for last.
    source: Source,
    /// Changes that have not taken effect yet.
    pending: VecDeque<Pending>,
    /// What sound is made from, from which sample on; the first is in force.
    sources: VecDeque<(u64, Arc<Source>)>,
    warned: BTreeSet<String>,
}

impl<'a> Session<'a> {
    async fn open(app: &'a App, admission: Admission) -> Result<Self, Ending> {
        let steering = Steering::new(&app.info, &app.vocabulary, u64::from(rand::random::<u32>()));
        let rates = Rates { model: app.info.sample_rate, output: SAMPLE_RATE };
        let resampling = Resampling::new(rates, 0, 0).map_err(|error| Ending::failure(error.to_string()))?;
        let opened = admission.open(steering.seed(), None).await;
        let (control, output) = opened.map_err(|error| Ending::failure(error.to_string()))?;
        Ok(Self {
            app,
            steering,
            paced: Paced::new(control, output, rates.model, LEAD),
            resampling,
            source: Source::default(),
            pending: VecDeque::new(),
            sources: VecDeque::new(),
            warned: BTreeSet::new(),
        })
    }

    /// Converses until somebody has had enough.
    async fn run(&mut self, outgoing: &mut Outgoing, source: &mut socket::Source) -> Result<Infallible, Ending> {
        outgoing.tell(&ServerMessage::SetupComplete {}).await?;
        let limits = &self.app.limits;
        let mut ping = interval(limits.ping);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut alive = Instant::now();
        loop {
            tokio::select! {
                incoming = receive(source), if self.pending.len() < PENDING => {
                    alive = Instant::now();
                    match incoming? {
                        Incoming::Text(text) => self.obey(text.as_bytes(), outgoing).await?,
                        Incoming::Binary(bytes) => self.obey(&bytes, outgoing).await?,
                        Incoming::Alive | Incoming::Pong(_) => {}
                    }
                }
                due = self.paced.next() => match due.map_err(Ending::failure)? {
                    Due::Sound(first, pcm) => {
                        let source = self.source_of(first);
                        let (_, pcm) = self.resampling.step(&pcm);
                        if !pcm.is_empty() {
                            let bytes = pcm_bytes(&pcm, 0..pcm.len(), Pcm::S16le, 2);
                            outgoing.tell(&ServerMessage::audio(&bytes, &source)).await?;
                        }
                    }
                    Due::Applied(at_sample) => self.applied(at_sample),
                },
                _ = ping.tick() => outgoing.send(Message::Ping(Bytes::new())).await?,
                () = sleep_until(alive + limits.dead) => return Err(Ending::Lost("no sign of life")),
            }
        }
    }

    /// What sound from this sample on was made from.
    fn source_of(&mut self, sample: u64) -> Arc<Source> {
        while self.sources.get(1).is_some_and(|&(from, _)| from <= sample) {
            self.sources.pop_front();
        }
        self.sources.front().map(|(_, source)| Arc::clone(source)).unwrap_or_default()
    }

    /// A change has taken effect: the oldest of those that wait.
    fn applied(&mut self, at_sample: u64) {
        let Some(Pending { source, transport }) = self.pending.pop_front() else { return };
        if let Some(source) = source {
            // Never in force, if a later change takes effect no later.
            self.sources.retain(|&(from, _)| from < at_sample);
            self.sources.push_back((at_sample, source));
        }
        match transport {
            Some(Transport::Play) => self.paced.play(),
            Some(Transport::Pause) => self.paced.pause(),
            Some(Transport::Stop) => self.paced.stop(),
            Some(Transport::ResetContext) | None => {}
        }
    }

    /// Does what a message asks, as far as the model can.
    async fn obey(&mut self, bytes: &[u8], outgoing: &mut Outgoing) -> Result<(), Ending> {
        let message = match ClientMessage::parse(bytes) {
            Ok(message) => message,
            Err(refusal)
                if matches!(refusal.code, ErrorCode::InvalidJson | ErrorCode::InvalidType)
                    && refusal.param.is_none() =>
            {
                return Err(Ending::refusal(close::INVALID, refusal, None));
            }
            Err(refusal) => return self.warn(outgoing, refusal.message).await,
        };
        match message {
            ClientMessage::Setup(_) => self.warn(outgoing, "setup comes once, and has come".into()).await,
            ClientMessage::Prompts(prompts) => self.prompts(prompts, outgoing).await,
            ClientMessage::Config(config) => self.config(config, outgoing).await,
            ClientMessage::Playback(Transport::Play) if self.steering.condition().is_none() => {
                self.warn(outgoing, "there is nothing to play before a prompt is set".into()).await
            }
            ClientMessage::Playback(transport) => {
                self.apply(Change { transport: Some(transport), ..Change::default() }).await
            }
        }
    }

    async fn prompts(&mut self, prompts: Vec<Prompt>, outgoing: &mut Outgoing) -> Result<(), Ending> {
        let judged = self.steering.judge(prompts, "clientContent.weightedPrompts");
        for notice in judged.notices {
            match notice {
                server::ServerMessage::Filtered { text, reason } => {
                    let filtered = ServerMessage::FilteredPrompt { text, filtered_reason: reason };
                    outgoing.tell(&filtered).await?;
                }
                server::ServerMessage::Warning { message, .. } => self.warn(outgoing, message).await?,
                _ => {}
            }
        }
        let mix = judged.prompts.clone();
        match self.steering.mix(judged.prompts, "clientContent.weightedPrompts") {
            Ok(change) => {
                self.source.client_content = Content { weighted_prompts: mix };
                self.apply(change).await
            }
            Err(refusal) => self.tell_warning(outgoing, refusal.message).await,
        }
    }

    async fn config(&mut self, config: Map<String, Value>, outgoing: &mut Outgoing) -> Result<(), Ending> {
        let Settings { change, obeyed, warnings } = Settings::read(config, &self.app.info);
        for warning in warnings {
            self.warn(outgoing, warning).await?;
        }
        match self.steering.configure(change, "") {
            Ok(change) => {
                self.source.music_generation_config = obeyed;
                self.apply(change).await
            }
            Err(refusal) => self.tell_warning(outgoing, refusal.message).await,
        }
    }

    async fn apply(&mut self, change: Change) -> Result<(), Ending> {
        let source = change.condition.is_some().then(|| Arc::new(self.source.clone()));
        self.pending.push_back(Pending { source, transport: change.transport });
        self.paced.control.apply(change, None).await.map_err(|error| Ending::failure(error.to_string()))
    }

    /// Warns, once of each thing.
    async fn warn(&mut self, outgoing: &mut Outgoing, warning: String) -> Result<(), Ending> {
        if self.warned.contains(&warning) {
            return Ok(());
        }
        if self.warned.len() < REMEMBERED {
            self.warned.insert(warning.clone());
        }
        self.tell_warning(outgoing, warning).await
    }

    async fn tell_warning(&mut self, outgoing: &mut Outgoing, warning: String) -> Result<(), Ending> {
        self.app.metrics.client_error();
        outgoing.tell(&ServerMessage::Warning(warning)).await
    }
}
