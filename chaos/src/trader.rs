//! A client that trades without pause: orders that rest and orders that fill, quotes and cancels, several at a time. It
//! survives being killed: its next incarnation sends again what the earlier one left open, same id, same content.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use client_sdk::{Change, Client, ConnectOptions, GatewayHandle, OmsMirror};
use protocol::rpc::JournalEvent;
use protocol::{
    CancelRequest, Contract, Direction, InstrumentId, Offset, OmsEvent, OrderId, OrderRequest, OrderType, QuoteRequest,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{debug, info};

use crate::clock::now_us;
use crate::diary::{DiaryReader, DiaryWriter, Item, Note, Outcome, open_items};
use crate::listing::Listing;

/// The deadline of an order, and how long a call may take.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Pause before something that failed is tried again.
const RETRY: Duration = Duration::from_millis(200);
/// Orders of unknown outcome that may wait to be resolved. Full: whoever sends waits.
const UNRESOLVED: usize = 256;
/// Most orders of one burst.
const MAX_BURST: usize = 64;
/// How far from the market an order rests, in steps of the price.
const FAR: f64 = 40.0;

/// Options of `client`.
#[derive(Debug, Clone, clap::Args)]
pub struct ClientArgs {
    /// Where the brokers are: nats://HOST:PORT, several separated by commas
    #[arg(long)]
    pub servers: String,
    /// Which gateway to trade through
    #[arg(long)]
    pub gateway: String,
    /// The client's name; its order ids begin with it
    #[arg(long)]
    pub name: String,
    /// Its diary, appended to
    #[arg(long)]
    pub diary: PathBuf,
    /// Counts the starts of this client, from 1
    #[arg(long)]
    pub incarnation: u32,
    /// Decides what it sends
    #[arg(long)]
    pub seed: u64,
    /// How many orders it has under way at a time
    #[arg(long, default_value_t = 3)]
    pub workers: usize,
}

/// What the runner tells a client, a line each on its standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Send so many orders at once.
    Burst(usize),
    /// Send nothing new, and resolve what is open.
    Stop,
    /// Write what the mirror shows into this file, once it holds the journal up to here.
    Dump {
        /// Position in the journal.
        journal_seq: u64,
        /// The file: there when it is complete.
        path: PathBuf,
    },
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Command::Burst(count) => write!(f, "burst {count}"),
            Command::Stop => f.write_str("stop"),
            Command::Dump { journal_seq, path } => write!(f, "dump {journal_seq} {}", path.display()),
        }
    }
}

impl std::str::FromStr for Command {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> anyhow::Result<Command> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        Ok(match word {
            "burst" => Command::Burst(rest.parse().context("how many orders: write burst NUMBER")?),
            "stop" => Command::Stop,
            "dump" => {
                let (seq, path) = rest.split_once(' ').context("write dump JOURNAL_SEQUENCE FILE")?;
                Command::Dump { journal_seq: seq.parse().context("a journal sequence")?, path: path.into() }
            }
            _ => bail!("`{line}` is no command: write burst NUMBER, stop, or dump JOURNAL_SEQUENCE FILE"),
        })
    }
}

/// Trades until standard input ends: then the runner is gone.
///
/// # Errors
/// If the diary cannot be used. Nothing that the installation does is one.
pub async fn run(args: ClientArgs) -> anyhow::Result<()> {
    let lines = DiaryReader::new(args.diary.clone()).read().context("reading the diary")?;
    let diary = DiaryWriter::open(&args.diary).with_context(|| format!("opening {}", args.diary.display()))?;
    diary.write(now_us(), Note::Started { incarnation: args.incarnation })?;
    let (commands_in, mut commands) = mpsc::channel(16);
    // The runner waits while 16 commands are not taken. The thread ends with standard input, or with the process.
    std::thread::spawn(move || read_commands(&commands_in));
    let (unresolved, to_resolve) = mpsc::channel(UNRESOLVED);
    let client = connected(&args).await;
    let gateway = client.gateway(args.gateway.as_str()).with_timeout(TIMEOUT);
    let (markets_in, markets) = watch::channel(Markets::default());
    let (mirrors_in, mirrors) = watch::channel(None);
    let (stop, stopped) = watch::channel(false);
    let desk = Arc::new(Desk { args, gateway, diary, count: AtomicU64::new(0), markets, stopped });
    let mut helpers = JoinSet::new();
    helpers.spawn(follow_markets(desk.clone(), markets_in));
    helpers.spawn(follow_mirror(client, desk.clone(), mirrors_in));
    let mut senders = JoinSet::new();
    for worker in 0..desk.args.workers {
        senders.spawn(work(desk.clone(), worker as u64, unresolved.clone()));
    }
    let open = open_items(&lines);
    info!(open = open.len(), "resolving what the earlier incarnation left");
    let mut resolving = tokio::spawn(resolve_all(desk.clone(), open, to_resolve));
    let mut unresolved = Some(unresolved);
    let mut resolved = false;
    loop {
        let command = tokio::select! {
            command = commands.recv() => command,
            Some(ended) = senders.join_next() => {
                ended.context("a worker panicked")??;
                continue;
            }
            Some(ended) = helpers.join_next() => {
                ended.context("a helper panicked")??;
                continue;
            }
            ended = &mut resolving, if !resolved => {
                ended.context("the resolver panicked")??;
                desk.diary.write(now_us(), Note::Resolved)?;
                resolved = true;
                continue;
            }
        };
        match (command, &unresolved) {
            (None, _) => break,
            (Some(Command::Burst(count)), Some(unresolved)) => {
                for number in 0..count.min(MAX_BURST) {
                    senders.spawn(burst(desk.clone(), number as u64, unresolved.clone()));
                }
            }
            (Some(Command::Burst(_)), None) => {}
            (Some(Command::Stop), _) => {
                // Workers end their last turn; with the last of them the resolver's queue ends, and then the resolver.
                stop.send_replace(true);
                unresolved = None;
            }
            (Some(Command::Dump { journal_seq, path }), _) => {
                helpers.spawn(dump(mirrors.clone(), journal_seq, path));
            }
        }
    }
    info!("the runner is gone");
    Ok(())
}

fn read_commands(commands: &mpsc::Sender<Command>) {
    for line in std::io::stdin().lines() {
        let Ok(line) = line else { return };
        match line.parse() {
            Ok(command) => {
                if commands.blocking_send(command).is_err() {
                    return;
                }
            }
            Err(error) => tracing::error!("{error:#}"),
        }
    }
}

/// A client may be started while it is cut off.
async fn connected(args: &ClientArgs) -> Client {
    loop {
        let name = format!("{}-{}", args.name, args.incarnation);
        match Client::connect(ConnectOptions::new(&args.servers).name(name).timeout(TIMEOUT)).await {
            Ok(client) => return client,
            Err(error) => debug!(%error, "not connected yet"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// What all tasks of a client share.
struct Desk {
    args: ClientArgs,
    gateway: GatewayHandle,
    diary: DiaryWriter,
    count: AtomicU64,
    markets: watch::Receiver<Markets>,
    stopped: watch::Receiver<bool>,
}

/// Contracts and their last prices.
type Markets = HashMap<InstrumentId, (Contract, f64)>;

impl Desk {
    fn new_id(&self) -> OrderId {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        OrderId::new(format!("{}-{}-{number}", self.args.name, self.args.incarnation))
    }

    fn is_own(&self, id: &OrderId) -> bool {
        id.as_str().strip_prefix(self.args.name.as_str()).is_some_and(|rest| rest.starts_with('-'))
    }

    /// Writes it down, sends it, writes down what came of it.
    async fn send(&self, item: &Item) -> anyhow::Result<Outcome> {
        self.diary.write(now_us(), Note::Sending { item: item.clone() })?;
        let outcome = match item {
            Item::Order(request) => Outcome::of_order(&self.gateway.send_order(request).await),
            Item::Quote(request) => Outcome::of_quote(&self.gateway.send_quote(request).await),
        };
        self.diary.write(now_us(), Note::Told { id: item.id().clone(), outcome: outcome.clone() })?;
        Ok(outcome)
    }

    async fn cancel(&self, item: &Item) -> anyhow::Result<()> {
        let id = item.id().clone();
        self.diary.write(now_us(), Note::Cancelling { id: id.clone() })?;
        let request = CancelRequest::new(id.clone());
        let told = match item {
            Item::Order(_) => self.gateway.cancel_order(&request).await,
            Item::Quote(_) => self.gateway.cancel_quote(&request).await,
        };
        let error = told.err().map(|error| error.to_string());
        Ok(self.diary.write(now_us(), Note::CancelTold { id, error })?)
    }

    fn rng(&self, stream: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.args.seed ^ u64::from(self.args.incarnation) << 32);
        rng.set_stream(stream);
        rng
    }
}

/// What an order is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aim {
    Rest,
    Fill,
    Close,
    FillNow,
    Quote,
}

fn aim(rng: &mut ChaCha8Rng) -> Aim {
    match rng.random_range(0..100) {
        0..35 => Aim::Rest,
        35..65 => Aim::Fill,
        65..75 => Aim::Close,
        75..85 => Aim::FillNow,
        _ => Aim::Quote,
    }
}

/// An order or quote for one of the markets; nothing while none is known.
fn compose(desk: &Desk, rng: &mut ChaCha8Rng, aim: Aim) -> Option<Item> {
    let markets = desk.markets.borrow();
    let mut instruments: Vec<&InstrumentId> = markets.keys().collect();
    instruments.sort();
    let instrument = *instruments.get(rng.random_range(0..instruments.len().max(1)))?;
    let (contract, last) = markets.get(instrument)?;
    let away = |steps: f64| ((last / contract.pricetick).round() + steps) * contract.pricetick;
    let long = rng.random_bool(0.5);
    let direction = if long { Direction::Long } else { Direction::Short };
    let volume = f64::from(rng.random_range(1..4_u8));
    if aim == Aim::Quote {
        let steps = if rng.random_bool(0.3) { 1.0 } else { FAR };
        return Some(Item::Quote(QuoteRequest {
            quoteid: desk.new_id(),
            symbol: instrument.symbol.clone(),
            exchange: instrument.exchange,
            bid_price: away(-steps),
            bid_volume: volume,
            ask_price: away(steps),
            ask_volume: volume,
            bid_offset: Offset::Open,
            ask_offset: Offset::Open,
            reference: desk.args.name.as_str().into(),
        }));
    }
    let toward = if long { FAR / 2.0 } else { -FAR / 2.0 };
    let price = match aim {
        Aim::Rest => away(-2.0 * toward),
        _ => away(toward),
    };
    let offset = match aim {
        Aim::Close if instrument.exchange.closes_today_separately() => Offset::CloseToday,
        Aim::Close => Offset::Close,
        _ => Offset::Open,
    };
    let mut request = OrderRequest::limit(instrument.clone(), direction, offset, price, volume);
    request.orderid = desk.new_id();
    request.reference = desk.args.name.as_str().into();
    if aim == Aim::FillNow {
        request.r#type = OrderType::Fak;
    }
    Some(Item::Order(request))
}

/// Sends one thing after the other.
async fn work(desk: Arc<Desk>, worker: u64, unresolved: mpsc::Sender<Item>) -> anyhow::Result<()> {
    let mut rng = desk.rng(worker);
    while !*desk.stopped.borrow() {
        let aim = aim(&mut rng);
        let Some(item) = compose(&desk, &mut rng, aim) else {
            tokio::time::sleep(RETRY).await;
            continue;
        };
        match desk.send(&item).await? {
            Outcome::Taken { .. } if matches!(aim, Aim::Rest | Aim::Quote) && rng.random_bool(0.7) => {
                tokio::time::sleep(Duration::from_millis(rng.random_range(0..200))).await;
                desk.cancel(&item).await?;
            }
            Outcome::Taken { .. } => {}
            Outcome::NotExecuted { .. } => tokio::time::sleep(RETRY).await,
            Outcome::Unknown { .. } => unresolved.send(item).await.context("the resolver ended early")?,
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(10..90))).await;
    }
    Ok(())
}

/// Sends one order at once.
async fn burst(desk: Arc<Desk>, number: u64, unresolved: mpsc::Sender<Item>) -> anyhow::Result<()> {
    let mut rng = desk.rng(1_000 + number + desk.count.load(Ordering::Relaxed));
    let aim = aim(&mut rng);
    let Some(item) = compose(&desk, &mut rng, aim) else { return Ok(()) };
    if let Outcome::Unknown { .. } = desk.send(&item).await? {
        unresolved.send(item).await.context("the resolver ended early")?;
    }
    Ok(())
}

/// Sends everything of unknown outcome again until it is known.
async fn resolve_all(desk: Arc<Desk>, open: Vec<Item>, mut more: mpsc::Receiver<Item>) -> anyhow::Result<()> {
    for item in open {
        resolve(&desk, &item).await?;
    }
    while let Some(item) = more.recv().await {
        resolve(&desk, &item).await?;
    }
    Ok(())
}

async fn resolve(desk: &Desk, item: &Item) -> anyhow::Result<()> {
    // Whatever is said of this attempt says nothing of an earlier one, unless it judges the id.
    while !settles(&desk.send(item).await?) {
        tokio::time::sleep(RETRY).await;
    }
    Ok(())
}

fn settles(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Taken { .. } => true,
        Outcome::NotExecuted { proven, .. } => *proven,
        Outcome::Unknown { .. } => false,
    }
}

/// Asks for ticks of everything and keeps the last prices.
async fn follow_markets(desk: Arc<Desk>, markets: watch::Sender<Markets>) -> anyhow::Result<()> {
    let contracts = loop {
        match desk.gateway.get_all_contracts().await {
            Ok(contracts) if !contracts.is_empty() => break contracts,
            Ok(_) => debug!("no contracts yet"),
            Err(error) => debug!(%error, "no contracts yet"),
        }
        tokio::time::sleep(RETRY).await;
    };
    loop {
        for contract in &contracts {
            let instrument = contract.instrument();
            // A new leader takes subscriptions over; asking again costs nothing and makes sure.
            let _ = desk.gateway.subscribe(&instrument).await;
            let last = match desk.gateway.get_tick(&instrument).await {
                Ok(tick) => tick.and_then(|tick| tick.data.last_price),
                Err(_) => None,
            };
            if let Some(last) = last {
                markets.send_modify(|markets| drop(markets.insert(instrument, (contract.clone(), last))));
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Keeps a mirror and writes down what it shows of this client's own.
async fn follow_mirror(
    client: Client,
    desk: Arc<Desk>,
    mirrors: watch::Sender<Option<OmsMirror>>,
) -> anyhow::Result<()> {
    let mirror = loop {
        match client.mirror(desk.args.gateway.as_str()).await {
            Ok(mirror) => break mirror,
            Err(error) => debug!(%error, "no mirror yet"),
        }
        tokio::time::sleep(RETRY).await;
    };
    let mut changes = mirror.changes();
    mirrors.send_replace(Some(mirror));
    while let Some(change) = changes.next().await {
        let Change::Event(event) = change else { continue };
        let JournalEvent { event, .. } = event.as_ref();
        let note = match &event.data {
            OmsEvent::Order(order) if desk.is_own(&order.orderid) => {
                Note::Saw { id: order.orderid.clone(), status: order.status, traded: order.traded }
            }
            OmsEvent::Quote(quote) if desk.is_own(&quote.quoteid) => {
                Note::Saw { id: quote.quoteid.clone(), status: quote.status, traded: quote.traded() }
            }
            OmsEvent::Trade(trade) if desk.is_own(&trade.orderid) => Note::SawTrade { trade: trade.clone() },
            _ => continue,
        };
        desk.diary.write(now_us(), note)?;
    }
    Ok(())
}

async fn dump(mut mirrors: watch::Receiver<Option<OmsMirror>>, journal_seq: u64, path: PathBuf) -> anyhow::Result<()> {
    let mirror = mirrors.wait_for(Option::is_some).await.context("the mirror's keeper ended")?.clone();
    let mirror = mirror.context("a mirror that was waited for")?;
    mirror.caught_up_to(journal_seq).await;
    let unfinished = path.with_extension("part");
    let bytes = serde_json::to_vec(&Listing::from(mirror.state().as_ref()))?;
    std::fs::write(&unfinished, bytes).with_context(|| format!("writing {}", unfinished.display()))?;
    std::fs::rename(&unfinished, &path).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::OrderStatus;

    #[test]
    fn commands_read_back() {
        let dump = Command::Dump { journal_seq: 7, path: "/tmp/a b.json".into() };
        for command in [Command::Burst(3), Command::Stop, dump] {
            assert_eq!(command.to_string().parse::<Command>().expect("reads"), command);
        }
        assert!("jump".parse::<Command>().is_err() && "burst".parse::<Command>().is_err());
    }

    #[test]
    fn a_refusal_of_the_moment_settles_nothing_that_was_open() {
        let refused = |proven| Outcome::NotExecuted { code: None, error: String::new(), proven };
        assert!(!settles(&refused(false)) && settles(&refused(true)));
        assert!(settles(&Outcome::Taken { status: OrderStatus::Submitting, traded: 0.0 }));
        assert!(!settles(&Outcome::Unknown { error: String::new() }));
    }
}
