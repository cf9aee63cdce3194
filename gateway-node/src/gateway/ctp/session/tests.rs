//! The way through, each way out of it, and that no order of inputs leaves it waiting for nothing.

use super::*;
use proptest::prelude::*;

const T: Duration = Duration::from_secs(100);

fn login() -> Login {
    Login { trading_day: "20261123".into(), front_id: 1, session_id: -7, ..Login::default() }
}

fn failure(code: i32) -> Failure {
    Failure { code, message: "不合法的登录".to_owned() }
}

/// A machine that has taken these inputs, and what the last of them led to.
fn after(inputs: impl IntoIterator<Item = Input>) -> (Session, Option<Output>) {
    let mut session = Session::new(true, 1);
    let mut last = None;
    for input in inputs {
        last = session.on(T, input);
    }
    (session, last)
}

fn way() -> [(Input, Option<Output>, Step); 6] {
    [
        (Input::Connect, None, Step::Front),
        (Input::FrontConnected, Some(Output::Authenticate), Step::Authentication),
        (Input::Authenticated(None), Some(Output::Login), Step::Login),
        (Input::LoggedIn(Ok(login())), Some(Output::Begun(login())), Step::Settlement),
        (Input::SettlementConfirmed(None), Some(Output::QueryInstruments), Step::Instruments),
        (Input::Instruments(Ok(())), Some(Output::Ready), Step::Done),
    ]
}

#[test]
fn the_way_through() {
    let mut session = Session::new(true, 1);
    for (input, output, step) in way() {
        assert_eq!(session.on(T, input.clone()), output, "{input:?}");
        assert_eq!(session.step(), step);
        // The query for instruments has a deadline of its own.
        let waits = !matches!(step, Step::Instruments | Step::Done);
        assert_eq!(session.due().is_some(), waits, "every wait has an end: {step:?}");
    }
}

#[test]
fn without_an_auth_code_nobody_authenticates() {
    let mut session = Session::new(false, 1);
    assert_eq!(session.on(T, Input::FrontConnected), None, "nobody wants a session yet");
    assert_eq!(session.on(T, Input::Connect), Some(Output::Login));
}

#[test]
fn every_wait_ends() {
    for length in 1..5 {
        let (mut session, _) = after(way().into_iter().take(length).map(|(input, ..)| input));
        let due = session.due().expect("it waits");
        assert_eq!(session.on(due - Duration::from_millis(1), Input::Time), None);
        let Some(Output::Silent(why)) = session.on(due, Input::Time) else { panic!("it gave up at step {length}") };
        assert!(why.starts_with("waited in vain for "), "{why}");
        assert_eq!((session.step(), session.due()), (Step::Idle, None));
    }
}

#[test]
fn a_front_that_needs_its_time_is_given_it() {
    let mut session = Session::new(true, 1);
    let mut waits = Vec::new();
    let mut now = T;
    for _ in 0..5 {
        let _ = session.on(now, Input::Connect);
        let due = session.due().expect("it waits");
        waits.push((due - now).as_secs());
        now = due;
        assert!(matches!(session.on(now, Input::Time), Some(Output::Silent(_))));
    }
    assert_eq!(waits, [15, 30, 60, 120, 120]);
    let mut several = Session::new(true, 3);
    let mut waits = Vec::new();
    for _ in 0..7 {
        let _ = several.on(T, Input::Connect);
        let due = several.due().expect("it waits");
        waits.push((due - T).as_secs());
        let _ = several.on(due, Input::Time);
    }
    assert_eq!(waits, [15, 15, 15, 30, 30, 30, 60], "each of three as long");
    assert_eq!(session.on(now, Input::Connect), Some(Output::Renew));
    assert_eq!(session.on(now + Duration::from_secs(100), Input::FrontConnected), Some(Output::Authenticate));
    let _ = session.on(now, Input::FrontDisconnected { reason: 0x1001, has_unsent: false });
    let _ = session.on(now, Input::Connect);
    assert_eq!(session.due(), Some(now + FRONT_PATIENCE), "it has answered");
}

#[test]
fn a_lost_front_ends_whatever_was_under_way_and_the_next_connect_waits_for_it() {
    for length in 1..=way().len() {
        let (mut session, _) = after(way().into_iter().take(length).map(|(input, ..)| input));
        let lost = |has_unsent| Input::FrontDisconnected { reason: 0x1001, has_unsent };
        let ended = session.on(T, lost(false));
        let why = "the trader front disconnected: reading from the network failed (0x1001)".to_owned();
        assert_eq!(ended, Some(Output::Ended(why)));
        assert_eq!(session.on(T, lost(true)), None, "once is enough");
        assert_eq!((session.on(T, Input::Connect), session.step()), (None, Step::Front));
    }
}

#[test]
fn nor_is_what_it_holds_of_a_session_that_ended_before_the_front_was_lost() {
    for end in [Input::NotTaken(-1), Input::LoggedOut, Input::Stuck("no query".to_owned())] {
        let inputs = way().into_iter().map(|(input, ..)| input).chain([end]);
        let (mut session, ended) = after(inputs);
        assert!(matches!(ended, Some(Output::Ended(_))));
        assert_eq!(session.on(T, Input::FrontDisconnected { reason: 0x1001, has_unsent: true }), None);
        assert_eq!(session.on(T, Input::FrontConnected), None);
        assert_eq!(session.on(T, Input::Connect), Some(Output::Renew));
    }
}

#[test]
fn what_a_library_may_still_hold_is_not_sent_in_the_next_session() {
    for length in 1..=way().len() {
        let (mut session, _) = after(way().into_iter().take(length).map(|(input, ..)| input));
        let ended = session.on(T, Input::FrontDisconnected { reason: 0x1001, has_unsent: true });
        assert!(matches!(ended, Some(Output::Ended(_))));
        assert_eq!(session.on(T, Input::FrontConnected), None, "nobody wants a session now");
        assert_eq!(session.on(T, Input::Connect), Some(Output::Renew));
    }
}

#[test]
fn wrong_credentials_are_refused_and_passing_states_are_not() {
    let logging_in = || way().into_iter().take(3).map(|(input, ..)| input);
    let (_, refused) = after(logging_in().chain([Input::LoggedIn(Err(failure(3)))]));
    let sentence = "the counter refused the login: CTP error 3: 不合法的登录".to_owned();
    assert_eq!(refused, Some(Output::Refused(sentence)));
    let (_, passing) = after(logging_in().chain([Input::LoggedIn(Err(failure(7)))]));
    assert!(matches!(passing, Some(Output::Ended(_))), "the counter is not initialised yet: {passing:?}");
    let (_, refused) = after([Input::Connect, Input::FrontConnected, Input::Authenticated(Some(failure(63)))]);
    assert!(matches!(refused, Some(Output::Refused(_))), "{refused:?}");
}

#[test]
fn a_further_connect_renews_a_session_and_leaves_a_login_alone() {
    let inputs = || way().into_iter().map(|(input, ..)| input);
    let (session, output) = after(inputs().chain([Input::Connect]));
    assert_eq!((session.step(), output), (Step::Front, Some(Output::Renew)));
    let (session, output) = after(inputs().take(4).chain([Input::Connect]));
    assert_eq!((session.step(), output), (Step::Settlement, None));
}

#[test]
fn nothing_of_a_login_that_failed_reaches_the_next_one() {
    let inputs = || way().into_iter().map(|(input, ..)| input);
    for length in 1..5 {
        let (mut session, _) = after(inputs().take(length));
        let due = session.due().expect("it waits");
        assert!(matches!(session.on(due, Input::Time), Some(Output::Silent(_))));
        assert_eq!(session.on(due, Input::Connect), Some(Output::Renew), "after {length} steps");
    }
    for end in [Input::Instruments(Err("late".to_owned())), Input::LoggedOut, Input::Stuck("no query".to_owned())] {
        let (mut session, ended) = after(inputs().take(5).chain([end]));
        assert!(matches!(ended, Some(Output::Ended(_))));
        assert_eq!(session.on(T, Input::Connect), Some(Output::Renew));
    }
    let (mut session, ended) = after(inputs().chain([Input::NotTaken(-1)]));
    assert!(matches!(ended, Some(Output::Ended(_))) && session.on(T, Input::Connect) == Some(Output::Renew));
    let (mut session, ended) = after(inputs().chain([Input::Mute("no answers".to_owned())]));
    assert!(matches!(ended, Some(Output::Silent(_))) && session.on(T, Input::Connect) == Some(Output::Renew));
    let (_, ended) = after(inputs().chain([Input::FrontConnected]));
    assert!(matches!(ended, Some(Output::Ended(_))), "it had been away: {ended:?}");
}

#[test]
fn what_ctp_does_not_take_is_not_waited_for() {
    let (session, ended) = after([Input::Connect, Input::FrontConnected, Input::NotTaken(-1)]);
    assert!(matches!(ended, Some(Output::Ended(_))) && session.step() == Step::Idle);
}

fn inputs() -> impl Strategy<Value = Input> {
    prop_oneof![
        3 => Just(Input::Connect),
        1 => Just(Input::Disconnect),
        3 => Just(Input::FrontConnected),
        1 => any::<bool>().prop_map(|has_unsent| Input::FrontDisconnected { reason: 0x2001, has_unsent }),
        2 => prop_oneof![Just(None), Just(Some(failure(63)))].prop_map(Input::Authenticated),
        2 => prop_oneof![Just(Ok(login())), Just(Err(failure(3))), Just(Err(failure(7)))].prop_map(Input::LoggedIn),
        2 => prop_oneof![Just(None), Just(Some(failure(9)))].prop_map(Input::SettlementConfirmed),
        2 => prop_oneof![Just(Ok(())), Just(Err("late".to_owned()))].prop_map(Input::Instruments),
        1 => Just(Input::NotTaken(-1)),
        1 => Just(Input::LoggedOut),
        1 => Just(Input::Stuck("no query".to_owned())),
        1 => Just(Input::Mute("no answers".to_owned())),
        2 => Just(Input::Time),
    ]
}

proptest! {
    /// Whatever comes in whatever order: each session that began ends once before another begins, every wait has an end,
    /// and after a refusal nothing is sent until somebody connects.
    #[test]
    fn no_order_of_inputs_confuses_it(inputs in proptest::collection::vec((inputs(), 0..20_u64), 0..80)) {
        let mut session = Session::new(true, 1);
        let (mut now, mut begun, mut is_refused) = (T, false, false);
        for (input, seconds) in inputs {
            now += Duration::from_secs(seconds);
            if matches!(input, Input::Connect) {
                is_refused = false;
            }
            if matches!(input, Input::Disconnect) {
                begun = false;
            }
            match session.on(now, input) {
                Some(Output::Begun(_)) => {
                    prop_assert!(!begun);
                    begun = true;
                }
                Some(Output::Ready) => prop_assert!(begun),
                Some(Output::Ended(_) | Output::Silent(_)) => begun = false,
                Some(Output::Refused(_)) => (begun, is_refused) = (false, true),
                Some(Output::Authenticate | Output::Login) => prop_assert!(!is_refused),
                Some(Output::Renew) => begun = false,
                Some(Output::QueryInstruments) | None => {}
            }
            let is_waiting = !matches!(session.step(), Step::Idle | Step::Instruments | Step::Done);
            prop_assert_eq!(session.due().is_some(), is_waiting);
            prop_assert!(!begun || matches!(session.step(), Step::Settlement | Step::Instruments | Step::Done));
        }
    }
}
