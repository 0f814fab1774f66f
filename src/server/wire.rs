//! The bytes under a WebSocket. Frames of sound go through as they are: every listener of a room sends the same bytes,
//! and none of them keeps a copy while it does.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

/// Pieces that are written at once.
const PIECES: usize = 64;

/// A connection that two share: the WebSocket, and whoever has frames that need none of its buffers. Both belong to one
/// task, which is the one that is woken.
pub(super) struct Wire<S = TokioIo<Upgraded>>(Arc<Mutex<Inner<S>>>);

struct Inner<S> {
    stream: S,
    /// What is written before anything that comes later.
    queue: VecDeque<Bytes>,
}

impl<S> Clone for Wire<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        Self(Arc::new(Mutex::new(Inner { stream, queue: VecDeque::new() })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A binary message is next. The WebSocket must have been flushed: what it still holds would come in between.
    pub(super) fn queue(&self, message: &Bytes) {
        let header = FrameHeader { opcode: OpCode::Data(Data::Binary), ..FrameHeader::default() };
        let length = message.len() as u64;
        let mut head = Vec::with_capacity(header.len(length));
        // Writing into memory cannot fail.
        let _ = header.format(length, &mut head);
        self.lock().queue.extend([head.into(), message.clone()]);
    }
}

impl<S: AsyncWrite + Unpin> Inner<S> {
    fn poll_queue(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.queue.is_empty() {
            let mut pieces = [IoSlice::new(&[]); PIECES];
            for (piece, bytes) in pieces.iter_mut().zip(&self.queue) {
                *piece = IoSlice::new(bytes);
            }
            let count = self.queue.len().min(PIECES);
            let mut written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &pieces[..count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            while let Some(front) = self.queue.front_mut() {
                if front.len() > written {
                    front.advance(written);
                    break;
                }
                written -= front.len();
                self.queue.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.lock();
        ready!(inner.poll_queue(cx))?;
        Pin::new(&mut inner.stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        ready!(inner.poll_queue(cx))?;
        Pin::new(&mut inner.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        ready!(inner.poll_queue(cx))?;
        Pin::new(&mut inner.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::{SinkExt, StreamExt};
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;
    use tokio::time::timeout;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    /// Something said: an event goes through the WebSocket, sound past it.
    fn message() -> impl Strategy<Value = Message> {
        prop_oneof![
            "[a-z]{0,300}".prop_map(Message::text),
            prop::collection::vec(any::<u8>(), 0..300).prop_map(Message::binary),
            prop::collection::vec(any::<u8>(), 0..70_000).prop_map(Message::binary),
        ]
    }

    /// Says everything over a connection that takes few bytes at once, while the other side pings: the half that reads
    /// answers in the middle of what the other half writes.
    async fn converse(said: &[Message], takes: usize) -> Vec<Message> {
        let (ours, theirs) = tokio::io::duplex(takes);
        let wire = Wire::new(ours);
        let server = WebSocketStream::from_raw_socket(wire.clone(), Role::Server, None).await;
        let client = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
        let ((mut sink, mut source), (mut pings, mut heard)) = (server.split(), client.split());
        let speaks = async {
            for message in said {
                match message {
                    Message::Binary(bytes) => {
                        sink.flush().await.unwrap();
                        wire.queue(bytes);
                    }
                    event => sink.feed(event.clone()).await.unwrap(),
                }
            }
            sink.close().await.unwrap();
        };
        let reads = async {
            while source.next().await.is_some() {}
            wire.clone().shutdown().await.unwrap();
        };
        let asks = async {
            for _ in 0..20 {
                // The conversation may be over before all are asked.
                let _ = pings.send(Message::Ping(Bytes::from_static(b"there?"))).await;
            }
        };
        let hears = async {
            let mut all = Vec::new();
            while let Some(Ok(message)) = heard.next().await {
                if message.is_text() || message.is_binary() {
                    all.push(message);
                }
            }
            all
        };
        tokio::join!(speaks, reads, asks, hears).3
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn everything_arrives_whole_and_in_order(
            said in prop::collection::vec(message(), 0..12),
            takes in 64..5_000_usize,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let heard = runtime.block_on(async { timeout(Duration::from_secs(10), converse(&said, takes)).await });
            prop_assert_eq!(heard.unwrap(), said);
        }
    }
}
