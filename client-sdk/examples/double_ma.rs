//! A double moving average: long while the fast average of ticks is above the slow one, short while it is below.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use client_sdk::protocol::{InstrumentId, Order, Tick, Trade};
use client_sdk::strategy::{self, Context, Options, Outcome};
use client_sdk::{Client, ConnectOptions, Filter, HealthEvent, Missed, Strategy};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

/// Trades a double moving average at a gateway.
#[derive(Parser)]
struct Arguments {
    /// Address of the server.
    #[arg(long, env = "GATEMESH_SERVER", default_value = "nats://127.0.0.1:4222")]
    server: String,
    /// Gateway to trade at; the first one that runs, if absent.
    #[arg(long)]
    gateway: Option<String>,
    /// SYMBOL.EXCHANGE to trade, for example rb2410.SHFE; the first contract with ticks, if absent.
    #[arg(long)]
    instrument: Option<InstrumentId>,
    /// Ticks in the fast average.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    fast: u16,
    /// Ticks in the slow average.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(2..))]
    slow: u16,
    /// Ends after so many seconds; runs until Ctrl-C, if absent.
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u64>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_target(false).init();
    let arguments = Arguments::parse();
    anyhow::ensure!(arguments.fast < arguments.slow, "--fast must be less than --slow");

    // Listens from the beginning, so that a Ctrl-C while connecting is no crash either.
    let mut interrupt = signal(SignalKind::interrupt())?;

    let client = Client::connect(ConnectOptions::new(&arguments.server).name("double-ma")).await?;
    let gateway = match arguments.gateway {
        Some(gateway) => gateway.into(),
        None => client.gateways().await?.into_iter().next().context("no gateway is running")?.name,
    };
    let instrument = match arguments.instrument {
        Some(instrument) => instrument,
        None => first_with_ticks(&client, &gateway).await?,
    };
    info!(%gateway, %instrument, fast = arguments.fast, slow = arguments.slow, "trading");

    let strategy = DoubleMa::new(arguments.fast.into(), arguments.slow.into());
    let options = Options::new("double-ma", gateway, [instrument]);
    let end = async move {
        let time = async {
            match arguments.seconds {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = time => {}
            _ = interrupt.recv() => info!("stopping"),
        }
    };
    let strategy = strategy::run(&client, strategy, options, end).await?;
    info!(fills = strategy.fills, ticks = strategy.ticks, "done");
    Ok(())
}

/// Asks for the ticks of some contracts and takes the first that has any.
async fn first_with_ticks(client: &Client, gateway: &str) -> anyhow::Result<InstrumentId> {
    let handle = client.gateway(gateway);
    let mut ticks = client.ticks(Filter::all().gateway(gateway)).await?;
    if let Some(tick) = handle.get_all_ticks().await?.first() {
        return Ok(tick.data.instrument());
    }
    for contract in handle.get_all_contracts().await?.iter().take(20) {
        handle.subscribe(&contract.instrument()).await?;
    }
    let first = async {
        while let Some(update) = ticks.next().await {
            if let Some(event) = update.event() {
                return Some(event.data.instrument());
            }
        }
        None
    };
    let first = tokio::time::timeout(Duration::from_secs(60), first).await;
    first.ok().flatten().context("no ticks within a minute: name an instrument with --instrument")
}

struct DoubleMa {
    fast: usize,
    slow: usize,
    prices: VecDeque<f64>,
    ticks: u64,
    fills: u64,
}

impl DoubleMa {
    fn new(fast: usize, slow: usize) -> DoubleMa {
        DoubleMa { fast, slow, prices: VecDeque::with_capacity(slow + 1), ticks: 0, fills: 0 }
    }

    /// Lots that it wants to hold: 1, -1, or none while it has seen too little.
    fn target(&mut self, price: f64) -> Option<f64> {
        self.prices.push_front(price);
        self.prices.truncate(self.slow);
        if self.prices.len() < self.slow {
            return None;
        }
        let average = |n: usize| self.prices.iter().take(n).sum::<f64>() / n as f64;
        let (fast, slow) = (average(self.fast), average(self.slow));
        (fast != slow).then(|| if fast > slow { 1.0 } else { -1.0 })
    }
}

impl Strategy for DoubleMa {
    async fn on_tick(&mut self, context: &mut Context, tick: &Tick) -> Outcome {
        self.ticks += 1;
        let (Some(price), Some(bid), Some(ask)) = (tick.last_price, tick.best_bid(), tick.best_ask()) else {
            return Ok(());
        };
        let Some(target) = self.target(price) else { return Ok(()) };
        if context.active_orders().next().is_some() {
            // One thing at a time: what has not filled is taken back, and the next tick decides anew.
            context.cancel_all().await?;
            return Ok(());
        }
        let instrument = tick.instrument();
        let held = context.filled(&instrument);
        let sent = match (target > 0.0, held) {
            (true, held) if held < 0.0 => context.cover(&instrument, ask.0, -held).await,
            (true, 0.0) => context.buy(&instrument, ask.0, 1.0).await,
            (false, held) if held > 0.0 => context.sell(&instrument, bid.0, held).await,
            (false, 0.0) => context.short(&instrument, bid.0, 1.0).await,
            _ => return Ok(()),
        };
        match sent {
            Ok(order) => info!(orderid = %order.orderid, direction = %order.direction, offset = %order.offset, "sent"),
            // Refused or not reachable: the market goes on, and the next tick is the next chance.
            Err(error) => warn!(%error, "not sent"),
        }
        Ok(())
    }

    async fn on_order(&mut self, _context: &mut Context, order: &Order) -> Outcome {
        info!(orderid = %order.orderid, status = %order.status, traded = order.traded, "order");
        Ok(())
    }

    async fn on_trade(&mut self, context: &mut Context, trade: &Trade) -> Outcome {
        self.fills += 1;
        let held = context.filled(&trade.instrument());
        info!(direction = %trade.direction, price = trade.price, volume = trade.volume, held, "fill");
        Ok(())
    }

    async fn on_status(&mut self, _context: &mut Context, event: &HealthEvent) -> Outcome {
        info!(?event, "status");
        Ok(())
    }

    async fn on_gap(&mut self, _context: &mut Context, missed: &Missed) -> Outcome {
        warn!(?missed, "missed");
        Ok(())
    }
}
