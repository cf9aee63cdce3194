//! Calls: every method's name, parameters and result, and the headers that travel with them.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec::decode;
use crate::error::{ErrorCode, RpcError};
use crate::event::{Event, OmsEvent};
use crate::halt::HaltEntry;
use crate::value::{Direction, Exchange, InstrumentId, Name, OrderId, Symbol};

/// Request header: the deadline, in milliseconds since 1970 **on the node's clock**. Required by orders, quotes and cancels.
pub const HEADER_DEADLINE: &str = "Gatemesh-Deadline";
/// Request header beside the deadline: the epoch (`Status.epoch`) of the leader on whose clock it was set. A leader of
/// another epoch refuses an order or a quote that names it: clocks of two leaders cannot be compared. It may be left out.
pub const HEADER_DEADLINE_EPOCH: &str = "Gatemesh-Deadline-Epoch";
/// Request header: names the calling program, so that market data subscriptions are counted per caller.
pub const HEADER_CLIENT: &str = "Gatemesh-Client";
/// Request header: W3C trace context.
pub const HEADER_TRACEPARENT: &str = "traceparent";
/// Reply header of an error, as the NATS service convention (ADR-32) defines it: the message.
pub const HEADER_ERROR: &str = "Nats-Service-Error";
/// Reply header of an error, as the NATS service convention (ADR-32) defines it: a number in the manner of HTTP.
pub const HEADER_ERROR_CODE: &str = "Nats-Service-Error-Code";

macro_rules! methods {
    ($($(#[$meta:meta])* $variant:ident = $text:literal,)+) => {
        /// The methods that every gateway serves.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Method { $($(#[$meta])* $variant,)+ }

        impl Method {
            /// Every method, in the order of the documentation.
            pub const ALL: &'static [Method] = &[$(Method::$variant,)+];

            /// The method's name: the third token of its subject.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Method::$variant => $text,)+ }
            }

            /// The method of that name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Method> {
                match name { $($text => Some(Method::$variant),)+ _ => None }
            }
        }
    };
}

methods! {
    /// `{}` → [`crate::Status`].
    GetStatus = "get_status",
    /// [`GetEvents`] → [`EventsPage`].
    GetEvents = "get_events",
    /// [`crate::SubscribeRequest`] → [`Done`].
    Subscribe = "subscribe",
    /// [`crate::SubscribeRequest`] → [`Done`].
    Unsubscribe = "unsubscribe",
    /// [`crate::OrderRequest`] → [`crate::Order`].
    SendOrder = "send_order",
    /// [`crate::CancelRequest`] → [`Done`] once the cancel is on its way; the order's events tell how it went.
    CancelOrder = "cancel_order",
    /// [`CancelAll`] → [`CancelledAll`].
    CancelAll = "cancel_all",
    /// [`crate::QuoteRequest`] → [`crate::Quote`].
    SendQuote = "send_quote",
    /// [`crate::CancelRequest`], the quote's id as `orderid` → [`Done`] once the cancel is on its way.
    CancelQuote = "cancel_quote",
    /// [`QueryHistory`] → [`Page`] of [`crate::Bar`].
    QueryHistory = "query_history",
    /// `{}` → [`Page`] of [`crate::Account`], asked afresh at the venue.
    QueryAccount = "query_account",
    /// `{}` → [`Page`] of [`crate::Position`], asked afresh at the venue.
    QueryPosition = "query_position",
    /// [`GetInstrument`] → [`Event`] of [`crate::Tick`], or null.
    GetTick = "get_tick",
    /// [`GetOrder`] → [`crate::Order`], or null.
    GetOrder = "get_order",
    /// [`GetTrade`] → [`crate::Trade`], or null.
    GetTrade = "get_trade",
    /// [`GetOrder`], the quote's id as `orderid` → [`crate::Quote`], or null.
    GetQuote = "get_quote",
    /// [`GetPosition`] → [`crate::Position`], or null.
    GetPosition = "get_position",
    /// [`GetAccount`] → [`crate::Account`], or null.
    GetAccount = "get_account",
    /// [`GetInstrument`] → [`crate::Contract`], or null.
    GetContract = "get_contract",
    /// [`List`] → [`Page`] of [`Event`] of [`crate::Tick`].
    GetAllTicks = "get_all_ticks",
    /// [`List`] → [`Page`] of [`crate::Order`].
    GetAllOrders = "get_all_orders",
    /// [`List`] → [`Page`] of [`crate::Order`].
    GetAllActiveOrders = "get_all_active_orders",
    /// [`List`] → [`Page`] of [`crate::Trade`].
    GetAllTrades = "get_all_trades",
    /// [`List`] → [`Page`] of [`crate::Quote`].
    GetAllQuotes = "get_all_quotes",
    /// [`List`] → [`Page`] of [`crate::Quote`].
    GetAllActiveQuotes = "get_all_active_quotes",
    /// [`List`] → [`Page`] of [`crate::Position`].
    GetAllPositions = "get_all_positions",
    /// [`List`] → [`Page`] of [`crate::Account`].
    GetAllAccounts = "get_all_accounts",
    /// [`List`] → [`Page`] of [`crate::Contract`].
    GetAllContracts = "get_all_contracts",
    /// [`Halt`] → [`Halted`].
    Halt = "halt",
    /// [`Resume`] → [`Halted`].
    Resume = "resume",
    /// `{}` → [`Done`]: logs in at the venue, also after a refusal.
    Connect = "connect",
    /// `{}` → [`Done`]: logs out and stays out.
    Disconnect = "disconnect",
}

impl Method {
    /// Whether a request without a deadline is refused: what trades must not be delivered late.
    #[must_use]
    pub const fn needs_deadline(self) -> bool {
        matches!(
            self,
            Method::SendOrder | Method::CancelOrder | Method::CancelAll | Method::SendQuote | Method::CancelQuote
        )
    }
}

/// Until when a call may be executed, as [`HEADER_DEADLINE`] and [`HEADER_DEADLINE_EPOCH`] say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// In milliseconds since 1970, on the node's clock.
    pub ms: i64,
    /// The epoch of the leader whose clock that is, if the caller says so.
    pub epoch: Option<u64>,
}

/// The result of a method that has nothing to say: `{}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Done {}

/// No parameters: `{}`; [`read_params`] takes an empty payload and `null` for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NoParams {}

/// Part of a list: ask again with `next` as `cursor` until there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The items, in the list's own stable order.
    pub items: Vec<T>,
    /// Where the next page begins; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Journal position that the items reflect, for orders, trades, quotes, positions and accounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal_seq: Option<u64>,
}

/// Parameters of the lists.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct List {
    /// `next` of the page before; the first page if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Most items wanted; the node caps it, and a page is at most about half a megabyte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Only of this symbol, where the items have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol: Option<Symbol>,
    /// Only of this exchange, where the items have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<Exchange>,
    /// Only of this owner, where the items have one and the caller may see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Name>,
}

/// Parameters of `get_tick` and `get_contract`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetInstrument {
    /// The venue's spelling.
    pub symbol: Symbol,
    /// Where it trades.
    pub exchange: Exchange,
}

impl GetInstrument {
    /// The instrument.
    #[must_use]
    pub fn instrument(&self) -> InstrumentId {
        InstrumentId { symbol: self.symbol.clone(), exchange: self.exchange }
    }
}

/// Parameters of `get_order` and `get_quote`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetOrder {
    /// The id.
    pub orderid: OrderId,
    /// Whose; the caller's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Name>,
}

/// Parameters of `get_trade`: the first trade that matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetTrade {
    /// The venue's id.
    pub tradeid: Name,
    /// Which trading day's.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::codec::instant::option")]
    pub trading_day: Option<chrono::NaiveDate>,
    /// Of which instrument: the legs of a combination may share the rest. The venue's spelling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol: Option<Name>,
    /// Which exchange's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<Exchange>,
    /// Which side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
}

/// Parameters of `get_position`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetPosition {
    /// The venue's spelling.
    pub symbol: Symbol,
    /// Where it trades.
    pub exchange: Exchange,
    /// Side.
    pub direction: Direction,
}

/// Parameters of `get_account`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetAccount {
    /// The venue's name of the account.
    pub accountid: Name,
}

/// Parameters of `query_history`: a [`crate::HistoryRequest`] and the page wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryHistory {
    /// What is wanted.
    #[serde(flatten)]
    pub request: crate::trading::HistoryRequest,
    /// `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Most bars wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Parameters of `get_events`, the refill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetEvents {
    /// Journal position behind which to read; `TOO_OLD` if what follows it is no longer kept.
    pub after: u64,
    /// Most events wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Only of this owner (positions and accounts come too).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Name>,
}

/// A journalled event at its position.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalEvent {
    /// Sequence in the journal: what `Nats-Sequence` says of the published copy.
    pub journal_seq: u64,
    /// The event.
    pub event: Event<OmsEvent>,
}

/// Result of `get_events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventsPage {
    /// The events, in order.
    pub items: Vec<JournalEvent>,
    /// Everything up to here was looked at: ask again with it as `after`.
    pub scanned: u64,
    /// The journal's end when it was read: there is more if `scanned` is below it.
    pub last: u64,
}

/// Parameters of `cancel_all`: the caller's working orders and quotes, all or of one instrument.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelAll {
    /// Only of this symbol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol: Option<Symbol>,
    /// Only of this exchange.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<Exchange>,
}

/// Result of `cancel_all`: what a cancel was sent for, and what could not be sent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CancelledAll {
    /// Ids of orders and quotes whose cancel is on its way.
    pub orderids: Vec<OrderId>,
    /// Those whose cancel the adapter refused, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<CancelFailure>,
}

/// A cancel that could not be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelFailure {
    /// Which order or quote.
    pub orderid: OrderId,
    /// Why.
    pub error: RpcError,
}

/// Parameters of `halt`: no new orders and quotes from now on; cancels still flow. At most one of `owner`, `account` and
/// `all`; without any of them everybody is halted on the gateway that is asked.
///
/// It holds at once on the gateway that is asked, and is answered when every other gateway will hear of it. An order
/// that has left for the venue already is not called back: `cancel` cancels it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Halt {
    /// This owner, on every gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Name>,
    /// Everybody, on the gateways that trade for this account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Name>,
    /// Everybody, on every gateway.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// Why, for whoever reads the status.
    #[serde(default)]
    pub reason: String,
    /// Also cancel what is working; with `reduce_only`, what opens a position of it.
    #[serde(default)]
    pub cancel: bool,
    /// With `cancel`: also what the owner `external` has working, orders that were found at the venue.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub external: bool,
    /// Halt what opens only: what lessens a position may still be sent. It never loosens a halt that is there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reduce_only: bool,
}

/// Parameters of `resume`: ends the halt of the same target, and no other. At most one of `owner`, `account`, `all` and
/// `key`; without any of them the halt of the gateway that is asked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// The halt of this owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Name>,
    /// The halt of this account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Name>,
    /// The halt of everything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// The halt of this key in the bucket, whatever it says: for a key that is none of the other targets'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Name>,
    /// Do not end it: leave what opens halted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reduce_only: bool,
}

/// Result of `halt` and `resume`: how it stands now on the gateway that was asked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Halted {
    /// Owners that may send no new orders; `*` stands for everybody.
    pub halted: Vec<Name>,
    /// The halts that concern the gateway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub halts: Vec<HaltEntry>,
    /// What it was to cancel and has not, if there is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncancelled: Option<Uncancelled>,
}

/// Orders and quotes that a halt is to cancel and whose cancel could not be sent yet. It is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uncancelled {
    /// How many.
    pub count: u64,
    /// Why the first of them could not be sent.
    pub error: RpcError,
}

/// Reads a request's parameters. An empty payload and `null` stand for `{}`.
///
/// # Errors
/// `BAD_REQUEST` naming the field.
pub fn read_params<T: DeserializeOwned>(payload: &[u8]) -> Result<T, RpcError> {
    let payload = match payload.trim_ascii() {
        b"" | b"null" => b"{}",
        payload => payload,
    };
    decode(payload).map_err(|error| RpcError::new(ErrorCode::BadRequest, error.to_string()))
}

/// Reads an error reply: its body, or where that is none of ours, the service convention's headers. A number that
/// several codes share is read as the one that promises least.
#[must_use]
pub fn read_error(header_message: &str, header_number: &str, body: &[u8]) -> RpcError {
    serde_json::from_slice(body).unwrap_or_else(|_| {
        let code = match header_number {
            "400" => ErrorCode::BadRequest,
            "403" => ErrorCode::NotPermitted,
            "404" => ErrorCode::NotFound,
            "429" => ErrorCode::Overloaded,
            "503" => ErrorCode::ShuttingDown,
            _ => ErrorCode::Unknown,
        };
        RpcError::new(code, format!("{header_message} ({header_number})"))
    })
}
