//! The methods of one gateway, typed.

use std::time::Duration;

use bytes::Bytes;
use protocol::rpc::{
    CancelAll, CancelledAll, Done, EventsPage, GetAccount, GetEvents, GetInstrument, GetOrder, GetPosition, GetTrade,
    Halt, Halted, List, Method, NoParams, Page, QueryHistory, Resume,
};
use protocol::{
    Account, Bar, CancelRequest, Contract, Direction, ErrorCode, Event, HistoryRequest, InstrumentId, Name, Order,
    OrderId, OrderRequest, Position, Quote, QuoteRequest, Status, SubscribeRequest, Tick, Trade, codec,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::call::{Call, has_effect};
use crate::client::Client;
use crate::clock::outdates_clock;
use crate::error::Error;
use crate::sending::Sending;

/// One gateway, by name: cheap to clone, usable from any number of tasks at once.
///
/// Every method fails with [`Error::Disconnected`] at once while there is no connection, with
/// [`Error::GatewayNotRunning`] at once if nobody serves the gateway, with [`Error::Rpc`] if the gateway refuses, and
/// with [`Error::Timeout`] after this handle's timeout.
#[derive(Debug, Clone)]
pub struct GatewayHandle {
    client: Client,
    gateway: Name,
    timeout: Duration,
    traceparent: Option<String>,
}

impl GatewayHandle {
    pub(crate) fn new(client: Client, gateway: Name, timeout: Duration) -> GatewayHandle {
        GatewayHandle { client, gateway, timeout, traceparent: None }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(crate) fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_deref()
    }

    /// The gateway's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.gateway
    }

    /// The same gateway with another timeout for every call. For orders, quotes and cancels it is also the deadline
    /// after which the node refuses them.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same gateway with calls that belong to a trace: a W3C `traceparent`.
    #[must_use]
    pub fn with_traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.traceparent = Some(traceparent.into());
        self
    }

    /// How the gateway is doing.
    ///
    /// # Errors
    /// As every call.
    pub async fn get_status(&self) -> Result<Status, Error> {
        self.ask(Method::GetStatus, &NoParams {}).await
    }

    /// One page of journalled events behind a position.
    ///
    /// # Errors
    /// [`ErrorCode::TooOld`] if what follows the position is no longer kept; otherwise as every call.
    pub async fn get_events(&self, params: &GetEvents) -> Result<EventsPage, Error> {
        self.ask(Method::GetEvents, params).await
    }

    /// Asks for an instrument's ticks, on behalf of this client's name. It holds until [`Self::unsubscribe`].
    ///
    /// # Errors
    /// [`ErrorCode::UnknownContract`]; otherwise as every call.
    pub async fn subscribe(&self, instrument: &InstrumentId) -> Result<(), Error> {
        let Done {} = self.ask(Method::Subscribe, &subscribe_request(instrument)).await?;
        Ok(())
    }

    /// Takes back this client's own subscription; others keep theirs.
    ///
    /// # Errors
    /// As every call.
    pub async fn unsubscribe(&self, instrument: &InstrumentId) -> Result<(), Error> {
        let Done {} = self.ask(Method::Unsubscribe, &subscribe_request(instrument)).await?;
        Ok(())
    }

    /// Sends an order and says what became of it. Sending the same request again is safe: the gateway knows it by its id,
    /// and there is never a second order.
    ///
    /// The handle's timeout is the order's deadline: it trades before, or never. Where an answer is lost (a node dies, the
    /// connection breaks) the same id is sent again, also to the node that leads next; past the deadline the order is
    /// asked for. For that the call may take up to 5 s longer than the timeout.
    ///
    /// An order that was looked up in this way is returned as the gateway has it: it may be filled, or REJECTED with its
    /// reason.
    ///
    /// # Errors
    /// [`Error::NotExecuted`] if the answer was lost and it is certain that no order came of it. Only if the outcome could
    /// not be found out in that time either does [`Error::maybe_executed`] hold: then send the same request again.
    /// [`Error::InvalidRequest`] if a number in it is not finite; otherwise as every call.
    pub async fn send_order(&self, request: &OrderRequest) -> Result<Order, Error> {
        Sending::new(self, request)?.resolved().await
    }

    /// Sends an order and waits for one answer, for who resolves a lost one in a way of its own.
    ///
    /// # Errors
    /// If [`Error::maybe_executed`], the outcome is unknown: see [`Self::resolve`]. Otherwise as [`Self::send_order`].
    pub async fn send_order_once(&self, request: &OrderRequest) -> Result<Order, Error> {
        Sending::new(self, request)?.once().await
    }

    /// What became of an order that [`Self::send_order_once`] left unknown. `None`: the gateway has no such order; this is
    /// final once the deadline of the call that sent it has passed (a handle's timeout after sending), and may change
    /// before.
    ///
    /// # Errors
    /// As every call.
    pub async fn resolve(&self, orderid: &OrderId) -> Result<Option<Order>, Error> {
        self.get_order(orderid).await
    }

    /// Cancels an order of one's own: the cancel is on its way when this returns; the order's events tell how it went.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`], [`ErrorCode::OrderNotActive`]; otherwise as every call.
    pub async fn cancel_order(&self, request: &CancelRequest) -> Result<(), Error> {
        let Done {} = self.ask(Method::CancelOrder, request).await?;
        Ok(())
    }

    /// Cancels all of one's own working orders and quotes, or those of one instrument.
    ///
    /// # Errors
    /// As every call; what could not be cancelled is in the result.
    pub async fn cancel_all(&self, instrument: Option<&InstrumentId>) -> Result<CancelledAll, Error> {
        let params = CancelAll {
            symbol: instrument.map(|instrument| instrument.symbol.clone()),
            exchange: instrument.map(|instrument| instrument.exchange),
        };
        self.ask(Method::CancelAll, &params).await
    }

    /// Sends a two-sided quote and says what became of it; the same rules as for [`Self::send_order`].
    ///
    /// # Errors
    /// As [`Self::send_order`].
    pub async fn send_quote(&self, request: &QuoteRequest) -> Result<Quote, Error> {
        Sending::new(self, request)?.resolved().await
    }

    /// Sends a two-sided quote and waits for one answer; the same rules as for [`Self::send_order_once`].
    ///
    /// # Errors
    /// As [`Self::send_order_once`].
    pub async fn send_quote_once(&self, request: &QuoteRequest) -> Result<Quote, Error> {
        Sending::new(self, request)?.once().await
    }

    /// Cancels a quote of one's own, its id as `orderid`; the cancel is on its way when this returns.
    ///
    /// # Errors
    /// As [`Self::cancel_order`].
    pub async fn cancel_quote(&self, request: &CancelRequest) -> Result<(), Error> {
        let Done {} = self.ask(Method::CancelQuote, request).await?;
        Ok(())
    }

    /// Bars, oldest first, all pages of them.
    ///
    /// # Errors
    /// [`ErrorCode::NotSupported`] where the venue has no history; otherwise as every call, the timeout holding for
    /// each page.
    pub async fn query_history(&self, request: &HistoryRequest) -> Result<Vec<Bar>, Error> {
        let mut params = QueryHistory { request: request.clone(), cursor: None, limit: None };
        let mut pages = Pages::default();
        loop {
            let page = self.page(Method::QueryHistory, &params).await?;
            match pages.take(page) {
                Ok(None) => return Ok(pages.items),
                Ok(cursor) => params.cursor = cursor,
                Err(()) => return Err(self.endless(Method::QueryHistory)),
            }
        }
    }

    /// The accounts, asked afresh at the venue.
    ///
    /// # Errors
    /// As every call.
    pub async fn query_account(&self) -> Result<Vec<Account>, Error> {
        Ok(self.pages(Method::QueryAccount, List::default()).await?.items)
    }

    /// The positions, asked afresh at the venue.
    ///
    /// # Errors
    /// As every call.
    pub async fn query_position(&self) -> Result<Vec<Position>, Error> {
        Ok(self.pages(Method::QueryPosition, List::default()).await?.items)
    }

    /// The newest tick, in the envelope it was published in.
    ///
    /// # Errors
    /// As every call.
    pub async fn get_tick(&self, instrument: &InstrumentId) -> Result<Option<Event<Tick>>, Error> {
        self.ask(Method::GetTick, &get_instrument(instrument)).await
    }

    /// One order of one's own.
    ///
    /// # Errors
    /// As every call.
    pub async fn get_order(&self, orderid: &OrderId) -> Result<Option<Order>, Error> {
        self.get_order_of(orderid, None).await
    }

    /// One order of somebody's, where the caller may see it; `None` stands for the caller.
    ///
    /// # Errors
    /// As every call.
    pub async fn get_order_of(&self, orderid: &OrderId, owner: Option<&str>) -> Result<Option<Order>, Error> {
        let params = GetOrder { orderid: orderid.clone(), owner: owner.map(Name::from) };
        self.ask(Method::GetOrder, &params).await
    }

    /// The first trade that matches.
    ///
    /// # Errors
    /// As every call.
    pub async fn get_trade(&self, params: &GetTrade) -> Result<Option<Trade>, Error> {
        self.ask(Method::GetTrade, params).await
    }

    /// One quote of one's own.
    ///
    /// # Errors
    /// As every call.
    pub async fn get_quote(&self, quoteid: &OrderId) -> Result<Option<Quote>, Error> {
        self.ask(Method::GetQuote, &GetOrder { orderid: quoteid.clone(), owner: None }).await
    }

    /// One position.
    ///
    /// # Errors
    /// As every call.
    pub async fn get_position(
        &self,
        instrument: &InstrumentId,
        direction: Direction,
    ) -> Result<Option<Position>, Error> {
        let params = GetPosition { symbol: instrument.symbol.clone(), exchange: instrument.exchange, direction };
        self.ask(Method::GetPosition, &params).await
    }

    /// One account.
    ///
    /// # Errors
    /// As every call.
    pub async fn get_account(&self, accountid: &str) -> Result<Option<Account>, Error> {
        self.ask(Method::GetAccount, &GetAccount { accountid: accountid.into() }).await
    }

    /// One contract.
    ///
    /// # Errors
    /// As every call.
    pub async fn get_contract(&self, instrument: &InstrumentId) -> Result<Option<Contract>, Error> {
        self.ask(Method::GetContract, &get_instrument(instrument)).await
    }

    /// The newest tick of every instrument subscribed.
    ///
    /// # Errors
    /// As every call, the timeout holding for each page; so for all lists.
    pub async fn get_all_ticks(&self) -> Result<Vec<Event<Tick>>, Error> {
        Ok(self.pages(Method::GetAllTicks, List::default()).await?.items)
    }

    /// All orders of the journal's days that the caller may see.
    ///
    /// # Errors
    /// As [`Self::get_all_ticks`].
    pub async fn get_all_orders(&self) -> Result<Vec<Order>, Error> {
        Ok(self.pages(Method::GetAllOrders, List::default()).await?.items)
    }

    /// Orders that can still be filled or cancelled.
    ///
    /// # Errors
    /// As [`Self::get_all_ticks`].
    pub async fn get_all_active_orders(&self) -> Result<Vec<Order>, Error> {
        Ok(self.pages(Method::GetAllActiveOrders, List::default()).await?.items)
    }

    /// All trades.
    ///
    /// # Errors
    /// As [`Self::get_all_ticks`].
    pub async fn get_all_trades(&self) -> Result<Vec<Trade>, Error> {
        Ok(self.pages(Method::GetAllTrades, List::default()).await?.items)
    }

    /// All quotes.
    ///
    /// # Errors
    /// As [`Self::get_all_ticks`].
    pub async fn get_all_quotes(&self) -> Result<Vec<Quote>, Error> {
        Ok(self.pages(Method::GetAllQuotes, List::default()).await?.items)
    }

    /// Quotes that can still be filled or cancelled.
    ///
    /// # Errors
    /// As [`Self::get_all_ticks`].
    pub async fn get_all_active_quotes(&self) -> Result<Vec<Quote>, Error> {
        Ok(self.pages(Method::GetAllActiveQuotes, List::default()).await?.items)
    }

    /// All positions.
    ///
    /// # Errors
    /// As [`Self::get_all_ticks`].
    pub async fn get_all_positions(&self) -> Result<Vec<Position>, Error> {
        Ok(self.pages(Method::GetAllPositions, List::default()).await?.items)
    }

    /// All accounts.
    ///
    /// # Errors
    /// As [`Self::get_all_ticks`].
    pub async fn get_all_accounts(&self) -> Result<Vec<Account>, Error> {
        Ok(self.pages(Method::GetAllAccounts, List::default()).await?.items)
    }

    /// All contracts.
    ///
    /// # Errors
    /// As [`Self::get_all_ticks`].
    pub async fn get_all_contracts(&self) -> Result<Vec<Contract>, Error> {
        Ok(self.pages(Method::GetAllContracts, List::default()).await?.items)
    }

    /// Any of the lists, narrowed: all pages of it.
    ///
    /// # Errors
    /// As [`Self::get_all_ticks`].
    pub async fn list<T: DeserializeOwned>(&self, method: Method, filter: List) -> Result<Vec<T>, Error> {
        Ok(self.pages(method, filter).await?.items)
    }

    /// No new orders and quotes from now on, of whomever `params` name; cancels still flow. It holds at once on this
    /// gateway; once answered, every other gateway that it concerns hears of it.
    ///
    /// # Errors
    /// As every call; `PARTLY_DONE` if it holds on this gateway only.
    pub async fn halt(&self, params: &Halt) -> Result<Halted, Error> {
        self.ask(Method::Halt, params).await
    }

    /// Ends the halt of what `params` name, on every gateway that it concerns.
    ///
    /// # Errors
    /// As every call; `HALTED` if it was halted again meanwhile.
    pub async fn resume(&self, params: &Resume) -> Result<Halted, Error> {
        self.ask(Method::Resume, params).await
    }

    /// Logs the gateway in at its venue, also after a refusal.
    ///
    /// # Errors
    /// As every call.
    pub async fn connect(&self) -> Result<(), Error> {
        let Done {} = self.ask(Method::Connect, &NoParams {}).await?;
        Ok(())
    }

    /// Logs the gateway out of its venue; it stays out.
    ///
    /// # Errors
    /// As every call.
    pub async fn disconnect(&self) -> Result<(), Error> {
        let Done {} = self.ask(Method::Disconnect, &NoParams {}).await?;
        Ok(())
    }

    /// Calls a method by name, also one that only this gateway has. `timeout`: this handle's, if absent.
    ///
    /// # Errors
    /// As every call.
    ///
    /// ```no_run
    /// # async fn example(gateway: client_sdk::GatewayHandle) -> Result<(), client_sdk::Error> {
    /// let answer = gateway.call("get_status", serde_json::json!({}), None).await?;
    /// println!("{}", answer["state"]);
    /// # Ok(()) }
    /// ```
    pub async fn call(
        &self,
        method: &str,
        params: impl Serialize,
        timeout: Option<Duration>,
    ) -> Result<serde_json::Value, Error> {
        self.call_as(method, params, timeout).await
    }

    /// As [`Self::call`], with the answer read as a type.
    ///
    /// # Errors
    /// As every call.
    pub async fn call_as<T: DeserializeOwned>(
        &self,
        method: &str,
        params: impl Serialize,
        timeout: Option<Duration>,
    ) -> Result<T, Error> {
        let answer = self.call_raw(method, params, timeout).await?;
        codec::decode(&answer).map_err(|error| Error::Reply {
            gateway: self.gateway.clone(),
            method: method.to_owned(),
            reason: error.to_string(),
            maybe_executed: has_effect(method),
        })
    }

    /// As [`Self::call`], with the answer as it came.
    pub(crate) async fn call_raw(
        &self,
        method: &str,
        params: impl Serialize,
        timeout: Option<Duration>,
    ) -> Result<Bytes, Error> {
        let timeout = timeout.unwrap_or(self.timeout);
        let began = Instant::now();
        let payload = codec::encode(&params).map_err(|error| Error::InvalidRequest(format!("{method}: {error}")))?;
        let payload = Bytes::from(payload);
        let left = || timeout.saturating_sub(began.elapsed());
        let needs_deadline = Method::from_name(method).is_some_and(Method::needs_deadline);
        let mut is_second = false;
        loop {
            let clock = match needs_deadline {
                true => Some(self.client.node_clock(&self.gateway, left()).await?),
                false => None,
            };
            let call = Call {
                gateway: &self.gateway,
                method,
                // Measuring the node's clock took its part.
                timeout: left(),
                deadline: clock.map(|clock| clock.deadline(began, timeout)),
                traceparent: self.traceparent.as_deref(),
            };
            let answer = call.send(self.client.calls(), self.client.name(), payload.clone()).await;
            let (Err(error), Some(clock)) = (&answer, clock) else { return answer };
            if !outdates_clock(error) {
                return answer;
            }
            self.client.forget_clock(&self.gateway, clock);
            // A cancel is not refused because of a clock that we have not heard of yet.
            if is_second || error.maybe_executed() || left().is_zero() {
                return answer;
            }
            is_second = true;
        }
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, params: &impl Serialize) -> Result<T, Error> {
        self.call_as(method.as_str(), params, None).await
    }

    /// All pages of a list, and the oldest journal position among them.
    pub(crate) async fn pages<T: DeserializeOwned>(&self, method: Method, mut params: List) -> Result<Pages<T>, Error> {
        let mut pages = Pages::default();
        loop {
            let page = self.page(method, &params).await?;
            match pages.take(page) {
                Ok(None) => return Ok(pages),
                Ok(cursor) => params.cursor = cursor,
                Err(()) => return Err(self.endless(method)),
            }
        }
    }

    async fn page<T: DeserializeOwned>(&self, method: Method, params: &impl Serialize) -> Result<Page<T>, Error> {
        let answer = self.call_raw(method.as_str(), params, None).await?;
        read_page(&answer, method).map_err(|error| Error::Reply {
            gateway: self.gateway.clone(),
            method: method.as_str().to_owned(),
            reason: error.to_string(),
            maybe_executed: false,
        })
    }

    fn endless(&self, method: Method) -> Error {
        Error::Reply {
            gateway: self.gateway.clone(),
            method: method.as_str().to_owned(),
            reason: "its pages lead back to where they came from".to_owned(),
            maybe_executed: false,
        }
    }
}

/// Reads a page. Of what a newer node may have put into it, only the items not understood are left out.
fn read_page<T: DeserializeOwned>(answer: &[u8], method: Method) -> Result<Page<T>, codec::DecodeError> {
    let error = match codec::decode::<Page<T>>(answer) {
        Ok(page) => return Ok(page),
        Err(error) => error,
    };
    let raw = codec::decode::<Page<serde_json::Value>>(answer)?;
    let all = raw.items.len();
    let items: Vec<T> = raw.items.into_iter().filter_map(|item| serde_json::from_value(item).ok()).collect();
    let skipped = all - items.len();
    tracing::warn!(method = method.as_str(), skipped, %error, "items of a list do not decode and are skipped");
    Ok(Page { items, next: raw.next, journal_seq: raw.journal_seq })
}

/// A list put together from its pages.
#[derive(Debug)]
pub(crate) struct Pages<T> {
    pub items: Vec<T>,
    /// Oldest position that any page reflects.
    pub journal_seq: Option<u64>,
    cursor: Option<String>,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Pages { items: Vec::new(), journal_seq: None, cursor: None }
    }
}

impl<T> Pages<T> {
    /// Takes in a page and says where the next one begins; `Err` if it is where this one began.
    fn take(&mut self, page: Page<T>) -> Result<Option<String>, ()> {
        self.items.extend(page.items);
        self.journal_seq = match (self.journal_seq, page.journal_seq) {
            (Some(known), Some(new)) => Some(known.min(new)),
            (known, new) => known.or(new),
        };
        if page.next.is_some() && page.next == self.cursor {
            return Err(());
        }
        self.cursor.clone_from(&page.next);
        Ok(page.next)
    }
}

fn subscribe_request(instrument: &InstrumentId) -> SubscribeRequest {
    SubscribeRequest { symbol: instrument.symbol.clone(), exchange: instrument.exchange }
}

fn get_instrument(instrument: &InstrumentId) -> GetInstrument {
    GetInstrument { symbol: instrument.symbol.clone(), exchange: instrument.exchange }
}

/// Whether a refill must give up and a snapshot be taken instead.
pub(crate) fn is_too_old(error: &Error) -> bool {
    error.code() == Some(ErrorCode::TooOld)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(items: &[u8], next: Option<&str>, journal_seq: Option<u64>) -> Page<u8> {
        Page { items: items.to_vec(), next: next.map(str::to_owned), journal_seq }
    }

    #[test]
    fn pages_add_up_and_the_oldest_position_counts() {
        let mut pages = Pages::default();
        assert_eq!(pages.take(page(&[1, 2], Some("b"), Some(10))), Ok(Some("b".to_owned())));
        assert_eq!(pages.take(page(&[3], Some("c"), Some(9))), Ok(Some("c".to_owned())));
        assert_eq!(pages.take(page(&[], None, Some(12))), Ok(None));
        assert_eq!((pages.items, pages.journal_seq), (vec![1, 2, 3], Some(9)));
    }

    #[test]
    fn pages_that_lead_nowhere_end() {
        let mut pages = Pages::default();
        assert!(pages.take(page(&[1], Some("b"), None)).is_ok());
        assert!(pages.take(page(&[1], Some("b"), None)).is_err());
    }

    #[test]
    fn an_item_that_is_not_understood_does_not_hide_the_others() {
        let page = br#"{"items":[1,"two",3],"next":"c","journal_seq":9}"#;
        let page = read_page::<u8>(page, Method::GetAllContracts).expect("the rest is read");
        assert_eq!((page.items, page.next.as_deref(), page.journal_seq), (vec![1, 3], Some("c"), Some(9)));
        assert!(read_page::<u8>(b"[]", Method::GetAllContracts).is_err());
    }
}
