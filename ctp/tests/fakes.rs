//! The binding on the fake libraries, through the same code as on a broker's: every callback, in the families that differ
//! most, and what goes wrong.
#![cfg(target_os = "linux")]

#[path = "fakes/md.rs"]
mod md;
#[path = "fakes/support.rs"]
mod support;
#[path = "fakes/trader.rs"]
mod trader;
