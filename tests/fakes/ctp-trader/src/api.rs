//! The exported symbols and the table of methods.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use ctp_fake::identity::identity;
use ctp_fake::record::Record;
use ctp_fake::script::Script;
use ctp_fake::slots;
use ctp_fake::spi::Spi;
use ctp_fake::worker::{Job, Log, Queue, Worker};
use serde_json::json;

use crate::counter::{Asked, Counter};

/// What the client holds: the table first.
#[repr(C)]
struct Api {
    table: *const usize,
    flow: PathBuf,
    log: Log,
    queue: Arc<Queue<Asked>>,
    counter: Arc<Mutex<Counter>>,
    spi: Mutex<Spi>,
    worker: Mutex<Option<Worker<Asked>>>,
}

fn make(flow: *const c_char) -> *mut c_void {
    // SAFETY: the factory's parameter is a text.
    let flow = PathBuf::from(unsafe { CStr::from_ptr(flow) }.to_string_lossy().into_owned());
    let family = &identity().family;
    let table: Vec<usize> = slots::methods("trader-api", family).into_iter().map(|name| method(name, family)).collect();
    let spi = Spi::new(std::ptr::null_mut(), "trader-spi", family);
    let log = Log::open(&flow);
    let counter = Arc::new(Mutex::new(Counter::new(Script::read(&flow), family)));
    Box::into_raw(Box::new(Api {
        table: Vec::leak(table).as_ptr(),
        flow,
        log,
        queue: Arc::default(),
        counter,
        spi: Mutex::new(spi),
        worker: Mutex::default(),
    }))
    .cast()
}

/// `static CThostFtdcTraderApi *CreateFtdcTraderApi(const char *)`.
#[unsafe(export_name = "_ZN19CThostFtdcTraderApi19CreateFtdcTraderApiEPKc")]
extern "C" fn create(flow: *const c_char) -> *mut c_void {
    make(flow)
}

/// The same from 6.7.11 on, with a flag for production.
#[unsafe(export_name = "_ZN19CThostFtdcTraderApi19CreateFtdcTraderApiEPKcb")]
extern "C" fn create_moded(flow: *const c_char, _: bool) -> *mut c_void {
    make(flow)
}

#[unsafe(export_name = "_ZN19CThostFtdcTraderApi13GetApiVersionEv")]
extern "C" fn version() -> *const c_char {
    identity().version.as_ptr()
}

/// The address of a method.
fn method(name: &str, family: &str) -> usize {
    match name {
        "Release" => release as *const () as usize,
        "Init" => init as *const () as usize,
        "GetTradingDay" => get_trading_day as *const () as usize,
        "GetFrontInfo" => get_front_info as *const () as usize,
        "RegisterFront" => register_front as *const () as usize,
        "RegisterSpi" => register_spi as *const () as usize,
        "SubscribePrivateTopic" if family == "E" => subscribe_private_topic_from as *const () as usize,
        "SubscribePrivateTopic" => subscribe_private_topic as *const () as usize,
        "SubscribePublicTopic" => subscribe_public_topic as *const () as usize,
        "ReqAuthenticate" => req_authenticate as *const () as usize,
        "ReqUserLogin" => req_user_login as *const () as usize,
        "ReqSettlementInfoConfirm" => req_settlement_info_confirm as *const () as usize,
        "ReqQryInstrument" => req_qry_instrument as *const () as usize,
        "ReqQryOrder" => req_qry_order as *const () as usize,
        "ReqQryTrade" => req_qry_trade as *const () as usize,
        "ReqQryInvestorPosition" => req_qry_investor_position as *const () as usize,
        "ReqQryTradingAccount" => req_qry_trading_account as *const () as usize,
        "ReqOrderInsert" => req_order_insert as *const () as usize,
        "ReqOrderAction" => req_order_action as *const () as usize,
        _ => not_imitated as *const () as usize,
    }
}

/// Every method that no client of ours calls.
extern "C" fn not_imitated() -> c_int {
    -1
}

#[unsafe(export_name = "_ZN18CFtdcTraderApiImpl12GetFrontInfoEP24CThostFtdcFrontInfoField")]
extern "C" fn get_front_info(_: &Api, _: *mut u8) {}

#[unsafe(export_name = "_ZN18CFtdcTraderApiImpl7ReleaseEv")]
extern "C" fn release(api: *mut Api) {
    // SAFETY: the factory made it, and the client's last call is this.
    let api = unsafe { Box::from_raw(api) };
    api.log.call("Release", json!([]));
}

#[unsafe(export_name = "_ZN18CFtdcTraderApiImpl4InitEv")]
extern "C" fn init(api: &Api) {
    api.log.call("Init", json!([]));
    let spi = locked(&api.spi).clone();
    let (begin, work) = (api.counter.clone(), api.counter.clone());
    let (begin_spi, begin_queue, queue) = (spi.clone(), api.queue.clone(), api.queue.clone());
    let worker = Worker::start(
        &api.flow,
        api.queue.clone(),
        // What is told is worked out under the lock and told outside it: a callback may ask something.
        move || {
            let told = locked(&begin).connect();
            told.tell(&begin_spi, &begin_queue);
        },
        move |job| {
            let told = match job {
                Job::Request(asked) => locked(&work).answer(asked),
                Job::Tell(tell) => locked(&work).told(tell),
            };
            told.tell(&spi, &queue);
        },
    );
    *locked(&api.worker) = Some(worker);
}

#[unsafe(export_name = "_ZN18CFtdcTraderApiImpl13GetTradingDayEv")]
extern "C" fn get_trading_day(api: &Api) -> *const c_char {
    if locked(&api.counter).is_logged_in() { c"20261123".as_ptr() } else { c"19800100".as_ptr() }
}

#[unsafe(export_name = "_ZN18CFtdcTraderApiImpl13RegisterFrontEPc")]
extern "C" fn register_front(api: &Api, front: *const c_char) {
    // SAFETY: the parameter is a text.
    let front = unsafe { CStr::from_ptr(front) }.to_string_lossy();
    api.log.call("RegisterFront", json!([front]));
    locked(&api.counter).register(&front);
}

#[unsafe(export_name = "_ZN18CFtdcTraderApiImpl11RegisterSpiEP19CThostFtdcTraderSpi")]
extern "C" fn register_spi(api: &Api, spi: *mut c_void) {
    *locked(&api.spi) = Spi::new(spi, "trader-spi", &identity().family);
}

#[unsafe(export_name = "_ZN18CFtdcTraderApiImpl21SubscribePrivateTopicE20THOST_TE_RESUME_TYPE")]
extern "C" fn subscribe_private_topic(api: &Api, resume: c_int) {
    api.log.call("SubscribePrivateTopic", json!([resume]));
}

#[unsafe(export_name = "_ZN18CFtdcTraderApiImpl21SubscribePrivateTopicE20THOST_TE_RESUME_TYPEi")]
extern "C" fn subscribe_private_topic_from(api: &Api, resume: c_int, from: c_int) {
    api.log.call("SubscribePrivateTopic", json!([resume, from]));
}

#[unsafe(export_name = "_ZN18CFtdcTraderApiImpl20SubscribePublicTopicE20THOST_TE_RESUME_TYPE")]
extern "C" fn subscribe_public_topic(api: &Api, resume: c_int) {
    api.log.call("SubscribePublicTopic", json!([resume]));
}

/// The requests: each takes its record and a number.
macro_rules! requests {
    ($($function:ident $name:literal $record:literal $symbol:literal;)*) => {$(
        #[unsafe(export_name = $symbol)]
        extern "C" fn $function(api: &Api, record: *const u8, number: c_int) -> c_int {
            request(api, $name, $record, record, number)
        }
    )*};
}

requests! {
    req_authenticate "ReqAuthenticate" "ReqAuthenticate" "_ZN18CFtdcTraderApiImpl15ReqAuthenticateEP30CThostFtdcReqAuthenticateFieldi";
    req_user_login "ReqUserLogin" "ReqUserLogin" "_ZN18CFtdcTraderApiImpl12ReqUserLoginEP27CThostFtdcReqUserLoginFieldi";
    req_settlement_info_confirm "ReqSettlementInfoConfirm" "SettlementInfoConfirm" "_ZN18CFtdcTraderApiImpl24ReqSettlementInfoConfirmEP36CThostFtdcSettlementInfoConfirmFieldi";
    req_qry_instrument "ReqQryInstrument" "QryInstrument" "_ZN18CFtdcTraderApiImpl16ReqQryInstrumentEP28CThostFtdcQryInstrumentFieldi";
    req_qry_order "ReqQryOrder" "QryOrder" "_ZN18CFtdcTraderApiImpl11ReqQryOrderEP23CThostFtdcQryOrderFieldi";
    req_qry_trade "ReqQryTrade" "QryTrade" "_ZN18CFtdcTraderApiImpl11ReqQryTradeEP23CThostFtdcQryTradeFieldi";
    req_qry_investor_position "ReqQryInvestorPosition" "QryInvestorPosition" "_ZN18CFtdcTraderApiImpl22ReqQryInvestorPositionEP34CThostFtdcQryInvestorPositionFieldi";
    req_qry_trading_account "ReqQryTradingAccount" "QryTradingAccount" "_ZN18CFtdcTraderApiImpl20ReqQryTradingAccountEP32CThostFtdcQryTradingAccountFieldi";
    req_order_insert "ReqOrderInsert" "InputOrder" "_ZN18CFtdcTraderApiImpl14ReqOrderInsertEP26CThostFtdcInputOrderFieldi";
    req_order_action "ReqOrderAction" "InputOrderAction" "_ZN18CFtdcTraderApiImpl14ReqOrderActionEP32CThostFtdcInputOrderActionFieldi";
}

fn request(api: &Api, name: &'static str, of: &str, record: *const u8, number: c_int) -> c_int {
    let mut asked = Record::zeroed(of, &identity().family);
    // SAFETY: the method's parameter is such a record of this version.
    let bytes = unsafe { std::slice::from_raw_parts(record, asked.bytes.len()) };
    asked.bytes.copy_from_slice(bytes);
    let (returned, rule) = locked(&api.counter).take(name, &asked);
    api.log.request(name, &asked, number, returned);
    if returned == 0 {
        api.queue.push(Asked { name, record: asked, number, rule });
    }
    returned
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
