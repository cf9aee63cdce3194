//! Everything that can happen next.

use std::rc::Rc;
use std::time::Duration;

use gateway_node::engine::{Reply, Request};
use gateway_node::gateway::VenueEvent;
use gateway_node::lease::Ask;
use protocol::Name;
use protocol::event::OmsEvent;
use protocol::journal::Entry;
use protocol::rpc::Deadline;

use crate::journal_server::{Expected, Last};
use crate::lease_server::LeaseAnswer;
use crate::swarm::Fault;
use crate::venue::{ConnectionId, VenueInput};

/// A node's process: the second number counts its lives, so that nothing meant for one reaches the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Which node.
    pub node: usize,
    /// Which life of it.
    pub life: u32,
}

/// A call of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallId {
    /// Which client.
    pub client: usize,
    /// Which of its calls.
    pub number: u64,
}

/// One step.
#[derive(Debug)]
pub enum Step {
    /// Something reaches a process.
    Node(Process, NodeInput),
    /// A stopped process goes on.
    Thaw(Process),
    /// A dead process is started again.
    Start(usize),
    /// Something reaches the journal's server.
    Journal(Process, JournalInput),
    /// A question reaches the lease's server.
    Lease { from: Process, tenant: String, question: u64, ask: Ask },
    /// The lease of this revision is given back.
    GiveBack(u64),
    /// Something reaches the venue over a connection.
    Venue(ConnectionId, VenueInput),
    /// A call reaches whoever serves.
    Call { id: CallId, owner: Name, deadline: Option<Deadline>, request: Box<Request> },
    /// Something reaches a client.
    Client(usize, ClientInput),
    /// The market moves.
    Market,
    /// Something goes wrong.
    Fault(Option<Fault>),
    /// Nothing goes wrong any more.
    Heal,
    /// Has everything come to rest?
    Rest,
}

/// What reaches a node.
#[derive(Debug)]
pub enum NodeInput {
    /// A second has passed.
    Timer,
    /// It is time to ask for the lease.
    LeaseDue,
    /// The answer to a question, or that none came in time.
    Lease { question: u64, answer: LeaseAnswer },
    /// It is time to read the journal, in order to begin to lead.
    ReadJournal,
    /// What became of `LeaderStarted`, or that no ack came in time.
    Began { attempt: u64, stored: Result<u64, String> },
    /// What became of an append, or that no ack came in time.
    Ack { flight: u64, stored: Result<u64, String> },
    /// It is time to look at the journal's last entry.
    LookDue { look: u64 },
    /// The journal's last entry, or that no answer came in time.
    Looked { look: u64, last: Option<Last> },
    /// The venue speaks; `gap` if something before it was lost.
    Venue { connection: ConnectionId, gap: bool, event: Option<Box<VenueEvent>> },
    /// A call.
    Call { id: CallId, owner: Name, deadline: Option<Deadline>, request: Box<Request> },
}

/// What reaches the journal's server.
#[derive(Debug)]
pub enum JournalInput {
    /// An append; the ack goes to the flight of that number, or to the attempt to begin.
    Append { flight: Flight, id: String, expected: Expected, entry: Rc<Entry> },
    /// What is the last entry?
    Look { look: u64 },
}

/// Who waits for an ack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flight {
    /// The writer.
    Writer(u64),
    /// Whoever begins to lead.
    Beginning(u64),
}

/// What reaches a client.
#[derive(Debug)]
pub enum ClientInput {
    /// It is time to do something.
    Act,
    /// The answer to a call.
    Answer { call: u64, reply: Answered },
    /// A call has waited long enough, or a pause is over.
    Due { ticket: usize, turn: u64 },
    /// A heartbeat: who leads, and up to where the journal was stored.
    Heartbeat { epoch: u64, stored: u64 },
    /// A stored entry was republished.
    Published { sequence: u64, epoch: u64, event: Rc<OmsEvent> },
}

/// What a call came to.
#[derive(Debug)]
pub enum Answered {
    /// A node answered.
    Reply(Reply),
    /// Nobody serves the gateway.
    NobodyThere,
}

/// How long after now.
pub const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
