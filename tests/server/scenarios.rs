//! Scenarios for a server with any renderer: they compare streams with each other, not with known samples.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{Client, Server};

/// What the scenarios need to know of the model.
pub struct Cast {
    /// Eight prompts that it knows.
    pub prompts: [&'static str; 8],
    /// Samples of a whole chunk.
    pub chunk_samples: u64,
    /// Samples per second.
    pub sample_rate: u64,
}

fn start(prompt: &str, seed: u64) -> Value {
    json!({ "prompts": [{ "text": prompt, "weight": 1 }], "config": { "seed": seed } })
}

/// One session from its start to its close: ten seconds, another prompt, a pause.
pub async fn whole_session(server: &Server, cast: &Cast) {
    let mut client = Client::start(server, start(cast.prompts[0], 7)).await;
    assert_eq!(client.created["sample_rate"], cast.sample_rate);
    assert_eq!(client.created["channels"], 2);
    assert_eq!(client.created["format"], "pcm_s16le");
    assert_eq!(client.created["chunk_samples"], cast.chunk_samples);
    assert_eq!(client.created["seed"], 7);
    assert!(client.hears_nothing().await, "nothing plays before PLAY");
    assert_eq!(client.playback("PLAY").await, 0);
    client.listen(10 * cast.sample_rate).await;

    let at =
        client.control(json!({ "type": "prompts.set", "prompts": [{ "text": cast.prompts[1], "weight": 2.5 }] })).await;
    assert!(at >= 10 * cast.sample_rate);
    client.listen(at + 2 * cast.chunk_samples).await;

    let paused = client.playback("PAUSE").await;
    client.listen(paused).await;
    assert_eq!(client.samples, paused, "nothing is made after a pause");
    assert!(client.hears_nothing().await);
    assert_eq!(client.playback("PLAY").await, paused);
    client.listen(paused + cast.sample_rate).await;

    // The same seed and prompt with no change: equal up to the very sample that was told, different from there on.
    let mut other = Client::start(server, start(cast.prompts[0], 7)).await;
    other.playback("PLAY").await;
    other.listen(at + 2 * cast.chunk_samples).await;
    let (split, end) = (4 * at as usize, 4 * (at + cast.chunk_samples) as usize);
    assert!(client.pcm[..split] == other.pcm[..split]);
    assert!(client.pcm[split..end] != other.pcm[split..end]);
    assert!(client.pcm.chunks(2).any(|b| i16::from_le_bytes([b[0], b[1]]).abs() > 100), "it is not silence");
    other.close().await;
    client.close().await;
}

/// Eight listeners at once, each of whom must hear what it hears alone.
pub async fn eight_listeners(server: &Server, cast: &Cast, seconds: u64) {
    let hear = |i: usize| async move {
        let mut client = Client::start(server, start(cast.prompts[i], 100 + i as u64)).await;
        client.playback("PLAY").await;
        client.listen(seconds * cast.sample_rate).await;
        client.pcm.truncate((4 * seconds * cast.sample_rate) as usize);
        let pcm = std::mem::take(&mut client.pcm);
        client.close().await;
        pcm
    };
    let mut alone = Vec::new();
    for i in 0..8 {
        alone.push(hear(i).await);
    }
    let together = join_all((0..8).map(hear)).await;
    for i in 0..8 {
        assert!(alone[i] == together[i], "listener {i} hears something else in company");
        assert!(i == 0 || alone[i] != alone[0], "listener {i} has no sound of its own");
    }
}
