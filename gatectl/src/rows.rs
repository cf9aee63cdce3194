//! The columns of every kind of object, and an object as a row of them.

use protocol::halt::{HaltEntry, HaltScope};
use protocol::{
    Account, Bar, Contract, Event, GatewayState, Log, LogLevel, Order, OrderStatus, Position, Quote, Status, Tick,
    Trade,
};

use crate::format::{Decimals, average, count, date_and_time, lots, money, offset, one_line, price, side, time_of_day};
use crate::run::journal::{DayRow, EntryRow};
use crate::table::{Cell, Column, Tone, number, text};

pub const STATUS: &[Column] = &[
    text("GATEWAY", 10),
    text("STATE", 12),
    number("EPOCH", 6),
    number("JOURNAL", 9),
    number("TICKS", 11),
    number("INSTRUMENTS", 11),
    number("CONTRACTS", 9),
    text("TRADING DAY", 11),
    text("HALTED", 8),
    text("VENUE", 10),
    text("NODE", 10),
    text("VERSION", 8),
    text("REASON", 0),
];

pub fn status(s: &Status) -> Vec<Cell> {
    vec![
        s.gateway_name.as_str().into(),
        Cell::toned(s.state.as_str(), state_tone(s.state)),
        s.epoch.to_string().into(),
        count(s.journal_seq).into(),
        count(s.ticks).into(),
        count(s.subscriptions).into(),
        count(s.contracts).into(),
        s.trading_day.map(|day| day.to_string()).unwrap_or_default().into(),
        Cell::toned(halted(s), Tone::Bad),
        s.venue.as_str().into(),
        s.node.as_str().into(),
        s.version.as_str().into(),
        s.reason.clone().unwrap_or_default().into(),
    ]
}

/// Who is halted: nothing, `all`, or the owners; `(reduce)` where what lessens a position may still be sent.
pub fn halted(s: &Status) -> String {
    if s.halted.iter().any(|owner| owner == "*") {
        return "all".into();
    }
    let reduce_only = s.halts.iter().filter(|halt| halt.reduce_only).map(|halt| match halt.target.scope {
        HaltScope::Owner => format!("{}(reduce)", halt.target.target),
        _ => "all(reduce)".to_owned(),
    });
    s.halted.iter().map(ToString::to_string).chain(reduce_only).collect::<Vec<_>>().join(",")
}

/// A halt in words: `owner A halted since 2024-07-01 21:00:00: limit breached`.
pub fn halt(halt: &HaltEntry) -> String {
    let what = if halt.reduce_only { "takes only what lessens a position" } else { "halted" };
    let reason = if halt.reason.is_empty() { "no reason given" } else { &halt.reason };
    let local = if halt.local { " (on this gateway only)" } else { "" };
    one_line(&format!("{} {what}{local} since {}: {reason}", halt.target, date_and_time(halt.since)))
}

pub fn state_tone(state: GatewayState) -> Tone {
    match state {
        GatewayState::Ready => Tone::Good,
        GatewayState::Starting | GatewayState::Connecting | GatewayState::Reconciling | GatewayState::Closing => {
            Tone::Warn
        }
        GatewayState::Disconnected
        | GatewayState::Refused
        | GatewayState::Stopped
        | GatewayState::Dirty
        | GatewayState::Failed
        | GatewayState::Unknown => Tone::Bad,
    }
}

pub const TICK: &[Column] = &[
    text("TIME", 12),
    text("INSTRUMENT", 14),
    number("LAST", 10),
    number("CHANGE", 8),
    number("BID VOL", 7),
    number("BID", 10),
    number("ASK", 10),
    number("ASK VOL", 7),
    number("VOLUME", 10),
    number("OPEN INT", 10),
    text("GATEWAY", 8),
];

pub fn tick(event: &Event<Tick>, decimals: &Decimals) -> Vec<Cell> {
    let t = &event.data;
    let places = decimals.of(&t.instrument());
    let shown = |value: Option<f64>| value.map(|value| price(value, places)).unwrap_or_default();
    let amount = |value: Option<f64>| value.map(lots).unwrap_or_default();
    let change = change(t);
    vec![
        time_of_day(t.datetime).into(),
        t.instrument().to_string().into(),
        shown(t.last_price).into(),
        change.map(|c| Cell::toned(signed(c, places), Tone::of_sign(c))).unwrap_or_default(),
        amount(t.best_bid().map(|level| level.1)).into(),
        shown(t.best_bid().map(|level| level.0)).into(),
        shown(t.best_ask().map(|level| level.0)).into(),
        amount(t.best_ask().map(|level| level.1)).into(),
        amount(t.volume).into(),
        amount(t.open_interest).into(),
        event.gateway.as_str().into(),
    ]
}

/// The last price against the day before: its settlement, or where there is none, its close.
pub fn change(t: &Tick) -> Option<f64> {
    Some(t.last_price? - t.pre_settlement.or(t.pre_close)?)
}

/// A difference of prices with its sign. Subtraction leaves digits that no price has; they are cut.
pub fn signed(difference: f64, places: Option<usize>) -> String {
    let text = match places {
        Some(places) => format!("{difference:+.places$}"),
        None => {
            let text = format!("{difference:+.6}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    };
    if text[1..].bytes().all(|b| matches!(b, b'0' | b'.')) { text[1..].to_owned() } else { text }
}

pub const ORDER: &[Column] = &[
    text("TIME", 19),
    text("ORDER", 36),
    text("INSTRUMENT", 14),
    text("SIDE", 4),
    text("OFFSET", 9),
    text("TYPE", 6),
    number("PRICE", 10),
    number("VOLUME", 6),
    number("TRADED", 6),
    text("STATUS", 10),
    text("OWNER", 8),
    text("GATEWAY", 8),
    text("REFERENCE", 9),
    text("REASON", 0),
];

pub fn order(o: &Order, decimals: &Decimals) -> Vec<Cell> {
    vec![
        o.datetime.map(date_and_time).unwrap_or_default().into(),
        o.orderid.as_str().into(),
        o.instrument().to_string().into(),
        side(o.direction).into(),
        offset(o.offset).into(),
        o.r#type.as_str().into(),
        o.price.map(|value| price(value, decimals.of(&o.instrument()))).unwrap_or_default().into(),
        lots(o.volume).into(),
        lots(o.traded).into(),
        Cell::toned(o.status.as_str(), order_tone(o.status)),
        o.owner.as_str().into(),
        o.gateway_name.as_str().into(),
        o.reference.as_str().into(),
        o.reason.clone().unwrap_or_default().into(),
    ]
}

pub fn order_tone(status: OrderStatus) -> Tone {
    match status {
        OrderStatus::Submitting => Tone::Warn,
        OrderStatus::NotTraded | OrderStatus::PartTraded => Tone::Plain,
        OrderStatus::AllTraded => Tone::Good,
        OrderStatus::Cancelled => Tone::Faint,
        OrderStatus::Rejected => Tone::Bad,
    }
}

pub const TRADE: &[Column] = &[
    text("TIME", 23),
    text("TRADE", 10),
    text("INSTRUMENT", 14),
    text("SIDE", 4),
    text("OFFSET", 9),
    number("PRICE", 10),
    number("VOLUME", 6),
    text("ORDER", 36),
    text("OWNER", 8),
    text("GATEWAY", 8),
    text("REFERENCE", 0),
];

pub fn trade(t: &Trade, decimals: &Decimals) -> Vec<Cell> {
    vec![
        t.datetime.map(|at| format!("{} {}", at.format("%Y-%m-%d"), time_of_day(at))).unwrap_or_default().into(),
        t.tradeid.as_str().into(),
        t.instrument().to_string().into(),
        side(t.direction).into(),
        offset(t.offset).into(),
        price(t.price, decimals.of(&t.instrument())).into(),
        lots(t.volume).into(),
        t.orderid.as_str().into(),
        t.owner.as_str().into(),
        t.gateway_name.as_str().into(),
        t.reference.as_str().into(),
    ]
}

pub const QUOTE: &[Column] = &[
    text("TIME", 19),
    text("QUOTE", 36),
    text("INSTRUMENT", 14),
    number("BID VOL", 7),
    number("BID", 10),
    number("ASK", 10),
    number("ASK VOL", 7),
    number("BOUGHT", 6),
    number("SOLD", 6),
    text("STATUS", 10),
    text("OWNER", 8),
    text("GATEWAY", 8),
    text("REFERENCE", 9),
    text("REASON", 0),
];

pub fn quote(q: &Quote, decimals: &Decimals) -> Vec<Cell> {
    let places = decimals.of(&q.instrument());
    vec![
        q.datetime.map(date_and_time).unwrap_or_default().into(),
        q.quoteid.as_str().into(),
        q.instrument().to_string().into(),
        lots(q.bid_volume).into(),
        price(q.bid_price, places).into(),
        price(q.ask_price, places).into(),
        lots(q.ask_volume).into(),
        lots(q.bid_traded).into(),
        lots(q.ask_traded).into(),
        Cell::toned(q.status.as_str(), order_tone(q.status)),
        q.owner.as_str().into(),
        q.gateway_name.as_str().into(),
        q.reference.as_str().into(),
        q.reason.clone().unwrap_or_default().into(),
    ]
}

pub const POSITION: &[Column] = &[
    text("INSTRUMENT", 14),
    text("SIDE", 5),
    number("VOLUME", 6),
    number("EARLIER", 7),
    number("FROZEN", 6),
    number("PRICE", 12),
    number("PNL", 14),
    text("GATEWAY", 8),
];

pub fn position(p: &Position, decimals: &Decimals) -> Vec<Cell> {
    vec![
        p.instrument().to_string().into(),
        p.direction.as_str().into(),
        lots(p.volume).into(),
        lots(p.yd_volume).into(),
        lots(p.frozen).into(),
        average(p.price, decimals.of(&p.instrument())).into(),
        Cell::toned(money(p.pnl), Tone::of_sign(p.pnl)),
        p.gateway_name.as_str().into(),
    ]
}

pub const ACCOUNT: &[Column] = &[
    text("ACCOUNT", 12),
    number("BALANCE", 16),
    number("AVAILABLE", 16),
    number("FROZEN", 14),
    number("MARGIN", 14),
    number("COMMISSION", 12),
    number("CLOSED PNL", 14),
    number("OPEN PNL", 14),
    text("CURRENCY", 8),
    text("GATEWAY", 8),
];

pub fn account(a: &Account) -> Vec<Cell> {
    let sum = |value: Option<f64>| value.map(money).unwrap_or_default();
    let pnl = |value: Option<f64>| value.map(|v| Cell::toned(money(v), Tone::of_sign(v))).unwrap_or_default();
    vec![
        a.accountid.as_str().into(),
        money(a.balance).into(),
        money(a.available).into(),
        money(a.frozen).into(),
        sum(a.margin).into(),
        sum(a.commission).into(),
        pnl(a.close_profit),
        pnl(a.position_profit),
        a.currency.map(|currency| currency.as_str()).unwrap_or_default().into(),
        a.gateway_name.as_str().into(),
    ]
}

pub const CONTRACT: &[Column] = &[
    text("INSTRUMENT", 14),
    text("NAME", 10),
    text("PRODUCT", 8),
    number("SIZE", 8),
    number("TICK", 8),
    number("LEAST", 6),
    number("MOST", 6),
    number("LONG MARGIN", 11),
    number("SHORT MARGIN", 12),
    text("EXPIRES", 10),
    text("STOPS", 5),
    text("HISTORY", 7),
    text("GATEWAY", 8),
];

pub fn contract(c: &Contract) -> Vec<Cell> {
    let yes = |value: bool| if value { "yes" } else { "" };
    let percent = |ratio: Option<f64>| ratio.map(|r| format!("{:.1}%", r * 100.0)).unwrap_or_default();
    vec![
        c.instrument().to_string().into(),
        c.name.as_str().into(),
        c.product.as_str().into(),
        lots(c.size).into(),
        price(c.pricetick, None).into(),
        lots(c.min_volume).into(),
        c.max_volume.map(lots).unwrap_or_default().into(),
        percent(c.long_margin_ratio).into(),
        percent(c.short_margin_ratio).into(),
        c.expire_date.map(|day| day.to_string()).unwrap_or_default().into(),
        yes(c.stop_supported).into(),
        yes(c.history_data).into(),
        c.gateway_name.as_str().into(),
    ]
}

pub const BAR: &[Column] = &[
    text("TIME", 19),
    number("OPEN", 10),
    number("HIGH", 10),
    number("LOW", 10),
    number("CLOSE", 10),
    number("VOLUME", 10),
    number("TURNOVER", 18),
    number("OPEN INT", 10),
];

pub fn bar(b: &Bar, places: Option<usize>) -> Vec<Cell> {
    let tone = Tone::of_sign(b.close_price - b.open_price);
    vec![
        date_and_time(b.datetime).into(),
        price(b.open_price, places).into(),
        price(b.high_price, places).into(),
        price(b.low_price, places).into(),
        Cell::toned(price(b.close_price, places), tone),
        lots(b.volume).into(),
        money(b.turnover).into(),
        lots(b.open_interest).into(),
    ]
}

pub const LOG: &[Column] = &[text("TIME", 12), text("LEVEL", 8), text("GATEWAY", 10), text("MESSAGE", 0)];

pub fn log(l: &Log) -> Vec<Cell> {
    vec![
        time_of_day(l.time).into(),
        Cell::toned(l.level.as_str(), level_tone(l.level)),
        l.gateway_name.as_str().into(),
        l.msg.as_str().into(),
    ]
}

pub const JOURNAL_DAY: &[Column] = &[
    text("GATEWAY", 10),
    text("TRADING DAY", 11),
    number("FROM", 10),
    number("TO", 10),
    number("ENTRIES", 10),
    text("BEGAN", 20),
];

pub fn journal_day(day: &DayRow) -> Vec<Cell> {
    vec![
        day.gateway.as_str().into(),
        day.trading_day.map_or_else(|| "(before)".to_owned(), |day| day.to_string()).into(),
        day.from.to_string().into(),
        day.to.to_string().into(),
        (day.to + 1).saturating_sub(day.from).to_string().into(),
        day.began.map(|began| began.format("%Y-%m-%d %H:%M:%S").to_string()).unwrap_or_default().into(),
    ]
}

pub const JOURNAL_ENTRY: &[Column] =
    &[number("SEQUENCE", 9), text("STORED", 23), text("ID", 12), text("KIND", 12), text("WHAT", 0)];

pub fn journal_entry(entry: &EntryRow) -> Vec<Cell> {
    vec![
        entry.sequence.to_string().into(),
        entry.stored.with_timezone(&chrono::Local).format("%Y-%m-%d %H:%M:%S%.3f").to_string().into(),
        entry.id.as_str().into(),
        entry.kind.as_str().into(),
        entry.summary.as_str().into(),
    ]
}

pub fn level_tone(level: LogLevel) -> Tone {
    match level {
        LogLevel::Debug => Tone::Faint,
        LogLevel::Info => Tone::Plain,
        LogLevel::Warning => Tone::Warn,
        LogLevel::Error | LogLevel::Critical => Tone::Bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;
    use protocol::{Direction, Exchange, InstrumentId, Offset, OrderId, OrderRequest, Product, Timestamp};

    fn rebar() -> InstrumentId {
        InstrumentId::new("rb2410", Exchange::SHFE)
    }

    fn decimals() -> Decimals {
        let mut decimals = Decimals::default();
        decimals.learn(&Contract::new("sim1", rebar(), Product::Futures, 10.0, 0.5));
        decimals
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_from_rfc3339(text).expect("a time")
    }

    #[test]
    fn orders_make_a_table() {
        let mut request = OrderRequest::limit(rebar(), Direction::Long, Offset::Open, 3500.0, 2.0);
        request.orderid = OrderId::new("a-1");
        let mut working = request.to_order(&"sim1".into(), &"default".into());
        working.status = OrderStatus::NotTraded;
        working.datetime = Some(at("2024-07-01T21:00:00.500+08:00"));
        request.orderid = OrderId::new("a-2");
        request.direction = Direction::Short;
        let mut refused = request.to_order(&"sim1".into(), &"default".into());
        refused.status = OrderStatus::Rejected;
        refused.reason = Some("volume\nabove 10".into());
        let mut table = Table::new(ORDER);
        table.push(order(&working, &decimals()));
        table.push(order(&refused, &decimals()));
        assert_eq!(
            table.render(false),
            "\
TIME                 ORDER  INSTRUMENT   SIDE  OFFSET  TYPE    PRICE  VOLUME  TRADED  STATUS     OWNER    GATEWAY  REASON
2024-07-01 21:00:00  a-1    rb2410.SHFE  BUY   OPEN    LIMIT  3500.0       2       0  NOTTRADED  default  sim1
                     a-2    rb2410.SHFE  SELL  OPEN    LIMIT  3500.0       2       0  REJECTED   default  sim1     volume above 10"
        );
    }

    #[test]
    fn a_tick_without_prices_has_blanks_not_zeros() {
        let data = Tick::new("sim1", rebar(), at("2024-07-01T21:00:00.500+08:00"));
        let event = Event { gateway: "sim1".into(), epoch: 1, seq: 1, time: data.datetime, data };
        let cells: Vec<_> = tick(&event, &decimals()).iter().map(|cell| cell.text().to_owned()).collect();
        assert_eq!(cells, ["21:00:00.500", "rb2410.SHFE", "", "", "", "", "", "", "", "", "sim1"]);
    }

    #[test]
    fn changes_are_signed_and_rounded() {
        assert_eq!(signed(0.300_000_000_4, Some(1)), "+0.3");
        assert_eq!(signed(-2.0, Some(0)), "-2");
        assert_eq!(signed(-0.000_000_01, None), "0");
        assert_eq!(signed(12.25, None), "+12.25");
        assert_eq!(signed(0.0, Some(1)), "0.0");
    }

    #[test]
    fn every_kind_has_a_cell_per_column() {
        let now = at("2024-07-01T21:00:00+08:00");
        let status_json = r#"{"gateway_name":"sim1","state":"READY","epoch":3,"journal_seq":1200,
            "time":"2024-07-01T21:00:00+08:00","protocol_version":1,"version":"0.1.0","halted":["*"]}"#;
        let s: Status = serde_json::from_str(status_json).expect("decodes");
        assert_eq!(status(&s).len(), STATUS.len());
        assert_eq!(halted(&s), "all");
        assert_eq!(contract(&Contract::new("sim1", rebar(), Product::Futures, 10.0, 0.5)).len(), CONTRACT.len());
        let a: Account =
            serde_json::from_str(r#"{"gateway_name":"sim1","accountid":"1","balance":1e6}"#).expect("decodes");
        assert_eq!(account(&a).len(), ACCOUNT.len());
        let p: Position = serde_json::from_str(
            r#"{"gateway_name":"sim1","symbol":"rb2410","exchange":"SHFE","direction":"LONG","volume":2,"pnl":-5}"#,
        )
        .expect("decodes");
        let cells = position(&p, &decimals());
        assert_eq!(cells.len(), POSITION.len());
        assert_eq!((cells[6].text(), cells[6].tone()), ("-5.00", Tone::Down));
        let l = Log { gateway_name: "sim1".into(), msg: "m".into(), level: LogLevel::Error, time: now };
        assert_eq!(log(&l).len(), LOG.len());
    }
}
