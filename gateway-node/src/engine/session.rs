//! The venue's session as a state machine: when to log in, when to try again, when to leave it.

use std::time::Duration;

use protocol::{GatewayState, LogLevel, Name, OmsState};

use super::{Effect, Effects, Engine, Now, VenueCommand};
use crate::gateway::{SessionStart, VenueReference};

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// A login or a snapshot without an answer for this long is asked for again.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct Session {
    state: GatewayState,
    reason: Option<String>,
    id: Name,
    venue: Name,
    trading_day: Option<chrono::NaiveDate>,
    next_number: u64,
    /// References journalled before, so that a session that is named again never reuses one.
    journalled: Vec<VenueReference>,
    /// Failed logins in a row.
    attempts: u32,
    /// When to do the next thing that nobody else will start.
    due: Option<Duration>,
}

impl Session {
    pub fn new(state: &OmsState) -> Self {
        let references = state.orders().values().map(|o| &o.venue_reference);
        let references = references.chain(state.quotes().values().map(|q| &q.venue_reference));
        let mut highest: std::collections::BTreeMap<Name, u64> = std::collections::BTreeMap::new();
        for reference in references.flatten().filter_map(|text| text.parse::<VenueReference>().ok()) {
            let number = highest.entry(reference.session).or_default();
            *number = (*number).max(reference.number);
        }
        Session {
            state: GatewayState::Starting,
            reason: None,
            id: Name::default(),
            venue: Name::default(),
            trading_day: None,
            next_number: 0,
            journalled: highest.into_iter().map(|(session, number)| VenueReference { session, number }).collect(),
            attempts: 0,
            due: Some(Duration::ZERO),
        }
    }

    pub fn state(&self) -> GatewayState {
        self.state
    }

    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    pub fn venue(&self) -> &Name {
        &self.venue
    }

    pub fn trading_day(&self) -> Option<chrono::NaiveDate> {
        self.trading_day
    }

    pub fn id(&self) -> &Name {
        &self.id
    }

    pub fn set_trading_day(&mut self, day: chrono::NaiveDate) {
        self.trading_day = Some(day);
    }

    /// Whether the venue takes commands.
    pub fn is_logged_in(&self) -> bool {
        matches!(self.state, GatewayState::Reconciling | GatewayState::Ready | GatewayState::Dirty)
    }

    /// The next free reference of this session.
    pub fn allocate(&mut self) -> VenueReference {
        self.next_number += 1;
        VenueReference { session: self.id.clone(), number: self.next_number }
    }

    fn move_to(&mut self, state: GatewayState, reason: Option<String>, due: Option<Duration>) {
        self.state = state;
        self.reason = reason;
        self.due = due;
    }
}

/// How long to wait after `failures` logins in a row have failed.
fn backoff(failures: u32) -> Duration {
    FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(8)).min(LAST_RETRY)
}

impl Engine {
    /// Logs in when it is time to, and asks again for what was not answered.
    pub(super) fn drive_session(&mut self, now: Now, out: &mut Effects) {
        if self.session.due.is_none_or(|due| now.mono < due) {
            return;
        }
        match self.session.state {
            GatewayState::Starting | GatewayState::Disconnected | GatewayState::Connecting => self.login(now, out),
            GatewayState::Reconciling | GatewayState::Dirty => {
                self.session.due = Some(now.mono + PATIENCE);
                out.push(Effect::Venue(VenueCommand::Snapshot));
            }
            _ => self.session.due = None,
        }
    }

    /// Begins a login; also what an operator's `connect` does.
    pub(super) fn login(&mut self, now: Now, out: &mut Effects) {
        self.session.move_to(GatewayState::Connecting, None, Some(now.mono + PATIENCE * 3));
        out.push(Effect::Venue(VenueCommand::Connect(SessionStart {
            epoch: self.options.epoch,
            positions: self.state.positions().values().cloned().collect(),
            accounts: self.state.accounts().values().cloned().collect(),
        })));
    }

    /// Leaves the session for good, until somebody says `connect`.
    pub(super) fn logout(&mut self, reason: &str, out: &mut Effects) {
        self.session.move_to(GatewayState::Stopped, Some(reason.to_owned()), None);
        out.push(Effect::Venue(VenueCommand::Disconnect));
    }

    pub(super) fn on_connected(
        &mut self,
        now: Now,
        session: Name,
        max_reference: u64,
        trading_day: Option<chrono::NaiveDate>,
        venue: Name,
        out: &mut Effects,
    ) {
        let journalled = self.session.journalled.iter().find(|r| r.session == session).map_or(0, |r| r.number);
        self.session.next_number = max_reference.max(journalled);
        self.session.id = session;
        self.session.venue = venue;
        self.session.trading_day = trading_day.or(self.session.trading_day);
        self.session.attempts = 0;
        self.session.move_to(GatewayState::Reconciling, None, Some(now.mono + PATIENCE));
        let line = format!("logged in: session {}, {}", self.session.id, self.session.venue);
        self.log(now, LogLevel::Info, line, out);
    }

    /// All contracts are told: compare books.
    pub(super) fn on_contracts_complete(&mut self, now: Now, out: &mut Effects) {
        if self.session.state == GatewayState::Reconciling {
            self.session.due = Some(now.mono + PATIENCE);
            out.push(Effect::Venue(VenueCommand::Snapshot));
        }
    }

    /// Books agree: orders may flow.
    pub(super) fn on_reconciled(&mut self, now: Now, out: &mut Effects) {
        if !matches!(self.session.state, GatewayState::Reconciling | GatewayState::Dirty) {
            return;
        }
        let was_dirty = self.session.state == GatewayState::Dirty;
        self.session.move_to(GatewayState::Ready, None, None);
        if was_dirty {
            self.log(now, LogLevel::Info, "reconciled: orders are taken again", out);
        } else {
            self.log(now, LogLevel::Info, "ready", out);
            self.subscribe_wanted(now, out);
        }
    }

    pub(super) fn on_disconnected(&mut self, now: Now, reason: String, out: &mut Effects) {
        if matches!(self.session.state, GatewayState::Stopped | GatewayState::Refused | GatewayState::Closing) {
            return;
        }
        self.session.attempts = self.session.attempts.saturating_add(1);
        let wait = backoff(self.session.attempts);
        self.log(now, LogLevel::Warning, format!("disconnected: {reason}; trying again in {} s", wait.as_secs()), out);
        self.session.move_to(GatewayState::Disconnected, Some(reason), Some(now.mono + wait));
    }

    pub(super) fn on_refused(&mut self, now: Now, reason: String, out: &mut Effects) {
        self.log(
            now,
            LogLevel::Critical,
            format!("login refused: {reason}; not tried again until somebody calls `connect`"),
            out,
        );
        self.session.move_to(GatewayState::Refused, Some(reason), None);
    }

    /// Events of the venue were lost: what it holds is uncertain until a snapshot says.
    pub fn on_overflow(&mut self, now: Now, out: &mut Effects) {
        if self.session.state == GatewayState::Connecting {
            // The loss may have been of the login's own answer.
            self.on_disconnected(now, "the login's answer was lost".to_owned(), out);
        } else {
            self.on_uncertain(now, "venue events were lost", out);
        }
    }

    /// Orders are refused and cancels flow until a snapshot is reconciled. While one is awaited no second one is
    /// asked for: a venue that answers each with the same nonsense is asked again only when patience runs out.
    pub(super) fn on_uncertain(&mut self, now: Now, reason: &str, out: &mut Effects) {
        if !self.session.is_logged_in() {
            return;
        }
        let awaited = self.session.state == GatewayState::Dirty && reason != "venue events were lost";
        if awaited {
            return;
        }
        self.log(now, LogLevel::Critical, format!("{reason}: reconciling; orders are refused, cancels flow"), out);
        self.session.move_to(GatewayState::Dirty, Some(reason.to_owned()), Some(now.mono + PATIENCE));
        out.push(Effect::Venue(VenueCommand::Snapshot));
    }

    /// The adapter itself failed: a command could not even be handed over.
    pub fn on_command_failed(&mut self, now: Now, what: &str, error: &crate::gateway::GatewayError, out: &mut Effects) {
        match self.session.state {
            GatewayState::Connecting => self.on_disconnected(now, format!("{what}: {error}"), out),
            _ => self.log(now, LogLevel::Warning, format!("{what}: {error}"), out),
        }
    }

    /// The node is going down: no more orders.
    pub fn begin_close(&mut self) {
        self.session.move_to(GatewayState::Closing, Some("the node is shutting down".to_owned()), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_slow_down_to_half_a_minute() {
        let waits: Vec<u64> = (1..=8).map(|n| backoff(n).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(backoff(u32::MAX), LAST_RETRY);
    }
}
