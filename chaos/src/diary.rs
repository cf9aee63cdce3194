//! A client's own ledger, its diary: what it is about to do, what it was told, what it saw. Append-only JSON lines, each
//! written before the call that it announces, so that a killed client leaves behind everything that may have left it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use client_sdk::Error;
use protocol::{ErrorCode, Order, OrderId, OrderRequest, OrderStatus, Quote, QuoteRequest, Trade};
use serde::{Deserialize, Serialize};

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// When it was written, in microseconds since 1970.
    pub at_us: i64,
    /// What it says.
    #[serde(flatten)]
    pub note: Note,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub enum Note {
    /// The client's process started; what an earlier one left open is open still.
    Started {
        /// Counts the starts, from 1.
        incarnation: u32,
    },
    /// The client was told to stop sending, and nothing is open any more.
    Resolved,
    /// This is sent next. The same id with the same content may come again.
    Sending {
        /// The content.
        item: Item,
    },
    /// The call ended.
    Told {
        /// The order's or quote's id.
        id: OrderId,
        /// How.
        outcome: Outcome,
    },
    /// A cancel is sent next.
    Cancelling {
        /// The order's or quote's id.
        id: OrderId,
    },
    /// The cancel's call ended.
    CancelTold {
        /// The order's or quote's id.
        id: OrderId,
        /// What was wrong, if anything.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// The mirror showed an order or a quote of this client's.
    Saw {
        /// Its id.
        id: OrderId,
        /// Its state.
        status: OrderStatus,
        /// Filled so far, in lots; both sides of a quote together.
        traded: f64,
    },
    /// The mirror showed a fill of this client's.
    SawTrade {
        /// The fill.
        trade: Trade,
    },
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// An order.
    Order(OrderRequest),
    /// A quote.
    Quote(QuoteRequest),
}

impl Item {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &OrderId {
        match self {
            Item::Order(order) => &order.orderid,
            Item::Quote(quote) => &quote.quoteid,
        }
    }
}

/// What a client was told of something it sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The gateway has it, in this state.
    Taken {
        /// Its state.
        status: OrderStatus,
        /// Filled so far, in lots; both sides of a quote together.
        traded: f64,
    },
    /// It was certainly not executed.
    NotExecuted {
        /// The gateway's code, if it was the gateway that said so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<ErrorCode>,
        /// The sentence.
        error: String,
        /// Whether that holds for every earlier attempt with this id too, and not for this call alone.
        proven: bool,
    },
    /// Nobody knows.
    Unknown {
        /// The sentence.
        error: String,
    },
}

impl Outcome {
    /// What an answered order came to.
    #[must_use]
    pub fn of_order(sent: &Result<Order, Error>) -> Outcome {
        Outcome::of(sent.as_ref().map(|order| (order.status, order.traded)))
    }

    /// What an answered quote came to.
    #[must_use]
    pub fn of_quote(sent: &Result<Quote, Error>) -> Outcome {
        Outcome::of(sent.as_ref().map(|quote| (quote.status, quote.traded())))
    }

    fn of(sent: Result<(OrderStatus, f64), &Error>) -> Outcome {
        match sent {
            Ok((status, traded)) => Outcome::Taken { status, traded },
            Err(error) if error.maybe_executed() => Outcome::Unknown { error: error.to_string() },
            Err(error) => {
                Outcome::NotExecuted { code: error.code(), error: error.to_string(), proven: is_proven(error) }
            }
        }
    }
}

/// Appends to a diary. Each line is one write, so that several tasks may share one.
#[derive(Debug)]
pub struct DiaryWriter {
    file: File,
}

impl DiaryWriter {
    /// Opens a diary, made if need be. A line that a killed client left half written is ended, and means nothing.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub fn open(path: &Path) -> io::Result<DiaryWriter> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        if file.metadata()?.len() > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        Ok(DiaryWriter { file })
    }

    /// Writes a line; it is with the operating system when this returns.
    ///
    /// # Errors
    /// If it cannot be written: then what it announces must not be done.
    pub fn write(&self, at_us: i64, note: Note) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(&Line { at_us, note })?;
        bytes.push(b'\n');
        (&self.file).write_all(&bytes)
    }
}

/// Reads a diary as far as it is written, again and again.
#[derive(Debug)]
pub struct DiaryReader {
    path: PathBuf,
    file: Option<File>,
    rest: Vec<u8>,
}

impl DiaryReader {
    /// A reader of a diary that may not be there yet.
    #[must_use]
    pub fn new(path: PathBuf) -> DiaryReader {
        DiaryReader { path, file: None, rest: Vec::new() }
    }

    /// The lines that have come since the last call. A line that does not read is left out if a kill explains it: the
    /// next line is a new incarnation's first.
    ///
    /// # Errors
    /// If the file cannot be read, or a line is damaged.
    pub fn read(&mut self) -> io::Result<Vec<Line>> {
        if self.file.is_none() {
            match File::open(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(error),
            }
        }
        if let Some(file) = &mut self.file {
            file.read_to_end(&mut self.rest)?;
        }
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let bytes: Vec<u8> = self.rest.drain(..whole).collect();
        let mut lines = Vec::new();
        let mut torn = None;
        for text in bytes.split(|byte| *byte == b'\n').filter(|text| !text.is_empty()) {
            let line = serde_json::from_slice::<Line>(text);
            if let Some(error) = torn.take()
                && !matches!(&line, Ok(Line { note: Note::Started { .. }, .. }))
            {
                return Err(error);
            }
            match line {
                Ok(line) => lines.push(line),
                Err(error) => torn = Some(damaged(&self.path, text, &error)),
            }
        }
        match torn {
            // Ended by a new incarnation that has not written its first line yet: read again with it.
            Some(_) => {
                let last = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                self.rest.splice(..0, bytes[last..].iter().copied());
                Ok(lines)
            }
            None => Ok(lines),
        }
    }
}

fn damaged(path: &Path, text: &[u8], error: &serde_json::Error) -> io::Error {
    let shown: String = String::from_utf8_lossy(text).chars().take(200).collect();
    io::Error::other(format!("{}: {error} in `{shown}`", path.display()))
}

/// Whether a refusal rules out that an earlier attempt with the same id was executed: those that are journalled under the
/// id do, and the client library's own proof. That a gateway is away or not ready now says nothing of earlier.
fn is_proven(error: &Error) -> bool {
    use ErrorCode::{InvalidOrder, OrderIdReused, RiskRejected, VenueRejected};
    let judged = matches!(error.code(), Some(InvalidOrder | OrderIdReused | RiskRejected | VenueRejected));
    judged || matches!(error, Error::NotExecuted { .. })
}

/// Something that was sent, and what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent<'a> {
    /// What.
    pub item: &'a Item,
    /// What became of it; `None` if that is open.
    pub known: Option<&'a Outcome>,
    /// Whether an attempt that nobody knows the end of may have been executed.
    in_doubt: bool,
    /// Whether a call is under way.
    calling: bool,
    /// The line of its first sending.
    first: usize,
}

/// Everything that a client sent, by id.
#[must_use]
pub fn sent(lines: &[Line]) -> BTreeMap<&OrderId, Sent<'_>> {
    let mut all: BTreeMap<&OrderId, Sent<'_>> = BTreeMap::new();
    for (first, line) in lines.iter().enumerate() {
        match &line.note {
            Note::Sending { item } => {
                let new = Sent { item, known: None, in_doubt: false, calling: false, first };
                let sent = all.entry(item.id()).or_insert(new);
                // A call without an end: its client was killed.
                sent.in_doubt |= sent.calling;
                sent.calling = true;
                sent.known = None;
            }
            Note::Told { id, outcome } => {
                let Some(sent) = all.get_mut(id) else { continue };
                sent.calling = false;
                match outcome {
                    Outcome::Unknown { .. } => sent.in_doubt = true,
                    Outcome::NotExecuted { proven: false, .. } if sent.in_doubt => {}
                    Outcome::NotExecuted { .. } | Outcome::Taken { .. } => {
                        sent.in_doubt = false;
                        sent.known = Some(outcome);
                    }
                }
            }
            _ => {}
        }
    }
    all
}

/// What a client sent and does not know the end of, in the order of first sending.
#[must_use]
pub fn open_items(lines: &[Line]) -> Vec<Item> {
    let mut open: Vec<Sent<'_>> = sent(lines).into_values().filter(|sent| sent.known.is_none()).collect();
    open.sort_by_key(|sent| sent.first);
    open.into_iter().map(|sent| sent.item.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Direction, Exchange, InstrumentId, Offset};

    fn sending(id: &str) -> Note {
        let rb = InstrumentId::new("rb2410", Exchange::SHFE);
        let mut request = OrderRequest::limit(rb, Direction::Long, Offset::Open, 3500.0, 1.0);
        request.orderid = OrderId::new(id);
        Note::Sending { item: Item::Order(request) }
    }

    fn told(id: &str, outcome: Outcome) -> Note {
        Note::Told { id: OrderId::new(id), outcome }
    }

    #[test]
    fn a_line_that_a_kill_tore_means_nothing_and_all_others_stand() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("c1.jsonl");
        let writer = DiaryWriter::open(&path).expect("opens");
        writer.write(1, Note::Started { incarnation: 1 }).expect("written");
        writer.write(2, sending("a")).expect("written");
        let whole = std::fs::read(&path).expect("read");
        std::fs::write(&path, &whole[..whole.len() - 5]).expect("torn");
        let mut reader = DiaryReader::new(path.clone());
        assert_eq!(reader.read().expect("reads").len(), 1);
        let writer = DiaryWriter::open(&path).expect("opens");
        assert_eq!(reader.read().expect("waits for what explains it").len(), 0);
        writer.write(3, Note::Started { incarnation: 2 }).expect("written");
        writer.write(4, sending("b")).expect("written");
        let lines = reader.read().expect("reads");
        assert_eq!(lines.iter().map(|line| line.at_us).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(reader.read().expect("reads"), []);
        assert_eq!(DiaryReader::new(path).read().expect("reads").len(), 3);
    }

    #[test]
    fn damage_that_no_kill_explains_is_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("c1.jsonl");
        let writer = DiaryWriter::open(&path).expect("opens");
        for at in 0..3 {
            writer.write(at, sending("a")).expect("written");
        }
        let text = std::fs::read_to_string(&path).expect("read").replacen("sending", "sendin", 1);
        std::fs::write(&path, text).expect("damaged");
        let error = DiaryReader::new(path).read().expect_err("damaged").to_string();
        assert!(error.contains("sendin"), "{error}");
    }

    #[test]
    fn what_was_not_told_for_certain_is_open() {
        let unknown = || Outcome::Unknown { error: "lost".into() };
        let refused = |proven| Outcome::NotExecuted { code: None, error: "no".into(), proven };
        let taken = || Outcome::Taken { status: OrderStatus::Submitting, traded: 0.0 };
        let notes = vec![
            sending("killed"),
            sending("taken"),
            told("taken", taken()),
            sending("unknown"),
            told("unknown", unknown()),
            sending("refused"),
            told("refused", refused(false)),
            sending("proven"),
            told("proven", unknown()),
            sending("proven"),
            told("proven", refused(true)),
            sending("away"),
            told("away", unknown()),
            sending("away"),
            told("away", refused(false)),
            Note::Started { incarnation: 2 },
            sending("killed"),
            told("killed", refused(false)),
        ];
        let lines: Vec<Line> = notes.into_iter().map(|note| Line { at_us: 0, note }).collect();
        let open = open_items(&lines);
        assert_eq!(open.iter().map(|item| item.id().as_str()).collect::<Vec<_>>(), ["killed", "unknown", "away"]);
        let lines = [
            sending("a"),
            told("a", unknown()),
            sending("a"),
            told("a", refused(false)),
            sending("a"),
            told("a", taken()),
        ];
        let lines: Vec<Line> = lines.into_iter().map(|note| Line { at_us: 0, note }).collect();
        assert_eq!(sent(&lines)[&OrderId::new("a")].known, Some(&taken()));
    }
}
