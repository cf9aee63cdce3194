//! The simulated venue.
use crate::gateway::*;
use crate::risk::Approved;
use protocol::*;
pub struct SimGateway;
impl SimGateway {
    pub fn new(_n: Name, _c: toml::Table, _s: VenueSink) -> anyhow::Result<Self> {
        Ok(SimGateway)
    }
}
impl Gateway for SimGateway {
    fn connect(&mut self, _start: SessionStart) -> Result<(), GatewayError> {
        Ok(())
    }
    fn disconnect(&mut self) {}
    fn subscribe(&mut self, _: &[InstrumentId]) -> Result<(), GatewayError> {
        Ok(())
    }
    fn unsubscribe(&mut self, _: &[InstrumentId]) -> Result<(), GatewayError> {
        Ok(())
    }
    fn submit(&mut self, _: &VenueReference, _: &Approved<OrderRequest>) -> Result<(), GatewayError> {
        Ok(())
    }
    fn cancel(&mut self, _: &VenueReference) -> Result<(), GatewayError> {
        Ok(())
    }
    fn submit_quote(&mut self, _: &VenueReference, _: &Approved<QuoteRequest>) -> Result<(), GatewayError> {
        Ok(())
    }
    fn cancel_quote(&mut self, _: &VenueReference) -> Result<(), GatewayError> {
        Ok(())
    }
    fn query_history(&mut self, _: QueryToken, _: &HistoryRequest) -> Result<(), GatewayError> {
        Ok(())
    }
    fn query_account(&mut self, _: QueryToken) -> Result<(), GatewayError> {
        Ok(())
    }
    fn query_position(&mut self, _: QueryToken) -> Result<(), GatewayError> {
        Ok(())
    }
    fn request_snapshot(&mut self) -> Result<(), GatewayError> {
        Ok(())
    }
    fn close(&mut self) {}
}
