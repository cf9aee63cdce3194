//! Calls: what a request says, and which decision it comes to.

use std::cmp::Ordering;
use std::time::Duration;

use protocol::rpc::{
    CancelAll, Deadline, Done, GetAccount, GetEvents, GetInstrument, GetOrder, GetPosition, GetTrade, Halt, List,
    Method, NoParams, QueryHistory, Resume,
};
use protocol::value::OWNER_DEFAULT;
use protocol::{
    CancelRequest, ErrorCode, GatewayState, Name, OrderRequest, QuoteRequest, RpcError, SubscribeRequest, codec,
};
use serde::de::DeserializeOwned;

use super::orders::To;
use super::{Effect, Effects, Engine, Now, ReplyTo, VenueCommand, encode};
use crate::gateway::{Answer, GatewayError, QueryToken};

/// A query that the venue has not answered for this long is answered with an error.
const QUERY_PATIENCE: Duration = Duration::from_secs(30);
/// Most queries at the venue at a time.
const MAX_QUERIES: usize = 256;
/// Largest request, in bytes: an order has 300.
pub const MAX_REQUEST: usize = 16 * 1024;

/// Who calls, as far as the server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whose orders are sent and seen.
    pub owner: Name,
    /// The calling program, as it names itself.
    pub client: Name,
    /// Whether it sees every owner's orders; so where the server gives no identities.
    pub sees_all: bool,
}

impl Caller {
    /// A caller where the server gives no identities.
    #[must_use]
    pub fn anonymous(client: impl Into<Name>) -> Self {
        Caller { owner: Name::const_new(OWNER_DEFAULT), client: client.into(), sees_all: true }
    }

    /// Whose orders a request is about: the caller's own unless it may see others' and names one.
    ///
    /// # Errors
    /// `NOT_PERMITTED` if it names somebody else and may not.
    pub(super) fn owner_of(&self, named: Option<&Name>) -> Result<Name, RpcError> {
        match named {
            None => Ok(self.owner.clone()),
            Some(owner) if *owner == self.owner || self.sees_all => Ok(owner.clone()),
            Some(owner) => Err(RpcError::new(
                ErrorCode::NotPermitted,
                format!("owner: {} may not see what belongs to {owner}", self.owner),
            )),
        }
    }
}

/// One call.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Who waits for the answer.
    pub reply: ReplyTo,
    /// Who calls.
    pub caller: Caller,
    /// Not later than this.
    pub deadline: Option<Deadline>,
    /// The trace that it belongs to (W3C `trace-id`).
    pub traceid: Option<Name>,
    /// What is wanted.
    pub request: Request,
}

macro_rules! requests {
    ($($variant:ident $(($params:ty))?,)+) => {
        /// A decoded request.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs)] // named for the methods
        pub enum Request { $($variant $(($params))?,)+ }

        impl Request {
            /// Which method it is.
            #[must_use]
            pub const fn method(&self) -> Method {
                match self { $(Request::$variant { .. } => Method::$variant,)+ }
            }

            /// Reads a request's payload; an empty one is taken for `{}`.
            ///
            /// # Errors
            /// `BAD_REQUEST` naming the field.
            pub fn decode(method: Method, payload: &[u8]) -> Result<Request, RpcError> {
                match method { $(Method::$variant => requests!(@decode $variant, payload $(, $params)?),)+ }
            }
        }
    };
    (@decode $variant:ident, $payload:ident, $params:ty) => {
        parameters::<$params>($payload).map(Request::$variant)
    };
    (@decode $variant:ident, $payload:ident) => {
        parameters::<NoParams>($payload).map(|NoParams {}| Request::$variant)
    };
}

requests! {
    GetStatus,
    GetEvents(GetEvents),
    Subscribe(SubscribeRequest),
    Unsubscribe(SubscribeRequest),
    SendOrder(OrderRequest),
    CancelOrder(CancelRequest),
    CancelAll(CancelAll),
    SendQuote(QuoteRequest),
    CancelQuote(CancelRequest),
    QueryHistory(QueryHistory),
    QueryAccount,
    QueryPosition,
    GetTick(GetInstrument),
    GetOrder(GetOrder),
    GetTrade(GetTrade),
    GetQuote(GetOrder),
    GetPosition(GetPosition),
    GetAccount(GetAccount),
    GetContract(GetInstrument),
    GetAllTicks(List),
    GetAllOrders(List),
    GetAllActiveOrders(List),
    GetAllTrades(List),
    GetAllQuotes(List),
    GetAllActiveQuotes(List),
    GetAllPositions(List),
    GetAllAccounts(List),
    GetAllContracts(List),
    Halt(Halt),
    Resume(Resume),
    Connect,
    Disconnect,
}

fn parameters<T: DeserializeOwned>(payload: &[u8]) -> Result<T, RpcError> {
    if payload.len() > MAX_REQUEST {
        return Err(RpcError::new(
            ErrorCode::BadRequest,
            format!("the request has {} bytes; the most that is taken is {MAX_REQUEST}", payload.len()),
        ));
    }
    // serde would read an array as a struct by position; parameters are named.
    let first = payload.trim_ascii_start().first();
    if first.is_some_and(|byte| *byte != b'{') && payload.trim_ascii() != b"null" {
        let message = match codec::decode::<serde_json::Value>(payload) {
            Ok(_) => "parameters are a JSON object of named values, for example {\"symbol\": \"rb2410\"}".to_owned(),
            Err(error) => error.to_string(),
        };
        return Err(RpcError::new(ErrorCode::BadRequest, message));
    }
    protocol::rpc::read_params(payload)
}

/// Why a call is refused, and when that may be said.
pub(super) enum Refusal {
    /// At once: it shows no trading state. What `?` makes of an error.
    Now(RpcError),
    /// Once the journal has what it shows: how an order stands, or that an id is used. Said earlier, it could be untrue
    /// under a successor, who would then execute what was refused here.
    OnceStored(RpcError),
}

impl From<RpcError> for Refusal {
    fn from(error: RpcError) -> Self {
        Refusal::Now(error)
    }
}

/// A query that the venue has not answered yet.
pub(super) struct PendingQuery {
    reply: ReplyTo,
    since: Duration,
    wants: Wants,
}

enum Wants {
    History { limit: Option<usize> },
    Accounts,
    Positions,
}

impl Engine {
    /// A client calls.
    pub fn on_call(&mut self, now: Now, call: Call, out: &mut Effects) {
        let reply = call.reply;
        match self.decide(now, call, out) {
            Ok(()) => {}
            Err(Refusal::Now(error)) => out.push(Effect::ReplyNow(reply, Err(error))),
            Err(Refusal::OnceStored(error)) => out.push(Effect::Reply(reply, Err(error))),
        }
    }

    fn decide(&mut self, now: Now, call: Call, out: &mut Effects) -> Result<(), Refusal> {
        let Call { reply, caller, deadline, traceid, request } = call;
        let caller = &caller;
        let deadline = check_deadline_present(request.method(), deadline)?;
        // What a client buffered while it was disconnected must not act on the state of today. A known id of an order
        // or a quote is answered first, and `get_status` is how a client finds out that its clock is wrong. Whatever
        // epoch a cancel names, it is judged by its time alone: it takes risk away, and nobody is locked out of it.
        if !matches!(request, Request::SendOrder(_) | Request::SendQuote(_) | Request::GetStatus) {
            check_not_past(now, deadline.ms)?;
        }
        match request {
            // Asked and answered in one round trip: clients measure the clock's offset with it.
            Request::GetStatus => {
                out.push(Effect::ReplyNow(reply, encode(&self.status(now))));
            }
            Request::GetEvents(mut params) => {
                if !caller.sees_all {
                    params.owner = Some(caller.owner.clone());
                }
                out.push(Effect::ReadEvents(reply, params));
            }
            Request::Subscribe(request) => {
                self.subscribe(reply, caller, instrument(request.symbol, request.exchange), out)?;
            }
            Request::Unsubscribe(request) => {
                self.unsubscribe(reply, caller, instrument(request.symbol, request.exchange), out)?;
            }
            Request::SendOrder(request) => {
                self.send_order(now, To { reply, caller, deadline, traceid }, request, out)?;
            }
            Request::SendQuote(request) => {
                self.send_quote(now, To { reply, caller, deadline, traceid }, request, out)?;
            }
            Request::CancelOrder(request) => self.cancel_order(now, reply, caller, &request, out)?,
            Request::CancelQuote(request) => self.cancel_quote(now, reply, caller, &request, out)?,
            Request::CancelAll(request) => self.cancel_all(now, reply, &caller.owner, &request, out),
            Request::QueryHistory(params) => self.query_history(now, reply, params, out)?,
            Request::QueryAccount => {
                let token = self.query(now, reply, Wants::Accounts)?;
                out.push(Effect::Venue(VenueCommand::QueryAccount(token)));
            }
            Request::QueryPosition => {
                let token = self.query(now, reply, Wants::Positions)?;
                out.push(Effect::Venue(VenueCommand::QueryPosition(token)));
            }
            Request::GetTick(params) => {
                self.contract(&params.instrument())?;
                out.push(Effect::ReplyNow(reply, encode(&self.ticks.get(&params.instrument()))));
            }
            Request::GetContract(params) => {
                let answer = encode(self.contract(&params.instrument())?);
                out.push(Effect::ReplyNow(reply, answer));
            }
            Request::GetOrder(params) => {
                let key = key(caller, params.owner.as_ref(), params.orderid)?;
                let found = self.state.order(&key);
                if found.is_none() {
                    self.days.check_present(&key, self.options.keep_ids_days)?;
                }
                out.push(Effect::Reply(reply, encode(&found)));
            }
            Request::GetQuote(params) => {
                let key = key(caller, params.owner.as_ref(), params.orderid)?;
                let found = self.state.quote(&key);
                if found.is_none() {
                    self.days.check_present(&key, self.options.keep_ids_days)?;
                }
                out.push(Effect::Reply(reply, encode(&found)));
            }
            Request::GetTrade(params) => {
                let found = self.state.trades().values().find(|t| {
                    t.tradeid == params.tradeid
                        && params.trading_day.is_none_or(|day| t.trading_day == Some(day))
                        && params.symbol.as_ref().is_none_or(|symbol| t.symbol == *symbol)
                        && params.exchange.is_none_or(|e| t.exchange == e)
                        && params.direction.is_none_or(|d| t.direction == d)
                        && (caller.sees_all || t.owner == caller.owner)
                });
                out.push(Effect::Reply(reply, encode(&found)));
            }
            Request::GetPosition(params) => {
                let instrument = instrument(params.symbol, params.exchange);
                out.push(Effect::Reply(reply, encode(&self.state.position(&instrument, params.direction))));
            }
            Request::GetAccount(params) => {
                out.push(Effect::Reply(reply, encode(&self.state.account(&params.accountid))));
            }
            Request::GetAllTicks(_) | Request::GetAllContracts(_) => {
                out.push(Effect::ReplyNow(reply, self.list(caller, &request)));
            }
            Request::GetAllOrders(_)
            | Request::GetAllActiveOrders(_)
            | Request::GetAllTrades(_)
            | Request::GetAllQuotes(_)
            | Request::GetAllActiveQuotes(_)
            | Request::GetAllPositions(_)
            | Request::GetAllAccounts(_) => out.push(Effect::Reply(reply, self.list(caller, &request))),
            Request::Halt(request) => self.halt(now, reply, caller, request, out)?,
            Request::Resume(request) => self.resume(now, reply, caller, request, out)?,
            Request::Connect | Request::Disconnect if self.gateway_state() == GatewayState::Closing => {
                return Err(self.not_ready().into());
            }
            Request::Connect => {
                if !self.session.is_logged_in() && self.gateway_state() != GatewayState::Connecting {
                    self.login(now, out);
                }
                out.push(Effect::ReplyNow(reply, encode(&Done {})));
            }
            Request::Disconnect => {
                self.logout("an operator disconnected it", out);
                out.push(Effect::ReplyNow(reply, encode(&Done {})));
            }
        }
        Ok(())
    }

    fn query_history(
        &mut self,
        now: Now,
        reply: ReplyTo,
        params: QueryHistory,
        out: &mut Effects,
    ) -> Result<(), RpcError> {
        let mut request = params.request;
        self.contract(&request.instrument())?;
        if let Some(cursor) = &params.cursor {
            request.start = chrono::DateTime::parse_from_rfc3339(cursor)
                .map_err(|_| RpcError::new(ErrorCode::BadRequest, format!("cursor: `{cursor:.64}` is none of ours")))?;
        }
        if request.end.is_some_and(|end| end < request.start) {
            return Err(RpcError::new(ErrorCode::BadRequest, "end: lies before start"));
        }
        let token = self.query(now, reply, Wants::History { limit: params.limit })?;
        out.push(Effect::Venue(VenueCommand::QueryHistory(token, Box::new(request))));
        Ok(())
    }

    fn query(&mut self, now: Now, reply: ReplyTo, wants: Wants) -> Result<QueryToken, RpcError> {
        if !self.session.is_logged_in() {
            return Err(self.not_ready());
        }
        if self.queries.len() >= MAX_QUERIES {
            return Err(RpcError::new(
                ErrorCode::Overloaded,
                format!("{MAX_QUERIES} queries wait for the venue already"),
            ));
        }
        self.next_query += 1;
        let token = QueryToken(self.next_query);
        self.queries.insert(token, PendingQuery { reply, since: now.mono, wants });
        Ok(token)
    }

    /// The venue answered a query, or the adapter could not ask.
    pub fn on_answer(&mut self, token: QueryToken, answer: Result<Answer, GatewayError>, out: &mut Effects) {
        let Some(query) = self.queries.remove(&token) else { return };
        let everything = Caller { sees_all: true, ..Caller::anonymous("") };
        let effect = match (answer, query.wants) {
            (Err(error), _) => Effect::ReplyNow(query.reply, Err(super::refusal(&error))),
            (Ok(Answer::History(bars)), Wants::History { limit }) => {
                Effect::ReplyNow(query.reply, super::lists::bars_page(&bars, limit))
            }
            (Ok(Answer::Sent), Wants::Accounts) => {
                Effect::Reply(query.reply, self.list(&everything, &Request::GetAllAccounts(List::default())))
            }
            (Ok(Answer::Sent), Wants::Positions) => {
                Effect::Reply(query.reply, self.list(&everything, &Request::GetAllPositions(List::default())))
            }
            (Ok(_), _) => Effect::ReplyNow(
                query.reply,
                Err(RpcError::new(ErrorCode::Internal, "the venue's adapter answered another question")),
            ),
        };
        out.push(effect);
    }

    pub(super) fn expire_queries(&mut self, now: Now, out: &mut Effects) {
        let late = |q: &PendingQuery| now.mono.saturating_sub(q.since) > QUERY_PATIENCE;
        for (_, query) in self.queries.extract_if(.., |_, q| late(q)) {
            let seconds = QUERY_PATIENCE.as_secs();
            let error =
                RpcError::new(ErrorCode::DeadlineExceeded, format!("the venue has not answered in {seconds} s"));
            out.push(Effect::ReplyNow(query.reply, Err(error)));
        }
    }

    pub(super) fn not_ready(&self) -> RpcError {
        let reason = self.session.reason().map(|r| format!(" ({r})")).unwrap_or_default();
        RpcError::new(ErrorCode::NotReady, format!("{} is {}{reason}", self.options.gateway, self.session.state()))
    }
}

fn instrument(symbol: protocol::Symbol, exchange: protocol::Exchange) -> protocol::InstrumentId {
    protocol::InstrumentId { symbol, exchange }
}

pub(super) fn key(
    caller: &Caller,
    owner: Option<&Name>,
    orderid: protocol::OrderId,
) -> Result<protocol::oms::OrderKey, RpcError> {
    Ok(protocol::oms::OrderKey { owner: caller.owner_of(owner)?, orderid })
}

/// The deadline, which what trades must have; reads get the end of time.
fn check_deadline_present(method: Method, deadline: Option<Deadline>) -> Result<Deadline, RpcError> {
    match deadline {
        Some(deadline) => Ok(deadline),
        None if method.needs_deadline() => Err(RpcError::new(
            ErrorCode::DeadlineRequired,
            format!(
                "{} needs the header {}: milliseconds since 1970 on the node's clock, after which it must not be executed",
                method.as_str(),
                protocol::rpc::HEADER_DEADLINE
            ),
        )),
        None => Ok(Deadline { ms: i64::MAX, epoch: None }),
    }
}

/// Whether an order or a quote that nobody knows yet has come in time for who leads under this epoch.
///
/// A deadline holds on one leader's clock only. Behind another's, a call that was delayed could be executed after its
/// client was told, by the one whose clock it named, that the deadline has passed and there is no such order.
///
/// # Errors
/// Nothing was done, and the same id may be sent again. `EPOCH_CHANGED` if it names an earlier epoch: whatever its leader
/// journalled is known here, so that nothing will ever come of this call. `SHUTTING_DOWN` if it names a later one, whose
/// leader may execute it.
pub(super) fn check_in_time(now: Now, epoch: u64, deadline: Deadline) -> Result<(), RpcError> {
    let named = deadline.epoch.unwrap_or(epoch);
    let again = "ask get_status and send it again with a deadline on that clock";
    match named.cmp(&epoch) {
        Ordering::Equal => check_not_past(now, deadline.ms),
        Ordering::Less => Err(RpcError::new(
            ErrorCode::EpochChanged,
            format!("the deadline is one of epoch {named}, and epoch {epoch} leads; nothing was done: {again}"),
        )),
        Ordering::Greater => Err(RpcError::new(
            ErrorCode::ShuttingDown,
            format!("the deadline is one of epoch {named}, and this node leads under {epoch}, if at all: {again}"),
        )),
    }
}

pub(super) fn check_not_past(now: Now, deadline_ms: i64) -> Result<(), RpcError> {
    let late = now.millis().saturating_sub(deadline_ms);
    if late <= 0 {
        return Ok(());
    }
    Err(RpcError::new(ErrorCode::DeadlineExceeded, format!("the deadline passed {late} ms ago; nothing was done")))
}
