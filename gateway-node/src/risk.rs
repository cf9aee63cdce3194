//! Whether an order may go to the venue. Only this file can make an [`Approved`], so an unchecked order does not
//! compile.
//!
//! First the contract's own rules (`INVALID_ORDER`), then the limits of the configuration (`RISK_REJECTED`): those of
//! the gateway, over all its owners together, and those of the order's owner, over that owner's alone. Both must let it
//! pass. Everything that a decision depends on is in its [`View`].

mod contract;
mod counters;
mod holding;
mod limits;
mod order_rules;

use protocol::{
    Contract, ErrorCode, Name, Offset, OmsState, Order, OrderRequest, OrderType, Quote, QuoteRequest, RpcError,
    Timestamp,
};

pub(crate) use counters::is_intent;
pub use counters::{Counters, NewFills, tells};
pub use holding::lessens;
pub use limits::{LONGEST_WINDOW, Limits, MOST_PER_SECOND, Rules};

/// Proof that a request passed [`approve_order`] or [`approve_quote`].
#[derive(Debug, Clone, PartialEq)]
pub struct Approved<T>(T);

impl<T> std::ops::Deref for Approved<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Approved<T> {
    /// The request itself.
    #[must_use]
    pub fn get(&self) -> &T {
        &self.0
    }
}

/// What a decision looks at, as it is at one moment.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The gateway's name, for the sentence that refuses.
    pub gateway: &'a Name,
    /// Whose order it is.
    pub owner: &'a Name,
    /// What is traded.
    pub contract: &'a Contract,
    /// Its last price, if one is known.
    pub last_price: Option<f64>,
    /// Orders, quotes and positions of the gateway, without the order in question.
    pub state: &'a OmsState,
    /// What was sent and cancelled before.
    pub counters: &'a Counters,
    /// What is allowed.
    pub limits: &'a Limits,
    /// The node's clock.
    pub now: Timestamp,
}

/// One order, or one side of a quote.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Leg {
    /// Buys or sells.
    pub direction: protocol::Direction,
    /// Opens or closes.
    pub offset: Offset,
    /// How it executes.
    pub kind: OrderType,
    /// Its price, or a stop's trigger.
    pub price: Option<f64>,
    /// Lots; of what works already, those that are not filled yet.
    pub volume: f64,
}

impl Leg {
    /// The one leg of an order.
    #[must_use]
    pub fn of_order(request: &OrderRequest) -> [Leg; 1] {
        let OrderRequest { direction, offset, price, volume, .. } = *request;
        [Leg { direction, offset, kind: request.r#type, price, volume }]
    }

    /// The one leg of an order that works; its whole volume.
    #[must_use]
    pub fn of_working(order: &Order) -> [Leg; 1] {
        let Order { direction, offset, price, volume, .. } = *order;
        [Leg { direction, offset, kind: order.r#type, price, volume }]
    }

    /// The two legs of a quote that works; their whole volume.
    #[must_use]
    pub fn of_working_quote(quote: &Quote) -> [Leg; 2] {
        two_legs(
            (quote.bid_offset, quote.bid_price, quote.bid_volume),
            (quote.ask_offset, quote.ask_price, quote.ask_volume),
        )
    }

    /// The two legs of a quote: a limit order to buy and one to sell.
    #[must_use]
    pub fn of_quote(quote: &QuoteRequest) -> [Leg; 2] {
        two_legs(
            (quote.bid_offset, quote.bid_price, quote.bid_volume),
            (quote.ask_offset, quote.ask_price, quote.ask_volume),
        )
    }
}

fn two_legs(bid: (Offset, f64, f64), ask: (Offset, f64, f64)) -> [Leg; 2] {
    let leg = |direction, (offset, price, volume)| Leg {
        direction,
        offset,
        kind: OrderType::Limit,
        price: Some(price),
        volume,
    };
    [leg(protocol::Direction::Long, bid), leg(protocol::Direction::Short, ask)]
}

/// Decides on an order.
///
/// # Errors
/// `INVALID_ORDER` (or `NOT_SUPPORTED`) naming the field, the value and what the contract allows; `RISK_REJECTED` naming
/// the rule, the value, the limit, and whose limit it is.
pub fn approve_order(request: OrderRequest, view: &View<'_>) -> Result<Approved<OrderRequest>, RpcError> {
    contract::check_order(&request, view.contract)?;
    check_limits(&Leg::of_order(&request), view)?;
    Ok(Approved(request))
}

/// Decides on a quote: both of its sides, each as the order that it is, and both together.
///
/// # Errors
/// As [`approve_order`].
pub fn approve_quote(request: QuoteRequest, view: &View<'_>) -> Result<Approved<QuoteRequest>, RpcError> {
    contract::check_quote(&request, view.contract)?;
    check_limits(&Leg::of_quote(&request), view)?;
    Ok(Approved(request))
}

fn check_limits(legs: &[Leg], view: &View<'_>) -> Result<(), RpcError> {
    for level in levels(view.gateway, view.owner, view.limits) {
        order_rules::check(legs, view, &level)?;
        holding::check(legs, view, &level)?;
    }
    Ok(())
}

/// Decides on the cancel of one order or quote. `cancel_all`, the cancels of a halt, and that of an order which has not
/// left for the venue yet are never asked for: nobody is kept from getting out. They count all the same.
///
/// # Errors
/// `RISK_REJECTED`, as [`approve_order`].
pub fn check_cancel(
    gateway: &Name,
    owner: &Name,
    counters: &Counters,
    limits: &Limits,
    now: Timestamp,
) -> Result<(), RpcError> {
    levels(gateway, owner, limits).iter().try_for_each(|level| order_rules::check_cancel(counters, level, now))
}

/// Limits, and over whose orders they go.
struct Level<'a> {
    gateway: &'a Name,
    /// One owner's; all owners' together if absent.
    owner: Option<&'a Name>,
    rules: &'a Rules,
}

fn levels<'a>(gateway: &'a Name, owner: &'a Name, limits: &'a Limits) -> [Level<'a>; 2] {
    [
        Level { gateway, owner: None, rules: limits.gateway() },
        Level { gateway, owner: Some(owner), rules: limits.of(owner) },
    ]
}

impl Level<'_> {
    /// Whether an order of this owner is one of those that the limits go over.
    fn counts(&self, owner: &Name) -> bool {
        self.owner.is_none_or(|mine| mine == owner)
    }

    /// `max_order_volume: 50 lots, the most is 20 (gateway sim1, owner alice)`
    fn refuse(&self, rule: &str, what: std::fmt::Arguments<'_>) -> RpcError {
        let owner = self.owner.map(|owner| format!(", owner {owner}")).unwrap_or_default();
        RpcError::new(ErrorCode::RiskRejected, format!("{rule}: {what} (gateway {}{owner})", self.gateway))
    }
}

/// An order that the contract allows, for tests of what comes behind risk.
///
/// # Errors
/// As [`approve_order`].
#[cfg(test)]
pub fn check_order(request: OrderRequest, contract: &Contract) -> Result<Approved<OrderRequest>, RpcError> {
    contract::check_order(&request, contract)?;
    Ok(Approved(request))
}

/// As [`check_order`], of a quote.
///
/// # Errors
/// As [`approve_quote`].
#[cfg(test)]
pub fn check_quote(request: QuoteRequest, contract: &Contract) -> Result<Approved<QuoteRequest>, RpcError> {
    contract::check_quote(&request, contract)?;
    Ok(Approved(request))
}

#[cfg(test)]
mod tests;
