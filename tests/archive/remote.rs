//! Archives behind an address: lost connections, logins, redirects, and the digests of a Hub.

use crate::build::{CONFIG, Member, Tar, gzip, seed, zip, zstd};
use crate::fakehub::{self, Hub, HubFile, noise, sha256};
use crate::rig::Rig;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, Response, StatusCode};
use modelcache::engine::import::inspect;
use modelcache::engine::progress::Progress;
use modelcache::engine::{self, EngineError, Finished, Settings};
use modelcache::format::outcome::Resolved;
use modelcache::format::task::{
    ArchivePlace, ArchiveUrl, HubAccess, Import, MountedFile, ProxyChoice, Resolve, Task, Work,
};
use modelcache::hub::{Limits, Retry};
use modelcache::ident::Reason;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A server of one archive, which can be told to misbehave.
#[derive(Clone, Default)]
struct Shop {
    bytes: Arc<Mutex<Vec<u8>>>,
    seen: Arc<Mutex<Vec<HeaderMap>>>,
    /// Each answer ends after so many bytes, as long as there are any numbers.
    cuts: Arc<Mutex<Vec<usize>>>,
    tag: Arc<Mutex<Option<String>>>,
    ignores_ranges: bool,
    wants: Option<&'static str>,
    leads_to: Option<String>,
    status: Option<u16>,
}

impl Shop {
    fn of(bytes: &[u8]) -> Self {
        let shop = Self::default();
        *shop.bytes.lock().unwrap() = bytes.to_vec();
        *shop.tag.lock().unwrap() = Some("\"one\"".to_owned());
        shop
    }

    async fn open(&self) -> String {
        let shop = self.clone();
        let app = Router::new().fallback(move |request: Request<Body>| {
            let shop = shop.clone();
            async move { shop.answer(&request) }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        format!("http://{address}/models/tiny.tar?signature=secret")
    }

    fn answer(&self, request: &Request<Body>) -> Response<Body> {
        let headers = request.headers().clone();
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        self.seen.lock().unwrap().push(headers.clone());
        if let Some(place) = &self.leads_to {
            return Response::builder().status(302).header("location", place).body(Body::empty()).unwrap();
        }
        if let Some(status) = self.status {
            return Response::builder().status(status).body(Body::empty()).unwrap();
        }
        if self.wants.is_some() && header("authorization").as_deref() != self.wants {
            return Response::builder().status(401).body(Body::empty()).unwrap();
        }
        let bytes = Bytes::from(self.bytes.lock().unwrap().clone());
        let tag = self.tag.lock().unwrap().clone();
        let from =
            header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        let fits = header("if-range").is_none() || header("if-range") == tag;
        let mut answer = Response::builder();
        if let Some(tag) = tag {
            answer = answer.header("etag", tag);
        }
        let (from, answer) = match from.filter(|_| fits && !self.ignores_ranges) {
            Some(from) => {
                let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
                (from, answer.status(StatusCode::PARTIAL_CONTENT).header("content-range", range))
            }
            None => (0, answer),
        };
        let body = bytes.slice(from..);
        let answer = answer.header("content-length", body.len());
        let cut = self.cuts.lock().unwrap().pop();
        match cut.filter(|cut| *cut < body.len()) {
            None => answer.body(Body::from(body)).unwrap(),
            Some(cut) => {
                let lost = Err(std::io::Error::other("lost"));
                let pieces = [Ok(body.slice(..cut)), lost];
                answer.body(Body::from_stream(futures::stream::iter(pieces))).unwrap()
            }
        }
    }
}

fn url(url: String) -> ArchiveUrl {
    ArchiveUrl { url, auth: None, ca_bundle: None, proxy: ProxyChoice::default() }
}

fn import(archive: ArchivePlace) -> Import {
    Import { archive, sha256: None, expected: None, verify_against: None }
}

async fn run(volume: &Path, import: Import) -> Result<Finished, EngineError> {
    modelcache::hub::install_crypto();
    std::fs::create_dir_all(volume).unwrap();
    let retry = Retry { tries: 4, first: Duration::ZERO, longest: Duration::ZERO };
    let limits = Limits { no_progress: Duration::from_secs(5), retry, ..Limits::default() };
    let settings = Settings { limits, ..Settings::default() };
    let task =
        Task { nonce: "n".into(), volume: volume.to_owned(), sub_path: None, policy: None, work: Work::Import(import) };
    engine::run(&task, &settings, &Arc::new(Progress::default())).await
}

/// A model of more bytes than a socket's buffers hold.
fn large() -> Vec<u8> {
    Tar::seed().file("m/model/weights.bin", &noise(7, 4_000_000)).end()
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_connections_are_gone_on_with() {
    let rig = Rig::new();
    let shop = Shop::of(&large());
    shop.cuts.lock().unwrap().extend([900_000, 1, 1_500_000]);
    let finished = run(&rig.volume(), import(ArchivePlace::Url(url(shop.open().await)))).await.unwrap();
    assert!(rig.files()["weights.bin"] == noise(7, 4_000_000));
    assert_eq!(finished.done.bytes_fetched, large().len() as u64);
    let seen = shop.seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 4);
    assert!(seen[1..].iter().all(|headers| headers["if-range"] == "\"one\"" && headers.contains_key("range")));
    rig.assert_tidy();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_ranges_is_read_again_from_its_beginning() {
    let rig = Rig::new();
    let shop = Shop { ignores_ranges: true, ..Shop::of(&large()) };
    shop.cuts.lock().unwrap().push(1_000_000);
    run(&rig.volume(), import(ArchivePlace::Url(url(shop.open().await)))).await.unwrap();
    assert!(rig.files()["weights.bin"] == noise(7, 4_000_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_two_archives_are_never_mixed() {
    for tag in [None, Some("W/\"weak\"".to_owned())] {
        let rig = Rig::new();
        let shop = Shop::of(&large());
        *shop.tag.lock().unwrap() = tag;
        shop.cuts.lock().unwrap().push(1_000_000);
        let place = ArchivePlace::Url(url(shop.open().await));
        let error = run(&rig.volume(), import(place.clone())).await.unwrap_err();
        assert_eq!((error.reason(), error.reason().exit_code()), (Reason::HubUnavailable, 1), "{error}");
        rig.assert_untouched();
        // With a digest a mixture would be seen.
        shop.cuts.lock().unwrap().push(1_000_000);
        let known = Import { sha256: Some(sha256(&large()).parse().unwrap()), ..import(place) };
        run(&rig.volume(), known).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_stay_with_their_host() {
    let rig = Rig::new();
    let login = rig.path("login");
    std::fs::create_dir(&login).unwrap();
    let auth = Some(MountedFile { path: login.clone(), origin: "Secret \"shop\"".into() });
    let other = Shop::of(&Tar::seed().end());
    let other_place = other.open().await;
    let shop = Shop { leads_to: Some(other_place), ..Shop::of(b"") };
    let place = ArchiveUrl { auth: auth.clone(), ..url(shop.open().await) };
    let error = run(&rig.volume(), import(ArchivePlace::Url(place.clone()))).await.unwrap_err();
    assert_eq!(error.reason(), Reason::SecretNotFound, "{error}");
    std::fs::write(login.join("username"), "ada\n").unwrap();
    std::fs::write(login.join("password"), "hunter2\n").unwrap();
    run(&rig.volume(), import(ArchivePlace::Url(place))).await.unwrap();
    assert_eq!(shop.seen.lock().unwrap()[0]["authorization"], "Basic YWRhOmh1bnRlcjI=");
    assert!(!other.seen.lock().unwrap()[0].contains_key("authorization"));
    std::fs::write(login.join("token"), "abc").unwrap();
    let strict = Shop { wants: Some("Bearer abc"), ..Shop::of(&Tar::seed().end()) };
    let again = Rig::new();
    run(&again.volume(), import(ArchivePlace::Url(ArchiveUrl { auth, ..url(strict.open().await) }))).await.unwrap();
    let error = run(&Rig::new().volume(), import(ArchivePlace::Url(url(strict.open().await)))).await.unwrap_err();
    assert_eq!(error.reason(), Reason::Unauthorized);
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_their_reasons() {
    for (status, reason) in [
        (404, Reason::ArchiveNotFound),
        (403, Reason::Unauthorized),
        (429, Reason::RateLimited),
        (503, Reason::HubUnavailable),
    ] {
        let rig = Rig::new();
        let shop = Shop { status: Some(status), ..Shop::of(b"") };
        let error = run(&rig.volume(), import(ArchivePlace::Url(url(shop.open().await)))).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
        rig.assert_untouched();
    }
    let hidden = url("https://ada:hunter2@host/a.tar".to_owned());
    let error = run(&Rig::new().volume(), import(ArchivePlace::Url(hidden))).await.unwrap_err();
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zip_from_an_address_is_kept_until_its_directory_is_there() {
    let rig = Rig::new();
    let shop = Shop::of(&zip(&crate::build::seed()));
    run(&rig.volume(), import(ArchivePlace::Url(url(shop.open().await)))).await.unwrap();
    assert_eq!(rig.files()["config.json"], CONFIG);
    rig.assert_tidy();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_proves_the_files_of_an_archive() {
    let file = |path: &str, bytes: &[u8], lfs| HubFile { path: path.into(), bytes: bytes.to_vec(), lfs };
    let running = fakehub::start(Hub::new(vec![
        file("config.json", CONFIG, false),
        file("w.bin", b"weights", true),
        file("more", b"", false),
    ]))
    .await;
    let hub = HubAccess {
        endpoint: running.endpoint().parse().unwrap(),
        token: None,
        ca_bundle: None,
        proxy: ProxyChoice::default(),
        limit_bytes_per_second: None,
    };
    let against = |rig: &Rig, tar: Tar| {
        let path = rig.archive("a", &tar.end());
        let place = ArchivePlace::File(MountedFile { origin: path.display().to_string(), path });
        Import { verify_against: Some(hub.clone()), ..import(place) }
    };
    let rig = Rig::new();
    let good = against(&rig, Tar::seed().file("m/model/w.bin", b"weights"));
    assert_eq!(run(&rig.volume(), good).await.unwrap().done.unverified, None);
    for (bad, name) in [
        (Tar::seed().file("m/model/w.bin", b"Weights"), "w.bin"),
        (Tar::new().metadata().file("m/model/config.json", b"{}"), "config.json"),
        (Tar::seed().file("m/model/stranger", b""), "stranger"),
    ] {
        let rig = Rig::new();
        let import = against(&rig, bad);
        // What looks says the same as what does.
        let looked = inspect(&import, &Settings::default(), &Arc::new(Progress::default())).await.map(drop);
        for error in [run(&rig.volume(), import).await.unwrap_err(), looked.unwrap_err()] {
            assert_eq!(error.reason(), Reason::ChecksumMismatch, "{error}");
            assert!(error.to_string().contains(name), "{error}");
        }
        rig.assert_untouched();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_a_volume_cannot_tell_apart_are_refused_there_only() {
    let tar = Tar::seed().file("m/model/CONFIG.json", b"x").end();
    for ignores_case in [false, true] {
        let rig = Rig::new();
        std::fs::create_dir(rig.volume()).unwrap();
        let path = rig.archive("a", &tar);
        let place = ArchivePlace::File(MountedFile { origin: path.display().to_string(), path });
        let task = Task {
            nonce: "n".into(),
            volume: rig.volume(),
            sub_path: None,
            policy: None,
            work: Work::Import(import(place)),
        };
        let settings = Settings { ignores_case: Some(ignores_case), ..Settings::default() };
        let ended = engine::run(&task, &settings, &Arc::new(Progress::default())).await;
        match ended {
            Ok(_) => assert!(!ignores_case),
            Err(error) => {
                assert!(ignores_case && error.to_string().contains("m/model/CONFIG.json"), "{error}");
                assert_eq!(error.reason(), Reason::ArchiveUnsafe);
                rig.assert_untouched();
            }
        }
    }
}

/// What a worker says of the room that an archive takes.
async fn measure(archive: ArchivePlace) -> Result<Resolved, EngineError> {
    modelcache::hub::install_crypto();
    let retry = Retry { tries: 4, first: Duration::ZERO, longest: Duration::ZERO };
    let settings = Settings { limits: Limits { retry, ..Limits::default() }, ..Settings::default() };
    let work = Work::Resolve(Resolve::Archive(archive));
    let task = Task { nonce: "n".into(), volume: "".into(), sub_path: None, policy: None, work };
    let finished = engine::run(&task, &settings, &Arc::new(Progress::default())).await?;
    Ok(*finished.done.resolved.unwrap())
}

#[tokio::test]
async fn what_unpacking_takes_is_told_without_reading_it_all() {
    let place = tempfile::tempdir().unwrap();
    let file = |bytes: &[u8]| {
        let path = place.path().join("archive");
        std::fs::write(&path, bytes).unwrap();
        ArchivePlace::File(MountedFile { path, origin: "archive in claim usb".into() })
    };
    let large = vec![0; 300_000];
    let members: Vec<_> = seed().into_iter().chain([Member::new("m/model/large.bin", &large)]).collect();
    let members: Vec<_> = members.into_iter().map(Member::deflated).collect();
    let (tar, zip) = (Tar::seed().file("m/model/large.bin", &large).end(), zip(&members));
    let unpacked: u64 = (crate::build::metadata().len() + CONFIG.len() + large.len()) as u64;

    let (of_file, of_zip) = (measure(file(&tar)).await.unwrap(), measure(file(&zip)).await.unwrap());
    assert_eq!((of_file.files, of_file.bytes, of_file.commit), (None, tar.len() as u64, None));
    assert_eq!((of_zip.files, of_zip.bytes), (Some(3), unpacked));

    let shop = Shop::of(&tar);
    assert_eq!(measure(ArchivePlace::Url(url(shop.open().await))).await.unwrap().bytes, tar.len() as u64);
    // The import puts the zip itself beside its files.
    let shop = Shop::of(&zip);
    shop.cuts.lock().unwrap().extend([40, zip.len()]);
    let found = measure(ArchivePlace::Url(url(shop.open().await))).await.unwrap();
    assert_eq!((found.files, found.bytes), (Some(3), unpacked + zip.len() as u64));
}

#[tokio::test]
async fn what_cannot_be_measured_says_where_to_give_the_size() {
    let place = tempfile::tempdir().unwrap();
    let tar = Tar::seed().end();
    for (bytes, word) in [(gzip(&tar), "compressed as a whole"), (zstd(&tar), "compressed as a whole")] {
        let path = place.path().join("archive");
        std::fs::write(&path, bytes).unwrap();
        let file = MountedFile { path, origin: "archive in claim usb".into() };
        let error = measure(ArchivePlace::File(file)).await.unwrap_err();
        assert_eq!(error.reason(), Reason::ArchiveInvalid);
        let text = error.to_string();
        assert!(text.contains(word) && text.contains("spec.source.archive.unpackedBytes"), "{text}");
    }
    // A zip's directory is at its end: such a server would have to send it all.
    let shop = Shop { ignores_ranges: true, ..Shop::of(&zip(&seed_with(200_000))) };
    let text = measure(ArchivePlace::Url(url(shop.open().await))).await.unwrap_err().to_string();
    assert!(text.contains("first byte on") && text.contains("unpackedBytes") && !text.contains("secret"), "{text}");
}

fn seed_with(bytes: usize) -> Vec<Member> {
    seed().into_iter().chain([Member::new("m/model/large.bin", &noise(3, bytes))]).collect()
}
