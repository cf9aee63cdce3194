//! What each of several readers is told of what arrives, whenever it joins.

use std::task::{Context, Poll};

use proptest::prelude::*;

use super::*;
use crate::queue::Taken;

type Reading = Arc<Queue<Key, Update<u64>>>;

fn decoder() -> Decoder<u64> {
    Decoder::new(watch::channel(Heartbeats::default()).1)
}

fn join(decoder: &Decoder<u64>, gateway: Option<&str>) -> Reading {
    let queue = Arc::new(Queue::new(1_000));
    decoder.shared.join(Arc::clone(&queue), gateway.map(Name::from));
    queue
}

/// An event of this gateway and number, which is its data too.
fn message(gateway: &str, seq: u64) -> async_nats::Message {
    let time = chrono::DateTime::parse_from_rfc3339("2026-11-23T09:31:00+08:00").expect("a time");
    let event = Event { gateway: gateway.into(), epoch: 1, seq, time, data: seq };
    let payload = codec::encode(&event).expect("encodes").into();
    let (subject, reply, headers, status, description) = ("evt.x".into(), None, None, None, None);
    async_nats::Message { subject, reply, payload, headers, status, description, length: 0 }
}

/// What waits in it: numbers, and how many were missed before each.
fn read(queue: &Reading) -> Vec<(u64, u64)> {
    let mut context = Context::from_waker(std::task::Waker::noop());
    let (mut read, mut missed) = (Vec::new(), 0);
    while let Poll::Ready(Some(taken)) = queue.poll_pop(&mut context) {
        match taken {
            Taken::Item(Update::Event(event)) => read.push((event.data, std::mem::take(&mut missed))),
            Taken::Lost(_, count) => missed += count,
            other => panic!("{other:?}"),
        }
    }
    read
}

#[test]
fn each_reader_gets_every_event_of_its_gateway() {
    let mut decoder = decoder();
    let (all, one) = (join(&decoder, None), join(&decoder, Some("a")));
    decoder.take(vec![message("a", 1), message("b", 1), message("a", 2)]);
    assert_eq!((read(&all), read(&one)), (vec![(1, 0), (1, 0), (2, 0)], vec![(1, 0), (2, 0)]));
    decoder.take(vec![message("a", 2), message("b", 3)]);
    assert_eq!((read(&all), read(&one)), (vec![(3, 1)], vec![]), "one that came before is nothing new");
}

#[test]
fn who_joins_later_knows_of_no_gap_before() {
    let mut decoder = decoder();
    let first = join(&decoder, None);
    decoder.take(vec![message("a", 1), message("a", 2)]);
    let second = join(&decoder, None);
    decoder.take(vec![message("a", 5)]);
    decoder.take(vec![message("a", 7)]);
    assert_eq!(read(&first), [(1, 0), (2, 0), (5, 2), (7, 1)]);
    assert_eq!(read(&second), [(5, 0), (7, 1)]);
}

#[test]
fn what_does_not_decode_is_counted_and_an_end_is_told_to_whoever_joins_too() {
    let mut decoder = decoder();
    let reading = join(&decoder, None);
    let broken = async_nats::Message { payload: "{".into(), ..message("a", 1) };
    decoder.take(vec![broken, message("a", 2)]);
    assert_eq!((read(&reading), decoder.shared.undecodable.load(Ordering::Relaxed)), (vec![(2, 0)], 1));
    decoder.shared.readers().is_over = true;
    let late = join(&decoder, None);
    let mut context = Context::from_waker(std::task::Waker::noop());
    assert!(matches!(late.poll_pop(&mut context), Poll::Ready(None)));
}

proptest! {
    /// However much is lost and whenever somebody joins or leaves: what it took and what it was told to have missed are
    /// all that there was from its first event to its last.
    #[test]
    fn taken_and_missed_are_all_there_was_for_each_reader(
        batches in prop::collection::vec((prop::collection::vec((0_u8..2, any::<bool>()), 0..6), 0_u8..4), 1..40)
    ) {
        let mut decoder = decoder();
        let mut sent = [0_u64; 2];
        let mut readings: Vec<(Reading, [u64; 2])> = Vec::new();
        for (batch, what) in batches {
            match what {
                0 => readings.push((join(&decoder, None), sent)),
                1 => readings.push((join(&decoder, Some("0")), sent)),
                2 if readings.len() > 3 => decoder.shared.readers().all.truncate(3),
                _ => {}
            }
            let mut arrive = Vec::new();
            for (gateway, arrives) in batch {
                sent[usize::from(gateway)] += 1;
                if arrives {
                    arrive.push(message(&gateway.to_string(), sent[usize::from(gateway)]));
                }
            }
            decoder.take(arrive);
        }
        for (reading, joined) in &readings {
            let mut context = Context::from_waker(std::task::Waker::noop());
            let mut last: [Option<u64>; 2] = [None; 2];
            let mut missed = [0_u64; 2];
            while let Poll::Ready(Some(taken)) = reading.poll_pop(&mut context) {
                match taken {
                    Taken::Lost((_, gateway), count) => missed[gateway.parse::<usize>().expect("a digit")] += count,
                    Taken::Item(Update::Event(event)) => {
                        let at = event.gateway.parse::<usize>().expect("a digit");
                        prop_assert!(event.seq > joined[at], "older than the reader");
                        if let Some(before) = last[at] {
                            prop_assert_eq!(event.seq - before - 1, missed[at]);
                        } else {
                            prop_assert_eq!(missed[at], 0, "nobody told it of a gap before its first");
                        }
                        (last[at], missed[at]) = (Some(event.seq), 0);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}
