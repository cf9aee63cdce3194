//! The simulated venue.

pub mod bars;
pub mod books;
pub mod feed;
pub mod instruments;
pub mod market;
pub mod matching;
pub mod recorded;
pub mod synthetic;
