//! Bars of the simulated venue, built from its ticks: what `query_history` answers from.
//!
//! A bar takes what a tick adds to the day's cumulative values. The first tick ever of an instrument adds nothing: what
//! it counts was traded before anyone looked. The first tick of a trading day adds all that it counts, and the day's
//! open, high and low with it. A feed that goes back in time (a replay that loops) drops the bars that would then lie
//! in the future, so that history never knows more than the venue's clock.

use std::collections::{HashMap, VecDeque};

use chrono::{NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone as _, Timelike as _};
use protocol::{Bar, HistoryRequest, InstrumentId, Interval, Name, Tick, Timestamp};

/// Bars kept of each instrument and interval; the oldest is dropped for a newer one.
const KEPT: usize = 20_000;

/// A tick that is older than the newest by no more than this is late; one that is older still means that the feed went
/// back in time.
const LATE: TimeDelta = TimeDelta::seconds(5);

/// The bars of every instrument seen.
#[derive(Debug, Default)]
pub struct Bars {
    by_instrument: HashMap<InstrumentId, Series>,
}

impl Bars {
    /// Adds a tick to the bars being built. Ticks without a last price, and those of a day in which nothing has traded
    /// yet (they repeat yesterday's price), make no bar.
    pub fn on_tick(&mut self, tick: &Tick) {
        self.by_instrument.entry(tick.instrument()).or_default().on_tick(tick);
    }

    /// The bars that begin from `start` to `end`, both included, oldest first; the one being built is among them.
    ///
    /// # Errors
    /// An interval that is not kept, or an end before the start; for people.
    pub fn query(&self, request: &HistoryRequest, gateway: &Name) -> Result<Vec<Bar>, String> {
        let interval = request.interval.unwrap_or(Interval::Minute);
        if let Some(end) = request.end.filter(|end| *end < request.start) {
            return Err(format!("end: {end} is before start {}", request.start));
        }
        let empty = Series::default();
        let series = self.by_instrument.get(&request.instrument()).unwrap_or(&empty);
        let built = &series.track(interval)?.0;
        let first = built.partition_point(|bar| bar.start < request.start);
        let behind = request.end.map_or(built.len(), |end| built.partition_point(|bar| bar.start <= end));
        Ok(built.range(first..behind).map(|bar| bar.of(request, interval, gateway)).collect())
    }
}

/// One instrument's bars, and what was last seen of it.
#[derive(Debug, Default)]
struct Series {
    seen: Option<Seen>,
    minute: Track,
    hour: Track,
    daily: Track,
}

/// The cumulative values as last seen.
#[derive(Debug, Clone, Copy)]
struct Seen {
    datetime: Timestamp,
    trading_day: Option<NaiveDate>,
    volume: Option<f64>,
    /// The highest of the day: CZCE rounds its turnover such that it falls now and then.
    turnover: Option<f64>,
    high: Option<f64>,
    low: Option<f64>,
}

/// How a tick relates to what was seen before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The first of its instrument, or the first after a replay began again.
    First,
    /// The first of a trading day in which something has traded: its cumulative values count from 0.
    NewDay,
    /// Later in the same day.
    Same,
    /// Later in the same day although its time is earlier: the time of the tick before was wrong.
    SameEarlier,
    /// Nothing new: overtaken by the tick before it, or the state of a night session sent again under the next trading
    /// day (CZCE).
    Stale,
}

impl Series {
    fn track(&self, interval: Interval) -> Result<&Track, String> {
        match interval {
            Interval::Minute => Ok(&self.minute),
            Interval::Hour => Ok(&self.hour),
            Interval::Daily => Ok(&self.daily),
            Interval::Weekly | Interval::Tick => {
                Err(format!("interval: the simulated venue keeps no {interval} bars; ask for MINUTE, HOUR or DAILY"))
            }
        }
    }

    fn on_tick(&mut self, tick: &Tick) {
        let Some(price) = tick.last_price.filter(|price| price.is_finite()) else { return };
        let step = step(self.seen.as_ref(), tick);
        if step == Step::Stale {
            if let Some(seen) = &mut self.seen {
                seen.trading_day = tick.trading_day.or(seen.trading_day);
            }
            return;
        }
        let before = self.seen.filter(|_| step != Step::First && step != Step::NewDay);
        self.seen = Some(seen(before.as_ref(), tick));
        let starts = Starts::of(tick);
        match step {
            Step::First => self.forget(&starts, |start, of_tick| start >= of_tick),
            Step::SameEarlier => self.forget(&starts, |start, of_tick| start > of_tick),
            Step::NewDay | Step::Same | Step::Stale => {}
        }
        if tick.volume == Some(0.0) {
            return;
        }
        let share = share(step, before.as_ref(), tick, price);
        self.minute.add(starts.minute, &share);
        self.hour.add(starts.hour, &share);
        self.daily.add(starts.daily, &share);
    }

    fn forget(&mut self, starts: &Starts, beyond: impl Fn(Timestamp, Timestamp) -> bool) {
        let tracks =
            [(&mut self.minute, starts.minute), (&mut self.hour, starts.hour), (&mut self.daily, starts.daily)];
        for (track, start) in tracks {
            while track.0.back().is_some_and(|bar| beyond(bar.start, start)) {
                track.0.pop_back();
            }
        }
    }
}

fn step(seen: Option<&Seen>, tick: &Tick) -> Step {
    let Some(seen) = seen else { return Step::First };
    let volumes = seen.volume.zip(tick.volume);
    let fell = volumes.is_some_and(|(before, now)| now < before);
    let other_day = seen.trading_day.zip(tick.trading_day).is_some_and(|(before, now)| before != now);
    let behind = seen.datetime.signed_duration_since(tick.datetime);
    if behind > LATE {
        let goes_on = volumes.is_some() && !fell && !other_day;
        return if goes_on { Step::SameEarlier } else { Step::First };
    }
    let began = volumes.is_some_and(|(before, now)| before == 0.0 && now > 0.0);
    let unchanged = volumes.is_some_and(|(before, now)| before > 0.0 && now.to_bits() == before.to_bits());
    match (other_day, fell) {
        (true, _) if unchanged => Step::Stale,
        (false, true) if behind > TimeDelta::zero() => Step::Stale,
        (true, _) | (_, true) => Step::NewDay,
        (false, false) if began => Step::NewDay,
        (false, false) => Step::Same,
    }
}

/// What is known after the tick; `before` only where it belongs to the same day.
fn seen(before: Option<&Seen>, tick: &Tick) -> Seen {
    let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
    let turnover = finite(tick.turnover);
    let highest = before.and_then(|before| before.turnover);
    Seen {
        datetime: before.map_or(tick.datetime, |before| {
            // A late tick must not make the next one look early, a wrong one must not make all others look late.
            if before.datetime.signed_duration_since(tick.datetime) > LATE {
                tick.datetime
            } else {
                before.datetime.max(tick.datetime)
            }
        }),
        trading_day: tick.trading_day.or(before.and_then(|before| before.trading_day)),
        volume: finite(tick.volume).or(before.and_then(|before| before.volume)),
        turnover: turnover.zip(highest).map(|(now, before)| now.max(before)).or(turnover).or(highest),
        high: finite(tick.high_price).or(before.and_then(|before| before.high)),
        low: finite(tick.low_price).or(before.and_then(|before| before.low)),
    }
}

/// What a tick adds to a bar.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Share {
    open: f64,
    high: f64,
    low: f64,
    close: f64,
    volume: f64,
    turnover: f64,
    open_interest: Option<f64>,
}

fn share(step: Step, before: Option<&Seen>, tick: &Tick, price: f64) -> Share {
    let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
    let (volume, turnover) = (finite(tick.volume), finite(tick.turnover));
    let mut share = Share {
        open: price,
        high: price,
        low: price,
        close: price,
        volume: 0.0,
        turnover: 0.0,
        open_interest: finite(tick.open_interest),
    };
    let (mut new_high, mut new_low) = (None, None);
    match (step, before) {
        (Step::NewDay, _) => {
            share.open = finite(tick.open_price).unwrap_or(price);
            (new_high, new_low) = (finite(tick.high_price), finite(tick.low_price));
            share.volume = volume.unwrap_or(0.0).max(0.0);
            share.turnover = turnover.unwrap_or(0.0).max(0.0);
        }
        (_, Some(before)) => {
            // An extreme between two ticks shows only in the day's high and low.
            new_high = finite(tick.high_price).filter(|high| before.high.is_some_and(|before| *high > before));
            new_low = finite(tick.low_price).filter(|low| before.low.is_some_and(|before| *low < before));
            share.volume = volume.zip(before.volume).map_or(0.0, |(now, before)| (now - before).max(0.0));
            share.turnover = turnover.zip(before.turnover).map_or(0.0, |(now, before)| (now - before).max(0.0));
        }
        (_, None) => {}
    }
    share.high = share.high.max(share.open).max(new_high.unwrap_or(price));
    share.low = share.low.min(share.open).min(new_low.unwrap_or(price));
    share
}

/// Where the bars begin that a tick belongs to, in the venue's offset.
struct Starts {
    minute: Timestamp,
    hour: Timestamp,
    daily: Timestamp,
}

impl Starts {
    fn of(tick: &Tick) -> Starts {
        let local = tick.datetime.naive_local();
        let hour = NaiveTime::from_hms_opt(local.hour(), 0, 0).unwrap_or_default();
        let minute = NaiveTime::from_hms_opt(local.hour(), local.minute(), 0).unwrap_or_default();
        // A fixed offset has every local time once; only the very ends of the calendar have none.
        let at = |naive: NaiveDateTime| tick.datetime.offset().from_local_datetime(&naive).single();
        let at = |day: NaiveDate, time| at(day.and_time(time)).unwrap_or(tick.datetime);
        Starts {
            minute: at(local.date(), minute),
            hour: at(local.date(), hour),
            daily: at(tick.trading_day.unwrap_or(local.date()), NaiveTime::MIN),
        }
    }
}

/// The bars of one interval, oldest first; the last one is being built.
#[derive(Debug, Default)]
struct Track(VecDeque<Built>);

#[derive(Debug, Clone, Copy)]
struct Built {
    start: Timestamp,
    open: f64,
    high: f64,
    low: f64,
    close: f64,
    volume: f64,
    turnover: f64,
    open_interest: f64,
}

impl Track {
    fn add(&mut self, start: Timestamp, share: &Share) {
        match self.0.back_mut() {
            // A late tick's own bar is closed; what it adds must not be lost.
            Some(bar) if bar.start >= start => {
                bar.high = bar.high.max(share.high);
                bar.low = bar.low.min(share.low);
                bar.close = share.close;
                bar.volume += share.volume;
                bar.turnover += share.turnover;
                bar.open_interest = share.open_interest.unwrap_or(bar.open_interest);
            }
            last => {
                let before = last.map_or(0.0, |bar| bar.open_interest);
                if self.0.len() == KEPT {
                    self.0.pop_front();
                }
                self.0.push_back(Built {
                    start,
                    open: share.open,
                    high: share.high,
                    low: share.low,
                    close: share.close,
                    volume: share.volume,
                    turnover: share.turnover,
                    open_interest: share.open_interest.unwrap_or(before),
                });
            }
        }
    }
}

impl Built {
    fn of(&self, request: &HistoryRequest, interval: Interval, gateway: &Name) -> Bar {
        Bar {
            gateway_name: gateway.clone(),
            symbol: request.symbol.clone(),
            exchange: request.exchange,
            datetime: self.start,
            interval: Some(interval),
            volume: self.volume,
            turnover: self.turnover,
            open_interest: self.open_interest,
            open_price: self.open,
            high_price: self.high,
            low_price: self.low,
            close_price: self.close,
            extra: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Exchange, Tick};

    fn at(text: &str) -> Timestamp {
        chrono::DateTime::parse_from_rfc3339(text).expect("a time")
    }

    /// A tick of an evening or a day in October 2018: `12T21:00:00`, the trading day, price, cumulative volume.
    fn tick(time: &str, trading_day: u32, price: f64, volume: f64) -> Tick {
        let time = at(&format!("2018-10-{time}+08:00"));
        let mut tick = Tick::new("sim1", InstrumentId::new("ru1901", Exchange::SHFE), time);
        tick.trading_day = NaiveDate::from_ymd_opt(2018, 10, trading_day);
        tick.last_price = Some(price);
        tick.volume = Some(volume);
        tick.turnover = Some(volume * 10.0);
        tick.open_interest = Some(volume + 1000.0);
        tick
    }

    fn fed(ticks: &[Tick]) -> Bars {
        let mut bars = Bars::default();
        ticks.iter().for_each(|tick| bars.on_tick(tick));
        bars
    }

    fn request(interval: Interval) -> HistoryRequest {
        HistoryRequest {
            symbol: "ru1901".into(),
            exchange: Exchange::SHFE,
            start: at("2000-01-01T00:00:00Z"),
            end: None,
            interval: Some(interval),
        }
    }

    fn all(bars: &Bars, interval: Interval) -> Vec<Bar> {
        bars.query(&request(interval), &"sim1".into()).expect("kept")
    }

    fn volumes(bars: &Bars, interval: Interval) -> Vec<(String, f64)> {
        all(bars, interval).iter().map(|bar| (bar.datetime.format("%d %H:%M").to_string(), bar.volume)).collect()
    }

    fn expected(bars: &[(&str, f64)]) -> Vec<(String, f64)> {
        bars.iter().map(|&(time, volume)| (time.to_owned(), volume)).collect()
    }

    #[test]
    fn a_minute_holds_what_its_ticks_add() {
        let bars = fed(&[
            tick("09T09:00:00.500", 9, 100.0, 50.0),
            tick("09T09:00:30", 9, 103.0, 60.0),
            tick("09T09:00:59.500", 9, 99.0, 65.0),
            tick("09T09:01:00", 9, 101.0, 70.0),
        ]);
        let minutes = all(&bars, Interval::Minute);
        assert_eq!(minutes.len(), 2);
        let first = &minutes[0];
        assert_eq!(first.datetime, at("2018-10-09T09:00:00+08:00"));
        assert_eq!(
            (first.open_price, first.high_price, first.low_price, first.close_price),
            (100.0, 103.0, 99.0, 99.0)
        );
        assert_eq!((first.volume, first.turnover, first.open_interest), (15.0, 150.0, 1065.0));
        assert_eq!((first.gateway_name.as_str(), first.interval), ("sim1", Some(Interval::Minute)));
        assert_eq!(minutes[1].volume, 5.0);
        assert_eq!(volumes(&bars, Interval::Hour), expected(&[("09 09:00", 20.0)]));
        assert_eq!(volumes(&bars, Interval::Daily), expected(&[("09 00:00", 20.0)]));
    }

    #[test]
    fn a_night_belongs_to_the_next_trading_day_and_counts_from_0() {
        let mut evening = tick("12T21:00:00", 15, 98.0, 7.0);
        (evening.open_price, evening.high_price, evening.low_price) = (Some(97.0), Some(99.0), Some(96.0));
        let bars = fed(&[tick("12T14:59:00", 12, 100.0, 500.0), tick("12T15:00:00", 12, 100.0, 510.0), evening]);
        let days = all(&bars, Interval::Daily);
        assert_eq!(volumes(&bars, Interval::Daily), expected(&[("12 00:00", 10.0), ("15 00:00", 7.0)]));
        let monday = &days[1];
        assert_eq!(
            (monday.open_price, monday.high_price, monday.low_price, monday.close_price),
            (97.0, 99.0, 96.0, 98.0)
        );
        assert_eq!(
            volumes(&bars, Interval::Minute)[2],
            ("12 21:00".to_owned(), 7.0),
            "a minute keeps its calendar day"
        );
    }

    #[test]
    fn a_day_that_begins_above_the_last_ones_total_counts_from_0() {
        let bars = fed(&[tick("11T15:00:00", 11, 100.0, 5.0), tick("12T09:00:00", 12, 100.0, 8.0)]);
        assert_eq!(volumes(&bars, Interval::Daily), expected(&[("11 00:00", 0.0), ("12 00:00", 8.0)]));
    }

    #[test]
    fn without_trading_days_a_falling_volume_begins_a_day() {
        let mut ticks = [tick("11T15:00:00", 11, 100.0, 50.0), tick("12T09:00:00", 12, 100.0, 8.0)];
        ticks.iter_mut().for_each(|tick| tick.trading_day = None);
        assert_eq!(volumes(&fed(&ticks), Interval::Daily), expected(&[("11 00:00", 0.0), ("12 00:00", 8.0)]));
    }

    #[test]
    fn a_log_in_snapshot_of_the_evening_before_makes_no_bar() {
        let mut log_in = tick("11T19:29:00", 12, 100.0, 0.0);
        log_in.open_price = Some(102.0);
        let mut auction = tick("12T08:59:00", 12, 103.0, 419.0);
        (auction.open_price, auction.high_price, auction.low_price) = (Some(102.0), Some(103.0), Some(102.0));
        let bars = fed(&[tick("11T14:59:59", 11, 100.0, 50.0), log_in, auction]);
        assert_eq!(
            volumes(&bars, Interval::Minute),
            expected(&[("11 14:59", 0.0), ("12 08:59", 419.0)]),
            "yesterday's price makes no bar, and the auction counts"
        );
        assert_eq!(all(&bars, Interval::Daily)[1].open_price, 102.0);
    }

    #[test]
    fn a_night_sent_again_under_the_next_day_counts_once() {
        // The three recorded rows of CZCE SR001: Friday night, sent again on Monday with Monday's date, Monday's first.
        let bars = fed(&[
            tick("12T23:29:58", 12, 5390.0, 297_700.0),
            tick("12T23:29:59", 12, 5390.0, 297_788.0),
            tick("15T23:29:59", 15, 5390.0, 297_788.0),
            tick("15T09:00:00", 15, 5390.0, 297_794.0),
        ]);
        assert_eq!(volumes(&bars, Interval::Minute), expected(&[("12 23:29", 88.0), ("15 09:00", 6.0)]));
        assert_eq!(volumes(&bars, Interval::Daily), expected(&[("12 00:00", 88.0), ("15 00:00", 6.0)]));
    }

    #[test]
    fn a_turnover_that_is_rounded_down_is_never_negative() {
        let mut ticks = [
            tick("12T09:00:00", 12, 100.0, 10.0),
            tick("12T09:00:01", 12, 100.0, 11.0),
            tick("12T09:01:00", 12, 100.0, 11.0),
            tick("12T09:01:01", 12, 100.0, 12.0),
        ];
        for (tick, turnover) in ticks.iter_mut().zip([1000.0, 1101.0, 1099.0, 1205.0]) {
            tick.turnover = Some(turnover);
        }
        let turnovers: Vec<_> = all(&fed(&ticks), Interval::Minute).iter().map(|bar| bar.turnover).collect();
        assert_eq!(turnovers, [101.0, 104.0]);
    }

    #[test]
    fn extremes_between_ticks_show_in_the_bar() {
        let mut ticks = [tick("12T09:00:00", 12, 100.0, 10.0), tick("12T09:01:00", 12, 101.0, 20.0)];
        (ticks[0].high_price, ticks[0].low_price) = (Some(110.0), Some(95.0));
        (ticks[1].high_price, ticks[1].low_price) = (Some(112.0), Some(95.0));
        let bars = all(&fed(&ticks), Interval::Minute);
        assert_eq!((bars[0].high_price, bars[0].low_price), (100.0, 100.0), "those were before anyone looked");
        assert_eq!((bars[1].high_price, bars[1].low_price), (112.0, 101.0));
    }

    #[test]
    fn a_replay_that_loops_starts_its_bars_again() {
        let round = [
            tick("12T09:00:00", 12, 100.0, 10.0),
            tick("12T09:00:30", 12, 101.0, 15.0),
            tick("12T10:00:00", 12, 102.0, 25.0),
        ];
        let once = fed(&round);
        let mut again = fed(&round);
        round[..2].iter().for_each(|tick| again.on_tick(tick));
        assert_eq!(volumes(&again, Interval::Minute), expected(&[("12 09:00", 5.0)]), "nothing lies in the future");
        assert_eq!(volumes(&again, Interval::Daily), expected(&[("12 00:00", 5.0)]), "the day is not counted twice");
        again.on_tick(&round[2]);
        for interval in [Interval::Minute, Interval::Hour, Interval::Daily] {
            assert_eq!(all(&again, interval), all(&once, interval));
        }
    }

    #[test]
    fn a_wrong_time_does_not_cost_the_day() {
        let bars = fed(&[
            tick("12T10:00:00", 12, 100.0, 10.0),
            tick("12T10:00:01", 12, 100.0, 20.0),
            tick("12T22:00:00", 12, 100.0, 30.0),
            tick("12T10:00:02", 12, 100.0, 40.0),
        ]);
        assert_eq!(
            volumes(&bars, Interval::Minute),
            expected(&[("12 10:00", 20.0)]),
            "the bar in the future is dropped"
        );
        assert_eq!(volumes(&bars, Interval::Daily), expected(&[("12 00:00", 30.0)]));
    }

    #[test]
    fn an_overtaken_tick_is_not_a_new_day() {
        let bars = fed(&[
            tick("12T10:00:00", 12, 100.0, 10.0),
            tick("12T10:00:01", 12, 100.0, 20.0),
            tick("12T10:00:00.500", 12, 100.0, 15.0),
            tick("12T10:00:02", 12, 100.0, 30.0),
        ]);
        assert_eq!(volumes(&bars, Interval::Minute), expected(&[("12 10:00", 20.0)]));
    }

    #[test]
    fn ticks_without_a_usable_price_make_no_bar() {
        let mut ticks = [tick("12T10:00:00", 12, f64::NAN, 10.0), tick("12T10:00:01", 12, f64::INFINITY, 20.0)];
        assert!(all(&fed(&ticks), Interval::Minute).is_empty());
        ticks[0].last_price = None;
        assert!(all(&fed(&ticks), Interval::Minute).is_empty());
    }

    #[test]
    fn a_range_includes_both_ends_and_the_bar_being_built() {
        let ticks: Vec<_> = (0..5).map(|m| tick(&format!("12T10:0{m}:10"), 12, 100.0, 10.0 + f64::from(m))).collect();
        let bars = fed(&ticks);
        let ask = |start: &str, end: Option<&str>| {
            let (start, end) = (at(start), end.map(at));
            let request = HistoryRequest { start, end, interval: None, ..request(Interval::Minute) };
            bars.query(&request, &"sim1".into()).map(|bars| bars.len())
        };
        assert_eq!(ask("2018-10-12T10:01:00+08:00", Some("2018-10-12T10:03:00+08:00")), Ok(3));
        assert_eq!(ask("2018-10-12T02:01:00Z", Some("2018-10-12T02:03:00Z")), Ok(3), "whatever the offset");
        assert_eq!(ask("2018-10-12T10:01:00+08:00", None), Ok(4));
        assert_eq!(ask("2019-01-01T00:00:00Z", None), Ok(0));
        assert!(ask("2018-10-12T10:03:00+08:00", Some("2018-10-12T10:01:00+08:00")).is_err());
        let unknown = HistoryRequest { symbol: "nobody".into(), ..request(Interval::Minute) };
        assert_eq!(bars.query(&unknown, &"sim1".into()), Ok(Vec::new()));
        for interval in [Interval::Weekly, Interval::Tick] {
            let error = bars.query(&request(interval), &"sim1".into()).expect_err("not kept");
            assert!(error.contains(interval.as_str()) && error.contains("DAILY"), "{error}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut bars = Bars::default();
        let mut tick = tick("01T00:00:00", 1, 100.0, 1.0);
        for minute in 0..=KEPT {
            tick.volume = Some(minute as f64 + 1.0);
            bars.on_tick(&tick);
            tick.datetime += TimeDelta::minutes(1);
        }
        let minutes = all(&bars, Interval::Minute);
        assert_eq!(minutes.len(), KEPT);
        assert_eq!(minutes[0].datetime, at("2018-10-01T00:01:00+08:00"), "the oldest is dropped");
    }
}
