//! The lease's server: one key of a KV bucket with a `max_age`, created, updated by revision, deleted by revision.

use std::time::Duration;

use gateway_node::lease::{Answer, Ask};

/// An answer that can travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseAnswer {
    /// As [`Answer::Stored`].
    Stored(u64),
    /// As [`Answer::Refused`].
    Refused,
    /// As [`Answer::Found`].
    Found(u64, String),
    /// As [`Answer::Nothing`].
    Nothing,
    /// No answer came in time.
    Silence,
}

impl LeaseAnswer {
    /// What it says to a tenant.
    #[must_use]
    pub fn as_answer(&self) -> Answer<'_> {
        match self {
            LeaseAnswer::Stored(revision) => Answer::Stored(*revision),
            LeaseAnswer::Refused => Answer::Refused,
            LeaseAnswer::Found(revision, id) => Answer::Found(*revision, id),
            LeaseAnswer::Nothing => Answer::Nothing,
            LeaseAnswer::Silence => Answer::Silence,
        }
    }
}

struct Held {
    revision: u64,
    by: String,
    since: Duration,
}

/// See the module.
pub struct LeaseServer {
    max_age: Duration,
    revision: u64,
    held: Option<Held>,
    /// Nothing is answered until then; what comes meanwhile waits.
    pub stalled_until: Duration,
}

impl LeaseServer {
    /// A bucket whose entries live for `max_age` unless they are renewed.
    #[must_use]
    pub fn new(max_age: Duration) -> Self {
        LeaseServer { max_age, revision: 0, held: None, stalled_until: Duration::ZERO }
    }

    /// Who holds the lease now.
    #[must_use]
    pub fn holder(&self, now: Duration) -> Option<&str> {
        self.in_force(now).map(|held| held.by.as_str())
    }

    fn in_force(&self, now: Duration) -> Option<&Held> {
        self.held.as_ref().filter(|held| now < held.since + self.max_age)
    }

    /// A question of this tenant arrives. `others` counts what other gateways wrote into the bucket meanwhile.
    pub fn ask(&mut self, now: Duration, tenant: &str, ask: Ask, others: u64) -> LeaseAnswer {
        let held = self.in_force(now).map(|held| (held.revision, held.by.clone()));
        let may_write = match (ask, &held) {
            (Ask::Look, None) => return LeaseAnswer::Nothing,
            (Ask::Look, Some((revision, by))) => return LeaseAnswer::Found(*revision, by.clone()),
            (Ask::Create, held) => held.is_none(),
            (Ask::Renew(revision), held) => held.as_ref().is_some_and(|(last, _)| *last == revision),
        };
        if !may_write {
            return LeaseAnswer::Refused;
        }
        self.revision += 1 + others;
        self.held = Some(Held { revision: self.revision, by: tenant.to_owned(), since: now });
        LeaseAnswer::Stored(self.revision)
    }

    /// The lease is given back, by its revision: a late one never takes a successor's.
    pub fn give_back(&mut self, revision: u64) {
        if self.held.as_ref().is_some_and(|held| held.revision == revision) {
            self.held = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_goes_to_one_and_ends_by_itself() {
        let second = Duration::from_secs(1);
        let mut server = LeaseServer::new(second * 3);
        assert_eq!(server.ask(second, "a", Ask::Create, 0), LeaseAnswer::Stored(1));
        assert_eq!(server.ask(second, "b", Ask::Create, 0), LeaseAnswer::Refused);
        assert_eq!(server.ask(second * 2, "a", Ask::Renew(1), 4), LeaseAnswer::Stored(6));
        assert_eq!(server.ask(second * 3, "a", Ask::Renew(1), 0), LeaseAnswer::Refused);
        assert_eq!(server.ask(second * 4, "b", Ask::Look, 0), LeaseAnswer::Found(6, "a".to_owned()));
        assert_eq!(server.holder(second * 5), None);
        assert_eq!(server.ask(second * 5, "b", Ask::Create, 0), LeaseAnswer::Stored(7));
        server.give_back(6);
        assert_eq!(server.holder(second * 5), Some("b"));
        server.give_back(7);
        assert_eq!(server.ask(second * 5, "a", Ask::Look, 0), LeaseAnswer::Nothing);
    }
}
