//! Runs a strategy at one gateway: its callbacks one after the other, its state exactly as of the event in hand.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt;
use futures::stream::SelectAll;
use protocol::oms::OrderKey;
use protocol::subject::Filter;
use protocol::{
    CancelRequest, Direction, Event, InstrumentId, Name, Offset, OmsEvent, OmsState, Order, OrderId, OrderRequest,
    Position, Tick, Trade,
};
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

use crate::client::Client;
use crate::error::Error;
use crate::follower::{CAPACITY, Followed, Follower, Start};
use crate::gateway::GatewayHandle;
use crate::health::{HealthEvent, HealthStream};
use crate::stream::{Missed, MissedCause, TickStream, Update};
use crate::task::Task;

/// What a callback answers. An error stops the strategy, unless [`Options::keep_going`] says otherwise.
pub type Outcome = anyhow::Result<()>;

/// A trading program. Every callback has a body that does nothing; write those that you need, as `async fn`.
///
/// Callbacks are awaited one after the other, so a strategy never runs twice at once. While one awaits (an order's
/// answer, say), orders and fills wait in the journal and ticks in their queue, where beyond 65,536 only the newest of
/// each instrument is kept. Every call through [`Context`] ends with [`Options::timeout`] at the latest, except that one
/// which sends an order may take 5 s longer where its answer is lost, to find out what became of it; and
/// [`Context::cancel_all`] calls once for each order.
pub trait Strategy: Send {
    /// Before anything else: the state is known, the instruments are subscribed.
    fn on_start(&mut self, _context: &mut Context) -> impl Future<Output = Outcome> + Send {
        async { Ok(()) }
    }

    /// A tick of one of its instruments.
    fn on_tick(&mut self, _context: &mut Context, _tick: &Tick) -> impl Future<Output = Outcome> + Send {
        async { Ok(()) }
    }

    /// One of its orders changed.
    fn on_order(&mut self, _context: &mut Context, _order: &Order) -> impl Future<Output = Outcome> + Send {
        async { Ok(()) }
    }

    /// One of its orders was filled.
    fn on_trade(&mut self, _context: &mut Context, _trade: &Trade) -> impl Future<Output = Outcome> + Send {
        async { Ok(()) }
    }

    /// A position of the gateway changed, whoever's order it was.
    fn on_position(&mut self, _context: &mut Context, _position: &Position) -> impl Future<Output = Outcome> + Send {
        async { Ok(()) }
    }

    /// Its gateway was lost, is back, or changed its state; or the connection did.
    fn on_status(&mut self, _context: &mut Context, _event: &HealthEvent) -> impl Future<Output = Outcome> + Send {
        async { Ok(()) }
    }

    /// Ticks were missed; or events were, because the journal no longer reached back far enough
    /// ([`MissedCause::TooOld`]), and the state was replaced as a whole.
    fn on_gap(&mut self, _context: &mut Context, _missed: &Missed) -> impl Future<Output = Outcome> + Send {
        async { Ok(()) }
    }

    /// A new trading day: what ended on earlier ones has left the state, and [`Context::filled`] no longer counts it.
    /// Nothing was missed.
    fn on_new_day(&mut self, _context: &mut Context) -> impl Future<Output = Outcome> + Send {
        async { Ok(()) }
    }

    /// After everything else: on shutdown, or behind an error. Its working orders are cancelled afterwards, unless
    /// [`Options::leave_orders`] says otherwise.
    fn on_stop(&mut self, _context: &mut Context) -> impl Future<Output = Outcome> + Send {
        async { Ok(()) }
    }
}

/// Where and how a strategy runs.
#[derive(Debug, Clone)]
pub struct Options {
    name: Name,
    gateway: Name,
    instruments: Vec<InstrumentId>,
    timeout: Duration,
    keep_going: bool,
    leave_orders: bool,
}

impl Options {
    /// A strategy of that name at one gateway, on some instruments. The name is the `reference` of its orders, by which
    /// it knows its own orders and fills again, also after a restart.
    #[must_use]
    pub fn new(
        name: impl Into<Name>,
        gateway: impl Into<Name>,
        instruments: impl IntoIterator<Item = InstrumentId>,
    ) -> Self {
        Options {
            name: name.into(),
            gateway: gateway.into(),
            instruments: instruments.into_iter().collect(),
            timeout: Duration::from_secs(5),
            keep_going: false,
            leave_orders: false,
        }
    }

    /// How long each call may take: 5 s. An order that has not reached the venue by then never does; where its answer is
    /// lost, finding that out may take 5 s more.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Goes on after a callback's error, which is logged. By default the strategy stops.
    #[must_use]
    pub fn keep_going(mut self) -> Self {
        self.keep_going = true;
        self
    }

    /// Leaves working orders at the venue when it stops. By default they are cancelled.
    #[must_use]
    pub fn leave_orders(mut self) -> Self {
        self.leave_orders = true;
        self
    }
}

/// What a strategy trades through, and what it knows.
#[derive(Debug)]
pub struct Context {
    name: Name,
    gateway: GatewayHandle,
    instruments: Vec<InstrumentId>,
    state: OmsState,
    filled: HashMap<InstrumentId, f64>,
    /// Orders of one's own that were answered, and whose first event is still to come.
    answered: HashMap<OrderKey, Order>,
    ticks: HashMap<InstrumentId, Arc<Event<Tick>>>,
}

impl Context {
    /// Its gateway, for everything else.
    #[must_use]
    pub fn gateway(&self) -> &GatewayHandle {
        &self.gateway
    }

    /// Its instruments.
    #[must_use]
    pub fn instruments(&self) -> &[InstrumentId] {
        &self.instruments
    }

    /// The gateway's state as of the event in hand, with the answers to one's own orders.
    #[must_use]
    pub fn state(&self) -> &OmsState {
        &self.state
    }

    /// The newest tick of an instrument.
    #[must_use]
    pub fn tick(&self, instrument: &InstrumentId) -> Option<&Tick> {
        self.ticks.get(instrument).map(|event| &event.data)
    }

    /// Lots held, long ones less short ones, of the whole account.
    #[must_use]
    pub fn position(&self, instrument: &InstrumentId) -> f64 {
        let volume = |direction| self.state.position(instrument, direction).map_or(0.0, |position| position.volume);
        volume(Direction::Long) - volume(Direction::Short) + volume(Direction::Net)
    }

    /// Lots that the strategy's own orders have bought less those that they have sold, of the orders that the gateway
    /// knows (its trading day's). It changes together with [`Self::active_orders`], so an order is never counted
    /// neither as working nor as filled; the account's [`Self::position`] may follow a moment later.
    #[must_use]
    pub fn filled(&self, instrument: &InstrumentId) -> f64 {
        self.filled.get(instrument).copied().unwrap_or(0.0)
    }

    /// One's own orders that can still be filled or cancelled.
    pub fn active_orders(&self) -> impl Iterator<Item = &Order> {
        self.state.active_orders().filter(|order| order.reference == self.name)
    }

    /// Buys to open, at `price` or better.
    ///
    /// # Errors
    /// As [`Self::send_order`]; so for the three others.
    pub async fn buy(&mut self, instrument: &InstrumentId, price: f64, volume: f64) -> Result<Order, Error> {
        self.limit(instrument, Direction::Long, Offset::Open, price, volume).await
    }

    /// Sells to close what is held long, at `price` or better.
    ///
    /// # Errors
    /// As [`Self::send_order`].
    pub async fn sell(&mut self, instrument: &InstrumentId, price: f64, volume: f64) -> Result<Order, Error> {
        let offset = closing_offset(instrument, self.state.position(instrument, Direction::Long), volume);
        self.limit(instrument, Direction::Short, offset, price, volume).await
    }

    /// Sells to open, at `price` or better.
    ///
    /// # Errors
    /// As [`Self::send_order`].
    pub async fn short(&mut self, instrument: &InstrumentId, price: f64, volume: f64) -> Result<Order, Error> {
        self.limit(instrument, Direction::Short, Offset::Open, price, volume).await
    }

    /// Buys to close what is held short, at `price` or better.
    ///
    /// # Errors
    /// As [`Self::send_order`].
    pub async fn cover(&mut self, instrument: &InstrumentId, price: f64, volume: f64) -> Result<Order, Error> {
        let offset = closing_offset(instrument, self.state.position(instrument, Direction::Short), volume);
        self.limit(instrument, Direction::Long, offset, price, volume).await
    }

    /// Sends an order under the strategy's name, and finds out what became of it where the answer is lost; the order's
    /// events tell the rest.
    ///
    /// # Errors
    /// As [`GatewayHandle::send_order`].
    pub async fn send_order(&mut self, mut request: OrderRequest) -> Result<Order, Error> {
        request.reference = self.name.clone();
        let order = self.gateway.send_order(&request).await?;
        // Known from now on, not only when its event comes: the next callback must not send it twice.
        let key = OrderKey::from(&order);
        if order.is_active() && self.state.order(&key).is_none() {
            self.answered.insert(key, order.clone());
        }
        self.apply(&OmsEvent::Order(order.clone()));
        Ok(order)
    }

    /// Cancels one of one's own orders; it stays active until its event says otherwise.
    ///
    /// # Errors
    /// As [`GatewayHandle::cancel_order`].
    pub async fn cancel(&mut self, orderid: &OrderId) -> Result<(), Error> {
        self.gateway.cancel_order(&CancelRequest::new(orderid.clone())).await
    }

    /// Cancels all of the strategy's own working orders, and no other's.
    ///
    /// # Errors
    /// The first failure, after all have been tried; an order that has just ended is none.
    pub async fn cancel_all(&mut self) -> Result<(), Error> {
        let orders: Vec<OrderId> = self.active_orders().map(|order| order.orderid.clone()).collect();
        let mut first_error = Ok(());
        for orderid in &orders {
            match self.cancel(orderid).await {
                Err(error) if error.code() != Some(protocol::ErrorCode::OrderNotActive) => {
                    first_error = first_error.and(Err(error));
                }
                _ => {}
            }
        }
        first_error
    }

    fn apply(&mut self, event: &OmsEvent) {
        let OmsEvent::Order(order) = event else {
            self.state.apply(event);
            return;
        };
        let key = OrderKey::from(order);
        let traded = |state: &OmsState| state.order(&key).map_or(0.0, |order| order.traded);
        let before = traded(&self.state);
        self.state.apply(event);
        if order.reference == self.name {
            let more = traded(&self.state) - before;
            *self.filled.entry(order.instrument()).or_default() += signed(order.direction, more);
        }
    }

    fn replace(&mut self, mut state: OmsState) {
        // What was answered lately may lie behind the new state.
        self.answered.retain(|key, _| state.order(key).is_none());
        for order in self.answered.values() {
            state.apply(&OmsEvent::Order(order.clone()));
        }
        self.filled.clear();
        for order in state.orders().values().filter(|order| order.reference == self.name) {
            *self.filled.entry(order.instrument()).or_default() += signed(order.direction, order.traded);
        }
        self.state = state;
    }

    async fn limit(
        &mut self,
        instrument: &InstrumentId,
        direction: Direction,
        offset: Offset,
        price: f64,
        volume: f64,
    ) -> Result<Order, Error> {
        self.send_order(OrderRequest::limit(instrument.clone(), direction, offset, price, volume)).await
    }

    async fn subscribe(&self) -> Result<(), Error> {
        for instrument in &self.instruments {
            self.gateway.subscribe(instrument).await?;
        }
        Ok(())
    }
}

fn signed(direction: Direction, volume: f64) -> f64 {
    match direction {
        Direction::Long | Direction::Net => volume,
        Direction::Short => -volume,
    }
}

/// SHFE and INE close today's lots by an offset of their own. What is partly of today must be closed by two orders.
fn closing_offset(instrument: &InstrumentId, position: Option<&Position>, volume: f64) -> Offset {
    let today = position.map_or(0.0, |position| position.volume - position.yd_volume);
    match instrument.exchange.closes_today_separately() && today >= volume {
        true => Offset::CloseToday,
        false => Offset::Close,
    }
}

/// Runs a strategy until `shutdown` or an error, and gives it back.
///
/// # Errors
/// If the gateway does not run or does not know an instrument; if a callback fails, with its error.
pub async fn run<S: Strategy>(
    client: &Client,
    mut strategy: S,
    options: Options,
    shutdown: impl Future<Output = ()> + Send,
) -> anyhow::Result<S> {
    let (mut context, mut feed) = prepare(client, &options).await?;
    info!(strategy = %options.name, gateway = %options.gateway, "strategy starts");
    let mut result = strategy.on_start(&mut context).await.context("on_start");
    if result.is_ok() {
        result = run_callbacks(&mut strategy, &mut context, &mut feed, &options, shutdown).await;
    }
    if let Err(error) = strategy.on_stop(&mut context).await {
        error!(strategy = %options.name, error = format!("{error:#}"), "on_stop failed");
    }
    if !options.leave_orders {
        // Orders answered while stopping are in the state already; fills that still wait change nothing here.
        if let Err(error) = context.cancel_all().await {
            error!(strategy = %options.name, %error, "working orders could not all be cancelled");
        }
    }
    info!(strategy = %options.name, "strategy stopped");
    result.map(|()| strategy)
}

/// Everything that makes callbacks.
struct Feed {
    followed: mpsc::Receiver<Followed>,
    ticks: SelectAll<TickStream>,
    health: HealthStream,
    _follower: Task,
    _wanted: watch::Sender<u64>,
}

async fn prepare(client: &Client, options: &Options) -> anyhow::Result<(Context, Feed)> {
    let gateway = client.gateway(options.gateway.clone()).with_timeout(options.timeout);
    let (out, mut followed) = mpsc::channel(CAPACITY);
    let wanted = watch::Sender::new(0);
    let undecodable = Arc::new(AtomicU64::new(0));
    let name = &options.gateway;
    let follower = Follower::open(client, name, Start::Snapshot, wanted.subscribe(), out, undecodable)
        .await
        .with_context(|| format!("reading the state of gateway `{name}`"))?;
    if !follower.has_begun() {
        // Says why it does not answer.
        gateway.get_status().await.with_context(|| format!("reading the state of gateway `{name}`"))?;
    }
    let follower = Task::spawn(follower.run());
    let first = tokio::time::timeout(options.timeout, followed.recv()).await;
    let Ok(Some(Followed::Snapshot(snapshot))) = first else {
        anyhow::bail!("gateway `{name}` did not tell its state within {:?}", options.timeout);
    };
    let mut context = Context {
        name: options.name.clone(),
        gateway,
        instruments: options.instruments.clone(),
        state: OmsState::default(),
        filled: HashMap::new(),
        answered: HashMap::new(),
        ticks: HashMap::new(),
    };
    context.replace(snapshot.state);
    let mut ticks = SelectAll::new();
    for instrument in &options.instruments {
        ticks.push(client.ticks(Filter::instrument(instrument).gateway(options.gateway.clone())).await?);
    }
    context.subscribe().await.with_context(|| format!("subscribing at gateway `{name}`"))?;
    Ok((context, Feed { followed, ticks, health: client.health(), _follower: follower, _wanted: wanted }))
}

async fn run_callbacks<S: Strategy>(
    strategy: &mut S,
    context: &mut Context,
    feed: &mut Feed,
    options: &Options,
    shutdown: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    tokio::pin!(shutdown);
    loop {
        let outcome = tokio::select! {
            // Fills before the ticks that a strategy would act on without knowing of them.
            biased;
            () = &mut shutdown => return Ok(()),
            followed = feed.followed.recv() => match followed {
                Some(followed) => on_followed(strategy, context, followed).await,
                None => anyhow::bail!("the connection was closed for good"),
            },
            event = feed.health.next() => match event {
                Some(event) => on_health(strategy, context, event).await,
                None => anyhow::bail!("the connection was closed for good"),
            },
            Some(update) = feed.ticks.next() => on_update(strategy, context, update).await,
        };
        match outcome {
            Ok(()) => {}
            Err(error) if options.keep_going => {
                error!(strategy = %options.name, error = format!("{error:#}"), "callback failed, going on");
            }
            Err(error) => return Err(error),
        }
    }
}

async fn on_followed<S: Strategy>(strategy: &mut S, context: &mut Context, followed: Followed) -> Outcome {
    match followed {
        Followed::Event(item) => {
            context.apply(&item.event.data);
            if let OmsEvent::Order(order) = &item.event.data {
                context.answered.remove(&OrderKey::from(order));
            }
            match &item.event.data {
                OmsEvent::Order(order) if order.reference == context.name => {
                    strategy.on_order(context, order).await.context("on_order")
                }
                OmsEvent::Trade(trade) if trade.reference == context.name => {
                    strategy.on_trade(context, trade).await.context("on_trade")
                }
                OmsEvent::Position(position) => strategy.on_position(context, position).await.context("on_position"),
                _ => Ok(()),
            }
        }
        Followed::Snapshot(snapshot) => {
            context.replace(snapshot.state);
            let gateway = context.gateway.name().clone();
            let missed = Missed { gateway, instrument: None, count: None, cause: MissedCause::TooOld };
            strategy.on_gap(context, &missed).await.context("on_gap")
        }
        Followed::NewDay(snapshot) => {
            context.replace(snapshot.state);
            strategy.on_new_day(context).await.context("on_new_day")
        }
        Followed::TooOld(_) | Followed::CompleteTo(_) | Followed::Link(_) => Ok(()),
    }
}

async fn on_health<S: Strategy>(strategy: &mut S, context: &mut Context, event: HealthEvent) -> Outcome {
    let about = match &event {
        HealthEvent::GatewayLost { gateway, .. }
        | HealthEvent::GatewayRecovered { gateway, .. }
        | HealthEvent::GatewayState { gateway, .. }
        | HealthEvent::EpochChanged { gateway, .. } => Some(gateway),
        HealthEvent::Disconnected | HealthEvent::Reconnected => None,
    };
    if about.is_some_and(|gateway| gateway != context.gateway.name()) {
        return Ok(());
    }
    if matches!(event, HealthEvent::EpochChanged { .. }) {
        // A new leader takes subscriptions over; asking again costs nothing and makes sure.
        if let Err(error) = context.subscribe().await {
            warn!(%error, "asking the new leader for ticks failed");
        }
    }
    strategy.on_status(context, &event).await.context("on_status")
}

async fn on_update<S: Strategy>(strategy: &mut S, context: &mut Context, update: Update<Tick>) -> Outcome {
    match update {
        Update::Event(event) => {
            // Known before the callback asks for it.
            context.ticks.insert(event.data.instrument(), Arc::clone(&event));
            strategy.on_tick(context, &event.data).await.context("on_tick")
        }
        Update::Missed(missed) => strategy.on_gap(context, &missed).await.context("on_gap"),
        // The health of the connection is told by `on_status`.
        Update::Disconnected | Update::Reconnected => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Exchange;

    fn position(volume: f64, yd_volume: f64) -> Position {
        Position {
            gateway_name: "sim1".into(),
            symbol: "rb2410".into(),
            exchange: Exchange::SHFE,
            direction: Direction::Long,
            volume,
            frozen: 0.0,
            price: 0.0,
            pnl: 0.0,
            yd_volume,
            extra: None,
        }
    }

    #[test]
    fn today_is_closed_separately_where_the_exchange_wants_it() {
        let rb = InstrumentId::new("rb2410", Exchange::SHFE);
        assert_eq!(closing_offset(&rb, Some(&position(3.0, 1.0)), 2.0), Offset::CloseToday);
        assert_eq!(closing_offset(&rb, Some(&position(3.0, 3.0)), 2.0), Offset::Close);
        assert_eq!(closing_offset(&rb, None, 1.0), Offset::Close);
        let c = InstrumentId::new("c2409", Exchange::DCE);
        assert_eq!(closing_offset(&c, Some(&position(3.0, 0.0)), 2.0), Offset::Close);
    }
}
