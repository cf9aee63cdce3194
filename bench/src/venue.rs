//! A venue inside the node's process that costs next to nothing: it takes every order, and its ticks are pushed by
//! whoever holds its sink.

use std::time::Duration;

use gateway_node::gateway::{
    Answer, Gateway, GatewayError, LivingSessions, QueryToken, SessionStart, VenueEvent, VenueOrder, VenueReference,
    VenueSink, VenueSnapshot,
};
use gateway_node::risk::Approved;
use protocol::{
    Contract, Direction, Exchange, HistoryRequest, InstrumentId, Name, Offset, OrderRequest, OrderStatus, Product,
    QuoteRequest, Tick,
};

use crate::recorded::tick_event;

/// The gateway that it is served as.
pub const GATEWAY: &str = "bench";

/// How many instruments it trades where nothing else is said.
pub const INSTRUMENTS: usize = 16;
/// More contracts than this are told by a thread that may wait: the loop's queue of events holds 8,192.
const TOLD_AT_ONCE: usize = 4_096;
/// The run has failed if the loop has no room for so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a venue of so many instruments trades.
pub fn instruments(count: usize) -> impl Iterator<Item = InstrumentId> {
    (1..=count).map(|number| InstrumentId::new(format!("cu19{number:02}"), Exchange::SHFE))
}

/// A tick of one of a gateway's instruments, five levels deep.
pub fn tick(gateway: &str, instrument: &InstrumentId) -> Tick {
    let mut tick = tick_event().data;
    tick.gateway_name = gateway.into();
    tick.symbol.clone_from(&instrument.symbol);
    tick.exchange = instrument.exchange;
    tick
}

/// An order that it takes, under a new id.
pub fn order() -> OrderRequest {
    let instrument = InstrumentId::new("cu1909", Exchange::SHFE);
    OrderRequest::limit(instrument, Direction::Long, Offset::Open, 47_800.0, 1.0)
}

/// What it says of an order that it took.
pub fn report(reference: &VenueReference, order: &OrderRequest) -> VenueOrder {
    VenueOrder {
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
    }
}

/// See the module.
pub struct AcceptingVenue {
    sink: VenueSink,
    gateway: Name,
    instruments: usize,
    session: Name,
    logins: u64,
}

impl AcceptingVenue {
    /// A venue that speaks through this sink, of so many instruments.
    pub fn new(sink: VenueSink, gateway: impl Into<Name>, instruments: usize) -> AcceptingVenue {
        AcceptingVenue { sink, gateway: gateway.into(), instruments, session: Name::default(), logins: 0 }
    }
}

impl Gateway for AcceptingVenue {
    fn connect(&mut self, start: SessionStart) -> Result<(), GatewayError> {
        self.logins += 1;
        self.session = format!("{}-{}", start.epoch, self.logins).into();
        self.sink.send(VenueEvent::Connected {
            session: self.session.clone(),
            max_reference: 0,
            trading_day: None,
            venue: "bench".into(),
        });
        let (sink, gateway, count) = (self.sink.clone(), self.gateway.clone(), self.instruments);
        let tell = move || {
            for instrument in instruments(count) {
                let contract = Contract::new(gateway.clone(), instrument, Product::Futures, 5.0, 10.0);
                sink.send_wait(VenueEvent::Contract(contract), PATIENCE);
            }
            sink.send_wait(VenueEvent::Ready, PATIENCE);
        };
        if count > TOLD_AT_ONCE {
            std::thread::spawn(tell);
        } else {
            tell();
        }
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
        self.sink.send(VenueEvent::Order(report(reference, order)));
        Ok(())
    }

    fn cancel(&mut self, _: &VenueReference) -> Result<(), GatewayError> {
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
        let session = self.session.clone();
        let snapshot = VenueSnapshot { session, living: LivingSessions::Own, ..VenueSnapshot::default() };
        self.sink.send(VenueEvent::Snapshot(Box::new(snapshot)));
        Ok(())
    }

    fn close(&mut self) {}
}
