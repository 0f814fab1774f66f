//! A listener's message and a performance: read, or refused with a reason that is not empty.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twostep::protocol::client::Received;
use twostep::protocol::performance::Recorded;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let received = Received::parse(text);
    for refusal in [received.message.err(), Recorded::parse(text).err()].into_iter().flatten() {
        assert!(!refusal.message.is_empty());
    }
});
