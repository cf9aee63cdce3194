//! Hosts trading gateways and serves them on NATS.

pub mod gateway;
pub mod risk;
