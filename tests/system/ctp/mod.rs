//! The CTP gateway in real nodes, against fake libraries that do as a script says: what the counter answers, refuses,
//! loses, repeats, and what is left when somebody is killed.

mod burst;
mod days;
mod login;
mod mistakes;
mod outages;
mod site;
mod takeover;
mod trading;
