//! What travels between a node and a venue of another process: JSON, one message a line.
//!
//! What a venue says of trading carries a number that counts within the connection, so that a loss shows; a heartbeat
//! names the last number, so that a loss at the end shows too. Ticks carry none: the newest wins.

use std::io::{self, BufRead, Read as _};
use std::time::Duration;

use protocol::{HistoryRequest, InstrumentId, Name, OrderRequest, QuoteRequest, Tick};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::control::VenueCounts;
use super::faults::Fault;
use crate::gateway::{QueryToken, VenueEvent, VenueReference};

/// Of this module's messages; both sides must speak the same.
pub(super) const VERSION: u32 = 2;
/// Longest message to a venue, in bytes.
pub(super) const LONGEST_ASK: usize = 64 << 10;
/// Longest message of a venue, in bytes: a snapshot of 100,000 orders and as many trades fits.
pub(super) const LONGEST_SAY: usize = 128 << 20;
/// Each side says at least a heartbeat this often.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(1);
/// A side that said nothing for so long is gone.
pub(super) const SILENCE: Duration = Duration::from_secs(5);

/// A message to the venue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ask {
    LogIn { version: u32, node: Name, epoch: u64 },
    LogOut,
    Heartbeat,
    Subscribe(Vec<InstrumentId>),
    Unsubscribe(Vec<InstrumentId>),
    Submit { number: u64, request: Box<OrderRequest> },
    Cancel(VenueReference),
    SubmitQuote { number: u64, request: Box<QuoteRequest> },
    CancelQuote(VenueReference),
    History { token: QueryToken, request: Box<HistoryRequest> },
    Account(QueryToken),
    Positions(QueryToken),
    Snapshot,
    Inject(Fault),
    Counts,
}

/// A message of the venue.
#[allow(clippy::large_enum_variant)] // nearly all of them are events
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Say {
    /// Something of trading, with its number.
    Event {
        n: u64,
        event: VenueEvent,
    },
    /// The venue lives; this was the last number.
    Heartbeat {
        last: u64,
    },
    Tick(Box<Tick>),
    /// No session; `is_final` if trying again would be as useless as with a wrong password.
    LoginRefused {
        reason: String,
        is_final: bool,
    },
    /// What was asked by `Inject` is done.
    Done,
    /// What was asked is not done.
    NotDone {
        reason: String,
    },
    Counts(Box<VenueCounts>),
}

/// A message as a line.
pub(super) fn encode(message: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("a message is made of what JSON can hold");
    line.push(b'\n');
    line
}

/// The message of a line.
///
/// # Errors
/// What is wrong with it, for people.
pub(super) fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<T, String> {
    serde_json::from_slice(line).map_err(|error| {
        let beginning: String = String::from_utf8_lossy(line).chars().take(80).collect();
        format!("`{}` is no message: {error}", beginning.escape_debug())
    })
}

/// Reads the next line; `false` at the end.
///
/// # Errors
/// If the connection fails, or the line is longer than `longest`.
pub(super) fn read_line(from: &mut impl BufRead, line: &mut Vec<u8>, longest: usize) -> io::Result<bool> {
    line.clear();
    from.take(longest as u64 + 1).read_until(b'\n', line)?;
    if line.len() > longest {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a line of more than {longest} bytes")));
    }
    if line.last().is_some_and(|last| *last != b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(!line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_back_and_errors_travel_as_text() {
        let ask = Ask::Cancel("12/3".parse().expect("a reference"));
        assert_eq!(decode::<Ask>(&encode(&ask)), Ok(ask));
        let error = crate::gateway::GatewayError::NotSupported("bars");
        let refused = crate::gateway::GatewayError::Refused(error.to_string());
        let say = |error| Say::Event { n: 1, event: VenueEvent::Answer { token: QueryToken(3), answer: Err(error) } };
        assert_eq!(decode::<Say>(&encode(&say(error))), Ok(say(refused)));
    }

    #[test]
    fn garbage_is_told_with_its_beginning() {
        let error = decode::<Ask>(b"GET / HTTP/1.1\r\n").expect_err("no message");
        assert!(error.starts_with("`GET / HTTP/1.1\\r\\n` is no message: "), "{error}");
        assert!(decode::<Ask>(&[0xff; 4096]).expect_err("no message").len() < 1000);
    }

    #[test]
    fn lines_are_bounded_and_whole() {
        let mut line = Vec::new();
        let mut text = &b"ab\nabcdef\nab"[..];
        assert!(read_line(&mut text, &mut line, 4).expect("a line") && line == b"ab\n");
        assert_eq!(read_line(&mut text, &mut line, 4).expect_err("too long").kind(), io::ErrorKind::InvalidData);
        let mut text = &b"ab"[..];
        assert_eq!(read_line(&mut text, &mut line, 4).expect_err("half").kind(), io::ErrorKind::UnexpectedEof);
        assert!(!read_line(&mut &b""[..], &mut line, 4).expect("the end"));
    }
}
