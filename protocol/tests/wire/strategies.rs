//! Arbitrary values of every wire type, as wild as the wire allows.

use chrono::{DateTime, FixedOffset, NaiveDate, Utc};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use protocol::halt::{HaltEntry, HaltScope, HaltTarget, Heard};
use protocol::market::Extra;
use protocol::rpc::{EventsPage, JournalEvent, Page};
use protocol::{
    Account, Bar, CancelRequest, Contract, Currency, Direction, ErrorCode, Event, Exchange, Head, HistoryRequest,
    InstrumentId, Interval, Level, Log, LogLevel, Name, Offset, OmsEvent, OptionType, Order, OrderId, OrderRequest,
    OrderStatus, OrderType, Position, Product, Quote, QuoteRequest, RpcError, Status, Symbol, Tick, Timestamp, Trade,
};

use crate::specimens::STATES;

/// Any float that JSON can hold: all bit patterns but infinities and NaN, with ordinary prices and edges made likely.
pub fn float() -> impl Strategy<Value = f64> {
    let edges =
        [0.0, -0.0, 5e-324, -5e-324, f64::MIN_POSITIVE, f64::MAX, f64::MIN, f64::EPSILON, 0.1 + 0.2, 1e21, 1e22];
    prop_oneof![
        3 => any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |value| value.is_finite()),
        3 => (-100_000_000_i32..100_000_000).prop_map(|cents| f64::from(cents) / 100.0),
        1 => prop::sample::select(edges.to_vec()),
    ]
}

/// Any text: all of Unicode, control characters, quotes, and what symbols look like.
pub fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => "[A-Za-z0-9_-]{1,12}",
        2 => any::<String>(),
        1 => prop::sample::select(
            ["", "SPC c1905&cs1905", "500.0", "%", "%2E", "*", ">", "a.b", " ", "\0", "\u{7f}", "\"\\\n", "橡胶", "😀"].to_vec()
        ).prop_map(str::to_owned),
    ]
}

pub fn name() -> impl Strategy<Value = Name> {
    text().prop_map(Name::from)
}

pub fn order_id() -> impl Strategy<Value = OrderId> {
    text().prop_map(OrderId::new)
}

/// To the nanosecond, in any offset of whole minutes, in the years 1 to 9998.
pub fn timestamp() -> impl Strategy<Value = Timestamp> {
    let seconds = -62_135_000_000_i64..253_370_000_000;
    let nanos = prop_oneof![Just(0), (0_u32..1000).prop_map(|ms| ms * 1_000_000), 0_u32..1_000_000_000];
    let offset = prop_oneof![Just(480), Just(0), -1439_i32..=1439];
    (seconds, nanos, offset).prop_map(|(seconds, nanos, minutes)| {
        let offset = FixedOffset::east_opt(minutes * 60).expect("below a day");
        DateTime::<Utc>::from_timestamp(seconds, nanos).expect("in range").with_timezone(&offset)
    })
}

pub fn date() -> impl Strategy<Value = NaiveDate> {
    (1_i32..9999, 1_u32..=366)
        .prop_filter_map("a day of the year", |(year, ordinal)| NaiveDate::from_yo_opt(year, ordinal))
}

pub fn member<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    prop::sample::select(all)
}

pub fn instrument() -> impl Strategy<Value = InstrumentId> {
    (name(), member(Exchange::ALL)).prop_map(|(symbol, exchange)| InstrumentId { symbol, exchange })
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        float().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            vec((text(), inner), 0..3).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn extra() -> impl Strategy<Value = Option<Box<Extra>>> {
    let map = vec((text(), json()), 0..3).prop_map(|pairs| Box::new(pairs.into_iter().collect()));
    prop_oneof![3 => Just(None), 1 => map.prop_map(Some)]
}

fn depth() -> impl Strategy<Value = Vec<Level>> {
    vec((float(), float()).prop_map(|(price, volume)| Level(price, volume)), 0..8)
}

pub fn tick() -> impl Strategy<Value = Tick> {
    let head = (name(), instrument(), timestamp(), of(name()));
    let prices = prop::array::uniform12(of(float()));
    let days = (of(date()), of(date()), of(timestamp()));
    (head, prices, depth(), depth(), days, extra()).prop_map(
        |((gateway, id, time, name), p, bids, asks, days, extra)| {
            let [
                volume,
                turnover,
                open_interest,
                last_price,
                last_volume,
                limit_up,
                limit_down,
                open,
                high,
                low,
                close,
                settle,
            ] = p;
            Tick {
                name,
                volume,
                turnover,
                open_interest,
                last_price,
                last_volume,
                limit_up,
                limit_down,
                open_price: open,
                high_price: high,
                low_price: low,
                pre_close: close,
                pre_settlement: settle,
                bids: bids.into(),
                asks: asks.into(),
                trading_day: days.0,
                action_day: days.1,
                localtime: days.2,
                extra,
                ..Tick::new(gateway, id, time)
            }
        },
    )
}

pub fn bar() -> impl Strategy<Value = Bar> {
    let head = (name(), instrument(), timestamp(), of(member(Interval::ALL)));
    (head, prop::array::uniform7(float()), extra()).prop_map(|((gateway_name, id, datetime, interval), f, extra)| Bar {
        gateway_name,
        symbol: id.symbol,
        exchange: id.exchange,
        datetime,
        interval,
        volume: f[0],
        turnover: f[1],
        open_interest: f[2],
        open_price: f[3],
        high_price: f[4],
        low_price: f[5],
        close_price: f[6],
        extra,
    })
}

pub fn contract() -> impl Strategy<Value = Contract> {
    let head = (name(), instrument(), name(), member(Product::ALL));
    let numbers = (prop::array::uniform3(float()), prop::array::uniform4(of(float())), any::<[bool; 3]>());
    let days = (of(date()), of(date()), of(timestamp()), of(timestamp()));
    let option = (of(name()), of(member(OptionType::ALL)), of(name()), of(name()));
    (head, numbers, days, option, extra()).prop_map(
        |((gateway_name, id, name, product), ([size, pricetick, min_volume], o, b), days, option, extra)| Contract {
            gateway_name,
            symbol: id.symbol,
            exchange: id.exchange,
            name,
            product,
            size,
            pricetick,
            min_volume,
            max_volume: o[0],
            stop_supported: b[0],
            net_position: b[1],
            history_data: b[2],
            long_margin_ratio: o[1],
            short_margin_ratio: o[2],
            open_date: days.0,
            expire_date: days.1,
            option_strike: o[3],
            option_underlying: option.0,
            option_type: option.1,
            option_listed: days.2,
            option_expiry: days.3,
            option_portfolio: option.2,
            option_index: option.3,
            extra,
        },
    )
}

pub fn order_request() -> impl Strategy<Value = OrderRequest> {
    let what = (order_id(), instrument(), member(Direction::ALL), member(OrderType::ALL), member(Offset::ALL));
    (what, float(), of(float()), name()).prop_map(
        |((orderid, id, direction, r#type, offset), volume, price, reference)| OrderRequest {
            orderid,
            symbol: id.symbol,
            exchange: id.exchange,
            direction,
            r#type,
            volume,
            price,
            offset,
            reference,
        },
    )
}

pub fn order() -> impl Strategy<Value = Order> {
    let state = (float(), member(OrderStatus::ALL), of(timestamp()), of(name()), of(text()));
    (order_request(), name(), name(), state, of(name()), of(timestamp()), extra()).prop_map(
        |(request, gateway, owner, (traded, status, datetime, venue_reference, reason), traceid, deadline, extra)| {
            Order {
                traceid,
                deadline,
                traded,
                status,
                datetime,
                venue_reference,
                reason,
                extra,
                ..request.to_order(&gateway, &owner)
            }
        },
    )
}

pub fn trade() -> impl Strategy<Value = Trade> {
    let what = (name(), instrument(), order_id(), name(), member(Direction::ALL), member(Offset::ALL));
    let when = (of(timestamp()), of(date()));
    (what, float(), float(), when, name(), name(), of(name()), extra()).prop_map(
        |(what, price, volume, when, reference, owner, traceid, extra)| {
            let (gateway_name, id, orderid, tradeid, direction, offset) = what;
            Trade {
                traceid,
                gateway_name,
                symbol: id.symbol,
                exchange: id.exchange,
                orderid,
                tradeid,
                direction,
                offset,
                price,
                volume,
                datetime: when.0,
                trading_day: when.1,
                reference,
                owner,
                extra,
            }
        },
    )
}

pub fn quote_request() -> impl Strategy<Value = QuoteRequest> {
    let offsets = (member(Offset::ALL), member(Offset::ALL));
    (order_id(), instrument(), prop::array::uniform4(float()), offsets, name()).prop_map(
        |(quoteid, id, [bid_price, bid_volume, ask_price, ask_volume], (bid_offset, ask_offset), reference)| {
            QuoteRequest {
                quoteid,
                symbol: id.symbol,
                exchange: id.exchange,
                bid_price,
                bid_volume,
                ask_price,
                ask_volume,
                bid_offset,
                ask_offset,
                reference,
            }
        },
    )
}

pub fn quote() -> impl Strategy<Value = Quote> {
    let state = (float(), float(), member(OrderStatus::ALL), of(timestamp()), of(name()), of(text()));
    (quote_request(), name(), name(), state, of(name()), of(timestamp()), extra()).prop_map(
        |(request, gateway, owner, state, traceid, deadline, extra)| {
            let (bid_traded, ask_traded, status, datetime, venue_reference, reason) = state;
            Quote {
                traceid,
                deadline,
                bid_traded,
                ask_traded,
                status,
                datetime,
                venue_reference,
                reason,
                extra,
                ..request.to_quote(&gateway, &owner)
            }
        },
    )
}

pub fn position() -> impl Strategy<Value = Position> {
    (name(), instrument(), member(Direction::ALL), prop::array::uniform5(float()), extra()).prop_map(
        |(gateway_name, id, direction, [volume, frozen, price, pnl, yd_volume], extra)| Position {
            gateway_name,
            symbol: id.symbol,
            exchange: id.exchange,
            direction,
            volume,
            frozen,
            price,
            pnl,
            yd_volume,
            extra,
        },
    )
}

pub fn account() -> impl Strategy<Value = Account> {
    let optional = prop::array::uniform4(of(float()));
    (name(), name(), prop::array::uniform3(float()), optional, of(member(Currency::ALL)), extra()).prop_map(
        |(gateway_name, accountid, [balance, frozen, available], o, currency, extra)| Account {
            gateway_name,
            accountid,
            balance,
            frozen,
            available,
            margin: o[0],
            commission: o[1],
            close_profit: o[2],
            position_profit: o[3],
            currency,
            extra,
        },
    )
}

pub fn oms_event() -> impl Strategy<Value = OmsEvent> {
    prop_oneof![
        order().prop_map(OmsEvent::Order),
        trade().prop_map(OmsEvent::Trade),
        quote().prop_map(OmsEvent::Quote),
        position().prop_map(OmsEvent::Position),
        account().prop_map(OmsEvent::Account),
    ]
}

pub fn event<T: std::fmt::Debug>(data: impl Strategy<Value = T>) -> impl Strategy<Value = Event<T>> {
    (name(), any::<u64>(), any::<u64>(), timestamp(), data).prop_map(|(gateway, epoch, seq, time, data)| Event {
        gateway,
        epoch,
        seq,
        time,
        data,
    })
}

pub fn page<T: std::fmt::Debug>(item: impl Strategy<Value = T>) -> impl Strategy<Value = Page<T>> {
    (vec(item, 0..4), of(text()), of(any::<u64>())).prop_map(|(items, next, journal_seq)| Page {
        items,
        next,
        journal_seq,
    })
}

pub fn events_page() -> impl Strategy<Value = EventsPage> {
    let item = (any::<u64>(), event(oms_event())).prop_map(|(journal_seq, event)| JournalEvent { journal_seq, event });
    (vec(item, 0..4), any::<u64>(), any::<u64>()).prop_map(|(items, scanned, last)| EventsPage { items, scanned, last })
}

pub fn status() -> impl Strategy<Value = Status> {
    let who = (name(), member(&STATES), of(text()), name(), name(), name());
    let counts = (any::<[u64; 8]>(), any::<u32>());
    (who, counts, timestamp(), of(date()), (vec(name(), 0..3), vec(halt(), 0..3))).prop_map(
        |((gateway_name, state, reason, version, node, venue), (n, protocol_version), time, trading_day, halts)| {
            let (halted, halts) = halts;
            Status {
                gateway_name,
                state,
                reason,
                epoch: n[0],
                journal_seq: n[1],
                time,
                protocol_version,
                version,
                node,
                venue,
                trading_day,
                halted,
                halts,
                subscriptions: n[2],
                contracts: n[3],
                ticks: n[4],
                ticks_conflated: n[5],
                journal_pending: n[6],
                snapshot_seq: n[7],
            }
        },
    )
}

pub fn halt() -> impl Strategy<Value = HaltEntry> {
    const SCOPES: [HaltScope; 4] = [HaltScope::All, HaltScope::Gateway, HaltScope::Account, HaltScope::Owner];
    (member(&SCOPES), name(), text(), any::<[bool; 5]>(), timestamp(), of(name()), any::<[u64; 2]>()).prop_map(
        |(scope, target, reason, [reduce_only, cancel, external, spares_closing, local], since, by, n)| HaltEntry {
            target: HaltTarget::new(scope, target),
            reason,
            reduce_only,
            since,
            cancel,
            external,
            spares_closing,
            by,
            local,
            heard: Heard::one("ctp1", n[0], n[1]),
        },
    )
}

pub fn head() -> impl Strategy<Value = Head> {
    (name(), name(), any::<[u64; 3]>()).prop_map(|(gateway_name, owner, [epoch, journal_seq, count])| Head {
        gateway_name,
        owner,
        epoch,
        journal_seq,
        count,
    })
}

pub fn log() -> impl Strategy<Value = Log> {
    (name(), text(), member(LogLevel::ALL), timestamp()).prop_map(|(gateway_name, msg, level, time)| Log {
        gateway_name,
        msg,
        level,
        time,
    })
}

pub fn error() -> impl Strategy<Value = RpcError> {
    (member(ErrorCode::ALL), text()).prop_map(|(code, message)| RpcError { code, message })
}

pub fn cancel() -> impl Strategy<Value = CancelRequest> {
    (order_id(), of(name()), of(member(Exchange::ALL)), of(name()))
        .prop_map(|(orderid, symbol, exchange, owner)| CancelRequest { orderid, symbol, exchange, owner })
}

pub fn history() -> impl Strategy<Value = HistoryRequest> {
    (instrument(), timestamp(), of(timestamp()), of(member(Interval::ALL))).prop_map(|(id, start, end, interval)| {
        let InstrumentId { symbol, exchange }: InstrumentId = id;
        HistoryRequest { symbol: Symbol::clone(&symbol), exchange, start, end, interval }
    })
}
