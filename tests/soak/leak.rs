//! Memory does not grow while everybody listens.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use twostep::load::{Crowd, http, run};

use crate::asked;
use crate::program::Program;

/// From one look at the memory to the next.
const LOOK: Duration = Duration::from_secs(5);

/// Least squares: how much y grows with x.
fn slope(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let mean = |value: fn(&(f64, f64)) -> f64| points.iter().map(value).sum::<f64>() / n;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let covariance: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    covariance / points.iter().map(|point| (point.0 - x).powi(2)).sum::<f64>()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes an hour"]
async fn an_hour_at_capacity_takes_no_more_memory_than_its_beginning() {
    let duration = Duration::from_secs(asked("TWOSTEP_SOAK_LEAK_SECONDS", 3600));
    let program = Program::serve(&[]);
    let listeners = program.max_listeners().await.max(1);
    let prompts = http::prompts(&program.url).await.unwrap();
    // Capacity is tracked: one who would be refused at this moment is none of this test's.
    let crowd = Crowd::steady(&program.url, listeners, duration, prompts);
    let began = Instant::now();
    let watch = async {
        let mut looks = Vec::new();
        while began.elapsed() < duration {
            sleep(LOOK).await;
            looks.push((began.elapsed().as_secs_f64() / 3600.0, program.memory() as f64 / 1e6));
        }
        looks
    };
    let (report, looks) = tokio::join!(run(&crowd), watch);
    // At first everything finds its place.
    let settled = &looks[looks.len() / 3..];
    let growth = slope(settled);
    println!(
        "{report}\nmemory {:.1} MB, then {:.1} MB: {growth:+.2} MB an hour",
        settled[0].1,
        looks[looks.len() - 1].1
    );
    assert!(report.sessions > 0);
    assert!(growth < 1.0);
}
