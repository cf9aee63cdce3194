//! VeighNa's RpcServer and RpcClient, measured as the node and the SDK are: the same tick, the same way of counting, each
//! client a process. The Python side is `vnpy_rpc.py`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use crate::feed::{Feed, Side};
use crate::plan::Plan;
use crate::real_node::free_port;
use crate::series::{Series, Unit};
use crate::subscriber::Latency;
use crate::subscribers::{Subscribers, per_second};
use crate::{calls, fanout, latency, peer::Peer};

/// Names the Python that has VeighNa; `cargo xtask bench` sets it.
const PYTHON: &str = "GATEMESH_BENCH_PYTHON";
const SCRIPT: &str = include_str!("../vnpy_rpc.py");
/// ZeroMQ keeps 1,000 messages for a subscriber by default, learns only every 500 that there is room again, and drops what
/// finds none.
const WINDOW: u64 = 400;
/// Subscribers, and how many ticks of a round they are sent.
const FANOUT: [(usize, u64); 3] = [(1, 20_000), (4, 10_000), (16, 3_000)];
const SECONDS: f64 = 2.0;
const CALLS: u64 = 1_000;

/// What is said if there is no such Python.
pub const LEFT_OUT: &str =
    "vnpy is left out: GATEMESH_BENCH_PYTHON names no Python that has it; `cargo xtask bench` makes one from PyPI";

const NOTE: &str = "vnpy: RpcServer and RpcClient of VeighNa 4.5.0 with a `TickData` of the same content, measured in the \
                    same run behind the others. One publish for each tick, although VeighNa raises two events for each \
                    (EVENT_TICK with and without the symbol), so that its own service makes half as many ticks. Lossless \
                    as ours, by a window: no more than 400 under way, since ZeroMQ keeps 1,000 for each subscriber, learns only \
                    every 500 that there is room, and drops what finds none. Its ratios are ours \
                    to it, of the medians.";

/// The Python that has VeighNa, if there is one.
pub fn python() -> Option<PathBuf> {
    std::env::var_os(PYTHON).filter(|named| !named.is_empty()).map(PathBuf::from)
}

/// Its rows, by the names of ours, and notes. Blocks.
///
/// # Errors
/// If a process fails, or a tick is lost where none may be.
pub fn series(python: &Path, plan: &Plan) -> anyhow::Result<(Vec<Series>, Vec<String>)> {
    let directory = tempfile::tempdir()?;
    let script = directory.path().join("vnpy_rpc.py");
    std::fs::write(&script, SCRIPT).context("writing the Python script")?;
    let addresses = [free_port()?, free_port()?].map(|port| format!("tcp://127.0.0.1:{port}"));
    let command = |role: &str| {
        let mut command = Command::new(python);
        command.arg(&script).arg(role).args(&addresses);
        command
    };
    let mut server = Peer::start(&mut command("server"))?;
    let mut all = Vec::new();
    for (count, ticks) in FANOUT {
        let mut clients = Subscribers::of(start_clients(command, count)?)?;
        let mut rates = Series::new(fanout::row_name(count), Unit::PerSecond);
        for round in 0..=plan.vnpy_rounds {
            let feed = Feed { window: WINDOW, ..Feed::flood(Side::Vnpy, ticks) };
            let outcome = clients.take(&mut server, feed)?;
            let due = ticks * count as u64;
            ensure!(outcome.arrived == due, "vnpy: {} of {due} ticks arrived", outcome.arrived);
            // The first round only warms up.
            if round > 0 {
                rates.push_vnpy(per_second(&outcome, count));
            }
        }
        all.push(rates);
    }

    let mut clients = Subscribers::of(start_clients(command, 1)?)?;
    let mut latencies = latency::row_names(latency::ORDINARY).map(|name| Series::new(name, Unit::Microseconds));
    let (mut lost, mut sent) = (0, 0);
    for _ in 0..plan.vnpy_rounds {
        let feed = Feed::paced(Side::Vnpy, (latency::ORDINARY * SECONDS) as u64, latency::ORDINARY);
        let outcome = clients.take(&mut server, feed)?;
        lost += outcome.lost;
        sent += feed.count;
        let values = latency::microseconds(outcome.latency.context("vnpy: nothing arrived")?);
        latencies.iter_mut().zip(values).for_each(|(series, value)| series.push_vnpy(value));
    }
    all.extend(latencies);
    drop(clients);
    all.extend(called(&mut start_clients(command, 1)?, plan)?);
    server.stop()?;

    let mut notes = vec![NOTE.to_owned()];
    if lost > 0 {
        notes.push(format!("At 10,000/s vnpy lost {lost} of {sent} ticks; its latencies are of those that arrived."));
    }
    Ok((all, notes))
}

/// Started together, since Python takes its time.
fn start_clients(command: impl Fn(&str) -> Command + Copy, count: usize) -> anyhow::Result<Vec<Peer>> {
    let clients = (0..count).map(|_| Peer::launch(&mut command("client")));
    let mut clients = clients.collect::<Result<Vec<_>, _>>()?;
    clients.iter_mut().try_for_each(Peer::wait_until_ready)?;
    Ok(clients)
}

#[derive(Serialize)]
struct Call {
    calls: u64,
}

#[derive(Deserialize)]
struct Called {
    total_ns: u64,
    latency: Latency,
}

/// `get_tick`, one at a time.
fn called(clients: &mut [Peer], plan: &Plan) -> anyhow::Result<Vec<Series>> {
    let client = clients.first_mut().context("a client was started")?;
    let name = |text| format!("{}, 1 in flight{text}", calls::GET_TICK);
    let mut quantiles = [name(", p50"), name(", p99")].map(|name| Series::new(name, Unit::Microseconds));
    let mut rate = Series::new(name(""), Unit::PerSecond);
    for _ in 0..plan.vnpy_rounds {
        client.tell(&Call { calls: CALLS })?;
        let Called { total_ns, latency } = client.answer()?;
        let values = [latency.p50, latency.p99].map(|ns| ns as f64 / 1e3);
        quantiles.iter_mut().zip(values).for_each(|(series, value)| series.push_vnpy(value));
        rate.push_vnpy(CALLS as f64 / (total_ns as f64 / 1e9));
    }
    Ok(quantiles.into_iter().chain([rate]).collect())
}
