//! A venue that does as it is told: it accepts everything, fills when asked, and can be made to hang or to fail.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use gateway_node::GatewayFactory;
use gateway_node::gateway::{
    Answer, Gateway, GatewayError, LivingSessions, QueryToken, SessionStart, VenueEvent, VenueOrder, VenueReference,
    VenueSink, VenueSnapshot,
};
use gateway_node::risk::Approved;
use protocol::{
    Contract, Exchange, HistoryRequest, InstrumentId, Name, OrderRequest, OrderStatus, Product, QuoteRequest, Tick,
};

use super::PATIENCE;

/// What the test tells the venue, and learns from it.
#[derive(Default)]
pub struct Script {
    /// Logins to fail before one succeeds.
    pub failing_logins: AtomicU64,
    /// Refuse every login.
    pub refuse: AtomicBool,
    /// Logins that were tried.
    pub logins: AtomicU64,
    /// Panic at the next submit, once.
    pub panic: AtomicBool,
    /// Orders that reached the venue.
    pub submitted: Mutex<Vec<OrderRequest>>,
    /// Cancels that reached the venue.
    pub cancelled: Mutex<Vec<VenueReference>>,
    /// Where the venue speaks from its first login on.
    sink: Mutex<Option<VenueSink>>,
    hang: Mutex<bool>,
    released: Condvar,
}

impl Script {
    /// From now on a submit blocks its thread, as a broken venue library would.
    pub fn hang(&self) {
        *self.hang.lock().expect("no panic") = true;
    }

    /// The venue says that there was a tick; it waits while the node's queue is full.
    pub fn tick(&self, tick: Tick) {
        let sink = self.sink.lock().expect("no panic").clone().expect("somebody has logged in");
        sink.ticks().push_wait(tick, PATIENCE).expect("the node takes ticks");
    }

    /// Lets it go on.
    pub fn release(&self) {
        *self.hang.lock().expect("no panic") = false;
        self.released.notify_all();
    }

    fn wait_while_hanging(&self) {
        let guard = self.hang.lock().expect("no panic");
        drop(self.released.wait_while(guard, |hang| *hang).expect("no panic"));
    }
}

pub fn instrument() -> InstrumentId {
    InstrumentId::new("rb2410", Exchange::SHFE)
}

/// A factory of venues that follow this script.
pub fn factory(script: Arc<Script>) -> GatewayFactory {
    Arc::new(move |name, sink| {
        Ok(Box::new(ScriptedVenue {
            name: name.clone(),
            script: script.clone(),
            sink,
            session: Name::default(),
            count: 0,
        }))
    })
}

struct ScriptedVenue {
    name: Name,
    script: Arc<Script>,
    sink: VenueSink,
    session: Name,
    count: u64,
}

impl Gateway for ScriptedVenue {
    fn connect(&mut self, start: SessionStart) -> Result<(), GatewayError> {
        self.script.logins.fetch_add(1, Ordering::SeqCst);
        *self.script.sink.lock().expect("no panic") = Some(self.sink.clone());
        if self.script.refuse.load(Ordering::SeqCst) {
            self.sink.send(VenueEvent::Refused { reason: "wrong password".into() });
            return Ok(());
        }
        let failing = &self.script.failing_logins;
        if failing.try_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            self.sink.send(VenueEvent::Disconnected { reason: "scripted".into() });
            return Ok(());
        }
        self.count += 1;
        self.session = format!("{}-{}", start.epoch, self.count).into();
        self.sink.send(VenueEvent::Connected {
            session: self.session.clone(),
            max_reference: 0,
            trading_day: None,
            venue: "script".into(),
        });
        self.sink.send(VenueEvent::Contract(Contract::new(
            self.name.clone(),
            instrument(),
            Product::Futures,
            10.0,
            1.0,
        )));
        self.sink.send(VenueEvent::Ready);
        Ok(())
    }

    fn disconnect(&mut self) {}

    fn subscribe(&mut self, _: &[InstrumentId]) -> Result<(), GatewayError> {
        Ok(())
    }

    fn unsubscribe(&mut self, _: &[InstrumentId]) -> Result<(), GatewayError> {
        Ok(())
    }

    fn submit(&mut self, reference: &VenueReference, order: &Approved<OrderRequest>) -> Result<(), GatewayError> {
        assert!(!self.script.panic.swap(false, Ordering::SeqCst), "a scripted panic");
        self.script.wait_while_hanging();
        self.script.submitted.lock().expect("no panic").push(order.get().clone());
        self.sink.send(VenueEvent::Order(VenueOrder {
            reference: reference.clone(),
            instrument: order.instrument(),
            order_type: order.r#type,
            direction: order.direction,
            offset: order.offset,
            price: order.price,
            volume: order.volume,
            traded: 0.0,
            status: OrderStatus::NotTraded,
            datetime: None,
            reason: None,
        }));
        Ok(())
    }

    fn cancel(&mut self, reference: &VenueReference) -> Result<(), GatewayError> {
        self.script.cancelled.lock().expect("no panic").push(reference.clone());
        Ok(())
    }

    fn submit_quote(&mut self, _: &VenueReference, _: &Approved<QuoteRequest>) -> Result<(), GatewayError> {
        Err(GatewayError::NotSupported("quotes"))
    }

    fn cancel_quote(&mut self, _: &VenueReference) -> Result<(), GatewayError> {
        Err(GatewayError::NotSupported("quotes"))
    }

    fn query_history(&mut self, _: QueryToken, _: &HistoryRequest) -> Result<(), GatewayError> {
        Err(GatewayError::NotSupported("history"))
    }

    fn query_account(&mut self, token: QueryToken) -> Result<(), GatewayError> {
        self.sink.send(VenueEvent::Answer { token, answer: Ok(Answer::Sent) });
        Ok(())
    }

    fn query_position(&mut self, token: QueryToken) -> Result<(), GatewayError> {
        self.sink.send(VenueEvent::Answer { token, answer: Ok(Answer::Sent) });
        Ok(())
    }

    fn request_snapshot(&mut self) -> Result<(), GatewayError> {
        let snapshot =
            VenueSnapshot { session: self.session.clone(), living: LivingSessions::Own, ..VenueSnapshot::default() };
        self.sink.send(VenueEvent::Snapshot(Box::new(snapshot)));
        Ok(())
    }

    fn close(&mut self) {}
}
