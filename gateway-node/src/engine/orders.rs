//! Orders, quotes and cancels on their way out: seen this id? → deadline → risk → reference → journal → venue → answer.

use std::collections::HashMap;
use std::time::Duration;

use protocol::defect::{Defect, is_planted};
use protocol::event::OmsEvent;
use protocol::journal::Private;
use protocol::oms::OrderKey;
use protocol::rpc::{CancelAll, CancelFailure, CancelledAll, Deadline, Done};
use protocol::{
    CancelRequest, Contract, ErrorCode, Exchange, GatewayState, LogLevel, Name, OmsState, Order, OrderRequest,
    OrderStatus, Quote, QuoteRequest, RpcError, Symbol, Timestamp,
};

use super::calls::{Refusal, check_in_time, check_not_past, key};
use super::day::{past_answer, past_quote_answer};
use super::{
    Approval, Caller, Cancels, Days, Effect, Effects, Engine, Now, ReplyTo, Submit, VenueCommand, encode, refusal,
};
use crate::gateway::{GatewayError, VenueReference};
use crate::reconcile::Target;
use crate::risk::{self, Leg};

/// Most bytes of a `reference`.
const MAX_REFERENCE: usize = 256;

/// The references of everything that is known.
pub(super) fn references_of(state: &OmsState, days: &Days) -> HashMap<VenueReference, Target> {
    let parse = |text: &Name| text.parse::<VenueReference>().ok();
    let orders = state
        .orders()
        .iter()
        .filter_map(|(key, order)| Some((parse(order.venue_reference.as_ref()?)?, Target::Order(key.clone()))));
    let quotes = state
        .quotes()
        .iter()
        .filter_map(|(key, quote)| Some((parse(quote.venue_reference.as_ref()?)?, Target::Quote(key.clone()))));
    let past = days.past_references().filter_map(|(reference, key, is_quote)| {
        let target = if is_quote { Target::Quote(key.clone()) } else { Target::Order(key.clone()) };
        Some((parse(reference)?, target))
    });
    past.chain(orders).chain(quotes).collect()
}

/// An order or a quote that was handed to the venue's adapter, of which the venue has said nothing yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unconfirmed {
    /// When it was handed over.
    pub sent: Duration,
    /// When the venue was last asked about it.
    pub asked: Duration,
}

/// Who sends an order or a quote, and how.
pub(super) struct To<'a> {
    pub reply: ReplyTo,
    pub caller: &'a Caller,
    pub deadline: Deadline,
    pub traceid: Option<Name>,
}

/// Midnight before the year 9999, in milliseconds since 1970.
const CALENDAR_END_MS: i64 = 253_370_764_800_000;

/// A deadline as it is journalled; one beyond what a calendar holds is at its end. Every intent has one: it is what risk
/// counts an order by.
fn instant(deadline_ms: i64) -> Timestamp {
    let deadline_ms = deadline_ms.clamp(0, CALENDAR_END_MS);
    chrono::DateTime::from_timestamp_millis(deadline_ms).unwrap_or_default().fixed_offset()
}

/// Whether an order is what this request made: the table of ids is the journal itself.
fn is_same_order(order: &Order, request: &OrderRequest) -> bool {
    order.symbol == request.symbol
        && order.exchange == request.exchange
        && order.direction == request.direction
        && order.r#type == request.r#type
        && order.offset == request.offset
        && order.volume.to_bits() == request.volume.to_bits()
        && order.price.map(f64::to_bits) == request.price.map(f64::to_bits)
        && order.reference == request.reference
}

fn is_same_quote(quote: &Quote, request: &QuoteRequest) -> bool {
    quote.symbol == request.symbol
        && quote.exchange == request.exchange
        && quote.bid_price.to_bits() == request.bid_price.to_bits()
        && quote.ask_price.to_bits() == request.ask_price.to_bits()
        && quote.bid_volume.to_bits() == request.bid_volume.to_bits()
        && quote.ask_volume.to_bits() == request.ask_volume.to_bits()
        && quote.bid_offset == request.bid_offset
        && quote.ask_offset == request.ask_offset
        && quote.reference == request.reference
}

fn reused(key: &OrderKey, what: &str) -> Refusal {
    Refusal::OnceStored(RpcError::new(
        ErrorCode::OrderIdReused,
        format!("{} is the id of {what} with other content: allocate a new id for each", key.orderid),
    ))
}

impl Engine {
    pub(super) fn send_order(
        &mut self,
        now: Now,
        to: To<'_>,
        request: OrderRequest,
        out: &mut Effects,
    ) -> Result<(), Refusal> {
        let (reply, caller, deadline) = (to.reply, to.caller, to.deadline);
        check_id(&request.orderid, &request.reference)?;
        let key = OrderKey { owner: caller.owner.clone(), orderid: request.orderid.clone() };
        if let Some(order) = self.state.order(&key).filter(|_| !is_planted(Defect::Ids)) {
            if !is_same_order(order, &request) {
                return Err(reused(&key, "an order"));
            }
            out.push(Effect::Reply(reply, encode(order)));
            return Ok(());
        }
        if self.state.quote(&key).is_some() {
            return Err(reused(&key, "a quote"));
        }
        if let Some(past) = self.days.past(&key) {
            let order = past_answer(past, &request, &self.options.gateway).ok_or_else(|| reused(&key, "an order"))?;
            out.push(Effect::Reply(reply, encode(&order)));
            return Ok(());
        }
        self.days.check_age(&key.orderid, self.options.keep_ids_days)?;
        check_in_time(now, self.options.epoch, deadline)?;
        self.check_open_for(&key.owner)?;
        let contract = self.contract(&request.instrument())?;
        // What is held is trading state.
        self.check_lessens(&key.owner, &Leg::of_order(&request), contract).map_err(Refusal::OnceStored)?;
        let mut order = request.to_order(&self.options.gateway, &key.owner);
        match risk::approve_order(request, &self.view(now, &key.owner, contract)) {
            Ok(approved) => self.send_approved(now, to, key, Approval::Order(approved), out),
            Err(error) => {
                order.status = OrderStatus::Rejected;
                order.reason = Some(error.message.clone());
                order.traceid = to.traceid;
                self.record(now, OmsEvent::Order(order), out);
                out.push(Effect::Reply(to.reply, Err(error)));
            }
        }
        Ok(())
    }

    pub(super) fn send_quote(
        &mut self,
        now: Now,
        to: To<'_>,
        request: QuoteRequest,
        out: &mut Effects,
    ) -> Result<(), Refusal> {
        let (reply, caller, deadline) = (to.reply, to.caller, to.deadline);
        check_id(&request.quoteid, &request.reference)?;
        let key = OrderKey { owner: caller.owner.clone(), orderid: request.quoteid.clone() };
        if let Some(quote) = self.state.quote(&key) {
            if !is_same_quote(quote, &request) {
                return Err(reused(&key, "a quote"));
            }
            out.push(Effect::Reply(reply, encode(quote)));
            return Ok(());
        }
        if self.state.order(&key).is_some() {
            return Err(reused(&key, "an order"));
        }
        if let Some(past) = self.days.past(&key) {
            let quote =
                past_quote_answer(past, &request, &self.options.gateway).ok_or_else(|| reused(&key, "a quote"))?;
            out.push(Effect::Reply(reply, encode(&quote)));
            return Ok(());
        }
        self.days.check_age(&key.orderid, self.options.keep_ids_days)?;
        check_in_time(now, self.options.epoch, deadline)?;
        self.check_open_for(&key.owner)?;
        let contract = self.contract(&request.instrument())?;
        self.check_lessens(&key.owner, &Leg::of_quote(&request), contract).map_err(Refusal::OnceStored)?;
        let mut quote = request.to_quote(&self.options.gateway, &key.owner);
        match risk::approve_quote(request, &self.view(now, &key.owner, contract)) {
            Ok(approved) => self.send_approved(now, to, key, Approval::Quote(approved), out),
            Err(error) => {
                quote.status = OrderStatus::Rejected;
                quote.reason = Some(error.message.clone());
                quote.traceid = to.traceid;
                self.record(now, OmsEvent::Quote(quote), out);
                out.push(Effect::Reply(to.reply, Err(error)));
            }
        }
        Ok(())
    }

    /// What risk looks at.
    fn view<'a>(&'a self, now: Now, owner: &'a Name, contract: &'a Contract) -> risk::View<'a> {
        risk::View {
            gateway: &self.options.gateway,
            owner,
            contract,
            last_price: self.ticks.get(&contract.instrument()).and_then(|tick| tick.data.last_price),
            state: &self.state,
            counters: &self.counters,
            limits: &self.options.limits,
            now: now.wall,
        }
    }

    /// Journals the intent, and sends it once that is stored.
    fn send_approved(&mut self, now: Now, to: To<'_>, key: OrderKey, approval: Approval, out: &mut Effects) {
        let To { reply, deadline: Deadline { ms: deadline_ms, .. }, traceid, .. } = to;
        let reference = self.session.allocate();
        let target = match &approval {
            Approval::Order(_) => Target::Order(key.clone()),
            Approval::Quote(_) => Target::Quote(key.clone()),
        };
        self.references.insert(reference.clone(), target);
        let leave_by = now.mono_at(deadline_ms);
        let submit = Submit { key, reference, approval, deadline_ms, leave_by, traceid, reply };
        let mut intent = self.as_sent(&submit);
        match &mut intent {
            OmsEvent::Order(order) => order.deadline = Some(instant(deadline_ms)),
            OmsEvent::Quote(quote) => quote.deadline = Some(instant(deadline_ms)),
            OmsEvent::Trade(_) | OmsEvent::Position(_) | OmsEvent::Account(_) => {}
        }
        self.record(now, intent, out);
        self.unsent.insert(submit.key.clone(), false);
        out.push(Effect::Submit(Box::new(submit)));
    }

    /// The order or the quote on its way to the venue.
    fn as_sent(&self, submit: &Submit) -> OmsEvent {
        let venue_reference = Some(submit.reference.to_string().into());
        let (gateway, traceid) = (&self.options.gateway, submit.traceid.clone());
        match &submit.approval {
            Approval::Order(request) => {
                OmsEvent::Order(Order { venue_reference, traceid, ..request.to_order(gateway, &submit.key.owner) })
            }
            Approval::Quote(request) => {
                OmsEvent::Quote(Quote { venue_reference, traceid, ..request.to_quote(gateway, &submit.key.owner) })
            }
        }
    }

    /// Whether new orders of this owner are taken at all. Refusals here are not journalled: the same id may try again.
    fn check_open_for(&self, owner: &Name) -> Result<(), RpcError> {
        self.check_not_halted(owner)?;
        if self.storage_full {
            return Err(RpcError::new(
                ErrorCode::StorageFull,
                "the journal's storage is full: no new orders until it has room; nothing was sent",
            ));
        }
        match self.gateway_state() {
            GatewayState::Ready => {}
            GatewayState::Dirty => {
                return Err(RpcError::new(ErrorCode::Dirty, "the venue's state is uncertain; it is being reconciled"));
            }
            GatewayState::Closing => {
                return Err(RpcError::new(ErrorCode::NotReady, "the node is shutting down; nothing was sent"));
            }
            _ => return Err(self.not_ready()),
        }
        self.check_journal_keeps_up()
    }

    /// The last look before the venue: everything ahead is stored, and time has passed.
    ///
    /// # Errors
    /// Why it must not be sent; [`Engine::on_not_sent`] wants to hear it.
    pub fn before_submit(&self, now: Now, submit: &Submit) -> Result<(), RpcError> {
        if self.unsent.get(&submit.key).copied().unwrap_or(true) {
            return Err(RpcError::new(ErrorCode::OrderNotActive, "cancelled before it was sent"));
        }
        check_not_past(now, submit.deadline_ms)?;
        if now.mono > submit.leave_by {
            let late = now.mono.saturating_sub(submit.leave_by).as_millis();
            return Err(RpcError::new(
                ErrorCode::DeadlineExceeded,
                format!("the deadline passed {late} ms ago, though the clock was set back; nothing was done"),
            ));
        }
        if !self.session.is_logged_in() || *self.session.id() != submit.reference.session {
            return Err(refusal(&GatewayError::SessionChanged));
        }
        self.check_not_halted_since(submit)
    }

    /// The adapter took it. The answer shows the intent, which is stored.
    pub fn on_sent(&mut self, now: Now, submit: &Submit, out: &mut Effects) {
        self.unsent.remove(&submit.key);
        self.unconfirmed.insert(submit.key.clone(), Unconfirmed { sent: now.mono, asked: now.mono });
        let answer = match self.as_sent(submit) {
            OmsEvent::Order(order) => encode(&order),
            OmsEvent::Quote(quote) => encode(&quote),
            OmsEvent::Trade(_) | OmsEvent::Position(_) | OmsEvent::Account(_) => {
                unreachable!("orders and quotes are sent")
            }
        };
        out.push(Effect::ReplyNow(submit.reply, answer));
    }

    /// It did not leave this process: say so in the journal, then to the caller.
    pub fn on_not_sent(&mut self, now: Now, submit: &Submit, error: RpcError, out: &mut Effects) {
        let was_cancelled = self.unsent.remove(&submit.key) == Some(true);
        let status = if was_cancelled { OrderStatus::Cancelled } else { OrderStatus::Rejected };
        let reason = Some(error.message.clone());
        if let Some(order) = self.state.order(&submit.key) {
            let order = Order { status, reason, ..order.clone() };
            self.record(now, OmsEvent::Order(order), out);
        } else if let Some(quote) = self.state.quote(&submit.key) {
            let quote = Quote { status, reason, ..quote.clone() };
            self.record(now, OmsEvent::Quote(quote), out);
        }
        let answer = match (was_cancelled, self.state.order(&submit.key), self.state.quote(&submit.key)) {
            (false, ..) => Err(error),
            (true, Some(order), _) => encode(order),
            (true, None, quote) => encode(&quote),
        };
        out.push(Effect::Reply(submit.reply, answer));
    }

    pub(super) fn cancel_order(
        &mut self,
        now: Now,
        reply: ReplyTo,
        caller: &Caller,
        request: &CancelRequest,
        out: &mut Effects,
    ) -> Result<(), Refusal> {
        let key = key(caller, request.owner.as_ref(), request.orderid.clone())?;
        let Some(order) = self.state.order(&key) else {
            return Err(not_found(&key, "order").into());
        };
        check_cancel(request, &order.symbol, order.exchange, order.status)?;
        self.check_cancel_limits(now, &key)?;
        Ok(self.cancel(now, reply, &Target::Order(key), out)?)
    }

    pub(super) fn cancel_quote(
        &mut self,
        now: Now,
        reply: ReplyTo,
        caller: &Caller,
        request: &CancelRequest,
        out: &mut Effects,
    ) -> Result<(), Refusal> {
        let key = key(caller, request.owner.as_ref(), request.orderid.clone())?;
        let Some(quote) = self.state.quote(&key) else {
            return Err(not_found(&key, "quote").into());
        };
        check_cancel(request, &quote.symbol, quote.exchange, quote.status)?;
        self.check_cancel_limits(now, &key)?;
        Ok(self.cancel(now, reply, &Target::Quote(key), out)?)
    }

    /// What has not left for the venue yet costs it no message, and is stopped whatever the limits say.
    fn check_cancel_limits(&self, now: Now, key: &OrderKey) -> Result<(), RpcError> {
        if self.unsent.contains_key(key) {
            return Ok(());
        }
        risk::check_cancel(&self.options.gateway, &key.owner, &self.counters, &self.options.limits, now.wall)
    }

    /// Cancels pass the gate, so that a slow journal never stops anyone from getting out. What is still behind the
    /// gate is stopped there.
    fn cancel(&mut self, now: Now, reply: ReplyTo, target: &Target, out: &mut Effects) -> Result<(), RpcError> {
        // The answer says no more than that the cancel is on its way: the order's state would have to wait for the
        // journal, and a cancel must not.
        let answer = encode(&Done {});
        match self.way_to_cancel(target)? {
            None => out.push(Effect::ReplyNow(reply, answer)),
            Some(reference) => out.push(Effect::Venue(match target {
                Target::Order(_) => VenueCommand::Cancel(reference, Some((reply, answer))),
                Target::Quote(_) => VenueCommand::CancelQuote(reference, Some((reply, answer))),
            })),
        }
        self.journal_cancel(now, target.key(), out);
        Ok(())
    }

    /// What to name at the venue; nothing if it is stopped before it gets there.
    fn way_to_cancel(&mut self, target: &Target) -> Result<Option<VenueReference>, RpcError> {
        if let Some(cancelled) = self.unsent.get_mut(target.key()) {
            *cancelled = true;
            return Ok(None);
        }
        let reference = match target {
            Target::Order(key) => self.state.order(key).and_then(|order| order.venue_reference.as_ref()),
            Target::Quote(key) => self.state.quote(key).and_then(|quote| quote.venue_reference.as_ref()),
        };
        let reference = reference.and_then(|text| text.parse().ok()).ok_or_else(|| {
            RpcError::new(ErrorCode::NotFound, format!("{} has no reference at the venue", target.key().orderid))
        })?;
        if self.session.takes_cancels() { Ok(Some(reference)) } else { Err(self.not_ready()) }
    }

    /// The record is for auditors; a journal that is stuck this long is not worth holding a cancel for.
    fn journal_cancel(&mut self, now: Now, key: &OrderKey, out: &mut Effects) {
        if self.journal_backlog() < self.options.max_journal_backlog * 2 {
            self.record_private(
                Private::CancelRequested { owner: key.owner.clone(), orderid: key.orderid.clone(), time: now.wall },
                out,
            );
        }
    }

    pub(super) fn cancel_all(
        &mut self,
        now: Now,
        reply: ReplyTo,
        owner: &Name,
        request: &CancelAll,
        out: &mut Effects,
    ) {
        let of = |symbol: &Symbol, exchange: Exchange| {
            request.symbol.as_ref().is_none_or(|s| s == symbol) && request.exchange.is_none_or(|e| e == exchange)
        };
        let orders = self.state.active_orders().filter(|o| o.owner == *owner && of(&o.symbol, o.exchange));
        let orders = orders.map(|o| Target::Order(o.into()));
        let quotes = self.state.active_quotes().filter(|q| q.owner == *owner && of(&q.symbol, q.exchange));
        let targets: Vec<Target> = orders.chain(quotes.map(|q| Target::Quote(q.into()))).collect();
        self.cancel_each(now, Some(reply), targets, out);
    }

    /// Cancels these, whatever the limits on cancels say: they are there for those who cancel one by one. The answer
    /// waits for what the adapter says to each.
    pub(super) fn cancel_each(&mut self, now: Now, reply: Option<ReplyTo>, targets: Vec<Target>, out: &mut Effects) {
        let mut cancels = Cancels { each: Vec::new(), reply: reply.map(|to| (to, CancelledAll::default())) };
        let mut stopped = Vec::new();
        let mut failed = Vec::new();
        for target in targets {
            match self.way_to_cancel(&target) {
                Ok(Some(reference)) => cancels.each.push((target, reference)),
                Ok(None) => stopped.push(target),
                Err(error) => failed.push((target, error)),
            }
        }
        if let Some((_, result)) = &mut cancels.reply {
            result.orderids.extend(stopped.iter().map(|target| target.key().orderid.clone()));
            result.failed.extend(failed.iter().map(|(target, error)| failure(target, error)));
        }
        match cancels.reply {
            Some((to, result)) if cancels.each.is_empty() => out.push(Effect::ReplyNow(to, encode(&result))),
            _ if cancels.each.is_empty() => {}
            _ => out.push(Effect::Venue(VenueCommand::CancelEach(Box::new(cancels)))),
        }
        for target in stopped {
            if self.cancel_is_taken(now, &target) {
                self.journal_cancel(now, target.key(), out);
            }
        }
        self.keep_uncancelled(now, failed, out);
    }

    /// What the adapter said to each of these cancels, and who waits for it.
    pub fn on_cancels(
        &mut self,
        now: Now,
        reply: Option<(ReplyTo, CancelledAll)>,
        outcomes: Vec<(Target, Result<(), GatewayError>)>,
        out: &mut Effects,
    ) {
        let (mut sent, mut failed) = (Vec::new(), Vec::new());
        for (target, outcome) in outcomes {
            match outcome {
                Ok(()) => sent.push(target),
                Err(error) => failed.push((target, refusal(&error))),
            }
        }
        if let Some((to, mut result)) = reply {
            result.orderids.extend(sent.iter().map(|target| target.key().orderid.clone()));
            result.failed.extend(failed.iter().map(|(target, error)| failure(target, error)));
            out.push(Effect::ReplyNow(to, encode(&result)));
        }
        for target in sent {
            if self.cancel_is_taken(now, &target) {
                self.journal_cancel(now, target.key(), out);
            }
        }
        self.keep_uncancelled(now, failed, out);
    }

    /// Orders that the venue is silent about are looked up, never sent again.
    pub(super) fn look_for_unconfirmed(&mut self, now: Now, out: &mut Effects) {
        let patience = self.options.unconfirmed_after;
        let state = &self.state;
        // What the venue has told of is confirmed, though it may be SUBMITTING: a counter parks orders.
        self.unconfirmed.retain(|key, _| {
            let told = state.order(key).map(|o| (o.status, o.deadline));
            let told = told.or_else(|| state.quote(key).map(|q| (q.status, q.deadline)));
            told.is_some_and(|(status, deadline)| risk::is_intent(status, deadline))
        });
        let late: Vec<OrderKey> = self
            .unconfirmed
            .iter()
            .filter(|(_, unconfirmed)| now.mono.saturating_sub(unconfirmed.asked) > patience)
            .map(|(key, _)| key.clone())
            .collect();
        if late.is_empty() || !self.session.is_logged_in() {
            return;
        }
        for key in &late {
            self.log(
                now,
                LogLevel::Warning,
                format!("order {} is not confirmed after {} s: asking the venue", key.orderid, patience.as_secs()),
                out,
            );
            if let Some(unconfirmed) = self.unconfirmed.get_mut(key) {
                unconfirmed.asked = now.mono;
            }
        }
        self.ask_for_snapshot(now, out);
    }
}

fn check_id(id: &protocol::OrderId, reference: &Name) -> Result<(), RpcError> {
    id.check_client_allocated().map_err(|error| RpcError::new(ErrorCode::BadRequest, format!("orderid: {error}")))?;
    if reference.len() > MAX_REFERENCE {
        let message = format!("reference: {} bytes; the most that is kept is {MAX_REFERENCE}", reference.len());
        return Err(RpcError::new(ErrorCode::BadRequest, message));
    }
    Ok(())
}

fn failure(target: &Target, error: &RpcError) -> CancelFailure {
    CancelFailure { orderid: target.key().orderid.clone(), error: error.clone() }
}

fn not_found(key: &OrderKey, what: &str) -> RpcError {
    let id: String = key.orderid.as_str().chars().take(80).collect();
    RpcError::new(ErrorCode::NotFound, format!("{} has no {what} {id}", key.owner))
}

/// What it says of the order waits for the journal, as its state does: refused, it cancels nothing.
fn check_cancel(
    request: &CancelRequest,
    symbol: &Symbol,
    exchange: Exchange,
    status: OrderStatus,
) -> Result<(), Refusal> {
    if request.symbol.as_ref().is_some_and(|s| s != symbol) || request.exchange.is_some_and(|e| e != exchange) {
        return Err(Refusal::OnceStored(RpcError::new(
            ErrorCode::BadRequest,
            format!("symbol: {} is of {symbol}.{exchange}, not of what the request names", request.orderid),
        )));
    }
    if !status.is_active() {
        return Err(Refusal::OnceStored(RpcError::new(
            ErrorCode::OrderNotActive,
            format!("{} is {status}: there is nothing to cancel", request.orderid),
        )));
    }
    Ok(())
}
