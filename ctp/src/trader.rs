//! The trader library: opened, started, asked; what it says goes to a [`TraderHandler`].

#![allow(unsafe_code)]

use std::ffi::CString;
use std::path::Path;
use std::sync::Arc;

use crate::encode::{self, EncodeError};
use crate::flow::{self, FlowDirectory};
use crate::front::check_fronts;
use crate::handler::TraderHandler;
use crate::library::{Kind, Library, LoadError};
use crate::object::Object;
use crate::requests::{Identity, Request};
use crate::slots::{Slot, trader as slots};
use crate::spi;
use crate::trader_spi::{self, TraderSpi};
use crate::version::Family;

/// `THOST_TERT_RESTART`: all of the day's orders and trades at every login.
const RESTART: i32 = 0;
/// In family E: from the first message on.
const FROM_THE_FIRST: i32 = 0;

/// A broker's `libthosttraderapi_se.so`. Opening the same one again is no error and gives the same library; it stays
/// loaded until the process ends.
#[derive(Debug, Clone)]
pub struct TraderLibrary {
    library: Library,
    production: bool,
}

impl TraderLibrary {
    /// Opens the library. `family` is what the configuration says of its binary interface, if it does: it wins over what
    /// the version says, and its slots are verified all the same.
    ///
    /// # Errors
    /// If it is no trader library of this machine, or its version is not served.
    pub fn open(path: &Path, family: Option<Family>) -> Result<TraderLibrary, LoadError> {
        Ok(TraderLibrary { library: Library::open(Kind::Trader, path, family)?, production: true })
    }

    /// For a front of a broker's evaluation environment, where a library from 6.7.11 on must be told so. Older ones are
    /// libraries of their own for that.
    #[must_use]
    pub fn for_evaluation(self) -> TraderLibrary {
        TraderLibrary { production: false, ..self }
    }

    /// What the library says of its version; empty if it says nothing.
    #[must_use]
    pub fn version(&self) -> &str {
        self.library.version()
    }

    /// The family of its binary interface.
    #[must_use]
    pub fn family(&self) -> Family {
        self.library.family()
    }

    /// Verifies every slot that will be called, on an object that connects to nothing and is released at once. Its files
    /// are in a directory of their own: those of a connection that lives are not touched.
    ///
    /// # Errors
    /// If a slot of the library holds another method than its family says, or an object cannot be made.
    pub fn verify(&self) -> Result<(), LoadError> {
        flow::with_scratch(|flow| {
            let object = self.library.make(flow, self.production, slots::CALLED)?;
            // SAFETY: the slot was verified, and nobody else has the object.
            unsafe { object.call(slots::RELEASE) };
            Ok(())
        })
    }

    /// Makes a connection to one of these fronts, whichever answers, and returns at once; the handler hears of all that
    /// follows. Today's orders and trades come anew with every login. The flow directory is made where it is missing,
    /// and belongs to one connection alone.
    ///
    /// # Errors
    /// If a front's address is none, the flow directory cannot be used, or a slot of the library holds another method
    /// than its family says.
    pub fn start(
        &self,
        flow: &Path,
        fronts: &[String],
        handler: Arc<dyn TraderHandler>,
    ) -> Result<TraderApi, LoadError> {
        check_fronts(fronts)?;
        let flow = FlowDirectory::borrow(flow)?;
        let object = self.library.make(&flow, self.production, slots::CALLED)?;
        let spi = trader_spi::new(handler, object.family());
        // SAFETY: the slots were verified to hold these methods. The callback object is never freed.
        unsafe {
            object.call_with_pointer(slots::REGISTER_SPI, spi.as_pointer());
            if object.family() == Family::E {
                object.call_with_two_numbers(slots::SUBSCRIBE_PRIVATE_TOPIC, RESTART, FROM_THE_FIRST);
            } else {
                object.call_with_number(slots::SUBSCRIBE_PRIVATE_TOPIC, RESTART);
            }
            object.call_with_number(slots::SUBSCRIBE_PUBLIC_TOPIC, RESTART);
            for front in fronts {
                // Checked above to be plain ASCII.
                let front = CString::new(front.as_str()).unwrap_or_default();
                object.call_with_text(slots::REGISTER_FRONT, &front);
            }
            object.call(slots::INIT);
        }
        Ok(TraderApi { connection: Some(Connection { object, spi, _flow: flow }) })
    }
}

/// A connection of the trader library. Requests may be sent from any thread.
#[derive(Debug)]
pub struct TraderApi {
    /// `None` once released.
    connection: Option<Connection>,
}

struct Connection {
    object: Object,
    spi: &'static TraderSpi,
    _flow: FlowDirectory,
}

impl TraderApi {
    /// Sends a request with this number, and returns what CTP says at once: 0 it is taken, although not necessarily to
    /// anywhere (an answer must be waited for); -1 no connection, -2 too many requests wait, -3 too many in this second.
    ///
    /// # Errors
    /// If a field does not hold what it should.
    pub fn send(&self, identity: &Identity, request: &Request, number: i32) -> Result<i32, EncodeError> {
        let record = encode::request(identity, request, number)?;
        let Some(connection) = &self.connection else { return Ok(-1) };
        // SAFETY: the slot was verified to hold the method of this request, which takes its record and a number.
        Ok(unsafe { connection.object.request(method(request), record, number) })
    }

    /// `YYYYMMDD`; before the login it means nothing.
    #[must_use]
    pub fn trading_day(&self) -> String {
        // SAFETY: the slot was verified.
        self.connection
            .as_ref()
            .map_or_else(String::new, |connection| unsafe { connection.object.text(slots::GET_TRADING_DAY) })
    }

    /// Ends the connection: once this returns, the handler hears nothing more. Dropping does the same. In a callback, it
    /// is done on another thread afterwards, since the library waits for its callbacks to return.
    pub fn release(self) {
        drop(self);
    }
}

impl Drop for TraderApi {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            spi::outside_callbacks("ctp-trader-release", move || connection.release());
        }
    }
}

impl Connection {
    fn release(self) {
        // The gate first: nothing is heard of the end that was asked for. The callback object stays registered, since it
        // outlives the library's threads, while one of them may have read the pointer that a null would replace.
        self.spi.close();
        // SAFETY: the slot was verified; nobody can call the object afterwards, since its one owner is consumed.
        unsafe { self.object.call(slots::RELEASE) }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("object", &self.object).finish_non_exhaustive()
    }
}

fn method(request: &Request) -> Slot {
    match request {
        Request::Authenticate => slots::REQ_AUTHENTICATE,
        Request::Login => slots::REQ_USER_LOGIN,
        Request::ConfirmSettlement => slots::REQ_SETTLEMENT_INFO_CONFIRM,
        Request::QueryInstruments => slots::REQ_QRY_INSTRUMENT,
        Request::QueryOrders => slots::REQ_QRY_ORDER,
        Request::QueryTrades => slots::REQ_QRY_TRADE,
        Request::QueryPositions => slots::REQ_QRY_INVESTOR_POSITION,
        Request::QueryAccount => slots::REQ_QRY_TRADING_ACCOUNT,
        Request::InsertOrder(_) => slots::REQ_ORDER_INSERT,
        Request::CancelOrder(_) => slots::REQ_ORDER_ACTION,
    }
}
