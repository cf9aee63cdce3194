//! What can go wrong for a client, and whether an order may have been executed all the same.

use std::time::Duration;

use protocol::{ErrorCode, InstrumentId, Name, RpcError};

/// Why something failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No server could be reached, or it did not let us in.
    #[error("cannot connect to {servers}: {reason}; {advice}")]
    Connect {
        /// The addresses tried.
        servers: String,
        /// What happened.
        reason: String,
        /// What to do.
        advice: String,
    },
    /// An option that can never work.
    #[error("{0}")]
    Options(String),
    /// There is no connection now, and nothing was sent: a request buffered until the reconnect would come late.
    #[error("not connected to the server: nothing was sent, it reconnects by itself")]
    Disconnected,
    /// The connection broke while an answer was awaited.
    #[error("the connection broke during {method} at gateway `{gateway}`{}", outcome(*maybe_executed))]
    ConnectionLost {
        /// Gateway that was called.
        gateway: Name,
        /// Method that was called.
        method: String,
        /// Whether the call may have had its effect.
        maybe_executed: bool,
    },
    /// Nobody serves that gateway (or that method of it) now. Known at once, nothing was done.
    #[error("gateway `{gateway}` is not running, or does not serve `{method}`")]
    GatewayNotRunning {
        /// Gateway that was called.
        gateway: Name,
        /// Method that was called.
        method: String,
    },
    /// No answer in time.
    #[error("no answer from gateway `{gateway}` to {method} within {timeout:?}{}", outcome(*maybe_executed))]
    Timeout {
        /// Gateway that was called.
        gateway: Name,
        /// Method that was called.
        method: String,
        /// How long was waited.
        timeout: Duration,
        /// Whether the call may have had its effect.
        maybe_executed: bool,
    },
    /// The answer to an order or a quote was lost, and it is certain that none came of it: its deadline has passed and the
    /// gateway has none of that id.
    #[error(
        "no answer from gateway `{gateway}` to {method} within {timeout:?}: its deadline has passed, it was not executed"
    )]
    NotExecuted {
        /// Gateway that was called.
        gateway: Name,
        /// Method that was called.
        method: String,
        /// The deadline that has passed, counted from the call.
        timeout: Duration,
    },
    /// The gateway refused.
    #[error("{0}")]
    Rpc(#[from] RpcError),
    /// The gateway's answer is not what the method's answer should be.
    #[error("gateway `{gateway}` answered {method} with something else: {reason}")]
    Reply {
        /// Gateway that was called.
        gateway: Name,
        /// Method that was called.
        method: String,
        /// What is wrong with the answer.
        reason: String,
        /// Whether the call may have had its effect.
        maybe_executed: bool,
    },
    /// The request itself cannot be right; nothing was sent.
    #[error("{0}")]
    InvalidRequest(String),
    /// Several gateways trade the contract and none is preferred.
    #[error("{instrument} is traded by {}: choose one of them, or set a preference", list(gateways))]
    AmbiguousRoute {
        /// The contract.
        instrument: InstrumentId,
        /// Who trades it.
        gateways: Vec<Name>,
    },
    /// No gateway trades the contract.
    #[error("no gateway trades {instrument}{}", meant(nearest.as_ref()))]
    NoRoute {
        /// The contract asked for.
        instrument: InstrumentId,
        /// The known contract whose spelling is nearest.
        nearest: Option<InstrumentId>,
    },
    /// The client library of NATS failed in a way that has no name here.
    #[error("NATS: {0}")]
    Nats(String),
}

impl Error {
    /// Whether the outcome is unknown: the call may have had its effect (an order may be at the venue).
    /// Send the same request again: the gateway knows it by its id.
    #[must_use]
    pub fn maybe_executed(&self) -> bool {
        match self {
            Error::ConnectionLost { maybe_executed, .. }
            | Error::Timeout { maybe_executed, .. }
            | Error::Reply { maybe_executed, .. } => *maybe_executed,
            Error::Rpc(error) => !error.code.has_no_side_effects(),
            Error::Connect { .. }
            | Error::Options(_)
            | Error::Disconnected
            | Error::GatewayNotRunning { .. }
            | Error::NotExecuted { .. }
            | Error::InvalidRequest(_)
            | Error::AmbiguousRoute { .. }
            | Error::NoRoute { .. }
            | Error::Nats(_) => false,
        }
    }

    /// Whether the same call may succeed later without anything else being changed. What may have been executed
    /// is retryable only with the same order id, and is not counted here.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Rpc(error) => error.code.is_retryable(),
            Error::Disconnected
            | Error::GatewayNotRunning { .. }
            | Error::NotExecuted { .. }
            | Error::Connect { .. } => true,
            Error::ConnectionLost { maybe_executed, .. } | Error::Timeout { maybe_executed, .. } => !maybe_executed,
            Error::Options(_)
            | Error::Reply { .. }
            | Error::InvalidRequest(_)
            | Error::AmbiguousRoute { .. }
            | Error::NoRoute { .. }
            | Error::Nats(_) => false,
        }
    }

    /// The gateway's error code, if it was the gateway that refused.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Error::Rpc(error) => Some(error.code),
            _ => None,
        }
    }
}

fn outcome(maybe_executed: bool) -> &'static str {
    if maybe_executed { ": it may have been executed, ask again with the same id" } else { "" }
}

fn list(names: &[Name]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn meant(nearest: Option<&InstrumentId>) -> String {
    nearest.map_or_else(String::new, |instrument| format!(": did you mean {instrument}?"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Exchange;

    #[test]
    fn only_what_may_be_at_the_venue_is_of_unknown_outcome() {
        let timeout = |maybe_executed| Error::Timeout {
            gateway: "sim1".into(),
            method: "send_order".to_owned(),
            timeout: Duration::from_secs(1),
            maybe_executed,
        };
        assert!(timeout(true).maybe_executed() && !timeout(true).is_retryable());
        assert!(!timeout(false).maybe_executed() && timeout(false).is_retryable());
        assert!(!Error::Disconnected.maybe_executed());
        assert!(Error::Rpc(RpcError::new(ErrorCode::Internal, "")).maybe_executed());
        assert!(!Error::Rpc(RpcError::new(ErrorCode::RiskRejected, "")).maybe_executed());
    }

    #[test]
    fn a_route_that_is_missing_names_the_nearest_symbol() {
        let error = Error::NoRoute {
            instrument: InstrumentId::new("RB2410", Exchange::SHFE),
            nearest: Some(InstrumentId::new("rb2410", Exchange::SHFE)),
        };
        assert_eq!(error.to_string(), "no gateway trades RB2410.SHFE: did you mean rb2410.SHFE?");
    }
}
