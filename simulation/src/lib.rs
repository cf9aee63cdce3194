//! Engine, gate, journal's chain, lease, reconciling and venue, and a model of their clients, in one thread with a virtual
//! clock and a seeded scheduler that may crash, stop, delay, lose, repeat or reorder at any step. Those of the node and of
//! the venue are the code that runs in production. What it stands on is modelled: NATS, processes, connections, clocks and
//! a market; and so is what stands around it: the node's loop and its writer, and the SDK's rules.
//!
//! A history is a few hundred steps. After it everything heals and comes to rest, and then no order may be lost, doubled
//! or left unknown, and all copies of the state must agree. The same seed gives the same history.

pub mod client;
pub mod journal_server;
pub mod lease_server;
pub mod node;
pub mod outside;
pub mod schedule;
pub mod step;
pub mod swarm;
pub mod truth;
pub mod venue;
pub mod world;
pub mod writer;
