//! Orders and quotes on their way out: an answer that is lost is found out, within the caller's own deadline and a little
//! longer, so that nobody has to guess.
//!
//! Every attempt carries the one deadline of the call, on the clock of the epoch that is to receive it, and names that
//! epoch: no other executes it. Before the deadline the same id is sent again, which never makes a second order. After it
//! no new order can come of any attempt, so that a leader whose clock has passed it and that has no such order says for
//! certain: not executed.

use std::time::Duration;

use bytes::Bytes;
use protocol::rpc::{GetOrder, Method};
use protocol::{ErrorCode, Name, Order, OrderId, OrderRequest, Quote, QuoteRequest, RpcError, Status, codec};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::board::Heartbeats;
use crate::call::{Call, new_traceparent};
use crate::clock::outdates_clock;
use crate::error::Error;
use crate::gateway::GatewayHandle;

/// How much longer than its timeout a call may take to find out what became of an order whose answer was lost.
pub(crate) const SETTLING: Duration = Duration::from_secs(5);
/// Pause before an order of unknown outcome is sent again, or asked for again.
const PAUSE: Duration = Duration::from_millis(200);
/// A node's clock must be this far past the deadline before "no such order" is believed: its clock may be slewed.
const MARGIN_MS: i64 = 250;
/// Longest wait for one answer to a look-up.
const LOOK_UP: Duration = Duration::from_secs(2);

/// What is sent under an id of the client's own.
pub(crate) trait Sendable: Serialize {
    /// What it becomes.
    type Sent: DeserializeOwned;
    const SEND: Method;
    const LOOK_UP: Method;

    fn id(&self) -> &OrderId;
    /// Its numbers, by name: JSON cannot hold all of them.
    fn numbers(&self) -> Vec<(&'static str, Option<f64>)>;
    /// Whether this request made that: the id may be another's.
    fn made(&self, sent: &Self::Sent) -> bool;
}

impl Sendable for OrderRequest {
    type Sent = Order;
    const SEND: Method = Method::SendOrder;
    const LOOK_UP: Method = Method::GetOrder;

    fn id(&self) -> &OrderId {
        &self.orderid
    }

    fn numbers(&self) -> Vec<(&'static str, Option<f64>)> {
        vec![("volume", Some(self.volume)), ("price", self.price)]
    }

    fn made(&self, sent: &Order) -> bool {
        let request_of_sent = OrderRequest {
            orderid: sent.orderid.clone(),
            symbol: sent.symbol.clone(),
            exchange: sent.exchange,
            direction: sent.direction,
            r#type: sent.r#type,
            volume: sent.volume,
            price: sent.price,
            offset: sent.offset,
            reference: sent.reference.clone(),
        };
        *self == request_of_sent
    }
}

impl Sendable for QuoteRequest {
    type Sent = Quote;
    const SEND: Method = Method::SendQuote;
    const LOOK_UP: Method = Method::GetQuote;

    fn id(&self) -> &OrderId {
        &self.quoteid
    }

    fn numbers(&self) -> Vec<(&'static str, Option<f64>)> {
        vec![
            ("bid_price", Some(self.bid_price)),
            ("bid_volume", Some(self.bid_volume)),
            ("ask_price", Some(self.ask_price)),
            ("ask_volume", Some(self.ask_volume)),
        ]
    }

    fn made(&self, sent: &Quote) -> bool {
        let request_of_sent = QuoteRequest {
            quoteid: sent.quoteid.clone(),
            symbol: sent.symbol.clone(),
            exchange: sent.exchange,
            bid_price: sent.bid_price,
            bid_volume: sent.bid_volume,
            ask_price: sent.ask_price,
            ask_volume: sent.ask_volume,
            bid_offset: sent.bid_offset,
            ask_offset: sent.ask_offset,
            reference: sent.reference.clone(),
        };
        *self == request_of_sent
    }
}

/// One order or quote on its way out.
pub(crate) struct Sending<'a, R: Sendable> {
    gateway: &'a GatewayHandle,
    request: &'a R,
    payload: Bytes,
    /// All attempts belong to one trace.
    traceparent: String,
    end: Instant,
    /// The latest deadline that any attempt carried, on the clock of the epoch that it was meant for.
    latest_deadline_ms: i64,
    /// The highest epoch that any attempt named.
    highest_epoch: u64,
    /// The failure that left the outcome unknown.
    doubt: Option<Error>,
}

impl<'a, R: Sendable> Sending<'a, R> {
    /// Checks the request: nothing is sent yet.
    pub(crate) fn new(gateway: &'a GatewayHandle, request: &'a R) -> Result<Self, Error> {
        check_finite(&request.numbers())?;
        request.id().check_client_allocated().map_err(|error| Error::InvalidRequest(error.to_string()))?;
        let unwritable = |error| Error::InvalidRequest(format!("{}: {error}", R::SEND.as_str()));
        Ok(Sending {
            gateway,
            request,
            payload: Bytes::from(codec::encode(request).map_err(unwritable)?),
            traceparent: gateway.traceparent().map_or_else(new_traceparent, str::to_owned),
            end: Instant::now() + gateway.timeout(),
            latest_deadline_ms: i64::MIN,
            highest_epoch: 0,
            doubt: None,
        })
    }

    /// Sends once. What is unknown stays unknown.
    pub(crate) async fn once(mut self) -> Result<R::Sent, Error> {
        self.attempt(self.gateway.timeout()).await
    }

    /// Sends, and finds out what became of it where the answer is lost.
    pub(crate) async fn resolved(mut self) -> Result<R::Sent, Error> {
        // A third of the time for the first answer leaves more chances within the caller's own timeout.
        let patience = self.gateway.timeout() / 3;
        loop {
            let left = self.end.saturating_duration_since(Instant::now());
            let error = match self.attempt(left.min(patience)).await {
                Ok(sent) => return Ok(sent),
                Err(error) => error,
            };
            if is_last_word(&error, self.doubt.is_some()) {
                return Err(error);
            }
            tracing::info!(id = %self.request.id(), %error, "not settled, sending the same id again");
            let too_late = error.code() == Some(ErrorCode::DeadlineExceeded);
            if error.maybe_executed() {
                self.doubt = Some(error);
            }
            if too_late || Instant::now() + PAUSE >= self.end {
                return self.settle().await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One attempt, which is given up after `patience`, or as soon as another node leads.
    async fn attempt(&mut self, patience: Duration) -> Result<R::Sent, Error> {
        let began = Instant::now();
        let client = self.gateway.client();
        let clock = client.node_clock(self.gateway.name(), patience).await?;
        let deadline = clock.deadline(self.end, Duration::ZERO);
        self.latest_deadline_ms = self.latest_deadline_ms.max(deadline.ms);
        self.highest_epoch = self.highest_epoch.max(clock.epoch());
        let call = Call {
            gateway: self.gateway.name(),
            method: R::SEND.as_str(),
            // Measuring the node's clock took its part.
            timeout: patience.saturating_sub(began.elapsed()),
            deadline: Some(deadline),
            traceparent: Some(&self.traceparent),
        };
        let mut heartbeats = client.heartbeats();
        let answer = tokio::select! {
            answer = call.send(client.calls(), client.name(), self.payload.clone()) => answer,
            () = another_leads(&mut heartbeats, self.gateway.name(), clock.epoch()) => Err(call.timed_out()),
        };
        if answer.as_ref().is_err_and(outdates_clock) {
            client.forget_clock(self.gateway.name(), clock);
        }
        codec::decode(&answer?).map_err(|error| call.unreadable(error))
    }

    /// The deadline is over: asks until somebody who must know has said what became of it.
    async fn settle(self) -> Result<R::Sent, Error> {
        let end = self.end.max(Instant::now()) + SETTLING;
        loop {
            match self.look_up(end).await {
                Ok(Found::Sent(sent)) => return self.own(sent),
                Ok(Found::Nothing) => {
                    return Err(Error::NotExecuted {
                        gateway: self.gateway.name().clone(),
                        method: R::SEND.as_str().to_owned(),
                        timeout: self.gateway.timeout(),
                    });
                }
                Ok(Found::TooEarly) => {}
                Err(error) => tracing::debug!(id = %self.request.id(), %error, "looking an order up failed"),
            }
            if Instant::now() + PAUSE >= end {
                return Err(self.unknown());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Asks the node that leads now. Its clock is read before its state: what it has not by then, it never will.
    async fn look_up(&self, end: Instant) -> Result<Found<R::Sent>, Error> {
        let asking = || {
            let left = end.saturating_duration_since(Instant::now());
            self.gateway.clone().with_timeout(LOOK_UP.min(left))
        };
        let before: Status = asking().get_status().await?;
        let params = GetOrder { orderid: self.request.id().clone(), owner: None };
        let found: Option<R::Sent> = asking().call_as(R::LOOK_UP.as_str(), &params, None).await?;
        let after = self.gateway.client().heard_epoch(self.gateway.name()).max(Some(self.highest_epoch));
        Ok(match found {
            Some(sent) => Found::Sent(sent),
            None if proves_absence(before.epoch, before.time.timestamp_millis(), after, self.latest_deadline_ms) => {
                Found::Nothing
            }
            None => Found::TooEarly,
        })
    }

    fn own(self, sent: R::Sent) -> Result<R::Sent, Error> {
        match self.request.made(&sent) {
            true => Ok(sent),
            false => Err(Error::Rpc(RpcError::new(
                ErrorCode::OrderIdReused,
                format!("{} is the id of something with other content: allocate a new id for each", self.request.id()),
            ))),
        }
    }

    /// What is told when nobody could be asked in time: the doubt, with the time that was really waited.
    fn unknown(self) -> Error {
        match self.doubt {
            Some(Error::Timeout { gateway, method, maybe_executed, .. }) => {
                Error::Timeout { gateway, method, maybe_executed, timeout: self.gateway.timeout() + SETTLING }
            }
            Some(doubt) => doubt,
            None => Error::Timeout {
                gateway: self.gateway.name().clone(),
                method: R::SEND.as_str().to_owned(),
                timeout: self.gateway.timeout() + SETTLING,
                maybe_executed: true,
            },
        }
    }
}

/// What a look-up came to.
enum Found<T> {
    /// It is there.
    Sent(T),
    /// It is not there, and never will be.
    Nothing,
    /// It is not there yet.
    TooEarly,
}

/// Whether "no such order" is final: said by the node that leads (nobody of a higher epoch has been heard), at a time on
/// its own clock that is past every deadline that was sent. Its clock never goes back, and whoever leads after it, on
/// whatever clock, refuses what names an earlier epoch.
#[must_use]
pub fn proves_absence(epoch: u64, node_ms: i64, heard_epoch: Option<u64>, latest_deadline_ms: i64) -> bool {
    heard_epoch.is_none_or(|heard| heard <= epoch) && node_ms > latest_deadline_ms.saturating_add(MARGIN_MS)
}

/// Whether an attempt's failure settles what became of the order. Once an earlier attempt may have been executed, only
/// a refusal that used up the id does (it is journalled, so that the earlier attempt meets it); that the gateway is
/// away, busy or halted says nothing of the earlier attempt. A deadline on the wrong leader's clock never settles it:
/// there is time yet to send the same id again under the right one, or it is looked up.
#[must_use]
pub fn is_last_word(error: &Error, in_doubt: bool) -> bool {
    if error.maybe_executed() || error.code() == Some(ErrorCode::EpochChanged) {
        return false;
    }
    let judged = matches!(
        error.code(),
        Some(ErrorCode::OrderIdReused | ErrorCode::InvalidOrder | ErrorCode::RiskRejected | ErrorCode::VenueRejected)
    );
    judged || !in_doubt
}

/// Ends when a heartbeat tells of a higher epoch: the node that was asked leads no more, and its answer may never come.
async fn another_leads(heartbeats: &mut watch::Receiver<Heartbeats>, gateway: &Name, epoch: u64) {
    let higher = |heartbeats: &Heartbeats| heartbeats.get(gateway).is_some_and(|heard| heard.status.epoch > epoch);
    if heartbeats.wait_for(higher).await.is_err() {
        // The client itself is being dropped; the timeout ends the call.
        std::future::pending::<()>().await;
    }
}

/// JSON writes NaN and infinity as null, and a price of null means none: such an order must not leave.
fn check_finite(numbers: &[(&str, Option<f64>)]) -> Result<(), Error> {
    match numbers.iter().find(|(_, number)| number.is_some_and(|number| !number.is_finite())) {
        None => Ok(()),
        Some((name, number)) => {
            let number = number.unwrap_or(f64::NAN);
            Err(Error::InvalidRequest(format!("`{name}` is {number}: write a finite number")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Direction, Exchange, InstrumentId, Offset, OrderStatus};

    #[test]
    fn a_later_failure_does_not_settle_an_earlier_doubt() {
        let timeout = |maybe_executed| Error::Timeout {
            gateway: "sim1".into(),
            method: "send_order".to_owned(),
            timeout: Duration::from_secs(1),
            maybe_executed,
        };
        let gone = Error::GatewayNotRunning { gateway: "sim1".into(), method: "send_order".to_owned() };
        let refused = |code| Error::Rpc(RpcError::new(code, ""));
        for error in [
            timeout(false),
            gone,
            Error::Disconnected,
            refused(ErrorCode::NotReady),
            refused(ErrorCode::Halted),
            refused(ErrorCode::DeadlineExceeded),
            refused(ErrorCode::UnknownContract),
        ] {
            assert!(is_last_word(&error, false), "{error}");
            assert!(!is_last_word(&error, true), "{error}");
        }
        for error in [
            timeout(true),
            refused(ErrorCode::Internal),
            refused(ErrorCode::ShuttingDown),
            refused(ErrorCode::EpochChanged),
        ] {
            assert!(!is_last_word(&error, false) && !is_last_word(&error, true), "{error}");
        }
        for code in [ErrorCode::RiskRejected, ErrorCode::OrderIdReused, ErrorCode::VenueRejected] {
            assert!(is_last_word(&refused(code), true) && is_last_word(&refused(code), false), "{code}");
        }
    }

    #[test]
    fn only_the_leader_past_every_deadline_proves_that_there_is_no_order() {
        assert!(proves_absence(3, 10_251, Some(3), 10_000));
        assert!(proves_absence(3, 10_251, None, 10_000), "heartbeats may be hidden from us");
        assert!(!proves_absence(3, 10_250, Some(3), 10_000), "an attempt may still be under way");
        assert!(!proves_absence(3, 10_251, Some(4), 10_000), "a node that leads no more may not know");
        assert!(!proves_absence(3, 10_251, Some(3), 20_000), "another epoch's clock was ahead");
    }

    #[test]
    fn an_order_is_told_from_another_under_its_id() {
        let request = OrderRequest::limit(
            InstrumentId::new("rb2410", Exchange::SHFE),
            Direction::Long,
            Offset::Open,
            3500.0,
            2.0,
        );
        let mut order = request.to_order(&"sim1".into(), &"default".into());
        order.status = OrderStatus::PartTraded;
        order.traded = 1.0;
        order.venue_reference = Some("7/1".into());
        assert!(request.made(&order));
        for other in [
            Order { volume: 3.0, ..order.clone() },
            Order { price: Some(3501.0), ..order.clone() },
            Order { direction: Direction::Short, ..order.clone() },
            Order { reference: "another".into(), ..order.clone() },
        ] {
            assert!(!request.made(&other), "{other:?}");
        }
    }

    #[test]
    fn a_number_that_json_cannot_hold_is_named() {
        let error = check_finite(&[("volume", Some(1.0)), ("price", Some(f64::NAN))]).expect_err("refused");
        assert_eq!(error.to_string(), "`price` is NaN: write a finite number");
        assert!(check_finite(&[("volume", Some(1.0)), ("price", None)]).is_ok());
    }
}
