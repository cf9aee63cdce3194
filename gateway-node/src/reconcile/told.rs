//! What the venue tells of orders, quotes and trades, in the engine's terms: whose they are and what they are called.

use std::collections::HashMap;

use protocol::event::OmsEvent;
use protocol::oms::OrderKey;
use protocol::value::OWNER_EXTERNAL;
use protocol::{Name, OmsState, Order, OrderId, Quote, Trade};

use crate::gateway::{VenueOrder, VenueQuote, VenueReference, VenueTrade};

/// What a venue's reference stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// An order.
    Order(OrderKey),
    /// A quote.
    Quote(OrderKey),
}

impl Target {
    /// Its owner and id.
    #[must_use]
    pub fn key(&self) -> &OrderKey {
        let (Target::Order(key) | Target::Quote(key)) = self;
        key
    }
}

/// What is known when the venue speaks.
#[derive(Clone, Copy)]
pub struct Books<'a> {
    /// The gateway's name.
    pub gateway: &'a Name,
    /// Trading state.
    pub state: &'a OmsState,
    /// The venue's references of everything that was ever sent, or found there.
    pub references: &'a HashMap<VenueReference, Target>,
}

impl Books<'_> {
    /// An order that the venue tells of. What the client asked for stays; the venue tells how it goes. One that nobody
    /// here sent is external. `None` for one that the state holds no longer.
    ///
    /// # Errors
    /// A sentence, if the venue tells of an order under a quote's reference.
    pub fn order(&self, told: &VenueOrder) -> Result<Option<OmsEvent>, String> {
        let order = match self.references.get(&told.reference) {
            Some(Target::Order(key)) => self.state.order(key).map(|known| Order {
                traded: told.traded,
                status: told.status,
                datetime: told.datetime.or(known.datetime),
                deadline: None,
                reason: told.reason.clone(),
                ..known.clone()
            }),
            Some(Target::Quote(_)) => {
                let reference = &told.reference;
                return Err(format!("the venue tells of an order under a quote's reference {reference}; ignored"));
            }
            None => Some(self.external_order(told)),
        };
        Ok(order.map(OmsEvent::Order))
    }

    /// A quote, as [`Books::order`].
    ///
    /// # Errors
    /// A sentence, if the venue tells of a quote under an order's reference.
    pub fn quote(&self, told: &VenueQuote) -> Result<Option<OmsEvent>, String> {
        let quote = match self.references.get(&told.reference) {
            Some(Target::Quote(key)) => self.state.quote(key).map(|known| Quote {
                bid_traded: told.bid_traded,
                ask_traded: told.ask_traded,
                status: told.status,
                datetime: told.datetime.or(known.datetime),
                deadline: None,
                reason: told.reason.clone(),
                ..known.clone()
            }),
            Some(Target::Order(_)) => {
                let reference = &told.reference;
                return Err(format!("the venue tells of a quote under an order's reference {reference}; ignored"));
            }
            None => Some(self.external_quote(told)),
        };
        Ok(quote.map(OmsEvent::Quote))
    }

    /// A trade: it counts whatever its order's status.
    #[must_use]
    pub fn trade(&self, told: &VenueTrade) -> OmsEvent {
        let (orderid, owner, reference, traceid) = match self.references.get(&told.reference) {
            Some(Target::Order(key)) => {
                let order = self.state.order(key);
                let reference = order.map(|o| o.reference.clone()).unwrap_or_default();
                (key.orderid.clone(), key.owner.clone(), reference, order.and_then(|o| o.traceid.clone()))
            }
            Some(Target::Quote(key)) => {
                let quote = self.state.quote(key);
                let reference = quote.map(|q| q.reference.clone()).unwrap_or_default();
                (key.orderid.clone(), key.owner.clone(), reference, quote.and_then(|q| q.traceid.clone()))
            }
            None => (external_id(&told.reference), Name::const_new(OWNER_EXTERNAL), Name::default(), None),
        };
        OmsEvent::Trade(Trade {
            gateway_name: self.gateway.clone(),
            symbol: told.instrument.symbol.clone(),
            exchange: told.instrument.exchange,
            orderid,
            tradeid: told.tradeid.clone(),
            direction: told.direction,
            offset: told.offset,
            price: told.price,
            volume: told.volume,
            datetime: told.datetime,
            trading_day: told.trading_day,
            reference,
            owner,
            traceid,
            extra: None,
        })
    }

    /// An order that nobody here sent: every node derives the same id from the venue's reference.
    fn external_order(&self, told: &VenueOrder) -> Order {
        Order {
            gateway_name: self.gateway.clone(),
            symbol: told.instrument.symbol.clone(),
            exchange: told.instrument.exchange,
            orderid: external_id(&told.reference),
            r#type: told.order_type,
            direction: told.direction,
            offset: told.offset,
            price: told.price,
            volume: told.volume,
            traded: told.traded,
            status: told.status,
            datetime: told.datetime,
            reference: Name::default(),
            owner: Name::const_new(OWNER_EXTERNAL),
            venue_reference: Some(told.reference.to_string().into()),
            traceid: None,
            deadline: None,
            reason: told.reason.clone(),
            extra: None,
        }
    }

    fn external_quote(&self, told: &VenueQuote) -> Quote {
        Quote {
            gateway_name: self.gateway.clone(),
            symbol: told.instrument.symbol.clone(),
            exchange: told.instrument.exchange,
            quoteid: external_id(&told.reference),
            bid_price: told.bid_price,
            bid_volume: told.bid_volume,
            ask_price: told.ask_price,
            ask_volume: told.ask_volume,
            bid_offset: told.bid_offset,
            ask_offset: told.ask_offset,
            bid_traded: told.bid_traded,
            ask_traded: told.ask_traded,
            status: told.status,
            datetime: told.datetime,
            reference: Name::default(),
            owner: Name::const_new(OWNER_EXTERNAL),
            venue_reference: Some(told.reference.to_string().into()),
            traceid: None,
            deadline: None,
            reason: told.reason.clone(),
            extra: None,
        }
    }
}

fn external_id(reference: &VenueReference) -> OrderId {
    // Ids are tokens of a subject-friendly alphabet; the rest of a venue's reference is mapped onto it.
    let text: String = reference
        .to_string()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' })
        .collect();
    OrderId::external(&text)
}
