//! Every deadline and bound of the server.

use std::time::Duration;

/// Deadlines and bounds; the defaults suit a public server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// From the upgrade to `session.start`.
    pub start: Duration,
    /// From one WebSocket ping to the next.
    pub ping: Duration,
    /// Without any sign of life from the peer, pongs included, after which the connection is dropped.
    pub dead: Duration,
    /// Without any message from the client after which the session is closed.
    pub idle: Duration,
    /// For one frame to leave, after which the connection is dropped.
    pub write: Duration,
    /// For the closing handshake.
    pub close: Duration,
    /// For listeners to go elsewhere at shutdown, while their sound goes on.
    pub drain: Duration,
    /// From one resume token of a session to the next.
    pub token: Duration,
    /// How long a resume token is good for.
    pub token_life: Duration,
    /// For the next chunk of a file to be made or taken.
    pub stall: Duration,
    /// Seconds of sound in one file.
    pub generate_seconds: f32,
    /// What a refused listener is told to wait before trying again.
    pub retry_after: Duration,
    /// For the head of a request, and between two requests of a connection.
    pub head: Duration,
    /// For the body of a request.
    pub body: Duration,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// Before the next connection is accepted after one that could not be.
    pub accept_pause: Duration,
    /// Connections at once.
    pub connections: usize,
    /// Connections of one address at once.
    pub connections_per_address: usize,
    /// Streams and files of one address at once.
    pub streams_per_address: usize,
    /// Streams and files of one API key at once.
    pub streams_per_key: usize,
    /// Requests of one address in the long run.
    pub requests_per_second: f64,
    /// Requests of one address at once.
    pub request_burst: f64,
    /// Rooms at once.
    pub rooms: usize,
    /// Hosts and listeners in one room.
    pub room_members: usize,
    /// After which a room that nobody is in is closed.
    pub room_empty: Duration,
    /// How long a browser token is good for.
    pub ticket_life: Duration,
}

impl Limits {
    /// The same without shares: one address may take everything. For measuring, where all listeners come from one machine.
    pub fn for_one_address(self) -> Self {
        Self {
            connections: 1 << 20,
            connections_per_address: 1 << 20,
            streams_per_address: 1 << 20,
            requests_per_second: 1e9,
            request_burst: 1e9,
            ..self
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(10),
            ping: Duration::from_secs(10),
            dead: Duration::from_secs(30),
            idle: Duration::from_secs(300),
            write: Duration::from_secs(10),
            close: Duration::from_secs(2),
            drain: Duration::from_secs(20),
            token: Duration::from_secs(2),
            token_life: Duration::from_secs(3600),
            stall: Duration::from_secs(60),
            generate_seconds: 600.0,
            retry_after: Duration::from_secs(5),
            head: Duration::from_secs(10),
            body: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            accept_pause: Duration::from_millis(100),
            connections: 4096,
            connections_per_address: 256,
            streams_per_address: 32,
            streams_per_key: 1024,
            requests_per_second: 50.0,
            request_burst: 200.0,
            rooms: 64,
            room_members: 1000,
            room_empty: Duration::from_secs(60),
            ticket_life: Duration::from_secs(60),
        }
    }
}
