//! Depth records as fast as the library's callback returns: a million arrive whole, and while the
//! broker stands still the library is not held, and what it told is reported missing to the last record.

use std::collections::HashMap;
use std::time::Duration;

use client_sdk::{Client, Update};
use futures::StreamExt as _;
use nix::sys::signal::Signal;
use protocol::subject::Filter;
use protocol::{Event, InstrumentId, Tick, codec};
use serde_json::{Value, json};

use super::site::{Site, depth};
use crate::support::{PATIENCE, eventually};

const SYMBOLS: [&str; 2] = ["rb2701", "ag2702"];
/// The last price of the records before and behind a burst.
const FIRST: f64 = 1.0;
const LAST: f64 = 2.0;

fn tell(site: &Site, last: f64) {
    for symbol in SYMBOLS {
        let mut depth = depth(last, 0);
        depth["record"]["InstrumentID"] = json!(symbol);
        site.tell("a", "market", &depth);
    }
}

async fn until_subscribed(site: &Site) {
    eventually("both subscriptions", || async {
        let asked = site.asked("a", "market", "SubscribeMarketData");
        let count: usize = asked.iter().map(|asked| asked["arguments"].as_array().map_or(0, Vec::len)).sum();
        (count == SYMBOLS.len()).then_some(())
    })
    .await;
}

/// What the library noted at the burst's end: its records, and the microseconds of the longest callback.
async fn until_told(site: &Site) -> Value {
    eventually("the burst's end", || async { site.asked("a", "market", "Burst").pop() }).await["arguments"].clone()
}

/// What came of a burst.
#[derive(Debug, Default)]
struct Taken {
    /// Instruments whose first record came.
    began: usize,
    received: HashMap<InstrumentId, u64>,
    missed: HashMap<InstrumentId, u64>,
    /// The numbers of the last ones.
    ended: HashMap<InstrumentId, u64>,
}

impl Taken {
    /// Reads without a pause until each instrument's last one. A number that comes twice, or out of turn, is a panic.
    async fn read(sdk: &Client, ready: impl Future<Output = ()>) -> Taken {
        let mut ticks = sdk.ticks(Filter::all()).await.expect("a stream");
        ready.await;
        let mut taken = Taken::default();
        while taken.ended.len() < SYMBOLS.len() {
            match ticks.next().await.expect("the stream goes on") {
                Update::Event(tick) => {
                    let instrument = tick.data.instrument();
                    match tick.data.last_price {
                        Some(FIRST) => taken.began += 1,
                        Some(LAST) => _ = taken.ended.entry(instrument).or_insert(tick.seq),
                        _ => {
                            // The record's own count, so that what arrived is what was told.
                            assert_eq!(tick.data.volume, Some((tick.seq - 1) as f64));
                            *taken.received.entry(instrument).or_default() += 1;
                        }
                    }
                }
                Update::Missed(lost) => {
                    let instrument = lost.instrument.expect("of an instrument");
                    if !taken.ended.contains_key(&instrument) {
                        *taken.missed.entry(instrument).or_default() += lost.count.expect("counted");
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        taken
    }

    fn received(&self) -> u64 {
        self.received.values().sum()
    }

    fn missed(&self) -> u64 {
        self.missed.values().sum()
    }
}

/// The subscriber is a client of the broker that holds as much as there is: what is missing is missing on the wire. The
/// SDK holds 65,536, and on a busy machine it falls behind a library that calls back at the speed of memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_million_depth_records_arrive() {
    const RECORDS: u64 = 1_000_000;
    let Some(site) = Site::start(json!({})).await else { return };
    let site = site.with_market(json!({"burst": {"records": RECORDS}})).with_lease("120 s");
    let options = async_nats::ConnectOptions::new().subscription_capacity(2 * RECORDS as usize);
    let client = options.connect(site.broker.url()).await.expect("connects");
    let mut ticks = client.subscribe("evt.tick.>").await.expect("subscribed");
    client.flush().await.expect("flushed");
    let node = site.node("a");
    site.until_ready("a").await;
    until_subscribed(&site).await;
    tell(&site, FIRST);
    site.tell("a", "market", &json!({"call": "Burst"}));
    tell(&site, LAST);
    let all = async {
        let mut numbers: HashMap<InstrumentId, u64> = HashMap::new();
        let mut ended = 0;
        while ended < SYMBOLS.len() {
            let message = ticks.next().await.expect("the stream goes on");
            let tick: Event<Tick> = codec::decode(&message.payload).expect("a tick");
            let last = numbers.entry(tick.data.instrument()).or_default();
            *last += 1;
            assert_eq!(tick.seq, *last, "{}: some are missing before it, or it came out of turn", tick.data.symbol);
            match tick.data.last_price {
                Some(FIRST) => {}
                Some(LAST) => ended += 1,
                // The record's own count, so that what arrived is what was told.
                _ => assert_eq!(tick.data.volume, Some((tick.seq - 1) as f64)),
            }
        }
        numbers
    };
    let numbers = tokio::time::timeout(PATIENCE * 3, all).await.expect("the burst ends");
    println!("{numbers:?}; the library noted {}", until_told(&site).await);
    // Each instrument's first and last one besides.
    assert_eq!(numbers.into_values().collect::<Vec<_>>(), [RECORDS / 2 + 2; 2]);
    assert_eq!(site.gateway().get_status().await.expect("a status").ticks_conflated, 0);
    assert_eq!(node.end_by(Signal::SIGTERM).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stands_still_holds_no_library_and_leaves_nothing_unreported() {
    /// Many times what the queues hold. Held for its moment at each, the library would be at it for hours.
    const RECORDS: u64 = 300_000;
    let Some(site) = Site::start(json!({})).await else { return };
    let site = site.with_market(json!({"burst": {"records": RECORDS}})).with_lease("120 s");
    let node = site.node("a");
    let ready = async {
        site.until_ready("a").await;
        until_subscribed(&site).await;
        tell(&site, FIRST);
        eventually("the baselines", || async {
            let ticks = site.gateway().get_all_ticks().await.ok()?;
            (ticks.len() == SYMBOLS.len()).then_some(())
        })
        .await;
        site.signal_broker(Signal::SIGSTOP);
        site.tell("a", "market", &json!({"call": "Burst"}));
        // While nobody takes any.
        println!("the library noted {}", until_told(&site).await);
        site.signal_broker(Signal::SIGCONT);
        tell(&site, LAST);
    };
    // The last ones may be lost like any other, and then nothing comes behind them.
    let tell_again = async {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            if !site.asked("a", "market", "Burst").is_empty() {
                tell(&site, LAST);
            }
        }
    };
    let all = async {
        tokio::select! {
            taken = Taken::read(&site.sdk, ready) => taken,
            () = tell_again => unreachable!("it has no end"),
        }
    };
    let taken = tokio::time::timeout(PATIENCE * 3, all).await.expect("the burst ends");
    println!("{taken:?}");
    assert_eq!(taken.began, SYMBOLS.len(), "the baselines");
    assert!(taken.missed() > RECORDS / 2, "it conflates: {taken:?}");
    assert!(taken.received() > 0, "{taken:?}");
    // Each instrument's baseline and its last one apart.
    let numbered: u64 = taken.ended.values().map(|last| last - 2).sum();
    assert!(numbered >= RECORDS, "every record was numbered: {taken:?}");
    assert_eq!(taken.received() + taken.missed(), numbered);
    assert_eq!(node.end_by(Signal::SIGTERM).await.code, 0);
}
