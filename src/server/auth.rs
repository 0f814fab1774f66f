//! Who may use the server: API keys, and short-lived single-use tokens for browsers, which must not hold a key.
//!
//! Keys are kept and compared as digests, all of them and in constant time. A token is signed with the server's token key and
//! names the API key it was made with, so that any server with the same keys takes it; each takes it once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::token::{TokenError, TokenKey, now};

/// Characters of a key at least.
const KEY_CHARS: usize = 16;
/// Tokens that are remembered as used; more are refused until some of these expire.
const REMEMBERED: usize = 100_000;

/// A key, by the beginning of its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyId([u8; 8]);

/// The API keys; none: everybody is let in.
#[derive(Clone, Default)]
pub struct Keys(Vec<[u8; 32]>);

/// Why a text is no key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Too easily guessed.
    #[error("an API key has at least {KEY_CHARS} characters")]
    Short,
    /// Cannot stand in a header.
    #[error("an API key has visible ASCII characters only")]
    Characters,
}

impl Keys {
    /// These keys.
    pub fn new(keys: &[String]) -> Result<Self, KeyError> {
        let digest = |key: &String| {
            if key.len() < KEY_CHARS {
                return Err(KeyError::Short);
            }
            if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(KeyError::Characters);
            }
            Ok(Sha256::digest(key.as_bytes()).into())
        };
        keys.iter().map(digest).collect::<Result<_, _>>().map(Self)
    }

    /// Whether everybody is let in.
    pub fn open_to_all(&self) -> bool {
        self.0.is_empty()
    }

    /// Which key this is, if it is one. Takes the same time whichever it is.
    pub fn find(&self, key: &str) -> Option<KeyId> {
        let digest: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        let found = self.0.iter().fold(Choice::from(0), |found, known| found | known[..].ct_eq(&digest[..]));
        bool::from(found).then(|| id(&digest))
    }

    fn has(&self, key: KeyId) -> bool {
        self.0.iter().any(|digest| id(digest) == key)
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

fn id(digest: &[u8; 32]) -> KeyId {
    let mut id = [0; 8];
    id.copy_from_slice(&digest[..8]);
    KeyId(id)
}

/// What a browser token says.
#[derive(Serialize, Deserialize)]
struct Ticket {
    kind: u8,
    nonce: u128,
    /// Seconds since 1970.
    expires: u64,
    /// The key it was made with; `None` where there are none.
    key: Option<KeyId>,
}

/// What a ticket's first byte is; no resume token begins so.
const TICKET: u8 = b't';

/// Why a browser token is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Not a token, or made by another server.
    #[error("the token was not made by this server or one with the same key")]
    Signature,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// It has been used.
    #[error("the token has been used already")]
    Used,
    /// The key it was made with is not a key any more.
    #[error("the token's API key is not valid any more")]
    Key,
    /// Too many are remembered.
    #[error("too many tokens were used in a short time")]
    Busy,
}

/// Makes browser tokens, and takes each once.
#[derive(Debug, Default)]
pub struct Tickets {
    /// Nonces of used tokens, and when they expire.
    used: Mutex<HashMap<u128, u64>>,
}

impl Tickets {
    /// A token good for `life` in place of `key`.
    pub fn mint(&self, secret: &TokenKey, key: Option<KeyId>, life: Duration) -> String {
        let ticket = Ticket { kind: TICKET, nonce: rand::random(), expires: now() + life.as_secs().max(1), key };
        secret.sign(&postcard::to_stdvec(&ticket).unwrap_or_default())
    }

    /// Takes a token: the key that it stands for.
    pub fn redeem(&self, secret: &TokenKey, keys: &Keys, token: &str) -> Result<Option<KeyId>, TicketError> {
        let signed = secret.verify(token).map_err(|_: TokenError| TicketError::Signature)?;
        if signed.first() != Some(&TICKET) {
            return Err(TicketError::Signature);
        }
        let ticket: Ticket = postcard::from_bytes(&signed).map_err(|_| TicketError::Signature)?;
        let now = now();
        if ticket.expires < now {
            return Err(TicketError::Expired);
        }
        if ticket.key.is_some_and(|key| !keys.has(key)) || (ticket.key.is_none() && !keys.open_to_all()) {
            return Err(TicketError::Key);
        }
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= REMEMBERED {
            used.retain(|_, &mut expires| expires >= now);
            if used.len() >= REMEMBERED {
                return Err(TicketError::Busy);
            }
        }
        match used.insert(ticket.nonce, ticket.expires) {
            None => Ok(ticket.key),
            Some(_) => Err(TicketError::Used),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(keys: &[&str]) -> Keys {
        Keys::new(&keys.iter().map(|&key| key.to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn keys_are_found_and_nothing_else() {
        let keys = keys(&["one key of sixteen".replace(' ', "-").as_str(), "another-key-of-mine"]);
        assert!(keys.find("another-key-of-mine").is_some());
        assert_ne!(keys.find("another-key-of-mine"), keys.find("one-key-of-sixteen"));
        for wrong in ["", "another-key-of-min", "another-key-of-mine ", "Another-key-of-mine"] {
            assert_eq!(keys.find(wrong), None, "{wrong:?}");
        }
        assert_eq!(Keys::new(&["short".into()]).err(), Some(KeyError::Short));
        assert_eq!(Keys::new(&["with a space in it".into()]).err(), Some(KeyError::Characters));
        assert_eq!(format!("{keys:?}"), "2 keys", "a key is never shown");
    }

    #[test]
    fn a_token_is_good_once_for_a_while_and_as_long_as_its_key() {
        let (keys, secret, tickets) = (keys(&["a-key-of-sixteen-characters"]), TokenKey::new(b"s"), Tickets::default());
        let key = keys.find("a-key-of-sixteen-characters");
        let token = tickets.mint(&secret, key, Duration::from_secs(60));
        assert_eq!(tickets.redeem(&TokenKey::random(), &keys, &token), Err(TicketError::Signature));
        assert_eq!(tickets.redeem(&secret, &keys, &token), Ok(key));
        assert_eq!(tickets.redeem(&secret, &keys, &token), Err(TicketError::Used));
        let other = self::keys(&["the-key-of-another-day"]);
        let token = tickets.mint(&secret, key, Duration::from_secs(60));
        assert_eq!(tickets.redeem(&secret, &other, &token), Err(TicketError::Key));
        let open = tickets.mint(&secret, None, Duration::from_secs(60));
        assert_eq!(tickets.redeem(&secret, &keys, &open), Err(TicketError::Key));
        let old = Ticket { kind: TICKET, nonce: 1, expires: 5, key };
        let old = secret.sign(&postcard::to_stdvec(&old).unwrap());
        assert_eq!(tickets.redeem(&secret, &keys, &old), Err(TicketError::Expired));
        assert_eq!(tickets.redeem(&secret, &keys, "nonsense"), Err(TicketError::Signature));
    }
}
