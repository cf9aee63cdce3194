//! The sending process: a node with its venue, and beside it a bare NATS client that publishes and answers. It does what
//! it is told on its standard input, line by line, and ends when that ends.

use std::io::BufRead as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvError, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context as _, bail};
use gateway_node::config::{BrokerConfig, Config, ExternalBroker, JournalConfig, LeaseConfig, Login, NodeConfig};
use gateway_node::gateway::VenueSink;
use gateway_node::{GatewayFactory, Node};
use tokio::sync::oneshot;

use crate::bare::{self, BareTicks};
use crate::clock::now_ns;
use crate::feed::{Feed, Side, Tell, WINDOW, Window};
use crate::peer::Peer;
use crate::venue::{self, AcceptingVenue};

/// A venue's thread gives up on a queue that is full for so long; the run has failed then.
const PUSH_PATIENCE: Duration = Duration::from_secs(30);

/// What the other process hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Hosts {
    /// The node and the bare client.
    Both,
    /// The bare client alone.
    Bare,
}

/// How large the node is.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Extent {
    /// Its first gateway
    #[arg(long, default_value = venue::GATEWAY)]
    pub name: String,
    /// How many gateways it has
    #[arg(long, default_value_t = 1)]
    pub gateways: usize,
    /// How many instruments each of them has
    #[arg(long, default_value_t = venue::INSTRUMENTS)]
    pub instruments: usize,
}

impl Default for Extent {
    fn default() -> Extent {
        Extent { name: venue::GATEWAY.to_owned(), gateways: 1, instruments: venue::INSTRUMENTS }
    }
}

impl Extent {
    /// What its gateways are called.
    pub fn gateway_names(&self) -> impl Iterator<Item = String> {
        (0..self.gateways).map(|at| if at == 0 { self.name.clone() } else { format!("{}-{at}", self.name) })
    }
}

/// Starts it and waits until it is ready.
///
/// # Errors
/// If it does not get ready.
pub fn start(url: &str, hosts: Hosts, extent: &Extent) -> anyhow::Result<Peer> {
    use clap::ValueEnum;
    let hosts = hosts.to_possible_value().context("every kind of far side has a name")?;
    let (gateways, instruments) = (extent.gateways.to_string(), extent.instruments.to_string());
    let size = ["--name", &extent.name, "--gateways", &gateways, "--instruments", &instruments];
    Peer::of_this_program(&[&["far-side", url, hosts.get_name()], size.as_slice()].concat())
}

/// The other process itself.
///
/// # Errors
/// If the server cannot be reached, or the node fails.
pub async fn run(url: &str, hosts: Hosts, extent: Extent) -> anyhow::Result<()> {
    let client = async_nats::connect(url).await.with_context(|| format!("connecting to {url}"))?;
    let bare = Arc::new(BareTicks::new(client.clone(), extent.instruments)?);
    bare::serve(&client)?;
    let runtime = tokio::runtime::Handle::current();
    let bare_feeder = feeder(move |feed, window| bare.send(&runtime, feed, window))?;
    let mut node_feeder = None;
    let mut node = None;
    if hosts == Hosts::Both {
        bare::serve_stores(&client).await?;
        let (stop, stopped) = oneshot::channel();
        let (node_with_venues, sinks) = node_of(url, &extent)?;
        let running = tokio::spawn(node_with_venues.run(async {
            let _ = stopped.await;
        }));
        let venues = tokio::task::spawn_blocking(move || {
            sinks.into_iter().map(|(name, sink)| Ok((name, sink.recv()?))).collect::<Result<Vec<_>, RecvError>>()
        });
        let venues = venues.await?.context("the node made no venue")?;
        let instruments = extent.instruments;
        node_feeder = Some(feeder(move |feed, window| push_ticks(&venues, instruments, feed, window))?);
        node = Some((stop, running));
    }
    client.flush().await?;
    println!("ready");

    tokio::task::spawn_blocking(move || {
        let mut window = Arc::new(Window::open(WINDOW));
        for line in std::io::stdin().lock().lines() {
            match serde_json::from_str(&line?)? {
                Tell::Taken(count) => window.taken(count),
                Tell::Send(feed) => {
                    window.close();
                    window = Arc::new(Window::open(feed.window));
                    let feeder = match feed.side {
                        Side::Node => node_feeder.as_ref().context("this process hosts no node")?,
                        Side::Bare => &bare_feeder,
                        Side::Vnpy => bail!("this process is not VeighNa's"),
                    };
                    feeder.send((feed, window.clone())).context("a feeder's thread ended")?;
                }
            }
        }
        window.close();
        anyhow::Ok(())
    })
    .await??;
    if let Some((stop, running)) = node {
        let _ = stop.send(());
        running.await??;
    }
    Ok(())
}

/// A thread that feeds, one feed after the other; one may wait.
fn feeder(feed: impl Fn(Feed, &Window) + Send + 'static) -> anyhow::Result<SyncSender<(Feed, Arc<Window>)>> {
    let (orders, taken) = sync_channel::<(Feed, Arc<Window>)>(1);
    std::thread::Builder::new().name("feeder".to_owned()).spawn(move || {
        while let Ok((next, window)) = taken.recv() {
            feed(next, &window);
        }
    })?;
    Ok(orders)
}

/// A gateway, and where the sink of its venue comes once the node has made it.
type VenueToCome = (String, Receiver<VenueSink>);

/// A node whose gateways are on venues that accept everything, and what gives away the sink of each venue.
fn node_of(url: &str, extent: &Extent) -> anyhow::Result<(Node, Vec<VenueToCome>)> {
    let broker = ExternalBroker { servers: vec![url.parse().context("the broker's address")?], login: Login::Nobody };
    let config = Config {
        node: NodeConfig::default(),
        broker: BrokerConfig::External(broker),
        journal: JournalConfig { max_bytes: 1 << 30, ..JournalConfig::default() },
        lease: LeaseConfig::default(),
        gateways: Vec::new(),
    };
    let mut node = Node::new(config)?;
    let mut sinks = Vec::new();
    for name in extent.gateway_names() {
        let (sink_out, sink) = sync_channel(1);
        let (gateway, instruments) = (name.clone(), extent.instruments);
        let factory: GatewayFactory = Arc::new(move |_, sink| {
            // The second time the gateway would have failed and been started again: then nobody listens, and the run
            // fails.
            let _ = sink_out.try_send(sink.clone());
            Ok(Box::new(AcceptingVenue::new(sink, gateway.as_str(), instruments)))
        });
        node.add_gateway(name.as_str(), Vec::new(), factory)?;
        sinks.push((name, sink));
    }
    Ok((node, sinks))
}

/// Pushes ticks as a venue's thread does, to one gateway after the other. Where latencies are measured, a tick carries its
/// time as its turnover.
fn push_ticks(venues: &[(String, VenueSink)], instruments: usize, feed: Feed, window: &Window) {
    let templates: Vec<_> = venue::instruments(instruments)
        .flat_map(|instrument| venues.iter().map(move |(name, sink)| (sink, venue::tick(name, &instrument))))
        .collect();
    feed.run(window, |number| {
        let (sink, template) = &templates[number as usize % templates.len()];
        let mut tick = template.clone();
        if feed.per_second.is_some() {
            // Exact for the first hundred days after the machine's start, and to 2 ns for the next hundred.
            tick.turnover = Some(now_ns() as f64);
        }
        sink.ticks().push_wait(tick, PUSH_PATIENCE).is_ok()
    });
}
