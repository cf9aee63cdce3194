//! An order or a quote at the simulated exchange: what both have in common, and how a fill or an end changes them.

use protocol::{Direction, InstrumentId, Offset, OrderStatus};

use super::market::lots;
use crate::gateway::{VenueEvent, VenueOrder, VenueQuote, VenueReference};

pub(super) enum Entry {
    Order(VenueOrder),
    Quote(VenueQuote),
}

impl Entry {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Entry::Order(_) => "order",
            Entry::Quote(_) => "quote",
        }
    }

    pub(super) fn reference(&self) -> &VenueReference {
        match self {
            Entry::Order(order) => &order.reference,
            Entry::Quote(quote) => &quote.reference,
        }
    }

    pub(super) fn instrument(&self) -> &InstrumentId {
        match self {
            Entry::Order(order) => &order.instrument,
            Entry::Quote(quote) => &quote.instrument,
        }
    }

    pub(super) fn is_active(&self) -> bool {
        match self {
            Entry::Order(order) => order.status.is_active(),
            Entry::Quote(quote) => quote.status.is_active(),
        }
    }

    pub(super) fn directions(&self) -> &'static [Direction] {
        match self {
            Entry::Order(order) if order.direction == Direction::Short => &[Direction::Short],
            Entry::Order(_) => &[Direction::Long],
            Entry::Quote(_) => &[Direction::Long, Direction::Short],
        }
    }

    pub(super) fn event(&self) -> VenueEvent {
        match self {
            Entry::Order(order) => VenueEvent::Order(order.clone()),
            Entry::Quote(quote) => VenueEvent::Quote(quote.clone()),
        }
    }

    pub(super) fn cancel(&mut self, reason: &str) {
        let (status, why) = match self {
            Entry::Order(order) => (&mut order.status, &mut order.reason),
            Entry::Quote(quote) => (&mut quote.status, &mut quote.reason),
        };
        (*status, *why) = (OrderStatus::Cancelled, Some(reason.to_owned()));
    }

    /// Counts a fill and says what it opened or closed.
    pub(super) fn add_traded(&mut self, direction: Direction, volume: f64) -> Offset {
        let (complete, status, offset) = match self {
            Entry::Order(order) => {
                order.traded = lots(order.traded + volume);
                (order.traded >= order.volume, &mut order.status, order.offset)
            }
            Entry::Quote(quote) => {
                let (traded, offset) = match direction {
                    Direction::Short => (&mut quote.ask_traded, quote.ask_offset),
                    Direction::Long | Direction::Net => (&mut quote.bid_traded, quote.bid_offset),
                };
                *traded = lots(*traded + volume);
                let complete = quote.bid_traded >= quote.bid_volume && quote.ask_traded >= quote.ask_volume;
                (complete, &mut quote.status, offset)
            }
        };
        *status = if complete { OrderStatus::AllTraded } else { OrderStatus::PartTraded };
        offset
    }
}
