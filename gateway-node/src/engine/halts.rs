//! Halts: who may send no new orders, what the bucket that all gateways share makes of it, and what survives when that
//! bucket does not.
//!
//! Of each target the latest record stands, whichever way it came: so copies agree, in whatever order they hear of it.
//! A halt holds here before it is written anywhere; a resume only once the bucket has it. That the bucket has no record
//! of a halt ends nothing: it is written back. Until the bucket was read once, everybody is halted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use protocol::halt::{HaltEntry, HaltRecord, HaltScope, HaltTarget, Heard, Resumed};
use protocol::journal::Private;
use protocol::rpc::{Halt, Halted, Resume, Uncancelled};
use protocol::value::OWNER_EXTERNAL;
use protocol::{Contract, ErrorCode, InstrumentId, LogLevel, Name, Order, Quote, RpcError, Timestamp};

use super::{Approval, Caller, EVERYBODY, Effect, Effects, Engine, Now, ReplyTo, Submit, encode};
use crate::reconcile::Target;
use crate::risk::{self, Leg};

/// Most owners, and accounts of other gateways, that are halted at a time: one entry of the journal holds them all. More
/// of them in the bucket halt everybody. Everything, a gateway and its own account can always be halted.
const MAX_HALTS: usize = 256;
/// An order of a halt that works so long after the venue took its cancel is cancelled again, and after twice as long once
/// more: exchanges have hours without cancels, and limits on how many they take.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);
/// Until it is as long as this.
const LONGEST_CANCEL_PATIENCE: Duration = Duration::from_secs(300);
/// Longest name of an owner or an account, in bytes.
const MAX_NAME: usize = 128;
/// Longest key that a resume names, in bytes.
const MAX_KEY: usize = 1024;
/// Longest reason, in characters.
const MAX_REASON: usize = 256;

/// See the module.
pub(super) struct Halts {
    held: BTreeMap<HaltTarget, HaltEntry>,
    /// Why everybody is halted: the bucket was not read yet, or holds too much. Since when, once a time is known.
    unknown: Option<(String, Option<Timestamp>)>,
    /// How many halts were asked for in this epoch.
    made: u64,
    /// What a halt is to cancel and whose cancel could not be sent, and why: no more than what works.
    uncancelled: BTreeMap<Target, RpcError>,
    /// Those whose cancel the venue has taken: it may still refuse it, and does not say whose it was.
    cancelling: BTreeMap<Target, Cancelling>,
}

/// A cancel that the venue has taken.
struct Cancelling {
    /// When, on the clock that never jumps.
    since: Duration,
    /// How long it may take.
    patience: Duration,
}

/// What is to be written to the bucket, and who waits for it.
#[derive(Debug, Clone, PartialEq)]
pub struct HaltWrite {
    /// The call, if one asked for it.
    pub reply: Option<ReplyTo>,
    /// What is wanted.
    pub change: Change,
}

/// A change of one target in the bucket.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// It is halted; and what held here when that was asked for, should the bucket have lost it.
    Halt(HaltEntry, Option<Box<HaltEntry>>),
    /// It was halted all along: the bucket has lost it.
    Restore(HaltEntry),
    /// It is to take orders again.
    Resume(Wish),
}

/// A resume, as the gateway that was asked sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// What.
    pub target: HaltTarget,
    /// The halt that is to end, if one is known here.
    pub known: Option<HaltEntry>,
    /// Leave what opens halted.
    pub reduce_only: bool,
    /// The node's clock.
    pub now: Timestamp,
}

impl Change {
    /// What it is about.
    #[must_use]
    pub fn target(&self) -> &HaltTarget {
        match self {
            Change::Halt(entry, _) | Change::Restore(entry) => &entry.target,
            Change::Resume(wish) => &wish.target,
        }
    }
}

/// What a change comes to, given what the bucket holds of its target.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// This is to be written in place of what is there, if that is still there.
    Write(HaltRecord),
    /// What is there stands; nothing, if nothing is there.
    Keep(Option<HaltRecord>),
    /// Halted again since, for whoever wanted to resume.
    Conflict(HaltEntry),
}

/// Why a change is not in the bucket.
#[derive(Debug, Clone, PartialEq)]
pub enum WriteError {
    /// Halted again since, for whoever wanted to resume.
    Conflict(Box<HaltEntry>),
    /// The bucket cannot be written.
    Unwritable(String),
    /// It was sent to the bucket, and nobody knows whether it was stored.
    InDoubt(String),
}

/// What the bucket's edge has to say.
#[derive(Debug, Clone, PartialEq)]
pub enum HaltNews {
    /// All that the bucket holds.
    Read(Vec<HaltRecord>),
    /// It cannot be read, and why.
    Unreadable(String),
    /// A change was made, or could not be.
    Written(Box<HaltWrite>, Result<Option<HaltRecord>, WriteError>),
}

/// What to make of a change.
#[must_use]
pub fn decide(change: &Change, current: Option<&HaltRecord>) -> Decision {
    let stands = || Decision::Keep(current.cloned());
    match (change, current) {
        // It was taken in before. What has become of it since stands, though it be a resume.
        (Change::Halt(wanted, _), Some(known)) if known.heard().covers(&wanted.heard) => stands(),
        (Change::Halt(wanted, Some(beside)), _) if !has_heard_of(beside, current) => {
            let all = HaltEntry { local: wanted.local, ..merge(beside, wanted) };
            decide(&Change::Halt(all, None), current)
        }
        (Change::Halt(wanted, _), Some(HaltRecord::Halted(known))) => {
            let merged = merge(known, wanted);
            if !is_alike(&merged, known) {
                Decision::Write(HaltRecord::Halted(merged))
            } else if wanted.local && merged.heard != known.heard {
                // Somebody halted it in the same words: one record is enough for both, as long as it says so.
                Decision::Write(HaltRecord::Halted(HaltEntry { since: known.since, ..merged }))
            } else {
                stands()
            }
        }
        (Change::Halt(wanted, _), Some(HaltRecord::Resumed(known))) => {
            let (since, heard) = (later(wanted.since, known.at), known.heard.and(&wanted.heard));
            Decision::Write(HaltRecord::Halted(HaltEntry { since, heard, local: false, ..wanted.clone() }))
        }
        (Change::Halt(entry, _) | Change::Restore(entry), None) => {
            Decision::Write(HaltRecord::Halted(HaltEntry { local: false, ..entry.clone() }))
        }
        (Change::Restore(entry), Some(known)) if is_lost(entry, Some(known)) => {
            let entry = match known {
                HaltRecord::Halted(known) if entry.heard.lacks(&known.heard) => tighten(entry, known),
                _ => entry.clone(),
            };
            let (since, heard) = (later(entry.since, known.at()), entry.heard.and(known.heard()));
            Decision::Write(HaltRecord::Halted(HaltEntry { since, heard, local: false, ..entry }))
        }
        (Change::Restore(_), Some(_)) => stands(),
        (Change::Resume(wish), Some(HaltRecord::Halted(halted)))
            if wish.known.as_ref().is_none_or(|known| halted.since > known.since) =>
        {
            Decision::Conflict(halted.clone())
        }
        (Change::Resume(Wish { known: None, .. }), _) => stands(),
        (Change::Resume(Wish { known: Some(known), .. }), Some(HaltRecord::Resumed(resumed)))
            if resumed.at > known.since && (known.heard.is_empty() || resumed.heard.covers(&known.heard)) =>
        {
            stands()
        }
        (Change::Resume(Wish { target, known: Some(known), reduce_only, now }), current) => {
            let at = later(later(*now, known.since), current.map_or(known.since, HaltRecord::at));
            let heard = current.map_or_else(|| known.heard.clone(), |current| current.heard().and(&known.heard));
            Decision::Write(if *reduce_only {
                HaltRecord::Halted(HaltEntry {
                    since: at,
                    reduce_only: true,
                    cancel: false,
                    external: false,
                    spares_closing: false,
                    local: false,
                    heard,
                    ..known.clone()
                })
            } else {
                HaltRecord::Resumed(Resumed { target: target.clone(), at, heard })
            })
        }
    }
}

/// A halt of what is halted already: it never loosens what is there, and takes the place of it for whoever wants to
/// resume.
fn merge(known: &HaltEntry, wanted: &HaltEntry) -> HaltEntry {
    let reason = if wanted.reason.is_empty() { &known.reason } else { &wanted.reason };
    HaltEntry {
        reason: reason.clone(),
        by: known.by.clone().filter(|by| Some(by) == wanted.by.as_ref()),
        since: later(wanted.since, known.since),
        local: false,
        ..tighten(wanted, known)
    }
}

/// A halt that stops and cancels what either does: no less, and nothing that neither was asked to.
fn tighten(entry: &HaltEntry, other: &HaltEntry) -> HaltEntry {
    let reduce_only = entry.reduce_only && other.reduce_only;
    let cancel = entry.cancel || other.cancel;
    let leaves_closing = |halt: &HaltEntry| !halt.cancel || halt.leaves_closing();
    HaltEntry {
        reduce_only,
        cancel,
        external: entry.external || other.external,
        spares_closing: cancel && !reduce_only && leaves_closing(entry) && leaves_closing(other),
        heard: entry.heard.and(&other.heard),
        ..entry.clone()
    }
}

/// Whether a halt cancels what the one that held before did not.
fn cancels_more(entry: &HaltEntry, than: Option<&HaltEntry>) -> bool {
    let more = |than: &HaltEntry| {
        !than.cancel || (entry.external && !than.external) || (than.leaves_closing() && !entry.leaves_closing())
    };
    entry.cancel && than.is_none_or(more)
}

fn is_alike(one: &HaltEntry, other: &HaltEntry) -> bool {
    HaltEntry { since: other.since, local: other.local, heard: other.heard.clone(), ..one.clone() } == *other
}

/// Whether the bucket's record came after a halt, whatever it made of it.
fn has_heard_of(entry: &HaltEntry, recorded: Option<&HaltRecord>) -> bool {
    match recorded {
        Some(known) if !entry.heard.is_empty() => !known.heard().lacks(&entry.heard) && !known.heard().is_empty(),
        _ => !is_lost(entry, recorded),
    }
}

/// Whether the bucket has lost a halt: it has no record of its target, or one that came before.
fn is_lost(entry: &HaltEntry, recorded: Option<&HaltRecord>) -> bool {
    match recorded {
        None => true,
        Some(HaltRecord::Halted(known)) => known.since < entry.since,
        // A resume is always later than what it ends: one of the same time was of something else.
        Some(HaltRecord::Resumed(known)) => known.at <= entry.since,
    }
}

/// This time, or if that is not later, the next one after the other.
fn later(time: Timestamp, than: Timestamp) -> Timestamp {
    // At the end of the calendar there is no later.
    let next = than.checked_add_signed(chrono::TimeDelta::microseconds(1)).unwrap_or(than);
    time.max(next)
}

impl Halts {
    /// What a journal says; an earlier version's has owners and reasons only, and they held on this gateway.
    pub fn new(gateway: &Name, owners: BTreeMap<Name, String>, entries: Option<Vec<HaltEntry>>) -> Halts {
        let entries = entries.unwrap_or_else(|| {
            let entry = |(owner, reason): (Name, String)| {
                let target = if owner == EVERYBODY {
                    HaltTarget::new(HaltScope::Gateway, gateway.clone())
                } else {
                    HaltTarget::new(HaltScope::Owner, owner)
                };
                full_halt(target, reason, chrono::DateTime::UNIX_EPOCH.fixed_offset())
            };
            owners.into_iter().map(entry).collect()
        });
        Halts {
            held: entries.into_iter().map(|entry| (entry.target.clone(), entry)).collect(),
            unknown: Some(("they were not read yet".to_owned(), None)),
            made: 0,
            uncancelled: BTreeMap::new(),
            cancelling: BTreeMap::new(),
        }
    }

    /// As a journal holds them: for earlier versions, and in full.
    pub fn to_journal(&self) -> (BTreeMap<Name, String>, Vec<HaltEntry>) {
        let owner = |entry: &HaltEntry| (owner_of(&entry.target), entry.reason.clone());
        (self.held.values().map(owner).collect(), self.held.values().cloned().collect())
    }
}

/// A halt of everything that a target may send, which nobody asked for here and no bucket has.
fn full_halt(target: HaltTarget, reason: String, since: Timestamp) -> HaltEntry {
    HaltEntry {
        target,
        reason,
        reduce_only: false,
        since,
        cancel: false,
        external: false,
        spares_closing: false,
        by: None,
        local: true,
        heard: Heard::default(),
    }
}

/// The owner that a halt is of, in the words of those who know owners only.
fn owner_of(target: &HaltTarget) -> Name {
    if target.scope == HaltScope::Owner { target.target.clone() } else { Name::const_new(EVERYBODY) }
}

impl Engine {
    /// As a journal holds the halts: for earlier versions, and in full.
    #[must_use]
    pub fn journalled_halts(&self) -> (BTreeMap<Name, String>, Vec<HaltEntry>) {
        self.halts.to_journal()
    }

    /// Owners that may send no new orders at all; `*` stands for everybody.
    pub(super) fn halted_owners(&self) -> Vec<Name> {
        let full = self.halts.held.values().filter(|entry| !entry.reduce_only && self.concerns(&entry.target));
        let mut owners: BTreeSet<Name> = full.map(|entry| owner_of(&entry.target)).collect();
        if self.halts.unknown.is_some() {
            owners.insert(Name::const_new(EVERYBODY));
        }
        owners.into_iter().collect()
    }

    /// The halts that concern this gateway, for people; one that stands for all that is not known among them.
    pub(super) fn shown_halts(&self, now: Timestamp) -> Vec<HaltEntry> {
        let unknown = self.halts.unknown.as_ref().map(|(why, since)| {
            let target = HaltTarget::new(HaltScope::Gateway, self.options.gateway.clone());
            full_halt(target, unknown_reason(why), since.unwrap_or(now))
        });
        // What went into a halt is the bucket's matter.
        let shown = |entry: &HaltEntry| HaltEntry { heard: Heard::default(), ..entry.clone() };
        let held = self.halts.held.values().filter(|entry| self.concerns(&entry.target)).map(shown);
        unknown.into_iter().chain(held).collect()
    }

    /// How it stands, and what of this target could not be cancelled.
    fn halted(&self, now: Timestamp, target: &HaltTarget) -> Halted {
        let due = |kept: &Target| self.is_to_be_cancelled(kept) && self.covers(target, &kept.key().owner);
        let mut left = self.halts.uncancelled.iter().filter(|(kept, _)| due(kept)).map(|(_, error)| error);
        let uncancelled = left.next().map(|first| Uncancelled { error: first.clone(), count: 1 + left.count() as u64 });
        Halted { halted: self.halted_owners(), halts: self.shown_halts(now), uncancelled }
    }

    /// Whether a target has anything to do with this gateway. Until the venue has told the accounts, every one may be
    /// among them.
    fn concerns(&self, target: &HaltTarget) -> bool {
        match target.scope {
            HaltScope::All | HaltScope::Owner | HaltScope::Unknown => true,
            HaltScope::Gateway => target.target == self.options.gateway,
            HaltScope::Account => self.state.accounts().is_empty() || self.state.account(&target.target).is_some(),
        }
    }

    fn covers(&self, target: &HaltTarget, owner: &Name) -> bool {
        self.concerns(target) && (target.scope != HaltScope::Owner || target.target == *owner)
    }

    /// Whether this owner may send anything new at all.
    ///
    /// # Errors
    /// `HALTED`, with who is halted and why.
    pub(super) fn check_not_halted(&self, owner: &Name) -> Result<(), RpcError> {
        if let Some((why, _)) = &self.halts.unknown {
            return Err(RpcError::new(ErrorCode::Halted, format!("new orders are halted: {}", unknown_reason(why))));
        }
        match self.halts.held.values().find(|entry| !entry.reduce_only && self.covers(&entry.target, owner)) {
            None => Ok(()),
            Some(entry) => Err(refuse(entry, "")),
        }
    }

    /// Whether this owner may send this, where only what lessens a position is taken.
    ///
    /// # Errors
    /// `HALTED`, with who is halted, why, and what the order would do.
    pub(super) fn check_lessens(&self, owner: &Name, legs: &[Leg], contract: &Contract) -> Result<(), RpcError> {
        let Some(entry) = self.halts.held.values().find(|e| e.reduce_only && self.covers(&e.target, owner)) else {
            return Ok(());
        };
        risk::lessens(legs, contract, &self.state, &self.counters)
            .map_err(|what| refuse(entry, &format!("; only what lessens a position is taken: {what}")))
    }

    /// The last look before the venue: what was halted while an order waited for the journal stays here.
    pub(super) fn check_not_halted_since(&self, submit: &Submit) -> Result<(), RpcError> {
        let owner = &submit.key.owner;
        self.check_not_halted(owner)?;
        if !self.halts.held.values().any(|entry| entry.reduce_only && self.covers(&entry.target, owner)) {
            return Ok(());
        }
        // It counts among what works already.
        let none_more = |leg: Leg| Leg { volume: 0.0, ..leg };
        match &submit.approval {
            Approval::Order(order) => {
                let contract = self.contract(&order.instrument())?;
                self.check_lessens(owner, &Leg::of_order(order).map(none_more), contract)
            }
            Approval::Quote(quote) => {
                let contract = self.contract(&quote.instrument())?;
                self.check_lessens(owner, &Leg::of_quote(quote).map(none_more), contract)
            }
        }
    }

    pub(super) fn halt(
        &mut self,
        now: Now,
        reply: ReplyTo,
        caller: &Caller,
        request: Halt,
        out: &mut Effects,
    ) -> Result<(), RpcError> {
        let target = self.halt_target(caller, request.owner, request.account, request.all)?;
        if request.external && !request.cancel {
            return Err(bad("external: says what to cancel, so it goes with cancel"));
        }
        if request.external && target.scope == HaltScope::Owner {
            return Err(bad("external: orders found at the venue are no owner's: leave out owner, or external"));
        }
        let counts = |target: &HaltTarget| is_one_of_many(self, target);
        if counts(&target)
            && !self.halts.held.contains_key(&target)
            && self.halts.held.keys().filter(|held| counts(held)).count() >= MAX_HALTS
        {
            return Err(RpcError::new(
                ErrorCode::Overloaded,
                format!(
                    "{MAX_HALTS} owners and accounts are halted already: halt the gateway or everything, or resume somebody"
                ),
            ));
        }
        self.halts.made += 1;
        let wanted = HaltEntry {
            target: target.clone(),
            reason: plain_reason(&request.reason),
            reduce_only: request.reduce_only,
            since: now.wall,
            cancel: request.cancel,
            external: request.external,
            spares_closing: false,
            by: (!caller.sees_all).then(|| caller.owner.clone()),
            local: true,
            heard: Heard::one(self.options.gateway.clone(), self.options.epoch, self.halts.made),
        };
        let known = self.halts.held.get(&target);
        let entry = known.map_or_else(|| wanted.clone(), |known| HaltEntry { local: true, ..merge(known, &wanted) });
        // Halted already: a new reason is news, but not worth filling a journal that is stuck.
        let cancels_more = cancels_more(&entry, known);
        let is_stricter = cancels_more || known.is_none_or(|known| known.reduce_only && !entry.reduce_only);
        let is_news = known.is_none_or(|known| !is_alike(known, &entry));
        let is_held = is_stricter || (is_news && !self.journal_is_behind());
        // What is asked for now is told from what was asked for before by when it was. It waits to be written only if
        // it is held.
        let wanted = HaltEntry { since: entry.since, local: is_held, ..wanted };
        let beside = known.cloned().map(Box::new);
        if is_held {
            self.hold(now, entry.clone(), out);
            self.journal_halts(out);
        }
        if request.cancel || cancels_more {
            self.cancel_covered(now, &entry, out);
        }
        out.push(Effect::WriteHalt(Box::new(HaltWrite { reply: Some(reply), change: Change::Halt(wanted, beside) })));
        Ok(())
    }

    pub(super) fn resume(
        &mut self,
        now: Now,
        reply: ReplyTo,
        caller: &Caller,
        request: Resume,
        out: &mut Effects,
    ) -> Result<(), RpcError> {
        let target = match request.key {
            None => self.halt_target(caller, request.owner, request.account, request.all)?,
            Some(_) if request.owner.is_some() || request.account.is_some() || request.all => {
                return Err(bad("write one of owner, account, all and key"));
            }
            Some(key) => key_target(caller, &key)?,
        };
        self.check_journal_keeps_up()?;
        let known = self.halts.held.get(&target).cloned();
        if !caller.sees_all && known.as_ref().is_some_and(|known| known.by.as_ref() != Some(&caller.owner)) {
            return Err(RpcError::new(
                ErrorCode::NotPermitted,
                format!("{target} was halted by whoever runs the gateways, who alone can resume it"),
            ));
        }
        let wish = Wish { target, known, reduce_only: request.reduce_only, now: now.wall };
        out.push(Effect::WriteHalt(Box::new(HaltWrite { reply: Some(reply), change: Change::Resume(wish) })));
        Ok(())
    }

    /// What a call names. Whoever sees all may halt anything; an owner itself.
    fn halt_target(
        &self,
        caller: &Caller,
        owner: Option<Name>,
        account: Option<Name>,
        all: bool,
    ) -> Result<HaltTarget, RpcError> {
        if usize::from(owner.is_some()) + usize::from(account.is_some()) + usize::from(all) > 1 {
            return Err(bad("write one of owner, account and all; none of them for everybody on this gateway"));
        }
        if owner.as_ref().or(account.as_ref()).is_some_and(|name| name.is_empty() || name.len() > MAX_NAME) {
            return Err(bad(&format!("owner, account: write a name of 1 to {MAX_NAME} bytes")));
        }
        if (account.is_some() || all) && !caller.sees_all {
            return Err(RpcError::new(ErrorCode::NotPermitted, format!("{} may halt itself only", caller.owner)));
        }
        Ok(match (owner, account) {
            (_, Some(account)) => HaltTarget::new(HaltScope::Account, account),
            _ if all => HaltTarget::new(HaltScope::All, ""),
            (None, None) if caller.sees_all => HaltTarget::new(HaltScope::Gateway, self.options.gateway.clone()),
            (Some(owner), None) if owner == EVERYBODY && caller.sees_all => {
                HaltTarget::new(HaltScope::Gateway, self.options.gateway.clone())
            }
            (Some(owner), None) if owner == OWNER_EXTERNAL => {
                return Err(bad("owner: `external` stands for orders that nobody here sent: to cancel them, write \
                     cancel and external"));
            }
            (owner, None) => HaltTarget::new(HaltScope::Owner, caller.owner_of(owner.as_ref())?),
        })
    }

    /// The bucket's edge has something to say.
    pub fn on_halt_news(&mut self, now: Now, news: HaltNews, out: &mut Effects) {
        match news {
            HaltNews::Read(records) => self.on_halts_read(now, &records, out),
            HaltNews::Unreadable(why) => match &mut self.halts.unknown {
                Some((known, since)) => {
                    since.get_or_insert(now.wall);
                    known.clone_from(&why);
                    self.log(now, LogLevel::Critical, format!("new orders are halted: {}", unknown_reason(&why)), out);
                }
                None => {
                    let line = format!("halts elsewhere are not heard of, and what is halted stays so: {why}");
                    self.log(now, LogLevel::Error, line, out);
                }
            },
            HaltNews::Written(write, outcome) => self.on_halt_written(now, &write, outcome, out),
        }
    }

    /// All that the bucket holds.
    fn on_halts_read(&mut self, now: Now, records: &[HaltRecord], out: &mut Effects) {
        let halted = records.iter().filter(|r| matches!(r, HaltRecord::Halted(_)) && is_one_of_many(self, r.target()));
        let halted = halted.filter(|r| !is_other_gateways(self, r.target()));
        if halted.count() > MAX_HALTS {
            let why = format!("the bucket holds more than {MAX_HALTS}");
            self.log(now, LogLevel::Critical, format!("new orders are halted: {}", unknown_reason(&why)), out);
            self.halts.unknown = Some((why, Some(now.wall)));
            return;
        }
        let mut changed = false;
        for record in records {
            if is_other_gateways(self, record.target()) {
                continue;
            }
            let taken = take_in(self.halts.held.get(record.target()), record);
            changed |= self.carry_out(now, record.target(), taken, true, out);
        }
        if changed {
            self.journal_halts(out);
        }
        let recorded: BTreeMap<&HaltTarget, &HaltRecord> = records.iter().map(|r| (r.target(), r)).collect();
        for entry in self.halts.held.values() {
            let change = match (entry.local, is_lost(entry, recorded.get(&entry.target).copied())) {
                _ if entry.target.scope == HaltScope::Unknown => continue,
                (true, _) => Change::Halt(entry.clone(), None),
                (false, true) => Change::Restore(entry.clone()),
                (false, false) => continue,
            };
            out.push(Effect::WriteHalt(Box::new(HaltWrite { reply: None, change })));
        }
        if self.halts.unknown.take().is_some() {
            self.log(now, LogLevel::Info, "the halts are known", out);
        }
    }

    fn on_halt_written(
        &mut self,
        now: Now,
        write: &HaltWrite,
        outcome: Result<Option<HaltRecord>, WriteError>,
        out: &mut Effects,
    ) {
        let answer = match outcome {
            Ok(record) => {
                if let Some(record) = record {
                    self.on_recorded(now, &write.change, record, out);
                }
                encode(&self.halted(now.wall, write.change.target()))
            }
            Err(WriteError::Conflict(entry)) => Err(conflict(&entry)),
            Err(error @ (WriteError::Unwritable(_) | WriteError::InDoubt(_))) => {
                let error = unwritten(&write.change, &error);
                if !matches!(write.change, Change::Resume(_)) {
                    self.log(now, LogLevel::Error, format!("{}: {}", write.change.target(), error.message), out);
                }
                Err(error)
            }
        };
        if let Some(reply) = write.reply {
            out.push(Effect::Reply(reply, answer));
        }
    }

    /// The bucket has it. A halt that was asked for here since then stands until it is its turn.
    fn on_recorded(&mut self, now: Now, change: &Change, record: HaltRecord, out: &mut Effects) {
        let held = self.halts.held.get(record.target());
        let is_overtaken = held.is_some_and(|held| {
            held.local
                && match change {
                    Change::Halt(wanted, _) | Change::Restore(wanted) => held.since != wanted.since,
                    Change::Resume(wish) => wish.known.as_ref().is_none_or(|known| held.since > known.since),
                }
        });
        if is_overtaken {
            return;
        }
        let taken = match (held, &record) {
            // Of others' halts that went into it, this is where they are heard of.
            (Some(held), HaltRecord::Halted(entry)) if held.local => {
                Taken::Hold(HaltEntry { local: false, ..entry.clone() })
            }
            (Some(held), HaltRecord::Resumed(resumed)) if is_ended(held, resumed) => Taken::LetGo,
            (None, HaltRecord::Resumed(_)) => Taken::Nothing,
            (held, record) => take_in(held, record),
        };
        if let Taken::Hold(entry) = &taken
            && entry.local
        {
            let change = Change::Halt(entry.clone(), None);
            out.push(Effect::WriteHalt(Box::new(HaltWrite { reply: None, change })));
        }
        if self.carry_out(now, record.target(), taken, false, out) {
            self.journal_halts(out);
        }
    }

    /// Holds or lets go, and cancels what is not cancelled yet; all of it, if the bucket says it anew. Returns whether
    /// anything has changed.
    fn carry_out(&mut self, now: Now, target: &HaltTarget, taken: Taken, anew: bool, out: &mut Effects) -> bool {
        let entry = match taken {
            Taken::Nothing => return false,
            Taken::LetGo => return self.let_go(now, target, out),
            Taken::Hold(entry) => entry,
        };
        let cancels =
            if anew && !entry.local { entry.cancel } else { cancels_more(&entry, self.halts.held.get(target)) };
        self.hold(now, entry.clone(), out);
        if cancels {
            self.cancel_covered(now, &entry, out);
        }
        true
    }

    fn hold(&mut self, now: Now, entry: HaltEntry, out: &mut Effects) {
        let known = self.halts.held.get(&entry.target);
        if known.is_none_or(|known| !is_alike(known, &entry)) {
            let how = if entry.reduce_only { "halted but for what lessens a position" } else { "halted" };
            let end = way_out(&entry.target);
            self.log(now, LogLevel::Warning, format!("{how}: {}: {}{end}", entry.target, entry.reason), out);
        }
        self.halts.held.insert(entry.target.clone(), entry);
    }

    fn let_go(&mut self, now: Now, target: &HaltTarget, out: &mut Effects) -> bool {
        let was_held = self.halts.held.remove(target).is_some();
        if was_held {
            self.log(now, LogLevel::Warning, format!("resumed: {target}"), out);
        }
        was_held
    }

    fn journal_halts(&mut self, out: &mut Effects) {
        let (halts, entries) = self.halts.to_journal();
        self.record_private(Private::Halts { halts, entries: Some(entries) }, out);
    }

    /// A venue that is logged in again may still work what a halt was to cancel.
    pub(super) fn cancel_what_is_halted(&mut self, now: Now, out: &mut Effects) {
        let due: Vec<HaltEntry> = self.halts.held.values().filter(|e| e.cancel).cloned().collect();
        for entry in due {
            self.cancel_covered(now, &entry, out);
        }
    }

    /// Cancels what works and is covered by a halt; of one that leaves what closes, what opens. No limit on cancels holds
    /// this up.
    fn cancel_covered(&mut self, now: Now, entry: &HaltEntry, out: &mut Effects) {
        let orders = self.state.active_orders().filter(|order| self.cancels_order(entry, order));
        let orders = orders.map(|order| Target::Order(order.into()));
        let quotes = self.state.active_quotes().filter(|quote| self.cancels_quote(entry, quote));
        let targets: Vec<Target> = orders.chain(quotes.map(|quote| Target::Quote(quote.into()))).collect();
        self.cancel_each(now, None, targets, out);
    }

    fn cancels_order(&self, entry: &HaltEntry, order: &Order) -> bool {
        self.cancels(entry, &order.owner, order.instrument(), &Leg::of_working(order))
    }

    fn cancels_quote(&self, entry: &HaltEntry, quote: &Quote) -> bool {
        self.cancels(entry, &quote.owner, quote.instrument(), &Leg::of_working_quote(quote))
    }

    fn cancels(&self, entry: &HaltEntry, owner: &Name, instrument: InstrumentId, legs: &[Leg]) -> bool {
        if !entry.cancel || !self.covers(&entry.target, owner) || (owner == OWNER_EXTERNAL && !entry.external) {
            return false;
        }
        // What works is among what works already.
        let none_more: Vec<Leg> = legs.iter().map(|leg| Leg { volume: 0.0, ..*leg }).collect();
        let opens = || match self.contracts.get(&instrument) {
            Some(contract) => risk::lessens(&none_more, contract, &self.state, &self.counters).is_err(),
            None => true,
        };
        !entry.leaves_closing() || opens()
    }

    /// Whether this still works, and a halt that holds is to cancel it.
    fn is_to_be_cancelled(&self, target: &Target) -> bool {
        let mut held = self.halts.held.values();
        match target {
            Target::Order(key) => {
                let order = self.state.order(key).filter(|order| order.status.is_active());
                order.is_some_and(|order| held.any(|entry| self.cancels_order(entry, order)))
            }
            Target::Quote(key) => {
                let quote = self.state.quote(key).filter(|quote| quote.status.is_active());
                quote.is_some_and(|quote| held.any(|entry| self.cancels_quote(entry, quote)))
            }
        }
    }

    /// What a halt is to cancel and could not be told the venue is kept, and said.
    pub(super) fn keep_uncancelled(&mut self, now: Now, failed: Vec<(Target, RpcError)>, out: &mut Effects) {
        let due: Vec<_> = failed.into_iter().filter(|(target, _)| self.is_to_be_cancelled(target)).collect();
        let mut news = due.iter().filter(|(target, _)| !self.halts.uncancelled.contains_key(target));
        if let Some((target, error)) = news.next() {
            let (count, orderid) = (1 + news.count(), &target.key().orderid);
            let line = format!(
                "{count} orders of a halt could not be cancelled yet ({orderid}, ...): {}; tried again until it is done",
                error.message
            );
            self.log(now, LogLevel::Error, line, out);
        }
        self.halts.uncancelled.extend(due);
    }

    /// The venue has taken a cancel; whether it is the first one of its order, as far as is known.
    pub(super) fn cancel_is_taken(&mut self, now: Now, target: &Target) -> bool {
        self.halts.uncancelled.remove(target);
        if !self.is_to_be_cancelled(target) {
            return true;
        }
        let earlier = self.halts.cancelling.get(target);
        let patience = earlier.map_or(CANCEL_PATIENCE, |earlier| earlier.patience);
        let is_first = earlier.is_none();
        self.halts.cancelling.insert(target.clone(), Cancelling { since: now.mono, patience });
        is_first
    }

    /// What a halt is still to cancel is tried again, also where the venue took the cancel and the order works on. What
    /// the venue has no function for waits for the next login.
    pub(super) fn cancel_again(&mut self, now: Now, out: &mut Effects) {
        let mut kept = std::mem::take(&mut self.halts.uncancelled);
        kept.retain(|target, _| self.is_to_be_cancelled(target));
        let mut cancelling = std::mem::take(&mut self.halts.cancelling);
        cancelling.retain(|target, _| self.is_to_be_cancelled(target));
        let takes_cancels = self.session.takes_cancels();
        let mut late: Vec<Target> = Vec::new();
        for (target, cancel) in &mut cancelling {
            if takes_cancels && cancel.since + cancel.patience <= now.mono {
                cancel.since = now.mono;
                cancel.patience = (cancel.patience * 2).min(LONGEST_CANCEL_PATIENCE);
                late.push(target.clone());
            }
        }
        if let Some(first) = late.first() {
            let (count, orderid) = (late.len(), &first.key().orderid);
            let line =
                format!("{count} orders of a halt work on after their cancels ({orderid}, ...): cancelled again");
            self.log(now, LogLevel::Error, line, out);
        }
        let again = kept.iter().filter(|(_, error)| error.code != ErrorCode::NotSupported);
        let again: Vec<Target> = again.map(|(target, _)| target.clone()).chain(late).collect();
        (self.halts.uncancelled, self.halts.cancelling) = (kept, cancelling);
        if !again.is_empty() && takes_cancels {
            self.cancel_each(now, None, again, out);
        }
    }
}

/// What a record comes to for whoever holds this of its target.
enum Taken {
    Nothing,
    Hold(HaltEntry),
    LetGo,
}

fn take_in(held: Option<&HaltEntry>, record: &HaltRecord) -> Taken {
    let newer = || match record {
        HaltRecord::Halted(entry) => Taken::Hold(HaltEntry { local: false, ..entry.clone() }),
        HaltRecord::Resumed(_) => Taken::LetGo,
    };
    let Some(held) = held else { return newer() };
    match record {
        // It was written, and this gateway died before it had noted that.
        _ if held.local && record.heard().covers(&held.heard) => newer(),
        // What waits to be written is later than what was read. But nothing loosens what is halted elsewhere.
        HaltRecord::Halted(entry) if held.local => {
            let tightened = tighten(held, entry);
            if tightened == *held { Taken::Nothing } else { Taken::Hold(tightened) }
        }
        // Made in the same microsecond, in a bucket that was wiped in between: both hold.
        HaltRecord::Halted(entry) if held.since == entry.since && !is_alike(held, entry) => {
            Taken::Hold(HaltEntry { local: true, ..merge(entry, held) })
        }
        _ if held.local || record.at() <= held.since => Taken::Nothing,
        // Made in a bucket that had lost this one: both hold.
        HaltRecord::Halted(entry) if entry.heard.lacks(&held.heard) && !is_alike(&tighten(entry, held), entry) => {
            Taken::Hold(HaltEntry { local: true, ..tighten(entry, held) })
        }
        _ => newer(),
    }
}

fn is_ended(held: &HaltEntry, resumed: &Resumed) -> bool {
    held.since < resumed.at || resumed.heard.covers(&held.heard)
}

/// What whoever asked for a change is told if it is not in the bucket, as far as is known.
fn unwritten(change: &Change, error: &WriteError) -> RpcError {
    match (change, error) {
        (Change::Resume(_), WriteError::InDoubt(why)) => RpcError::new(
            ErrorCode::PartlyDone,
            format!(
                "it may have been resumed: {why}; look at `gatectl status`, and resume again if it is still halted"
            ),
        ),
        (Change::Resume(_), WriteError::Unwritable(why)) => {
            RpcError::new(ErrorCode::NotReady, format!("still halted: {why}"))
        }
        (_, WriteError::InDoubt(why)) => RpcError::new(
            ErrorCode::PartlyDone,
            format!("halted on this gateway; whether the others hear of it is not known yet: {why}; it is tried again"),
        ),
        (_, WriteError::Unwritable(why)) => RpcError::new(
            ErrorCode::PartlyDone,
            format!("halted on this gateway only: {why}; the others follow when it can be written"),
        ),
        (_, WriteError::Conflict(entry)) => conflict(entry),
    }
}

fn conflict(entry: &HaltEntry) -> RpcError {
    RpcError::new(
        ErrorCode::Halted,
        format!("{} was halted again at {} ({}): look, then resume once more", entry.target, entry.since, entry.reason),
    )
}

/// A reason as it is kept: on one line, and of a length that is written everywhere.
fn plain_reason(reason: &str) -> String {
    reason.chars().take(MAX_REASON).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The target of a key that somebody wrote.
fn key_target(caller: &Caller, key: &Name) -> Result<HaltTarget, RpcError> {
    if !caller.sees_all {
        return Err(RpcError::new(ErrorCode::NotPermitted, "key: it takes whoever runs the gateways"));
    }
    let legal = |part: &str| {
        !part.is_empty() && part.chars().all(|c| !c.is_whitespace() && !"*>".contains(c) && !c.is_control())
    };
    if key.len() > MAX_KEY || !key.split('.').all(legal) {
        return Err(bad(&format!(
            "key: write it as `gatectl status` and the log show it, 1 to {MAX_KEY} bytes without spaces, `*` and `>`"
        )));
    }
    Ok(HaltTarget::of_key(key))
}

/// How to end what no other words end.
fn way_out(target: &HaltTarget) -> String {
    if target.scope != HaltScope::Unknown {
        return String::new();
    }
    format!("; whoever runs the gateways ends it with: gatectl resume --key '{}'", target.target)
}

fn is_other_gateways(engine: &Engine, target: &HaltTarget) -> bool {
    target.scope == HaltScope::Gateway && target.target != engine.options.gateway
}

/// Whether there may be any number of such targets.
fn is_one_of_many(engine: &Engine, target: &HaltTarget) -> bool {
    match target.scope {
        HaltScope::All | HaltScope::Gateway => false,
        HaltScope::Account => engine.state.account(&target.target).is_none(),
        HaltScope::Owner | HaltScope::Unknown => true,
    }
}

fn unknown_reason(why: &str) -> String {
    format!("the halts in the NATS bucket `{}` are not known: {why}", protocol::halt::BUCKET)
}

fn refuse(entry: &HaltEntry, more: &str) -> RpcError {
    let reason = if entry.reason.is_empty() { "no reason given" } else { &entry.reason };
    RpcError::new(
        ErrorCode::Halted,
        format!("new orders are halted for {}: {reason}{more}{}", entry.target, way_out(&entry.target)),
    )
}

fn bad(message: &str) -> RpcError {
    RpcError::new(ErrorCode::BadRequest, message)
}

#[cfg(test)]
mod tests;
