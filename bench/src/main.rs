//! `cargo run --release -p bench`: what Gatemesh costs, measured in one run. Trust the ratios, not the nanoseconds:
//! machines differ, and shared ones differ from minute to minute.

mod measure;
mod oms;
mod recorded;
mod table;
mod wire;

fn main() {
    let mut cases = wire::cases();
    cases.extend(oms::cases());
    println!("{}", table::markdown(&measure::rows(cases)));
    for note in wire::NOTES {
        println!("- {note}");
    }
}
