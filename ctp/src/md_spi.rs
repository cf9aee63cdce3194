//! What the market data library calls back, as [`MdEvent`]s and depth.

#![allow(unsafe_code)]

use std::sync::Arc;

use crate::decode;
use crate::depth::Depth;
use crate::handler::MdHandler;
use crate::layout;
use crate::records::MdEvent;
use crate::slots::Slot;
use crate::slots::md::spi as slots;
use crate::spi::{Spi, bytes};
use crate::trader_spi::{failure, login_outcome};
use crate::version::Family;

/// The market data library's callback object.
pub(crate) type MdSpi = Spi<dyn MdHandler>;

/// A callback object for a library of this family.
pub(crate) fn new(handler: Arc<dyn MdHandler>, family: Family) -> &'static MdSpi {
    Spi::leaked(handler, family, &methods())
}

/// The callbacks that are handled.
pub(crate) fn methods() -> [(Slot, usize); 7] {
    [
        (slots::ON_FRONT_CONNECTED, on_front_connected as *const () as usize),
        (slots::ON_FRONT_DISCONNECTED, on_front_disconnected as *const () as usize),
        (slots::ON_RSP_USER_LOGIN, on_rsp_user_login as *const () as usize),
        (slots::ON_RSP_ERROR, on_rsp_error as *const () as usize),
        (slots::ON_RSP_SUB_MARKET_DATA, on_rsp_sub_market_data as *const () as usize),
        (slots::ON_RSP_UNSUB_MARKET_DATA, on_rsp_unsub_market_data as *const () as usize),
        (slots::ON_RTN_DEPTH_MARKET_DATA, on_rtn_depth_market_data as *const () as usize),
    ]
}

/// Has the handler do `work`.
///
/// # Safety
/// `spi` came from [`new`].
unsafe fn told(spi: *const MdSpi, callback: Slot, work: impl FnOnce(&(dyn MdHandler + 'static))) {
    // SAFETY: it is never freed, and what changes in it is behind a lock.
    let spi = unsafe { &*spi };
    spi.told(work, |handler| handler.on_event(MdEvent::Panicked { callback: callback.method }));
}

// The callbacks, as CTP declares them. Each is called by the library with the object that it was given and with records
// that are null or of the type that the callback is declared with; a C++ bool is a byte.
//
// SAFETY, of every block below: that is what the slots say, and each length is that of the oldest version.

unsafe extern "C" fn on_front_connected(spi: *const MdSpi) {
    // SAFETY: see above.
    unsafe { told(spi, slots::ON_FRONT_CONNECTED, |handler| handler.on_event(MdEvent::FrontConnected)) }
}

unsafe extern "C" fn on_front_disconnected(spi: *const MdSpi, reason: i32) {
    // SAFETY: see above.
    unsafe {
        told(spi, slots::ON_FRONT_DISCONNECTED, |handler| handler.on_event(MdEvent::FrontDisconnected { reason }));
    }
}

unsafe extern "C" fn on_rsp_user_login(spi: *const MdSpi, login: *const u8, info: *const u8, request: i32, _: u8) {
    // SAFETY: see above.
    unsafe {
        told(spi, slots::ON_RSP_USER_LOGIN, |handler| {
            handler.on_event(MdEvent::LoggedIn { request, outcome: login_outcome(login, info) });
        });
    }
}

unsafe extern "C" fn on_rsp_error(spi: *const MdSpi, info: *const u8, request: i32, _: u8) {
    // SAFETY: see above.
    unsafe {
        told(spi, slots::ON_RSP_ERROR, |handler| {
            if let Some(failure) = failure(info) {
                handler.on_event(MdEvent::RequestFailed { request, failure });
            }
        });
    }
}

unsafe extern "C" fn on_rsp_sub_market_data(spi: *const MdSpi, symbol: *const u8, info: *const u8, _: i32, _: u8) {
    // SAFETY: see above.
    unsafe {
        told(spi, slots::ON_RSP_SUB_MARKET_DATA, |handler| {
            let symbol = bytes(symbol, layout::specific_instrument::LEN).map(decode::specific_instrument);
            handler.on_event(MdEvent::Subscribed { symbol: symbol.unwrap_or_default(), failure: failure(info) });
        });
    }
}

unsafe extern "C" fn on_rsp_unsub_market_data(spi: *const MdSpi, symbol: *const u8, info: *const u8, _: i32, _: u8) {
    // SAFETY: see above.
    unsafe {
        told(spi, slots::ON_RSP_UNSUB_MARKET_DATA, |handler| {
            let symbol = bytes(symbol, layout::specific_instrument::LEN).map(decode::specific_instrument);
            handler.on_event(MdEvent::Unsubscribed { symbol: symbol.unwrap_or_default(), failure: failure(info) });
        });
    }
}

unsafe extern "C" fn on_rtn_depth_market_data(spi: *const MdSpi, depth: *const [u8; Depth::LEN]) {
    // SAFETY: see above; bytes have no alignment.
    unsafe {
        told(spi, slots::ON_RTN_DEPTH_MARKET_DATA, |handler| {
            if let Some(depth) = depth.as_ref() {
                handler.on_depth(Depth::new(depth));
            }
        });
    }
}
