//! The work: download, publish, verify, export and delete models on a volume.
//!
//! This room turns a task into files, and is the same in a Job and on a laptop. Its pure parts (`select`, `policy`, `plan`, `ranges`,
//! `journal`, `schedule`, `pace`) decide, `volume` is the one place that writes to a volume, and `download` and `delete` put
//! them together; `listing` looks at a folder of archives,
//! `inventory` at a whole volume, `resolve` asks what a model takes, and `check` whose token it is. It must not know Kubernetes, the command line, standard output or the environment.

mod adopt;
mod before;
mod check;
mod connection;
pub mod delete;
mod disk;
pub mod download;
mod durable;
mod entry;
mod error;
pub mod export;
mod fetch;
mod hash;
pub mod import;
pub mod inventory;
pub mod journal;
pub mod listing;
mod owners;
mod pace;
pub mod pack;
pub mod plan;
mod policy;
pub mod progress;
mod publish;
pub mod ranges;
pub mod rehash;
mod resolve;
mod reuse;
mod schedule;
pub mod select;
mod threads;
mod verify;
pub mod volume;

pub use error::EngineError;
pub use policy::PolicyError;
pub use schedule::Cut;

use crate::format::inventory::Inventory;
use crate::format::metadata::ModelMetadata;
use crate::format::outcome::{Done, Listing};
use crate::format::task::{Task, Work};
use crate::hub::{Limits, Login};
use progress::Progress;
use std::sync::Arc;
use volume::Volume;

/// The most connections at a time: 640 MB/s where a server gives each of them 20, in about 30 MiB of memory.
const CONNECTIONS_MAX: usize = 32;

/// What does not come with a task: how hard to try, and how many connections at a time.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a Hub may take for what.
    pub limits: Limits,
    /// How many connections there are at most.
    pub connections_max: usize,
    /// How large files are cut into ranges.
    pub cut: Cut,
    /// Whether the volume ignores case; probed when not given.
    pub ignores_case: Option<bool>,
    /// A token that is in no file, for where the task names none.
    pub login: Option<Login>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            connections_max: CONNECTIONS_MAX,
            cut: Cut::default(),
            ignores_case: None,
            login: None,
        }
    }
}

/// A task that was done.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// What a worker's last line says.
    pub done: Done,
    /// What it says before it.
    pub told: Told,
}

/// What a task says besides its last line.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// Nothing: something was removed.
    Nothing,
    /// The model's metadata.
    Model(Box<ModelMetadata>),
    /// What a folder of archives holds.
    Listing(Listing),
    /// What is on a volume.
    Inventory(Inventory),
}

impl Finished {
    /// A task that ends with a model.
    fn with(done: Done, metadata: ModelMetadata) -> Self {
        Self { done, told: Told::Model(Box::new(metadata)) }
    }

    /// The model's metadata, after a task that ends with a model.
    pub fn metadata(&self) -> Option<&ModelMetadata> {
        match &self.told {
            Told::Model(metadata) => Some(metadata),
            Told::Nothing | Told::Listing(_) | Told::Inventory(_) => None,
        }
    }
}

impl Told {
    /// The text of the numbered parts.
    pub fn to_json(&self) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Model(metadata) => Some(metadata.to_json()),
            Self::Listing(listing) => Some(serde_json::json!(listing).to_string()),
            Self::Inventory(inventory) => Some(serde_json::json!(inventory).to_string()),
        }
    }
}

/// Does a task.
pub async fn run(task: &Task, settings: &Settings, progress: &Arc<Progress>) -> Result<Finished, EngineError> {
    let mut finished = match &task.work {
        Work::Download(download) => download::run(task, download, settings, progress).await,
        Work::Import(import) => import::run(task, import, settings, progress).await,
        Work::Export(export) => export::run(task, export, settings, progress).await,
        Work::Delete(delete) => delete::run(task, delete).await,
        Work::List(list) => listing::run(task, list).await,
        Work::Resolve(resolve) => resolve::run(resolve, task.policy.as_ref(), settings).await,
        Work::Check(check) => check::run(check, settings).await,
        Work::Inventory => inventory::run(task).await,
        Work::Adopt(adopt) => adopt::run(task, adopt, progress).await,
    }?;
    if matches!(task.work, Work::Download(_) | Work::Import(_) | Work::Adopt(_) | Work::Delete(_)) {
        let volume = task.volume.clone();
        // What was done is done, whether its room can be told or not.
        finished.done.room = blocking(move || Ok(Volume::open(&volume, None).and_then(|volume| volume.root().room())))
            .await?
            .unwrap_or_default();
    }
    Ok(finished)
}

/// Runs work that blocks (files, hashes) where it blocks nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| EngineError::Crashed)?
}

#[cfg(test)]
mod tests;
