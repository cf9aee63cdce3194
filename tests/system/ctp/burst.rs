//! A million depth records as fast as the library's callback returns: each arrives, or is reported missing.

use std::collections::HashMap;
use std::time::Duration;

use client_sdk::Update;
use nix::sys::signal::Signal;
use protocol::InstrumentId;
use protocol::subject::Filter;
use serde_json::json;

use super::site::{Site, depth};
use crate::support::{PATIENCE, eventually};

const RECORDS: u64 = 1_000_000;

fn depth_of(symbol: &str, last: f64) -> serde_json::Value {
    let mut depth = depth(last, 0);
    depth["record"]["InstrumentID"] = json!(symbol);
    depth
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_depth_records_arrive_or_are_reported_missing() {
    let Some(site) = Site::start(json!({})).await else { return };
    let site = site.with_market(json!({"burst": {"records": RECORDS}}));
    let mut ticks = site.sdk.ticks(Filter::all()).await.expect("a stream");
    let node = site.node("a");
    site.until_ready("a").await;
    eventually("both subscriptions", || async {
        let asked = site.asked("a", "market", "SubscribeMarketData");
        (asked.iter().map(|asked| asked["arguments"].as_array().map_or(0, Vec::len)).sum::<usize>() == 2).then_some(())
    })
    .await;
    // The first number of an instrument in a stream is its baseline, and the last ones show what is missing before them.
    for symbol in ["rb2701", "ag2702"] {
        site.tell("a", "market", &depth_of(symbol, 1.0));
    }
    site.tell("a", "market", &json!({"call": "Burst"}));
    let tell_last = || {
        for symbol in ["rb2701", "ag2702"] {
            site.tell("a", "market", &depth_of(symbol, 2.0));
        }
    };
    tell_last();
    let mut received: HashMap<InstrumentId, u64> = HashMap::new();
    let mut missed: HashMap<InstrumentId, u64> = HashMap::new();
    let mut began = 0;
    let mut ended: HashMap<InstrumentId, u64> = HashMap::new();
    let take = async {
        while ended.len() < 2 {
            match ticks.next().await.expect("the stream goes on") {
                Update::Event(tick) => {
                    let instrument = tick.data.instrument();
                    match tick.data.last_price {
                        Some(1.0) => began += 1,
                        Some(2.0) => _ = ended.entry(instrument).or_insert(tick.seq),
                        _ => {
                            // The record's own count, so that what arrived is what was told.
                            assert_eq!(tick.data.volume, Some((tick.seq - 1) as f64));
                            *received.entry(instrument).or_default() += 1;
                        }
                    }
                }
                Update::Missed(lost) => {
                    let instrument = lost.instrument.expect("of an instrument");
                    if !ended.contains_key(&instrument) {
                        *missed.entry(instrument).or_default() += lost.count.expect("counted");
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    };
    // The last ones may be lost like any other, and then nothing comes behind them.
    let tell_again = async {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            tell_last();
        }
    };
    let all = async {
        tokio::select! {
            () = take => {}
            () = tell_again => {}
        }
    };
    tokio::time::timeout(PATIENCE * 3, all).await.expect("the burst ends");
    assert_eq!(began, 2, "the baselines");
    println!("received {received:?}, reported missing {missed:?}");
    let of = |counts: &HashMap<InstrumentId, u64>| counts.values().sum::<u64>();
    // Each instrument's baseline and its last one apart.
    let numbered = ended.values().map(|last| last - 2).sum::<u64>();
    assert_eq!(of(&received) + of(&missed), numbered);
    assert!(
        ended.len() == 2 && ended.values().all(|last| last - 2 >= RECORDS / 2),
        "every record was numbered: {ended:?}"
    );
    assert!(of(&received) > 0);
    assert_eq!(node.end_by(Signal::SIGTERM).await.code, 0);
}
