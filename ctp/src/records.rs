//! What CTP says, as owned records: text decoded, numbers that CTP leaves out (`DBL_MAX`) absent.

use compact_str::CompactString;

/// An answer's `ErrorID` and `ErrorMsg`, where it is not 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// CTP's number; never 0.
    pub code: i32,
    /// CTP's words, most often Chinese.
    pub message: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CTP error {}: {}", self.code, self.message)
    }
}

/// What the trader library says, in its order.
#[derive(Debug, Clone, PartialEq)]
pub enum TraderEvent {
    /// The connection stands; nobody is logged in.
    FrontConnected,
    /// The connection is lost; the library connects again by itself.
    FrontDisconnected {
        /// CTP's number: 0x1001 read failed, 0x1002 write failed, 0x2001 heartbeat late, 0x2002 heartbeat failed,
        /// 0x2003 bad message.
        reason: i32,
    },
    /// `OnRspAuthenticate`.
    Authenticated {
        /// The request's number.
        request: i32,
        /// Refused, and why.
        failure: Option<Failure>,
    },
    /// `OnRspUserLogin`.
    LoggedIn {
        /// The request's number.
        request: i32,
        /// The session, or why it was refused.
        outcome: Result<Login, Failure>,
    },
    /// `OnRspUserLogout`.
    LoggedOut,
    /// `OnRspSettlementInfoConfirm`.
    SettlementConfirmed {
        /// The request's number.
        request: i32,
        /// Refused, and why.
        failure: Option<Failure>,
    },
    /// `OnRspQryInstrument`.
    Instrument(Row<Instrument>),
    /// `OnRspQryOrder`.
    QueriedOrder(Row<OrderRecord>),
    /// `OnRspQryTrade`.
    QueriedTrade(Row<TradeRecord>),
    /// `OnRspQryInvestorPosition`.
    Position(Row<PositionRecord>),
    /// `OnRspQryTradingAccount`.
    Account(Row<AccountRecord>),
    /// `OnRspOrderInsert`: the counter refused an order of this session.
    InsertRefused {
        /// The order.
        order: RefusedOrder,
        /// Why.
        failure: Failure,
    },
    /// `OnErrRtnOrderInsert`: an order was refused, told to every session of the investor.
    InsertFailed {
        /// The order.
        order: RefusedOrder,
        /// Why.
        failure: Failure,
    },
    /// `OnRspOrderAction`: the counter refused a cancel of this session.
    CancelRefused {
        /// The cancel.
        action: RefusedAction,
        /// Why.
        failure: Failure,
    },
    /// `OnErrRtnOrderAction`: the exchange refused a cancel, told to every session of the investor.
    CancelFailed {
        /// The cancel.
        action: RefusedAction,
        /// Why.
        failure: Failure,
    },
    /// `OnRtnOrder`.
    Order(Box<OrderRecord>),
    /// `OnRtnTrade`.
    Trade(Box<TradeRecord>),
    /// `OnRspError`: a request failed altogether.
    RequestFailed {
        /// The request's number.
        request: i32,
        /// Why.
        failure: Failure,
    },
    /// Code behind this callback panicked; the panic was contained, and what the callback said is lost.
    Panicked {
        /// The callback.
        callback: &'static str,
    },
}

/// One row of a query's answer. An empty answer is one row without a record that is the last.
#[derive(Debug, Clone, PartialEq)]
pub struct Row<T> {
    /// The request's number.
    pub request: i32,
    /// The record, if there is one.
    pub record: Option<Box<T>>,
    /// The query failed, and why.
    pub failure: Option<Failure>,
    /// No more follows.
    pub is_last: bool,
}

/// What the market data library says, in its order.
#[derive(Debug, Clone, PartialEq)]
pub enum MdEvent {
    /// The connection stands; nobody is logged in.
    FrontConnected,
    /// The connection is lost; the library connects again by itself.
    FrontDisconnected {
        /// As in [`TraderEvent::FrontDisconnected`].
        reason: i32,
    },
    /// `OnRspUserLogin`.
    LoggedIn {
        /// The request's number.
        request: i32,
        /// The session, or why it was refused.
        outcome: Result<Login, Failure>,
    },
    /// `OnRspSubMarketData`.
    Subscribed {
        /// The instrument.
        symbol: CompactString,
        /// Refused, and why.
        failure: Option<Failure>,
    },
    /// `OnRspUnSubMarketData`.
    Unsubscribed {
        /// The instrument.
        symbol: CompactString,
        /// Refused, and why.
        failure: Option<Failure>,
    },
    /// `OnRspError`: a request failed altogether.
    RequestFailed {
        /// The request's number.
        request: i32,
        /// Why.
        failure: Failure,
    },
    /// As [`TraderEvent::Panicked`].
    Panicked {
        /// The callback.
        callback: &'static str,
    },
}

/// `CThostFtdcRspUserLoginField`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Login {
    /// `YYYYMMDD`; empty from some market data fronts.
    pub trading_day: CompactString,
    /// The front that took the login.
    pub front_id: i32,
    /// The session at that front.
    pub session_id: i32,
    /// The highest order reference that the session has used, as CTP writes it.
    pub max_order_ref: CompactString,
    /// The counter's name for itself.
    pub system_name: CompactString,
}

/// `CThostFtdcInstrumentField`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Instrument {
    /// `rb2410`; combinations have spaces and `&` in theirs.
    pub symbol: CompactString,
    /// `SHFE`.
    pub exchange: CompactString,
    /// In words.
    pub name: CompactString,
    /// The product's symbol: `rb`.
    pub product: CompactString,
    /// `THOST_FTDC_PC_*`: `1` futures, `2` option, `3` combination, `4` spot, `6` spot option.
    pub product_class: u8,
    /// Largest market order, in lots.
    pub max_market_volume: i32,
    /// Smallest market order, in lots.
    pub min_market_volume: i32,
    /// Largest limit order, in lots.
    pub max_limit_volume: i32,
    /// Smallest limit order, in lots.
    pub min_limit_volume: i32,
    /// Money per point of price and lot.
    pub multiplier: i32,
    /// Smallest step of a price.
    pub price_tick: Option<f64>,
    /// `YYYYMMDD`.
    pub open_date: CompactString,
    /// `YYYYMMDD`.
    pub expire_date: CompactString,
    /// Whether it trades today.
    pub is_trading: bool,
    /// `THOST_FTDC_PT_*`: `1` net positions, `2` gross.
    pub position_type: u8,
    /// `THOST_FTDC_PDT_*`: `1` today and yesterday are told apart, `2` they are not.
    pub position_date_type: u8,
    /// Margin of a long position, as a share of its value.
    pub long_margin_ratio: Option<f64>,
    /// Margin of a short position, as a share of its value.
    pub short_margin_ratio: Option<f64>,
    /// Of an option.
    pub underlying: CompactString,
    /// Of an option.
    pub strike_price: Option<f64>,
    /// `1` call, `2` put.
    pub options_type: u8,
}

/// `CThostFtdcOrderField`, as `OnRtnOrder` and `OnRspQryOrder` bring it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OrderRecord {
    /// Whose account.
    pub investor: CompactString,
    /// The instrument.
    pub symbol: CompactString,
    /// `SHFE`.
    pub exchange: CompactString,
    /// The session's own number for it, right-aligned text; another terminal may write anything.
    pub order_ref: CompactString,
    /// The front of the session that sent it; 0 where nobody's session did.
    pub front_id: i32,
    /// The session that sent it.
    pub session_id: i32,
    /// The exchange's number, right-aligned; empty until the exchange has it.
    pub order_sys_id: CompactString,
    /// `THOST_FTDC_OPT_*`: `1` any price, `2` limit.
    pub price_type: u8,
    /// `0` buy, `1` sell.
    pub direction: u8,
    /// `THOST_FTDC_OF_*`: `0` open, `1` close, `2` force close, `3` close today, `4` close yesterday.
    pub offset: u8,
    /// Limit.
    pub price: Option<f64>,
    /// Lots wanted.
    pub volume: i32,
    /// Lots filled.
    pub traded: i32,
    /// `THOST_FTDC_TC_*`: `1` immediate or cancel, `3` good for the day.
    pub time_condition: u8,
    /// `THOST_FTDC_VC_*`: `1` any volume, `3` all of it.
    pub volume_condition: u8,
    /// `THOST_FTDC_OST_*`: `0` all traded, `1` part traded, `3` not traded, `5` cancelled, `a` unknown.
    pub status: u8,
    /// `THOST_FTDC_OSS_*`: `0` submitted, `3` accepted, `4` insert rejected, `5` cancel rejected.
    pub submit_status: u8,
    /// `YYYYMMDD`.
    pub trading_day: CompactString,
    /// `YYYYMMDD`, in the exchange's habits.
    pub insert_date: CompactString,
    /// `HH:MM:SS`.
    pub insert_time: CompactString,
    /// `HH:MM:SS`.
    pub cancel_time: CompactString,
    /// The counter's words on the status.
    pub status_message: String,
    /// Counts up with each change at the counter.
    pub sequence: i32,
}

/// `CThostFtdcTradeField`. It names no session: an order is found by exchange and `order_sys_id`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TradeRecord {
    /// Whose account.
    pub investor: CompactString,
    /// The instrument.
    pub symbol: CompactString,
    /// `SHFE`.
    pub exchange: CompactString,
    /// The order's reference, in the session that sent it.
    pub order_ref: CompactString,
    /// The exchange's number of the order.
    pub order_sys_id: CompactString,
    /// Unique within trading day, exchange and direction.
    pub trade_id: CompactString,
    /// `0` buy, `1` sell.
    pub direction: u8,
    /// As [`OrderRecord::offset`].
    pub offset: u8,
    /// Price.
    pub price: Option<f64>,
    /// Lots.
    pub volume: i32,
    /// `YYYYMMDD`, in the exchange's habits.
    pub trade_date: CompactString,
    /// `HH:MM:SS`.
    pub trade_time: CompactString,
    /// `YYYYMMDD`.
    pub trading_day: CompactString,
}

/// `CThostFtdcInvestorPositionField`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PositionRecord {
    /// The instrument.
    pub symbol: CompactString,
    /// `SHFE`; empty from some counters: take it from the contract.
    pub exchange: CompactString,
    /// `1` net, `2` long, `3` short.
    pub direction: u8,
    /// `1` today's, `2` yesterday's (SHFE and INE only).
    pub position_date: u8,
    /// `1` speculation, `2` arbitrage, `3` hedge.
    pub hedge: u8,
    /// Lots held when the day began.
    pub yd_position: i32,
    /// Lots.
    pub position: i32,
    /// Lots opened today that are still held.
    pub today_position: i32,
    /// Lots that working orders would close, of a short position.
    pub long_frozen: i32,
    /// Lots that working orders would close, of a long position.
    pub short_frozen: i32,
    /// Money: price times lots times multiplier, by the last settlement where it is older.
    pub position_cost: Option<f64>,
    /// Money: the same by the prices that it was opened at.
    pub open_cost: Option<f64>,
    /// Money.
    pub position_profit: Option<f64>,
    /// Money.
    pub use_margin: Option<f64>,
}

/// `CThostFtdcTradingAccountField`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AccountRecord {
    /// The account.
    pub account: CompactString,
    /// `CNY`.
    pub currency: CompactString,
    /// `YYYYMMDD`.
    pub trading_day: CompactString,
    /// Equity.
    pub balance: Option<f64>,
    /// What may be used.
    pub available: Option<f64>,
    /// Of working orders.
    pub frozen_margin: Option<f64>,
    /// Of working orders.
    pub frozen_cash: Option<f64>,
    /// Of working orders.
    pub frozen_commission: Option<f64>,
    /// Of positions.
    pub margin: Option<f64>,
    /// Paid today.
    pub commission: Option<f64>,
    /// Today's, of what was closed.
    pub close_profit: Option<f64>,
    /// Today's, of what is held.
    pub position_profit: Option<f64>,
}

/// What `OnRspOrderInsert` and `OnErrRtnOrderInsert` say of the order (`CThostFtdcInputOrderField`). They name no
/// session.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RefusedOrder {
    /// The session's own number for it.
    pub order_ref: CompactString,
    /// The instrument.
    pub symbol: CompactString,
    /// `SHFE`.
    pub exchange: CompactString,
    /// The number of the request, as it was sent with it.
    pub request: i32,
}

/// What `OnRspOrderAction` and `OnErrRtnOrderAction` say of the cancel.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RefusedAction {
    /// The order's reference.
    pub order_ref: CompactString,
    /// The order's front.
    pub front_id: i32,
    /// The order's session.
    pub session_id: i32,
    /// The order's exchange.
    pub exchange: CompactString,
    /// The exchange's number of the order.
    pub order_sys_id: CompactString,
}
