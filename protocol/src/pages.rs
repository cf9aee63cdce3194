//! Reads pages item by item, so that one item of a newer node (an exchange, a kind of event that this version does not
//! know) does not cost its reader the rest of the page.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::codec::{DecodeError, decode};
use crate::rpc::{EventsPage, JournalEvent, Page};

/// A page, and what is wrong with the items that had to be left out of it: count them, log them, go on.
#[derive(Debug, Clone, PartialEq)]
pub struct Lenient<P> {
    /// The page with the items that this version understands.
    pub page: P,
    /// One error per item left out, in the order of the items.
    pub skipped: Vec<DecodeError>,
}

/// Reads a page of a list.
///
/// # Errors
/// Only if the page itself is broken.
pub fn read_page<T: DeserializeOwned>(bytes: &[u8]) -> Result<Lenient<Page<T>>, DecodeError> {
    let Page { items, next, journal_seq } = decode::<Page<Box<RawValue>>>(bytes)?;
    let (items, skipped) = read_items(&items);
    Ok(Lenient { page: Page { items, next, journal_seq }, skipped })
}

/// Reads the result of `get_events`. `scanned` holds whatever was skipped, so the reader gets past it.
///
/// # Errors
/// Only if the page itself is broken.
pub fn read_events(bytes: &[u8]) -> Result<Lenient<EventsPage>, DecodeError> {
    #[derive(Deserialize)]
    struct RawEventsPage {
        items: Vec<Box<RawValue>>,
        scanned: u64,
        last: u64,
    }
    let RawEventsPage { items, scanned, last } = decode(bytes)?;
    let (items, skipped) = read_items::<JournalEvent>(&items);
    Ok(Lenient { page: EventsPage { items, scanned, last }, skipped })
}

fn read_items<T: DeserializeOwned>(raw: &[Box<RawValue>]) -> (Vec<T>, Vec<DecodeError>) {
    let mut items = Vec::with_capacity(raw.len());
    let mut skipped = Vec::new();
    for item in raw {
        match decode(item.get().as_bytes()) {
            Ok(item) => items.push(item),
            Err(error) => skipped.push(error),
        }
    }
    (items, skipped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trading::SubscribeRequest;
    use crate::value::Exchange;

    #[test]
    fn an_item_from_the_future_costs_only_itself() {
        let bytes = br#"{"items":[{"symbol":"a","exchange":"SHFE"},{"symbol":"b","exchange":"MOON"},
            {"symbol":"c","exchange":"DCE"}],"next":"c","journal_seq":7}"#;
        let Lenient { page, skipped } = read_page::<SubscribeRequest>(bytes).expect("reads");
        let read: Vec<_> = page.items.iter().map(|item| (item.symbol.as_str(), item.exchange)).collect();
        assert_eq!(read, [("a", Exchange::SHFE), ("c", Exchange::DCE)]);
        assert_eq!((page.next.as_deref(), page.journal_seq), (Some("c"), Some(7)));
        assert_eq!(skipped.len(), 1);
        assert!(skipped[0].to_string().starts_with("field `exchange`: unknown exchange `MOON`"), "{}", skipped[0]);
    }

    #[test]
    fn an_event_of_an_unknown_kind_does_not_stop_the_refill() {
        let bytes = br#"{"items":[{"journal_seq":5,"event":{"gateway":"g","epoch":1,"seq":1,
            "time":"2018-10-12T21:00:00+08:00","data":{"margin_call":{}}}}],"scanned":5,"last":9}"#;
        let Lenient { page, skipped } = read_events(bytes).expect("reads");
        assert_eq!((page.items.len(), page.scanned, page.last), (0, 5, 9));
        assert!(skipped[0].to_string().contains("margin_call"), "{}", skipped[0]);
    }

    #[test]
    fn a_broken_page_is_an_error() {
        assert!(read_page::<SubscribeRequest>(b"{\"items\":[").is_err());
        assert!(read_events(b"{\"items\":[],\"scanned\":1}").is_err());
    }
}
