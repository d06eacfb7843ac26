//! A place at which the Hub holds a download until the test lets it go on.

use crate::fakehub::{Fault, Hub};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Longer than a worker takes to start on a busy machine.
const ARRIVAL: Duration = Duration::from_secs(60);

pub struct Gate {
    reached: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl Gate {
    /// The next request whose path holds `on` stops after so many bytes.
    pub fn at(hub: &Hub, on: &str, after: usize) -> Self {
        let gate = Self { reached: Arc::new(Semaphore::new(0)), open: Arc::new(Semaphore::new(0)) };
        hub.fault(on, 1, Fault::Pause { after, reached: Arc::clone(&gate.reached), open: Arc::clone(&gate.open) });
        gate
    }

    /// Waits until the download is held here.
    pub async fn reached(&self) {
        let arrived = timeout(ARRIVAL, self.reached.acquire()).await;
        arrived.expect("no download came to the gate").unwrap().forget();
    }

    pub fn open(&self) {
        self.open.add_permits(1);
    }
}
