//! Hosts trading gateways and serves them on NATS.

pub mod broker;
pub mod config;
pub mod gateway;
pub mod risk;
