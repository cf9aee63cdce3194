//! Calls that only read, against a request and its answer.

use anyhow::Context as _;
use bytes::Bytes;
use client_sdk::GatewayHandle;
use protocol::{InstrumentId, codec};

use crate::bare::{BARE_ECHO, BARE_GET_TICK};
use crate::feed::{Feed, Side, Tell};
use crate::plan::Plan;
use crate::series::{Series, Unit};
use crate::site::{PATIENCE, Site};
use crate::timing::{IN_FLIGHT, OneAtATime, one_at_a_time, several_at_a_time};
use crate::venue;

/// The row that is measured of VeighNa too.
pub const GET_TICK: &str = "get_tick";
/// Quantiles of the rows.
pub const SHARES: &[(f64, &str)] = &[(0.5, "p50"), (0.99, "p99")];

/// What to know when reading the table.
pub const NOTES: &[&str] = &[
    "Calls: `get_tick` is answered with a tick of five levels that the node has; the bare side answers a request with \
     the same bytes, ready made, and nobody decodes them. `get_status` against a request that is echoed.",
];

/// Calls, Gatemesh and bare in turn.
pub async fn series(site: &mut Site, plan: &Plan) -> anyhow::Result<Vec<Series>> {
    let gateway = site.client.gateway(venue::GATEWAY).with_timeout(PATIENCE);
    let instrument = venue::instruments(1).next().context("the venue trades something")?;
    let first_ticks = Feed::flood(Side::Node, venue::INSTRUMENTS as u64);
    site.far.tell(&Tell::Send(first_ticks))?;
    let known = async {
        while get_tick(&gateway, &instrument).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, known).await.context("the node does not know a tick that it was sent")?;
    // As long as what Gatemesh answers.
    let status: Bytes = codec::encode(&gateway.get_status().await?)?.into();

    let mut ticks = OneAtATime::new(GET_TICK, "", SHARES, true);
    let mut many = IN_FLIGHT.map(|in_flight| many_row(GET_TICK, in_flight, ""));
    let mut statuses = OneAtATime::new("get_status", "", SHARES, false);
    for round in 0..=plan.rounds {
        let ours = one_at_a_time(plan.calls, || get_tick(&gateway, &instrument)).await?;
        let bare = one_at_a_time(plan.calls, || ask(&site.bare, BARE_GET_TICK, Bytes::new())).await?;
        let mut rates = Vec::new();
        for in_flight in IN_FLIGHT {
            let calls = plan.parallel_calls;
            let ours = several_at_a_time(calls, in_flight, || get_tick(&gateway, &instrument)).await?;
            let ask_bare = || ask(&site.bare, BARE_GET_TICK, Bytes::new());
            rates.push((ours, several_at_a_time(calls, in_flight, ask_bare).await?));
        }
        let read = one_at_a_time(plan.calls, || get_status(&gateway)).await?;
        let echoed = one_at_a_time(plan.calls, || ask(&site.bare, BARE_ECHO, status.clone())).await?;
        // The first round only warms up.
        if round > 0 {
            ticks.push(&ours, &bare);
            many.iter_mut().zip(rates).for_each(|(series, (ours, bare))| series.push_pair(ours, bare));
            statuses.push(&read, &echoed);
        }
    }
    Ok(ticks.into_series().chain(many).chain(statuses.into_series()).collect())
}

/// The row of calls several at a time.
pub fn many_row(name: &str, in_flight: u64, bare: &str) -> Series {
    Series::new(format!("{name}, {in_flight} in flight{bare}"), Unit::PerSecond)
}

/// Asks the bare side, and insists on an answer with something in it.
pub async fn ask(client: &async_nats::Client, subject: &'static str, payload: Bytes) -> anyhow::Result<()> {
    let answer = client.request(subject, payload).await.context("asking the bare side")?;
    anyhow::ensure!(!answer.payload.is_empty(), "the bare side answers with nothing");
    Ok(())
}

async fn get_tick(gateway: &GatewayHandle, instrument: &InstrumentId) -> anyhow::Result<()> {
    let tick = gateway.get_tick(instrument).await.context("asking for a tick")?;
    tick.map(drop).context("the node knows no tick")
}

async fn get_status(gateway: &GatewayHandle) -> anyhow::Result<()> {
    gateway.get_status().await.map(drop).context("asking for the status")
}
