//! Ticks: gaps are counted, a slow reader gets the newest, and nothing broken ends a stream.

use async_nats::HeaderMap;
use client_sdk::protocol::Subject;
use client_sdk::{Client, Filter, MissedCause, TickStream, Update};

use crate::support::{Gateway, Server, rb, soon};

async fn price(stream: &mut TickStream) -> f64 {
    match soon("a tick", stream.next()).await {
        Some(Update::Event(event)) => event.data.last_price.expect("a price"),
        other => panic!("{other:?} instead of a tick"),
    }
}

async fn missed(stream: &mut TickStream) -> (Option<u64>, MissedCause) {
    match soon("a gap", stream.next()).await {
        Some(Update::Missed(missed)) => {
            assert_eq!(missed.instrument, Some(rb()));
            (missed.count, missed.cause)
        }
        other => panic!("{other:?} instead of a gap"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_are_told_and_stale_or_broken_ticks_are_not() {
    let Some(server) = Server::start().await else { return };
    let gateway = Gateway::start(&server, "sim1").await;
    let other = Gateway::start(&server, "sim2").await;
    let client = Client::connect(server.url()).await.expect("connects");
    let mut all = client.ticks(Filter::all()).await.expect("subscribed");
    let mut one = client.ticks(Filter::instrument(&rb()).gateway("sim1")).await.expect("subscribed");
    gateway.tick(3, 10, 1.0).await;
    gateway.tick(3, 11, 2.0).await;
    gateway.tick(3, 15, 3.0).await;
    gateway.tick(2, 16, 99.0).await;
    gateway.tick(3, 15, 99.0).await;
    gateway.publish(&Subject::tick(&rb()), HeaderMap::new(), b"no tick".to_vec()).await;
    gateway.tick(4, 2, 4.0).await;
    for stream in [&mut all, &mut one] {
        assert_eq!((price(stream).await, price(stream).await), (1.0, 2.0));
        assert_eq!(missed(stream).await, (Some(3), MissedCause::Lost));
        assert_eq!(price(stream).await, 3.0);
        assert_eq!(missed(stream).await, (Some(1), MissedCause::Lost));
        assert_eq!(price(stream).await, 4.0);
    }
    // Another gateway's ticks of the same symbol are counted for themselves, and only who asked for them has them.
    other.tick(9, 1, 50.0).await;
    assert_eq!(price(&mut all).await, 50.0);
    gateway.tick(4, 3, 5.0).await;
    assert_eq!((price(&mut all).await, price(&mut one).await), (5.0, 5.0));
    assert_eq!((all.undecodable(), one.undecodable()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflated_reader_gets_the_newest_and_the_number_of_the_rest() {
    let Some(server) = Server::start().await else { return };
    let gateway = Gateway::start(&server, "sim1").await;
    let client = Client::connect(server.url()).await.expect("connects");
    let mut ticks = client.ticks(Filter::all()).await.expect("subscribed").conflated();
    for seq in 1..=100_u32 {
        gateway.tick(1, u64::from(seq), f64::from(seq)).await;
    }
    let (mut taken, mut skipped, mut last) = (0, 0, 0.0);
    while last < 100.0 {
        match soon("an update", ticks.next()).await {
            Some(Update::Event(event)) => {
                taken += 1;
                last = event.data.last_price.expect("a price");
            }
            Some(Update::Missed(missed)) => {
                assert_eq!(missed.cause, MissedCause::Conflated);
                skipped += missed.count.expect("exact");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(taken + skipped, 100);
}
