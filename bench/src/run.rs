//! One run: group after group, and the table at the end.

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;

use crate::plan::{Group, Plan};
use crate::series::{Series, merge_vnpy};
use crate::site::Site;
use crate::{
    calls, ctp_record, engine, fanout, footprint, frozen, growth, latency, machine, measure, oms, orders, table,
    takeover, vnpy, wire,
};

const RATIOS: &str = "Each cell: the median of the rounds, and their quartiles. Ratios are medians of the rounds' own \
                      ratios, ours and bare in turn: what disturbs one disturbs both.";

/// Measures these groups, or all but growth, which has a word of its own; prints the table, and writes it where asked.
///
/// # Errors
/// If something fails, or is not as it must be: a tick lost, an order missing.
pub async fn run(plan: &Plan, only: &[Group], growth: bool, save: Option<&Path>) -> anyhow::Result<()> {
    let began = Instant::now();
    let machine = machine::description().await?;
    let is_wanted = |group: Group| only.is_empty() || only.contains(&group);
    let mut rows = Rows { all: Vec::new(), notes: vec![RATIOS.to_owned()], began };

    if is_wanted(Group::Codec) {
        rows.tell("codec and engine, without a server");
        let rounds = plan.short_rounds;
        let series = tokio::task::spawn_blocking(move || without_server(rounds)).await?;
        rows.add(series, &[wire::NOTES, ctp_record::NOTES, engine::NOTES].concat());
    }
    if [Group::Fanout, Group::Latency, Group::Calls, Group::Orders].into_iter().any(is_wanted) {
        rows.tell("a node and clients");
        let mut site = Site::start().await?;
        at_a_site(&mut rows, &mut site, plan, is_wanted).await?;
        site.stop().await?;
    }
    if is_wanted(Group::Takeover) {
        rows.tell("takeovers");
        rows.add(takeover::series(plan).await?, takeover::NOTES);
    }
    if is_wanted(Group::Footprint) {
        rows.tell("starts, memory, idleness");
        rows.add(footprint::series(plan).await?, footprint::NOTES);
    }
    if is_wanted(Group::Frozen) && plan.frozen_rounds > 0 {
        rows.tell("a frozen neighbour");
        rows.add(frozen::series(plan).await?, frozen::NOTES);
    }
    if is_wanted(Group::Vnpy) {
        rows.tell("vnpy");
        match vnpy::python() {
            Some(python) => {
                let (series, notes) = tokio::task::block_in_place(|| vnpy::series(&python, plan))?;
                merge_vnpy(&mut rows.all, series);
                rows.notes.extend(notes);
            }
            None => eprintln!("{}", vnpy::LEFT_OUT),
        }
    }

    let mut tables = Vec::new();
    if growth || only.contains(&Group::Growth) {
        tables = growth::tables(plan, |what| rows.tell(what)).await?;
        rows.add(Vec::new(), growth::NOTES);
    }

    let text = report(&machine, &rows.all, &tables, &rows.notes);
    println!("{text}");
    if let Some(file) = save {
        std::fs::write(file, format!("# Benchmarks\n\nThe last run of `cargo xtask bench`.\n\n{text}"))
            .with_context(|| format!("writing {}", file.display()))?;
    }
    rows.tell("done");
    Ok(())
}

async fn at_a_site(
    rows: &mut Rows,
    site: &mut Site,
    plan: &Plan,
    is_wanted: impl Fn(Group) -> bool,
) -> anyhow::Result<()> {
    if is_wanted(Group::Fanout) {
        rows.tell("ticks to many");
        let series = tokio::task::block_in_place(|| fanout::series(site, plan))?;
        rows.add(series, fanout::NOTES);
    }
    if is_wanted(Group::Latency) {
        rows.tell("ticks at a rate");
        let (series, notes) = tokio::task::block_in_place(|| latency::series(site, plan))?;
        rows.add(series, latency::NOTES);
        rows.notes.extend(notes);
    }
    if is_wanted(Group::Calls) {
        rows.tell("calls");
        rows.add(calls::series(site, plan).await?, calls::NOTES);
    }
    if is_wanted(Group::Orders) {
        rows.tell("orders");
        rows.add(orders::series(site, plan).await?, orders::NOTES);
    }
    Ok(())
}

fn without_server(rounds: usize) -> Vec<Series> {
    let mut cases = wire::cases();
    cases.extend(ctp_record::cases());
    cases.extend(oms::cases());
    cases.extend(engine::cases());
    measure::series(cases, rounds)
}

/// What a run has come to so far.
struct Rows {
    all: Vec<Series>,
    notes: Vec<String>,
    began: Instant,
}

impl Rows {
    fn add(&mut self, series: Vec<Series>, notes: &[&str]) {
        self.all.extend(series);
        self.notes.extend(notes.iter().map(|note| (*note).to_owned()));
    }

    /// Tells the person who waits what is next.
    fn tell(&self, what: &str) {
        eprintln!("{:>4} s  {what}", self.began.elapsed().as_secs());
    }
}

/// The machine, the table if it has rows, more tables, and notes.
fn report(machine: &str, all: &[Series], more: &[String], notes: &[String]) -> String {
    let mut parts = vec![format!("{machine}\n")];
    if !all.is_empty() {
        parts.push(table::markdown(all));
    }
    parts.extend_from_slice(more);
    if !more.is_empty() {
        parts.push("## Notes\n".to_owned());
    }
    parts.push(notes.iter().map(|note| format!("- {note}\n")).collect());
    parts.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::Unit;

    #[test]
    fn a_report_is_machine_table_and_notes() {
        let mut series = Series::new("x", Unit::Nanoseconds);
        series.push(1.0);
        let notes = ["One.".to_owned(), "Two.".to_owned()];
        let text = report("a machine", &[series], &[], &notes);
        assert!(text.starts_with("a machine\n\n| what "), "{text}");
        assert!(text.ends_with(" |\n\n- One.\n- Two.\n"), "{text}");
        let text = report("a machine", &[], &["## More\n".to_owned()], &notes);
        assert_eq!(text, "a machine\n\n## More\n\n## Notes\n\n- One.\n- Two.\n");
    }
}
