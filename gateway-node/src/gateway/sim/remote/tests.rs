//! The adapter against a venue that follows a script.

use std::io::Read as _;
use std::net::TcpListener;
use std::sync::atomic::Ordering;

use super::*;
use crate::gateway::{VenueSource, venue_channel};

fn connected() -> VenueEvent {
    VenueEvent::Connected { session: "1".into(), max_reference: 0, trading_day: None, venue: "script".into() }
}

fn log(message: &str) -> VenueEvent {
    VenueEvent::Log { level: protocol::LogLevel::Info, message: message.to_owned() }
}

fn event(n: u64, event: VenueEvent) -> Vec<u8> {
    link::encode(&Say::Event { n, event })
}

/// Logs in at a venue that says this and then waits for the node to go, and hears it to the end.
fn hear(script: Vec<Vec<u8>>, is_last: impl Fn(&VenueEvent) -> bool) -> (Vec<VenueEvent>, VenueSource) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let venue = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a node");
        stream.write_all(&script.concat()).expect("said");
        // A node that goes with something unread resets the connection.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let (sink, mut source) = venue_channel(64, 64);
    let mut remote = RemoteVenue::new("sim1".into(), address, sink);
    remote.connect(SessionStart::default()).expect("sent");
    let mut heard = Vec::new();
    while heard.last().is_none_or(|event| !is_last(event)) {
        heard.push(source.events.blocking_recv().expect("the adapter lives"));
    }
    remote.close();
    venue.join().expect("the venue ends");
    (heard, source)
}

fn is_end(event: &VenueEvent) -> bool {
    matches!(event, VenueEvent::Disconnected { .. } | VenueEvent::Refused { .. })
}

#[test]
fn a_gap_is_a_loss_and_a_repeat_is_nothing() {
    let is_last = |event: &VenueEvent| *event == log("last");
    let login = || vec![event(1, connected()), event(2, VenueEvent::Ready)];
    let repeated = [login(), vec![event(2, VenueEvent::Ready), event(1, connected()), event(3, log("last"))]].concat();
    let (heard, source) = hear(repeated, is_last);
    assert_eq!(heard, [connected(), VenueEvent::Ready, log("last")]);
    assert!(!source.overflowed.load(Ordering::Acquire));

    let with_gap = [login(), vec![event(4, log("behind")), event(3, log("late")), event(5, log("last"))]].concat();
    let (heard, source) = hear(with_gap, is_last);
    assert_eq!(heard, [connected(), VenueEvent::Ready, log("behind"), log("last")]);
    assert!(source.overflowed.load(Ordering::Acquire));

    let heartbeat = link::encode(&Say::Heartbeat { last: 3 });
    let (_, source) = hear([login(), vec![heartbeat, event(4, log("last"))]].concat(), is_last);
    assert!(source.overflowed.load(Ordering::Acquire), "3 never came");
}

#[test]
fn a_loss_during_the_login_ends_it() {
    let (heard, source) = hear(vec![event(1, connected()), event(3, VenueEvent::Ready)], is_end);
    let Some(VenueEvent::Disconnected { reason }) = heard.last() else { panic!("{heard:?}") };
    assert!(heard.len() == 2 && reason.contains("lost during the login"), "{heard:?}");
    assert!(!source.overflowed.load(Ordering::Acquire), "there is no session that could be DIRTY");
}

#[test]
fn what_is_no_message_ends_the_connection() {
    for garbage in [&b"HTTP/1.1 400 Bad Request\r\n"[..], b"{}\n", b"\xff\n"] {
        let (heard, _) = hear(vec![garbage.to_vec()], is_end);
        let Some(VenueEvent::Disconnected { reason }) = heard.last() else { panic!("{heard:?}") };
        assert!(reason.contains("is no message"), "{reason}");
    }
}

#[test]
fn refused_credentials_are_told_apart_from_a_closed_venue() {
    let refusal = |is_final| link::encode(&Say::LoginRefused { reason: "no".to_owned(), is_final });
    let (heard, _) = hear(vec![refusal(true)], is_end);
    assert_eq!(heard, [VenueEvent::Refused { reason: "no".to_owned() }]);
    let (heard, _) = hear(vec![refusal(false)], is_end);
    assert_eq!(heard, [VenueEvent::Disconnected { reason: "no".to_owned() }]);
}

#[test]
fn a_silent_venue_is_lost() {
    let began = Instant::now();
    let (heard, _) = hear(vec![event(1, connected()), event(2, VenueEvent::Ready)], is_end);
    let Some(VenueEvent::Disconnected { reason }) = heard.last() else { panic!("{heard:?}") };
    assert!(reason.contains("silent") && began.elapsed() >= link::SILENCE, "{reason}");
}
