//! What the kinds that use a network share: a runtime that lives no longer than the requests, and words for what went wrong.

use std::error::Error;
use std::time::Duration;

use watershed_engine::{Job, StageError};

/// Runs a future on this thread.
///
/// # Errors
/// When the machine gives no event loop.
pub fn block_on<F: Future>(future: F) -> Result<F::Output, StageError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| StageError::Environment(format!("cannot start the network loop: {e}")))?;
    Ok(runtime.block_on(future))
}

/// Ends when the job shall stop: for a `select!` beside what may wait long.
pub async fn cancelled(job: &Job<'_>) {
    while !job.is_cancelled() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Returns the innermost cause: the outer ones repeat the address.
pub fn cause(error: &reqwest::Error) -> String {
    let mut inner: &dyn Error = error;
    while let Some(next) = inner.source() {
        inner = next;
    }
    inner.to_string()
}
