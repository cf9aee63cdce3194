//! The callback object that a fake was given.

#![allow(unsafe_code)]

use std::ffi::c_void;

use serde_json::Value;

use crate::record::Record;
use crate::script::{Fields, Tell};
use crate::slots;

/// A callback object, called by the names of its methods.
#[derive(Clone)]
pub struct Spi {
    object: usize,
    methods: Vec<&'static str>,
    family: String,
}

impl Spi {
    /// `block` is `trader-spi` or `md-spi`.
    pub fn new(object: *mut c_void, block: &str, family: &str) -> Spi {
        let methods = slots::methods(block, if block.starts_with("md") { "all" } else { family });
        Spi { object: object as usize, methods, family: family.to_owned() }
    }

    /// Whether there is somebody to call.
    pub fn is_registered(&self) -> bool {
        self.object != 0
    }

    /// Calls back. `request` is what it answers, if it answers something.
    pub fn tell(&self, tell: &Tell, request: Option<(&Record, i32)>) {
        std::thread::sleep(std::time::Duration::from_millis(tell.after_ms));
        let record = tell.record.as_ref().map(|fields| self.filled(record_of(&tell.call), fields, request));
        let info = tell.info.as_ref().map(|fields| self.filled("RspInfo", fields, None));
        let number = request.map_or(tell.request, |(_, number)| number);
        self.call(&tell.call, record.as_ref(), info.as_ref(), tell.number, number, tell.last.unwrap_or(true));
    }

    fn filled(&self, name: &str, fields: &Fields, request: Option<(&Record, i32)>) -> Record {
        let mut record = Record::zeroed(name, &self.family);
        for (field, value) in fields {
            let asked = value.as_str().and_then(|text| text.strip_prefix('$')).zip(request);
            match asked {
                Some((asked, (request, _))) => record.set(field, &request.get(asked)),
                None => record.set(field, value),
            }
        }
        record
    }

    /// Calls a callback with a record.
    pub fn rtn(&self, callback: &str, record: &Record) {
        self.call(callback, Some(record), None, 0, 0, true);
    }

    /// Calls a callback that answers a request.
    pub fn rsp(&self, callback: &str, record: Option<&Record>, error: Option<(i32, &str)>, request: i32, last: bool) {
        let info = error.map(|(code, message)| self.info(code, message));
        self.call(callback, record, info.as_ref(), 0, request, last);
    }

    /// `CThostFtdcRspInfoField`.
    pub fn info(&self, code: i32, message: &str) -> Record {
        let mut info = Record::zeroed("RspInfo", &self.family);
        info.set("ErrorID", &Value::from(code));
        info.set("ErrorMsg", &Value::from(message));
        info
    }

    fn call(&self, name: &str, record: Option<&Record>, info: Option<&Record>, number: i32, request: i32, last: bool) {
        if self.object == 0 {
            return;
        }
        let slot =
            self.methods.iter().position(|method| *method == name).unwrap_or_else(|| panic!("no callback {name}"));
        let at = |record: Option<&Record>| record.map_or(std::ptr::null(), |record| record.bytes.as_ptr());
        let object = self.object as *mut c_void;
        let (record, info) = (at(record), at(info));
        // SAFETY: the client registered an object of the family's callback class: a table with these methods, each with
        // the parameters that CTP declares. The records live until it returns.
        unsafe {
            let method = *(*object.cast::<*const usize>()).add(slot);
            match name {
                "OnFrontConnected" => {
                    let method: unsafe extern "C" fn(*mut c_void) = std::mem::transmute(method);
                    method(object);
                }
                "OnFrontDisconnected" | "OnHeartBeatWarning" | "OnRtnPrivateSeqNo" => {
                    let method: unsafe extern "C" fn(*mut c_void, i32) = std::mem::transmute(method);
                    method(object, number);
                }
                "OnRspError" => {
                    let method: unsafe extern "C" fn(*mut c_void, *const u8, i32, bool) = std::mem::transmute(method);
                    method(object, info, request, last);
                }
                _ if name.starts_with("OnErrRtn") => {
                    let method: unsafe extern "C" fn(*mut c_void, *const u8, *const u8) = std::mem::transmute(method);
                    method(object, record, info);
                }
                _ if name.starts_with("OnRtn") => {
                    let method: unsafe extern "C" fn(*mut c_void, *const u8) = std::mem::transmute(method);
                    method(object, record);
                }
                _ => {
                    let method: unsafe extern "C" fn(*mut c_void, *const u8, *const u8, i32, bool) =
                        std::mem::transmute(method);
                    method(object, record, info, request, last);
                }
            }
        }
    }
}

/// The record that a callback takes.
fn record_of(callback: &str) -> &'static str {
    match callback {
        "OnRspAuthenticate" => "RspAuthenticate",
        "OnRspUserLogin" => "RspUserLogin",
        "OnRspUserLogout" => "UserLogout",
        "OnRspSettlementInfoConfirm" => "SettlementInfoConfirm",
        "OnRspQryInstrument" => "Instrument",
        "OnRspQryInvestorPosition" => "InvestorPosition",
        "OnRspQryTradingAccount" => "TradingAccount",
        "OnRspOrderInsert" | "OnErrRtnOrderInsert" => "InputOrder",
        "OnRspOrderAction" => "InputOrderAction",
        "OnErrRtnOrderAction" => "OrderAction",
        "OnRtnOrder" | "OnRspQryOrder" => "Order",
        "OnRtnTrade" | "OnRspQryTrade" => "Trade",
        "OnRtnDepthMarketData" => "DepthMarketData",
        "OnRspSubMarketData" | "OnRspUnSubMarketData" => "SpecificInstrument",
        other => panic!("{other} takes no record that is known here"),
    }
}
