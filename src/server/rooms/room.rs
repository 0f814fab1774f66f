//! One room: a stream that goes on in real time, whoever listens, and what it tells all who are there.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use subtle::ConstantTimeEq;
use tokio::sync::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::track::{Track, TrackFormat, Tuned};
use crate::condition::Prompt;
use crate::engine::{Change, EngineError, Rendered, StreamControl, StreamEvent, StreamOutput, Transport};
use crate::server::App;
use crate::server::asked::Asked;
use crate::server::guard::Place;
use crate::server::output::{EncodeError, Frame};
use crate::server::steering::Steering;

/// From one look at the clock to the next.
const TICK: Duration = Duration::from_millis(50);
/// How far members are believed to be away: a change reaches them all before they hear what it replaces.
const ROUND_TRIP: Duration = Duration::from_millis(150);

/// What members are told.
#[derive(Clone, Debug)]
pub(super) enum News {
    /// More sound.
    Sound(Arc<[Frame]>),
    /// A change of this member is in force from this sample of the model on.
    Applied {
        /// Who asked.
        member: u64,
        /// The name that it gave.
        event_id: Option<String>,
        /// From where on.
        at_sample: u64,
        /// What is in force now.
        state: Arc<RoomState>,
    },
    /// The room is closed, and why.
    Closed(Arc<str>),
}

/// What is in force.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RoomState {
    pub(super) prompts: Vec<Prompt>,
    pub(super) transport: Transport,
}

/// A change on its way to the engine.
struct Pending {
    member: u64,
    event_id: Option<String>,
    transport: Option<Transport>,
    prompts: Vec<Prompt>,
}

/// What a newcomer needs to hear what the others hear.
struct Air {
    /// Sound that is not heard yet, in the order it was told.
    recent: VecDeque<Rendered>,
    /// Where the sound ends.
    end: u64,
    state: Arc<RoomState>,
    /// The same, in each format that is listened to.
    tracks: Vec<Track>,
    /// Why the room is closed, once it is.
    closed: Option<Arc<str>>,
}

/// One room.
pub(super) struct Room {
    pub(super) name: String,
    host_key: String,
    /// What is asked for, and the order in which it is.
    pub(super) steering: Mutex<Steering>,
    pub(super) control: StreamControl,
    pending: std::sync::Mutex<VecDeque<Pending>>,
    air: std::sync::Mutex<Air>,
    members: AtomicUsize,
    most: usize,
    ended: CancellationToken,
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Room({:?}, {} members)", self.name, self.members())
    }
}

/// Why a newcomer hears nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArrivalError {
    #[error("the room is closed: {0}")]
    Closed(Arc<str>),
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// What a newcomer gets.
pub(super) struct Arrival {
    pub(super) track: Tuned,
    /// The first sample of the model that is not heard yet.
    pub(super) first_sample: u64,
    pub(super) state: Arc<RoomState>,
}

impl Room {
    /// Opens the stream, and lets it go on until nobody has been here for a while.
    pub(super) async fn open(
        app: &Arc<App>,
        name: String,
        place: Place,
        asked: &Asked,
        play: bool,
    ) -> Result<Arc<Self>, String> {
        let Place { admission, seat } = place;
        let told = |error: EngineError| error.to_string();
        let condition = Some(asked.condition.clone());
        let (control, output) = admission.open(asked.seed, condition.clone()).await.map_err(told)?;
        control.set_round_trip(ROUND_TRIP);
        let mut steering = Steering::new(&app.info, &app.vocabulary, asked.seed);
        steering.resume(condition, asked.seed);
        let prompts = asked.condition.prompts.clone();
        let state = Arc::new(RoomState { prompts: prompts.clone(), transport: Transport::Pause });
        let room = Arc::new(Self {
            host_key: format!("{:032x}", rand::random::<u128>()),
            steering: Mutex::new(steering),
            control,
            pending: std::sync::Mutex::default(),
            air: std::sync::Mutex::new(Air {
                recent: VecDeque::new(),
                end: 0,
                state,
                tracks: Vec::new(),
                closed: None,
            }),
            members: AtomicUsize::new(0),
            most: app.limits.room_members,
            ended: CancellationToken::new(),
            name,
        });
        if play {
            let change = Change { transport: Some(Transport::Play), ..Change::default() };
            room.apply(change, prompts, 0, None).await.map_err(told)?;
        }
        let (running, app) = (Arc::clone(&room), Arc::clone(app));
        let stream = Stream { output, rate: f64::from(app.info.sample_rate), clock: None, at: 0 };
        app.sessions.clone().spawn(async move {
            let reason = running.run(stream, &app).await;
            tracing::info!(room = %running.name, reason, "a room is closed");
            running.close(reason);
            app.rooms.close(&running);
            drop(seat);
        });
        Ok(room)
    }

    /// The secret of the host.
    pub(super) fn host_key(&self) -> &str {
        &self.host_key
    }

    /// Whether this is the secret of the host.
    pub(super) fn is_host(&self, key: &str) -> bool {
        bool::from(self.host_key.as_bytes().ct_eq(key.as_bytes()))
    }

    /// Closes the room.
    pub(super) fn end(&self) {
        self.ended.cancel();
    }

    /// Whether it is closed already.
    pub(super) fn is_closed(&self) -> bool {
        self.air().closed.is_some()
    }

    /// Whoever is here, or comes still, is told that the room is closed.
    fn close(&self, reason: &'static str) {
        let (mut air, reason) = (self.air(), Arc::<str>::from(reason));
        air.closed = Some(Arc::clone(&reason));
        air.tell(&News::Closed(reason));
    }

    /// How many are here.
    pub(super) fn members(&self) -> usize {
        self.members.load(Ordering::Relaxed)
    }

    /// One more is here, if there is room.
    pub(super) fn enter(&self) -> bool {
        let enter = |members| (members < self.most).then_some(members + 1);
        self.members.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter).is_ok()
    }

    /// One is gone.
    pub(super) fn leave(&self) {
        self.members.fetch_sub(1, Ordering::Relaxed);
    }

    /// From now on the newcomer is told what the others are, and has what they may not have heard yet.
    ///
    /// # Errors
    /// When the room is closed, or sound cannot be encoded in this format.
    pub(super) fn arrive(&self, format: TrackFormat, revocable: u64) -> Result<Arrival, ArrivalError> {
        let mut air = self.air();
        if let Some(reason) = &air.closed {
            return Err(ArrivalError::Closed(Arc::clone(reason)));
        }
        // Silence is no reason to keep a track for everybody who ever came.
        air.tracks.retain(Track::is_heard);
        let first_sample = air.recent.front().map_or(air.end, |rendered| rendered.span.first_sample);
        let track = match air.tracks.iter().find(|track| track.format == format) {
            Some(track) => track.tune_in(),
            None => {
                let track = Track::new(format, first_sample, revocable, &air.recent)?;
                let tuned = track.tune_in();
                air.tracks.push(track);
                tuned
            }
        };
        Ok(Arrival { track, first_sample, state: Arc::clone(&air.state) })
    }

    /// Asks for a change; all members are told when it takes effect. Call it with [`Room::steering`] locked, so that changes
    /// are answered in their order.
    pub(super) async fn apply(
        &self,
        change: Change,
        prompts: Vec<Prompt>,
        member: u64,
        event_id: Option<String>,
    ) -> Result<(), EngineError> {
        let pending = Pending { member, event_id, transport: change.transport, prompts };
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).push_back(pending);
        self.control.apply(change, None).await
    }

    fn air(&self) -> MutexGuard<'_, Air> {
        self.air.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on until the room is closed; why it is.
    async fn run(&self, mut stream: Stream, app: &App) -> &'static str {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut empty = Instant::now();
        loop {
            tokio::select! {
                event = stream.output.next() => match event {
                    Some(StreamEvent::Sound(rendered)) => self.sound(*rendered),
                    Some(StreamEvent::Applied { at_sample, .. }) => self.applied(at_sample, &mut stream),
                    Some(StreamEvent::Failed(error)) => {
                        app.metrics.server_error();
                        tracing::error!(room = %self.name, %error, "a room's stream failed");
                        return "the stream failed";
                    }
                    None => return "the engine has stopped",
                },
                _ = tick.tick() => {
                    self.listen(&mut stream);
                    if self.members() > 0 {
                        empty = Instant::now();
                    } else if empty.elapsed() >= app.limits.room_empty {
                        return "nobody was here";
                    }
                }
                () = self.ended.cancelled() => return "it is not needed",
                () = app.stopping.cancelled() => return "the server is shutting down",
            }
        }
    }

    /// Everybody is told of new sound.
    fn sound(&self, mut rendered: Rendered) {
        rendered.checkpoint = None;
        // Under the lock, so that a newcomer is told of each sound once.
        let mut air = self.air();
        air.end = end(&rendered);
        air.tracks.retain_mut(|track| track.sound(&rendered));
        air.recent.push_back(rendered);
    }

    /// Everybody is told that the oldest change that waits is in force.
    fn applied(&self, at_sample: u64, stream: &mut Stream) {
        let Some(pending) = self.pending.lock().unwrap_or_else(PoisonError::into_inner).pop_front() else { return };
        let Pending { member, event_id, transport, prompts } = pending;
        let mut air = self.air();
        match transport {
            Some(Transport::Play) => stream.play(),
            Some(Transport::Pause) => stream.pause(air.end),
            Some(Transport::Stop) => {
                stream.pause(air.end);
                air.forget(u64::MAX);
                stream.at = at_sample.max(stream.at);
            }
            Some(Transport::ResetContext) | None => {}
        }
        let transport = transport.filter(|&t| t != Transport::ResetContext).unwrap_or(air.state.transport);
        air.state = Arc::new(RoomState { prompts, transport });
        let state = Arc::clone(&air.state);
        air.tell(&News::Applied { member, event_id, at_sample, state });
    }

    /// All have heard what their time has come for.
    fn listen(&self, stream: &mut Stream) {
        let mut air = self.air();
        let heard = stream.position(air.end);
        self.control.hear(heard);
        air.forget(heard);
    }
}

/// Where sound ends.
pub(super) fn end(rendered: &Rendered) -> u64 {
    rendered.span.first_sample + rendered.chunk.pcm.len() as u64
}

impl Air {
    /// Everybody is told.
    fn tell(&self, news: &News) {
        self.tracks.iter().for_each(|track| track.tell(news.clone()));
    }

    /// No newcomer needs what ends here or before.
    fn forget(&mut self, heard: u64) {
        while self.recent.front().is_some_and(|rendered| end(rendered) <= heard) {
            self.recent.pop_front();
        }
        self.tracks.iter_mut().for_each(|track| track.forget(heard));
    }
}

/// A stream and its clock; samples are at the model's rate.
struct Stream {
    output: StreamOutput,
    rate: f64,
    /// Since when it plays, from sample `at` on.
    clock: Option<Instant>,
    at: u64,
}

impl Stream {
    fn play(&mut self) {
        self.clock.get_or_insert_with(Instant::now);
    }

    fn pause(&mut self, end: u64) {
        self.at = self.position(end);
        self.clock = None;
    }

    /// Where all are, of what is made up to `end`. Time in which nothing could be heard does not count.
    fn position(&mut self, end: u64) -> u64 {
        let Some(since) = self.clock else { return self.at };
        let position = self.at + (since.elapsed().as_secs_f64() * self.rate) as u64;
        if position > end {
            (self.clock, self.at) = (Some(Instant::now()), end.max(self.at));
            return self.at;
        }
        position
    }
}
