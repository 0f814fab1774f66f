//! Whom the server lets in, it serves without a gap; one more it refuses at once.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Error;
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
    assert_eq!((report.c50, report.gaps, report.refused, report.failed), (Some(1.0), 0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures time"]
async fn one_more_than_there_is_room_for_is_refused_within_50_ms() {
    let program = Program::serve(&["--max-listeners", "20"]);
    let url = format!("{}/v1/stream", program.url);
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(connect_async(&url).await.unwrap().0);
    }
    let mut took = Vec::new();
    for _ in 0..21 {
        let began = Instant::now();
        let Err(Error::Http(refused)) = connect_async(&url).await else { panic!("one more was let in") };
        took.push(began.elapsed());
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().contains_key("retry-after"));
        sleep(Duration::from_millis(20)).await;
    }
    took.sort();
    println!("refused after {:?} in the median, {:?} at most", took[10], took[20]);
    assert!(took[20] < Duration::from_millis(50));
}
