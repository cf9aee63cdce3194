//! A depth record (`CThostFtdcDepthMarketDataField`) as a view of its bytes: nothing is copied but what is asked for.

/// One snapshot of an instrument's market, as the library handed it over.
#[derive(Debug, Clone, Copy)]
pub struct Depth<'a>(&'a [u8; Depth::LEN]);

impl<'a> Depth<'a> {
    /// The record's size: the same in every version that is served.
    pub const LEN: usize = 584;

    /// Price levels on each side.
    pub const LEVELS: usize = 5;

    /// A view of these bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8; Depth::LEN]) -> Depth<'a> {
        Depth(bytes)
    }

    /// The instrument; `None` where the record names none, or names it in anything but ASCII.
    #[must_use]
    pub fn symbol(self) -> Option<&'a str> {
        let text = self.text(const { field("InstrumentID") });
        if text.is_empty() || !text.is_ascii() { None } else { std::str::from_utf8(text).ok() }
    }

    /// `YYYYMMDD`, in the exchange's habits.
    #[must_use]
    pub fn trading_day(self) -> &'a [u8] {
        self.text(const { field("TradingDay") })
    }

    /// `YYYYMMDD`, in the exchange's habits.
    #[must_use]
    pub fn action_day(self) -> &'a [u8] {
        self.text(const { field("ActionDay") })
    }

    /// `HH:MM:SS`.
    #[must_use]
    pub fn update_time(self) -> &'a [u8] {
        self.text(const { field("UpdateTime") })
    }

    /// Milliseconds beyond the second of `update_time`.
    #[must_use]
    pub fn update_millis(self) -> i32 {
        self.int(const { field("UpdateMillisec") })
    }

    /// Price of the last trade.
    #[must_use]
    pub fn last_price(self) -> Option<f64> {
        self.double(const { field("LastPrice") })
    }

    /// First price of the trading day.
    #[must_use]
    pub fn open_price(self) -> Option<f64> {
        self.double(const { field("OpenPrice") })
    }

    /// Highest price of the trading day.
    #[must_use]
    pub fn high_price(self) -> Option<f64> {
        self.double(const { field("HighestPrice") })
    }

    /// Lowest price of the trading day.
    #[must_use]
    pub fn low_price(self) -> Option<f64> {
        self.double(const { field("LowestPrice") })
    }

    /// Last price of the trading day before.
    #[must_use]
    pub fn pre_close(self) -> Option<f64> {
        self.double(const { field("PreClosePrice") })
    }

    /// Settlement price of the trading day before.
    #[must_use]
    pub fn pre_settlement(self) -> Option<f64> {
        self.double(const { field("PreSettlementPrice") })
    }

    /// Highest price allowed today.
    #[must_use]
    pub fn limit_up(self) -> Option<f64> {
        self.double(const { field("UpperLimitPrice") })
    }

    /// Lowest price allowed today.
    #[must_use]
    pub fn limit_down(self) -> Option<f64> {
        self.double(const { field("LowerLimitPrice") })
    }

    /// Lots traded in this trading day so far.
    #[must_use]
    pub fn volume(self) -> i32 {
        self.int(const { field("Volume") })
    }

    /// Money traded in this trading day so far; CZCE leaves out the contract size.
    #[must_use]
    pub fn turnover(self) -> Option<f64> {
        self.double(const { field("Turnover") })
    }

    /// Lots.
    #[must_use]
    pub fn open_interest(self) -> Option<f64> {
        self.double(const { field("OpenInterest") })
    }

    /// Price and lots of a buying level: 0 is the best, [`Depth::LEVELS`] and beyond hold nothing.
    #[must_use]
    pub fn bid(self, level: usize) -> (Option<f64>, i32) {
        self.level(const { (field("BidPrice1"), field("BidVolume1")) }, level)
    }

    /// Price and lots of a selling level, as [`Depth::bid`].
    #[must_use]
    pub fn ask(self, level: usize) -> (Option<f64>, i32) {
        self.level(const { (field("AskPrice1"), field("AskVolume1")) }, level)
    }

    fn level(self, (price, volume): (Field, Field), level: usize) -> (Option<f64>, i32) {
        // From one level to the next: price and volume of both sides.
        const STEP: usize = field("BidPrice2").at - field("BidPrice1").at;
        if level >= Depth::LEVELS {
            return (None, 0);
        }
        (
            self.double(Field { at: price.at + level * STEP, ..price }),
            self.int(Field { at: volume.at + level * STEP, ..volume }),
        )
    }

    /// What CTP leaves out is `DBL_MAX`; what is no number is no value either.
    #[inline]
    fn double(self, field: Field) -> Option<f64> {
        let value = f64::from_ne_bytes(self.bytes(field.at));
        (value.is_finite() && value.abs() < f64::MAX).then_some(value)
    }

    #[inline]
    fn int(self, field: Field) -> i32 {
        i32::from_ne_bytes(self.bytes(field.at))
    }

    #[inline]
    fn bytes<const N: usize>(self, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.0[at..at + N]);
        bytes
    }

    /// Up to the first NUL, or all of the field where there is none.
    #[inline]
    fn text(self, field: Field) -> &'a [u8] {
        let bytes = &self.0[field.at..field.at + field.len];
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        &bytes[..end]
    }
}

/// A field's place in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) at: usize,
    pub(crate) len: usize,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Int,
    Double,
}

/// The field of this name; names are checked when the crate is built.
const fn field(name: &str) -> Field {
    let mut index = 0;
    while index < FIELDS.len() {
        if same(FIELDS[index].name.as_bytes(), name.as_bytes()) {
            return FIELDS[index];
        }
        index += 1;
    }
    panic!("no such field in a depth record")
}

const fn same(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let mut index = 0;
    while index < left.len() {
        if left[index] != right[index] {
            return false;
        }
        index += 1;
    }
    true
}

const fn text(name: &'static str, at: usize, len: usize) -> Field {
    Field { name, kind: Kind::Text, at, len }
}

const fn int(name: &'static str, at: usize) -> Field {
    Field { name, kind: Kind::Int, at, len: 4 }
}

const fn double(name: &'static str, at: usize) -> Field {
    Field { name, kind: Kind::Double, at, len: 8 }
}

/// `CThostFtdcDepthMarketDataField` from 6.6.5 on, in its order.
pub(crate) const FIELDS: &[Field] = &[
    text("TradingDay", 0, 9),
    text("reserve1", 9, 31),
    text("ExchangeID", 40, 9),
    text("reserve2", 49, 31),
    double("LastPrice", 80),
    double("PreSettlementPrice", 88),
    double("PreClosePrice", 96),
    double("PreOpenInterest", 104),
    double("OpenPrice", 112),
    double("HighestPrice", 120),
    double("LowestPrice", 128),
    int("Volume", 136),
    double("Turnover", 144),
    double("OpenInterest", 152),
    double("ClosePrice", 160),
    double("SettlementPrice", 168),
    double("UpperLimitPrice", 176),
    double("LowerLimitPrice", 184),
    double("PreDelta", 192),
    double("CurrDelta", 200),
    text("UpdateTime", 208, 9),
    int("UpdateMillisec", 220),
    double("BidPrice1", 224),
    int("BidVolume1", 232),
    double("AskPrice1", 240),
    int("AskVolume1", 248),
    double("BidPrice2", 256),
    int("BidVolume2", 264),
    double("AskPrice2", 272),
    int("AskVolume2", 280),
    double("BidPrice3", 288),
    int("BidVolume3", 296),
    double("AskPrice3", 304),
    int("AskVolume3", 312),
    double("BidPrice4", 320),
    int("BidVolume4", 328),
    double("AskPrice4", 336),
    int("AskVolume4", 344),
    double("BidPrice5", 352),
    int("BidVolume5", 360),
    double("AskPrice5", 368),
    int("AskVolume5", 376),
    double("AveragePrice", 384),
    text("ActionDay", 392, 9),
    text("InstrumentID", 401, 81),
    text("ExchangeInstID", 482, 81),
    double("BandingUpperPrice", 568),
    double("BandingLowerPrice", 576),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::DepthBytes;

    #[test]
    fn fields_lie_where_a_c_compiler_puts_them() {
        let mut end: usize = 0;
        for field in FIELDS {
            let align = if field.kind == Kind::Text { 1 } else { field.len };
            assert_eq!(field.at, end.next_multiple_of(align), "{}", field.name);
            end = field.at + field.len;
        }
        assert_eq!(end.next_multiple_of(8), Depth::LEN);
    }

    #[test]
    fn every_field_is_read_from_its_own_place() {
        let mut bytes = DepthBytes::new();
        bytes.text("InstrumentID", "SP a1405&a1409").text("TradingDay", "20181015").text("ActionDay", "20181012");
        bytes.text("UpdateTime", "21:00:00").int("UpdateMillisec", 500).int("Volume", 7);
        let doubles = [
            "LastPrice",
            "OpenPrice",
            "HighestPrice",
            "LowestPrice",
            "PreClosePrice",
            "PreSettlementPrice",
            "UpperLimitPrice",
            "LowerLimitPrice",
            "Turnover",
            "OpenInterest",
        ];
        for (index, name) in doubles.iter().enumerate() {
            bytes.double(name, index as f64 - 1.0);
        }
        for level in 1..=5 {
            bytes
                .double(&format!("BidPrice{level}"), 100.0 - f64::from(level))
                .int(&format!("BidVolume{level}"), level);
            bytes
                .double(&format!("AskPrice{level}"), 100.0 + f64::from(level))
                .int(&format!("AskVolume{level}"), -level);
        }
        let depth = bytes.depth();
        assert_eq!(depth.symbol(), Some("SP a1405&a1409"));
        assert_eq!(depth.trading_day(), b"20181015");
        assert_eq!(depth.action_day(), b"20181012");
        assert_eq!((depth.update_time(), depth.update_millis()), (&b"21:00:00"[..], 500));
        let read = [
            depth.last_price(),
            depth.open_price(),
            depth.high_price(),
            depth.low_price(),
            depth.pre_close(),
            depth.pre_settlement(),
            depth.limit_up(),
            depth.limit_down(),
            depth.turnover(),
            depth.open_interest(),
        ];
        assert_eq!(read.map(Option::unwrap), [-1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        assert_eq!(depth.volume(), 7);
        for level in 0..5 {
            let number = level as i32 + 1;
            assert_eq!(depth.bid(level), (Some(100.0 - f64::from(number)), number));
            assert_eq!(depth.ask(level), (Some(100.0 + f64::from(number)), -number));
        }
        assert_eq!((depth.bid(5), depth.ask(usize::MAX)), ((None, 0), (None, 0)));
    }

    #[test]
    fn what_is_no_number_is_no_value() {
        let mut bytes = DepthBytes::new();
        for none in [f64::MAX, f64::MIN, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(bytes.double("LastPrice", none).depth().last_price(), None, "{none}");
        }
        for value in [0.0, -12.5, 1.797e300] {
            assert_eq!(bytes.double("LastPrice", value).depth().last_price(), Some(value));
        }
    }

    #[test]
    fn text_without_an_end_stops_with_its_field() {
        let bytes = [b'9'; Depth::LEN];
        let depth = Depth::new(&bytes);
        assert_eq!(depth.trading_day(), b"999999999");
        assert_eq!(depth.symbol().map(str::len), Some(81));
    }

    #[test]
    fn a_symbol_is_ascii() {
        assert_eq!(DepthBytes::new().depth().symbol(), None);
        assert_eq!(DepthBytes::new().text("InstrumentID", "é").depth().symbol(), None);
        assert_eq!(Depth::new(&[0xff; Depth::LEN]).symbol(), None);
    }
}
