//! The lease: which of several nodes leads a gateway, and until when it may act. Decisions only; `keeper` asks NATS.
//!
//! A gateway's key in the bucket [`BUCKET`] belongs to whoever created it, and goes by itself when it is not renewed
//! for the bucket's `max_age`. The revision of its creation is the leadership's epoch. Time is the node's own, which
//! never jumps, counted from when a request was *sent*: the server counts from later, so a leader stops before it could
//! be replaced.

mod keeper;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use protocol::defect::{Defect, is_planted};

pub use keeper::{Keeper, open_bucket};

/// The bucket that holds the leases of all gateways, one key each.
pub const BUCKET: &str = "leases";

/// How long a lease lasts, and what follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The bucket's `max_age`: after it an entry that was not renewed is gone.
    pub max_age: Duration,
}

impl Terms {
    /// A leader stops acting this long before its entry can be gone: for clocks that run at different speeds, and for
    /// what it has handed to the operating system last.
    #[must_use]
    pub fn margin(self) -> Duration {
        self.max_age / 5
    }

    /// How often a leader renews, and how long it waits for the answer.
    #[must_use]
    pub fn every(self) -> Duration {
        self.max_age / 4
    }

    /// How often a standby tries.
    #[must_use]
    pub fn try_every(self) -> Duration {
        (self.max_age / 10).clamp(Duration::from_millis(50), Duration::from_millis(500))
    }

    /// Until when a renewal that was sent at `sent` lets its leader act.
    #[must_use]
    pub fn limit(self, sent: Duration) -> Duration {
        sent + self.max_age - self.margin()
    }
}

/// Until when a leader may act; written by whoever renews, read by everyone who is about to act.
#[derive(Debug, Clone, Default)]
pub struct Limit(Arc<AtomicU64>);

impl Limit {
    /// A lease that never ends, for what runs without one.
    #[must_use]
    pub fn endless() -> Self {
        Limit(Arc::new(AtomicU64::new(u64::MAX)))
    }

    /// Whether a leader may act now. Look immediately before acting: a process can be stopped between any two lines.
    #[must_use]
    pub fn may_act(&self, mono: Duration) -> bool {
        micros(mono) < self.0.load(Ordering::Acquire) || is_planted(Defect::Fence)
    }

    /// Moves the limit.
    pub fn set(&self, mono: Duration) {
        self.0.store(micros(mono), Ordering::Release);
    }

    /// From now on nobody may act.
    pub fn end(&self) {
        self.0.store(0, Ordering::Release);
    }
}

/// A sign of life of the loop that the lease is kept for.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// The loop runs.
    pub fn beat(&self, mono: Duration) {
        self.0.store(micros(mono).max(1), Ordering::Relaxed);
    }

    /// How long ago the last beat was; `None` before the first.
    #[must_use]
    pub fn age(&self, mono: Duration) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            beat => Some(mono.saturating_sub(Duration::from_micros(beat))),
        }
    }
}

fn micros(mono: Duration) -> u64 {
    u64::try_from(mono.as_micros()).unwrap_or(u64::MAX - 1)
}

/// What to ask the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Create the key; refused if somebody holds it.
    Create,
    /// Update it; refused if its revision is another one.
    Renew(u64),
    /// Read it.
    Look,
}

/// What the bucket answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// The key is created or updated, under this revision.
    Stored(u64),
    /// Somebody holds it, or its revision is another one.
    Refused,
    /// What was read: revision and whose it is.
    Found(u64, &'a str),
    /// Nobody holds it.
    Nothing,
    /// No answer in time: it may have been done or not, now or later.
    Silence,
}

/// How it stands with a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Somebody else leads, or nobody.
    Seeking,
    /// This life of the gateway leads, under this epoch.
    Holding {
        /// The revision of its creation.
        epoch: u64,
    },
    /// It led, and does not any more.
    Lost(String),
}

/// One life of a gateway on one node, as it seeks, holds and loses its lease.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Names this life: nobody else ever writes it.
    id: String,
    terms: Terms,
    standing: Standing,
    /// Of the entry that it holds.
    revision: u64,
    /// When the request was sent that the entry is known to be from.
    sent: Duration,
    /// When the first create was sent that has no answer: it may be stored all the same.
    unanswered: Option<Duration>,
    /// Whether the entry has to be read before anything else.
    must_look: bool,
    /// When to ask next.
    due: Duration,
}

impl Tenant {
    /// A life that seeks the lease. `id` must be new for each life.
    #[must_use]
    pub fn new(id: impl Into<String>, terms: Terms) -> Self {
        Tenant {
            id: id.into(),
            terms,
            standing: Standing::Seeking,
            revision: 0,
            sent: Duration::ZERO,
            unanswered: None,
            must_look: false,
            due: Duration::ZERO,
        }
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The life's name, which its entry carries.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Revision of the entry that it holds, to be deleted when it leaves.
    #[must_use]
    pub fn held_revision(&self) -> Option<u64> {
        matches!(self.standing, Standing::Holding { .. }).then_some(self.revision)
    }

    /// Until when it may act; `None` while it does not lead.
    #[must_use]
    pub fn limit(&self) -> Option<Duration> {
        matches!(self.standing, Standing::Holding { .. }).then(|| self.terms.limit(self.sent))
    }

    /// When to ask next.
    #[must_use]
    pub fn due(&self) -> Duration {
        self.due
    }

    /// Gives up what it holds or seeks.
    pub fn give_up(&mut self, why: impl Into<String>) {
        if !matches!(self.standing, Standing::Lost(_)) {
            self.standing = Standing::Lost(why.into());
        }
    }

    /// What to ask now. A leader whose time is over has lost its lease, whatever the bucket says.
    pub fn ask(&mut self, mono: Duration) -> Option<Ask> {
        if let Some(limit) = self.limit()
            && mono >= limit
        {
            self.standing = Standing::Lost("it could not be renewed in time".to_owned());
        }
        match self.standing {
            Standing::Lost(_) => None,
            _ if mono < self.due => None,
            _ if self.must_look => Some(Ask::Look),
            Standing::Seeking => Some(Ask::Create),
            Standing::Holding { .. } => Some(Ask::Renew(self.revision)),
        }
    }

    /// Takes in the answer to what was asked at `sent`.
    pub fn on_answer(&mut self, mono: Duration, asked: Ask, sent: Duration, answer: Answer<'_>) {
        let holds = match self.standing {
            Standing::Lost(_) => return,
            Standing::Seeking => false,
            Standing::Holding { .. } => true,
        };
        match (asked, answer) {
            (_, Answer::Silence) => {
                if asked == Ask::Create && self.unanswered.is_none() {
                    self.unanswered = Some(sent);
                }
                // Asked again at once if the answer has been waited for; not faster if the question failed at once.
                self.must_look |= asked != Ask::Look;
                self.due = mono.max(sent + self.terms.try_every());
            }
            (Ask::Create, Answer::Stored(revision)) => self.hold(revision, sent),
            (Ask::Renew(_), Answer::Stored(revision)) => {
                (self.revision, self.sent) = (revision, sent);
                self.due = sent + self.terms.every();
            }
            // An earlier request of ours that nobody answered may be why.
            (Ask::Create, _) => {
                self.must_look = self.unanswered.is_some();
                self.due = mono + self.terms.try_every();
            }
            (Ask::Renew(_), _) => {
                self.must_look = true;
                self.due = mono;
            }
            (Ask::Look, Answer::Found(revision, id)) if id == self.id => {
                self.must_look = false;
                if holds {
                    // A renewal without an answer was stored. When is not known, so time counts from the one before.
                    self.revision = revision;
                } else {
                    let sent = self.unanswered.unwrap_or(sent);
                    self.hold(revision, sent);
                }
                self.due = mono;
            }
            (Ask::Look, Answer::Found(_, other)) if holds => {
                self.standing = Standing::Lost(format!("`{other}` holds it"));
            }
            (Ask::Look, Answer::Nothing) if holds => {
                self.standing = Standing::Lost("its entry is gone".to_owned());
            }
            (Ask::Look, _) => {
                self.must_look = false;
                self.due = mono + self.terms.try_every();
            }
        }
    }

    fn hold(&mut self, revision: u64, sent: Duration) {
        self.standing = Standing::Holding { epoch: revision };
        (self.revision, self.sent, self.unanswered, self.must_look) = (revision, sent, None, false);
        self.due = sent + self.terms.every();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms { max_age: Duration::from_secs(10) };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn leader(at: u64) -> Tenant {
        let mut tenant = Tenant::new("me", TERMS);
        assert_eq!(tenant.ask(seconds(at)), Some(Ask::Create));
        tenant.on_answer(seconds(at), Ask::Create, seconds(at), Answer::Stored(7));
        tenant
    }

    #[test]
    fn time_counts_from_the_sending() {
        let mut tenant = Tenant::new("me", TERMS);
        tenant.on_answer(seconds(3), Ask::Create, seconds(1), Answer::Stored(7));
        assert_eq!((tenant.standing(), tenant.limit()), (&Standing::Holding { epoch: 7 }, Some(seconds(9))));
        tenant.on_answer(seconds(6), Ask::Renew(7), seconds(4), Answer::Stored(9));
        assert_eq!((tenant.limit(), tenant.held_revision()), (Some(seconds(12)), Some(9)));
        assert_eq!(tenant.standing(), &Standing::Holding { epoch: 7 }, "renewing keeps the epoch");
    }

    #[test]
    fn late_renewal_loses_the_lease() {
        let mut tenant = leader(0);
        assert_eq!(tenant.ask(seconds(9)), None);
        assert!(matches!(tenant.standing(), Standing::Lost(_)));
        tenant.on_answer(seconds(9), Ask::Renew(7), seconds(3), Answer::Stored(8));
        assert!(matches!(tenant.standing(), Standing::Lost(_)), "an answer that comes after changes nothing");
    }

    #[test]
    fn a_renewal_without_an_answer_is_looked_up() {
        let mut tenant = leader(0);
        assert_eq!(tenant.ask(seconds(3)), Some(Ask::Renew(7)));
        tenant.on_answer(seconds(5), Ask::Renew(7), seconds(3), Answer::Silence);
        assert_eq!(tenant.ask(seconds(5)), Some(Ask::Look));
        tenant.on_answer(seconds(5), Ask::Look, seconds(5), Answer::Found(8, "me"));
        assert_eq!(tenant.limit(), Some(seconds(8)), "it counts from the last one that was answered");
        assert_eq!(tenant.ask(seconds(5)), Some(Ask::Renew(8)));
    }

    #[test]
    fn whoever_finds_another_has_lost() {
        for answer in [Answer::Found(9, "other"), Answer::Nothing] {
            let mut tenant = leader(0);
            tenant.on_answer(seconds(3), Ask::Renew(7), seconds(3), Answer::Refused);
            assert_eq!(tenant.ask(seconds(3)), Some(Ask::Look));
            tenant.on_answer(seconds(3), Ask::Look, seconds(3), answer);
            assert!(matches!(tenant.standing(), Standing::Lost(_)), "{answer:?}");
        }
    }

    #[test]
    fn a_create_without_an_answer_may_have_been_stored() {
        let mut tenant = Tenant::new("me", TERMS);
        tenant.on_answer(seconds(2), Ask::Create, seconds(1), Answer::Silence);
        assert_eq!(tenant.ask(seconds(2)), Some(Ask::Look));
        tenant.on_answer(seconds(2), Ask::Look, seconds(2), Answer::Nothing);
        tenant.on_answer(seconds(4), Ask::Create, seconds(4), Answer::Refused);
        assert_eq!(tenant.ask(seconds(5)), Some(Ask::Look), "the first one came late");
        tenant.on_answer(seconds(5), Ask::Look, seconds(5), Answer::Found(7, "me"));
        assert_eq!((tenant.standing(), tenant.limit()), (&Standing::Holding { epoch: 7 }, Some(seconds(9))));
        assert_eq!(tenant.ask(seconds(5)), Some(Ask::Renew(7)));
    }

    #[test]
    fn a_standby_waits_for_its_turn() {
        let mut tenant = Tenant::new("me", TERMS);
        tenant.on_answer(seconds(1), Ask::Create, seconds(1), Answer::Refused);
        assert_eq!(tenant.ask(seconds(1)), None);
        assert_eq!(tenant.ask(seconds(2)), Some(Ask::Create));
    }

    #[test]
    fn a_limit_is_for_whoever_asks_in_time() {
        let limit = Limit::default();
        assert!(!limit.may_act(Duration::ZERO));
        limit.set(seconds(5));
        assert!(limit.may_act(seconds(4)) && !limit.may_act(seconds(5)));
        limit.end();
        assert!(!limit.may_act(seconds(4)));
        assert!(Limit::endless().may_act(Duration::MAX));
    }
}
