//! Engine, gate, journal's chain, lease, reconciling, venue and clients' rules, in one thread with a virtual clock and a
//! seeded scheduler that may crash, stop, delay, lose, repeat or reorder at any step. The code under test is the code
//! that runs in production; what is simulated is what it stands on: NATS, processes, connections, clocks and a market.
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
