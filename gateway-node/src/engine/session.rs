//! The venue's session as a state machine: when to log in, when to try again, when to leave it.

mod asked;
mod refused_cancels;

use std::collections::BTreeSet;
use std::time::Duration;

use protocol::{GatewayState, InstrumentId, LogLevel, Name, OmsState};

use asked::{Ask, Asked};
use refused_cancels::RefusedCancels;

use super::{Days, Effect, Effects, Engine, Now, VenueCommand};
use crate::gateway::{GatewayError, SessionStart, VenueReference};
use crate::reconcile::Circumstances;

/// What [`Engine::on_command_failed`] is told of a snapshot.
pub const SNAPSHOT: &str = "snapshot";
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// A login or a snapshot without an answer for this long is asked for again.
const PATIENCE: Duration = Duration::from_secs(10);
/// While so many snapshots are awaited, refused cancels cause no more of them.
const MOST_AWAITED: u64 = 8;
/// While events are being lost, a snapshot is asked for no more often than this.
const RESNAPSHOT: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Session {
    state: GatewayState,
    reason: Option<String>,
    id: Name,
    venue: Name,
    trading_day: Option<chrono::NaiveDate>,
    next_number: u64,
    /// The highest references used before, so that a session that is named again never reuses one.
    journalled: Vec<VenueReference>,
    /// Contracts that this session has told.
    told: BTreeSet<InstrumentId>,
    /// Logins in a row that did not lead to READY.
    attempts: u32,
    /// When to do the next thing that nobody else will start.
    due: Option<Duration>,
    /// When the session began.
    since: Duration,
    /// The snapshots that were asked for and have not come.
    asked: Asked,
    /// When to ask for a snapshot although orders flow: something was uncertain in the last one.
    look_again: Option<Duration>,
    /// Orders that may have ended unheard.
    pub refused_cancels: RefusedCancels,
    /// When the venue was last asked what it meant by an impossible number.
    doubted: Option<Duration>,
    /// Whether this session has been asked for the ticks that are wanted.
    has_subscribed: bool,
    /// Whether it was logged in when the node began to go down.
    was_logged_in: bool,
}

impl Session {
    pub fn new(state: &OmsState, days: &Days) -> Self {
        let references = state.orders().values().filter_map(|o| o.venue_reference.as_ref());
        let references = references.chain(state.quotes().values().filter_map(|q| q.venue_reference.as_ref()));
        let references = references.chain(days.past_references().map(|(reference, ..)| reference));
        let mut highest: std::collections::BTreeMap<Name, u64> = std::collections::BTreeMap::new();
        for reference in references.filter_map(|text| text.parse::<VenueReference>().ok()) {
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
            told: BTreeSet::new(),
            attempts: 0,
            due: Some(Duration::ZERO),
            since: Duration::ZERO,
            asked: Asked::default(),
            look_again: None,
            refused_cancels: RefusedCancels::default(),
            doubted: None,
            has_subscribed: false,
            was_logged_in: false,
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

    pub fn told(&mut self, instrument: InstrumentId) {
        self.told.insert(instrument);
    }

    pub fn set_trading_day(&mut self, day: chrono::NaiveDate) {
        self.trading_day = Some(day);
    }

    /// Whether the venue takes commands.
    pub fn is_logged_in(&self) -> bool {
        matches!(self.state, GatewayState::Reconciling | GatewayState::Ready | GatewayState::Dirty)
    }

    /// Whether the venue takes cancels: also while the node goes down, until its session is closed.
    pub fn takes_cancels(&self) -> bool {
        self.is_logged_in() || (self.state == GatewayState::Closing && self.was_logged_in)
    }

    /// The next free reference of this session.
    pub fn allocate(&mut self) -> VenueReference {
        self.next_number += 1;
        VenueReference { session: self.id.clone(), number: self.next_number }
    }

    /// Under what circumstances the snapshot was taken that has just come, and whether it was asked for behind the last
    /// loss of events.
    pub fn snapshot_came(&mut self, now: Now, lease: Duration) -> (Circumstances, bool) {
        self.look_again = None;
        // One that nobody asked for may be as old as the session.
        let unasked = Ask { at: Now { mono: self.since, ..now }, lost_since: true };
        let ask = self.asked.pop().unwrap_or(unasked);
        (Circumstances { asked: ask.at, session_since: self.since, lease }, !ask.lost_since)
    }

    /// Something is uncertain until this time at least.
    pub fn look_again(&mut self, at: Duration) {
        self.look_again = Some(self.look_again.map_or(at, |due| due.min(at)));
    }

    /// What is due is due after this wait at the latest.
    fn hasten(&mut self, now: Now, wait: Duration) {
        let soon = now.mono + wait;
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
    }

    fn move_to(&mut self, state: GatewayState, reason: Option<String>, due: Option<Duration>) {
        self.state = state;
        self.reason = reason;
        self.due = due;
    }
}

/// How long to wait after so many failures in a row.
fn backoff(failures: u32) -> Duration {
    FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(8)).min(LAST_RETRY)
}

impl Engine {
    /// Logs in when it is time to, and asks again for what was not answered.
    pub(super) fn drive_session(&mut self, now: Now, out: &mut Effects) {
        if self.session.is_logged_in() && self.session.look_again.is_some_and(|due| due <= now.mono) {
            self.ask_for_snapshot(now, out);
        }
        if self.session.is_logged_in()
            && self.session.asked.len() < MOST_AWAITED
            && let Some(refused) = self.session.refused_cancels.due(now.mono)
            && refused.is_any(|reference| self.is_working(reference))
        {
            self.session.refused_cancels.asked(now.mono);
            self.ask_for_snapshot(now, out);
        }
        if self.session.due.is_none_or(|due| now.mono < due) {
            return;
        }
        match self.session.state {
            GatewayState::Starting | GatewayState::Disconnected | GatewayState::Connecting => self.login(now, out),
            GatewayState::Reconciling | GatewayState::Dirty => {
                self.session.due = Some(now.mono + PATIENCE);
                self.ask_for_snapshot(now, out);
            }
            _ => self.session.due = None,
        }
    }

    /// Asks the venue for everything that it knows.
    pub(super) fn ask_for_snapshot(&mut self, now: Now, out: &mut Effects) {
        self.session.asked.push(now);
        // Should it never come, what is uncertain is asked about once more.
        self.session.look_again = self.session.look_again.map(|_| now.mono + PATIENCE);
        out.push(Effect::Venue(VenueCommand::Snapshot));
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
        self.session.attempts = 0;
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
        if matches!(self.session.state, GatewayState::Stopped | GatewayState::Refused | GatewayState::Closing) {
            // An operator was faster than the answer to a login: the adapter has been told to leave.
            self.log(now, LogLevel::Warning, format!("a login that nobody waits for is ignored: {session}"), out);
            return;
        }
        // It may come back after others, from a counter that has forgotten how far it had counted.
        let ended = VenueReference { session: self.session.id.clone(), number: self.session.next_number };
        match self.session.journalled.iter_mut().find(|known| known.session == ended.session) {
            Some(known) => known.number = known.number.max(ended.number),
            None => self.session.journalled.push(ended),
        }
        let journalled = self.session.journalled.iter().find(|r| r.session == session).map_or(0, |r| r.number);
        self.session.next_number = max_reference.max(journalled);
        self.session.id = session;
        self.session.venue = venue;
        self.session.trading_day = trading_day.or(self.session.trading_day);
        self.session.since = now.mono;
        self.session.asked.clear();
        self.session.look_again = None;
        // The login's own snapshot settles them.
        self.session.refused_cancels.clear();
        self.session.told.clear();
        self.session.has_subscribed = false;
        self.session.move_to(GatewayState::Reconciling, None, Some(now.mono + PATIENCE));
        let line = format!("logged in: session {}, {}", self.session.id, self.session.venue);
        self.log(now, LogLevel::Info, line, out);
    }

    /// All contracts are told: compare books.
    pub(super) fn on_contracts_complete(&mut self, now: Now, out: &mut Effects) {
        if self.session.state == GatewayState::Reconciling {
            // What expired since the last login is listed no more.
            let told = std::mem::take(&mut self.session.told);
            self.contracts.retain(|instrument, _| told.contains(instrument));
            self.ticks.retain(|instrument, _| told.contains(instrument));
            self.session.due = Some(now.mono + PATIENCE);
            self.ask_for_snapshot(now, out);
        }
    }

    /// Books agree: orders may flow, unless events were lost since the venue was asked.
    pub(super) fn on_reconciled(&mut self, now: Now, is_behind_losses: bool, out: &mut Effects) {
        if !matches!(self.session.state, GatewayState::Reconciling | GatewayState::Dirty) {
            return;
        }
        let was_dirty = self.session.state == GatewayState::Dirty;
        if was_dirty && !is_behind_losses {
            // The one that tells of them is on its way, or was lost with them.
            self.session.hasten(now, RESNAPSHOT);
            return;
        }
        self.session.attempts = 0;
        self.session.move_to(GatewayState::Ready, None, None);
        let line = if was_dirty { "reconciled: orders are taken again" } else { "ready" };
        self.log(now, LogLevel::Info, line, out);
        self.act_on_books(now, out);
    }

    /// A snapshot with impossible numbers: what the venue holds is uncertain, and asking again at once would bring the
    /// same.
    pub(super) fn on_nonsense(&mut self, now: Now, out: &mut Effects) {
        match self.session.state {
            GatewayState::Dirty => self.session.hasten(now, PATIENCE),
            GatewayState::Reconciling | GatewayState::Ready => {
                self.be_dirty(now, "the venue's snapshot has impossible numbers", out);
            }
            _ => return,
        }
        // What halts are to cancel, and who wants ticks, do not wait until the venue makes sense.
        if !self.session.has_subscribed {
            self.act_on_books(now, out);
        }
    }

    /// What follows once the books were compared.
    fn act_on_books(&mut self, now: Now, out: &mut Effects) {
        self.cancel_what_is_halted(now, out);
        // Once a session, whatever state it was reconciled in.
        if !std::mem::replace(&mut self.session.has_subscribed, true) {
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
        match self.session.state {
            GatewayState::Dirty => {
                // Still losing: the next snapshot is asked for behind this loss. The more of them are lost too, the
                // longer it waits.
                self.session.asked.lose();
                let lost = u32::try_from(self.session.asked.len()).unwrap_or(u32::MAX);
                self.session.hasten(now, backoff(lost));
            }
            GatewayState::Connecting | GatewayState::Reconciling => {
                // The loss may have been of the login's own answer, or of contracts, which come once a session.
                out.push(Effect::Venue(VenueCommand::Disconnect));
                self.on_disconnected(now, "what the login said was lost".to_owned(), out);
            }
            GatewayState::Ready => {
                self.be_dirty(now, "venue events were lost", out);
                self.ask_for_snapshot(now, out);
            }
            _ => self.log(now, LogLevel::Error, "venue events were lost while not logged in", out),
        }
    }

    /// The venue said what cannot be: DIRTY until a snapshot says. One that goes on saying so is asked again only when
    /// patience runs out. A snapshot that is awaited anyway comes behind what was said, and settles it.
    pub(super) fn on_uncertain(&mut self, now: Now, reason: &str, out: &mut Effects) {
        if self.session.state != GatewayState::Ready {
            return;
        }
        self.be_dirty(now, reason, out);
        match self.session.doubted.map(|last| last + PATIENCE) {
            Some(due) if now.mono < due => self.session.due = Some(due),
            _ => {
                self.session.doubted = Some(now.mono);
                self.ask_for_snapshot(now, out);
            }
        }
    }

    /// Orders are refused and cancels flow until a snapshot is reconciled that is asked for from now on.
    fn be_dirty(&mut self, now: Now, reason: &str, out: &mut Effects) {
        self.log(now, LogLevel::Critical, format!("{reason}: reconciling; orders are refused, cancels flow"), out);
        self.session.move_to(GatewayState::Dirty, Some(reason.to_owned()), Some(now.mono + PATIENCE));
        self.session.asked.lose();
    }

    /// The adapter itself failed: a command could not even be handed over.
    pub fn on_command_failed(&mut self, now: Now, what: &str, error: &GatewayError, out: &mut Effects) {
        if what == SNAPSHOT {
            self.session.asked.unpush();
        }
        match self.session.state {
            GatewayState::Connecting => self.on_disconnected(now, format!("{what}: {error}"), out),
            // The adapter has lost its session, and what it said of that was lost too: nobody else would log in again.
            GatewayState::Reconciling | GatewayState::Dirty
                if what == SNAPSHOT && *error == GatewayError::NotConnected =>
            {
                self.on_disconnected(now, format!("{what}: {error}"), out);
            }
            _ => self.log(now, LogLevel::Warning, format!("{what}: {error}"), out),
        }
    }

    /// The node is going down: no more orders; cancels still flow.
    pub fn begin_close(&mut self) {
        self.session.was_logged_in = self.session.is_logged_in();
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
