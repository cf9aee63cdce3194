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
