//! What the protocol promises, tested from outside: the golden files, and properties over arbitrary values.

mod error_codes;
mod floats;
mod golden;
mod hostile;
mod json_text;
mod oms_state;
mod round_trip;
mod shapes;
mod specimens;
mod strategies;
mod subjects;
