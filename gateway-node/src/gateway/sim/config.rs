//! Settings of a simulated venue: one struct per section, unknown keys refused, values checked before anything starts.

use std::path::PathBuf;

use anyhow::ensure;
use protocol::{Contract, Currency, Name};
use serde::Deserialize;

use super::books::Terms;
use super::feed::FeedConfig;

/// A simulated venue; every setting has a default, so that an empty section trades a synthetic market.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimConfig {
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

impl Default for SimConfig {
    fn default() -> Self {
        SimConfig {
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
