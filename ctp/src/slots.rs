//! Which slot of a library's table holds which method, for each family. The facts are in `facts/slots.txt`; a test holds
//! the tables here to them.
//!
//! Neither CTP's interfaces nor its callback classes have a virtual destructor: slot 0 is the first method, and in the
//! Itanium C++ ABI the object's pointer points at it, past offset-to-top and type information.

use crate::version::Family;

/// A virtual method: its name and its slot in each family, in the order of [`Family::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// `ReqUserLogin`.
    pub method: &'static str,
    at: [usize; 5],
}

impl Slot {
    const fn new(method: &'static str, at: [usize; 5]) -> Slot {
        Slot { method, at }
    }

    /// The method's place in a family's table.
    #[must_use]
    pub const fn of(&self, family: Family) -> usize {
        self.at[family as usize]
    }

    /// The method as an error names it: with its parameters where they tell families apart.
    #[must_use]
    pub fn declared(&self, family: Family) -> &'static str {
        match (*self == trader::SUBSCRIBE_PRIVATE_TOPIC, family) {
            (true, Family::E) => "SubscribePrivateTopic(THOST_TE_RESUME_TYPE, int)",
            (true, _) => "SubscribePrivateTopic(THOST_TE_RESUME_TYPE)",
            (false, _) => self.method,
        }
    }

    /// Whether a symbol (`_ZN18CFtdcTraderApiImpl12ReqUserLoginEP27CThostFtdcReqUserLoginFieldi`) is this method, as this
    /// family declares it.
    #[must_use]
    pub fn is_named_by(&self, symbol: &str, family: Family) -> bool {
        let Some((_, parameters)) = symbol.split_once(&format!("{}{}E", self.method.len(), self.method)) else {
            return false;
        };
        // Where D and E differ in what is called: E's takes a number besides. What they call back differs by a slot, and
        // nothing else in a library gives that away.
        *self != trader::SUBSCRIBE_PRIVATE_TOPIC || parameters.ends_with('i') == (family == Family::E)
    }
}

/// Room in every table of callbacks: E has 178, and newer versions append theirs.
pub const SPI_SLOTS: usize = 512;

/// `CThostFtdcTraderApi` and `CThostFtdcTraderSpi`.
pub mod trader {
    use super::Slot;

    /// `void Release()`.
    pub const RELEASE: Slot = Slot::new("Release", [0; 5]);
    /// `void Init()`.
    pub const INIT: Slot = Slot::new("Init", [1; 5]);
    /// `const char *GetTradingDay()`.
    pub const GET_TRADING_DAY: Slot = Slot::new("GetTradingDay", [3; 5]);
    /// `void RegisterFront(char *)`.
    pub const REGISTER_FRONT: Slot = Slot::new("RegisterFront", [4, 5, 5, 5, 5]);
    /// `void RegisterSpi(CThostFtdcTraderSpi *)`.
    pub const REGISTER_SPI: Slot = Slot::new("RegisterSpi", [7, 8, 8, 8, 8]);
    /// `void SubscribePrivateTopic(THOST_TE_RESUME_TYPE)`, in E with `int nSeqNo`.
    pub const SUBSCRIBE_PRIVATE_TOPIC: Slot = Slot::new("SubscribePrivateTopic", [8, 9, 9, 9, 9]);
    /// `void SubscribePublicTopic(THOST_TE_RESUME_TYPE)`.
    pub const SUBSCRIBE_PUBLIC_TOPIC: Slot = Slot::new("SubscribePublicTopic", [9, 10, 10, 10, 10]);
    /// `int ReqAuthenticate(CThostFtdcReqAuthenticateField *, int)`; so are the requests below, each with its record.
    pub const REQ_AUTHENTICATE: Slot = Slot::new("ReqAuthenticate", [10, 11, 11, 11, 11]);
    #[allow(missing_docs)]
    pub const REQ_USER_LOGIN: Slot = Slot::new("ReqUserLogin", [13, 14, 16, 16, 16]);
    #[allow(missing_docs)]
    pub const REQ_ORDER_INSERT: Slot = Slot::new("ReqOrderInsert", [23, 24, 26, 26, 26]);
    #[allow(missing_docs)]
    pub const REQ_ORDER_ACTION: Slot = Slot::new("ReqOrderAction", [26, 27, 29, 29, 29]);
    #[allow(missing_docs)]
    pub const REQ_SETTLEMENT_INFO_CONFIRM: Slot = Slot::new("ReqSettlementInfoConfirm", [28, 29, 31, 31, 31]);
    #[allow(missing_docs)]
    pub const REQ_QRY_ORDER: Slot = Slot::new("ReqQryOrder", [40, 41, 43, 43, 43]);
    #[allow(missing_docs)]
    pub const REQ_QRY_TRADE: Slot = Slot::new("ReqQryTrade", [41, 42, 44, 44, 44]);
    #[allow(missing_docs)]
    pub const REQ_QRY_INVESTOR_POSITION: Slot = Slot::new("ReqQryInvestorPosition", [42, 43, 45, 45, 45]);
    #[allow(missing_docs)]
    pub const REQ_QRY_TRADING_ACCOUNT: Slot = Slot::new("ReqQryTradingAccount", [43, 44, 46, 46, 46]);
    #[allow(missing_docs)]
    pub const REQ_QRY_INSTRUMENT: Slot = Slot::new("ReqQryInstrument", [50, 51, 53, 54, 54]);

    /// Every method that is called.
    pub const CALLED: &[Slot] = &[
        RELEASE,
        INIT,
        GET_TRADING_DAY,
        REGISTER_FRONT,
        REGISTER_SPI,
        SUBSCRIBE_PRIVATE_TOPIC,
        SUBSCRIBE_PUBLIC_TOPIC,
        REQ_AUTHENTICATE,
        REQ_USER_LOGIN,
        REQ_ORDER_INSERT,
        REQ_ORDER_ACTION,
        REQ_SETTLEMENT_INFO_CONFIRM,
        REQ_QRY_ORDER,
        REQ_QRY_TRADE,
        REQ_QRY_INVESTOR_POSITION,
        REQ_QRY_TRADING_ACCOUNT,
        REQ_QRY_INSTRUMENT,
    ];

    /// The callbacks that are handled.
    #[allow(missing_docs)]
    pub mod spi {
        use super::Slot;

        pub const ON_FRONT_CONNECTED: Slot = Slot::new("OnFrontConnected", [0; 5]);
        pub const ON_FRONT_DISCONNECTED: Slot = Slot::new("OnFrontDisconnected", [1; 5]);
        pub const ON_RSP_AUTHENTICATE: Slot = Slot::new("OnRspAuthenticate", [3; 5]);
        pub const ON_RSP_USER_LOGIN: Slot = Slot::new("OnRspUserLogin", [4, 4, 4, 4, 5]);
        pub const ON_RSP_USER_LOGOUT: Slot = Slot::new("OnRspUserLogout", [5, 5, 5, 5, 6]);
        pub const ON_RSP_ORDER_INSERT: Slot = Slot::new("OnRspOrderInsert", [11, 11, 11, 11, 12]);
        pub const ON_RSP_ORDER_ACTION: Slot = Slot::new("OnRspOrderAction", [14, 14, 14, 14, 15]);
        pub const ON_RSP_SETTLEMENT_INFO_CONFIRM: Slot = Slot::new("OnRspSettlementInfoConfirm", [16, 16, 16, 16, 17]);
        pub const ON_RSP_QRY_ORDER: Slot = Slot::new("OnRspQryOrder", [28, 28, 28, 28, 29]);
        pub const ON_RSP_QRY_TRADE: Slot = Slot::new("OnRspQryTrade", [29, 29, 29, 29, 30]);
        pub const ON_RSP_QRY_INVESTOR_POSITION: Slot = Slot::new("OnRspQryInvestorPosition", [30, 30, 30, 30, 31]);
        pub const ON_RSP_QRY_TRADING_ACCOUNT: Slot = Slot::new("OnRspQryTradingAccount", [31, 31, 31, 31, 32]);
        pub const ON_RSP_QRY_INSTRUMENT: Slot = Slot::new("OnRspQryInstrument", [38, 38, 38, 39, 40]);
        pub const ON_RSP_ERROR: Slot = Slot::new("OnRspError", [73, 73, 73, 74, 75]);
        pub const ON_RTN_ORDER: Slot = Slot::new("OnRtnOrder", [74, 74, 74, 75, 76]);
        pub const ON_RTN_TRADE: Slot = Slot::new("OnRtnTrade", [75, 75, 75, 76, 77]);
        pub const ON_ERR_RTN_ORDER_INSERT: Slot = Slot::new("OnErrRtnOrderInsert", [76, 76, 76, 77, 78]);
        pub const ON_ERR_RTN_ORDER_ACTION: Slot = Slot::new("OnErrRtnOrderAction", [77, 77, 77, 78, 79]);
    }
}

/// `CThostFtdcMdApi` and `CThostFtdcMdSpi`: the same in every family.
pub mod md {
    use super::Slot;

    /// `void Release()`.
    pub const RELEASE: Slot = Slot::new("Release", [0; 5]);
    /// `void Init()`.
    pub const INIT: Slot = Slot::new("Init", [1; 5]);
    /// `const char *GetTradingDay()`.
    pub const GET_TRADING_DAY: Slot = Slot::new("GetTradingDay", [3; 5]);
    /// `void RegisterFront(char *)`.
    pub const REGISTER_FRONT: Slot = Slot::new("RegisterFront", [4; 5]);
    /// `void RegisterSpi(CThostFtdcMdSpi *)`.
    pub const REGISTER_SPI: Slot = Slot::new("RegisterSpi", [7; 5]);
    /// `int SubscribeMarketData(char *[], int)`.
    pub const SUBSCRIBE_MARKET_DATA: Slot = Slot::new("SubscribeMarketData", [8; 5]);
    /// `int UnSubscribeMarketData(char *[], int)`.
    pub const UNSUBSCRIBE_MARKET_DATA: Slot = Slot::new("UnSubscribeMarketData", [9; 5]);
    /// `int ReqUserLogin(CThostFtdcReqUserLoginField *, int)`.
    pub const REQ_USER_LOGIN: Slot = Slot::new("ReqUserLogin", [12; 5]);

    /// Every method that is called.
    pub const CALLED: &[Slot] = &[
        RELEASE,
        INIT,
        GET_TRADING_DAY,
        REGISTER_FRONT,
        REGISTER_SPI,
        SUBSCRIBE_MARKET_DATA,
        UNSUBSCRIBE_MARKET_DATA,
        REQ_USER_LOGIN,
    ];

    /// The callbacks that are handled.
    #[allow(missing_docs)]
    pub mod spi {
        use super::Slot;

        pub const ON_FRONT_CONNECTED: Slot = Slot::new("OnFrontConnected", [0; 5]);
        pub const ON_FRONT_DISCONNECTED: Slot = Slot::new("OnFrontDisconnected", [1; 5]);
        pub const ON_RSP_USER_LOGIN: Slot = Slot::new("OnRspUserLogin", [3; 5]);
        pub const ON_RSP_ERROR: Slot = Slot::new("OnRspError", [6; 5]);
        pub const ON_RSP_SUB_MARKET_DATA: Slot = Slot::new("OnRspSubMarketData", [7; 5]);
        pub const ON_RSP_UNSUB_MARKET_DATA: Slot = Slot::new("OnRspUnSubMarketData", [8; 5]);
        pub const ON_RTN_DEPTH_MARKET_DATA: Slot = Slot::new("OnRtnDepthMarketData", [11; 5]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: &str = include_str!("facts/slots.txt");

    /// The methods of one block, in the order of their slots.
    fn block(what: &str, family: &str) -> Vec<&'static str> {
        let start = format!("[{what} {family} ");
        let mut lines = FACTS.lines().skip_while(|line| !line.starts_with(&start));
        assert!(lines.next().is_some(), "no block {start}");
        lines.take_while(|line| !line.starts_with('[')).flat_map(str::split_whitespace).collect()
    }

    fn check(slots: &[Slot], what: &str, blocks_by_family: bool) {
        for family in Family::ALL {
            let methods = block(what, &if blocks_by_family { family.to_string() } else { "all".to_owned() });
            for slot in slots {
                assert_eq!(methods.get(slot.of(family)), Some(&slot.method), "{what}, family {family}");
            }
            assert!(methods.len() < SPI_SLOTS / 2, "the table of callbacks needs more room");
        }
    }

    #[test]
    fn every_slot_holds_the_method_that_was_measured_there() {
        check(trader::CALLED, "trader-api", true);
        check(&crate::trader_spi::methods().map(|(slot, _)| slot), "trader-spi", true);
        check(md::CALLED, "md-api", false);
        check(&crate::md_spi::methods().map(|(slot, _)| slot), "md-spi", false);
    }

    #[test]
    fn every_family_differs_from_every_other_in_what_is_verified() {
        let symbols = |family: Family| -> Vec<(usize, String)> {
            let methods = block("trader-api", &family.to_string());
            let e = if family == Family::E { "i" } else { "" };
            methods
                .iter()
                .enumerate()
                .map(|(at, method)| {
                    let arity = if *method == "SubscribePrivateTopic" { e } else { "" };
                    (at, format!("_ZN18CFtdcTraderApiImpl{}{method}E20THOST_TE_RESUME_TYPE{arity}", method.len()))
                })
                .collect()
        };
        for library in Family::ALL {
            let symbols = symbols(library);
            for taken_for in Family::ALL {
                let passes =
                    trader::CALLED.iter().all(|slot| slot.is_named_by(&symbols[slot.of(taken_for)].1, taken_for));
                assert_eq!(passes, library == taken_for, "a library of {library} taken for {taken_for}");
            }
        }
    }

    #[test]
    fn a_symbol_names_a_method_whole() {
        let named = |slot: Slot, symbol: &str| slot.is_named_by(symbol, Family::A);
        let login = "_ZN18CFtdcTraderApiImpl12ReqUserLoginEP27CThostFtdcReqUserLoginFieldi";
        assert!(named(trader::REQ_USER_LOGIN, login));
        assert!(!named(trader::REQ_AUTHENTICATE, login));
        assert!(!named(md::SUBSCRIBE_MARKET_DATA, "_ZN14CFtdcMdApiImpl21UnSubscribeMarketDataEPPci"));
        assert!(!named(trader::REQ_USER_LOGIN, "_ZN1X13ReqUserLogin2Ev"));
        assert!(!named(trader::RELEASE, ""));
    }
}
