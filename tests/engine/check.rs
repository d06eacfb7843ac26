//! Whether a Hub answers, and whose token it is.

use crate::fakehub::{self, Fault};
use crate::rig::{Rig, download_of};
use modelcache::format::outcome::Checked;
use modelcache::format::task::{Check, Work};
use modelcache::ident::Reason;
use std::path::PathBuf;

const TOKEN: &str = "hf_secret";

/// A rig whose task is the check of its Hub, with this token.
async fn checking(token: Option<&str>) -> Rig {
    let mut rig = Rig::new().await;
    let mut hub = download_of(&mut rig.task).hub.clone();
    hub.token = token.map(|text| rig.mounted("hub", text));
    rig.task.work = Work::Check(Check { hub });
    rig.task.volume = PathBuf::new();
    rig
}

async fn checked(rig: &mut Rig) -> Checked {
    *rig.run().await.unwrap().done.checked.unwrap()
}

#[tokio::test]
async fn a_good_token_is_somebodys() {
    let mut rig = checking(Some(TOKEN)).await;
    *rig.hub().token.lock().unwrap() = Some(TOKEN.to_owned());
    assert_eq!(checked(&mut rig).await, Checked::Account { name: fakehub::ACCOUNT.to_owned() });
    let seen = rig.hub().asked_who();
    assert_eq!((seen.len(), seen[0].target.as_str()), (1, "/api/whoami-v2"));
}

#[tokio::test]
async fn a_refused_token_is_told_by_its_origin_and_never_shown() {
    let mut rig = checking(Some("hf_wrong")).await;
    *rig.hub().token.lock().unwrap() = Some(TOKEN.to_owned());
    let Checked::Refused { why } = checked(&mut rig).await else { panic!("it is refused") };
    assert!(why.contains("Secret \"hub\", key \"k\"") && why.contains("401") && !why.contains("hf_"), "{why}");
    assert_eq!(rig.hub().asked_who().len(), 1, "a refusal is not asked for again");
}

#[tokio::test]
async fn without_a_token_the_hub_still_answers() {
    let mut rig = checking(None).await;
    *rig.hub().token.lock().unwrap() = Some(TOKEN.to_owned());
    assert_eq!(checked(&mut rig).await, Checked::Anonymous);
}

#[tokio::test]
async fn a_mirror_that_knows_no_accounts_is_reachable() {
    let mut rig = checking(Some(TOKEN)).await;
    let Checked::Untold { why } = checked(&mut rig).await else { panic!("nobody says") };
    assert!(why.contains("404"), "{why}");
    for body in ["<html>welcome</html>", "{\"name\": \"\"}"] {
        rig.hub().fault("whoami", 1, Fault::Answer { status: 200, headers: Vec::new(), body: body.into() });
        assert!(matches!(checked(&mut rig).await, Checked::Untold { .. }), "{body}");
    }
    let headers = vec![("location", "https://login.example/".to_owned())];
    rig.hub().fault("whoami", 1, Fault::Answer { status: 302, headers, body: String::new() });
    assert!(matches!(checked(&mut rig).await, Checked::Untold { .. }), "a login page elsewhere gets no token");
}

#[tokio::test]
async fn a_hub_that_is_unwell_is_asked_again_a_few_times() {
    let mut rig = checking(Some(TOKEN)).await;
    *rig.hub().token.lock().unwrap() = Some(TOKEN.to_owned());
    let unwell = || Fault::Answer { status: 503, headers: Vec::new(), body: String::new() };
    rig.hub().fault("whoami", 2, unwell());
    assert!(matches!(checked(&mut rig).await, Checked::Account { .. }));
    let before = rig.hub().asked_who().len();
    rig.hub().fault("whoami", 9, unwell());
    assert_eq!(rig.run().await.unwrap_err().reason(), Reason::HubUnavailable);
    assert_eq!(rig.hub().asked_who().len(), before + 3);
}

#[tokio::test]
async fn nobody_at_the_address_and_a_secret_that_is_missing() {
    let mut rig = checking(Some("")).await;
    assert_eq!(rig.run().await.unwrap_err().reason(), Reason::SecretNotFound);
    let mut rig = checking(None).await;
    let Work::Check(check) = &mut rig.task.work else { unreachable!() };
    check.hub.endpoint = "http://no-such-host.invalid".parse().unwrap();
    assert_eq!(rig.run().await.unwrap_err().reason(), Reason::HubUnavailable);
}
