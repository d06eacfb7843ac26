//! What a model is and takes, told before there is a volume for it.

use super::download::{Survey, survey};
use super::import::measure;
use super::{EngineError, Finished, Settings, Told};
use crate::format::outcome::{Done, Resolved};
use crate::format::task::{Policy, Question, Resolve};
use crate::hub::Hub;

/// Asks the Hub, or looks at the archive.
pub(super) async fn run(
    resolve: &Resolve,
    policy: Option<&Policy>,
    settings: &Settings,
) -> Result<Finished, EngineError> {
    let resolved = match resolve {
        Resolve::Hub(Question { model, hub, files }) => {
            let hub = Hub::new(hub, settings.limits, settings.login.clone()).map_err(EngineError::Access)?;
            let ignores_case = settings.ignores_case.unwrap_or(false);
            let Survey { info, plan } = survey(&hub, model, files, policy, ignores_case).await?;
            Resolved { commit: Some(info.commit), files: Some(plan.files.len() as u64), bytes: plan.bytes }
        }
        Resolve::Archive(place) => measure(place, settings).await?,
    };
    let done = Done { resolved: Some(Box::new(resolved)), ..Done::default() };
    Ok(Finished { done, told: Told::Nothing })
}
