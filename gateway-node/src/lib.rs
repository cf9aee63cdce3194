//! Hosts trading gateways and serves them on NATS.
//!
//! [`Node::run`] is the life of a node: start the broker (or join one), then for each gateway replay its journal, log
//! in at its venue, serve; until told to stop, then drain.

pub mod broker;
pub mod clock;
pub mod config;
pub mod connection;
pub mod engine;
pub mod gate;
pub mod gateway;
pub mod halts;
pub mod journal;
pub mod lease;
pub mod node;
pub mod publisher;
pub mod reconcile;
pub mod risk;
pub mod rpc;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt as _;
use protocol::rpc::Method;
use protocol::subject::Filter;
use protocol::{GatewayState, Name, RpcError};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info, warn};

use crate::broker::Broker;
use crate::clock::Clock;
use crate::config::{BrokerConfig, Config, GatewayKind};
use crate::connection::Brokers;
use crate::engine::{Engine, EngineOptions};
use crate::gateway::{Gateway, VenueSink, venue_channel};
use crate::halts::HaltsLink;
use crate::journal::{Follower, JournalOptions, Known};
use crate::lease::Keeper;
use crate::node::{Ended, GatewayLoop};
use crate::publisher::Publisher;
use crate::risk::{Limits, Rules};
use crate::rpc::{CallContext, Handler, Leads, RpcServer};

/// Trading events in flight between a venue and its gateway's loop; when full: see [`VenueSink::send`].
const VENUE_EVENTS: usize = 8_192;
/// Ticks in flight between a venue and its gateway's loop; when full they conflate.
const VENUE_TICKS: usize = 16_384;
/// How long a gateway's thread may take to drain before it is left behind.
const DRAIN_PATIENCE: Duration = Duration::from_secs(12);
/// Between two heartbeats of a gateway that failed.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// A gateway that failed is started again after this, and then after twice as long, up to [`LAST_RESTART`].
const FIRST_RESTART: Duration = Duration::from_secs(1);
const LAST_RESTART: Duration = Duration::from_secs(30);

/// Makes a venue's adapter; called at each start of its gateway.
pub type GatewayFactory = Arc<dyn Fn(&Name, VenueSink) -> anyhow::Result<Box<dyn Gateway>> + Send + Sync>;

/// A node before it runs.
pub struct Node {
    config: Config,
    methods: HashMap<String, Handler>,
    gateways: Vec<GatewaySpec>,
}

#[derive(Clone)]
struct GatewaySpec {
    name: Name,
    subscribe: Vec<Filter>,
    limits: Limits,
    factory: GatewayFactory,
}

impl Node {
    /// A node as its configuration says. Every adapter is tried out here, so that a mistake in its section is told
    /// before anything starts.
    ///
    /// # Errors
    /// If an adapter cannot be made.
    pub fn new(config: Config) -> anyhow::Result<Node> {
        let mut gateways = Vec::new();
        for gateway in &config.gateways {
            let factory: GatewayFactory = match gateway.kind {
                GatewayKind::Sim => {
                    let sim = gateway.sim.clone();
                    Arc::new(move |name, sink| gateway::sim::open(name.clone(), sim.clone(), sink))
                }
                GatewayKind::Ctp => {
                    let ctp = gateway.ctp.clone().context("a CTP gateway without a [gateways.ctp] section")?;
                    Arc::new(move |name, sink| gateway::ctp::open(name.clone(), &ctp, sink))
                }
            };
            let (sink, _source) = venue_channel(1, 1);
            factory(&gateway.name, sink).with_context(|| format!("gateway {}", gateway.name))?.close();
            let (name, subscribe, limits) =
                (gateway.name.clone(), gateway.subscribe.clone(), Limits::new(&gateway.risk));
            gateways.push(GatewaySpec { name, subscribe, limits, factory });
        }
        Ok(Node { config, methods: HashMap::new(), gateways })
    }

    /// Adds a method to every gateway of this node: clients call it like any other.
    ///
    /// # Errors
    /// If the name is one of Gatemesh's own, taken already, or no plain token.
    pub fn register<F, Fut>(&mut self, method: &str, handler: F) -> anyhow::Result<()>
    where
        F: Fn(CallContext, serde_json::Value) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<serde_json::Value, RpcError>> + Send + 'static,
    {
        anyhow::ensure!(Method::from_name(method).is_none(), "`{method}` is a method that every gateway has");
        anyhow::ensure!(
            protocol::subject::is_gateway_name(method),
            "`{method}` is no method name: write 1 to 32 of A-Z a-z 0-9 _ -"
        );
        let handler: Handler = Arc::new(move |context, params| Box::pin(handler(context, params)));
        anyhow::ensure!(!self.methods.contains_key(method), "`{method}` is registered already");
        self.methods.insert(method.to_owned(), handler);
        Ok(())
    }

    /// Adds a gateway whose adapter is the caller's own. Only its contracts' own rules hold its orders back, until
    /// [`Node::limit_gateway`] sets limits.
    ///
    /// # Errors
    /// If the name is taken, or cannot be a gateway's.
    pub fn add_gateway(
        &mut self,
        name: impl Into<Name>,
        subscribe: Vec<Filter>,
        factory: GatewayFactory,
    ) -> anyhow::Result<()> {
        let name = name.into();
        anyhow::ensure!(
            protocol::subject::is_gateway_name(&name),
            "`{name}` is no gateway name: write 1 to 32 of A-Z a-z 0-9 _ -"
        );
        anyhow::ensure!(self.gateways.iter().all(|g| g.name != name), "there are two gateways named `{name}`");
        self.gateways.push(GatewaySpec { name, subscribe, limits: Limits::default(), factory });
        Ok(())
    }

    /// Sets the limits of a gateway, in place of those that it has: what `[gateways.risk]` says in a configuration file,
    /// for a gateway that [`Node::add_gateway`] has added.
    ///
    /// ```no_run
    /// # fn limit(node: &mut gateway_node::Node) -> anyhow::Result<()> {
    /// use gateway_node::risk::Rules;
    ///
    /// let everyone = Rules { max_orders_per_second: Some(10), ..Rules::default() };
    /// let owners = [("*".into(), everyone)].into();
    /// node.limit_gateway("my_venue", &Rules { max_position: Some(50.0), owners, ..Rules::default() })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If there is no such gateway, or a rule cannot be kept or says nothing; then nothing is changed.
    pub fn limit_gateway(&mut self, name: &str, rules: &Rules) -> anyhow::Result<()> {
        rules.check().with_context(|| format!("gateway {name}"))?;
        let spec = self.gateways.iter_mut().find(|gateway| gateway.name == name);
        let spec = spec.with_context(|| format!("there is no gateway `{name}` to limit: add it first"))?;
        spec.limits = Limits::new(rules);
        Ok(())
    }

    /// Runs until `shutdown` completes (or the embedded broker dies), then drains.
    ///
    /// # Errors
    /// If the broker does not start, cannot be reached, or dies.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let (mut embedded, brokers) = match &self.config.broker {
            BrokerConfig::Embedded(config) => {
                let broker = Broker::start(config).await?;
                let servers = vec![broker.url().parse().context("the embedded broker's address")?];
                (Some(broker), Brokers { servers, login: config::Login::Nobody })
            }
            BrokerConfig::External(config) => {
                (None, Brokers { servers: config.servers.clone(), login: config.login.clone() })
            }
        };
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared {
            node: self.config.node.name.clone(),
            brokers,
            methods: self.methods,
            journal: JournalOptions {
                max_bytes: i64::try_from(self.config.journal.max_bytes).unwrap_or(i64::MAX),
                replicas: usize::from(self.config.journal.replicas),
                keep_days: usize::from(self.config.journal.keep_days),
                keep_ids_days: usize::from(self.config.journal.keep_ids_days),
            },
            lease: lease::Terms { max_age: self.config.lease.duration },
            clock: Clock::default(),
        });
        // A broker that cannot be reached at all is a mistake to tell at once; one that goes away later comes back.
        drop(shared.brokers.connect(format!("{} start", shared.node)).await?);
        let gateways: Vec<_> = self
            .gateways
            .into_iter()
            .map(|spec| tokio::spawn(supervise(shared.clone(), spec, stopped.clone())))
            .collect();
        let outcome = tokio::select! {
            () = shutdown => Ok(()),
            error = broker_died(&mut embedded) => Err(error),
        };
        info!("stopping: draining the gateways");
        let _ = stop.send(true);
        for gateway in gateways {
            if let Err(error) = gateway.await {
                error!(%error, "a gateway's supervisor failed");
            }
        }
        if let Some(broker) = embedded
            && outcome.is_ok()
        {
            broker.stop().await?;
        }
        info!("stopped");
        outcome
    }
}

async fn broker_died(broker: &mut Option<Broker>) -> anyhow::Error {
    match broker {
        Some(broker) => broker.exited().await,
        None => std::future::pending().await,
    }
}

/// Runs a node as its configuration says until `shutdown` completes.
///
/// # Errors
/// As [`Node::new`] and [`Node::run`].
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    Node::new(config)?.run(shutdown).await
}

/// What all gateways of a node have in common.
struct Shared {
    node: Name,
    brokers: Brokers,
    methods: HashMap<String, Handler>,
    journal: JournalOptions,
    lease: lease::Terms,
    clock: Clock,
}

/// Keeps one gateway running: whatever it fails of is told, and it is started again; the others go on.
async fn supervise(shared: Arc<Shared>, spec: GatewaySpec, mut stopped: watch::Receiver<bool>) {
    let mut wait = FIRST_RESTART;
    let mut known = Known::default();
    while !*stopped.borrow() {
        let began = tokio::time::Instant::now();
        let reason = match run_gateway(&shared, &spec, &mut known, stopped.clone()).await {
            Ok(Ended::Drained) => return,
            Ok(Ended::SteppedDown(reason)) => {
                warn!(gateway = %spec.name, reason, "standing by");
                wait = FIRST_RESTART;
                continue;
            }
            Ok(Ended::Failed(reason)) => reason,
            Err(error) => format!("{error:#}"),
        };
        if *stopped.borrow() {
            warn!(gateway = %spec.name, reason, "the gateway ended while stopping");
            return;
        }
        if began.elapsed() > LAST_RESTART * 2 {
            wait = FIRST_RESTART;
        }
        error!(gateway = %spec.name, reason, "the gateway failed; starting it again in {} s", wait.as_secs());
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = tell_failure(&shared, &spec.name, known, &reason) => {}
            _ = stopped.changed() => {}
        }
        wait = (wait * 2).min(LAST_RESTART);
    }
}

/// Heartbeats that say FAILED and why, for as long as it is polled. One that never led says nothing: whoever leads is not
/// to be spoken over.
async fn tell_failure(shared: &Shared, gateway: &Name, known: Known, reason: &str) {
    let tell = async {
        let client = shared.brokers.connect(format!("{} {gateway} failure", shared.node)).await?;
        // Under the epoch that clients know: they pass over what seems to come from an earlier leader.
        let options = EngineOptions::new(gateway.clone(), shared.node.clone(), known.epoch);
        let engine = Engine::new(options, engine::Replayed::default(), known.stored);
        let mut publisher = Publisher::new(client.clone(), gateway.clone(), known.epoch);
        loop {
            let mut status = engine.status(shared.clock.now());
            status.state = GatewayState::Failed;
            status.reason = Some(reason.to_owned());
            publisher.status(status);
            client.flush().await.context("flushing")?;
            tokio::time::sleep(HEARTBEAT).await;
        }
    };
    if known.epoch > 0
        && let Err::<std::convert::Infallible, anyhow::Error>(error) = tell.await
    {
        warn!(%gateway, %error, "the failure could not be published");
    }
    std::future::pending().await
}

/// One life of a gateway on this node, on a thread of its own: one that is stuck in its venue's library stops nobody
/// else, and an order passes from one thread to another nowhere between NATS and the venue.
async fn run_gateway(
    shared: &Arc<Shared>,
    spec: &GatewaySpec,
    known: &mut Known,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<Ended> {
    let name = &spec.name;
    // The lease on a connection of its own, so that it is kept, or given up, whatever the gateway's thread does.
    let context = journal::context(shared.brokers.connect(format!("{} {name} lease", shared.node)).await?);
    let (leases, terms) =
        lease::open_bucket(&context, shared.lease, shared.journal.replicas, journal::highest_epoch(&context)).await?;
    let (known_in, known_out) = watch::channel(*known);
    let life = Life {
        shared: shared.clone(),
        spec: spec.clone(),
        known: known_in,
        stopped: stopped.clone(),
        workers: tokio::runtime::Handle::current(),
        leases,
        terms,
    };
    let (tell, ended) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("making a runtime")?;
    std::thread::Builder::new()
        .name(format!("gateway {name}"))
        .spawn(move || {
            let _ = tell.send(runtime.block_on(life.run()));
        })
        .context("starting the gateway's thread")?;
    let too_long = async {
        let _ = stopped.wait_for(|stop| *stop).await;
        tokio::time::sleep(DRAIN_PATIENCE).await;
    };
    let ended = tokio::select! {
        ended = ended => ended.unwrap_or_else(|_| Ok(Ended::Failed("its thread panicked".to_owned()))),
        () = too_long => Ok(Ended::Failed("its thread did not drain in time and is left behind".to_owned())),
    };
    *known = *known_out.borrow();
    ended
}

/// What one life of a gateway is made of.
struct Life {
    shared: Arc<Shared>,
    spec: GatewaySpec,
    /// What this life learns of the journal.
    known: watch::Sender<Known>,
    stopped: watch::Receiver<bool>,
    /// Where tasks run that must go on without the gateway's thread, or not on it.
    workers: tokio::runtime::Handle,
    leases: async_nats::jetstream::kv::Store,
    terms: lease::Terms,
}

impl Life {
    /// Stands by, leads, gives the lease back.
    async fn run(mut self) -> anyhow::Result<Ended> {
        let (shared, name) = (self.shared.clone(), self.spec.name.clone());
        let trading = shared.brokers.connect(format!("{} {name} trading", shared.node)).await?;
        // Ticks on a connection of their own, so that a flood of them delays no order; but on this thread, since to wake
        // another one up takes longer than all else that is done to a tick.
        let market = shared.brokers.connect(format!("{} {name} market data", shared.node)).await?;
        let known = *self.known.borrow();
        let mut follower = Follower::open(journal::context(trading.clone()), &name, &shared.journal, known).await?;
        follower.catch_up().await?;
        let leases = self.leases.clone();
        let mut keeper = Keeper::start(&self.workers, leases, &name, &shared.node, self.terms, shared.clock);
        let ended = async {
            let epoch = tokio::select! {
                epoch = keeper.acquired() => epoch?,
                followed = follower.follow() => match followed? {},
                _ = self.stopped.wait_for(|stop| *stop) => return Ok(Ended::Drained),
            };
            self.lead(trading, market, follower, &keeper, epoch).await
        }
        .await;
        // Given back last: whoever leads next finds everything done.
        keeper.release().await;
        ended
    }

    /// One leadership: take the journal over, log in, serve until told to stop or the lease is lost, drain.
    async fn lead(
        &mut self,
        trading: async_nats::Client,
        market: async_nats::Client,
        follower: Follower,
        keeper: &Keeper,
        epoch: u64,
    ) -> anyhow::Result<Ended> {
        let (shared, name) = (self.shared.clone(), self.spec.name.clone());
        let leads = Leads { limit: keeper.limit.clone(), clock: shared.clock };
        let limits = self.spec.limits.fingerprint();
        let may_act = || keeper.limit.may_act(shared.clock.mono());
        let led = tokio::select! {
            led = follower.lead(&shared.node, epoch, limits, shared.clock.now().wall, may_act) => led?,
            _ = self.stopped.wait_for(|stop| *stop) => return Ok(Ended::Drained),
        };
        let progress = led.writer.progress.clone();
        self.known.send_replace(Known { epoch, stored: progress.borrow().stored });
        let (sink, venue) = venue_channel(VENUE_EVENTS, VENUE_TICKS);
        let gateway = match (self.spec.factory)(&name, sink) {
            Ok(gateway) => gateway,
            Err(error) => return Ok(Ended::Failed(format!("{error:#}"))),
        };
        let mut options = EngineOptions::new(name.clone(), shared.node.clone(), epoch);
        options.subscribe.clone_from(&self.spec.subscribe);
        options.limits.clone_from(&self.spec.limits);
        options.notice = led.notice;
        options.lease = self.terms.max_age;
        options.keep_days = shared.journal.keep_days;
        options.keep_ids_days = shared.journal.keep_ids_days;
        let engine = Engine::new(options, led.replayed, led.base);

        let halts = HaltsLink::start(journal::context(trading.clone()), shared.journal.replicas).await;
        let (calls_in, calls) = mpsc::channel(rpc::MAX_CALLS);
        let workers = self.workers.clone();
        let (server, answers) =
            RpcServer::start(trading.clone(), name.clone(), epoch, &shared.methods, calls_in, leads, workers).await?;
        let (stop_loop, loop_stopped) = watch::channel(false);
        let gateway_loop = GatewayLoop {
            name: name.clone(),
            engine,
            gateway,
            venue,
            journal: led.writer,
            reader: led.reader,
            publisher: Publisher::new(market.clone(), name.clone(), epoch),
            calls,
            answers,
            halts,
            runtime: self.workers.clone(),
            clock: shared.clock,
            lease: keeper.limit.clone(),
            standing: keeper.standing.clone(),
            pulse: keeper.pulse.clone(),
            shutdown: loop_stopped,
        };
        let mut running = std::pin::pin!(gateway_loop.run());
        let early = tokio::select! {
            early = &mut running => Some(early),
            _ = self.stopped.wait_for(|stop| *stop) => None,
        };
        let (ended, answers) = match early {
            Some(early) => (early, server.stop_taking().await),
            None => {
                // The service ends first, while the loop still answers what it has taken.
                let stopping = async {
                    let answers = server.stop_taking().await;
                    let _ = stop_loop.send(true);
                    answers
                };
                tokio::join!(running, stopping)
            }
        };
        self.known.send_modify(|known| known.stored = progress.borrow().stored);
        answers.finish(Duration::from_secs(2)).await;
        for client in [&market, &trading] {
            if !matches!(tokio::time::timeout(Duration::from_secs(2), until_taken(client)).await, Ok(Ok(()))) {
                warn!(gateway = %name, "the last answers and events may not have reached the broker");
            }
        }
        Ok(ended)
    }
}

/// Waits until the server has taken everything that was sent. A flush is no proof: it ends when the operating system
/// has the bytes, and an embedded server that is stopped next may never read them.
async fn until_taken(client: &async_nats::Client) -> anyhow::Result<()> {
    let inbox = client.new_inbox();
    let mut echo = client.subscribe(inbox.clone()).await?;
    client.publish(inbox, Default::default()).await?;
    echo.next().await.context("the connection is closed")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(lots: f64) -> Rules {
        Rules { max_order_volume: Some(lots), ..Rules::default() }
    }

    #[test]
    fn an_adapter_of_ones_own_is_limited_as_one_of_the_configuration() {
        let text = "[[gateways]]\nname = \"sim1\"\nkind = \"sim\"\n";
        let mut config = Config::parse(text, "node.toml").expect("parses");
        config.gateways.clear();
        let mut node = Node::new(config).expect("a node");
        let factory: GatewayFactory = Arc::new(|_, _| anyhow::bail!("never opened"));
        node.add_gateway("mine", Vec::new(), factory.clone()).expect("added");
        node.add_gateway("other", Vec::new(), factory).expect("added");

        node.limit_gateway("mine", &rules(5.0)).expect("limited");
        let limits: Vec<_> = node.gateways.iter().map(|gateway| gateway.limits.clone()).collect();
        assert_eq!(limits, [Limits::new(&rules(5.0)), Limits::default()]);

        let complaint = |node: &mut Node, name: &str, rules: &Rules| {
            format!("{:#}", node.limit_gateway(name, rules).expect_err("refused"))
        };
        assert_eq!(
            complaint(&mut node, "mine", &rules(0.0)),
            "gateway mine: risk.max_order_volume: must be a number above 0 (lots); to refuse every order, halt the gateway"
        );
        let of_owner = Rules { owners: [("alice".into(), rules(f64::NAN))].into(), ..rules(7.0) };
        assert!(
            complaint(&mut node, "mine", &of_owner).starts_with("gateway mine: risk.owners.alice.max_order_volume:")
        );
        assert_eq!(complaint(&mut node, "mein", &rules(7.0)), "there is no gateway `mein` to limit: add it first");
        assert_eq!(node.gateways[0].limits, Limits::new(&rules(5.0)), "what is refused changes nothing");
    }
}
