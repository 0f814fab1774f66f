//! Whom the server lets in, it serves without a gap; one more it refuses at once.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Error;
use twostep::load::report::Latency;
use twostep::load::{Crowd, http, run};

use crate::asked;
use crate::program::Program;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes ten minutes"]
async fn at_four_fifths_of_capacity_nobody_hears_a_gap() {
    let seconds = asked("TWOSTEP_SOAK_STEADY_SECONDS", 600);
    let program = Program::serve(&[]);
    let capacity = program.max_listeners().await;
    assert!(capacity >= 1, "this machine is too slow to serve anybody");
    let listeners = (capacity * 4 / 5).max(1);
    let prompts = http::prompts(&program.url).await.unwrap();
    let report = run(&Crowd::steady(&program.url, listeners, Duration::from_secs(seconds), prompts)).await;
    let counted =
        [program.counter("twostep_underruns_total").await, program.counter("twostep_degraded_chunks_total").await];
    println!("capacity {capacity}\n{report}\nunderruns and degraded chunks counted: {counted:?}");
    assert_eq!(counted[0], 0.0);
    assert_eq!((report.c50, report.gaps, report.failed), (Some(1.0), 0, 0));
    // What a server promises follows what its machine does, and this crowd is on the same machine.
    assert!(10 * report.sessions >= 8 * listeners, "{} of {listeners} were let in", report.sessions);
    let p95 = |latency: Option<Latency>| latency.map(|latency| latency.p95_ms);
    assert!(p95(report.first_sound).is_some_and(|ms| ms < 300.0), "first sound: {:?}", report.first_sound);
    assert!(p95(report.control).is_some_and(|ms| ms < 500.0), "changes: {:?}", report.control);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures time"]
async fn one_more_than_there_is_room_for_is_refused_within_50_ms_and_nobody_hears_of_it() {
    const ROOM: usize = 20;
    let program = Program::serve(&["--max-listeners", &ROOM.to_string()]);
    let url = format!("{}/v1/stream", program.url);
    let prompts = http::prompts(&program.url).await.unwrap();
    let crowd = Crowd::steady(&program.url, ROOM, Duration::from_secs(20), prompts);
    let refuse = async {
        while program.capacity().await["listeners"] != ROOM {
            sleep(Duration::from_millis(100)).await;
        }
        let mut took = Vec::new();
        for _ in 0..101 {
            let began = Instant::now();
            let Err(Error::Http(refused)) = connect_async(&url).await else { panic!("one more was let in") };
            took.push(began.elapsed());
            assert_eq!(refused.status(), 503);
            assert!(refused.headers().contains_key("retry-after"));
            sleep(Duration::from_millis(100)).await;
        }
        took.sort();
        took
    };
    let (report, took) = tokio::join!(run(&crowd), refuse);
    println!("refused after {:?} in the median, {:?} at most\n{report}", took[50], took[100]);
    assert!(took[100] < Duration::from_millis(50));
    assert_eq!((report.sessions, report.gaps, report.failed), (ROOM, 0, 0));
}
