//! What is measured, and how much of it.

/// What can be measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Group {
    /// Encoding, decoding, CTP's records, the engine: without a server
    Codec,
    /// Ticks as fast as 1 to 64 subscribers take them
    Fanout,
    /// A tick's way at a rate, and its processor time
    Latency,
    /// Calls that only read
    Calls,
    /// Orders until they are accepted
    Orders,
    /// The leader is killed, and a standby takes an order
    Takeover,
    /// Start-up, memory and idle processor time
    Footprint,
    /// A frozen subscriber beside a healthy one
    Frozen,
    /// VeighNa's RpcServer and RpcClient
    Vnpy,
    /// How costs grow with symbols, subscribers, gateways, brokers and nodes; only if it is asked for
    Growth,
}

/// How much.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Rounds of a millisecond over everything that needs no server; odd, so that the median is one of them.
    pub short_rounds: usize,
    /// Rounds over everything that needs one; odd too.
    pub rounds: usize,
    /// Ticks of one round at full speed to one subscriber; fewer to more of them.
    pub ticks: u64,
    /// Rounds at each rate.
    pub latency_rounds: usize,
    /// Calls of one round, one after the other.
    pub calls: u64,
    /// Calls of one round, several at a time.
    pub parallel_calls: u64,
    /// Orders of one round, one after the other.
    pub orders: u64,
    /// Orders of one round, several at a time.
    pub parallel_orders: u64,
    /// Starts of a node.
    pub starts: usize,
    /// How long an idle node is watched, in seconds.
    pub idle_seconds: u64,
    /// Takeovers with a short lease, and with the default one.
    pub takeovers: [usize; 2],
    /// Rounds of the frozen neighbour.
    pub frozen_rounds: usize,
    /// Rounds of everything of VeighNa.
    pub vnpy_rounds: usize,
    /// Rounds of everything that grows.
    pub growth_rounds: usize,
}

impl Plan {
    /// Less than eight minutes.
    pub const FULL: Plan = Plan {
        short_rounds: 501,
        rounds: 9,
        ticks: 200_000,
        latency_rounds: 7,
        calls: 1_000,
        parallel_calls: 20_000,
        orders: 300,
        parallel_orders: 2_000,
        starts: 5,
        idle_seconds: 4,
        takeovers: [5, 3],
        frozen_rounds: 3,
        vnpy_rounds: 5,
        growth_rounds: 3,
    };
    /// A minute and a half: enough to see a change of a third.
    pub const QUICK: Plan = Plan {
        short_rounds: 101,
        rounds: 3,
        ticks: 100_000,
        latency_rounds: 3,
        calls: 300,
        parallel_calls: 2_000,
        orders: 200,
        parallel_orders: 1_000,
        starts: 1,
        idle_seconds: 2,
        takeovers: [1, 0],
        frozen_rounds: 0,
        vnpy_rounds: 1,
        growth_rounds: 1,
    };

    /// How long one round at a rate is: long enough for the rarest quantile that is shown.
    pub fn paced_seconds(&self, rate: f64) -> f64 {
        if rate > 50_000.0 { 0.5 } else { 2.0 }
    }
}
