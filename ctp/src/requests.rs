//! What CTP is asked, as owned values; how they are laid out in memory is the binding's business.

use compact_str::CompactString;

/// A request to the trader library. Broker and user go with each: see [`Identity`].
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// `ReqAuthenticate`.
    Authenticate,
    /// `ReqUserLogin`.
    Login,
    /// `ReqSettlementInfoConfirm`.
    ConfirmSettlement,
    /// `ReqQryInstrument`: all of them.
    QueryInstruments,
    /// `ReqQryOrder`: today's.
    QueryOrders,
    /// `ReqQryTrade`: today's.
    QueryTrades,
    /// `ReqQryInvestorPosition`: all of them.
    QueryPositions,
    /// `ReqQryTradingAccount`.
    QueryAccount,
    /// `ReqOrderInsert`.
    InsertOrder(InsertOrder),
    /// `ReqOrderAction`, to cancel.
    CancelOrder(CancelOrder),
}

/// Who asks.
#[derive(Clone, Default)]
pub struct Identity {
    /// `9999`.
    pub broker: CompactString,
    /// The user, who is the investor too.
    pub user: CompactString,
    /// Never shown.
    pub password: String,
    /// `UserProductInfo`.
    pub product_info: CompactString,
    /// `AppID`.
    pub app_id: CompactString,
    /// Never shown; without one nobody authenticates.
    pub auth_code: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("broker", &self.broker).field("user", &self.user).finish_non_exhaustive()
    }
}

/// An order's fields beyond what never changes (speculation, immediately, minimum volume 1, not forced).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct InsertOrder {
    /// The session's own number for it.
    pub order_ref: u64,
    /// The instrument.
    pub symbol: CompactString,
    /// `SHFE`.
    pub exchange: CompactString,
    /// `0` buy, `1` sell.
    pub direction: u8,
    /// `0` open, `1` close, `3` close today, `4` close yesterday.
    pub offset: u8,
    /// `1` any price, `2` limit.
    pub price_type: u8,
    /// 0 for any price.
    pub price: f64,
    /// Lots.
    pub volume: i32,
    /// `1` immediate or cancel, `3` good for the day.
    pub time_condition: u8,
    /// `1` any volume, `3` all of it.
    pub volume_condition: u8,
}

/// Which order to cancel, by either of its keys.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CancelOrder {
    /// The instrument.
    pub symbol: CompactString,
    /// `SHFE`.
    pub exchange: CompactString,
    /// How the order is named.
    pub key: CancelKey,
}

/// The two keys of an order.
#[derive(Debug, Clone, PartialEq)]
pub enum CancelKey {
    /// By the session that sent it.
    Session {
        /// Its front.
        front_id: i32,
        /// Its session.
        session_id: i32,
        /// As the session wrote it.
        order_ref: CompactString,
    },
    /// By the exchange's number, exactly as the exchange wrote it.
    Exchange {
        /// With its leading spaces.
        order_sys_id: CompactString,
    },
}

impl Default for CancelKey {
    fn default() -> Self {
        CancelKey::Exchange { order_sys_id: CompactString::default() }
    }
}
