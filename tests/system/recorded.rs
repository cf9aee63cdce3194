//! Recorded market data through a node to a subscriber: every row arrives bit for bit, or is reported missing.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use client_sdk::{Client, Update};
use protocol::subject::Filter;
use protocol::{InstrumentId, Tick};

use crate::support::{PATIENCE, TestBroker, TestNode, recorded, until_ready};

const FILES: [(&str, &str); 3] = [
    ("ru1901.SHFE", "ticks/shfe_ru1901_20181008_20181012.ticks.csv.gz"),
    ("IF2101.CFFEX", "ticks/cffex_IF2101_20210104_20210106.ticks.csv.gz"),
    ("AP010.CZCE", "ticks/czce_AP010_20200803_20200814.ticks.csv.gz"),
];
const ROWS: u64 = 402_545;

/// A row of a file, read by nothing of ours.
type Row = HashMap<String, String>;

fn rows(path: &Path) -> Vec<Row> {
    let file = std::fs::File::open(path).expect("opens");
    let mut reader = csv::Reader::from_reader(flate2::read::MultiGzDecoder::new(file));
    reader.deserialize().map(|row| row.expect("a row")).collect()
}

/// Every value of a row against the tick that came of it.
fn assert_same(row: &Row, tick: &Tick) {
    let number = |column: &str| match row[column].as_str() {
        "" => None,
        text => Some(text.parse::<f64>().expect("a number")),
    };
    let same = |column: &str, value: Option<f64>| {
        assert_eq!(number(column).map(f64::to_bits), value.map(f64::to_bits), "{column} of {row:?}");
    };
    same("last_price", tick.last_price);
    same("volume", tick.volume);
    same("turnover", tick.turnover);
    same("open_interest", tick.open_interest);
    same("limit_up", tick.limit_up);
    same("limit_down", tick.limit_down);
    same("open_price", tick.open_price);
    same("high_price", tick.high_price);
    same("low_price", tick.low_price);
    same("pre_close", tick.pre_close);
    same("pre_settlement", tick.pre_settlement);
    for (side, levels) in [("bid", &tick.bids), ("ask", &tick.asks)] {
        let mut levels = levels.iter();
        for n in 1..=5 {
            if let Some(price) = number(&format!("{side}_price_{n}")) {
                let level = levels.next().unwrap_or_else(|| panic!("{side} {n} of {row:?}"));
                assert_eq!(price.to_bits(), level.0.to_bits(), "{side} {n} of {row:?}");
                same(&format!("{side}_volume_{n}"), Some(level.1));
            }
        }
        assert!(levels.next().is_none(), "more {side}s than in {row:?}");
    }
    assert_eq!(tick.datetime.to_rfc3339_opts(chrono::SecondsFormat::Millis, false), row["datetime"]);
    let day = |day: Option<chrono::NaiveDate>| day.map(|d| d.format("%Y%m%d").to_string()).unwrap_or_default();
    assert_eq!((day(tick.trading_day), day(tick.action_day)), (row["trading_day"].clone(), row["action_day"].clone()));
}

fn gateway(files: &[(InstrumentId, PathBuf)], more: &str) -> Option<String> {
    let instruments = recorded("instruments/instruments_tqsdk_20200616.csv.gz")?;
    let products = recorded("instruments/products_wondertrader.csv.gz")?;
    let list: Vec<_> = files.iter().map(|(_, path)| format!("{path:?}")).collect();
    Some(format!(
        "[[gateways]]\nname = \"replay\"\nkind = \"sim\"\nsubscribe = [\"*\"]\n[gateways.sim]\n\
         instruments = [{instruments:?}]\nproducts = [{products:?}]\n\
         [gateways.sim.feed]\nkind = \"recorded\"\nfiles = [{}]\n{more}\n",
        list.join(", ")
    ))
}

/// Replays; gives what arrived per instrument by number, and how many were reported missing.
struct Replay {
    arrived: HashMap<InstrumentId, Vec<(u64, Tick)>>,
    missed: HashMap<InstrumentId, u64>,
    /// The number of the last tick that the node had, by `get_tick`.
    last: HashMap<InstrumentId, u64>,
}

async fn replay(config: &str, files: &[(InstrumentId, PathBuf)]) -> Replay {
    let broker = TestBroker::start().await;
    let client = Client::connect(broker.url().as_str()).await.expect("connects");
    let mut ticks = client.ticks(Filter::all()).await.expect("subscribes");
    let mut logs = client.logs(None, Some("replay")).await.expect("subscribes");
    let node = TestNode::start(&broker.url(), config).await;
    until_ready(&broker.client().await, "replay").await;
    let mut replay = Replay { arrived: HashMap::new(), missed: HashMap::new(), last: HashMap::new() };
    let mut take = |update: Update<Tick>| match update {
        Update::Event(event) => {
            replay.arrived.entry(event.data.instrument()).or_default().push((event.seq, event.data.clone()));
        }
        Update::Missed(missed) => {
            let instrument = missed.instrument.expect("ticks are of an instrument");
            *replay.missed.entry(instrument).or_default() += missed.count.expect("ticks are counted");
        }
        other => panic!("{other:?}"),
    };
    let ended = async {
        loop {
            tokio::select! {
                update = ticks.next() => take(update.expect("the stream goes on")),
                log = logs.next() => {
                    let line = log.expect("the stream goes on").event().map(|e| e.data.msg.clone()).unwrap_or_default();
                    if line.contains("feed ended") {
                        return;
                    }
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE * 3, ended).await.expect("the feed ends");
    // What is still under way arrives within moments; whatever does not is missing at the tail, and `last` says so.
    while let Ok(Some(update)) = tokio::time::timeout(Duration::from_secs(2), ticks.next()).await {
        match update {
            Update::Event(event) => {
                replay.arrived.entry(event.data.instrument()).or_default().push((event.seq, event.data.clone()));
            }
            Update::Missed(missed) => {
                *replay.missed.entry(missed.instrument.expect("of an instrument")).or_default() +=
                    missed.count.expect("counted");
            }
            _ => {}
        }
    }
    // Asked last: the line that the feed ended overtakes ticks that are still in the node's queue.
    let handle = client.gateway("replay");
    for (instrument, _) in files {
        let last = handle.get_tick(instrument).await.expect("answered").expect("a tick");
        replay.last.insert(instrument.clone(), last.seq);
    }
    node.stop().await;
    replay
}

fn files() -> Option<Vec<(InstrumentId, PathBuf)>> {
    FILES.iter().map(|(id, file)| Some((id.parse().expect("an instrument"), recorded(file)?))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_files_as_fast_as_possible_add_up() {
    let Some(files) = files() else { return };
    let Some(config) = gateway(&files, "speed = \"max\"") else { return };
    let replay = replay(&config, &files).await;
    let mut total = 0;
    for (instrument, path) in &files {
        let rows = rows(path);
        let arrived = &replay.arrived[instrument];
        let first = arrived.first().expect("something arrived").0;
        let newest = arrived.last().expect("something arrived").0;
        let reported =
            replay.missed.get(instrument).copied().unwrap_or(0) + (first - 1) + (replay.last[instrument] - newest);
        assert_eq!(replay.last[instrument], rows.len() as u64, "every row of {instrument} was numbered");
        assert_eq!(arrived.len() as u64 + reported, rows.len() as u64, "received + reported of {instrument}");
        // A tick's number is its row: what arrived can be compared whatever was missed.
        for (seq, tick) in arrived {
            assert_same(&rows[usize::try_from(seq - 1).expect("small")], tick);
        }
        total += rows.len() as u64;
        println!("{instrument}: {} rows, {} received, {reported} reported missing", rows.len(), arrived.len());
    }
    assert_eq!(total, ROWS);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_minutes_at_a_hundred_times_real_time_lose_nothing() {
    let Some(files) = files() else { return };
    let Some(config) = gateway(&files, "speed = 100\nfirst_minutes = 10") else { return };
    let replay = replay(&config, &files).await;
    assert_eq!(replay.missed, HashMap::new());
    for (instrument, path) in &files {
        let rows = rows(path);
        let arrived = &replay.arrived[instrument];
        assert!(arrived.len() > 200, "{instrument}: {}", arrived.len());
        assert_eq!(arrived.len() as u64, replay.last[instrument]);
        for ((seq, tick), n) in arrived.iter().zip(1..) {
            assert_eq!(*seq, n);
            assert_same(&rows[usize::try_from(n - 1).expect("small")], tick);
        }
        println!("{instrument}: {} ticks in ten minutes", arrived.len());
    }
}
