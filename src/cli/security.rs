//! Who may use a server, how much of it, and whether over TLS.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, ensure};
use clap::Args;
use ipnet::IpNet;
use twostep::server::auth::Keys;
use twostep::server::origin::Origins;
use twostep::server::tls::{Tls, local_names};
use twostep::server::{Limits, Security};

/// The options.
#[derive(Args, Clone, Debug)]
pub struct SecurityArgs {
    /// A key that clients must show, at least 16 characters; several may be given, in the variable with commas between.
    /// Without any, whoever reaches the server may use it
    #[arg(long = "api-key", env = "TWOSTEP_API_KEY", hide_env_values = true, value_delimiter = ',')]
    pub api_key: Vec<String>,
    /// File with more such keys, one a line; lines that begin with # are left out
    #[arg(long, env = "TWOSTEP_API_KEY_FILE")]
    pub api_key_file: Option<PathBuf>,
    /// Web pages of other servers that may use this one, such as https://example.org; * for all
    #[arg(long, env = "TWOSTEP_ALLOW_ORIGIN", value_delimiter = ',')]
    pub allow_origin: Vec<String>,
    /// Proxies, as networks such as 10.0.0.0/8, that are believed whom they speak for (X-Forwarded-For)
    #[arg(long, env = "TWOSTEP_TRUSTED_PROXY", value_delimiter = ',')]
    pub trusted_proxy: Vec<IpNet>,
    /// Streams and files of one address at once
    #[arg(long, env = "TWOSTEP_MAX_PER_ADDRESS", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    pub max_per_address: u16,
    /// Streams and files of one API key at once
    #[arg(long, env = "TWOSTEP_MAX_PER_KEY", default_value_t = 1024, value_parser = clap::value_parser!(u16).range(1..))]
    pub max_per_key: u16,
    /// Requests a second of one address in the long run; four times as many at once
    #[arg(long, env = "TWOSTEP_REQUESTS_PER_SECOND", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
    pub requests_per_second: u16,
    /// Connections at once
    #[arg(long, env = "TWOSTEP_MAX_CONNECTIONS", default_value_t = 4096, value_parser = clap::value_parser!(u16).range(16..))]
    pub max_connections: u16,
    /// Connections of one address at once
    #[arg(long, env = "TWOSTEP_MAX_CONNECTIONS_PER_ADDRESS", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    pub max_connections_per_address: u16,
    /// PEM file with the certificate chain for TLS; read again when it changes
    #[arg(long, env = "TWOSTEP_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with its private key
    #[arg(long, env = "TWOSTEP_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Use TLS with a certificate made at the start, for the local network: browsers ask once whether it is to be trusted
    #[arg(long, env = "TWOSTEP_TLS_SELF_SIGNED", conflicts_with = "tls_cert")]
    pub tls_self_signed: bool,
}

impl SecurityArgs {
    /// Reads keys and certificates for a server that listens on this address.
    pub fn security(&self, listen: SocketAddr) -> anyhow::Result<Security> {
        let mut keys = self.api_key.clone();
        if let Some(path) = &self.api_key_file {
            let text = std::fs::read_to_string(path);
            let text = text.with_context(|| format!("--api-key-file {}", path.display()))?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            let before = keys.len();
            keys.extend(lines.map(str::to_owned));
            ensure!(keys.len() > before, "--api-key-file {}: there is no key in it", path.display());
        }
        let keys = Keys::new(&keys).context("--api-key")?;
        if keys.open_to_all() && !listen.ip().is_loopback() {
            tracing::warn!(%listen, "whoever reaches this address may use the server: --api-key keeps others out");
        }
        // A file of settings may name what flags may not name together.
        ensure!(
            self.tls_cert.is_some() == self.tls_key.is_some() && !(self.tls_cert.is_some() && self.tls_self_signed),
            "tls-cert and tls-key go together, and not with tls-self-signed"
        );
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => Some(Tls::from_files(cert.clone(), key.clone()).context("--tls-cert")?),
            _ if self.tls_self_signed => Some(Tls::self_signed(local_names(listen.ip())).context("--tls-self-signed")?),
            _ => None,
        };
        Ok(Security {
            keys,
            origins: Origins::new(&self.allow_origin).map_err(|reason| anyhow::anyhow!("--allow-origin: {reason}"))?,
            trusted_proxies: self.trusted_proxy.clone(),
            tls: tls.map(Arc::new),
            ..Security::default()
        })
    }

    /// The same limits with what is asked for here.
    pub fn limit(&self, limits: Limits) -> Limits {
        let requests_per_second = f64::from(self.requests_per_second);
        Limits {
            connections: self.max_connections.into(),
            connections_per_address: self.max_connections_per_address.into(),
            streams_per_address: self.max_per_address.into(),
            streams_per_key: self.max_per_key.into(),
            requests_per_second,
            request_burst: 4.0 * requests_per_second,
            ..limits
        }
    }
}
