//! The program as a process of its own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};
use twostep::load::http;

/// A running `twostep serve`; killed when dropped.
pub struct Program {
    process: Child,
    /// `ws://HOST:PORT`
    pub url: String,
}

impl Program {
    /// Starts it with the shipped model and these flags, and waits until it serves.
    pub fn serve(flags: &[&str]) -> Self {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default");
        let mut process = Command::new(env!("CARGO_BIN_EXE_twostep"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--device", "cpu", "--model"])
            .arg(model)
            // All listeners are on this machine.
            .args(["--max-per-address", "65535", "--max-connections-per-address", "65535"])
            .args(["--max-connections", "65535", "--requests-per-second", "65535"])
            .args(flags)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let address = line.strip_prefix("Listen at http://").map(|rest| rest.trim_end_matches('/').to_owned());
            if address.is_none() {
                eprintln!("serve: {line}");
            }
            address
        });
        let address = address.expect("the program serves");
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("serve: {line}")));
        Self { process, url: format!("ws://{address}") }
    }

    /// `HOST:PORT`
    pub fn address(&self) -> &str {
        http::authority(&self.url).unwrap()
    }

    pub async fn capacity(&self) -> Value {
        serde_json::from_str(&http::get(&self.url, "/v1/capacity").await.unwrap()).unwrap()
    }

    /// Listeners that it was measured to serve.
    pub async fn max_listeners(&self) -> usize {
        self.capacity().await["max_listeners"].as_u64().unwrap() as usize
    }

    /// The value of a counter at /metrics; 0 if it is not there.
    pub async fn counter(&self, name: &str) -> f64 {
        let page = http::get(&self.url, "/metrics").await.unwrap();
        let line = page.lines().find(|line| line.starts_with(name)).map(str::to_owned);
        line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    /// Waits until nobody listens; how long that took.
    pub async fn empty(&self, patience: Duration) -> Duration {
        let began = Instant::now();
        while self.capacity().await["listeners"] != 0 {
            assert!(began.elapsed() < patience, "places are not freed: {}", self.capacity().await);
            sleep(Duration::from_millis(50)).await;
        }
        began.elapsed()
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Ends it without a word, as `kill -9` does.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
