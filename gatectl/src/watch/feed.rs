//! Brings the view its news: one task per stream and per gateway's mirror, all into one bounded channel.
//!
//! A task that finds the channel full waits. Meanwhile ticks conflate to the newest of each instrument, a mirror to its
//! newest state, and heartbeats and log lines wait in their streams, within the bounds that the client library states.

use std::collections::HashSet;
use std::time::Duration;

use client_sdk::{Client, Error, GatewayHandle, HealthEvent, MissedCause, Update as Item};
use futures::FutureExt;
use protocol::{InstrumentId, Name};
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;

use super::REDRAW;
use super::app::Update;
use crate::args::WatchArgs;
use crate::exit::Failure;
use crate::run::gateway_for;

/// A mirror that cannot start (its gateway has just gone) tries again this much later.
const RETRY: Duration = Duration::from_secs(1);
/// What is asked beside a stream must not hold it up for longer.
const ASIDE: Duration = Duration::from_secs(1);
/// Price steps are asked for so many instruments; others show the digits that they have.
const PRICE_STEPS: usize = 2_000;

/// The tasks, and the subscriptions to give back.
pub struct Feed {
    tasks: JoinSet<&'static str>,
    subscribed: Vec<(GatewayHandle, InstrumentId)>,
}

impl Feed {
    /// Opens every stream, then starts the tasks.
    ///
    /// # Errors
    /// If the server cannot be asked, or an instrument cannot be subscribed.
    pub async fn start(
        client: &Client,
        args: &WatchArgs,
        gateway: Option<&Name>,
        news: Sender<Update>,
    ) -> Result<Feed, Failure> {
        let mut filter = args.filter.clone();
        filter.gateway = gateway.cloned();
        let only = gateway.map(Name::as_str);
        let health = client.health();
        let statuses = client.statuses(only).await?;
        let logs = client.logs(None, only).await?;
        let ticks = client.ticks(filter).await?.conflated();
        let mut subscribed = Vec::new();
        for instrument in &args.subscribe {
            let handle = gateway_for(client, gateway, instrument).await?;
            handle.subscribe(instrument).await?;
            subscribed.push((handle, instrument.clone()));
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(follow_health(health, news.clone()));
        tasks.spawn(follow_logs(logs, news.clone()));
        tasks.spawn(follow_ticks(ticks, client.clone(), news.clone()));
        tasks.spawn(follow_gateways(statuses, client.clone(), news));
        Ok(Feed { tasks, subscribed })
    }

    /// Resolves when a task has ended, which none does while there is a view; says which. Cancel-safe.
    pub async fn ended(&mut self) -> &'static str {
        match self.tasks.join_next().await {
            Some(Ok(name)) => name,
            Some(Err(_)) | None => "a feed",
        }
    }

    /// Stops the tasks and gives the subscriptions back.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
        for (gateway, instrument) in self.subscribed {
            // Nothing to be done if this fails: the ticks only come for nobody.
            drop(gateway.with_timeout(ASIDE).unsubscribe(&instrument).await);
        }
    }
}

async fn follow_health(mut health: client_sdk::HealthStream, news: Sender<Update>) -> &'static str {
    while let Some(event) = health.next().await {
        // Lost gateways the view sees by itself, from their heartbeats.
        let update = match event {
            HealthEvent::Disconnected => Update::Connected(false),
            HealthEvent::Reconnected => Update::Connected(true),
            _ => continue,
        };
        if news.send(update).await.is_err() {
            break;
        }
    }
    "the watch over the connection"
}

async fn follow_logs(mut logs: client_sdk::LogStream, news: Sender<Update>) -> &'static str {
    while let Some(item) = logs.next().await {
        if let Item::Event(event) = item
            && news.send(Update::Log(event.data.clone())).await.is_err()
        {
            break;
        }
    }
    "the stream of log lines"
}

async fn follow_ticks(mut ticks: client_sdk::TickStream, client: Client, news: Sender<Update>) -> &'static str {
    let mut steps = PriceSteps::default();
    while let Some(item) = ticks.next().await {
        let sent = match item {
            Item::Event(event) => {
                steps.learn(&client.gateway(event.gateway.clone()), event.data.instrument(), &news).await;
                news.send(Update::Tick(event)).await
            }
            // Newer ones in the place of older ones are what a view is for; a loss is not.
            Item::Missed(missed) if missed.cause == MissedCause::Lost => {
                news.send(Update::TicksMissed(missed.count.unwrap_or(1))).await
            }
            _ => Ok(()),
        };
        if sent.is_err() {
            break;
        }
    }
    "the stream of ticks"
}

/// Passes heartbeats on, and starts a mirror of every gateway that is heard of for the first time.
async fn follow_gateways(mut statuses: client_sdk::StatusStream, client: Client, news: Sender<Update>) -> &'static str {
    let mut mirrors = JoinSet::new();
    let mut mirrored = HashSet::new();
    while let Some(item) = statuses.next().await {
        let Item::Event(event) = item else { continue };
        if mirrored.insert(event.gateway.clone()) {
            mirrors.spawn(follow_state(client.clone(), event.gateway.clone(), news.clone()));
        }
        if news.send(Update::Status(event.data.clone())).await.is_err() {
            break;
        }
    }
    "the stream of heartbeats"
}

/// Passes a gateway's trading state on, whenever it has changed.
async fn follow_state(client: Client, gateway: Name, news: Sender<Update>) {
    let handle = client.gateway(gateway.clone()).with_timeout(ASIDE);
    let mut steps = PriceSteps::default();
    loop {
        match client.mirror(gateway.clone()).await {
            Ok(mirror) => {
                let mut changes = mirror.changes();
                loop {
                    let state = mirror.state();
                    for instrument in held(&state) {
                        steps.learn(&handle, instrument, &news).await;
                    }
                    if news.send(Update::State { gateway: gateway.clone(), state }).await.is_err() {
                        return;
                    }
                    if changes.next().await.is_none() {
                        break;
                    }
                    // A burst of events is one new state: the view holds on to it, which costs the mirror a copy.
                    tokio::time::sleep(REDRAW).await;
                    while let Some(Some(_)) = changes.next().now_or_never() {}
                }
            }
            Err(Error::GatewayNotRunning { .. } | Error::Disconnected) => {}
            Err(error) => tracing::warn!(%gateway, %error, "its trading state cannot be read, trying again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Instruments whose prices the view shows for this state.
fn held(state: &protocol::OmsState) -> HashSet<InstrumentId> {
    let positions = state.positions().values().map(protocol::Position::instrument);
    positions.chain(state.active_orders().map(protocol::Order::instrument)).collect()
}

/// Price steps, each instrument's asked for once.
#[derive(Default)]
struct PriceSteps(HashSet<InstrumentId>);

impl PriceSteps {
    async fn learn(&mut self, gateway: &GatewayHandle, instrument: InstrumentId, news: &Sender<Update>) {
        if self.0.len() >= PRICE_STEPS || self.0.contains(&instrument) {
            return;
        }
        let contract = gateway.clone().with_timeout(ASIDE).get_contract(&instrument).await;
        self.0.insert(instrument);
        if let Ok(Some(contract)) = contract {
            drop(news.send(Update::Contract(Box::new(contract))).await);
        }
    }
}
