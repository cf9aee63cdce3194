//! The sending process: a node with its venue, and beside it a bare NATS client that publishes and answers. It does what
//! it is told on its standard input, line by line, and ends when that ends.

use std::io::BufRead as _;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
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

/// Starts it and waits until it is ready.
///
/// # Errors
/// If it does not get ready.
pub fn start(url: &str, hosts: Hosts) -> anyhow::Result<Peer> {
    use clap::ValueEnum;
    let hosts = hosts.to_possible_value().context("every kind of far side has a name")?;
    Peer::of_this_program(&["far-side", url, hosts.get_name()])
}

/// The other process itself.
///
/// # Errors
/// If the server cannot be reached, or the node fails.
pub async fn run(url: &str, hosts: Hosts) -> anyhow::Result<()> {
    let client = async_nats::connect(url).await.with_context(|| format!("connecting to {url}"))?;
    let bare = Arc::new(BareTicks::new(client.clone())?);
    bare::serve(&client)?;
    let runtime = tokio::runtime::Handle::current();
    let bare_feeder = feeder(move |feed, window| bare.send(&runtime, feed, window))?;
    let mut node_feeder = None;
    let mut node = None;
    if hosts == Hosts::Both {
        bare::serve_stores(&client).await?;
        let (stop, stopped) = oneshot::channel();
        let (sink_out, sink) = sync_channel(1);
        let running = tokio::spawn(node_of(url, sink_out)?.run(async {
            let _ = stopped.await;
        }));
        let sink = tokio::task::spawn_blocking(move || sink.recv()).await?.context("the node made no venue")?;
        node_feeder = Some(feeder(move |feed, window| push_ticks(&sink, feed, window))?);
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

/// A node with one gateway on the venue that accepts everything; gives away the sink of its venue.
fn node_of(url: &str, sink_out: SyncSender<VenueSink>) -> anyhow::Result<Node> {
    let broker = ExternalBroker { servers: vec![url.parse().context("the broker's address")?], login: Login::Nobody };
    let config = Config {
        node: NodeConfig::default(),
        broker: BrokerConfig::External(broker),
        journal: JournalConfig { max_bytes: 1 << 30, ..JournalConfig::default() },
        lease: LeaseConfig::default(),
        gateways: Vec::new(),
    };
    let mut node = Node::new(config)?;
    let factory: GatewayFactory = Arc::new(move |_, sink| {
        // The second time the gateway would have failed and been started again: then nobody listens, and the run fails.
        let _ = sink_out.try_send(sink.clone());
        Ok(Box::new(AcceptingVenue::new(sink)))
    });
    node.add_gateway(venue::GATEWAY, Vec::new(), factory)?;
    Ok(node)
}

/// Pushes ticks as a venue's thread does. Where latencies are measured, a tick carries its time as its turnover.
fn push_ticks(sink: &VenueSink, feed: Feed, window: &Window) {
    let templates: Vec<_> = venue::instruments().map(|instrument| venue::tick(&instrument)).collect();
    feed.run(window, |number| {
        let mut tick = templates[number as usize % templates.len()].clone();
        if feed.per_second.is_some() {
            // Exact for the first hundred days after the machine's start, and to 2 ns for the next hundred.
            tick.turnover = Some(now_ns() as f64);
        }
        sink.ticks().push_wait(tick, PUSH_PATIENCE).is_ok()
    });
}
