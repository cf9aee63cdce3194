//! `send`, `cancel`, `cancel-all`: what acts on orders. Whatever happens, an outcome that is unknown is never
//! reported as a success or as a refusal.

use client_sdk::{Error, Filter, GatewayHandle, OrderStream, Update};
use protocol::oms::{Applied, OrderKey};
use protocol::rpc::Done;
use protocol::{
    CancelRequest, ErrorCode, Name, OmsEvent, OmsState, Order, OrderId, OrderRequest, OrderStatus, RpcError,
};

use super::Session;
use super::lists::external_owner;
use super::ticks::missed_sentence;
use crate::args::{CancelAllArgs, CancelArgs};
use crate::exit::Failure;
use crate::format::Decimals;
use crate::out::note;
use crate::rows;

impl Session {
    pub(super) async fn send(&mut self, request: OrderRequest, wait: bool) -> Result<(), Failure> {
        let id = request.orderid.clone();
        let instrument = request.instrument();
        let mut interrupt = self.interrupt.clone();
        let gateway = tokio::select! {
            gateway = self.gateway_of(&instrument) => gateway?,
            () = interrupt.pressed() => return Err(Failure::Interrupted), // nothing was sent yet
        };
        // Listening begins before the order can change.
        let changes = if wait {
            let filter = Filter::instrument(&instrument).gateway(gateway.name().clone());
            Some(self.client.orders(filter).await?)
        } else {
            None
        };
        let sent = tokio::select! {
            sent = gateway.send_order(&request) => sent,
            () = interrupt.pressed() => return Err(interrupted(&gateway, &id, "while the order was being sent")),
        };
        let order = sent.map_err(|error| Failure::of_order(error, gateway.name(), &id, &format!("orders {id}")))?;
        let decimals = if self.out.is_json() {
            Decimals::default()
        } else {
            self.decimals(&gateway, std::iter::once(instrument)).await
        };
        match changes {
            None => {
                self.out.list(rows::ORDER, std::slice::from_ref(&order), |o| rows::order(o, &decimals), "")?;
                verdict(&order)
            }
            Some(changes) => self.wait(&gateway, order, changes, &decimals).await,
        }
    }

    /// Prints every change of an order until it is finished.
    async fn wait(
        &mut self,
        gateway: &GatewayHandle,
        order: Order,
        mut changes: OrderStream,
        decimals: &Decimals,
    ) -> Result<(), Failure> {
        let key = OrderKey::from(&order);
        let id = order.orderid.clone();
        let mut state = OmsState::default();
        let mut interrupt = self.interrupt.clone();
        let mut news = Some(order);
        loop {
            if let Some(order) = news.take()
                && OrderKey::from(&order) == key
                && state.apply(&OmsEvent::Order(order)) == Applied::Changed
                && let Some(order) = state.order(&key)
            {
                self.out.item(rows::ORDER, order, |o| rows::order(o, decimals))?;
                self.out.flush()?;
                if !order.is_active() {
                    return verdict(order);
                }
            }
            let update = tokio::select! {
                update = changes.next() => update,
                () = interrupt.pressed() => return Err(interrupted(gateway, &id, "before the order was finished")),
            };
            match update {
                Some(Update::Event(event)) => news = Some(event.data.clone()),
                Some(Update::Missed(missed)) => {
                    self.out.remark(&missed_sentence(&missed))?;
                    // What was missed may have been this order's end.
                    let asked = gateway.get_order(&id).await;
                    news = asked.map_err(|error| lost_sight(error, gateway, &id))?;
                }
                Some(Update::Disconnected) => self.out.remark("connection lost, trying again")?,
                Some(Update::Reconnected) => self.out.remark("connected again")?,
                Some(_) => {}
                None => return Err(lost_sight(Error::Disconnected, gateway, &id)),
            }
        }
    }

    pub(super) async fn cancel(&mut self, args: CancelArgs) -> Result<(), Failure> {
        let CancelArgs { orderid: id, quote } = args;
        let request = CancelRequest { owner: external_owner(&id).map(Name::from), ..CancelRequest::new(id.clone()) };
        if quote {
            let gateway = self.gateway().await?;
            let asked = gateway.cancel_quote(&request).await;
            asked.map_err(|error| Failure::of_order(error, gateway.name(), &id, "quotes"))?;
            return self.print_cancelling(&format!("{id}: the cancel is on its way; see: gatectl quotes --active"));
        }
        let gateway = self.gateway_of_order(&id).await?;
        let asked = gateway.cancel_order(&request).await;
        asked.map_err(|error| Failure::of_order(error, gateway.name(), &id, &format!("orders {id}")))?;
        if self.out.is_json() {
            self.out.object(&Done {})?;
            return self.out.flush();
        }
        // The cancel counts as done from here on: how the order is now is only shown.
        match gateway.get_order_of(&id, external_owner(&id)).await {
            Ok(Some(order)) if !order.is_active() => {
                let decimals = self.decimals(&gateway, std::iter::once(order.instrument())).await;
                self.out.list(rows::ORDER, &[order], |o| rows::order(o, &decimals), "")
            }
            _ => self.print_cancelling(&format!("{id}: the cancel is on its way; see: gatectl orders {id}")),
        }
    }

    fn print_cancelling(&mut self, sentence: &str) -> Result<(), Failure> {
        if self.out.is_json() {
            self.out.object(&Done {})?;
        } else {
            self.out.line(sentence)?;
        }
        self.out.flush()
    }

    /// The gateway asked for, the only one, or the one that has the order.
    async fn gateway_of_order(&self, id: &OrderId) -> Result<GatewayHandle, Failure> {
        let gateways = self.gateways().await?;
        if let [only] = gateways.as_slice() {
            return Ok(only.clone());
        }
        match self.find_order(id).await? {
            Some((gateway, _)) => Ok(gateway),
            None => {
                Err(Failure::Refused(RpcError::new(ErrorCode::NotFound, format!("no gateway knows the order {id}"))))
            }
        }
    }

    pub(super) async fn cancel_all(&mut self, args: CancelAllArgs) -> Result<(), Failure> {
        self.urgent_gateways().await?;
        let gateway = self.gateway().await?;
        let (this, gateway) = (&*self, &gateway);
        let cancelled = this.urgently(|| gateway.cancel_all(args.instrument.as_ref())).await.map_err(|error| {
            if error.maybe_executed() {
                Failure::Unknown {
                    what: error.to_string(),
                    advice: format!("See what still works: gatectl -g {} orders --active", gateway.name()),
                }
            } else {
                error.into()
            }
        })?;
        if self.out.is_json() {
            self.out.object(&cancelled)?;
        } else {
            for id in &cancelled.orderids {
                self.out.line(id.as_str())?;
            }
            if cancelled.orderids.is_empty() && cancelled.failed.is_empty() {
                note("nothing is working");
            }
        }
        self.out.flush()?;
        for failure in &cancelled.failed {
            note(&format!("not cancelled: {}: {}", failure.orderid, failure.error));
        }
        match cancelled.failed.into_iter().next() {
            None => Ok(()),
            Some(first) => Err(Failure::Refused(first.error)),
        }
    }
}

/// A finished order that never worked is a refusal.
fn verdict(order: &Order) -> Result<(), Failure> {
    match order.status {
        OrderStatus::Rejected => {
            let reason = order.reason.clone().unwrap_or_else(|| "no reason given".to_owned());
            Err(Failure::Refused(RpcError::new(ErrorCode::VenueRejected, reason)))
        }
        _ => Ok(()),
    }
}

/// The order was accepted, and how it ends cannot be seen from here any more.
fn lost_sight(error: Error, gateway: &GatewayHandle, id: &OrderId) -> Failure {
    Failure::Unknown { what: error.to_string(), advice: ask(gateway, id) }
}

fn ask(gateway: &GatewayHandle, id: &OrderId) -> String {
    format!("Its id is {id}. Ask what became of it: gatectl -g {} orders {id}", gateway.name())
}

fn interrupted(gateway: &GatewayHandle, id: &OrderId, when: &str) -> Failure {
    Failure::Unknown { what: format!("interrupted {when}"), advice: ask(gateway, id) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Direction, Exchange, InstrumentId, Offset};

    #[test]
    fn only_a_rejected_order_is_a_failure() {
        let instrument = InstrumentId::new("rb2410", Exchange::SHFE);
        let request = OrderRequest::limit(instrument, Direction::Long, Offset::Open, 1.0, 1.0);
        let mut order = request.to_order(&"sim1".into(), &"default".into());
        for &status in OrderStatus::ALL {
            order.status = status;
            assert_eq!(verdict(&order).is_err(), status == OrderStatus::Rejected, "{status}");
        }
        order.reason = Some("no such contract".into());
        order.status = OrderStatus::Rejected;
        assert_eq!(verdict(&order).expect_err("rejected").to_string(), "VENUE_REJECTED: no such contract");
    }

    #[test]
    fn orders_of_the_venue_are_asked_for_under_their_owner() {
        assert_eq!(external_owner(&OrderId::new("x-7")), Some("external"));
        assert_eq!(external_owner(&OrderId::new("a-1")), None);
    }
}
