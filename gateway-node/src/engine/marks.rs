//! Which changes of positions and accounts are journalled at once, and which wait: those that only follow the market
//! go out at most once a second per key.

use std::collections::BTreeMap;

use protocol::event::OmsEvent;
use protocol::oms::PositionKey;
use protocol::{Account, Name, Position};

use super::{Effects, Engine, Now};

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
        for position in marks.positions.into_values() {
            self.record(now, OmsEvent::Position(position), out);
        }
        for account in marks.accounts.into_values() {
            self.record(now, OmsEvent::Account(account), out);
        }
    }
}
