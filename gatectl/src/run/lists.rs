//! `orders`, `trades`, `quotes`, `positions`, `accounts`: the state of trading, once or followed.

use std::collections::HashMap;

use client_sdk::{Client, Error, Filter, GatewayHandle, Update};
use futures::future::join_all;
use futures::{Stream, StreamExt};
use protocol::oms::Applied;
use protocol::rpc::{List, Method};
use protocol::{
    Account, ErrorCode, InstrumentId, Name, OmsEvent, OmsState, Order, OrderId, Position, Quote, RpcError, Timestamp,
    Trade,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ticks::missed_sentence;
use super::{Session, first_failure};
use crate::args::{AccountsArgs, ListArgs, OrdersArgs, PositionsArgs, QuotesArgs, TradesArgs};
use crate::exit::Failure;
use crate::format::Decimals;
use crate::rows;
use crate::table::{Cell, Column};

/// What is listed first and then followed.
trait Followed: Serialize + DeserializeOwned + Clone + Send + 'static {
    const NAME: &'static str;
    const COLUMNS: &'static [Column];
    const ALL: Method;
    const ACTIVE: Method;

    async fn stream(client: Client, filter: Filter) -> Result<impl Stream<Item = Update<Self>> + Unpin, Error>;
    fn row(&self, decimals: &Decimals) -> Vec<Cell>;
    fn event(&self) -> OmsEvent;
    fn instrument(&self) -> InstrumentId;
    fn age(&self) -> (Option<Timestamp>, &str);
}

impl Followed for Order {
    const NAME: &'static str = "orders";
    const COLUMNS: &'static [Column] = rows::ORDER;
    const ALL: Method = Method::GetAllOrders;
    const ACTIVE: Method = Method::GetAllActiveOrders;

    async fn stream(client: Client, filter: Filter) -> Result<impl Stream<Item = Update<Self>> + Unpin, Error> {
        client.orders(filter).await
    }
    fn row(&self, decimals: &Decimals) -> Vec<Cell> {
        rows::order(self, decimals)
    }
    fn event(&self) -> OmsEvent {
        OmsEvent::Order(self.clone())
    }
    fn instrument(&self) -> InstrumentId {
        Order::instrument(self)
    }
    fn age(&self) -> (Option<Timestamp>, &str) {
        (self.datetime, self.orderid.as_str())
    }
}

impl Followed for Trade {
    const NAME: &'static str = "trades";
    const COLUMNS: &'static [Column] = rows::TRADE;
    const ALL: Method = Method::GetAllTrades;
    const ACTIVE: Method = Method::GetAllTrades;

    async fn stream(client: Client, filter: Filter) -> Result<impl Stream<Item = Update<Self>> + Unpin, Error> {
        client.trades(filter).await
    }
    fn row(&self, decimals: &Decimals) -> Vec<Cell> {
        rows::trade(self, decimals)
    }
    fn event(&self) -> OmsEvent {
        OmsEvent::Trade(self.clone())
    }
    fn instrument(&self) -> InstrumentId {
        Trade::instrument(self)
    }
    fn age(&self) -> (Option<Timestamp>, &str) {
        (self.datetime, self.tradeid.as_str())
    }
}

impl Followed for Quote {
    const NAME: &'static str = "quotes";
    const COLUMNS: &'static [Column] = rows::QUOTE;
    const ALL: Method = Method::GetAllQuotes;
    const ACTIVE: Method = Method::GetAllActiveQuotes;

    async fn stream(client: Client, filter: Filter) -> Result<impl Stream<Item = Update<Self>> + Unpin, Error> {
        client.quotes(filter).await
    }
    fn row(&self, decimals: &Decimals) -> Vec<Cell> {
        rows::quote(self, decimals)
    }
    fn event(&self) -> OmsEvent {
        OmsEvent::Quote(self.clone())
    }
    fn instrument(&self) -> InstrumentId {
        Quote::instrument(self)
    }
    fn age(&self) -> (Option<Timestamp>, &str) {
        (self.datetime, self.quoteid.as_str())
    }
}

impl Session {
    pub(super) async fn orders(&mut self, args: OrdersArgs) -> Result<(), Failure> {
        match args.orderid {
            Some(id) => self.one_order(&id).await,
            None => self.list_or_follow::<Order>(args.list, args.active).await,
        }
    }

    pub(super) async fn trades(&mut self, args: TradesArgs) -> Result<(), Failure> {
        self.list_or_follow::<Trade>(args.list, false).await
    }

    pub(super) async fn quotes(&mut self, args: QuotesArgs) -> Result<(), Failure> {
        self.list_or_follow::<Quote>(args.list, args.active).await
    }

    async fn one_order(&mut self, id: &OrderId) -> Result<(), Failure> {
        let found = self.find_order(id).await?;
        let Some((gateway, order)) = found else {
            return Err(Failure::Refused(RpcError::new(
                ErrorCode::NotFound,
                format!("no gateway knows the order {id}"),
            )));
        };
        let decimals = self.decimals(&gateway, std::iter::once(order.instrument())).await;
        self.out.list(rows::ORDER, &[order], |order| rows::order(order, &decimals), "")
    }

    /// The order of this id and the gateway that has it. An order found at the venue belongs to nobody here and is
    /// asked for as such.
    pub(super) async fn find_order(&self, id: &OrderId) -> Result<Option<(GatewayHandle, Order)>, Failure> {
        let owner = external_owner(id);
        let gateways = self.gateways().await?;
        let answers = join_all(gateways.iter().map(|gateway| gateway.get_order_of(id, owner))).await;
        let mut found = None;
        for (gateway, answer) in gateways.into_iter().zip(answers) {
            match answer? {
                Some(order) if found.is_none() => found = Some((gateway, order)),
                Some(_) => {
                    return Err(Failure::Usage(format!(
                        "several gateways have an order {id}: choose one with -g NAME"
                    )));
                }
                None => {}
            }
        }
        Ok(found)
    }

    async fn list_or_follow<T: Followed>(&mut self, args: ListArgs, active: bool) -> Result<(), Failure> {
        let mut filter = args.instrument.unwrap_or_default();
        filter.gateway = self.global.gateway.clone();
        // First listen, then list: what happens in between comes twice rather than never.
        let stream = if args.follow { Some(T::stream(self.client.clone(), filter.clone()).await?) } else { None };
        let gateways = self.gateways().await?;
        let narrowed = List { symbol: filter.symbol.clone(), exchange: filter.exchange, ..List::default() };
        let method = if active { T::ACTIVE } else { T::ALL };
        let answers = join_all(gateways.iter().map(|g| g.list::<T>(method, narrowed.clone()))).await;

        let (mut items, mut failures) = (Vec::new(), Vec::new());
        let (mut decimals, mut states) = (Decimals::default(), HashMap::<Name, OmsState>::new());
        for (gateway, answer) in gateways.iter().zip(answers) {
            match answer {
                Ok(some) => {
                    if !self.out.is_json() {
                        decimals.extend(self.decimals(gateway, some.iter().map(T::instrument)).await);
                    }
                    let state = states.entry(gateway.name().clone()).or_default();
                    for item in &some {
                        state.apply(&item.event());
                    }
                    items.extend(some);
                }
                Err(error) => failures.push(Failure::from(error)),
            }
        }
        // By the venue's time; what the venue has not yet taken, last.
        items.sort_by(|a, b| {
            let key = |item: &T| (item.age().0.is_none(), item.age().0, item.age().1.to_owned());
            key(a).cmp(&key(b))
        });
        if !items.is_empty() || failures.is_empty() {
            let none = if active { format!("no working {}", T::NAME) } else { format!("no {}", T::NAME) };
            if args.follow && !self.out.is_json() && !items.is_empty() {
                for item in &items {
                    self.out.item(T::COLUMNS, item, |item| item.row(&decimals))?;
                }
                self.out.flush()?;
            } else {
                self.out.list(T::COLUMNS, &items, |item| item.row(&decimals), &none)?;
            }
        }
        first_failure(failures)?;
        match stream {
            Some(stream) => self.follow(stream, states, decimals, args.count).await,
            None => Ok(()),
        }
    }

    async fn follow<T: Followed>(
        &mut self,
        mut stream: impl Stream<Item = Update<T>> + Unpin,
        mut states: HashMap<Name, OmsState>,
        mut decimals: Decimals,
        count: Option<u64>,
    ) -> Result<(), Failure> {
        let mut left = count.unwrap_or(u64::MAX);
        let (mut health, mut interrupt) = (self.client.health(), self.interrupt.clone());
        loop {
            let update = tokio::select! {
                biased;
                () = interrupt.pressed() => return Ok(()),
                update = stream.next() => update,
                event = health.next() => {
                    if let Some(sentence) = event.and_then(|event| self.health_sentence(&event)) {
                        self.out.remark(&sentence)?;
                        self.out.flush()?;
                    }
                    continue;
                }
            };
            match update {
                Some(Update::Event(event)) => {
                    let state = states.entry(event.gateway.clone()).or_default();
                    if state.apply(&event.data.event()) == Applied::Unchanged {
                        continue;
                    }
                    let instrument = event.data.instrument();
                    if !self.out.is_json() && decimals.of(&instrument).is_none() {
                        let gateway = self.client.gateway(event.gateway.clone());
                        decimals.extend(self.decimals(&gateway, std::iter::once(instrument)).await);
                    }
                    self.out.item(T::COLUMNS, &event.data, |item| item.row(&decimals))?;
                    left -= 1;
                }
                Some(Update::Missed(missed)) => self.out.remark(&missed_sentence(&missed))?,
                Some(Update::Disconnected) => self.out.remark("connection lost, trying again")?,
                Some(Update::Reconnected) => self.out.remark("connected again")?,
                Some(_) => {}
                None => return Err(Error::Disconnected.into()),
            }
            self.out.flush()?;
            if left == 0 {
                return Ok(());
            }
        }
    }

    pub(super) async fn positions(&mut self, args: PositionsArgs) -> Result<(), Failure> {
        let filter = args.instrument.unwrap_or_default();
        let gateways = self.gateways().await?;
        let (mut positions, mut failures) = (Vec::new(), Vec::new());
        let mut decimals = Decimals::default();
        let answers = join_all(gateways.iter().map(async |gateway| match args.refresh {
            true => gateway.query_position().await,
            false => gateway.get_all_positions().await,
        }));
        for (gateway, answer) in gateways.iter().zip(answers.await) {
            match answer {
                Ok(some) => {
                    let wanted = some.into_iter().filter(|p: &Position| {
                        filter.matches(&p.instrument(), &p.gateway_name, None)
                            && (args.all || p.volume != 0.0 || p.frozen != 0.0)
                    });
                    let wanted: Vec<_> = wanted.collect();
                    if !self.out.is_json() {
                        decimals.extend(self.decimals(gateway, wanted.iter().map(Position::instrument)).await);
                    }
                    positions.extend(wanted);
                }
                Err(error) => failures.push(Failure::from(error)),
            }
        }
        positions.sort_by_key(|p| (p.instrument(), p.direction, p.gateway_name.clone()));
        if !positions.is_empty() || failures.is_empty() {
            self.out.list(rows::POSITION, &positions, |p| rows::position(p, &decimals), "no positions")?;
        }
        first_failure(failures)
    }

    pub(super) async fn accounts(&mut self, args: AccountsArgs) -> Result<(), Failure> {
        let gateways = self.gateways().await?;
        let (mut accounts, mut failures) = (Vec::<Account>::new(), Vec::new());
        let answers = join_all(gateways.iter().map(async |gateway| match args.refresh {
            true => gateway.query_account().await,
            false => gateway.get_all_accounts().await,
        }));
        for answer in answers.await {
            match answer {
                Ok(some) => accounts.extend(some),
                Err(error) => failures.push(Failure::from(error)),
            }
        }
        accounts.sort_by(|a, b| (&a.gateway_name, &a.accountid).cmp(&(&b.gateway_name, &b.accountid)));
        if !accounts.is_empty() || failures.is_empty() {
            self.out.list(rows::ACCOUNT, &accounts, rows::account, "no accounts")?;
        }
        first_failure(failures)
    }
}

/// Orders found at the venue have an owner of their own; all others are the caller's.
pub(super) fn external_owner(id: &OrderId) -> Option<&'static str> {
    id.as_str().starts_with(OrderId::EXTERNAL_PREFIX).then_some(protocol::value::OWNER_EXTERNAL)
}
