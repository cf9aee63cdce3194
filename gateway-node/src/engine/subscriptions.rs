//! Market data subscriptions, counted per caller: one caller's `unsubscribe` never stops another's ticks.

use std::collections::{BTreeMap, BTreeSet};

use protocol::journal::Private;
use protocol::rpc::Done;
use protocol::{ErrorCode, InstrumentId, LogLevel, Name, RpcError};

use super::{Caller, Effect, Effects, Engine, Now, ReplyTo, VenueCommand, encode};

/// The caller that stands for the node's own configuration.
const CONFIGURED: &str = "(configuration)";
/// Most callers of one instrument: beyond it something forgets to name itself.
const MAX_CALLERS: usize = 1_000;

/// Who wants which ticks.
pub(super) struct Subscriptions {
    callers: BTreeMap<InstrumentId, BTreeSet<Name>>,
    /// What the adapter was asked for in this session and did not refuse.
    asked: BTreeSet<InstrumentId>,
}

impl Subscriptions {
    pub fn new(journalled: BTreeSet<(InstrumentId, Name)>) -> Self {
        let mut callers: BTreeMap<InstrumentId, BTreeSet<Name>> = BTreeMap::new();
        for (instrument, caller) in journalled {
            callers.entry(instrument).or_default().insert(caller);
        }
        Subscriptions { callers, asked: BTreeSet::new() }
    }

    /// Who wants which ticks, the configuration's own wishes aside.
    pub fn all(&self) -> Vec<(InstrumentId, Name)> {
        let one = |instrument: &InstrumentId, caller: &Name| (instrument.clone(), caller.clone());
        let each = self.callers.iter().flat_map(|(i, callers)| callers.iter().map(move |caller| one(i, caller)));
        each.filter(|(_, caller)| caller != CONFIGURED).collect()
    }

    pub fn len(&self) -> usize {
        self.callers.len()
    }
}

fn caller_key(caller: &Caller) -> Name {
    Name::from(format!("{}/{}", caller.owner, caller.client))
}

impl Engine {
    pub(super) fn subscribe(
        &mut self,
        reply: ReplyTo,
        caller: &Caller,
        instrument: InstrumentId,
        out: &mut Effects,
    ) -> Result<(), RpcError> {
        self.contract(&instrument)?;
        self.check_journal_keeps_up()?;
        let callers = self.subscriptions.callers.entry(instrument.clone()).or_default();
        let key = caller_key(caller);
        if callers.len() >= MAX_CALLERS && !callers.contains(&key) {
            return Err(RpcError::new(
                ErrorCode::Overloaded,
                format!("{instrument} has {MAX_CALLERS} callers already: give your program a name that stays the same"),
            ));
        }
        if callers.insert(key.clone()) {
            self.record_private(
                Private::Subscription { instrument: instrument.clone(), caller: key, wanted: true },
                out,
            );
        }
        if self.session.is_logged_in() && self.subscriptions.asked.insert(instrument.clone()) {
            out.push(Effect::Venue(VenueCommand::Subscribe(vec![instrument], Some(reply))));
        } else {
            out.push(Effect::ReplyNow(reply, encode(&Done {})));
        }
        Ok(())
    }

    pub(super) fn unsubscribe(
        &mut self,
        reply: ReplyTo,
        caller: &Caller,
        instrument: InstrumentId,
        out: &mut Effects,
    ) -> Result<(), RpcError> {
        self.check_journal_keeps_up()?;
        let key = caller_key(caller);
        if let Some(callers) = self.subscriptions.callers.get_mut(&instrument)
            && callers.remove(&key)
        {
            if callers.is_empty() {
                self.subscriptions.callers.remove(&instrument);
                self.subscriptions.asked.remove(&instrument);
                if self.session.is_logged_in() {
                    out.push(Effect::Venue(VenueCommand::Unsubscribe(vec![instrument.clone()])));
                }
            }
            self.record_private(Private::Subscription { instrument, caller: key, wanted: false }, out);
        }
        out.push(Effect::ReplyNow(reply, encode(&Done {})));
        Ok(())
    }

    /// The adapter did not take a subscription: whoever asks next makes it asked again.
    pub fn on_not_subscribed(&mut self, instruments: &[InstrumentId]) {
        for instrument in instruments {
            self.subscriptions.asked.remove(instrument);
        }
    }

    /// At each login: everything that anybody wants, in one command.
    pub(super) fn subscribe_wanted(&mut self, now: Now, out: &mut Effects) {
        for filter in self.options.subscribe.clone() {
            let gateway = self.options.gateway.clone();
            let matching: Vec<_> =
                self.contracts.keys().filter(|i| filter.matches(i, &gateway, None)).cloned().collect();
            if matching.is_empty() {
                let why = match (&filter.symbol, filter.exchange) {
                    (Some(symbol), Some(exchange)) => {
                        let wanted = InstrumentId { symbol: symbol.clone(), exchange };
                        self.contract(&wanted).err().map(|e| e.message).unwrap_or_default()
                    }
                    _ => format!("no contract matches {filter:?}"),
                };
                self.log(now, LogLevel::Error, format!("a configured subscription matches nothing: {why}"), out);
            }
            for instrument in matching {
                self.subscriptions.callers.entry(instrument).or_default().insert(CONFIGURED.into());
            }
        }
        let wanted: Vec<_> = self.subscriptions.callers.keys().cloned().collect();
        let (known, gone): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|i| self.contracts.contains_key(i));
        for instrument in gone {
            self.log(now, LogLevel::Warning, format!("{instrument} was subscribed and is no longer listed"), out);
        }
        self.subscriptions.asked = known.iter().cloned().collect();
        if !known.is_empty() {
            out.push(Effect::Venue(VenueCommand::Subscribe(known, None)));
        }
    }
}
