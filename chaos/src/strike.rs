//! One fault, carried out on the installation and healed again.

use std::time::Duration;

use anyhow::{Context as _, bail};
use client_sdk::GatewayHandle;
use gateway_node::gateway::sim::control::{self, Control, FaultCounts};
use nix::sys::signal::Signal;
use tokio::time::Instant;

use crate::brokers;
use crate::clock::now_us;
use crate::fault::{Fault, Strike};
use crate::proxy::Line;
use crate::site::Site;
use crate::trader::Command;
use crate::wait::until;

/// Orders of each client that are sent at once just before a fault.
const BURST: usize = 8;
/// How often that is tried, and how long calls may take to be under way.
const BURSTS: usize = 50;
const BURST_PATIENCE: Duration = Duration::from_millis(50);
/// Calls that must be under way just before a fault strikes: some end until it does.
const LEAST_UNDER_WAY: usize = 8;
/// Losses of one strike that each reconcile the gateway.
const LOSSES: usize = 5;
/// Bursts that follow each of them: for as long as it takes to be noticed.
const BURSTS_BEHIND_A_LOSS: usize = 16;
/// Longest wait for somebody to lead, and for a venue to listen.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a fault is told to the venue before it is given up, within that time.
const INJECTIONS: u32 = 4;
const NO_STANDBY: &str = "there is no standby node: run with --nodes 2 or 3";

/// Strikes, holds and heals. Returns when it struck, in microseconds since 1970.
///
/// # Errors
/// If nobody leads, or a program cannot be signalled or started.
pub async fn strike(site: &mut Site, gateway: &GatewayHandle, strike: Strike) -> anyhow::Result<i64> {
    let leader = leader(site, gateway).await?;
    let standby = other_than(leader, site.nodes.len(), strike.which);
    let broker = strike.which % brokers::COUNT;
    let client = strike.which % site.clients.len().max(1);
    orders_under_way(site, strike.lead).await?;
    let at_us = now_us();
    match strike.fault {
        Fault::KillLeader => {
            site.kill_node(leader).await?;
            tokio::time::sleep(strike.hold).await;
            site.start_node(leader)?;
        }
        Fault::KillStandby => {
            let standby = standby.context(NO_STANDBY)?;
            site.kill_node(standby).await?;
            tokio::time::sleep(strike.hold).await;
            site.start_node(standby)?;
        }
        Fault::StopLeader => {
            site.stop_node(leader).await?;
            site.start_node(leader)?;
        }
        Fault::FreezeLeader | Fault::FreezeLeaderBriefly => {
            site.nodes[leader].signal(Signal::SIGSTOP)?;
            tokio::time::sleep(strike.hold).await;
            site.nodes[leader].signal(Signal::SIGCONT)?;
        }
        Fault::FreezeStandby => {
            let standby = standby.context(NO_STANDBY)?;
            site.nodes[standby].signal(Signal::SIGSTOP)?;
            tokio::time::sleep(strike.hold).await;
            site.nodes[standby].signal(Signal::SIGCONT)?;
        }
        Fault::KillBroker => {
            site.brokers.kill(broker).await?;
            tokio::time::sleep(strike.hold).await;
            site.brokers.start_again(broker)?;
        }
        Fault::FreezeBroker => {
            site.brokers.signal(broker, Signal::SIGSTOP)?;
            tokio::time::sleep(strike.hold).await;
            site.brokers.signal(broker, Signal::SIGCONT)?;
        }
        Fault::CutNodeBrokers => {
            site.nodes[leader].set_brokers(Line::Cut);
            tokio::time::sleep(strike.hold).await;
            site.nodes[leader].set_brokers(Line::Open);
        }
        Fault::StallNodeBrokers => {
            site.nodes[leader].set_brokers(Line::Stalled);
            tokio::time::sleep(strike.hold).await;
            site.nodes[leader].set_brokers(Line::Open);
        }
        Fault::SlowNodeBrokers => {
            site.nodes[leader].set_brokers(Line::Slow(Duration::from_millis(20)));
            tokio::time::sleep(strike.hold).await;
            site.nodes[leader].set_brokers(Line::Open);
        }
        Fault::CutNodeVenue => {
            site.nodes[leader].set_venue(Line::Cut);
            tokio::time::sleep(strike.hold).await;
            site.nodes[leader].set_venue(Line::Open);
        }
        Fault::StallNodeVenue => {
            site.nodes[leader].set_venue(Line::Stalled);
            tokio::time::sleep(strike.hold).await;
            site.nodes[leader].set_venue(Line::Open);
        }
        Fault::CutClient => {
            site.clients[client].set_brokers(Line::Cut);
            tokio::time::sleep(strike.hold).await;
            site.clients[client].set_brokers(Line::Open);
        }
        Fault::StallClient => {
            site.clients[client].set_brokers(Line::Stalled);
            tokio::time::sleep(strike.hold).await;
            site.clients[client].set_brokers(Line::Open);
        }
        Fault::KillClient => {
            site.kill_client(client).await?;
            tokio::time::sleep(strike.hold).await;
            site.start_client(client)?;
        }
        Fault::FreezeClient => {
            site.clients[client].signal(Signal::SIGSTOP)?;
            tokio::time::sleep(strike.hold).await;
            site.clients[client].signal(Signal::SIGCONT)?;
        }
        Fault::KillVenue => {
            site.kill_venue().await?;
            tokio::time::sleep(strike.hold).await;
            site.start_venue()?;
        }
        Fault::VenueDrops => inject(site, &[control::Fault::DropConnection]).await?,
        Fault::VenueRefusesLogins => {
            // Longer than a node needs to notice, and waits before it tries again.
            let for_ms = 2_500 + milliseconds(strike.hold);
            // Nobody logs in before the connection is gone.
            inject(site, &[control::Fault::RefuseLogins { for_ms }, control::Fault::DropConnection]).await?;
        }
        Fault::VenueRestarts => inject(site, &[control::Fault::Restart]).await?,
        Fault::VenueDelays => {
            let for_ms = milliseconds(strike.hold);
            inject(site, &[control::Fault::Delay { by_ms: 150, for_ms }]).await?;
            tokio::time::sleep(strike.hold).await;
        }
        Fault::VenueDuplicates => inject(site, &[control::Fault::Duplicate { next: 50 }]).await?,
        Fault::VenueRepeats => inject(site, &[control::Fault::Repeat { next: 50 }]).await?,
        Fault::VenueReorders => inject(site, &[control::Fault::Reorder { next: 30 }]).await?,
        Fault::VenueLoses => inject(site, &[control::Fault::Lose { next: 3 }]).await?,
        Fault::VenueLosesSlowJournal => lose_slowly(site, leader).await?,
        Fault::VenueIsSilent => {
            let for_ms = milliseconds(strike.hold);
            inject(site, &[control::Fault::Silence { for_ms }]).await?;
            tokio::time::sleep(strike.hold).await;
        }
        Fault::VenueFillsLate => inject(site, &[control::Fault::LateFill { next: 5 }]).await?,
    }
    Ok(at_us)
}

/// Lets every client send some orders at once, `lead` before this returns, and sees to it that calls are under way then.
async fn orders_under_way(site: &mut Site, lead: Duration) -> anyhow::Result<()> {
    for _ in 0..BURSTS {
        site.read_diaries()?;
        site.tell_clients(|_| Command::Burst(BURST)).await?;
        tokio::time::sleep(lead).await;
        let end = Instant::now() + BURST_PATIENCE;
        while Instant::now() < end {
            site.read_diaries()?;
            if site.clients.iter().map(|client| client.flight.under_way()).sum::<usize>() >= LEAST_UNDER_WAY {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    bail!(
        "{BURSTS} times the clients were to send {BURST} orders each at once, and no {LEAST_UNDER_WAY} were under way"
    );
}

/// The index of the node that leads.
async fn leader(site: &mut Site, gateway: &GatewayHandle) -> anyhow::Result<usize> {
    let name = until("a node to lead", PATIENCE, async || {
        site.check()?;
        Ok(gateway.get_status().await.ok().map(|status| status.node))
    })
    .await?;
    let position = site.nodes.iter().position(|node| node.name == name.as_str());
    position.with_context(|| format!("`{name}` leads, which is none of our nodes"))
}

/// Another index than `index`, of so many; none, if there is only that one.
fn other_than(index: usize, count: usize, which: usize) -> Option<usize> {
    let others = count.checked_sub(1).filter(|others| *others > 0)?;
    Some((index + 1 + which % others) % count)
}

/// Each loss makes the gateway ask for a snapshot. It is taken while intents wait for the slow journal, and it comes when
/// they have left for the venue: it lacks them, and they are there.
async fn lose_slowly(site: &mut Site, leader: usize) -> anyhow::Result<()> {
    site.nodes[leader].set_brokers(Line::Slow(Duration::from_millis(20)));
    inject(site, &[control::Fault::Delay { by_ms: 100, for_ms: 2_500 }]).await?;
    for _ in 0..LOSSES {
        inject(site, &[control::Fault::Lose { next: 1 }]).await?;
        for _ in 0..BURSTS_BEHIND_A_LOSS {
            site.tell_clients(|_| Command::Burst(2)).await?;
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    }
    site.nodes[leader].set_brokers(Line::Open);
    Ok(())
}

/// Makes the venue do what it should not, and waits until it has done all of it at least once. It is told again if nobody
/// came to be treated so: what an earlier fault left behind may keep every node away from it meanwhile.
async fn inject(site: &mut Site, faults: &[control::Fault]) -> anyhow::Result<()> {
    let control = Control::new(site.venue_address().to_string());
    let before = counts(&control).await?;
    for _ in 1..INJECTIONS {
        if let Ok(()) = inject_once(site, &control, &before, faults).await {
            return Ok(());
        }
    }
    inject_once(site, &control, &before, faults).await
}

async fn inject_once(
    site: &mut Site,
    control: &Control,
    before: &FaultCounts,
    faults: &[control::Fault],
) -> anyhow::Result<()> {
    for fault in faults.iter().copied() {
        let control = control.clone();
        // It blocks for at most some seconds.
        let injected = tokio::task::spawn_blocking(move || control.inject(fault)).await;
        if let Err(error) = injected.context("the venue's control")? {
            bail!("the venue was to do {fault:?}: {error:#}");
        }
    }
    until(&format!("the venue to do {faults:?}"), PATIENCE / INJECTIONS, async || {
        site.check()?;
        let now = counts(control).await?;
        Ok(faults.iter().all(|fault| effect(*fault, &now) > effect(*fault, before)).then_some(()))
    })
    .await
}

async fn counts(control: &Control) -> anyhow::Result<FaultCounts> {
    let control = control.clone();
    let counts = tokio::task::spawn_blocking(move || control.counts()).await.context("the venue's control")?;
    Ok(counts?.faults)
}

/// How often a fault has had an effect.
fn effect(fault: control::Fault, counts: &FaultCounts) -> u64 {
    match fault {
        control::Fault::DropConnection => counts.connections_dropped,
        control::Fault::RefuseLogins { .. } => counts.logins_refused,
        control::Fault::Delay { .. } | control::Fault::Silence { .. } => counts.held,
        control::Fault::Duplicate { .. } => counts.duplicated,
        control::Fault::Repeat { .. } => counts.repeated,
        control::Fault::Reorder { .. } => counts.reordered,
        control::Fault::Lose { .. } => counts.lost,
        control::Fault::LateFill { .. } => counts.late_fills,
        control::Fault::Restart => counts.restarts,
        // Rejections are in the ledger, and never asked for here.
        control::Fault::RejectOrders { .. } => 0,
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_is_never_the_leader() {
        for which in 0..10 {
            assert_eq!(other_than(0, 1, which), None);
            assert_eq!(other_than(1, 2, which), Some(0));
            assert!(other_than(1, 3, which).is_some_and(|standby| standby != 1 && standby < 3));
        }
    }
}
