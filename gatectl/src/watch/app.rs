//! What the live view knows: updates and keys go in, panes of rows come out. No terminal, no clock, no NATS.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use chrono::TimeDelta;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use protocol::{Contract, Event, InstrumentId, Log, Name, OmsState, Order, Status, Tick, Timestamp, Trade};

use crate::format::{Decimals, average, count, lots, money, price, side, time_of_day};
use crate::rows;
use crate::table::{Cell, Column, Tone, number, text};

/// Three missed heartbeats: the gateway is gone until the next one.
const LOST_AFTER: TimeDelta = TimeDelta::seconds(3);
/// Log lines kept; the oldest go first.
const LOG_LINES: usize = 500;
/// Trades that can be scrolled through, newest first.
const TRADES_SHOWN: usize = 500;

/// Something new.
#[derive(Debug)]
pub enum Update {
    /// A gateway's heartbeat.
    Status(Status),
    /// A gateway's orders, trades, positions and accounts as they are now.
    State { gateway: Name, state: Arc<OmsState> },
    /// An instrument's newest tick.
    Tick(Arc<Event<Tick>>),
    /// So many ticks were lost on the way here.
    TicksMissed(u64),
    /// An instrument's price step.
    Contract(Box<Contract>),
    /// A log line of a gateway, or of this program.
    Log(Log),
    /// The connection to NATS is lost (`false`) or there again (`true`).
    Connected(bool),
}

/// A part of the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pane {
    Gateways,
    Ticks,
    Orders,
    Trades,
    Positions,
    Accounts,
    Log,
}

impl Pane {
    /// All of them, in the order that Tab visits.
    pub const ALL: [Pane; 7] =
        [Pane::Gateways, Pane::Ticks, Pane::Orders, Pane::Trades, Pane::Positions, Pane::Accounts, Pane::Log];

    const fn index(self) -> usize {
        self as usize
    }
}

/// Whether the view goes on after a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    Continue,
    Quit,
}

/// The view-model.
#[derive(Debug)]
pub struct App {
    live: Model,
    /// What `p` froze, and when.
    frozen: Option<(Model, Timestamp)>,
    selected: Option<Name>,
    focus: Pane,
    zoomed: bool,
    help: bool,
    scroll: [usize; Pane::ALL.len()],
    visible: [usize; Pane::ALL.len()],
}

/// A pane's heading and rows.
#[derive(Debug)]
pub struct PaneRows {
    /// Name of the pane and what counts.
    pub title: String,
    /// Its columns, most important first: those that do not fit are left out from the right.
    pub columns: &'static [Column],
    /// The rows in view.
    pub rows: Vec<Vec<Cell>>,
    /// How many rows there are in all.
    pub total: usize,
    /// What to say if there are none.
    pub empty: &'static str,
}

impl App {
    /// A view that knows nothing yet, of one gateway or of all.
    #[must_use]
    pub fn new(server: String, selected: Option<Name>, now: Timestamp) -> Self {
        App {
            live: Model {
                server,
                started: now,
                lost: None,
                gateways: BTreeMap::new(),
                states: BTreeMap::new(),
                ticks: BTreeMap::new(),
                ticks_missed: 0,
                logs: VecDeque::new(),
                decimals: Decimals::default(),
            },
            frozen: None,
            selected,
            focus: Pane::Ticks,
            zoomed: false,
            help: false,
            scroll: Default::default(),
            visible: [1; Pane::ALL.len()],
        }
    }

    /// Takes in something new. `now` is this machine's clock.
    pub fn apply(&mut self, update: Update, now: Timestamp) {
        self.live.apply(update, now);
    }

    /// Takes in a key.
    pub fn key(&mut self, key: KeyEvent, now: Timestamp) -> Flow {
        let page = self.visible[self.focus.index()].max(1);
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Flow::Quit,
            // Escape leaves what is open before it leaves the view.
            KeyCode::Esc if self.help => self.help = false,
            KeyCode::Esc if self.zoomed => self.zoomed = false,
            KeyCode::Char('q') | KeyCode::Esc => return Flow::Quit,
            KeyCode::Char('?' | 'h') => self.help = !self.help,
            KeyCode::Char('z') | KeyCode::Enter => self.zoomed = !self.zoomed,
            KeyCode::Char('g') => self.next_gateway(),
            KeyCode::Char('p' | ' ') => {
                self.frozen = match self.frozen.take() {
                    None => Some((self.live.clone(), now)),
                    Some(_) => None,
                };
            }
            KeyCode::Tab | KeyCode::Right => self.move_focus(1),
            KeyCode::BackTab | KeyCode::Left => self.move_focus(Pane::ALL.len() - 1),
            KeyCode::Down | KeyCode::Char('j') => self.move_rows(1, true),
            KeyCode::Up | KeyCode::Char('k') => self.move_rows(1, false),
            KeyCode::PageDown => self.move_rows(page, true),
            KeyCode::PageUp => self.move_rows(page, false),
            KeyCode::Home => self.scroll[self.focus.index()] = 0,
            KeyCode::End => self.move_rows(usize::MAX, true),
            _ => {}
        }
        Flow::Continue
    }

    fn move_focus(&mut self, steps: usize) {
        self.focus = Pane::ALL[(self.focus.index() + steps) % Pane::ALL.len()];
    }

    fn move_rows(&mut self, rows: usize, down: bool) {
        let (index, total) = (self.focus.index(), self.total(self.focus));
        let last = total.saturating_sub(self.visible[index]);
        let from = self.scroll[index].min(last);
        self.scroll[index] = if down { from.saturating_add(rows).min(last) } else { from.saturating_sub(rows) };
    }

    /// All gateways, then each by itself, then all again.
    fn next_gateway(&mut self) {
        let mut names = self.live.gateways.keys();
        self.selected = match &self.selected {
            None => names.next().cloned(),
            Some(selected) => names.find(|name| *name > selected).cloned(),
        };
        self.scroll = Default::default();
    }

    /// Tells how many rows of each pane the last drawing had room for, so that scrolling stops at the end.
    pub fn drawn(&mut self, visible: [usize; Pane::ALL.len()]) {
        self.visible = visible;
    }

    /// The pane that the keys move.
    #[must_use]
    pub fn focus(&self) -> Pane {
        self.focus
    }

    /// Whether the focused pane fills the screen.
    #[must_use]
    pub fn zoomed(&self) -> bool {
        self.zoomed
    }

    /// Whether the keys are explained.
    #[must_use]
    pub fn help(&self) -> bool {
        self.help
    }

    /// Since when the view stands still.
    #[must_use]
    pub fn paused_since(&self) -> Option<Timestamp> {
        self.frozen.as_ref().map(|(_, at)| *at)
    }

    /// Address of the server.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.live.server
    }

    /// The gateway that is shown; all if `None`.
    #[must_use]
    pub fn selected(&self) -> Option<&str> {
        self.selected.as_deref()
    }

    /// How many gateways have been heard of, whatever is selected.
    #[must_use]
    pub fn gateway_count(&self) -> usize {
        self.live.gateways.len()
    }

    /// What somebody should act on now, paused or not: a lost connection, a lost gateway, a halt.
    #[must_use]
    pub fn alarm(&self, now: Timestamp) -> Option<String> {
        if let Some(since) = self.live.lost {
            let age = (now - since).num_seconds().max(0);
            return Some(format!("CONNECTION LOST since {} ({age} s), trying again", clock(since)));
        }
        let lost: Vec<_> = self
            .live
            .gateways
            .iter()
            .filter_map(|(name, gateway)| Some(format!("{name} LOST since {}", clock(gateway.lost_since(now)?))))
            .collect();
        if !lost.is_empty() {
            return Some(format!("GATEWAY {}", lost.join(", ")));
        }
        let halted: Vec<_> = self
            .live
            .gateways
            .iter()
            .filter_map(|(name, gateway)| Some(format!("{name}: {}", rows::halt(gateway.status.halts.first()?))))
            .collect();
        (!halted.is_empty()).then(|| format!("HALTED {}", halted.join(", ")))
    }

    /// What a pane with room for `room` rows shows.
    #[must_use]
    pub fn pane(&self, pane: Pane, room: usize, now: Timestamp) -> PaneRows {
        let (model, now) = self.shown(now);
        let total = self.total(pane);
        let skip = self.scroll[pane.index()].min(total.saturating_sub(room));
        let mut rows = model.rows(pane, self.selected.as_deref(), skip, room, now);
        rows.total = total;
        rows
    }

    fn shown(&self, now: Timestamp) -> (&Model, Timestamp) {
        self.frozen.as_ref().map_or((&self.live, now), |(model, at)| (model, *at))
    }

    fn total(&self, pane: Pane) -> usize {
        let model = self.frozen.as_ref().map_or(&self.live, |(model, _)| model);
        model.total(pane, self.selected.as_deref())
    }
}

#[derive(Debug, Clone)]
struct Model {
    server: String,
    started: Timestamp,
    /// Since when the connection is lost.
    lost: Option<Timestamp>,
    gateways: BTreeMap<Name, GatewayView>,
    states: BTreeMap<Name, Arc<OmsState>>,
    ticks: BTreeMap<(InstrumentId, Name), TickView>,
    ticks_missed: u64,
    logs: VecDeque<Log>,
    decimals: Decimals,
}

#[derive(Debug, Clone)]
struct GatewayView {
    status: Status,
    /// This machine's clock at the last heartbeat.
    heard: Timestamp,
    ticks_per_second: f64,
    /// When the connection was lost its age says nothing about the gateway.
    blind: bool,
}

impl GatewayView {
    fn lost_since(&self, now: Timestamp) -> Option<Timestamp> {
        (!self.blind && now - self.heard > LOST_AFTER).then_some(self.heard)
    }
}

#[derive(Debug, Clone)]
struct TickView {
    event: Arc<Event<Tick>>,
    /// Which way the last price moved when it last moved.
    moved: Tone,
}

impl Model {
    fn apply(&mut self, update: Update, now: Timestamp) {
        match update {
            Update::Status(status) => self.apply_status(status, now),
            Update::State { gateway, state } => {
                self.states.insert(gateway, state);
            }
            Update::Tick(event) => self.apply_tick(event),
            Update::TicksMissed(missed) => self.ticks_missed = self.ticks_missed.saturating_add(missed),
            Update::Contract(contract) => self.decimals.learn(&contract),
            Update::Log(log) => {
                if self.logs.len() == LOG_LINES {
                    self.logs.pop_back();
                }
                self.logs.push_front(log);
            }
            Update::Connected(true) => {
                self.lost = None;
                // Each gateway has its three heartbeats from here before it counts as lost.
                for gateway in self.gateways.values_mut().filter(|gateway| gateway.blind) {
                    (gateway.blind, gateway.heard) = (false, now);
                }
            }
            Update::Connected(false) => {
                self.lost.get_or_insert(now);
                for gateway in self.gateways.values_mut().filter(|gateway| gateway.lost_since(now).is_none()) {
                    gateway.blind = true;
                }
            }
        }
    }

    fn apply_status(&mut self, status: Status, now: Timestamp) {
        let ticks_per_second = match self.gateways.get(&status.gateway_name) {
            Some(last) if last.status.epoch == status.epoch => {
                let seconds = (status.time - last.status.time).as_seconds_f64();
                let ticks = status.ticks.saturating_sub(last.status.ticks);
                // Two heartbeats at once (after a stall) say nothing about the rate.
                if seconds >= 0.2 { ticks as f64 / seconds } else { last.ticks_per_second }
            }
            _ => 0.0,
        };
        let view = GatewayView { heard: now, ticks_per_second, blind: false, status };
        self.gateways.insert(view.status.gateway_name.clone(), view);
    }

    fn apply_tick(&mut self, event: Arc<Event<Tick>>) {
        let key = (event.data.instrument(), event.gateway.clone());
        let before = self.ticks.get(&key);
        let moved = match (before.and_then(|b| b.event.data.last_price), event.data.last_price) {
            (Some(old), Some(new)) if new != old => Tone::of_sign(new - old),
            _ => before.map_or(Tone::Plain, |b| b.moved),
        };
        self.ticks.insert(key, TickView { event, moved });
    }

    fn states<'a>(&'a self, selected: Option<&'a str>) -> impl Iterator<Item = &'a OmsState> {
        self.states.iter().filter(move |(name, _)| wanted(selected, name)).map(|(_, state)| state.as_ref())
    }

    fn total(&self, pane: Pane, selected: Option<&str>) -> usize {
        match pane {
            Pane::Gateways => self.gateways.keys().filter(|name| wanted(selected, name)).count(),
            Pane::Ticks => self.ticks.keys().filter(|(_, name)| wanted(selected, name)).count(),
            Pane::Orders => self.states(selected).map(|state| state.active_orders().count()).sum(),
            Pane::Trades => self.states(selected).map(|state| state.trades().len()).sum::<usize>().min(TRADES_SHOWN),
            Pane::Positions => self.positions(selected).count(),
            Pane::Accounts => self.states(selected).map(|state| state.accounts().len()).sum(),
            Pane::Log => self.logs.iter().filter(|log| log_wanted(selected, log)).count(),
        }
    }

    fn positions<'a>(&'a self, selected: Option<&'a str>) -> impl Iterator<Item = &'a protocol::Position> {
        self.states(selected)
            .flat_map(|state| state.positions().values())
            .filter(|position| position.volume != 0.0 || position.frozen != 0.0)
    }

    fn rows(&self, pane: Pane, selected: Option<&str>, skip: usize, room: usize, now: Timestamp) -> PaneRows {
        let (title, columns, rows, empty): (String, _, Vec<Vec<Cell>>, _) = match pane {
            Pane::Gateways => {
                let gateways = self.gateways.iter().filter(|(name, _)| wanted(selected, name));
                let rows = gateways.skip(skip).take(room).map(|(_, g)| gateway_row(g, now)).collect();
                // A heartbeat comes every second: only silence beyond that means something.
                let waiting = now - self.started < LOST_AFTER;
                let empty = if waiting { "listening for gateways" } else { "no gateway is running: waiting for one" };
                ("Gateways".into(), GATEWAYS, rows, empty)
            }
            Pane::Ticks => {
                let ticks = self.ticks.iter().filter(|((_, name), _)| wanted(selected, name));
                let rows = ticks.skip(skip).take(room).map(|(_, t)| self.tick_row(t)).collect();
                let title = match self.ticks_missed {
                    0 => "Ticks".into(),
                    missed => format!("Ticks ({} lost)", count(missed)),
                };
                (title, TICKS, rows, "no ticks yet: gatectl watch --subscribe SYMBOL.EXCHANGE asks for some")
            }
            Pane::Orders => {
                let mut orders: Vec<_> = self.states(selected).flat_map(OmsState::active_orders).collect();
                orders.sort_by(|a, b| newest_first(order_age(a), order_age(b)));
                let rows = orders.into_iter().skip(skip).take(room).map(|order| self.order_row(order)).collect();
                ("Working orders".into(), ORDERS, rows, "none")
            }
            Pane::Trades => {
                let trades = self.newest_trades(selected);
                let rows = trades.into_iter().skip(skip).take(room).map(|trade| self.trade_row(trade)).collect();
                ("Trades".into(), TRADES, rows, "none")
            }
            Pane::Positions => {
                let mut held: Vec<_> = self.positions(selected).collect();
                held.sort_by_key(|p| (p.instrument(), p.direction, p.gateway_name.clone()));
                let pnl: f64 = held.iter().map(|position| position.pnl).sum();
                let title =
                    if held.is_empty() { "Positions".into() } else { format!("Positions (pnl {})", money(pnl)) };
                let rows = held.into_iter().skip(skip).take(room).map(|p| self.position_row(p)).collect();
                (title, POSITIONS, rows, "flat")
            }
            Pane::Accounts => {
                let accounts = self.states(selected).flat_map(|state| state.accounts().values());
                let rows = accounts.skip(skip).take(room).map(account_row).collect();
                ("Accounts".into(), ACCOUNTS, rows, "none")
            }
            Pane::Log => {
                let lines = self.logs.iter().filter(|log| log_wanted(selected, log));
                ("Log".into(), rows::LOG, lines.skip(skip).take(room).map(rows::log).collect(), "nothing logged")
            }
        };
        PaneRows { title, columns, rows, total: 0, empty }
    }

    /// The newest trades, newest first, found without sorting a whole day's.
    fn newest_trades<'a>(&'a self, selected: Option<&'a str>) -> Vec<&'a Trade> {
        let mut trades: Vec<_> = self.states(selected).flat_map(|state| state.trades().values()).collect();
        let order = |a: &&Trade, b: &&Trade| newest_first(trade_age(a), trade_age(b));
        if trades.len() > TRADES_SHOWN {
            trades.select_nth_unstable_by(TRADES_SHOWN - 1, order);
            trades.truncate(TRADES_SHOWN);
        }
        trades.sort_by(order);
        trades
    }

    fn tick_row(&self, view: &TickView) -> Vec<Cell> {
        let t = &view.event.data;
        let places = self.decimals.of(&t.instrument());
        let level = |level: Option<protocol::Level>| {
            level.map(|level| format!("{} x {}", price(level.0, places), lots(level.1))).unwrap_or_default()
        };
        let change = rows::change(t);
        vec![
            t.instrument().to_string().into(),
            Cell::toned(t.last_price.map(|p| price(p, places)).unwrap_or_default(), view.moved),
            change.map(|c| Cell::toned(rows::signed(c, places), Tone::of_sign(c))).unwrap_or_default(),
            level(t.best_bid()).into(),
            level(t.best_ask()).into(),
            t.volume.map(lots).unwrap_or_default().into(),
            clock(t.datetime).into(),
            view.event.gateway.as_str().into(),
            t.open_interest.map(lots).unwrap_or_default().into(),
        ]
    }

    fn order_row(&self, order: &Order) -> Vec<Cell> {
        let places = self.decimals.of(&order.instrument());
        vec![
            order.instrument().to_string().into(),
            side_cell(order.direction),
            order.price.map_or_else(|| order.r#type.as_str().to_owned(), |p| price(p, places)).into(),
            format!("{}/{}", lots(order.traded), lots(order.volume)).into(),
            Cell::toned(order.status.as_str(), rows::order_tone(order.status)),
            order.datetime.map(clock).unwrap_or_default().into(),
            order.offset.as_str().into(),
            order.gateway_name.as_str().into(),
            order.owner.as_str().into(),
            order.orderid.as_str().into(),
            order.reference.as_str().into(),
        ]
    }

    fn trade_row(&self, trade: &Trade) -> Vec<Cell> {
        vec![
            trade.datetime.map(clock).unwrap_or_default().into(),
            trade.instrument().to_string().into(),
            side_cell(trade.direction),
            price(trade.price, self.decimals.of(&trade.instrument())).into(),
            lots(trade.volume).into(),
            trade.offset.as_str().into(),
            trade.gateway_name.as_str().into(),
            trade.owner.as_str().into(),
            trade.tradeid.as_str().into(),
            trade.reference.as_str().into(),
        ]
    }

    fn position_row(&self, position: &protocol::Position) -> Vec<Cell> {
        vec![
            position.instrument().to_string().into(),
            position.direction.as_str().into(),
            lots(position.volume).into(),
            Cell::toned(money(position.pnl), Tone::of_sign(position.pnl)),
            average(position.price, self.decimals.of(&position.instrument())).into(),
            lots(position.frozen).into(),
            lots(position.yd_volume).into(),
            position.gateway_name.as_str().into(),
        ]
    }
}

const GATEWAYS: &[Column] = &[
    text("GATEWAY", 8),
    text("STATE", 12),
    number("EPOCH", 5),
    number("HEARD", 7),
    number("TICKS/S", 7),
    text("HALTED", 6),
    number("JOURNAL", 8),
    text("TRADING DAY", 11),
    number("INSTRUMENTS", 11),
    text("REASON", 6),
];

const TICKS: &[Column] = &[
    text("INSTRUMENT", 11),
    number("LAST", 7),
    number("CHANGE", 6),
    number("BID x VOL", 11),
    number("ASK x VOL", 11),
    number("VOLUME", 7),
    text("TIME", 8),
    text("GATEWAY", 7),
    number("OPEN INT", 8),
];

const ORDERS: &[Column] = &[
    text("INSTRUMENT", 10),
    text("SIDE", 4),
    number("PRICE", 6),
    number("DONE", 4),
    text("STATUS", 9),
    text("TIME", 8),
    text("OFFSET", 6),
    text("GATEWAY", 7),
    text("OWNER", 7),
    text("ORDER", 5),
    text("REFERENCE", 9),
];

const TRADES: &[Column] = &[
    text("TIME", 8),
    text("INSTRUMENT", 10),
    text("SIDE", 4),
    number("PRICE", 6),
    number("VOL", 3),
    text("OFFSET", 6),
    text("GATEWAY", 7),
    text("OWNER", 7),
    text("TRADE", 5),
    text("REFERENCE", 9),
];

const POSITIONS: &[Column] = &[
    text("INSTRUMENT", 10),
    text("SIDE", 5),
    number("VOL", 3),
    number("PNL", 11),
    number("PRICE", 8),
    number("FROZEN", 6),
    number("EARLIER", 7),
    text("GATEWAY", 7),
];

const ACCOUNTS: &[Column] = &[
    text("ACCOUNT", 7),
    number("BALANCE", 12),
    number("AVAILABLE", 12),
    number("OPEN PNL", 10),
    number("CLOSED PNL", 10),
    number("MARGIN", 10),
    number("COMMISSION", 10),
    text("GATEWAY", 7),
];

fn gateway_row(gateway: &GatewayView, now: Timestamp) -> Vec<Cell> {
    let s = &gateway.status;
    let age = (now - gateway.heard).num_milliseconds().max(0);
    let state = match gateway.lost_since(now) {
        Some(since) => Cell::toned(format!("LOST since {}", clock(since)), Tone::Bad),
        None if gateway.blind => Cell::toned(s.state.as_str(), Tone::Faint),
        None => Cell::toned(s.state.as_str(), rows::state_tone(s.state)),
    };
    let age_tone = if age > 2_000 { Tone::Warn } else { Tone::Plain };
    vec![
        s.gateway_name.as_str().into(),
        state,
        s.epoch.to_string().into(),
        Cell::toned(format!("{:.1} s", age as f64 / 1e3), age_tone),
        format!("{:.0}", gateway.ticks_per_second).into(),
        Cell::toned(rows::halted(s), Tone::Bad),
        count(s.journal_seq).into(),
        s.trading_day.map(|day| day.to_string()).unwrap_or_default().into(),
        count(s.subscriptions).into(),
        Cell::toned(
            s.reason.clone().unwrap_or_else(|| halts(s)),
            if s.halts.is_empty() { Tone::Plain } else { Tone::Bad },
        ),
    ]
}

/// Every halt of a gateway, in words.
fn halts(s: &Status) -> String {
    s.halts.iter().map(rows::halt).collect::<Vec<_>>().join("; ")
}

fn account_row(account: &protocol::Account) -> Vec<Cell> {
    let sum = |value: Option<f64>| value.map(money).unwrap_or_default();
    let pnl = |value: Option<f64>| value.map(|v| Cell::toned(money(v), Tone::of_sign(v))).unwrap_or_default();
    vec![
        account.accountid.as_str().into(),
        money(account.balance).into(),
        money(account.available).into(),
        pnl(account.position_profit),
        pnl(account.close_profit),
        sum(account.margin).into(),
        sum(account.commission).into(),
        account.gateway_name.as_str().into(),
    ]
}

fn side_cell(direction: protocol::Direction) -> Cell {
    let tone = match direction {
        protocol::Direction::Long => Tone::Up,
        protocol::Direction::Short => Tone::Down,
        protocol::Direction::Net => Tone::Plain,
    };
    Cell::toned(side(direction), tone)
}

fn wanted(selected: Option<&str>, gateway: &str) -> bool {
    selected.is_none_or(|selected| selected == gateway)
}

/// This program's own lines have no gateway and are always shown.
fn log_wanted(selected: Option<&str>, log: &Log) -> bool {
    log.gateway_name.is_empty() || wanted(selected, &log.gateway_name)
}

type Age<'a> = (Option<Timestamp>, &'a str);

fn order_age(order: &Order) -> Age<'_> {
    (order.datetime, order.orderid.as_str())
}

fn trade_age(trade: &Trade) -> Age<'_> {
    (trade.datetime, trade.tradeid.as_str())
}

/// What has no time yet is newest of all.
fn newest_first(a: Age<'_>, b: Age<'_>) -> std::cmp::Ordering {
    (b.0.is_none(), b.0, b.1).cmp(&(a.0.is_none(), a.0, a.1))
}

fn clock(instant: Timestamp) -> String {
    time_of_day(instant).split_once('.').map_or_else(String::new, |(seconds, _)| seconds.to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use protocol::{Direction, Exchange, Level, Offset, OmsEvent, OrderId, OrderRequest, OrderStatus, Product};

    pub fn start() -> Timestamp {
        Timestamp::parse_from_rfc3339("2024-07-01T21:00:00+08:00").expect("a time")
    }

    pub fn after(milliseconds: i64) -> Timestamp {
        start() + TimeDelta::milliseconds(milliseconds)
    }

    pub fn heartbeat(gateway: &str, second: i64, ticks: u64) -> Update {
        Update::Status(Status {
            gateway_name: gateway.into(),
            state: protocol::GatewayState::Ready,
            reason: None,
            epoch: 7,
            journal_seq: 1200,
            time: after(second * 1000),
            protocol_version: 1,
            version: "0.1.0".into(),
            node: "node-a".into(),
            venue: "sim".into(),
            trading_day: None,
            halted: Vec::new(),
            halts: Vec::new(),
            subscriptions: 2,
            contracts: 10,
            ticks,
            ticks_conflated: 0,
            journal_pending: 0,
            snapshot_seq: 0,
        })
    }

    pub fn tick(gateway: &str, symbol: &str, last: f64) -> Update {
        let mut data = Tick::new(gateway, InstrumentId::new(symbol, Exchange::SHFE), start());
        data.last_price = Some(last);
        data.pre_settlement = Some(3500.0);
        data.volume = Some(12_345.0);
        data.bids.push(Level(last - 1.0, 5.0));
        data.asks.push(Level(last + 1.0, 8.0));
        Update::Tick(Arc::new(Event { gateway: gateway.into(), epoch: 7, seq: 1, time: start(), data }))
    }

    pub fn state(gateway: &str, orders: usize, trades: usize) -> Update {
        let mut state = OmsState::default();
        let instrument = InstrumentId::new("rb2410", Exchange::SHFE);
        for number in 0..orders {
            let mut request = OrderRequest::limit(instrument.clone(), Direction::Long, Offset::Open, 3500.0, 2.0);
            request.orderid = OrderId::new(format!("order-{number:04}"));
            let mut order = request.to_order(&gateway.into(), &"default".into());
            order.status = OrderStatus::NotTraded;
            order.datetime = Some(after(1000 * number as i64));
            state.apply(&OmsEvent::Order(order));
        }
        for number in 0..trades {
            state.apply(&OmsEvent::Trade(Trade {
                gateway_name: gateway.into(),
                symbol: instrument.symbol.clone(),
                exchange: instrument.exchange,
                orderid: OrderId::new("order-0000"),
                tradeid: format!("{number}").into(),
                direction: Direction::Short,
                offset: Offset::Close,
                price: 3501.0,
                volume: 1.0,
                datetime: Some(after(1000 * number as i64)),
                trading_day: None,
                reference: Name::default(),
                owner: "default".into(),
                traceid: None,
                extra: None,
            }));
        }
        let position = r#"{"gateway_name":"GATEWAY","symbol":"rb2410","exchange":"SHFE","direction":"LONG","volume":2,
            "price":3499.5,"pnl":-120}"#;
        let account = r#"{"gateway_name":"GATEWAY","accountid":"88","balance":1000000,"available":990000}"#;
        let position = position.replace("GATEWAY", gateway);
        let account = account.replace("GATEWAY", gateway);
        state.apply(&OmsEvent::Position(serde_json::from_str(&position).expect("decodes")));
        state.apply(&OmsEvent::Account(serde_json::from_str(&account).expect("decodes")));
        Update::State { gateway: gateway.into(), state: Arc::new(state) }
    }

    pub fn app() -> App {
        let mut app = App::new("nats://127.0.0.1:4222".into(), None, start());
        for update in [heartbeat("sim1", 0, 0), heartbeat("sim2", 0, 0), heartbeat("sim1", 1, 250)] {
            app.apply(update, after(1000));
        }
        for update in [tick("sim1", "rb2410", 3500.0), tick("sim1", "rb2410", 3502.0), tick("sim2", "hc2410", 3400.0)] {
            app.apply(update, after(1000));
        }
        app.apply(state("sim1", 3, 4), after(1000));
        app.apply(state("sim2", 1, 0), after(1000));
        let contract = Contract::new("sim1", InstrumentId::new("rb2410", Exchange::SHFE), Product::Futures, 10.0, 0.5);
        app.apply(Update::Contract(Box::new(contract)), after(1000));
        app
    }

    pub fn press(app: &mut App, code: KeyCode) -> Flow {
        app.key(KeyEvent::from(code), after(1000))
    }

    fn texts(app: &App, pane: Pane, now: Timestamp) -> Vec<String> {
        let rows = app.pane(pane, 100, now).rows;
        rows.iter().map(|row| row.iter().map(Cell::text).collect::<Vec<_>>().join("|")).collect()
    }

    #[test]
    fn ticks_per_second_come_from_the_heartbeats() {
        let rows = texts(&app(), Pane::Gateways, after(1500));
        assert_eq!(rows[0], "sim1|READY|7|0.5 s|250||1,200||2|");
    }

    #[test]
    fn three_missed_heartbeats_lose_a_gateway_and_one_brings_it_back() {
        let mut app = app();
        assert_eq!(app.alarm(after(3900)), None);
        app.apply(heartbeat("sim2", 4, 0), after(4000));
        let alarm = app.alarm(after(4100)).expect("sim1 is silent");
        assert_eq!(alarm, "GATEWAY sim1 LOST since 21:00:01");
        assert!(texts(&app, Pane::Gateways, after(4100))[0].contains("LOST since 21:00:01"));
        app.apply(heartbeat("sim1", 5, 250), after(5000));
        assert_eq!(app.alarm(after(5100)), None);
        assert!(texts(&app, Pane::Gateways, after(5100))[0].contains("READY"));
    }

    #[test]
    fn a_lost_connection_is_not_taken_for_lost_gateways() {
        let mut app = app();
        app.apply(Update::Connected(false), after(2000));
        let alarm = app.alarm(after(60_000)).expect("no connection");
        assert_eq!(alarm, "CONNECTION LOST since 21:00:02 (58 s), trying again");
        assert!(!texts(&app, Pane::Gateways, after(60_000))[0].contains("LOST"));
        app.apply(Update::Connected(true), after(61_000));
        assert_eq!(app.alarm(after(62_000)), None, "heartbeats have time to arrive");
        assert!(app.alarm(after(65_000)).expect("none came").starts_with("GATEWAY sim1 LOST since 21:01:01"));
    }

    #[test]
    fn prices_remember_which_way_they_moved() {
        let mut app = app();
        let last = |app: &App| app.pane(Pane::Ticks, 100, start()).rows[1][1].clone();
        assert_eq!((last(&app).text(), last(&app).tone()), ("3502.0", Tone::Up));
        app.apply(tick("sim1", "rb2410", 3502.0), start());
        assert_eq!(last(&app).tone(), Tone::Up, "unchanged");
        app.apply(tick("sim1", "rb2410", 3501.0), start());
        assert_eq!(last(&app).tone(), Tone::Down);
    }

    #[test]
    fn newest_come_first_and_a_long_day_is_cut() {
        let mut app = app();
        assert!(texts(&app, Pane::Orders, start())[0].contains("order-0002"));
        app.apply(state("sim1", 0, 1_000), start());
        let trades = app.pane(Pane::Trades, 1_000, start());
        assert_eq!((trades.rows.len(), trades.total), (TRADES_SHOWN, TRADES_SHOWN));
        assert_eq!(trades.rows[0][0].text(), "21:16:39", "the thousandth of a trade a second");
        assert!(trades.rows.is_sorted_by(|a, b| a[0].text() >= b[0].text()));
    }

    #[test]
    fn g_cycles_all_gateways_then_each() {
        let mut app = app();
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push((app.selected().map(str::to_owned), texts(&app, Pane::Orders, start()).len()));
            press(&mut app, KeyCode::Char('g'));
        }
        let names: Vec<_> = seen.iter().map(|(name, orders)| (name.as_deref(), *orders)).collect();
        assert_eq!(names, [(None, 4), (Some("sim1"), 3), (Some("sim2"), 1), (None, 4)]);
    }

    #[test]
    fn pausing_freezes_the_rows_but_not_the_alarms() {
        let mut app = app();
        press(&mut app, KeyCode::Char('p'));
        app.apply(tick("sim1", "rb2410", 3600.0), after(1500));
        app.apply(Update::Connected(false), after(2000));
        assert!(texts(&app, Pane::Ticks, after(9000))[1].contains("3502.0"));
        assert!(app.alarm(after(9000)).expect("lost").contains("CONNECTION LOST"));
        press(&mut app, KeyCode::Char('p'));
        assert!(texts(&app, Pane::Ticks, after(9000))[1].contains("3600.0"));
    }

    #[test]
    fn scrolling_stops_at_both_ends() {
        let mut app = app();
        app.apply(state("sim1", 50, 0), start());
        press(&mut app, KeyCode::Char('g'));
        while app.focus() != Pane::Orders {
            press(&mut app, KeyCode::Tab);
        }
        app.drawn([10; Pane::ALL.len()]);
        press(&mut app, KeyCode::End);
        press(&mut app, KeyCode::Down);
        assert!(app.pane(Pane::Orders, 10, start()).rows[9][9].text().contains("order-0000"));
        press(&mut app, KeyCode::Up);
        assert!(!app.pane(Pane::Orders, 10, start()).rows[9][9].text().contains("order-0000"));
        press(&mut app, KeyCode::Home);
        press(&mut app, KeyCode::PageUp);
        assert!(app.pane(Pane::Orders, 10, start()).rows[0][9].text().contains("order-0049"));
        // A list that shrinks under a scrolled view still shows its end.
        press(&mut app, KeyCode::End);
        app.apply(state("sim1", 2, 0), start());
        assert_eq!(app.pane(Pane::Orders, 10, start()).rows.len(), 2);
    }

    #[test]
    fn quitting_and_escaping() {
        let mut app = app();
        assert_eq!(press(&mut app, KeyCode::Char('?')), Flow::Continue);
        assert!(app.help());
        assert_eq!(press(&mut app, KeyCode::Esc), Flow::Continue);
        assert!(!app.help());
        assert_eq!(press(&mut app, KeyCode::Char('z')), Flow::Continue);
        assert_eq!(press(&mut app, KeyCode::Esc), Flow::Continue);
        assert!(!app.zoomed());
        assert_eq!(press(&mut app, KeyCode::Esc), Flow::Quit);
        assert_eq!(press(&mut app, KeyCode::Char('q')), Flow::Quit);
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(app.key(control_c, start()), Flow::Quit);
    }

    #[test]
    fn the_log_keeps_its_newest_lines() {
        let mut app = app();
        for number in 0..LOG_LINES + 10 {
            let log = Log {
                gateway_name: "sim1".into(),
                msg: format!("line {number}"),
                level: protocol::LogLevel::Info,
                time: start(),
            };
            app.apply(Update::Log(log), start());
        }
        let log = app.pane(Pane::Log, 1, start());
        assert_eq!((log.total, log.rows[0][3].text()), (LOG_LINES, "line 509"));
    }
}
