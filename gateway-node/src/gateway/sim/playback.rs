//! Paces a feed: which tick is due by now, and when the next one will be. Time comes as an argument.

use std::time::{Duration, Instant};

use protocol::{LogLevel, Tick};

use super::feed::{Feed, FeedTick, Speed};
use crate::gateway::VenueEvent;

/// Broken rows that are told one by one; more are only counted.
const TOLD: u64 = 20;
/// Broken rows to pass over in one go, so that a file full of them does not keep commands waiting.
const SKIPPED_AT_ONCE: usize = 1000;

pub(super) struct Playback {
    feed: Box<dyn Feed>,
    speed: Speed,
    started: Option<Instant>,
    next: Option<FeedTick>,
    ended: bool,
    broken: u64,
}

impl Playback {
    pub(super) fn new(feed: Box<dyn Feed>, speed: Speed) -> Self {
        Playback { feed, speed, started: None, next: None, ended: false, broken: 0 }
    }

    /// Starts the feed's clock; once it runs, it runs.
    pub(super) fn start(&mut self, now: Instant) {
        self.started.get_or_insert(now);
    }

    /// Whether the feed goes as fast as its ticks are taken.
    pub(super) fn is_unpaced(&self) -> bool {
        self.speed == Speed::Max
    }

    /// When there will be something to do; `None` if never (again).
    pub(super) fn next_due(&self) -> Option<Instant> {
        let started = self.started.filter(|_| !self.ended)?;
        match &self.next {
            None => Some(started),
            Some(next) => started.checked_add(self.speed.due(next.at)),
        }
    }

    /// The next tick, if it is due. Broken rows and the end of the feed are told in `out`.
    pub(super) fn take_due(&mut self, now: Instant, out: &mut Vec<VenueEvent>) -> Option<Tick> {
        self.started?;
        for _ in 0..SKIPPED_AT_ONCE {
            if self.next.is_some() || self.ended {
                break;
            }
            self.fetch(out);
        }
        if self.next_due()? > now {
            return None;
        }
        self.next.take().map(|next| next.tick)
    }

    fn fetch(&mut self, out: &mut Vec<VenueEvent>) {
        let mut log = |level, message| out.push(VenueEvent::Log { level, message });
        match self.feed.next() {
            Some(Ok(next)) => self.next = Some(next),
            Some(Err(error)) => {
                self.broken += 1;
                if self.broken <= TOLD {
                    log(LogLevel::Warning, format!("no tick from a broken row: {error}"));
                }
                if self.broken == TOLD {
                    log(LogLevel::Warning, "further broken rows are only counted".to_owned());
                }
            }
            None => {
                self.ended = true;
                let broken = match self.broken {
                    0 => String::new(),
                    broken => format!("; {broken} broken rows gave no tick"),
                };
                log(LogLevel::Info, format!("feed ended{broken}"));
            }
        }
    }

    /// How long until `next_due`, at most `longest`.
    pub(super) fn wait(&self, now: Instant, longest: Duration) -> Duration {
        self.next_due().map_or(longest, |due| due.saturating_duration_since(now).min(longest))
    }
}

#[cfg(test)]
mod tests {
    use super::super::feed::FeedError;
    use super::*;
    use protocol::{Exchange, InstrumentId};

    struct Script(std::vec::IntoIter<Result<FeedTick, FeedError>>);

    impl Feed for Script {
        fn next(&mut self) -> Option<Result<FeedTick, FeedError>> {
            self.0.next()
        }
        fn instruments(&self) -> Vec<InstrumentId> {
            Vec::new()
        }
    }

    fn tick(seconds: u64) -> Result<FeedTick, FeedError> {
        let time = chrono::DateTime::parse_from_rfc3339("2024-01-02T09:00:00+08:00").expect("a time");
        let tick = Tick::new("sim1", InstrumentId::new("x", Exchange::SHFE), time);
        Ok(FeedTick { at: Duration::from_secs(seconds), tick })
    }

    fn broken() -> Result<FeedTick, FeedError> {
        Err(FeedError { file: "a.csv".into(), line: Some(2), field: None, problem: "cut off".to_owned() })
    }

    fn playback(speed: Speed, rows: Vec<Result<FeedTick, FeedError>>) -> Playback {
        Playback::new(Box::new(Script(rows.into_iter())), speed)
    }

    #[test]
    fn ticks_are_due_by_their_offset_and_the_speed() {
        let start = Instant::now();
        let mut playback = playback(Speed::Times(10.0), vec![tick(0), tick(20)]);
        assert!(playback.take_due(start, &mut Vec::new()).is_none() && playback.next_due().is_none(), "not started");
        playback.start(start);
        playback.start(start + Duration::from_secs(9));
        assert!(playback.take_due(start, &mut Vec::new()).is_some());
        assert!(playback.take_due(start, &mut Vec::new()).is_none());
        assert_eq!(playback.wait(start, Duration::MAX), Duration::from_secs(2));
        assert_eq!(playback.wait(start, Duration::from_secs(1)), Duration::from_secs(1));
        assert!(playback.take_due(start + Duration::from_secs(2), &mut Vec::new()).is_some());
    }

    #[test]
    fn broken_rows_are_told_and_passed_over() {
        let mut playback = playback(Speed::Max, vec![broken(), broken(), tick(0), broken()]);
        let start = Instant::now();
        playback.start(start);
        let mut out = Vec::new();
        assert!(playback.take_due(start, &mut out).is_some());
        assert!(playback.take_due(start, &mut out).is_none());
        let lines: Vec<_> = out.iter().map(|event| format!("{event:?}")).collect();
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(lines[0].contains("a.csv, line 2: cut off"));
        assert!(lines[3].contains("feed ended; 3 broken rows"));
        assert!(playback.next_due().is_none());
    }

    #[test]
    fn a_file_full_of_broken_rows_neither_floods_nor_blocks() {
        let rows = (0..5000).map(|_| broken()).chain([tick(0)]).collect();
        let mut playback = playback(Speed::Max, rows);
        let start = Instant::now();
        playback.start(start);
        let mut out = Vec::new();
        let mut rounds = 1;
        while playback.take_due(start, &mut out).is_none() {
            assert!(playback.next_due().is_some_and(|due| due <= start), "there is more to look at");
            rounds += 1;
        }
        assert_eq!((rounds, out.len()), (6, 21));
    }
}
