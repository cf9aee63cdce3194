//! What queries bring, until it is complete: rows of positions and accounts, who asked for them, and the snapshot, which
//! takes one round of all four queries. What is told live meanwhile is part of it, so that it is never older than what
//! the node has heard.

use std::collections::{BTreeMap, HashMap, HashSet};

use compact_str::CompactString;
use ctp::records::{AccountRecord, PositionRecord};
use ctp::{account, position};
use protocol::{Account, Contract, Direction, Exchange, InstrumentId, LogLevel, Name, Position};

use super::super::line;
use super::super::orders::Orders;
use super::super::queries::Query;
use super::answered;
use crate::gateway::{LivingSessions, QueryToken, VenueEvent, VenueOrder, VenueReference, VenueSnapshot, VenueTrade};

/// Most answers in a row that are thrown away because fills came meanwhile.
const MOST_THROWN_AWAY: u32 = 3;
/// The queries that make a snapshot.
pub(super) const ROUND: [Query; 4] = [Query::Orders, Query::Trades, Query::Positions, Query::Account];

/// See the module.
pub(super) struct Books {
    gateway: Name,
    positions: Vec<PositionRecord>,
    accounts: Vec<AccountRecord>,
    /// Who asked, and waits for a query that is sent from now on.
    waiting: Vec<(Query, QueryToken)>,
    /// Who waits for the query that is under way.
    riding: Vec<(Query, QueryToken)>,
    round: Option<Round>,
    /// Snapshots that were asked for since the round began.
    asked: u32,
    /// A fill was heard since the query for positions was sent: its answer may lack it.
    filled: bool,
    /// A round needs the positions once more.
    wants_positions: bool,
    /// How often in a row an answer was thrown away for that.
    thrown_away: u32,
    /// Positions as they were last told: one that is listed no more is flat.
    told: BTreeMap<PositionKey, Position>,
    /// Instruments of holdings that cannot be read: told once a session.
    unread_holdings: HashSet<CompactString>,
    /// Accounts that cannot be read: told once a session.
    unread_accounts: HashSet<CompactString>,
}

type PositionKey = (InstrumentId, Direction);

/// A snapshot on its way.
#[derive(Default)]
struct Round {
    /// How often it was asked for before it began.
    asks: u32,
    begun: Vec<Query>,
    done: Vec<Query>,
    /// How often the positions were asked for again.
    repeated: u32,
    /// In the order in which they were heard of.
    orders: Vec<VenueReference>,
    heard: HashSet<VenueReference>,
    trades: Vec<VenueTrade>,
    /// Those in it: what is told live and listed too is one trade.
    traded: HashSet<(Exchange, Direction, Name)>,
    positions: Vec<Position>,
    accounts: Vec<Account>,
}

impl Books {
    pub(super) fn new(gateway: Name) -> Books {
        Books {
            gateway,
            positions: Vec::new(),
            accounts: Vec::new(),
            waiting: Vec::new(),
            riding: Vec::new(),
            round: None,
            asked: 0,
            filled: false,
            wants_positions: false,
            thrown_away: 0,
            told: BTreeMap::new(),
            unread_holdings: HashSet::new(),
            unread_accounts: HashSet::new(),
        }
    }

    /// The session is over: nobody waits for anything any more. What was told of positions is remembered, so that those
    /// that are gone when it is back are told to be flat.
    pub(super) fn forget_session(&mut self) {
        let told = std::mem::take(&mut self.told);
        *self = Books { told, ..Books::new(self.gateway.clone()) };
    }

    pub(super) fn ask(&mut self, query: Query, token: QueryToken) {
        self.waiting.push((query, token));
    }

    /// Whether a round begins now; otherwise the next one follows this one.
    pub(super) fn ask_for_snapshot(&mut self) -> bool {
        self.asked += 1;
        self.wants_round()
    }

    /// Begins the next round, if one is wanted and none is under way.
    pub(super) fn wants_round(&mut self) -> bool {
        if self.round.is_some() || self.asked == 0 {
            return false;
        }
        self.round = Some(Round { asks: std::mem::take(&mut self.asked), ..Round::default() });
        true
    }

    /// Whether a snapshot is on its way.
    pub(super) fn has_round(&self) -> bool {
        self.round.is_some()
    }

    /// A query is sent: what it brings is for all who have asked until now.
    pub(super) fn begin(&mut self, query: Query) {
        match query {
            Query::Positions => {
                self.positions.clear();
                self.filled = false;
            }
            Query::Account => self.accounts.clear(),
            Query::Instruments | Query::Orders | Query::Trades => {}
        }
        let (riding, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|(of, _)| *of == query);
        self.waiting = waiting;
        self.riding = riding;
        if let Some(round) = &mut self.round {
            round.begun.push(query);
        }
    }

    pub(super) fn position_row(&mut self, record: PositionRecord) {
        self.positions.push(record);
    }

    pub(super) fn account_row(&mut self, record: AccountRecord) {
        self.accounts.push(record);
    }

    pub(super) fn heard_order(&mut self, reference: &VenueReference) {
        if let Some(round) = &mut self.round
            && round.heard.insert(reference.clone())
        {
            round.orders.push(reference.clone());
        }
    }

    /// Whether the positions must be asked for again before they are told: a fill was told since, and what was answered
    /// may not contain it. Where fills never stop they are told all the same, a few answers later.
    pub(super) fn must_ask_again(&mut self, query: Query) -> bool {
        let must = query == Query::Positions && self.filled && self.thrown_away < MOST_THROWN_AWAY;
        if query == Query::Positions {
            self.thrown_away = if must { self.thrown_away + 1 } else { 0 };
        }
        if must {
            // Whoever waits for it waits for the next one.
            self.waiting.append(&mut self.riding);
        }
        must
    }

    /// Whether all four queries have brought what the snapshot needs. Positions that may lack a fill which it tells are
    /// asked for again, a few times.
    fn is_round_complete(&mut self) -> bool {
        let Some(round) = &mut self.round else { return false };
        if !ROUND.iter().all(|query| round.done.contains(query)) {
            return false;
        }
        if !self.filled || round.repeated >= MOST_THROWN_AWAY {
            return true;
        }
        round.repeated += 1;
        round.done.retain(|query| *query != Query::Positions);
        self.wants_positions = true;
        false
    }

    /// Whether the snapshot on its way needs the positions once more.
    pub(super) fn wants_positions(&mut self) -> bool {
        std::mem::take(&mut self.wants_positions)
    }

    /// An order is told, with fills that its trades may tell later.
    pub(super) fn heard_traded(&mut self, order: &VenueOrder) {
        self.filled |= order.traded > 0.0;
    }

    /// A fill is told live.
    pub(super) fn heard_trade(&mut self, trade: &VenueTrade) {
        self.filled = true;
        self.listed_trade(trade);
    }

    /// A fill is listed by the query for trades, which is answered ahead of the one for positions.
    pub(super) fn listed_trade(&mut self, trade: &VenueTrade) {
        if let Some(round) = &mut self.round
            && round.traded.insert((trade.instrument.exchange, trade.direction, trade.tradeid.clone()))
        {
            round.trades.push(trade.clone());
        }
    }

    /// A query has failed, and with it the round that it was of. Who asked for it is returned.
    pub(super) fn failed(&mut self, query: Query) -> Vec<QueryToken> {
        let is_lost = |round: &Round| round.begun.contains(&query) && !round.done.contains(&query);
        if let Some(round) = self.round.take_if(|round| is_lost(round)) {
            // Whoever asked is answered by the next one.
            self.asked += round.asks;
        }
        std::mem::take(&mut self.riding).into_iter().map(|(_, token)| token).collect()
    }

    /// What the node is told when a query has come to its end.
    pub(super) fn told(
        &mut self,
        query: Query,
        contracts: &HashMap<CompactString, Contract>,
        orders: &Orders,
        session: Option<Name>,
    ) -> Vec<VenueEvent> {
        let mut events = Vec::new();
        match query {
            Query::Positions => {
                let positions = self.read_positions(contracts, &mut events);
                events.extend(self.flat(&positions).into_iter().map(VenueEvent::Position));
                events.extend(positions.iter().cloned().map(VenueEvent::Position));
                self.told = positions.iter().map(|position| (key(position), position.clone())).collect();
                if let Some(round) = self.round_of(query) {
                    round.positions = positions;
                }
            }
            Query::Account => {
                let accounts = self.read_accounts(&mut events);
                events.extend(accounts.iter().cloned().map(VenueEvent::Account));
                if let Some(round) = self.round_of(query) {
                    round.accounts = accounts;
                }
            }
            Query::Instruments | Query::Orders | Query::Trades => {}
        }
        events.extend(std::mem::take(&mut self.riding).into_iter().map(|(_, token)| answered(token)));
        if let Some(round) = self.round_of(query) {
            round.done.push(query);
        }
        if self.is_round_complete()
            && let Some(round) = self.round.take()
        {
            events.extend(snapshots(round, orders, session));
        }
        events
    }

    /// The round, if the query was sent for it.
    fn round_of(&mut self, query: Query) -> Option<&mut Round> {
        self.round.as_mut().filter(|round| round.begun.contains(&query))
    }

    fn read_positions(
        &mut self,
        contracts: &HashMap<CompactString, Contract>,
        events: &mut Vec<VenueEvent>,
    ) -> Vec<Position> {
        let read = position::positions(&self.gateway, &self.positions, |symbol| contracts.get(symbol));
        for (row, why) in &read.unread {
            if self.unread_holdings.insert(row.symbol.clone()) {
                let message = format!("a holding of {} lots stays as it was told before: {why}", row.position);
                events.push(line(LogLevel::Error, message));
            }
        }
        let mut positions = read.positions;
        let is_unread = |symbol: &str| read.unread.iter().any(|(row, _)| row.symbol == symbol);
        let read: HashSet<PositionKey> = positions.iter().map(key).collect();
        let kept = self.told.iter().filter(|(key, told)| is_unread(&told.symbol) && !read.contains(key));
        positions.extend(kept.map(|(_, told)| told.clone()));
        positions
    }

    fn read_accounts(&mut self, events: &mut Vec<VenueEvent>) -> Vec<Account> {
        let mut accounts = Vec::new();
        for record in &self.accounts {
            match account::account(&self.gateway, record) {
                Ok(account) => accounts.push(account),
                Err(error) if self.unread_accounts.insert(record.account.clone()) => {
                    let message = format!("an account is told to nobody: {error}");
                    events.push(line(LogLevel::Error, message));
                }
                Err(_) => {}
            }
        }
        accounts
    }

    /// What was told before and is held no more.
    fn flat(&self, held: &[Position]) -> Vec<Position> {
        let held: HashSet<PositionKey> = held.iter().map(key).collect();
        let gone = self.told.iter().filter(|(key, _)| !held.contains(key));
        gone.map(|(_, position)| Position { volume: 0.0, frozen: 0.0, yd_volume: 0.0, pnl: 0.0, ..position.clone() })
            .collect()
    }
}

fn key(position: &Position) -> PositionKey {
    (InstrumentId { symbol: position.symbol.clone(), exchange: position.exchange }, position.direction)
}

/// One for each time that it was asked for: they are counted.
fn snapshots(round: Round, orders: &Orders, session: Option<Name>) -> Vec<VenueEvent> {
    let session = session.unwrap_or_default();
    let snapshot = VenueSnapshot {
        // Another session of the same user goes on trading, for CTP ends none; but an order lives for a trading day, and
        // the list is of one alone.
        living: LivingSessions::since_day_of(&session),
        session,
        orders: round.orders.iter().filter_map(|reference| orders.get(reference).cloned()).collect(),
        trades: round.trades,
        quotes: Vec::new(),
        positions: round.positions,
        accounts: round.accounts,
    };
    let snapshot = VenueEvent::Snapshot(Box::new(snapshot));
    vec![snapshot; round.asks as usize]
}
