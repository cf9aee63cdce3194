//! Which changes of positions and accounts are journalled at once, and which wait: those that only follow the market
//! go out at most once a second per key.

use std::collections::BTreeMap;

use protocol::event::OmsEvent;
use protocol::oms::PositionKey;
use protocol::{Account, Name, Position};

use super::{Effects, Engine, Now};
use crate::risk;

/// Newest marks that wait for the timer; one per position and account.
#[derive(Default)]
pub(super) struct Marks {
    positions: BTreeMap<PositionKey, Position>,
    accounts: BTreeMap<Name, Account>,
}

fn only_marks_position(old: &Position, new: &Position) -> bool {
    old.volume == new.volume && old.frozen == new.frozen && old.yd_volume == new.yd_volume && old.price == new.price
}

fn only_marks_account(old: &Account, new: &Account) -> bool {
    old.frozen == new.frozen && old.commission == new.commission && old.close_profit == new.close_profit
}

impl Engine {
    pub(super) fn on_position(&mut self, now: Now, position: Position, out: &mut Effects) {
        let key = PositionKey::from(&position);
        match self.state.positions().get(&key) {
            // Fills were told of that it includes.
            _ if self.counters.is_news(&key) => {
                self.record(now, OmsEvent::Position(position), out);
            }
            // A flat position that was never held is no news.
            None if position.volume == 0.0 && position.frozen == 0.0 => {}
            Some(old) if only_marks_position(old, &position) => {
                self.marks.positions.insert(key, position);
            }
            _ => {
                self.record(now, OmsEvent::Position(position), out);
            }
        }
    }

    pub(super) fn on_account(&mut self, now: Now, account: Account, out: &mut Effects) {
        match self.state.account(&account.accountid) {
            Some(old) if only_marks_account(old, &account) => {
                self.marks.accounts.insert(account.accountid.clone(), account);
            }
            _ => {
                self.record(now, OmsEvent::Account(account), out);
            }
        }
    }

    /// After a complete snapshot: what it does not list is flat, whatever was filled before.
    pub(super) fn settle_unlisted(&mut self, now: Now, listed: &[Position], out: &mut Effects) {
        let is_listed = |key: &PositionKey| listed.iter().any(|position| risk::tells(&position.into(), key));
        let unlisted: Vec<PositionKey> =
            self.counters.untold_positions().filter(|key| !is_listed(key)).cloned().collect();
        for PositionKey { symbol, exchange, direction } in unlisted {
            let flat = Position {
                gateway_name: self.options.gateway.clone(),
                symbol,
                exchange,
                direction,
                volume: 0.0,
                frozen: 0.0,
                price: 0.0,
                pnl: 0.0,
                yd_volume: 0.0,
                extra: None,
            };
            self.record(now, OmsEvent::Position(flat), out);
        }
    }

    /// Whether an event that changes no state is news all the same.
    pub(super) fn is_news(&self, event: &OmsEvent) -> bool {
        matches!(event, OmsEvent::Position(position) if self.counters.is_news(&position.into()))
    }

    /// Whatever is recorded of a position or an account is newer than a mark that waits: going out later, the mark
    /// would bring back what is over.
    pub(super) fn forget_mark(&mut self, event: &OmsEvent) {
        match event {
            OmsEvent::Position(position) => drop(self.marks.positions.remove(&position.into())),
            OmsEvent::Account(account) => drop(self.marks.accounts.remove(&account.accountid)),
            OmsEvent::Order(_) | OmsEvent::Trade(_) | OmsEvent::Quote(_) => {}
        }
    }

    pub(super) fn flush_marks(&mut self, now: Now, out: &mut Effects) {
        // A stuck journal is not filled up with marks: only the newest of each is kept.
        if self.journal_backlog() > self.options.max_journal_backlog {
            return;
        }
        let marks = std::mem::take(&mut self.marks);
        // What was filled since is not in a mark that waited.
        for (key, position) in marks.positions {
            if !self.counters.is_news(&key) {
                self.record(now, OmsEvent::Position(position), out);
            }
        }
        for account in marks.accounts.into_values() {
            self.record(now, OmsEvent::Account(account), out);
        }
    }
}
