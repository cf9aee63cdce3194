//! The vocabulary of orders and trades, both ways: CTP's one-letter codes and Gatemesh's words.

use protocol::{Direction, Exchange, Offset, OrderStatus, OrderType, Timestamp};

use crate::dates::{self, TimeError};
use crate::records::{OrderRecord, TradeRecord};

/// How CTP spells an order type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Terms {
    /// `THOST_FTDC_OPT_*`: `1` any price, `2` limit.
    pub price_type: u8,
    /// `THOST_FTDC_TC_*`: `1` immediate or cancel, `3` good for the day.
    pub time_condition: u8,
    /// `THOST_FTDC_VC_*`: `1` any volume, `3` all of it.
    pub volume_condition: u8,
}

impl Terms {
    /// An order's.
    #[must_use]
    pub fn of(order: &OrderRecord) -> Terms {
        Terms {
            price_type: order.price_type,
            time_condition: order.time_condition,
            volume_condition: order.volume_condition,
        }
    }
}

/// What CTP cannot be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// An order type.
    #[error("CTP takes no {0} orders; send LIMIT, MARKET, FAK or FOK")]
    OrderType(OrderType),
    /// A direction.
    #[error("CTP takes no {0} orders; send LONG to buy or SHORT to sell")]
    Direction(Direction),
    /// An offset.
    #[error("CTP takes no orders of offset {0}; send OPEN, CLOSE, CLOSETODAY or CLOSEYESTERDAY")]
    Offset(Offset),
}

/// A code that CTP's record holds and Gatemesh has no word for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnknownCode {
    /// Price type, time condition and volume condition together.
    #[error("unknown order type: price type {:?}, time condition {:?}, volume condition {:?}",
        char::from(.0.price_type), char::from(.0.time_condition), char::from(.0.volume_condition))]
    Terms(Terms),
    /// `THOST_FTDC_D_*`.
    #[error("unknown direction {:?}, expected 0 (buy) or 1 (sell)", char::from(*.0))]
    Direction(u8),
    /// `THOST_FTDC_OF_*`.
    #[error("unknown offset {:?}, expected 0 to 6", char::from(*.0))]
    Offset(u8),
    /// `THOST_FTDC_OST_*`.
    #[error("unknown order status {:?}, expected 0 to 5, a, b or c", char::from(*.0))]
    Status(u8),
}

/// How CTP spells this order type.
///
/// # Errors
/// What CTP does not have.
pub fn terms(order_type: OrderType) -> Result<Terms, Unsupported> {
    let terms = |price_type, time_condition, volume_condition| Terms { price_type, time_condition, volume_condition };
    match order_type {
        OrderType::Limit => Ok(terms(b'2', b'3', b'1')),
        OrderType::Market => Ok(terms(b'1', b'3', b'1')),
        OrderType::Fak => Ok(terms(b'2', b'1', b'1')),
        OrderType::Fok => Ok(terms(b'2', b'1', b'3')),
        OrderType::Stop | OrderType::Rfq | OrderType::Etf => Err(Unsupported::OrderType(order_type)),
    }
}

/// The order type that CTP spells so. Beyond what [`terms`] gives, an any-price order of which any volume may fill at
/// once and the rest is cancelled is a market order: other terminals send it, and it must be seen.
///
/// # Errors
/// Another terminal's order of a type that Gatemesh has no word for.
pub fn order_type(terms: Terms) -> Result<OrderType, UnknownCode> {
    match (terms.price_type, terms.time_condition, terms.volume_condition) {
        (b'2', b'3', b'1') => Ok(OrderType::Limit),
        (b'1', b'3' | b'1', b'1') => Ok(OrderType::Market),
        (b'2', b'1', b'1') => Ok(OrderType::Fak),
        (b'2', b'1', b'3') => Ok(OrderType::Fok),
        _ => Err(UnknownCode::Terms(terms)),
    }
}

/// CTP's code of an order's direction.
///
/// # Errors
/// `NET` is no side of an order.
pub fn direction_code(direction: Direction) -> Result<u8, Unsupported> {
    match direction {
        Direction::Long => Ok(b'0'),
        Direction::Short => Ok(b'1'),
        Direction::Net => Err(Unsupported::Direction(direction)),
    }
}

/// The direction of an order or a trade.
///
/// # Errors
/// A code that is none.
pub fn direction(code: u8) -> Result<Direction, UnknownCode> {
    match code {
        b'0' => Ok(Direction::Long),
        b'1' => Ok(Direction::Short),
        _ => Err(UnknownCode::Direction(code)),
    }
}

/// CTP's code of an order's offset.
///
/// # Errors
/// CTP always tells opening from closing.
pub fn offset_code(offset: Offset) -> Result<u8, Unsupported> {
    match offset {
        Offset::Open => Ok(b'0'),
        Offset::Close => Ok(b'1'),
        Offset::CloseToday => Ok(b'3'),
        Offset::CloseYesterday => Ok(b'4'),
        Offset::None => Err(Unsupported::Offset(offset)),
    }
}

/// The offset of an order or a trade. What a broker closes by force (`2`, `5`, `6`) closes.
///
/// # Errors
/// A code that is none.
pub fn offset(code: u8) -> Result<Offset, UnknownCode> {
    match code {
        b'0' => Ok(Offset::Open),
        b'1' | b'2' | b'5' | b'6' => Ok(Offset::Close),
        b'3' => Ok(Offset::CloseToday),
        b'4' => Ok(Offset::CloseYesterday),
        _ => Err(UnknownCode::Offset(code)),
    }
}

/// The state of an order, from its status and its submit status.
///
/// `2` and `4`, partly traded and not traded but not in the exchange's queue, count as working. CTP says that an order
/// is over with `0` or `5`, and a suspended order that left the queue may come back into it. One that is over in truth
/// answers a cancel with a refusal; one shown as over that fills after all would be a position that nobody expects. A
/// conditional order (`b`, `c`) of another terminal is not at the exchange yet.
///
/// # Errors
/// A code that is none.
pub fn order_status(status: u8, submit_status: u8) -> Result<OrderStatus, UnknownCode> {
    match (status, submit_status) {
        (b'5', INSERT_REJECTED) => Ok(OrderStatus::Rejected),
        (b'0', _) => Ok(OrderStatus::AllTraded),
        (b'1' | b'2', _) => Ok(OrderStatus::PartTraded),
        (b'3' | b'4', _) => Ok(OrderStatus::NotTraded),
        (b'5', _) => Ok(OrderStatus::Cancelled),
        (b'a' | b'b' | b'c', _) => Ok(OrderStatus::Submitting),
        _ => Err(UnknownCode::Status(status)),
    }
}

/// `THOST_FTDC_OSS_InsertRejected`.
const INSERT_REJECTED: u8 = b'4';

/// Why an order was rejected or cancelled: the counter's words, or ours where it has none. `None` of any other.
#[must_use]
pub fn reason(order: &OrderRecord) -> Option<String> {
    match order_status(order.status, order.submit_status) {
        Ok(OrderStatus::Rejected | OrderStatus::Cancelled) => {}
        _ => return None,
    }
    let said = order.status_message.trim();
    let words = if said.is_empty() { status_in_words(order.status, order.submit_status) } else { said };
    Some(words.to_owned())
}

/// An order's status and submit status, for logs and people.
#[must_use]
pub fn status_in_words(status: u8, submit_status: u8) -> &'static str {
    match (status, submit_status) {
        (b'5', INSERT_REJECTED) => "rejected by the exchange",
        (b'0', _) => "all traded",
        (b'1', _) => "part traded, the rest in the queue",
        (b'2', _) => "part traded, the rest not in the queue",
        (b'3', _) => "not traded, in the queue",
        (b'4', _) => "not traded, not in the queue",
        (b'5', _) => "cancelled",
        (b'a', _) => "on its way to the exchange",
        (b'b', _) => "waiting for its condition",
        (b'c', _) => "its condition has come",
        _ => "in a state that CTP does not document",
    }
}

/// Why a front's connection was lost, for logs and people.
#[must_use]
pub fn disconnect_in_words(reason: i32) -> &'static str {
    match reason {
        0x1001 => "reading from the network failed",
        0x1002 => "writing to the network failed",
        0x2001 => "the front's heartbeat is late",
        0x2002 => "sending a heartbeat failed",
        0x2003 => "the front sent a broken message",
        _ => "for a reason that CTP does not document",
    }
}

/// When an order was taken, by the same rules as a tick's time: `now` is the gateway's clock. At night `InsertDate` may
/// be the trading day.
///
/// # Errors
/// No time, or one that is none.
pub fn order_time(exchange: Exchange, order: &OrderRecord, now: Timestamp) -> Result<Timestamp, TimeError> {
    record_time(exchange, &order.trading_day, &order.insert_date, &order.insert_time, now)
}

/// When a trade was made, as [`order_time`].
///
/// # Errors
/// No time, or one that is none.
pub fn trade_time(exchange: Exchange, trade: &TradeRecord, now: Timestamp) -> Result<Timestamp, TimeError> {
    record_time(exchange, &trade.trading_day, &trade.trade_date, &trade.trade_time, now)
}

fn record_time(
    exchange: Exchange,
    trading_day: &str,
    date: &str,
    time: &str,
    now: Timestamp,
) -> Result<Timestamp, TimeError> {
    dates::venue_time(exchange, trading_day.as_bytes(), date.as_bytes(), time.as_bytes(), 0, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        chrono::DateTime::parse_from_rfc3339(&format!("{text}+08:00")).expect("an instant")
    }

    #[test]
    fn every_order_type_goes_there_and_back_or_is_refused() {
        for &wanted in OrderType::ALL {
            match terms(wanted) {
                Ok(terms) => assert_eq!(order_type(terms), Ok(wanted)),
                Err(error) => assert_eq!(
                    error.to_string(),
                    format!("CTP takes no {wanted} orders; send LIMIT, MARKET, FAK or FOK")
                ),
            }
        }
        let spelt = |wanted| terms(wanted).map(|t| [t.price_type, t.time_condition, t.volume_condition]);
        assert_eq!(spelt(OrderType::Limit), Ok(*b"231"));
        assert_eq!(spelt(OrderType::Market), Ok(*b"131"));
        assert_eq!(spelt(OrderType::Fak), Ok(*b"211"));
        assert_eq!(spelt(OrderType::Fok), Ok(*b"213"));
        assert!(spelt(OrderType::Stop).is_err() && spelt(OrderType::Rfq).is_err() && spelt(OrderType::Etf).is_err());
    }

    #[test]
    fn an_order_is_of_one_type_or_of_none() {
        let read = |[price_type, time_condition, volume_condition]: [u8; 3]| {
            order_type(Terms { price_type, time_condition, volume_condition })
        };
        assert_eq!(read(*b"111"), Ok(OrderType::Market), "as other terminals send it");
        let error = read(*b"G12").expect_err("unknown").to_string();
        assert_eq!(error, "unknown order type: price type 'G', time condition '1', volume condition '2'");
        let known = (0..=255u8).flat_map(|p| (0..=255u8).map(move |t| (p, t)));
        let known = known.flat_map(|(p, t)| (0..=255u8).map(move |v| [p, t, v])).filter(|&codes| read(codes).is_ok());
        assert_eq!(known.count(), 5);
        let order =
            OrderRecord { price_type: b'2', time_condition: b'1', volume_condition: b'3', ..Default::default() };
        assert_eq!(order_type(Terms::of(&order)), Ok(OrderType::Fok));
    }

    #[test]
    fn sides_go_there_and_back() {
        assert_eq!((direction_code(Direction::Long), direction_code(Direction::Short)), (Ok(b'0'), Ok(b'1')));
        assert_eq!((direction(b'0'), direction(b'1')), (Ok(Direction::Long), Ok(Direction::Short)));
        assert_eq!(
            direction_code(Direction::Net).expect_err("refused").to_string(),
            "CTP takes no NET orders; send LONG to buy or SHORT to sell"
        );
        assert_eq!(
            direction(0).expect_err("unknown").to_string(),
            "unknown direction '\\0', expected 0 (buy) or 1 (sell)"
        );
    }

    #[test]
    fn offsets_go_there_and_back() {
        let codes =
            [(Offset::Open, b'0'), (Offset::Close, b'1'), (Offset::CloseToday, b'3'), (Offset::CloseYesterday, b'4')];
        for (wanted, code) in codes {
            assert_eq!((offset_code(wanted), offset(code)), (Ok(code), Ok(wanted)));
        }
        for forced in [b'2', b'5', b'6'] {
            assert_eq!(offset(forced), Ok(Offset::Close));
        }
        assert_eq!(
            offset_code(Offset::None).expect_err("refused").to_string(),
            "CTP takes no orders of offset NONE; send OPEN, CLOSE, CLOSETODAY or CLOSEYESTERDAY"
        );
        assert_eq!(offset(b'7').expect_err("unknown").to_string(), "unknown offset '7', expected 0 to 6");
    }

    #[test]
    fn a_status_says_whether_the_order_works() {
        let read = |status| order_status(status, b'3').expect("known");
        let expected = [
            (b'0', OrderStatus::AllTraded),
            (b'1', OrderStatus::PartTraded),
            (b'2', OrderStatus::PartTraded),
            (b'3', OrderStatus::NotTraded),
            (b'4', OrderStatus::NotTraded),
            (b'5', OrderStatus::Cancelled),
            (b'a', OrderStatus::Submitting),
            (b'b', OrderStatus::Submitting),
            (b'c', OrderStatus::Submitting),
        ];
        for (code, status) in expected {
            assert_eq!(read(code), status, "{}", char::from(code));
            let refused = if code == b'5' { OrderStatus::Rejected } else { status };
            assert_eq!(order_status(code, b'4'), Ok(refused), "{}", char::from(code));
        }
        assert_eq!(order_status(b'5', b'5'), Ok(OrderStatus::Cancelled), "a refused cancel refuses no order");
        assert_eq!((0..=255).filter(|&code| order_status(code, b'3').is_ok()).count(), expected.len());
        assert_eq!(
            order_status(b'z', b'3').expect_err("unknown").to_string(),
            "unknown order status 'z', expected 0 to 5, a, b or c"
        );
    }

    #[test]
    fn an_order_that_is_over_says_why() {
        let order = |status, submit_status, message: &str| OrderRecord {
            status,
            submit_status,
            status_message: message.into(),
            ..OrderRecord::default()
        };
        assert_eq!(reason(&order(b'5', b'4', " 已撤单报单被拒绝 ")).as_deref(), Some("已撤单报单被拒绝"));
        assert_eq!(reason(&order(b'5', b'4', "")).as_deref(), Some("rejected by the exchange"));
        assert_eq!(reason(&order(b'5', b'3', "")).as_deref(), Some("cancelled"));
        for working in [b'0', b'1', b'2', b'3', b'4', b'a', b'b', b'c', b'z'] {
            assert_eq!(reason(&order(working, b'4', "未成交")), None);
        }
    }

    #[test]
    fn every_known_code_has_words_of_its_own() {
        let mut words: Vec<_> = b"012345abcz".iter().map(|&code| status_in_words(code, b'3')).collect();
        words.push(status_in_words(b'5', b'4'));
        words.extend([0x1001, 0x1002, 0x2001, 0x2002, 0x2003, 7].map(disconnect_in_words));
        let count = words.len();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), count);
    }

    #[test]
    fn a_night_order_is_dated_by_the_calendar() {
        let order = |date: &str, time: &str| OrderRecord {
            trading_day: "20181015".into(),
            insert_date: date.into(),
            insert_time: time.into(),
            ..OrderRecord::default()
        };
        // Replayed on Monday after Friday night, in either habit, and at once.
        for now in ["2018-10-15T10:00:00", "2018-10-12T21:05:01"] {
            for exchange in [Exchange::SHFE, Exchange::INE, Exchange::DCE, Exchange::CZCE] {
                for date in ["20181012", "20181015"] {
                    let found = order_time(exchange, &order(date, "21:05:00"), at(now)).expect("a time");
                    assert_eq!(found, at("2018-10-12T21:05:00"), "{exchange} {date} {now}");
                }
            }
        }
        let small_hours = order_time(Exchange::SHFE, &order("20181013", "01:30:00"), at("2018-10-15T10:00:00"));
        assert_eq!(small_hours, Ok(at("2018-10-13T01:30:00")));
        let day = order_time(Exchange::DCE, &order("20181015", "09:30:00"), at("2018-10-15T14:00:00"));
        assert_eq!(day, Ok(at("2018-10-15T09:30:00")));
        assert_eq!(
            order_time(Exchange::DCE, &order("20181015", ""), at("2018-10-15T14:00:00")),
            Err(TimeError::Missing)
        );
    }

    #[test]
    fn a_trade_is_dated_as_its_order() {
        let trade = TradeRecord {
            trading_day: "20240605".into(),
            trade_date: "20240605".into(),
            trade_time: "21:05:00".into(),
            ..TradeRecord::default()
        };
        for exchange in [Exchange::DCE, Exchange::CZCE] {
            let found = trade_time(exchange, &trade, at("2024-06-05T10:00:00")).expect("a time");
            assert_eq!(found, at("2024-06-04T21:05:00"), "{exchange}");
        }
    }
}
