//! `[gateways.ctp]`, as `deploy/ctp.example.toml` documents it. Secrets are written down, or named by where they are: an
//! environment variable or a file.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use ctp::requests::Identity;
use ctp::{Family, check_fronts};
use protocol::Name;
use serde::Deserialize;

use crate::config::Secret;

/// `[gateways.ctp]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CtpConfig {
    /// The broker's trader library (`libthosttraderapi_se.so`).
    pub trader_library: PathBuf,
    /// The broker's market data library (`libthostmduserapi_se.so`). Without one there are no ticks.
    #[serde(default)]
    pub market_library: Option<PathBuf>,
    /// The binary interface of both libraries, `"A"` to `"E"`, where their versions do not tell.
    #[serde(default)]
    pub abi: Option<Abi>,
    /// The trader fronts, `tcp://HOST:PORT`; the library tries them in turn.
    pub trader_fronts: Vec<String>,
    /// The market data fronts.
    #[serde(default)]
    pub market_fronts: Vec<String>,
    /// The broker's number.
    pub broker: String,
    /// The user, who is the investor too.
    pub user: String,
    /// The user's password.
    pub password: SecretSource,
    /// Terminal product (`UserProductInfo`).
    #[serde(default)]
    pub product_info: String,
    /// Terminal application (`AppID`).
    #[serde(default)]
    pub app_id: String,
    /// The code that the broker gave out for the application. Without one nobody authenticates.
    #[serde(default)]
    pub auth_code: Option<SecretSource>,
    /// Production, or the broker's evaluation environment: the newer libraries want to know.
    #[serde(default)]
    pub environment: Environment,
    /// Where the libraries keep their own files: `data/ctp/NAME` by default. Each gateway needs one of its own.
    #[serde(default)]
    pub flow_dir: Option<PathBuf>,
    /// Between two queries, in milliseconds: the counter's flow control allows one a second.
    #[serde(default = "one_second")]
    pub query_interval_ms: u64,
}

/// Which of the binary interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Abi {
    /// Up to 6.7.2.
    A,
    /// 6.7.7 to 6.7.9.
    B,
    /// 6.7.10.
    C,
    /// 6.7.11.
    D,
    /// 6.7.13.
    E,
}

impl From<Abi> for Family {
    fn from(abi: Abi) -> Family {
        match abi {
            Abi::A => Family::A,
            Abi::B => Family::B,
            Abi::C => Family::C,
            Abi::D => Family::D,
            Abi::E => Family::E,
        }
    }
}

/// The counter's environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Real money.
    #[default]
    Production,
    /// The broker's see-through evaluation.
    Evaluation,
}

/// A secret, or where it is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(
    untagged,
    expecting = "write a text in quotes that is not empty, or { env = \"NAME\" }, or { file = \"PATH\" }"
)]
pub enum SecretSource {
    /// The text itself.
    Text(Secret),
    /// The environment variable of this name holds it.
    #[serde(deserialize_with = "environment")]
    Environment(String),
    /// The first line of this file is it.
    #[serde(deserialize_with = "file")]
    File(PathBuf),
}

fn environment<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Named {
        env: String,
    }
    Named::deserialize(from).map(|named| named.env)
}

fn file<'de, D: serde::Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Named {
        file: PathBuf,
    }
    Named::deserialize(from).map(|named| named.file)
}

const fn one_second() -> u64 {
    1_000
}

impl SecretSource {
    /// The secret itself.
    ///
    /// # Errors
    /// If the variable is not set, the file cannot be read, or there is nothing in it; never what is in it.
    pub fn reveal(&self, key: &str) -> anyhow::Result<Secret> {
        let text = match self {
            SecretSource::Text(secret) => return Ok(secret.clone()),
            SecretSource::Environment(name) => std::env::var(name)
                .ok()
                .with_context(|| format!("{key} names the environment variable {name}, which is not set"))?,
            SecretSource::File(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("{key} names the file {}, which cannot be read", path.display()))?;
                text.lines().next().unwrap_or_default().trim().to_owned()
            }
        };
        ensure!(!text.is_empty(), "what {key} names is empty");
        Ok(Secret::new(text))
    }
}

impl CtpConfig {
    /// Who logs in.
    ///
    /// # Errors
    /// If a secret cannot be had.
    pub fn identity(&self) -> anyhow::Result<Identity> {
        let auth_code = self.auth_code.as_ref().map(|source| source.reveal("ctp.auth_code")).transpose()?;
        Ok(Identity {
            broker: self.broker.as_str().into(),
            user: self.user.as_str().into(),
            password: self.password.reveal("ctp.password")?.reveal().to_owned(),
            product_info: self.product_info.as_str().into(),
            app_id: self.app_id.as_str().into(),
            auth_code: auth_code.map(|code| code.reveal().to_owned()).unwrap_or_default(),
        })
    }

    /// Where the libraries keep their files.
    #[must_use]
    pub fn flow_dir(&self, gateway: &Name) -> PathBuf {
        self.flow_dir.clone().unwrap_or_else(|| PathBuf::from("data/ctp").join(gateway.as_str()))
    }

    /// Between two queries.
    #[must_use]
    pub fn query_interval(&self) -> Duration {
        Duration::from_millis(self.query_interval_ms)
    }

    /// The first thing that cannot be: its key, and what to write.
    #[must_use]
    pub(crate) fn complaint(&self) -> Option<(&'static str, String)> {
        if self.auth_code.is_some() && self.app_id.is_empty() {
            return Some(("app_id", "is missing: the auth code was given out for an AppID; write both".to_owned()));
        }
        let empty = [("broker", &self.broker), ("user", &self.user)].into_iter().find(|(_, text)| text.is_empty());
        if let Some((key, _)) = empty {
            return Some((key, "is empty: write what the broker gave you".to_owned()));
        }
        if self.market_library.is_some() == self.market_fronts.is_empty() {
            let message = "market_library and market_fronts go together: write both for ticks, or neither";
            return Some(("market_fronts", message.to_owned()));
        }
        let market_fronts = self.market_library.is_some().then_some(("market_fronts", &self.market_fronts));
        for (key, fronts) in [("trader_fronts", &self.trader_fronts)].into_iter().chain(market_fronts) {
            if let Err(error) = check_fronts(fronts) {
                return Some((key, error.to_string()));
            }
        }
        (!(10..=2_000).contains(&self.query_interval_ms)).then(|| {
            ("query_interval_ms", "must be 10 to 2000; the counter's flow control allows one a second".to_owned())
        })
    }
}

#[cfg(test)]
mod tests;
