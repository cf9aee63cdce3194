//! Which gateway trades a contract: one is taken, of several the preferred one, and of none the error says what was meant.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{Exchange, InstrumentId, Name};

use crate::error::Error;

/// For what a gateway is preferred; the most specific preference wins.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Preference {
    /// One contract.
    Instrument(InstrumentId),
    /// Every contract of an exchange.
    Exchange(Exchange),
    /// Everything.
    All,
}

impl From<InstrumentId> for Preference {
    fn from(instrument: InstrumentId) -> Self {
        Preference::Instrument(instrument)
    }
}

impl From<Exchange> for Preference {
    fn from(exchange: Exchange) -> Self {
        Preference::Exchange(exchange)
    }
}

/// Who trades what, and who is preferred.
#[derive(Debug, Clone, Default)]
pub(crate) struct Routes {
    traders: BTreeMap<InstrumentId, BTreeSet<Name>>,
    preferences: Vec<(Preference, Name)>,
}

impl Routes {
    /// Replaces what is known of one gateway.
    pub(crate) fn learn(&mut self, gateway: &Name, contracts: impl IntoIterator<Item = InstrumentId>) {
        self.traders.retain(|_, traders| {
            traders.remove(gateway);
            !traders.is_empty()
        });
        for instrument in contracts {
            self.add(gateway, instrument);
        }
    }

    /// Adds one contract, as `evt.contract` tells of it.
    pub(crate) fn add(&mut self, gateway: &Name, instrument: InstrumentId) {
        self.traders.entry(instrument).or_default().insert(gateway.clone());
    }

    pub(crate) fn knows(&self, instrument: &InstrumentId) -> bool {
        self.traders.contains_key(instrument)
    }

    /// The last preference set for the same thing counts.
    pub(crate) fn prefer(&mut self, what: Preference, gateway: Name) {
        self.preferences.retain(|(known, _)| *known != what);
        self.preferences.push((what, gateway));
    }

    /// The gateway that an order for the contract goes to.
    pub(crate) fn choose(&self, instrument: &InstrumentId) -> Result<Name, Error> {
        let Some(traders) = self.traders.get(instrument) else {
            return Err(Error::NoRoute { instrument: instrument.clone(), nearest: self.nearest(instrument) });
        };
        if let (Some(only), 1) = (traders.first(), traders.len()) {
            return Ok(only.clone());
        }
        let wishes =
            [Preference::Instrument(instrument.clone()), Preference::Exchange(instrument.exchange), Preference::All];
        let preferred = wishes
            .iter()
            .find_map(|wish| self.preferences.iter().find(|(what, gateway)| what == wish && traders.contains(gateway)));
        match preferred {
            Some((_, gateway)) => Ok(gateway.clone()),
            None => Err(Error::AmbiguousRoute {
                instrument: instrument.clone(),
                gateways: traders.iter().cloned().collect(),
            }),
        }
    }

    /// The known contract that was most likely meant: nearest in spelling whatever the case, of the same exchange if two
    /// are equally near.
    pub(crate) fn nearest(&self, instrument: &InstrumentId) -> Option<InstrumentId> {
        let wanted = instrument.symbol.to_lowercase();
        let distance = |known: &&InstrumentId| {
            let spelling = strsim::damerau_levenshtein(&wanted, &known.symbol.to_lowercase());
            (spelling, known.exchange != instrument.exchange)
        };
        let nearest = self.traders.keys().min_by_key(distance)?;
        let (spelling, _) = distance(&nearest);
        // More different than alike is no suggestion.
        (spelling <= wanted.chars().count().max(2) / 2).then(|| nearest.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rb() -> InstrumentId {
        InstrumentId::new("rb2410", Exchange::SHFE)
    }

    fn routes() -> Routes {
        let mut routes = Routes::default();
        routes.learn(&"ctp1".into(), [rb(), InstrumentId::new("IF2410", Exchange::CFFEX)]);
        routes
    }

    #[test]
    fn one_trader_is_taken() {
        assert_eq!(routes().choose(&rb()), Ok("ctp1".into()));
    }

    #[test]
    fn of_several_the_most_specific_preference_wins() {
        let mut routes = routes();
        routes.learn(&"ctp2".into(), [rb()]);
        let error = routes.choose(&rb()).expect_err("ambiguous");
        assert_eq!(error, Error::AmbiguousRoute { instrument: rb(), gateways: vec!["ctp1".into(), "ctp2".into()] });
        routes.prefer(Preference::All, "ctp1".into());
        assert_eq!(routes.choose(&rb()), Ok("ctp1".into()));
        routes.prefer(Exchange::SHFE.into(), "ctp2".into());
        assert_eq!(routes.choose(&rb()), Ok("ctp2".into()));
        routes.prefer(rb().into(), "ctp1".into());
        assert_eq!(routes.choose(&rb()), Ok("ctp1".into()));
        routes.prefer(rb().into(), "elsewhere".into());
        assert_eq!(routes.choose(&rb()), Ok("ctp2".into()), "who does not trade it is no choice");
    }

    #[test]
    fn a_gateway_that_no_longer_trades_it_is_forgotten() {
        let mut routes = routes();
        routes.learn(&"ctp1".into(), []);
        assert!(!routes.knows(&rb()));
        assert!(matches!(routes.choose(&rb()), Err(Error::NoRoute { nearest: None, .. })));
    }

    #[test]
    fn a_misspelt_symbol_is_recognised() {
        let meant = |symbol: &str, exchange| routes().nearest(&InstrumentId::new(symbol, exchange));
        assert_eq!(meant("RB2410", Exchange::SHFE), Some(rb()));
        assert_eq!(meant("rb2401", Exchange::SHFE), Some(rb()));
        assert_eq!(meant("rb2410", Exchange::INE), Some(rb()));
        assert_eq!(meant("cu2501", Exchange::SHFE), None);
    }
}
