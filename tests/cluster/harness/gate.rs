//! A place at which the Hub holds a download until the test lets it go on.

use super::stage::Stage;
use super::wait::DEADLINE;
use crate::fakehub::{Fault, Hub};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::time::timeout;

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

    pub fn open(&self) {
        self.open.add_permits(1);
    }
}

impl Stage {
    /// Waits until an entry's download is held at a gate.
    pub async fn until_held(&self, name: &str, gate: &Gate) {
        match timeout(DEADLINE, gate.reached.acquire()).await {
            Ok(permit) => permit.unwrap().forget(),
            Err(_) => panic!("{name} should come to the gate within {DEADLINE:?}\n{}", self.picture(name)),
        }
    }
}
