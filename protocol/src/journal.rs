//! What a gateway's journal holds: its entries, their bytes, the ids that chain them, and which of them are void.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::{Event, OmsEvent};
use crate::halt::HaltEntry;
use crate::subject::{self, Subject};
use crate::value::{InstrumentId, Name, OrderId, OrderStatus, Timestamp};
use crate::{codec, trading};

/// Header of an append and of a stored entry: its id, see [`message_id`].
pub const HEADER_MESSAGE_ID: &str = "Nats-Msg-Id";

/// What goes into the journal.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// Trading state changed; republished to subscribers.
    Event(Box<Event<OmsEvent>>),
    /// Something a successor must know, or an auditor will ask for; stored only.
    Private(Private),
}

/// Journal entries that are not republished.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Private {
    /// A node has begun to lead under this epoch: entries of a lower epoch behind it are void.
    LeaderStarted {
        /// The new epoch.
        epoch: u64,
        /// Which node.
        node: Name,
        /// Its clock.
        time: Timestamp,
        /// A number that stands for the limits that it holds orders to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limits: Option<u64>,
    },
    /// Takes up a sequence that an append of a replaced leader may still name, see [`fence`]. It says nothing else: a
    /// run of them is stored in one batch with the `LeaderStarted` behind it, and has no ids.
    Fence {
        /// The epoch that begins behind it.
        epoch: u64,
    },
    /// A caller wants an instrument's ticks, or no longer does.
    Subscription {
        /// The instrument.
        instrument: InstrumentId,
        /// Who.
        caller: Name,
        /// Wants them, or no longer.
        wanted: bool,
    },
    /// Who is halted from now on, and why.
    Halts {
        /// Owners (`*` for everybody) and reasons: all that earlier versions write and read.
        halts: BTreeMap<Name, String>,
        /// The halts that concern the gateway; absent in what an earlier version wrote.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        entries: Option<Vec<HaltEntry>>,
    },
    /// Somebody asked to cancel.
    CancelRequested {
        /// Whose order.
        owner: Name,
        /// Which order or quote.
        orderid: OrderId,
        /// The node's clock.
        time: Timestamp,
    },
    /// Part of a snapshot. The pages of one snapshot and its end follow each other without anything between them; pages
    /// that no [`Private::SnapshotEnd`] closes mean nothing.
    Snapshot(SnapshotPage),
    /// The end of a snapshot, which stands for everything before its first page.
    SnapshotEnd(SnapshotEnd),
}

/// Part of the state at the beginning of a trading day.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SnapshotPage {
    /// Orders, trades, quotes, positions and accounts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<OmsEvent>,
    /// Orders and quotes of earlier days whose ids are still known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub past: Vec<PastOrder>,
    /// Who wants which ticks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subscriptions: Vec<(InstrumentId, Name)>,
}

/// How a snapshot ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotEnd {
    /// The trading day that begins with it.
    #[serde(with = "crate::codec::instant")]
    pub trading_day: chrono::NaiveDate,
    /// Sequence of its first page, or of this entry if there is none.
    pub begins: u64,
    /// How many pages it has.
    pub pages: u32,
    /// The node's clock.
    #[serde(with = "crate::codec::instant")]
    pub time: Timestamp,
    /// The day rolls before this one whose ids are kept, oldest first: an order id that was allocated before the first
    /// of them and is not known is refused.
    #[serde(default)]
    pub rolls: Vec<Timestamp>,
    /// Where the kept snapshots before this one begin, oldest first.
    #[serde(default)]
    pub earlier: Vec<u64>,
    /// Who is halted, as in [`Private::Halts`].
    #[serde(default)]
    pub halts: BTreeMap<Name, String>,
    /// The halts that concern the gateway, as in [`Private::Halts`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halt_entries: Option<Vec<HaltEntry>>,
}

/// What is kept of an order or a quote of an earlier day: enough that its id makes no second one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PastOrder {
    /// Whose it was.
    pub owner: Name,
    /// Its id.
    pub orderid: OrderId,
    /// Whether it was a quote.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub quote: bool,
    /// What its request said, see [`fingerprint_order`] and [`fingerprint_quote`].
    pub fingerprint: u64,
    /// How it ended.
    pub status: OrderStatus,
    /// What was filled, in lots: of a quote, bought and sold.
    pub traded: [f64; 2],
    /// What the venue called it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub venue_reference: Option<Name>,
    /// At which day roll it left the state.
    #[serde(with = "crate::codec::instant")]
    pub rolled: Timestamp,
}

impl Private {
    /// The last token of its subject.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Private::LeaderStarted { .. } => "leader",
            Private::Fence { .. } => "fence",
            Private::Subscription { .. } => "subscription",
            Private::Halts { .. } => "halts",
            Private::CancelRequested { .. } => "cancel",
            Private::Snapshot(_) => "snapshot",
            Private::SnapshotEnd(_) => SNAPSHOT_END,
        }
    }
}

/// Kind of [`Private::SnapshotEnd`]: the last of its subject says where a replay begins.
pub const SNAPSHOT_END: &str = "snapshot_end";

/// Subject and bytes of an entry in the journal of this gateway.
///
/// # Errors
/// If a number in it is not finite.
pub fn encode_entry(gateway: &str, entry: &Entry) -> Result<(String, Vec<u8>), codec::EncodeError> {
    Ok(match entry {
        Entry::Event(event) => (Subject::of(&event.data).journal(gateway), encode_event(event)?),
        Entry::Private(private) => (subject::journal_private(gateway, private.kind()), codec::encode(private)?),
    })
}

/// The bytes of an event: the object itself in its envelope, without the tag that only memory needs.
fn encode_event(event: &Event<OmsEvent>) -> Result<Vec<u8>, codec::EncodeError> {
    fn around<T: Serialize>(event: &Event<OmsEvent>, data: &T) -> Result<Vec<u8>, codec::EncodeError> {
        codec::encode(&Event {
            gateway: event.gateway.clone(),
            epoch: event.epoch,
            seq: event.seq,
            time: event.time,
            data,
        })
    }
    match &event.data {
        OmsEvent::Order(data) => around(event, data),
        OmsEvent::Trade(data) => around(event, data),
        OmsEvent::Quote(data) => around(event, data),
        OmsEvent::Position(data) => around(event, data),
        OmsEvent::Account(data) => around(event, data),
    }
}

/// The entry in a stored message.
///
/// # Errors
/// What is not understood, for people: a reader passes over such an entry and says so.
pub fn decode_entry(subject: &str, payload: &[u8]) -> Result<Entry, String> {
    let mut tokens = subject.split('.').skip(2);
    if tokens.next() != Some("pub") {
        return codec::decode::<Private>(payload).map(Entry::Private).map_err(|e| e.to_string());
    }
    let event = match tokens.next() {
        Some("order") => decode_event(payload, OmsEvent::Order),
        Some("trade") => decode_event(payload, OmsEvent::Trade),
        Some("quote") => decode_event(payload, OmsEvent::Quote),
        Some("position") => decode_event(payload, OmsEvent::Position),
        Some("account") => decode_event(payload, OmsEvent::Account),
        other => return Err(format!("unknown kind {other:?}")),
    };
    event.map(|event| Entry::Event(Box::new(event))).map_err(|e| e.to_string())
}

fn decode_event<T: serde::de::DeserializeOwned>(
    payload: &[u8],
    wrap: impl FnOnce(T) -> OmsEvent,
) -> Result<Event<OmsEvent>, codec::DecodeError> {
    codec::decode::<Event<T>>(payload).map(|event| event.map(wrap))
}

/// Most appends that a leader may have without an ack. Raising it takes nodes of the old and the new version apart, one
/// after the other: a successor's fence is as long as its own version says.
pub const WINDOW: usize = 128;

/// How many [`Private::Fence`] entries a leader stores in front of its `LeaderStarted`, if no leader ever has more than
/// `window` appends without an ack.
///
/// Each append names the sequence that must be the stream's last. Let *s* be the last sequence that a replaced leader has
/// an ack for: its appends that are still on their way name at most *s + window - 1*. Its successor finds at least *s*
/// stored, and with this many entries and its `LeaderStarted` in one atomic batch the stream ends at *s + window + 1* or
/// later: none of them fits any more, whenever it arrives.
#[must_use]
pub const fn fence(window: usize) -> usize {
    window
}

/// The id of a leader's `number`th entry; its `LeaderStarted` is number 0.
#[must_use]
pub fn message_id(epoch: u64, number: u64) -> String {
    format!("{epoch}-{number}")
}

/// Epoch and number of an entry's id.
#[must_use]
pub fn parse_message_id(text: &str) -> Option<(u64, u64)> {
    let (epoch, number) = text.split_once('-')?;
    Some((epoch.parse().ok()?, number.parse().ok()?))
}

/// A number that stands for what an order's request said, the id aside. It is part of the journal's format: FNV-1a over
/// the fields as text, which no version of anything changes.
#[must_use]
pub fn fingerprint_order(request: &trading::OrderRequest) -> u64 {
    let price = request.price.map(f64::to_bits);
    fnv1a(&format!(
        "{}|{}|{}|{}|{}|{price:?}|{}|{}",
        request.symbol,
        request.exchange,
        request.direction,
        request.r#type,
        request.offset,
        request.volume.to_bits(),
        request.reference
    ))
}

/// As [`fingerprint_order`], of a quote's request.
#[must_use]
pub fn fingerprint_quote(request: &trading::QuoteRequest) -> u64 {
    fnv1a(&format!(
        "{}|{}|{}|{}|{}|{}|{}|{}|{}",
        request.symbol,
        request.exchange,
        request.bid_price.to_bits(),
        request.bid_volume.to_bits(),
        request.ask_price.to_bits(),
        request.ask_volume.to_bits(),
        request.bid_offset,
        request.ask_offset,
        request.reference
    ))
}

/// A number that stands for a text, in the same way.
#[must_use]
pub fn fingerprint_text(text: &str) -> u64 {
    fnv1a(text)
}

/// <http://www.isthe.com/chongo/tech/comp/fnv/index.html>, 64 bits.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Direction, Exchange, Offset, OrderRequest};

    fn order_event() -> Event<OmsEvent> {
        let instrument = InstrumentId::new("SPC c1905&cs1905", Exchange::DCE);
        let order = OrderRequest::limit(instrument, Direction::Long, Offset::Open, 3500.0, 1.0)
            .to_order(&"sim1".into(), &"default".into());
        let time = chrono::DateTime::parse_from_rfc3339("2024-01-02T09:00:00+08:00").expect("a time");
        Event { gateway: "sim1".into(), epoch: 3, seq: 1, time, data: OmsEvent::Order(order) }
    }

    #[test]
    fn entries_read_back_from_their_subject_and_bytes() {
        let event = order_event();
        let time = event.time;
        let page = SnapshotPage { events: vec![event.data.clone()], ..SnapshotPage::default() };
        let entry = Entry::Event(Box::new(event));
        let (subject, bytes) = encode_entry("sim1", &entry).expect("encodes");
        assert!(subject.starts_with("journal.sim1.pub.order.SPC%20c1905%26cs1905.DCE.sim1.default"));
        assert_eq!(decode_entry(&subject, &bytes), Ok(entry));

        let cancel = Private::CancelRequested { owner: "default".into(), orderid: OrderId::new("a"), time };
        for private in [cancel, Private::Snapshot(page)] {
            let (subject, bytes) = encode_entry("sim1", &Entry::Private(private.clone())).expect("encodes");
            assert_eq!(subject, format!("journal.sim1.{}", private.kind()));
            assert_eq!(decode_entry(&subject, &bytes), Ok(Entry::Private(private)));
        }
        assert!(decode_entry("journal.sim1.pub.moon", b"{}").is_err());
        assert!(decode_entry("journal.sim1.pub.order.x", b"\xff").is_err());
    }

    #[test]
    fn message_ids_read_back() {
        assert_eq!(parse_message_id(&message_id(7, 42)), Some((7, 42)));
        assert_eq!(parse_message_id("nonsense"), None);
    }

    #[test]
    fn fingerprints_tell_contents_apart_and_never_change() {
        let instrument = InstrumentId::new("rb2410", Exchange::SHFE);
        let request = OrderRequest::limit(instrument, Direction::Long, Offset::Open, 3500.0, 1.0);
        assert_eq!(fingerprint_order(&request), 7_142_293_143_486_607_400);
        let other = OrderRequest { volume: 2.0, ..request.clone() };
        assert_ne!(fingerprint_order(&other), fingerprint_order(&request));
        let same = OrderRequest { orderid: OrderId::generate(), ..request.clone() };
        assert_eq!(fingerprint_order(&same), fingerprint_order(&request));
    }

    proptest::proptest! {
        #[test]
        fn no_entry_is_a_panic(subject in "(journal\\.[a-z0-9]{1,4}\\.)?(pub\\.)?[a-z.*>%]{0,24}", payload: Vec<u8>) {
            let _ = decode_entry(&subject, &payload);
            let _ = parse_message_id(&subject);
        }

        #[test]
        fn no_cut_or_flipped_entry_is_a_panic(kind in 0_usize..5, at in 0_usize..600, flip: u8) {
            let subject = ["order", "trade", "quote", "position", "account"][kind];
            let mut bytes = encode_event(&order_event()).expect("encodes");
            let at = at.min(bytes.len() - 1);
            bytes[at] ^= flip;
            let _ = decode_entry(&format!("journal.sim1.pub.{subject}.a"), &bytes);
            bytes.truncate(at);
            let _ = decode_entry(&format!("journal.sim1.pub.{subject}.a"), &bytes);
        }
    }
}
