//! What the protocol promises, tested from outside: the golden files, and properties over arbitrary values.

mod golden;
mod json_text;
mod round_trip;
mod specimens;
mod strategies;
mod subjects;
