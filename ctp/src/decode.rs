//! CTP's records from their bytes. Every function takes any bytes: what is missing reads as zero.

use crate::field::Record;
use crate::layout::{self, order_action, rsp_info};
use crate::records::{
    AccountRecord, Failure, Instrument, Login, OrderRecord, PositionRecord, RefusedAction, RefusedOrder, TradeRecord,
};
use compact_str::CompactString;

/// An answer's failure; `None` where its number is 0.
pub(crate) fn failure(bytes: &[u8]) -> Option<Failure> {
    let record = Record(bytes);
    let code = record.int(rsp_info::ERROR_ID);
    (code != 0).then(|| Failure { code, message: record.string(rsp_info::ERROR_MSG) })
}

pub(crate) fn login(bytes: &[u8]) -> Login {
    use layout::rsp_user_login as at;
    let record = Record(bytes);
    Login {
        trading_day: record.text(at::TRADING_DAY),
        front_id: record.int(at::FRONT_ID),
        session_id: record.int(at::SESSION_ID),
        max_order_ref: record.text(at::MAX_ORDER_REF),
        system_name: record.text(at::SYSTEM_NAME),
    }
}

pub(crate) fn instrument(bytes: &[u8]) -> Instrument {
    use layout::instrument as at;
    let record = Record(bytes);
    Instrument {
        symbol: record.text(at::INSTRUMENT),
        exchange: record.text(at::EXCHANGE),
        name: record.text(at::INSTRUMENT_NAME),
        product: record.text(at::PRODUCT),
        product_class: record.char(at::PRODUCT_CLASS),
        max_market_volume: record.int(at::MAX_MARKET_VOLUME),
        min_market_volume: record.int(at::MIN_MARKET_VOLUME),
        max_limit_volume: record.int(at::MAX_LIMIT_VOLUME),
        min_limit_volume: record.int(at::MIN_LIMIT_VOLUME),
        multiplier: record.int(at::MULTIPLIER),
        price_tick: record.double(at::PRICE_TICK),
        open_date: record.text(at::OPEN_DATE),
        expire_date: record.text(at::EXPIRE_DATE),
        is_trading: record.int(at::IS_TRADING) != 0,
        position_type: record.char(at::POSITION_TYPE),
        position_date_type: record.char(at::POSITION_DATE_TYPE),
        long_margin_ratio: record.double(at::LONG_MARGIN_RATIO),
        short_margin_ratio: record.double(at::SHORT_MARGIN_RATIO),
        underlying: record.text(at::UNDERLYING),
        strike_price: record.double(at::STRIKE_PRICE),
        options_type: record.char(at::OPTIONS_TYPE),
    }
}

pub(crate) fn order(bytes: &[u8]) -> OrderRecord {
    use layout::order as at;
    let record = Record(bytes);
    OrderRecord {
        investor: record.text(at::INVESTOR),
        symbol: record.text(at::INSTRUMENT),
        exchange: record.text(at::EXCHANGE),
        order_ref: record.text(at::ORDER_REF),
        front_id: record.int(at::FRONT_ID),
        session_id: record.int(at::SESSION_ID),
        order_sys_id: record.text(at::ORDER_SYS_ID),
        price_type: record.char(at::PRICE_TYPE),
        direction: record.char(at::DIRECTION),
        offset: record.char(at::OFFSET),
        price: record.double(at::PRICE),
        volume: record.int(at::VOLUME),
        traded: record.int(at::TRADED),
        time_condition: record.char(at::TIME_CONDITION),
        volume_condition: record.char(at::VOLUME_CONDITION),
        status: record.char(at::STATUS),
        submit_status: record.char(at::SUBMIT_STATUS),
        trading_day: record.text(at::TRADING_DAY),
        insert_date: record.text(at::INSERT_DATE),
        insert_time: record.text(at::INSERT_TIME),
        cancel_time: record.text(at::CANCEL_TIME),
        status_message: record.string(at::STATUS_MESSAGE),
        sequence: record.int(at::SEQUENCE),
    }
}

pub(crate) fn trade(bytes: &[u8]) -> TradeRecord {
    use layout::trade as at;
    let record = Record(bytes);
    TradeRecord {
        investor: record.text(at::INVESTOR),
        symbol: record.text(at::INSTRUMENT),
        exchange: record.text(at::EXCHANGE),
        order_ref: record.text(at::ORDER_REF),
        order_sys_id: record.text(at::ORDER_SYS_ID),
        trade_id: record.text(at::TRADE_ID),
        direction: record.char(at::DIRECTION),
        offset: record.char(at::OFFSET),
        price: record.double(at::PRICE),
        volume: record.int(at::VOLUME),
        trade_date: record.text(at::TRADE_DATE),
        trade_time: record.text(at::TRADE_TIME),
        trading_day: record.text(at::TRADING_DAY),
    }
}

pub(crate) fn position(bytes: &[u8]) -> PositionRecord {
    use layout::position as at;
    let record = Record(bytes);
    PositionRecord {
        symbol: record.text(at::INSTRUMENT),
        exchange: record.text(at::EXCHANGE),
        direction: record.char(at::DIRECTION),
        position_date: record.char(at::POSITION_DATE),
        hedge: record.char(at::HEDGE),
        yd_position: record.int(at::YD_POSITION),
        position: record.int(at::POSITION),
        today_position: record.int(at::TODAY_POSITION),
        long_frozen: record.int(at::LONG_FROZEN),
        short_frozen: record.int(at::SHORT_FROZEN),
        position_cost: record.double(at::POSITION_COST),
        open_cost: record.double(at::OPEN_COST),
        position_profit: record.double(at::POSITION_PROFIT),
        use_margin: record.double(at::USE_MARGIN),
    }
}

pub(crate) fn account(bytes: &[u8]) -> AccountRecord {
    use layout::account as at;
    let record = Record(bytes);
    AccountRecord {
        account: record.text(at::ACCOUNT),
        currency: record.text(at::CURRENCY),
        trading_day: record.text(at::TRADING_DAY),
        balance: record.double(at::BALANCE),
        available: record.double(at::AVAILABLE),
        frozen_margin: record.double(at::FROZEN_MARGIN),
        frozen_cash: record.double(at::FROZEN_CASH),
        frozen_commission: record.double(at::FROZEN_COMMISSION),
        margin: record.double(at::MARGIN),
        commission: record.double(at::COMMISSION),
        close_profit: record.double(at::CLOSE_PROFIT),
        position_profit: record.double(at::POSITION_PROFIT),
    }
}

pub(crate) fn refused_order(bytes: &[u8]) -> RefusedOrder {
    use layout::input_order as at;
    let record = Record(bytes);
    RefusedOrder {
        order_ref: record.text(at::ORDER_REF),
        symbol: record.text(at::INSTRUMENT),
        exchange: record.text(at::EXCHANGE),
        request: record.int(at::REQUEST_ID),
    }
}

/// Of `CThostFtdcInputOrderActionField` and `CThostFtdcOrderActionField`, which begin alike.
pub(crate) fn refused_action(bytes: &[u8]) -> RefusedAction {
    let record = Record(bytes);
    RefusedAction {
        order_ref: record.text(order_action::ORDER_REF),
        front_id: record.int(order_action::FRONT_ID),
        session_id: record.int(order_action::SESSION_ID),
        exchange: record.text(order_action::EXCHANGE),
        order_sys_id: record.text(order_action::ORDER_SYS_ID),
    }
}

pub(crate) fn specific_instrument(bytes: &[u8]) -> CompactString {
    Record(bytes).text(layout::specific_instrument::INSTRUMENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Filled;
    use proptest::prelude::*;

    #[test]
    fn an_order_reads_as_it_was_written() {
        let filled = Filled::zeroed("Order")
            .set("InvestorID", b"012345")
            .set("InstrumentID", b"rb2410")
            .set("reserve1", b"an old place for a symbol")
            .set("ExchangeID", b"SHFE")
            .set("OrderRef", b"          41")
            .set("FrontID", &1i32.to_ne_bytes())
            .set("SessionID", &(-7i32).to_ne_bytes())
            .set("OrderSysID", b"        5012")
            .set("OrderPriceType", b"2")
            .set("Direction", b"0")
            .set("CombOffsetFlag", b"31")
            .set("LimitPrice", &3210.0f64.to_ne_bytes())
            .set("VolumeTotalOriginal", &7i32.to_ne_bytes())
            .set("VolumeTraded", &2i32.to_ne_bytes())
            .set("TimeCondition", b"3")
            .set("VolumeCondition", b"1")
            .set("OrderStatus", b"1")
            .set("OrderSubmitStatus", b"3")
            .set("TradingDay", b"20240902")
            .set("InsertDate", b"20240830")
            .set("InsertTime", b"21:00:00")
            .set("CancelTime", b"")
            .set("StatusMsg", &encoding_rs::GB18030.encode("部分成交还在队列中").0)
            .set("SequenceNo", &19i32.to_ne_bytes());
        let expected = OrderRecord {
            investor: "012345".into(),
            symbol: "rb2410".into(),
            exchange: "SHFE".into(),
            order_ref: "          41".into(),
            front_id: 1,
            session_id: -7,
            order_sys_id: "        5012".into(),
            price_type: b'2',
            direction: b'0',
            offset: b'3',
            price: Some(3210.0),
            volume: 7,
            traded: 2,
            time_condition: b'3',
            volume_condition: b'1',
            status: b'1',
            submit_status: b'3',
            trading_day: "20240902".into(),
            insert_date: "20240830".into(),
            insert_time: "21:00:00".into(),
            cancel_time: "".into(),
            status_message: "部分成交还在队列中".into(),
            sequence: 19,
        };
        assert_eq!(order(&filled.bytes), expected);
    }

    #[test]
    fn an_instrument_reads_as_it_was_written() {
        let none = f64::MAX.to_ne_bytes();
        let filled = Filled::zeroed("Instrument")
            .set("InstrumentID", b"cu2412C70000")
            .set("ExchangeID", b"SHFE")
            .set("InstrumentName", &encoding_rs::GB18030.encode("沪铜期权").0)
            .set("ProductID", b"cu_o")
            .set("ProductClass", b"2")
            .set("MaxLimitOrderVolume", &100i32.to_ne_bytes())
            .set("MinLimitOrderVolume", &1i32.to_ne_bytes())
            .set("MaxMarketOrderVolume", &30i32.to_ne_bytes())
            .set("MinMarketOrderVolume", &2i32.to_ne_bytes())
            .set("VolumeMultiple", &5i32.to_ne_bytes())
            .set("PriceTick", &2.0f64.to_ne_bytes())
            .set("OpenDate", b"20240102")
            .set("ExpireDate", b"20241125")
            .set("IsTrading", &1i32.to_ne_bytes())
            .set("PositionType", b"2")
            .set("PositionDateType", b"1")
            .set("LongMarginRatio", &none)
            .set("ShortMarginRatio", &0.12f64.to_ne_bytes())
            .set("UnderlyingInstrID", b"cu2412")
            .set("StrikePrice", &70000.0f64.to_ne_bytes())
            .set("OptionsType", b"1");
        let expected = Instrument {
            symbol: "cu2412C70000".into(),
            exchange: "SHFE".into(),
            name: "沪铜期权".into(),
            product: "cu_o".into(),
            product_class: b'2',
            max_market_volume: 30,
            min_market_volume: 2,
            max_limit_volume: 100,
            min_limit_volume: 1,
            multiplier: 5,
            price_tick: Some(2.0),
            open_date: "20240102".into(),
            expire_date: "20241125".into(),
            is_trading: true,
            position_type: b'2',
            position_date_type: b'1',
            long_margin_ratio: None,
            short_margin_ratio: Some(0.12),
            underlying: "cu2412".into(),
            strike_price: Some(70000.0),
            options_type: b'1',
        };
        assert_eq!(instrument(&filled.bytes), expected);
    }

    #[test]
    fn positions_and_accounts_read_as_they_were_written() {
        let (int, double) = (|value: i32| value.to_ne_bytes(), |value: f64| value.to_ne_bytes());
        let filled = Filled::zeroed("InvestorPosition")
            .set("InstrumentID", b"rb2410")
            .set("ExchangeID", b"SHFE")
            .set("PosiDirection", b"3")
            .set("PositionDate", b"2")
            .set("HedgeFlag", b"1")
            .set("YdPosition", &int(5))
            .set("Position", &int(4))
            .set("TodayPosition", &int(1))
            .set("LongFrozen", &int(2))
            .set("ShortFrozen", &int(3))
            .set("PositionCost", &double(128_000.0))
            .set("OpenCost", &double(127_000.0))
            .set("PositionProfit", &double(-40.0))
            .set("UseMargin", &double(f64::MAX));
        let expected = PositionRecord {
            symbol: "rb2410".into(),
            exchange: "SHFE".into(),
            direction: b'3',
            position_date: b'2',
            hedge: b'1',
            yd_position: 5,
            position: 4,
            today_position: 1,
            long_frozen: 2,
            short_frozen: 3,
            position_cost: Some(128_000.0),
            open_cost: Some(127_000.0),
            position_profit: Some(-40.0),
            use_margin: None,
        };
        assert_eq!(position(&filled.bytes), expected);

        let filled = Filled::zeroed("TradingAccount")
            .set("AccountID", b"012345")
            .set("CurrencyID", b"CNY")
            .set("TradingDay", b"20261123")
            .set("Balance", &double(1.0))
            .set("Available", &double(2.0))
            .set("FrozenMargin", &double(3.0))
            .set("FrozenCash", &double(4.0))
            .set("FrozenCommission", &double(5.0))
            .set("CurrMargin", &double(6.0))
            .set("Commission", &double(7.0))
            .set("CloseProfit", &double(8.0))
            .set("PositionProfit", &double(9.0));
        let expected = AccountRecord {
            account: "012345".into(),
            currency: "CNY".into(),
            trading_day: "20261123".into(),
            balance: Some(1.0),
            available: Some(2.0),
            frozen_margin: Some(3.0),
            frozen_cash: Some(4.0),
            frozen_commission: Some(5.0),
            margin: Some(6.0),
            commission: Some(7.0),
            close_profit: Some(8.0),
            position_profit: Some(9.0),
        };
        assert_eq!(account(&filled.bytes), expected);
    }

    #[test]
    fn a_refused_cancel_reads_alike_from_both_records() {
        for name in ["InputOrderAction", "OrderAction"] {
            let filled = Filled::zeroed(name)
                .set("OrderRef", b"41")
                .set("FrontID", &1i32.to_ne_bytes())
                .set("SessionID", &2i32.to_ne_bytes())
                .set("ExchangeID", b"SHFE")
                .set("OrderSysID", b"  5012");
            let expected = RefusedAction {
                order_ref: "41".into(),
                front_id: 1,
                session_id: 2,
                exchange: "SHFE".into(),
                order_sys_id: "  5012".into(),
            };
            assert_eq!(refused_action(&filled.bytes), expected, "{name}");
        }
    }

    #[test]
    fn an_answer_without_a_number_is_no_failure() {
        let ok = Filled::zeroed("RspInfo").set("ErrorMsg", &encoding_rs::GB18030.encode("CTP:正确").0);
        assert_eq!(failure(&ok.bytes), None);
        let refused = ok.set("ErrorID", &3i32.to_ne_bytes());
        assert_eq!(failure(&refused.bytes), Some(Failure { code: 3, message: "CTP:正确".into() }));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..900)) {
            let numbers = [account(&bytes).balance, trade(&bytes).price, order(&bytes).price, instrument(&bytes).price_tick];
            prop_assert!(numbers.into_iter().flatten().all(f64::is_finite));
            let _ = (failure(&bytes), login(&bytes), position(&bytes), refused_order(&bytes), refused_action(&bytes));
            let _ = specific_instrument(&bytes);
        }
    }
}
