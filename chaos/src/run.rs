//! A run: start everything, strike round after round while orders are under way, end in order, collect, judge.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use client_sdk::{Client, ConnectOptions, GatewayHandle};
use gateway_node::gateway::sim::ledger::Ledger;
use tokio::time::Instant;

use crate::clock::now_us;
use crate::diary::{Line, Note};
use crate::fault::{Fault, Schedule};
use crate::flight::under_way;
use crate::journal;
use crate::judge::{Evidence, Finding, judge};
use crate::listing::Listing;
use crate::site::{GATEWAY, LEASE, Plan, Site};
use crate::strike::strike;
use crate::trader::Command;
use crate::venue_books::VenueBooks;
use crate::wait::until;

/// Longest wait for the installation to take orders, at the start and after a fault: a cluster that elects leaders for
/// three streams, a lease, a login.
const RECOVERY: Duration = Duration::from_secs(60);
/// Longest wait for clients to know what became of everything.
const RESOLVING: Duration = Duration::from_secs(180);
/// Longest wait for working orders to be cancelled.
const CANCELLING: Duration = Duration::from_secs(60);
/// The same for an installation that did not recover: the judge sees what there is.
const BROKEN: Duration = Duration::from_secs(15);
/// Pause between a recovery and the next fault.
const PAUSE: Duration = Duration::from_millis(200);

/// How long to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// So many faults.
    Rounds(usize),
    /// As many faults as begin within this time.
    For(Duration),
}

/// What was struck, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// The fault.
    pub fault: Fault,
    /// When it struck, in microseconds since 1970.
    pub at_us: i64,
    /// How long afterwards the first order was taken that was sent after it, in microseconds.
    pub recovered_us: i64,
    /// Calls under way when it struck.
    pub under_way: usize,
}

/// What a run came to.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Every fault.
    pub rounds: Vec<Round>,
    /// Everything that was judged.
    pub evidence: Evidence,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Runs.
///
/// # Errors
/// If the installation does not come up, does not recover or does not come to rest: what was waited for. That is a
/// failure of its own, and no finding.
pub async fn run(plan: Plan, kinds: &[Fault], length: Length) -> anyhow::Result<Outcome> {
    let mut schedule = Schedule::new(plan.seed, kinds, LEASE);
    let mut site = Site::start(plan).await?;
    let observer = until("the brokers to take connections", RECOVERY, async || {
        site.check()?;
        Ok(Client::connect(ConnectOptions::new(&site.servers()).name("observer")).await.ok())
    })
    .await?;
    let servers: Vec<String> = site.servers().split(',').map(str::to_owned).collect();
    let nats = async_nats::connect(servers).await.context("connecting to the brokers")?;
    let gateway = observer.gateway(GATEWAY).with_timeout(Duration::from_secs(3));
    let started = now_us();
    let came_up = orders_taken(&mut site, started, &[]).await.context("starting")?;
    tracing::info!("orders are taken {} ms after the start", (came_up - started) / 1_000);
    until_redundant(&mut site, &nats).await?;

    let mut rounds: Vec<Round> = Vec::new();
    let began = Instant::now();
    let mut broken = None;
    while match length {
        Length::Rounds(rounds_wanted) => rounds.len() < rounds_wanted,
        Length::For(time) => began.elapsed() < time,
    } {
        let strike_now = schedule.next().context("there is no fault to choose from")?;
        let fault = strike_now.fault;
        let at_us =
            strike(&mut site, &gateway, strike_now).await.with_context(|| format!("round: {}", fault.name()))?;
        match recovered(&mut site, &nats, at_us).await {
            Ok(taken_us) => {
                let recovered_us = taken_us - at_us;
                tracing::info!("round {}: {}, {} ms", rounds.len() + 1, fault.name(), recovered_us / 1_000);
                rounds.push(Round { fault, at_us, recovered_us, under_way: 0 });
            }
            Err(error) => {
                let error = error.context(format!("after: {}", fault.name()));
                tracing::error!("{error:#}");
                broken = Some(error);
                break;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    let rested = rest(&mut site, nats, &gateway, broken.is_some()).await.context("coming to rest");
    let evidence = match (rested, broken.take()) {
        (Ok(evidence), error) => {
            broken = error;
            evidence
        }
        (Err(_), Some(error)) | (Err(error), None) => return Err(error),
    };
    for round in &mut rounds {
        round.under_way = evidence.diaries.iter().map(|(_, lines)| under_way(lines, round.at_us)).sum();
    }
    let findings = judge(&evidence);
    match broken {
        // It explains nothing away, and nothing explains it.
        Some(error) if findings.is_empty() => Err(error),
        _ => Ok(Outcome { rounds, evidence, findings }),
    }
}

/// Waits until everything is as before: orders are taken, of every client, and the journal has all its copies. Returns
/// when the first order was taken that was sent after the fault.
async fn recovered(site: &mut Site, nats: &async_nats::Client, at_us: i64) -> anyhow::Result<i64> {
    let all: Vec<usize> = (0..site.clients.len()).collect();
    let healed = now_us();
    let taken_us = orders_taken(site, at_us, &[]).await?;
    orders_taken(site, healed, &all).await?;
    until_redundant(site, nats).await?;
    Ok(taken_us)
}

/// Waits until an order is taken that was sent after `since`: of any client, or of each of these. Returns when the first
/// one was.
async fn orders_taken(site: &mut Site, since: i64, of: &[usize]) -> anyhow::Result<i64> {
    let what = if of.is_empty() { "an order to be taken" } else { "an order of every client to be taken" };
    until(what, RECOVERY, async || {
        site.check()?;
        site.read_diaries()?;
        let taken: Vec<Option<i64>> = site.clients.iter().map(|client| client.flight.taken_since(since)).collect();
        let all = of.iter().all(|index| taken[*index].is_some());
        Ok(taken.into_iter().flatten().min().filter(|_| all))
    })
    .await
}

/// Waits until the journal has all its copies again: a second broker that fails before that would be another experiment.
async fn until_redundant(site: &mut Site, nats: &async_nats::Client) -> anyhow::Result<()> {
    let name = protocol::subject::journal_stream(GATEWAY);
    let context = async_nats::jetstream::new(nats.clone());
    until("the journal to have all its copies", RECOVERY, async || {
        site.check()?;
        let Ok(mut stream) = context.get_stream(&name).await else { return Ok(None) };
        let Ok(info) = stream.info().await else { return Ok(None) };
        let replicas = info.cluster.as_ref().map(|cluster| (cluster.leader.is_some(), &cluster.replicas));
        let is_whole = replicas
            .is_some_and(|(led, replicas)| led && replicas.iter().all(|replica| replica.current && !replica.offline));
        Ok(is_whole.then_some(()))
    })
    .await
}

/// Ends the trading in order, and collects what is to be judged. Of a broken installation that is what there is.
async fn rest(
    site: &mut Site,
    nats: async_nats::Client,
    gateway: &GatewayHandle,
    is_broken: bool,
) -> anyhow::Result<Evidence> {
    let patience = |usual| if is_broken { BROKEN } else { usual };
    site.tell_clients(|_| Command::Stop).await?;
    let resolved = until("every client to know what became of its orders", patience(RESOLVING), async || {
        site.check()?;
        site.read_diaries()?;
        Ok(site.clients.iter().all(|client| client.flight.is_resolved(client.incarnation)).then_some(()))
    })
    .await;
    // What is not known, or does not end by being cancelled, is left to the judge.
    let cancelled = until("everything that works to be cancelled", patience(CANCELLING), async || {
        let _ = gateway.cancel_all(None).await;
        let orders = gateway.get_all_active_orders().await;
        let quotes = gateway.get_all_active_quotes().await;
        Ok(matches!((orders, quotes), (Ok(orders), Ok(quotes)) if orders.is_empty() && quotes.is_empty()).then_some(()))
    })
    .await;
    for error in [resolved.err(), cancelled.err()].into_iter().flatten() {
        tracing::warn!("{error:#}");
    }
    site.check()?;
    let journal = journal::read(nats, GATEWAY).await?;
    let records = Ledger::read(&site.ledger()).context("reading the venue's ledger")?;
    // A broken installation is asked for nothing: its ledgers speak.
    let (leader, mirrors) = match is_broken {
        true => (Listing::from(&journal.state), Vec::new()),
        false => (listed(gateway).await?, mirrored(site, gateway).await?),
    };
    Ok(Evidence {
        diaries: site.diaries()?,
        journal,
        venue: VenueBooks::of(&records),
        leader,
        mirrors,
        owner: protocol::value::OWNER_DEFAULT.into(),
        is_at_rest: !is_broken,
    })
}

/// What the leading node answers.
async fn listed(gateway: &GatewayHandle) -> anyhow::Result<Listing> {
    Ok(Listing {
        orders: gateway.get_all_orders().await.context("asking the leading node for its orders")?,
        trades: gateway.get_all_trades().await.context("asking the leading node for its trades")?,
        quotes: gateway.get_all_quotes().await.context("asking the leading node for its quotes")?,
        positions: gateway.get_all_positions().await.context("asking the leading node for its positions")?,
    })
}

/// What every client's mirror shows.
async fn mirrored(site: &mut Site, gateway: &GatewayHandle) -> anyhow::Result<Vec<(String, Listing)>> {
    let status = until("the gateway's status", RECOVERY, async || Ok(gateway.get_status().await.ok())).await?;
    let directory = site.directory().to_owned();
    let file = |client: &str| directory.join(format!("{client}.mirror.json"));
    site.tell_clients(|client| Command::Dump { journal_seq: status.journal_seq, path: file(client) }).await?;
    let mut mirrors = Vec::new();
    for client in &site.clients {
        let path = file(&client.name);
        until(&format!("what the mirror of {} shows", client.name), RECOVERY, async || Ok(path.exists().then_some(())))
            .await?;
        let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        mirrors.push((client.name.clone(), serde_json::from_slice::<Listing>(&bytes)?));
    }
    Ok(mirrors)
}

impl Outcome {
    /// Orders and quotes that were sent, each counted once.
    #[must_use]
    pub fn sent(&self) -> usize {
        let ids = |lines: &[Line]| crate::diary::sent(lines).len();
        self.evidence.diaries.iter().map(|(_, lines)| ids(lines)).sum()
    }

    /// Times that a client was left with an unknown outcome, and resolved it later.
    #[must_use]
    pub fn unknown(&self) -> usize {
        let is_unknown =
            |line: &&Line| matches!(&line.note, Note::Told { outcome: crate::diary::Outcome::Unknown { .. }, .. });
        self.evidence.diaries.iter().map(|(_, lines)| lines.iter().filter(is_unknown).count()).sum()
    }

    /// How often each fault struck.
    #[must_use]
    pub fn strikes(&self) -> BTreeMap<Fault, usize> {
        let mut strikes = BTreeMap::new();
        for round in &self.rounds {
            *strikes.entry(round.fault).or_default() += 1;
        }
        strikes
    }

    /// Why the run proves nothing, if so: a kind that did not occur, or a fault that struck nothing under way.
    ///
    /// # Errors
    /// Which.
    pub fn check_proves_something(&self, kinds: &[Fault]) -> anyhow::Result<()> {
        let strikes = self.strikes();
        for kind in kinds {
            ensure!(strikes.contains_key(kind), "it did not occur that somebody had to {}", kind.name());
        }
        for round in &self.rounds {
            ensure!(round.under_way > 0, "no order was under way at: {}", round.fault.name());
        }
        ensure!(!self.evidence.venue.trades.is_empty(), "nothing was traded");
        Ok(())
    }
}

/// Where a run of this seed writes.
#[must_use]
pub fn directory(seed: u64) -> PathBuf {
    std::env::temp_dir().join(format!("gatemesh-chaos-{seed}-{}", std::process::id()))
}
