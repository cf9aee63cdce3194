//! What the engine's decisions cost, without NATS: a tick, an order that is accepted, an order's report.

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Duration;

use gateway_node::engine::halts::HaltNews;
use gateway_node::engine::{
    Approval, Call, Caller, Effect, Effects, Engine, EngineOptions, Now, Replayed, ReplyTo, Request, Submit,
};
use gateway_node::gateway::{Gateway, SequencedTick, SessionStart, VenueEvent, VenueOrder, venue_channel};
use protocol::rpc::Deadline;
use protocol::{GatewayState, OrderId, OrderStatus};

use crate::measure::Case;
use crate::recorded::tick_event;
use crate::venue::{self, AcceptingVenue};

/// Orders of a busy day.
const ORDERS: usize = 20_000;

/// What to know when reading the table.
pub const NOTES: &[&str] = &[
    "The engine alone, without NATS: an order goes from the call through journal and venue, which agree at once, to its \
     encoded reply; effects are made and not carried out.",
];

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![ticks(), orders(), reports()]
}

/// Ticks of sixteen instruments in turn.
fn ticks() -> Case {
    let mut templates: VecDeque<_> =
        venue::instruments(venue::INSTRUMENTS).map(|instrument| venue::tick(venue::GATEWAY, &instrument)).collect();
    let mut seq = 0;
    let prepare = move |_: &mut Desk| {
        seq += 1;
        templates.rotate_left(1);
        SequencedTick { seq, tick: templates[0].clone() }
    };
    Case::with_inputs("engine: tick", Desk::new(), prepare, |desk, tick| {
        black_box(desk.engine.on_tick(desk.now, tick));
    })
}

/// An order from the call to the reply, the journal and the venue agreeing at once.
fn orders() -> Case {
    let prepare = |desk: &mut Desk| {
        desk.effects.clear();
        if desk.engine.state().orders().len() >= ORDERS {
            *desk = Desk { sent: desk.sent, ..Desk::new() };
        }
        desk.next_order()
    };
    Case::with_inputs("engine: order accepted, among up to 20,000", Desk::new(), prepare, |desk, call| {
        black_box(desk.accept(call));
    })
}

/// The venue's report of one more lot filled; each changes the order.
fn reports() -> Case {
    let mut desk = Desk::new();
    let mut reports: Vec<VenueOrder> = (0..ORDERS)
        .map(|_| {
            let call = desk.next_order();
            let submit = desk.accept(call);
            desk.effects.clear();
            let Approval::Order(order) = &submit.approval else { unreachable!("only orders here") };
            venue::report(&submit.reference, order)
        })
        .collect();
    let mut next = 0;
    let prepare = move |desk: &mut Desk| {
        desk.effects.clear();
        let at = next;
        // Far apart, as the orders of different strategies are.
        next = (next + 7_919) % reports.len();
        let report = &mut reports[at];
        report.traded += 1.0;
        report.status = OrderStatus::PartTraded;
        VenueEvent::Order(report.clone())
    };
    Case::with_inputs("engine: order's report, among 20,000", desk, prepare, |desk, event| {
        desk.engine.on_venue_event(desk.now, event, &mut desk.effects);
        desk.engine.on_stored(desk.engine.journal_seq());
    })
}

/// A ready engine and what it wants done.
struct Desk {
    engine: Engine,
    now: Now,
    effects: Effects,
    sent: u64,
}

impl Desk {
    fn new() -> Desk {
        let now = Now { wall: tick_event().time, mono: Duration::from_secs(1) };
        let mut engine = Engine::new(EngineOptions::new(venue::GATEWAY, "bench", 1), Replayed::default(), 1);
        let mut effects = Vec::new();
        engine.on_halt_news(now, HaltNews::Read(Vec::new()), &mut effects);
        let mut desk = Desk { engine, now, effects, sent: 0 };
        desk.log_in();
        desk
    }

    /// As the node would: what the venue says goes in, until the engine has all that it needs.
    fn log_in(&mut self) {
        self.engine.on_timer(self.now, &mut self.effects);
        let (sink, mut said) = venue_channel(1_024, 1);
        let mut venue = AcceptingVenue::new(sink, venue::GATEWAY, venue::INSTRUMENTS);
        venue.connect(SessionStart { epoch: 1, ..SessionStart::default() }).expect("it takes everybody");
        venue.request_snapshot().expect("it is logged in");
        while let Ok(event) = said.events.try_recv() {
            self.engine.on_venue_event(self.now, event, &mut self.effects);
        }
        self.engine.on_stored(self.engine.journal_seq());
        self.effects.clear();
        assert_eq!(self.engine.gateway_state(), GatewayState::Ready, "a venue that agrees makes a ready engine");
    }

    fn next_order(&mut self) -> Call {
        self.sent += 1;
        let mut request = venue::order();
        request.volume = 1e6;
        // As UUIDs of version 7: the later, the greater.
        request.orderid = OrderId::new(format!("0192f0c1-7d5e-7cc3-98a4-{:012x}", self.sent));
        Call {
            reply: ReplyTo(self.sent),
            caller: Caller::anonymous("bench"),
            deadline: Some(Deadline { ms: self.now.millis() + 1_000, epoch: Some(1) }),
            traceid: None,
            request: Request::SendOrder(request),
        }
    }

    /// Takes the call through to its reply.
    fn accept(&mut self, call: Call) -> Box<Submit> {
        self.engine.on_call(self.now, call, &mut self.effects);
        self.engine.on_stored(self.engine.journal_seq());
        let Some(Effect::Submit(submit)) = self.effects.pop() else {
            unreachable!("an order that is in order is submitted, and that comes last")
        };
        self.engine.before_submit(self.now, &submit).expect("it may be sent");
        self.engine.on_sent(self.now, &submit, &mut self.effects);
        submit
    }
}
