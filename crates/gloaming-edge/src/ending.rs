//! How a thread's end is noticed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// Tells the world that a thread has ended, however it ended.
pub(crate) struct Ending {
    healthy: Arc<AtomicBool>,
    _ended: watch::Sender<()>,
}

impl Ending {
    pub(crate) fn new(healthy: Arc<AtomicBool>, ended: watch::Sender<()>) -> Self {
        Self { healthy, _ended: ended }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.healthy.store(false, Ordering::Relaxed);
    }
}
