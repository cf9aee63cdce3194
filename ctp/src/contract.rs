//! What an instrument's record means as a contract, and which instruments are none.

use protocol::{Contract, Exchange, InstrumentId, Name, OptionType, Product, Symbol};

use crate::dates;
use crate::records::Instrument;

/// Why an instrument is not traded here. Tell the operator of the first of each class and go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Skipped {
    /// Without a symbol.
    #[error("an instrument without a symbol")]
    NoSymbol,
    /// At an exchange that CTP's gateway does not know.
    #[error("{symbol}: {source}")]
    Exchange {
        /// The instrument.
        symbol: Symbol,
        /// What is known.
        source: UnknownExchange,
    },
    /// Of a class that is not traded.
    #[error("{symbol}: {} is neither futures nor an option nor a combination", class_in_words(*.class))]
    Class {
        /// The instrument.
        symbol: Symbol,
        /// `THOST_FTDC_PC_*`.
        class: u8,
    },
    /// Money could not be reckoned.
    #[error("{symbol}: the contract size is {multiplier}, expected more than 0")]
    Size {
        /// The instrument.
        symbol: Symbol,
        /// As CTP has it.
        multiplier: i32,
    },
    /// Prices could not be checked.
    #[error("{symbol}: the price step is missing or not above 0")]
    PriceTick {
        /// The instrument.
        symbol: Symbol,
    },
}

/// An `ExchangeID` that is none of CTP's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown exchange `{0}`, expected one of CFFEX, SHFE, CZCE, DCE, INE, GFEX")]
pub struct UnknownExchange(pub Name);

/// The exchange of an `ExchangeID`.
///
/// # Errors
/// None of China's futures exchanges.
pub fn exchange(text: &str) -> Result<Exchange, UnknownExchange> {
    match text {
        "CFFEX" => Ok(Exchange::CFFEX),
        "SHFE" => Ok(Exchange::SHFE),
        "CZCE" => Ok(Exchange::CZCE),
        "DCE" => Ok(Exchange::DCE),
        "INE" => Ok(Exchange::INE),
        "GFEX" => Ok(Exchange::GFEX),
        _ => Err(UnknownExchange(text.into())),
    }
}

/// The contract of an instrument. CTP takes no stop orders and answers no history.
///
/// An option's `option_portfolio` is its product as VeighNa's CTP gateway has it (CZCE's without the `C` or `P` that
/// ends it), and its `option_index` the strike as Python writes it.
///
/// # Errors
/// An instrument that is not traded here, and why.
pub fn contract(gateway_name: &Name, instrument: &Instrument) -> Result<Contract, Skipped> {
    if instrument.symbol.is_empty() {
        return Err(Skipped::NoSymbol);
    }
    let symbol = || instrument.symbol.clone();
    let exchange = exchange(&instrument.exchange).map_err(|source| Skipped::Exchange { symbol: symbol(), source })?;
    let product = match instrument.product_class {
        b'1' => Product::Futures,
        b'2' | b'6' => Product::Option,
        b'3' => Product::Spread,
        class => return Err(Skipped::Class { symbol: symbol(), class }),
    };
    let multiplier = instrument.multiplier;
    if multiplier <= 0 {
        return Err(Skipped::Size { symbol: symbol(), multiplier });
    }
    let tick =
        instrument.price_tick.filter(|&tick| tick > 0.0).ok_or_else(|| Skipped::PriceTick { symbol: symbol() })?;

    let mut contract =
        Contract::new(gateway_name.clone(), InstrumentId::new(symbol(), exchange), product, multiplier.into(), tick);
    if !instrument.name.is_empty() {
        contract.name = instrument.name.clone();
    }
    // `MinLimitOrderVolume` is the least that one order opens, and no step: what is held can always be closed.
    contract.min_volume = 1.0;
    // 0 where the counter sets no bound.
    contract.max_volume = Some(instrument.max_limit_volume).filter(|&lots| lots > 0).map(f64::from);
    // `THOST_FTDC_PT_Net`; all six exchanges state gross today.
    contract.net_position = instrument.position_type == b'1';
    contract.long_margin_ratio = instrument.long_margin_ratio;
    contract.short_margin_ratio = instrument.short_margin_ratio;
    contract.open_date = dates::date(instrument.open_date.as_bytes());
    contract.expire_date = dates::date(instrument.expire_date.as_bytes());
    if product == Product::Option {
        option(&mut contract, instrument);
    }
    Ok(contract)
}

fn option(contract: &mut Contract, instrument: &Instrument) {
    contract.option_strike = instrument.strike_price;
    contract.option_underlying = Some(instrument.underlying.clone()).filter(|underlying| !underlying.is_empty());
    contract.option_type = match instrument.options_type {
        b'1' => Some(OptionType::Call),
        b'2' => Some(OptionType::Put),
        _ => None,
    };
    contract.option_listed = contract.open_date.and_then(dates::midnight);
    contract.option_expiry = contract.expire_date.and_then(dates::midnight);
    let product = instrument.product.as_str();
    let portfolio = match contract.exchange {
        Exchange::CZCE => product.strip_suffix(['C', 'P']).unwrap_or(product),
        _ => product,
    };
    contract.option_portfolio = Some(portfolio).filter(|portfolio| !portfolio.is_empty()).map(Name::from);
    contract.option_index = instrument.strike_price.map(|strike| format!("{strike:?}").into());
}

fn class_in_words(class: u8) -> String {
    match class {
        b'4' => "spot goods (class 4)".into(),
        b'5' => "an exchange for physical (class 5)".into(),
        b'7' => "trading at settlement (class 7)".into(),
        b'I' => "a metal index (class I)".into(),
        _ => format!("product class {:?}", char::from(class)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instrument() -> Instrument {
        Instrument {
            symbol: "rb2410".into(),
            exchange: "SHFE".into(),
            name: "螺纹钢2410".into(),
            product: "rb".into(),
            product_class: b'1',
            max_market_volume: 30,
            min_market_volume: 1,
            max_limit_volume: 500,
            min_limit_volume: 1,
            multiplier: 10,
            price_tick: Some(1.0),
            open_date: "20231017".into(),
            expire_date: "20241015".into(),
            is_trading: true,
            position_type: b'2',
            position_date_type: b'1',
            long_margin_ratio: Some(0.13),
            short_margin_ratio: Some(0.14),
            ..Instrument::default()
        }
    }

    fn convert(instrument: &Instrument) -> Contract {
        contract(&"ctp1".into(), instrument).expect("a contract")
    }

    fn day(year: i32, month: u32, day: u32) -> chrono::NaiveDate {
        chrono::NaiveDate::from_ymd_opt(year, month, day).expect("a day")
    }

    #[test]
    fn futures_come_through_with_all_they_have() {
        let mut expected =
            Contract::new("ctp1", InstrumentId::new("rb2410", Exchange::SHFE), Product::Futures, 10.0, 1.0);
        expected.name = "螺纹钢2410".into();
        expected.max_volume = Some(500.0);
        expected.long_margin_ratio = Some(0.13);
        expected.short_margin_ratio = Some(0.14);
        expected.open_date = Some(day(2023, 10, 17));
        expected.expire_date = Some(day(2024, 10, 15));
        assert_eq!(convert(&instrument()), expected);
        assert!(!expected.stop_supported && !expected.history_data && !expected.net_position);
    }

    #[test]
    fn what_is_not_stated_is_absent() {
        let bare = Instrument {
            name: "".into(),
            max_limit_volume: 0,
            min_limit_volume: 0,
            open_date: "".into(),
            expire_date: "0".into(),
            long_margin_ratio: None,
            short_margin_ratio: None,
            ..instrument()
        };
        let expected = Contract::new("ctp1", InstrumentId::new("rb2410", Exchange::SHFE), Product::Futures, 10.0, 1.0);
        assert_eq!(convert(&bare), expected);
    }

    #[test]
    fn an_option_has_what_veighna_gives_it() {
        let io = Instrument {
            symbol: "IO2412-C-3900".into(),
            exchange: "CFFEX".into(),
            product: "IO".into(),
            product_class: b'2',
            multiplier: 100,
            price_tick: Some(0.2),
            underlying: "IF2412".into(),
            strike_price: Some(3900.0),
            options_type: b'1',
            ..instrument()
        };
        let contract = convert(&io);
        assert_eq!((contract.product, contract.size, contract.pricetick), (Product::Option, 100.0, 0.2));
        assert_eq!((contract.option_strike, contract.option_type), (Some(3900.0), Some(OptionType::Call)));
        assert_eq!(contract.option_underlying.as_deref(), Some("IF2412"));
        assert_eq!(
            (contract.option_portfolio.as_deref(), contract.option_index.as_deref()),
            (Some("IO"), Some("3900.0"))
        );
        assert_eq!(contract.option_listed.expect("listed").to_rfc3339(), "2023-10-17T00:00:00+08:00");
        assert_eq!(contract.option_expiry.expect("expires").to_rfc3339(), "2024-10-15T00:00:00+08:00");

        let spot = Instrument { product_class: b'6', options_type: b'2', strike_price: Some(0.125), ..io.clone() };
        let contract = convert(&spot);
        assert_eq!((contract.product, contract.option_type), (Product::Option, Some(OptionType::Put)));
        assert_eq!(contract.option_index.as_deref(), Some("0.125"));

        let unsaid =
            Instrument { options_type: 0, strike_price: None, underlying: "".into(), product: "".into(), ..io };
        let contract = convert(&unsaid);
        assert_eq!((contract.option_type, contract.option_strike, contract.option_index), (None, None, None));
        assert_eq!((contract.option_underlying, contract.option_portfolio), (None, None));
    }

    #[test]
    fn calls_and_puts_are_one_portfolio() {
        let portfolio = |exchange: &str, product: &str| {
            let option =
                Instrument { exchange: exchange.into(), product: product.into(), product_class: b'2', ..instrument() };
            convert(&option).option_portfolio.expect("a portfolio").to_string()
        };
        assert_eq!([portfolio("CZCE", "SRC"), portfolio("CZCE", "SRP")], ["SR", "SR"]);
        assert_eq!([portfolio("DCE", "m_o"), portfolio("SHFE", "cu_o")], ["m_o", "cu_o"]);
        assert_eq!(portfolio("DCE", "SRC"), "SRC");
    }

    #[test]
    fn futures_have_nothing_of_an_option() {
        let futures =
            Instrument { strike_price: Some(0.0), options_type: b'1', underlying: "rb".into(), ..instrument() };
        let contract = convert(&futures);
        assert_eq!((contract.option_strike, contract.option_type, contract.option_underlying), (None, None, None));
        assert_eq!((contract.option_index, contract.option_portfolio, contract.option_expiry), (None, None, None));
    }

    #[test]
    fn combinations_keep_their_names() {
        for symbol in ["SP a1405&a1409", "SPC c1905&cs1905", "SPD AP505&AP510"] {
            let spread =
                Instrument { symbol: symbol.into(), exchange: "DCE".into(), product_class: b'3', ..instrument() };
            let contract = convert(&spread);
            assert_eq!((contract.symbol.as_str(), contract.product), (symbol, Product::Spread));
        }
    }

    #[test]
    fn net_positions_are_the_instruments_own_word() {
        assert!(convert(&Instrument { position_type: b'1', ..instrument() }).net_position);
        assert!(!convert(&Instrument { position_type: 0, ..instrument() }).net_position);
    }

    #[test]
    fn what_is_not_traded_says_why() {
        let skipped = |instrument: Instrument| contract(&"ctp1".into(), &instrument).expect_err("skipped").to_string();
        assert_eq!(skipped(Instrument { symbol: "".into(), ..instrument() }), "an instrument without a symbol");
        assert_eq!(
            skipped(Instrument { exchange: "SSE".into(), ..instrument() }),
            "rb2410: unknown exchange `SSE`, expected one of CFFEX, SHFE, CZCE, DCE, INE, GFEX"
        );
        for (class, words) in [
            (b'4', "spot goods (class 4)"),
            (b'5', "an exchange for physical (class 5)"),
            (b'7', "trading at settlement (class 7)"),
            (b'I', "a metal index (class I)"),
            (b'x', "product class 'x'"),
            (0, "product class '\\0'"),
        ] {
            let expected = format!("rb2410: {words} is neither futures nor an option nor a combination");
            assert_eq!(skipped(Instrument { product_class: class, ..instrument() }), expected);
        }
        assert_eq!(
            skipped(Instrument { multiplier: 0, ..instrument() }),
            "rb2410: the contract size is 0, expected more than 0"
        );
        for price_tick in [None, Some(0.0), Some(-1.0)] {
            assert_eq!(
                skipped(Instrument { price_tick, ..instrument() }),
                "rb2410: the price step is missing or not above 0"
            );
        }
    }

    #[test]
    fn the_six_exchanges_read_by_their_wire_names() {
        for text in ["CFFEX", "SHFE", "CZCE", "DCE", "INE", "GFEX"] {
            assert_eq!(exchange(text).expect("known").as_str(), text);
        }
        for text in ["", "shfe", "SHFE ", "NYSE"] {
            assert_eq!(exchange(text), Err(UnknownExchange(text.into())));
        }
    }
}
