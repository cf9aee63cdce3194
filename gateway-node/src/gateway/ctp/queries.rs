//! Flow control of queries: one under way at a time, one a second, each with a deadline of its own. Orders never pass
//! here. No I/O and no clock.

use std::collections::VecDeque;
use std::time::Duration;

use ctp::Request;

/// A query without its next row for this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// The instruments may take long to be gathered.
const INSTRUMENTS_PATIENCE: Duration = Duration::from_secs(60);

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Query {
    /// All instruments.
    Instruments,
    /// Today's orders.
    Orders,
    /// Today's trades.
    Trades,
    /// All positions.
    Positions,
    /// The account.
    Account,
}

impl Query {
    /// The request that asks for it.
    #[must_use]
    pub fn request(self) -> Request {
        match self {
            Query::Instruments => Request::QueryInstruments,
            Query::Orders => Request::QueryOrders,
            Query::Trades => Request::QueryTrades,
            Query::Positions => Request::QueryPositions,
            Query::Account => Request::QueryAccount,
        }
    }

    /// The query that a request asks, if it asks one.
    #[must_use]
    pub fn of_request(request: &Request) -> Option<Query> {
        const ALL: [Query; 5] = [Query::Instruments, Query::Orders, Query::Trades, Query::Positions, Query::Account];
        ALL.into_iter().find(|query| query.request() == *request)
    }

    /// How long a row may take.
    const fn patience(self) -> Duration {
        match self {
            Query::Instruments => INSTRUMENTS_PATIENCE,
            Query::Orders | Query::Trades | Query::Positions | Query::Account => PATIENCE,
        }
    }

    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Query::Instruments => "ReqQryInstrument",
            Query::Orders => "ReqQryOrder",
            Query::Trades => "ReqQryTrade",
            Query::Positions => "ReqQryInvestorPosition",
            Query::Account => "ReqQryTradingAccount",
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Queries {
    /// Between two of them.
    interval: Duration,
    /// In the order of their turns, each once.
    waiting: VecDeque<Query>,
    under_way: Option<UnderWay>,
    /// Not before this.
    next: Duration,
    /// CTP has not taken the one whose turn it is, since then.
    refused_since: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct UnderWay {
    query: Query,
    number: i32,
    due: Duration,
}

impl Queries {
    /// None waits.
    #[must_use]
    pub fn new(interval: Duration) -> Queries {
        Queries { interval, waiting: VecDeque::new(), under_way: None, next: Duration::ZERO, refused_since: None }
    }

    /// Everything is forgotten: the session is over.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.under_way = None;
        self.refused_since = None;
    }

    /// Asks when its turn comes. One that waits already is asked once.
    pub fn want(&mut self, query: Query) {
        if !self.waiting.contains(&query) {
            self.waiting.push_back(query);
        }
    }

    /// The query whose turn it is now; whoever sends it says so with [`Queries::sent`] or [`Queries::not_taken`].
    #[must_use]
    pub fn turn(&self, now: Duration) -> Option<Query> {
        (self.under_way.is_none() && self.next <= now).then(|| self.waiting.front().copied()).flatten()
    }

    /// The query whose turn it was is under way under this number.
    pub fn sent(&mut self, now: Duration, number: i32) {
        let Some(query) = self.waiting.pop_front() else { return };
        self.under_way = Some(UnderWay { query, number, due: now + query.patience() });
        self.next = now + self.interval;
        self.refused_since = None;
    }

    /// Rows come: the answer may take as long as it needs to.
    pub fn goes_on(&mut self, now: Duration) {
        if let Some(under_way) = &mut self.under_way {
            under_way.due = now + under_way.query.patience();
        }
    }

    /// Since when CTP has taken nothing, if it has refused the last one.
    #[must_use]
    pub fn waits_since(&self) -> Option<Duration> {
        self.refused_since
    }

    /// CTP did not take the query whose turn it was: it keeps its turn. Too many at a time (-2) or a second (-3) end by
    /// themselves; so does a lost connection (-1), or the session with it.
    pub fn not_taken(&mut self, now: Duration) {
        self.next = now + self.interval;
        self.refused_since.get_or_insert(now);
    }

    /// Which query this number is of, if it is the one under way.
    #[must_use]
    pub fn of(&self, number: i32) -> Option<Query> {
        self.under_way.filter(|under_way| under_way.number == number).map(|under_way| under_way.query)
    }

    /// The query under way has come to its end.
    pub fn done(&mut self) {
        self.under_way = None;
    }

    /// A query whose answer is late is over; later rows of it are nobody's.
    pub fn expire(&mut self, now: Duration) -> Option<Query> {
        let late = self.under_way.filter(|under_way| under_way.due <= now)?;
        self.under_way = None;
        Some(late.query)
    }

    /// When there will be something to do.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        match self.under_way {
            Some(under_way) => Some(under_way.due),
            None => (!self.waiting.is_empty()).then_some(self.next),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn one_at_a_time_and_one_a_second() {
        let mut queries = Queries::new(SECOND);
        queries.want(Query::Account);
        queries.want(Query::Positions);
        queries.want(Query::Account);
        assert_eq!(queries.turn(SECOND), Some(Query::Account));
        queries.sent(SECOND, 7);
        assert_eq!((queries.of(7), queries.of(6)), (Some(Query::Account), None));
        assert_eq!(queries.turn(SECOND * 5), None, "one is under way");
        queries.done();
        assert_eq!(queries.turn(SECOND * 2 - Duration::from_millis(1)), None, "not within a second");
        assert_eq!(queries.turn(SECOND * 2), Some(Query::Positions));
        queries.sent(SECOND * 2, 8);
        queries.done();
        assert_eq!((queries.turn(SECOND * 9), queries.due()), (None, None));
    }

    #[test]
    fn what_is_not_taken_keeps_its_turn_and_comes_later() {
        let mut queries = Queries::new(SECOND);
        queries.want(Query::Orders);
        queries.want(Query::Trades);
        queries.not_taken(SECOND);
        assert_eq!((queries.turn(SECOND), queries.due()), (None, Some(SECOND * 2)));
        assert_eq!(queries.turn(SECOND * 2), Some(Query::Orders));
    }

    #[test]
    fn an_answer_that_never_ends_is_given_up() {
        let mut queries = Queries::new(SECOND);
        queries.want(Query::Orders);
        queries.sent(SECOND, 1);
        let due = queries.due().expect("it has a deadline");
        assert_eq!(queries.expire(due - Duration::from_millis(1)), None);
        assert_eq!((queries.expire(due), queries.of(1)), (Some(Query::Orders), None));
    }

    proptest! {
        /// However it is asked and answered: never two at a time, never two within a second, and nothing that is wanted
        /// is forgotten.
        #[test]
        fn the_counter_is_never_asked_too_much(steps in proptest::collection::vec((0..6_u8, 0..1_500_u64), 1..200)) {
            const ALL: [Query; 4] = [Query::Orders, Query::Trades, Query::Positions, Query::Account];
            let mut queries = Queries::new(SECOND);
            let (mut now, mut last, mut number) = (Duration::ZERO, None, 0);
            let mut owed = std::collections::HashSet::new();
            for (step, wait) in steps {
                now += Duration::from_millis(wait);
                if let Some(query) = ALL.get(usize::from(step)) {
                    queries.want(*query);
                    owed.insert(*query);
                } else if step == 4 {
                    queries.done();
                }
                queries.expire(now);
                if let Some(query) = queries.turn(now) {
                    prop_assert!(last.is_none_or(|last| now - last >= SECOND), "two within a second");
                    prop_assert_eq!(queries.of(number), None, "two at a time");
                    last = Some(now);
                    if step == 5 {
                        queries.not_taken(now);
                    } else {
                        number += 1;
                        queries.sent(now, number);
                        prop_assert!(owed.remove(&query));
                    }
                }
            }
            for _ in 0..ALL.len() {
                queries.done();
                now += SECOND;
                if let Some(query) = queries.turn(now) {
                    queries.sent(now, 0);
                    owed.remove(&query);
                }
            }
            prop_assert!(owed.is_empty(), "{owed:?} were forgotten");
        }
    }
}
