//! The task that asks NATS for the lease and keeps it: what to ask and what an answer means is [`Tenant`]'s.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::context::{Context, GetStreamErrorKind};
use async_nats::jetstream::kv;
use async_nats::jetstream::stream::{self, DiscardPolicy};
use protocol::Name;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::{Answer, Ask, BUCKET, Limit, Pulse, Standing, Tenant, Terms};
use crate::clock::Clock;

/// Most that giving the lease back may take; after it the lease goes by itself.
const RELEASE_PATIENCE: Duration = Duration::from_secs(1);

/// A loop without a sign of life for this long, and for two leases, leads no more: something in its venue's library
/// holds it, and a standby may do better.
const STANDSTILL: Duration = Duration::from_secs(10);

/// What the key holds, for the life that wrote it and for people.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    node: Name,
    id: String,
}

/// Opens the bucket, and makes it if there is none. What the bucket says of its age is what counts: all nodes must
/// agree on it. `above` is the highest epoch that any journal has seen: a bucket that is made anew counts on from there.
///
/// # Errors
/// If JetStream is not there, or the bucket cannot be made or read.
pub async fn open_bucket(
    context: &Context,
    wanted: Terms,
    replicas: usize,
    above: impl Future<Output = anyhow::Result<u64>>,
) -> anyhow::Result<(kv::Store, Terms)> {
    let name = format!("KV_{BUCKET}");
    match context.get_stream(&name).await {
        Ok(_) => {}
        Err(error) if matches!(error.kind(), GetStreamErrorKind::JetStream(ref e) if e.code() == 404) => {
            let config = stream::Config {
                name,
                description: Some("who leads which gateway".to_owned()),
                subjects: vec![format!("$KV.{BUCKET}.>")],
                max_messages_per_subject: 1,
                max_age: wanted.max_age,
                duplicate_window: wanted.max_age.min(Duration::from_secs(120)),
                discard: DiscardPolicy::New,
                allow_rollup: true,
                deny_delete: true,
                // Read from whoever decides: a copy may lag behind.
                allow_direct: false,
                num_replicas: replicas,
                first_sequence: Some(above.await?.saturating_add(1)),
                ..Default::default()
            };
            // Another node may be faster; both want the same.
            if let Err(error) = context.create_stream(config).await {
                debug!(%error, "the bucket of leases was not made; it may be there by now");
            }
        }
        Err(error) => return Err(error).context("looking for the bucket of leases"),
    }
    let store = context.get_key_value(BUCKET).await.context("opening the bucket of leases")?;
    let max_age = store.stream.cached_info().config.max_age;
    anyhow::ensure!(
        !max_age.is_zero(),
        "the bucket {BUCKET} has no max_age, so that a dead leader would lead for ever: delete it with all nodes stopped; \
         it is made anew"
    );
    if max_age != wanted.max_age {
        warn!(configured = ?wanted.max_age, bucket = ?max_age, "the bucket of leases has its own max_age, which counts");
    }
    Ok((store, Terms { max_age }))
}

/// The node's end of the task.
pub struct Keeper {
    /// How it stands.
    pub standing: watch::Receiver<Standing>,
    /// Until when the leader may act.
    pub limit: Limit,
    /// For the gateway's loop to show that it runs.
    pub pulse: Pulse,
    leave: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Keeper {
    /// Seeks the lease of a gateway for one life of it, and keeps it, in a task on `workers`: not on the gateway's own
    /// thread, which may stand still or panic.
    #[must_use]
    pub fn start(
        workers: &tokio::runtime::Handle,
        store: kv::Store,
        gateway: &Name,
        node: &Name,
        terms: Terms,
        clock: Clock,
    ) -> Keeper {
        let (tell, standing) = watch::channel(Standing::Seeking);
        let (leave, left) = watch::channel(false);
        let (limit, pulse) = (Limit::default(), Pulse::default());
        let tenant = Tenant::new(uuid::Uuid::now_v7().to_string(), terms);
        let desk = Desk {
            store,
            gateway: gateway.clone(),
            node: node.clone(),
            clock,
            terms,
            tenant,
            limit: limit.clone(),
            pulse: pulse.clone(),
            tell,
        };
        Keeper { standing, limit, pulse, leave, task: workers.spawn(desk.run(left)) }
    }

    /// Waits until this life leads, and says under which epoch.
    ///
    /// # Errors
    /// If the task ended.
    pub async fn acquired(&mut self) -> anyhow::Result<u64> {
        let standing = self.standing.wait_for(|s| *s != Standing::Seeking).await.context("the lease's task ended")?;
        match &*standing {
            Standing::Holding { epoch } => Ok(*epoch),
            Standing::Lost(why) => anyhow::bail!("the lease was lost as soon as it was had: {why}"),
            Standing::Seeking => unreachable!("waited for anything else"),
        }
    }

    /// Ends the leadership and gives the lease back, by its revision: a late release never takes a successor's.
    pub async fn release(self) {
        self.limit.end();
        let _ = self.leave.send(true);
        let abort = self.task.abort_handle();
        if tokio::time::timeout(RELEASE_PATIENCE * 2, self.task).await.is_err() {
            abort.abort();
        }
    }
}

/// The task's own state.
struct Desk {
    store: kv::Store,
    gateway: Name,
    node: Name,
    clock: Clock,
    terms: Terms,
    tenant: Tenant,
    limit: Limit,
    pulse: Pulse,
    tell: watch::Sender<Standing>,
}

impl Desk {
    async fn run(mut self, mut left: watch::Receiver<bool>) {
        while !*left.borrow() {
            let mono = self.clock.mono();
            if self.pulse.age(mono).is_some_and(|age| age > STANDSTILL.max(self.terms.max_age * 2)) {
                self.tenant.give_up("the gateway's loop stands still");
            }
            match self.tenant.ask(self.clock.mono()) {
                Some(ask) => {
                    let sent = self.clock.mono();
                    let (answer, holder) = self.perform(ask).await;
                    let answer = match (&answer, &holder) {
                        (Answer::Found(revision, _), Some(id)) => Answer::Found(*revision, id),
                        _ => answer,
                    };
                    self.tenant.on_answer(self.clock.mono(), ask, sent, answer);
                }
                None => {
                    let next = self.tenant.limit().map_or(self.tenant.due(), |limit| limit.min(self.tenant.due()));
                    tokio::select! {
                        () = tokio::time::sleep(self.clock.until(next)) => {}
                        _ = left.changed() => break,
                    }
                }
            }
            if self.publish() {
                break;
            }
        }
        self.limit.end();
        self.give_back().await;
    }

    /// Tells how it stands; whether it is over.
    fn publish(&mut self) -> bool {
        let standing = self.tenant.standing();
        match self.tenant.limit() {
            Some(limit) => self.limit.set(limit),
            None => self.limit.end(),
        }
        self.tell.send_if_modified(|told| {
            let changed = told != standing;
            if changed {
                match standing {
                    Standing::Holding { epoch } => info!(gateway = %self.gateway, epoch, "the lease is held"),
                    Standing::Lost(why) => warn!(gateway = %self.gateway, why, "the lease is lost"),
                    Standing::Seeking => {}
                }
                told.clone_from(standing);
            }
            changed
        });
        matches!(standing, Standing::Lost(_))
    }

    /// One request; what NATS buffers for later counts as silence.
    async fn perform(&self, ask: Ask) -> (Answer<'static>, Option<String>) {
        let key = self.gateway.as_str();
        let work = async {
            match ask {
                Ask::Create | Ask::Renew(_) => {
                    let revision = if let Ask::Renew(revision) = ask { revision } else { 0 };
                    let holder = Holder { node: self.node.clone(), id: self.tenant.id().to_owned() };
                    let value = serde_json::to_vec(&holder).expect("two texts encode");
                    let stored = if revision == 0 {
                        self.store
                            .create(key, value.into())
                            .await
                            .map_err(|e| (e.kind() == kv::CreateErrorKind::AlreadyExists, e.to_string()))
                    } else {
                        self.store
                            .update(key, value.into(), revision)
                            .await
                            .map_err(|e| (e.kind() == kv::UpdateErrorKind::WrongLastRevision, e.to_string()))
                    };
                    match stored {
                        Ok(revision) => (Answer::Stored(revision), None),
                        Err((true, _)) => (Answer::Refused, None),
                        Err((false, error)) => {
                            debug!(gateway = %self.gateway, error, "no answer from the bucket of leases");
                            (Answer::Silence, None)
                        }
                    }
                }
                Ask::Look => match self.store.entry(key).await {
                    Ok(Some(entry)) if entry.operation == kv::Operation::Put => {
                        let holder: Option<Holder> = serde_json::from_slice(&entry.value).ok();
                        let id = holder.map_or_else(|| "somebody unknown".to_owned(), |holder| holder.id);
                        (Answer::Found(entry.revision, ""), Some(id))
                    }
                    Ok(_) => (Answer::Nothing, None),
                    Err(error) => {
                        debug!(gateway = %self.gateway, %error, "the bucket of leases cannot be read");
                        (Answer::Silence, None)
                    }
                },
            }
        };
        match tokio::time::timeout(self.terms.every(), work).await {
            Ok(answer) => answer,
            Err(_) => (Answer::Silence, None),
        }
    }

    async fn give_back(&self) {
        let Some(revision) = self.tenant.held_revision() else { return };
        let delete = self.store.delete_expect_revision(&*self.gateway, Some(revision));
        match tokio::time::timeout(RELEASE_PATIENCE, delete).await {
            Ok(Ok(())) => debug!(gateway = %self.gateway, "the lease is given back"),
            Ok(Err(error)) => debug!(gateway = %self.gateway, %error, "the lease goes by itself"),
            Err(_) => debug!(gateway = %self.gateway, "the lease goes by itself"),
        }
    }
}
