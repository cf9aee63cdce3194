//! A node's end of the journal: the real chain of appends, and around it what the writer's task does with a server that
//! is slow, loses things, or answers nothing.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use gateway_node::journal::chain::{Append, Chain, Said};
use protocol::defect::{Defect, is_planted};
use protocol::journal::{Entry, parse_message_id};

use crate::journal_server::{Expected, Last, WINDOW};
use crate::outside::Outside;
use crate::step::{Flight, JournalInput, NodeInput, Process, Step, millis};

/// An append, or a look, without an answer for this long is given up.
pub const ACK_PATIENCE: Duration = Duration::from_secs(3);

/// What the node learns from its writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriterSaid {
    /// Nothing new.
    Nothing,
    /// More is stored, or the storage is full, or has room again.
    Progress,
    /// The journal goes on without this leader.
    Fenced(String),
}

struct Unanswered {
    flight: u64,
    stored: Option<Result<u64, String>>,
}

/// See the module.
pub struct Writer {
    process: Process,
    chain: Chain<Rc<Entry>>,
    /// Entries that wait: for others' acks, or until it is known what is stored.
    waiting: VecDeque<Rc<Entry>>,
    in_flight: VecDeque<Unanswered>,
    flights: u64,
    /// While it is looked up what is stored: how long to wait before the next look.
    looking: Option<Duration>,
    look: u64,
    /// Everything up to here is stored.
    pub stored: u64,
    /// The storage takes no more.
    pub storage_full: bool,
    /// When the last append arrives: none overtakes it.
    last_arrival: Duration,
}

impl Writer {
    /// Behind a `LeaderStarted` of this epoch that is stored at `base`.
    #[must_use]
    pub fn new(process: Process, epoch: u64, base: u64) -> Writer {
        Writer {
            process,
            chain: Chain::new(epoch, base, WINDOW),
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            flights: 0,
            looking: None,
            look: 0,
            stored: base,
            storage_full: false,
            last_arrival: Duration::ZERO,
        }
    }

    /// Whether everything that was appended is known to be stored.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.chain.unacked() == 0
    }

    /// Appends.
    pub fn append(&mut self, out: &mut Outside, entry: Rc<Entry>) {
        self.waiting.push_back(entry);
        self.send_waiting(out);
    }

    fn send_waiting(&mut self, out: &mut Outside) {
        while self.looking.is_none() && self.chain.has_room() {
            let Some(entry) = self.waiting.pop_front() else { return };
            let append = self.chain.push(entry);
            self.send(out, append);
        }
    }

    fn send(&mut self, out: &mut Outside, append: Append<Rc<Entry>>) {
        self.flights += 1;
        let flight = self.flights;
        self.in_flight.push_back(Unanswered { flight, stored: None });
        let late = NodeInput::Ack { flight, stored: Err("no ack in time".to_owned()) };
        out.after(ACK_PATIENCE, Step::Node(self.process, late));
        let Append { id, behind_sequence, entry, .. } = append;
        let expected =
            if is_planted(Defect::Fence) { Expected::Anything } else { Expected::LastSequence(behind_sequence) };
        let lost = out.swarm.append_lost;
        if out.chance(lost) {
            out.note(|| format!("append {id} is lost"));
            return;
        }
        self.last_arrival = self.last_arrival.max(out.arrival());
        let input = JournalInput::Append { flight: Flight::Writer(flight), id, expected, entry };
        out.at(self.last_arrival, Step::Journal(self.process, input));
    }

    /// An ack, or the end of waiting for one.
    pub fn on_ack(&mut self, out: &mut Outside, flight: u64, stored: Result<u64, String>) -> WriterSaid {
        let Some(unanswered) = self.in_flight.iter_mut().find(|u| u.flight == flight && u.stored.is_none()) else {
            return WriterSaid::Nothing;
        };
        unanswered.stored = Some(stored);
        let mut said = WriterSaid::Nothing;
        // Acks are taken in the order of the appends.
        while let Some(stored) = self.in_flight.front_mut().and_then(|u| u.stored.take()) {
            self.in_flight.pop_front();
            let failure = match stored.map(|sequence| self.chain.on_ack(sequence)) {
                Ok(Said::Stored(sequence)) => {
                    (self.stored, self.storage_full) = (sequence, false);
                    said = WriterSaid::Progress;
                    continue;
                }
                Ok(Said::Unclear(why) | Said::Fenced(why)) | Err(why) => why,
            };
            self.recover(out, &failure);
            return WriterSaid::Progress;
        }
        self.send_waiting(out);
        said
    }

    /// Nobody knows what is stored: the stream's last entry says it.
    fn recover(&mut self, out: &mut Outside, failure: &str) {
        out.note(|| format!("node {}: an append failed ({failure}): looking", self.process.node));
        self.in_flight.clear();
        self.storage_full = failure.contains("maximum bytes");
        let wait = if self.storage_full { millis(1_000) } else { millis(50) };
        self.look_later(out, wait);
    }

    fn look_later(&mut self, out: &mut Outside, wait: Duration) {
        self.looking = Some(wait);
        self.look += 1;
        out.after(wait, Step::Node(self.process, NodeInput::LookDue { look: self.look }));
    }

    /// It is time to look.
    pub fn on_look_due(&mut self, out: &mut Outside, look: u64) {
        if look != self.look || self.looking.is_none() {
            return;
        }
        let late = Step::Node(self.process, NodeInput::Looked { look, last: None });
        out.after(ACK_PATIENCE, late);
        let lost = out.swarm.append_lost;
        if !out.chance(lost) {
            // Nothing orders a look and the appends before it.
            let at = out.arrival();
            out.at(at, Step::Journal(self.process, JournalInput::Look { look }));
        }
    }

    /// The stream's last entry, or the end of waiting for it.
    pub fn on_looked(&mut self, out: &mut Outside, look: u64, last: Option<Last>) -> WriterSaid {
        let Some(wait) = self.looking.filter(|_| look == self.look) else { return WriterSaid::Nothing };
        let Some(Last { sequence, id, leader }) = last else {
            self.look_later(out, (wait * 2).min(millis(1_000)));
            return WriterSaid::Nothing;
        };
        if leader > self.chain.epoch() && !is_planted(Defect::Fence) {
            return WriterSaid::Fenced(format!("epoch {leader} leads"));
        }
        let unproven = self.chain.unproven(sequence).find(|(place, id)| out.journal.id_at(*place) != Some(id));
        if let Some((place, id)) = unproven {
            return WriterSaid::Fenced(format!("entry {place} is not {id}"));
        }
        match self.chain.on_last(sequence, &id) {
            Said::Stored(sequence) => self.stored = self.stored.max(sequence),
            Said::Unclear(why) | Said::Fenced(why) => return WriterSaid::Fenced(why),
        }
        self.looking = None;
        for append in self.chain.to_send_again() {
            self.send(out, append);
        }
        self.send_waiting(out);
        WriterSaid::Progress
    }
}

impl Outside {
    /// Something reaches the journal's server.
    pub fn journal_hears(&mut self, from: Process, input: JournalInput) {
        let now = self.now;
        if now < self.journal.stalled_until {
            let until = self.journal.stalled_until;
            return self.at(until, Step::Journal(from, input));
        }
        match input {
            JournalInput::Append { flight, id, expected, entry } => {
                let stored = self.journal.append(now, &id, &expected, entry.clone());
                self.note(|| format!("journal: append {id} of node {}: {stored:?} {}", from.node, entry_line(&entry)));
                if let Ok((sequence, false)) = stored {
                    let epoch = parse_message_id(&id).map_or(0, |(epoch, _)| epoch);
                    self.truth.on_stored(epoch, &entry);
                    self.publish(sequence, epoch, &entry);
                }
                let (ack_lost, at) = (self.swarm.ack_lost, self.arrival());
                if self.chance(ack_lost) {
                    self.note(|| format!("the ack of {id} is lost"));
                    return;
                }
                let stored = match (flight, stored) {
                    // One that is a duplicate is somebody else's, or an earlier attempt: look and see.
                    (Flight::Beginning(_), Ok((_, true))) => Err("a duplicate".to_owned()),
                    (_, stored) => stored.map(|(sequence, _)| sequence),
                };
                let ack = match flight {
                    Flight::Writer(flight) => NodeInput::Ack { flight, stored },
                    Flight::Beginning(attempt) => NodeInput::Began { attempt, stored },
                };
                self.at(at, Step::Node(from, ack));
            }
            JournalInput::Look { look } => {
                let last = Some(self.journal.last());
                let (lost, at) = (self.swarm.ack_lost, self.arrival());
                if !self.chance(lost) {
                    self.at(at, Step::Node(from, NodeInput::Looked { look, last }));
                }
            }
        }
    }
}

fn entry_line(entry: &Entry) -> String {
    use protocol::event::OmsEvent;
    match entry {
        Entry::Private(private) => private.kind().to_owned(),
        Entry::Event(event) => match &event.data {
            OmsEvent::Order(o) => format!(
                "order {} {} {}, {} traded {}",
                o.orderid,
                o.venue_reference.as_deref().unwrap_or("-"),
                o.status,
                o.traded,
                o.reason.as_deref().unwrap_or("")
            ),
            OmsEvent::Quote(q) => {
                format!("quote {} {} {}", q.quoteid, q.venue_reference.as_deref().unwrap_or("-"), q.status)
            }
            OmsEvent::Trade(t) => format!("trade {} {} of {}", t.tradeid, t.direction, t.orderid),
            OmsEvent::Position(p) => format!("position {} {} {}", p.symbol, p.direction, p.volume),
            OmsEvent::Account(_) => "account".to_owned(),
        },
    }
}
