//! `ticks`: the stream of them, and the subscription that makes a venue send them.

use std::collections::HashSet;
use std::time::Duration;

use client_sdk::{Error, GatewayHandle, HealthEvent, Missed, MissedCause, TickStream, Update};
use futures::FutureExt;
use protocol::{Event, InstrumentId, Name, Tick};

use super::{PRICE_STEPS, Session};
use crate::args::{Subscribe, TicksArgs};
use crate::exit::Failure;
use crate::format::Decimals;
use crate::out::note;
use crate::rows;

/// What is asked beside the stream (a price step, giving a subscription back) must not hold it up for longer.
const ASIDE: Duration = Duration::from_secs(1);

impl Session {
    pub(super) async fn ticks(&mut self, args: TicksArgs) -> Result<(), Failure> {
        let mut filter = args.filter.clone();
        filter.gateway = self.global.gateway.clone();
        let stream = self.client.ticks(filter).await?;
        let subscribed = match args.instrument() {
            Some(instrument) if args.subscribe != Subscribe::No => {
                self.subscribe(instrument, args.subscribe == Subscribe::Yes).await?
            }
            _ => None,
        };
        let outcome = self.print_ticks(stream, args.count).await;
        if let Some((gateway, instrument)) = subscribed {
            // Also after a failure. If this does not arrive either, the ticks only come for nobody.
            if let Err(error) = gateway.with_timeout(ASIDE).unsubscribe(&instrument).await {
                tracing::debug!(%error, "not unsubscribed");
            }
        }
        outcome
    }

    /// Asks the gateway that trades it for an instrument's ticks. Unless that is a must, not knowing which gateway is
    /// meant is no failure: whatever any of them publishes is printed.
    async fn subscribe(
        &self,
        instrument: InstrumentId,
        must: bool,
    ) -> Result<Option<(GatewayHandle, InstrumentId)>, Failure> {
        let gateway = match self.gateway_of(&instrument).await {
            Ok(gateway) => gateway,
            Err(Failure::Ambiguous(sentence)) if !must => {
                note(&format!("not subscribed, listening only: {sentence}"));
                return Ok(None);
            }
            Err(failure) => return Err(failure),
        };
        gateway.subscribe(&instrument).await?;
        Ok(Some((gateway, instrument)))
    }

    async fn print_ticks(&mut self, mut stream: TickStream, count: Option<u64>) -> Result<(), Failure> {
        let mut left = count.unwrap_or(u64::MAX);
        let mut steps = PriceSteps::default();
        let (mut health, mut interrupt) = (self.client.health(), self.interrupt.clone());
        loop {
            // Under load the lines of many ticks leave in one write; none waits for the next tick.
            let ready = if interrupt.pressed().now_or_never().is_none() { stream.next().now_or_never() } else { None };
            let update = match ready {
                Some(update) => update,
                None => {
                    self.out.flush()?;
                    tokio::select! {
                        biased;
                        () = interrupt.pressed() => return self.out.flush(),
                        update = stream.next() => update,
                        event = health.next() => {
                            if let Some(sentence) = event.and_then(|event| self.health_sentence(&event)) {
                                self.out.remark(&sentence)?;
                            }
                            continue;
                        }
                    }
                }
            };
            match update {
                Some(Update::Event(event)) => {
                    if !self.out.is_json() {
                        steps.learn(self, &event).await;
                    }
                    self.out.item(rows::TICK, &*event, |event| rows::tick(event, &steps.known))?;
                    left -= 1;
                    if left == 0 {
                        return self.out.flush();
                    }
                }
                Some(Update::Missed(missed)) => self.out.remark(&missed_sentence(&missed))?,
                Some(Update::Disconnected) => self.out.remark("connection lost, trying again")?,
                Some(Update::Reconnected) => self.out.remark("connected again; ticks in between are missing")?,
                Some(_) => {}
                None => return Err(Error::Disconnected.into()),
            }
        }
    }
}

impl Session {
    /// What to say in a stream when a gateway that it is about goes or comes: silence would look like a quiet market.
    pub(super) fn health_sentence(&self, event: &HealthEvent) -> Option<String> {
        let ours = |gateway: &Name| self.global.gateway.as_ref().is_none_or(|asked| asked == gateway);
        match event {
            HealthEvent::GatewayLost { gateway, silent_for } if ours(gateway) => {
                Some(format!("gateway {gateway} LOST: silent for {:.0} s", silent_for.as_secs_f64()))
            }
            HealthEvent::GatewayRecovered { gateway, .. } if ours(gateway) => {
                Some(format!("gateway {gateway} is back"))
            }
            HealthEvent::GatewayState { gateway, from: Some(from), to, reason } if ours(gateway) => {
                let why = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
                Some(format!("gateway {gateway}: {from} -> {to}{why}"))
            }
            _ => None,
        }
    }
}

/// What is missing, where, and why.
pub(super) fn missed_sentence(missed: &Missed) -> String {
    let many = missed.count.map_or_else(
        || "some events".to_owned(),
        |count| match count {
            1 => "1 event".to_owned(),
            count => format!("{count} events"),
        },
    );
    let of = missed.instrument.as_ref().map(|instrument| format!(" of {instrument}")).unwrap_or_default();
    let why = match missed.cause {
        MissedCause::Conflated => "skipped, this reader is too slow",
        MissedCause::TooOld => "no longer kept by the gateway",
        _ => "lost on the way",
    };
    format!("{many}{of} from {}: {why}", missed.gateway)
}

/// Price steps of the first instruments that appear; each is asked for once.
#[derive(Default)]
struct PriceSteps {
    known: Decimals,
    asked: HashSet<InstrumentId>,
}

impl PriceSteps {
    async fn learn(&mut self, session: &Session, event: &Event<Tick>) {
        let instrument = event.data.instrument();
        if self.asked.len() >= PRICE_STEPS || !self.asked.insert(instrument.clone()) {
            return;
        }
        let gateway = session.client.gateway(event.gateway.clone()).with_timeout(ASIDE);
        if let Ok(Some(contract)) = gateway.get_contract(&instrument).await {
            self.known.learn(&contract);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Exchange;

    #[test]
    fn what_is_missing_is_said_in_words() {
        let mut missed = Missed {
            gateway: "sim1".into(),
            instrument: Some(InstrumentId::new("rb2410", Exchange::SHFE)),
            count: Some(3),
            cause: MissedCause::Lost,
        };
        assert_eq!(missed_sentence(&missed), "3 events of rb2410.SHFE from sim1: lost on the way");
        (missed.count, missed.instrument, missed.cause) = (None, None, MissedCause::Conflated);
        assert_eq!(missed_sentence(&missed), "some events from sim1: skipped, this reader is too slow");
    }
}
