//! WebSocket close codes and when this server uses them.

/// The conversation is over, by the client's wish.
pub const DONE: u16 = 1000;
/// The server is shutting down.
pub const GOING_AWAY: u16 = 1001;
/// Not the order of messages this protocol asks for.
pub const PROTOCOL: u16 = 1002;
/// A binary message: this protocol has none from the client.
pub const UNSUPPORTED: u16 = 1003;
/// Text that is not UTF-8, or an opening message that is not valid.
pub const INVALID: u16 = 1007;
/// A deadline passed, or a model that is not served.
pub const POLICY: u16 = 1008;
/// A message of more than [`MAX_MESSAGE_BYTES`](super::MAX_MESSAGE_BYTES).
pub const TOO_BIG: u16 = 1009;
/// The server failed.
pub const INTERNAL: u16 = 1011;
/// The connection was too slow for a room.
pub const TRY_LATER: u16 = 1013;
