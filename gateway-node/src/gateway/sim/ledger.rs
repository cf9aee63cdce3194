//! What a venue's ledger says: the entries, and the file that they are kept in.
//!
//! The file is append-only JSON lines. A line is a [`Record`]: everything that one input came to, there as a whole or
//! not at all. The venue writes it with one `write(2)` before it answers or acts on any of it, so that killing the
//! venue's process loses nothing that it has answered. It does not `fsync`: power loss or a crash of the operating
//! system can lose the last seconds.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use protocol::{InstrumentId, Name, OrderId, OrderStatus, Timestamp};
use serde::{Deserialize, Serialize};

use super::books::Terms;
use super::counter::Session;
use crate::gateway::{VenueOrder, VenueQuote, VenueReference, VenueTrade};

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Counts the lines, from 1.
    pub n: u64,
    /// The venue's clock when it wrote the line.
    pub time: Timestamp,
    /// What one input came to, in its order.
    pub entries: Vec<LedgerEntry>,
}

/// One thing that happened at the venue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LedgerEntry {
    /// The venue started; every older session is over.
    Started {
        /// Counts the starts, from 1.
        run: u64,
        /// The account's terms; they never change within a ledger.
        terms: Terms,
    },
    /// A session began.
    LoggedIn {
        /// Its number.
        session: Session,
        /// The node's leadership epoch.
        epoch: u64,
        /// The node, for people.
        node: Name,
    },
    /// A login was refused.
    LoginRefused {
        /// The node's leadership epoch.
        epoch: u64,
        /// The node, for people.
        node: Name,
        /// Why.
        reason: String,
    },
    /// A session is over: nothing that comes under it is taken any more.
    SessionEnded {
        /// Its number.
        session: Session,
        /// Why.
        reason: String,
    },
    /// An instrument's trading day began, or the venue went over to the day that the instrument is in.
    Day {
        /// The instrument.
        instrument: InstrumentId,
        /// The day.
        day: chrono::NaiveDate,
    },
    /// An order was accepted.
    OrderAccepted {
        /// The client's id for it.
        memo: OrderId,
        /// The order, before any fill.
        order: VenueOrder,
        /// The price that a stop order's margin is kept at.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept_at: Option<f64>,
    },
    /// An order of the session in force was rejected.
    OrderRejected {
        /// The client's id for it.
        memo: OrderId,
        /// The order, with the reason.
        order: VenueOrder,
    },
    /// A quote was accepted.
    QuoteAccepted {
        /// The client's id for it.
        memo: OrderId,
        /// The quote, before any fill.
        quote: VenueQuote,
    },
    /// A quote of the session in force was rejected.
    QuoteRejected {
        /// The client's id for it.
        memo: OrderId,
        /// The quote, with the reason.
        quote: VenueQuote,
    },
    /// An order or a quote got no further than the door.
    Refused {
        /// What it came under.
        reference: VenueReference,
        /// The client's id for it.
        memo: OrderId,
        /// Why.
        why: Refusal,
    },
    /// A fill.
    Trade(VenueTrade),
    /// An order or a quote is over.
    Finished {
        /// Which.
        reference: VenueReference,
        /// `ALLTRADED` or `CANCELLED`.
        status: OrderStatus,
        /// Filled in all, in lots; both sides of a quote together.
        traded: f64,
        /// Why, where it was cancelled.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A cancel was carried out; what it ended follows.
    Cancelled {
        /// The session that asked for it.
        session: Session,
        /// The order or the quote.
        reference: VenueReference,
    },
    /// A cancel did nothing.
    CancelRefused {
        /// The session that asked for it.
        session: Session,
        /// The order or the quote.
        reference: VenueReference,
        /// Why.
        why: Refusal,
    },
    /// The last prices that positions and account were told with.
    Marks(Vec<(InstrumentId, f64)>),
}

/// Why something got no further than the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The session that it came under is over, or never was.
    #[error("the session is over: a newer login ended it, or the connection was lost")]
    StaleSession,
    /// The reference is not above the session's last one.
    #[error("references must rise within a session")]
    ReferenceUsed,
    /// A number that is none.
    #[error("a number in it is not finite")]
    NotANumber,
    /// The venue knows no such order or quote.
    #[error("there is no such order or quote")]
    Unknown,
    /// The order or quote is over.
    #[error("the order or quote is finished")]
    Finished,
}

/// Why a ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file cannot be opened, read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another process writes it.
    #[error("{}: another venue is using this ledger: stop it, or name another directory with --ledger", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A line that is not the last one cannot be read: nobody's crash leaves that behind.
    #[error("{}, line {line}: {problem}. If the file was changed or damaged, restore it; or begin another directory with --ledger", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
}

/// The records of a ledger, in order. Reading does not disturb the venue that writes; a last line without an end is
/// what a venue was writing when it died (or is writing now), and is left out.
pub struct Ledger {
    path: PathBuf,
    lines: BufReader<File>,
    count: u64,
    /// Bytes of whole lines so far.
    whole: u64,
    torn: u64,
}

/// Name of the file in the ledger's directory.
pub const LEDGER_FILE: &str = "ledger.jsonl";

impl Ledger {
    /// Opens the ledger in this directory.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub fn open(directory: &Path) -> Result<Ledger, LedgerError> {
        let path = directory.join(LEDGER_FILE);
        match File::open(&path) {
            Ok(file) => Ok(Ledger::of(path, file)),
            Err(error) => Err(LedgerError::Io { path, error }),
        }
    }

    /// All records of the ledger in this directory.
    ///
    /// # Errors
    /// As [`Ledger::open`], and if it is damaged.
    pub fn read(directory: &Path) -> Result<Vec<Record>, LedgerError> {
        Ledger::open(directory)?.collect()
    }

    /// Bytes of a last line without an end, known when all records are read; 0 if there is none.
    #[must_use]
    pub fn torn(&self) -> u64 {
        self.torn
    }

    fn of(path: PathBuf, file: File) -> Ledger {
        Ledger { path, lines: BufReader::new(file), count: 0, whole: 0, torn: 0 }
    }

    fn next_record(&mut self) -> Result<Option<Record>, LedgerError> {
        let mut line = Vec::new();
        let read = self.lines.read_until(b'\n', &mut line);
        read.map_err(|error| LedgerError::Io { path: self.path.clone(), error })?;
        if line.last() != Some(&b'\n') {
            self.torn = line.len() as u64;
            return Ok(None);
        }
        self.count += 1;
        let damaged = |problem| LedgerError::Damaged { path: self.path.clone(), line: self.count, problem };
        let record: Record = serde_json::from_slice(&line).map_err(|error| damaged(error.to_string()))?;
        if record.n != self.count {
            return Err(damaged(format!("it is numbered {}", record.n)));
        }
        self.whole += line.len() as u64;
        Ok(Some(record))
    }
}

impl Iterator for Ledger {
    type Item = Result<Record, LedgerError>;
    fn next(&mut self) -> Option<Self::Item> {
        self.next_record().transpose()
    }
}

/// Appends to a ledger; one process at a time.
pub struct LedgerWriter {
    path: PathBuf,
    file: File,
    count: u64,
    line: Vec<u8>,
}

impl LedgerWriter {
    /// Opens the ledger in this directory (made if need be), hands its records to `replay`, and cuts off a torn last
    /// line. Returns the writer and how many bytes were cut.
    ///
    /// # Errors
    /// If the file cannot be used, is in use, or is damaged, or if `replay` refuses a record.
    pub fn open(
        directory: &Path,
        mut replay: impl FnMut(Record) -> Result<(), String>,
    ) -> Result<(LedgerWriter, u64), LedgerError> {
        let path = directory.join(LEDGER_FILE);
        let failed = |error| LedgerError::Io { path: path.clone(), error };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(LedgerError::InUse { path }),
            Err(std::fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mut ledger = Ledger::of(path.clone(), file.try_clone().map_err(failed)?);
        while let Some(record) = ledger.next_record()? {
            let line = record.n;
            replay(record).map_err(|problem| LedgerError::Damaged { path: path.clone(), line, problem })?;
        }
        file.set_len(ledger.whole).map_err(failed)?;
        Ok((LedgerWriter { path, file, count: ledger.count, line: Vec::new() }, ledger.torn))
    }

    /// Appends what one input came to, as one line with one write; nothing, if it came to nothing.
    ///
    /// # Errors
    /// If it cannot be written. The venue must stop then: what it holds in memory is ahead of its ledger.
    pub fn append(&mut self, entries: &[LedgerEntry], time: Timestamp) -> Result<(), LedgerError> {
        if entries.is_empty() {
            return Ok(());
        }
        #[derive(Serialize)]
        struct Line<'a> {
            n: u64,
            time: Timestamp,
            entries: &'a [LedgerEntry],
        }
        self.count += 1;
        self.line.clear();
        let line = Line { n: self.count, time, entries };
        let encoded = serde_json::to_writer(&mut self.line, &line).map_err(io::Error::from);
        self.line.push(b'\n');
        encoded
            .and_then(|()| self.file.write_all(&self.line))
            .map_err(|error| LedgerError::Io { path: self.path.clone(), error })
    }

    /// Lets another writer have the file; nothing is to be appended after it.
    ///
    /// # Errors
    /// If the system does not let go of the lock.
    pub fn release(&mut self) -> Result<(), LedgerError> {
        self.file.unlock().map_err(|error| LedgerError::Io { path: self.path.clone(), error })
    }

    /// How many records there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        chrono::DateTime::parse_from_rfc3339("2024-01-02T09:00:00+08:00").expect("a time")
    }

    fn entry(session: u64) -> LedgerEntry {
        LedgerEntry::SessionEnded { session: Session(session), reason: "a \"test\"\n".to_owned() }
    }

    fn write(directory: &Path, entries: &[LedgerEntry]) {
        let (mut writer, _) = LedgerWriter::open(directory, |_| Ok(())).expect("opens");
        for entry in entries {
            writer.append(std::slice::from_ref(entry), now()).expect("written");
        }
    }

    #[test]
    fn records_come_back_across_openings() {
        let directory = tempfile::tempdir().expect("a directory");
        write(directory.path(), &[entry(1), entry(2)]);
        write(directory.path(), &[entry(3)]);
        let records = Ledger::read(directory.path()).expect("read");
        let all: Vec<_> = records.iter().map(|record| (record.n, record.entries.clone())).collect();
        assert_eq!(all, [(1, vec![entry(1)]), (2, vec![entry(2)]), (3, vec![entry(3)])]);
    }

    #[test]
    fn a_line_torn_anywhere_is_cut_and_what_follows_is_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        write(directory.path(), &[entry(1), entry(2)]);
        let path = directory.path().join(LEDGER_FILE);
        let whole = std::fs::read(&path).expect("read");
        let first = whole.iter().position(|b| *b == b'\n').expect("two lines") + 1;
        for end in first..whole.len() {
            std::fs::write(&path, &whole[..end]).expect("written");
            let mut ledger = Ledger::open(directory.path()).expect("opens");
            assert_eq!(ledger.by_ref().map(|record| record.expect("whole").n).collect::<Vec<_>>(), [1]);
            assert_eq!(ledger.torn(), (end - first) as u64);
            let (mut writer, cut) = LedgerWriter::open(directory.path(), |_| Ok(())).expect("opens");
            assert_eq!((cut, writer.count()), ((end - first) as u64, 1));
            writer.append(&[entry(9)], now()).expect("written");
            drop(writer);
            let records = Ledger::read(directory.path()).expect("whole again");
            assert_eq!(records.last().map(|record| (record.n, &record.entries[..])), Some((2, &[entry(9)][..])));
        }
    }

    #[test]
    fn damage_is_told_and_nothing_is_cut() {
        let directory = tempfile::tempdir().expect("a directory");
        write(directory.path(), &[entry(1), entry(2)]);
        let path = directory.path().join(LEDGER_FILE);
        let text = std::fs::read_to_string(&path).expect("read");
        for (broken, says) in [
            (text.replacen("session_ended", "session_bended", 1), "line 1: unknown variant"),
            (text.lines().skip(1).map(|line| format!("{line}\n")).collect(), "line 1: it is numbered 2"),
            (format!("{text}garbage\n"), "line 3: expected value"),
        ] {
            std::fs::write(&path, &broken).expect("written");
            let Err(error) = LedgerWriter::open(directory.path(), |_| Ok(())) else { panic!("{says}: not noticed") };
            assert!(error.to_string().contains(says), "{error}");
            assert_eq!(std::fs::read_to_string(&path).expect("read"), broken);
        }
    }

    #[test]
    fn a_ledger_has_one_writer() {
        let directory = tempfile::tempdir().expect("a directory");
        let (_writer, _) = LedgerWriter::open(directory.path(), |_| Ok(())).expect("opens");
        let Err(error) = LedgerWriter::open(directory.path(), |_| Ok(())) else { panic!("two writers") };
        assert!(error.to_string().contains("another venue is using this ledger"), "{error}");
    }
}
