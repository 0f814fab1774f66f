//! The conversation with one listener: two loops in one task, one that listens and one that speaks.

use std::pin::pin;
use std::sync::atomic::AtomicU64;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::App;
use super::listening::Listening;
use super::output::Encoder;
use super::rate::{Rates, Resampling};
use super::socket::{Ending, Outgoing, Source};
use super::speaking::{Speaking, TokenClock};
use super::steering::{Steering, served};
use crate::engine::{Admission, COLUMN_ROWS, Change};
use crate::protocol::client::{SessionStart, SoundFormat};
use crate::protocol::fields::Refusal;
use crate::protocol::server::{Control, ErrorBody, ErrorCode, ErrorKind, Limits, ServerMessage, SessionCreated};
use crate::protocol::{MAX_MESSAGE_BYTES, MAX_PROMPT_CHARS, MAX_PROMPTS, close};

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

/// What a client is told when its session begins.
pub(super) struct Terms<'a> {
    pub(super) id: &'a str,
    pub(super) sound: SoundFormat,
    pub(super) rates: Rates,
    pub(super) spectrogram: bool,
    pub(super) seed: u64,
}

impl Terms<'_> {
    /// The answer to `session.start`, of a stream that begins at this output sample and, where its sound is packed, has so
    /// many to be dropped.
    pub(super) fn created(&self, app: &App, first_sample: u64, pre_skip: Option<u32>) -> SessionCreated {
        let rates = self.rates;
        SessionCreated {
            session_id: self.id.to_owned(),
            model: app.info.name.clone(),
            sample_rate: rates.output,
            channels: self.sound.channels,
            format: self.sound.format,
            pre_skip,
            chunk_samples: rates.to_output(app.info.chunk_samples as u64),
            grid_samples: rates.to_output(app.engine.grid().frame_samples),
            first_sample,
            lead_samples: rates.to_output(app.engine.lead_samples()),
            spectrogram_rows: if self.spectrogram { COLUMN_ROWS } else { 0 },
            seed: self.seed,
            controls: app.info.controls.iter().map(Control::from).collect(),
            limits: Limits {
                message_bytes: MAX_MESSAGE_BYTES,
                prompts: MAX_PROMPTS,
                prompt_chars: MAX_PROMPT_CHARS,
                idle_seconds: app.limits.idle.as_secs(),
            },
        }
    }
}

/// An open session.
pub(super) struct Session<'a> {
    listening: Listening<'a>,
    speaking: Speaking<'a>,
    greetings: Vec<ServerMessage>,
    /// Where the sound that the listener has or may have ends, in output samples.
    sent: u64,
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
        served(start.model.as_deref(), &app.info).map_err(|refusal| refused(close::POLICY, refusal))?;
        if start.host_key.is_some() {
            let message = "host_key belongs to a room, and this is none";
            return Err(refused(close::INVALID, Refusal::of("host_key", ErrorCode::NotSupported, message)));
        }
        let checkpoint = match &start.resume_token {
            None => None,
            Some(token) => {
                Some(app.token_key.open(token, &app.info.fingerprint, app.limits.token_life).map_err(|error| {
                    let refusal = Refusal::of("resume_token", ErrorCode::InvalidToken, error.to_string());
                    refused(close::POLICY, refusal)
                })?)
            }
        };
        let mut steering = Steering::new(&app.info, &app.vocabulary, u64::from(rand::random::<u32>()));
        if let Some(checkpoint) = &checkpoint {
            steering.resume(checkpoint.condition.clone(), checkpoint.seed);
        }
        steering.set_config(start.config, "config.").map_err(|refusal| refused(close::INVALID, refusal))?;
        let rates = Rates { model: app.info.sample_rate, output: start.sound.rate(app.info.sample_rate) };
        let first_sample = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.sample);
        let revocable = app.engine.revocable_samples();
        let resampling = Resampling::new(rates, first_sample, revocable).map_err(|error| {
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
        let (sound, spectrogram) = (start.sound, start.spectrogram);
        let terms = Terms { id, sound, rates, spectrogram, seed: steering.seed() };
        let encoder = Encoder::new(resampling, sound, spectrogram, revocable);
        let encoder = encoder.map_err(|error| Ending::failure(error.to_string()))?;
        let created = terms.created(app, encoder.wanted(), encoder.pre_skip());
        greetings.insert(0, ServerMessage::Created(Box::new(created)));
        // Who resumes may hold sound of the connection before, and hears it before this one has sent any.
        let before = start.played.map_or(0, |played| played.saturating_add(rates.to_output(revocable)));
        let stopped = |_| Ending::failure("the engine has stopped");
        let (control, output) = match checkpoint {
            None => admission.open(steering.seed(), steering.condition()).await.map_err(stopped)?,
            Some(checkpoint) => {
                let heard = start.played.map_or(first_sample, |played| rates.to_model(played));
                let (condition, seed) = (steering.condition(), steering.seed());
                let same = condition == checkpoint.condition && seed == checkpoint.seed;
                let (control, output) = admission.resume(checkpoint, heard).await.map_err(stopped)?;
                if !same {
                    // More has been asked for since the token was made.
                    let change = Change { condition, seed: Some(seed), transport: None };
                    control.apply(change, event_id.clone()).await.map_err(stopped)?;
                }
                (control, output)
            }
        };
        let began = Instant::now();
        let sent = rates.to_output(first_sample).max(before);
        let listening = Listening { app, control, steering, rates, began };
        let speaking = Speaking { app, output, encoder, began, token: TokenClock::default() };
        Ok(Self { listening, speaking, greetings, sent })
    }

    /// Converses until one side has had enough. Whatever is still to be answered is, before the end.
    pub(super) async fn run(self, outgoing: &mut Outgoing, source: &mut Source) -> Ending {
        let Self { listening, speaking, greetings, sent } = self;
        let sent = AtomicU64::new(sent);
        let (answers, mut queue) = mpsc::channel(ANSWERS);
        let ending = {
            let mut listens = pin!(listening.run(source, &answers, &sent));
            let mut speaks = pin!(speaking.run(outgoing, greetings, &mut queue, &sent));
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
