//! Ctrl-C, heard from the first moment on: one pressed while something else is awaited is not lost.

use tokio::sync::watch;

/// Knows whether Ctrl-C was pressed; every clone does.
#[derive(Debug, Clone)]
pub struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Listens from here on. Where that is not possible, Ctrl-C ends the program as the system does it.
    #[must_use]
    pub fn listen() -> Interrupt {
        let (pressed, heard) = watch::channel(false);
        // Ends with the runtime.
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                pressed.send_replace(true);
            }
            pressed.closed().await;
        });
        Interrupt(heard)
    }

    /// Returns when Ctrl-C is pressed, at once if it was. Cancel-safe.
    pub async fn pressed(&mut self) {
        if self.0.wait_for(|pressed| *pressed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn a_press_is_remembered() {
        let (pressed, heard) = watch::channel(false);
        let mut interrupt = Interrupt(heard);
        assert!(interrupt.pressed().now_or_never().is_none());
        pressed.send_replace(true);
        assert!(interrupt.clone().pressed().now_or_never().is_some());
        assert!(interrupt.pressed().now_or_never().is_some(), "and again");
        drop(pressed);
        assert!(interrupt.pressed().now_or_never().is_some(), "also when nobody listens any more");
    }
}
