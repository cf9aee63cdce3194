//! What can be typed: commands, options, and the sentences for what is typed wrong.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, TimeZone};
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum, ValueHint};
use protocol::subject::Filter;
use protocol::{
    Direction, Exchange, HistoryRequest, InstrumentId, Interval, LogLevel, Name, Offset, OrderId, OrderRequest,
    OrderType, Timestamp,
};

const EXIT_CODES: &str = "\
Exit codes:
  0    done; also when there is nothing to list, and when Ctrl-C ends a command that streams
  1    the gateway (or the venue behind it) refused; the error code is printed
  2    the command line is wrong; nothing was sent
  3    not reachable: no NATS server, or the gateway is not running
  4    no answer in time, or the outcome is unknown: an order may have been executed; its id is printed
  5    something failed on this machine, such as writing the output
  130  Ctrl-C before a command that ends by itself was done

Examples:
  gatectl status
  gatectl ticks rb2410.SHFE
  gatectl send rb2410.SHFE buy 2 --price 3500
  gatectl --server nats://10.0.0.7:4222 -g ctp1 positions --json";

/// Gatemesh at the terminal: look at gateways and trade through them.
#[derive(Debug, Parser)]
#[command(name = "gatectl", version, after_help = EXIT_CODES, max_term_width = 110)]
pub struct Args {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// NATS server; several addresses are separated by commas
    #[arg(
        long,
        env = "GATEMESH_SERVER",
        default_value = "nats://127.0.0.1:4222",
        global = true,
        value_name = "URL",
        value_hint = ValueHint::Url
    )]
    pub server: String,

    /// Gateway to ask [default: all for lists; to act, the only one there is, or the one that trades the contract]
    #[arg(long, short, global = true, value_name = "NAME", value_parser = gateway_name)]
    pub gateway: Option<Name>,

    /// NATS credentials file, where the server asks for one
    #[arg(long, env = "GATEMESH_CREDENTIALS", global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub credentials: Option<PathBuf>,

    /// PEM file with the certificates to trust, where the server speaks TLS under a private one
    #[arg(long, env = "GATEMESH_CA", global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub ca: Option<PathBuf>,

    /// How long to wait for an answer; an order that cannot be on its way by then is never sent
    #[arg(long, global = true, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub timeout: Duration,

    /// One JSON object a line, exactly as the protocol defines it
    #[arg(long, global = true)]
    pub json: bool,

    /// When to colour; `auto` colours a terminal unless NO_COLOR is set
    #[arg(long, global = true, value_enum, default_value_t = ColorChoice::Auto, value_name = "WHEN")]
    pub color: ColorChoice,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    Auto,
    Always,
    Never,
}

impl ColorChoice {
    /// Whether to colour, given whether the output is a terminal and whether NO_COLOR is set (and not empty).
    #[must_use]
    pub fn enabled(self, is_terminal: bool, no_color: bool) -> bool {
        match self {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => is_terminal && !no_color,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Gateways that are running, and how they are doing
    #[command(after_help = "Examples:\n  gatectl status\n  gatectl status --follow\n  gatectl status --json")]
    Status(StatusArgs),

    /// Live ticks, until Ctrl-C
    #[command(
        after_help = "Lost or skipped ticks are reported where they are missing (with --json on standard error).\n\n\
        Examples:\n  gatectl ticks rb2410.SHFE\n  gatectl ticks '*.SHFE' --subscribe no\n  \
        gatectl ticks '>' -n 100 --json\n  gatectl -g ctp1 ticks IF2409.CFFEX"
    )]
    Ticks(TicksArgs),

    /// Orders of this trading day
    #[command(after_help = "Examples:\n  gatectl orders --active\n  gatectl orders --instrument '*.SHFE'\n  \
        gatectl orders 01922f3c-7c1e-7a50-b1f6-0c4f6f0f1a2b\n  gatectl orders --follow --json")]
    Orders(OrdersArgs),

    /// Trades of this trading day
    #[command(after_help = "Examples:\n  gatectl trades\n  gatectl trades --instrument rb2410.SHFE --follow")]
    Trades(TradesArgs),

    /// Two-sided quotes of this trading day
    #[command(after_help = "Examples:\n  gatectl quotes --active\n  gatectl quotes --follow")]
    Quotes(QuotesArgs),

    /// Positions held
    #[command(after_help = "Examples:\n  gatectl positions\n  gatectl positions --all\n  \
        gatectl -g ctp1 positions --refresh")]
    Positions(PositionsArgs),

    /// Money of the accounts
    #[command(after_help = "Examples:\n  gatectl accounts\n  gatectl accounts --refresh --json")]
    Accounts(AccountsArgs),

    /// Contracts that can be traded
    #[command(after_help = "Examples:\n  gatectl contracts\n  gatectl contracts '*.SHFE'\n  \
        gatectl contracts rb2410.SHFE --json")]
    Contracts(ContractsArgs),

    /// Send an order
    #[command(
        after_help = "Prints the order as the gateway accepted it. If the answer is lost, the exit code is 4 and the \
        order may have been executed: ask with `gatectl orders ID`, or send again with the same --id, which never \
        makes a second order.\n\nExamples:\n  gatectl send rb2410.SHFE buy 2 --price 3500\n  \
        gatectl send rb2410.SHFE sell 2 --price 3510 --offset closetoday --wait\n  \
        gatectl send IF2409.CFFEX buy 1 --type market\n  \
        gatectl -g sim1 send rb2410.SHFE sell 1 --type stop --price 3480 --id my-stop-1 --reference breakout"
    )]
    Send(SendArgs),

    /// Cancel an order, or a quote
    #[command(after_help = "Returns when the cancel is on its way; what comes of it shows in `gatectl orders ID`.\n\n\
        Examples:\n  gatectl cancel 01922f3c-7c1e-7a50-b1f6-0c4f6f0f1a2b\n  \
        gatectl cancel my-quote-1 --quote")]
    Cancel(CancelArgs),

    /// Cancel all of your working orders and quotes at one gateway
    #[command(after_help = "Examples:\n  gatectl cancel-all\n  gatectl -g ctp1 cancel-all --instrument rb2410.SHFE")]
    CancelAll(CancelAllArgs),

    /// Bars of the past
    #[command(
        after_help = "Times are RFC 3339, or `YYYY-MM-DD` or `YYYY-MM-DD HH:MM[:SS]` at UTC+8, or a span before now \
        such as 90m, 4h, 2d.\n\nExamples:\n  gatectl history rb2410.SHFE --interval 1h --start 5d\n  \
        gatectl history rb2410.SHFE --start '2024-07-01 21:00' --end '2024-07-01 23:00' --json"
    )]
    History(HistoryArgs),

    /// Log lines of the gateways as they are written, until Ctrl-C
    #[command(after_help = "Examples:\n  gatectl logs\n  gatectl logs --level warning\n  gatectl -g ctp1 logs --json")]
    Logs(LogsArgs),

    /// Call any method of a gateway and print the JSON that it answers
    #[command(after_help = "Methods that a node serves beyond the protocol's own can be called too.\n\nExamples:\n  \
        gatectl call sim1 get_status\n  \
        gatectl call sim1 get_contract '{\"symbol\":\"rb2410\",\"exchange\":\"SHFE\"}'\n  \
        gatectl --timeout 60 call ctp1 query_position '{}'")]
    Call(CallArgs),

    /// Full-screen live view: gateways, ticks, orders, trades, positions, accounts, log
    #[command(
        after_help = "Keys: q quits, Tab and arrows move and scroll, z enlarges a pane, g cycles gateways, p pauses, \
        ? shows help.\n\nExamples:\n  gatectl watch\n  gatectl watch '*.SHFE' --subscribe rb2410.SHFE\n  \
        gatectl -g sim1 watch --up red"
    )]
    Watch(WatchArgs),

    /// Take no new orders from now on; cancels still flow
    #[command(
        after_help = "Whom it stops: everybody on one gateway, unless --owner, --account or --all says otherwise; \
        those reach every gateway. Without -g they are told to every gateway that runs, with -g to that one, which \
        tells the others. A halt outlives every restart, until `gatectl resume` with the same words.\n\n\
        Examples:\n  gatectl halt --all --cancel --reason 'fat finger'\n  \
        gatectl -g ctp1 halt --reason 'limit breached' --cancel\n  \
        gatectl halt --owner STRAT_A --reduce-only\n  gatectl halt --account 104233"
    )]
    Halt(HaltArgs),

    /// Take new orders again
    #[command(after_help = "Ends the halt of the same words, and no other; `gatectl status` lists them.\n\n\
        Examples:\n  gatectl -g ctp1 resume\n  gatectl resume --owner STRAT_A\n  gatectl resume --all --reduce-only\n  \
        gatectl resume --key desk.north")]
    Resume(ResumeArgs),

    /// Have a gateway log in at its venue, also after a refusal
    #[command(after_help = "Examples:\n  gatectl -g ctp1 connect")]
    Connect,

    /// Have a gateway log out of its venue and stay out
    #[command(after_help = "Examples:\n  gatectl -g ctp1 disconnect")]
    Disconnect,

    /// A gateway's audit trail: every order, trade and halt, as it was stored
    #[command(
        after_help = "It is read straight from its stream, whether the gateway runs or not; the NATS user needs the \
        right to read it.\n\nExamples:\n  gatectl journal list\n  gatectl -g ctp1 journal show --day 2026-11-20\n  \
        gatectl -g ctp1 journal show --order 01922f3c-7c1e-7a50-b1f6-0c4f6f0f1a2b\n  gatectl -g ctp1 journal verify\n  \
        gatectl -g ctp1 journal export --day 2026-11-20 > 2026-11-20.jsonl"
    )]
    Journal {
        /// What of it
        #[command(subcommand)]
        command: JournalCommand,
    },

    /// Write a shell's completions to standard output
    #[command(after_help = "Examples:\n  gatectl completions bash > /etc/bash_completion.d/gatectl\n  \
        gatectl completions zsh > ~/.zfunc/_gatectl")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// What to do with a journal.
#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    /// Trading days that are kept
    List,
    /// Entries, one a line
    Show(JournalShowArgs),
    /// Check that no entry is missing, each leader's chain is whole, and the events add up to what they say
    Verify,
    /// Entries as JSON, one object a line, on standard output
    Export(JournalRange),
}

#[derive(Debug, ClapArgs)]
pub struct JournalRange {
    /// Only of this trading day
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub day: Option<NaiveDate>,

    /// From this entry on
    #[arg(long, value_name = "SEQUENCE")]
    pub from: Option<u64>,

    /// Up to this entry
    #[arg(long, value_name = "SEQUENCE")]
    pub to: Option<u64>,
}

/// The kinds of entries, as their subjects name them.
const JOURNAL_KINDS: [&str; 12] = [
    "order",
    "trade",
    "quote",
    "position",
    "account",
    "cancel",
    "halts",
    "subscription",
    "leader",
    "fence",
    "snapshot",
    "snapshot_end",
];

#[derive(Debug, ClapArgs)]
pub struct JournalShowArgs {
    #[command(flatten)]
    pub range: JournalRange,

    /// Only what concerns this order or quote: its states, its trades, its cancels
    #[arg(long, value_name = "ORDERID", value_parser = any_order_id)]
    pub order: Option<OrderId>,

    /// Only this kind of entry; a fence is hidden otherwise
    #[arg(long, value_name = "KIND", value_parser = JOURNAL_KINDS)]
    pub kind: Option<String>,

    /// At most so many
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
}

#[derive(Debug, ClapArgs)]
pub struct StatusArgs {
    /// Keep printing heartbeats, one a second and gateway, until Ctrl-C
    #[arg(long, short)]
    pub follow: bool,
}

#[derive(Debug, ClapArgs)]
pub struct TicksArgs {
    /// `rb2410.SHFE`, `*.SHFE`, or `>` for everything
    #[arg(value_parser = filter)]
    pub filter: Filter,

    /// Ask the gateway for the instrument's ticks first; `auto` does if the filter names one instrument
    #[arg(long, value_enum, default_value_t = Subscribe::Auto, value_name = "WHEN")]
    pub subscribe: Subscribe,

    /// End after this many ticks
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

impl TicksArgs {
    /// The instrument, if the filter names just one.
    #[must_use]
    pub fn instrument(&self) -> Option<InstrumentId> {
        Some(InstrumentId::new(self.filter.symbol.clone()?, self.filter.exchange?))
    }
}

/// Whether to have the gateway subscribe at its venue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Subscribe {
    Auto,
    Yes,
    No,
}

/// Narrows a list, and keeps it going.
#[derive(Debug, ClapArgs)]
pub struct ListArgs {
    /// Only of `rb2410.SHFE`, or of `*.SHFE`
    #[arg(long, short, value_name = "FILTER", value_parser = filter)]
    pub instrument: Option<Filter>,

    /// Then print every change as it happens, until Ctrl-C
    #[arg(long, short)]
    pub follow: bool,

    /// With --follow, end after this many changes
    #[arg(short = 'n', long, value_name = "COUNT", requires = "follow", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

#[derive(Debug, ClapArgs)]
pub struct OrdersArgs {
    /// Only the order of this id
    #[arg(value_name = "ORDERID", value_parser = any_order_id, conflicts_with_all = ["active", "follow", "instrument"])]
    pub orderid: Option<OrderId>,

    /// Only what can still be filled or cancelled
    #[arg(long, short)]
    pub active: bool,

    #[command(flatten)]
    pub list: ListArgs,
}

#[derive(Debug, ClapArgs)]
pub struct TradesArgs {
    #[command(flatten)]
    pub list: ListArgs,
}

#[derive(Debug, ClapArgs)]
pub struct QuotesArgs {
    /// Only what can still be filled or cancelled
    #[arg(long, short)]
    pub active: bool,

    #[command(flatten)]
    pub list: ListArgs,
}

#[derive(Debug, ClapArgs)]
pub struct PositionsArgs {
    /// Only of `rb2410.SHFE`, or of `*.SHFE`
    #[arg(long, short, value_name = "FILTER", value_parser = filter)]
    pub instrument: Option<Filter>,

    /// Flat ones too
    #[arg(long, short)]
    pub all: bool,

    /// Have the gateway ask its venue afresh
    #[arg(long)]
    pub refresh: bool,
}

#[derive(Debug, ClapArgs)]
pub struct AccountsArgs {
    /// Have the gateway ask its venue afresh
    #[arg(long)]
    pub refresh: bool,
}

#[derive(Debug, ClapArgs)]
pub struct ContractsArgs {
    /// `rb2410.SHFE`, `*.SHFE`, or `>` for everything
    #[arg(value_parser = filter, default_value = ">")]
    pub filter: Filter,
}

/// Buy or sell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Side {
    Buy,
    Sell,
}

/// How to execute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// At the price or better; the rest keeps working
    Limit,
    /// At whatever price there is
    Market,
    /// Fill and kill: what fills at once; the rest is cancelled
    Fak,
    /// Fill or kill: all at once, or nothing
    Fok,
    /// Becomes a market order when the last price reaches the price
    Stop,
}

/// Opens or closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OpenClose {
    /// For venues that do not tell opening from closing
    None,
    Open,
    Close,
    #[value(name = "closetoday")]
    CloseToday,
    #[value(name = "closeyesterday")]
    CloseYesterday,
}

#[derive(Debug, ClapArgs)]
pub struct SendArgs {
    /// Such as rb2410.SHFE
    #[arg(value_name = "SYMBOL.EXCHANGE", value_parser = instrument)]
    pub instrument: InstrumentId,

    /// Which side
    #[arg(value_enum)]
    pub side: Side,

    /// Lots
    #[arg(value_parser = volume)]
    pub volume: f64,

    /// Limit price, or the trigger of a stop order
    #[arg(long, short, value_parser = price, allow_negative_numbers = true)]
    pub price: Option<f64>,

    /// How to execute it
    #[arg(long = "type", short = 't', value_enum, default_value_t = Kind::Limit, value_name = "TYPE")]
    pub kind: Kind,

    /// Whether it opens a position or closes one
    #[arg(long, short, value_enum, default_value_t = OpenClose::Open)]
    pub offset: OpenClose,

    /// The order's id; sending the same again never makes a second order [default: a new UUID]
    #[arg(long, value_name = "ORDERID", value_parser = new_order_id)]
    pub id: Option<OrderId>,

    /// Your own note; it stays on the order and its trades
    #[arg(long, default_value = "")]
    pub reference: Name,

    /// Print every change until the order is finished
    #[arg(long, short)]
    pub wait: bool,
}

impl SendArgs {
    /// The request, or the sentence that says what is missing.
    pub fn request(&self) -> Result<OrderRequest, String> {
        let r#type = match self.kind {
            Kind::Limit => OrderType::Limit,
            Kind::Market => OrderType::Market,
            Kind::Fak => OrderType::Fak,
            Kind::Fok => OrderType::Fok,
            Kind::Stop => OrderType::Stop,
        };
        match (r#type, self.price) {
            (OrderType::Market, Some(price)) => {
                return Err(format!(
                    "a market order has no price: leave out --price {price}, or write --type limit for that price or better"
                ));
            }
            (OrderType::Stop, None) => {
                return Err(
                    "a stop order needs the price that triggers it: add --price, for example --price 3500".into()
                );
            }
            (OrderType::Limit | OrderType::Fak | OrderType::Fok, None) => {
                return Err(format!(
                    "a {} order needs a price: add --price, for example --price 3500, or write --type market",
                    r#type.as_str().to_lowercase()
                ));
            }
            _ => {}
        }
        Ok(OrderRequest {
            orderid: self.id.clone().unwrap_or_else(OrderId::generate),
            symbol: self.instrument.symbol.clone(),
            exchange: self.instrument.exchange,
            direction: match self.side {
                Side::Buy => Direction::Long,
                Side::Sell => Direction::Short,
            },
            r#type,
            volume: self.volume,
            price: self.price,
            offset: match self.offset {
                OpenClose::None => Offset::None,
                OpenClose::Open => Offset::Open,
                OpenClose::Close => Offset::Close,
                OpenClose::CloseToday => Offset::CloseToday,
                OpenClose::CloseYesterday => Offset::CloseYesterday,
            },
            reference: self.reference.clone(),
        })
    }
}

#[derive(Debug, ClapArgs)]
pub struct CancelArgs {
    /// The order's id
    #[arg(value_name = "ORDERID", value_parser = any_order_id)]
    pub orderid: OrderId,

    /// It is a quote's id
    #[arg(long)]
    pub quote: bool,
}

#[derive(Debug, ClapArgs)]
pub struct CancelAllArgs {
    /// Only of this instrument
    #[arg(long, short, value_name = "SYMBOL.EXCHANGE", value_parser = instrument)]
    pub instrument: Option<InstrumentId>,
}

/// Length of a bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BarLength {
    #[value(name = "1m")]
    Minute,
    #[value(name = "1h")]
    Hour,
    #[value(name = "1d")]
    Day,
    #[value(name = "1w")]
    Week,
}

/// An instant as typed: absolute, or a span before now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum When {
    At(Timestamp),
    Ago(chrono::TimeDelta),
}

impl When {
    fn at(self, now: Timestamp) -> Timestamp {
        match self {
            When::At(instant) => instant,
            When::Ago(span) => now.checked_sub_signed(span).unwrap_or(now),
        }
    }
}

#[derive(Debug, ClapArgs)]
pub struct HistoryArgs {
    /// Such as rb2410.SHFE
    #[arg(value_name = "SYMBOL.EXCHANGE", value_parser = instrument)]
    pub instrument: InstrumentId,

    /// Length of a bar
    #[arg(long, short, value_enum, default_value = "1m")]
    pub interval: BarLength,

    /// First instant wanted
    #[arg(long, short, default_value = "1d", value_name = "TIME", value_parser = when)]
    pub start: When,

    /// Last instant wanted [default: now]
    #[arg(long, short, value_name = "TIME", value_parser = when)]
    pub end: Option<When>,
}

impl HistoryArgs {
    /// The request, or the sentence that says what is wrong with it.
    pub fn request(&self, now: Timestamp) -> Result<HistoryRequest, String> {
        let (start, end) = (self.start.at(now), self.end.map(|end| end.at(now)));
        if let Some(end) = end
            && end < start
        {
            return Err(format!("--end {end} is before --start {start}: swap them"));
        }
        Ok(HistoryRequest {
            symbol: self.instrument.symbol.clone(),
            exchange: self.instrument.exchange,
            start,
            end,
            interval: Some(match self.interval {
                BarLength::Minute => Interval::Minute,
                BarLength::Hour => Interval::Hour,
                BarLength::Day => Interval::Daily,
                BarLength::Week => Interval::Weekly,
            }),
        })
    }
}

#[derive(Debug, ClapArgs)]
pub struct LogsArgs {
    /// This weight and above
    #[arg(long, short, default_value = "debug", value_parser = log_level)]
    pub level: LogLevel,

    /// Follow the log; logs are not kept, so there is no other way to read them and it is always on
    #[arg(long, short)]
    pub follow: bool,

    /// End after this many lines
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

#[derive(Debug, ClapArgs)]
pub struct CallArgs {
    /// Which gateway
    #[arg(value_name = "GATEWAY", value_parser = gateway_name)]
    pub target: Name,

    /// Name of the method
    pub method: String,

    /// Its parameters: a JSON object
    #[arg(value_name = "JSON", default_value = "{}", value_parser = json)]
    pub params: serde_json::Value,
}

#[derive(Debug, ClapArgs)]
pub struct WatchArgs {
    /// Whose ticks: `rb2410.SHFE`, `*.SHFE`, or `>` for everything that is published
    #[arg(value_parser = filter, default_value = ">")]
    pub filter: Filter,

    /// Ask for this instrument's ticks while watching; may be repeated
    #[arg(long, short, value_name = "SYMBOL.EXCHANGE", value_parser = instrument)]
    pub subscribe: Vec<InstrumentId>,

    /// Colour of rising prices and profits; falling ones take the other
    #[arg(long, value_enum, default_value_t = UpColor::Green)]
    pub up: UpColor,
}

/// Colour of what rises: red in China, green elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum UpColor {
    Green,
    Red,
}

/// Whom a halt stops.
#[derive(Debug, ClapArgs)]
#[group(multiple = false)]
pub struct WhomArgs {
    /// This owner, on every gateway
    #[arg(long, value_name = "NAME")]
    pub owner: Option<Name>,

    /// Everybody, on the gateways that trade for this account
    #[arg(long, value_name = "ACCOUNT")]
    pub account: Option<Name>,

    /// Everybody, on every gateway
    #[arg(long)]
    pub all: bool,
}

impl WhomArgs {
    /// Whether it stops somebody on other gateways too.
    #[must_use]
    pub fn reaches_others(&self) -> bool {
        self.owner.is_some() || self.account.is_some() || self.all
    }
}

#[derive(Debug, ClapArgs)]
pub struct HaltArgs {
    #[command(flatten)]
    pub whom: WhomArgs,

    /// Why, for whoever reads the status
    #[arg(long, default_value = "")]
    pub reason: String,

    /// Also cancel what they have working
    #[arg(long)]
    pub cancel: bool,

    /// With --cancel: also what was found working at the venue and nobody here sent
    #[arg(long, requires = "cancel", conflicts_with = "owner")]
    pub external: bool,

    /// Stop only what opens a position; what lessens one may still be sent
    #[arg(long)]
    pub reduce_only: bool,
}

#[derive(Debug, ClapArgs)]
pub struct ResumeArgs {
    #[command(flatten)]
    pub whom: WhomArgs,

    /// The halt of this key in the bucket of halts: for one that none of the other words end, as `status` shows it
    #[arg(long, value_name = "KEY", conflicts_with_all = ["owner", "account", "all"])]
    pub key: Option<Name>,

    /// Take only what lessens a position; what opens one stays halted
    #[arg(long)]
    pub reduce_only: bool,
}

// Parsers of single values. Clap adds the argument's name before, and `try '--help'` behind.

fn gateway_name(text: &str) -> Result<Name, String> {
    if protocol::subject::is_gateway_name(text) {
        Ok(Name::from(text))
    } else {
        Err("a gateway's name is 1 to 32 characters of A-Z a-z 0-9 _ -, for example ctp1".into())
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || "write seconds between 0.001 and 86400, for example 2.5".to_owned();
    let value: f64 = text.trim_end_matches('s').parse().map_err(|_| wrong())?;
    if (0.001..=86_400.0).contains(&value) { Ok(Duration::from_secs_f64(value)) } else { Err(wrong()) }
}

fn volume(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => Err("the volume is a number of lots above 0, for example 2".into()),
    }
}

fn price(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err("the price is a plain number, for example 3500.5".into()),
    }
}

fn new_order_id(text: &str) -> Result<OrderId, String> {
    let id = OrderId::new(text);
    id.check_client_allocated().map_err(|error| error.to_string())?;
    Ok(id)
}

fn any_order_id(text: &str) -> Result<OrderId, String> {
    let legal = |b: u8| b.is_ascii_graphic();
    if text.is_empty() || text.len() > 256 || !text.bytes().all(legal) {
        return Err("an order's id has no blanks; `gatectl orders` lists them".into());
    }
    Ok(OrderId::new(text))
}

fn instrument(text: &str) -> Result<InstrumentId, String> {
    let (symbol, exchange) = match text.rsplit_once('.') {
        Some((symbol, exchange)) if !symbol.is_empty() => (symbol, exchange),
        _ => return Err("write SYMBOL.EXCHANGE, for example rb2410.SHFE".into()),
    };
    if symbol == "*" || symbol.contains('>') {
        return Err("name one instrument, for example rb2410.SHFE".into());
    }
    Ok(InstrumentId::new(symbol, exchange_named(exchange, symbol)?))
}

fn filter(text: &str) -> Result<Filter, String> {
    if matches!(text, "" | "*" | ">" | "*.*") {
        return Ok(Filter::all());
    }
    let Some((symbol, exchange)) = text.rsplit_once('.').filter(|(symbol, _)| !symbol.is_empty()) else {
        return Err("write SYMBOL.EXCHANGE (rb2410.SHFE), *.EXCHANGE (*.SHFE), or > for everything".into());
    };
    if symbol != "*" && symbol.contains(['*', '>']) {
        return Err(format!(
            "`*` stands for a whole symbol, not for a part of one: write *.{exchange}, or the full symbol"
        ));
    }
    let exchange = if matches!(exchange, "*" | ">") { None } else { Some(exchange_named(exchange, symbol)?) };
    Ok(Filter { symbol: (symbol != "*").then(|| symbol.into()), exchange, ..Filter::all() })
}

fn exchange_named(text: &str, symbol: &str) -> Result<Exchange, String> {
    text.parse::<Exchange>().map_err(|_| {
        let upper = text.to_uppercase();
        match nearest(&upper, Exchange::ALL.iter().map(|e| e.as_str())) {
            Some(meant) => format!("there is no exchange `{text}`; did you mean {symbol}.{meant}?"),
            None => {
                let all: Vec<_> = Exchange::ALL.iter().map(|e| e.as_str()).collect();
                format!("there is no exchange `{text}`; there are {}", all.join(", "))
            }
        }
    })
}

/// The candidate that a misspelt text was probably meant to be.
pub fn nearest<'a>(text: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(text, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn log_level(text: &str) -> Result<LogLevel, String> {
    text.to_uppercase()
        .parse()
        .map_err(|_| format!("there is no level `{text}`: write debug, info, warning, error or critical"))
}

fn json(text: &str) -> Result<serde_json::Value, String> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| {
        format!("parameters are a JSON object in single quotes, for example '{{\"symbol\":\"rb2410\"}}': {error}")
    })?;
    if value.is_object() || value.is_null() {
        Ok(value)
    } else {
        Err("parameters are named: write a JSON object, for example '{\"symbol\":\"rb2410\"}'".into())
    }
}

/// China's exchanges, and with them the default venue, keep this offset all year.
fn default_offset() -> FixedOffset {
    FixedOffset::east_opt(8 * 3600).expect("eight hours are a legal offset")
}

fn when(text: &str) -> Result<When, String> {
    if let Some(span) = span(text) {
        return Ok(When::Ago(span));
    }
    if let Ok(instant) = Timestamp::parse_from_rfc3339(text) {
        return Ok(When::At(instant));
    }
    let day_and_time = ["%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().map(|day| day.and_time(NaiveTime::MIN)));
    day_and_time.and_then(|local| default_offset().from_local_datetime(&local).single()).map(When::At).ok_or_else(|| {
        "write a time such as 2024-07-01T21:00:00+08:00, '2024-07-01 21:00' (UTC+8) or 2024-07-01, or a span before \
         now such as 90m, 4h, 2d"
            .into()
    })
}

fn span(text: &str) -> Option<chrono::TimeDelta> {
    let unit = text.chars().next_back()?;
    let count: i64 = text[..text.len() - unit.len_utf8()].parse().ok().filter(|count| *count >= 0)?;
    match unit {
        's' => chrono::TimeDelta::try_seconds(count),
        'm' => chrono::TimeDelta::try_minutes(count),
        'h' => chrono::TimeDelta::try_hours(count),
        'd' => chrono::TimeDelta::try_days(count),
        'w' => chrono::TimeDelta::try_weeks(count),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(words(line))
    }

    /// Splits as a shell would: single quotes, a redirection ends the command.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quoted, mut begun) = (Vec::new(), String::new(), false, false);
        for c in line.chars() {
            match c {
                '\'' => (quoted, begun) = (!quoted, true),
                '>' if !quoted => break,
                ' ' if !quoted => {
                    if begun {
                        words.push(std::mem::take(&mut word));
                    }
                    begun = false;
                }
                c => {
                    word.push(c);
                    begun = true;
                }
            }
        }
        if begun {
            words.push(word);
        }
        words
    }

    fn send(line: &str) -> Result<OrderRequest, String> {
        match parse(line).map_err(|error| error.to_string())?.command {
            Command::Send(args) => args.request(),
            other => panic!("{other:?} is no send"),
        }
    }

    #[test]
    fn definitions_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_and_they_parse() {
        let command = Args::command();
        for part in std::iter::once(&command).chain(command.get_subcommands()) {
            let help = part.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples: Vec<_> = help.lines().map(str::trim).filter(|line| line.starts_with("gatectl ")).collect();
            assert!(!examples.is_empty(), "`{}` has no example in its help", part.get_name());
            for example in examples {
                let parsed = parse(example);
                assert!(parsed.is_ok(), "{example}: {}", parsed.expect_err("not ok"));
            }
        }
    }

    #[test]
    fn global_options_stand_before_or_behind_the_command() {
        for line in ["gatectl -g sim1 --json --timeout 2.5 orders", "gatectl orders -g sim1 --json --timeout 2.5s"] {
            let args = parse(line).expect("parses").global;
            assert_eq!(args.gateway.as_deref(), Some("sim1"));
            assert!(args.json);
            assert_eq!(args.timeout, Duration::from_millis(2500));
        }
    }

    #[test]
    fn an_order_is_what_was_typed() {
        let order = send("gatectl send rb2410.SHFE sell 2 --price 3500.5 --offset closetoday --id a-1 --reference r")
            .expect("an order");
        assert_eq!(
            serde_json::to_value(&order).expect("encodes"),
            serde_json::json!({"orderid": "a-1", "symbol": "rb2410", "exchange": "SHFE", "direction": "SHORT",
                "type": "LIMIT", "volume": 2.0, "price": 3500.5, "offset": "CLOSETODAY", "reference": "r"})
        );
        let order = send("gatectl send rb2410.SHFE buy 1 --type market").expect("an order");
        assert_eq!((order.price, order.offset, order.r#type), (None, Offset::Open, OrderType::Market));
        assert!(order.orderid.check_client_allocated().is_ok());
        let order = send("gatectl send SPC-c1905.DCE buy 1 --price -3").expect("spreads trade below zero");
        assert_eq!(order.price, Some(-3.0));
    }

    #[test]
    fn what_is_typed_wrong_gets_a_sentence() {
        for (line, words) in [
            ("gatectl send rb2410.SHFE buy 1", "needs a price: add --price"),
            ("gatectl send rb2410.SHFE buy 1 --type stop", "needs the price that triggers it"),
            ("gatectl send rb2410.SHFE buy 1 --type market --price 1", "leave out --price 1"),
            ("gatectl send rb2410.SHFE buy 0 --price 1", "above 0"),
            ("gatectl send rb2410.SHFE buy nan --price 1", "above 0"),
            ("gatectl send rb2410.SHFE buy 1 --price inf", "plain number"),
            ("gatectl send rb2410 buy 1 --price 1", "write SYMBOL.EXCHANGE"),
            ("gatectl send rb2410.shfe buy 1 --price 1", "did you mean rb2410.SHFE?"),
            ("gatectl send rb2410.SHEF buy 1 --price 1", "did you mean rb2410.SHFE?"),
            ("gatectl send rb2410.MOONBASE buy 1 --price 1", "there are CFFEX, SHFE"),
            ("gatectl send rb2410.SHFE buy 1 --price 1 --id x-1", "x-"),
            ("gatectl send rb2410.SHFE buy 1 --price 1 --id 'a b'", "A-Z"),
            ("gatectl -g 'a b' send rb2410.SHFE buy 1 --price 1", "gateway's name"),
        ] {
            let message = send(line).expect_err(line);
            assert!(message.contains(words), "{line}: {message}");
        }
        for (line, words) in [
            ("gatectl ticks rb*.SHFE", "whole symbol"),
            ("gatectl ticks rb2410", "*.EXCHANGE"),
            ("gatectl --timeout 0 status", "write seconds"),
            ("gatectl logs --level loud", "write debug"),
            ("gatectl call sim1 get_tick nonsense", "JSON object"),
            ("gatectl call sim1 get_tick [1]", "parameters are named"),
            ("gatectl history rb2410.SHFE --start yesterday", "2024-07-01"),
            ("gatectl order", "orders"),
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(words), "{line}: {error}");
        }
    }

    #[test]
    fn filters_read_as_people_write_them() {
        assert_eq!(filter(">"), Ok(Filter::all()));
        assert_eq!(filter("*.SHFE"), Ok(Filter::exchange(Exchange::SHFE)));
        assert_eq!(filter("rb2410.SHFE"), Ok(Filter::instrument(&InstrumentId::new("rb2410", Exchange::SHFE))));
        assert_eq!(filter("SPY-500.0.SMART").map(|f| f.symbol), Ok(Some("SPY-500.0".into())));
    }

    #[test]
    fn times_are_absolute_or_spans_before_now() {
        let now = Timestamp::parse_from_rfc3339("2024-07-02T09:00:00+08:00").expect("a time");
        for (text, instant) in [
            ("2024-07-01T21:00:00Z", "2024-07-01T21:00:00+00:00"),
            ("2024-07-01 21:00", "2024-07-01T21:00:00+08:00"),
            ("2024-07-01", "2024-07-01T00:00:00+08:00"),
            ("90m", "2024-07-02T07:30:00+08:00"),
            ("2d", "2024-06-30T09:00:00+08:00"),
        ] {
            assert_eq!(when(text).expect(text).at(now).to_rfc3339(), instant, "{text}");
        }
        for text in ["", "m", "-3d", "9999999999999999w", "2024-13-01", "日"] {
            assert!(when(text).is_err(), "{text}");
        }
    }

    #[test]
    fn no_color_is_respected_unless_told_otherwise() {
        assert!(ColorChoice::Auto.enabled(true, false));
        assert!(!ColorChoice::Auto.enabled(true, true));
        assert!(!ColorChoice::Auto.enabled(false, false));
        assert!(ColorChoice::Always.enabled(false, true));
        assert!(!ColorChoice::Never.enabled(true, false));
    }
}
