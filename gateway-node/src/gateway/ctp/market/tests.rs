//! The market data side on the fake library, at times of the test's own.

use std::time::Instant;

use ::ctp::testing::built;
use protocol::{Exchange, Product};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::inbox::{Inputs, inbox};
use super::*;
use crate::gateway::{VenueSource, venue_channel};

const PATIENCE: Duration = Duration::from_secs(60);
const FRONTS: [&str; 2] = ["tcp://127.0.0.1:2", "tcp://127.0.0.1:3"];

struct Rig {
    market: Market,
    inputs: Inputs,
    inbox: Inbox,
    _source: VenueSource,
    directory: TempDir,
    /// What people were told.
    told: Vec<String>,
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

impl Rig {
    /// A side that has begun at second 0, with the library's script.
    fn begun(script: &Value) -> Rig {
        let directory = TempDir::new().expect("a directory");
        std::fs::write(directory.path().join("script.json"), script.to_string()).expect("written");
        let (sink, source) = venue_channel(1024, 1024);
        let (inbox, inputs) = inbox(sink.clone());
        let market = Market::new(MarketParts {
            gateway: "ctp1".into(),
            library: Some(MdLibrary::open(&built("ctp_fake_md"), None).expect("opens")),
            flow: directory.path().to_owned(),
            fronts: FRONTS.map(str::to_owned).to_vec(),
            sink,
            inbox: inbox.clone(),
        });
        let mut rig = Rig { market, inputs, inbox, _source: source, directory, told: Vec::new() };
        let identity = Identity { broker: "9999".into(), user: "paper".into(), ..Identity::default() };
        let contracts = ["rb2610", "ag2612"].map(|symbol| {
            Contract::new("ctp1", InstrumentId::new(symbol, Exchange::SHFE), Product::Futures, 10.0, 1.0)
        });
        rig.step(|market, told| market.begin(secs(0), identity, &contracts, told));
        rig
    }

    fn step(&mut self, work: impl FnOnce(&mut Market, &mut Vec<VenueEvent>)) {
        let mut told = Vec::new();
        work(&mut self.market, &mut told);
        self.told.extend(told.into_iter().map(|told| match told {
            VenueEvent::Log { message, .. } => message,
            other => panic!("{other:?}"),
        }));
    }

    /// What has come by now is heard at this time, and then it is that time.
    fn at(&mut self, now: Duration) {
        for input in self.inputs.take(Duration::ZERO, usize::MAX) {
            if let Input::Market(heard, event) = input {
                self.step(|market, told| market.on_event(now, heard, event, told));
            }
        }
        self.step(|market, told| market.on_time(now, told));
    }

    /// Until this is so at that time.
    fn until(&mut self, now: Duration, what: &str, mut is_so: impl FnMut(&Rig) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < PATIENCE, "waited in vain for {what}; told: {:?}", self.told);
            std::thread::sleep(Duration::from_millis(2));
            self.at(now);
        }
    }

    /// Waits for the library's thread, while nobody looks.
    fn until_standing(&self, is_so: impl Fn(Standing) -> bool) {
        let began = Instant::now();
        while !is_so(self.market.link.standing()) {
            assert!(began.elapsed() < PATIENCE, "waited in vain: {:?}", self.market.link.standing());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn want(&mut self, now: Duration, symbol: &str) {
        let instrument = InstrumentId::new(symbol, Exchange::SHFE);
        self.step(|market, told| market.subscribe(now, &[instrument], told));
    }

    fn tell(&self, calls: &[Value]) {
        use std::io::Write;
        let path = self.directory.path().join("tell.jsonl");
        let lines: String = calls.iter().map(|call| format!("{call}\n")).collect();
        let mut file = std::fs::File::options().create(true).append(true).open(path).expect("opened");
        file.write_all(lines.as_bytes()).expect("written");
    }

    fn asked(&self, request: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.directory.path().join("requests.jsonl")).unwrap_or_default();
        let asked = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        asked.filter(|asked| asked["request"] == request).collect()
    }

    /// The front that each object of the library was given first.
    fn first_fronts(&self) -> Vec<String> {
        let fronts = self.asked("RegisterFront").into_iter().step_by(FRONTS.len());
        fronts.map(|asked| asked["arguments"][0].as_str().expect("a front").to_owned()).collect()
    }

    fn logins(&self) -> usize {
        self.asked("ReqUserLogin").len()
    }

    fn subscriptions(&self) -> usize {
        self.asked("SubscribeMarketData").len()
    }
}

fn answer(error: i32) -> Value {
    json!({"call": "OnRspUserLogin", "info": {"ErrorID": error, "ErrorMsg": "no"}})
}

fn answer_in() -> Value {
    json!({"call": "OnRspUserLogin", "record": {"TradingDay": "20261123"}, "info": {"ErrorID": 0, "ErrorMsg": ""}})
}

#[test]
fn nobody_logs_in_before_the_front_is_connected_and_one_that_says_nothing_is_left_for_the_next() {
    let mut rig = Rig::begun(&json!({"never_connect": true}));
    rig.want(secs(1), "rb2610");
    let mut opened = Vec::new();
    for now in 0..1_000 {
        rig.at(secs(now));
        if rig.first_fronts().len() > opened.len() {
            opened.push(now);
        }
    }
    assert_eq!(rig.logins(), 0);
    // Once none of them has answered, each is given twice as long as before, up to two minutes.
    assert_eq!(opened, [0, 17, 34, 66, 98, 160, 222, 344, 466, 588, 710, 832, 954]);
    let turns = rig.first_fronts();
    assert!(turns.iter().zip(FRONTS.iter().cycle()).all(|(front, expected)| front == expected), "{turns:?}");
    let waits: Vec<&str> = rig.told.iter().filter_map(|told| told.split("has not answered for ").nth(1)).collect();
    assert!(waits[0].starts_with("15 s; trying the next one in 2 s") && waits[6].starts_with("120 s"), "{waits:?}");
    rig.tell(&[json!({"call": "OnFrontConnected"})]);
    rig.until(secs(1_001), "a subscription", |rig| rig.subscriptions() == 1);
    assert_eq!(rig.logins(), 1);
}

#[test]
fn a_front_that_answers_no_login_is_left_for_the_next() {
    let mut rig = Rig::begun(&json!({"rules": [{"on": "ReqUserLogin"}]}));
    rig.want(secs(0), "rb2610");
    rig.until(secs(0), "a login", |rig| rig.logins() == 1);
    (1..90).for_each(|now| rig.at(secs(now)));
    assert_eq!((rig.logins(), rig.first_fronts().len()), (2, 1), "told: {:?}", rig.told);
    rig.at(secs(90));
    assert_eq!(rig.asked("Release").len(), 1);
    rig.at(secs(92));
    assert_eq!(rig.first_fronts(), FRONTS);
    rig.until(secs(92), "a login at the next one", |rig| rig.logins() == 3);
}

#[test]
fn a_front_that_hangs_up_every_second_is_left_for_the_next() {
    let mut rig = Rig::begun(&json!({"never_connect": true}));
    for now in 1..=15 {
        rig.tell(&[json!({"call": "OnFrontDisconnected", "number": 0x1001})]);
        rig.until_standing(|standing| standing.losses == now);
        assert_eq!(rig.asked("Release").len(), 0, "at {now} s; told: {:?}", rig.told);
        rig.at(secs(now));
    }
    assert_eq!(rig.asked("Release").len(), 1, "{:?}", rig.told);
    rig.at(secs(17));
    assert_eq!(rig.first_fronts(), FRONTS);
}

#[test]
fn a_refused_login_is_not_tried_again_when_its_front_goes_away() {
    let mut rig = Rig::begun(&json!({"rules": [{"on": "ReqUserLogin", "tell": [answer(3)]}]}));
    rig.until(secs(0), "a refusal", |rig| rig.market.login.is_refused());
    rig.tell(&[json!({"call": "OnFrontDisconnected", "number": 0x1001})]);
    rig.until_standing(|standing| standing.losses == 1);
    (1..200).for_each(|now| rig.at(secs(now)));
    assert_eq!(rig.market.due(), None, "nothing is waited for");
    // Nor by a new object of the library.
    rig.tell(&vec![json!({"call": "OnFrontDisconnected", "number": 0x1001}); 30]);
    rig.until_standing(|standing| standing.losses == 31);
    rig.at(secs(200));
    rig.at(secs(210));
    rig.until_standing(|standing| standing.is_up);
    (210..300).for_each(|now| rig.at(secs(now)));
    assert_eq!((rig.first_fronts().len(), rig.logins()), (2, 1));
}

#[test]
fn a_front_that_comes_and_goes_is_seen_though_the_inbox_is_full() {
    let mut rig = Rig::begun(&json!({}));
    rig.want(secs(1), "rb2610");
    rig.until(secs(1), "the first subscription", |rig| rig.subscriptions() == 1);
    (0..100_000).for_each(|_| rig.inbox.wake());
    rig.tell(&[json!({"call": "OnFrontDisconnected", "number": 0x1001}), json!({"call": "OnFrontConnected"})]);
    rig.until_standing(|standing| standing.connection == 2);
    rig.at(secs(2));
    assert_eq!(rig.logins(), 2);
    rig.until(secs(2), "the second subscription", |rig| rig.subscriptions() == 2);
    rig.at(secs(1_000));
    assert_eq!(rig.logins(), 2, "once for each connection");
}

#[test]
fn a_login_that_is_answered_late_is_not_undone_by_the_refusal_of_the_second() {
    let mut rig = Rig::begun(&json!({"rules": [{"on": "ReqUserLogin"}]}));
    rig.want(secs(0), "rb2610");
    rig.until(secs(0), "a login", |rig| rig.logins() == 1);
    for now in 1..=89 {
        rig.at(secs(now));
    }
    assert_eq!(rig.logins(), 2, "the first answer is half a minute late");
    rig.tell(&[answer_in(), answer(5)]);
    rig.until(secs(89), "a subscription", |rig| rig.subscriptions() == 1);
    // Behind the refusal, and long after it.
    rig.tell(&[json!({"call": "OnRspSubMarketData", "record": {"InstrumentID": "xx"}, "info": {"ErrorID": 9}})]);
    rig.until(secs(89), "what is behind it", |rig| rig.told.iter().any(|told| told.contains("no ticks of xx")));
    rig.at(secs(5_000));
    rig.want(secs(5_000), "ag2612");
    assert_eq!(rig.subscriptions(), 2);
    assert_eq!(rig.logins(), 2);
    assert!(!rig.told.iter().any(|told| told.contains("refused")), "{:?}", rig.told);
}

#[test]
fn a_login_whose_answer_is_lost_is_found_out_by_the_refusal_of_the_next() {
    let mut rig = Rig::begun(&json!({"rules": [
        {"on": "ReqUserLogin", "times": 1},
        {"on": "ReqUserLogin", "tell": [answer(5)]},
    ]}));
    rig.want(secs(0), "rb2610");
    rig.until(secs(0), "a login", |rig| rig.logins() == 1);
    // As if the code behind the answer had panicked.
    let heard = Heard { generation: rig.market.generation, connection: 1 };
    let panicked = MdEvent::Panicked { callback: "OnRspUserLogin" };
    rig.step(|market, told| market.on_event(secs(1), heard, panicked, told));
    rig.at(secs(29));
    assert_eq!(rig.logins(), 1);
    rig.until(secs(30), "a subscription", |rig| rig.subscriptions() == 1);
    rig.at(secs(5_000));
    assert_eq!(rig.logins(), 2);
}

#[test]
fn a_front_that_says_that_nobody_is_logged_in_is_logged_in_at() {
    let refused = json!({"call": "OnRspError", "info": {"ErrorID": 6, "ErrorMsg": "CTP:还没有登录"}});
    let mut rig = Rig::begun(&json!({"rules": [
        {"on": "ReqUserLogin", "times": 1, "tell": [answer(5)]},
        {"on": "SubscribeMarketData", "times": 1, "tell": [refused]},
    ]}));
    rig.want(secs(0), "rb2610");
    rig.until(secs(0), "a refusal", |rig| rig.told.iter().any(|told| told.contains("nobody is logged in")));
    assert_eq!(rig.logins(), 1);
    rig.until(secs(60), "another subscription", |rig| rig.subscriptions() == 2);
    assert_eq!(rig.logins(), 2);
}

#[test]
fn a_front_that_hangs_up_at_once_is_left_alone_for_a_while() {
    let mut rig = Rig::begun(&json!({"never_connect": true}));
    rig.want(secs(0), "rb2610");
    let losses = vec![json!({"call": "OnFrontDisconnected", "number": 0x1001}); 21];
    for (rests, now, next) in [(1, 10, 12), (2, 12, 16)] {
        rig.at(secs(now));
        rig.tell(&losses);
        rig.until_standing(|standing| standing.losses == 21);
        rig.at(secs(now));
        assert_eq!(rig.asked("Release").len(), rests, "{:?}", rig.told);
        rig.at(secs(next) - Duration::from_millis(1));
        assert_eq!(rig.asked("Init").len(), rests);
        assert_eq!(rig.market.due(), Some(secs(next)));
        rig.at(secs(next));
        assert_eq!(rig.asked("Init").len(), rests + 1);
    }
    rig.tell(&[json!({"call": "OnFrontConnected"})]);
    rig.until(secs(17), "a subscription", |rig| rig.subscriptions() == 1);
    assert_eq!(rig.logins(), 1);
    let again = rig.told.iter().filter(|told| told.contains("trying again in")).count();
    assert_eq!(again, 2, "{:?}", rig.told);
}

#[test]
fn a_side_that_is_closed_while_it_rests_is_closed() {
    let mut rig = Rig::begun(&json!({"never_connect": true}));
    rig.at(secs(10));
    rig.tell(&vec![json!({"call": "OnFrontDisconnected", "number": 0x1001}); 21]);
    rig.until_standing(|standing| standing.losses == 21);
    rig.at(secs(10));
    assert_eq!(rig.asked("Release").len(), 1);
    rig.market.close();
    rig.at(secs(1_000));
    assert_eq!(rig.asked("Init").len(), 1);
    assert_eq!(rig.market.due(), None);
}
