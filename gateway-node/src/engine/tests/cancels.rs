//! What a halt is to cancel, until it is.

use super::*;

impl Bench {
    /// The cancels that are to be sent, and the venue takes them all.
    fn taken_cancels(&mut self) -> Vec<String> {
        let mut ids = Vec::new();
        for effect in self.take() {
            if let Effect::Venue(VenueCommand::CancelEach(cancels)) = effect {
                let targets: Vec<Target> = cancels.each.into_iter().map(|(target, _)| target).collect();
                ids.extend(targets.iter().map(|target| target.key().orderid.to_string()));
                let outcomes = targets.into_iter().map(|target| (target, Ok(()))).collect();
                self.engine.on_cancels(self.now, cancels.reply, outcomes, &mut self.effects);
            }
        }
        ids
    }
}

#[test]
fn an_order_of_a_halt_that_works_on_is_cancelled_again() {
    let mut bench = Bench::ready();
    let mut submits = Vec::new();
    for id in ["a", "b"] {
        bench.call(Request::SendOrder(request(id)));
        let submit = bench.submit();
        bench.venue(VenueEvent::Order(bench.told(&submit, OrderStatus::NotTraded, 0.0)));
        submits.push(submit);
    }
    bench.take();
    bench.call(Request::Halt(Halt { cancel: true, ..Halt::default() }));
    bench.write_halts();
    assert_eq!(bench.taken_cancels(), ["a", "b"]);
    bench.venue(VenueEvent::Order(bench.told(&submits[0], OrderStatus::Cancelled, 0.0)));
    // The exchange takes no cancels at this time of day, and the adapter could only say so in a line for people.
    bench.tick(4);
    assert!(bench.taken_cancels().is_empty(), "it may be on its way");
    let mut before = bench.engine.journal_seq();
    for wait in [1, 10, 20, 40, 80, 160, 300, 300] {
        bench.tick(wait - 1);
        assert!(bench.taken_cancels().is_empty());
        bench.tick(1);
        assert_eq!(bench.taken_cancels(), ["b"], "until it is done, and less and less often");
    }
    let after = std::mem::replace(&mut before, bench.engine.journal_seq());
    assert_eq!(after, before, "the audit has each cancel once");
    bench.venue(VenueEvent::Order(bench.told(&submits[1], OrderStatus::Cancelled, 0.0)));
    bench.tick(5);
    assert!(bench.taken_cancels().is_empty());
}

#[test]
fn nobody_cancels_again_what_is_halted_no_more_or_was_cancelled_by_its_owner() {
    let mut bench = Bench::ready();
    bench.call(Request::SendOrder(request("a")));
    let submit = bench.submit();
    bench.venue(VenueEvent::Order(bench.told(&submit, OrderStatus::NotTraded, 0.0)));
    bench.take();
    bench.call(Request::CancelAll(CancelAll::default()));
    assert_eq!(bench.taken_cancels(), ["a"]);
    bench.tick(6);
    assert!(bench.taken_cancels().is_empty(), "its owner asked once");
}

#[test]
fn a_session_that_comes_back_after_another_goes_on_counting() {
    let mut bench = Bench::ready();
    bench.call(Request::SendOrder(request("a")));
    assert_eq!(bench.submit().reference.to_string(), "1-1/1");
    let again = |bench: &mut Bench, session: &str| {
        bench.venue(VenueEvent::Disconnected { reason: "gone".into() });
        bench.tick(60);
        bench.log_in(session);
        bench.take();
    };
    again(&mut bench, "1-2");
    bench.call(Request::SendOrder(request("b")));
    assert_eq!(bench.submit().reference.to_string(), "1-2/1");
    // From a counter that has forgotten how far it had counted.
    again(&mut bench, "1-1");
    bench.call(Request::SendOrder(request("c")));
    assert_eq!(bench.submit().reference.to_string(), "1-1/2");
}
