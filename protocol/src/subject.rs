//! Subjects: the only place where they are built and parsed.
//!
//! What it is about comes first, who says so last. Each variable part is one token, escaped by [`token`].

use std::fmt;
use std::str::FromStr;

use crate::event::OmsEvent;
use crate::value::{Exchange, InstrumentId, LogLevel, Name, Symbol};

/// Where the server tells that a record of a halt was stored, for nodes only.
pub const HALTS_CHANGED: &str = "_GATEMESH.halts.>";

/// Turns any text into one subject token: bytes other than `[A-Za-z0-9_-]` become `%XX` (upper-case hex),
/// and the empty text becomes `%`.
#[must_use]
pub fn token(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    if text.is_empty() {
        return "%".to_owned();
    }
    if text.bytes().all(is_plain) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    out
}

/// Reads a token back. Only what [`token`] writes is accepted, so each text has one token.
///
/// # Errors
/// If the token has a character that needs escaping, or an escape that [`token`] would not have written.
pub fn untoken(token: &str) -> Result<String, SubjectError> {
    let broken = || SubjectError::Token(shorten(token));
    if token == "%" {
        return Ok(String::new());
    }
    let mut bytes = Vec::with_capacity(token.len());
    let mut rest = token.bytes();
    while let Some(byte) = rest.next() {
        if is_plain(byte) {
            bytes.push(byte);
            continue;
        }
        let (b'%', Some(high), Some(low)) = (byte, rest.next(), rest.next()) else { return Err(broken()) };
        let (Some(high), Some(low)) = (hex(high), hex(low)) else { return Err(broken()) };
        let escaped = high << 4 | low;
        if is_plain(escaped) {
            return Err(broken());
        }
        bytes.push(escaped);
    }
    if bytes.is_empty() {
        return Err(broken());
    }
    String::from_utf8(bytes).map_err(|_| broken())
}

const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(128).collect()
}

/// Why a text is no subject of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// A token that [`token`] never writes.
    #[error("`{0}` is no token: other than A-Z a-z 0-9 _ - must be written as %XX")]
    Token(String),
    /// Not one of the forms below.
    #[error("`{0}` is no subject of Gatemesh's")]
    Shape(String),
    /// The token in an exchange's place is none.
    #[error("in `{subject}`: {message}")]
    Member {
        /// The subject.
        subject: String,
        /// What is expected there.
        message: String,
    },
}

/// A subject that events are published on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the fields are the tokens, named as in the table of README
pub enum Subject {
    /// `evt.tick.<symbol>.<exchange>`
    Tick { symbol: Symbol, exchange: Exchange },
    /// `evt.order.<symbol>.<exchange>.<gateway>.<owner>`
    Order { symbol: Symbol, exchange: Exchange, gateway: Name, owner: Name },
    /// `evt.trade.<symbol>.<exchange>.<gateway>.<owner>`
    Trade { symbol: Symbol, exchange: Exchange, gateway: Name, owner: Name },
    /// `evt.quote.<symbol>.<exchange>.<gateway>.<owner>`
    Quote { symbol: Symbol, exchange: Exchange, gateway: Name, owner: Name },
    /// `evt.position.<symbol>.<exchange>.<gateway>`
    Position { symbol: Symbol, exchange: Exchange, gateway: Name },
    /// `evt.account.<accountid>.<gateway>`
    Account { accountid: Name, gateway: Name },
    /// `evt.contract.<symbol>.<exchange>.<gateway>`
    Contract { symbol: Symbol, exchange: Exchange, gateway: Name },
    /// `evt.status.<gateway>`
    Status { gateway: Name },
    /// `evt.head.<gateway>.<owner>`
    Head { gateway: Name, owner: Name },
    /// `evt.log.<level>.<gateway>`
    Log { level: LogLevel, gateway: Name },
}

impl Subject {
    /// Where an instrument's ticks go.
    #[must_use]
    pub fn tick(instrument: &InstrumentId) -> Subject {
        Subject::Tick { symbol: instrument.symbol.clone(), exchange: instrument.exchange }
    }

    /// Where a journalled event is republished.
    #[must_use]
    pub fn of(event: &OmsEvent) -> Subject {
        match event {
            OmsEvent::Order(o) => Subject::Order {
                symbol: o.symbol.clone(),
                exchange: o.exchange,
                gateway: o.gateway_name.clone(),
                owner: o.owner.clone(),
            },
            OmsEvent::Trade(t) => Subject::Trade {
                symbol: t.symbol.clone(),
                exchange: t.exchange,
                gateway: t.gateway_name.clone(),
                owner: t.owner.clone(),
            },
            OmsEvent::Quote(q) => Subject::Quote {
                symbol: q.symbol.clone(),
                exchange: q.exchange,
                gateway: q.gateway_name.clone(),
                owner: q.owner.clone(),
            },
            OmsEvent::Position(p) => {
                Subject::Position { symbol: p.symbol.clone(), exchange: p.exchange, gateway: p.gateway_name.clone() }
            }
            OmsEvent::Account(a) => {
                Subject::Account { accountid: a.accountid.clone(), gateway: a.gateway_name.clone() }
            }
        }
    }

    /// Where a node appends it: the stream republishes `journal.<gateway>.pub.>` as `evt.>`.
    #[must_use]
    pub fn journal(&self, gateway: &str) -> String {
        let published = self.to_string();
        let rest = published.strip_prefix("evt.").unwrap_or(&published);
        format!("{}{rest}", journal_published_prefix(gateway))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Tick { symbol, exchange } => write!(f, "evt.tick.{}.{exchange}", token(symbol)),
            Subject::Order { symbol, exchange, gateway, owner } => {
                write!(f, "evt.order.{}.{exchange}.{}.{}", token(symbol), token(gateway), token(owner))
            }
            Subject::Trade { symbol, exchange, gateway, owner } => {
                write!(f, "evt.trade.{}.{exchange}.{}.{}", token(symbol), token(gateway), token(owner))
            }
            Subject::Quote { symbol, exchange, gateway, owner } => {
                write!(f, "evt.quote.{}.{exchange}.{}.{}", token(symbol), token(gateway), token(owner))
            }
            Subject::Position { symbol, exchange, gateway } => {
                write!(f, "evt.position.{}.{exchange}.{}", token(symbol), token(gateway))
            }
            Subject::Account { accountid, gateway } => {
                write!(f, "evt.account.{}.{}", token(accountid), token(gateway))
            }
            Subject::Contract { symbol, exchange, gateway } => {
                write!(f, "evt.contract.{}.{exchange}.{}", token(symbol), token(gateway))
            }
            Subject::Status { gateway } => write!(f, "evt.status.{}", token(gateway)),
            Subject::Head { gateway, owner } => write!(f, "evt.head.{}.{}", token(gateway), token(owner)),
            Subject::Log { level, gateway } => write!(f, "evt.log.{level}.{}", token(gateway)),
        }
    }
}

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(subject: &str) -> Result<Self, SubjectError> {
        let member = |message: String| SubjectError::Member { subject: shorten(subject), message };
        let exchange = |text: &str| text.parse::<Exchange>().map_err(|e| member(e.to_string()));
        let name = |text: &str| untoken(text).map(Name::from);
        let mut parts = [""; 7];
        let mut count = 0;
        for part in subject.split('.') {
            *parts.get_mut(count).ok_or_else(|| SubjectError::Shape(shorten(subject)))? = part;
            count += 1;
        }
        Ok(match parts[..count] {
            ["evt", "tick", s, e] => Subject::Tick { symbol: name(s)?, exchange: exchange(e)? },
            ["evt", "order", s, e, g, o] => {
                Subject::Order { symbol: name(s)?, exchange: exchange(e)?, gateway: name(g)?, owner: name(o)? }
            }
            ["evt", "trade", s, e, g, o] => {
                Subject::Trade { symbol: name(s)?, exchange: exchange(e)?, gateway: name(g)?, owner: name(o)? }
            }
            ["evt", "quote", s, e, g, o] => {
                Subject::Quote { symbol: name(s)?, exchange: exchange(e)?, gateway: name(g)?, owner: name(o)? }
            }
            ["evt", "position", s, e, g] => {
                Subject::Position { symbol: name(s)?, exchange: exchange(e)?, gateway: name(g)? }
            }
            ["evt", "account", a, g] => Subject::Account { accountid: name(a)?, gateway: name(g)? },
            ["evt", "contract", s, e, g] => {
                Subject::Contract { symbol: name(s)?, exchange: exchange(e)?, gateway: name(g)? }
            }
            ["evt", "status", g] => Subject::Status { gateway: name(g)? },
            ["evt", "head", g, o] => Subject::Head { gateway: name(g)?, owner: name(o)? },
            ["evt", "log", l, g] => Subject::Log {
                level: l.parse().map_err(|e: crate::value::UnknownMember| member(e.to_string()))?,
                gateway: name(g)?,
            },
            _ => return Err(SubjectError::Shape(shorten(subject))),
        })
    }
}

/// Kinds of events that can be filtered by instrument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // named for what they carry
pub enum Kind {
    Tick,
    Order,
    Trade,
    Quote,
    Position,
    Contract,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Kind::Tick => "tick",
            Kind::Order => "order",
            Kind::Trade => "trade",
            Kind::Quote => "quote",
            Kind::Position => "position",
            Kind::Contract => "contract",
        }
    }
}

/// Which events a reader wants; `None` is any. It becomes a subject with wildcards.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Filter {
    /// The venue's spelling of one symbol.
    pub symbol: Option<Symbol>,
    /// One exchange.
    pub exchange: Option<Exchange>,
    /// One gateway; ticks carry it inside, not in their subject.
    pub gateway: Option<Name>,
    /// One owner, for orders, trades and quotes.
    pub owner: Option<Name>,
}

impl Filter {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Filter::default()
    }

    /// One instrument.
    #[must_use]
    pub fn instrument(instrument: &InstrumentId) -> Self {
        Filter { symbol: Some(instrument.symbol.clone()), exchange: Some(instrument.exchange), ..Filter::default() }
    }

    /// One exchange.
    #[must_use]
    pub fn exchange(exchange: Exchange) -> Self {
        Filter { exchange: Some(exchange), ..Filter::default() }
    }

    /// The same, narrowed to one gateway.
    #[must_use]
    pub fn gateway(mut self, gateway: impl Into<Name>) -> Self {
        self.gateway = Some(gateway.into());
        self
    }

    /// The same, narrowed to one owner.
    #[must_use]
    pub fn owner(mut self, owner: impl Into<Name>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    /// The subject to subscribe to for events of this kind.
    #[must_use]
    pub fn subject(&self, kind: Kind) -> String {
        let any = || "*".to_owned();
        let symbol = self.symbol.as_deref().map_or_else(any, token);
        let exchange = self.exchange.map_or_else(any, |e| e.to_string());
        let gateway = self.gateway.as_deref().map_or_else(any, token);
        let owner = self.owner.as_deref().map_or_else(any, token);
        let kind_text = kind.as_str();
        match kind {
            Kind::Tick => format!("evt.tick.{symbol}.{exchange}"),
            Kind::Position | Kind::Contract => format!("evt.{kind_text}.{symbol}.{exchange}.{gateway}"),
            Kind::Order | Kind::Trade | Kind::Quote => format!("evt.{kind_text}.{symbol}.{exchange}.{gateway}.{owner}"),
        }
    }

    /// Whether an event of this instrument, gateway and owner is wanted.
    #[must_use]
    pub fn matches(&self, instrument: &InstrumentId, gateway: &str, owner: Option<&str>) -> bool {
        self.symbol.as_ref().is_none_or(|s| *s == instrument.symbol)
            && self.exchange.is_none_or(|e| e == instrument.exchange)
            && self.gateway.as_ref().is_none_or(|g| g == gateway)
            && self.owner.as_ref().is_none_or(|o| owner.is_none_or(|owner| o == owner))
    }
}

impl FromStr for Filter {
    type Err = SubjectError;

    /// Reads what people type: `rb2410.SHFE`, `*.SHFE`, `rb2410.*`, `*` or `>` for everything.
    fn from_str(text: &str) -> Result<Self, SubjectError> {
        if matches!(text, "" | "*" | ">" | "*.*") {
            return Ok(Filter::all());
        }
        let (symbol, exchange) = text.rsplit_once('.').ok_or_else(|| SubjectError::Member {
            subject: shorten(text),
            message: "write SYMBOL.EXCHANGE (rb2410.SHFE), *.EXCHANGE (*.SHFE) or > for everything".to_owned(),
        })?;
        let exchange = match exchange {
            "*" | ">" => None,
            name => Some(name.parse().map_err(|e: crate::value::UnknownMember| SubjectError::Member {
                subject: shorten(text),
                message: e.to_string(),
            })?),
        };
        if symbol.is_empty() || (symbol != "*" && symbol.contains(['*', '>'])) {
            return Err(SubjectError::Member {
                subject: shorten(text),
                message: "before the dot write one whole symbol (rb2410.SHFE), or * for all (*.SHFE)".to_owned(),
            });
        }
        let symbol = (symbol != "*").then(|| Symbol::from(symbol));
        Ok(Filter { symbol, exchange, ..Filter::default() })
    }
}

/// All accounts of one gateway, or of all.
#[must_use]
pub fn accounts_filter(gateway: Option<&str>) -> String {
    format!("evt.account.*.{}", gateway.map_or_else(|| "*".to_owned(), token))
}

/// The heartbeat of one gateway, or of all.
#[must_use]
pub fn status_filter(gateway: Option<&str>) -> String {
    format!("evt.status.{}", gateway.map_or_else(|| "*".to_owned(), token))
}

/// The heads of one gateway, of one owner or of all.
#[must_use]
pub fn heads_filter(gateway: &str, owner: Option<&str>) -> String {
    format!("evt.head.{}.{}", token(gateway), owner.map_or_else(|| "*".to_owned(), token))
}

/// Log lines of one level and gateway, or of all.
#[must_use]
pub fn logs_filter(level: Option<LogLevel>, gateway: Option<&str>) -> String {
    let level = level.map_or("*", LogLevel::as_str);
    format!("evt.log.{level}.{}", gateway.map_or_else(|| "*".to_owned(), token))
}

/// Where a method of a gateway is called.
#[must_use]
pub fn rpc(gateway: &str, method: &str) -> String {
    ["rpc.", &token(gateway), ".", &token(method)].concat()
}

/// What nodes append and the server republishes: `journal.<gateway>.pub.`
#[must_use]
pub fn journal_published_prefix(gateway: &str) -> String {
    format!("journal.{}.pub.", token(gateway))
}

/// What nodes append and the server only stores: `journal.<gateway>.<kind>`
#[must_use]
pub fn journal_private(gateway: &str, kind: &str) -> String {
    format!("journal.{}.{}", token(gateway), token(kind))
}

/// Every subject of a gateway's journal.
#[must_use]
pub fn journal_all(gateway: &str) -> String {
    format!("journal.{}.>", token(gateway))
}

/// Name of a gateway's journal stream.
#[must_use]
pub fn journal_stream(gateway: &str) -> String {
    format!("JOURNAL_{gateway}")
}

/// Whether a text may name a gateway: it must be a plain token, and a legal name of a stream and a service.
#[must_use]
pub fn is_gateway_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= 32 && text.bytes().all(is_plain)
}
