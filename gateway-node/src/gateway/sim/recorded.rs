//! Recorded ticks from CSV files, several side by side: streamed, never loaded, and every value bit for bit as written.
//!
//! A file holds one instrument, one tick a row, the columns named in its first line. Its first tick is at offset 0
//! whatever its date, so recordings that are years apart play together; a pause of more than five seconds takes five.

pub(super) mod columns;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use csv::ByteRecord;
use protocol::{InstrumentId, Name, Tick, Timestamp};
use serde::Deserialize;

use self::columns::{Columns, Problem};
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
    /// What could not be read, waiting to be told; at most [`MOST_REPORTED`] of each file, and that it ended.
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
    use std::collections::HashMap;
    use std::io::Write as _;
    use std::time::Instant;

    use chrono::NaiveDate;
    use proptest::prelude::*;
    use protocol::{Exchange, Level};

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
        // Not by print: what passes is not heard.
        let _ = writeln!(
            std::io::stdout(),
            "skipped: no recorded data in {}; set GATEMESH_DATA to its directory",
            dir.display()
        );
        None
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).expect("written");
        encoder.finish().expect("finished")
    }

    struct Files(Vec<tempfile::NamedTempFile>);

    impl Files {
        fn of(contents: &[impl AsRef<[u8]>]) -> Files {
            let file = |content: &_| {
                let mut file = tempfile::NamedTempFile::new().expect("a file");
                file.write_all(AsRef::<[u8]>::as_ref(content)).expect("written");
                file
            };
            Files(contents.iter().map(file).collect())
        }

        fn config(&self) -> RecordedConfig {
            RecordedConfig { files: self.0.iter().map(|file| file.path().into()).collect(), ..Default::default() }
        }

        fn path(&self, index: usize) -> String {
            self.0[index].path().display().to_string()
        }
    }

    fn open(config: &RecordedConfig) -> anyhow::Result<RecordedFeed> {
        RecordedFeed::open(config, &"sim1".into())
    }

    fn all(config: &RecordedConfig) -> Vec<Result<FeedTick, FeedError>> {
        let mut feed = open(config).expect("opens");
        std::iter::from_fn(|| feed.next()).collect()
    }

    fn ticks(config: &RecordedConfig) -> Vec<FeedTick> {
        all(config).into_iter().map(|tick| tick.expect("no broken row")).collect()
    }

    fn refused(config: &RecordedConfig) -> String {
        let Err(error) = open(config) else { panic!("must not open") };
        format!("{error:#}")
    }

    fn offsets(ticks: &[FeedTick]) -> Vec<(&str, u128)> {
        ticks.iter().map(|tick| (tick.tick.symbol.as_str(), tick.at.as_millis())).collect()
    }

    #[test]
    fn a_row_becomes_a_tick() {
        let row = "2019-09-16T14:01:33.500+08:00,cu1909,SHFE,47800,7360,1756292000,8240,\
                   47780,47770,10,85,47820,47830,20,5,49000,46000,47810,47860,47660,47700,47710,20190917,20190916";
        let files = Files::of(&[csv(row)]);
        let tick = ticks(&files.config()).pop().expect("a tick").tick;
        let mut expected = Tick::new(
            "sim1",
            InstrumentId::new("cu1909", Exchange::SHFE),
            chrono::DateTime::parse_from_rfc3339("2019-09-16T14:01:33.500+08:00").expect("a time"),
        );
        expected.last_price = Some(47800.0);
        expected.volume = Some(7360.0);
        expected.turnover = Some(1_756_292_000.0);
        expected.open_interest = Some(8240.0);
        expected.bids = [Level(47780.0, 10.0), Level(47770.0, 85.0)].into_iter().collect();
        expected.asks = [Level(47820.0, 20.0), Level(47830.0, 5.0)].into_iter().collect();
        expected.limit_up = Some(49000.0);
        expected.limit_down = Some(46000.0);
        expected.open_price = Some(47810.0);
        expected.high_price = Some(47860.0);
        expected.low_price = Some(47660.0);
        expected.pre_close = Some(47700.0);
        expected.pre_settlement = Some(47710.0);
        expected.trading_day = NaiveDate::from_ymd_opt(2019, 9, 17);
        expected.action_day = NaiveDate::from_ymd_opt(2019, 9, 16);
        assert_eq!(tick, expected);
    }

    #[test]
    fn an_empty_cell_is_absent_and_a_level_without_price_is_none() {
        let row = "2020-07-31T19:29:00.000+08:00,AP010,CZCE,7185,0,0,148408,,,0,,,,0,,7667,6799,7169,,,7185,7233,20200803,20200731";
        let files = Files::of(&[csv(row)]);
        let tick = ticks(&files.config()).pop().expect("a tick").tick;
        assert!(tick.bids.is_empty() && tick.asks.is_empty());
        assert_eq!((tick.volume, tick.turnover), (Some(0.0), Some(0.0)), "a 0 that was recorded stays");
        assert_eq!((tick.high_price, tick.low_price, tick.open_price), (None, None, Some(7169.0)));
    }

    #[test]
    fn a_file_begins_at_0_and_long_pauses_take_five_seconds() {
        // CZCE: the log-in snapshot of the evening before, whole seconds, the last row twice.
        let files = Files::of(&[csv("2020-07-31T19:29:00+08:00,AP010,CZCE,7185,0\n\
             2020-08-03T08:59:00+08:00,AP010,CZCE,7169,419\n\
             2020-08-03T08:59:04+08:00,AP010,CZCE,7165,848\n\
             2020-08-03T14:59:59+08:00,AP010,CZCE,7165,900\n\
             2020-08-03T14:59:59+08:00,AP010,CZCE,7165,900\n")]);
        let at: Vec<_> = ticks(&files.config()).iter().map(|tick| tick.at.as_secs()).collect();
        assert_eq!(at, [0, 5, 9, 14, 14]);
    }

    #[test]
    fn time_that_goes_backwards_takes_none() {
        // CZCE SR001: a night's snapshot sent again on Monday with Monday's date, before Monday's first.
        let files = Files::of(&[csv("2019-08-30T23:29:59+08:00,SR001,CZCE,5390,297788\n\
             2019-09-02T23:29:59+08:00,SR001,CZCE,5390,297788\n\
             2019-09-02T09:00:00+08:00,SR001,CZCE,5390,297794\n\
             2019-09-02T09:00:01+08:00,SR001,CZCE,5390,297800\n")]);
        let at: Vec<_> = ticks(&files.config()).iter().map(|tick| tick.at.as_secs()).collect();
        assert_eq!(at, [0, 5, 5, 6]);
    }

    #[test]
    fn a_night_keeps_its_dates() {
        let blank = ",".repeat(15);
        let files = Files::of(&[csv(&format!(
            "2018-10-12T21:00:00.500+08:00,ru1901,SHFE,12310,22,2708200,330000{blank},20181015,20181012"
        ))]);
        let tick = ticks(&files.config()).pop().expect("a tick").tick;
        assert_eq!(tick.trading_day, NaiveDate::from_ymd_opt(2018, 10, 15));
        assert_eq!(tick.action_day, NaiveDate::from_ymd_opt(2018, 10, 12));
        assert_eq!(tick.datetime.to_rfc3339(), "2018-10-12T21:00:00.500+08:00");
    }

    #[test]
    fn files_of_different_years_play_side_by_side() {
        let files = Files::of(&[
            csv("2018-10-08T09:00:00.500+08:00,ru1901,SHFE,1\n2018-10-08T09:00:01.500+08:00,ru1901,SHFE,2\n"),
            csv(
                "2020-08-03T09:00:00+08:00,AP010,CZCE,1\n2020-08-03T09:00:01+08:00,AP010,CZCE,2\n2020-08-03T09:00:02+08:00,AP010,CZCE,3",
            ),
        ]);
        let expected = [("ru1901", 0), ("AP010", 0), ("ru1901", 1000), ("AP010", 1000), ("AP010", 2000)];
        assert_eq!(offsets(&ticks(&files.config())), expected);
        let instruments = open(&files.config()).expect("opens").instruments();
        assert_eq!(instruments.iter().map(ToString::to_string).collect::<Vec<_>>(), ["ru1901.SHFE", "AP010.CZCE"]);
    }

    #[test]
    fn a_loop_starts_all_files_again_when_the_longest_has_ended() {
        let files = Files::of(&[
            csv("2018-10-08T09:00:00+08:00,ru1901,SHFE,1\n2018-10-08T09:00:01+08:00,ru1901,SHFE,2\n"),
            csv("2020-08-03T09:00:00+08:00,AP010,CZCE,1\nbroken\n"),
        ]);
        let config = RecordedConfig { looped: true, ..files.config() };
        let mut feed = open(&config).expect("opens");
        let played: Vec<_> = std::iter::from_fn(|| feed.next()).take(10).collect();
        assert_eq!(
            played.iter().filter(|tick| tick.is_err()).count(),
            1,
            "a broken row is told in the first round only"
        );
        let played: Vec<_> = played.into_iter().filter_map(Result::ok).collect();
        let round = |start| [("ru1901", start), ("AP010", start), ("ru1901", start + 1000)];
        let expected: Vec<_> = [round(0), round(6000), round(12_000)].concat();
        assert_eq!(offsets(&played), expected);
    }

    #[test]
    fn a_loop_over_files_that_are_gone_ends() {
        let files = Files::of(&[csv("2018-10-08T09:00:00+08:00,ru1901,SHFE,1\n")]);
        let mut feed = open(&RecordedConfig { looped: true, ..files.config() }).expect("opens");
        let path = files.path(0);
        assert!(feed.next().expect("a tick").is_ok());
        drop(files);
        let error = feed.next().expect("told").expect_err("gone").to_string();
        assert!(error.contains(&path), "{error}");
        assert_eq!(feed.next(), None);
        assert_eq!(feed.next(), None);
    }

    #[test]
    fn first_minutes_stop_each_file_at_its_own_time() {
        let row = |symbol: &str, second: u32| {
            format!("2020-08-03T09:{:02}:{:02}+08:00,{symbol},CZCE,1\n", second / 60, second % 60)
        };
        let rows = |symbol: &str, step: u32| csv(&(0..100).map(|n| row(symbol, n * step)).collect::<String>());
        let files = Files::of(&[rows("AP010", 1), rows("SR001", 2)]);
        let played = ticks(&RecordedConfig { first_minutes: Some(0.5), ..files.config() });
        assert_eq!(played.iter().filter(|tick| tick.tick.symbol == "AP010").count(), 31);
        assert_eq!(played.iter().filter(|tick| tick.tick.symbol == "SR001").count(), 16);
        assert_eq!(played.iter().map(|tick| tick.at.as_secs()).max(), Some(30));
    }

    #[test]
    fn a_broken_row_is_told_and_skipped() {
        let good = "2020-08-03T09:00:00+08:00,AP010,CZCE,1,2";
        for (bad, field, word) in [
            ("2020-08-03T09:00:00+08:00,AP010,CZCE,abc,2", "last_price", "`abc`"),
            ("2020-08-03T09:00:00+08:00,AP010,CZCE,NaN,2", "last_price", "`NaN`"),
            ("2020-08-03T09:00:00+08:00,AP010,CZCE,1,inf", "volume", "`inf`"),
            ("2020-08-03T09:00:00+08:00,AP010,CZCE,1,1e999", "volume", "`1e999`"),
            ("2020-08-03T09:00:00+08:00,AP010,CZCE,1,2,3,4,5,,x", "bid_volume_1", "`x`"),
            ("2020-08-03 09:00:00,AP010,CZCE,1,2", "datetime", "2024-01-02T09:00:00.500+08:00"),
            (",AP010,CZCE,1,2", "datetime", "``"),
            ("2020-08-03T09:00:00+08:00,AP011,CZCE,1,2", "symbol", "AP011.CZCE in a file of AP010.CZCE"),
            ("2020-08-03T09:00:00+08:00,AP010,SHFE,1,2", "symbol", "one instrument"),
        ] {
            let files = Files::of(&[csv(&format!("{good}\n{bad}\n{good}\n"))]);
            let played = all(&files.config());
            assert_eq!(played.iter().filter(|tick| tick.is_ok()).count(), 2, "{bad}");
            let error = played.into_iter().find_map(Result::err).expect("told");
            assert_eq!((error.line, error.field), (Some(3), Some(field)), "{error}");
            let text = error.to_string();
            assert!(text.contains(&files.path(0)) && text.contains(word), "{text}");
        }
    }

    #[test]
    fn rows_of_another_length_and_other_bytes_are_told() {
        let good = "2020-08-03T09:00:00+08:00,AP010,CZCE,1";
        let mut bytes = csv(good).into_bytes();
        bytes.extend_from_slice(b"2020-08-03T09:00:01+08:00,AP010,CZCE\n");
        bytes.extend_from_slice(&csv("2020-08-03T09:00:02+08:00,AP010,CZCE,\u{3a9}").into_bytes()[HEADER.len() + 1..]);
        bytes.extend_from_slice(b"2020-08-03T09:00:02+08:00,AP\xff\xfe,CZCE,1");
        bytes.extend_from_slice(&vec![b','; HEADER.split(',').count() - 4]);
        let files = Files::of(&[bytes]);
        let errors: Vec<_> = all(&files.config()).into_iter().filter_map(Result::err).map(|e| e.to_string()).collect();
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(errors[0].contains("line 3: 3 columns where the first line names 24"), "{}", errors[0]);
        assert!(errors[1].contains("line 4, column `last_price`"), "{}", errors[1]);
        assert!(errors[2].contains("line 5, column `symbol`"), "{}", errors[2]);
    }

    #[test]
    fn a_quote_does_not_swallow_the_rest() {
        let files = Files::of(&[csv(
            "2020-08-03T09:00:00+08:00,AP010,CZCE,1\n\"2020-08-03T09:00:01+08:00,AP010,CZCE,2\n2020-08-03T09:00:02+08:00,AP010,CZCE,3",
        )]);
        let played = all(&files.config());
        assert_eq!(played.iter().filter(|tick| tick.is_ok()).count(), 2);
        assert_eq!(played.iter().filter(|tick| tick.is_err()).count(), 1);
    }

    #[test]
    fn a_flood_of_broken_rows_is_cut() {
        let good = "2020-08-03T09:00:00+08:00,AP010,CZCE,1\n";
        let files = Files::of(&[csv(good) + &"broken\n".repeat(1000) + &csv(good)[HEADER.len() + 1..]]);
        let played = all(&files.config());
        assert_eq!(played.iter().filter(|tick| tick.is_ok()).count(), 2);
        let errors: Vec<_> = played.into_iter().filter_map(Result::err).collect();
        assert_eq!(errors.len(), 100);
        assert!(errors[99].problem.contains("in silence"), "{}", errors[99]);
    }

    #[test]
    fn a_truncated_gzip_ends_its_file_and_the_others_go_on() {
        let rows = |symbol: &str| {
            let rows: String = (0..5000)
                .map(|n| {
                    format!("2020-08-03T{:02}:{:02}:{:02}+08:00,{symbol},CZCE,{n}\n", 9 + n / 3600, n / 60 % 60, n % 60)
                })
                .collect();
            csv(&rows)
        };
        let mut cut = gzip(&rows("AP010"));
        cut.truncate(cut.len() / 2);
        let files = Files::of(&[cut, gzip(&rows("SR001"))]);
        let played = all(&files.config());
        let errors: Vec<_> = played.iter().filter_map(|tick| tick.as_ref().err()).collect();
        assert_eq!(errors.len(), 1);
        assert!(errors[0].to_string().contains(&files.path(0)), "{}", errors[0]);
        assert!(errors[0].line > Some(100), "{}", errors[0]);
        let count = |symbol: &str| played.iter().flatten().filter(|tick| tick.tick.symbol == symbol).count();
        assert!((100..5000).contains(&count("AP010")), "what was read before stands");
        assert_eq!(count("SR001"), 5000);
    }

    #[test]
    fn columns_are_found_by_name_and_others_ignored() {
        let text = format!("\u{feff}mine,{HEADER}\r\nx,2020-08-03T09:00:00+08:00,AP010,CZCE,1{}\r\n", ",".repeat(20));
        let files = Files::of(&[text]);
        assert_eq!(ticks(&files.config())[0].tick.last_price, Some(1.0), "a byte order mark and CRLF do no harm");
    }

    #[test]
    fn what_cannot_be_played_is_refused_at_the_start() {
        let error = refused(&RecordedConfig::default());
        assert!(error.contains("files: a recorded feed needs at least one"), "{error}");
        let error = refused(&RecordedConfig { files: vec!["/nonexistent/t.csv".into()], ..Default::default() });
        assert!(error.contains("/nonexistent/t.csv"), "{error}");

        let refused_content = |content: &[u8]| {
            let files = Files::of(&[content]);
            let error = refused(&files.config());
            assert!(error.contains(&files.path(0)), "{error}");
            error
        };
        assert!(refused_content(b"").contains("is empty"));
        assert!(refused_content(&gzip("")).contains("is empty"));
        assert!(refused_content(&[0x1f, 0x8b]).contains("reading ticks"));
        assert!(refused_content(csv("").as_bytes()).contains("holds no ticks"));
        assert!(refused_content(csv("broken").as_bytes()).contains("line 2"));
        assert!(refused_content(HEADER.replace("ask_volume_1", "x").as_bytes()).contains("no column `ask_volume_1`"));
        assert!(refused_content(HEADER.replace("turnover", "turnovr").as_bytes()).contains("no column `turnover`"));
        assert!(refused_content(HEADER.replace("bid_volume_2", "x").as_bytes()).contains("no column `bid_volume_2`"));

        let row = csv("2020-08-03T09:00:00+08:00,AP010,CZCE,1");
        let files = Files::of(&[&row, &row]);
        let error = refused(&files.config());
        assert!(error.contains("both hold AP010.CZCE"), "{error}");
        let files = Files::of(&[&row]);
        for bad in [0.0, -1.0, f64::NAN] {
            let error = refused(&RecordedConfig { first_minutes: Some(bad), ..files.config() });
            assert!(error.starts_with("first_minutes: "), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000), kind in 0..3) {
            let good = "2020-08-03T09:00:00+08:00,AP010,CZCE,1";
            let mut content = match kind { 0 => Vec::new(), 1 => csv(good).into_bytes(), _ => vec![0x1f, 0x8b] };
            content.extend(bytes);
            let files = Files::of(&[content]);
            if let Ok(mut feed) = open(&RecordedConfig { looped: true, ..files.config() }) {
                let mut at = Duration::ZERO;
                for tick in std::iter::from_fn(|| feed.next()).take(500).flatten() {
                    prop_assert!(tick.at >= at, "offsets never decrease");
                    at = tick.at;
                }
            }
        }

        #[test]
        fn no_cells_make_it_panic(rows in proptest::collection::vec("[-+0-9.:TZeinfa,\"]{0,60}", 0..40)) {
            let good = "2020-08-03T09:00:00+08:00,AP010,CZCE,1\n";
            let rows: String = rows.iter().map(|row| format!("2020-08-03T09:00:00+08:00,AP010,CZCE,{row}\n")).collect();
            let files = Files::of(&[csv(good) + &rows]);
            let played = all(&files.config());
            prop_assert!(played[0].is_ok());
        }

        #[test]
        fn every_float_arrives_bit_for_bit(price in any::<f64>().prop_filter("a number", |price| price.is_finite())) {
            let files = Files::of(&[csv(&format!("2020-08-03T09:00:00+08:00,AP010,CZCE,{price}"))]);
            let read = ticks(&files.config())[0].tick.last_price.expect("given");
            prop_assert_eq!(read.to_bits(), price.to_bits());
        }
    }

    /// Plays a real file and compares every cell with its text. Gives the ticks.
    fn compared(file: &Path) -> Vec<FeedTick> {
        let started = Instant::now();
        let played = ticks(&RecordedConfig { files: vec![file.into()], ..Default::default() });
        println!("{}: {} ticks in {:?}", file.display(), played.len(), started.elapsed());
        let mut text = String::new();
        open_plain_or_gzip(file).expect("opens").read_to_string(&mut text).expect("text");
        let mut lines = text.lines();
        let header: Vec<_> = lines.next().expect("a header").split(',').collect();
        let mut played_rows = played.iter();
        for line in lines {
            let row: HashMap<&str, &str> = header.iter().copied().zip(line.split(',')).collect();
            let tick = &played_rows.next().expect("a tick a row").tick;
            let number = |name: &str| row[name].parse::<f64>().ok();
            let same = |name: &str, value: Option<f64>| {
                assert_eq!(value.map(f64::to_bits), number(name).map(f64::to_bits), "{name} in {line}");
            };
            for (name, value) in [
                ("last_price", tick.last_price),
                ("volume", tick.volume),
                ("turnover", tick.turnover),
                ("open_interest", tick.open_interest),
                ("limit_up", tick.limit_up),
                ("limit_down", tick.limit_down),
                ("open_price", tick.open_price),
                ("high_price", tick.high_price),
                ("low_price", tick.low_price),
                ("pre_close", tick.pre_close),
                ("pre_settlement", tick.pre_settlement),
            ] {
                same(name, value);
            }
            for (side, depth) in [("bid", &tick.bids), ("ask", &tick.asks)] {
                let level =
                    |n| Some(Level(number(&format!("{side}_price_{n}"))?, number(&format!("{side}_volume_{n}"))?));
                let expected: Vec<_> = (1..=5).filter_map(level).collect();
                assert_eq!(depth.as_slice(), expected, "{line}");
            }
            let day = |day: Option<NaiveDate>| day.map(|day| day.format("%Y%m%d").to_string()).unwrap_or_default();
            assert_eq!(
                (day(tick.trading_day).as_str(), day(tick.action_day).as_str()),
                (row["trading_day"], row["action_day"])
            );
            assert_eq!(tick.datetime.to_rfc3339_opts(chrono::SecondsFormat::Millis, false), row["datetime"]);
            assert_eq!((tick.symbol.as_str(), tick.exchange.as_str()), (row["symbol"], row["exchange"]));
        }
        assert_eq!(played_rows.len(), 0);
        played
    }

    #[test]
    fn the_real_files_arrive_bit_for_bit_and_their_bars_add_up() {
        let Some(dir) = real_data() else { return };
        for (name, rows, exact) in [
            ("shfe_ru1901_20181008_20181012", 192_164, true),
            ("czce_AP010_20200803_20200814", 126_034, true),
            ("cffex_IF2101_20210104_20210106", 84_347, true),
            ("shfe_cu1909_20190916_5level", 200, false),
        ] {
            let file = dir.join("ticks").join(format!("{name}.ticks.csv.gz"));
            let played = compared(&file);
            assert_eq!(played.len(), rows, "{name}");
            assert!(played.windows(2).all(|pair| pair[0].at <= pair[1].at && pair[1].at - pair[0].at <= LONGEST_PAUSE));
            bars_add_up(&played, exact);
        }
    }

    /// Every day's bars hold the day's volume; the first day's all but what its first tick counted.
    fn bars_add_up(played: &[FeedTick], has_trading_days: bool) {
        use protocol::{HistoryRequest, Interval};
        let mut bars = super::super::bars::Bars::default();
        played.iter().for_each(|tick| bars.on_tick(&tick.tick));
        let first = &played[0].tick;
        let mut days: Vec<(NaiveDate, f64, Option<f64>, Option<f64>)> = Vec::new();
        for tick in played.iter().map(|tick| &tick.tick) {
            let day = tick.trading_day.unwrap_or(tick.datetime.date_naive());
            let last = (day, tick.volume.expect("given"), tick.high_price, tick.low_price);
            match days.last_mut() {
                Some(known) if known.0 == day => *known = last,
                _ => days.push(last),
            }
        }
        let total: f64 = days.iter().map(|day| day.1).sum::<f64>() - first.volume.expect("given");
        for interval in [Interval::Minute, Interval::Hour, Interval::Daily] {
            let request = HistoryRequest {
                symbol: first.symbol.clone(),
                exchange: first.exchange,
                start: first.datetime - chrono::TimeDelta::days(2),
                end: None,
                interval: Some(interval),
            };
            let built = bars.query(&request, &"sim1".into()).expect("kept");
            assert_eq!(built.iter().map(|bar| bar.volume).sum::<f64>(), total, "{interval} of {}", first.symbol);
            assert!(built.windows(2).all(|pair| pair[0].datetime < pair[1].datetime), "in order, no two of a time");
            assert!(built.iter().all(|bar| bar.low_price <= bar.open_price.min(bar.close_price)));
            assert!(built.iter().all(|bar| bar.high_price >= bar.open_price.max(bar.close_price)));
            if interval == Interval::Daily && has_trading_days {
                let expected: Vec<_> = days.iter().skip(1).copied().collect();
                let found: Vec<_> = built
                    .iter()
                    .skip(1)
                    .map(|bar| (bar.datetime.date_naive(), bar.volume, Some(bar.high_price), Some(bar.low_price)))
                    .collect();
                assert_eq!(found, expected, "the days of {}", first.symbol);
            }
        }
    }
}
