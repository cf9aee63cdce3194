//! What the protocol promises, tested from outside: the golden files, and properties over arbitrary values.

mod golden;
mod json_text;
mod specimens;
