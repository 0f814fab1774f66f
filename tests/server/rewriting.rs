//! What is heard is what was asked for at the moments told, whatever was taken back on the way.

use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::time::{Duration, Instant, sleep};
use twostep::audio::Stereo;
use twostep::condition::{Condition, Controls, Prompt};
use twostep::engine::offline::{Event, Performance, perform};
use twostep::engine::{Change, EngineConfig, RenderError, Transport};
use twostep::server::Limits;

use crate::standin::{CHUNK, DELAY, FRAME, Standin, model};
use crate::support::{Client, Server, fast};

const WORDS: [&str; 5] = ["rain", "thunder", "bells", "wind", "bass"];

/// What a listener does.
#[derive(Clone, Debug)]
pub enum Deed {
    /// Listens on and acknowledges; in samples.
    Listen(u64),
    Prompt(usize),
    Seed(u64),
    Guidance(u8),
    Reset,
    /// Stops, and plays again.
    Stop,
    /// Pauses, and plays again.
    Pause,
    /// Loses the connection without a word, and goes on at another server.
    Vanish,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => (1u64..80_000).prop_map(Deed::Listen),
        3 => (0usize..WORDS.len()).prop_map(Deed::Prompt),
        1 => (0u64..1000).prop_map(Deed::Seed),
        2 => (0u8..7).prop_map(Deed::Guidance),
        1 => Just(Deed::Reset),
        1 => Just(Deed::Stop),
        1 => Just(Deed::Pause),
        2 => Just(Deed::Vanish),
    ]
}

/// The conversation, and what an offline render needs to know of it.
pub struct Listener {
    pub client: Client,
    condition: Condition,
    seed: u64,
    performance: Performance,
}

impl Listener {
    pub async fn start(server: &Server, seed: u64) -> Self {
        let start = json!({ "format": "pcm_f32le", "prompts": [{ "text": "rain" }], "config": { "seed": seed } });
        let mut client = Client::start(server, start).await;
        client.playback("PLAY").await;
        let prompts = vec![Prompt { text: "rain".into(), weight: 1.0 }];
        let controls = Controls::default();
        let condition = Condition { prompts, controls, guidance: 1.5, steps: 2, temperature: 1.0 };
        let performance = Performance { seed, condition: condition.clone(), events: Vec::new(), degraded: Vec::new() };
        Self { client, condition, seed, performance }
    }

    /// Loses the connection, as soon as there is a token that knows of the last change, and goes on at this server.
    async fn vanish(&mut self, to: &Server) {
        let last = self.performance.events.last().map_or(0, |event| event.at_sample);
        let token = loop {
            let token = self.client.events.iter().rfind(|event| event["type"] == "session.token").cloned();
            match token.filter(|token| token["at_sample"].as_u64().unwrap() >= last) {
                Some(token) => break token,
                None => self.client.listen(self.client.samples + FRAME as u64).await,
            }
        };
        let again = json!({
            "format": "pcm_f32le", "resume_token": token["resume_token"], "played": self.client.samples,
            "prompts": [{ "text": self.condition.prompts[0].text }],
            "config": { "seed": self.seed, "guidance": self.condition.guidance },
        });
        let (pcm, samples) = (std::mem::take(&mut self.client.pcm), self.client.samples);
        self.client = Client::resume(to, again, pcm, samples).await;
        self.client.playback("PLAY").await;
    }

    async fn change(&mut self, message: Value, change: Change) {
        let at_sample = self.client.control(message).await;
        // Tokens from before lead into a past that nobody will have heard.
        self.client.events.retain(|event| event["type"] != "session.token");
        self.performance.events.push(Event { at_sample, change });
    }

    async fn ask(&mut self, message: Value) {
        let condition = Some(self.condition.clone());
        self.change(message, Change { condition, ..Change::default() }).await;
    }

    async fn transport(&mut self, state: &str, transport: Transport) {
        let message = json!({ "type": "playback.set", "state": state });
        self.change(message, Change { transport: Some(transport), ..Change::default() }).await;
    }

    pub async fn act(&mut self, deed: &Deed) {
        match *deed {
            Deed::Listen(samples) => self.client.listen(self.client.samples + samples).await,
            Deed::Prompt(word) => {
                self.condition.prompts[0].text = WORDS[word].into();
                self.ask(json!({ "type": "prompts.set", "prompts": [{ "text": WORDS[word] }] })).await;
            }
            Deed::Guidance(guidance) => {
                self.condition.guidance = guidance.into();
                self.ask(json!({ "type": "config.set", "guidance": guidance })).await;
            }
            Deed::Seed(seed) => {
                let change = Change { seed: Some(seed), ..Change::default() };
                self.seed = seed;
                self.change(json!({ "type": "config.set", "seed": seed }), change).await;
            }
            Deed::Reset => self.transport("RESET_CONTEXT", Transport::ResetContext).await,
            Deed::Stop => {
                self.transport("STOP", Transport::Stop).await;
                self.transport("PLAY", Transport::Play).await;
            }
            Deed::Vanish => panic!("that needs another server"),
            Deed::Pause => {
                self.transport("PAUSE", Transport::Pause).await;
                self.transport("PLAY", Transport::Play).await;
            }
        }
    }

    /// Checks everything heard against the offline render of what was asked.
    pub async fn check(mut self) {
        self.client.listen(self.client.samples + 2 * CHUNK as u64).await;
        self.performance.degraded = self.client.degraded.clone();
        let mut offline = Stereo::default();
        perform(&mut Standin::default(), &self.performance, self.client.samples, |pcm, _| -> Result<(), RenderError> {
            offline.extend(pcm);
            Ok(())
        })
        .unwrap();
        let bytes: Vec<u8> = offline.interleaved().flat_map(f32::to_le_bytes).collect();
        let differs = bytes.chunks(8).zip(self.client.pcm.chunks(8)).position(|(a, b)| a != b);
        assert_eq!(differs, None, "the first sample that differs; {:?}", self.performance.events);
        self.client.close().await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_heard_timeline_is_the_offline_render_of_the_same_events(
        deeds in prop::collection::vec(deed(), 1..10), seed in 0u64..1000,
        leads in prop::array::uniform2(0.3f32..3.0), batches in prop::array::uniform2(1usize..4),
    ) {
        Runtime::new().unwrap().block_on(async {
            let limits = Limits { token: Duration::ZERO, ..Limits::default() };
            let start = |i: usize| {
                let config = EngineConfig { lead_seconds: leads[i], max_batch: batches[i], ..fast() };
                Server::start(model(), config, limits)
            };
            let servers = [start(0).await, start(1).await];
            let mut listener = Listener::start(&servers[0], seed).await;
            let mut at = 0;
            for deed in &deeds {
                if let Deed::Vanish = deed {
                    at = 1 - at;
                    listener.vanish(&servers[at]).await;
                } else {
                    listener.act(deed).await;
                }
            }
            listener.check().await;
            for server in servers {
                server.stop().await;
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_in_force_within_the_guard_although_seconds_are_sent_ahead() {
    let config = EngineConfig { lead_seconds: 4.0, guard: Duration::from_millis(50), ..fast() };
    let server = Server::start(model(), config, Limits::default()).await;
    let mut listener = Listener::start(&server, 3).await;
    let played = 30_000;
    while listener.client.samples < 4 * 48_000 {
        listener.client.next().await;
    }
    listener.client.send(json!({ "type": "played", "sample": played })).await;
    let begin = Instant::now();
    listener.act(&Deed::Prompt(2)).await;
    let at = listener.performance.events[0].at_sample;
    // The listener goes on while the message is on its way.
    let latest = played + 2400 + (begin.elapsed().as_secs_f64() * 48_000.0) as u64 + 2 * FRAME as u64;
    assert!(at >= played + 2400 && at <= latest, "{at} of at most {latest}");
    listener.check().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_sound_is_short_and_comes_first() {
    let server = Server::start(model(), fast(), Limits::default()).await;
    let mut listener = Listener::start(&server, 3).await;
    while listener.client.samples < CHUNK as u64 {
        listener.client.next().await;
    }
    // Three frames, and one for the delay, are enough to begin with: FRAME * 3 samples are 0.13 s of the stand-in.
    let first = listener.client.first_frame.clone().unwrap();
    assert_eq!(first.header.samples as usize, 4 * FRAME - DELAY);
    listener.check().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_changes_is_answered_and_makes_few_replacements() {
    let server = Server::start(model(), EngineConfig { lead_seconds: 4.0, ..fast() }, Limits::default()).await;
    let mut listener = Listener::start(&server, 3).await;
    listener.client.listen(96_000).await;
    for i in 0..200 {
        let guidance = f64::from(i % 60) / 10.0;
        listener.client.send(json!({ "type": "config.set", "event_id": format!("{i}"), "guidance": guidance })).await;
    }
    for i in 0..200 {
        let applied = listener.client.event("applied").await;
        assert_eq!(applied["event_id"], format!("{i}"));
        listener.condition.guidance = (f64::from(i % 60) / 10.0) as f32;
        let change = Change { condition: Some(listener.condition.clone()), ..Change::default() };
        listener.performance.events.push(Event { at_sample: applied["at_sample"].as_u64().unwrap(), change });
    }
    let metrics = server.get("/metrics").await;
    let line = metrics.text().lines().find(|line| line.starts_with("twostep_replacements_total ")).unwrap();
    let replacements: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
    assert!((1..=20).contains(&replacements), "{replacements} replacements for 200 changes");
    listener.check().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_acknowledges_faster_than_time_is_served_in_time() {
    let config = EngineConfig { speed: 1.1, ..fast() };
    let server = Server::start(model(), config, Limits::default()).await;
    let mut listener = Listener::start(&server, 3).await;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(1) {
        tokio::select! {
            _ = listener.client.next() => {
                let samples = listener.client.samples;
                listener.client.send(json!({ "type": "played", "sample": samples })).await;
            }
            () = sleep(Duration::from_millis(50)) => {}
        }
    }
    // The lead twice, once to hold and once as an allowance, a chunk, and what could be heard in the meantime.
    let most = 2 * 96_000 + CHUNK as u64 + (1.1 * begin.elapsed().as_secs_f64() * 48_000.0) as u64;
    let least = 2 * 96_000;
    assert!((least..=most).contains(&listener.client.samples), "{} of {most}", listener.client.samples);
    listener.client.close().await;
    server.stop().await;
}
