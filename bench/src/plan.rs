//! How much of everything is measured.

/// How much.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Rounds of a millisecond over everything that needs no server; odd, so that the median is one of them.
    pub short_rounds: usize,
    /// Rounds over everything that needs one; odd too.
    pub rounds: usize,
    /// Ticks of one round at full speed.
    pub ticks: u64,
    /// Ticks of one round at a rate.
    pub paced_ticks: u64,
    /// Orders and calls of one round, one after the other.
    pub calls: u64,
    /// Orders of one round, several at a time.
    pub parallel_orders: u64,
    /// Rounds of the frozen neighbour.
    pub frozen_rounds: usize,
}

impl Plan {
    /// Three minutes.
    pub const FULL: Plan = Plan {
        short_rounds: 501,
        rounds: 9,
        ticks: 200_000,
        paced_ticks: 20_000,
        calls: 500,
        parallel_orders: 3_000,
        frozen_rounds: 3,
    };
    /// Half a minute: enough to see a change of a third.
    pub const QUICK: Plan = Plan {
        short_rounds: 101,
        rounds: 5,
        ticks: 100_000,
        paced_ticks: 10_000,
        calls: 300,
        parallel_orders: 1_000,
        frozen_rounds: 0,
    };
}
