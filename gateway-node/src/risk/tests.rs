//! Every limit: the last that passes, the first that does not, and the sentence that it is refused with.

use proptest::prelude::*;
use protocol::event::{Event, OmsEvent};
use protocol::journal::{Entry, Private};
use protocol::oms::PositionKey;
use protocol::{Direction, Exchange, InstrumentId, Order, OrderId, OrderStatus, Position, Product, Quote, Trade};

use super::*;

fn instrument() -> InstrumentId {
    InstrumentId::new("rb2410", Exchange::SHFE)
}

/// Everything that a decision looks at.
struct Desk {
    contract: Contract,
    last_price: Option<f64>,
    state: OmsState,
    counters: Counters,
    limits: Limits,
    now: Timestamp,
    seq: u64,
}

impl Desk {
    /// A gateway with these limits, and these for every owner.
    fn new(gateway: Rules, everyone: Rules) -> Desk {
        Desk {
            contract: Contract::new("sim1", instrument(), Product::Futures, 10.0, 1.0),
            last_price: Some(3500.0),
            state: OmsState::default(),
            counters: Counters::default(),
            limits: Limits::new(&Rules { owners: [("*".into(), everyone)].into(), ..gateway }),
            now: chrono::DateTime::parse_from_rfc3339("2024-01-02T09:00:00+08:00").expect("a time"),
            seq: 0,
        }
    }

    fn view<'a>(&'a self, gateway: &'a Name, owner: &'a Name) -> View<'a> {
        View {
            gateway,
            owner,
            contract: &self.contract,
            last_price: self.last_price,
            state: &self.state,
            counters: &self.counters,
            limits: &self.limits,
            now: self.now,
        }
    }

    fn decide(&self, owner: &str, request: &OrderRequest) -> Result<(), RpcError> {
        approve_order(request.clone(), &self.view(&"sim1".into(), &owner.into())).map(drop)
    }

    fn decide_quote(&self, owner: &str, request: &QuoteRequest) -> Result<(), RpcError> {
        approve_quote(request.clone(), &self.view(&"sim1".into(), &owner.into())).map(drop)
    }

    fn passes(&self, request: &OrderRequest) {
        assert_eq!(self.decide("alice", request), Ok(()), "{request:?}");
    }

    fn refused(&self, request: &OrderRequest) -> String {
        let error = self.decide("alice", request).expect_err("refused");
        assert_eq!(error.code, ErrorCode::RiskRejected, "{error}");
        error.message
    }

    fn journal(&mut self, event: OmsEvent) {
        self.seq += 1;
        let fills = NewFills::of(&event, &self.state);
        self.state.apply(&event);
        let (gateway, epoch, seq, time) = ("sim1".into(), 1, self.seq, self.now);
        self.counters.note(&Entry::Event(Box::new(Event { gateway, epoch, seq, time, data: event })), fills);
    }

    fn journal_private(&mut self, entry: Private) {
        self.counters.note(&Entry::Private(entry), NewFills::default());
    }

    /// Journals an intent, as the engine does once it is approved.
    fn send(&mut self, owner: &str, request: &OrderRequest) -> Order {
        let mut order = request.to_order(&"sim1".into(), &owner.into());
        order.orderid = OrderId::new(format!("o{}", self.seq));
        order.deadline = Some(self.now);
        self.journal(OmsEvent::Order(order.clone()));
        order
    }

    fn send_quote(&mut self, owner: &str, request: &QuoteRequest) {
        let mut quote = request.to_quote(&"sim1".into(), &owner.into());
        quote.quoteid = OrderId::new(format!("q{}", self.seq));
        quote.deadline = Some(self.now);
        self.journal(OmsEvent::Quote(quote));
    }

    fn cancel(&mut self, owner: &str) {
        let (owner, orderid, time) = (owner.into(), OrderId::new("any"), self.now);
        self.journal_private(Private::CancelRequested { owner, orderid, time });
    }

    fn hold(&mut self, direction: Direction, volume: f64, yd_volume: f64) {
        self.journal(OmsEvent::Position(position(direction, volume, yd_volume)));
    }

    fn trade(&mut self, direction: Direction, offset: Offset, volume: f64) {
        self.trade_of(OrderId::new("any"), direction, offset, volume);
    }

    fn trade_of(&mut self, orderid: OrderId, direction: Direction, offset: Offset, volume: f64) {
        self.journal(OmsEvent::Trade(Trade {
            gateway_name: "sim1".into(),
            symbol: "rb2410".into(),
            exchange: Exchange::SHFE,
            orderid,
            tradeid: format!("t{}", self.seq).into(),
            direction,
            offset,
            price: 3500.0,
            volume,
            datetime: None,
            trading_day: None,
            reference: Name::default(),
            owner: "alice".into(),
            traceid: None,
            extra: None,
        }));
    }

    fn wait(&mut self, milliseconds: i64) {
        self.now += chrono::TimeDelta::milliseconds(milliseconds);
    }
}

fn position(direction: Direction, volume: f64, yd_volume: f64) -> Position {
    Position {
        gateway_name: "sim1".into(),
        symbol: "rb2410".into(),
        exchange: Exchange::SHFE,
        direction,
        volume,
        frozen: 0.0,
        price: 3500.0,
        pnl: 0.0,
        yd_volume,
        extra: None,
    }
}

fn none() -> Rules {
    Rules::default()
}

fn order(direction: Direction, offset: Offset, price: f64, volume: f64) -> OrderRequest {
    OrderRequest::limit(instrument(), direction, offset, price, volume)
}

fn buy(price: f64, volume: f64) -> OrderRequest {
    order(Direction::Long, Offset::Open, price, volume)
}

fn sell(price: f64, volume: f64) -> OrderRequest {
    order(Direction::Short, Offset::Open, price, volume)
}

fn market(direction: Direction, volume: f64) -> OrderRequest {
    OrderRequest::market(instrument(), direction, Offset::Open, volume)
}

fn quote(bid: f64, ask: f64, volume: f64) -> QuoteRequest {
    QuoteRequest {
        quoteid: OrderId::new("q"),
        symbol: "rb2410".into(),
        exchange: Exchange::SHFE,
        bid_price: bid,
        bid_volume: volume,
        ask_price: ask,
        ask_volume: volume,
        bid_offset: Offset::Open,
        ask_offset: Offset::Open,
        reference: Name::default(),
    }
}

#[test]
fn without_limits_only_the_contract_decides() {
    let desk = Desk { last_price: None, ..Desk::new(none(), none()) };
    desk.passes(&buy(1.0, 1e6));
    desk.passes(&market(Direction::Short, 1e6));
    assert_eq!(desk.decide("alice", &buy(1.5, 1.0)).expect_err("off the tick").code, ErrorCode::InvalidOrder);
}

#[test]
fn an_order_has_so_many_lots() {
    let desk = Desk::new(none(), Rules { max_order_volume: Some(20.0), ..none() });
    desk.passes(&buy(3500.0, 20.0));
    assert_eq!(
        desk.refused(&buy(3500.0, 50.0)),
        "max_order_volume: 50 lots, the most is 20 (gateway sim1, owner alice)"
    );
    assert!(desk.decide_quote("alice", &quote(3499.0, 3501.0, 20.0)).is_ok());
    assert!(desk.decide_quote("alice", &quote(3499.0, 3501.0, 21.0)).is_err());
    let desk = Desk::new(Rules { max_order_volume: Some(20.0), ..none() }, none());
    assert_eq!(desk.refused(&buy(3500.0, 21.0)), "max_order_volume: 21 lots, the most is 20 (gateway sim1)");
}

#[test]
fn an_order_is_worth_so_much() {
    let mut desk = Desk::new(Rules { max_order_value: Some(70_000.0), ..none() }, none());
    desk.passes(&buy(3500.0, 2.0));
    assert_eq!(
        desk.refused(&buy(3501.0, 2.0)),
        "max_order_value: 70020 (3501 x 2 lots x 10), the most is 70000 (gateway sim1)"
    );
    desk.passes(&sell(3400.0, 2.0));
    assert!(desk.refused(&sell(3400.0, 3.0)).starts_with("max_order_value: 105000 (3500 x 3 lots"), "the last price");
    desk.passes(&market(Direction::Long, 2.0));
    assert!(desk.refused(&market(Direction::Long, 3.0)).starts_with("max_order_value: 105000"));
    desk.last_price = None;
    desk.passes(&sell(3400.0, 2.0));
    assert_eq!(
        desk.refused(&market(Direction::Long, 1.0)),
        "max_order_value: rb2410.SHFE has no last price yet, and a MARKET order has no price to reckon with \
         (gateway sim1)"
    );
    assert!(desk.decide_quote("alice", &quote(3400.0, 3501.0, 2.0)).is_err(), "its ask is worth too much");
}

#[test]
fn a_price_is_so_far_from_the_last_one() {
    let mut desk = Desk::new(Rules { price_band: Some(0.02), ..none() }, none());
    desk.passes(&buy(3570.0, 1.0));
    desk.passes(&buy(3430.0, 1.0));
    assert_eq!(
        desk.refused(&buy(3571.0, 1.0)),
        "price_band: 3571 is 0.020286 from the last price 3500, the most is 0.02 (gateway sim1)"
    );
    desk.refused(&sell(3429.0, 1.0));
    desk.passes(&market(Direction::Short, 1.0));
    assert!(desk.decide_quote("alice", &quote(3430.0, 3571.0, 1.0)).is_err());
    desk.last_price = None;
    assert_eq!(
        desk.refused(&buy(3500.0, 1.0)),
        "price_band: rb2410.SHFE has no last price yet to compare 3500 with (gateway sim1)"
    );
}

#[test]
fn so_many_orders_work_at_a_time() {
    let mut desk = Desk::new(none(), Rules { max_active_orders: Some(3), ..none() });
    desk.send_quote("alice", &quote(3499.0, 3501.0, 1.0));
    desk.passes(&buy(3400.0, 1.0));
    assert!(desk.decide_quote("alice", &quote(3498.0, 3502.0, 1.0)).is_err(), "a quote is two");
    let sent = desk.send("alice", &buy(3400.0, 1.0));
    assert_eq!(
        desk.refused(&buy(3400.0, 1.0)),
        "max_active_orders: 3 work already, the most is 3 (gateway sim1, owner alice)"
    );
    assert_eq!(desk.decide("bob", &buy(3400.0, 1.0)), Ok(()), "another owner's are another's");
    desk.journal(OmsEvent::Order(Order { status: OrderStatus::Cancelled, ..sent }));
    desk.passes(&buy(3400.0, 1.0));
}

#[test]
fn so_many_orders_go_out_in_a_second_and_in_a_day() {
    let (per_second, per_day) = (Some(2), Some(5));
    let mut desk = Desk::new(
        Rules { max_orders_per_day: per_day, ..none() },
        Rules { max_orders_per_second: per_second, ..none() },
    );
    for _ in 0..2 {
        desk.passes(&buy(3500.0, 1.0));
        desk.send("alice", &buy(3500.0, 1.0));
        desk.wait(400);
    }
    assert_eq!(
        desk.refused(&buy(3500.0, 1.0)),
        "max_orders_per_second: 2 orders within the last second, the most is 2 (gateway sim1, owner alice)"
    );
    assert_eq!(desk.decide("bob", &buy(3500.0, 1.0)), Ok(()));
    desk.wait(200);
    desk.passes(&buy(3500.0, 1.0));
    assert!(desk.decide_quote("alice", &quote(3499.0, 3501.0, 1.0)).is_err(), "a quote is two");
    desk.wait(2_000);
    desk.send_quote("bob", &quote(3499.0, 3501.0, 1.0));
    desk.passes(&buy(3500.0, 1.0));
    let refused = Order { status: OrderStatus::Rejected, ..buy(1.0, 1.0).to_order(&"sim1".into(), &"alice".into()) };
    desk.journal(OmsEvent::Order(refused));
    desk.passes(&buy(3500.0, 1.0));
    desk.send("carol", &buy(3500.0, 1.0));
    assert_eq!(desk.refused(&buy(3500.0, 1.0)), "max_orders_per_day: 5 orders today, the most is 5 (gateway sim1)");
    desk.journal_private(day_end(desk.now));
    desk.passes(&buy(3500.0, 1.0));
}

fn day_end(time: Timestamp) -> Private {
    Private::SnapshotEnd(protocol::journal::SnapshotEnd {
        trading_day: time.date_naive(),
        begins: 1,
        pages: 0,
        time,
        rolls: Vec::new(),
        earlier: Vec::new(),
        halts: Default::default(),
        halt_entries: None,
    })
}

#[test]
fn so_many_cancels_go_out_in_a_second_and_in_a_day() {
    let mut desk = Desk::new(
        Rules { max_cancels_per_second: Some(2), ..none() },
        Rules { max_cancels_per_day: Some(3), ..none() },
    );
    let decide =
        |desk: &Desk, owner: &str| check_cancel(&"sim1".into(), &owner.into(), &desk.counters, &desk.limits, desk.now);
    desk.cancel("alice");
    assert_eq!(decide(&desk, "alice"), Ok(()));
    desk.cancel("bob");
    let error = decide(&desk, "alice").expect_err("refused");
    assert_eq!(error.code, ErrorCode::RiskRejected);
    assert_eq!(error.message, "max_cancels_per_second: 2 cancels within the last second, the most is 2 (gateway sim1)");
    desk.wait(1_000);
    desk.cancel("alice");
    assert_eq!(decide(&desk, "alice"), Ok(()));
    desk.cancel("alice");
    desk.wait(1_000);
    let error = decide(&desk, "alice").expect_err("refused");
    assert_eq!(error.message, "max_cancels_per_day: 3 cancels today, the most is 3 (gateway sim1, owner alice)");
    assert_eq!(decide(&desk, "bob"), Ok(()));
}

#[test]
fn so_many_orders_are_alike() {
    let rules = Rules { max_duplicates: Some(2), duplicate_seconds: Some(10), ..none() };
    let mut desk = Desk::new(none(), rules);
    for _ in 0..2 {
        desk.passes(&buy(3500.0, 2.0));
        desk.send("alice", &buy(3500.0, 2.0));
        desk.wait(3_000);
    }
    assert_eq!(
        desk.refused(&buy(3500.0, 2.0)),
        "max_duplicates: 2 orders like this one within the last 10 s, the most is 2 (gateway sim1, owner alice)"
    );
    desk.refused(&buy(3_500.000_000_000_1, 2.0));
    for other in [buy(3501.0, 2.0), buy(3500.0, 1.0), sell(3500.0, 2.0), market(Direction::Long, 2.0)] {
        desk.passes(&other);
    }
    assert_eq!(desk.decide("bob", &buy(3500.0, 2.0)), Ok(()));
    assert!(desk.decide_quote("alice", &quote(3500.0, 3505.0, 2.0)).is_err(), "its bid is another of the same");
    desk.wait(4_000);
    desk.passes(&buy(3500.0, 2.0));
}

#[test]
fn what_cannot_be_compared_any_more_is_refused() {
    let rules = Rules { max_duplicates: Some(1), duplicate_seconds: Some(60), ..none() };
    let mut desk = Desk::new(none(), rules);
    for n in 0..17_000 {
        desk.send("alice", &buy(f64::from(n), 1.0));
    }
    assert!(desk.refused(&buy(3500.5_f64.floor() + 20_000.0, 1.0)).contains("than can be compared"));
    desk.wait(60_000);
    desk.passes(&buy(3500.0, 1.0));
}

#[test]
fn a_clock_that_is_set_back_counts_on() {
    let mut desk = Desk::new(none(), Rules { max_orders_per_second: Some(1), ..none() });
    desk.send("alice", &buy(3500.0, 1.0));
    desk.wait(-3_600_000);
    desk.refused(&buy(3500.0, 1.0));
    // Whatever is journalled next tells that the clock was set back.
    desk.send("bob", &buy(3500.0, 1.0));
    desk.refused(&buy(3500.0, 1.0));
    desk.wait(1_000);
    desk.passes(&buy(3500.0, 1.0));
}

#[test]
fn nobody_trades_with_oneself() {
    let forbid = Rules { forbid_self_trade: Some(true), ..none() };
    let mut desk = Desk::new(none(), forbid.clone());
    desk.send("alice", &sell(3510.0, 1.0));
    desk.send("bob", &sell(3505.0, 1.0));
    desk.passes(&buy(3509.0, 1.0));
    assert_eq!(
        desk.refused(&buy(3510.0, 1.0)),
        "forbid_self_trade: LONG would trade with the working SHORT of alice at 3510 (gateway sim1, owner alice)"
    );
    desk.refused(&market(Direction::Long, 1.0));
    desk.passes(&sell(3400.0, 1.0));
    assert!(desk.decide_quote("alice", &quote(3510.0, 3520.0, 1.0)).is_err());
    let stop = OrderRequest { r#type: OrderType::Stop, ..buy(3600.0, 1.0) };
    desk.contract.stop_supported = true;
    desk.passes(&stop);

    let mut desk = Desk::new(forbid, none());
    desk.send_quote("bob", &quote(3490.0, 3505.0, 1.0));
    assert!(desk.refused(&buy(3505.0, 1.0)).contains("of bob at 3505 (gateway sim1)"), "anybody's on the gateway");
    desk.refused(&sell(3490.0, 1.0));
    desk.passes(&sell(3491.0, 1.0));
    let filled = desk.state.quotes().values().next().expect("one").clone();
    desk.journal(OmsEvent::Quote(Quote { ask_traded: 1.0, status: OrderStatus::PartTraded, ..filled }));
    desk.passes(&buy(3505.0, 1.0));
}

#[test]
fn no_more_is_closed_than_is_held_and_free() {
    let mut desk = Desk::new(Rules { close_within_position: Some(true), ..none() }, none());
    let close = |offset, volume| order(Direction::Short, offset, 3500.0, volume);
    assert_eq!(
        desk.refused(&close(Offset::Close, 1.0)),
        "close_within_position: CLOSE 1 lots, the most is 0 (held less what working orders close) (gateway sim1)"
    );
    desk.hold(Direction::Long, 5.0, 3.0);
    desk.passes(&close(Offset::CloseToday, 2.0));
    desk.refused(&close(Offset::CloseToday, 3.0));
    desk.passes(&close(Offset::Close, 3.0));
    desk.refused(&close(Offset::CloseYesterday, 4.0));
    desk.send("bob", &close(Offset::CloseToday, 1.0));
    desk.passes(&close(Offset::CloseToday, 1.0));
    desk.refused(&close(Offset::CloseToday, 2.0));
    desk.passes(&close(Offset::Close, 3.0));
    desk.trade(Direction::Short, Offset::Close, 2.0);
    desk.passes(&close(Offset::Close, 1.0));
    assert!(desk.refused(&close(Offset::Close, 2.0)).contains("the most is 1"), "a fill that no position told of yet");
    desk.hold(Direction::Long, 3.0, 1.0);
    desk.passes(&close(Offset::Close, 1.0));
    desk.passes(&buy(3500.0, 1e6));
}

#[test]
fn a_position_goes_so_far() {
    let mut desk = Desk::new(none(), Rules { max_position: Some(10.0), ..none() });
    desk.hold(Direction::Long, 4.0, 0.0);
    desk.send("bob", &buy(3400.0, 3.0));
    desk.passes(&buy(3400.0, 3.0));
    assert_eq!(
        desk.refused(&buy(3400.0, 4.0)),
        "max_position: 4 lots to 7 that are LONG or on their way, the most is 10 (gateway sim1, owner alice)"
    );
    desk.passes(&sell(3600.0, 10.0));
    desk.passes(&order(Direction::Short, Offset::CloseToday, 3600.0, 100.0));
    desk.trade(Direction::Long, Offset::Open, 2.0);
    assert!(desk.refused(&buy(3400.0, 2.0)).contains("to 9 that are LONG"), "a fill that no position told of yet");
    desk.hold(Direction::Long, 6.0, 0.0);
    desk.passes(&buy(3400.0, 1.0));
}

#[test]
fn where_the_venue_nets_a_position_has_two_ways() {
    let rules = Rules { max_position: Some(5.0), reduce_only: None, ..none() };
    let mut desk = Desk::new(rules, none());
    desk.contract.net_position = true;
    desk.hold(Direction::Net, -3.0, 0.0);
    let net = |direction, volume| order(direction, Offset::None, 3500.0, volume);
    desk.passes(&net(Direction::Long, 8.0));
    desk.refused(&net(Direction::Long, 9.0));
    desk.passes(&net(Direction::Short, 2.0));
    desk.refused(&net(Direction::Short, 3.0));

    desk.limits = Limits::new(&Rules { reduce_only: Some(true), ..none() });
    desk.passes(&net(Direction::Long, 3.0));
    assert_eq!(desk.refused(&net(Direction::Long, 4.0)), "reduce_only: LONG 4 lots, the most is 3 (gateway sim1)");
    desk.refused(&net(Direction::Short, 1.0));
    desk.send("bob", &net(Direction::Long, 2.0));
    desk.passes(&net(Direction::Long, 1.0));
    desk.refused(&net(Direction::Long, 2.0));
}

/// What a venue tells when an order is filled, in the order that it tells it in.
fn filled(order: &Order) -> [OmsEvent; 2] {
    let done = Order { traded: order.volume, status: OrderStatus::AllTraded, deadline: None, ..order.clone() };
    let trade = Trade {
        gateway_name: order.gateway_name.clone(),
        symbol: order.symbol.clone(),
        exchange: order.exchange,
        orderid: order.orderid.clone(),
        tradeid: format!("t-{}", order.orderid).into(),
        direction: order.direction,
        offset: order.offset,
        price: 3500.0,
        volume: order.volume,
        datetime: None,
        trading_day: None,
        reference: Name::default(),
        owner: order.owner.clone(),
        traceid: None,
        extra: None,
    };
    [OmsEvent::Order(done), OmsEvent::Trade(trade)]
}

#[test]
fn a_fill_counts_from_its_first_news_to_its_position() {
    for order_first in [true, false] {
        let mut desk = Desk::new(Rules { max_position: Some(10.0), ..none() }, none());
        let sent = desk.send("alice", &buy(3500.0, 10.0));
        let mut told = filled(&sent);
        if !order_first {
            told.reverse();
        }
        for event in told {
            desk.refused(&buy(3500.0, 1.0));
            desk.journal(event);
        }
        assert!(desk.refused(&buy(3500.0, 1.0)).contains("to 10 that are LONG"), "and counts once");
        desk.hold(Direction::Long, 10.0, 0.0);
        assert!(desk.refused(&buy(3500.0, 1.0)).contains("to 10 that are LONG"), "and is in its position");
    }
}

#[test]
fn a_fill_that_its_position_told_of_counts_no_more_when_the_trade_comes() {
    let mut desk = Desk::new(Rules { max_position: Some(10.0), ..none() }, none());
    let sent = desk.send("alice", &buy(3500.0, 4.0));
    let [order, trade] = filled(&sent);
    desk.journal(order);
    desk.hold(Direction::Long, 4.0, 0.0);
    desk.journal(trade);
    desk.passes(&buy(3500.0, 6.0));
    desk.refused(&buy(3500.0, 7.0));
    assert!(desk.counters.untold_positions().next().is_none());
}

#[test]
fn partial_fills_count_once_however_their_news_are_mixed() {
    let mut desk = Desk::new(Rules { max_position: Some(20.0), ..none() }, none());
    let sent = desk.send("alice", &buy(3500.0, 10.0));
    let part = |traded, status| OmsEvent::Order(Order { traded, status, deadline: None, ..sent.clone() });
    let InstrumentId { symbol, exchange } = instrument();
    let key = PositionKey { symbol, exchange, direction: Direction::Long };
    let held = |desk: &Desk| desk.counters.untold(&key).volume;
    desk.journal(part(3.0, OrderStatus::PartTraded));
    assert_eq!(held(&desk), 3.0);
    desk.trade_of(sent.orderid.clone(), Direction::Long, Offset::Open, 2.0);
    assert_eq!(held(&desk), 3.0, "the order's event told of it");
    desk.trade_of(sent.orderid.clone(), Direction::Long, Offset::Open, 4.0);
    assert_eq!(held(&desk), 6.0, "one lot of it did");
    desk.journal(part(7.0, OrderStatus::PartTraded));
    assert_eq!(held(&desk), 7.0);
    desk.journal(part(7.0, OrderStatus::Cancelled));
    assert_eq!(held(&desk), 7.0);
    desk.trade_of(sent.orderid.clone(), Direction::Long, Offset::Open, 1.0);
    assert_eq!(held(&desk), 7.0);
    desk.journal(part(8.0, OrderStatus::Cancelled));
    assert_eq!(held(&desk), 8.0, "a fill behind the cancel");
}

#[test]
fn a_lot_is_closed_once_while_its_fill_is_told() {
    let mut desk = Desk::new(Rules { close_within_position: Some(true), ..none() }, none());
    desk.hold(Direction::Long, 5.0, 5.0);
    let close = order(Direction::Short, Offset::Close, 3500.0, 5.0);
    let sent = desk.send("alice", &close);
    for event in filled(&sent) {
        desk.refused(&close);
        desk.journal(event);
    }
    desk.refused(&close);
    desk.hold(Direction::Long, 0.0, 0.0);
    desk.refused(&close);
    desk.hold(Direction::Long, 5.0, 5.0);
    desk.passes(&close);
}

#[test]
fn a_quotes_sides_count_while_their_fills_are_told() {
    let mut desk = Desk::new(Rules { max_position: Some(10.0), ..none() }, none());
    desk.send_quote("alice", &quote(3499.0, 3501.0, 10.0));
    let sent = desk.state.quotes().values().next().expect("one").clone();
    let id = sent.quoteid.clone();
    desk.journal(OmsEvent::Quote(Quote { ask_traded: 10.0, status: OrderStatus::PartTraded, ..sent.clone() }));
    desk.refused(&sell(3600.0, 1.0));
    desk.trade_of(id.clone(), Direction::Short, Offset::Open, 10.0);
    desk.refused(&sell(3600.0, 1.0));
    desk.journal(OmsEvent::Quote(Quote { ask_traded: 10.0, bid_traded: 10.0, status: OrderStatus::AllTraded, ..sent }));
    assert!(desk.refused(&buy(3400.0, 1.0)).contains("to 10 that are LONG"));
    desk.trade_of(id, Direction::Long, Offset::Open, 10.0);
    assert!(desk.refused(&buy(3400.0, 1.0)).contains("to 10 that are LONG"), "once");
    assert!(desk.refused(&sell(3600.0, 1.0)).contains("to 10 that are SHORT"), "once");
}

#[test]
fn where_the_venue_nets_offsets_say_nothing() {
    let mut desk = Desk::new(Rules { max_position: Some(5.0), ..none() }, none());
    desk.contract.net_position = true;
    let mut net = 0.0;
    // Bought, closed in part, sold short, covered: as strategies for venues of both kinds say it.
    for (direction, offset, lots) in [
        (Direction::Long, Offset::Open, 5.0),
        (Direction::Short, Offset::Close, 2.0),
        (Direction::Short, Offset::Open, 7.0),
        (Direction::Long, Offset::Close, 3.0),
        (Direction::Long, Offset::None, 2.0),
    ] {
        let request = order(direction, offset, 3500.0, lots);
        desk.passes(&request);
        net += if direction == Direction::Long { lots } else { -lots };
        let sent = desk.send("alice", &request);
        let free = |desk: &Desk| {
            for (side, room) in [(Direction::Long, 5.0 - net), (Direction::Short, 5.0 + net)] {
                for offset in [Offset::None, Offset::Open, Offset::Close] {
                    if room > 0.0 {
                        desk.passes(&order(side, offset, 3500.0, room));
                    }
                    desk.refused(&order(side, offset, 3500.0, room + 1.0));
                }
            }
        };
        let [done, trade] = filled(&sent);
        desk.journal(done);
        free(&desk);
        desk.journal(trade);
        free(&desk);
        desk.hold(Direction::Net, net, 0.0);
        free(&desk);
        assert!(desk.counters.untold_positions().next().is_none());
    }
}

#[test]
fn a_net_position_is_reduced_once_while_its_fill_is_told() {
    for offset in [Offset::None, Offset::Close] {
        let mut desk = Desk::new(Rules { reduce_only: Some(true), ..none() }, none());
        desk.contract.net_position = true;
        desk.hold(Direction::Net, 5.0, 0.0);
        let close = order(Direction::Short, offset, 3500.0, 5.0);
        let sent = desk.send("alice", &close);
        for event in filled(&sent) {
            desk.refused(&close);
            desk.journal(event);
        }
        desk.refused(&close);
        desk.hold(Direction::Net, 0.0, 0.0);
        desk.refused(&close);
    }
}

#[test]
fn reduce_only_takes_what_closes() {
    let desk = Desk::new(none(), Rules { reduce_only: Some(true), ..none() });
    for offset in [Offset::Close, Offset::CloseToday, Offset::CloseYesterday] {
        desk.passes(&order(Direction::Short, offset, 3500.0, 1.0));
    }
    assert_eq!(desk.refused(&buy(3500.0, 1.0)), "reduce_only: LONG OPEN opens a position (gateway sim1, owner alice)");
    let closes = QuoteRequest { bid_offset: Offset::Close, ask_offset: Offset::Close, ..quote(3499.0, 3501.0, 1.0) };
    assert!(desk.decide_quote("alice", &closes).is_ok());
    let half = QuoteRequest { ask_offset: Offset::Open, ..closes };
    assert!(desk.decide_quote("alice", &half).is_err());
}

fn maybe<T: std::fmt::Debug + Clone>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    proptest::option::of(value)
}

fn rules() -> impl Strategy<Value = Rules> {
    let sizes = (maybe(1_u32..6), maybe(1_u32..20), maybe(1_u32..5), maybe(1_u32..8));
    let rates = (maybe(1_u32..4), maybe(1_u32..12), maybe(1_u32..3), maybe(proptest::bool::ANY), maybe(1_u32..8));
    (sizes, rates).prop_map(|((volume, value, band, active), (second, day, alike, own, position))| Rules {
        max_order_volume: volume.map(f64::from),
        max_order_value: value.map(|v| f64::from(v) * 1_000.0),
        price_band: band.map(|b| f64::from(b) / 100.0),
        max_active_orders: active,
        max_orders_per_second: second,
        max_orders_per_day: day,
        max_duplicates: alike,
        duplicate_seconds: alike.map(|_| 5),
        forbid_self_trade: own,
        max_position: position.map(f64::from),
        ..Rules::default()
    })
}

proptest! {
    /// Whatever was sent before: after what passed, no limit is broken. Counted afresh here, from all that was sent.
    #[test]
    fn nothing_passes_that_breaks_a_limit(
        gateway in rules(),
        everyone in rules(),
        tries in proptest::collection::vec((0_usize..2, 0_usize..2, 95_u32..106, 1_u32..7, 0_i64..900, any::<bool>(), 0_usize..4), 1..60),
    ) {
        let mut desk = Desk::new(gateway.clone(), everyone.clone());
        desk.last_price = Some(100.0);
        let mut sent: Vec<(Timestamp, &str, OrderRequest)> = Vec::new();
        // What the venue tells of fills, in its order: it may be heard at any later time.
        let (mut told, mut held) = (std::collections::VecDeque::new(), [0.0; 2]);
        for (who, side, price, volume, wait, fills, hears) in tries {
            told.drain(..hears.min(told.len())).for_each(|event| desk.journal(event));
            let owner = ["alice", "bob"][who];
            let direction = [Direction::Long, Direction::Short][side];
            let request = order(direction, Offset::Open, f64::from(price), f64::from(volume));
            desk.wait(wait);
            if desk.decide(owner, &request).is_err() {
                continue;
            }
            let opposite = direction.opposite();
            for (rules, mine) in [(&gateway, None), (&everyone, Some(owner))] {
                let of = |o: &str| mine.is_none_or(|mine| mine == o);
                let recent = |ms| sent.iter().filter(move |(at, o, _)| of(o) && desk.now - *at < chrono::TimeDelta::milliseconds(ms));
                prop_assert!(rules.max_order_volume.is_none_or(|most| request.volume <= most));
                prop_assert!(rules.max_order_value.is_none_or(|most| f64::from(price) * request.volume * 10.0 <= most));
                prop_assert!(rules.price_band.is_none_or(|band| (f64::from(price) - 100.0).abs() <= band * 100.0 + 1e-6));
                prop_assert!(rules.max_orders_per_second.is_none_or(|most| recent(1_000).count() < most as usize));
                prop_assert!(rules.max_orders_per_day.is_none_or(|most| recent(i64::MAX / 2).count() < most as usize));
                let alike = sent.iter().filter(|(at, o, r)| {
                    *o == owner && desk.now - *at < chrono::TimeDelta::seconds(5)
                        && (r.direction, r.price, r.volume) == (request.direction, request.price, request.volume)
                });
                prop_assert!(rules.max_duplicates.is_none_or(|most| alike.count() < most as usize));
                let active = desk.state.active_orders().filter(|o| of(&o.owner));
                prop_assert!(rules.max_active_orders.is_none_or(|most| active.count() < most as usize));
                let crosses = desk.state.active_orders().filter(|o| of(&o.owner) && o.direction == opposite).any(|o| {
                    if direction == Direction::Long { request.price >= o.price } else { request.price <= o.price }
                });
                prop_assert!(rules.forbid_self_trade != Some(true) || !crosses);
                let opened: f64 = sent.iter().filter(|(_, _, r)| r.direction == direction).map(|(_, _, r)| r.volume).sum();
                prop_assert!(rules.max_position.is_none_or(|most| opened + request.volume <= most));
            }
            let intent = desk.send(owner, &request);
            if fills {
                held[side] += request.volume;
                told.extend(filled(&intent));
                told.push_back(OmsEvent::Position(position(direction, held[side], 0.0)));
            }
            sent.push((desk.now, owner, request));
        }
    }
}
