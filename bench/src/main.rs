//! `cargo xtask bench`: what Gatemesh costs, measured in one run. Trust the ratios, not the nanoseconds: machines
//! differ, and shared ones differ from minute to minute.

mod calls;
mod clock;
mod ctp_record;
mod engine;
mod far_side;
mod feed;
mod flat;
mod frozen;
mod machine;
mod measure;
mod oms;
mod plan;
mod recorded;
mod series;
mod site;
mod table;
mod ticks;
mod venue;
mod wire;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};

use crate::far_side::Hosts;
use crate::plan::Plan;
use crate::series::Series;
use crate::site::Site;

/// What Gatemesh costs, as ratios to bare NATS.
#[derive(Parser)]
#[command(name = "bench", max_term_width = 110)]
struct Args {
    /// Half a minute instead of three, with wider spreads and without the frozen neighbour
    #[arg(long)]
    quick: bool,
    /// Only this part
    #[arg(long)]
    only: Option<Part>,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What can be measured by itself.
#[derive(Clone, Copy, ValueEnum)]
enum Part {
    /// Encoding and decoding: needs no server
    Codec,
}

#[derive(Subcommand)]
enum Role {
    /// The other process of a measurement; started by this program itself
    #[command(hide = true)]
    FarSide {
        /// The server
        url: String,
        /// What it hosts
        hosts: Hosts,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    // A task, so that what is measured runs where tasks run and not on a thread that has to be woken beside them.
    let done = match args.role {
        Some(Role::FarSide { url, hosts }) => tokio::spawn(async move { far_side::run(&url, hosts).await }),
        None => {
            let plan = if args.quick { Plan::QUICK } else { Plan::FULL };
            match args.only {
                Some(Part::Codec) => tokio::spawn(async move { measure_codec(plan.short_rounds).await }),
                None => tokio::spawn(measure_all(plan)),
            }
        }
    };
    done.await.context("a measurement panicked")?
}

async fn measure_codec(rounds: usize) -> anyhow::Result<()> {
    let all = tokio::task::spawn_blocking(move || {
        measure::series([wire::cases(), ctp_record::cases()].into_iter().flatten().collect(), rounds)
    })
    .await?;
    report(&all, &[wire::NOTES, ctp_record::NOTES].concat());
    Ok(())
}

async fn measure_all(plan: Plan) -> anyhow::Result<()> {
    let machine = machine::description().await?;
    eprintln!("without a server ...");
    let mut all = tokio::task::spawn_blocking(move || without_server(plan.short_rounds)).await?;
    eprintln!("a node and a client ...");
    let mut site = Site::start().await?;
    all.extend(ticks::series(&mut site, &plan).await?);
    all.extend(calls::series(&site, &plan).await?);
    site.stop().await?;
    let frozen = frozen::series(&plan).await?;
    let frozen_notes = if frozen.is_empty() { &[] } else { frozen::NOTES };
    all.extend(frozen);

    println!("{machine}\n");
    report(&all, &[wire::NOTES, ctp_record::NOTES, engine::NOTES, ticks::NOTES, calls::NOTES, frozen_notes].concat());
    Ok(())
}

fn report(all: &[Series], notes: &[&str]) {
    println!("{}", table::markdown(all));
    println!(
        "- Ratios are medians of the rounds' own ratios, ours and theirs in turn: what disturbs one disturbs both."
    );
    for note in notes {
        println!("- {note}");
    }
}

fn without_server(rounds: usize) -> Vec<Series> {
    let mut cases = wire::cases();
    cases.extend(ctp_record::cases());
    cases.extend(oms::cases());
    cases.extend(engine::cases());
    measure::series(cases, rounds)
}
