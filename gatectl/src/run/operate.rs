//! `status`, `logs`, `call`, and what whoever runs a gateway does: `halt`, `resume`, `connect`, `disconnect`.

use std::time::Duration;

use client_sdk::{Error, GatewayHandle, Update};
use futures::future::join_all;
use protocol::halt::{HaltScope, HaltTarget};
use protocol::rpc::{Halt, Halted, Resume};

use super::ticks::missed_sentence;
use super::{Session, first_failure};
use crate::args::{CallArgs, HaltArgs, LogsArgs, ResumeArgs, StatusArgs, WhomArgs};
use crate::exit::Failure;
use crate::out::note;
use crate::rows;

/// Longer than a heartbeat's interval.
const HEARTBEATS: Duration = Duration::from_millis(1_500);

impl Session {
    pub(super) async fn status(&mut self, args: StatusArgs) -> Result<(), Failure> {
        if args.follow {
            return self.follow_status().await;
        }
        let gateways = match self.gateways().await {
            Err(failure @ Failure::NotReachable(_)) => return self.failed_gateways(failure).await,
            gateways => gateways?,
        };
        let (mut statuses, mut failures) = (Vec::new(), Vec::new());
        for answer in join_all(gateways.iter().map(|gateway| gateway.get_status())).await {
            match answer {
                Ok(status) => statuses.push(status),
                Err(error) => failures.push(Failure::from(error)),
            }
        }
        if !statuses.is_empty() {
            self.out.list(rows::STATUS, &statuses, rows::status, "")?;
            if !self.out.is_json() {
                for status in &statuses {
                    for halt in &status.halts {
                        self.out.line(&format!("{}: {}", status.gateway_name, rows::halt(halt)))?;
                    }
                }
                self.out.flush()?;
            }
        }
        first_failure(failures)
    }

    /// Where nobody answers: gateways that failed say why in their heartbeats, until they are started again.
    async fn failed_gateways(&mut self, failure: Failure) -> Result<(), Failure> {
        let mut statuses = self.client.statuses(self.global.gateway.as_deref()).await?;
        let mut failed = std::collections::BTreeMap::new();
        let heard = async {
            while let Some(update) = statuses.next().await {
                if let Update::Event(event) = update {
                    failed.insert(event.data.gateway_name.clone(), event.data.clone());
                }
            }
        };
        let _ = tokio::time::timeout(HEARTBEATS, heard).await;
        if !failed.is_empty() {
            self.out.list(rows::STATUS, &failed.into_values().collect::<Vec<_>>(), rows::status, "")?;
            self.out.flush()?;
        }
        Err(failure)
    }

    async fn follow_status(&mut self) -> Result<(), Failure> {
        let mut statuses = self.client.statuses(self.global.gateway.as_deref()).await?;
        let mut interrupt = self.interrupt.clone();
        loop {
            let update = tokio::select! {
                biased;
                () = interrupt.pressed() => return Ok(()),
                update = statuses.next() => update,
            };
            match update {
                Some(Update::Event(event)) => self.out.item(rows::STATUS, &event.data, rows::status)?,
                Some(Update::Missed(missed)) => self.out.remark(&missed_sentence(&missed))?,
                Some(Update::Disconnected) => self.out.remark("connection lost, trying again")?,
                Some(Update::Reconnected) => self.out.remark("connected again")?,
                Some(_) => {}
                None => return Err(Error::Disconnected.into()),
            }
            self.out.flush()?;
        }
    }

    pub(super) async fn logs(&mut self, args: LogsArgs) -> Result<(), Failure> {
        let mut lines = self.client.logs(None, self.global.gateway.as_deref()).await?;
        let mut left = args.count.unwrap_or(u64::MAX);
        let mut interrupt = self.interrupt.clone();
        while left > 0 {
            let update = tokio::select! {
                biased;
                () = interrupt.pressed() => return Ok(()),
                update = lines.next() => update,
            };
            match update {
                Some(Update::Event(event)) if event.data.level >= args.level => {
                    self.out.item(rows::LOG, &event.data, rows::log)?;
                    left -= 1;
                }
                Some(Update::Missed(missed)) => self.out.remark(&missed_sentence(&missed))?,
                Some(Update::Disconnected) => self.out.remark("connection lost, trying again")?,
                Some(Update::Reconnected) => self.out.remark("connected again; lines in between are missing")?,
                Some(_) => {}
                None => return Err(Error::Disconnected.into()),
            }
            self.out.flush()?;
        }
        Ok(())
    }

    pub(super) async fn call(&mut self, args: CallArgs) -> Result<(), Failure> {
        if let Some(gateway) = self.global.gateway.as_ref().filter(|gateway| **gateway != args.target) {
            return Err(Failure::Usage(format!(
                "two gateways are named, -g {gateway} and {}: leave out -g, `call` names its gateway itself",
                args.target
            )));
        }
        let params = if args.params.is_null() { serde_json::json!({}) } else { args.params };
        let answer = self.client.gateway(args.target.clone()).call(&args.method, params, None).await;
        let answer = answer.map_err(|error| {
            if error.maybe_executed() {
                Failure::Unknown {
                    what: error.to_string(),
                    advice: format!(
                        "Look before you call again: gatectl -g {0} orders, or gatectl -g {0} logs",
                        args.target
                    ),
                }
            } else {
                error.into()
            }
        })?;
        self.out.object(&answer)?;
        self.out.flush()
    }

    pub(super) async fn halt(&mut self, args: HaltArgs) -> Result<(), Failure> {
        let HaltArgs { whom, reason, cancel, external, reduce_only } = args;
        let gateways = self.gateways_to_tell(&whom).await?;
        let request =
            Halt { owner: whom.owner, account: whom.account, all: whom.all, reason, cancel, external, reduce_only };
        let (this, request) = (&*self, &request);
        let tell = |gateway| this.urgently(move || GatewayHandle::halt(gateway, request));
        let answers = join_all(gateways.iter().map(tell)).await;
        if let Some(account) = &request.account
            && answers.iter().flatten().all(|halted| {
                !halted.halts.iter().any(|halt| halt.target == HaltTarget::new(HaltScope::Account, account.clone()))
            })
            && answers.iter().any(Result::is_ok)
        {
            note(&format!(
                "no gateway that runs trades for account {account}: one that will is halted when it comes up"
            ));
        }
        self.print_halted(&gateways, answers)
    }

    pub(super) async fn resume(&mut self, args: ResumeArgs) -> Result<(), Failure> {
        let ResumeArgs { whom, key, reduce_only } = args;
        let gateways = if key.is_some() { self.urgent_gateways().await? } else { self.gateways_to_tell(&whom).await? };
        let request = Resume { owner: whom.owner, account: whom.account, all: whom.all, key, reduce_only };
        let (this, request) = (&*self, &request);
        let tell = |gateway| this.urgently(move || GatewayHandle::resume(gateway, request));
        let answers = join_all(gateways.iter().map(tell)).await;
        self.print_halted(&gateways, answers)
    }

    /// Who is told: what stops others too holds at once wherever it is told, so every gateway is.
    async fn gateways_to_tell(&self, whom: &WhomArgs) -> Result<Vec<GatewayHandle>, Failure> {
        let gateways = self.urgent_gateways().await?;
        match gateways.as_slice() {
            [_, _, ..] if !whom.reaches_others() => Ok(vec![self.gateway().await?]),
            _ => Ok(gateways),
        }
    }

    fn print_halted(&mut self, gateways: &[GatewayHandle], answers: Vec<Result<Halted, Error>>) -> Result<(), Failure> {
        let mut failures = Vec::new();
        for (gateway, answer) in gateways.iter().zip(answers) {
            match answer {
                Ok(halted) if self.out.is_json() => self.out.object(&halted)?,
                Ok(halted) => self.out.line(&halted_sentence(gateway.name(), &halted))?,
                Err(error) => failures.push(Failure::from(error)),
            }
        }
        self.out.flush()?;
        first_failure(failures)
    }

    pub(super) async fn connect_venue(&mut self) -> Result<(), Failure> {
        let gateway = self.gateway().await?;
        gateway.connect().await?;
        self.print_done(&format!("{0}: logging in; see how it goes: gatectl -g {0} status", gateway.name()))
    }

    pub(super) async fn disconnect_venue(&mut self) -> Result<(), Failure> {
        let gateway = self.gateway().await?;
        gateway.disconnect().await?;
        self.print_done(&format!("{0}: logged out until: gatectl -g {0} connect", gateway.name()))
    }

    fn print_done(&mut self, sentence: &str) -> Result<(), Failure> {
        if self.out.is_json() {
            self.out.object(&protocol::rpc::Done {})?;
        } else {
            self.out.line(sentence)?;
        }
        self.out.flush()
    }
}

fn halted_sentence(gateway: &str, halted: &Halted) -> String {
    let uncancelled = halted.uncancelled.as_ref().map_or_else(String::new, |left| {
        format!("; {} orders are not cancelled yet ({}), which is tried again", left.count, left.error.message)
    });
    let reduce_only: Vec<String> =
        halted.halts.iter().filter(|halt| halt.reduce_only).map(|halt| halt.target.to_string()).collect();
    let sentence = if halted.halted.is_empty() && !reduce_only.is_empty() {
        format!("{gateway}: takes only what lessens a position, for {}; cancels still flow", reduce_only.join(", "))
    } else if halted.halted.is_empty() {
        format!("{gateway}: takes new orders from everybody")
    } else if halted.halted.iter().any(|owner| owner == "*") {
        format!("{gateway}: halted, takes new orders from nobody; cancels still flow")
    } else if reduce_only.is_empty() {
        format!("{gateway}: halted for {}; cancels still flow", halted.halted.join(", "))
    } else {
        let (halted, reduce_only) = (halted.halted.join(", "), reduce_only.join(", "));
        format!(
            "{gateway}: halted for {halted}; takes only what lessens a position, for {reduce_only}; cancels still flow"
        )
    };
    sentence + &uncancelled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_halted_is_said_in_words() {
        let say = |owners: &[&str]| {
            let halted = owners.iter().map(|owner| (*owner).into()).collect();
            halted_sentence("sim1", &Halted { halted, ..Halted::default() })
        };
        assert_eq!(say(&[]), "sim1: takes new orders from everybody");
        assert!(say(&["*", "A"]).contains("from nobody"));
        assert_eq!(say(&["A", "B"]), "sim1: halted for A, B; cancels still flow");
        let all =
            serde_json::json!({ "scope": "ALL", "target": "", "reduce_only": true, "since": "2024-01-02T09:00:00Z" });
        let halts = vec![serde_json::from_value(all).expect("a halt")];
        let both = halted_sentence("sim1", &Halted { halted: vec!["A".into()], halts, ..Halted::default() });
        assert!(both.contains("halted for A;") && both.contains("lessens a position, for everything"), "{both}");
        let error = protocol::RpcError::new(protocol::ErrorCode::NotReady, "not logged in");
        let uncancelled = Some(protocol::rpc::Uncancelled { count: 3, error });
        let said = halted_sentence("sim1", &Halted { halted: vec!["A".into()], uncancelled, ..Halted::default() });
        assert!(said.ends_with("; 3 orders are not cancelled yet (not logged in), which is tried again"), "{said}");
    }
}
