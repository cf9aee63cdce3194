//! The login at the trader front as a state machine: states, what moves them, what follows. No I/O and no clock.
//!
//! connected → authenticated (where there is an auth code) → logged in → settlement confirmed → instruments known. The
//! library connects again by itself; whether somebody logs in again is the engine's decision, and comes as `Connect`.

use std::time::Duration;

use ctp::records::{Failure, Login};
use ctp::trading::disconnect_in_words;

/// A request without an answer for this long has failed: CTP takes requests that it never delivers.
const PATIENCE: Duration = Duration::from_secs(10);
/// As long as a front may take to answer at all; once none of them did, twice as long, up to [`LONGEST_FRONT_PATIENCE`],
/// so that one that is slow is reached.
const FRONT_PATIENCE: Duration = Duration::from_secs(15);
/// See [`FRONT_PATIENCE`].
const LONGEST_FRONT_PATIENCE: Duration = Duration::from_secs(120);

/// CTP's refusals of a login that end by themselves: data not synchronised yet (1), another login of the user lasts
/// (5, 60), not initialised yet (7), front not active (8), query not ready (90). Every other one stays, and trying again
/// would only lock the account. Numbers from CTP's error.xml.
const PASSING: [i32; 6] = [1, 5, 7, 8, 60, 90];

/// How far the login has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nobody wants a session.
    Idle,
    /// The front has not answered.
    Front,
    /// `ReqAuthenticate` is under way.
    Authentication,
    /// `ReqUserLogin` is under way.
    Login,
    /// `ReqSettlementInfoConfirm` is under way.
    Settlement,
    /// `ReqQryInstrument` is under way, or waits for its turn.
    Instruments,
    /// Logged in, and the instruments are known.
    Done,
}

impl Step {
    /// What is waited for, for people.
    const fn waits_for(self) -> &'static str {
        match self {
            Step::Front => "an answer of the trader front",
            Step::Authentication => "the answer to ReqAuthenticate",
            Step::Login => "the answer to ReqUserLogin",
            Step::Settlement => "the answer to ReqSettlementInfoConfirm",
            Step::Instruments => "the list of instruments",
            Step::Idle | Step::Done => "nothing",
        }
    }
}

/// What moves the machine.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Somebody wants a session.
    Connect,
    /// Nobody wants one any more.
    Disconnect,
    /// `OnFrontConnected`.
    FrontConnected,
    /// `OnFrontDisconnected`.
    FrontDisconnected {
        /// CTP's number.
        reason: i32,
        /// Whether the library may hold a request that has not left it: what it sends after the next login would be
        /// of that session.
        has_unsent: bool,
    },
    /// The answer to `ReqAuthenticate`.
    Authenticated(Option<Failure>),
    /// The answer to `ReqUserLogin`.
    LoggedIn(Result<Login, Failure>),
    /// The answer to `ReqSettlementInfoConfirm`.
    SettlementConfirmed(Option<Failure>),
    /// The last row of the instruments, or why there are none.
    Instruments(Result<(), String>),
    /// A request of the login, or a query, was not taken: CTP's return code.
    NotTaken(i32),
    /// The counter says that nobody is logged in.
    LoggedOut,
    /// Nothing goes on in this session: why, for people.
    Stuck(String),
    /// The counter behind this front says nothing any more: why, for people.
    Mute(String),
    /// Time has passed.
    Time,
}

/// What follows.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send `ReqAuthenticate`.
    Authenticate,
    /// Send `ReqUserLogin`.
    Login,
    /// End the session that there is, release the library, and let it connect anew.
    Renew,
    /// Ask for the instruments, when the flow control lets it.
    QueryInstruments,
    /// The session stands: confirm the settlement (`ReqSettlementInfoConfirm`). The instruments are not known yet.
    Begun(Login),
    /// The session is complete.
    Ready,
    /// The session is over, or there is none: why, for people.
    Ended(String),
    /// The same, because the front or the counter behind it says nothing: the next connection is to try another front.
    Silent(String),
    /// The counter refuses this user: why, for people.
    Refused(String),
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    step: Step,
    /// The front is connected.
    has_front: bool,
    has_auth_code: bool,
    /// Something of the last login may still be on its way: the next one begins with a new object of the library.
    is_stale: bool,
    fronts: u32,
    /// How often in a row a front did not answer at all.
    away: u32,
    /// When what is waited for is late.
    due: Option<Duration>,
}

impl Session {
    /// A machine that nobody has told to connect; without an auth code nobody authenticates. There are so many fronts.
    #[must_use]
    pub fn new(has_auth_code: bool, fronts: usize) -> Session {
        let fronts = u32::try_from(fronts).unwrap_or(u32::MAX).max(1);
        Session { fronts, step: Step::Idle, has_front: false, has_auth_code, is_stale: false, away: 0, due: None }
    }

    /// How far it is.
    #[must_use]
    pub fn step(&self) -> Step {
        self.step
    }

    /// When [`Input::Time`] has something to do.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        self.due
    }

    /// Moves the machine; `now` never jumps.
    #[must_use]
    pub fn on(&mut self, now: Duration, input: Input) -> Option<Output> {
        match (self.step, input) {
            // A login that is under way goes on: its own deadlines end it.
            (Step::Idle, Input::Connect) => self.connect(now),
            (Step::Done, Input::Connect) => Some(self.renew(now)),
            (_, Input::Connect) => None,
            (_, Input::Disconnect) => {
                // The library is released: the next one connects anew.
                self.away = 0;
                self.has_front = false;
                self.is_stale = false;
                self.idle();
                None
            }
            (step, Input::FrontConnected) => {
                let was_connected = std::mem::replace(&mut self.has_front, true);
                self.away = 0;
                match step {
                    Step::Front => Some(self.begin(now)),
                    // It was away, and what the library said of that was lost: the session is over.
                    _ if was_connected => self
                        .end_if_wanted(step, || "the trader front connected anew in the midst of a session".to_owned()),
                    _ => None,
                }
            }
            (step, Input::FrontDisconnected { reason, has_unsent }) => {
                let words = disconnect_in_words(reason);
                let was_stale = self.is_stale;
                let ended =
                    self.end_if_wanted(step, || format!("the trader front disconnected: {words} (0x{reason:04x})"));
                // The library connects again by itself, unless it may hold something of a session that has just ended, or
                // had ended before this was heard.
                let had_session = step != Step::Idle || was_stale;
                (self.has_front, self.is_stale) = (false, has_unsent && had_session);
                ended
            }
            (Step::Authentication, Input::Authenticated(None)) => {
                self.wait(now, Step::Login, PATIENCE);
                Some(Output::Login)
            }
            (Step::Authentication, Input::Authenticated(Some(failure))) => {
                Some(self.refused("authentication", &failure))
            }
            (Step::Login, Input::LoggedIn(Ok(login))) => {
                self.wait(now, Step::Settlement, PATIENCE);
                Some(Output::Begun(login))
            }
            (Step::Login, Input::LoggedIn(Err(failure))) => Some(self.refused("login", &failure)),
            (Step::Settlement, Input::SettlementConfirmed(failure)) => Some(match failure {
                None => {
                    // The query has a deadline of its own, and says how it ended.
                    self.step = Step::Instruments;
                    self.due = None;
                    Output::QueryInstruments
                }
                Some(failure) => self.ended(format!("the settlement could not be confirmed: {failure}")),
            }),
            (Step::Instruments, Input::Instruments(Ok(()))) => {
                self.step = Step::Done;
                self.due = None;
                Some(Output::Ready)
            }
            (Step::Instruments, Input::Instruments(Err(why))) => {
                Some(self.ended(format!("the list of instruments could not be had: {why}")))
            }
            (Step::Authentication | Step::Login | Step::Settlement, Input::NotTaken(code)) => {
                let waited = self.step.waits_for();
                Some(self.ended(format!("CTP did not take the request ({code}) while it was to bring {waited}")))
            }
            (Step::Done, Input::NotTaken(code)) => {
                Some(self.ended(format!("CTP took no query ({code}): the connection is lost")))
            }
            (Step::Settlement | Step::Instruments | Step::Done, Input::LoggedOut) => {
                Some(self.ended("the counter says that nobody is logged in".to_owned()))
            }
            (Step::Settlement | Step::Instruments | Step::Done, Input::Stuck(why)) => Some(self.ended(why)),
            (Step::Settlement | Step::Instruments | Step::Done, Input::Mute(why)) => Some(self.silent(why)),
            // A library that a front has taken and tells nothing stays with it for ever: a new object tries another one.
            (step, Input::Time) if step != Step::Idle && self.due.is_some_and(|due| due <= now) => {
                self.away += u32::from(step == Step::Front);
                Some(self.silent(format!("waited in vain for {}", step.waits_for())))
            }
            // Answers that nobody waits for: late ones, or of a session that is over.
            _ => None,
        }
    }

    fn connect(&mut self, now: Duration) -> Option<Output> {
        if self.is_stale {
            return Some(self.renew(now));
        }
        if self.has_front {
            return Some(self.begin(now));
        }
        self.wait_for_front(now);
        None
    }

    fn renew(&mut self, now: Duration) -> Output {
        self.has_front = false;
        self.is_stale = false;
        self.wait_for_front(now);
        Output::Renew
    }

    fn begin(&mut self, now: Duration) -> Output {
        if self.has_auth_code {
            self.wait(now, Step::Authentication, PATIENCE);
            Output::Authenticate
        } else {
            self.wait(now, Step::Login, PATIENCE);
            Output::Login
        }
    }

    fn wait_for_front(&mut self, now: Duration) {
        let patience =
            FRONT_PATIENCE.saturating_mul(1 << (self.away / self.fronts).min(10)).min(LONGEST_FRONT_PATIENCE);
        self.wait(now, Step::Front, patience);
    }

    fn wait(&mut self, now: Duration, step: Step, patience: Duration) {
        self.step = step;
        self.due = Some(now + patience);
    }

    fn idle(&mut self) {
        self.step = Step::Idle;
        self.due = None;
    }

    /// A login that did not come to its end may come to it later: nothing of it may reach the next one, which begins with a
    /// new object of the library.
    fn ended(&mut self, why: String) -> Output {
        self.idle();
        self.is_stale = true;
        Output::Ended(why)
    }

    fn silent(&mut self, why: String) -> Output {
        self.ended(why.clone());
        Output::Silent(why)
    }

    fn end_if_wanted(&mut self, step: Step, why: impl FnOnce() -> String) -> Option<Output> {
        (step != Step::Idle).then(|| self.ended(why()))
    }

    fn refused(&mut self, what: &str, failure: &Failure) -> Output {
        let why = format!("the counter refused the {what}: {failure}");
        if is_passing(failure) {
            return self.ended(why);
        }
        self.idle();
        Output::Refused(why)
    }
}

/// Whether a refused login may be taken a little later.
#[must_use]
pub fn is_passing(failure: &Failure) -> bool {
    PASSING.contains(&failure.code)
}

#[cfg(test)]
mod tests;
