//! One fixed value per wire type, with every field set.

use chrono::NaiveDate;
use protocol::halt::{HaltEntry, HaltScope, HaltTarget, Heard};
use protocol::market::{Depth, Extra};
use protocol::rpc::{EventsPage, JournalEvent};
use protocol::{
    Account, Bar, Contract, Currency, Direction, Event, Exchange, GatewayState, Head, HistoryRequest, InstrumentId,
    Interval, Level, Log, LogLevel, Name, Offset, OmsEvent, OptionType, Order, OrderId, OrderRequest, OrderStatus,
    OrderType, PROTOCOL_VERSION, Position, Product, Quote, QuoteRequest, Status, Tick, Timestamp, Trade,
};

pub fn time(text: &str) -> Timestamp {
    chrono::DateTime::parse_from_rfc3339(text).expect("a time")
}

pub fn day(year: i32, month: u32, day: u32) -> Option<NaiveDate> {
    NaiveDate::from_ymd_opt(year, month, day)
}

pub fn rubber() -> InstrumentId {
    InstrumentId::new("ru1901", Exchange::SHFE)
}

fn extra(key: &str, value: serde_json::Value) -> Option<Box<Extra>> {
    Some(Box::new(Extra::from_iter([(key.to_owned(), value)])))
}

/// Friday evening: the night session belongs to Monday.
pub fn tick() -> Tick {
    Tick {
        gateway_name: "ctp1".into(),
        symbol: "ru1901".into(),
        exchange: Exchange::SHFE,
        datetime: time("2018-10-12T21:00:00.500+08:00"),
        name: Some("橡胶1901".into()),
        volume: Some(12_345.0),
        turnover: Some(1_523_456_789.5),
        open_interest: Some(401_280.0),
        last_price: Some(12_340.0),
        last_volume: Some(2.0),
        limit_up: Some(13_205.0),
        limit_down: Some(11_475.0),
        open_price: Some(12_350.0),
        high_price: Some(12_400.5),
        low_price: Some(12_300.2),
        pre_close: Some(12_335.0),
        pre_settlement: Some(12_345.0),
        bids: levels([(12_335.0, 10.0), (12_330.0, 25.0), (12_325.0, 7.0), (12_320.0, 114.0), (12_315.0, 3.0)]),
        asks: levels([(12_340.0, 4.0), (12_345.0, 31.0), (12_350.0, 12.0), (12_355.0, 9.0), (12_360.0, 88.0)]),
        trading_day: day(2018, 10, 15),
        action_day: day(2018, 10, 12),
        localtime: Some(time("2018-10-12T21:00:00.512345678+08:00")),
        extra: extra("average_price", 123_405.678.into()),
    }
}

fn levels(pairs: [(f64, f64); 5]) -> Depth {
    pairs.into_iter().map(|(price, volume)| Level(price, volume)).collect()
}

pub fn bar() -> Bar {
    Bar {
        gateway_name: "ctp1".into(),
        symbol: "IF2101".into(),
        exchange: Exchange::CFFEX,
        datetime: time("2021-01-04T09:30:00+08:00"),
        interval: Some(Interval::Minute),
        volume: 1_204.0,
        turnover: 1_890_240_120.6,
        open_interest: 98_120.0,
        open_price: 5_230.2,
        high_price: 5_236.8,
        low_price: 5_228.0,
        close_price: 5_235.4,
        extra: extra("settled", false.into()),
    }
}

pub fn futures() -> Contract {
    let mut contract = Contract::new("ctp1", rubber(), Product::Futures, 10.0, 5.0);
    contract.name = "橡胶1901".into();
    contract.max_volume = Some(500.0);
    contract.history_data = true;
    contract.long_margin_ratio = Some(0.09);
    contract.short_margin_ratio = Some(0.11);
    contract.open_date = day(2018, 1, 16);
    contract.expire_date = day(2019, 1, 15);
    contract
}

pub fn option() -> Contract {
    let id = InstrumentId::new("SPY-20260918-500.5-C", Exchange::SMART);
    let mut contract = Contract::new("ib1", id, Product::Option, 100.0, 0.01);
    contract.min_volume = 1.0;
    contract.stop_supported = true;
    contract.net_position = true;
    contract.option_strike = Some(500.5);
    contract.option_underlying = Some("SPY".into());
    contract.option_type = Some(OptionType::Call);
    contract.option_listed = Some(time("2025-09-22T00:00:00-04:00"));
    contract.option_expiry = Some(time("2026-09-18T16:00:00-04:00"));
    contract.option_portfolio = Some("SPY_O".into());
    contract.option_index = Some("500.5".into());
    contract.extra = extra("multiplier", "100".into());
    contract
}

pub fn order_request() -> OrderRequest {
    OrderRequest {
        orderid: OrderId::new("0192f0c1-7d5e-7cc3-98a4-0242ac120002"),
        symbol: "ru1901".into(),
        exchange: Exchange::SHFE,
        direction: Direction::Long,
        r#type: OrderType::Limit,
        volume: 10.0,
        price: Some(12_335.0),
        offset: Offset::Open,
        reference: "dual_thrust-7".into(),
    }
}

pub fn order() -> Order {
    let mut order = order_request().to_order(&"ctp1".into(), &"STRAT_A".into());
    order.traded = 4.0;
    order.status = OrderStatus::PartTraded;
    order.datetime = Some(time("2018-10-12T21:00:01.250+08:00"));
    order.venue_reference = Some("1-1804-17/42".into());
    order.traceid = Some("4bf92f3577b34da6a3ce929d0e0e4736".into());
    order.deadline = Some(time("2018-10-12T21:00:31.250+08:00"));
    order.reason = Some("4 of 10 lots filled".to_owned());
    order.extra = extra("OrderSysID", "      112233".into());
    order
}

pub fn trade() -> Trade {
    Trade {
        gateway_name: "ctp1".into(),
        symbol: "ru1901".into(),
        exchange: Exchange::SHFE,
        orderid: order_request().orderid,
        tradeid: "       98231".into(),
        direction: Direction::Long,
        offset: Offset::Open,
        price: 12_335.0,
        volume: 4.0,
        datetime: Some(time("2018-10-12T21:00:01+08:00")),
        trading_day: day(2018, 10, 15),
        reference: "dual_thrust-7".into(),
        owner: "STRAT_A".into(),
        traceid: Some("4bf92f3577b34da6a3ce929d0e0e4736".into()),
        extra: extra("OrderSysID", "      112233".into()),
    }
}

pub fn quote_request() -> QuoteRequest {
    QuoteRequest {
        quoteid: OrderId::new("q-17"),
        symbol: "m2505-C-3000".into(),
        exchange: Exchange::DCE,
        bid_price: 41.5,
        bid_volume: 20.0,
        ask_price: 44.0,
        ask_volume: 15.0,
        bid_offset: Offset::Open,
        ask_offset: Offset::Close,
        reference: "mm".into(),
    }
}

pub fn quote() -> Quote {
    let mut quote = quote_request().to_quote(&"ctp1".into(), &"STRAT_B".into());
    quote.bid_traded = 3.0;
    quote.ask_traded = 1.0;
    quote.status = OrderStatus::Cancelled;
    quote.datetime = Some(time("2025-03-03T21:15:00.001+08:00"));
    quote.venue_reference = Some("1-1804-17/43".into());
    quote.traceid = Some("4bf92f3577b34da6a3ce929d0e0e4737".into());
    quote.deadline = Some(time("2025-03-03T21:15:30.001+08:00"));
    quote.reason = Some("cancelled by its owner".to_owned());
    quote.extra = extra("QuoteSysID", "7".into());
    quote
}

pub fn position() -> Position {
    Position {
        gateway_name: "ctp1".into(),
        symbol: "ru1901".into(),
        exchange: Exchange::SHFE,
        direction: Direction::Short,
        volume: 7.0,
        frozen: 2.0,
        price: 12_401.428571428572,
        pnl: -4_300.25,
        yd_volume: 5.0,
        extra: extra("margin", 86_810.0.into()),
    }
}

pub fn account() -> Account {
    Account {
        gateway_name: "ctp1".into(),
        accountid: "104 233".into(),
        balance: 1_000_123.45,
        frozen: 11_101.5,
        available: 902_211.14,
        margin: Some(86_810.81),
        commission: Some(12.6),
        close_profit: Some(0.0),
        position_profit: Some(-4_300.25),
        currency: Some(Currency::CNY),
        extra: extra("credit", 0.into()),
    }
}

pub fn history_request() -> HistoryRequest {
    HistoryRequest {
        symbol: "IF2101".into(),
        exchange: Exchange::CFFEX,
        start: time("2021-01-04T09:30:00+08:00"),
        end: Some(time("2021-01-04T15:00:00+08:00")),
        interval: Some(Interval::Minute),
    }
}

pub fn event<T>(data: T) -> Event<T> {
    let gateway = Name::from("ctp1");
    Event { gateway, epoch: 7, seq: 1_042, time: time("2018-10-12T21:00:00.513+08:00"), data }
}

/// Every state that a node of this version sends.
pub const STATES: [GatewayState; 10] = [
    GatewayState::Starting,
    GatewayState::Connecting,
    GatewayState::Reconciling,
    GatewayState::Ready,
    GatewayState::Disconnected,
    GatewayState::Refused,
    GatewayState::Stopped,
    GatewayState::Dirty,
    GatewayState::Failed,
    GatewayState::Closing,
];

pub fn status() -> Status {
    Status {
        gateway_name: "ctp1".into(),
        state: GatewayState::Dirty,
        reason: Some("the queue of venue events overflowed".to_owned()),
        epoch: 7,
        journal_seq: 88_123,
        time: time("2018-10-12T21:00:02+08:00"),
        protocol_version: PROTOCOL_VERSION,
        version: "0.1.0".into(),
        node: "node-a".into(),
        venue: "ctp 6.7.7".into(),
        trading_day: day(2018, 10, 15),
        halted: vec!["STRAT_A".into()],
        halts: vec![halt()],
        subscriptions: 12,
        contracts: 20_113,
        ticks: 104_233,
        ticks_conflated: 3,
        journal_pending: 2,
        snapshot_seq: 90_001,
    }
}

pub fn halt() -> HaltEntry {
    HaltEntry {
        target: HaltTarget::new(HaltScope::Owner, "STRAT_A"),
        reason: "loss limit".to_owned(),
        reduce_only: true,
        since: time("2018-10-12T21:00:01.000001+08:00"),
        cancel: true,
        external: true,
        spares_closing: true,
        by: Some("STRAT_A".into()),
        local: true,
        heard: Heard::one("ctp1", 7, 3),
    }
}

pub fn head() -> Head {
    Head { gateway_name: "ctp1".into(), owner: "STRAT_A".into(), epoch: 7, journal_seq: 88_120, count: 341 }
}

pub fn log() -> Log {
    Log {
        gateway_name: "ctp1".into(),
        msg: "交易服务器登录成功 \"TD\"".to_owned(),
        level: LogLevel::Info,
        time: time("2018-10-12T20:45:00.001+08:00"),
    }
}

/// One journalled event of each kind.
pub fn events_page() -> EventsPage {
    let kinds = [
        OmsEvent::Order(order()),
        OmsEvent::Trade(trade()),
        OmsEvent::Quote(quote()),
        OmsEvent::Position(position()),
        OmsEvent::Account(account()),
    ];
    let items = (88_119..).zip(kinds).map(|(journal_seq, kind)| JournalEvent { journal_seq, event: event(kind) });
    EventsPage { items: items.collect(), scanned: 88_123, last: 88_200 }
}
