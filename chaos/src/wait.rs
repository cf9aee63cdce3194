//! Waiting for a condition, with an end, and a sentence about what was waited for.

use std::time::Duration;

use anyhow::bail;
use tokio::time::Instant;

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Looks until `condition` gives a value. Its errors end the wait; so does `patience`.
///
/// # Errors
/// As the condition's, or that it did not come about.
pub async fn until<T>(
    what: &str,
    patience: Duration,
    mut condition: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let end = Instant::now() + patience;
    loop {
        if let Some(value) = condition().await? {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("waited {} s for {what}", patience.as_secs());
        }
        tokio::time::sleep(LOOK).await;
    }
}
