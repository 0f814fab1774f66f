//! Listeners who come and vanish in every way leave nothing behind.

use std::sync::Arc;
use std::time::Duration;

use futures::SinkExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use crate::asked;
use crate::program::Program;

/// Listeners at once.
const AT_ONCE: usize = 300;
/// Longer than the server holds on to those who show no sign of life.
const SILENT: Duration = Duration::from_secs(35);
/// Before memory is looked at for the first time.
const WARM_UP: usize = 600;

const START: &str = r#"{"type":"session.start","prompts":[{"text":"gentle rain"}]}"#;
const PLAY: &str = r#"{"type":"playback.set","state":"PLAY"}"#;

/// Comes, and vanishes in one of four ways.
async fn cycle(address: &str, way: usize) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    // So that it ends with a reset, as that of a process that was killed with unread input.
    socket.set_zero_linger().unwrap();
    if way == 1 {
        // The upgrade is never finished.
        socket.write_all(b"GET /v1/stream HTTP/1.1\r\nhost: x\r\nconnection: upg").await.unwrap();
        sleep(Duration::from_millis(50)).await;
        return;
    }
    let Ok((mut websocket, _)) = client_async(format!("ws://{address}/v1/stream"), socket).await else {
        panic!("a listener was not let in")
    };
    match way {
        // Killed in the middle of the sound.
        0 => {
            websocket.send(Message::text(START)).await.unwrap();
            websocket.send(Message::text(PLAY)).await.unwrap();
            sleep(Duration::from_millis(100)).await;
        }
        // Never reads, and answers no ping.
        2 => {
            websocket.send(Message::text(START)).await.unwrap();
            websocket.send(Message::text(PLAY)).await.unwrap();
            sleep(SILENT).await;
        }
        // Says nothing at all.
        _ => sleep(SILENT).await,
    }
}

async fn cycles(address: &str, range: std::ops::Range<usize>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut all = JoinSet::new();
    for i in range {
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        let address = address.to_owned();
        all.spawn(async move {
            // Most are killed; the others take half a minute each.
            let way = match i % 20 {
                0 => 2,
                1 => 3,
                n if n % 3 == 0 => 1,
                _ => 0,
            };
            cycle(&address, way).await;
            drop(place);
        });
    }
    while let Some(ended) = all.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes some minutes"]
async fn ten_thousand_who_vanish_leave_nothing_behind() {
    let count = asked("TWOSTEP_SOAK_CYCLES", 10_000) as usize;
    // More than ever come at once, for this is not about capacity.
    let program = Program::serve(&["--max-listeners", "1000"]);
    let address = program.address().to_owned();
    cycles(&address, 0..WARM_UP).await;
    program.empty(Duration::from_secs(60)).await;
    let before = program.memory();
    let began = Instant::now();
    cycles(&address, 0..count).await;
    let took = began.elapsed();
    let emptied = program.empty(Duration::from_secs(30)).await;
    // Memory is given back some moments later.
    sleep(Duration::from_secs(5)).await;
    let after = program.memory();
    let growth = after as f64 / before as f64 - 1.0;
    println!(
        "{count} cycles in {took:.0?}; all places free after {emptied:.1?}; memory {:.1} MB, then {:.1} MB ({:+.1} %)",
        before as f64 / 1e6,
        after as f64 / 1e6,
        100.0 * growth
    );
    assert!(growth < 0.05);
    assert_eq!(program.capacity().await["listeners"], 0);
}
