//! The small values that every object is made of: identifiers, enums, instants.

use std::fmt;
use std::str::FromStr;

use compact_str::CompactString;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An instant with the venue's UTC offset; RFC 3339 on the wire (`2018-10-12T21:00:00.500+08:00`).
pub type Timestamp = chrono::DateTime<chrono::FixedOffset>;

/// A venue's spelling of an instrument (`rb2410`, `SPC c1905&cs1905`). Up to 24 bytes take no heap memory.
pub type Symbol = CompactString;

/// A short name: of a gateway, an owner, a caller.
pub type Name = CompactString;

/// Owner of what is sent where the server gives no identities.
pub const OWNER_DEFAULT: &str = "default";
/// Owner of orders and trades found at the venue that nobody here sent.
pub const OWNER_EXTERNAL: &str = "external";

/// A text that is none of an enum's members.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {kind} `{found}`, expected one of {expected}")]
pub struct UnknownMember {
    kind: &'static str,
    found: String,
    expected: String,
}

/// Declares an enum whose wire form is the member's name.
macro_rules! wire_enum {
    ($(#[$meta:meta])* pub enum $name:ident ($kind:literal) { $($(#[$vmeta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(clippy::upper_case_acronyms)]
        pub enum $name { $($(#[$vmeta])* $variant,)+ }

        impl $name {
            /// Every member, in declaration order.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The member's name on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.pad(self.as_str()) }
        }

        impl FromStr for $name {
            type Err = UnknownMember;
            fn from_str(text: &str) -> Result<Self, UnknownMember> {
                match text {
                    $($text => Ok($name::$variant),)+
                    _ => Err(UnknownMember {
                        kind: $kind,
                        found: text.chars().take(64).collect(),
                        expected: [$($text),+].join(", "),
                    }),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(concat!("the name of a ", $kind)) }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> { text.parse().map_err(E::custom) }
                }
                deserializer.deserialize_str(Visitor)
            }
        }
    };
}

wire_enum! {
    /// Side of an order, a trade or a position.
    pub enum Direction ("direction") {
        /// Buy, or a long position.
        Long = "LONG",
        /// Sell, or a short position.
        Short = "SHORT",
        /// A position at a venue that nets longs against shorts.
        Net = "NET",
    }
}

impl Direction {
    /// The other side; `Net` has none and stays.
    #[must_use]
    pub const fn opposite(self) -> Direction {
        match self {
            Direction::Long => Direction::Short,
            Direction::Short => Direction::Long,
            Direction::Net => Direction::Net,
        }
    }
}

wire_enum! {
    /// Whether an order opens a position or closes one, and of which day.
    pub enum Offset ("offset") {
        /// The venue does not tell opening from closing.
        None = "NONE",
        /// Opens a position.
        Open = "OPEN",
        /// Closes a position; on SHFE and INE one of an earlier day.
        Close = "CLOSE",
        /// Closes a position opened in this trading day.
        CloseToday = "CLOSETODAY",
        /// Closes a position of an earlier trading day.
        CloseYesterday = "CLOSEYESTERDAY",
    }
}

wire_enum! {
    /// State of an order or a quote.
    pub enum OrderStatus ("order status") {
        /// On its way to the venue, not yet confirmed.
        Submitting = "SUBMITTING",
        /// Accepted by the venue, nothing filled.
        NotTraded = "NOTTRADED",
        /// Partly filled and still working.
        PartTraded = "PARTTRADED",
        /// Completely filled.
        AllTraded = "ALLTRADED",
        /// Cancelled; what was filled before stays filled.
        Cancelled = "CANCELLED",
        /// Refused; it never worked at the venue.
        Rejected = "REJECTED",
    }
}

impl OrderStatus {
    /// Whether the order can still be filled or cancelled.
    #[must_use]
    pub const fn is_active(self) -> bool {
        match self {
            OrderStatus::Submitting | OrderStatus::NotTraded | OrderStatus::PartTraded => true,
            OrderStatus::AllTraded | OrderStatus::Cancelled | OrderStatus::Rejected => false,
        }
    }
}

wire_enum! {
    /// Class of an instrument.
    pub enum Product ("product") {
        /// Shares.
        Equity = "EQUITY",
        /// Futures.
        Futures = "FUTURES",
        /// Options.
        Option = "OPTION",
        /// An index, not tradable itself.
        Index = "INDEX",
        /// Currency pairs.
        Forex = "FOREX",
        /// Spot goods.
        Spot = "SPOT",
        /// Exchange-traded funds.
        Etf = "ETF",
        /// Bonds.
        Bond = "BOND",
        /// Warrants.
        Warrant = "WARRANT",
        /// Combinations of other instruments.
        Spread = "SPREAD",
        /// Funds.
        Fund = "FUND",
        /// Contracts for difference.
        Cfd = "CFD",
        /// Swaps.
        Swap = "SWAP",
    }
}

wire_enum! {
    /// How an order wants to be executed.
    pub enum OrderType ("order type") {
        /// At its price or better; the rest keeps working.
        Limit = "LIMIT",
        /// At whatever price there is.
        Market = "MARKET",
        /// Becomes a market order when the last price reaches its price.
        Stop = "STOP",
        /// Fill and kill: what fills at once at its price or better; the rest is cancelled.
        Fak = "FAK",
        /// Fill or kill: all of it at once at its price or better, or nothing.
        Fok = "FOK",
        /// Request for quote.
        Rfq = "RFQ",
        /// Creation or redemption of an exchange-traded fund.
        Etf = "ETF",
    }
}

wire_enum! {
    /// Right that an option gives.
    pub enum OptionType ("option type") {
        /// Right to buy.
        Call = "CALL",
        /// Right to sell.
        Put = "PUT",
    }
}

wire_enum! {
    /// Length of a bar.
    pub enum Interval ("interval") {
        /// One minute.
        Minute = "MINUTE",
        /// One hour.
        Hour = "HOUR",
        /// One trading day.
        Daily = "DAILY",
        /// One week.
        Weekly = "WEEKLY",
        /// No aggregation.
        Tick = "TICK",
    }
}

wire_enum! {
    /// Currency of an account.
    pub enum Currency ("currency") {
        /// United States dollar.
        USD = "USD",
        /// Hong Kong dollar.
        HKD = "HKD",
        /// Chinese yuan.
        CNY = "CNY",
        /// Canadian dollar.
        CAD = "CAD",
    }
}

wire_enum! {
    /// Weight of a log line.
    pub enum LogLevel ("log level") {
        /// For whoever debugs the node.
        Debug = "DEBUG",
        /// What happened.
        Info = "INFO",
        /// Something an operator should look at.
        Warning = "WARNING",
        /// Something failed.
        Error = "ERROR",
        /// Trading is impaired.
        Critical = "CRITICAL",
    }
}

wire_enum! {
    /// Exchange or other trading place.
    pub enum Exchange ("exchange") {
        /// China Financial Futures Exchange.
        CFFEX = "CFFEX",
        /// Shanghai Futures Exchange.
        SHFE = "SHFE",
        /// Zhengzhou Commodity Exchange.
        CZCE = "CZCE",
        /// Dalian Commodity Exchange.
        DCE = "DCE",
        /// Shanghai International Energy Exchange.
        INE = "INE",
        /// Guangzhou Futures Exchange.
        GFEX = "GFEX",
        /// Shanghai Stock Exchange.
        SSE = "SSE",
        /// Shenzhen Stock Exchange.
        SZSE = "SZSE",
        /// Beijing Stock Exchange.
        BSE = "BSE",
        /// Shanghai-Hong Kong Stock Connect.
        SHHK = "SHHK",
        /// Shenzhen-Hong Kong Stock Connect.
        SZHK = "SZHK",
        /// Shanghai Gold Exchange.
        SGE = "SGE",
        /// Wuxi Steel Exchange.
        WXE = "WXE",
        /// China Foreign Exchange Trade System, bond market maker trading system.
        CFETS = "CFETS",
        /// China Foreign Exchange Trade System, X-Bond anonymous trading system.
        XBOND = "XBOND",
        /// Interactive Brokers' smart router.
        SMART = "SMART",
        /// New York Stock Exchange.
        NYSE = "NYSE",
        /// Nasdaq.
        NASDAQ = "NASDAQ",
        /// NYSE Arca.
        ARCA = "ARCA",
        /// Direct Edge.
        EDGEA = "EDGEA",
        /// Nasdaq Island.
        ISLAND = "ISLAND",
        /// BATS Global Markets.
        BATS = "BATS",
        /// The Investors Exchange.
        IEX = "IEX",
        /// American Stock Exchange.
        AMEX = "AMEX",
        /// Toronto Stock Exchange.
        TSE = "TSE",
        /// New York Mercantile Exchange.
        NYMEX = "NYMEX",
        /// COMEX.
        COMEX = "COMEX",
        /// Globex.
        GLOBEX = "GLOBEX",
        /// Interactive Brokers' foreign exchange.
        IDEALPRO = "IDEALPRO",
        /// Chicago Mercantile Exchange.
        CME = "CME",
        /// Intercontinental Exchange.
        ICE = "ICE",
        /// Stock Exchange of Hong Kong.
        SEHK = "SEHK",
        /// Hong Kong Futures Exchange.
        HKFE = "HKFE",
        /// Singapore Exchange.
        SGX = "SGX",
        /// Chicago Board of Trade.
        CBOT = "CBOT",
        /// Chicago Board Options Exchange.
        CBOE = "CBOE",
        /// CBOE Futures Exchange.
        CFE = "CFE",
        /// Dubai Mercantile Exchange.
        DME = "DME",
        /// Eurex.
        EUREX = "EUREX",
        /// Asia Pacific Exchange.
        APEX = "APEX",
        /// London Metal Exchange.
        LME = "LME",
        /// Bursa Malaysia Derivatives.
        BMD = "BMD",
        /// Tokyo Commodity Exchange.
        TOCOM = "TOCOM",
        /// Euronext.
        EUNX = "EUNX",
        /// Korea Exchange.
        KRX = "KRX",
        /// Over the counter.
        OTC = "OTC",
        /// Interactive Brokers' alternative trading system.
        IBKRATS = "IBKRATS",
        /// A venue of one's own.
        LOCAL = "LOCAL",
        /// For what belongs to no exchange.
        GLOBAL = "GLOBAL",
    }
}

impl Exchange {
    /// Whether positions of today and of earlier days are closed by different offsets (SHFE and INE rules).
    #[must_use]
    pub const fn closes_today_separately(self) -> bool {
        matches!(self, Exchange::SHFE | Exchange::INE)
    }
}

/// What an instrument is called, and where: VeighNa's `vt_symbol`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InstrumentId {
    /// The venue's spelling.
    pub symbol: Symbol,
    /// Where it trades.
    pub exchange: Exchange,
}

impl InstrumentId {
    /// An instrument by its parts.
    #[must_use]
    pub fn new(symbol: impl Into<Symbol>, exchange: Exchange) -> Self {
        InstrumentId { symbol: symbol.into(), exchange }
    }
}

impl fmt::Display for InstrumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.symbol, self.exchange)
    }
}

/// A text that is no `SYMBOL.EXCHANGE`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstrumentIdError {
    /// No dot, or nothing before it.
    #[error("`{0}` is no instrument: write SYMBOL.EXCHANGE, for example rb2410.SHFE")]
    Shape(String),
    /// What follows the last dot is no exchange.
    #[error("in `{text}`: {source}")]
    Exchange {
        /// The whole text.
        text: String,
        /// Which exchanges there are.
        source: UnknownMember,
    },
}

impl FromStr for InstrumentId {
    type Err = InstrumentIdError;
    /// Splits at the last dot: symbols may hold dots, exchanges do not.
    fn from_str(text: &str) -> Result<Self, InstrumentIdError> {
        let shape = || InstrumentIdError::Shape(text.chars().take(64).collect());
        let (symbol, exchange) = text.rsplit_once('.').ok_or_else(shape)?;
        if symbol.is_empty() {
            return Err(shape());
        }
        let exchange = exchange
            .parse()
            .map_err(|source| InstrumentIdError::Exchange { text: text.chars().take(64).collect(), source })?;
        Ok(InstrumentId::new(symbol, exchange))
    }
}

/// The id of an order (or a quote): allocated by the client, the same everywhere for ever.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderId(CompactString);

/// Why a client may not use an order id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderIdError {
    /// Too short, too long, or a character that is not allowed.
    #[error("order id `{0}` must be 1 to 64 characters of A-Z a-z 0-9 _ -")]
    Characters(String),
    /// `x-` marks orders that the venue knows and nobody here sent.
    #[error("order id `{0}` begins with x-, which is kept for orders found at the venue")]
    Reserved(String),
}

impl OrderId {
    /// Prefix of ids derived from a venue's references, for orders that nobody here sent.
    pub const EXTERNAL_PREFIX: &'static str = "x-";
    /// Longest id, in characters.
    pub const MAX_LEN: usize = 64;

    /// A new id: a UUID v7, so ids sort by the time they were made.
    #[must_use]
    pub fn generate() -> Self {
        OrderId(CompactString::new(uuid::Uuid::now_v7().to_string()))
    }

    /// The id of an order found at the venue; every node makes the same from the same reference.
    #[must_use]
    pub fn external(venue_reference: &str) -> Self {
        OrderId(CompactString::new(format!("{}{venue_reference}", Self::EXTERNAL_PREFIX)))
    }

    /// Whatever a message holds; [`OrderId::check_client_allocated`] says whether a client may use it.
    pub fn new(text: impl Into<CompactString>) -> Self {
        OrderId(text.into())
    }

    /// Whether a client may use this id for something new.
    pub fn check_client_allocated(&self) -> Result<(), OrderIdError> {
        let text = self.as_str();
        let shown = || text.chars().take(Self::MAX_LEN + 1).collect();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if text.is_empty() || text.len() > Self::MAX_LEN || !text.bytes().all(allowed) {
            return Err(OrderIdError::Characters(shown()));
        }
        if text.starts_with(Self::EXTERNAL_PREFIX) {
            return Err(OrderIdError::Reserved(shown()));
        }
        Ok(())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inventory_is_complete() {
        assert_eq!(Exchange::ALL.len(), 49);
        assert_eq!(Direction::ALL.len(), 3);
        assert_eq!(Offset::ALL.len(), 5);
        assert_eq!(OrderStatus::ALL.len(), 6);
        assert_eq!(Product::ALL.len(), 13);
        assert_eq!(OrderType::ALL.len(), 7);
        assert_eq!(OptionType::ALL.len(), 2);
        assert_eq!(Interval::ALL.len(), 5);
        assert_eq!(Currency::ALL.len(), 4);
    }

    #[test]
    fn every_member_reads_back_from_its_name() {
        for &exchange in Exchange::ALL {
            assert_eq!(exchange.as_str().parse(), Ok(exchange));
            let json = serde_json::to_string(&exchange).expect("encodes");
            assert_eq!(serde_json::from_str::<Exchange>(&json).expect("decodes"), exchange);
        }
    }

    #[test]
    fn an_unknown_member_names_what_is_known() {
        let message = "SIDEWAYS".parse::<Direction>().expect_err("unknown").to_string();
        assert_eq!(message, "unknown direction `SIDEWAYS`, expected one of LONG, SHORT, NET");
    }

    #[test]
    fn instruments_split_at_the_last_dot() {
        let id: InstrumentId = "SPY-500.0-USD.SMART".parse().expect("parses");
        assert_eq!((id.symbol.as_str(), id.exchange), ("SPY-500.0-USD", Exchange::SMART));
        assert_eq!(id.to_string(), "SPY-500.0-USD.SMART");
        assert!("rb2410".parse::<InstrumentId>().is_err());
        assert!(".SHFE".parse::<InstrumentId>().is_err());
        assert!("rb2410.MOON".parse::<InstrumentId>().is_err());
    }

    #[test]
    fn clients_may_not_take_every_id() {
        assert!(OrderId::generate().check_client_allocated().is_ok());
        assert!(OrderId::new("my-order_1").check_client_allocated().is_ok());
        for bad in ["", "a b", "é", "a.b", &"a".repeat(65), "x-1"] {
            assert!(OrderId::new(bad).check_client_allocated().is_err(), "{bad:?}");
        }
    }
}
