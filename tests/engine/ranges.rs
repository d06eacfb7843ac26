//! Large files come in ranges, over several connections.

use crate::fakehub::{self, COMMIT, Fault, Hub, HubFile, Running, answer, noise};
use crate::rig::{Rig, chosen, settings};
use modelcache::engine::Cut;
use modelcache::ident::Reason;

const ALWAYS: usize = usize::MAX;
const WEIGHTS: &str = "model.safetensors";
const PIECE: u64 = 64 * 1024;

/// A Hub that sends its readers to another host for the weights, and pieces so small that these are many.
async fn rig() -> (Rig, Running) {
    let cdn = fakehub::start(Hub::new(fakehub::tiny_model())).await;
    let mut rig = Rig::new().await;
    *rig.hub().cdn.lock().unwrap() = Some(cdn.endpoint());
    rig.settings.cut = Cut { piece_bytes: PIECE, half_bytes: PIECE / 4 };
    (rig, cdn)
}

fn assert_whole(rig: &Rig) {
    rig.assert_published(&chosen());
    let report = rig.progress.report(0);
    assert_eq!((report.bytes_done, report.files_done), (report.bytes_total, report.files_total));
}

#[tokio::test]
async fn the_hub_is_asked_once_for_each_file_and_the_content_network_for_the_ranges() {
    let (mut rig, cdn) = rig().await;
    rig.run().await.unwrap();
    assert_whole(&rig);
    // One revision, one page, six files that are not empty, one of them large.
    assert_eq!(rig.hub().seen().len(), 1 + 1 + 6);
    let ranges: Vec<_> = cdn.hub.seen().into_iter().map(|seen| seen.range.unwrap()).collect();
    assert!(ranges.len() >= 11, "{ranges:?}");
    assert_eq!(ranges[0], "bytes=0-65535");
}

#[tokio::test]
async fn a_signature_that_expires_on_the_way_is_renewed_once_for_all_connections() {
    let (mut rig, cdn) = rig().await;
    cdn.hub.fault("/cdn/", 3, Fault::Fine);
    cdn.hub.fault("/cdn/", 1, answer(403, &[], "expired"));
    rig.run().await.unwrap();
    assert_whole(&rig);
    assert_eq!(rig.hub().requests_for(WEIGHTS).len(), 2);
}

#[tokio::test]
async fn a_network_that_refuses_for_ever_is_given_up() {
    let (mut rig, cdn) = rig().await;
    cdn.hub.fault("/cdn/", 3, Fault::Fine);
    cdn.hub.fault("/cdn/", ALWAYS, answer(403, &[], "expired"));
    rig.fails(Reason::HubUnavailable).await;
    // What came before is there when the next attempt begins.
    cdn.hub.heal();
    let before = cdn.hub.seen().len();
    rig.run().await.unwrap();
    rig.assert_published(&chosen());
    let again: Vec<_> = cdn.hub.seen().drain(before..).filter_map(|seen| seen.range).collect();
    assert!(again.len() <= 9 && !again.contains(&"bytes=0-65535".to_owned()), "{again:?}");
}

#[tokio::test]
async fn a_server_that_ignores_ranges_sends_the_file_once() {
    let (mut rig, cdn) = rig().await;
    cdn.hub.fault("/cdn/", ALWAYS, Fault::IgnoreRange);
    rig.run().await.unwrap();
    assert_whole(&rig);
    assert!(cdn.hub.seen().len() <= 4, "{:?}", cdn.hub.seen());
}

#[tokio::test]
async fn a_server_that_begins_to_ignore_ranges_is_gone_on_with() {
    for first in 1..6 {
        let (mut rig, cdn) = rig().await;
        cdn.hub.fault("/cdn/", first, Fault::Fine);
        cdn.hub.fault("/cdn/", 1, Fault::IgnoreRange);
        cdn.hub.fault("/cdn/", 1, Fault::Cut(10_000));
        cdn.hub.fault("/cdn/", ALWAYS, Fault::IgnoreRange);
        rig.run().await.unwrap();
        assert_whole(&rig);
    }
}

#[tokio::test]
async fn lost_connections_refusals_and_short_bodies_cost_only_their_ranges() {
    let (mut rig, cdn) = rig().await;
    for fault in [
        Fault::Cut(20_000),
        Fault::Short(30_000),
        answer(429, &[("ratelimit", "\"resolvers\";r=0;t=0")], ""),
        Fault::Fine,
        answer(503, &[], ""),
        answer(416, &[], ""),
    ] {
        cdn.hub.fault("/cdn/", 1, fault);
    }
    let finished = rig.run().await.unwrap();
    assert_whole(&rig);
    assert_eq!(finished.done.bytes_fetched, finished.done.manifest.unwrap().bytes);
}

#[tokio::test]
async fn one_wrong_bit_in_one_range_costs_the_file_once() {
    let (mut rig, cdn) = rig().await;
    cdn.hub.fault("/cdn/", 2, Fault::Fine);
    cdn.hub.fault("/cdn/", 1, Fault::Flip(8 * 150_000));
    // The third request may be for another range than the one with that bit.
    cdn.hub.fault("/cdn/", 9, Fault::Flip(8 * 150_000));
    rig.run().await.unwrap();
    assert_whole(&rig);
    assert!(cdn.hub.seen().len() >= 22, "fetched again");
}

#[tokio::test]
async fn a_journal_that_lies_costs_only_its_file() {
    let (mut rig, cdn) = rig().await;
    rig.hub().fault("README.md", ALWAYS, answer(500, &[], ""));
    cdn.hub.fault("/cdn/", ALWAYS, answer(500, &[], ""));
    rig.fails(Reason::HubUnavailable).await;
    rig.hub().heal();
    cdn.hub.heal();
    let staging = std::fs::read_dir(rig.volume().join(".modelcache/staging")).unwrap().next().unwrap().unwrap().path();
    // The weights are the sixth of the seven files; nothing of them was ever there.
    std::fs::create_dir_all(staging.join("files")).unwrap();
    std::fs::write(staging.join("files").join(WEIGHTS), vec![0; 700_000]).unwrap();
    std::fs::write(staging.join("journal"), "modelcache journal 1\n6 0 700000\n").unwrap();
    cdn.hub.forget();
    rig.run().await.unwrap();
    rig.assert_published(&chosen());
    assert!(cdn.hub.seen().len() >= 11);
}

#[tokio::test]
async fn a_hundred_wrong_bits_are_seen_and_none_is_published() {
    let mut files = chosen();
    files.iter_mut().filter(|file| file.path == WEIGHTS).for_each(|file| file.bytes = noise(7, 40_000));
    let mut state = 1_u64;
    for _ in 0..100 {
        let mut rig = Rig::with(files.clone()).await;
        rig.settings = settings();
        rig.settings.cut = Cut { piece_bytes: 10_000, half_bytes: 2_000 };
        let not_empty: Vec<&HubFile> = files.iter().filter(|file| !file.bytes.is_empty()).collect();
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        let file = not_empty[random(not_empty.len())];
        rig.hub().fault(&format!("/{COMMIT}/{}", file.path), ALWAYS, Fault::Flip(random(file.bytes.len() * 8)));
        let message = rig.fails(Reason::ChecksumMismatch).await;
        assert!(message.contains(&file.path), "{message}");
    }
}
