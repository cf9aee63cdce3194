//! Whole-system scenarios: a real nats-server, real nodes, plain NATS clients and the SDK.

mod support;

mod bad_input;
mod calls;
mod crashes;
mod ctp;
mod examples;
mod failover;
mod halts;
mod hostile;
mod isolation;
mod localctp;
mod mirror;
mod plain_client;
mod processes;
mod recorded;
mod restart;
mod risk;
mod slow_reader;
mod terminal;
mod venue;
mod watch;
