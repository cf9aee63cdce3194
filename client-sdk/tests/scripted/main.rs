//! The SDK against a node that does exactly what a test says, over a real nats-server.

mod calls;
mod health;
mod journal;
mod sending;
mod strategy;
mod support;
mod ticks;
