//! One instrument of the synthetic market: its value, the book around it, its trades and its day.

use std::time::Duration;

use anyhow::bail;
use protocol::{Contract, InstrumentId, Level, Name, Product, Tick};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{Calendar, SyntheticConfig, SyntheticInstrument, check};
use crate::gateway::sim::instruments::Contracts;

/// Seconds of trading in a year, to turn a yearly volatility into one of a step: 243 days of four hours.
const SECONDS_OF_A_TRADING_YEAR: f64 = 243.0 * 4.0 * 3600.0;
/// Mean length of a stretch with one trend, in seconds.
const TREND_SECONDS: f64 = 120.0;
/// A trend of mean length moves the price by so many standard deviations of that time's noise.
const TREND_STRENGTH: f64 = 3.0;
/// How fast the price returns to where it began, in seconds.
const REVERSION_SECONDS: f64 = 1700.0;
/// Depth of the book.
const LEVELS: i64 = 5;
/// The daily limits, as a divisor of the settlement price of the day before: 10 %.
const LIMIT_DIVISOR: i64 = 10;
/// Fewest ticks in a price: below, the limits would leave no room for a book.
const FEWEST_TICKS: i64 = 100;

/// One instrument's market. Prices are in ticks.
pub struct Market {
    /// What is traded.
    pub instrument: InstrumentId,
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
    /// Where the price returns to.
    start: i64,
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
    /// The market before its first tick. `stream` numbers the random streams of a seed.
    ///
    /// # Errors
    /// A setting that cannot be used: which, and what to write instead.
    pub fn open(
        instrument: &SyntheticInstrument,
        config: &SyntheticConfig,
        gateway: &Name,
        contracts: &mut Contracts,
        seed: u64,
        stream: u64,
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
        // Twice the start and a tenth is the highest limit there will ever be.
        if start.checked_mul(3).and_then(|most| most.checked_mul(step.units)).is_none_or(|most| most > 1 << 53) {
            bail!("price: too high for a pricetick of {}: not every price could be told exactly", contract.pricetick);
        }
        let seconds = Duration::from_millis(config.interval_ms).as_secs_f64();
        let per_second = volatility / SECONDS_OF_A_TRADING_YEAR.sqrt();
        let market = Market {
            instrument: id.clone(),
            name: contract.name.clone(),
            step,
            size: contract.size,
            random: Random::new(seed, stream),
            noise: per_second * seconds.sqrt(),
            drift: TREND_STRENGTH * per_second / TREND_SECONDS.sqrt() * seconds,
            trend_ends: (seconds / TREND_SECONDS).min(1.0),
            reversion: (seconds / REVERSION_SECONDS).min(1.0),
            depth: f64::from(instrument.depth),
            start,
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
    pub fn step(&mut self) {
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
        let anchor = ticks_to_f64(self.start);
        let moved = self.fair * (self.noise * self.random.noise() + self.drift * f64::from(self.trend));
        let back = (anchor - self.fair) * self.reversion;
        let (down, up) = (ticks_to_f64(self.day.limit_down), ticks_to_f64(self.day.limit_up));
        self.fair = (self.fair + moved + back).clamp(down, up);
    }

    /// A book of five levels each side; none beyond a limit, so at a limit one side is empty.
    fn quote(&mut self) {
        let Day { limit_up, limit_down, .. } = self.day;
        let spread = if self.random.chance(0.1) { 2 } else { 1 };
        let (floor, at_limit_down) = (self.fair.floor() as i64, self.fair <= ticks_to_f64(limit_down));
        self.bid = if at_limit_down { limit_down - 1 } else { floor.clamp(limit_down, limit_up) };
        self.ask = match self.bid {
            bid if bid == limit_up => limit_up + 1,
            bid if at_limit_down => bid + 1,
            bid => (bid + spread).min(limit_up),
        };
        self.bids.clear();
        self.asks.clear();
        for level in 0..LEVELS {
            // Depth grows away from the middle.
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
        let (no_bids, no_asks) = (self.bids.is_empty(), self.asks.is_empty());
        self.last = if (buys && !no_asks) || no_bids { self.ask } else { self.bid };
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

    /// The next trading day: settlement is the day's average price, within half and twice the first one's.
    pub fn roll(&mut self) {
        let settlement = match i128::from(self.day.volume) {
            0 => self.day.pre_settlement,
            volume => i64::try_from(self.day.turnover / volume).unwrap_or(self.last),
        };
        // However long it runs: prices that drift away for ever would end in overflow, or at zero.
        self.day = Day::new(self.last, settlement.clamp(self.start / 2, self.start * 2));
    }

    /// The market as it is.
    pub fn tick(&self, gateway: &Name, calendar: &Calendar) -> Tick {
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

fn ticks_to_f64(ticks: i64) -> f64 {
    ticks as f64
}

/// The price in ticks.
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

    fn price(self, ticks: i64) -> f64 {
        (ticks * self.units) as f64 / self.scale
    }
}

/// Random numbers that are the same everywhere.
struct Random(ChaCha8Rng);

impl Random {
    fn new(seed: u64, stream: u64) -> Random {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(stream);
        Random(random)
    }

    /// From 0 to below 1, evenly.
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
    fn volume(&mut self, mean: f64) -> u64 {
        ((mean * (0.2 + 1.6 * self.share())).round() as u64).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_the_float_nearest_to_its_decimal_text() {
        for (pricetick, ticks, expected) in [
            (0.2, 26_152, 5230.4),
            (0.1, 5601, 560.1),
            (0.005, 20_001, 100.005),
            (5.0, 2497, 12_485.0),
            (0.02, 24_001, 480.02),
        ] {
            assert_eq!(PriceStep::new(pricetick).expect("a tick").price(ticks), expected);
        }
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-9, 0.1 + 0.2] {
            assert!(PriceStep::new(bad).is_none(), "{bad}");
        }
    }
}
