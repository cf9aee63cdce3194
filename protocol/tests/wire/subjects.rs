//! Subjects and tokens over arbitrary Unicode, and filters against a wildcard matcher of our own.

use std::collections::HashMap;

use proptest::prelude::*;
use protocol::subject::{self, Filter, Kind, token, untoken};
use protocol::{Exchange, InstrumentId, LogLevel, OmsEvent, Subject};

use crate::strategies as any_;

/// What nats-server's `IsLiteralSubject` and its parser ask of a subject: no empty token, no wildcard, no white space.
fn is_plain_token(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'.' | b'*' | b'>'))
}

/// How NATS matches: `*` is one token, `>` one or more at the end.
fn matches(pattern: &str, subject: &str) -> bool {
    let mut subject = subject.split('.');
    let mut pattern = pattern.split('.').peekable();
    while let Some(expected) = pattern.next() {
        match (expected, subject.next()) {
            (">", Some(_)) => return pattern.peek().is_none(),
            ("*", Some(_)) => {}
            (expected, Some(token)) if expected == token => {}
            _ => return false,
        }
    }
    subject.next().is_none()
}

fn any_subject() -> impl Strategy<Value = Subject> {
    let instrument = || (any_::name(), any_::member(Exchange::ALL));
    let names = || (any_::name(), any_::name());
    prop_oneof![
        any_::oms_event().prop_map(|event| Subject::of(&event)),
        any_::instrument().prop_map(|id| Subject::tick(&id)),
        (instrument(), any_::name()).prop_map(|((symbol, exchange), gateway)| Subject::Contract {
            symbol,
            exchange,
            gateway
        }),
        any_::name().prop_map(|gateway| Subject::Status { gateway }),
        names().prop_map(|(gateway, owner)| Subject::Head { gateway, owner }),
        (any_::member(LogLevel::ALL), any_::name()).prop_map(|(level, gateway)| Subject::Log { level, gateway }),
    ]
}

/// Texts that are, or nearly are, tokens.
fn nearly_token() -> impl Strategy<Value = String> {
    prop_oneof!["[A-Za-z0-9_%-]{0,8}", "(%[0-9A-Fa-f]{2}|[a-z]){0,6}", any::<String>()]
}

fn filter() -> impl Strategy<Value = Filter> {
    // Few values, so that filters and events meet.
    let symbol = || prop::sample::select(vec!["a", "b", "*", ">", "", "a.b"]).prop_map(Into::into);
    let name = || prop::sample::select(vec!["g", "h", "*", ""]).prop_map(Into::into);
    let exchange = prop::option::of(prop::sample::select(vec![Exchange::SHFE, Exchange::DCE]));
    (prop::option::of(symbol()), exchange, prop::option::of(name()), prop::option::of(name()))
        .prop_map(|(symbol, exchange, gateway, owner)| Filter { symbol, exchange, gateway, owner })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn tokens_read_back_and_are_safe(text in any_::text()) {
        let token = token(&text);
        prop_assert!(is_plain_token(&token), "{token:?}");
        prop_assert_eq!(untoken(&token), Ok(text));
    }

    #[test]
    fn ordinary_symbols_are_their_own_tokens(text in "[A-Za-z0-9_-]{1,20}") {
        prop_assert_eq!(token(&text), text);
    }

    /// Each text has one token, so two spellings of a subject cannot mean the same.
    #[test]
    fn only_what_token_writes_is_read(text in nearly_token()) {
        if let Ok(read) = untoken(&text) {
            prop_assert_eq!(token(&read), text);
        }
    }

    #[test]
    fn subjects_read_back(subject in any_subject()) {
        let text = subject.to_string();
        prop_assert!(text.split('.').all(is_plain_token), "{text:?}");
        prop_assert_eq!(text.parse(), Ok(subject));
    }

    #[test]
    fn what_reads_as_a_subject_is_written_the_same(
        text in "evt\\.(tick|order|position|account|status|head|log|contract)(\\.(SHFE|INFO|[a-z%0-9A-F]{0,4})){1,4}",
    ) {
        if let Ok(subject) = text.parse::<Subject>() {
            prop_assert_eq!(subject.to_string(), text);
        }
    }

    #[test]
    fn a_filters_subject_matches_what_the_filter_matches(
        filter in filter(),
        symbol in prop::sample::select(vec!["a", "b", "*", ">", "", "a.b"]),
        exchange in prop::sample::select(vec![Exchange::SHFE, Exchange::DCE]),
        gateway in prop::sample::select(vec!["g", "h", "*", ""]),
        owner in prop::sample::select(vec!["g", "h", "*", ""]),
    ) {
        let id = InstrumentId::new(symbol, exchange);
        let (symbol, gateway_name, owner_name) = (id.symbol.clone(), gateway.into(), owner.into());
        let order = Subject::Order { symbol: symbol.clone(), exchange, gateway: gateway_name, owner: owner_name };
        prop_assert_eq!(matches(&filter.subject(Kind::Order), &order.to_string()), filter.matches(&id, gateway, Some(owner)));
        let position = Subject::Position { symbol, exchange, gateway: gateway.into() };
        prop_assert_eq!(matches(&filter.subject(Kind::Position), &position.to_string()), filter.matches(&id, gateway, None));
        // A tick's subject names no gateway: the reader narrows by what is inside.
        let of_any_gateway = Filter { gateway: None, ..filter.clone() };
        let tick = Subject::tick(&id).to_string();
        prop_assert_eq!(matches(&filter.subject(Kind::Tick), &tick), of_any_gateway.matches(&id, gateway, None));
    }

    #[test]
    fn an_event_is_journalled_where_its_subject_is_republished_from(event in any_::oms_event(), gateway in any_::text()) {
        let subject = Subject::of(&event);
        let journal = subject.journal(&gateway);
        let rest = journal.strip_prefix(&subject::journal_published_prefix(&gateway)).expect("the prefix");
        prop_assert_eq!(format!("evt.{rest}"), subject.to_string());
        prop_assert!(matches(&subject::journal_all(&gateway), &journal));
        prop_assert!(matches(&subject::journal_all(&gateway), &subject::journal_private(&gateway, "snapshot")));
        prop_assert!(!subject::journal_private(&gateway, "snapshot").starts_with(&subject::journal_published_prefix(&gateway)));
        prop_assert_eq!(matches(&subject::accounts_filter(None), &subject.to_string()), matches!(event, OmsEvent::Account(_)));
    }

    #[test]
    fn the_other_filters_match_their_subjects(gateway in any_::name(), owner in any_::name(), level in any_::member(LogLevel::ALL)) {
        let status = Subject::Status { gateway: gateway.clone() }.to_string();
        prop_assert!(matches(&subject::status_filter(None), &status));
        prop_assert!(matches(&subject::status_filter(Some(&gateway)), &status));
        let head = Subject::Head { gateway: gateway.clone(), owner: owner.clone() }.to_string();
        prop_assert!(matches(&subject::heads_filter(&gateway, None), &head));
        prop_assert!(matches(&subject::heads_filter(&gateway, Some(&owner)), &head));
        let log = Subject::Log { level, gateway: gateway.clone() }.to_string();
        prop_assert!(matches(&subject::logs_filter(None, Some(&gateway)), &log));
        prop_assert!(matches(&subject::logs_filter(Some(level), None), &log));
        prop_assert!(subject::rpc(&gateway, "send_order").split('.').all(is_plain_token));
        prop_assert_eq!(subject::rpc(&gateway, "send_order").split('.').count(), 3);
    }
}

/// Injective over many texts that an escape could confuse.
#[test]
fn no_two_texts_share_a_token() {
    let alphabet = ["%", "2", "E", "e", ".", "", "é", "\0", "*", "_"];
    let mut seen: HashMap<String, String> = HashMap::new();
    for a in alphabet {
        for b in alphabet {
            for c in alphabet {
                let text = format!("{a}{b}{c}");
                if let Some(other) = seen.insert(token(&text), text.clone()) {
                    assert_eq!(other, text);
                }
            }
        }
    }
}

#[test]
fn filters_as_people_type_them() {
    let read = |text: &str| text.parse::<Filter>();
    for everything in ["", "*", ">", "*.*", "*.>"] {
        assert_eq!(read(everything), Ok(Filter::all()), "{everything:?}");
    }
    assert_eq!(read("rb2410.SHFE"), Ok(Filter::instrument(&InstrumentId::new("rb2410", Exchange::SHFE))));
    assert_eq!(read("*.SHFE"), Ok(Filter::exchange(Exchange::SHFE)));
    assert_eq!(read("rb2410.*"), Ok(Filter { symbol: Some("rb2410".into()), ..Filter::all() }));
    let spread = InstrumentId::new("SPC c1905&cs1905", Exchange::DCE);
    assert_eq!(read("SPC c1905&cs1905.DCE"), Ok(Filter::instrument(&spread)));
    let message = |text: &str| read(text).expect_err("refused").to_string();
    assert!(message("rb2410").contains("write SYMBOL.EXCHANGE"));
    assert!(message("rb2410.MOON").contains("unknown exchange `MOON`"));
    for partial in ["rb*.SHFE", ">.SHFE", ".SHFE", "evt.tick.*.*.SHFE"] {
        assert!(message(partial).contains("one whole symbol"), "{partial}");
    }
}

#[test]
fn our_matcher_matches_as_nats_does() {
    assert!(matches("a.*.c", "a.b.c") && matches("a.>", "a.b.c") && matches(">", "a"));
    assert!(!matches("a.>", "a") && !matches("a.*", "a.b.c") && !matches("a.b", "a") && !matches("a", "a.b"));
}
