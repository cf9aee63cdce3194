//! Where the simulated venue's market data comes from: one trait, two sources, and the configuration that chooses.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use protocol::{InstrumentId, Name, Tick};
use serde::{Deserialize, Deserializer, de};

use super::instruments::Contracts;
use super::recorded::{RecordedConfig, RecordedFeed};
use super::synthetic::{SyntheticConfig, SyntheticFeed};

/// A tick and when it is due.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedTick {
    /// Since the feed's start at single speed; long pauses are already compressed. Never decreases.
    pub at: Duration,
    /// The tick.
    pub tick: Tick,
}

/// Market data in the order in which it happens. It knows no clock: whoever asks paces it with [`Speed`].
pub trait Feed: Send {
    /// The next tick, or what kept one from being read; `None` when there is no more, now and later.
    ///
    /// # Errors
    /// A broken row is reported once and skipped; the feed goes on with the next call.
    fn next(&mut self) -> Option<Result<FeedTick, FeedError>>;

    /// What it has ticks of.
    fn instruments(&self) -> Vec<InstrumentId>;
}

/// Something in a file that gave no tick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedError {
    /// Which file.
    pub file: PathBuf,
    /// Which line, from 1, the header included.
    pub line: Option<u64>,
    /// Which column.
    pub field: Option<&'static str>,
    /// What is wrong there, for people.
    pub problem: String,
}

impl fmt::Display for FeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        if let Some(field) = self.field {
            write!(f, ", column `{field}`")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for FeedError {}

/// Which market data a simulated venue has.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum FeedConfig {
    /// A seeded market that needs no file.
    Synthetic(SyntheticConfig),
    /// Recorded ticks from CSV files.
    Recorded(RecordedConfig),
}

impl Default for FeedConfig {
    fn default() -> Self {
        FeedConfig::Synthetic(SyntheticConfig::default())
    }
}

impl FeedConfig {
    /// How fast the feed is to be played.
    #[must_use]
    pub fn speed(&self) -> Speed {
        match self {
            FeedConfig::Synthetic(config) => config.speed,
            FeedConfig::Recorded(config) => config.speed,
        }
    }
}

/// How fast a feed is played: in TOML a number (`1`, `10`, `0.5`) or `"max"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// So many times as fast as it happened; above 0 and finite.
    Times(f64),
    /// As fast as the ticks are taken.
    Max,
}

impl Default for Speed {
    fn default() -> Self {
        Speed::Times(1.0)
    }
}

impl Speed {
    /// How long after the start of playing a tick of offset `at` is due; zero for `Max`.
    #[must_use]
    pub fn due(self, at: Duration) -> Duration {
        match self {
            // An offset that does not fit (a speed of 1e-300) is never due.
            Speed::Times(times) => Duration::try_from_secs_f64(at.as_secs_f64() / times).unwrap_or(Duration::MAX),
            Speed::Max => Duration::ZERO,
        }
    }
}

impl<'de> Deserialize<'de> for Speed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Speed;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a speed: a number above 0 (1, 10, 0.5) or \"max\"")
            }
            fn visit_f64<E: de::Error>(self, times: f64) -> Result<Speed, E> {
                if times.is_finite() && times > 0.0 {
                    Ok(Speed::Times(times))
                } else {
                    Err(E::custom(format_args!("speed {times}: write a number above 0 (1, 10, 0.5) or \"max\"")))
                }
            }
            fn visit_i64<E: de::Error>(self, times: i64) -> Result<Speed, E> {
                self.visit_f64(times as f64)
            }
            fn visit_u64<E: de::Error>(self, times: u64) -> Result<Speed, E> {
                self.visit_f64(times as f64)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Speed, E> {
                match text {
                    "max" => Ok(Speed::Max),
                    _ => Err(E::custom(format_args!(
                        "speed \"{text}\": write \"max\", or a number without quotes (1, 10, 0.5)"
                    ))),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Opens the feed and sees to it that `contracts` holds every instrument of it.
///
/// # Errors
/// A file or a setting that cannot be used, or an instrument without a contract: what is wrong, where, and what to do.
pub fn open(
    config: &FeedConfig,
    gateway: &Name,
    contracts: &mut Contracts,
    seed: u64,
) -> anyhow::Result<Box<dyn Feed>> {
    match config {
        FeedConfig::Synthetic(config) => Ok(Box::new(SyntheticFeed::open(config, gateway, contracts, seed)?)),
        FeedConfig::Recorded(config) => {
            let feed = RecordedFeed::open(config, gateway)?;
            for instrument in feed.instruments() {
                contracts.require(&instrument)?;
            }
            Ok(Box::new(feed))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn config(text: &str) -> Result<FeedConfig, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn both_kinds_are_read_and_unknown_keys_refused() {
        let recorded = config("kind = \"recorded\"\nfiles = [\"a.csv\"]\nloop = true\nspeed = 10").expect("valid");
        assert_eq!(recorded.speed(), Speed::Times(10.0));
        let FeedConfig::Recorded(recorded) = recorded else { panic!("recorded") };
        assert!(recorded.looped && recorded.first_minutes.is_none());

        let synthetic = config("kind = \"synthetic\"").expect("every setting has a default");
        assert_eq!(synthetic, FeedConfig::default());

        let error = config("kind = \"recorded\"\nfiles = []\nlop = true").expect_err("a misspelt key");
        assert!(error.contains("unknown field `lop`") && error.contains("`loop`"), "{error}");
        let error = config("kind = \"random\"").expect_err("no such kind");
        assert!(error.contains("random") && error.contains("recorded"), "{error}");
    }

    #[test]
    fn a_speed_is_a_positive_number_or_max() {
        let speed = |text: &str| config(&format!("kind = \"synthetic\"\nspeed = {text}")).map(|config| config.speed());
        assert_eq!(speed("1"), Ok(Speed::Times(1.0)));
        assert_eq!(speed("0.5"), Ok(Speed::Times(0.5)));
        assert_eq!(speed("\"max\""), Ok(Speed::Max));
        for bad in ["0", "-1", "0.0", "inf", "nan", "\"fast\"", "\"10\"", "true"] {
            let error = speed(bad).expect_err(bad);
            assert!(error.contains("max") && error.contains("0.5"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_tick_is_due_by_the_speed() {
        let at = Duration::from_secs(10);
        assert_eq!(Speed::Times(4.0).due(at), Duration::from_millis(2500));
        assert_eq!(Speed::Times(1e-300).due(at), Duration::MAX);
        assert_eq!(Speed::Max.due(at), Duration::ZERO);
    }

    #[test]
    fn an_instrument_without_a_contract_is_named_with_its_neighbour() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(super::super::recorded::tests::csv("2024-01-02T09:00:00+08:00,rb2410,SHFE,3600").as_bytes())
            .expect("written");
        let mut contracts = Contracts::load(&[], &[], &"sim1".into()).expect("nothing to load");
        contracts.insert(protocol::Contract::new(
            "sim1",
            InstrumentId::new("rb2405", protocol::Exchange::SHFE),
            protocol::Product::Futures,
            10.0,
            1.0,
        ));
        let config = FeedConfig::Recorded(RecordedConfig { files: vec![file.path().into()], ..Default::default() });
        let Err(error) = open(&config, &"sim1".into(), &mut contracts, 1) else { panic!("no contract") };
        let error = error.to_string();
        assert!(error.contains("rb2410.SHFE") && error.contains("rb2405.SHFE"), "{error}");
    }

    #[test]
    fn an_error_says_where() {
        let error = FeedError {
            file: "ticks.csv".into(),
            line: Some(7),
            field: Some("last_price"),
            problem: "`abc` is no number".to_owned(),
        };
        assert_eq!(error.to_string(), "ticks.csv, line 7, column `last_price`: `abc` is no number");
    }
}
