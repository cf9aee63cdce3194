//! Limits that depend on what is held: how much may be closed, how much may be opened, and what lessens a position.
//!
//! What is held is what the venue last told of a position and the fills that it told of since. What works already counts as
//! if it were filled where that is the worse case: a working order that closes keeps its lots, one that opens has them.

use protocol::oms::PositionKey;
use protocol::{Contract, Direction, Offset, OmsState, RpcError};

use super::order_rules::working;
use super::{Counters, Leg, Level, View};

/// Holds an order, or both sides of a quote, against the limits of one level.
///
/// # Errors
/// `RISK_REJECTED` naming the rule that it breaks.
pub(super) fn check(legs: &[Leg], view: &View<'_>, level: &Level<'_>) -> Result<(), RpcError> {
    let rules = level.rules;
    let book = Book { contract: view.contract, state: view.state, counters: view.counters };
    for leg in legs {
        if rules.reduce_only == Some(true) {
            book.check_lessens(leg).map_err(|why| level.refuse("reduce_only", format_args!("{why}")))?;
        }
        if rules.close_within_position == Some(true) && closes(leg.offset) {
            let free = book.closable(leg);
            if leg.volume > free {
                let (lots, offset) = (leg.volume, leg.offset);
                return Err(level.refuse(
                    "close_within_position",
                    format_args!(
                        "{offset} {lots} lots, the most is {} (held less what working orders close)",
                        free.max(0.0)
                    ),
                ));
            }
        }
        if let Some(most) = rules.max_position
            && let Some(had) = book.exposure(leg)
            && had + leg.volume > most
        {
            let (lots, side) = (leg.volume, leg.direction);
            return Err(level.refuse(
                "max_position",
                format_args!("{lots} lots to {had} that are {side} or on their way, the most is {most}"),
            ));
        }
    }
    Ok(())
}

/// Whether an order, or both sides of a quote, can only lessen a position: where the venue tells opening from closing,
/// what closes; where it nets, as many lots of the other side as are held and not lessened by working orders already.
///
/// # Errors
/// What it does instead, for people.
pub fn lessens(legs: &[Leg], contract: &Contract, state: &OmsState, counters: &Counters) -> Result<(), String> {
    let book = Book { contract, state, counters };
    legs.iter().try_for_each(|leg| book.check_lessens(leg))
}

fn closes(offset: Offset) -> bool {
    matches!(offset, Offset::Close | Offset::CloseToday | Offset::CloseYesterday)
}

/// What is held and what works of one contract.
struct Book<'a> {
    contract: &'a Contract,
    state: &'a OmsState,
    counters: &'a Counters,
}

impl Book<'_> {
    fn check_lessens(&self, leg: &Leg) -> Result<(), String> {
        let Leg { direction, offset, volume, .. } = leg;
        if !self.contract.net_position {
            return if closes(*offset) { Ok(()) } else { Err(format!("{direction} {offset} opens a position")) };
        }
        let free = self.nettable(leg);
        if *volume <= free { Ok(()) } else { Err(format!("{direction} {volume} lots, the most is {}", free.max(0.0))) }
    }

    /// Lots that a leg may close.
    fn closable(&self, leg: &Leg) -> f64 {
        if self.contract.net_position {
            return self.nettable(leg);
        }
        let side = leg.direction.opposite();
        let (held, yesterday) = self.held(side);
        let apart = self.contract.exchange.closes_today_separately();
        let of_today = |offset| offset == Offset::CloseToday;
        let held = match (apart, of_today(leg.offset)) {
            (false, _) => held,
            (true, true) => held - yesterday,
            (true, false) => yesterday,
        };
        let kept = self.sum_working(|other| {
            other.direction == leg.direction
                && closes(other.offset)
                && (!apart || of_today(other.offset) == of_today(leg.offset))
        });
        held - kept
    }

    /// Lots of the other side that are held net and that no working order lessens already.
    fn nettable(&self, leg: &Leg) -> f64 {
        let against = -self.net(leg.direction);
        against - self.sum_working(|other| other.direction == leg.direction)
    }

    /// Lots that a leg which opens adds to: held and on their way. `None` if it opens nothing.
    fn exposure(&self, leg: &Leg) -> Option<f64> {
        if self.contract.net_position {
            return Some(self.net(leg.direction) + self.sum_working(|other| other.direction == leg.direction));
        }
        (!closes(leg.offset)).then(|| {
            let (held, _) = self.held(leg.direction);
            held + self.sum_working(|other| other.direction == leg.direction && !closes(other.offset))
        })
    }

    /// Lots held net, seen from one side: what is held on the other is negative.
    fn net(&self, side: Direction) -> f64 {
        let long = self.held(Direction::Net).0 + self.held(Direction::Long).0 - self.held(Direction::Short).0;
        if side == Direction::Long { long } else { -long }
    }

    /// Lots held on a side, and those of earlier days among them.
    fn held(&self, side: Direction) -> (f64, f64) {
        let instrument = self.contract.instrument();
        let told = self.state.position(&instrument, side).map_or((0.0, 0.0), |p| (p.volume, p.yd_volume));
        let key = PositionKey { symbol: instrument.symbol, exchange: instrument.exchange, direction: side };
        let untold = self.counters.untold(&key);
        (told.0 + untold.volume, told.1 + untold.yd_volume)
    }

    fn sum_working(&self, which: impl Fn(&Leg) -> bool) -> f64 {
        let instrument = self.contract.instrument();
        working(self.state, &instrument).filter(|(_, leg)| which(leg)).map(|(_, leg)| leg.volume).sum()
    }
}
