//! Calls that stop trading: they wait for a takeover instead of failing in the midst of it. Each means the same however
//! often it is carried out, so it is sent again and again until somebody answers.

use std::time::Duration;

use client_sdk::{Error, GatewayHandle};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use super::Session;
use crate::exit::Failure;
use crate::out::note;

/// How often.
const AGAIN: Duration = Duration::from_millis(500);

impl Session {
    /// The gateways to tell: the one asked for, or all that run, once one does.
    pub(super) async fn urgent_gateways(&self) -> Result<Vec<GatewayHandle>, Failure> {
        let end = Instant::now() + self.global.timeout;
        let mut is_said = false;
        loop {
            match self.gateways().await {
                Err(Failure::NotReachable(_)) if Instant::now() < end => {}
                other => return other,
            }
            self.say_that_it_waits(&mut is_said);
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Calls until somebody answers. A leader that is frozen keeps its calls to itself: its successor gets the next one.
    pub(super) async fn urgently<T, F>(&self, call: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let end = Instant::now() + self.global.timeout;
        let mut attempts = FuturesUnordered::new();
        let mut again = tokio::time::interval(AGAIN);
        let mut is_said = false;
        loop {
            tokio::select! {
                Some(answer) = attempts.next() => match answer {
                    Err(Error::GatewayNotRunning { .. } | Error::Disconnected) if Instant::now() < end => {
                        self.say_that_it_waits(&mut is_said);
                    }
                    Err(Error::Timeout { .. } | Error::ConnectionLost { .. }) if !attempts.is_empty() => {}
                    answer => return answer,
                },
                _ = again.tick() , if attempts.is_empty() || Instant::now() < end => attempts.push(call()),
            }
        }
    }

    fn say_that_it_waits(&self, is_said: &mut bool) {
        if !std::mem::replace(is_said, true) {
            note(&format!("nobody answers yet: trying for {} s", self.global.timeout.as_secs_f64()));
        }
    }
}
