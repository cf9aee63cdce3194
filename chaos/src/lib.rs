//! Breaks a whole installation again and again while clients trade through it, and judges whether anything was lost.
//!
//! A [`fault`] strikes in each round. When all rounds are over, the [`judge`] compares what the clients were told
//! ([`diary`]), what the [`journal`] holds and what the venue took ([`venue_books`]).

pub mod brokers;
pub mod clock;
pub mod diary;
pub mod fault;
pub mod flight;
pub mod journal;
pub mod judge;
pub mod listing;
pub mod process;
pub mod proxy;
pub mod report;
pub mod run;
pub mod site;
pub mod strike;
pub mod trader;
pub mod venue_books;
pub mod wait;
