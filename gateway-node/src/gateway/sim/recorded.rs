//! Recorded ticks from CSV files, several side by side: streamed, never loaded, and every value bit for bit as written.
//!
//! A file holds one instrument, one tick a row, the columns named in its first line. Its first tick is at offset 0
//! whatever its date, so recordings that are years apart play together; a pause of more than five seconds takes five.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use chrono::{DateTime, NaiveDate};
use csv::ByteRecord;
use protocol::{InstrumentId, Level, Name, Tick, Timestamp};
use serde::Deserialize;

use super::feed::{Feed, FeedError, FeedTick, Speed};

/// Longest pause between two ticks of a file, and between the rounds of a loop.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Broken rows reported of one file; a file of nothing but broken rows must not flood whoever listens.
const MOST_REPORTED: u32 = 100;

/// Settings of recorded market data.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedConfig {
    /// CSV files, plain or gzip'd, one instrument each; relative paths start at the working directory.
    pub files: Vec<PathBuf>,
    /// Whether everything starts again, together, when the longest file has ended.
    #[serde(default, rename = "loop")]
    pub looped: bool,
    /// Stop each file after that many minutes of its own, pauses compressed; to the end, if absent.
    #[serde(default)]
    pub first_minutes: Option<f64>,
    /// How fast it is played.
    #[serde(default)]
    pub speed: Speed,
}

/// Plays recorded files, merged by offset; at the same offset in the order of the files.
pub struct RecordedFeed {
    files: Vec<Recording>,
    looped: bool,
    /// What could not be read, waiting to be told; at most [`MOST_REPORTED`] and one per file.
    problems: VecDeque<FeedError>,
    first_round: bool,
    /// Where this round's offset 0 lies.
    round_start: Duration,
    latest: Duration,
    ticks_this_round: u64,
}

impl RecordedFeed {
    /// Opens the files and reads the first tick of each.
    ///
    /// # Errors
    /// No file, one that cannot be read, lacks a column or holds no tick, or two of the same instrument.
    pub fn open(config: &RecordedConfig, gateway: &Name) -> anyhow::Result<RecordedFeed> {
        if config.files.is_empty() {
            bail!("files: a recorded feed needs at least one file of ticks");
        }
        let limit = match config.first_minutes {
            None => None,
            Some(minutes) if minutes > 0.0 => Duration::try_from_secs_f64(minutes * 60.0).ok(),
            Some(minutes) => {
                bail!("first_minutes: {minutes} must be above 0; leave it out to play the files to their end")
            }
        };
        let mut problems = VecDeque::new();
        let mut files: Vec<Recording> = Vec::with_capacity(config.files.len());
        for path in &config.files {
            let recording = Recording::open(path, gateway, limit, &mut problems)?;
            if let Some(other) = files.iter().find(|other| other.instrument == recording.instrument) {
                bail!(
                    "{} and {} both hold {}: a feed plays each instrument from one file; join them into one",
                    other.path.display(),
                    path.display(),
                    recording.instrument
                );
            }
            files.push(recording);
        }
        Ok(RecordedFeed {
            files,
            looped: config.looped,
            problems,
            first_round: true,
            round_start: Duration::ZERO,
            latest: Duration::ZERO,
            ticks_this_round: 0,
        })
    }

    /// Starts all files again, behind what was played. False if there is nothing to play.
    fn start_again(&mut self) -> bool {
        // A round without a single tick would be followed by another, for ever.
        if !self.looped || self.ticks_this_round == 0 {
            return false;
        }
        self.first_round = false;
        self.ticks_this_round = 0;
        self.round_start = self.latest.saturating_add(LONGEST_PAUSE);
        for file in &mut self.files {
            if let Err(error) = file.rewind() {
                let problem = format!("cannot be played again: {error:#}");
                self.problems.push_back(FeedError { file: file.path.clone(), line: None, field: None, problem });
            }
        }
        true
    }
}

impl Feed for RecordedFeed {
    fn next(&mut self) -> Option<Result<FeedTick, FeedError>> {
        loop {
            if let Some(problem) = self.problems.pop_front() {
                return Some(Err(problem));
            }
            // `min_by_key` takes the first of equals: the order of the files. There are few of them.
            let due = self.files.iter_mut().filter(|file| file.head.is_some()).min_by_key(|file| file.at());
            if let Some(mut next) = due.and_then(|file| file.take(&mut self.problems, self.first_round)) {
                next.at = next.at.saturating_add(self.round_start);
                self.latest = next.at;
                self.ticks_this_round += 1;
                return Some(Ok(next));
            }
            if !self.start_again() {
                return None;
            }
        }
    }

    fn instruments(&self) -> Vec<InstrumentId> {
        self.files.iter().map(|file| file.instrument.clone()).collect()
    }
}

/// One file, and the tick that it is about to give.
struct Recording {
    path: PathBuf,
    instrument: InstrumentId,
    gateway: Name,
    limit: Option<Duration>,
    head: Option<FeedTick>,
    rows: Rows,
}

impl Recording {
    fn open(
        path: &Path,
        gateway: &Name,
        limit: Option<Duration>,
        problems: &mut VecDeque<FeedError>,
    ) -> anyhow::Result<Recording> {
        let mut rows = Rows::open(path)?;
        let mut first_problem = None;
        let head = loop {
            match rows.next(None, gateway, path) {
                Some(Ok(head)) => break head,
                Some(Err(problem)) => {
                    first_problem.get_or_insert_with(|| problem.clone());
                    problems.push_back(problem);
                }
                None => match first_problem {
                    Some(problem) => bail!("no tick can be read from {}; first of all: {problem}", path.display()),
                    None => bail!("{} holds no ticks, only the names of its columns", path.display()),
                },
            }
        };
        let instrument = head.tick.instrument();
        Ok(Recording { path: path.to_owned(), instrument, gateway: gateway.clone(), limit, head: Some(head), rows })
    }

    fn at(&self) -> Option<Duration> {
        self.head.as_ref().map(|head| head.at)
    }

    /// The tick that is due; reads the one behind it.
    fn take(&mut self, problems: &mut VecDeque<FeedError>, report: bool) -> Option<FeedTick> {
        let due = self.head.take();
        self.read_head(|problem| {
            if report {
                problems.push_back(problem);
            }
        });
        due
    }

    fn read_head(&mut self, mut report: impl FnMut(FeedError)) {
        while let Some(row) = self.rows.next(Some(&self.instrument), &self.gateway, &self.path) {
            match row {
                Ok(tick) if self.limit.is_some_and(|limit| tick.at > limit) => break,
                Ok(tick) => {
                    self.head = Some(tick);
                    return;
                }
                Err(problem) => report(problem),
            }
        }
        self.head = None;
    }

    /// Back to the first tick. What was wrong with the rows was reported in the first round.
    fn rewind(&mut self) -> anyhow::Result<()> {
        self.head = None;
        self.rows = Rows::open(&self.path)?;
        self.read_head(|_| {});
        Ok(())
    }
}

/// One pass over a file.
struct Rows {
    reader: csv::Reader<Box<dyn Read + Send>>,
    columns: Columns,
    record: ByteRecord,
    at: Duration,
    last: Option<Timestamp>,
    reported: u32,
    ended: bool,
}

impl Rows {
    fn open(path: &Path) -> anyhow::Result<Rows> {
        let reading = || format!("reading ticks from {}", path.display());
        // No quoting: no column needs it, and a stray quote would swallow the rest of the file. Row lengths are
        // checked here, where the error can name the file.
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .quoting(false)
            .buffer_capacity(64 * 1024)
            .from_reader(open_plain_or_gzip(path).with_context(reading)?);
        let columns = Columns::find(reader.byte_headers().with_context(reading)?).with_context(reading)?;
        Ok(Rows {
            reader,
            columns,
            record: ByteRecord::new(),
            at: Duration::ZERO,
            last: None,
            reported: 0,
            ended: false,
        })
    }

    /// The next tick. `of` is the file's instrument once it is known.
    fn next(&mut self, of: Option<&InstrumentId>, gateway: &Name, path: &Path) -> Option<Result<FeedTick, FeedError>> {
        while !self.ended {
            let problem = match self.reader.read_byte_record(&mut self.record) {
                Ok(false) => {
                    self.ended = true;
                    break;
                }
                Ok(true) => match self.columns.tick(&self.record, of, gateway) {
                    Ok(tick) => return Some(Ok(self.place(tick))),
                    Err(problem) => problem,
                },
                // Cut off, or damaged gzip: nothing behind it can be trusted. What was read before it stands.
                Err(error) => {
                    self.ended = true;
                    Problem { field: None, text: format!("{error}; the file ends here, other files go on") }
                }
            };
            if let Some(problem) = self.report(problem, path) {
                return Some(Err(problem));
            }
        }
        None
    }

    /// When the tick is due. Time that goes backwards (a snapshot re-sent with another date) takes none.
    fn place(&mut self, tick: Tick) -> FeedTick {
        if let Some(last) = self.last {
            let pause = tick.datetime.signed_duration_since(last).to_std().unwrap_or(Duration::ZERO);
            self.at = self.at.saturating_add(pause.min(LONGEST_PAUSE));
        }
        self.last = Some(tick.datetime);
        FeedTick { at: self.at, tick }
    }

    fn report(&mut self, problem: Problem, path: &Path) -> Option<FeedError> {
        self.reported = self.reported.saturating_add(1);
        let Problem { field, mut text } = problem;
        match self.reported.cmp(&MOST_REPORTED) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => text += "; further broken rows of this file are skipped in silence",
            // That the file ends is always told.
            std::cmp::Ordering::Greater if self.ended => {}
            std::cmp::Ordering::Greater => return None,
        }
        let line =
            if self.ended { Some(self.reader.position().line()) } else { self.record.position().map(|p| p.line()) };
        Some(FeedError { file: path.to_owned(), line, field, problem: text })
    }
}

/// What is wrong with a row.
struct Problem {
    field: Option<&'static str>,
    text: String,
}

const BID_PRICES: [&str; 5] = ["bid_price_1", "bid_price_2", "bid_price_3", "bid_price_4", "bid_price_5"];
const BID_VOLUMES: [&str; 5] = ["bid_volume_1", "bid_volume_2", "bid_volume_3", "bid_volume_4", "bid_volume_5"];
const ASK_PRICES: [&str; 5] = ["ask_price_1", "ask_price_2", "ask_price_3", "ask_price_4", "ask_price_5"];
const ASK_VOLUMES: [&str; 5] = ["ask_volume_1", "ask_volume_2", "ask_volume_3", "ask_volume_4", "ask_volume_5"];

/// A column: where, and under which name.
#[derive(Clone, Copy)]
struct Column {
    index: usize,
    name: &'static str,
}

/// Where each value of a tick stands in a row.
struct Columns {
    count: usize,
    datetime: Column,
    symbol: Column,
    exchange: Column,
    last_price: Column,
    volume: Column,
    turnover: Column,
    open_interest: Column,
    limit_up: Column,
    limit_down: Column,
    open_price: Column,
    high_price: Column,
    low_price: Column,
    pre_close: Column,
    /// Price and volume of each level, best first; the second level and beyond may be missing.
    bids: Vec<(Column, Column)>,
    asks: Vec<(Column, Column)>,
    pre_settlement: Option<Column>,
    trading_day: Option<Column>,
    action_day: Option<Column>,
}

impl Columns {
    fn find(header: &ByteRecord) -> anyhow::Result<Columns> {
        if header.is_empty() {
            bail!("the file is empty: its first line must name the columns");
        }
        let optional = |name: &'static str| {
            let index = header.iter().position(|column| column.trim_ascii() == name.as_bytes())?;
            Some(Column { index, name })
        };
        let required = |name: &'static str| {
            optional(name)
                .ok_or_else(|| anyhow!("there is no column `{name}`: name it in the first line, and leave its cells empty if there are no values"))
        };
        let levels = |prices: [&'static str; 5], volumes: [&'static str; 5]| {
            let mut levels = vec![(required(prices[0])?, required(volumes[0])?)];
            for (price, volume) in prices.into_iter().zip(volumes).skip(1) {
                if optional(price).is_some() || optional(volume).is_some() {
                    levels.push((required(price)?, required(volume)?));
                }
            }
            anyhow::Ok(levels)
        };
        Ok(Columns {
            count: header.len(),
            datetime: required("datetime")?,
            symbol: required("symbol")?,
            exchange: required("exchange")?,
            last_price: required("last_price")?,
            volume: required("volume")?,
            turnover: required("turnover")?,
            open_interest: required("open_interest")?,
            limit_up: required("limit_up")?,
            limit_down: required("limit_down")?,
            open_price: required("open_price")?,
            high_price: required("high_price")?,
            low_price: required("low_price")?,
            pre_close: required("pre_close")?,
            bids: levels(BID_PRICES, BID_VOLUMES)?,
            asks: levels(ASK_PRICES, ASK_VOLUMES)?,
            pre_settlement: optional("pre_settlement"),
            trading_day: optional("trading_day"),
            action_day: optional("action_day"),
        })
    }

    fn tick(&self, row: &ByteRecord, of: Option<&InstrumentId>, gateway: &Name) -> Result<Tick, Problem> {
        if row.len() != self.count {
            let text = format!("{} columns where the first line names {}", row.len(), self.count);
            return Err(Problem { field: None, text });
        }
        let mut tick = Tick::new(gateway.clone(), self.instrument(row, of)?, self.datetime(row)?);
        tick.last_price = number(row, self.last_price)?;
        tick.volume = number(row, self.volume)?;
        tick.turnover = number(row, self.turnover)?;
        tick.open_interest = number(row, self.open_interest)?;
        tick.limit_up = number(row, self.limit_up)?;
        tick.limit_down = number(row, self.limit_down)?;
        tick.open_price = number(row, self.open_price)?;
        tick.high_price = number(row, self.high_price)?;
        tick.low_price = number(row, self.low_price)?;
        tick.pre_close = number(row, self.pre_close)?;
        for (levels, depth) in [(&self.bids, &mut tick.bids), (&self.asks, &mut tick.asks)] {
            for &(price, volume) in levels {
                // Both are looked at, so that a wrong volume is told even where there is no price.
                if let (Some(price), Some(volume)) = (number(row, price)?, number(row, volume)?) {
                    depth.push(Level(price, volume));
                }
            }
        }
        tick.pre_settlement = self.pre_settlement.map_or(Ok(None), |column| number(row, column))?;
        tick.trading_day = self.trading_day.map_or(Ok(None), |column| day(row, column))?;
        tick.action_day = self.action_day.map_or(Ok(None), |column| day(row, column))?;
        Ok(tick)
    }

    fn instrument(&self, row: &ByteRecord, of: Option<&InstrumentId>) -> Result<InstrumentId, Problem> {
        let (symbol, exchange) = (cell(row, self.symbol), cell(row, self.exchange));
        if let Some(of) = of {
            if symbol == of.symbol.as_bytes() && exchange == of.exchange.as_str().as_bytes() {
                return Ok(of.clone());
            }
            let (symbol, exchange) = (shown(symbol), shown(exchange));
            return Err(wrong(
                self.symbol,
                format!("a row of {symbol}.{exchange} in a file of {of}; a file holds one instrument"),
            ));
        }
        let Some(symbol) = std::str::from_utf8(symbol).ok().filter(|symbol| !symbol.is_empty()) else {
            return Err(wrong(self.symbol, format!("`{}` is no symbol", shown(symbol))));
        };
        match shown(exchange).parse() {
            Ok(exchange) => Ok(InstrumentId::new(symbol, exchange)),
            Err(unknown) => Err(wrong(self.exchange, unknown.to_string())),
        }
    }

    fn datetime(&self, row: &ByteRecord) -> Result<Timestamp, Problem> {
        let bytes = cell(row, self.datetime);
        std::str::from_utf8(bytes).ok().and_then(|text| DateTime::parse_from_rfc3339(text).ok()).ok_or_else(|| {
            wrong(self.datetime, format!("`{}` is no time like 2024-01-02T09:00:00.500+08:00", shown(bytes)))
        })
    }
}

fn wrong(column: Column, text: String) -> Problem {
    Problem { field: Some(column.name), text }
}

fn cell(row: &ByteRecord, column: Column) -> &[u8] {
    row.get(column.index).unwrap_or_default()
}

/// A number, bit for bit; an empty cell is no value.
fn number(row: &ByteRecord, column: Column) -> Result<Option<f64>, Problem> {
    let bytes = cell(row, column);
    if bytes.is_empty() {
        return Ok(None);
    }
    match std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<f64>().ok()) {
        // `inf`, `nan` and 1e999 parse, but no JSON can hold them.
        Some(value) if value.is_finite() => Ok(Some(value)),
        _ => Err(wrong(column, format!("`{}` is no number; leave the cell empty if there is no value", shown(bytes)))),
    }
}

fn day(row: &ByteRecord, column: Column) -> Result<Option<NaiveDate>, Problem> {
    let bytes = cell(row, column);
    if bytes.is_empty() {
        return Ok(None);
    }
    match parse_day(bytes) {
        Some(day) => Ok(Some(day)),
        None => Err(wrong(column, format!("`{}` is no day like 20240102", shown(bytes)))),
    }
}

/// A day written as `20240102`.
pub(super) fn parse_day(digits: &[u8]) -> Option<NaiveDate> {
    if digits.len() != 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |digits: &[u8]| digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    NaiveDate::from_ymd_opt(i32::try_from(number(&digits[..4])).ok()?, number(&digits[4..6]), number(&digits[6..]))
}

/// What a cell holds, for an error message: cut, and with marks where it is no UTF-8.
fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).chars().take(40).collect()
}

/// The file's text, unpacked if it begins as gzip does, whatever its name.
pub(super) fn open_plain_or_gzip(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    let mut file = BufReader::with_capacity(64 * 1024, File::open(path)?);
    if file.fill_buf()?.starts_with(&GZIP) {
        Ok(Box::new(flate2::bufread::MultiGzDecoder::new(file)))
    } else {
        Ok(Box::new(file))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const HEADER: &str = "datetime,symbol,exchange,last_price,volume,turnover,open_interest,\
        bid_price_1,bid_price_2,bid_volume_1,bid_volume_2,ask_price_1,ask_price_2,ask_volume_1,ask_volume_2,\
        limit_up,limit_down,open_price,high_price,low_price,pre_close,pre_settlement,trading_day,action_day";

    /// A file of ticks: the header, and rows filled up with empty cells.
    pub fn csv(rows: &str) -> String {
        let columns = HEADER.split(',').count();
        let mut text = format!("{HEADER}\n");
        for row in rows.lines() {
            text += row;
            text += &",".repeat(columns - row.split(',').count());
            text += "\n";
        }
        text
    }

    /// Where the recorded data is, if this machine has it.
    pub fn real_data() -> Option<PathBuf> {
        let dir = std::env::var_os("GATEMESH_DATA")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
        if dir.join("ticks").is_dir() {
            return Some(dir);
        }
        println!("skipped: no recorded data in {}; set GATEMESH_DATA to its directory", dir.display());
        None
    }
}
