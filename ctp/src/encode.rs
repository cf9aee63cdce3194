//! Requests as CTP's records. A text that does not fit its field is an error, never cut short.

use std::ffi::CString;

use compact_str::CompactString;

use crate::field::{Char, Double, Int, Text};
use crate::layout;
use crate::object::RequestRecord;
use crate::requests::{CancelKey, CancelOrder, Identity, InsertOrder, Request};

/// A request that CTP's record cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Too long.
    #[error("CTP's field {field} holds {limit} bytes, and what is to be sent there has {length}: correct it")]
    TooLong {
        /// CTP's name of it. What it should have held is not told: it may be a password.
        field: &'static str,
        /// The most that fits.
        limit: usize,
        /// What there is, in GB18030.
        length: usize,
    },
    /// The text holds a NUL, where CTP would take it to end.
    #[error("what is to be sent in CTP's field {field} holds a NUL: correct it")]
    Nul {
        /// CTP's name of it.
        field: &'static str,
    },
    /// A price that is none.
    #[error("what is to be sent in CTP's field {field} is no finite number: correct it")]
    NotFinite {
        /// CTP's name of it.
        field: &'static str,
    },
}

/// The record of a request, and `number` in it where it has a place for that.
pub(crate) fn request(identity: &Identity, request: &Request, number: i32) -> Result<RequestRecord, EncodeError> {
    let mut to = Writer::new();
    match request {
        Request::Authenticate => authenticate(&mut to, identity)?,
        Request::Login => return login(identity),
        Request::ConfirmSettlement => {
            use layout::settlement_info_confirm as at;
            to.text(at::BROKER, &identity.broker)?;
            to.text(at::INVESTOR, &identity.user)?;
        }
        // Nothing set: all of them.
        Request::QueryInstruments => {}
        Request::QueryOrders => {
            use layout::qry_order as at;
            to.text(at::BROKER, &identity.broker)?;
            to.text(at::INVESTOR, &identity.user)?;
        }
        Request::QueryTrades => {
            use layout::qry_trade as at;
            to.text(at::BROKER, &identity.broker)?;
            to.text(at::INVESTOR, &identity.user)?;
        }
        Request::QueryPositions => {
            use layout::qry_investor_position as at;
            to.text(at::BROKER, &identity.broker)?;
            to.text(at::INVESTOR, &identity.user)?;
        }
        Request::QueryAccount => {
            use layout::qry_trading_account as at;
            to.text(at::BROKER, &identity.broker)?;
            to.text(at::INVESTOR, &identity.user)?;
        }
        Request::InsertOrder(order) => insert_order(&mut to, identity, order, number)?,
        Request::CancelOrder(cancel) => cancel_order(&mut to, identity, cancel, number)?,
    }
    Ok(to.record)
}

/// The login's record: the same for both libraries.
pub(crate) fn login(identity: &Identity) -> Result<RequestRecord, EncodeError> {
    use layout::req_user_login as at;
    let mut to = Writer::new();
    to.text(at::BROKER, &identity.broker)?;
    to.text(at::USER, &identity.user)?;
    to.text(at::PASSWORD, &identity.password)?;
    to.text(at::PRODUCT_INFO, &identity.product_info)?;
    Ok(to.record)
}

/// Whether CTP's records can hold who logs in.
///
/// # Errors
/// The first field that cannot.
pub fn check_identity(identity: &Identity) -> Result<(), EncodeError> {
    if !identity.auth_code.is_empty() {
        authenticate(&mut Writer::new(), identity)?;
    }
    login(identity)?;
    for as_investor in [Request::ConfirmSettlement, Request::QueryAccount] {
        request(identity, &as_investor, 0)?;
    }
    Ok(())
}

/// Symbols as a list of texts.
pub(crate) fn symbols(symbols: &[CompactString]) -> Result<Vec<CString>, EncodeError> {
    let field = layout::specific_instrument::INSTRUMENT;
    symbols
        .iter()
        .map(|symbol| CString::new(fitting(field, symbol)?).map_err(|_| EncodeError::Nul { field: field.name }))
        .collect()
}

fn authenticate(to: &mut Writer, identity: &Identity) -> Result<(), EncodeError> {
    use layout::req_authenticate as at;
    to.text(at::BROKER, &identity.broker)?;
    to.text(at::USER, &identity.user)?;
    to.text(at::PRODUCT_INFO, &identity.product_info)?;
    to.text(at::AUTH_CODE, &identity.auth_code)?;
    to.text(at::APP_ID, &identity.app_id)
}

fn insert_order(to: &mut Writer, identity: &Identity, order: &InsertOrder, number: i32) -> Result<(), EncodeError> {
    use layout::input_order as at;
    to.text(at::BROKER, &identity.broker)?;
    to.text(at::INVESTOR, &identity.user)?;
    to.text(at::USER, &identity.user)?;
    to.text(at::INSTRUMENT, &order.symbol)?;
    to.text(at::EXCHANGE, &order.exchange)?;
    to.text(at::ORDER_REF, &order.order_ref.to_string())?;
    to.char(at::PRICE_TYPE, order.price_type);
    to.char(at::DIRECTION, order.direction);
    to.char(at::OFFSET, order.offset);
    to.double(at::PRICE, order.price)?;
    to.int(at::VOLUME, order.volume);
    to.char(at::TIME_CONDITION, order.time_condition);
    to.char(at::VOLUME_CONDITION, order.volume_condition);
    // THOST_FTDC_HF_Speculation, THOST_FTDC_CC_Immediately, THOST_FTDC_FCC_NotForceClose.
    to.char(at::HEDGE, b'1');
    to.char(at::CONTINGENT, b'1');
    to.char(at::FORCE_CLOSE, b'0');
    to.int(at::MIN_VOLUME, 1);
    to.int(at::REQUEST_ID, number);
    Ok(())
}

fn cancel_order(to: &mut Writer, identity: &Identity, cancel: &CancelOrder, number: i32) -> Result<(), EncodeError> {
    use layout::input_order_action as at;
    to.text(at::BROKER, &identity.broker)?;
    to.text(at::INVESTOR, &identity.user)?;
    to.text(at::USER, &identity.user)?;
    to.text(at::INSTRUMENT, &cancel.symbol)?;
    to.text(at::EXCHANGE, &cancel.exchange)?;
    match &cancel.key {
        CancelKey::Session { front_id, session_id, order_ref } => {
            to.int(at::FRONT_ID, *front_id);
            to.int(at::SESSION_ID, *session_id);
            to.text(at::ORDER_REF, order_ref)?;
        }
        CancelKey::Exchange { order_sys_id } => to.text(at::ORDER_SYS_ID, order_sys_id)?,
    }
    // THOST_FTDC_AF_Delete.
    to.char(at::ACTION, b'0');
    to.int(at::ACTION_REF, number);
    to.int(at::REQUEST_ID, number);
    Ok(())
}

/// Fills a record. Every field is inside it: a test holds the layouts to that.
struct Writer {
    record: RequestRecord,
}

impl Writer {
    fn new() -> Writer {
        Writer { record: RequestRecord::zeroed() }
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.record.0.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    fn text(&mut self, field: Text, text: &str) -> Result<(), EncodeError> {
        self.put(field.at, &fitting(field, text)?);
        Ok(())
    }

    fn char(&mut self, field: Char, value: u8) {
        self.put(field.at, &[value]);
    }

    fn int(&mut self, field: Int, value: i32) {
        self.put(field.at, &value.to_ne_bytes());
    }

    fn double(&mut self, field: Double, value: f64) -> Result<(), EncodeError> {
        if !value.is_finite() {
            return Err(EncodeError::NotFinite { field: field.name });
        }
        self.put(field.at, &value.to_ne_bytes());
        Ok(())
    }
}

/// A text's bytes, if they leave room for the NUL.
fn fitting(field: Text, text: &str) -> Result<Vec<u8>, EncodeError> {
    if text.contains('\0') {
        return Err(EncodeError::Nul { field: field.name });
    }
    // GB18030 has every character of Unicode.
    let bytes = encoding_rs::GB18030.encode(text).0.into_owned();
    let limit = field.len - 1;
    if bytes.len() > limit {
        return Err(EncodeError::TooLong { field: field.name, limit, length: bytes.len() });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Filled;
    use proptest::prelude::*;

    fn identity() -> Identity {
        Identity {
            broker: "9999".into(),
            user: "012345".into(),
            password: "secret".into(),
            product_info: "gate".into(),
            app_id: "client_gate_1.0".into(),
            auth_code: "0000000000000000".into(),
        }
    }

    /// Sends and compares: these fields hold these bytes, and all else is zero.
    fn check(asked: &Request, record: &str, fields: &[(&str, &[u8])]) {
        let sent = request(&identity(), asked, 77).expect("fits");
        let filled = Filled::with(record, &sent.0);
        for (field, value) in fields {
            assert_eq!(filled.get(field), *value, "{record}.{field}");
        }
        let named: Vec<&str> = fields.iter().map(|(field, _)| *field).collect();
        assert_eq!(filled.left(&named), Vec::<usize>::new(), "{record}: bytes beside the fields");
        assert!(sent.0[filled.bytes.len()..].iter().all(|byte| *byte == 0), "{record}: bytes beyond the record");
    }

    #[test]
    fn an_identity_goes_where_each_record_has_it() {
        let (broker, user): (&[u8], &[u8]) = (b"9999", b"012345");
        check(
            &Request::Authenticate,
            "ReqAuthenticate",
            &[
                ("BrokerID", broker),
                ("UserID", user),
                ("UserProductInfo", b"gate"),
                ("AuthCode", b"0000000000000000"),
                ("AppID", b"client_gate_1.0"),
            ],
        );
        check(
            &Request::Login,
            "ReqUserLogin",
            &[("BrokerID", broker), ("UserID", user), ("Password", b"secret"), ("UserProductInfo", b"gate")],
        );
        for (asked, record) in [
            (Request::ConfirmSettlement, "SettlementInfoConfirm"),
            (Request::QueryOrders, "QryOrder"),
            (Request::QueryTrades, "QryTrade"),
            (Request::QueryPositions, "QryInvestorPosition"),
            (Request::QueryAccount, "QryTradingAccount"),
        ] {
            check(&asked, record, &[("BrokerID", broker), ("InvestorID", user)]);
        }
        check(&Request::QueryInstruments, "QryInstrument", &[]);
    }

    #[test]
    fn an_order_goes_out_whole_with_what_never_changes() {
        let order = InsertOrder {
            order_ref: 41,
            symbol: "SPD c2501&c2505".into(),
            exchange: "DCE".into(),
            direction: b'1',
            offset: b'3',
            price_type: b'2',
            price: 3210.5,
            volume: 7,
            time_condition: b'1',
            volume_condition: b'3',
        };
        check(
            &Request::InsertOrder(order.clone()),
            "InputOrder",
            &[
                ("BrokerID", b"9999"),
                ("InvestorID", b"012345"),
                ("UserID", b"012345"),
                ("OrderRef", b"41"),
                ("OrderPriceType", b"2"),
                ("Direction", b"1"),
                ("CombOffsetFlag", b"3"),
                ("CombHedgeFlag", b"1"),
                ("LimitPrice", &[0, 0, 0, 0, 0, 0x15, 0xa9, 0x40]),
                ("VolumeTotalOriginal", &[7]),
                ("TimeCondition", b"1"),
                ("VolumeCondition", b"3"),
                ("MinVolume", &[1]),
                ("ContingentCondition", b"1"),
                ("ForceCloseReason", b"0"),
                ("RequestID", &[77]),
                ("ExchangeID", b"DCE"),
                ("InstrumentID", b"SPD c2501&c2505"),
            ],
        );
        for price in [f64::NAN, f64::INFINITY] {
            let order = Request::InsertOrder(InsertOrder { price, ..order.clone() });
            let error = request(&identity(), &order, 1).err();
            assert_eq!(error, Some(EncodeError::NotFinite { field: "LimitPrice" }));
        }
        let order = Request::InsertOrder(InsertOrder { order_ref: 1_000_000_000_000, ..order });
        let error = request(&identity(), &order, 1).err();
        assert_eq!(error, Some(EncodeError::TooLong { field: "OrderRef", limit: 12, length: 13 }));
    }

    #[test]
    fn a_cancel_names_the_order_by_either_key() {
        let both: [(&str, &[u8]); 8] = [
            ("BrokerID", b"9999"),
            ("InvestorID", b"012345"),
            ("UserID", b"012345"),
            ("ExchangeID", b"SHFE"),
            ("InstrumentID", b"rb2410"),
            ("ActionFlag", b"0"),
            ("OrderActionRef", &[77]),
            ("RequestID", &[77]),
        ];
        let cancel = |key| Request::CancelOrder(CancelOrder { symbol: "rb2410".into(), exchange: "SHFE".into(), key });
        let session = CancelKey::Session { front_id: 1, session_id: -2, order_ref: "          41".into() };
        let mut by_session = both.to_vec();
        by_session.extend([
            ("FrontID", &[1][..]),
            ("SessionID", &[0xfe, 255, 255, 255]),
            ("OrderRef", b"          41"),
        ]);
        check(&cancel(session), "InputOrderAction", &by_session);
        let mut by_exchange = both.to_vec();
        by_exchange.push(("OrderSysID", b"        5012"));
        let exchange = CancelKey::Exchange { order_sys_id: "        5012".into() };
        check(&cancel(exchange), "InputOrderAction", &by_exchange);
    }

    #[test]
    fn a_text_that_does_not_fit_is_an_error_that_names_the_field_and_not_the_text() {
        for (spoilt, asked, field, limit) in [
            (Identity { broker: "x".repeat(11).into(), ..identity() }, Request::Login, "BrokerID", 10),
            // A user fits the login and not the records that take it for an investor.
            (Identity { user: "x".repeat(13).into(), ..identity() }, Request::QueryAccount, "InvestorID", 12),
            (Identity { password: "x".repeat(41), ..identity() }, Request::Login, "Password", 40),
            (
                Identity { product_info: "x".repeat(11).into(), ..identity() },
                Request::Authenticate,
                "UserProductInfo",
                10,
            ),
            (Identity { auth_code: "x".repeat(17), ..identity() }, Request::Authenticate, "AuthCode", 16),
            (Identity { app_id: "x".repeat(33).into(), ..identity() }, Request::Authenticate, "AppID", 32),
        ] {
            let error = request(&spoilt, &asked, 1).err();
            assert_eq!(error, Some(EncodeError::TooLong { field, limit, length: limit + 1 }));
        }
        let spoilt = Identity { password: "sec\0ret".into(), ..identity() };
        let error = login(&spoilt).err().expect("a NUL").to_string();
        assert_eq!(error, "what is to be sent in CTP's field Password holds a NUL: correct it");
        // Two bytes each in GB18030, three in UTF-8.
        let chinese = Identity { app_id: "期".repeat(16).into(), ..identity() };
        let sent = request(&chinese, &Request::Authenticate, 1).expect("32 bytes");
        assert_eq!(Filled::with("ReqAuthenticate", &sent.0).get("AppID"), [0xc6, 0xda].repeat(16));
        let chinese = Identity { app_id: "期".repeat(17).into(), ..identity() };
        let error = request(&chinese, &Request::Authenticate, 1).err();
        assert_eq!(error, Some(EncodeError::TooLong { field: "AppID", limit: 32, length: 34 }));
        assert!(symbols(&["rb2410".into(), "x".repeat(81).into()]).is_err());
    }

    proptest! {
        #[test]
        fn any_identity_is_sent_or_refused(broker in ".*", user in ".*", password in ".*", app_id in ".*") {
            let identity = Identity {
                broker: broker.clone().into(),
                user: user.into(),
                password,
                app_id: app_id.into(),
                ..Identity::default()
            };
            for asked in [Request::Authenticate, Request::Login, Request::QueryOrders] {
                if let Ok(sent) = request(&identity, &asked, 1) {
                    let at = if asked == Request::Login { 9 } else { 0 };
                    let read = crate::field::Record(&sent.0).text(Text { name: "BrokerID", at, len: 11 });
                    prop_assert_eq!(read.as_str(), broker.as_str(), "what was sent reads as it was given");
                }
            }
        }
    }
}
