//! Hosts trading gateways and serves them on NATS.

pub mod engine;
pub mod gateway;
pub mod journal;
pub mod node;
pub mod publisher;
pub mod reconcile;
pub mod risk;
pub mod rpc;
