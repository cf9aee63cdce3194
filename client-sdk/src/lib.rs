//! Trades and watches through Gatemesh gateways: connect, stream, call, mirror, run a strategy.
//!
//! Start at [`Client::connect`]. Market data comes from [`Client::ticks`], trading goes through the
//! [`GatewayHandle`] of [`Client::gateway`] or [`Client::route`], a gateway's whole trading state is followed by
//! [`Client::mirror`], and [`strategy::run`] runs a [`Strategy`].
#![warn(missing_docs)]

mod audit;
mod board;
mod call;
mod client;
mod clock;
mod connection;
mod error;
mod feed;
mod follower;
mod gateway;
mod health;
mod journal_stream;
mod mirror;
mod options;
mod queue;
mod route;
mod sending;
mod sequence;
mod snapshot;
pub mod strategy;
mod stream;
mod task;
mod verification;

/// Decisions that the workspace's simulation runs as they are: no part of the interface.
#[doc(hidden)]
pub mod decisions {
    pub use crate::clock::outdates_clock;
    pub use crate::sending::{is_last_word, proves_absence};
    pub use crate::verification::{Place, Verification};
}

pub use audit::{Journal, JournalDay, StoredEntry};
pub use client::{Client, GatewayInfo};
pub use error::Error;
pub use gateway::GatewayHandle;
pub use health::{HealthEvent, HealthStream};
pub use journal_stream::{
    AccountStream, JournalStream, Journalled, OmsStream, OrderStream, PositionStream, QuoteStream, TradeStream,
};
pub use mirror::{Change, Changes, OmsMirror};
pub use options::ConnectOptions;
pub use protocol;
pub use protocol::subject::Filter;
pub use route::Preference;
pub use strategy::Strategy;
pub use stream::{ContractStream, EventStream, LogStream, Missed, MissedCause, StatusStream, TickStream, Update};
