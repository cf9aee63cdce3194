//! How a command ends: the exit code that scripts act on, and the sentence that people read.

use std::io;
use std::process::ExitCode;

use client_sdk::Error;
use protocol::{Name, OrderId, RpcError};

/// Why a command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The gateway, or the venue behind it, refused.
    #[error("{0}")]
    Refused(RpcError),
    /// What was typed cannot be right.
    #[error("{0}")]
    Usage(String),
    /// Several gateways would do, and none was chosen.
    #[error("{0}")]
    Ambiguous(String),
    /// No server, or no such gateway.
    #[error("{0}")]
    NotReachable(String),
    /// Nobody serves that gateway, or that method of it.
    #[error("{sentence}")]
    NotServed {
        /// Which gateway.
        gateway: Name,
        /// Which of its methods.
        method: String,
        /// The client library's sentence.
        sentence: String,
    },
    /// No answer in time; what was asked has no effect on orders.
    #[error("{0}")]
    NoAnswer(String),
    /// An order, a quote or a cancel may have been executed.
    #[error("{what}: the outcome is unknown\n{advice}")]
    Unknown {
        /// What happened.
        what: String,
        /// How to find out.
        advice: String,
    },
    /// Something failed on this machine.
    #[error("{0}")]
    Local(String),
    /// Whoever read the output has seen enough (`gatectl ticks '>' | head`).
    #[error("the output was closed")]
    OutputClosed,
    /// Ctrl-C before the command was done.
    #[error("interrupted")]
    Interrupted,
}

impl Failure {
    /// The exit code, as `--help` lists them.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Failure::OutputClosed => 0,
            Failure::Refused(_) => 1,
            Failure::Usage(_) | Failure::Ambiguous(_) => 2,
            Failure::NotReachable(_) | Failure::NotServed { .. } => 3,
            Failure::NoAnswer(_) | Failure::Unknown { .. } => 4,
            Failure::Local(_) => 5,
            Failure::Interrupted => 130,
        }
    }

    /// What went wrong with a call that acts on an order or a quote: an outcome that is unknown stays findable.
    #[must_use]
    pub fn of_order(error: Error, gateway: &str, id: &OrderId, ask: &str) -> Failure {
        if error.maybe_executed() {
            Failure::Unknown {
                what: error.to_string(),
                advice: format!("Its id is {id}. Ask what became of it: gatectl -g {gateway} {ask}"),
            }
        } else {
            match error {
                Error::Timeout { .. } => Failure::NoAnswer(format!("{error}; nothing was sent")),
                error => error.into(),
            }
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let sentence = error.to_string();
        match error {
            Error::Rpc(error) => Failure::Refused(error),
            Error::Options(_) | Error::InvalidRequest(_) | Error::NoRoute { .. } => Failure::Usage(sentence),
            Error::AmbiguousRoute { instrument, gateways } => Failure::Ambiguous(format!(
                "{instrument} is traded by several gateways: choose one with {}",
                gateways.iter().map(|name| format!("-g {name}")).collect::<Vec<_>>().join(" or ")
            )),
            Error::GatewayNotRunning { gateway, method } => Failure::NotServed { gateway, method, sentence },
            Error::Connect { .. } | Error::Disconnected => Failure::NotReachable(sentence),
            Error::NotExecuted { .. } => Failure::NoAnswer(sentence),
            Error::Timeout { .. } => Failure::NoAnswer(format!("{sentence}; wait longer with --timeout SECONDS")),
            Error::ConnectionLost { maybe_executed: false, .. } => Failure::NotReachable(sentence),
            Error::ConnectionLost { .. } | Error::Reply { maybe_executed: true, .. } => Failure::NoAnswer(sentence),
            _ => Failure::Local(sentence),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::Local(format!("cannot write the output: {error}")),
        }
    }
}

/// Says what failed, on standard error, and gives the exit code. A refusal is JSON where the output is.
#[must_use]
pub fn report(outcome: Result<(), Failure>, json: bool) -> ExitCode {
    let Err(failure) = outcome else { return ExitCode::SUCCESS };
    match &failure {
        // The reader of the output has gone on purpose; whoever pressed Ctrl-C knows.
        Failure::OutputClosed | Failure::Interrupted => {}
        Failure::Refused(error) if json => {
            eprintln!("{}", serde_json::json!({"code": error.code, "message": error.message}))
        }
        failure => eprintln!("gatectl: {}", printable(&failure.to_string())),
    }
    ExitCode::from(failure.code())
}

/// A sentence that may quote a peer: its line breaks are ours, other control characters are not.
fn printable(sentence: &str) -> String {
    sentence.lines().map(crate::format::one_line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{ErrorCode, Exchange, InstrumentId};
    use std::time::Duration;

    fn timeout(maybe_executed: bool) -> Error {
        Error::Timeout {
            gateway: "sim1".into(),
            method: "send_order".to_owned(),
            timeout: Duration::from_secs(1),
            maybe_executed,
        }
    }

    #[test]
    fn exit_codes_tell_scripts_what_to_do() {
        let instrument = InstrumentId::new("rb2410", Exchange::SHFE);
        for (error, code) in [
            (Error::Rpc(RpcError::new(ErrorCode::RiskRejected, "too many")), 1),
            (Error::Options("no such file".into()), 2),
            (Error::InvalidRequest("volume is NaN".into()), 2),
            (Error::NoRoute { instrument: instrument.clone(), nearest: None }, 2),
            (Error::AmbiguousRoute { instrument, gateways: vec!["a".into(), "b".into()] }, 2),
            (Error::Disconnected, 3),
            (Error::GatewayNotRunning { gateway: "sim1".into(), method: "get_status".into() }, 3),
            (timeout(false), 4),
            (timeout(true), 4),
            (Error::Nats("odd".into()), 5),
        ] {
            let shown = error.to_string();
            assert_eq!(Failure::from(error).code(), code, "{shown}");
        }
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).code(), 0);
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::StorageFull)).code(), 5);
        assert_eq!(Failure::Interrupted.code(), 130);
    }

    #[test]
    fn an_unknown_outcome_names_the_order_and_how_to_ask() {
        let id = OrderId::new("a-1");
        let failure = Failure::of_order(timeout(true), "sim1", &id, "orders a-1");
        assert_eq!(failure.code(), 4);
        let sentence = failure.to_string();
        assert!(sentence.contains("unknown") && sentence.ends_with("gatectl -g sim1 orders a-1"), "{sentence}");
        // The node may break after it took the order: its error is no refusal then.
        let internal = Error::Rpc(RpcError::new(ErrorCode::Internal, "broke"));
        assert_eq!(Failure::of_order(internal, "sim1", &id, "orders a-1").code(), 4);
        // The clock could not be measured, so that nothing was sent: still no answer, but no unknown order.
        let failure = Failure::of_order(timeout(false), "sim1", &id, "orders a-1");
        assert!(failure.code() == 4 && failure.to_string().ends_with("nothing was sent"), "{failure}");
        let refused = Error::Rpc(RpcError::new(ErrorCode::Halted, "halted"));
        assert_eq!(Failure::of_order(refused, "sim1", &id, "orders a-1").code(), 1);
    }

    #[test]
    fn an_ambiguous_route_says_what_to_write() {
        let error = Error::AmbiguousRoute {
            instrument: InstrumentId::new("rb2410", Exchange::SHFE),
            gateways: vec!["ctp1".into(), "sim1".into()],
        };
        assert!(Failure::from(error).to_string().ends_with("choose one with -g ctp1 or -g sim1"));
    }
}
