//! The other process: a node with its venue, and beside it a bare NATS client that publishes and answers. It does what
//! it is told on its standard input, line by line, and ends when that ends.

use std::io::{BufRead, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context as _, bail};
use async_nats::jetstream;
use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use gateway_node::config::{BrokerConfig, Config, ExternalBroker, JournalConfig, LeaseConfig, Login, NodeConfig};
use gateway_node::gateway::VenueSink;
use gateway_node::{GatewayFactory, Node};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use protocol::{Subject, codec};
use tokio::sync::oneshot;

use crate::clock::now_ns;
use crate::feed::{Feed, Sender, Tell, Window};
use crate::recorded::tick_event;
use crate::venue::{self, AcceptingVenue};

/// Where the bare client publishes; the last token is the instrument, as in a tick's subject.
pub const BARE_TICKS: &str = "bare.tick.>";
/// Answered with what was asked, at once.
pub const BARE_ECHO: &str = "bare.echo";
/// The same, once JetStream has stored it.
pub const BARE_STORE: &str = "bare.store";
/// As [`BARE_STORE`], and stored once more behind the answer, as an order's report is.
pub const BARE_STORE_TWICE: &str = "bare.store-twice";
/// Stored by JetStream.
pub const BARE_JOURNAL: &str = "bare.journal";
/// A venue's thread gives up on a queue that is full for so long; the run has failed then.
const PUSH_PATIENCE: Duration = Duration::from_secs(30);

/// What the other process hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Hosts {
    /// The node and the bare client.
    Both,
    /// The bare client alone.
    Bare,
    /// Nobody: it only subscribes to everything that the bare client publishes.
    Subscriber,
}

/// The process, seen from the one that measures. It is killed when this is dropped.
pub struct FarSide {
    child: Child,
    input: Option<ChildStdin>,
}

impl FarSide {
    /// Starts it and waits until it is ready.
    pub fn start(url: &str, hosts: Hosts) -> anyhow::Result<FarSide> {
        use clap::ValueEnum;
        let hosts = hosts.to_possible_value().context("every kind of far side has a name")?;
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut child = Command::new(program)
            .args(["far-side", url, hosts.get_name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the other process")?;
        let mut line = String::new();
        let output = child.stdout.take().context("its output is a pipe")?;
        std::io::BufReader::new(output).read_line(&mut line).context("waiting for the other process")?;
        let input = child.stdin.take();
        let far = FarSide { child, input };
        if line != "ready\n" {
            bail!("the other process did not get ready");
        }
        Ok(far)
    }

    /// Tells it something.
    pub fn tell(&mut self, what: Tell) -> anyhow::Result<()> {
        let mut line = serde_json::to_string(&what)?;
        line.push('\n');
        let input = self.input.as_mut().context("the other process is told nothing any more")?;
        input.write_all(line.as_bytes()).context("the other process is gone")
    }

    /// Stops it (SIGSTOP), as a machine that hangs would be: its connection stays, and nobody reads.
    pub fn freeze(&self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id()).context("a process id that is none")?;
        kill(Pid::from_raw(pid), Signal::SIGSTOP).context("freezing the other process")
    }

    /// Lets it end, and waits for it.
    pub fn stop(mut self) -> anyhow::Result<()> {
        drop(self.input.take());
        let status = self.child.wait().context("waiting for the other process")?;
        anyhow::ensure!(status.success(), "the other process ended with {status}");
        Ok(())
    }
}

impl Drop for FarSide {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other process itself.
///
/// # Errors
/// If the server cannot be reached, or the node fails.
pub async fn run(url: &str, hosts: Hosts) -> anyhow::Result<()> {
    let client = async_nats::connect(url).await.with_context(|| format!("connecting to {url}"))?;
    if hosts == Hosts::Subscriber {
        return subscribe_only(&client).await;
    }
    let bare = Arc::new(BareTicks::new(client.clone())?);
    tokio::spawn(echo(client.clone()));
    let runtime = tokio::runtime::Handle::current();
    let bare_feeder = feeder(move |feed, window| bare.send(&runtime, feed, window))?;
    let mut node_feeder = None;
    let mut node = None;
    if hosts == Hosts::Both {
        let journal = journal(&client).await?;
        tokio::spawn(store(client.clone(), journal.clone(), BARE_STORE, 1));
        tokio::spawn(store(client.clone(), journal, BARE_STORE_TWICE, 2));
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
        let mut window = Arc::new(Window::open());
        for line in std::io::stdin().lock().lines() {
            match serde_json::from_str(&line?)? {
                Tell::Taken(count) => window.taken(count),
                Tell::Send(feed) => {
                    window.close();
                    window = Arc::new(Window::open());
                    let feeder = match feed.sender {
                        Sender::Node => node_feeder.as_ref().context("this process hosts no node")?,
                        Sender::Bare => &bare_feeder,
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

/// Ticks' bytes, ready to be published.
struct BareTicks {
    client: async_nats::Client,
    ready: Vec<(async_nats::Subject, Bytes)>,
}

impl BareTicks {
    fn new(client: async_nats::Client) -> anyhow::Result<BareTicks> {
        let ready = venue::instruments()
            .map(|instrument| {
                let event = protocol::Event { data: venue::tick(&instrument), ..tick_event() };
                let subject = Subject::tick(&instrument).to_string().replacen("evt", "bare", 1);
                Ok((subject.into(), codec::encode(&event)?.into()))
            })
            .collect::<Result<_, codec::EncodeError>>()?;
        Ok(BareTicks { client, ready })
    }

    /// Where latencies are measured, the first eight bytes are the time.
    fn send(&self, runtime: &tokio::runtime::Handle, feed: Feed, window: &Window) {
        feed.run(window, |number| {
            let (subject, ready) = &self.ready[number as usize % self.ready.len()];
            let bytes = match feed.per_second {
                None => ready.clone(),
                Some(_) => {
                    let mut stamped = BytesMut::with_capacity(ready.len());
                    stamped.put_u64(now_ns());
                    stamped.extend_from_slice(&ready[8..]);
                    stamped.freeze()
                }
            };
            runtime.block_on(self.client.publish(subject.clone(), bytes)).is_ok()
        });
    }
}

async fn echo(client: async_nats::Client) -> anyhow::Result<()> {
    let mut requests = client.subscribe(BARE_ECHO).await?;
    while let Some(request) = requests.next().await {
        if let Some(inbox) = request.reply {
            client.publish(inbox, request.payload).await?;
        }
    }
    Ok(())
}

async fn journal(client: &async_nats::Client) -> anyhow::Result<jetstream::Context> {
    let context = jetstream::new(client.clone());
    let config = jetstream::stream::Config {
        name: "BARE".to_owned(),
        subjects: vec![BARE_JOURNAL.to_owned()],
        storage: jetstream::stream::StorageType::File,
        ..Default::default()
    };
    context.create_stream(config).await.context("making the bare stream")?;
    Ok(context)
}

/// Stores what is asked and then answers with it, any number at a time; what is stored more than once is stored again
/// behind the answer.
async fn store(
    client: async_nats::Client,
    context: jetstream::Context,
    subject: &'static str,
    times: u32,
) -> anyhow::Result<()> {
    let mut requests = client.subscribe(subject).await?;
    while let Some(request) = requests.next().await {
        let Some(inbox) = request.reply else { continue };
        let stored = context.publish(BARE_JOURNAL, request.payload.clone()).await?;
        let (client, context) = (client.clone(), context.clone());
        tokio::spawn(async move {
            // Whoever asked would wait in vain and say so.
            if stored.await.is_err() || client.publish(inbox, request.payload.clone()).await.is_err() {
                return;
            }
            for _ in 1..times {
                if let Ok(again) = context.publish(BARE_JOURNAL, request.payload.clone()).await {
                    let _ = again.await;
                }
            }
        });
    }
    Ok(())
}

/// Takes everything and does nothing with it, until it is frozen.
async fn subscribe_only(client: &async_nats::Client) -> anyhow::Result<()> {
    let mut ticks = client.subscribe(BARE_TICKS).await?;
    client.flush().await?;
    println!("ready");
    while ticks.next().await.is_some() {}
    Ok(())
}
