//! The bytes on the wire: JSON text frames for control, binary frames for audio. `PROTOCOL.md` is the specification,
//! `tests/fixtures/protocol.json` its test vectors.
//!
//! * [`client`]: what a listener may say; [`fields`]: reading it so that every refusal names its field
//! * [`performance`]: what a listener said and when, for rendering it again
//! * [`server`]: what the server says; [`frame`]: the header of binary frames; [`close`]: the close codes

pub mod client;
pub mod close;
pub mod fields;
pub mod frame;
pub mod performance;
pub mod server;

/// The WebSocket subprotocol, echoed when a client offers it.
pub const SUBPROTOCOL: &str = "twostep.v1";
/// Before a browser token, which a client may offer as a subprotocol because browsers send no other header of theirs.
pub const TOKEN_SUBPROTOCOL: &str = "twostep.token.";
/// Channels of audio frames, unless one is asked for.
pub const CHANNELS: u8 = 2;
/// Bytes a client's message may have.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Prompts a listener may mix at once.
pub const MAX_PROMPTS: usize = 16;
/// Characters a prompt may have.
pub const MAX_PROMPT_CHARS: usize = 500;
/// Characters an `event_id` may have.
pub const MAX_EVENT_ID_CHARS: usize = 128;
/// Events of a performance.
pub const MAX_EVENTS: usize = 10_000;
/// The largest seed: the largest integer that JavaScript's numbers hold exactly.
pub const MAX_SEED: u64 = (1 << 53) - 1;
/// The sample rate of Opus, in Hz.
pub const OPUS_RATE: u32 = 48_000;
/// Output sample rates on offer, in Hz.
pub const SAMPLE_RATES: std::ops::RangeInclusive<u32> = 8_000..=96_000;

#[cfg(test)]
mod vectors;
