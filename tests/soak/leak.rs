//! Memory does not grow while everybody listens.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use twostep::load::{Crowd, http, run};

use crate::asked;
use crate::program::Program;

/// From one look at the memory to the next.
const LOOK: Duration = Duration::from_millis(250);
/// Until everything has found its place: what one thread has freed of another's takes minutes to be given back.
const SETTLED: Duration = Duration::from_secs(240);

/// Least squares: how much y grows with x, and the standard error of that.
fn slope(points: &[(f64, f64)]) -> (f64, f64) {
    let n = points.len() as f64;
    let mean = |value: fn(&(f64, f64)) -> f64| points.iter().map(value).sum::<f64>() / n;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let covariance: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let slope = covariance / spread;
    let rest: f64 = points.iter().map(|point| (point.1 - y - slope * (point.0 - x)).powi(2)).sum();
    (slope, (rest / (n - 2.0) / spread).sqrt())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes an hour"]
async fn an_hour_at_capacity_takes_no_more_memory_than_its_beginning() {
    let duration = Duration::from_secs(asked("TWOSTEP_SOAK_LEAK_SECONDS", 3600));
    assert!(duration > SETTLED + Duration::from_secs(60), "TWOSTEP_SOAK_LEAK_SECONDS: more than 300");
    let program = Program::serve(&[]);
    let listeners = program.max_listeners().await.max(1);
    let prompts = http::prompts(&program.url).await.unwrap();
    // Capacity is tracked: one who is refused at this moment is none of this test's business.
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
    let from = SETTLED.max(duration / 3).as_secs_f64() / 3600.0;
    let settled: Vec<(f64, f64)> = looks.into_iter().filter(|look| look.0 >= from).collect();
    let (growth, error) = slope(&settled);
    let mean = settled.iter().map(|look| look.1).sum::<f64>() / settled.len() as f64;
    println!("{report}\nmemory {mean:.1} MB in the mean, {growth:+.2} MB an hour, standard error {error:.2}");
    assert!(report.sessions > 0);
    // A short look cannot tell so little from chance.
    assert!(growth - 2.0 * error < 1.0);
}
