//! Settings of a simulated venue, inside a node or in a process of its own: one struct per section, unknown keys refused,
//! values checked before anything starts.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, ensure};
use protocol::{Contract, Currency, Name};
use serde::Deserialize;

use super::books::Terms;
use super::feed::FeedConfig;

/// A simulated venue; every setting has a default, so that an empty section trades a synthetic market.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "SimSection")]
pub struct SimConfig {
    /// `HOST:PORT` of a venue in another process; everything else is that venue's own business then.
    pub venue: Option<String>,
    /// Where the market data comes from.
    pub feed: FeedConfig,
    /// When the feed's clock starts.
    pub start_on: StartOn,
    /// CSV files of contracts.
    pub instruments: Vec<PathBuf>,
    /// CSV files of products, for instruments that no file of contracts lists.
    pub products: Vec<PathBuf>,
    /// Seed of the synthetic market: the same seed gives the same ticks.
    pub seed: u64,
    /// The paper account.
    pub account: AccountConfig,
    /// Faults to inject, for tests of what stands above the venue.
    pub faults: FaultConfig,
}

/// When the feed's clock starts. It starts once; from then on it runs through logouts, as a market does. Only at speed
/// `"max"`, where it runs as fast as ticks are taken, does it wait while nobody is logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartOn {
    /// With the first subscription, so that nothing of a recording is missed.
    #[default]
    Subscribe,
    /// With the first login.
    Connect,
}

/// The paper account.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccountConfig {
    /// Its name.
    pub accountid: Name,
    /// Its currency; prices are taken to be in it.
    pub currency: Currency,
    /// Money that it begins with, where the journal does not know it yet.
    pub balance: f64,
    /// Commission as a share of the money traded.
    pub commission_rate: f64,
    /// Commission per lot, in money.
    pub commission_per_lot: f64,
    /// Margin as a share of the value, for contracts that name none.
    pub margin_ratio: f64,
}

/// Faults to inject.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultConfig {
    /// So many logins fail as if the venue could not be reached.
    pub login_failures: u32,
    /// Every login is refused as if the password were wrong.
    pub refuse_login: bool,
}

/// A venue in a process of its own, as `deploy/venue.example.toml` documents it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VenueConfig {
    /// Orders and quotes that a session may send within a second; more are rejected. At least 1.
    pub orders_per_second: u32,
    /// Where the market data comes from.
    pub feed: FeedConfig,
    /// When the feed's clock starts.
    pub start_on: StartOn,
    /// CSV files of contracts.
    pub instruments: Vec<PathBuf>,
    /// CSV files of products, for instruments that no file of contracts lists.
    pub products: Vec<PathBuf>,
    /// Seed of the synthetic market: the same seed gives the same ticks.
    pub seed: u64,
    /// The paper account.
    pub account: AccountConfig,
    /// Faults at login.
    pub faults: FaultConfig,
}

/// `[gateways.sim]` as it is written: a key that is there is told from one that has its default value.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SimSection {
    feed: Option<FeedConfig>,
    start_on: Option<StartOn>,
    instruments: Option<Vec<PathBuf>>,
    products: Option<Vec<PathBuf>>,
    seed: Option<u64>,
    account: Option<AccountConfig>,
    faults: Option<FaultConfig>,
    venue: Option<String>,
}

impl TryFrom<SimSection> for SimConfig {
    type Error = String;
    fn try_from(section: SimSection) -> Result<SimConfig, String> {
        if let Some(address) = &section.venue {
            let own = [
                ("feed", section.feed.is_some()),
                ("start_on", section.start_on.is_some()),
                ("instruments", section.instruments.is_some()),
                ("products", section.products.is_some()),
                ("seed", section.seed.is_some()),
                ("account", section.account.is_some()),
                ("faults", section.faults.is_some()),
            ];
            if let Some((key, _)) = own.iter().find(|(_, given)| *given) {
                return Err(format!(
                    "`{key}` belongs to the venue's own file (gateway-node venue --config FILE) when `venue` names one: \
                     move it there, or remove `venue` for a venue inside the node"
                ));
            }
            check_address(address)?;
        }
        let default = SimConfig::default();
        Ok(SimConfig {
            venue: section.venue,
            feed: section.feed.unwrap_or(default.feed),
            start_on: section.start_on.unwrap_or(default.start_on),
            instruments: section.instruments.unwrap_or(default.instruments),
            products: section.products.unwrap_or(default.products),
            seed: section.seed.unwrap_or(default.seed),
            account: section.account.unwrap_or(default.account),
            faults: section.faults.unwrap_or(default.faults),
        })
    }
}

/// Whether a text names a host and a port.
///
/// # Errors
/// What to write instead.
pub fn check_address(text: &str) -> Result<(), String> {
    let is_address = text.rsplit_once(':').is_some_and(|(host, port)| {
        let is_host = !host.is_empty() && (!host.contains(':') || host.starts_with('[') && host.ends_with(']'));
        is_host && !host.contains(['/', '@', ' ']) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if is_address {
        Ok(())
    } else {
        Err(format!("`{text}` is no address: write HOST:PORT, for example 127.0.0.1:7700"))
    }
}

impl VenueConfig {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// A sentence that names the file and the line, and says what to write.
    pub fn load(path: &Path) -> anyhow::Result<VenueConfig> {
        let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
        let config: VenueConfig = toml::from_str(&text).map_err(|error| anyhow!("{}: {error}", path.display()))?;
        ensure!(
            config.orders_per_second > 0,
            "{}: orders_per_second is 0, so that every order would be rejected: write 1 or more, for example 2000",
            path.display()
        );
        Ok(config)
    }
}

impl Default for VenueConfig {
    fn default() -> Self {
        let SimConfig { venue: _, feed, start_on, instruments, products, seed, account, faults } = SimConfig::default();
        VenueConfig { orders_per_second: 2000, feed, start_on, instruments, products, seed, account, faults }
    }
}

impl From<VenueConfig> for SimConfig {
    fn from(config: VenueConfig) -> SimConfig {
        let VenueConfig { orders_per_second: _, feed, start_on, instruments, products, seed, account, faults } = config;
        SimConfig { venue: None, feed, start_on, instruments, products, seed, account, faults }
    }
}

impl Default for SimConfig {
    fn default() -> Self {
        SimConfig {
            venue: None,
            feed: FeedConfig::default(),
            start_on: StartOn::default(),
            instruments: Vec::new(),
            products: Vec::new(),
            seed: 1,
            account: AccountConfig::default(),
            faults: FaultConfig::default(),
        }
    }
}

impl Default for AccountConfig {
    fn default() -> Self {
        AccountConfig {
            accountid: Name::const_new("paper"),
            currency: Currency::CNY,
            balance: 10_000_000.0,
            commission_rate: 0.0001,
            commission_per_lot: 0.0,
            margin_ratio: 0.1,
        }
    }
}

impl SimConfig {
    /// Whether the values make sense, apart from the files that they name.
    ///
    /// # Errors
    /// Names the setting and what to write instead.
    pub fn check(&self) -> anyhow::Result<()> {
        let account = &self.account;
        ensure!(!account.accountid.is_empty(), "account.accountid is empty: write a name, for example \"paper\"");
        let amounts = [
            ("balance", account.balance, "an amount of money, 0 or more, for example 1000000"),
            ("commission_rate", account.commission_rate, "a share of the money traded, 0 or more, for example 0.0001"),
            ("commission_per_lot", account.commission_per_lot, "an amount of money, 0 or more, for example 1.5"),
            ("margin_ratio", account.margin_ratio, "a share of the value, 0 or more, for example 0.1"),
        ];
        for (field, value, instead) in amounts {
            ensure!(value.is_finite() && value >= 0.0, "account.{field} is {value}: write {instead}");
        }
        Ok(())
    }
}

/// Whether money can be reckoned with a contract.
///
/// # Errors
/// Names the contract and the field.
pub(super) fn check_contract(contract: &Contract) -> anyhow::Result<()> {
    let instrument = contract.instrument();
    for (field, value) in
        [("size", contract.size), ("pricetick", contract.pricetick), ("min_volume", contract.min_volume)]
    {
        ensure!(value.is_finite() && value > 0.0, "contract {instrument}: {field} is {value}, it must be above 0");
    }
    for (field, ratio) in
        [("long_margin_ratio", contract.long_margin_ratio), ("short_margin_ratio", contract.short_margin_ratio)]
    {
        let ratio = ratio.unwrap_or(0.0);
        ensure!(ratio.is_finite() && ratio >= 0.0, "contract {instrument}: {field} is {ratio}, it must be 0 or more");
    }
    Ok(())
}

impl From<AccountConfig> for Terms {
    fn from(account: AccountConfig) -> Terms {
        Terms {
            accountid: account.accountid,
            currency: account.currency,
            balance: account.balance,
            commission_rate: account.commission_rate,
            commission_per_lot: account.commission_per_lot,
            margin_ratio: account.margin_ratio,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_section_is_a_whole_venue() {
        let config: SimConfig = toml::from_str("").expect("everything has a default");
        assert_eq!(config, SimConfig::default());
        assert!(config.check().is_ok());
    }

    #[test]
    fn sections_are_read_and_unknown_keys_refused() {
        let text = "seed = 7\nstart_on = \"connect\"\n[feed]\nkind = \"recorded\"\nfiles = [\"a.csv\"]\nspeed = \"max\"\n\
                    [account]\nbalance = 5\n[faults]\nlogin_failures = 2";
        let config: SimConfig = toml::from_str(text).expect("valid");
        assert_eq!((config.seed, config.start_on, config.account.balance), (7, StartOn::Connect, 5.0));
        assert_eq!(config.faults, FaultConfig { login_failures: 2, refuse_login: false });
        for (text, says) in [("sead = 1", "sead"), ("[account]\nbalanse = 1", "balanse"), ("[faults]\nx = 1", "`x`")] {
            let error = toml::from_str::<SimConfig>(text).expect_err(text).to_string();
            assert!(error.contains("unknown field") && error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_venue_of_another_process_leaves_nothing_else_to_write() {
        let config: SimConfig = toml::from_str("venue = \"127.0.0.1:7700\"").expect("valid");
        assert_eq!(config, SimConfig { venue: Some("127.0.0.1:7700".to_owned()), ..SimConfig::default() });
        for (beside, key) in [("seed = 1", "seed"), ("[account]", "account"), ("[feed]\nkind = \"synthetic\"", "feed")]
        {
            let text = format!("venue = \"127.0.0.1:7700\"\n{beside}");
            let error = toml::from_str::<SimConfig>(&text).expect_err("refused").to_string();
            assert!(error.contains(&format!("`{key}` belongs to the venue's own file")), "{error}");
        }
        for wrong in ["", "host", "host:", ":1", "host:0", "host:65536", "nats://host:1", "a@host:1", "::1:80"] {
            assert!(check_address(wrong).is_err(), "{wrong}");
        }
        for right in ["localhost:1", "10.0.0.1:65535", "[::1]:80"] {
            assert_eq!(check_address(right), Ok(()));
        }
    }

    #[test]
    fn the_example_of_a_venue_holds_every_default() {
        let example: VenueConfig =
            toml::from_str(include_str!("../../../../deploy/venue.example.toml")).expect("deploy/venue.example.toml");
        assert_eq!(example, VenueConfig::default());
    }

    #[test]
    fn a_mistake_in_a_venues_file_is_told_with_file_and_line() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("venue.toml");
        for (text, says) in [("orders_per_second = 0", "every order would be rejected"), ("\nsead = 1", "line 2")] {
            std::fs::write(&file, text).expect("written");
            let error = format!("{:#}", VenueConfig::load(&file).expect_err("refused"));
            assert!(error.contains(says) && error.contains("venue.toml"), "{error}");
        }
        let missing = directory.path().join("none.toml");
        assert!(format!("{:#}", VenueConfig::load(&missing).expect_err("refused")).contains("none.toml"));
    }

    #[test]
    fn a_value_that_cannot_be_is_named() {
        let check = |account| SimConfig { account, ..SimConfig::default() }.check().expect_err("refused").to_string();
        let negative = AccountConfig { balance: -1.0, ..AccountConfig::default() };
        assert_eq!(check(negative), "account.balance is -1: write an amount of money, 0 or more, for example 1000000");
        let nan = AccountConfig { margin_ratio: f64::NAN, ..AccountConfig::default() };
        assert!(check(nan).starts_with("account.margin_ratio is NaN"));
        let unnamed = AccountConfig { accountid: Name::default(), ..AccountConfig::default() };
        assert!(check(unnamed).starts_with("account.accountid is empty"));
    }
}
