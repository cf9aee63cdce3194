//! `cargo xtask bench`: what Gatemesh costs, measured in one run. Trust the ratios, not the nanoseconds: machines
//! differ, and shared ones differ from minute to minute.

mod bare;
mod calls;
mod clock;
mod ctp_record;
mod engine;
mod fanout;
mod far_side;
mod feed;
mod flat;
mod footprint;
mod frozen;
mod growth;
mod latency;
mod machine;
mod measure;
mod oms;
mod orders;
mod peer;
mod plan;
mod real_node;
mod recorded;
mod run;
mod series;
mod site;
mod subscriber;
mod subscribers;
mod table;
mod takeover;
mod timing;
mod usage;
mod venue;
mod vnpy;
mod wire;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use crate::far_side::{Extent, Hosts};
use crate::feed::Side;
use crate::plan::{Group, Plan};

/// What Gatemesh costs, beside bare NATS and VeighNa's RPC.
#[derive(Parser)]
#[command(name = "bench", max_term_width = 110)]
struct Args {
    /// A minute and a half instead of seven, with wider spreads and without the frozen neighbour
    #[arg(long)]
    quick: bool,
    /// Only these; everything if not said
    #[arg(long, value_name = "NAME", num_args = 1..)]
    only: Vec<Group>,
    /// Also how costs grow with symbols, subscribers, gateways, brokers and nodes: six minutes more
    #[arg(long)]
    growth: bool,
    /// Also writes the table into this file
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    #[command(subcommand)]
    role: Option<Role>,
}

/// The other processes of a measurement; started by this program itself.
#[derive(Subcommand)]
enum Role {
    /// Sends and answers
    #[command(hide = true)]
    FarSide {
        url: String,
        hosts: Hosts,
        #[command(flatten)]
        extent: Extent,
    },
    /// Receives
    #[command(hide = true)]
    Subscriber { url: String, side: Side, connections: usize, streams: usize },
    /// Follows a thousand symbols
    #[command(hide = true)]
    Follower { url: String, side: Side },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Args { quick, only, growth, save, role } = Args::parse();
    let plan = if quick { Plan::QUICK } else { Plan::FULL };
    // A task, so that what is measured runs where tasks run and not on a thread that has to be woken beside them.
    let done = match role {
        Some(Role::FarSide { url, hosts, extent }) => {
            tokio::spawn(async move { far_side::run(&url, hosts, extent).await })
        }
        Some(Role::Subscriber { url, side, connections, streams }) => {
            tokio::spawn(async move { subscriber::run(&url, side, connections, streams).await })
        }
        Some(Role::Follower { url, side }) => tokio::spawn(async move { footprint::follow(&url, side).await }),
        None => tokio::spawn(async move { run::run(&plan, &only, growth, save.as_deref()).await }),
    };
    done.await.context("a measurement panicked")?
}
