//! What the gateway does with what the counter says, and with what it is asked: the login, the flow of queries, the
//! orders, the snapshots. Inputs go in, effects come out; no I/O and no clock.

mod books;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use compact_str::CompactString;
use ctp::records::{Failure, Instrument, Login, OrderRecord, RefusedAction, RefusedOrder, Row, TradeRecord};
use ctp::requests::InsertOrder;
use ctp::{Request, TraderEvent, contract, dates, trading};
use protocol::{Contract, LogLevel, Name, OrderRequest, Timestamp};

use self::books::Books;
use super::line;
use super::orders::{Cancel, Orders, SessionKey, Taken, Unusable};
use super::queries::{Queries, Query};
use super::session::{self, Session, Step};
use crate::gateway::{Answer, GatewayError, QueryToken, VenueEvent, VenueReference};

/// Records that are kept until the contracts are known. Were there more, the first snapshot tells it all.
const MAX_EARLY: usize = 200_000;
/// `CTP:还没有登录`, from CTP's error.xml.
const NOT_LOGGED_IN: i32 = 6;
/// So many queries in a row without an answer, and nothing else heard for [`MUTE_TIME`]: the counter is mute.
const MUTE: u32 = 2;
/// See [`MUTE`]: about what two queries are given.
const MUTE_TIME: Duration = Duration::from_secs(40);
/// A library that loses its front more often than this within [`HAMMERING_TIME`] hammers it: 6.7.2 connects again at once,
/// 700 times a second, to a front that hangs up.
const HAMMERING: u32 = 20;
/// See [`HAMMERING`].
const HAMMERING_TIME: Duration = Duration::from_secs(2);
/// A query that CTP has not taken for this long never will be: the session ends, and the next one begins anew.
const MOST_WAIT: Duration = Duration::from_secs(30);
/// A session ends for the same later trading day no more often than this.
const ODD_DAY_AGAIN: Duration = Duration::from_secs(600);
/// Account and positions are asked for in turn, this often.
const REFRESH: Duration = Duration::from_secs(2);

/// What a desk is told about itself.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The gateway's name.
    pub gateway: Name,
    /// Whether there is an auth code.
    pub has_auth_code: bool,
    /// How many fronts there are.
    pub fronts: usize,
    /// Between two queries.
    pub query_interval: Duration,
    /// The library and its version, for people.
    pub venue: Name,
    /// Requests count from here: anywhere, so that two processes' requests are not taken for each other's.
    pub first_number: i32,
}

/// What is to be done, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Release the library's object, and make another one that connects anew.
    Renew,
    /// Release the library's object.
    Release,
    /// The next object of the library begins with another front.
    NextFront,
    /// Send this, and say with [`Desk::on_sent`] what CTP returned.
    Send {
        /// The request's number.
        number: i32,
        /// The request.
        request: Request,
    },
    /// Tell the node.
    Tell(Box<VenueEvent>),
    /// Something that the venue said is lost: the node is to ask for everything.
    Lost,
    /// The contracts are these from now on.
    Contracts(Vec<Contract>),
}

/// See the module.
pub struct Desk {
    settings: Settings,
    session: Session,
    queries: Queries,
    orders: Orders,
    books: Books,
    key: Option<SessionKey>,
    login: Login,
    /// Of this session; all of them from [`Step::Done`] on.
    contracts: HashMap<CompactString, Contract>,
    /// Instruments that Gatemesh has no word for.
    unknown_instruments: u64,
    /// What came before the contracts were known.
    early: VecDeque<TraderEvent>,
    /// More came than are kept, and none is.
    is_early_full: bool,
    /// The session, if its trading day is over and it is not.
    outlived: Option<SessionKey>,
    /// The last later trading day that a record named, and when that ended the session.
    odd_day: Option<(CompactString, Duration)>,
    /// How many trades without their orders were told last.
    waiting_told: usize,
    next_number: i32,
    /// The time of day of the last event: records name times, and not always their days.
    wall: Option<Timestamp>,
    /// When account or positions are asked for again, and which.
    refresh: Option<(Duration, Query)>,
    /// Queries in a row that were not answered, and when the first of them was sent.
    unanswered: (u32, Duration),
    /// When the library said anything last.
    heard: Duration,
    /// How often the front was lost since when.
    losses: (u32, Duration),
}

impl Desk {
    /// A desk that nobody has told to connect.
    #[must_use]
    pub fn new(settings: Settings) -> Desk {
        Desk {
            session: Session::new(settings.has_auth_code, settings.fronts),
            queries: Queries::new(settings.query_interval),
            orders: Orders::default(),
            books: Books::new(settings.gateway.clone()),
            key: None,
            login: Login::default(),
            contracts: HashMap::new(),
            unknown_instruments: 0,
            early: VecDeque::new(),
            is_early_full: false,
            outlived: None,
            odd_day: None,
            waiting_told: 0,
            next_number: settings.first_number,
            wall: None,
            refresh: None,
            unanswered: (0, Duration::ZERO),
            heard: Duration::ZERO,
            losses: (0, Duration::ZERO),
            settings,
        }
    }

    /// Forgets everything: the thread that it ran on came to grief.
    pub fn restart(&mut self) {
        *self = Desk::new(self.settings.clone());
    }

    /// Whether there is a session that takes commands.
    #[must_use]
    pub fn is_logged_in(&self) -> bool {
        self.session.step() == Step::Done
    }

    /// When [`Desk::on_time`] has something to do.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        let refresh = self.refresh.map(|(at, _)| at);
        // Queries wait for a session.
        let queries = if self.key.is_some() { self.queries.due() } else { None };
        [self.session.due(), queries, refresh].into_iter().flatten().min()
    }

    /// Somebody wants a session.
    pub fn connect(&mut self, now: Duration, out: &mut Vec<Effect>) {
        self.drive(now, session::Input::Connect, out);
    }

    /// Nobody wants one any more; the library is released by whoever says so.
    pub fn disconnect(&mut self, now: Duration, out: &mut Vec<Effect>) {
        self.drive(now, session::Input::Disconnect, out);
        self.forget_session();
    }

    /// What must be sent for this order, if it may be; nothing is sent.
    ///
    /// # Errors
    /// If there is no session, or another one than the reference's, or CTP has no such order.
    pub fn submit(&mut self, reference: &VenueReference, order: &OrderRequest) -> Result<(i32, Request), GatewayError> {
        let key = self.key.clone().filter(|_| self.is_logged_in()).ok_or(GatewayError::NotConnected)?;
        if key.name() != reference.session {
            return Err(GatewayError::SessionChanged);
        }
        let insert = insert(reference.number, order)?;
        let number = self.number();
        if !self.orders.sending(&key, reference, order, number) {
            return Err(GatewayError::Refused(format!("the counter has an order {reference} already")));
        }
        Ok((number, Request::InsertOrder(insert)))
    }

    /// CTP did not take the order.
    pub fn not_submitted(&mut self, reference: &VenueReference) {
        self.orders.not_sent(reference);
    }

    /// How to cancel an order.
    ///
    /// # Errors
    /// If there is no session, or the counter has told of no such order.
    pub fn cancel(&self, reference: &VenueReference) -> Result<Cancel, GatewayError> {
        self.check_login()?;
        let unknown = || GatewayError::Refused(format!("the counter has told of no order {reference} today"));
        self.orders.cancel(reference).ok_or_else(unknown)
    }

    /// Asks for account or positions on behalf of this question.
    ///
    /// # Errors
    /// If there is no session.
    pub fn ask(&mut self, query: Query, token: QueryToken) -> Result<(), GatewayError> {
        self.check_login()?;
        self.books.ask(query, token);
        self.queries.want(query);
        Ok(())
    }

    /// Asks for everything.
    ///
    /// # Errors
    /// If there is no session.
    pub fn ask_for_snapshot(&mut self) -> Result<(), GatewayError> {
        self.check_login()?;
        if self.books.ask_for_snapshot() {
            self.want_all();
        }
        Ok(())
    }

    /// The trader library speaks; `wall` is the time of day.
    pub fn on_event(&mut self, now: Duration, wall: Timestamp, event: TraderEvent, out: &mut Vec<Effect>) {
        self.wall = Some(wall);
        self.heard = now;
        match event {
            TraderEvent::FrontConnected => self.drive(now, session::Input::FrontConnected, out),
            TraderEvent::FrontDisconnected { reason } => {
                let has_unsent = self.orders.has_unconfirmed();
                self.drive(now, session::Input::FrontDisconnected { reason, has_unsent }, out);
                self.note_loss(now, out);
            }
            TraderEvent::Authenticated { failure, .. } => {
                self.drive(now, session::Input::Authenticated(failure), out);
            }
            TraderEvent::LoggedIn { outcome, .. } => self.drive(now, session::Input::LoggedIn(outcome), out),
            TraderEvent::LoggedOut => self.drive(now, session::Input::LoggedOut, out),
            TraderEvent::SettlementConfirmed { failure, .. } => {
                self.drive(now, session::Input::SettlementConfirmed(failure), out);
            }
            TraderEvent::Instrument(row) => self.on_instrument(now, row, out),
            early if !self.is_logged_in() && is_of_trading(&early) => {
                if self.early.len() >= MAX_EARLY {
                    self.is_early_full = true;
                    self.early.clear();
                }
                if !self.is_early_full {
                    self.early.push_back(early);
                }
            }
            TraderEvent::QueriedOrder(row) => {
                self.on_row(now, Query::Orders, row, out, |desk, record, out| desk.on_order(&record, true, out));
            }
            TraderEvent::QueriedTrade(row) => {
                self.on_row(now, Query::Trades, row, out, |desk, record, out| desk.on_trade(&record, true, out));
            }
            TraderEvent::Position(row) => {
                self.on_row(now, Query::Positions, row, out, |desk, record, _| desk.books.position_row(record));
            }
            TraderEvent::Account(row) => {
                let day = row.record.as_ref().map(|record| record.trading_day.clone());
                self.on_row(now, Query::Account, row, out, |desk, record, _| desk.books.account_row(record));
                self.notice_day(now, day.as_deref().unwrap_or_default(), out);
            }
            TraderEvent::Order(record) => {
                let is_of = |key: &SessionKey| (record.front_id, record.session_id) == (key.front_id, key.session_id);
                let is_ours = self.key.as_ref().is_some_and(is_of);
                if !is_ours {
                    // Of another session it would be told under the wrong day: the next login brings it again.
                    self.notice_day(now, &record.trading_day, out);
                }
                if self.is_logged_in() {
                    self.on_order(&record, false, out);
                    self.notice_day(now, &record.trading_day, out);
                }
            }
            TraderEvent::Trade(record) => {
                self.on_trade(&record, false, out);
                self.notice_day(now, &record.trading_day, out);
            }
            TraderEvent::InsertRefused { order, failure } => self.on_refused(&order, &failure, true, out),
            TraderEvent::InsertFailed { order, failure } => self.on_refused(&order, &failure, false, out),
            TraderEvent::CancelRefused { action, failure } => {
                self.cancel_refused("counter", &action, &failure, out);
            }
            // The exchange's refusal is told to every session. Orders of earlier ones are cancelled from this one too.
            TraderEvent::CancelFailed { action, failure } => {
                let is_ours = self.key.as_ref().is_some_and(|key| self.orders.is_of(key, &action));
                if is_ours || self.orders.uncancelled(&action).is_some() {
                    self.cancel_refused("exchange", &action, &failure, out);
                }
            }
            TraderEvent::RequestFailed { request, failure } => self.on_request_failed(now, request, &failure, out),
            TraderEvent::Panicked { callback } => {
                out.push(log(LogLevel::Critical, format!("what {callback} said is lost: the code behind it panicked")));
                out.push(Effect::Lost);
            }
        }
    }

    /// What CTP returned for a request that was to be sent.
    pub fn on_sent(&mut self, now: Duration, number: i32, request: &Request, code: i32, out: &mut Vec<Effect>) {
        if let Some(query) = Query::of_request(request) {
            if code == 0 {
                self.books.begin(query);
                self.queries.sent(now, number);
                if self.unanswered.0 == 0 {
                    self.unanswered.1 = now;
                }
            } else {
                self.queries.not_taken(now);
                if code == -1 && self.is_logged_in() {
                    self.drive(now, session::Input::NotTaken(code), out);
                }
            }
        } else if code != 0 {
            self.drive(now, session::Input::NotTaken(code), out);
        }
    }

    /// Time has passed.
    pub fn on_time(&mut self, now: Duration, out: &mut Vec<Effect>) {
        self.drive(now, session::Input::Time, out);
        if let Some(query) = self.queries.expire(now) {
            self.note_unanswered(now, query, out);
        }
        if self.queries.waits_since().is_some_and(|since| since + MOST_WAIT <= now) && self.key.is_some() {
            let why = format!("CTP has taken no query for {} s", MOST_WAIT.as_secs());
            self.drive(now, session::Input::Stuck(why), out);
        }
        if let Some((at, query)) = self.refresh
            && at <= now
            && self.is_logged_in()
        {
            // A snapshot on its way brings both.
            if !self.books.has_round() {
                self.queries.want(query);
            }
            let other = if query == Query::Account { Query::Positions } else { Query::Account };
            self.refresh = Some((now + REFRESH, other));
        }
        if self.key.is_some()
            && let Some(query) = self.queries.turn(now)
        {
            let number = self.number();
            out.push(Effect::Send { number, request: query.request() });
        }
    }

    /// A query was not answered. Orders that a mute counter takes nobody hears of again.
    fn note_unanswered(&mut self, now: Duration, query: Query, out: &mut Vec<Effect>) {
        let quiet = now.saturating_sub(self.heard);
        if query == Query::Instruments && quiet >= MUTE_TIME {
            let quiet = quiet.as_secs();
            let why =
                format!("the counter has not ended its answer to {}, and said nothing for {quiet} s", query.name());
            return self.drive(now, session::Input::Mute(why), out);
        }
        self.query_failed(now, query, "no answer came", out);
        // Without its instruments the session has ended.
        if query == Query::Instruments {
            return;
        }
        self.unanswered.0 += 1;
        let (count, since) = self.unanswered;
        if count < MUTE || !self.is_logged_in() {
            return;
        }
        let time = (now - since).as_secs();
        if now.saturating_sub(self.heard.max(since)) >= MUTE_TIME {
            let why = format!("the counter has said nothing and answered no query for {time} s");
            self.drive(now, session::Input::Mute(why), out);
        } else if count == MUTE {
            let line = format!(
                "the counter has answered no query for {time} s, and still tells of other things: what it does not tell \
                 cannot be looked up"
            );
            out.push(log(LogLevel::Error, line));
        }
    }

    /// The front is lost. A library that does nothing but lose it is stopped until somebody connects.
    fn note_loss(&mut self, now: Duration, out: &mut Vec<Effect>) {
        let (count, since) = &mut self.losses;
        if now.saturating_sub(*since) > HAMMERING_TIME {
            (*count, *since) = (0, now);
        }
        *count += 1;
        if *count == HAMMERING {
            let line = format!(
                "the trader front hung up {HAMMERING} times within {} s: the library rests until the next try",
                HAMMERING_TIME.as_secs()
            );
            out.push(log(LogLevel::Warning, line));
            *count = 0;
            out.push(Effect::Release);
        }
    }

    fn check_login(&self) -> Result<(), GatewayError> {
        if self.is_logged_in() { Ok(()) } else { Err(GatewayError::NotConnected) }
    }

    /// The next request's number.
    pub fn number(&mut self) -> i32 {
        // From 1 again after two thousand million of them; 0 is nobody's.
        self.next_number = self.next_number.checked_add(1).unwrap_or(1);
        self.next_number
    }

    fn drive(&mut self, now: Duration, input: session::Input, out: &mut Vec<Effect>) {
        let Some(output) = self.session.on(now, input) else { return };
        match output {
            session::Output::Authenticate => self.send(Request::Authenticate, out),
            session::Output::Login => self.send(Request::Login, out),
            session::Output::Renew => {
                self.forget_session();
                out.push(Effect::Renew);
            }
            session::Output::Begun(login) => self.begin(now, login, out),
            session::Output::QueryInstruments => {
                self.contracts.clear();
                self.unknown_instruments = 0;
                self.queries.want(Query::Instruments);
            }
            session::Output::Ready => self.ready(now, out),
            session::Output::Ended(reason) => {
                self.forget_session();
                out.push(tell(VenueEvent::Disconnected { reason }));
            }
            session::Output::Silent(reason) => {
                self.forget_session();
                out.push(Effect::NextFront);
                out.push(tell(VenueEvent::Disconnected { reason }));
            }
            session::Output::Refused(reason) => {
                self.forget_session();
                out.push(tell(VenueEvent::Refused { reason }));
            }
        }
    }

    fn send(&mut self, request: Request, out: &mut Vec<Effect>) {
        let number = self.number();
        out.push(Effect::Send { number, request });
    }

    fn begin(&mut self, now: Duration, login: Login, out: &mut Vec<Effect>) {
        if dates::date(login.trading_day.as_bytes()).is_none() {
            let why = format!("the counter's login names no trading day: `{}`", login.trading_day);
            self.drive(now, session::Input::Stuck(why), out);
            return;
        }
        let key = SessionKey {
            trading_day: login.trading_day.clone(),
            front_id: login.front_id,
            session_id: login.session_id,
        };
        self.orders.begin(&key, &mut self.outlived);
        self.key = Some(key);
        self.login = login;
        self.send(Request::ConfirmSettlement, out);
    }

    fn ready(&mut self, now: Duration, out: &mut Vec<Effect>) {
        let Some(key) = self.key.clone() else { return };
        let max_reference = self.login.max_order_ref.trim().parse();
        if max_reference.is_err() && !self.login.max_order_ref.trim().is_empty() {
            let line = format!("the login's MaxOrderRef `{}` is no number; counting from 1", self.login.max_order_ref);
            out.push(log(LogLevel::Warning, line));
        }
        if self.unknown_instruments > 0 {
            let line = format!("{} instruments are of a kind that Gatemesh does not trade", self.unknown_instruments);
            out.push(log(LogLevel::Info, line));
        }
        out.push(tell(VenueEvent::Connected {
            session: key.name(),
            max_reference: max_reference.unwrap_or(0),
            trading_day: dates::date(key.trading_day.as_bytes()),
            venue: self.settings.venue.clone(),
        }));
        let mut contracts: Vec<Contract> = self.contracts.values().cloned().collect();
        contracts.sort_by(|a, b| (&a.symbol, a.exchange).cmp(&(&b.symbol, b.exchange)));
        out.extend(contracts.iter().cloned().map(|contract| tell(VenueEvent::Contract(contract))));
        out.push(Effect::Contracts(contracts));
        out.push(tell(VenueEvent::Ready));
        self.refresh = Some((now + REFRESH, Query::Account));
        if std::mem::take(&mut self.is_early_full) {
            let line = format!("the login brought more than {MAX_EARLY} records: the first snapshot tells them");
            out.push(log(LogLevel::Info, line));
        }
        for event in std::mem::take(&mut self.early) {
            match event {
                TraderEvent::Order(record) => self.on_order(&record, false, out),
                TraderEvent::Trade(record) => self.on_trade(&record, false, out),
                _ => {}
            }
        }
    }

    /// A record is of this trading day. One that begins within a session has made another one of it, which the next
    /// login tells; a counter that goes on naming a day that its login does not name is asked now and then.
    fn notice_day(&mut self, now: Duration, day: &str, out: &mut Vec<Effect>) {
        let was_asked = self.odd_day.as_ref().is_some_and(|(odd, at)| odd == day && now < *at + ODD_DAY_AGAIN);
        let is_odd = |key: &&SessionKey| key.trading_day.as_str() < day && !was_asked;
        let Some(key) = self.key.as_ref().filter(|_| self.is_logged_in()).filter(is_odd) else { return };
        if dates::date(day.as_bytes()).is_none() {
            return;
        }
        self.odd_day = Some((day.into(), now));
        self.outlived = Some(key.clone());
        let why = format!("the trading day is {day}, and the session began in that of {}", key.trading_day);
        self.drive(now, session::Input::Stuck(why), out);
    }

    fn forget_session(&mut self) {
        self.key = None;
        self.queries.clear();
        self.books.forget_session();
        self.early.clear();
        self.is_early_full = false;
        self.refresh = None;
        self.unanswered.0 = 0;
    }

    fn on_instrument(&mut self, now: Duration, row: Row<Instrument>, out: &mut Vec<Effect>) {
        let Some((instrument, is_last)) = self.row(now, Query::Instruments, row, out) else { return };
        if let Some(instrument) = instrument {
            match contract::contract(&self.settings.gateway, &instrument) {
                Ok(contract) => {
                    self.contracts.insert(instrument.symbol.clone(), contract);
                }
                Err(_) => self.unknown_instruments += 1,
            }
        }
        if is_last {
            let outcome = if self.contracts.is_empty() { Err("it is empty".to_owned()) } else { Ok(()) };
            self.drive(now, session::Input::Instruments(outcome), out);
        }
    }

    fn on_row<T>(
        &mut self,
        now: Duration,
        query: Query,
        row: Row<T>,
        out: &mut Vec<Effect>,
        take: impl FnOnce(&mut Desk, T, &mut Vec<Effect>),
    ) {
        let Some((record, is_last)) = self.row(now, query, row, out) else { return };
        if let Some(record) = record {
            take(self, *record, out);
        }
        if is_last {
            self.end_of_query(query, out);
        }
    }

    /// The record of a row of the query that is under way, and whether it is the last; what belongs to another one is
    /// nobody's.
    fn row<T>(
        &mut self,
        now: Duration,
        query: Query,
        row: Row<T>,
        out: &mut Vec<Effect>,
    ) -> Option<(Option<Box<T>>, bool)> {
        if self.queries.of(row.request) != Some(query) {
            return None;
        }
        self.unanswered.0 = 0;
        if let Some(failure) = row.failure {
            self.fail(now, query, &failure, out);
            return None;
        }
        self.queries.goes_on(now);
        if row.is_last {
            self.queries.done();
        }
        Some((row.record, row.is_last))
    }

    /// Tells what a query that has just ended has brought.
    fn end_of_query(&mut self, query: Query, out: &mut Vec<Effect>) {
        if self.books.must_ask_again(query) {
            self.queries.want(query);
            return;
        }
        let contracts = &self.contracts;
        let told = self.books.told(query, contracts, &self.orders, self.key.as_ref().map(SessionKey::name));
        let is_round = told.iter().any(|event| matches!(event, VenueEvent::Snapshot(_)));
        out.extend(told.into_iter().map(tell));
        let waiting = self.orders.waiting();
        if is_round && std::mem::replace(&mut self.waiting_told, waiting) != waiting && waiting > 0 {
            let line =
                format!("{waiting} trades are of orders that the counter does not list: only positions tell them");
            out.push(log(LogLevel::Error, line));
        }
        if self.books.wants_positions() {
            self.queries.want(Query::Positions);
        }
        if self.books.wants_round() {
            self.want_all();
        }
    }

    fn want_all(&mut self) {
        for query in [Query::Orders, Query::Trades, Query::Positions, Query::Account] {
            self.queries.want(query);
        }
    }

    fn on_request_failed(&mut self, now: Duration, number: i32, failure: &Failure, out: &mut Vec<Effect>) {
        match self.queries.of(number) {
            Some(query) => {
                self.unanswered.0 = 0;
                self.fail(now, query, failure, out);
            }
            None => out.push(log(LogLevel::Warning, format!("the counter refused request {number}: {failure}"))),
        }
    }

    /// The counter refuses the query that is under way.
    fn fail(&mut self, now: Duration, query: Query, failure: &Failure, out: &mut Vec<Effect>) {
        self.queries.done();
        self.query_failed(now, query, &failure.to_string(), out);
        if failure.code == NOT_LOGGED_IN {
            self.drive(now, session::Input::LoggedOut, out);
        }
    }

    fn query_failed(&mut self, now: Duration, query: Query, why: &str, out: &mut Vec<Effect>) {
        if query == Query::Instruments {
            self.drive(now, session::Input::Instruments(Err(why.to_owned())), out);
            return;
        }
        out.push(log(LogLevel::Warning, format!("{} failed: {why}", query.name())));
        for token in self.books.failed(query) {
            let answer = Err(GatewayError::Refused(format!("{} failed: {why}", query.name())));
            out.push(tell(VenueEvent::Answer { token, answer }));
        }
        if self.books.wants_round() {
            self.want_all();
        }
    }

    fn on_order(&mut self, record: &OrderRecord, is_listed: bool, out: &mut Vec<Effect>) {
        let Some(wall) = self.wall else { return };
        match self.orders.take_order(record, wall) {
            Ok(Taken { order, trades }) => {
                if let Ok(reference) = self.orders.reference(record) {
                    self.books.heard_order(&reference);
                }
                if let Some(order) = order {
                    self.books.heard_traded(&order);
                    out.push(tell(VenueEvent::Order(order)));
                }
                for trade in trades {
                    self.books.heard_trade(&trade);
                    out.push(tell(VenueEvent::Trade(trade)));
                }
            }
            Err(error) => {
                // It is there all the same, as it was told before.
                if let Ok(reference) = self.orders.reference(record) {
                    self.books.heard_order(&reference);
                }
                self.unusable(&error, is_listed, out);
            }
        }
    }

    fn on_trade(&mut self, record: &TradeRecord, is_listed: bool, out: &mut Vec<Effect>) {
        let Some(wall) = self.wall else { return };
        match self.orders.take_trade(record, wall) {
            Ok(Some(trade)) => {
                if is_listed {
                    self.books.listed_trade(&trade);
                } else {
                    self.books.heard_trade(&trade);
                }
                out.push(tell(VenueEvent::Trade(trade)));
            }
            Ok(None) => {}
            Err(error) => self.unusable(&error, is_listed, out),
        }
    }

    /// What the counter refused. To the session that sent it, it says so itself; every other one hears of it too.
    fn on_refused(&mut self, refused: &RefusedOrder, failure: &Failure, is_to_us: bool, out: &mut Vec<Effect>) {
        let order = self.key.as_ref().and_then(|key| self.orders.refused(key, refused, &failure.to_string()));
        match order {
            Some(order) => {
                self.books.heard_order(&order.reference);
                out.push(tell(VenueEvent::Order(order)));
            }
            None if is_to_us => {
                let number = refused.order_ref.trim();
                let line = format!("the counter refused an order `{number}` that does not wait for it: {failure}");
                out.push(log(LogLevel::Warning, line));
            }
            None => {}
        }
    }

    /// An order that works as far as is known may have ended unheard: the node looks it up.
    fn cancel_refused(&self, by: &str, action: &RefusedAction, failure: &Failure, out: &mut Vec<Effect>) {
        let names = [&action.order_sys_id, &action.order_ref].map(|name| name.trim());
        let name = names.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
        let reason = format!("the {by} refused to cancel order {name}: {failure}");
        match self.orders.uncancelled(action).filter(|_| self.is_logged_in()) {
            Some(reference) => out.push(tell(VenueEvent::CancelRefused { reference, reason })),
            None => out.push(log(LogLevel::Warning, reason)),
        }
    }

    fn unusable(&self, error: &Unusable, is_listed: bool, out: &mut Vec<Effect>) {
        out.push(log(LogLevel::Error, format!("ignored: {error}")));
        // A listed one would only be listed again.
        if *error == Unusable::TooManyTrades && !is_listed {
            out.push(Effect::Lost);
        }
    }
}

/// What comes in whatever order from the login on, and has to wait for the contracts.
fn is_of_trading(event: &TraderEvent) -> bool {
    matches!(event, TraderEvent::Order(_) | TraderEvent::Trade(_))
}

fn insert(number: u64, order: &OrderRequest) -> Result<InsertOrder, GatewayError> {
    let refused = |error: String| GatewayError::Refused(error);
    let terms = trading::terms(order.r#type).map_err(|error| refused(error.to_string()))?;
    let volume = order.volume;
    if volume.fract() != 0.0 || volume <= 0.0 || volume > f64::from(i32::MAX) {
        return Err(refused(format!("CTP trades whole lots, and {volume} is none")));
    }
    let price = match (terms.price_type, order.price) {
        (b'1', _) => 0.0,
        (_, Some(price)) => price,
        // Selling at 0 would be selling at any price.
        (_, None) => return Err(refused("a limit order without a price".to_owned())),
    };
    if number > 999_999_999_999 {
        return Err(refused(format!("the order reference {number} has more than the 12 digits that CTP takes")));
    }
    Ok(InsertOrder {
        order_ref: number,
        symbol: order.symbol.as_str().into(),
        exchange: order.exchange.as_str().into(),
        direction: trading::direction_code(order.direction).map_err(|error| refused(error.to_string()))?,
        offset: trading::offset_code(order.offset).map_err(|error| refused(error.to_string()))?,
        price_type: terms.price_type,
        price,
        #[allow(clippy::cast_possible_truncation)] // whole and in range: looked at above
        volume: volume as i32,
        time_condition: terms.time_condition,
        volume_condition: terms.volume_condition,
    })
}

fn tell(event: VenueEvent) -> Effect {
    Effect::Tell(Box::new(event))
}

fn log(level: LogLevel, message: String) -> Effect {
    tell(line(level, message))
}

/// What a question of the node is answered with when it has been told.
pub(super) fn answered(token: QueryToken) -> VenueEvent {
    VenueEvent::Answer { token, answer: Ok(Answer::Sent) }
}

#[cfg(test)]
mod tests;
