//! Encryption: certificates from files, read again when they change, or one made at the start for the local network.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rcgen::{CertificateParams, CertifiedKey, DnType, KeyPair};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// From one look at the files to the next.
const LOOK: Duration = Duration::from_secs(2);

/// The certificate in force.
pub struct Tls {
    config: RwLock<Arc<ServerConfig>>,
    files: Option<Files>,
    fingerprint: String,
}

/// Where a certificate comes from.
#[derive(Clone, Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// Why there is no encryption.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{file}: {source}")]
    File {
        /// Which.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not PEM, or has none of what is looked for.
    #[error("{file}: {source}")]
    Pem {
        /// Which.
        file: String,
        /// Why.
        source: pem::Error,
    },
    /// The file has no certificate.
    #[error("{0}: there is no certificate in it")]
    Empty(String),
    /// Certificate and key are not usable, or do not belong together.
    #[error("the certificate and the key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
    /// A certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Making(#[from] rcgen::Error),
}

impl Tls {
    /// The certificate chain and key in these PEM files.
    pub fn from_files(certificate: PathBuf, key: PathBuf) -> Result<Self, TlsError> {
        let files = Files { certificate, key };
        let (config, fingerprint) = files.load()?;
        Ok(Self { config: RwLock::new(config), files: Some(files), fingerprint })
    }

    /// A new self-signed certificate for these host names and addresses, good for this process.
    pub fn self_signed(names: Vec<String>) -> Result<Self, TlsError> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "Twostep");
        let signing_key = KeyPair::generate()?;
        let cert = params.self_signed(&signing_key)?;
        let CertifiedKey { cert, signing_key } = CertifiedKey { cert, signing_key };
        let key = PrivateKeyDer::try_from(signing_key.serialize_der())
            .map_err(|reason| rustls::Error::General(reason.to_owned()))?;
        let chain = vec![cert.der().clone()];
        let fingerprint = fingerprint(&chain[0]);
        Ok(Self { config: RwLock::new(config(chain, key)?), files: None, fingerprint })
    }

    /// SHA-256 of the certificate at the start, in hexadecimal, as browsers show it.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// For the next connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Reads the files again whenever they change. A pair that cannot be used is told in the log, and the old one stays.
    pub(super) async fn follow(&self) {
        let Some(files) = &self.files else { return std::future::pending().await };
        let mut seen = files.digest();
        loop {
            tokio::time::sleep(LOOK).await;
            let now = files.digest();
            if now.is_none() || now == seen {
                continue;
            }
            match files.load() {
                Ok((config, fingerprint)) => {
                    *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
                    tracing::info!(fingerprint, "the certificate was read again");
                }
                Err(error) => tracing::error!(%error, "the new certificate is not used"),
            }
            seen = now;
        }
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tls({})", self.fingerprint)
    }
}

impl Files {
    /// What both files hold; `None` while one cannot be read.
    fn digest(&self) -> Option<[u8; 32]> {
        let (certificate, key) = (std::fs::read(&self.certificate).ok()?, std::fs::read(&self.key).ok()?);
        Some(Sha256::new().chain_update(certificate).chain_update(key).finalize().into())
    }

    fn load(&self) -> Result<(Arc<ServerConfig>, String), TlsError> {
        let name = |path: &Path| path.display().to_string();
        let read = |path: &Path| std::fs::read(path).map_err(|source| TlsError::File { file: name(path), source });
        let pem = |path: &Path| {
            let file = name(path);
            move |source| TlsError::Pem { file, source }
        };
        let chain = CertificateDer::pem_slice_iter(&read(&self.certificate)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(pem(&self.certificate))?;
        let first = chain.first().ok_or_else(|| TlsError::Empty(name(&self.certificate)))?;
        let fingerprint = fingerprint(first);
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?).map_err(pem(&self.key))?;
        Ok((config(chain, key)?, fingerprint))
    }
}

fn config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = Sha256::digest(certificate.as_ref());
    digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

/// Names under which a server that listens on this address is reached in its local network.
pub fn local_names(address: IpAddr) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if address.is_unspecified() {
        // A machine that does not tell its addresses is reached by name.
        let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
        names.extend(interfaces.iter().map(|interface| interface.ip().to_string()));
    } else {
        names.push(address.to_string());
    }
    if let Some(host) = std::env::var_os("HOSTNAME").and_then(|host| host.into_string().ok()).filter(|h| !h.is_empty())
    {
        names.push(format!("{host}.local"));
        names.push(host);
    }
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let load = || Tls::from_files(cert.clone(), key.clone()).err().unwrap().to_string();
        assert!(load().contains("cert.pem"), "{}", load());
        std::fs::write(&cert, "").unwrap();
        assert!(load().contains("cert.pem: there is no certificate"), "{}", load());
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&cert, made.cert.pem()).unwrap();
        assert!(load().contains("key.pem"), "{}", load());
        std::fs::write(&key, "").unwrap();
        assert!(load().contains("key.pem"), "{}", load());
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&key, other.signing_key.serialize_pem()).unwrap();
        assert!(load().contains("cannot be used"), "{}", load());
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        assert_eq!(Tls::from_files(cert.clone(), key.clone()).unwrap().fingerprint().len(), 95);
    }

    #[test]
    fn names_of_this_machine() {
        let names = local_names("0.0.0.0".parse().unwrap());
        assert!(names.iter().any(|name| name == "localhost"));
        assert!(local_names("192.0.2.7".parse().unwrap()).contains(&"192.0.2.7".to_owned()));
        assert!(Tls::self_signed(names).is_ok());
    }
}
