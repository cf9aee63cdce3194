//! The way back: what a call is answered with, and by whom.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, HeaderMap, Subject};
use bytes::Bytes;
use protocol::rpc::{HEADER_ERROR, HEADER_ERROR_CODE};
use protocol::{ErrorCode, RpcError, codec};
use tokio::sync::OwnedSemaphorePermit;
use tracing::debug;

use super::discovery::Endpoint;
use crate::clock::Clock;
use crate::engine::Reply;
use crate::lease::Limit;

/// Whether this node leads: who answers looks immediately before.
#[derive(Clone)]
pub struct Leads {
    /// Until when.
    pub limit: Limit,
    /// The time.
    pub clock: Clock,
}

/// Where all answers of a gateway go out.
pub struct Outbox {
    pub client: Client,
    pub leads: Leads,
}

impl Outbox {
    /// Publishes an error at once, to a call that is not counted.
    pub async fn refuse(&self, inbox: Subject, error: &RpcError) {
        if !self.leads.limit.may_act(self.leads.clock.mono()) {
            return;
        }
        let sent = self.client.publish_with_headers(inbox, error_headers(error), error_body(error)).await;
        if let Err(error) = sent {
            debug!(%error, "an answer was not sent");
        }
    }
}

/// The way to answer one call; holds its place among [`super::MAX_CALLS`].
pub struct Responder {
    pub(super) inbox: Subject,
    pub(super) endpoint: Arc<Endpoint>,
    /// On the clock that never jumps.
    pub(super) since: Duration,
    pub(super) outbox: Arc<Outbox>,
    pub(super) _place: Option<OwnedSemaphorePermit>,
}

impl Responder {
    /// A former leader stays silent: its successor was given the same call, and may do what this one refuses.
    pub(super) async fn send(self, reply: Reply) {
        let Outbox { client, leads } = &*self.outbox;
        let now = leads.clock.mono();
        if !leads.limit.may_act(now) {
            return;
        }
        let reply = fitting(reply, client.max_payload());
        // Ahead of the answer: whoever has it finds it counted.
        self.endpoint.count(now.saturating_sub(self.since), reply.as_ref().err());
        let sent = match reply {
            Ok(bytes) => client.publish(self.inbox, bytes.into()).await,
            Err(error) => client.publish_with_headers(self.inbox, error_headers(&error), error_body(&error)).await,
        };
        if let Err(error) = sent {
            debug!(%error, "an answer was not sent");
        }
    }
}

/// Whether an answer may go there. The node may publish what its callers may not: a reply subject that it could be made
/// to write its own journal, events or calls with is none.
pub fn is_inbox(reply: &str) -> bool {
    !["journal.", "evt.", "rpc.", "$"].iter().any(|prefix| reply.starts_with(prefix))
}

/// An answer that the server would not take is an error that says so, rather than silence.
fn fitting(reply: Reply, max_payload: usize) -> Reply {
    match reply {
        Ok(bytes) if bytes.len() > max_payload => Err(RpcError::new(
            ErrorCode::Internal,
            format!(
                "the answer has {} bytes and the NATS server takes {max_payload}: ask for less, or raise its max_payload",
                bytes.len()
            ),
        )),
        reply => reply,
    }
}

fn error_headers(error: &RpcError) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // Cut: the whole of it is in the body, and headers have to fit beside that.
    let line: String = one_line(&error.to_string()).chars().take(512).collect();
    headers.insert(HEADER_ERROR, line.as_str());
    headers.insert(HEADER_ERROR_CODE, error.code.number().to_string().as_str());
    headers
}

fn error_body(error: &RpcError) -> Bytes {
    codec::encode(error).unwrap_or_default().into()
}

/// Header values end at a line's end.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_go_to_inboxes_only() {
        for inbox in ["_INBOX.abc.1", "_R_.x.y", "strategies.a.inbox"] {
            assert!(is_inbox(inbox), "{inbox}");
        }
        for forged in ["journal.sim1.pub.order.a.SHFE.sim1.default", "evt.status.sim1", "rpc.sim1.resume", "$JS.API.x"]
        {
            assert!(!is_inbox(forged), "{forged}");
        }
    }

    #[test]
    fn an_answer_that_is_too_large_says_so() {
        assert_eq!(fitting(Ok(vec![b' '; 10]), 10), Ok(vec![b' '; 10]));
        assert_eq!(fitting(Ok(vec![b' '; 11]), 10).expect_err("too large").code, ErrorCode::Internal);
    }

    #[test]
    fn an_errors_header_is_one_short_line() {
        let error = RpcError::new(ErrorCode::NotFound, format!("a\r\nNats-Sequence: 7\0{}", "o".repeat(16_000)));
        let headers = error_headers(&error);
        let line = headers.get(HEADER_ERROR).expect("a line").as_str();
        assert!(line.len() <= 512 && !line.contains(char::is_control), "{line}");
    }
}
