//! Whole-system scenarios: a real nats-server, real nodes, plain NATS clients and the SDK.

mod support;

mod bad_input;
mod calls;
mod hostile;
mod isolation;
mod mirror;
mod plain_client;
mod recorded;
mod restart;
