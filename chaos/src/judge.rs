//! The judge: a plain function over what the clients were told, what the journal holds and what the venue took. It knows
//! nothing of faults, and has no patience: it looks when everything has ended.

use std::collections::{BTreeMap, BTreeSet};

use protocol::oms::{OrderKey, PositionKey, TradeKey};
use protocol::{
    Direction, ErrorCode, Name, Offset, OmsEvent, OmsState, Order, OrderId, OrderRequest, OrderStatus, Quote,
    QuoteRequest, Trade,
};

use crate::diary::{self, Item, Line, Note, Outcome};
use crate::journal::Journal;
use crate::listing::{Listing, position_id, trade_id};
use crate::venue_books::{Content, Taken, VenueBooks};

/// Everything that is judged.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// Each client's name and diary.
    pub diaries: Vec<(String, Vec<Line>)>,
    /// The journal.
    pub journal: Journal,
    /// The venue's books.
    pub venue: VenueBooks,
    /// What the leading node answers.
    pub leader: Listing,
    /// What each client's mirror shows.
    pub mirrors: Vec<(String, Listing)>,
    /// The owner that all clients trade under.
    pub owner: Name,
    /// From when to when something stood between a node's last look at a deadline and the venue: the process was stopped,
    /// or its line to the venue. In microseconds since 1970.
    pub stalls: Vec<(i64, i64)>,
    /// Whether everything came to an end: otherwise what is open may just be under way, and is nobody's fault.
    pub is_at_rest: bool,
}

impl Evidence {
    /// What came to the venue and had a deadline: in microseconds since 1970.
    pub fn arrivals(&self) -> impl Iterator<Item = (&Taken, i64)> {
        self.venue.taken.iter().filter_map(|taken| {
            let deadline = self.journal.intents.get(&taken.memo)?.deadline_us?;
            Some((taken, deadline))
        })
    }
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wrong {
    /// Somebody was told of something, or it is in one ledger, and another has nothing of it.
    Lost,
    /// Something was done twice, or counts twice.
    Duplicated,
    /// Two ledgers speak of the same thing, and do not agree.
    Mismatched,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// What kind.
    pub wrong: Wrong,
    /// Which order, quote, trade or position.
    pub id: String,
    /// How, for people.
    pub what: String,
}

/// The reason that the venue gives when it was told to lie (a fault): then an end is no end.
const LIE: &str = "said to be over before its fill (a fault)";
/// How much later than its deadline an order may come to the venue: the adapter gives up what it could not write within
/// this time, in microseconds.
const WAY_US: i64 = 1_000_000;

/// Judges. Nothing found: nothing was lost, duplicated or mismatched.
#[must_use]
pub fn judge(evidence: &Evidence) -> Vec<Finding> {
    let mut bench = Bench::new(evidence);
    bench.void_entries();
    bench.receipts();
    bench.orders_of_the_venue();
    bench.ends();
    bench.never_arrived();
    bench.late();
    if evidence.is_at_rest {
        bench.orders_of_the_journal();
        bench.trades();
        bench.positions();
        bench.copies();
    }
    for (client, lines) in &evidence.diaries {
        bench.client(client, lines);
    }
    bench.findings.sort();
    bench.findings.dedup();
    bench.findings
}

/// The judge at work.
struct Bench<'a> {
    evidence: &'a Evidence,
    state: &'a OmsState,
    /// What the venue took, by the client's id.
    taken: BTreeMap<&'a OrderId, Vec<&'a Taken>>,
    /// What the venue told a lie about: it said that it was over.
    lied: BTreeSet<&'a OrderId>,
    findings: Vec<Finding>,
}

/// An order or a quote of the journal, as far as both are alike.
struct Journalled {
    status: OrderStatus,
    traded: f64,
    request: Item,
}

impl From<&Order> for Journalled {
    fn from(order: &Order) -> Self {
        let request = OrderRequest {
            orderid: order.orderid.clone(),
            symbol: order.symbol.clone(),
            exchange: order.exchange,
            direction: order.direction,
            r#type: order.r#type,
            volume: order.volume,
            price: order.price,
            offset: order.offset,
            reference: order.reference.clone(),
        };
        Journalled { status: order.status, traded: order.traded, request: Item::Order(request) }
    }
}

impl From<&Quote> for Journalled {
    fn from(quote: &Quote) -> Self {
        let request = QuoteRequest {
            quoteid: quote.quoteid.clone(),
            symbol: quote.symbol.clone(),
            exchange: quote.exchange,
            bid_price: quote.bid_price,
            bid_volume: quote.bid_volume,
            ask_price: quote.ask_price,
            ask_volume: quote.ask_volume,
            bid_offset: quote.bid_offset,
            ask_offset: quote.ask_offset,
            reference: quote.reference.clone(),
        };
        Journalled { status: quote.status, traded: quote.traded(), request: Item::Quote(request) }
    }
}

impl<'a> Bench<'a> {
    fn new(evidence: &'a Evidence) -> Self {
        let mut taken: BTreeMap<&OrderId, Vec<&Taken>> = BTreeMap::new();
        for item in &evidence.venue.taken {
            taken.entry(&item.memo).or_default().push(item);
        }
        let is_lie = |reason: &Option<String>| reason.as_deref() == Some(LIE);
        let lied = evidence.journal.events.iter().filter_map(|(_, event)| match event {
            OmsEvent::Order(order) if is_lie(&order.reason) => Some(&order.orderid),
            OmsEvent::Quote(quote) if is_lie(&quote.reason) => Some(&quote.quoteid),
            _ => None,
        });
        let lied = lied.collect();
        Bench { evidence, state: &evidence.journal.state, taken, lied, findings: Vec::new() }
    }

    fn find(&mut self, wrong: Wrong, id: impl ToString, what: impl Into<String>) {
        self.findings.push(Finding { wrong, id: id.to_string(), what: what.into() });
    }

    fn journalled(&self, id: &OrderId) -> Option<Journalled> {
        let key = OrderKey { owner: self.evidence.owner.clone(), orderid: id.clone() };
        let order = self.state.order(&key).map(Journalled::from);
        order.or_else(|| self.state.quote(&key).map(Journalled::from))
    }

    /// What a replaced leader still sends is not stored: readers would pass over it, but it would have been published.
    fn void_entries(&mut self) {
        if self.evidence.journal.void > 0 {
            let what = format!("it holds {} entries of leaders that had been replaced", self.evidence.journal.void);
            self.find(Wrong::Mismatched, "the journal", what);
        }
    }

    /// One id reaches the venue once, under the session in force.
    fn receipts(&mut self) {
        let evidence = self.evidence;
        let twice: Vec<(&OrderId, Vec<String>)> = self
            .taken
            .iter()
            .filter(|(_, receipts)| receipts.len() > 1)
            .map(|(id, receipts)| (*id, receipts.iter().map(|taken| taken.reference.to_string()).collect()))
            .collect();
        for (id, references) in twice {
            self.find(Wrong::Duplicated, id, format!("the venue took it as {}", references.join(" and ")));
        }
        for id in &evidence.venue.stale {
            self.find(Wrong::Mismatched, id, "the venue took it from a session that was over");
        }
        for line in &evidence.journal.unreadable {
            self.find(Wrong::Mismatched, "the journal", line);
        }
    }

    /// What the venue took is in the journal, the same, and ended the same.
    fn orders_of_the_venue(&mut self) {
        for taken in &self.evidence.venue.taken {
            let Some(journalled) = self.journalled(&taken.memo) else {
                self.find(
                    Wrong::Lost,
                    &taken.memo,
                    format!("the venue took it as {}, the journal lacks it", taken.reference),
                );
                continue;
            };
            if !self.evidence.journal.references.contains(&(taken.memo.clone(), taken.reference.clone())) {
                let what = format!("the venue took it as {}, the journal lacks it", taken.reference);
                self.find(Wrong::Lost, &taken.memo, what);
            }
            if let Some(what) = other_content(&journalled.request, &taken.content) {
                self.find(Wrong::Mismatched, &taken.memo, what);
            }
            if !self.evidence.is_at_rest {
                continue;
            }
            if journalled.status != taken.status {
                let what = format!("{} at the venue, {} in the journal", taken.status, journalled.status);
                self.find(Wrong::Mismatched, &taken.memo, what);
            }
            if journalled.traded != taken.traded {
                let what = format!("{} lots filled at the venue, {} in the journal", taken.traded, journalled.traded);
                self.find(Wrong::Mismatched, &taken.memo, what);
            }
        }
    }

    /// What the journal has, the venue has too, or it came to nothing; and nobody's order is taken for a stranger's.
    fn orders_of_the_journal(&mut self) {
        let orders = self.state.orders().iter().map(|(key, order)| (key, Journalled::from(order)));
        let quotes = self.state.quotes().iter().map(|(key, quote)| (key, Journalled::from(quote)));
        let all: Vec<(OrderKey, Journalled)> = orders.chain(quotes).map(|(key, item)| (key.clone(), item)).collect();
        for (key, item) in all {
            if key.owner != self.evidence.owner {
                let what = format!("an order of our own came back from the venue as one of `{}`", key.owner);
                self.find(Wrong::Mismatched, &key.orderid, what);
                continue;
            }
            if item.status == OrderStatus::Submitting {
                self.find(Wrong::Mismatched, &key.orderid, "it was left SUBMITTING for ever");
            }
            if self.taken.contains_key(&key.orderid) {
                continue;
            }
            if item.status.is_active() {
                self.find(Wrong::Lost, &key.orderid, format!("{} in the journal, the venue never had it", item.status));
            } else if item.traded > 0.0 {
                let what = format!("{} lots filled in the journal, the venue never had it", item.traded);
                self.find(Wrong::Mismatched, &key.orderid, what);
            }
        }
    }

    /// What the journal once said to be rejected or cancelled stayed so, unless it was the venue that was wrong: a node
    /// does not guess.
    fn ends(&mut self) {
        let mut ends: BTreeMap<(&OrderId, bool), (u64, OrderStatus, f64)> = BTreeMap::new();
        for (sequence, event) in &self.evidence.journal.events {
            let (id, is_quote, status, traded, reason) = match event {
                OmsEvent::Order(order) => (&order.orderid, false, order.status, order.traded, &order.reason),
                OmsEvent::Quote(quote) => (&quote.quoteid, true, quote.status, quote.traded(), &quote.reason),
                _ => continue,
            };
            if let Some((at, end, filled)) = ends.get(&(id, is_quote))
                && (status != *end || traded > *filled)
                && !self.lied.contains(id)
            {
                let what =
                    format!("{end} with {filled} lots in entry {at}, {status} with {traded} in entry {sequence}");
                self.find(Wrong::Mismatched, id, what);
            }
            if matches!(status, OrderStatus::Rejected | OrderStatus::Cancelled) && reason.as_deref() != Some(LIE) {
                ends.insert((id, is_quote), (*sequence, status, traded));
            }
        }
    }

    /// What a node says never to have arrived was kept from the venue by something. A connection loses nothing that was
    /// written before something else that came, and a snapshot is asked for behind everything that was written.
    fn never_arrived(&mut self) {
        let evidence = self.evidence;
        for gone in &evidence.journal.never_arrived {
            let Some(intent) = evidence.journal.intents.get(&gone.id) else { continue };
            let Some(reference) = intent.reference.as_ref().filter(|_| !self.taken.contains_key(&gone.id)) else {
                continue;
            };
            if evidence.venue.in_force_at(gone.at_us) == Some(&reference.session) {
                let what =
                    format!("given up as never arrived under {reference}, a session that stood: the node lost it");
                self.find(Wrong::Lost, &gone.id, what);
                continue;
            }
            // One that was cancelled first, or whose time was over, was not written.
            let in_time = |at: i64| intent.deadline_us.is_some_and(|deadline| at < deadline);
            if let Some(at) = evidence.venue.overtaken_at(reference)
                && in_time(at)
                && !self.was_cancelled(&gone.id)
            {
                let what = format!("never arrived as {reference}, and what was sent behind it did: the node lost it");
                self.find(Wrong::Lost, &gone.id, what);
            }
        }
    }

    /// Whether any client wanted it cancelled.
    fn was_cancelled(&self, id: &OrderId) -> bool {
        let lines = self.evidence.diaries.iter().flat_map(|(_, lines)| lines);
        lines.into_iter().any(|line| matches!(&line.note, Note::Cancelling { id: of } if of == id))
    }

    /// No order comes to the venue behind its deadline, unless something stood on its last way.
    fn late(&mut self) {
        let evidence = self.evidence;
        for (taken, deadline) in evidence.arrivals() {
            let is_explained = evidence.stalls.iter().any(|(from, to)| *from <= taken.at_us && deadline <= to + WAY_US);
            if taken.at_us > deadline + WAY_US && !is_explained {
                let late = (taken.at_us - deadline) / 1_000;
                self.find(
                    Wrong::Mismatched,
                    &taken.memo,
                    format!("it came to the venue {late} ms behind its deadline"),
                );
            }
        }
    }

    /// Each fill counts once, everywhere.
    fn trades(&mut self) {
        let evidence = self.evidence;
        let seen_by = |mirror: &Listing| mirror.trades.iter().map(TradeKey::from).collect::<BTreeSet<_>>();
        let mirrors: Vec<_> = evidence.mirrors.iter().map(|(client, mirror)| (client, seen_by(mirror))).collect();
        let mut at_venue: BTreeSet<TradeKey> = BTreeSet::new();
        for (memo, trade) in &evidence.venue.trades {
            let key = TradeKey {
                trading_day: trade.trading_day,
                exchange: trade.instrument.exchange,
                tradeid: trade.tradeid.clone(),
                direction: trade.direction,
                symbol: trade.instrument.symbol.clone(),
            };
            let id = trade_id(&key);
            if !at_venue.insert(key.clone()) {
                self.find(Wrong::Duplicated, &id, "the venue gave the same trade id twice");
            }
            match self.state.trades().get(&key) {
                None => self.find(Wrong::Lost, &id, format!("{memo:?} was filled at the venue, the journal lacks it")),
                Some(ours) => {
                    let same = Some(&ours.orderid) == memo.as_ref()
                        && (ours.price, ours.volume, ours.offset) == (trade.price, trade.volume, trade.offset)
                        && ours.instrument() == trade.instrument;
                    if !same {
                        self.find(
                            Wrong::Mismatched,
                            &id,
                            format!("at the venue {memo:?} {trade:?}, in the journal {ours:?}"),
                        );
                    }
                }
            }
            for (client, seen) in &mirrors {
                if !seen.contains(&key) {
                    self.find(Wrong::Lost, &id, format!("it never came to {client}"));
                }
            }
        }
        for (key, trade) in self.state.trades() {
            if !at_venue.contains(key) {
                let twin = at_venue.iter().any(|other| other.tradeid == key.tradeid);
                let wrong = if twin { Wrong::Duplicated } else { Wrong::Mismatched };
                self.find(
                    wrong,
                    trade_id(key),
                    format!("the journal has a fill of {} that the venue lacks", trade.orderid),
                );
            }
        }
        let mut filled: BTreeMap<(&Name, &OrderId), f64> = BTreeMap::new();
        for trade in self.state.trades().values() {
            *filled.entry((&trade.owner, &trade.orderid)).or_default() += trade.volume;
        }
        let orders = self.state.orders().values().map(|order| (&order.owner, &order.orderid, order.traded));
        let quotes = self.state.quotes().values().map(|quote| (&quote.owner, &quote.quoteid, quote.traded()));
        for (owner, id, traded) in orders.chain(quotes) {
            let of_trades = filled.get(&(owner, id)).copied().unwrap_or(0.0);
            if of_trades != traded {
                let wrong = if of_trades > traded { Wrong::Duplicated } else { Wrong::Lost };
                let what = format!("its trades in the journal are {of_trades} lots, the order says {traded}");
                self.find(wrong, id, what);
            }
        }
    }

    /// What is held is what was traded.
    fn positions(&mut self) {
        let mut held: BTreeMap<PositionKey, f64> = BTreeMap::new();
        for (_, trade) in &self.evidence.venue.trades {
            let opens = matches!(trade.offset, Offset::Open | Offset::None);
            let direction = match (opens, trade.direction) {
                (true, direction) => direction,
                (false, Direction::Long) => Direction::Short,
                (false, Direction::Short) => Direction::Long,
                (false, Direction::Net) => Direction::Net,
            };
            let key =
                PositionKey { symbol: trade.instrument.symbol.clone(), exchange: trade.instrument.exchange, direction };
            *held.entry(key).or_default() += if opens { trade.volume } else { -trade.volume };
        }
        let journalled = self.state.positions();
        let keys: BTreeSet<&PositionKey> = held.keys().chain(journalled.keys()).collect();
        for key in keys {
            let at_venue = held.get(key).copied().unwrap_or(0.0);
            let ours = journalled.get(key).map_or(0.0, |position| position.volume);
            if at_venue != ours {
                self.find(
                    Wrong::Mismatched,
                    position_id(key),
                    format!("{at_venue} lots of the venue's trades, {ours} in the journal"),
                );
            }
        }
    }

    /// What a client was told holds, and it was told.
    fn client(&mut self, client: &str, lines: &[Line]) {
        let mut seen: BTreeMap<&OrderId, f64> = BTreeMap::new();
        let mut seen_trades: BTreeSet<TradeKey> = BTreeSet::new();
        for line in lines {
            match &line.note {
                Note::Started { .. } => {
                    // A new mirror begins anew.
                    seen.clear();
                    seen_trades.clear();
                }
                Note::Saw { id, traded, .. } if seen.insert(id, *traded).is_some_and(|before| before > *traded) => {
                    self.find(Wrong::Mismatched, id, format!("{client} saw its fills become fewer"));
                }
                Note::SawTrade { trade } => {
                    let key = TradeKey::from(trade);
                    let id = trade_id(&key);
                    if !seen_trades.insert(key) {
                        self.find(Wrong::Duplicated, id, format!("{client} was told of it twice"));
                    }
                }
                _ => {}
            }
        }
        for (id, sent) in diary::sent(lines) {
            self.told(client, id, sent.item, sent.known);
        }
    }

    fn told(&mut self, client: &str, id: &OrderId, item: &Item, told: Option<&Outcome>) {
        let journalled = self.journalled(id);
        let at_venue = self.taken.contains_key(id);
        if let Some(journalled) = &journalled
            && journalled.request != *item
        {
            self.find(
                Wrong::Mismatched,
                id,
                format!("{client} sent {item:?}, the journal has {:?}", journalled.request),
            );
        }
        match (told, journalled) {
            (None | Some(Outcome::Unknown { .. }), _) if !self.evidence.is_at_rest => {}
            (None | Some(Outcome::Unknown { .. }), _) => {
                self.find(Wrong::Mismatched, id, format!("{client} was never told what became of it"));
            }
            (Some(Outcome::NotExecuted { error, .. }), _) if at_venue => {
                self.find(
                    Wrong::Mismatched,
                    id,
                    format!("{client} was told it was not executed ({error}); the venue has it"),
                );
            }
            (Some(Outcome::NotExecuted { code: Some(ErrorCode::OrderIdReused), error, .. }), _) => {
                self.find(Wrong::Mismatched, id, format!("{client} used the id once and was told: {error}"));
            }
            (Some(Outcome::NotExecuted { error, .. }), Some(now)) if now.status.is_active() || now.traded > 0.0 => {
                let what = format!("{client} was told it was not executed ({error}); the journal says {}", now.status);
                self.find(Wrong::Mismatched, id, what);
            }
            (Some(Outcome::NotExecuted { .. }), _) => {}
            (Some(Outcome::Taken { status, .. }), None) => {
                self.find(Wrong::Lost, id, format!("{client} was told {status}, the journal lacks it"));
            }
            (Some(Outcome::Taken { status, traded }), Some(now)) => {
                let is_over = !status.is_active() && !self.lied.contains(id);
                if *traded > now.traded || (is_over && *status != now.status) {
                    let what = format!(
                        "{client} was told {status} with {traded} lots, in the end it is {} with {}",
                        now.status, now.traded
                    );
                    self.find(Wrong::Mismatched, id, what);
                }
            }
        }
    }

    /// The journal replayed, the node that leads, and every mirror are one state.
    fn copies(&mut self) {
        let evidence = self.evidence;
        let replayed = Listing::from(self.state);
        let named = std::iter::once(("the leading node", &evidence.leader));
        let mirrors = evidence.mirrors.iter().map(|(client, mirror)| (client.as_str(), mirror));
        for (who, listing) in named.chain(mirrors) {
            for (id, what) in replayed.differences(listing) {
                self.find(Wrong::Mismatched, id, format!("between the journal (here) and {who} (there): {what}"));
            }
        }
    }
}

/// What the venue took differs from what the journal says was sent: how.
fn other_content(request: &Item, taken: &Content) -> Option<String> {
    let same = match (request, taken) {
        (Item::Order(ours), Content::Order(theirs)) => {
            (ours.instrument(), ours.r#type, ours.direction, ours.offset, ours.price, ours.volume)
                == (
                    theirs.instrument.clone(),
                    theirs.order_type,
                    theirs.direction,
                    theirs.offset,
                    theirs.price,
                    theirs.volume,
                )
        }
        (Item::Quote(ours), Content::Quote(theirs)) => {
            let prices = (ours.bid_price, ours.bid_volume, ours.ask_price, ours.ask_volume)
                == (theirs.bid_price, theirs.bid_volume, theirs.ask_price, theirs.ask_volume);
            prices
                && (ours.instrument(), ours.bid_offset, ours.ask_offset)
                    == (theirs.instrument.clone(), theirs.bid_offset, theirs.ask_offset)
        }
        _ => false,
    };
    (!same).then(|| format!("the journal has {request:?}, the venue took {taken:?}"))
}

/// Everything that the three ledgers say of an id, for whoever looks into a finding.
#[must_use]
pub fn lines_about(evidence: &Evidence, id: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for (client, diary) in &evidence.diaries {
        for line in diary {
            let about = match &line.note {
                Note::Sending { item } => item.id().as_str() == id,
                Note::Told { id: of, .. } | Note::Saw { id: of, .. } => of.as_str() == id,
                Note::Cancelling { id: of } | Note::CancelTold { id: of, .. } => of.as_str() == id,
                Note::SawTrade { trade } => is_about(trade, id),
                Note::Started { .. } | Note::Resolved => false,
            };
            if about {
                lines.push(format!("{client} {} {:?}", line.at_us, line.note));
            }
        }
    }
    for (sequence, event) in &evidence.journal.events {
        let about = match event {
            OmsEvent::Order(order) => order.orderid.as_str() == id,
            OmsEvent::Quote(quote) => quote.quoteid.as_str() == id,
            OmsEvent::Trade(trade) => is_about(trade, id),
            OmsEvent::Position(position) => position_id(&PositionKey::from(position)) == id,
            OmsEvent::Account(_) => false,
        };
        if about {
            lines.push(format!("journal {sequence} {event:?}"));
        }
    }
    for taken in evidence.venue.taken.iter().filter(|taken| taken.memo.as_str() == id) {
        lines.push(format!("venue {taken:?}"));
    }
    for (memo, trade) in &evidence.venue.trades {
        let key = TradeKey {
            trading_day: trade.trading_day,
            exchange: trade.instrument.exchange,
            tradeid: trade.tradeid.clone(),
            direction: trade.direction,
            symbol: trade.instrument.symbol.clone(),
        };
        if memo.as_ref().is_some_and(|memo| memo.as_str() == id) || trade_id(&key) == id {
            lines.push(format!("venue {memo:?} {trade:?}"));
        }
    }
    lines
}

fn is_about(trade: &Trade, id: &str) -> bool {
    trade.orderid.as_str() == id || trade_id(&TradeKey::from(trade)) == id
}

#[cfg(test)]
mod tests;
