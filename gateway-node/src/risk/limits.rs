//! The limits that a configuration sets: for a gateway as a whole, for each of its owners, and for owners by name.
//! Nothing is limited by default but by the contract itself.

use std::collections::BTreeMap;

use protocol::Name;
use serde::Deserialize;

/// The longest that orders are compared with each other, in seconds.
pub const LONGEST_WINDOW: u32 = 60;
/// The most a second that can be told apart from more.
pub const MOST_PER_SECOND: u32 = 10_000;

/// The owner that stands for every owner without a section of its own.
const EVERY_OWNER: &str = "*";

/// `[gateways.risk]` and `[gateways.risk.owners.<name>]`. What is absent is not limited. A quote counts as the two orders
/// that its sides are.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// Most lots of one order.
    pub max_order_volume: Option<f64>,
    /// Most money of one order: price x volume x contract size. A sell counts at the last price if that is higher, a
    /// MARKET order at the last price; without one it is refused.
    pub max_order_value: Option<f64>,
    /// How far an order's price may be from the last price, as a share of it (0.02 is two percent). Without a last price
    /// every order that has a price is refused. A STOP order's trigger is its price; a MARKET order has none.
    pub price_band: Option<f64>,
    /// Most orders that work at a time.
    pub max_active_orders: Option<u32>,
    /// Most orders within any second. Those that risk refused do not count; those that the venue refused do.
    pub max_orders_per_second: Option<u32>,
    /// Most orders of a trading day, counted as those of a second.
    pub max_orders_per_day: Option<u32>,
    /// Most cancels within any second. `cancel_all` and a halt's cancels count, and are never refused.
    pub max_cancels_per_second: Option<u32>,
    /// Most cancels of a trading day, counted as those of a second.
    pub max_cancels_per_day: Option<u32>,
    /// Most orders of one owner, alike in instrument, direction, offset, price and volume, within `duplicate_seconds`.
    pub max_duplicates: Option<u32>,
    /// See `max_duplicates`: up to 60.
    pub duplicate_seconds: Option<u32>,
    /// Refuse what could trade with a working order of the same owner; in the gateway's section, of any owner. STOP
    /// orders are not looked at: they are in no book before they are triggered.
    pub forbid_self_trade: Option<bool>,
    /// Refuse to close more than is held and not kept by working orders that close.
    pub close_within_position: Option<bool>,
    /// Most lots of one instrument on one side, held and on their way. Positions are the gateway's, since no venue keeps
    /// them by owner: for an owner it says how far the gateway's position may go by that owner's orders.
    pub max_position: Option<f64>,
    /// Refuse what does not lessen a position.
    pub reduce_only: Option<bool>,
    /// By owner; `*` stands for every other one. Only in the gateway's section.
    pub owners: BTreeMap<Name, Rules>,
}

impl Rules {
    /// These, and where they say nothing, those of `below`.
    fn over(&self, below: &Rules) -> Rules {
        Rules {
            max_order_volume: self.max_order_volume.or(below.max_order_volume),
            max_order_value: self.max_order_value.or(below.max_order_value),
            price_band: self.price_band.or(below.price_band),
            max_active_orders: self.max_active_orders.or(below.max_active_orders),
            max_orders_per_second: self.max_orders_per_second.or(below.max_orders_per_second),
            max_orders_per_day: self.max_orders_per_day.or(below.max_orders_per_day),
            max_cancels_per_second: self.max_cancels_per_second.or(below.max_cancels_per_second),
            max_cancels_per_day: self.max_cancels_per_day.or(below.max_cancels_per_day),
            max_duplicates: self.max_duplicates.or(below.max_duplicates),
            duplicate_seconds: self.duplicate_seconds.or(below.duplicate_seconds),
            forbid_self_trade: self.forbid_self_trade.or(below.forbid_self_trade),
            close_within_position: self.close_within_position.or(below.close_within_position),
            max_position: self.max_position.or(below.max_position),
            reduce_only: self.reduce_only.or(below.reduce_only),
            owners: BTreeMap::new(),
        }
    }
}

/// Who may do what on one gateway.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Limits {
    gateway: Rules,
    owners: BTreeMap<Name, Rules>,
    others: Rules,
}

impl Limits {
    /// The limits of a gateway's section. An owner's own section goes over that of `*`, key by key; neither can loosen
    /// what holds for the gateway.
    #[must_use]
    pub fn new(section: &Rules) -> Limits {
        let none = Rules::default();
        let others = section.owners.get(EVERY_OWNER).unwrap_or(&none).over(&none);
        let owners = section.owners.iter().filter(|(name, _)| *name != EVERY_OWNER);
        Limits {
            gateway: section.over(&none),
            owners: owners.map(|(name, rules)| (name.clone(), rules.over(&others))).collect(),
            others,
        }
    }

    /// A number that stands for all of them: nodes of one gateway must have the same.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        protocol::journal::fingerprint_text(&format!("{self:?}"))
    }

    /// What all owners together are held to.
    #[must_use]
    pub fn gateway(&self) -> &Rules {
        &self.gateway
    }

    /// What this owner is held to besides.
    #[must_use]
    pub fn of(&self, owner: &str) -> &Rules {
        self.owners.get(owner).unwrap_or(&self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owners_section_goes_over_that_of_all_owners_key_by_key() {
        let rules = |volume, orders| Rules { max_order_volume: volume, max_orders_per_day: orders, ..Rules::default() };
        let section = Rules {
            owners: [("*".into(), rules(Some(5.0), Some(100))), ("alice".into(), rules(Some(50.0), None))].into(),
            ..rules(Some(20.0), None)
        };
        let limits = Limits::new(&section);
        assert_eq!(limits.gateway(), &rules(Some(20.0), None));
        assert_eq!(limits.of("alice"), &rules(Some(50.0), Some(100)));
        assert_eq!(limits.of("bob"), &rules(Some(5.0), Some(100)));
        assert_eq!(Limits::new(&Rules::default()), Limits::default());
    }
}
