//! The market data library: opened, started, asked; what it says goes to a [`MdHandler`].

#![allow(unsafe_code)]

use std::ffi::CString;
use std::path::Path;
use std::sync::Arc;

use compact_str::CompactString;

use crate::encode::{self, EncodeError};
use crate::flow::{self, FlowDirectory};
use crate::front::check_fronts;
use crate::handler::MdHandler;
use crate::library::{Kind, Library, LoadError};
use crate::md_spi::{self, MdSpi};
use crate::object::Object;
use crate::requests::Identity;
use crate::slots::{Slot, md as slots};
use crate::spi;
use crate::version::Family;

/// A broker's `libthostmduserapi_se.so`. Opening the same one again is no error and gives the same library; it stays
/// loaded until the process ends.
#[derive(Debug, Clone)]
pub struct MdLibrary {
    library: Library,
    production: bool,
}

impl MdLibrary {
    /// Opens the library. `family` is as in [`TraderLibrary::open`](crate::TraderLibrary::open); market data is the same
    /// in all of them, and it serves to say that a version which is not known here is one of those.
    ///
    /// # Errors
    /// If it is no market data library of this machine, or its version is not served.
    pub fn open(path: &Path, family: Option<Family>) -> Result<MdLibrary, LoadError> {
        Ok(MdLibrary { library: Library::open(Kind::Md, path, family)?, production: true })
    }

    /// As [`TraderLibrary::for_evaluation`](crate::TraderLibrary::for_evaluation).
    #[must_use]
    pub fn for_evaluation(self) -> MdLibrary {
        MdLibrary { production: false, ..self }
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
    /// follows. The flow directory is made where it is missing, and belongs to one connection alone.
    ///
    /// # Errors
    /// As [`TraderLibrary::start`](crate::TraderLibrary::start).
    pub fn start(&self, flow: &Path, fronts: &[String], handler: Arc<dyn MdHandler>) -> Result<MdApi, LoadError> {
        check_fronts(fronts)?;
        let flow = FlowDirectory::borrow(flow)?;
        let object = self.library.make(&flow, self.production, slots::CALLED)?;
        let spi = md_spi::new(handler, object.family());
        // SAFETY: the slots were verified to hold these methods. The callback object is never freed.
        unsafe {
            object.call_with_pointer(slots::REGISTER_SPI, spi.as_pointer());
            for front in fronts {
                // Checked above to be plain ASCII.
                let front = CString::new(front.as_str()).unwrap_or_default();
                object.call_with_text(slots::REGISTER_FRONT, &front);
            }
            object.call(slots::INIT);
        }
        Ok(MdApi { connection: Some(Connection { object, spi, _flow: flow }) })
    }
}

/// A connection of the market data library. Requests may be sent from any thread.
#[derive(Debug)]
pub struct MdApi {
    /// `None` once released.
    connection: Option<Connection>,
}

struct Connection {
    object: Object,
    spi: &'static MdSpi,
    _flow: FlowDirectory,
}

impl MdApi {
    /// Sends the login with this number, and returns what CTP says at once, as
    /// [`TraderApi::send`](crate::TraderApi::send) does. Market data fronts take any user, and most of them none.
    ///
    /// # Errors
    /// If a field does not hold what it should.
    pub fn login(&self, identity: &Identity, number: i32) -> Result<i32, EncodeError> {
        let record = encode::login(identity)?;
        let Some(connection) = &self.connection else { return Ok(-1) };
        // SAFETY: the slot was verified, and this is the record that it takes.
        Ok(unsafe { connection.object.request(slots::REQ_USER_LOGIN, record, number) })
    }

    /// Asks for the depth of these instruments; each is answered with
    /// [`MdEvent::Subscribed`](crate::MdEvent::Subscribed). A subscription ends with the connection to the front. A symbol that CTP cannot hold makes
    /// it -4 and none is asked for; other numbers are CTP's, as of [`MdApi::login`].
    #[must_use]
    pub fn subscribe(&self, symbols: &[CompactString]) -> i32 {
        self.request_list(slots::SUBSCRIBE_MARKET_DATA, symbols)
    }

    /// Asks for these instruments no longer; as [`MdApi::subscribe`].
    #[must_use]
    pub fn unsubscribe(&self, symbols: &[CompactString]) -> i32 {
        self.request_list(slots::UNSUBSCRIBE_MARKET_DATA, symbols)
    }

    fn request_list(&self, slot: Slot, symbols: &[CompactString]) -> i32 {
        let Ok(symbols) = encode::symbols(symbols) else { return NO_SYMBOL };
        let Some(connection) = &self.connection else { return -1 };
        // SAFETY: the slot was verified to hold one of the two methods that take a list of texts.
        unsafe { connection.object.request_list(slot, &symbols) }
    }

    /// `YYYYMMDD`; before the login it means nothing.
    #[must_use]
    pub fn trading_day(&self) -> String {
        // SAFETY: the slot was verified.
        self.connection
            .as_ref()
            .map_or_else(String::new, |connection| unsafe { connection.object.text(slots::GET_TRADING_DAY) })
    }

    /// Ends the connection, as [`TraderApi::release`](crate::TraderApi::release) does.
    pub fn release(self) {
        drop(self);
    }
}

/// No number of CTP's.
const NO_SYMBOL: i32 = -4;

impl Drop for MdApi {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            spi::outside_callbacks("ctp-md-release", move || connection.release());
        }
    }
}

impl Connection {
    fn release(self) {
        // As of the trader's connection.
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
