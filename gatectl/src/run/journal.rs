//! `journal`: a gateway's audit trail, read straight from its stream, whether the gateway runs or not.

use std::ops::ControlFlow;

use client_sdk::{Journal, JournalDay, StoredEntry};
use protocol::audit::Audit;
use protocol::journal::{Entry, Private};
use protocol::{Name, OmsEvent, OrderId};
use serde::Serialize;

use super::Session;
use crate::args::{JournalCommand, JournalRange, JournalShowArgs};
use crate::exit::Failure;
use crate::out::note;
use crate::rows;

/// A trading day of a journal, as it is listed.
#[derive(Debug, Serialize)]
pub struct DayRow {
    /// Whose journal.
    pub gateway: Name,
    /// The day; none for what lies before the first snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trading_day: Option<chrono::NaiveDate>,
    /// Sequence of its first entry.
    pub from: u64,
    /// Sequence of its last entry so far.
    pub to: u64,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub began: Option<protocol::Timestamp>,
}

/// An entry, as it is shown and exported.
#[derive(Debug, Serialize)]
pub struct EntryRow {
    /// Sequence in the journal.
    pub sequence: u64,
    /// When the server stored it.
    pub stored: protocol::Timestamp,
    /// `<epoch>-<number>`.
    pub id: String,
    /// Where it is stored.
    pub subject: String,
    /// What it says; text, if it is no JSON.
    pub entry: serde_json::Value,
    /// In one line, for people.
    #[serde(skip)]
    pub summary: String,
    /// Its kind, for people.
    #[serde(skip)]
    pub kind: String,
}

impl Session {
    pub(super) async fn journal(&mut self, command: JournalCommand) -> Result<(), Failure> {
        match command {
            JournalCommand::List => self.journal_list().await,
            JournalCommand::Show(args) => self.journal_show(args).await,
            JournalCommand::Verify => self.journal_verify().await,
            JournalCommand::Export(range) => self.journal_export(&range).await,
        }
    }

    async fn journal_list(&mut self) -> Result<(), Failure> {
        let gateways = match &self.global.gateway {
            Some(gateway) => vec![gateway.clone()],
            None => self.client.journals().await?,
        };
        let mut rows = Vec::new();
        for gateway in gateways {
            let journal = self.client.journal(gateway).await?;
            rows.extend(day_rows(&journal, &journal.days().await?));
        }
        self.out.list(rows::JOURNAL_DAY, &rows, rows::journal_day, "there is no journal yet: no gateway has run here")
    }

    async fn journal_show(&mut self, args: JournalShowArgs) -> Result<(), Failure> {
        let journal = self.open_journal().await?;
        let (from, to) = range(&journal, &args.range).await?;
        let most = args.limit.unwrap_or(u64::MAX);
        let mut left = most;
        let mut outcome = Ok(());
        journal
            .read(from, to, |stored| {
                let is_wanted = args.order.as_ref().is_none_or(|id| is_about(&stored, id))
                    && match &args.kind {
                        Some(kind) => kind_of(&stored) == kind,
                        // Hundreds in front of each leadership, which say nothing.
                        None => !matches!(stored.entry, Ok(Entry::Private(Private::Fence { .. }))),
                    };
                if is_wanted && left > 0 {
                    left -= 1;
                    outcome = self.out.item(rows::JOURNAL_ENTRY, &row(stored), rows::journal_entry);
                }
                if left == 0 || outcome.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .await?;
        outcome?;
        if left == most {
            note(&format!("entries {from} to {to} of {} hold nothing of that", journal.gateway()));
        }
        self.out.flush()
    }

    async fn journal_verify(&mut self) -> Result<(), Failure> {
        let journal = self.open_journal().await?;
        let mut audit = Audit::default();
        journal
            .read(journal.first, journal.last, |stored| {
                audit.take(stored.sequence, &stored.message_id, &stored.entry);
                ControlFlow::Continue(())
            })
            .await?;
        for finding in audit.findings() {
            self.out.line(&format!("entry {}: {}", finding.sequence, finding.what))?;
        }
        let summary = format!(
            "{}: entries {} to {}, {} leaderships, {} snapshots, {} void entries of stale leaders",
            journal.gateway(),
            journal.first,
            journal.last,
            audit.leaders,
            audit.snapshots,
            audit.void
        );
        self.out.line(&summary)?;
        self.out.flush()?;
        match audit.found() {
            0 => self.out.line("the journal is sound").and_then(|()| self.out.flush()),
            found => Err(Failure::Refused(protocol::RpcError::new(
                protocol::ErrorCode::Internal,
                format!(
                    "the journal has {found} findings, listed above: keep a copy of the stream before anything else"
                ),
            ))),
        }
    }

    /// Everything of a range, one object a line, on standard output.
    async fn journal_export(&mut self, wanted: &JournalRange) -> Result<(), Failure> {
        let journal = self.open_journal().await?;
        let (from, to) = range(&journal, wanted).await?;
        let (mut count, mut outcome) = (0_u64, Ok(()));
        journal
            .read(from, to, |stored| {
                outcome = self.out.object(&row(stored));
                count += 1;
                if outcome.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .await?;
        outcome?;
        self.out.flush()?;
        note(&format!("{count} entries of {}, {from} to {to}", journal.gateway()));
        Ok(())
    }

    async fn open_journal(&self) -> Result<Journal, Failure> {
        let gateway = match &self.global.gateway {
            Some(gateway) => gateway.clone(),
            None => match self.client.journals().await?.as_slice() {
                [] => return Err(Failure::NotReachable("there is no journal yet: no gateway has run here".to_owned())),
                [only] => only.clone(),
                journals => {
                    let names = journals.join(", ");
                    return Err(Failure::Ambiguous(format!(
                        "several gateways have a journal, choose one with -g: {names}"
                    )));
                }
            },
        };
        Ok(self.client.journal(gateway).await?)
    }
}

async fn range(journal: &Journal, wanted: &JournalRange) -> Result<(u64, u64), Failure> {
    let (mut from, mut to) = (journal.first, journal.last);
    if let Some(day) = wanted.day {
        let days = journal.days().await?;
        let Some(found) = days.iter().rev().find(|known| known.trading_day == day) else {
            let known: Vec<String> = days.iter().map(|known| known.trading_day.to_string()).collect();
            let kept = if known.is_empty() { "none yet".to_owned() } else { known.join(", ") };
            return Err(Failure::Usage(format!("the journal keeps no trading day {day}; kept: {kept}")));
        };
        (from, to) = (found.begins, found.ends);
    }
    let (from, to) = (wanted.from.unwrap_or(from), wanted.to.unwrap_or(to));
    if from > to && journal.last > 0 {
        let (first, last) = (journal.first, journal.last);
        return Err(Failure::Usage(format!(
            "there are no entries {from} to {to}; the journal holds {first} to {last}"
        )));
    }
    Ok((from, to))
}

fn day_rows(journal: &Journal, days: &[JournalDay]) -> Vec<DayRow> {
    let gateway = journal.gateway().clone();
    let mut rows = Vec::new();
    let begins = days.first().map_or(journal.last + 1, |day| day.begins);
    if journal.first < begins && journal.last > 0 {
        let to = begins - 1;
        rows.push(DayRow { gateway: gateway.clone(), trading_day: None, from: journal.first, to, began: None });
    }
    rows.extend(days.iter().map(|day| DayRow {
        gateway: gateway.clone(),
        trading_day: Some(day.trading_day),
        from: day.begins,
        to: day.ends,
        began: Some(day.time),
    }));
    rows
}

/// What people call an entry: `order`, `trade`, `leader`, `snapshot` ...
fn kind_of(stored: &StoredEntry) -> &str {
    let mut tokens = stored.subject.split('.').skip(2);
    match tokens.next() {
        Some("pub") => tokens.next().unwrap_or_default(),
        kind => kind.unwrap_or_default(),
    }
}

fn is_about(stored: &StoredEntry, id: &OrderId) -> bool {
    match &stored.entry {
        Ok(Entry::Event(event)) => match &event.data {
            OmsEvent::Order(order) => order.orderid == *id,
            OmsEvent::Trade(trade) => trade.orderid == *id,
            OmsEvent::Quote(quote) => quote.quoteid == *id,
            OmsEvent::Position(_) | OmsEvent::Account(_) => false,
        },
        Ok(Entry::Private(Private::CancelRequested { orderid, .. })) => orderid == id,
        Ok(Entry::Private(_)) | Err(_) => false,
    }
}

fn row(stored: StoredEntry) -> EntryRow {
    let entry = serde_json::from_slice(&stored.payload)
        .unwrap_or_else(|_| serde_json::Value::String(String::from_utf8_lossy(&stored.payload).into_owned()));
    EntryRow {
        kind: kind_of(&stored).to_owned(),
        summary: summary(&stored.entry),
        sequence: stored.sequence,
        stored: stored.stored,
        id: stored.message_id,
        subject: stored.subject,
        entry,
    }
}

fn summary(entry: &Result<Entry, String>) -> String {
    let event = match entry {
        Err(error) => return format!("not understood: {error}"),
        Ok(Entry::Private(private)) => return private_summary(private),
        Ok(Entry::Event(event)) => event,
    };
    match &event.data {
        OmsEvent::Order(o) => {
            let price = o.price.map_or_else(|| "market".to_owned(), |price| price.to_string());
            let reason = o.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            format!(
                "{} {} {} {} {} at {price}, {} of {} filled, {}{reason}",
                o.owner,
                o.orderid,
                o.instrument(),
                o.direction,
                o.offset,
                o.traded,
                o.volume,
                o.status
            )
        }
        OmsEvent::Trade(t) => {
            let instrument = t.instrument();
            format!(
                "{} {} {instrument} {} {} {} at {}, trade {}",
                t.owner,
                t.orderid,
                t.direction,
                t.offset,
                t.volume,
                t.price,
                t.tradeid.trim()
            )
        }
        OmsEvent::Quote(q) => format!(
            "{} {} {} {}@{} / {}@{}, {}",
            q.owner,
            q.quoteid,
            q.instrument(),
            q.bid_volume,
            q.bid_price,
            q.ask_volume,
            q.ask_price,
            q.status
        ),
        OmsEvent::Position(p) => {
            format!("{} {} {} lots, {} frozen, pnl {}", p.instrument(), p.direction, p.volume, p.frozen, p.pnl)
        }
        OmsEvent::Account(a) => format!("{} balance {}, available {}", a.accountid, a.balance, a.available),
    }
}

fn private_summary(private: &Private) -> String {
    match private {
        Private::LeaderStarted { epoch, node, .. } => format!("{node} leads under epoch {epoch}"),
        Private::Fence { epoch } => format!("keeps out what leaders before epoch {epoch} still send"),
        Private::Subscription { instrument, caller, wanted } => {
            format!("{caller} {} {instrument}", if *wanted { "wants" } else { "no longer wants" })
        }
        Private::CancelRequested { owner, orderid, .. } => format!("{owner} asks to cancel {orderid}"),
        Private::Snapshot(page) => {
            format!(
                "{} events, {} past orders, {} subscriptions",
                page.events.len(),
                page.past.len(),
                page.subscriptions.len()
            )
        }
        Private::SnapshotEnd(end) => {
            format!("trading day {} begins with {} pages from {}", end.trading_day, end.pages, end.begins)
        }
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}
