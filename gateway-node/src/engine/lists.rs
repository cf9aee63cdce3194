//! Lists in pages: each begins behind a key, and ends before a NATS message would be too large.

use std::collections::BTreeMap;
use std::ops::Bound;

use protocol::rpc::List;
use protocol::{Bar, ErrorCode, RpcError, codec};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Caller, Engine, Reply, Request};

/// Bytes after which a page ends: half of NATS' default `max_payload`, since one more item may follow.
const PAGE_BYTES: usize = 512 * 1024;
/// Most items of a page.
const PAGE_ITEMS: usize = 2_000;

impl Engine {
    /// One page of a list.
    pub(super) fn list(&self, caller: &Caller, request: &Request) -> Reply {
        let sees = |owner: &protocol::Name, list: &List| {
            (caller.sees_all || *owner == caller.owner) && list.owner.as_ref().is_none_or(|o| o == owner)
        };
        let state = &self.state;
        let seq = Some(self.journal_seq);
        match request {
            Request::GetAllTicks(list) => page(&self.ticks, list, None, |id, _| is_of(list, &id.symbol, id.exchange)),
            Request::GetAllContracts(list) => {
                page(&self.contracts, list, None, |id, _| is_of(list, &id.symbol, id.exchange))
            }
            Request::GetAllOrders(list) => {
                page(state.orders(), list, seq, |_, o| sees(&o.owner, list) && is_of(list, &o.symbol, o.exchange))
            }
            Request::GetAllActiveOrders(list) => page(state.orders(), list, seq, |_, o| {
                o.is_active() && sees(&o.owner, list) && is_of(list, &o.symbol, o.exchange)
            }),
            Request::GetAllTrades(list) => {
                page(state.trades(), list, seq, |_, t| sees(&t.owner, list) && is_of(list, &t.symbol, t.exchange))
            }
            Request::GetAllQuotes(list) => {
                page(state.quotes(), list, seq, |_, q| sees(&q.owner, list) && is_of(list, &q.symbol, q.exchange))
            }
            Request::GetAllActiveQuotes(list) => page(state.quotes(), list, seq, |_, q| {
                q.is_active() && sees(&q.owner, list) && is_of(list, &q.symbol, q.exchange)
            }),
            Request::GetAllPositions(list) => {
                page(state.positions(), list, seq, |_, p| is_of(list, &p.symbol, p.exchange))
            }
            Request::GetAllAccounts(list) => page(state.accounts(), list, seq, |_, _| true),
            other => Err(RpcError::new(ErrorCode::Internal, format!("{} is no list", other.method().as_str()))),
        }
    }
}

fn is_of(list: &List, symbol: &protocol::Symbol, exchange: protocol::Exchange) -> bool {
    list.symbol.as_ref().is_none_or(|s| s == symbol) && list.exchange.is_none_or(|e| e == exchange)
}

/// A page of a map's values, in the order of its keys. The cursor is the last key of the page before, as JSON.
fn page<K, V>(map: &BTreeMap<K, V>, list: &List, journal_seq: Option<u64>, wanted: impl Fn(&K, &V) -> bool) -> Reply
where
    K: Ord + Serialize + DeserializeOwned,
    V: Serialize,
{
    let after: Option<K> = match &list.cursor {
        None => None,
        Some(cursor) => Some(codec::decode(cursor.as_bytes()).map_err(|_| {
            let shown: String = cursor.chars().take(64).collect();
            RpcError::new(ErrorCode::BadRequest, format!("cursor: `{shown}` is none that this list gave"))
        })?),
    };
    let begin = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
    let items = map.range((begin, Bound::Unbounded)).filter(|(k, v)| wanted(k, v));
    write_page(items, list.limit, journal_seq, |(key, _)| {
        codec::encode(key).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    })
}

/// A page of bars; the cursor is the time of the next one.
pub(super) fn bars_page(bars: &[Bar], limit: Option<usize>) -> Reply {
    let limit = limit.unwrap_or(PAGE_ITEMS).clamp(1, PAGE_ITEMS);
    let mut bytes = b"{\"items\":[".to_vec();
    let mut next = None;
    for (index, bar) in bars.iter().enumerate() {
        if index >= limit || bytes.len() > PAGE_BYTES {
            next = Some(bar.datetime.to_rfc3339());
            break;
        }
        if index > 0 {
            bytes.push(b',');
        }
        codec::encode_into(&mut bytes, bar).map_err(internal)?;
    }
    finish(bytes, next, None)
}

fn write_page<'a, K: 'a, V: Serialize + 'a>(
    items: impl Iterator<Item = (&'a K, &'a V)>,
    limit: Option<usize>,
    journal_seq: Option<u64>,
    cursor: impl Fn((&'a K, &'a V)) -> Result<String, codec::EncodeError>,
) -> Reply {
    let limit = limit.unwrap_or(PAGE_ITEMS).clamp(1, PAGE_ITEMS);
    let mut bytes = b"{\"items\":[".to_vec();
    let mut last = None;
    let mut next = None;
    for (count, item) in items.enumerate() {
        if count >= limit || bytes.len() > PAGE_BYTES {
            next = last.map(&cursor).transpose().map_err(internal)?;
            break;
        }
        if count > 0 {
            bytes.push(b',');
        }
        codec::encode_into(&mut bytes, item.1).map_err(internal)?;
        last = Some(item);
    }
    finish(bytes, next, journal_seq)
}

fn finish(mut bytes: Vec<u8>, next: Option<String>, journal_seq: Option<u64>) -> Reply {
    bytes.push(b']');
    if let Some(next) = next {
        bytes.extend_from_slice(b",\"next\":");
        codec::encode_into(&mut bytes, &next).map_err(internal)?;
    }
    if let Some(seq) = journal_seq {
        bytes.extend_from_slice(format!(",\"journal_seq\":{seq}").as_bytes());
    }
    bytes.push(b'}');
    Ok(bytes)
}

fn internal(error: codec::EncodeError) -> RpcError {
    RpcError::new(ErrorCode::Internal, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::rpc::Page;

    fn pages(map: &BTreeMap<String, String>, limit: Option<usize>) -> Vec<Vec<String>> {
        let mut pages = Vec::new();
        let mut list = List { limit, ..List::default() };
        loop {
            let bytes = page(map, &list, Some(7), |_, _| true).expect("a page");
            assert!(bytes.len() < 1024 * 1024);
            let page: Page<String> = codec::decode(&bytes).expect("decodes");
            assert_eq!(page.journal_seq, Some(7));
            pages.push(page.items);
            match page.next {
                None => return pages,
                cursor => list.cursor = cursor,
            }
        }
    }

    #[test]
    fn pages_cover_everything_once() {
        let map: BTreeMap<_, _> = (0..25).map(|n| (format!("{n:02}"), format!("value {n}"))).collect();
        let all: Vec<String> = map.values().cloned().collect();
        for limit in [Some(1), Some(7), Some(25), Some(0), None] {
            assert_eq!(pages(&map, limit).concat(), all, "{limit:?}");
        }
        assert_eq!(pages(&BTreeMap::new(), None), [Vec::<String>::new()]);
    }

    #[test]
    fn a_page_ends_before_it_is_too_large() {
        let map: BTreeMap<_, _> = (0..10).map(|n| (n.to_string(), "x".repeat(200_000))).collect();
        let pages = pages(&map, None);
        assert!(pages.len() > 1);
        assert_eq!(pages.concat().len(), 10);
    }

    #[test]
    fn a_foreign_cursor_is_refused() {
        let map = BTreeMap::from([("a".to_owned(), 1)]);
        let list = List { cursor: Some("{".to_owned()), ..List::default() };
        assert_eq!(page(&map, &list, None, |_, _| true).expect_err("refused").code, ErrorCode::BadRequest);
    }
}
