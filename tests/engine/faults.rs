//! Bytes get lost, changed, or do not come.

use crate::fakehub::{Fault, answer, git_sha1};
use crate::rig::{Rig, chosen};
use modelcache::ident::Reason;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

const ALWAYS: usize = usize::MAX;
const WEIGHTS: &str = "model.safetensors";

#[tokio::test]
async fn a_lost_connection_is_gone_on_with() {
    let mut rig = Rig::new().await;
    rig.hub().fault(WEIGHTS, 3, Fault::Cut(200_000));
    let finished = rig.run().await.unwrap();
    rig.assert_published(&chosen());
    let ranges: Vec<_> = rig.hub().requests_for(WEIGHTS).into_iter().map(|seen| seen.range).collect();
    assert_eq!(ranges[0], None);
    assert!(ranges[1..].iter().all(Option::is_some), "{ranges:?}");
    assert_eq!(finished.done.bytes_fetched, finished.done.manifest.unwrap().bytes);
}

#[tokio::test]
async fn tries_are_counted_anew_after_progress() {
    let mut rig = Rig::new().await;
    // More cuts than tries, each after some progress.
    rig.hub().fault(WEIGHTS, 6, Fault::Cut(100_000));
    rig.run().await.unwrap();
    rig.assert_published(&chosen());
}

#[tokio::test]
async fn a_server_that_drips_is_given_up() {
    let mut rig = Rig::new().await;
    rig.hub().fault(WEIGHTS, ALWAYS, Fault::Cut(10));
    rig.fails(Reason::HubUnavailable).await;
    assert_eq!(rig.hub().requests_for(WEIGHTS).len(), 4);
}

#[tokio::test]
async fn a_short_body_is_gone_on_with_and_then_reported() {
    let mut rig = Rig::new().await;
    rig.hub().fault(WEIGHTS, 1, Fault::Short(300_000));
    rig.run().await.unwrap();
    rig.assert_published(&chosen());

    let mut rig = Rig::new().await;
    rig.hub().fault("README.md", ALWAYS, Fault::Short(100));
    let message = rig.fails(Reason::HubUnavailable).await;
    assert!(message.contains("README.md") && message.contains("of 5000 bytes"), "{message}");
}

#[tokio::test]
async fn one_flipped_bit_is_seen_and_fetched_again() {
    for name in [WEIGHTS, "README.md"] {
        let mut rig = Rig::new().await;
        rig.hub().fault(name, 1, Fault::Corrupt);
        rig.run().await.unwrap();
        rig.assert_published(&chosen());
        assert_eq!(rig.hub().requests_for(name).len(), 2);
        let report = rig.progress.report(0);
        assert_eq!(report.bytes_done, report.bytes_total);
    }
}

#[tokio::test]
async fn bytes_that_stay_wrong_are_never_published() {
    let mut rig = Rig::new().await;
    rig.hub().fault("README.md", ALWAYS, Fault::Corrupt);
    let message = rig.fails(Reason::ChecksumMismatch).await;
    let expected = git_sha1(&chosen().iter().find(|file| file.path == "README.md").unwrap().bytes);
    assert!(
        message.contains("README.md") && message.contains(&expected) && message.contains("got gitblob:"),
        "{message}"
    );
    assert_eq!(rig.hub().requests_for("README.md").len(), 2);
    // The Hub is repaired: only the bad file is fetched again.
    rig.hub().heal();
    rig.hub().forget();
    rig.run().await.unwrap();
    rig.assert_published(&chosen());
}

#[tokio::test]
async fn a_page_for_people_instead_of_a_file_is_never_published() {
    for (length, reason) in [(40, Reason::HubUnavailable), (400, Reason::ChecksumMismatch)] {
        let mut rig = Rig::new().await;
        let page = format!("<html>{}</html>", "log in ".repeat(length * 10));
        rig.hub().fault("README.md", ALWAYS, answer(200, &[("content-type", "text/html")], &page));
        rig.fails(reason).await;
        rig.hub().heal();
        rig.run().await.unwrap();
        rig.assert_published(&chosen());
    }
}

#[tokio::test]
async fn more_bytes_than_promised_are_cut_off() {
    let mut rig = Rig::new().await;
    rig.hub().fault(WEIGHTS, ALWAYS, Fault::Long);
    rig.run().await.unwrap();
    rig.assert_published(&chosen());
    let report = rig.progress.report(0);
    assert_eq!(report.bytes_done, report.bytes_total);
}

#[tokio::test]
async fn a_server_without_ranges_is_read_from_the_start() {
    let mut rig = Rig::new().await;
    rig.hub().fault(WEIGHTS, 1, Fault::Cut(300_000));
    rig.hub().fault(WEIGHTS, 1, Fault::IgnoreRange);
    rig.run().await.unwrap();
    rig.assert_published(&chosen());
    let report = rig.progress.report(0);
    assert_eq!(report.bytes_done, report.bytes_total);
}

#[tokio::test]
async fn another_range_than_asked_for_is_refused() {
    let mut rig = Rig::new().await;
    rig.hub().fault(WEIGHTS, 1, Fault::Cut(300_000));
    rig.hub().fault(WEIGHTS, ALWAYS, Fault::WrongRange);
    let message = rig.fails(Reason::HubUnavailable).await;
    assert!(message.contains("range"), "{message}");
}

#[tokio::test]
async fn a_compressed_body_is_refused() {
    let mut rig = Rig::new().await;
    rig.hub().fault("README.md", ALWAYS, answer(200, &[("content-encoding", "gzip")], "zzz"));
    let message = rig.fails(Reason::HubUnavailable).await;
    assert!(message.contains("gzip"), "{message}");
}

#[tokio::test]
async fn silence_is_noticed() {
    let mut rig = Rig::new().await;
    rig.settings.limits.no_progress = Duration::from_millis(50);
    let reached = Arc::new(Semaphore::new(0));
    rig.hub().fault(WEIGHTS, 1, Fault::Hang { after: 100_000, reached: Arc::clone(&reached) });
    rig.run().await.unwrap();
    rig.assert_published(&chosen());

    let mut rig = Rig::new().await;
    rig.settings.limits.no_progress = Duration::from_millis(20);
    rig.hub().fault(WEIGHTS, ALWAYS, Fault::Hang { after: 0, reached });
    rig.fails(Reason::Stalled).await;
}

#[tokio::test]
async fn a_later_attempt_goes_on_where_this_one_failed() {
    let mut rig = Rig::new().await;
    rig.hub().fault(WEIGHTS, 1, Fault::Cut(300_000));
    rig.hub().fault(WEIGHTS, ALWAYS, answer(500, &[], ""));
    rig.fails(Reason::HubUnavailable).await;
    rig.hub().heal();
    rig.hub().forget();
    let finished = rig.run().await.unwrap();
    rig.assert_published(&chosen());
    let again = rig.hub().requests_for("/resolve/");
    assert_eq!(again.iter().filter(|seen| seen.target.contains(WEIGHTS)).count(), 1);
    assert!(again.iter().any(|seen| seen.range.is_some()), "{again:#?}");
    assert!(finished.done.bytes_fetched <= 400_000 + 6_000, "{}", finished.done.bytes_fetched);
}

#[tokio::test]
async fn staged_bytes_that_rotted_cost_only_their_file() {
    let mut rig = Rig::new().await;
    rig.hub().fault("README.md", ALWAYS, answer(500, &[], ""));
    rig.fails(Reason::HubUnavailable).await;
    rig.hub().heal();
    let staging = std::fs::read_dir(rig.volume().join(".modelcache/staging")).unwrap().next().unwrap().unwrap().path();
    let part = staging.join("files/config.json");
    std::fs::create_dir_all(part.parent().unwrap()).unwrap();
    std::fs::write(&part, b"{\"model_type\": \"evil\"}\n").unwrap();
    rig.run().await.unwrap();
    rig.assert_published(&chosen());
}
