//! A gateway's whole trading state at one journal position, put together from calls.

use std::sync::atomic::{AtomicU64, Ordering};

use protocol::rpc::{EventsPage, GetEvents, JournalEvent, List, Method};
use protocol::{Account, OmsEvent, OmsState, Order, Position, Quote, Trade, codec};
use serde::Deserialize;
use tracing::warn;

use crate::error::Error;
use crate::gateway::GatewayHandle;

/// The state that the journal adds up to at a position.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub state: OmsState,
    pub journal_seq: u64,
    pub epoch: u64,
    /// The snapshot that the node's trading day began with: what had ended before left the state there.
    pub day_seq: u64,
}

impl Snapshot {
    /// Applies an event that lies behind its position.
    pub(crate) fn take_in(&mut self, item: &JournalEvent) {
        if item.journal_seq > self.journal_seq {
            self.state.apply(&item.event.data);
            self.epoch = self.epoch.max(item.event.epoch);
        }
    }
}

/// Asks for everything. The lists are read one after the other while the gateway goes on trading, so each reflects
/// another position: events behind the oldest of them are applied on top, which puts all at one position.
pub(crate) async fn take(gateway: &GatewayHandle, undecodable: &AtomicU64) -> Result<Snapshot, Error> {
    let status = gateway.get_status().await?;
    let mut state = OmsState::default();
    let mut oldest = None;
    let mut note = |journal_seq: Option<u64>| {
        // A node that does not say gets the position from before the first list.
        let seq = journal_seq.unwrap_or(status.journal_seq);
        oldest = Some(oldest.map_or(seq, |known: u64| known.min(seq)));
    };
    let orders = gateway.pages::<Order>(Method::GetAllOrders, List::default()).await?;
    let trades = gateway.pages::<Trade>(Method::GetAllTrades, List::default()).await?;
    let quotes = gateway.pages::<Quote>(Method::GetAllQuotes, List::default()).await?;
    let positions = gateway.pages::<Position>(Method::GetAllPositions, List::default()).await?;
    let accounts = gateway.pages::<Account>(Method::GetAllAccounts, List::default()).await?;
    for seq in [orders.journal_seq, trades.journal_seq, quotes.journal_seq, positions.journal_seq, accounts.journal_seq]
    {
        note(seq);
    }
    let events = (orders.items.into_iter().map(OmsEvent::Order))
        .chain(trades.items.into_iter().map(OmsEvent::Trade))
        .chain(quotes.items.into_iter().map(OmsEvent::Quote))
        .chain(positions.items.into_iter().map(OmsEvent::Position))
        .chain(accounts.items.into_iter().map(OmsEvent::Account));
    for event in events {
        state.apply(&event);
    }
    let mut snapshot = Snapshot {
        state,
        journal_seq: oldest.unwrap_or(status.journal_seq),
        epoch: status.epoch,
        day_seq: status.snapshot_seq,
    };
    loop {
        let page = events_after(gateway, snapshot.journal_seq, undecodable).await?;
        for item in &page.items {
            snapshot.take_in(item);
        }
        snapshot.journal_seq = snapshot.journal_seq.max(page.scanned);
        if page.scanned >= page.last {
            return Ok(snapshot);
        }
    }
}

/// One page of the journal behind a position.
///
/// # Errors
/// `TOO_OLD` also where the journal ends before the position: it has been made anew. [`Error::Reply`] for a page that
/// leads nowhere.
pub(crate) async fn events_after(
    gateway: &GatewayHandle,
    after: u64,
    undecodable: &AtomicU64,
) -> Result<EventsPage, Error> {
    let params = GetEvents { after, limit: None, owner: None };
    let answer = gateway.call_raw(Method::GetEvents.as_str(), &params, None).await?;
    let page = read_page(&answer, undecodable).map_err(|reason| Error::Reply {
        gateway: gateway.name().clone(),
        method: Method::GetEvents.as_str().to_owned(),
        reason,
        maybe_executed: false,
    })?;
    if page.last < after {
        let message = format!("the journal ends at {}, before {after}: it has been made anew", page.last);
        return Err(Error::Rpc(protocol::RpcError::new(protocol::ErrorCode::TooOld, message)));
    }
    if page.scanned <= after && page.last > after {
        return Err(Error::Reply {
            gateway: gateway.name().clone(),
            method: Method::GetEvents.as_str().to_owned(),
            reason: format!("asked for what follows {after} it scanned up to {}", page.scanned),
            maybe_executed: false,
        });
    }
    Ok(page)
}

/// Reads a page; of what a newer node may have put into it, only the events not understood are left out.
fn read_page(answer: &[u8], undecodable: &AtomicU64) -> Result<EventsPage, String> {
    #[derive(Deserialize)]
    struct Raw {
        items: Vec<serde_json::Value>,
        scanned: u64,
        last: u64,
    }
    if let Ok(page) = codec::decode::<EventsPage>(answer) {
        return Ok(page);
    }
    let raw = codec::decode::<Raw>(answer).map_err(|error| error.to_string())?;
    let items = raw.items.into_iter().filter_map(|item| match serde_json::from_value(item) {
        Ok(item) => Some(item),
        Err(error) => {
            if undecodable.fetch_add(1, Ordering::Relaxed) == 0 {
                warn!(%error, "an event in the journal does not decode; such are counted and skipped");
            }
            None
        }
    });
    Ok(EventsPage { items: items.collect(), scanned: raw.scanned, last: raw.last })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_is_not_understood_does_not_hide_the_others() {
        let account = r#"{"gateway_name":"sim1","accountid":"a","balance":1.5}"#;
        let event = |kind: &str, seq: u64| {
            format!(
                r#"{{"journal_seq":{seq},"event":{{"gateway":"sim1","epoch":1,"seq":1,"time":"2024-01-02T09:00:00+08:00","data":{{"{kind}":{account}}}}}}}"#
            )
        };
        let page = format!(r#"{{"items":[{},{}],"scanned":9,"last":9}}"#, event("account", 8), event("hologram", 9));
        let undecodable = AtomicU64::new(0);
        let page = read_page(page.as_bytes(), &undecodable).expect("the rest is read");
        assert_eq!((page.items.len(), page.items[0].journal_seq, page.scanned), (1, 8, 9));
        assert_eq!(undecodable.load(Ordering::Relaxed), 1);
        assert!(read_page(b"{}", &undecodable).is_err());
    }
}
