//! The conversation with one of those who are in a room: a host, who controls it, or a listener.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Bytes;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::room::{Arrival, ArrivalError, News, Room, RoomState};
use super::track::{TrackFormat, Tuned};
use crate::engine::{Change, Transport};
use crate::protocol::client::{ClientMessage, ConfigChange, Received, SessionStart, SoundFormat};
use crate::protocol::close;
use crate::protocol::fields::Refusal;
use crate::protocol::server::{ErrorCode, Playback, RoomMessage, ServerMessage};
use crate::server::App;
use crate::server::listening::started_already;
use crate::server::native::{binary, opening};
use crate::server::output::{self, Frame};
use crate::server::quota::Seat;
use crate::server::rate::Rates;
use crate::server::session::Terms;
use crate::server::socket::{Conversation, Ending, Incoming, Message, Outgoing, Source, receive};
use crate::server::steering::served;

/// A place in a room; given back when dropped.
pub(super) struct Member {
    room: Arc<Room>,
    _seat: Seat,
}

impl Member {
    /// A place, if the room has one.
    pub(super) fn new(room: Arc<Room>, seat: Seat) -> Option<Self> {
        room.enter().then_some(Self { room, _seat: seat })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.room.leave();
    }
}

impl Conversation for Member {
    const ERROR_EVENTS: bool = true;

    async fn converse(self, id: &str, app: &App, outgoing: &mut Outgoing, source: &mut Source) -> Ending {
        let ended: Result<Infallible, Ending> = async {
            let (start, event_id) = opening(app, source).await?;
            let mut visit = Visit::begin(id, app, &self.room, start, event_id, outgoing).await?;
            visit.run(outgoing, source).await
        }
        .await;
        match ended {
            Ok(never) => match never {},
            Err(ending) => ending,
        }
    }
}

/// Somebody who is here.
struct Visit<'a> {
    app: &'a App,
    room: &'a Room,
    /// Which member this is.
    number: u64,
    host: bool,
    rates: Rates,
    news: broadcast::Receiver<News>,
    /// Where the sound sent so far ends, in output samples.
    sent: u64,
}

impl<'a> Visit<'a> {
    /// Says what the terms are, and sends what the others hold.
    async fn begin(
        id: &str,
        app: &'a App,
        room: &'a Room,
        start: SessionStart,
        event_id: Option<String>,
        outgoing: &mut Outgoing,
    ) -> Result<Self, Ending> {
        let host = check(app, room, &start).map_err(|(code, refusal)| Ending::refusal(code, refusal, event_id))?;
        let rates = Rates { model: app.info.sample_rate, output: start.sound.rate(app.info.sample_rate) };
        let seed = room.steering.lock().await.seed();
        // Who names the rate that the model has hears what others hear who name none.
        let sound = SoundFormat { sample_rate: None, ..start.sound };
        let format = TrackFormat { sound, rates, columns: start.spectrogram };
        let arrival = room.arrive(format, app.engine.revocable_samples());
        let Arrival { track, first_sample, state } = arrival.map_err(|error| match error {
            ArrivalError::Closed(reason) => closed(&reason),
            ArrivalError::Encode(error) => Ending::failure(error.to_string()),
        })?;
        let Tuned { news, recent, first_sample: first, pre_skip } = track;
        let terms = Terms { id, sound: start.sound, rates, spectrogram: start.spectrogram, seed };
        outgoing.tell(&ServerMessage::Created(Box::new(terms.created(app, first, pre_skip)))).await?;
        let mut visit = Self { app, room, number: rand::random(), host, rates, news, sent: first };
        visit.state(first_sample, &state, outgoing).await?;
        for frames in recent {
            visit.sound(&frames, outgoing).await?;
        }
        Ok(visit)
    }

    /// Converses until somebody has had enough.
    async fn run(&mut self, outgoing: &mut Outgoing, source: &mut Source) -> Result<Infallible, Ending> {
        let limits = &self.app.limits;
        let mut ping = interval(limits.ping);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut alive, mut spoke, mut going) = (Instant::now(), Instant::now(), false);
        loop {
            tokio::select! {
                incoming = receive(source) => {
                    alive = Instant::now();
                    match incoming? {
                        Incoming::Text(text) => {
                            spoke = alive;
                            self.read(&text, outgoing).await?;
                        }
                        Incoming::Binary(_) => return Err(binary()),
                        Incoming::Alive | Incoming::Pong(_) => {}
                    }
                }
                news = self.news.recv() => match news {
                    Ok(news) => self.tell(news, outgoing).await?,
                    Err(RecvError::Lagged(_)) => {
                        let refusal = Refusal::whole(ErrorCode::TooSlow, "this connection is too slow for the room");
                        return Err(Ending::refusal(close::TRY_LATER, refusal, None));
                    }
                    Err(RecvError::Closed) => return Err(Ending::Close(close::GOING_AWAY, None)),
                },
                () = self.app.draining.cancelled(), if !going => {
                    going = true;
                    let deadline_ms = u64::try_from(limits.drain.as_millis()).unwrap_or(u64::MAX);
                    outgoing.tell(&ServerMessage::GoingAway { deadline_ms, resume_token: None }).await?;
                }
                _ = ping.tick() => outgoing.send(Message::Ping(Bytes::new())).await?,
                () = sleep_until((alive + limits.dead).min(spoke + limits.idle)) => {
                    if spoke.elapsed() < limits.idle {
                        return Err(Ending::Lost("no sign of life"));
                    }
                    return Err(Ending::idle(limits));
                }
            }
        }
    }

    async fn tell(&mut self, news: News, outgoing: &mut Outgoing) -> Result<(), Ending> {
        match news {
            News::Sound(frames) => self.sound(&frames, outgoing).await,
            News::Applied { member, event_id, at_sample, state } => {
                if member == self.number {
                    let at_sample = self.rates.to_output(at_sample);
                    outgoing.tell(&ServerMessage::Applied { event_id, at_sample }).await?;
                }
                self.state(at_sample, &state, outgoing).await
            }
            News::Closed(reason) => Err(closed(&reason)),
        }
    }

    async fn sound(&mut self, frames: &[Frame], outgoing: &mut Outgoing) -> Result<(), Ending> {
        self.sent = self.sent.max(output::end(frames));
        outgoing.send_frames(frames).await
    }

    async fn state(&mut self, at_sample: u64, state: &RoomState, outgoing: &mut Outgoing) -> Result<(), Ending> {
        let message = RoomMessage {
            name: self.room.name.clone(),
            host: self.host,
            prompts: state.prompts.clone(),
            state: match state.transport {
                Transport::Play | Transport::ResetContext => Playback::Play,
                Transport::Pause => Playback::Pause,
                Transport::Stop => Playback::Stop,
            },
            members: self.room.members(),
            at_sample: self.rates.to_output(at_sample),
        };
        outgoing.tell(&ServerMessage::Room(Box::new(message))).await
    }

    /// Does what a message asks, or says why not.
    async fn read(&mut self, text: &str, outgoing: &mut Outgoing) -> Result<(), Ending> {
        let Received { event_id, message } = Received::parse(text);
        let refusal = match message {
            Ok(message) => self.obey(message, event_id.clone(), outgoing).await?,
            Err(refusal) => Some(refusal),
        };
        match refusal {
            None => Ok(()),
            Some(refusal) => {
                let error = refusal.into_body(event_id);
                self.app.count(&error);
                outgoing.tell(&ServerMessage::Error { error }).await
            }
        }
    }

    async fn obey(
        &mut self,
        message: ClientMessage,
        event_id: Option<String>,
        outgoing: &mut Outgoing,
    ) -> Result<Option<Refusal>, Ending> {
        match message {
            ClientMessage::Start(_) => return Ok(Some(started_already())),
            // The room goes on in its own time; this shows that somebody listens, and how it fares.
            ClientMessage::Played(played) => return Ok(self.app.played(played, self.sent).err()),
            _ if !self.host => {
                let message = "only a host of this room controls it";
                return Ok(Some(Refusal::of("type", ErrorCode::NotTheHost, message)));
            }
            _ => {}
        }
        let mut steering = self.room.steering.lock().await;
        let mut notices = Vec::new();
        let change = match message {
            ClientMessage::Prompts(prompts) => {
                let judged = steering.judge(prompts, "prompts");
                notices = judged.notices;
                steering.mix(judged.prompts, "prompts")
            }
            ClientMessage::Config(config) => steering.configure(config, ""),
            ClientMessage::Playback(transport) => Ok(Change { transport: Some(transport), ..Change::default() }),
            ClientMessage::Start(_) | ClientMessage::Played(_) => return Ok(None),
        };
        let refusal = match change {
            Ok(change) => {
                let prompts = steering.prompts().to_vec();
                let applied = self.room.apply(change, prompts, self.number, event_id).await;
                applied.map_err(|error| Ending::failure(error.to_string()))?;
                None
            }
            Err(refusal) => Some(refusal),
        };
        // Nobody waits for what this member does not read.
        drop(steering);
        for notice in notices {
            outgoing.tell(&notice).await?;
        }
        Ok(refusal)
    }
}

/// Whether this is a host, or why `session.start` does not fit a room.
fn check(app: &App, room: &Room, start: &SessionStart) -> Result<bool, (u16, Refusal)> {
    served(start.model.as_deref(), &app.info).map_err(|refusal| (close::POLICY, refusal))?;
    let fields = [
        ("prompts", start.prompts.is_none()),
        ("config", start.config == ConfigChange::default()),
        ("resume_token", start.resume_token.is_none()),
    ];
    if let Some((field, _)) = fields.into_iter().find(|(_, absent)| !absent) {
        let message = format!("{field} has no place in a room's session.start; its host sets what is played");
        return Err((close::INVALID, Refusal::of(field, ErrorCode::NotSupported, message)));
    }
    match &start.host_key {
        None => Ok(false),
        Some(key) if room.is_host(key) => Ok(true),
        Some(_) => {
            let message = "this is not the host key of this room";
            Err((close::POLICY, Refusal::of("host_key", ErrorCode::NotTheHost, message)))
        }
    }
}

/// The end of everybody's conversation in a room that is closed.
fn closed(reason: &str) -> Ending {
    let refusal = Refusal::whole(ErrorCode::RoomClosed, format!("the room is closed: {reason}"));
    Ending::refusal(close::GOING_AWAY, refusal, None)
}
