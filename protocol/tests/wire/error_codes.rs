//! The error codes' promises: what a client may do after each, and that no detour makes a promise stronger.

use proptest::prelude::*;
use protocol::rpc::read_error;
use protocol::{ErrorCode, RpcError};

/// `(code, may be tried again unchanged, nothing can have happened at the venue)`, as clients rely on it.
const TABLE: [(ErrorCode, bool, bool); 23] = [
    (ErrorCode::BadRequest, false, true),
    (ErrorCode::UnknownMethod, false, true),
    (ErrorCode::UnknownContract, false, true),
    (ErrorCode::NotFound, false, true),
    (ErrorCode::InvalidOrder, false, true),
    (ErrorCode::OrderNotActive, false, true),
    (ErrorCode::OrderIdReused, false, true),
    (ErrorCode::DeadlineRequired, false, true),
    (ErrorCode::DeadlineExceeded, true, true),
    (ErrorCode::EpochChanged, true, true),
    (ErrorCode::RiskRejected, false, true),
    (ErrorCode::VenueRejected, false, true),
    (ErrorCode::NotReady, true, true),
    (ErrorCode::Halted, true, true),
    (ErrorCode::Dirty, true, true),
    (ErrorCode::NotSupported, false, true),
    (ErrorCode::Overloaded, true, true),
    // Answered before anything is journalled or sent: what waits for room already is not answered with it.
    (ErrorCode::StorageFull, true, true),
    (ErrorCode::TooOld, false, true),
    (ErrorCode::NotPermitted, false, true),
    (ErrorCode::PartlyDone, true, false),
    // An entry may have been stored, or an order sent, before these: the outcome is unknown.
    (ErrorCode::ShuttingDown, true, false),
    (ErrorCode::Internal, false, false),
];

#[test]
fn the_table_is_what_the_codes_say() {
    let said: Vec<_> =
        ErrorCode::ALL.iter().map(|code| (*code, code.is_retryable(), code.has_no_side_effects())).collect();
    assert_eq!(said, TABLE);
    assert!(!ErrorCode::Unknown.is_retryable(), "nobody knows what it asks for");
    assert!(!ErrorCode::Unknown.has_no_side_effects(), "nobody knows what was done");
}

/// A proxy or a foreign service may lose the body: the number alone must not promise more than the code did.
#[test]
fn the_number_alone_promises_no_more_than_the_code() {
    for &code in ErrorCode::ALL {
        let read = read_error("text", &code.number().to_string(), b"").code;
        assert!(code.has_no_side_effects() || !read.has_no_side_effects(), "{code} read as {read}");
    }
}

#[test]
fn numbers_are_errors_in_the_manner_of_http() {
    for &code in ErrorCode::ALL {
        assert!((400..600).contains(&code.number()), "{code}");
    }
}

#[test]
fn a_body_wins_over_the_headers() {
    let body = br#"{"code":"HALTED","message":"STRAT_A is halted: loss limit","since":1}"#;
    let error = read_error("anything", "500", body);
    assert_eq!(error, RpcError::new(ErrorCode::Halted, "STRAT_A is halted: loss limit"));
    assert_eq!(error.to_string(), "HALTED: STRAT_A is halted: loss limit");
    assert_eq!(read_error("no such thing", "404", b"<html>").to_string(), "NOT_FOUND: no such thing (404)");
    assert_eq!(read_error("?", "", b"{}").code, ErrorCode::Unknown);
}

proptest! {
    /// Only a body of ours can promise anything that no known number promises.
    #[test]
    fn unknown_numbers_promise_nothing(number in "[0-9]{0,4}", message in any::<String>()) {
        let known = ErrorCode::ALL.iter().any(|code| code.number().to_string() == number);
        let error = read_error(&message, &number, b"");
        prop_assert!(known || !error.code.has_no_side_effects(), "{}", error);
    }
}
