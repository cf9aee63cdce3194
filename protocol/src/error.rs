//! Errors as they cross the wire: a flat code that programs act on, and a message that people read.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a call failed. Flat, so that a client of any language can match on the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// The request does not decode, or a value in it can never be right; the message names the field.
    BadRequest,
    /// The gateway has no method of that name.
    UnknownMethod,
    /// The gateway knows no such instrument; the message names the nearest one.
    UnknownContract,
    /// There is no such order, quote or other object.
    NotFound,
    /// The order's (or quote's) values break a rule of its contract: price step, volume, offset.
    InvalidOrder,
    /// The order is finished: there is nothing to cancel.
    OrderNotActive,
    /// The id belongs to an order (or a quote) with other content.
    OrderIdReused,
    /// Orders, quotes and cancels need a deadline.
    DeadlineRequired,
    /// The request came (or would have left for the venue) past its deadline.
    DeadlineExceeded,
    /// The deadline was set on the clock of a leader that has been replaced: ask for the status, and send again with a
    /// deadline of its epoch.
    EpochChanged,
    /// A risk rule refused the order; the message names rule, limit and value.
    RiskRejected,
    /// The venue's adapter refused the order before it left the node.
    VenueRejected,
    /// The gateway is not logged in at its venue.
    NotReady,
    /// New orders are halted.
    Halted,
    /// The gateway's state is uncertain: orders are refused until it is reconciled, cancels flow.
    Dirty,
    /// The venue has no such function.
    NotSupported,
    /// A queue of the node is full.
    Overloaded,
    /// The journal takes no more entries.
    StorageFull,
    /// The events asked for are no longer kept: take a snapshot.
    TooOld,
    /// The caller may not do that.
    NotPermitted,
    /// Part of it was done: the message says what was not.
    PartlyDone,
    /// The node is shutting down, or no longer leads.
    ShuttingDown,
    /// The node broke its own rules; its log says how.
    Internal,
    /// A code that this version does not know.
    #[serde(other)]
    Unknown,
}

impl ErrorCode {
    /// Every code that a node of this version sends.
    pub const ALL: &'static [ErrorCode] = &[
        ErrorCode::BadRequest,
        ErrorCode::UnknownMethod,
        ErrorCode::UnknownContract,
        ErrorCode::NotFound,
        ErrorCode::InvalidOrder,
        ErrorCode::OrderNotActive,
        ErrorCode::OrderIdReused,
        ErrorCode::DeadlineRequired,
        ErrorCode::DeadlineExceeded,
        ErrorCode::EpochChanged,
        ErrorCode::RiskRejected,
        ErrorCode::VenueRejected,
        ErrorCode::NotReady,
        ErrorCode::Halted,
        ErrorCode::Dirty,
        ErrorCode::NotSupported,
        ErrorCode::Overloaded,
        ErrorCode::StorageFull,
        ErrorCode::TooOld,
        ErrorCode::NotPermitted,
        ErrorCode::PartlyDone,
        ErrorCode::ShuttingDown,
        ErrorCode::Internal,
    ];

    /// The code's name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorCode::BadRequest => "BAD_REQUEST",
            ErrorCode::UnknownMethod => "UNKNOWN_METHOD",
            ErrorCode::UnknownContract => "UNKNOWN_CONTRACT",
            ErrorCode::NotFound => "NOT_FOUND",
            ErrorCode::InvalidOrder => "INVALID_ORDER",
            ErrorCode::OrderNotActive => "ORDER_NOT_ACTIVE",
            ErrorCode::OrderIdReused => "ORDER_ID_REUSED",
            ErrorCode::DeadlineRequired => "DEADLINE_REQUIRED",
            ErrorCode::DeadlineExceeded => "DEADLINE_EXCEEDED",
            ErrorCode::EpochChanged => "EPOCH_CHANGED",
            ErrorCode::RiskRejected => "RISK_REJECTED",
            ErrorCode::VenueRejected => "VENUE_REJECTED",
            ErrorCode::NotReady => "NOT_READY",
            ErrorCode::Halted => "HALTED",
            ErrorCode::Dirty => "DIRTY",
            ErrorCode::NotSupported => "NOT_SUPPORTED",
            ErrorCode::Overloaded => "OVERLOADED",
            ErrorCode::StorageFull => "STORAGE_FULL",
            ErrorCode::TooOld => "TOO_OLD",
            ErrorCode::NotPermitted => "NOT_PERMITTED",
            ErrorCode::PartlyDone => "PARTLY_DONE",
            ErrorCode::ShuttingDown => "SHUTTING_DOWN",
            ErrorCode::Internal => "INTERNAL",
            ErrorCode::Unknown => "UNKNOWN",
        }
    }

    /// Whether the same request may succeed later, with nothing changed by the caller.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        match self {
            ErrorCode::NotReady
            | ErrorCode::Halted
            | ErrorCode::Dirty
            | ErrorCode::Overloaded
            | ErrorCode::StorageFull
            | ErrorCode::DeadlineExceeded
            | ErrorCode::EpochChanged
            | ErrorCode::PartlyDone
            | ErrorCode::ShuttingDown => true,
            ErrorCode::BadRequest
            | ErrorCode::UnknownMethod
            | ErrorCode::UnknownContract
            | ErrorCode::NotFound
            | ErrorCode::InvalidOrder
            | ErrorCode::OrderNotActive
            | ErrorCode::OrderIdReused
            | ErrorCode::DeadlineRequired
            | ErrorCode::RiskRejected
            | ErrorCode::VenueRejected
            | ErrorCode::NotSupported
            | ErrorCode::TooOld
            | ErrorCode::NotPermitted
            | ErrorCode::Internal
            | ErrorCode::Unknown => false,
        }
    }

    /// Whether it is certain that nothing was done at the venue.
    #[must_use]
    pub const fn has_no_side_effects(self) -> bool {
        match self {
            ErrorCode::BadRequest
            | ErrorCode::UnknownMethod
            | ErrorCode::UnknownContract
            | ErrorCode::NotFound
            | ErrorCode::InvalidOrder
            | ErrorCode::OrderNotActive
            | ErrorCode::OrderIdReused
            | ErrorCode::DeadlineRequired
            | ErrorCode::DeadlineExceeded
            | ErrorCode::EpochChanged
            | ErrorCode::RiskRejected
            | ErrorCode::VenueRejected
            | ErrorCode::NotReady
            | ErrorCode::Halted
            | ErrorCode::Dirty
            | ErrorCode::NotSupported
            | ErrorCode::Overloaded
            | ErrorCode::StorageFull
            | ErrorCode::TooOld
            | ErrorCode::NotPermitted => true,
            // A node may stop or break after the order was taken.
            ErrorCode::PartlyDone | ErrorCode::ShuttingDown | ErrorCode::Internal | ErrorCode::Unknown => false,
        }
    }

    /// Number for the header `Nats-Service-Error-Code`, in the manner of HTTP.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            ErrorCode::BadRequest | ErrorCode::InvalidOrder | ErrorCode::DeadlineRequired => 400,
            ErrorCode::NotPermitted => 403,
            ErrorCode::UnknownMethod | ErrorCode::UnknownContract | ErrorCode::NotFound => 404,
            ErrorCode::DeadlineExceeded => 408,
            ErrorCode::OrderNotActive | ErrorCode::OrderIdReused => 409,
            ErrorCode::TooOld => 410,
            ErrorCode::EpochChanged => 412,
            ErrorCode::RiskRejected | ErrorCode::VenueRejected => 422,
            ErrorCode::Halted | ErrorCode::Dirty => 423,
            ErrorCode::Overloaded => 429,
            ErrorCode::Internal | ErrorCode::Unknown => 500,
            ErrorCode::NotSupported => 501,
            ErrorCode::PartlyDone => 502,
            ErrorCode::NotReady | ErrorCode::ShuttingDown => 503,
            ErrorCode::StorageFull => 507,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The body of an error reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct RpcError {
    /// What programs act on.
    pub code: ErrorCode,
    /// What people read: what is wrong, where, what to do.
    pub message: String,
}

impl RpcError {
    /// An error reply.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        RpcError { code, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_travel_by_name_and_unknown_ones_are_survived() {
        for &code in ErrorCode::ALL {
            let json = serde_json::to_string(&code).expect("encodes");
            assert_eq!(json, format!("\"{code}\""));
            assert_eq!(serde_json::from_str::<ErrorCode>(&json).expect("decodes"), code);
        }
        assert_eq!(serde_json::from_str::<ErrorCode>("\"FROM_THE_FUTURE\"").expect("decodes"), ErrorCode::Unknown);
    }
}
