//! How much one address and one key may take of the server, so that nobody takes all of it.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::auth::KeyId;

/// Addresses whose requests are remembered; beyond that the quiet ones are forgotten.
const REMEMBERED: usize = 65_536;

/// What counts as one address: IPv6 customers have a network of 2^64 each.
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

/// Requests one address has left.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

/// Counts requests by address.
#[derive(Debug, Default)]
pub(super) struct Rate {
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

impl Rate {
    /// Takes one request of an address that may make `burst` at once and `per_second` in the long run; whether it was
    /// there to take.
    pub(super) fn take(&self, address: IpAddr, per_second: f64, burst: f64, now: Instant) -> bool {
        let mut buckets = lock(&self.buckets);
        let filled = |bucket: &Bucket| {
            let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
            burst.min(bucket.left + passed * per_second)
        };
        if buckets.len() >= REMEMBERED {
            buckets.retain(|_, bucket| filled(bucket) < burst);
            if buckets.len() >= REMEMBERED {
                buckets.clear();
            }
        }
        let bucket = buckets.entry(household(address)).or_insert(Bucket { left: burst, at: now });
        *bucket = Bucket { left: filled(bucket), at: now };
        let there = bucket.left >= 1.0;
        if there {
            bucket.left -= 1.0;
        }
        there
    }
}

/// Counts what is held at once.
#[derive(Debug)]
struct Counter<K>(Mutex<HashMap<K, usize>>);

impl<K> Default for Counter<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Copy + Eq + Hash> Counter<K> {
    fn enter(&self, key: K, most: usize) -> bool {
        let mut counts = lock(&self.0);
        let count = counts.entry(key).or_default();
        let room = *count < most;
        if room {
            *count += 1;
        } else if *count == 0 {
            counts.remove(&key);
        }
        room
    }

    fn leave(&self, key: K) {
        let mut counts = lock(&self.0);
        if let Some(count) = counts.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&key);
            }
        }
    }
}

/// Counts what each address and each key holds.
#[derive(Debug, Default)]
pub(super) struct Quota {
    addresses: Counter<IpAddr>,
    keys: Counter<KeyId>,
}

/// One more is held; dropped, it is no more.
#[derive(Debug)]
pub(super) struct Seat {
    quota: Arc<Quota>,
    address: IpAddr,
    key: Option<KeyId>,
}

/// Whose share is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excess {
    Address,
    Key,
}

impl Quota {
    /// Holds one more, if both the address and the key may.
    pub(super) fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        key: Option<KeyId>,
        per_address: usize,
        per_key: usize,
    ) -> Result<Seat, Excess> {
        let address = household(address);
        if !self.addresses.enter(address, per_address) {
            return Err(Excess::Address);
        }
        if key.is_some_and(|key| !self.keys.enter(key, per_key)) {
            self.addresses.leave(address);
            return Err(Excess::Key);
        }
        Ok(Seat { quota: Arc::clone(self), address, key })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.quota.addresses.leave(self.address);
        if let Some(key) = self.key {
            self.quota.keys.leave(key);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::auth::Keys;
    use super::*;
    use std::time::Duration;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn requests_come_back_with_time_and_only_to_who_made_them() {
        let (rate, start) = (Rate::default(), Instant::now());
        let (one, other) = (address("10.0.0.1"), address("10.0.0.2"));
        assert!((0..5).all(|_| rate.take(one, 2.0, 5.0, start)));
        assert!(!rate.take(one, 2.0, 5.0, start));
        assert!(rate.take(other, 2.0, 5.0, start));
        let later = start + Duration::from_secs(1);
        assert!((0..2).all(|_| rate.take(one, 2.0, 5.0, later)));
        assert!(!rate.take(one, 2.0, 5.0, later));
    }

    #[test]
    fn a_seat_is_given_back() {
        let quota = Arc::new(Quota::default());
        let keys = Keys::new(&["a-key-of-sixteen-characters".into()]).unwrap();
        let key = keys.find("a-key-of-sixteen-characters");
        let enter = |from: &str, key| quota.enter(address(from), key, 2, 1);
        let first = enter("2001:db8::1", None).unwrap();
        let _second = enter("2001:db8::2", key).unwrap();
        assert_eq!(enter("2001:db8::3", None).err(), Some(Excess::Address), "the same network");
        assert_eq!(enter("2001:db8:0:1::1", key).err(), Some(Excess::Key));
        drop(first);
        let _third = enter("2001:db8::3", None).unwrap();
        assert!(enter("::ffff:10.0.0.1", None).is_ok() && quota.addresses.0.lock().unwrap().len() == 1);
    }
}
