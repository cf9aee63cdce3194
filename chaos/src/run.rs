//! A run: start everything, strike round after round while orders are under way, end in order, collect, judge.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use client_sdk::{Client, ConnectOptions, GatewayHandle};
use gateway_node::gateway::sim::ledger::Ledger;
use tokio::time::Instant;

use crate::clock::now_us;
use crate::diary::{Line, Note};
use crate::fault::{Fault, Schedule, Strike};
use crate::flight::under_way;
use crate::journal;
use crate::judge::{Evidence, Finding, judge};
use crate::listing::Listing;
use crate::report::percentile;
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
/// So many takeovers have a median that says something.
const ENOUGH_TAKEOVERS: usize = 10;
/// How often a fault strikes until something was under way.
const ATTEMPTS: u32 = 5;
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// The fault.
    pub fault: Fault,
    /// When it struck, in microseconds since 1970.
    pub at_us: i64,
    /// How long afterwards the first order was taken that was sent after it, in microseconds.
    pub recovered_us: i64,
    /// How long afterwards the first order was answered that a new leader took, in microseconds; `None` if nobody took
    /// over until the next fault.
    pub taken_over_us: Option<i64>,
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
    let mut stalls = Vec::new();
    let mut again: Option<(Strike, u32)> = None;
    let mut struck = 0;
    while match length {
        Length::Rounds(rounds_wanted) => struck < rounds_wanted,
        Length::For(time) => began.elapsed() < time,
    } {
        let (strike_now, attempt) = match again.take() {
            Some(again) => again,
            None => (schedule.next().context("there is no fault to choose from")?, 1),
        };
        let fault = strike_now.fault;
        let at_us =
            strike(&mut site, &gateway, strike_now).await.with_context(|| format!("round: {}", fault.name()))?;
        if fault.holds_up_orders() {
            stalls.push((at_us, now_us()));
        }
        match recovered(&mut site, &nats, at_us).await {
            Ok(taken_us) => {
                let recovered_us = taken_us - at_us;
                tracing::info!("round {}: {}, {} ms", rounds.len() + 1, fault.name(), recovered_us / 1_000);
                rounds.push(Round { fault, at_us, recovered_us, taken_over_us: None, under_way: 0 });
                // What was under way when the strike was decided upon may be answered by the time it falls.
                let was_idle = !site.clients.iter().any(|client| client.flight.was_under_way(at_us));
                if was_idle && attempt < ATTEMPTS {
                    again = Some((strike_now, attempt + 1));
                } else {
                    struck += 1;
                }
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
    let mut evidence = match (rested, broken.take()) {
        (Ok(evidence), error) => {
            broken = error;
            evidence
        }
        (Err(_), Some(error)) | (Err(error), None) => return Err(error),
    };
    evidence.stalls = stalls;
    let ends: Vec<i64> = rounds.iter().skip(1).map(|round| round.at_us).chain([i64::MAX]).collect();
    for (round, end) in rounds.iter_mut().zip(ends) {
        round.taken_over_us = taken_over(&evidence, round.at_us, end).map(|at_us| at_us - round.at_us);
        round.under_way = evidence.diaries.iter().map(|(_, lines)| under_way(lines, round.at_us)).sum();
    }
    let findings = judge(&evidence);
    match broken {
        // It explains nothing away, and nothing explains it.
        Some(error) if findings.is_empty() => Err(error),
        _ => Ok(Outcome { rounds, evidence, findings }),
    }
}

/// When the first order was answered that was journalled under an epoch which began after `since` and before `until`.
fn taken_over(evidence: &Evidence, since: i64, until: i64) -> Option<i64> {
    let mut new = evidence.journal.leaders.iter().filter(|(_, began)| (since..until).contains(began));
    let (epoch, _) = new.next()?;
    let is_new = |id| evidence.journal.intents.get(id).is_some_and(|intent| intent.epoch >= *epoch);
    let lines = evidence.diaries.iter().flat_map(|(_, lines)| lines);
    let answered = lines.filter(|line| match &line.note {
        Note::Told { id, outcome: crate::diary::Outcome::Taken { .. } } => is_new(id),
        _ => false,
    });
    answered.map(|line| line.at_us).filter(|at_us| (since..until).contains(at_us)).min()
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
        stalls: Vec::new(),
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

    /// How long each takeover of a leader that failed without a word took, or of one that was asked to stop, in
    /// milliseconds, sorted.
    #[must_use]
    pub fn takeovers(&self, of: impl Fn(Fault) -> bool) -> Vec<i64> {
        let rounds = self.rounds.iter().filter(|round| of(round.fault));
        let mut takeovers: Vec<i64> = rounds.filter_map(|round| round.taken_over_us).map(|us| us / 1_000).collect();
        takeovers.sort_unstable();
        takeovers
    }

    /// The median takeover of a leader that failed without a word, in milliseconds, if it is above twice the lease. A few
    /// say nothing: a machine that is busy with something else is no finding.
    #[must_use]
    pub fn too_slow(&self) -> Option<i64> {
        let takeovers = self.takeovers(Fault::fails_the_leader);
        if takeovers.len() < ENOUGH_TAKEOVERS {
            return None;
        }
        let median = percentile(&takeovers, 50)?;
        (median > 2 * i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX)).then_some(median)
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
        let has_takeovers = !self.takeovers(Fault::fails_the_leader).is_empty();
        ensure!(has_takeovers || !kinds.iter().any(|kind| kind.fails_the_leader()), "nobody took over from a leader");
        // A strike that found nothing under way was repeated; it is owed that one of its kind found something.
        let found: BTreeSet<Fault> =
            self.rounds.iter().filter(|round| round.under_way > 0).map(|round| round.fault).collect();
        let idle: Vec<&str> = strikes.keys().filter(|kind| !found.contains(kind)).map(|kind| kind.name()).collect();
        ensure!(idle.is_empty(), "no order was under way at any: {}", idle.join(", "));
        ensure!(!self.evidence.venue.trades.is_empty(), "nothing was traded");
        Ok(())
    }
}

/// Where a run of this seed writes.
#[must_use]
pub fn directory(seed: u64) -> PathBuf {
    std::env::temp_dir().join(format!("gatemesh-chaos-{seed}-{}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diary::{self, Item};
    use protocol::journal::{Entry, Private};
    use protocol::{Direction, Event, Exchange, InstrumentId, Offset, OmsEvent, OrderId, OrderRequest, OrderStatus};

    fn request(id: &str) -> OrderRequest {
        let rb = InstrumentId::new("rb2410", Exchange::SHFE);
        let mut request = OrderRequest::limit(rb, Direction::Long, Offset::Open, 3500.0, 1.0);
        request.orderid = OrderId::new(id);
        request
    }

    fn at(us: i64) -> protocol::Timestamp {
        chrono::DateTime::from_timestamp_micros(us).expect("a time").fixed_offset()
    }

    #[test]
    fn a_takeover_ends_with_the_first_order_that_the_new_leader_took() {
        let mut evidence = Evidence::default();
        let leader =
            |epoch, us| Entry::Private(Private::LeaderStarted { epoch, node: "n".into(), time: at(us), limits: None });
        let order = |epoch, id| {
            let data = OmsEvent::Order(request(id).to_order(&"sim1".into(), &"default".into()));
            Entry::Event(Box::new(Event { gateway: "sim1".into(), epoch, seq: 1, time: at(0), data }))
        };
        let entries = [(1, leader(1, 10)), (1, order(1, "old")), (2, leader(2, 200)), (2, order(2, "new"))];
        for (sequence, (epoch, entry)) in (1..).zip(entries) {
            evidence.journal.take(sequence, epoch, entry);
        }
        let told = |at_us, id: &str| {
            let outcome = diary::Outcome::Taken { status: OrderStatus::Submitting, traded: 0.0 };
            Line { at_us, note: Note::Told { id: OrderId::new(id), outcome } }
        };
        let sending = Line { at_us: 90, note: Note::Sending { item: Item::Order(request("new")) } };
        evidence.diaries = vec![("c1".into(), vec![sending, told(150, "old"), told(250, "old"), told(300, "new")])];
        assert_eq!(taken_over(&evidence, 100, 1_000), Some(300), "what the leader before had taken says nothing");
        assert_eq!(taken_over(&evidence, 210, 1_000), None, "nobody took over");
        assert_eq!(taken_over(&evidence, 100, 300), None, "not before the next fault");
        let round = |fault, taken_over_us| Round { fault, at_us: 0, recovered_us: 0, taken_over_us, under_way: 1 };
        let outcome = |rounds| Outcome { rounds, ..Outcome::default() };
        let lease = i64::try_from(LEASE.as_micros()).expect("a short lease");
        let slow = [round(Fault::KillLeader, Some(2 * lease + 1_000)), round(Fault::StopLeader, Some(1_000))];
        let often = |rounds: &[Round]| rounds.repeat(ENOUGH_TAKEOVERS);
        assert_eq!(outcome(often(&slow)).too_slow(), Some(2 * lease / 1_000 + 1), "asking to stop flatters nobody");
        assert_eq!(outcome(slow.to_vec()).too_slow(), None, "one says nothing");
        assert_eq!(outcome(often(&[round(Fault::FreezeLeader, Some(2 * lease))])).too_slow(), None);
        let none = outcome(vec![round(Fault::KillLeader, None)]);
        let error = none.check_proves_something(&[Fault::KillLeader]).expect_err("nobody took over");
        assert!(error.to_string().contains("took over"), "{error}");
    }
}
