//! Where the fields of CTP's records are. Offsets and lengths are the same from 6.6.5 to 6.7.13, and so is every record's
//! beginning: a record is read up to its length in 6.6.5 and no further. The facts are in `facts/records.txt`; a test
//! holds what is here to them.

/// Declares the record's module: its name in CTP, its length in 6.6.5, its fields.
macro_rules! record {
    ($(#[$doc:meta])* $module:ident $struct:literal $len:literal { $($kind:ident $field:ident $name:literal $at:literal $length:tt;)* }) => {
        $(#[$doc])*
        #[allow(dead_code)] // The length of a record that is only sent.
        pub(crate) mod $module {
            pub(crate) const NAME: &str = $struct;
            pub(crate) const LEN: usize = $len;
            $(record!(@field $kind $field $name $at $length);)*
            /// Name, offset and length of each.
            #[cfg(test)]
            pub(crate) const FIELDS: &[(&str, usize, usize)] = &[$(($name, $at, $length)),*];
        }
    };
    (@field text $field:ident $name:literal $at:literal $length:tt) => {
        pub(crate) const $field: $crate::field::Text = $crate::field::Text { name: $name, at: $at, len: $length };
    };
    (@field char $field:ident $name:literal $at:literal $length:tt) => {
        pub(crate) const $field: $crate::field::Char = $crate::field::Char { at: $at };
    };
    (@field int $field:ident $name:literal $at:literal 4) => {
        pub(crate) const $field: $crate::field::Int = $crate::field::Int { at: $at };
    };
    (@field double $field:ident $name:literal $at:literal 8) => {
        pub(crate) const $field: $crate::field::Double = $crate::field::Double { name: $name, at: $at };
    };
}

record! {
    /// `CThostFtdcRspInfoField`.
    rsp_info "CThostFtdcRspInfoField" 88 {
        int ERROR_ID "ErrorID" 0 4;
        text ERROR_MSG "ErrorMsg" 4 81;
    }
}

record! {
    /// `CThostFtdcReqAuthenticateField`.
    req_authenticate "CThostFtdcReqAuthenticateField" 88 {
        text BROKER "BrokerID" 0 11;
        text USER "UserID" 11 16;
        text PRODUCT_INFO "UserProductInfo" 27 11;
        text AUTH_CODE "AuthCode" 38 17;
        text APP_ID "AppID" 55 33;
    }
}

record! {
    /// `CThostFtdcReqUserLoginField`.
    req_user_login "CThostFtdcReqUserLoginField" 264 {
        text BROKER "BrokerID" 9 11;
        text USER "UserID" 20 16;
        text PASSWORD "Password" 36 41;
        text PRODUCT_INFO "UserProductInfo" 77 11;
    }
}

record! {
    /// `CThostFtdcRspUserLoginField`.
    rsp_user_login "CThostFtdcRspUserLoginField" 196 {
        text TRADING_DAY "TradingDay" 0 9;
        text SYSTEM_NAME "SystemName" 45 41;
        int FRONT_ID "FrontID" 88 4;
        int SESSION_ID "SessionID" 92 4;
        text MAX_ORDER_REF "MaxOrderRef" 96 13;
    }
}

record! {
    /// `CThostFtdcSettlementInfoConfirmField`.
    settlement_info_confirm "CThostFtdcSettlementInfoConfirmField" 68 {
        text BROKER "BrokerID" 0 11;
        text INVESTOR "InvestorID" 11 13;
    }
}

record! {
    /// `CThostFtdcQryOrderField`.
    qry_order "CThostFtdcQryOrderField" 201 {
        text BROKER "BrokerID" 0 11;
        text INVESTOR "InvestorID" 11 13;
    }
}

record! {
    /// `CThostFtdcQryTradeField`.
    qry_trade "CThostFtdcQryTradeField" 201 {
        text BROKER "BrokerID" 0 11;
        text INVESTOR "InvestorID" 11 13;
    }
}

record! {
    /// `CThostFtdcQryInvestorPositionField`.
    qry_investor_position "CThostFtdcQryInvestorPositionField" 162 {
        text BROKER "BrokerID" 0 11;
        text INVESTOR "InvestorID" 11 13;
    }
}

record! {
    /// `CThostFtdcQryTradingAccountField`.
    qry_trading_account "CThostFtdcQryTradingAccountField" 42 {
        text BROKER "BrokerID" 0 11;
        text INVESTOR "InvestorID" 11 13;
    }
}

record! {
    /// `CThostFtdcInstrumentField`.
    instrument "CThostFtdcInstrumentField" 616 {
        text EXCHANGE "ExchangeID" 31 9;
        text INSTRUMENT_NAME "InstrumentName" 40 21;
        char PRODUCT_CLASS "ProductClass" 123 1;
        int MAX_MARKET_VOLUME "MaxMarketOrderVolume" 132 4;
        int MIN_MARKET_VOLUME "MinMarketOrderVolume" 136 4;
        int MAX_LIMIT_VOLUME "MaxLimitOrderVolume" 140 4;
        int MIN_LIMIT_VOLUME "MinLimitOrderVolume" 144 4;
        int MULTIPLIER "VolumeMultiple" 148 4;
        double PRICE_TICK "PriceTick" 152 8;
        text OPEN_DATE "OpenDate" 169 9;
        text EXPIRE_DATE "ExpireDate" 178 9;
        int IS_TRADING "IsTrading" 208 4;
        char POSITION_TYPE "PositionType" 212 1;
        char POSITION_DATE_TYPE "PositionDateType" 213 1;
        double LONG_MARGIN_RATIO "LongMarginRatio" 216 8;
        double SHORT_MARGIN_RATIO "ShortMarginRatio" 224 8;
        double STRIKE_PRICE "StrikePrice" 264 8;
        char OPTIONS_TYPE "OptionsType" 272 1;
        text INSTRUMENT "InstrumentID" 289 81;
        text PRODUCT "ProductID" 451 81;
        text UNDERLYING "UnderlyingInstrID" 532 81;
    }
}

record! {
    /// `CThostFtdcInputOrderField`.
    input_order "CThostFtdcInputOrderField" 392 {
        text BROKER "BrokerID" 0 11;
        text INVESTOR "InvestorID" 11 13;
        text ORDER_REF "OrderRef" 55 13;
        text USER "UserID" 68 16;
        char PRICE_TYPE "OrderPriceType" 84 1;
        char DIRECTION "Direction" 85 1;
        char OFFSET "CombOffsetFlag" 86 5;
        char HEDGE "CombHedgeFlag" 91 5;
        double PRICE "LimitPrice" 96 8;
        int VOLUME "VolumeTotalOriginal" 104 4;
        char TIME_CONDITION "TimeCondition" 108 1;
        char VOLUME_CONDITION "VolumeCondition" 118 1;
        int MIN_VOLUME "MinVolume" 120 4;
        char CONTINGENT "ContingentCondition" 124 1;
        char FORCE_CLOSE "ForceCloseReason" 136 1;
        int REQUEST_ID "RequestID" 168 4;
        text EXCHANGE "ExchangeID" 180 9;
        text INSTRUMENT "InstrumentID" 271 81;
    }
}

record! {
    /// `CThostFtdcOrderField`.
    order "CThostFtdcOrderField" 856 {
        text INVESTOR "InvestorID" 11 13;
        text ORDER_REF "OrderRef" 55 13;
        char PRICE_TYPE "OrderPriceType" 84 1;
        char DIRECTION "Direction" 85 1;
        char OFFSET "CombOffsetFlag" 86 5;
        double PRICE "LimitPrice" 96 8;
        int VOLUME "VolumeTotalOriginal" 104 4;
        char TIME_CONDITION "TimeCondition" 108 1;
        char VOLUME_CONDITION "VolumeCondition" 118 1;
        text EXCHANGE "ExchangeID" 185 9;
        char SUBMIT_STATUS "OrderSubmitStatus" 272 1;
        text TRADING_DAY "TradingDay" 280 9;
        text ORDER_SYS_ID "OrderSysID" 296 21;
        char STATUS "OrderStatus" 318 1;
        int TRADED "VolumeTraded" 320 4;
        text INSERT_DATE "InsertDate" 328 9;
        text INSERT_TIME "InsertTime" 337 9;
        text CANCEL_TIME "CancelTime" 373 9;
        int SEQUENCE "SequenceNo" 416 4;
        int FRONT_ID "FrontID" 420 4;
        int SESSION_ID "SessionID" 424 4;
        text STATUS_MESSAGE "StatusMsg" 439 81;
        text INSTRUMENT "InstrumentID" 656 81;
    }
}

record! {
    /// `CThostFtdcTradeField`.
    trade "CThostFtdcTradeField" 496 {
        text INVESTOR "InvestorID" 11 13;
        text ORDER_REF "OrderRef" 55 13;
        text EXCHANGE "ExchangeID" 84 9;
        text TRADE_ID "TradeID" 93 21;
        char DIRECTION "Direction" 114 1;
        text ORDER_SYS_ID "OrderSysID" 115 21;
        char OFFSET "OffsetFlag" 190 1;
        double PRICE "Price" 192 8;
        int VOLUME "Volume" 200 4;
        text TRADE_DATE "TradeDate" 204 9;
        text TRADE_TIME "TradeTime" 213 9;
        text TRADING_DAY "TradingDay" 296 9;
        text INSTRUMENT "InstrumentID" 334 81;
    }
}

record! {
    /// `CThostFtdcInputOrderActionField`.
    input_order_action "CThostFtdcInputOrderActionField" 320 {
        text BROKER "BrokerID" 0 11;
        text INVESTOR "InvestorID" 11 13;
        int ACTION_REF "OrderActionRef" 24 4;
        text ORDER_REF "OrderRef" 28 13;
        int REQUEST_ID "RequestID" 44 4;
        int FRONT_ID "FrontID" 48 4;
        int SESSION_ID "SessionID" 52 4;
        text EXCHANGE "ExchangeID" 56 9;
        text ORDER_SYS_ID "OrderSysID" 65 21;
        char ACTION "ActionFlag" 86 1;
        text USER "UserID" 100 16;
        text INSTRUMENT "InstrumentID" 201 81;
    }
}

record! {
    /// `CThostFtdcOrderActionField`.
    order_action "CThostFtdcOrderActionField" 520 {
        text ORDER_REF "OrderRef" 28 13;
        int FRONT_ID "FrontID" 48 4;
        int SESSION_ID "SessionID" 52 4;
        text EXCHANGE "ExchangeID" 56 9;
        text ORDER_SYS_ID "OrderSysID" 65 21;
    }
}

record! {
    /// `CThostFtdcInvestorPositionField`.
    position "CThostFtdcInvestorPositionField" 472 {
        char DIRECTION "PosiDirection" 55 1;
        char HEDGE "HedgeFlag" 56 1;
        char POSITION_DATE "PositionDate" 57 1;
        int YD_POSITION "YdPosition" 60 4;
        int POSITION "Position" 64 4;
        int LONG_FROZEN "LongFrozen" 68 4;
        int SHORT_FROZEN "ShortFrozen" 72 4;
        double POSITION_COST "PositionCost" 120 8;
        double USE_MARGIN "UseMargin" 136 8;
        double POSITION_PROFIT "PositionProfit" 192 8;
        double OPEN_COST "OpenCost" 232 8;
        int TODAY_POSITION "TodayPosition" 280 4;
        text EXCHANGE "ExchangeID" 324 9;
        text INSTRUMENT "InstrumentID" 384 81;
    }
}

record! {
    /// `CThostFtdcTradingAccountField`.
    account "CThostFtdcTradingAccountField" 400 {
        text ACCOUNT "AccountID" 11 13;
        double FROZEN_MARGIN "FrozenMargin" 96 8;
        double FROZEN_CASH "FrozenCash" 104 8;
        double FROZEN_COMMISSION "FrozenCommission" 112 8;
        double MARGIN "CurrMargin" 120 8;
        double COMMISSION "Commission" 136 8;
        double CLOSE_PROFIT "CloseProfit" 144 8;
        double POSITION_PROFIT "PositionProfit" 152 8;
        double BALANCE "Balance" 160 8;
        double AVAILABLE "Available" 168 8;
        text TRADING_DAY "TradingDay" 192 9;
        text CURRENCY "CurrencyID" 256 4;
    }
}

record! {
    /// `CThostFtdcSpecificInstrumentField`.
    specific_instrument "CThostFtdcSpecificInstrumentField" 112 {
        text INSTRUMENT "InstrumentID" 31 81;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::facts::record as measured;

    type Fields = &'static [(&'static str, usize, usize)];

    fn records() -> Vec<(&'static str, usize, Fields)> {
        macro_rules! all {
            ($($module:ident)*) => { vec![$(($module::NAME, $module::LEN, $module::FIELDS)),*] };
        }
        all!(rsp_info
            req_authenticate
            req_user_login
            rsp_user_login
            settlement_info_confirm
            qry_order
            qry_trade
            qry_investor_position
            qry_trading_account
            instrument
            input_order
            order
            trade
            input_order_action
            order_action
            position
            account
            specific_instrument)
    }

    #[test]
    fn every_field_is_where_it_was_measured_in_the_oldest_and_the_newest_version() {
        for (name, len, fields) in records() {
            let (oldest_len, oldest) = measured("6.6.5", name);
            let (newest_len, newest) = measured("6.7.13", name);
            assert_eq!(len, oldest_len, "{name}: read up to what the oldest version has");
            assert!(newest_len >= oldest_len, "{name}");
            assert!(newest_len <= crate::object::RequestRecord::LEN, "{name}");
            assert!(!fields.is_empty(), "{name}");
            for field in fields {
                assert!(oldest.contains(field), "{name} in 6.6.5: {field:?}");
                assert!(newest.contains(field), "{name} in 6.7.13: {field:?}");
            }
        }
    }
}
