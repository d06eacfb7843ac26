//! Random sequences of everything that may be done to one volume, with a death at any write: after each step every entry that is
//! left is exactly what it must be, and at the end nothing is left without an owner.
//!
//! A sequence has eight steps. Of twenty steps eight are downloads (updates, where the branch moved), three imports, two
//! deletions, two deletions of unfinished work and five moves of a branch. Every second one may write less than ninety times, which
//! is a death where it needs more, and half of these are done once more at once. Three models share the snapshots of each repo.
//! At the end everything is deleted, what is an entry with a death first.
//!
//! `MODELCACHE_SEED=N` runs one sequence, `MODELCACHE_SOAK=1` ten thousand.

mod hub;
mod world;

use super::progress::Progress;
use super::volume::crash;
use super::{EngineError, Finished, Settings};
use crate::format::layout::Source;
use crate::format::task::{Delete, Download, FileChoice, HubAccess, Import, Task, Work};
use crate::hub::{Limits, Retry};
use crate::ident::{Commit, Reason, Sha256};
use hub::{BRANCHES, REPOS, VERSIONS};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use world::{Choice, Held, Key, State, World, keys, model, paths};

const SEQUENCES: u64 = 500;
const SEQUENCES_OF_SOAK: u64 = 10_000;
const STEPS: u64 = 8;
const THREADS: usize = 2;
/// What is enough for a snapshot to be let go of.
const WRITES_OF_PRUNING: usize = 60;
/// No task of this test writes so often.
const NEVER: usize = usize::MAX;

/// Sequences that failed once, and what was wrong.
const NAMED: &[(u64, &str)] =
    &[(7, "a kept snapshot whose removal was interrupted was taken for whole (see `pruned`)")];

/// Numbers that are the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn small(&mut self, sides: u32) -> u32 {
        u32::try_from(self.roll(u64::from(sides))).unwrap()
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.roll(from.len() as u64)).unwrap()].clone()
    }

    fn choice(&mut self) -> Choice {
        self.pick(&[Choice::All, Choice::All, Choice::Json, Choice::NoReadme])
    }
}

/// What is done.
#[derive(Debug, Clone)]
enum Step {
    Download { key: Key, choice: Choice, keep: u32, mounted: Vec<Commit>, is_seen: bool },
    Import { key: Key, version: u32, choice: Choice },
    Delete { key: Key },
    DeleteUnfinished { key: Key },
    DeleteSource { key: Key, version: u32, choice: Choice, is_others: bool },
    Moves { repo: &'static str, branch: &'static str, version: u32 },
}

fn step(dice: &mut Dice, world: &World, imported: &[(Key, u32, Choice)]) -> Step {
    let key = dice.pick(&keys());
    match dice.roll(20) {
        0..8 => {
            let mounted = world.commits(&key.0).into_iter().filter(|_| dice.roll(4) == 0).collect();
            let (choice, keep) = (dice.choice(), dice.small(3));
            Step::Download { key, choice, keep, mounted, is_seen: dice.roll(4) != 0 }
        }
        8..11 => Step::Import { key, version: dice.small(VERSIONS), choice: dice.choice() },
        11..13 => Step::Delete { key },
        13 => Step::DeleteUnfinished { key },
        14 => {
            let other = (key, dice.small(VERSIONS), dice.choice());
            let (key, version, choice) = if imported.is_empty() { other } else { dice.pick(imported) };
            Step::DeleteSource { key, version, choice, is_others: dice.roll(3) == 0 }
        }
        _ => Step::Moves { repo: dice.pick(&REPOS), branch: dice.pick(&BRANCHES), version: dice.small(VERSIONS) },
    }
}

fn branch(key: &Key) -> &str {
    key.1.as_deref().unwrap_or("main")
}

fn globs(choice: Choice) -> FileChoice {
    let globs = |text: &str| vec![text.to_owned()];
    match choice {
        Choice::All => FileChoice::default(),
        Choice::Json => FileChoice { include: globs("*.json"), ..FileChoice::default() },
        Choice::NoReadme => FileChoice { exclude: globs("README.md"), ..FileChoice::default() },
    }
}

/// The archive of a version, made where it is missing.
fn archive(world: &World, key: &Key, version: u32, choice: Choice) -> PathBuf {
    let path = world.place.path().join(format!("{}-{version}-{choice:?}.tar", model(key).entry_name().as_str()));
    if path.exists() {
        return path;
    }
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, format!("m/{name}"), bytes).unwrap();
    };
    let metadata = serde_json::json!({
        "commitHash": hub::commit(&key.0, version), "downloadDate": 1, "modelDefinition": {"key": model(key).key()},
        "url": "https://hub.example/", "version": 0
    });
    add("model_metadata.json", metadata.to_string().as_bytes());
    for (path, (bytes, _)) in hub::files(&key.0, version).iter().filter(|(path, _)| choice.takes(path)) {
        add(&format!("model/{path}"), bytes);
    }
    std::fs::write(&path, tar.into_inner().unwrap()).unwrap();
    path
}

fn import(world: &World, key: &Key, version: u32, choice: Choice) -> Import {
    let place = archive(world, key, version, choice);
    serde_json::from_value(serde_json::json!({"archive": {"file": {"path": place, "origin": "an archive"}}})).unwrap()
}

fn work(world: &World, step: &Step) -> Option<Work> {
    let delete =
        |model, unfinished_only, source, kept| Some(Work::Delete(Delete { model, unfinished_only, source, kept }));
    match step {
        Step::Moves { .. } => None,
        Step::Download { key, choice, keep, mounted, is_seen } => {
            let hub: HubAccess = serde_json::from_value(serde_json::json!({"endpoint": world.endpoint})).unwrap();
            let now = hub::commit(&key.0, world.hub.at(&key.0, branch(key)));
            Some(Work::Download(Download {
                model: model(key),
                hub,
                files: globs(*choice),
                requested_by: "ada".to_owned(),
                seen_at: is_seen.then(|| now.parse().unwrap()),
                keep: *keep,
                mounted: mounted.clone(),
            }))
        }
        Step::Import { key, version, choice } => Some(Work::Import(import(world, key, *version, *choice))),
        Step::Delete { key } => delete(Some(model(key)), false, None, Vec::new()),
        Step::DeleteUnfinished { key } => delete(Some(model(key)), true, None, Vec::new()),
        Step::DeleteSource { key, version, choice, is_others } => {
            let kept = is_others.then(|| model(key).key()).into_iter().collect();
            delete(None, true, Some(source(world, key, *version, *choice)), kept)
        }
    }
}

fn source(world: &World, key: &Key, version: u32, choice: Choice) -> Sha256 {
    Source::of_import(&import(world, key, version, choice)).unwrap().digest()
}

/// Does a step in a process of its own that may do so many writes; says whether it lived.
async fn run(world: &mut World, work: Work, writes: usize) -> (Result<Finished, EngineError>, bool) {
    let volume = world.process(writes);
    let task = Task { nonce: "n".to_owned(), volume: volume.clone(), sub_path: None, policy: None, work };
    let retry = Retry { tries: 2, first: Duration::ZERO, longest: Duration::ZERO };
    let limits = Limits { retry, ..Limits::default() };
    let settings = Settings { limits, connections_max: 2, ignores_case: Some(false), ..Settings::default() };
    let ended = super::run(&task, &settings, &Arc::new(Progress::default())).await;
    let lived = !crash::is_dead(&volume);
    // A process ends with its task.
    crash::kill(&volume);
    (ended, lived)
}

/// What an entry is afterwards, if all goes well.
fn after(world: &World, step: &Step) -> Option<(Key, Vec<Option<State>>)> {
    let state = |version, choice| Some(State { version, choice, date: None });
    match step {
        Step::Moves { .. } | Step::DeleteUnfinished { .. } => None,
        // The archive's entry goes, where it is still the one that the archive ended in, and nobody else's.
        Step::DeleteSource { key, version, choice, is_others } => {
            let goes = !is_others && world.is_made_of(&source(world, key, *version, *choice), key);
            goes.then(|| (key.clone(), vec![None]))
        }
        Step::Delete { key } => Some((key.clone(), vec![None])),
        Step::Download { key, choice, is_seen, .. } => {
            let mut may = vec![state(world.hub.at(&key.0, branch(key)), *choice)];
            // Nobody said that there is another commit.
            may.extend(
                (!is_seen).then_some(world.held(key).now).filter(|now| now.is_some_and(|now| now.choice == *choice)),
            );
            Some((key.clone(), may))
        }
        Step::Import { key, version, choice } => {
            let now = world.held(key).now;
            // Files that do not differ are not asked twice for their commit.
            let listed = |state: State| hub_files(&key.0, state);
            let is_same = now.filter(|now| listed(*now) == listed(state(*version, *choice).unwrap()));
            Some((key.clone(), if is_same.is_some() { vec![now] } else { vec![state(*version, *choice)] }))
        }
    }
}

fn hub_files(repo: &str, state: State) -> BTreeMap<String, Vec<u8>> {
    let files = hub::files(repo, state.version).into_iter().filter(|(path, _)| state.choice.takes(path));
    files.map(|(path, (bytes, _))| (path, bytes)).collect()
}

fn is_like(one: Option<State>, other: Option<State>) -> bool {
    let plain = |state: State| (state.version, state.choice);
    one.map(plain) == other.map(plain)
}

/// What of the older snapshots stays after a step that ended well.
fn kept_after(world: &World, key: &Key, step: &Step, now: Option<State>) -> world::Kept {
    let held = world.held(key);
    let (Some(now), Step::Download { keep, mounted, .. }) = (now, step) else {
        return if now.is_some() { held.kept } else { world::Kept::new() };
    };
    let mut kept = held.kept;
    if let Some(old) = held.now.filter(|old| !is_like(Some(*old), Some(now))) {
        let (listed, date) = kept.entry(old.version).or_default();
        listed.extend(paths(&key.0, old.version, old.choice));
        *date = old.date;
    }
    let mut newest: Vec<_> = kept.iter().filter(|(version, _)| **version != now.version).collect();
    newest.sort_by_key(|(version, (_, date))| std::cmp::Reverse((*date, hub::commit(&key.0, **version))));
    let newest: Vec<u32> = newest.into_iter().take(*keep as usize).map(|(version, _)| *version).collect();
    let is_mounted = |version: u32| mounted.contains(&hub::commit(&key.0, version).parse().unwrap());
    kept.retain(|version, _| newest.contains(version) || is_mounted(*version));
    kept
}

/// Does a step, and holds the volume against what must be there.
async fn take(world: &mut World, step: &Step, writes: usize) {
    if let Step::Moves { repo, branch, version } = step {
        world.hub.moves(repo, branch, *version);
        return;
    }
    let Some(work) = work(world, step) else { return };
    let after = after(world, step);
    let (ended, lived) = run(world, work, writes).await;
    let said = ended.as_ref().map(|finished| finished.done.commit).map_err(ToString::to_string);
    world.history.push(format!("{step:?} {} {said:?}", if lived { "lived:" } else { "died:" }));
    let Some((key, may)) = after else {
        assert!(!lived || ended.is_ok(), "{ended:?}");
        resync(world, step, None);
        return world.check(None);
    };
    if !lived {
        resync(world, step, Some((&key, &may)));
        return world.check(None);
    }
    let now = world.state(&key);
    match ended {
        Ok(_) => {
            assert!(may.iter().any(|may| is_like(*may, now)), "{key:?} is {now:?} and not one of {may:?}");
            let kept = kept_after(world, &key, step, now);
            world.held.insert(key.clone(), Held { now, kept });
            let is_settled = matches!(step, Step::Download { .. });
            world.check(is_settled.then_some(&key));
        }
        Err(error) => {
            let is_other = matches!(step, Step::Import { .. }) && world.held(&key).now.is_some();
            assert!(is_other && error.reason() == Reason::Conflict, "{step:?}: {error}");
            world.check(None);
        }
    }
}

/// After a death an entry is what it was or what it was to become, and keeps all that it kept, or what it was to keep.
fn resync(world: &mut World, step: &Step, touched: Option<(&Key, &[Option<State>])>) {
    for key in keys() {
        let before = world.held(&key);
        let now = world.state(&key);
        let must = match touched {
            Some((touched, may)) if *touched == key => {
                let has_become = may.iter().any(|may| is_like(*may, now));
                let is_one = now == before.now || has_become;
                assert!(is_one, "{key:?} is {now:?}, and was {:?}, and was to be one of {may:?}", before.now);
                if has_become { kept_after(world, &key, step, now) } else { before.kept }
            }
            _ => {
                assert_eq!(now, before.now, "{key:?} was not meant");
                before.kept
            }
        };
        let kept = if now.is_some() { world.kept(&key) } else { world::Kept::new() };
        for (version, (listed, _)) in must.iter().filter(|_| now.is_some()) {
            let is_kept = kept.get(version).is_some_and(|(on_volume, _)| on_volume.is_superset(listed));
            assert!(is_kept, "{key:?} keeps version {version} no more: {kept:?}");
        }
        world.held.insert(key.clone(), Held { now, kept });
    }
}

fn sequence(seed: u64) {
    let mut world = World::new(format!("MODELCACHE_SEED={seed} runs this sequence again"));
    // It ends before the world does, and with it what a death left running.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(steps(&mut world, Dice(seed)));
}

async fn steps(world: &mut World, mut dice: Dice) {
    world.endpoint = world.hub.start().await;
    let mut imported = Vec::new();
    let mut again = None;
    for _ in 0..STEPS {
        let next = again.take().unwrap_or_else(|| step(&mut dice, world, &imported));
        if let Step::Import { key, version, choice } = &next {
            imported.push((key.clone(), *version, *choice));
        }
        let writes = if dice.roll(2) == 0 { NEVER } else { usize::try_from(dice.roll(90)).unwrap() };
        take(world, &next, writes).await;
        again = (dice.roll(2) == 0 && writes != NEVER).then_some(next);
    }
    for key in keys() {
        if world.held(&key).now.is_some() {
            take(world, &Step::Delete { key: key.clone() }, usize::try_from(dice.roll(60)).unwrap()).await;
        }
        take(world, &Step::Delete { key }, NEVER).await;
    }
    for (key, version, choice) in BTreeSet::from_iter(imported) {
        take(world, &Step::DeleteSource { key, version, choice, is_others: false }, NEVER).await;
    }
    world.check_empty();
}

/// A snapshot that is kept no more is let go of, with a death at the write of that number; then it would be kept again.
fn pruned(writes: usize) {
    let mut world = World::new(format!("the death was at write {writes} of the third download"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        world.endpoint = world.hub.start().await;
        let key: Key = (REPOS[0].to_owned(), None);
        let download =
            |keep| Step::Download { key: key.clone(), choice: Choice::All, keep, mounted: Vec::new(), is_seen: true };
        take(&mut world, &download(1), NEVER).await;
        take(&mut world, &Step::Moves { repo: REPOS[0], branch: BRANCHES[0], version: 3 }, NEVER).await;
        take(&mut world, &download(1), NEVER).await;
        take(&mut world, &download(0), writes).await;
        take(&mut world, &download(1), NEVER).await;
    });
}

/// Where TLS looks for the system's certificates. Each task reads them, which takes longer than all else that it does here.
const CERTIFICATES: &str = "SSL_CERT_FILE";
/// Says that there are none, in a process where that was seen to: who runs the tests may have said where theirs are.
const WITHOUT_CERTIFICATES: &str = "MODELCACHE_WITHOUT_CERTIFICATES";

/// Does it in a process that finds none.
fn again_without_certificates() {
    let none = tempfile::NamedTempFile::new().unwrap();
    let name = concat!(module_path!(), "::entries_survive_everything_and_nothing_is_left_without_an_owner");
    let name = name.split_once("::").unwrap().1;
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", name, "--nocapture"]).env(WITHOUT_CERTIFICATES, "yes");
    again.env(CERTIFICATES, none.path()).env_remove("SSL_CERT_DIR");
    let output = again.output().unwrap();
    let said = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(said(&output.stdout).contains("1 passed"), "{}{}", said(&output.stdout), said(&output.stderr));
}

#[test]
fn entries_survive_everything_and_nothing_is_left_without_an_owner() {
    if std::env::var_os(WITHOUT_CERTIFICATES).is_none() {
        return again_without_certificates();
    }
    crate::hub::install_crypto();
    (0..WRITES_OF_PRUNING).for_each(pruned);
    let one = std::env::var("MODELCACHE_SEED").ok().map(|text| text.parse::<u64>().unwrap());
    let many = if std::env::var_os("MODELCACHE_SOAK").is_some() { SEQUENCES_OF_SOAK } else { SEQUENCES };
    let named = NAMED.iter().map(|(seed, _)| *seed);
    let all: BTreeSet<u64> = one.map_or_else(|| named.chain(0..many).collect(), |seed| [seed].into());
    let seeds = Vec::from_iter(all);
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            if std::panic::catch_unwind(|| sequence(*seed)).is_err() {
                failed.lock().unwrap().push(*seed);
            }
        }
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|_| _ = scope.spawn(work)));
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "of {} sequences these failed: {failed:?}", seeds.len());
}
