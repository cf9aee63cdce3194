//! A market that needs no file: seeded random prices with trends and pauses, a book around them, daily limits.
//!
//! The same seed and settings give the same ticks on every machine: ChaCha, and no arithmetic beyond what IEEE 754
//! fixes (no logarithms, no sines). Prices are whole numbers of ticks until the moment they are written.

use std::collections::HashSet;
use std::str::FromStr as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::{DateTime, Datelike as _, Days, FixedOffset, NaiveDate, TimeDelta, TimeZone as _, Weekday};
use protocol::{Contract, Exchange, InstrumentId, Level, Name, Product, Tick, Timestamp};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Deserializer, de};

use super::feed::{Feed, FeedError, FeedTick, Speed};
use super::instruments::Contracts;

/// Seconds of trading in a year, to turn a yearly volatility into one of a step: 243 days of four hours.
const SECONDS_OF_A_TRADING_YEAR: f64 = 243.0 * 4.0 * 3600.0;
/// Mean length of a stretch with one trend, in seconds.
const TREND_SECONDS: f64 = 120.0;
/// A trend of mean length moves the price by so many standard deviations of that time's noise.
const TREND_STRENGTH: f64 = 3.0;
/// How fast the price returns to the day's anchor, in seconds.
const REVERSION_SECONDS: f64 = 1700.0;
/// Depth of the book.
const LEVELS: i64 = 5;
/// The daily limits, as a divisor of the settlement price of the day before: 10 %.
const LIMIT_DIVISOR: i64 = 10;
/// Fewest ticks in a price: below, the limits would leave no room for a book.
const FEWEST_TICKS: i64 = 100;
const SHANGHAI_SECONDS: i32 = 8 * 3600;
const SESSION_BEGINS_HOUR: u32 = 9;

/// Settings of the synthetic market; each has a default.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SyntheticConfig {
    /// What there is to trade.
    pub instruments: Vec<SyntheticInstrument>,
    /// Time between two ticks of an instrument, in milliseconds.
    pub interval_ms: u64,
    /// Standard deviation of a year's returns without trends, as a share of the price: 0.25 is 25 %.
    pub volatility: f64,
    /// How fast it is played.
    pub speed: Speed,
    /// First trading day, as "2024-01-02" in quotes; it begins at 09:00 Shanghai time.
    pub first_day: NaiveDate,
    /// Length of a trading day, in hours. The next one follows without a pause, dated 09:00 of the next weekday.
    pub trading_day_hours: f64,
}

impl Default for SyntheticConfig {
    fn default() -> Self {
        let instrument = |symbol: &str, exchange, price, pricetick, size| SyntheticInstrument {
            price: Some(price),
            pricetick: Some(pricetick),
            size: Some(size),
            ..SyntheticInstrument::new(InstrumentId::new(symbol, exchange))
        };
        SyntheticConfig {
            instruments: vec![
                instrument("rb2410", Exchange::SHFE, 3600.0, 1.0, 10.0),
                instrument("sc2410", Exchange::INE, 560.0, 0.1, 1000.0),
                instrument("IF2406", Exchange::CFFEX, 3500.0, 0.2, 300.0),
                instrument("m2409", Exchange::DCE, 3100.0, 1.0, 10.0),
                instrument("SR409", Exchange::CZCE, 6200.0, 1.0, 10.0),
            ],
            interval_ms: 500,
            volatility: 0.25,
            speed: Speed::default(),
            first_day: NaiveDate::from_ymd_opt(2024, 1, 2).unwrap_or_default(),
            trading_day_hours: 4.0,
        }
    }
}

/// An instrument of the synthetic market. What is absent comes from its contract, if a file lists one.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyntheticInstrument {
    /// Symbol and exchange, as in `rb2410.SHFE`.
    #[serde(deserialize_with = "instrument")]
    pub symbol: InstrumentId,
    /// Settlement price of the day before the first; 4000 price ticks, if absent.
    #[serde(default)]
    pub price: Option<f64>,
    /// Smallest step of a price; 1 where no contract says otherwise.
    #[serde(default)]
    pub pricetick: Option<f64>,
    /// Money per point of price and lot; 10 where no contract says otherwise.
    #[serde(default)]
    pub size: Option<f64>,
    /// As the market's `volatility`, for this instrument.
    #[serde(default)]
    pub volatility: Option<f64>,
    /// Volume that a level of the book has on average, in lots.
    #[serde(default = "forty")]
    pub depth: u32,
}

const fn forty() -> u32 {
    40
}

fn instrument<'de, D: Deserializer<'de>>(deserializer: D) -> Result<InstrumentId, D::Error> {
    InstrumentId::from_str(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

impl SyntheticInstrument {
    /// An instrument with the default settings.
    #[must_use]
    pub fn new(symbol: InstrumentId) -> Self {
        SyntheticInstrument { symbol, price: None, pricetick: None, size: None, volatility: None, depth: forty() }
    }
}

/// Plays the synthetic market; it never ends.
pub struct SyntheticFeed {
    gateway: Name,
    interval: Duration,
    markets: Vec<Market>,
    calendar: Calendar,
    /// The instrument whose tick is next.
    turn: usize,
    at: Duration,
}

impl SyntheticFeed {
    /// Checks the settings and sees to it that `contracts` holds a contract of each instrument: the one there is with
    /// the configured size and price tick, or a new one.
    ///
    /// # Errors
    /// A setting that cannot be used: which, and what to write instead.
    pub fn open(
        config: &SyntheticConfig,
        gateway: &Name,
        contracts: &mut Contracts,
        seed: u64,
    ) -> anyhow::Result<SyntheticFeed> {
        if config.instruments.is_empty() {
            bail!("instruments: name at least one, or leave the list out to get the default ones");
        }
        if !(1..=60_000).contains(&config.interval_ms) {
            bail!("interval_ms: {} must be from 1 to 60000", config.interval_ms);
        }
        check("volatility", config.volatility, 0.0..=5.0)?;
        check("trading_day_hours", config.trading_day_hours, 0.01..=24.0)?;
        let mut markets = Vec::with_capacity(config.instruments.len());
        let mut known = HashSet::new();
        // One random stream per instrument: adding one does not change the others' prices.
        for (instrument, stream) in config.instruments.iter().zip(0..) {
            if !known.insert(&instrument.symbol) {
                bail!("instruments: {} is listed twice; remove one", instrument.symbol);
            }
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(stream);
            let market = Market::open(instrument, config, gateway, contracts, Random(random))
                .with_context(|| format!("instruments: {}", instrument.symbol))?;
            markets.push(market);
        }
        Ok(SyntheticFeed {
            gateway: gateway.clone(),
            interval: Duration::from_millis(config.interval_ms),
            markets,
            calendar: Calendar::open(config)?,
            turn: 0,
            at: Duration::ZERO,
        })
    }
}

impl Feed for SyntheticFeed {
    fn next(&mut self) -> Option<Result<FeedTick, FeedError>> {
        if self.turn == self.markets.len() {
            self.turn = 0;
            self.at = self.at.checked_add(self.interval)?;
            if self.calendar.advance()? == Advance::NewDay {
                self.markets.iter_mut().for_each(Market::roll);
            }
        }
        let market = self.markets.get_mut(self.turn)?;
        self.turn += 1;
        market.step();
        Some(Ok(FeedTick { at: self.at, tick: market.tick(&self.gateway, &self.calendar) }))
    }

    fn instruments(&self) -> Vec<InstrumentId> {
        self.markets.iter().map(|market| market.instrument.clone()).collect()
    }
}

fn check(field: &str, value: f64, allowed: std::ops::RangeInclusive<f64>) -> anyhow::Result<()> {
    if !allowed.contains(&value) {
        bail!("{field}: {value} must be from {} to {}", allowed.start(), allowed.end());
    }
    Ok(())
}

/// The simulated clock: trading days of equal length, each beginning at 09:00 of a weekday.
struct Calendar {
    begins: Timestamp,
    now: Timestamp,
    interval: TimeDelta,
    length: TimeDelta,
}

#[derive(Debug, PartialEq, Eq)]
enum Advance {
    SameDay,
    NewDay,
}

impl Calendar {
    fn open(config: &SyntheticConfig) -> anyhow::Result<Calendar> {
        let begins = session_start(config.first_day).context("first_day: choose a day of this century")?;
        // Both are bounded above, so neither overflows.
        let interval = TimeDelta::milliseconds(i64::try_from(config.interval_ms)?);
        let length = TimeDelta::from_std(Duration::try_from_secs_f64(config.trading_day_hours * 3600.0)?)?;
        Ok(Calendar { begins, now: begins, interval, length })
    }

    fn trading_day(&self) -> NaiveDate {
        self.begins.date_naive()
    }

    /// One interval on; `None` at the end of the calendar.
    fn advance(&mut self) -> Option<Advance> {
        self.now = self.now.checked_add_signed(self.interval)?;
        if self.now.signed_duration_since(self.begins) < self.length {
            return Some(Advance::SameDay);
        }
        let mut day = self.trading_day().checked_add_days(Days::new(1))?;
        while matches!(day.weekday(), Weekday::Sat | Weekday::Sun) {
            day = day.checked_add_days(Days::new(1))?;
        }
        self.begins = session_start(day)?;
        self.now = self.begins;
        Some(Advance::NewDay)
    }
}

fn session_start(day: NaiveDate) -> Option<DateTime<FixedOffset>> {
    FixedOffset::east_opt(SHANGHAI_SECONDS)?.from_local_datetime(&day.and_hms_opt(SESSION_BEGINS_HOUR, 0, 0)?).single()
}

/// Whole price ticks to a price: the float nearest to the decimal number, so that 26,152 ticks of 0.2 are 5230.4 and
/// not 5230.400000000001.
#[derive(Debug, Clone, Copy)]
struct PriceStep {
    /// The price tick as a whole number of `1 / scale`.
    units: i64,
    scale: f64,
}

impl PriceStep {
    fn new(pricetick: f64) -> Option<PriceStep> {
        let text = format!("{pricetick}");
        let decimals = text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        if !(1e-6..=1e6).contains(&pricetick) || decimals > 6 {
            return None;
        }
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        let scale = (0..decimals).fold(1.0, |scale, _| scale * 10.0);
        Some(PriceStep { units: digits.parse().ok()?, scale })
    }

    #[allow(clippy::cast_precision_loss, reason = "prices stay far below 2^53 units; opening checks it")]
    fn price(self, ticks: i64) -> f64 {
        (ticks * self.units) as f64 / self.scale
    }
}

/// Random numbers that are the same everywhere.
struct Random(ChaCha8Rng);

impl Random {
    /// From 0 to below 1, evenly.
    #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn share(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.share() < probability
    }

    /// Mean 0, standard deviation 1, nearly normal: four even ones. Needs no logarithm.
    fn noise(&mut self) -> f64 {
        let sum = self.share() + self.share() + self.share() + self.share();
        (sum - 2.0) * 3.0_f64.sqrt()
    }

    /// A volume around `mean`, from a fifth of it to nearly twice, at least 1.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
    fn volume(&mut self, mean: f64) -> u64 {
        ((mean * (0.2 + 1.6 * self.share())).round() as u64).max(1)
    }
}

/// One instrument's market. Prices are in ticks.
struct Market {
    instrument: InstrumentId,
    name: Name,
    step: PriceStep,
    size: f64,
    random: Random,
    /// Standard deviation of one step, and how far one step of a trend goes, as shares of the price.
    noise: f64,
    drift: f64,
    /// Chances that a step ends a trend, and how much of the way to the anchor a step goes back.
    trend_ends: f64,
    reversion: f64,
    depth: f64,
    /// The value that the book is built around.
    fair: f64,
    /// -1 falling, 0 none, 1 rising.
    trend: i8,
    bid: i64,
    ask: i64,
    last: i64,
    last_volume: u64,
    bids: Vec<(i64, u64)>,
    asks: Vec<(i64, u64)>,
    day: Day,
    open_interest: u64,
}

/// What is counted within a trading day. Prices are in ticks.
#[derive(Debug, Clone, Copy)]
struct Day {
    pre_close: i64,
    pre_settlement: i64,
    limit_up: i64,
    limit_down: i64,
    open: Option<i64>,
    high: i64,
    low: i64,
    volume: u64,
    /// Price ticks times lots.
    turnover: i128,
}

impl Day {
    fn new(pre_close: i64, pre_settlement: i64) -> Day {
        let room = pre_settlement / LIMIT_DIVISOR;
        Day {
            pre_close,
            pre_settlement,
            limit_up: pre_settlement + room,
            limit_down: pre_settlement - room,
            open: None,
            high: pre_settlement,
            low: pre_settlement,
            volume: 0,
            turnover: 0,
        }
    }
}

impl Market {
    fn open(
        instrument: &SyntheticInstrument,
        config: &SyntheticConfig,
        gateway: &Name,
        contracts: &mut Contracts,
        random: Random,
    ) -> anyhow::Result<Market> {
        let id = &instrument.symbol;
        // A contract that the files do not know is no mistake here: this market makes its own.
        let known = contracts.require(id).ok().cloned();
        let mut contract =
            known.unwrap_or_else(|| Contract::new(gateway.clone(), id.clone(), Product::Futures, 10.0, 1.0));
        contract.size = instrument.size.unwrap_or(contract.size);
        contract.pricetick = instrument.pricetick.unwrap_or(contract.pricetick);
        contract.stop_supported = true;
        contract.history_data = true;
        check("size", contract.size, 1e-6..=1e9)?;
        let Some(step) = PriceStep::new(contract.pricetick) else {
            bail!("pricetick: {} must be from 0.000001 to 1000000, with at most six decimals", contract.pricetick);
        };
        let volatility = instrument.volatility.unwrap_or(config.volatility);
        check("volatility", volatility, 0.0..=5.0)?;
        if !(1..=1_000_000).contains(&instrument.depth) {
            bail!("depth: {} must be from 1 to 1000000", instrument.depth);
        }
        let start = start_ticks(instrument.price, contract.pricetick)?;
        let seconds = Duration::from_millis(config.interval_ms).as_secs_f64();
        let per_second = volatility / SECONDS_OF_A_TRADING_YEAR.sqrt();
        let market = Market {
            instrument: id.clone(),
            name: contract.name.clone(),
            step,
            size: contract.size,
            random,
            noise: per_second * seconds.sqrt(),
            drift: TREND_STRENGTH * per_second / TREND_SECONDS.sqrt() * seconds,
            trend_ends: (seconds / TREND_SECONDS).min(1.0),
            reversion: (seconds / REVERSION_SECONDS).min(1.0),
            depth: f64::from(instrument.depth),
            fair: ticks_to_f64(start),
            trend: 0,
            bid: start,
            ask: start,
            last: start,
            last_volume: 0,
            bids: Vec::new(),
            asks: Vec::new(),
            day: Day::new(start, start),
            open_interest: u64::from(instrument.depth) * 2000,
        };
        contracts.insert(contract);
        Ok(market)
    }

    /// One interval on: the value moves, the book follows it, perhaps somebody trades.
    fn step(&mut self) {
        self.move_value();
        self.quote();
        self.trade();
    }

    fn move_value(&mut self) {
        if self.random.chance(self.trend_ends) {
            let draw = self.random.share();
            self.trend = if draw < 0.4 {
                -1
            } else if draw < 0.8 {
                1
            } else {
                0
            };
        }
        let anchor = ticks_to_f64(self.day.pre_settlement);
        let moved = self.fair * (self.noise * self.random.noise() + self.drift * f64::from(self.trend));
        let back = (anchor - self.fair) * self.reversion;
        let (down, up) = (ticks_to_f64(self.day.limit_down), ticks_to_f64(self.day.limit_up));
        self.fair = (self.fair + moved + back).clamp(down, up);
    }

    /// A book of five levels each side; none beyond a limit, so at a limit one side is empty.
    #[allow(clippy::cast_possible_truncation, reason = "the value is between the limits")]
    fn quote(&mut self) {
        let Day { limit_up, limit_down, .. } = self.day;
        let spread = if self.random.chance(0.1) { 2 } else { 1 };
        self.bid = (self.fair.floor() as i64).clamp(limit_down, limit_up);
        self.ask = self.bid + spread;
        self.bids.clear();
        self.asks.clear();
        for level in 0..LEVELS {
            // Depth grows away from the middle.
            #[allow(clippy::cast_precision_loss, reason = "below five")]
            let mean = self.depth * (1.0 + 0.3 * level as f64);
            let (bid, ask) = (self.random.volume(mean), self.random.volume(mean));
            if self.bid - level >= limit_down {
                self.bids.push((self.bid - level, bid));
            }
            if self.ask + level <= limit_up {
                self.asks.push((self.ask + level, ask));
            }
        }
    }

    fn trade(&mut self) {
        self.last_volume = 0;
        // The day opens with a trade, as with an auction.
        if self.day.open.is_some() && !self.random.chance(0.6) {
            return;
        }
        let buys = self.random.chance(0.5 + 0.2 * f64::from(self.trend));
        let volume = self.random.volume(self.depth * if self.trend == 0 { 0.2 } else { 0.4 });
        self.last = if buys && self.ask <= self.day.limit_up { self.ask } else { self.bid };
        self.last_volume = volume;
        let day = &mut self.day;
        day.volume += volume;
        day.turnover += i128::from(self.last) * i128::from(volume);
        if day.open.is_none() {
            (day.open, day.high, day.low) = (Some(self.last), self.last, self.last);
        }
        day.high = day.high.max(self.last);
        day.low = day.low.min(self.last);
        // What is traded opens on both sides, closes on both, or changes hands.
        let kind = self.random.share();
        if kind < 0.3 {
            self.open_interest += volume;
        } else if kind < 0.6 {
            self.open_interest = self.open_interest.saturating_sub(volume);
        }
    }

    /// The next trading day: settlement is the day's average price.
    fn roll(&mut self) {
        let settlement = match i128::from(self.day.volume) {
            0 => self.day.pre_settlement,
            volume => i64::try_from(self.day.turnover / volume).unwrap_or(self.last),
        };
        self.day = Day::new(self.last, settlement.max(FEWEST_TICKS));
    }

    #[allow(clippy::cast_precision_loss, reason = "volumes of a day stay far below 2^53")]
    fn tick(&self, gateway: &Name, calendar: &Calendar) -> Tick {
        let (step, day) = (self.step, &self.day);
        let mut tick = Tick::new(gateway.clone(), self.instrument.clone(), calendar.now);
        tick.name = Some(self.name.clone());
        tick.volume = Some(day.volume as f64);
        tick.turnover = Some(day.turnover as f64 * step.units as f64 / step.scale * self.size);
        tick.open_interest = Some(self.open_interest as f64);
        tick.last_price = Some(step.price(self.last));
        tick.last_volume = Some(self.last_volume as f64);
        tick.limit_up = Some(step.price(day.limit_up));
        tick.limit_down = Some(step.price(day.limit_down));
        tick.open_price = day.open.map(|open| step.price(open));
        tick.high_price = Some(step.price(day.high));
        tick.low_price = Some(step.price(day.low));
        tick.pre_close = Some(step.price(day.pre_close));
        tick.pre_settlement = Some(step.price(day.pre_settlement));
        tick.bids = self.bids.iter().map(|&(price, volume)| Level(step.price(price), volume as f64)).collect();
        tick.asks = self.asks.iter().map(|&(price, volume)| Level(step.price(price), volume as f64)).collect();
        tick.trading_day = Some(calendar.trading_day());
        tick.action_day = Some(calendar.now.date_naive());
        tick
    }
}

#[allow(clippy::cast_precision_loss, reason = "below 2^53, opening checks it")]
fn ticks_to_f64(ticks: i64) -> f64 {
    ticks as f64
}

/// The price in ticks.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "checked to be in range")]
fn start_ticks(price: Option<f64>, pricetick: f64) -> anyhow::Result<i64> {
    let Some(price) = price else { return Ok(4000) };
    let ticks = (price / pricetick).round();
    let fewest = FEWEST_TICKS as f64 * pricetick;
    if !(FEWEST_TICKS as f64..=1e8).contains(&ticks) {
        bail!("price: {price} must be from {fewest} to {} for a pricetick of {pricetick}", 1e8 * pricetick);
    }
    if (price / pricetick - ticks).abs() > 1e-6 {
        bail!("price: {price} is off the pricetick {pricetick}");
    }
    Ok(ticks as i64)
}
