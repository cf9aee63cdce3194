//! A stand-in for `libthostmduserapi_se.so`: the same exported symbols and table. How a test tells it what to do is in
//! `ctp_fake`; of the script's parts it knows `never_connect`, `login`, `rules`, `burst` and `mirror`. A rule on
//! `SubscribeMarketData` is asked once for each symbol, as `InstrumentID`.
//!
//! Ordinarily: it connects at `Init`, takes any login and any subscription, and says nothing more.

#![allow(unsafe_code)]

mod mirror;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ctp_fake::identity::identity;
use ctp_fake::record::Record;
use ctp_fake::script::{Burst, Script, Tell};
use ctp_fake::slots;
use ctp_fake::spi::Spi;
use ctp_fake::worker::{Job, Log, Queue, Worker};
use serde_json::{Value, json};

use crate::mirror::Mirror;

/// What the client holds: the table first.
#[repr(C)]
struct Api {
    table: *const usize,
    flow: PathBuf,
    log: Log,
    queue: Arc<Queue<Asked>>,
    script: Arc<Mutex<Script>>,
    connected: Arc<AtomicBool>,
    spi: Mutex<Spi>,
    worker: Mutex<Option<Worker<Asked>>>,
}

/// A request that was taken.
struct Asked {
    name: &'static str,
    record: Record,
    number: i32,
    rule: Option<Vec<Tell>>,
    last: bool,
}

fn make(flow: *const c_char) -> *mut c_void {
    // SAFETY: the factory's parameter is a text.
    let flow = PathBuf::from(unsafe { CStr::from_ptr(flow) }.to_string_lossy().into_owned());
    let table: Vec<usize> = slots::methods("md-api", "all").into_iter().map(method).collect();
    let log = Log::open(&flow);
    let script = Arc::new(Mutex::new(Script::read(&flow)));
    Box::into_raw(Box::new(Api {
        table: Vec::leak(table).as_ptr(),
        flow,
        log,
        queue: Arc::default(),
        script,
        connected: Arc::default(),
        spi: Mutex::new(Spi::new(std::ptr::null_mut(), "md-spi", "all")),
        worker: Mutex::default(),
    }))
    .cast()
}

/// `static CThostFtdcMdApi *CreateFtdcMdApi(const char *, bool, bool)`.
#[unsafe(export_name = "_ZN15CThostFtdcMdApi15CreateFtdcMdApiEPKcbb")]
extern "C" fn create(flow: *const c_char, _: bool, _: bool) -> *mut c_void {
    make(flow)
}

/// The same from 6.7.11 on, with a flag for production.
#[unsafe(export_name = "_ZN15CThostFtdcMdApi15CreateFtdcMdApiEPKcbbb")]
extern "C" fn create_moded(flow: *const c_char, _: bool, _: bool, _: bool) -> *mut c_void {
    make(flow)
}

#[unsafe(export_name = "_ZN15CThostFtdcMdApi13GetApiVersionEv")]
extern "C" fn version() -> *const c_char {
    identity().version.as_ptr()
}

/// The address of a method.
fn method(name: &str) -> usize {
    match name {
        "Release" => release as *const () as usize,
        "Init" => init as *const () as usize,
        "GetTradingDay" => get_trading_day as *const () as usize,
        "RegisterFront" => register_front as *const () as usize,
        "RegisterSpi" => register_spi as *const () as usize,
        "SubscribeMarketData" => subscribe as *const () as usize,
        "UnSubscribeMarketData" => unsubscribe as *const () as usize,
        "ReqUserLogin" => req_user_login as *const () as usize,
        _ => not_imitated as *const () as usize,
    }
}

/// Every method that no client of ours calls.
extern "C" fn not_imitated() -> c_int {
    -1
}

#[unsafe(export_name = "_ZN14CFtdcMdApiImpl7ReleaseEv")]
extern "C" fn release(api: *mut Api) {
    // SAFETY: the factory made it, and the client's last call is this.
    let api = unsafe { Box::from_raw(api) };
    api.log.call("Release", json!([]));
}

#[unsafe(export_name = "_ZN14CFtdcMdApiImpl4InitEv")]
extern "C" fn init(api: &Api) {
    api.log.call("Init", json!([]));
    let never = locked(&api.script).never_connect;
    let (spi, connected) = (locked(&api.spi).clone(), api.connected.clone());
    let mut feed = Feed {
        spi: spi.clone(),
        log: Log::open(&api.flow),
        connected: connected.clone(),
        script: api.script.clone(),
        queue: api.queue.clone(),
        subscribed: Vec::new(),
        mirror: locked(&api.script).mirror.as_deref().map(Mirror::of),
    };
    let begin = move || {
        if !never {
            connected.store(true, Ordering::SeqCst);
            spi.tell(&calling("OnFrontConnected"), None);
        }
    };
    *locked(&api.worker) = Some(Worker::start(&api.flow, api.queue.clone(), begin, move |job| feed.work(job)));
}

#[unsafe(export_name = "_ZN14CFtdcMdApiImpl13GetTradingDayEv")]
extern "C" fn get_trading_day(_: &Api) -> *const c_char {
    c"20261123".as_ptr()
}

#[unsafe(export_name = "_ZN14CFtdcMdApiImpl13RegisterFrontEPc")]
extern "C" fn register_front(api: &Api, front: *const c_char) {
    // SAFETY: the parameter is a text.
    let front = unsafe { CStr::from_ptr(front) }.to_string_lossy();
    api.log.call("RegisterFront", json!([front]));
}

#[unsafe(export_name = "_ZN14CFtdcMdApiImpl11RegisterSpiEP15CThostFtdcMdSpi")]
extern "C" fn register_spi(api: &Api, spi: *mut c_void) {
    *locked(&api.spi) = Spi::new(spi, "md-spi", "all");
}

#[unsafe(export_name = "_ZN14CFtdcMdApiImpl19SubscribeMarketDataEPPci")]
extern "C" fn subscribe(api: &Api, symbols: *const *const c_char, count: c_int) -> c_int {
    list(api, "SubscribeMarketData", symbols, count)
}

#[unsafe(export_name = "_ZN14CFtdcMdApiImpl21UnSubscribeMarketDataEPPci")]
extern "C" fn unsubscribe(api: &Api, symbols: *const *const c_char, count: c_int) -> c_int {
    list(api, "UnSubscribeMarketData", symbols, count)
}

fn list(api: &Api, name: &'static str, symbols: *const *const c_char, count: c_int) -> c_int {
    let count = usize::try_from(count).unwrap_or_default();
    // SAFETY: the parameters are a list of texts and its length.
    let symbols: Vec<String> =
        (0..count).map(|at| unsafe { CStr::from_ptr(*symbols.add(at)) }.to_string_lossy().into_owned()).collect();
    api.log.call(name, json!(symbols));
    for (at, symbol) in symbols.iter().enumerate() {
        let mut record = Record::zeroed("SpecificInstrument", "A");
        record.set("InstrumentID", &Value::from(symbol.as_str()));
        let returned = take(api, name, record, 0, at + 1 == count);
        if returned != 0 {
            return returned;
        }
    }
    0
}

#[unsafe(export_name = "_ZN14CFtdcMdApiImpl12ReqUserLoginEP27CThostFtdcReqUserLoginFieldi")]
extern "C" fn req_user_login(api: &Api, record: *const u8, number: c_int) -> c_int {
    let mut asked = Record::zeroed("ReqUserLogin", &identity().family);
    // SAFETY: the method's parameter is such a record of this version.
    let bytes = unsafe { std::slice::from_raw_parts(record, asked.bytes.len()) };
    asked.bytes.copy_from_slice(bytes);
    api.log.request("ReqUserLogin", &asked, number, 0);
    take(api, "ReqUserLogin", asked, number, true)
}

fn take(api: &Api, name: &'static str, record: Record, number: i32, last: bool) -> c_int {
    let mut script = locked(&api.script);
    let (returned, rule) = match script.rule(name, &record) {
        Some(rule) => (rule.returns, Some(rule.tell.clone())),
        // As the real ones: before there is a connection, requests are taken and go nowhere.
        None => (if api.connected.load(Ordering::SeqCst) || script.never_connect { 0 } else { -1 }, None),
    };
    if returned == 0 {
        api.queue.push(Asked { name, record, number, rule, last });
    }
    returned
}

/// What the thread works with.
struct Feed {
    spi: Spi,
    log: Log,
    connected: Arc<AtomicBool>,
    script: Arc<Mutex<Script>>,
    queue: Arc<Queue<Asked>>,
    subscribed: Vec<String>,
    /// Told of a depth record before the client is.
    mirror: Option<Mirror>,
}

impl Feed {
    fn work(&mut self, job: Job<Asked>) {
        match job {
            Job::Tell(tell) => self.tell(&tell, None),
            Job::Request(asked) => match &asked.rule {
                Some(rule) => rule.iter().for_each(|tell| self.tell(tell, Some((&asked.record, asked.number)))),
                None if self.connected.load(Ordering::SeqCst) => self.answer(&asked),
                None => {}
            },
        }
    }

    fn tell(&mut self, tell: &Tell, asked: Option<(&Record, i32)>) {
        match tell.call.as_str() {
            // No callback of the real one's.
            "Burst" => {
                let burst = locked(&self.script).burst.take();
                burst.iter().for_each(|burst| self.burst(burst));
                return;
            }
            "OnFrontConnected" => self.connected.store(true, Ordering::SeqCst),
            "OnFrontDisconnected" => {
                self.connected.store(false, Ordering::SeqCst);
                // As a real front: nothing stays subscribed.
                self.subscribed.clear();
            }
            "OnRtnDepthMarketData" => {
                if let (Some(mirror), Some(fields)) = (&self.mirror, &tell.record) {
                    let mut depth = Record::zeroed("DepthMarketData", "A");
                    depth.set_all(fields);
                    assert_ne!(mirror.tell(&mut depth), 0, "nobody trades with the library that is to be told");
                }
            }
            _ => {}
        }
        self.spi.tell(tell, asked);
    }

    fn answer(&mut self, asked: &Asked) {
        let ok = Some((0, "CTP:No Error"));
        match asked.name {
            "ReqUserLogin" => {
                let mut answer = Record::zeroed("RspUserLogin", &identity().family);
                answer.copy_from(&asked.record);
                answer.set("TradingDay", &Value::from("20261123"));
                answer.set_all(&locked(&self.script).login);
                self.spi.rsp("OnRspUserLogin", Some(&answer), ok, asked.number, true);
            }
            "SubscribeMarketData" => {
                self.spi.rsp("OnRspSubMarketData", Some(&asked.record), ok, asked.number, asked.last);
                let symbol = asked.record.text("InstrumentID");
                if !self.subscribed.contains(&symbol) {
                    self.subscribed.push(symbol);
                }
                let burst = locked(&self.script)
                    .burst
                    .take_if(|burst| burst.symbols.is_some_and(|symbols| self.subscribed.len() >= symbols));
                if let Some(burst) = burst {
                    self.burst(&burst);
                }
            }
            "UnSubscribeMarketData" => {
                let symbol = asked.record.text("InstrumentID");
                self.subscribed.retain(|subscribed| *subscribed != symbol);
                self.spi.rsp("OnRspUnSubMarketData", Some(&asked.record), ok, asked.number, asked.last);
            }
            other => panic!("{other} is not imitated"),
        }
    }

    /// Depth as fast as the client takes it, until it is released. At its end `Burst` is noted, with how many records it
    /// was and the microseconds that the client kept the longest of them.
    fn burst(&self, burst: &Burst) {
        let mut depths: Vec<(Record, i32)> = self
            .subscribed
            .iter()
            .map(|symbol| {
                let mut depth = Record::zeroed("DepthMarketData", "A");
                depth.blank();
                let ordinary = json!({
                    "TradingDay": "20261123", "ActionDay": "20261122", "UpdateTime": "21:00:00", "UpdateMillisec": 500,
                    "LastPrice": 3000.0, "BidPrice1": 2999.0, "BidVolume1": 5, "AskPrice1": 3001.0, "AskVolume1": 6,
                });
                if let Value::Object(fields) = ordinary {
                    depth.set_all(&fields);
                }
                depth.set_all(&burst.record);
                depth.set("InstrumentID", &Value::from(symbol.as_str()));
                (depth, 0i32)
            })
            .collect();
        let symbols = depths.len() as u64;
        let place = depths[0].0.place("Volume");
        let mut longest = Duration::ZERO;
        for told in 0..burst.records {
            // Looking is a lock: not for each.
            if told % 1024 == 0 && self.queue.is_stopped() {
                return;
            }
            let (depth, volume) = &mut depths[usize::try_from(told % symbols).expect("small")];
            *volume += 1;
            depth.bytes[place.clone()].copy_from_slice(&volume.to_ne_bytes());
            let began = Instant::now();
            self.spi.rtn("OnRtnDepthMarketData", depth);
            longest = longest.max(began.elapsed());
        }
        let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
        self.log.call("Burst", json!([burst.records, micros]));
    }
}

fn calling(call: &str) -> Tell {
    serde_json::from_value(json!({"call": call})).expect("a callback")
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
