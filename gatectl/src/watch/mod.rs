//! `watch`: the full-screen live view. This file holds the screen and the loop; `app` decides, `draw` draws, `feed`
//! brings the news.

mod app;
mod draw;
mod feed;
mod pane_log;

use std::io::IsTerminal;
use std::time::Duration;

use crossterm::event::{Event, EventStream, KeyEventKind};
use futures::StreamExt;
use ratatui::DefaultTerminal;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use app::{App, Flow, Update};
use draw::{Theme, draw};
use feed::Feed;

use crate::args::{Global, WatchArgs};
use crate::exit::Failure;
use crate::run::{connect, now};

/// News that may wait to be taken in. Full: the tasks that bring it wait, and what they read from conflates or is kept
/// (see `feed`); lines of this program's own log are dropped.
const NEWS: usize = 1024;
/// At most ten drawings a second, however much happens.
const REDRAW: Duration = Duration::from_millis(100);
/// Ages grow even when nothing happens.
const AGES: Duration = Duration::from_secs(1);

/// Shows the view until somebody quits it.
pub async fn run(global: &Global, args: WatchArgs, colored: bool) -> Result<(), Failure> {
    if global.json || !std::io::stdout().is_terminal() {
        return Err(Failure::Usage(
            "watch draws on a terminal: for a file or a program use `gatectl ticks`, `gatectl orders --follow` or \
             `gatectl status --follow`, each with --json"
                .into(),
        ));
    }
    let (news, mut arrivals) = mpsc::channel(NEWS);
    pane_log::install(news.clone());
    // What fails before the screen opens is said as by any other command.
    let client = connect(global).await?;
    let mut feed = Feed::start(&client, &args, global.gateway.as_ref(), news).await?;
    let app = App::new(global.server.clone(), global.gateway.clone(), now());
    let theme = Theme::new(colored, args.up);
    let outcome = {
        let mut screen = Screen::open()?;
        show(&mut screen, app, theme, &mut arrivals, &mut feed).await
    };
    feed.stop().await;
    outcome
}

/// The loop: takes in news and keys, draws when something changed.
async fn show(
    screen: &mut Screen,
    mut app: App,
    theme: Theme,
    arrivals: &mut mpsc::Receiver<Update>,
    feed: &mut Feed,
) -> Result<(), Failure> {
    let mut keys = EventStream::new();
    let mut ages = interval(AGES);
    ages.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut terminated = std::pin::pin!(terminated());
    let (mut changed, mut due) = (true, Instant::now());
    loop {
        if changed && Instant::now() >= due {
            screen.draw(&mut app, theme)?;
            (changed, due) = (false, Instant::now() + REDRAW);
        }
        tokio::select! {
            update = arrivals.recv() => {
                let Some(update) = update else { return Err(feed_ended("every feed")) };
                let now = now();
                app.apply(update, now);
                for _ in 1..NEWS {
                    let Ok(update) = arrivals.try_recv() else { break };
                    app.apply(update, now);
                }
                changed = true;
            }
            event = keys.next() => match event {
                Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => {
                    if app.key(key, now()) == Flow::Quit {
                        return Ok(());
                    }
                    // A key is answered at once.
                    (changed, due) = (true, Instant::now());
                }
                Some(Ok(Event::Resize(..))) => (changed, due) = (true, Instant::now()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(Failure::Local(format!("cannot read the keyboard: {error}"))),
                None => return Err(Failure::Local("the keyboard is gone".into())),
            },
            () = sleep_until(due), if changed => {}
            _ = ages.tick() => changed = true,
            ended = feed.ended() => return Err(feed_ended(ended)),
            () = &mut terminated => return Ok(()),
        }
    }
}

fn feed_ended(which: &str) -> Failure {
    Failure::Local(format!("{which} ended: the connection was closed for good"))
}

/// The terminal, given back on every way out: a normal end, an error, and (by ratatui's hook) a panic.
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> Result<Screen, Failure> {
        ratatui::try_init().map(Screen).map_err(|error| {
            ratatui::restore();
            Failure::Local(format!("cannot draw on this terminal: {error}"))
        })
    }

    fn draw(&mut self, app: &mut App, theme: Theme) -> Result<(), Failure> {
        let (now, mut visible) = (now(), None);
        self.0
            .draw(|frame| visible = Some(draw(frame, app, now, theme)))
            .map_err(|error| Failure::Local(format!("cannot draw on this terminal: {error}")))?;
        if let Some(visible) = visible {
            app.drawn(visible);
        }
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Somebody ends the program from outside, or closes its terminal.
#[cfg(unix)]
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut hangup)) = (signal(SignalKind::terminate()), signal(SignalKind::hangup())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = hangup.recv() => {}
    }
}

#[cfg(not(unix))]
async fn terminated() {
    std::future::pending().await
}
