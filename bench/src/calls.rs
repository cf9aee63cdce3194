//! Calls: an order until it is accepted, against what any system that stores before it answers must do on NATS (a
//! request, a stored message, an answer); and a call that only reads, against a request and its answer.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use client_sdk::GatewayHandle;
use futures::future::try_join_all;
use protocol::codec;

use crate::far_side::{BARE_ECHO, BARE_JOURNAL, BARE_STORE, BARE_STORE_TWICE};
use crate::plan::Plan;
use crate::series::{Series, Unit, quantile};
use crate::site::{PATIENCE, Site};
use crate::venue;

/// Orders under way at a time, where there are several.
const IN_FLIGHT: u64 = 16;

/// What to know when reading the table.
pub const NOTES: &[&str] = &[
    "An order is accepted by a venue inside the node, which reports it at once: two entries in the journal for each. \
     The bare side asks, stores the order's bytes once in a JetStream file stream, and answers with them; or the two \
     one after the other, measured apart and added up; or it stores them once more behind the answer, as many appends \
     as the node makes: the floor.",
];

/// Orders and calls, Gatemesh and bare in turn.
pub async fn series(site: &Site, plan: &Plan) -> anyhow::Result<Vec<Series>> {
    let gateway = site.client.gateway(venue::GATEWAY).with_timeout(PATIENCE);
    let order = gateway.send_order(&venue::order()).await?;
    let status = gateway.get_status().await?;
    // As long as what Gatemesh answers.
    let order: Bytes = codec::encode(&order)?.into();
    let status: Bytes = codec::encode(&status)?.into();

    let mut orders = Pair::one_at_a_time("order accepted", "bare: request, store, answer", &["median", "p99"]);
    let mut sums = Pair::one_at_a_time("order accepted", "bare: a publish with its ack, and a request", &["median"]);
    let mut floor = Pair::one_at_a_time("order accepted", "bare: request, store, answer, store", &["median"]);
    let jetstream = async_nats::jetstream::new(site.bare.clone());
    let mut many = Pair::several_at_a_time("orders accepted", "bare: requests, stores, answers");
    let mut many_floor = Pair::several_at_a_time("orders accepted", "bare: requests, stores, answers, stores");
    let mut calls = Pair::one_at_a_time("get_status", "bare: request, answer", &["median", "p99"]);
    for round in 0..=plan.rounds {
        let sent = one_at_a_time(plan.calls, || send_order(&gateway)).await?;
        let stored = one_at_a_time(plan.calls, || ask(&site.bare, BARE_STORE, &order)).await?;
        let twice = one_at_a_time(plan.calls, || ask(&site.bare, BARE_STORE_TWICE, &order)).await?;
        let acked = one_at_a_time(plan.calls, || publish(&jetstream, &order)).await?;
        let asked = one_at_a_time(plan.calls, || ask(&site.bare, BARE_ECHO, &order)).await?;
        // Quantile by quantile: both are sorted.
        let both: Vec<Duration> = acked.into_iter().zip(asked).map(|(acked, asked)| acked + asked).collect();
        let many_sent = several_at_a_time(plan.parallel_orders, || send_order(&gateway)).await?;
        let many_stored = several_at_a_time(plan.parallel_orders, || ask(&site.bare, BARE_STORE, &order)).await?;
        let many_twice = several_at_a_time(plan.parallel_orders, || ask(&site.bare, BARE_STORE_TWICE, &order)).await?;
        let read = one_at_a_time(plan.calls, || get_status(&gateway)).await?;
        let echoed = one_at_a_time(plan.calls, || ask(&site.bare, BARE_ECHO, &status)).await?;
        // The first round only warms up.
        if round > 0 {
            orders.push_latencies(&sent, &stored);
            sums.push_latencies(&sent, &both);
            floor.push_latencies(&sent, &twice);
            many.push(0, many_sent, many_stored);
            many_floor.push(0, many_sent, many_twice);
            calls.push_latencies(&read, &echoed);
        }
    }
    Ok([orders, sums, floor, many, many_floor, calls].into_iter().flat_map(|pair| pair.series).collect())
}

async fn send_order(gateway: &GatewayHandle) -> anyhow::Result<()> {
    gateway.send_order(&venue::order()).await.map(drop).context("sending an order")
}

async fn get_status(gateway: &GatewayHandle) -> anyhow::Result<()> {
    gateway.get_status().await.map(drop).context("asking for the status")
}

async fn ask(client: &async_nats::Client, subject: &'static str, payload: &Bytes) -> anyhow::Result<()> {
    client.request(subject, payload.clone()).await.map(drop).context("asking the bare side")
}

async fn publish(jetstream: &async_nats::jetstream::Context, payload: &Bytes) -> anyhow::Result<()> {
    let ack = jetstream.publish(BARE_JOURNAL, payload.clone()).await.context("publishing on the bare side")?;
    ack.await.map(drop).context("the bare side's ack")
}

/// How long each took, sorted.
async fn one_at_a_time<F: Future<Output = anyhow::Result<()>>>(
    times: u64,
    once: impl Fn() -> F,
) -> anyhow::Result<Vec<Duration>> {
    let mut took = Vec::new();
    for _ in 0..times {
        let start = Instant::now();
        once().await?;
        took.push(start.elapsed());
    }
    took.sort_unstable();
    Ok(took)
}

/// How many were done in a second.
async fn several_at_a_time<F: Future<Output = anyhow::Result<()>>>(
    times: u64,
    once: impl Fn() -> F,
) -> anyhow::Result<f64> {
    let start = Instant::now();
    try_join_all((0..IN_FLIGHT).map(|_| async {
        for _ in 0..times / IN_FLIGHT {
            once().await?;
        }
        anyhow::Ok(())
    }))
    .await?;
    let done = times / IN_FLIGHT * IN_FLIGHT;
    Ok(done as f64 / start.elapsed().as_secs_f64())
}

/// Gatemesh's series and the bare ones, in turn.
struct Pair {
    series: Vec<Series>,
}

impl Pair {
    fn one_at_a_time(ours: &str, bare: &str, shares: &[&str]) -> Pair {
        let both = |share: &&str| {
            let bare = format!("{bare}, 1 in flight, {share}");
            let ours = Series::new(format!("{ours}, 1 in flight, {share}"), Unit::Microseconds).ratio_to(&bare);
            [ours, Series::new(bare, Unit::Microseconds)]
        };
        Pair { series: shares.iter().flat_map(both).collect() }
    }

    fn several_at_a_time(ours: &str, bare: &str) -> Pair {
        let bare = format!("{bare}, {IN_FLIGHT} in flight");
        let ours = Series::new(format!("{ours}, {IN_FLIGHT} in flight"), Unit::PerSecond).ratio_to(&bare);
        Pair { series: vec![ours, Series::new(bare, Unit::PerSecond)] }
    }

    fn push(&mut self, at: usize, ours: f64, bare: f64) {
        for (series, value) in self.series.iter_mut().skip(at * 2).zip([ours, bare]) {
            series.push(value);
        }
    }

    fn push_latencies(&mut self, ours: &[Duration], bare: &[Duration]) {
        let microseconds = |sorted: &[Duration], share| {
            quantile(sorted, share).map_or(f64::NAN, |duration: Duration| duration.as_secs_f64() * 1e6)
        };
        for (at, share) in [0.5, 0.99].into_iter().enumerate() {
            self.push(at, microseconds(ours, share), microseconds(bare, share));
        }
    }
}
