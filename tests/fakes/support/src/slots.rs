//! The methods of a table in the order of their slots, from the facts.

const FACTS: &str = include_str!("../../../../ctp/src/facts/slots.txt");

/// The methods of a block: `trader-api`, `trader-spi`, `md-api` or `md-spi`, of a family or of `all`.
pub fn methods(block: &str, family: &str) -> Vec<&'static str> {
    let start = format!("[{block} {family} ");
    let lines = FACTS.lines().skip_while(|line| !line.starts_with(&start)).skip(1);
    lines.take_while(|line| !line.starts_with('[')).flat_map(str::split_whitespace).collect()
}
