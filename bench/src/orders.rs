//! An order until it is accepted, against what any system that stores before it answers must do on NATS: a request, a
//! stored message, an answer.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use client_sdk::GatewayHandle;
use protocol::codec;

use crate::bare::{BARE_ECHO, BARE_JOURNAL, BARE_STORE, BARE_STORE_TWICE};
use crate::calls::{SHARES, ask, many_row};
use crate::plan::Plan;
use crate::series::Series;
use crate::site::{PATIENCE, Site};
use crate::timing::{IN_FLIGHT, OneAtATime, one_at_a_time, several_at_a_time};
use crate::venue;

const ORDER: &str = "send_order";
const STORED: &str = " (bare: request, store, answer)";
const STORED_TWICE: &str = " (bare: request, store, answer, store)";
const SUM: &str = " (bare: a publish with its ack, and a request)";

/// What to know when reading the table.
pub const NOTES: &[&str] = &[
    "Orders: each is in the journal before it is answered. A venue inside the node accepts it and reports it at once: two \
     entries in the journal for each. The bare side asks, stores the order's bytes once in a JetStream file stream, and \
     answers with them; or the two one after the other, measured apart and added up; or it stores them once more behind \
     the answer, as many appends as the node makes: the floor. At the end the node has every order that was sent, once.",
];

/// Orders, Gatemesh and bare in turn.
pub async fn series(site: &Site, plan: &Plan) -> anyhow::Result<Vec<Series>> {
    let gateway = site.client.gateway(venue::GATEWAY).with_timeout(PATIENCE);
    let desk = Desk { gateway, sent: AtomicU64::new(0) };
    let before = desk.gateway.get_all_active_orders().await?.len() as u64;
    let example = desk.gateway.send_order(&venue::order()).await?;
    desk.sent.fetch_add(1, Ordering::Relaxed);
    // As long as what Gatemesh answers.
    let order: Bytes = codec::encode(&example)?.into();
    let bare = |subject| ask(&site.bare, subject, order.clone());
    let jetstream = async_nats::jetstream::new(site.bare.clone());

    let mut orders = OneAtATime::new(ORDER, STORED, SHARES, false);
    let mut sums = OneAtATime::new(ORDER, SUM, &SHARES[..1], false);
    let mut floor = OneAtATime::new(ORDER, STORED_TWICE, &SHARES[..1], false);
    let mut many = IN_FLIGHT
        .map(|in_flight| (in_flight, many_row(ORDER, in_flight, STORED), many_row(ORDER, in_flight, STORED_TWICE)));
    for round in 0..=plan.rounds {
        let sent = one_at_a_time(plan.orders, || desk.send()).await?;
        let stored = one_at_a_time(plan.orders, || bare(BARE_STORE)).await?;
        let twice = one_at_a_time(plan.orders, || bare(BARE_STORE_TWICE)).await?;
        let acked = one_at_a_time(plan.orders, || publish(&jetstream, &order)).await?;
        let asked = one_at_a_time(plan.orders, || bare(BARE_ECHO)).await?;
        // The first round only warms up.
        let counts = round > 0;
        if counts {
            orders.push(&sent, &stored);
            floor.push(&sent, &twice);
            sums.push(&sent, &acked.and(&asked));
        }
        for (in_flight, once_row, twice_row) in &mut many {
            let ours = several_at_a_time(plan.parallel_orders, *in_flight, || desk.send()).await?;
            let once = several_at_a_time(plan.parallel_orders, *in_flight, || bare(BARE_STORE)).await?;
            let twice = several_at_a_time(plan.parallel_orders, *in_flight, || bare(BARE_STORE_TWICE)).await?;
            if counts {
                once_row.push_pair(ours, once);
                twice_row.push_pair(ours, twice);
            }
        }
    }
    let sent = desk.sent.into_inner();
    let kept = desk.gateway.get_all_active_orders().await?.len() as u64 - before;
    ensure!(kept == sent, "{sent} orders were accepted, and the node has {kept}");
    let singles = orders.into_series().chain(sums.into_series()).chain(floor.into_series());
    Ok(singles.chain(many.into_iter().flat_map(|(_, once, twice)| [once, twice])).collect())
}

struct Desk {
    gateway: GatewayHandle,
    sent: AtomicU64,
}

impl Desk {
    async fn send(&self) -> anyhow::Result<()> {
        let order = self.gateway.send_order(&venue::order()).await.context("sending an order")?;
        ensure!(order.is_active(), "an order was answered as {:?}", order.status);
        self.sent.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

async fn publish(jetstream: &async_nats::jetstream::Context, payload: &Bytes) -> anyhow::Result<()> {
    let ack = jetstream.publish(BARE_JOURNAL, payload.clone()).await.context("publishing on the bare side")?;
    ack.await.map(drop).context("the bare side's ack")
}
