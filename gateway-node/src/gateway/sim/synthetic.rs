//! A market that needs no file: seeded random prices with trends and pauses, a book around them, daily limits.
//!
//! The same seed and settings give the same ticks on every machine: ChaCha, and no arithmetic beyond what IEEE 754
//! fixes (no logarithms, no sines). Prices are whole numbers of ticks until the moment they are written.

mod market;

use std::collections::HashSet;
use std::str::FromStr as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::{Datelike as _, Days, FixedOffset, NaiveDate, TimeDelta, TimeZone as _, Weekday};
use protocol::{Exchange, InstrumentId, Name, Timestamp};
use serde::{Deserialize, Deserializer, de};

use self::market::Market;
use super::feed::{Feed, FeedError, FeedTick, Speed};
use super::instruments::Contracts;

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
    /// First trading day, as 2024-01-02; it begins at 09:00 Shanghai time.
    #[serde(deserialize_with = "day")]
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

/// A date with quotes or, as TOML has it, without.
fn day<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NaiveDate, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Day {
        Toml(toml::value::Datetime),
        Text(String),
    }
    let wrong = |found: &str| de::Error::custom(format_args!("`{found}` is no day; write it as 2024-01-02"));
    let text = match Day::deserialize(deserializer).map_err(|_| wrong("this"))? {
        Day::Toml(datetime) => datetime.to_string(),
        Day::Text(text) => text,
    };
    text.parse().map_err(|_| wrong(&text))
}

impl SyntheticInstrument {
    /// An instrument with the default settings.
    #[must_use]
    pub fn new(symbol: InstrumentId) -> Self {
        SyntheticInstrument { symbol, price: None, pricetick: None, size: None, volatility: None, depth: forty() }
    }
}

/// Plays the synthetic market; it does not end in a person's lifetime.
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
            let market = Market::open(instrument, config, gateway, contracts, seed, stream)
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
        if !(1990..=2200).contains(&config.first_day.year()) {
            bail!("first_day: {} must be a day of the years 1990 to 2200", config.first_day);
        }
        let begins = session_start(config.first_day).context("first_day: no such day")?;
        // Both are bounded above, so neither overflows.
        let interval = TimeDelta::milliseconds(i64::try_from(config.interval_ms)?);
        let length = TimeDelta::from_std(Duration::try_from_secs_f64(config.trading_day_hours * 3600.0)?)?;
        Ok(Calendar { begins, now: begins, interval, length })
    }

    fn trading_day(&self) -> NaiveDate {
        self.begins.date_naive()
    }

    /// One interval on; `None` at the end of the year 9999, the last that RFC 3339 can write.
    fn advance(&mut self) -> Option<Advance> {
        self.now = self.now.checked_add_signed(self.interval)?;
        if self.now.signed_duration_since(self.begins) < self.length {
            return Some(Advance::SameDay);
        }
        let mut day = self.trading_day().checked_add_days(Days::new(1))?;
        while matches!(day.weekday(), Weekday::Sat | Weekday::Sun) {
            day = day.checked_add_days(Days::new(1))?;
        }
        self.begins = session_start(day).filter(|begins| begins.year() <= 9999)?;
        self.now = self.begins;
        Some(Advance::NewDay)
    }
}

fn session_start(day: NaiveDate) -> Option<Timestamp> {
    FixedOffset::east_opt(SHANGHAI_SECONDS)?.from_local_datetime(&day.and_hms_opt(SESSION_BEGINS_HOUR, 0, 0)?).single()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Contract, Product};

    fn open(config: &SyntheticConfig, seed: u64) -> anyhow::Result<(SyntheticFeed, Contracts)> {
        let name = Name::from("sim1");
        let mut contracts = Contracts::load(&[], &[], &name)?;
        Ok((SyntheticFeed::open(config, &name, &mut contracts, seed)?, contracts))
    }

    fn ticks(config: &SyntheticConfig, seed: u64, count: usize) -> Vec<FeedTick> {
        let (mut feed, _) = open(config, seed).expect("valid");
        (0..count).map(|_| feed.next().expect("endless").expect("no errors")).collect()
    }

    fn refused(change: impl FnOnce(&mut SyntheticConfig)) -> String {
        let mut config = SyntheticConfig::default();
        change(&mut config);
        let Err(error) = open(&config, 1) else { panic!("refused") };
        format!("{error:#}")
    }

    /// A market so wild that it meets its limits, in short days.
    fn wild() -> SyntheticConfig {
        SyntheticConfig { volatility: 5.0, trading_day_hours: 0.25, interval_ms: 2000, ..SyntheticConfig::default() }
    }

    fn on_tick(price: f64, pricetick: f64) -> bool {
        // The decimal text of a price on the tick is short; binary noise would show in it.
        let steps = price / pricetick;
        (steps - steps.round()).abs() < 1e-6 && format!("{price}").len() <= 8
    }

    #[test]
    fn the_same_seed_gives_the_same_ticks() {
        let config = SyntheticConfig::default();
        assert_eq!(ticks(&config, 7, 5000), ticks(&config, 7, 5000));
        assert_ne!(ticks(&config, 7, 5000), ticks(&config, 8, 5000));
    }

    #[test]
    fn an_instrument_more_does_not_change_the_others() {
        let all = SyntheticConfig::default();
        let mut one = all.clone();
        one.instruments.truncate(1);
        let of_rb = |ticks: Vec<FeedTick>| ticks.into_iter().filter(|t| t.tick.symbol == "rb2410").collect::<Vec<_>>();
        assert_eq!(of_rb(ticks(&all, 3, 5000)), of_rb(ticks(&one, 3, 1000)));
    }

    #[test]
    fn the_algorithm_is_the_same_in_every_version() {
        // Written down once; a change here changes every seeded demo and benchmark.
        let last = ticks(&SyntheticConfig::default(), 42, 10_000).pop().expect("a tick").tick;
        assert_eq!((last.symbol.as_str(), last.last_price, last.volume), GOLDEN);
    }

    const GOLDEN: (&str, Option<f64>, Option<f64>) = ("SR409", Some(6272.0), Some(16820.0));

    #[test]
    fn prices_are_on_the_tick_and_within_the_limits() {
        for config in [SyntheticConfig::default(), wild()] {
            let (mut feed, contracts) = open(&config, 11).expect("valid");
            let mut one_sided = 0;
            for _ in 0..50_000 {
                let tick = feed.next().expect("endless").expect("no errors").tick;
                let pricetick = contracts.get(&tick.instrument()).expect("its contract").pricetick;
                let (up, down) = (tick.limit_up.expect("given"), tick.limit_down.expect("given"));
                let prices = [tick.last_price, tick.open_price, tick.high_price, tick.low_price, Some(up), Some(down)];
                let levels = tick.bids.iter().chain(&tick.asks);
                for price in levels.clone().map(|level| level.0).chain(prices.into_iter().map(|p| p.expect("given"))) {
                    assert!(on_tick(price, pricetick), "{price} of {}", tick.symbol);
                    assert!((down..=up).contains(&price), "{price} beyond {down} to {up}");
                }
                assert!(levels.clone().all(|level| level.1 >= 1.0));
                assert!(tick.bids.windows(2).all(|pair| pair[0].0 > pair[1].0), "bids fall");
                assert!(tick.asks.windows(2).all(|pair| pair[0].0 < pair[1].0), "asks rise");
                match (tick.best_bid(), tick.best_ask()) {
                    (Some(bid), Some(ask)) => assert!(bid.0 < ask.0),
                    (Some(bid), None) => assert_eq!(bid.0, up, "nobody sells at the upper limit only"),
                    (None, Some(ask)) => assert_eq!(ask.0, down, "nobody buys at the lower limit only"),
                    (None, None) => panic!("an empty book"),
                }
                one_sided += usize::from(tick.bids.is_empty() || tick.asks.is_empty());
                assert!(tick.low_price <= tick.last_price && tick.last_price <= tick.high_price);
            }
            assert_eq!(one_sided > 0, config == wild(), "only the wild market meets its limits");
        }
    }

    #[test]
    fn cumulative_values_grow_and_start_again_with_the_day() {
        let mut config = wild();
        config.instruments.truncate(1);
        let ticks = ticks(&config, 5, 2000);
        let mut days = 0;
        for pair in ticks.windows(2) {
            let (before, now) = (&pair[0].tick, &pair[1].tick);
            assert_eq!(pair[1].at.checked_sub(pair[0].at), Some(Duration::from_secs(2)), "no pauses");
            assert!(now.datetime > before.datetime);
            let traded = now.last_volume.expect("given");
            if now.trading_day == before.trading_day {
                assert_eq!(now.volume, before.volume.map(|volume| volume + traded));
                assert!(now.turnover >= before.turnover);
            } else {
                days += 1;
                assert_eq!(now.volume, Some(traded));
                assert_eq!(now.pre_close, before.last_price);
                assert_eq!(
                    (now.open_price, now.high_price, now.low_price),
                    (now.last_price, now.last_price, now.last_price)
                );
                assert_eq!(now.datetime.format("%H:%M:%S%z").to_string(), "09:00:00+0800");
                assert!(now.trading_day.expect("given").weekday().number_from_monday() <= 5);
            }
        }
        assert_eq!(days, 2000 / 450, "days of 15 minutes with a tick every two seconds");
    }

    #[test]
    fn averages_cross_now_and_then() {
        let config = SyntheticConfig::default();
        let closes: Vec<f64> = ticks(&config, 1, 4 * 3600 * 2 * 5)
            .into_iter()
            .filter(|tick| tick.tick.symbol == "rb2410")
            .step_by(20)
            .filter_map(|tick| tick.tick.last_price)
            .collect();
        let mean = |window: &[f64]| window.iter().sum::<f64>() / window.len() as f64;
        let above: Vec<bool> = closes.windows(30).map(|window| mean(&window[20..]) > mean(window)).collect();
        let crossings = above.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!((20..400).contains(&crossings), "{crossings} crossings of ten-second averages in four hours");
    }

    #[test]
    fn contracts_come_with_it() {
        let (feed, contracts) = open(&SyntheticConfig::default(), 1).expect("valid");
        assert_eq!(feed.instruments().len(), 5);
        for instrument in feed.instruments() {
            let contract = contracts.get(&instrument).expect("its contract");
            assert!(contract.stop_supported && contract.history_data && contract.gateway_name == "sim1");
        }
    }

    #[test]
    fn a_listed_contract_is_kept_where_the_config_is_silent() {
        let name = Name::from("sim1");
        let mut contracts = Contracts::load(&[], &[], &name).expect("nothing");
        let id = InstrumentId::new("cu2405", Exchange::SHFE);
        let mut listed = Contract::new("sim1", id.clone(), Product::Futures, 5.0, 10.0);
        listed.long_margin_ratio = Some(0.1);
        contracts.insert(listed);
        let instrument = SyntheticInstrument { size: Some(7.0), ..SyntheticInstrument::new(id.clone()) };
        let config = SyntheticConfig { instruments: vec![instrument], ..SyntheticConfig::default() };
        let mut feed = SyntheticFeed::open(&config, &name, &mut contracts, 1).expect("valid");
        let contract = contracts.get(&id).expect("kept");
        assert_eq!((contract.size, contract.pricetick, contract.long_margin_ratio), (7.0, 10.0, Some(0.1)));
        let price = feed.next().expect("endless").expect("no errors").tick.last_price.expect("given");
        assert!((price - 40_000.0).abs() < 1000.0, "4000 ticks of 10, not {price}");
    }

    #[test]
    fn settings_that_cannot_be_used_are_named() {
        assert!(refused(|config| config.instruments.clear()).starts_with("instruments: name at least one"));
        assert!(refused(|config| config.interval_ms = 0).starts_with("interval_ms: 0"));
        assert!(refused(|config| config.volatility = f64::NAN).starts_with("volatility: NaN"));
        assert!(refused(|config| config.trading_day_hours = 25.0).starts_with("trading_day_hours: 25"));
        assert!(
            refused(|config| config.instruments[1].symbol = config.instruments[0].symbol.clone()).contains("twice")
        );
        let error = refused(|config| config.instruments[0].price = Some(3600.5));
        assert!(error.contains("rb2410.SHFE") && error.contains("price: 3600.5 is off the pricetick 1"), "{error}");
        assert!(
            refused(|config| config.instruments[0].price = Some(-3600.0)).contains("price: -3600 must be from 100")
        );
        assert!(refused(|config| config.instruments[0].pricetick = Some(0.0)).contains("pricetick: 0"));
        assert!(refused(|config| config.instruments[0].pricetick = Some(1.0 / 3.0)).contains("at most six decimals"));
        assert!(refused(|config| config.instruments[0].size = Some(0.0)).contains("size: 0"));
        assert!(refused(|config| config.instruments[0].depth = 0).contains("depth: 0"));
        assert!(refused(|config| config.first_day = NaiveDate::MAX).contains("first_day"));
    }

    #[test]
    fn a_config_is_read_from_text() {
        let config: SyntheticConfig = toml::from_str(
            "interval_ms = 250\nfirst_day = \"2024-02-05\"\n[[instruments]]\nsymbol = \"au2406.SHFE\"\npricetick = 0.02\nprice = 480",
        )
        .expect("valid");
        assert_eq!(config.instruments.len(), 1, "a list replaces the default one");
        let first = ticks(&config, 1, 1).pop().expect("a tick").tick;
        assert_eq!(first.datetime.to_rfc3339(), "2024-02-05T09:00:00+08:00");
        let error =
            toml::from_str::<SyntheticConfig>("instruments = [{ symbol = \"rb2410\" }]").expect_err("no exchange");
        assert!(error.to_string().contains("SYMBOL.EXCHANGE"), "{error}");
        assert!(toml::from_str::<SyntheticConfig>("seed = 1").is_err());
    }

    #[test]
    fn a_day_is_read_with_and_without_quotes() {
        for text in ["2024-02-05", "\"2024-02-05\""] {
            let config = format!("kind = \"synthetic\"\nfirst_day = {text}");
            let config: crate::gateway::sim::feed::FeedConfig = toml::from_str(&config).expect(text);
            let expected = SyntheticConfig {
                first_day: NaiveDate::from_ymd_opt(2024, 2, 5).expect("a day"),
                ..SyntheticConfig::default()
            };
            assert_eq!(config, crate::gateway::sim::feed::FeedConfig::Synthetic(expected));
        }
        for bad in ["2024-02-05T09:00:00", "\"5.2.2024\"", "20240205"] {
            let error = toml::from_str::<SyntheticConfig>(&format!("first_day = {bad}")).expect_err(bad).to_string();
            assert!(error.contains("write it as 2024-01-02"), "{error}");
        }
    }
}
