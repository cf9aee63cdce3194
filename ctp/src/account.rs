//! What a trading account's record means as an account.

use compact_str::CompactString;
use protocol::{Account, Name};

use crate::records::AccountRecord;

/// Why a record is no account: a figure that everyone relies on would have to be made up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// Of nobody.
    #[error("the account's record names no account")]
    NoAccount,
    /// CTP sends no equity, or not what may be used.
    #[error("account {account}: CTP states no {field}")]
    Missing {
        /// The account.
        account: CompactString,
        /// CTP's name of the field.
        field: &'static str,
    },
}

/// The account of a record. `frozen` is the margin, cash and commission of working orders; `available` is CTP's own
/// figure; a currency that Gatemesh does not know is absent.
///
/// # Errors
/// A record without an account, its balance, or what is available.
pub fn account(gateway_name: &Name, record: &AccountRecord) -> Result<Account, AccountError> {
    if record.account.is_empty() {
        return Err(AccountError::NoAccount);
    }
    let missing = |field| AccountError::Missing { account: record.account.clone(), field };
    let frozen = [record.frozen_margin, record.frozen_cash, record.frozen_commission];
    Ok(Account {
        gateway_name: gateway_name.clone(),
        accountid: record.account.clone(),
        balance: record.balance.ok_or_else(|| missing("Balance"))?,
        frozen: frozen.into_iter().flatten().fold(0.0, |sum, part| sum + part),
        available: record.available.ok_or_else(|| missing("Available"))?,
        margin: record.margin,
        commission: record.commission,
        close_profit: record.close_profit,
        position_profit: record.position_profit,
        currency: record.currency.parse().ok(),
        extra: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Currency;

    fn record() -> AccountRecord {
        AccountRecord {
            account: "123456".into(),
            currency: "CNY".into(),
            trading_day: "20261123".into(),
            balance: Some(1_000_000.5),
            available: Some(800_000.25),
            frozen_margin: Some(1000.0),
            frozen_cash: Some(200.0),
            frozen_commission: Some(3.5),
            margin: Some(150_000.0),
            commission: Some(12.25),
            close_profit: Some(-500.0),
            position_profit: Some(700.0),
        }
    }

    #[test]
    fn every_figure_comes_through() {
        let expected = Account {
            gateway_name: "ctp1".into(),
            accountid: "123456".into(),
            balance: 1_000_000.5,
            frozen: 1203.5,
            available: 800_000.25,
            margin: Some(150_000.0),
            commission: Some(12.25),
            close_profit: Some(-500.0),
            position_profit: Some(700.0),
            currency: Some(Currency::CNY),
            extra: None,
        };
        assert_eq!(account(&"ctp1".into(), &record()), Ok(expected));
    }

    #[test]
    fn what_is_not_stated_is_absent_or_frozen_at_nothing() {
        let bare = AccountRecord {
            account: "123456".into(),
            balance: Some(0.0),
            available: Some(-5.0),
            frozen_cash: Some(2.0),
            ..AccountRecord::default()
        };
        let account = account(&"ctp1".into(), &bare).expect("an account");
        assert_eq!((account.balance, account.available, account.frozen), (0.0, -5.0, 2.0));
        assert_eq!((account.margin, account.commission, account.currency), (None, None, None));
        assert_eq!((account.close_profit, account.position_profit), (None, None));
    }

    #[test]
    fn an_unknown_currency_is_absent() {
        let record = AccountRecord { currency: "XAU".into(), ..record() };
        assert_eq!(account(&"ctp1".into(), &record).expect("an account").currency, None);
    }

    #[test]
    fn no_equity_is_made_up() {
        let error = |record| account(&"ctp1".into(), &record).expect_err("no account").to_string();
        assert_eq!(error(AccountRecord::default()), "the account's record names no account");
        assert_eq!(error(AccountRecord { balance: None, ..record() }), "account 123456: CTP states no Balance");
        assert_eq!(error(AccountRecord { available: None, ..record() }), "account 123456: CTP states no Available");
    }
}
