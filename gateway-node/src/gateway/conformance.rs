//! What every venue must do, whichever way it is reached: the same scenarios for each of them, through the trait and
//! the two queues alone.

use std::time::Duration;

use protocol::{
    Account, Contract, Direction, Exchange, HistoryRequest, InstrumentId, Name, Offset, OrderRequest, OrderStatus,
    OrderType, Position, Product, QuoteRequest,
};

use super::{
    Answer, Gateway, GatewayError, QueryToken, SequencedTick, SessionStart, VenueEvent, VenueOrder, VenueQuote,
    VenueReference, VenueSnapshot, VenueSource, VenueTrade,
};
use crate::risk::{check_order, check_quote};

/// Makes a test of each scenario for one venue. `$make` takes nothing but the ticks that its market is to have, as
/// the scenarios expect it: 5 lots at 99 and at 101, last price 100.
macro_rules! conformance {
    ($name:ident, $make:expr) => {
        mod $name {
            use super::*;
            crate::gateway::conformance::conformance!(
                @tests $make,
                a_marketable_limit_order_is_filled
                an_order_rests_and_is_cancelled
                what_cannot_be_filled_at_once_is_cancelled
                an_order_that_cannot_be_is_rejected
                a_quote_is_filled_on_one_side_and_cancelled
                a_snapshot_after_reconnecting_has_everything
                a_reference_belongs_to_its_session
                ticks_come_to_who_subscribed
                queries_are_answered
                nothing_is_taken_without_a_login
            );
        }
    };
    (@tests $make:expr, $($scenario:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() {
                let make = $make;
                let mut rig = make(vec![tick(0, 100.0), tick(1, 100.0)]).await;
                crate::gateway::conformance::$scenario(&mut rig).await;
                rig.gateway.close();
            }
        )*
    };
}
pub(crate) use conformance;

/// What venues may differ in.
#[derive(Clone, Copy)]
pub(crate) struct Traits {
    /// What it says of an order that there is no money for.
    pub(crate) no_funds: &'static str,
    /// A newer login ends the session before it.
    pub(crate) ends_older_sessions: bool,
    /// It takes two-sided quotes.
    pub(crate) has_quotes: bool,
    /// It answers with bars.
    pub(crate) has_history: bool,
}

impl Traits {
    /// The simulated venue, whichever way it is reached.
    pub(crate) const SIMULATED: Traits =
        Traits { no_funds: "insufficient funds", ends_older_sessions: true, has_quotes: true, has_history: true };
}

/// The node's side of a venue.
pub(crate) struct Rig {
    pub(crate) gateway: Box<dyn Gateway>,
    pub(crate) source: VenueSource,
    pub(crate) session: Name,
    traits: Traits,
    number: u64,
    /// Whatever must live as long.
    #[allow(dead_code)] // dropped, not read
    venue: Box<dyn std::any::Any + Send>,
}

pub(crate) fn instrument() -> InstrumentId {
    InstrumentId::new("rb2410", Exchange::SHFE)
}

fn contract() -> Contract {
    let contract = Contract::new("sim1", instrument(), Product::Futures, 10.0, 1.0);
    Contract { stop_supported: true, ..contract }
}

impl Rig {
    pub(crate) fn new(gateway: Box<dyn Gateway>, source: VenueSource, venue: Box<dyn std::any::Any + Send>) -> Rig {
        Rig { gateway, source, session: Name::default(), traits: Traits::SIMULATED, number: 0, venue }
    }

    /// The same at a venue of its own kind.
    pub(crate) fn of(self, traits: Traits) -> Rig {
        Rig { traits, ..self }
    }

    /// Keeps something alive as long as this.
    pub(crate) fn keep(&mut self, venue: impl std::any::Any + Send) {
        self.venue = Box::new(venue);
    }

    /// The next event that `wanted` makes something of; what comes before is passed over.
    pub(crate) async fn expect<T>(&mut self, what: &str, wanted: impl Fn(VenueEvent) -> Option<T>) -> T {
        let search = async {
            loop {
                let event = self.source.events.recv().await.expect("the venue lives");
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), search).await;
        waited.unwrap_or_else(|_| panic!("waited for {what}"))
    }

    pub(crate) async fn log_in(&mut self, epoch: u64) {
        self.log_in_as("sim1", epoch).await;
    }

    /// Logs in at a gateway of this name.
    pub(crate) async fn log_in_as(&mut self, name: &str, epoch: u64) {
        self.gateway.connect(SessionStart { epoch, ..SessionStart::default() }).expect("sent");
        (self.session, self.number) = self
            .expect("a login", |event| match event {
                VenueEvent::Connected { session, max_reference, .. } => Some((session, max_reference)),
                VenueEvent::Disconnected { reason } | VenueEvent::Refused { reason } => panic!("{reason}"),
                _ => None,
            })
            .await;
        let first = self.expect("a contract", |e| if let VenueEvent::Contract(c) = e { Some(c) } else { None }).await;
        assert_eq!(first.gateway_name, name);
        self.expect("the last contract", |event| matches!(event, VenueEvent::Ready).then_some(())).await;
    }

    /// Logs in and waits until the market is open.
    pub(crate) async fn open(&mut self) {
        self.log_in(1).await;
        self.gateway.subscribe(&[instrument()]).expect("sent");
        self.ticks(2).await;
    }

    pub(crate) async fn ticks(&mut self, count: usize) -> Vec<SequencedTick> {
        let mut ticks = Vec::new();
        let take = async {
            while ticks.len() < count {
                self.source.ticks.pop_batch(&mut ticks, 16).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), take).await.expect("ticks come");
        ticks
    }

    pub(crate) fn submit(&mut self, order_type: OrderType, price: f64, volume: f64) -> VenueReference {
        let request = OrderRequest::limit(instrument(), Direction::Long, Offset::Open, price, volume);
        let approved = check_order(OrderRequest { r#type: order_type, ..request }, &contract()).expect("valid");
        self.number += 1;
        let reference = VenueReference { session: self.session.clone(), number: self.number };
        self.gateway.submit(&reference, &approved).expect("sent");
        reference
    }

    pub(crate) async fn order(&mut self, status: OrderStatus) -> VenueOrder {
        self.expect("an order", |event| match event {
            VenueEvent::Order(order) if order.status == status => Some(order),
            _ => None,
        })
        .await
    }

    pub(crate) async fn trade(&mut self) -> VenueTrade {
        self.expect("a trade", |event| if let VenueEvent::Trade(trade) = event { Some(trade) } else { None }).await
    }

    async fn quote(&mut self, status: OrderStatus) -> VenueQuote {
        self.expect("a quote", |event| match event {
            VenueEvent::Quote(quote) if quote.status == status => Some(quote),
            _ => None,
        })
        .await
    }

    pub(crate) async fn position(&mut self) -> Position {
        self.expect("a position", |e| if let VenueEvent::Position(position) = e { Some(position) } else { None }).await
    }

    async fn account(&mut self) -> Account {
        self.expect("an account", |event| if let VenueEvent::Account(a) = event { Some(a) } else { None }).await
    }

    pub(crate) async fn snapshot(&mut self) -> VenueSnapshot {
        self.gateway.request_snapshot().expect("sent");
        self.expect("a snapshot", |event| if let VenueEvent::Snapshot(s) = event { Some(*s) } else { None }).await
    }

    async fn answer(&mut self, token: QueryToken) -> Answer {
        self.expect("an answer", |event| match event {
            VenueEvent::Answer { token: of, answer } if of == token => Some(answer.expect("granted")),
            _ => None,
        })
        .await
    }
}

pub(crate) async fn a_marketable_limit_order_is_filled(rig: &mut Rig) {
    rig.open().await;
    let reference = rig.submit(OrderType::Limit, 101.0, 2.0);
    let filled = rig.order(OrderStatus::AllTraded).await;
    assert_eq!((&filled.reference, filled.traded, filled.volume), (&reference, 2.0, 2.0));
    let trade = rig.trade().await;
    assert_eq!((&trade.reference, trade.price, trade.volume), (&reference, 101.0, 2.0));
    let position = rig.position().await;
    assert_eq!((position.volume, position.gateway_name.as_str()), (2.0, "sim1"));
    let account = rig.account().await;
    assert!(account.margin > Some(0.0) && account.frozen == 0.0 && account.gateway_name == "sim1");
}

pub(crate) async fn an_order_rests_and_is_cancelled(rig: &mut Rig) {
    rig.open().await;
    let reference = rig.submit(OrderType::Limit, 99.0, 1.0);
    assert_eq!(rig.order(OrderStatus::NotTraded).await.reference, reference);
    assert!(rig.account().await.frozen > 0.0);
    rig.gateway.cancel(&reference).expect("sent");
    let cancelled = rig.order(OrderStatus::Cancelled).await;
    assert!(cancelled.reference == reference && cancelled.reason.is_some());
    assert_eq!(rig.account().await.frozen, 0.0);
    rig.gateway.cancel(&reference).expect("sent");
    assert_eq!(rig.order(OrderStatus::Cancelled).await, cancelled, "a finished order says again how it ended");
}

pub(crate) async fn what_cannot_be_filled_at_once_is_cancelled(rig: &mut Rig) {
    rig.open().await;
    let killed = rig.submit(OrderType::Fok, 101.0, 6.0);
    let order = rig.order(OrderStatus::Cancelled).await;
    assert_eq!((order.reference, order.traded), (killed, 0.0));
    let partly = rig.submit(OrderType::Fak, 101.0, 6.0);
    let order = rig.order(OrderStatus::Cancelled).await;
    assert_eq!((order.reference, order.traded), (partly, 5.0));
}

pub(crate) async fn an_order_that_cannot_be_is_rejected(rig: &mut Rig) {
    rig.open().await;
    let reference = rig.submit(OrderType::Limit, 101.0, 1e9);
    let order = rig.order(OrderStatus::Rejected).await;
    assert!(order.reference == reference && order.reason.is_some_and(|reason| reason.contains(rig.traits.no_funds)));
}

pub(crate) async fn a_quote_is_filled_on_one_side_and_cancelled(rig: &mut Rig) {
    rig.open().await;
    let request = QuoteRequest {
        quoteid: protocol::OrderId::generate(),
        symbol: instrument().symbol,
        exchange: instrument().exchange,
        bid_price: 101.0,
        bid_volume: 2.0,
        ask_price: 103.0,
        ask_volume: 2.0,
        bid_offset: Offset::Open,
        ask_offset: Offset::Open,
        reference: Name::default(),
    };
    rig.number += 1;
    let reference = VenueReference { session: rig.session.clone(), number: rig.number };
    let approved = check_quote(request, &contract()).expect("valid");
    if !rig.traits.has_quotes {
        assert_eq!(rig.gateway.submit_quote(&reference, &approved), Err(GatewayError::NotSupported("quotes")));
        assert_eq!(rig.gateway.cancel_quote(&reference), Err(GatewayError::NotSupported("quotes")));
        return;
    }
    rig.gateway.submit_quote(&reference, &approved).expect("sent");
    let quote = rig.quote(OrderStatus::PartTraded).await;
    assert_eq!((&quote.reference, quote.bid_traded, quote.ask_traded), (&reference, 2.0, 0.0));
    assert_eq!(rig.trade().await.reference, reference);
    rig.gateway.cancel_quote(&reference).expect("sent");
    assert_eq!(rig.quote(OrderStatus::Cancelled).await.bid_traded, 2.0);
}

pub(crate) async fn a_snapshot_after_reconnecting_has_everything(rig: &mut Rig) {
    rig.open().await;
    let filled = rig.submit(OrderType::Limit, 101.0, 2.0);
    rig.order(OrderStatus::AllTraded).await;
    let resting = rig.submit(OrderType::Limit, 90.0, 1.0);
    rig.order(OrderStatus::NotTraded).await;
    rig.gateway.disconnect();
    let before = rig.session.clone();
    rig.log_in(1).await;
    assert_ne!(rig.session, before, "no session comes again");
    let snapshot = rig.snapshot().await;
    assert_eq!(snapshot.session, rig.session);
    let lives = |session: &Name| snapshot.living.includes(&snapshot.session, Some(session));
    assert_eq!((lives(&rig.session), lives(&before)), (true, !rig.traits.ends_older_sessions));
    let orders: Vec<_> = snapshot.orders.iter().map(|o| (o.reference.clone(), o.status)).collect();
    assert_eq!(orders, [(filled, OrderStatus::AllTraded), (resting.clone(), OrderStatus::NotTraded)]);
    assert_eq!(snapshot.trades.iter().map(|t| t.volume).sum::<f64>(), 2.0);
    assert_eq!(
        snapshot.positions.iter().map(|p| (p.volume, p.gateway_name.as_str())).collect::<Vec<_>>(),
        [(2.0, "sim1")]
    );
    assert!(snapshot.accounts[0].frozen > 0.0 && snapshot.accounts[0].gateway_name == "sim1");
    rig.gateway.cancel(&resting).expect("an older session's order can be cancelled");
    assert_eq!(rig.order(OrderStatus::Cancelled).await.reference, resting);
}

pub(crate) async fn a_reference_belongs_to_its_session(rig: &mut Rig) {
    rig.open().await;
    let order = OrderRequest::limit(instrument(), Direction::Long, Offset::Open, 90.0, 1.0);
    let approved = check_order(order, &contract()).expect("valid");
    let reference = VenueReference { session: rig.session.clone(), number: rig.number + 1 };
    rig.log_in(1).await;
    assert_eq!(rig.gateway.submit(&reference, &approved), Err(GatewayError::SessionChanged));
    assert_eq!(rig.snapshot().await.orders, []);
    rig.gateway.disconnect();
    assert_eq!(rig.gateway.submit(&reference, &approved), Err(GatewayError::NotConnected));
    assert_eq!(rig.gateway.cancel(&reference), Err(GatewayError::NotConnected));
}

pub(crate) async fn ticks_come_to_who_subscribed(rig: &mut Rig) {
    rig.log_in(1).await;
    rig.gateway.subscribe(&[InstrumentId::new("RB2410", Exchange::SHFE), instrument()]).expect("sent");
    let warned = |event| match event {
        VenueEvent::Log { message, .. } => message.contains("RB2410.SHFE").then_some(()),
        _ => None,
    };
    rig.expect("a warning", warned).await;
    let ticks = rig.ticks(1).await;
    assert_eq!((ticks[0].seq, ticks[0].tick.gateway_name.as_str()), (1, "sim1"));
    assert_eq!((ticks[0].tick.instrument(), ticks[0].tick.last_price), (instrument(), Some(100.0)));
    rig.gateway.unsubscribe(&[instrument()]).expect("sent");
    rig.snapshot().await;
}

pub(crate) async fn queries_are_answered(rig: &mut Rig) {
    rig.open().await;
    rig.submit(OrderType::Limit, 101.0, 2.0);
    rig.order(OrderStatus::AllTraded).await;
    rig.account().await;
    rig.gateway.query_position(QueryToken(1)).expect("sent");
    assert_eq!(rig.position().await.volume, 2.0);
    assert_eq!(rig.answer(QueryToken(1)).await, Answer::Sent);
    rig.gateway.query_account(QueryToken(2)).expect("sent");
    assert_eq!(rig.account().await.accountid, "paper");
    assert_eq!(rig.answer(QueryToken(2)).await, Answer::Sent);
    let start = chrono::DateTime::parse_from_rfc3339("2024-01-02T00:00:00+08:00").expect("a time");
    let InstrumentId { symbol, exchange } = instrument();
    let request = HistoryRequest { symbol, exchange, start, end: None, interval: None };
    if !rig.traits.has_history {
        let answer = rig.gateway.query_history(QueryToken(3), &request);
        assert_eq!(answer, Err(GatewayError::NotSupported("history")));
        return;
    }
    rig.gateway.query_history(QueryToken(3), &request).expect("sent");
    let Answer::History(bars) = rig.answer(QueryToken(3)).await else { panic!("no bars") };
    assert_eq!(bars.iter().map(|bar| bar.gateway_name.as_str()).collect::<Vec<_>>(), ["sim1"]);
}

pub(crate) async fn nothing_is_taken_without_a_login(rig: &mut Rig) {
    assert_eq!(rig.gateway.request_snapshot(), Err(GatewayError::NotConnected));
    assert_eq!(rig.gateway.subscribe(&[instrument()]), Err(GatewayError::NotConnected));
    rig.log_in(1).await;
    rig.gateway.disconnect();
    assert_eq!(rig.gateway.query_account(QueryToken(1)), Err(GatewayError::NotConnected));
}
