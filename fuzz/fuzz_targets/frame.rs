//! A binary frame: what is accepted is, encoded again, what it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twostep::protocol::frame::{FrameHeader, HEADER_LEN};

fuzz_target!(|bytes: &[u8]| {
    if let Ok((header, payload)) = FrameHeader::decode(bytes) {
        assert_eq!(bytes[..HEADER_LEN], header.encode());
        assert_eq!(bytes[HEADER_LEN..], *payload);
    }
});
