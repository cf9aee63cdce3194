//! The simulated venue.

pub mod bars;
pub mod feed;
pub mod instruments;
pub mod recorded;
pub mod synthetic;
