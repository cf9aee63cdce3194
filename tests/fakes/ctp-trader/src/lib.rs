//! A stand-in for `libthosttraderapi_se.so`: the same exported symbols, the same tables slot by slot for each family, and
//! a small counter that does what a script says. How a test tells it what to do is in `ctp_fake`.
//!
//! Ordinarily: it connects at `Init`, takes any login, finds nothing when it is asked, and fills every order at its price.
//! With a `market` in its script it matches them against that instead, and positions and account follow from the fills.
//! Every login is a new session, and tells `today` and then all that happened to the orders, as the topics' RESTART does.

#![allow(unsafe_code)]

mod api;
mod book;
mod counter;
mod holdings;
mod ledger;
