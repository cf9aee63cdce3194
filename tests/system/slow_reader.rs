//! Readers that stall among one that does not: it misses nothing, they are told exactly what they missed, and the newest
//! at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use client_sdk::{Client, Filter, MissedCause, TickStream, Update};
use protocol::{Direction, Offset, OrderRequest, Tick, Timestamp};

use crate::support::script::{Script, factory, instrument};
use crate::support::{PATIENCE, TestBroker, TestNode, eventually, sim, until_ready};

/// More than what a stream keeps for a reader that is behind, 65,536.
const TICKS: u64 = 100_000;
/// Ticks under way to the reader that keeps up.
const WINDOW: u64 = 8_192;

fn tick(number: u64) -> Tick {
    let time: Timestamp = chrono::DateTime::parse_from_rfc3339("2026-11-23T09:31:00+08:00").expect("a time");
    Tick { volume: Some(number as f64), ..Tick::new("venue", instrument(), time) }
}

/// The numbers of ticks and how many were conflated before each, up to the last tick.
async fn read_all(mut ticks: TickStream, mut took: impl FnMut()) -> Vec<(u64, u64)> {
    let (mut read, mut conflated) = (Vec::new(), 0);
    let last = async {
        while read.last().is_none_or(|(number, _)| *number < TICKS) {
            match ticks.next().await.expect("the stream goes on") {
                Update::Event(event) => {
                    assert_eq!(event.data.volume, Some(event.seq as f64), "every tick was numbered");
                    read.push((event.seq, std::mem::take(&mut conflated)));
                    took();
                }
                Update::Missed(missed) => {
                    assert_eq!((missed.cause, missed.instrument), (MissedCause::Conflated, Some(instrument())));
                    conflated += missed.count.expect("counted");
                }
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, last).await.expect("the last tick comes");
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stalls_is_told_what_it_missed_and_holds_nobody_up() {
    let broker = TestBroker::start().await;
    let script = Arc::new(Script::default());
    let node = TestNode::start_with(&broker.url(), &sim("sim1"), |node| {
        node.add_gateway("venue", vec![], factory(script.clone())).expect("added");
    })
    .await;
    until_ready(&broker.client().await, "venue").await;
    let sdk = Client::connect(broker.url().as_str()).await.expect("connects");
    // All three read one subscription, which brings another gateway's ticks too.
    let ticks = Filter::all().gateway("venue");
    let healthy = sdk.ticks(ticks.clone()).await.expect("a stream");
    let stalled = sdk.ticks(ticks.clone()).await.expect("a stream");
    let latest = sdk.ticks(ticks).await.expect("a stream").conflated();
    // What is journalled is never conflated, and comes to who has not read it for long, too.
    let mut orders = sdk.orders(Filter::all().gateway("venue")).await.expect("a stream");
    let mut sent = Vec::new();

    let taken = Arc::new(AtomicU64::new(0));
    let reading = tokio::spawn({
        let taken = taken.clone();
        read_all(healthy, move || _ = taken.fetch_add(1, Ordering::SeqCst))
    });
    for number in 1..=TICKS {
        if number % WINDOW == 0 {
            let enough = number - WINDOW;
            eventually("room", || async { (taken.load(Ordering::SeqCst) >= enough).then_some(()) }).await;
            let order = OrderRequest::limit(instrument(), Direction::Long, Offset::Open, 3500.0, 1.0);
            sdk.gateway("venue").send_order(&order).await.expect("taken");
            sent.push(order.orderid);
        }
        script.tick(tick(number));
    }
    let all: Vec<(u64, u64)> = (1..=TICKS).map(|number| (number, 0)).collect();
    assert!(reading.await.expect("no panic") == all, "who keeps up misses nothing");

    let read = read_all(latest, || {}).await;
    assert!(read.len() <= 2, "the newest at once, though one more may have come meanwhile: {read:?}");
    assert_eq!(read.iter().map(|(_, conflated)| conflated + 1).sum::<u64>(), TICKS);
    let read = read_all(stalled, || {}).await;
    let (last, kept) = read.split_last().expect("it read something");
    assert_eq!(kept.len(), 65_536, "as long as there was room");
    assert!(kept == &all[..kept.len()], "in order");
    assert_eq!(*last, (TICKS, TICKS - 1 - kept.len() as u64));

    let told = async {
        let mut missing = sent.clone();
        while !missing.is_empty() {
            if let Update::Event(event) = orders.next().await.expect("the stream goes on") {
                missing.retain(|id| *id != event.data.orderid);
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("every order is told");
    assert!(!sent.is_empty());
    node.stop().await;
}
