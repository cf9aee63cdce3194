//! What the demo's simulated venue trades: recorded ticks where there are some, a synthetic market everywhere else.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use toml::{Table, Value};

use crate::workspace;

/// A market and its speed.
#[derive(Debug)]
pub struct Market {
    kind: Kind,
    speed: Value,
}

#[derive(Debug)]
enum Kind {
    Synthetic,
    Recorded { ticks: Vec<PathBuf>, instruments: Vec<PathBuf>, products: Vec<PathBuf> },
}

impl Market {
    /// The recorded data that was asked for, or that lies beside the project; otherwise the synthetic market.
    ///
    /// # Errors
    /// If a directory was named and holds no ticks.
    pub fn choose(named: Option<PathBuf>, synthetic: bool, speed: Value) -> anyhow::Result<Market> {
        if synthetic {
            return Ok(Market { kind: Kind::Synthetic, speed });
        }
        let named = named.or_else(|| std::env::var_os("GATEMESH_DATA").filter(|d| !d.is_empty()).map(PathBuf::from));
        let must_be_there = named.is_some();
        let directory = named.unwrap_or_else(|| workspace::root().join("../shared/data"));
        let ticks = files(&directory.join("ticks"), |name| name.contains(".ticks.csv"));
        if ticks.is_empty() {
            if must_be_there {
                bail!(
                    "{} holds no recorded ticks (ticks/*.ticks.csv.gz): name one that does with --data, or write \
                     --synthetic",
                    directory.display()
                );
            }
            return Ok(Market { kind: Kind::Synthetic, speed });
        }
        let lists = directory.join("instruments");
        let instruments = files(&lists, |name| name.starts_with("instruments") && name.contains(".csv"));
        let products = files(&lists, |name| name.starts_with("products") && name.contains(".csv"));
        Ok(Market { kind: Kind::Recorded { ticks, instruments, products }, speed })
    }

    /// The text of a node's configuration: one gateway `sim1` on this market, with a broker of its own.
    ///
    /// # Errors
    /// If a path is no UTF-8, which a configuration cannot hold.
    pub fn node_config(&self, data: &Path, port: u16) -> anyhow::Result<String> {
        let mut feed = Table::new();
        let mut sim = Table::new();
        feed.insert("speed".to_owned(), self.speed.clone());
        match &self.kind {
            Kind::Synthetic => {
                feed.insert("kind".to_owned(), "synthetic".into());
            }
            Kind::Recorded { ticks, instruments, products } => {
                feed.insert("kind".to_owned(), "recorded".into());
                feed.insert("files".to_owned(), texts(ticks)?);
                feed.insert("loop".to_owned(), true.into());
                sim.insert("instruments".to_owned(), texts(instruments)?);
                sim.insert("products".to_owned(), texts(products)?);
            }
        }
        sim.insert("feed".to_owned(), feed.into());
        let mut gateway = Table::new();
        gateway.insert("name".to_owned(), "sim1".into());
        gateway.insert("kind".to_owned(), "sim".into());
        gateway.insert("subscribe".to_owned(), Value::Array(vec!["*".into()]));
        gateway.insert("sim".to_owned(), sim.into());
        let mut broker = Table::new();
        broker.insert("data_dir".to_owned(), text(data)?);
        broker.insert("port".to_owned(), i64::from(port).into());
        let mut node = Table::new();
        node.insert("name".to_owned(), "demo".into());
        let mut config = Table::new();
        config.insert("node".to_owned(), node.into());
        config.insert("broker".to_owned(), broker.into());
        config.insert("gateways".to_owned(), Value::Array(vec![gateway.into()]));
        Ok(config.to_string())
    }
}

impl fmt::Display for Market {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Synthetic => write!(f, "synthetic")?,
            Kind::Recorded { ticks, .. } => write!(f, "{} recorded files", ticks.len())?,
        }
        match &self.speed {
            Value::String(_) => write!(f, ", as fast as it goes"),
            speed => write!(f, ", {speed} times as fast as it happened"),
        }
    }
}

/// Reads `--speed`: a number above 0, or `max`.
///
/// # Errors
/// A sentence that says what to write.
pub fn speed(text: &str) -> Result<Value, String> {
    if text == "max" {
        return Ok(text.into());
    }
    if let Some(whole) = text.parse::<i64>().ok().filter(|whole| *whole > 0) {
        return Ok(whole.into());
    }
    match text.parse::<f64>() {
        Ok(times) if times.is_finite() && times > 0.0 => Ok(times.into()),
        _ => Err(format!("`{text}` is no speed: write a number above 0, such as 1 or 0.5, or max")),
    }
}

fn files(directory: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(&wanted))
        .filter_map(|entry| std::path::absolute(entry.path()).ok())
        .collect();
    // The order of a directory is anybody's guess, and the same demo should look the same.
    found.sort();
    found
}

fn texts(paths: &[PathBuf]) -> anyhow::Result<Value> {
    paths.iter().map(|path| text(path)).collect::<Result<Vec<_>, _>>().map(Value::Array)
}

fn text(path: &Path) -> anyhow::Result<Value> {
    path.to_str().map(Value::from).with_context(|| format!("{} is not written in UTF-8", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_data_is_found_in_its_directory_and_must_be_there_if_named() {
        let dir = tempfile::tempdir().expect("directory");
        let error = Market::choose(Some(dir.path().to_owned()), false, 1.into()).expect_err("empty").to_string();
        assert!(error.contains("holds no recorded ticks"), "{error}");

        for file in ["ticks/b.ticks.csv.gz", "ticks/a.ticks.csv", "ticks/notes.md", "instruments/products_x.csv.gz"] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("directory");
            std::fs::write(path, "").expect("file");
        }
        let market = Market::choose(Some(dir.path().to_owned()), false, speed("2.5").expect("speed")).expect("found");
        assert_eq!(market.to_string(), "2 recorded files, 2.5 times as fast as it happened");
        let config: Table = market.node_config(Path::new("/d ir/\"x"), 4333).expect("config").parse().expect("TOML");
        assert_eq!(config["broker"]["data_dir"].as_str(), Some("/d ir/\"x"));
        assert_eq!(config["broker"]["port"].as_integer(), Some(4333));
        let sim = &config["gateways"][0]["sim"];
        assert!(sim["feed"]["files"][0].as_str().expect("path").ends_with("a.ticks.csv"));
        assert_eq!(sim["feed"]["speed"].as_float(), Some(2.5));
        assert_eq!(sim["products"].as_array().expect("list").len(), 1);
    }

    #[test]
    fn synthetic_needs_nothing() {
        let market = Market::choose(None, true, speed("max").expect("speed")).expect("chosen");
        let config: Table = market.node_config(Path::new("/d"), 1).expect("config").parse().expect("TOML");
        assert_eq!(config["gateways"][0]["sim"]["feed"]["kind"].as_str(), Some("synthetic"));
        assert_eq!(config["gateways"][0]["sim"]["feed"]["speed"].as_str(), Some("max"));
    }

    #[test]
    fn speeds_are_positive_numbers_or_max() {
        assert_eq!(speed("10"), Ok(Value::Integer(10)));
        assert_eq!(speed("0.5"), Ok(Value::Float(0.5)));
        for wrong in ["0", "-1", "nan", "inf", "fast", ""] {
            assert!(speed(wrong).expect_err("refused").contains("write a number above 0"), "{wrong}");
        }
    }
}
