//! Whether a Hub can be reached, and whose token it is. Nothing is fetched, and no volume is needed.

use super::{EngineError, Finished, Settings, Told};
use crate::format::outcome::{Checked, Done};
use crate::format::task::Check;
use crate::hub::{Hub, Who};

/// Asks the Hub.
pub(super) async fn run(check: &Check, settings: &Settings) -> Result<Finished, EngineError> {
    let hub = Hub::new(&check.hub, settings.limits, settings.login.clone()).map_err(EngineError::Access)?;
    let checked = match hub.whoami().await.map_err(EngineError::Hub)? {
        Who::Account(name) => Checked::Account { name },
        Who::Refused(why) => Checked::Refused { why },
        Who::Anonymous => Checked::Anonymous,
        Who::Untold(why) => Checked::Untold { why },
    };
    let done = Done { checked: Some(Box::new(checked)), ..Done::default() };
    Ok(Finished { done, told: Told::Nothing })
}
