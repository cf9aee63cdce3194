//! Trades and watches through Gatemesh gateways.
