//! What the trader library calls back, as [`TraderEvent`]s.

#![allow(unsafe_code)]

use std::sync::Arc;

use crate::decode;
use crate::handler::TraderHandler;
use crate::layout;
use crate::records::{Failure, Login, Row, TraderEvent};
use crate::slots::Slot;
use crate::slots::trader::spi as slots;
use crate::spi::{Spi, bytes};
use crate::version::Family;

/// The trader's callback object.
pub(crate) type TraderSpi = Spi<dyn TraderHandler>;

/// A callback object for a library of this family.
pub(crate) fn new(handler: Arc<dyn TraderHandler>, family: Family) -> &'static TraderSpi {
    Spi::leaked(handler, family, &methods())
}

/// The callbacks that are handled.
pub(crate) fn methods() -> [(Slot, usize); 18] {
    [
        (slots::ON_FRONT_CONNECTED, on_front_connected as *const () as usize),
        (slots::ON_FRONT_DISCONNECTED, on_front_disconnected as *const () as usize),
        (slots::ON_RSP_AUTHENTICATE, on_rsp_authenticate as *const () as usize),
        (slots::ON_RSP_USER_LOGIN, on_rsp_user_login as *const () as usize),
        (slots::ON_RSP_USER_LOGOUT, on_rsp_user_logout as *const () as usize),
        (slots::ON_RSP_SETTLEMENT_INFO_CONFIRM, on_rsp_settlement_info_confirm as *const () as usize),
        (slots::ON_RSP_QRY_INSTRUMENT, on_rsp_qry_instrument as *const () as usize),
        (slots::ON_RSP_QRY_ORDER, on_rsp_qry_order as *const () as usize),
        (slots::ON_RSP_QRY_TRADE, on_rsp_qry_trade as *const () as usize),
        (slots::ON_RSP_QRY_INVESTOR_POSITION, on_rsp_qry_investor_position as *const () as usize),
        (slots::ON_RSP_QRY_TRADING_ACCOUNT, on_rsp_qry_trading_account as *const () as usize),
        (slots::ON_RSP_ORDER_INSERT, on_rsp_order_insert as *const () as usize),
        (slots::ON_ERR_RTN_ORDER_INSERT, on_err_rtn_order_insert as *const () as usize),
        (slots::ON_RSP_ORDER_ACTION, on_rsp_order_action as *const () as usize),
        (slots::ON_ERR_RTN_ORDER_ACTION, on_err_rtn_order_action as *const () as usize),
        (slots::ON_RTN_ORDER, on_rtn_order as *const () as usize),
        (slots::ON_RTN_TRADE, on_rtn_trade as *const () as usize),
        (slots::ON_RSP_ERROR, on_rsp_error as *const () as usize),
    ]
}

/// Tells the handler what `event` makes, if it makes something.
///
/// # Safety
/// `spi` came from [`new`].
unsafe fn told(spi: *const TraderSpi, callback: Slot, event: impl FnOnce() -> Option<TraderEvent>) {
    // SAFETY: it is never freed, and what changes in it is behind a lock.
    let spi = unsafe { &*spi };
    spi.told(
        |handler| {
            if let Some(event) = event() {
                handler.on_event(event);
            }
        },
        |handler| handler.on_event(TraderEvent::Panicked { callback: callback.method }),
    );
}

/// The failure in an answer; `None` if there is none.
///
/// # Safety
/// `info` is null or points at a `CThostFtdcRspInfoField`.
pub(crate) unsafe fn failure(info: *const u8) -> Option<Failure> {
    // SAFETY: as the caller says; the record has had this length in every version.
    unsafe { bytes(info, layout::rsp_info::LEN) }.and_then(decode::failure)
}

/// The outcome of a login.
///
/// # Safety
/// As [`failure`]; `record` is null or points at a `CThostFtdcRspUserLoginField`.
pub(crate) unsafe fn login_outcome(record: *const u8, info: *const u8) -> Result<Login, Failure> {
    // SAFETY: as the caller says; no version that is served has a shorter record.
    unsafe {
        match (failure(info), bytes(record, layout::rsp_user_login::LEN)) {
            (Some(failure), _) => Err(failure),
            (None, Some(record)) => Ok(decode::login(record)),
            // Never seen. A session without numbers could not tell its own orders.
            (None, None) => Err(Failure { code: -1, message: "the answer to the login holds no session".to_owned() }),
        }
    }
}

/// One row of a query's answer.
///
/// # Safety
/// As [`failure`]; `record` is null or points at `len` bytes.
unsafe fn row<T>(
    record: *const u8,
    len: usize,
    decode: impl FnOnce(&[u8]) -> T,
    info: *const u8,
    request: i32,
    is_last: u8,
) -> Row<T> {
    // SAFETY: as the caller says.
    let (record, failure) = unsafe { (bytes(record, len), failure(info)) };
    Row { request, record: record.map(|record| Box::new(decode(record))), failure, is_last: is_last != 0 }
}

// The callbacks, as CTP declares them. Each is called by the library with the object that it was given and with records
// that are null or of the type that the callback is declared with; a C++ bool is a byte.
//
// SAFETY, of every block below: that is what the slots of the family say, and each length is that of the oldest version.

unsafe extern "C" fn on_front_connected(spi: *const TraderSpi) {
    // SAFETY: see above.
    unsafe { told(spi, slots::ON_FRONT_CONNECTED, || Some(TraderEvent::FrontConnected)) }
}

unsafe extern "C" fn on_front_disconnected(spi: *const TraderSpi, reason: i32) {
    // SAFETY: see above.
    unsafe { told(spi, slots::ON_FRONT_DISCONNECTED, || Some(TraderEvent::FrontDisconnected { reason })) }
}

unsafe extern "C" fn on_rsp_authenticate(spi: *const TraderSpi, _: *const u8, info: *const u8, request: i32, _: u8) {
    // SAFETY: see above.
    unsafe {
        told(spi, slots::ON_RSP_AUTHENTICATE, || Some(TraderEvent::Authenticated { request, failure: failure(info) }));
    }
}

unsafe extern "C" fn on_rsp_user_login(spi: *const TraderSpi, login: *const u8, info: *const u8, request: i32, _: u8) {
    // SAFETY: see above.
    unsafe {
        told(spi, slots::ON_RSP_USER_LOGIN, || {
            Some(TraderEvent::LoggedIn { request, outcome: login_outcome(login, info) })
        });
    }
}

unsafe extern "C" fn on_rsp_user_logout(spi: *const TraderSpi, _: *const u8, _: *const u8, _: i32, _: u8) {
    // SAFETY: see above.
    unsafe { told(spi, slots::ON_RSP_USER_LOGOUT, || Some(TraderEvent::LoggedOut)) }
}

unsafe extern "C" fn on_rsp_settlement_info_confirm(
    spi: *const TraderSpi,
    _: *const u8,
    info: *const u8,
    request: i32,
    _: u8,
) {
    // SAFETY: see above.
    unsafe {
        told(spi, slots::ON_RSP_SETTLEMENT_INFO_CONFIRM, || {
            Some(TraderEvent::SettlementConfirmed { request, failure: failure(info) })
        });
    }
}

/// The callbacks that bring a query's rows.
macro_rules! rows {
    ($($callback:ident $slot:ident $record:ident $decode:ident $event:ident;)*) => {$(
        unsafe extern "C" fn $callback(spi: *const TraderSpi, record: *const u8, info: *const u8, request: i32, last: u8) {
            // SAFETY: see above.
            unsafe {
                told(spi, slots::$slot, || {
                    Some(TraderEvent::$event(row(record, layout::$record::LEN, decode::$decode, info, request, last)))
                });
            }
        }
    )*};
}

rows! {
    on_rsp_qry_instrument ON_RSP_QRY_INSTRUMENT instrument instrument Instrument;
    on_rsp_qry_order ON_RSP_QRY_ORDER order order QueriedOrder;
    on_rsp_qry_trade ON_RSP_QRY_TRADE trade trade QueriedTrade;
    on_rsp_qry_investor_position ON_RSP_QRY_INVESTOR_POSITION position position Position;
    on_rsp_qry_trading_account ON_RSP_QRY_TRADING_ACCOUNT account account Account;
}

unsafe extern "C" fn on_rsp_order_insert(
    spi: *const TraderSpi,
    order: *const u8,
    info: *const u8,
    request: i32,
    _: u8,
) {
    // SAFETY: see above.
    unsafe {
        told(spi, slots::ON_RSP_ORDER_INSERT, || {
            // Without a failure it says nothing: what becomes of an order comes by OnRtnOrder.
            let failure = failure(info)?;
            let mut order = bytes(order, layout::input_order::LEN).map(decode::refused_order).unwrap_or_default();
            if order.request == 0 {
                order.request = request;
            }
            Some(TraderEvent::InsertRefused { order, failure })
        });
    }
}

unsafe extern "C" fn on_err_rtn_order_insert(spi: *const TraderSpi, order: *const u8, info: *const u8) {
    // SAFETY: see above.
    unsafe {
        told(spi, slots::ON_ERR_RTN_ORDER_INSERT, || {
            let failure = failure(info)?;
            let order = bytes(order, layout::input_order::LEN).map(decode::refused_order)?;
            Some(TraderEvent::InsertFailed { order, failure })
        });
    }
}

unsafe extern "C" fn on_rsp_order_action(spi: *const TraderSpi, action: *const u8, info: *const u8, _: i32, _: u8) {
    // SAFETY: see above.
    unsafe {
        told(spi, slots::ON_RSP_ORDER_ACTION, || {
            let failure = failure(info)?;
            let action = bytes(action, layout::input_order_action::LEN).map(decode::refused_action);
            Some(TraderEvent::CancelRefused { action: action.unwrap_or_default(), failure })
        });
    }
}

unsafe extern "C" fn on_err_rtn_order_action(spi: *const TraderSpi, action: *const u8, info: *const u8) {
    // SAFETY: see above.
    unsafe {
        told(spi, slots::ON_ERR_RTN_ORDER_ACTION, || {
            let failure = failure(info)?;
            let action = bytes(action, layout::order_action::LEN).map(decode::refused_action)?;
            Some(TraderEvent::CancelFailed { action, failure })
        });
    }
}

unsafe extern "C" fn on_rtn_order(spi: *const TraderSpi, order: *const u8) {
    // SAFETY: see above.
    unsafe {
        told(spi, slots::ON_RTN_ORDER, || {
            Some(TraderEvent::Order(Box::new(decode::order(bytes(order, layout::order::LEN)?))))
        });
    }
}

unsafe extern "C" fn on_rtn_trade(spi: *const TraderSpi, trade: *const u8) {
    // SAFETY: see above.
    unsafe {
        told(spi, slots::ON_RTN_TRADE, || {
            Some(TraderEvent::Trade(Box::new(decode::trade(bytes(trade, layout::trade::LEN)?))))
        });
    }
}

unsafe extern "C" fn on_rsp_error(spi: *const TraderSpi, info: *const u8, request: i32, _: u8) {
    // SAFETY: see above.
    unsafe {
        told(spi, slots::ON_RSP_ERROR, || Some(TraderEvent::RequestFailed { request, failure: failure(info)? }));
    }
}
