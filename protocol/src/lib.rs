//! What travels on Gatemesh's wire **and what it means**: types, subjects, codec, errors, and the state that
//! journalled events add up to. It does no I/O, reads no clock and knows no NATS client.
#![warn(missing_docs)]

pub mod audit;
pub mod codec;
pub mod defect;
pub mod error;
pub mod event;
pub mod halt;
pub mod journal;
pub mod market;
pub mod oms;
pub mod pages;
pub mod rpc;
pub mod subject;
pub mod trading;
pub mod value;

pub use error::{ErrorCode, RpcError};
pub use event::{Event, GatewayState, Head, Log, OmsEvent, Status};
pub use market::{Bar, Contract, Level, Tick};
pub use oms::OmsState;
pub use subject::Subject;
pub use trading::{
    Account, CancelRequest, HistoryRequest, Order, OrderRequest, Position, Quote, QuoteRequest, SubscribeRequest, Trade,
};
pub use value::{
    Currency, Direction, Exchange, InstrumentId, Interval, LogLevel, Name, Offset, OptionType, OrderId, OrderStatus,
    OrderType, Product, Symbol, Timestamp,
};

/// Version of the wire. It rises when a reader of the previous version could misread what is sent; added fields and
/// added enum members do not raise it.
pub const PROTOCOL_VERSION: u32 = 1;
