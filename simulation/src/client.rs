//! A client, as a model of what the SDK does: it trades under ids of its own, finds out what became of an order whose
//! answer is lost, and keeps a mirror that misses events and reads them again. What an answer settles is decided by the
//! SDK's own functions; when to send and to ask again is written anew, since the SDK does it on a runtime.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use client_sdk::Error;
use client_sdk::decisions::{is_last_word, outdates_clock, proves_absence};
use gateway_node::engine::{Replayed, Reply, Request};
use protocol::event::OmsEvent;
use protocol::journal::{Entry, Private};
use protocol::oms::OrderKey;
use protocol::rpc::{CancelAll, Deadline, GetOrder, Method};
use protocol::{
    CancelRequest, Direction, ErrorCode, Name, Offset, OmsState, Order, OrderId, OrderRequest, OrderStatus, OrderType,
    Quote, QuoteRequest, Status, codec,
};
use rand::RngExt as _;
use rand::seq::IndexedRandom as _;

use crate::outside::Outside;
use crate::step::{Answered, CallId, ClientInput, Step, millis};
use crate::venue::instruments;

/// Pause before an order of unknown outcome is sent again, or asked for again.
const PAUSE: Duration = millis(200);
/// How much longer than its timeout a call may take to find out.
const SETTLING: Duration = millis(5_000);
/// Longest wait for one answer to a look-up.
const LOOK_UP: Duration = millis(2_000);

/// What is wanted.
#[derive(Debug, Clone)]
enum Wanted {
    Order(OrderRequest),
    Quote(QuoteRequest),
}

/// What a client knows of its order.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The gateway has it, and told its state.
    Told(OrderStatus),
    /// It is certain that nothing came of it, because of this.
    NotExecuted(String),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Asking {
    /// The node's clock.
    Clock,
    /// To take the order.
    Send,
    /// For its epoch and clock, before it is asked whether it has the order.
    Status,
    /// Whether it has the order; its epoch and clock were these.
    LookUp(u64, i64),
}

#[derive(Debug, Clone, PartialEq)]
enum Stage {
    Sending,
    Settling { until: Duration },
    Done(Outcome),
}

/// One order, from the client's side.
pub struct Ticket {
    wanted: Wanted,
    timeout: Duration,
    end: Duration,
    latest_deadline_ms: i64,
    in_doubt: bool,
    /// What an earlier call told of the same order.
    told_before: Option<OrderStatus>,
    stage: Stage,
    /// Counts calls and pauses: what belongs to an earlier one is too late.
    turn: u64,
    asking: Option<(u64, Asking)>,
}

impl Ticket {
    /// The order's id.
    #[must_use]
    pub fn id(&self) -> &OrderId {
        match &self.wanted {
            Wanted::Order(order) => &order.orderid,
            Wanted::Quote(quote) => &quote.quoteid,
        }
    }

    /// What the client knows, once it does.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.stage {
            Stage::Done(outcome) => Some(outcome),
            Stage::Sending | Stage::Settling { .. } => None,
        }
    }
}

/// See the module.
pub struct Client {
    number: usize,
    /// Whose orders it sends.
    pub owner: Name,
    /// Epoch, and how far the wall clock of who leads under it is ahead of the client's own.
    clock: Option<(u64, i64)>,
    heard_epoch: u64,
    /// Everything that it sent.
    pub tickets: Vec<Ticket>,
    calls: HashMap<u64, usize>,
    next_call: u64,
    /// Its copy of the state.
    pub mirror: Mirror,
}

/// A copy of trading state: it applies what reaches it, and reads again what it missed. It is simpler than the SDK's on
/// purpose: what `Verification` decides by, each subject's chain of sequences and the heads, is not modelled here (it has
/// property tests of its own). This one reads again whenever a heartbeat is ahead of it.
#[derive(Default)]
pub struct Mirror {
    /// The copy.
    pub state: OmsState,
    epoch: u64,
    complete_to: u64,
    /// Of the last entry that was read.
    read_epoch: u64,
    /// Somebody else leads: what the one before said last may be void, so the state is taken as a whole.
    must_replace: bool,
}

impl Mirror {
    /// What was read already is known, and what comes from an earlier leader is void.
    fn on_published(&mut self, sequence: u64, epoch: u64, event: &OmsEvent) {
        self.on_epoch(epoch);
        if sequence > self.complete_to && epoch == self.epoch {
            self.state.apply(event);
        }
    }

    /// Shows what it has missed: it is read again.
    fn on_heartbeat(&mut self, out: &Outside, owner: &Name, epoch: u64, stored: u64) {
        self.on_epoch(epoch);
        if self.must_replace || stored > self.complete_to {
            self.refill(out, owner);
        }
    }

    fn on_epoch(&mut self, epoch: u64) {
        if epoch > self.epoch {
            (self.epoch, self.must_replace) = (epoch, true);
        }
    }

    /// Reads what was stored since it was complete, of this owner and of the gateway. Where that reaches behind a
    /// snapshot orders have left the state, and it is taken as a whole.
    fn refill(&mut self, out: &Outside, owner: &Name) {
        let is_snapshot = |entry: &Entry| matches!(entry, Entry::Private(Private::SnapshotEnd(_)));
        let mut replayed = Replayed::default();
        let days = out.journal.stored_behind(self.complete_to).any(|(_, stored)| is_snapshot(&stored.entry));
        if days || std::mem::take(&mut self.must_replace) {
            for (sequence, stored) in out.journal.from_snapshot() {
                replayed.take(sequence, stored.epoch, &stored.entry);
            }
            self.state = replayed.state.filtered(owner);
        }
        let (mut epoch, mut is_broken) = (replayed.epoch.max(self.read_epoch), false);
        for (_, stored) in out.journal.stored_behind(self.complete_to.max(replayed.journal_seq)) {
            is_broken = (is_broken && stored.epoch <= epoch) || stored.epoch < epoch;
            epoch = epoch.max(stored.epoch);
            match &*stored.entry {
                Entry::Event(event) if !is_broken && is_of(&event.data, owner) => {
                    self.state.apply(&event.data);
                }
                _ => {}
            }
        }
        self.must_replace |= is_broken;
        self.read_epoch = epoch;
        self.complete_to = out.journal.last_sequence();
        self.epoch = self.epoch.max(epoch);
    }
}

fn is_of(event: &OmsEvent, owner: &Name) -> bool {
    event.owner().is_none_or(|of| of == owner)
}

impl Client {
    /// A client that has done nothing yet.
    #[must_use]
    pub fn new(number: usize) -> Client {
        Client {
            number,
            owner: owner_of(number),
            clock: None,
            heard_epoch: 0,
            tickets: Vec::new(),
            calls: HashMap::new(),
            next_call: 0,
            mirror: Mirror::default(),
        }
    }

    /// Whether it knows the outcome of everything that it sent.
    #[must_use]
    pub fn knows_all(&self) -> bool {
        self.tickets.iter().all(|ticket| ticket.outcome().is_some())
    }

    /// The key of one of its orders.
    #[must_use]
    pub fn key(&self, ticket: &Ticket) -> OrderKey {
        OrderKey { owner: self.owner.clone(), orderid: ticket.id().clone() }
    }

    /// Something reaches it.
    pub fn take(&mut self, out: &mut Outside, input: ClientInput) {
        match input {
            ClientInput::Act => {
                if !out.healed {
                    self.act(out);
                    let mean = out.swarm.between_actions.as_millis() as u64;
                    let pause = out.between(1, mean * 2);
                    out.after(pause, Step::Client(self.number, ClientInput::Act));
                }
            }
            ClientInput::Answer { call, reply } => self.on_answer(out, call, reply),
            ClientInput::Due { ticket, turn } => self.on_due(out, ticket, turn),
            ClientInput::Heartbeat { epoch, stored } => {
                self.heard_epoch = self.heard_epoch.max(epoch);
                self.mirror.on_heartbeat(out, &self.owner, epoch, stored);
            }
            ClientInput::Published { sequence, epoch, event } => {
                if is_of(&event, &self.owner) {
                    self.mirror.on_published(sequence, epoch, &event);
                }
            }
        }
    }

    fn act(&mut self, out: &mut Outside) {
        match out.rng.random_range(0..100) {
            0..60 => {
                let order = self.order(out);
                self.send(out, Wanted::Order(order));
            }
            60..68 => {
                let quote = self.quote(out);
                self.send(out, Wanted::Quote(quote));
            }
            68..84 => self.cancel(out),
            84..87 => self.call(out, Request::CancelAll(CancelAll::default()), 3_000),
            87..95 => self.repeat(out),
            _ => {
                let owner = self.owner.clone();
                self.mirror.refill(out, &owner);
            }
        }
    }

    fn order(&mut self, out: &mut Outside) -> OrderRequest {
        let rng = &mut out.rng;
        let instruments = instruments();
        let instrument = instruments.choose(rng).expect("something trades").clone();
        let direction = if rng.random_bool(0.5) { Direction::Long } else { Direction::Short };
        let offset = match rng.random_range(0..7) {
            0..4 => Offset::Open,
            4..6 => Offset::CloseToday,
            _ => Offset::Close,
        };
        let (price, volume) = (f64::from(rng.random_range(95..106)), f64::from(rng.random_range(1..6)));
        let mut order = OrderRequest::limit(instrument, direction, offset, price, volume);
        order.orderid = self.next_id();
        order.r#type = match rng.random_range(0..10) {
            0..6 => OrderType::Limit,
            6..8 => OrderType::Market,
            8 => OrderType::Fak,
            _ => OrderType::Stop,
        };
        order.price = (order.r#type != OrderType::Market).then_some(price);
        if rng.random_bool(0.03) {
            order.volume = 1.5;
        }
        order
    }

    fn quote(&mut self, out: &mut Outside) -> QuoteRequest {
        let instruments = instruments();
        let instrument = instruments.choose(&mut out.rng).expect("something trades").clone();
        let price = f64::from(out.rng.random_range(97..104));
        QuoteRequest {
            quoteid: self.next_id(),
            symbol: instrument.symbol,
            exchange: instrument.exchange,
            bid_price: price - 1.0,
            bid_volume: 2.0,
            ask_price: price + 1.0,
            ask_volume: 2.0,
            bid_offset: Offset::Open,
            ask_offset: Offset::Open,
            reference: "q".into(),
        }
    }

    fn next_id(&self) -> OrderId {
        OrderId::new(format!("c{}-{}", self.number, self.tickets.len()))
    }

    fn send(&mut self, out: &mut Outside, wanted: Wanted) {
        out.counts.sent += 1;
        let timeout = out.between(1_000, 4_000);
        let ticket = Ticket {
            wanted,
            timeout,
            end: out.now + timeout,
            latest_deadline_ms: i64::MIN,
            in_doubt: false,
            told_before: None,
            stage: Stage::Sending,
            turn: 0,
            asking: None,
        };
        self.tickets.push(ticket);
        self.proceed(out, self.tickets.len() - 1);
    }

    /// Sends one of its orders again, although it knows what became of it.
    fn repeat(&mut self, out: &mut Outside) {
        let done: Vec<usize> = (0..self.tickets.len()).filter(|t| self.tickets[*t].outcome().is_some()).collect();
        let Some(number) = done.choose(&mut out.rng).copied() else { return };
        let now = out.now;
        let ticket = &mut self.tickets[number];
        out.note(|| format!("client sends {} once more", ticket.id()));
        // What the first call came to is no doubt of this one's.
        if let Stage::Done(Outcome::Told(status)) = ticket.stage {
            ticket.told_before = Some(status);
        }
        (ticket.stage, ticket.end, ticket.in_doubt) = (Stage::Sending, now + ticket.timeout, false);
        self.proceed(out, number);
    }

    fn cancel(&mut self, out: &mut Outside) {
        let Some(ticket) = self.tickets.choose(&mut out.rng) else { return };
        let cancel = CancelRequest::new(ticket.id().clone());
        let request = match ticket.wanted {
            Wanted::Order(_) => Request::CancelOrder(cancel),
            Wanted::Quote(_) => Request::CancelQuote(cancel),
        };
        self.call(out, request, 3_000);
    }

    /// What to do next for an order.
    fn proceed(&mut self, out: &mut Outside, number: usize) {
        let ticket = &mut self.tickets[number];
        ticket.asking = None;
        let left = ticket.end.saturating_sub(out.now);
        let patience = ticket.timeout / 3;
        match &ticket.stage {
            Stage::Done(_) => {}
            Stage::Sending if left.is_zero() => {
                let until = out.now + SETTLING;
                ticket.stage = Stage::Settling { until };
                self.proceed(out, number);
            }
            Stage::Sending => match self.clock.filter(|(epoch, _)| *epoch >= self.heard_epoch) {
                None => self.ask(out, number, Asking::Clock, Request::GetStatus, None, left.min(patience)),
                Some((epoch, offset_ms)) => {
                    let deadline = Deadline { ms: ticket.end.as_millis() as i64 + offset_ms, epoch: Some(epoch) };
                    ticket.latest_deadline_ms = ticket.latest_deadline_ms.max(deadline.ms);
                    let request = match &ticket.wanted {
                        Wanted::Order(order) => Request::SendOrder(order.clone()),
                        Wanted::Quote(quote) => Request::SendQuote(quote.clone()),
                    };
                    self.ask(out, number, Asking::Send, request, Some(deadline), left.min(patience));
                }
            },
            Stage::Settling { until } if out.now >= *until => {
                // The outcome could not be found out in time: the same request is sent again.
                (ticket.stage, ticket.end) = (Stage::Sending, out.now + ticket.timeout);
                self.proceed(out, number);
            }
            Stage::Settling { .. } => self.ask(out, number, Asking::Status, Request::GetStatus, None, LOOK_UP),
        }
    }

    fn ask(
        &mut self,
        out: &mut Outside,
        number: usize,
        asking: Asking,
        request: Request,
        deadline: Option<Deadline>,
        patience: Duration,
    ) {
        let call = self.next_call;
        let ticket = &mut self.tickets[number];
        ticket.turn += 1;
        ticket.asking = Some((call, asking));
        let due = ClientInput::Due { ticket: number, turn: ticket.turn };
        out.after(patience.max(millis(1)), Step::Client(self.number, due));
        self.calls.insert(call, number);
        self.call_at(out, request, deadline);
    }

    /// A call of no ticket; nobody waits for its answer.
    fn call(&mut self, out: &mut Outside, request: Request, within_ms: i64) {
        let offset = self.clock.map_or(crate::venue::first_instant().timestamp_millis(), |(_, offset)| offset);
        let ms = out.now.as_millis() as i64 + offset + within_ms;
        self.call_at(out, request, Some(Deadline { ms, epoch: self.clock.map(|(epoch, _)| epoch) }));
    }

    fn call_at(&mut self, out: &mut Outside, request: Request, deadline: Option<Deadline>) {
        let id = CallId { client: self.number, number: self.next_call };
        self.next_call += 1;
        out.send_call(id, self.owner.clone(), deadline, request);
    }

    fn pause(&mut self, out: &mut Outside, number: usize) {
        let ticket = &mut self.tickets[number];
        ticket.turn += 1;
        ticket.asking = None;
        out.after(PAUSE, Step::Client(self.number, ClientInput::Due { ticket: number, turn: ticket.turn }));
    }

    /// A call has waited long enough, or a pause is over.
    fn on_due(&mut self, out: &mut Outside, number: usize, turn: u64) {
        let ticket = &mut self.tickets[number];
        if ticket.turn != turn {
            return;
        }
        ticket.in_doubt |= matches!(ticket.asking, Some((_, Asking::Send)));
        self.proceed(out, number);
    }

    fn on_answer(&mut self, out: &mut Outside, call: u64, reply: Answered) {
        let Some(number) = self.calls.remove(&call) else { return };
        let Some((_, asking)) = self.tickets[number].asking.filter(|(asked, _)| *asked == call) else { return };
        match (asking, reply) {
            (Asking::Clock, Answered::Reply(Ok(status))) => match codec::decode::<Status>(&status) {
                Ok(status) => {
                    let offset_ms = status.time.timestamp_millis() - out.now.as_millis() as i64;
                    self.clock = Some((status.epoch, offset_ms));
                    self.heard_epoch = self.heard_epoch.max(status.epoch);
                    self.proceed(out, number);
                }
                Err(error) => out.found(format!("a status does not decode: {error}")),
            },
            (Asking::Send, Answered::NobodyThere) => {
                let method = Method::SendOrder.as_str().to_owned();
                self.failed(out, number, &Error::GatewayNotRunning { gateway: "sim1".into(), method });
            }
            (Asking::Send, Answered::Reply(Err(error))) => self.failed(out, number, &Error::Rpc(error)),
            (Asking::Send, Answered::Reply(Ok(order))) => self.told(out, number, &Ok(order)),
            (Asking::Status, Answered::Reply(Ok(status))) => match codec::decode::<Status>(&status) {
                Ok(status) => {
                    let asking = Asking::LookUp(status.epoch, status.time.timestamp_millis());
                    let ticket = &self.tickets[number];
                    let params = GetOrder { orderid: ticket.id().clone(), owner: None };
                    let request = match ticket.wanted {
                        Wanted::Order(_) => Request::GetOrder(params),
                        Wanted::Quote(_) => Request::GetQuote(params),
                    };
                    self.ask(out, number, asking, request, None, LOOK_UP);
                }
                Err(error) => out.found(format!("a status does not decode: {error}")),
            },
            (Asking::LookUp(epoch, node_ms), Answered::Reply(Ok(found))) if found == b"null" => {
                let latest_ms = self.tickets[number].latest_deadline_ms;
                if proves_absence(epoch, node_ms, Some(self.heard_epoch), latest_ms) {
                    self.done(out, number, Outcome::NotExecuted("nobody has it past its deadline".to_owned()));
                } else {
                    self.pause(out, number);
                }
            }
            (Asking::LookUp(..), Answered::Reply(Ok(found))) => self.told(out, number, &Ok(found)),
            (Asking::Clock | Asking::Status | Asking::LookUp(..), _) => self.pause(out, number),
        }
    }

    /// An attempt to send came to nothing.
    fn failed(&mut self, out: &mut Outside, number: usize, error: &Error) {
        if outdates_clock(error) {
            self.clock = None;
        }
        let ticket = &mut self.tickets[number];
        if is_last_word(error, ticket.in_doubt) {
            let why = error.to_string();
            if let Some(status) = ticket.told_before {
                // It settles even what an earlier attempt came to.
                if is_last_word(error, true) {
                    let id = ticket.id().clone();
                    return out.found(format!("{id} was taken, and is refused when it is sent again: {why}"));
                }
                // That this call did nothing says nothing of the first.
                return self.done(out, number, Outcome::Told(status));
            }
            return self.done(out, number, Outcome::NotExecuted(why));
        }
        ticket.in_doubt |= error.maybe_executed();
        if error.code() == Some(ErrorCode::DeadlineExceeded) {
            ticket.end = ticket.end.min(out.now);
        }
        self.pause(out, number);
    }

    fn told(&mut self, out: &mut Outside, number: usize, reply: &Reply) {
        let Ok(bytes) = reply else { return };
        let status = match self.tickets[number].wanted {
            Wanted::Order(_) => codec::decode::<Order>(bytes).map(|order| order.status),
            Wanted::Quote(_) => codec::decode::<Quote>(bytes).map(|quote| quote.status),
        };
        match status {
            Ok(status) => self.done(out, number, Outcome::Told(status)),
            Err(error) => out.found(format!("an answer does not decode: {error}")),
        }
    }

    fn done(&mut self, out: &mut Outside, number: usize, outcome: Outcome) {
        let ticket = &mut self.tickets[number];
        out.note(|| format!("client knows of {}: {outcome:?}", ticket.id()));
        ticket.stage = Stage::Done(outcome);
        ticket.asking = None;
        ticket.turn += 1;
    }
}

fn owner_of(client: usize) -> Name {
    format!("owner{client}").into()
}

impl Outside {
    /// A call leaves a client; it may arrive late, or never.
    pub fn send_call(&mut self, id: CallId, owner: Name, deadline: Option<Deadline>, request: Request) {
        let (lost, late) = (self.swarm.call_lost, self.swarm.call_late);
        if self.chance(lost) {
            return;
        }
        let extra = if self.chance(late) { self.between(1_000, 12_000) } else { Duration::ZERO };
        let at = self.arrival() + extra;
        self.calls_under_way += 1;
        self.at(at, Step::Call { id, owner, deadline, request: Box::new(request) });
    }

    /// An answer leaves a node.
    pub fn answer(&mut self, id: CallId, reply: Answered) {
        let lost = self.swarm.call_lost;
        if self.chance(lost) {
            return;
        }
        let at = self.arrival();
        self.at(at, Step::Client(id.client, ClientInput::Answer { call: id.number, reply }));
    }

    /// A leader's heartbeat.
    pub fn heartbeat(&mut self, epoch: u64, stored: u64) {
        for client in 0..self.swarm.clients {
            let lost = self.swarm.publish_lost;
            if !self.chance(lost) {
                let at = self.arrival();
                self.at(at, Step::Client(client, ClientInput::Heartbeat { epoch, stored }));
            }
        }
    }

    /// What is stored is republished.
    pub fn publish(&mut self, sequence: u64, epoch: u64, entry: &Rc<Entry>) {
        let Entry::Event(event) = &**entry else { return };
        let event = Rc::new(event.data.clone());
        for client in 0..self.swarm.clients {
            let lost = self.swarm.publish_lost;
            if !self.chance(lost) {
                let at = self.published_at(client);
                self.at(at, Step::Client(client, ClientInput::Published { sequence, epoch, event: event.clone() }));
            }
        }
    }
}
