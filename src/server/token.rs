//! Resume tokens: where a stream stands, signed, so that any server with the same model and key goes on from there.
//!
//! A token is base64url of HMAC-SHA256 followed by what it signs. It is not encrypted: whoever holds it can read the prompts
//! in it, but cannot change a bit of it.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::digest::Key;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::engine::Checkpoint;

/// Layout of what is signed, and what a checkpoint in it means.
const VERSION: u8 = 3;
/// Bytes of the signature.
const SIGNATURE: usize = 32;

/// Signs and reads tokens.
#[derive(Clone)]
pub struct TokenKey(Hmac<Sha256>);

/// What a token says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Signed {
    version: u8,
    /// Fingerprint of the model.
    model: String,
    /// Seconds since 1970.
    issued: u64,
    checkpoint: Checkpoint,
}

/// Why a token is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not the text of a token, or signed with another key.
    #[error("the token was not made by this server or one with the same key")]
    Signature,
    /// Made by another version of the program.
    #[error("the token was made by another version of this server")]
    Version,
    /// Made long ago.
    #[error("the token is {0} s old, which is too old")]
    Expired(u64),
    /// Of another model.
    #[error("the token is one of another model")]
    Model,
}

impl TokenKey {
    /// A key; servers that are to take each other's tokens have the same secret.
    pub fn new(secret: &[u8]) -> Self {
        let mut key = Key::<Hmac<Sha256>>::default();
        key[..32].copy_from_slice(&Sha256::digest(secret));
        Self(Hmac::new(&key))
    }

    /// A key that nobody else has.
    pub fn random() -> Self {
        Self::new(&rand::random::<[u8; 32]>())
    }

    /// The token for a stream of the model with this fingerprint.
    pub fn seal(&self, model: &str, checkpoint: Checkpoint) -> String {
        let signed = Signed { version: VERSION, model: model.to_owned(), issued: now(), checkpoint };
        // Numbers and texts cannot fail to be written to memory.
        self.sign(&postcard::to_stdvec(&signed).unwrap_or_default())
    }

    /// Base64url of a signature and what it signs. What is signed begins with a byte that says of which kind it is.
    pub(super) fn sign(&self, signed: &[u8]) -> String {
        let mut bytes = self.0.clone().chain_update(signed).finalize().into_bytes().to_vec();
        bytes.extend(signed);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What was signed.
    pub(super) fn verify(&self, token: &str) -> Result<Vec<u8>, TokenError> {
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| TokenError::Signature)?;
        let (signature, signed) = bytes.split_at_checked(SIGNATURE).ok_or(TokenError::Signature)?;
        self.0.clone().chain_update(signed).verify_slice(signature).map_err(|_| TokenError::Signature)?;
        Ok(signed.to_vec())
    }

    /// Reads a token of a stream of the model with this fingerprint, issued no longer ago than `life`.
    pub fn open(&self, token: &str, model: &str, life: Duration) -> Result<Checkpoint, TokenError> {
        let signed = self.verify(token)?;
        // The version comes first, whatever follows it.
        if signed.first() != Some(&VERSION) {
            return Err(TokenError::Version);
        }
        let signed: Signed = postcard::from_bytes(&signed).map_err(|_| TokenError::Version)?;
        let age = now().saturating_sub(signed.issued);
        if age > life.as_secs() {
            return Err(TokenError::Expired(age));
        }
        if signed.model != model {
            return Err(TokenError::Model);
        }
        Ok(signed.checkpoint)
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey")
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIFE: Duration = Duration::from_secs(60);

    fn checkpoint() -> Checkpoint {
        Checkpoint { frame: 36, sample: 145_920, epoch: 2, condition: None, seed: 7, state: vec![1, 2, 3] }
    }

    #[test]
    fn a_token_says_what_was_sealed_to_those_with_the_key_and_the_model() {
        let key = TokenKey::new(b"a secret");
        let token = key.seal("fox", checkpoint());
        assert_eq!(TokenKey::new(b"a secret").open(&token, "fox", LIFE), Ok(checkpoint()));
        assert_eq!(TokenKey::random().open(&token, "fox", LIFE), Err(TokenError::Signature));
        assert_eq!(key.open(&token, "hare", LIFE), Err(TokenError::Model));
        let long_ago = Signed { version: VERSION, model: "fox".into(), issued: 5, checkpoint: checkpoint() };
        let signed = postcard::to_stdvec(&long_ago).unwrap();
        let mut bytes = key.0.clone().chain_update(&signed).finalize().into_bytes().to_vec();
        bytes.extend(signed);
        let expired = key.open(&URL_SAFE_NO_PAD.encode(bytes), "fox", LIFE);
        assert!(matches!(expired, Err(TokenError::Expired(_))));
        let other = [VERSION + 1, 9, 9];
        let mut bytes = key.0.clone().chain_update(other).finalize().into_bytes().to_vec();
        bytes.extend(other);
        assert_eq!(key.open(&URL_SAFE_NO_PAD.encode(bytes), "fox", LIFE), Err(TokenError::Version));
    }

    proptest! {
        #[test]
        fn a_token_with_one_bit_changed_is_refused(place: prop::sample::Index, bit in 0u32..8) {
            let key = TokenKey::new(b"k");
            let mut bytes = URL_SAFE_NO_PAD.decode(key.seal("fox", checkpoint())).unwrap();
            let place = place.index(bytes.len());
            bytes[place] ^= 1 << bit;
            prop_assert_eq!(key.open(&URL_SAFE_NO_PAD.encode(bytes), "fox", LIFE), Err(TokenError::Signature));
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            prop_assert!(TokenKey::new(b"k").open(&text, "fox", LIFE).is_err());
        }
    }
}
