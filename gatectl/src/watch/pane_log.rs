//! This program's own log lines, into the view's log pane: on the screen they would overwrite it.

use std::io;

use protocol::{Log, LogLevel, Name};
use tokio::sync::mpsc;
use tracing_subscriber::fmt::MakeWriter;

use super::app::Update;
use crate::run::now;

/// Sends what is logged from here on to the view.
pub fn install(news: mpsc::Sender<Update>) {
    tracing_subscriber::fmt()
        .with_env_filter(crate::log_filter())
        .with_writer(PaneLog(news))
        .with_ansi(false)
        .with_level(false)
        .with_target(false)
        .without_time()
        .init();
}

struct PaneLog(mpsc::Sender<Update>);

struct Lines {
    news: mpsc::Sender<Update>,
    level: LogLevel,
}

impl<'a> MakeWriter<'a> for PaneLog {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        Lines { news: self.0.clone(), level: LogLevel::Info }
    }

    fn make_writer_for(&'a self, meta: &tracing::Metadata<'_>) -> Lines {
        let level = match *meta.level() {
            tracing::Level::ERROR => LogLevel::Error,
            tracing::Level::WARN => LogLevel::Warning,
            tracing::Level::INFO => LogLevel::Info,
            _ => LogLevel::Debug,
        };
        Lines { news: self.0.clone(), level }
    }
}

impl io::Write for Lines {
    /// Gets each log line whole. One that finds no room is dropped: whoever logs must not wait for the screen.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let msg = String::from_utf8_lossy(bytes).trim_end().to_owned();
        let log = Log { gateway_name: Name::default(), msg, level: self.level, time: now() };
        drop(self.news.try_send(Update::Log(log)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
