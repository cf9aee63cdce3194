//! The simulated venue.

pub mod books;
pub mod market;
pub mod matching;
