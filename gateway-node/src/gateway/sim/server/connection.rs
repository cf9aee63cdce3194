//! One connection to a venue: reads messages into the desk's queue, and writes what the desk says and the newest ticks.
//!
//! What is to be written waits in an [`Outlet`], bounded in messages and bytes. A peer that does not read fills it, and
//! the desk drops the connection. Ticks wait beside it, and conflate.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::timeout;
use tracing::warn;

use super::desk::Input;
use crate::gateway::TickQueue;
use crate::gateway::sim::link::{self, Ask, Say};

/// Messages that may wait to be written.
const MESSAGES: usize = 65_536;
/// Bytes that may wait to be written: the longest message, and as much again.
const BYTES: usize = 2 * link::LONGEST_SAY;
/// Ticks that may wait to be written, before they conflate.
const TICKS: usize = 4096;
/// Ticks written in one go.
const BATCH: usize = 64;

/// The desk's end of a connection; the connection closes, after writing what waits, when it is dropped.
pub(super) struct Outlet {
    messages: mpsc::Sender<Vec<u8>>,
    bytes: Arc<AtomicUsize>,
    pub(super) ticks: Arc<TickQueue>,
}

impl Outlet {
    /// Queues a message.
    ///
    /// # Errors
    /// Why the connection is to be dropped, for people.
    pub(super) fn send(&self, message: Vec<u8>) -> Result<(), &'static str> {
        let len = message.len();
        if self.bytes.fetch_add(len, Ordering::AcqRel) + len > BYTES {
            return Err("the node does not read what the venue says");
        }
        self.messages.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => "the node does not read what the venue says",
            TrySendError::Closed(_) => "the connection is closed",
        })
    }
}

/// Serves a connection to its end.
pub(super) async fn serve(id: u64, stream: TcpStream, inputs: &mpsc::Sender<Input>) {
    // Without it, a small message could wait for the peer's acknowledgement; nothing depends on it.
    let _ = stream.set_nodelay(true);
    let peer = stream.peer_addr().map_or_else(|_| "?".to_owned(), |peer| peer.to_string());
    let (read, write) = stream.into_split();
    let (messages, waiting) = mpsc::channel(MESSAGES);
    let (bytes, ticks) = (Arc::new(AtomicUsize::new(0)), Arc::new(TickQueue::new(TICKS)));
    let outlet = Outlet { messages, bytes: bytes.clone(), ticks: ticks.clone() };
    if inputs.send(Input::Opened { id, outlet }).await.is_err() {
        return;
    }
    let writing = write_says(write, waiting, &bytes, &ticks);
    tokio::pin!(writing);
    let (reason, is_written) = tokio::select! {
        reason = read_asks(id, &peer, read, inputs) => (reason, false),
        reason = &mut writing => (reason, true),
    };
    // The desk may be gone; if it is not, it drops the outlet now, and the writing comes to an end.
    let _ = inputs.send(Input::Closed { id, reason }).await;
    if !is_written {
        let _ = writing.await;
    }
}

async fn read_asks(id: u64, peer: &str, read: OwnedReadHalf, inputs: &mpsc::Sender<Input>) -> String {
    let mut reader = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        // For the whole line: half a message, or one byte at a time, is silence too.
        match timeout(link::SILENCE, read_line(&mut reader, &mut line)).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return "the node closed the connection".to_owned(),
            Ok(Err(error)) => {
                if error.kind() == io::ErrorKind::InvalidData {
                    warn!(peer, %error, "connection closed");
                }
                return format!("the connection is lost: {error}");
            }
            Err(_) => return format!("the node was silent for {} s", link::SILENCE.as_secs()),
        }
        let ask: Ask = match link::decode(&line) {
            Ok(ask) => ask,
            Err(problem) => {
                warn!(peer, %problem, "connection closed");
                return format!("the node's message {problem}");
            }
        };
        if inputs.send(Input::Asked { id, ask }).await.is_err() {
            return "the venue stops".to_owned();
        }
    }
}

/// Reads the next line; `false` at the end.
async fn read_line(reader: &mut BufReader<OwnedReadHalf>, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    loop {
        let buffer = reader.fill_buf().await?;
        if buffer.is_empty() {
            return if line.is_empty() { Ok(false) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        let end = buffer.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let taken = end.unwrap_or(buffer.len());
        if line.len() + taken > link::LONGEST_ASK {
            let problem = format!("a line of more than {} bytes", link::LONGEST_ASK);
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        line.extend_from_slice(&buffer[..taken]);
        reader.consume(taken);
        if end.is_some() {
            return Ok(true);
        }
    }
}

async fn write_says(
    mut write: OwnedWriteHalf,
    mut messages: mpsc::Receiver<Vec<u8>>,
    bytes: &AtomicUsize,
    ticks: &TickQueue,
) -> String {
    let mut batch = Vec::new();
    loop {
        let message = tokio::select! {
            biased;
            message = messages.recv() => match message {
                Some(message) => {
                    bytes.fetch_sub(message.len(), Ordering::AcqRel);
                    message
                }
                None => {
                    // What was written is on its way; the peer sees the end behind it.
                    let _ = timeout(link::SILENCE, write.shutdown()).await;
                    return "the venue closed the connection".to_owned();
                }
            },
            () = ticks.pop_batch(&mut batch, BATCH) => {
                batch.drain(..).flat_map(|tick| link::encode(&Say::Tick(Box::new(tick.tick)))).collect()
            }
        };
        match timeout(link::SILENCE, write.write_all(&message)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return format!("the connection is lost: {error}"),
            Err(_) => return format!("the node read nothing for {} s", link::SILENCE.as_secs()),
        }
    }
}
