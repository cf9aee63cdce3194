//! Whole-system scenarios: a real nats-server, real nodes, plain NATS clients and the SDK.

mod support;

mod bad_input;
mod calls;
mod crashes;
mod examples;
mod failover;
mod hostile;
mod isolation;
mod mirror;
mod plain_client;
mod processes;
mod recorded;
mod restart;
mod terminal;
mod venue;
mod watch;
