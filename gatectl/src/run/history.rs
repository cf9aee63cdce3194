//! `history` and `contracts`: what a gateway knows of instruments.

use futures::future::join_all;
use protocol::rpc::{List, Method};
use protocol::{Contract, HistoryRequest};

use super::{Session, first_failure};
use crate::args::ContractsArgs;
use crate::exit::Failure;
use crate::rows;

impl Session {
    pub(super) async fn history(&mut self, request: HistoryRequest) -> Result<(), Failure> {
        let instrument = request.instrument();
        let gateway = self.gateway_of(&instrument).await?;
        let mut bars = gateway.query_history(&request).await?;
        bars.sort_by_key(|bar| bar.datetime);
        let places = if self.out.is_json() {
            None
        } else {
            self.decimals(&gateway, std::iter::once(instrument.clone())).await.of(&instrument)
        };
        let empty = format!("no bars of {instrument} since {}", request.start.format("%Y-%m-%d %H:%M:%S %:z"));
        self.out.list(rows::BAR, &bars, |bar| rows::bar(bar, places), &empty)
    }

    pub(super) async fn contracts(&mut self, args: ContractsArgs) -> Result<(), Failure> {
        let filter = List { symbol: args.filter.symbol, exchange: args.filter.exchange, ..List::default() };
        let gateways = self.gateways().await?;
        let asked = gateways.iter().map(|g| g.list::<Contract>(Method::GetAllContracts, filter.clone()));
        let (mut contracts, mut failures) = (Vec::new(), Vec::new());
        for answer in join_all(asked).await {
            match answer {
                Ok(some) => contracts.extend(some),
                Err(error) => failures.push(error.into()),
            }
        }
        contracts.sort_by_key(|c: &Contract| (c.exchange.as_str(), c.symbol.clone(), c.gateway_name.clone()));
        if !contracts.is_empty() || failures.is_empty() {
            self.out.list(rows::CONTRACT, &contracts, rows::contract, "no such contracts")?;
        }
        first_failure(failures)
    }
}
