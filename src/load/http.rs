//! One plain question to a server, and its answer.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::LoadError;

/// For an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// `HOST:PORT` of a `ws://` address without a path.
///
/// # Errors
/// When it is none.
pub fn authority(url: &str) -> Result<&str, LoadError> {
    let refused = || LoadError::Address(url.to_owned());
    let rest = url.strip_prefix("ws://").ok_or_else(refused)?.trim_end_matches('/');
    let plain = !rest.is_empty() && !rest.contains('/') && rest.contains(':');
    if plain { Ok(rest) } else { Err(refused()) }
}

/// The body of `GET path`, as text.
///
/// # Errors
/// When the server does not answer with 200.
pub async fn get(url: &str, path: &str) -> Result<String, LoadError> {
    let authority = authority(url)?;
    let failed = |reason: String| LoadError::NoAnswer { url: format!("http://{authority}{path}"), reason };
    let exchange = async {
        let mut socket = TcpStream::connect(authority).await?;
        let head = format!("GET {path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n");
        socket.write_all(head.as_bytes()).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(PATIENCE, exchange).await.map_err(|_| failed("no answer in time".into()))?;
    let answer = answer.map_err(|error| failed(error.to_string()))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| failed("not HTTP".into()))?;
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) == Some("200") { Ok(body.to_owned()) } else { Err(failed(status.to_owned())) }
}

/// The prompts that a server says its model knows.
///
/// # Errors
/// When it does not say.
pub async fn prompts(url: &str) -> Result<Vec<String>, LoadError> {
    let text = get(url, "/v1/models").await?;
    let failed = |reason: &str| LoadError::NoAnswer { url: format!("{url}/v1/models"), reason: reason.into() };
    let models: Value = serde_json::from_str(&text).map_err(|_| failed("not JSON"))?;
    let prompts = models["models"][0]["prompts"].as_array().cloned().unwrap_or_default();
    let prompts: Vec<String> = prompts.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect();
    if prompts.is_empty() { Err(failed("it knows no prompts")) } else { Ok(prompts) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_addresses_are_taken() {
        assert_eq!(authority("ws://localhost:3000/").unwrap(), "localhost:3000");
        for url in ["wss://a:1", "http://a:1", "ws://a", "ws://a:1/v1/stream", "ws://", "a:1"] {
            assert!(authority(url).is_err(), "{url}");
        }
    }
}
