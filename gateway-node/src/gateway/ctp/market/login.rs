//! When to log in for market data: once for each connection, and never while there is none. CTP takes requests before it
//! is connected, keeps them, and sends them all at once.

use std::time::Duration;

use ctp::records::Failure;

use super::super::session::is_passing;
use super::link::Standing;

/// A login without an answer for so long is sent again; each time twice as long, up to [`LONGEST`]. CTP may well have it.
const UNANSWERED: Duration = Duration::from_secs(30);
/// The longest time between two logins of one connection.
const LONGEST: Duration = Duration::from_secs(480);
/// A login that failed for a while is tried again after this.
const RETRY: Duration = Duration::from_secs(10);

/// CTP's refusal of a login on a connection that is logged in, or whose login is under way. Numbers from CTP's error.xml.
const DUPLICATE_LOGIN: i32 = 5;
/// CTP's refusal of anything on a connection that is not logged in.
const NOT_LOGGED_IN: i32 = 6;

/// The login on one object of the library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Login {
    /// The connection that the rest is about.
    connection: u64,
    is_up: bool,
    state: State,
    /// Logins of this connection that came to nothing.
    in_vain: u32,
    /// Logins in a row that CTP did not take.
    not_taken: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not logged in. Not before this.
    Out(Duration),
    /// The login is under way. Sent again then.
    Asked(Duration),
    /// Refused for good: another one would lock the account.
    Refused,
    /// Logged in.
    In,
}

/// What an answer to a login comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Logged in now.
    In,
    /// It changes nothing: logged in already, or the answer is of a connection that is gone.
    Nothing,
    /// Refused, for a while or for good.
    Refused,
}

impl Login {
    pub(super) fn new() -> Login {
        Login { connection: 0, is_up: false, state: State::Out(Duration::ZERO), in_vain: 0, not_taken: 0 }
    }

    /// The login on the next object: what was refused for good stays refused.
    pub(super) fn anew(&self) -> Login {
        let state = if self.is_refused() { State::Refused } else { State::Out(Duration::ZERO) };
        Login { state, ..Login::new() }
    }

    pub(super) fn is_in(&self) -> bool {
        self.state == State::In
    }

    pub(super) fn is_refused(&self) -> bool {
        self.state == State::Refused
    }

    /// How many logins of this connection nobody answered, or CTP did not take, the last one among them.
    pub(super) fn in_vain(&self) -> u32 {
        if self.is_asked() { self.in_vain } else { self.not_taken }
    }

    /// A login that nobody answered: the next one is its repetition.
    pub(super) fn is_asked(&self) -> bool {
        matches!(self.state, State::Asked(_))
    }

    /// How the connection stands. Whoever is connected anew is not logged in.
    pub(super) fn look(&mut self, standing: Standing) {
        self.is_up = standing.is_up;
        if standing.is_up && standing.connection == self.connection {
            return;
        }
        if matches!(self.state, State::Asked(_) | State::In) {
            self.state = State::Out(Duration::ZERO);
        }
        if standing.connection != self.connection {
            self.connection = standing.connection;
            (self.in_vain, self.not_taken) = (0, 0);
        }
    }

    /// When a login is to be sent; never while there is no connection.
    pub(super) fn due(&self, standing: Standing) -> Option<Duration> {
        if !standing.is_up {
            return None;
        }
        match self.state {
            _ if standing.connection != self.connection => Some(Duration::ZERO),
            State::Out(due) | State::Asked(due) => Some(due),
            State::Refused | State::In => None,
        }
    }

    /// One was sent; whether CTP took it.
    pub(super) fn sent(&mut self, now: Duration, is_taken: bool) {
        self.state = if is_taken { State::Asked(now + self.wait(UNANSWERED)) } else { State::Out(now + RETRY) };
        self.in_vain += u32::from(is_taken);
        self.not_taken = if is_taken { 0 } else { self.not_taken + 1 };
    }

    /// The answer to one that was sent on this connection.
    pub(super) fn answered(&mut self, now: Duration, connection: u64, failure: Option<&Failure>) -> Answer {
        if !self.is_up || connection != self.connection || self.is_in() {
            return Answer::Nothing;
        }
        match failure {
            None => {
                self.state = State::In;
                self.in_vain = 0;
                Answer::In
            }
            // What it duplicates holds, whether or not its answer was heard. If it does not, what is asked for says so.
            Some(failure) if failure.code == DUPLICATE_LOGIN => {
                self.state = State::In;
                Answer::In
            }
            Some(failure) => {
                // The front answers.
                self.in_vain = 0;
                self.state = if is_passing(failure) { State::Out(now + RETRY) } else { State::Refused };
                Answer::Refused
            }
        }
    }

    /// Something that was asked for on this connection failed. Whether that ends the login.
    pub(super) fn failed(&mut self, now: Duration, connection: u64, failure: &Failure) -> bool {
        let ends = failure.code == NOT_LOGGED_IN && connection == self.connection && self.is_in();
        if ends {
            self.state = State::Out(now + self.wait(RETRY));
            self.in_vain += 1;
        }
        ends
    }

    /// Twice as long for each login in vain.
    fn wait(&self, first: Duration) -> Duration {
        first.saturating_mul(1 << self.in_vain.min(10)).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn up(connection: u64) -> Standing {
        Standing { connection, is_up: true, ..Standing::default() }
    }

    fn down(connection: u64) -> Standing {
        Standing { is_up: false, ..up(connection) }
    }

    fn failure(code: i32) -> Failure {
        Failure { code, message: "no".to_owned() }
    }

    /// Logged in on the first connection, at second 0.
    fn logged_in() -> Login {
        let mut login = Login::new();
        login.look(up(1));
        login.sent(secs(0), true);
        assert_eq!(login.answered(secs(0), 1, None), Answer::In);
        login
    }

    /// When logins go out while nobody answers.
    fn logins(login: &mut Login, standing: Standing, until: Duration) -> Vec<u64> {
        let mut sent = Vec::new();
        while let Some(due) = login.due(standing).filter(|due| *due <= until) {
            sent.push(due.as_secs());
            login.look(standing);
            login.sent(due, true);
        }
        sent
    }

    #[test]
    fn nobody_logs_in_without_a_connection() {
        let mut login = Login::new();
        assert_eq!(logins(&mut login, down(0), secs(100_000)), Vec::<u64>::new());
        assert_eq!(logins(&mut login, up(1), secs(29)), [0], "once it is there");
        login.look(down(1));
        assert_eq!(logins(&mut login, down(1), secs(100_000)), Vec::<u64>::new());
        let mut login = logged_in();
        login.look(down(1));
        assert!(!login.is_in());
        assert_eq!(login.due(down(1)), None);
    }

    #[test]
    fn a_login_without_an_answer_is_sent_again_ever_more_rarely() {
        let mut login = Login::new();
        assert_eq!(logins(&mut login, up(1), secs(2_000)), [0, 30, 90, 210, 450, 930, 1410, 1890]);
        // A new connection has heard of none of them.
        assert_eq!(logins(&mut login, up(2), secs(60)), [0, 30]);
    }

    #[test]
    fn a_late_answer_counts_and_the_refusal_of_the_second_login_undoes_nothing() {
        let mut login = Login::new();
        assert_eq!(logins(&mut login, up(1), secs(30)), [0, 30]);
        assert_eq!(login.answered(secs(31), 1, None), Answer::In);
        for code in [5, 3, 7] {
            assert_eq!(login.answered(secs(32), 1, Some(&failure(code))), Answer::Nothing);
        }
        assert!(login.is_in());
        assert_eq!(login.due(up(1)), None);
    }

    #[test]
    fn a_duplicate_login_is_a_login() {
        // The first answer was lost, or the code behind it panicked.
        let mut login = Login::new();
        assert_eq!(logins(&mut login, up(1), secs(30)), [0, 30]);
        assert_eq!(login.answered(secs(31), 1, Some(&failure(5))), Answer::In);
        assert_eq!(login.due(up(1)), None);
    }

    #[test]
    fn a_login_that_does_not_hold_is_sent_again_ever_more_rarely() {
        let mut login = Login::new();
        let mut at = secs(0);
        let mut waits = Vec::new();
        for _ in 0..4 {
            login.look(up(1));
            login.sent(at, true);
            assert_eq!(login.answered(at, 1, Some(&failure(5))), Answer::In);
            assert!(!login.failed(at, 1, &failure(7)), "another failure says nothing of the login");
            assert!(!login.failed(at, 0, &failure(6)), "nor does one of another connection");
            assert!(login.failed(at, 1, &failure(6)));
            assert!(!login.failed(at, 1, &failure(6)), "once");
            let due = login.due(up(1)).expect("again");
            waits.push((due - at).as_secs());
            at = due;
        }
        assert!(waits.windows(2).all(|pair| pair[0] < pair[1] || pair[1] == LONGEST.as_secs()), "{waits:?}");
    }

    #[test]
    fn a_connection_that_was_lost_and_made_again_unseen_is_not_logged_in() {
        let mut login = logged_in();
        assert_eq!(login.due(up(2)), Some(Duration::ZERO));
        login.look(up(2));
        assert!(!login.is_in());
        login.sent(secs(1), true);
        assert_eq!(login.answered(secs(1), 1, None), Answer::Nothing, "of the connection before");
        assert!(!login.is_in());
        login.look(down(2));
        assert_eq!(login.answered(secs(1), 2, None), Answer::Nothing, "nor is the next one there any more");
        login.look(up(3));
        login.sent(secs(2), true);
        assert_eq!(login.answered(secs(2), 3, None), Answer::In);
    }

    #[test]
    fn a_refusal_for_a_while_is_tried_again_and_one_for_good_is_not() {
        let mut login = Login::new();
        login.look(up(1));
        login.sent(secs(0), true);
        assert_eq!(login.answered(secs(1), 1, Some(&failure(7))), Answer::Refused);
        assert_eq!(login.due(up(1)), Some(secs(11)));
        // A new connection does not make it sooner than that.
        login.look(up(2));
        assert_eq!(login.due(up(2)), Some(secs(11)));
        login.sent(secs(11), true);
        assert_eq!(login.answered(secs(12), 2, Some(&failure(3))), Answer::Refused);
        login.look(up(3));
        assert!(login.is_refused());
        assert_eq!(login.due(up(3)), None);
    }

    #[test]
    fn a_front_that_refuses_for_a_while_answers() {
        let mut login = Login::new();
        login.look(up(1));
        for second in [0, 10, 20, 30, 40] {
            login.sent(secs(second), true);
            assert_eq!(login.answered(secs(second), 1, Some(&failure(7))), Answer::Refused);
        }
        login.sent(secs(50), true);
        assert_eq!((login.in_vain(), login.due(up(1))), (1, Some(secs(50) + UNANSWERED)));
    }

    #[test]
    fn what_ctp_did_not_take_is_sent_a_little_later() {
        let mut login = Login::new();
        login.look(up(1));
        login.sent(secs(0), false);
        assert_eq!(login.due(up(1)), Some(secs(10)));
        assert!(!login.is_asked());
        login.sent(secs(10), false);
        assert_eq!(login.in_vain(), 2);
        login.look(up(2));
        assert_eq!(login.in_vain(), 0, "of the connection before");
    }
}
