//! The comparison of our state with everything the venue knows: a pure function that says which events close the
//! difference.

use std::collections::HashSet;

use protocol::event::OmsEvent;
use protocol::oms::{OrderKey, PositionKey};
use protocol::{Name, OmsState, Order, OrderStatus, Position, Quote};

use crate::gateway::{VenueReference, VenueSnapshot};

/// The reason that an order gets which died with the process that its venue lived in.
pub const LOST_WITH_VENUE: &str = "lost when the in-process venue restarted";

/// Events for what we hold and a complete snapshot does not: orders and quotes that are not working any more,
/// positions that are flat. `is_unsent` tells intents that have not left yet: the venue cannot know them.
///
/// An order of the snapshot's own session that is missing stays as it is: a venue may report it yet, and guessing
/// here would be reporting a live order dead.
pub fn missing_at_venue(
    state: &OmsState,
    snapshot: &VenueSnapshot,
    is_unsent: impl Fn(&OrderKey) -> bool,
) -> Vec<OmsEvent> {
    let listed = snapshot.orders.iter().map(|o| &o.reference).chain(snapshot.quotes.iter().map(|q| &q.reference));
    let listed: HashSet<String> = listed.map(ToString::to_string).collect();
    let is_lost = |key: &OrderKey, reference: Option<&Name>| {
        let listed = reference.is_some_and(|r| listed.contains(r.as_str()));
        !listed && !is_unsent(key) && snapshot.older_sessions_ended && is_older_session(reference, &snapshot.session)
    };
    let orders = state.active_orders().filter(|o| is_lost(&(*o).into(), o.venue_reference.as_ref())).map(|order| {
        let reason = Some(LOST_WITH_VENUE.to_owned());
        OmsEvent::Order(Order { status: OrderStatus::Cancelled, reason, ..order.clone() })
    });
    let quotes = state.active_quotes().filter(|q| is_lost(&(*q).into(), q.venue_reference.as_ref())).map(|quote| {
        let reason = Some(LOST_WITH_VENUE.to_owned());
        OmsEvent::Quote(Quote { status: OrderStatus::Cancelled, reason, ..quote.clone() })
    });
    let held: HashSet<PositionKey> = snapshot.positions.iter().map(PositionKey::from).collect();
    let flat = state
        .positions()
        .iter()
        .filter(|(key, position)| !held.contains(key) && (position.volume != 0.0 || position.frozen != 0.0))
        .map(|(_, position)| {
            let gone = Position { volume: 0.0, frozen: 0.0, yd_volume: 0.0, pnl: 0.0, ..position.clone() };
            OmsEvent::Position(gone)
        });
    orders.chain(quotes).chain(flat).collect()
}

/// An intent without a reference never got as far as the venue.
fn is_older_session(reference: Option<&Name>, session: &Name) -> bool {
    match reference.map(|text| text.parse::<VenueReference>()) {
        Some(Ok(reference)) => reference.session != *session,
        Some(Err(_)) => false,
        None => true,
    }
}
