//! Events: the envelope that every published object travels in, and the objects that describe a gateway itself.

use serde::{Deserialize, Serialize};

use crate::halt::HaltEntry;
use crate::trading::{Account, Order, Position, Quote, Trade};
use crate::value::{LogLevel, Name, Timestamp};

/// The envelope of everything published under `evt.`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event<T> {
    /// Gateway that publishes.
    pub gateway: Name,
    /// Its leadership epoch; an event of a lower epoch than one already seen is stale.
    pub epoch: u64,
    /// Counts from 1 per subject and epoch, so that a reader of any filter sees what it missed.
    pub seq: u64,
    /// The node's clock when it published.
    #[serde(with = "crate::codec::instant")]
    pub time: Timestamp,
    /// The object.
    pub data: T,
}

impl<T> Event<T> {
    /// The same envelope around something else.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Event<U> {
        Event { gateway: self.gateway, epoch: self.epoch, seq: self.seq, time: self.time, data: f(self.data) }
    }
}

/// What happened to trading state: each is journalled before anything that follows from it leaves the node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OmsEvent {
    /// An order is new or changed.
    Order(Order),
    /// A fill.
    Trade(Trade),
    /// A quote is new or changed.
    Quote(Quote),
    /// A position changed.
    Position(Position),
    /// An account changed.
    Account(Account),
}

impl OmsEvent {
    /// The gateway that it belongs to.
    #[must_use]
    pub fn gateway_name(&self) -> &Name {
        match self {
            OmsEvent::Order(x) => &x.gateway_name,
            OmsEvent::Trade(x) => &x.gateway_name,
            OmsEvent::Quote(x) => &x.gateway_name,
            OmsEvent::Position(x) => &x.gateway_name,
            OmsEvent::Account(x) => &x.gateway_name,
        }
    }

    /// The owner, for what has one: positions and accounts belong to the gateway.
    #[must_use]
    pub fn owner(&self) -> Option<&Name> {
        match self {
            OmsEvent::Order(x) => Some(&x.owner),
            OmsEvent::Trade(x) => Some(&x.owner),
            OmsEvent::Quote(x) => Some(&x.owner),
            OmsEvent::Position(_) | OmsEvent::Account(_) => None,
        }
    }

    /// A number that no venue can mean: one that is not finite (JSON cannot hold it), or a negative count of lots filled.
    /// [`OmsState`](crate::OmsState) does not apply such an event.
    #[must_use]
    pub fn malformed_field(&self) -> Option<&'static str> {
        let finite = |value: f64| value.is_finite();
        let finite_or_absent = |value: Option<f64>| value.is_none_or(f64::is_finite);
        let count = |value: f64| value.is_finite() && value >= 0.0;
        let first_bad = |fields: &[(&'static str, bool)]| fields.iter().find(|(_, good)| !good).map(|(name, _)| *name);
        match self {
            OmsEvent::Order(x) => first_bad(&[
                ("price", finite_or_absent(x.price)),
                ("volume", finite(x.volume)),
                ("traded", count(x.traded)),
            ]),
            OmsEvent::Trade(x) => first_bad(&[("price", finite(x.price)), ("volume", count(x.volume))]),
            OmsEvent::Quote(x) => first_bad(&[
                ("bid_price", finite(x.bid_price)),
                ("bid_volume", finite(x.bid_volume)),
                ("ask_price", finite(x.ask_price)),
                ("ask_volume", finite(x.ask_volume)),
                ("bid_traded", count(x.bid_traded)),
                ("ask_traded", count(x.ask_traded)),
            ]),
            OmsEvent::Position(x) => first_bad(&[
                ("volume", finite(x.volume)),
                ("frozen", finite(x.frozen)),
                ("price", finite(x.price)),
                ("pnl", finite(x.pnl)),
                ("yd_volume", finite(x.yd_volume)),
            ]),
            OmsEvent::Account(x) => first_bad(&[
                ("balance", finite(x.balance)),
                ("frozen", finite(x.frozen)),
                ("available", finite(x.available)),
                ("margin", finite_or_absent(x.margin)),
                ("commission", finite_or_absent(x.commission)),
                ("close_profit", finite_or_absent(x.close_profit)),
                ("position_profit", finite_or_absent(x.position_profit)),
            ]),
        }
    }
}

/// How a gateway is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum GatewayState {
    /// Replaying its journal.
    Starting,
    /// Logging in at the venue.
    Connecting,
    /// Logged in, comparing the venue's orders and positions with its own.
    Reconciling,
    /// Orders are taken.
    Ready,
    /// The venue's connection is lost; it logs in again by itself.
    Disconnected,
    /// The venue refused the credentials; it waits for an operator's `connect`.
    Refused,
    /// An operator disconnected it.
    Stopped,
    /// State at the venue is uncertain: orders are refused, cancels flow.
    Dirty,
    /// It broke and needs a restart of its node.
    Failed,
    /// It is shutting down.
    Closing,
    /// A state that this version does not know.
    #[serde(other)]
    Unknown,
}

impl GatewayState {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            GatewayState::Starting => "STARTING",
            GatewayState::Connecting => "CONNECTING",
            GatewayState::Reconciling => "RECONCILING",
            GatewayState::Ready => "READY",
            GatewayState::Disconnected => "DISCONNECTED",
            GatewayState::Refused => "REFUSED",
            GatewayState::Stopped => "STOPPED",
            GatewayState::Dirty => "DIRTY",
            GatewayState::Failed => "FAILED",
            GatewayState::Closing => "CLOSING",
            GatewayState::Unknown => "UNKNOWN",
        }
    }
}

impl std::fmt::Display for GatewayState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A gateway's heartbeat, every second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The gateway.
    pub gateway_name: Name,
    /// How it is doing.
    pub state: GatewayState,
    /// Why, in words, where the state needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its leadership epoch.
    pub epoch: u64,
    /// Sequence of its last stored journal entry.
    pub journal_seq: u64,
    /// The node's clock.
    #[serde(with = "crate::codec::instant")]
    pub time: Timestamp,
    /// The wire's version, see [`crate::PROTOCOL_VERSION`].
    pub protocol_version: u32,
    /// The node's version.
    pub version: Name,
    /// The node's name.
    #[serde(default, skip_serializing_if = "Name::is_empty")]
    pub node: Name,
    /// Kind of venue (`sim`, `ctp`) and its version.
    #[serde(default, skip_serializing_if = "Name::is_empty")]
    pub venue: Name,
    /// The venue's trading day.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::codec::instant::option")]
    pub trading_day: Option<chrono::NaiveDate>,
    /// Owners that may send no new orders; `*` stands for all. Those who may still close are in `halts` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub halted: Vec<Name>,
    /// The halts that concern this gateway: what, why and since when.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub halts: Vec<HaltEntry>,
    /// Instruments with market data subscribed.
    #[serde(default)]
    pub subscriptions: u64,
    /// Contracts known.
    #[serde(default)]
    pub contracts: u64,
    /// Ticks received from the venue in this epoch.
    #[serde(default)]
    pub ticks: u64,
    /// Ticks among them that newer ones replaced before they could be published.
    #[serde(default)]
    pub ticks_conflated: u64,
    /// Journal entries and effects waiting to be stored.
    #[serde(default)]
    pub journal_pending: u64,
    /// Journal sequence of the snapshot that the trading day began with: what had ended on earlier days left the state
    /// there, so a copy that is older takes a snapshot.
    #[serde(default)]
    pub snapshot_seq: u64,
}

/// How far an owner's journalled events have come: an owner who sees only its own still notices a loss.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The gateway.
    pub gateway_name: Name,
    /// The owner.
    pub owner: Name,
    /// Its leadership epoch.
    pub epoch: u64,
    /// Journal sequence of the last event of this owner, or of a position or an account.
    pub journal_seq: u64,
    /// How many such events this epoch has stored, so that one missing in the middle shows.
    pub count: u64,
}

/// A line for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// The gateway that it is about.
    pub gateway_name: Name,
    /// The line.
    pub msg: String,
    /// Its weight.
    pub level: LogLevel,
    /// The node's clock.
    #[serde(with = "crate::codec::instant")]
    pub time: Timestamp,
}
