//! The operator's decisions against a simulated cluster and disk.
//!
//! Real are everything in `controller::plan` and `controller::build`, the tasks and the workers' words. Simulated are the
//! cluster with its controllers (`cluster`, `controllers`), the volume's rules (`disk`) with the workers that follow them
//! (`worker`), a Hub (`hub`), the shell around the decisions (`operator`), and people and misfortune (`people`). One number decides
//! what happens: `MODELCACHE_SEED=7 cargo test --test simulator one_seed -- --nocapture` tells a run again, step by step.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test that cannot go on shall panic")]

mod cluster;
mod consumers;
mod controllers;
mod dice;
mod disk;
mod hub;
mod invariants;
mod operator;
mod people;
mod settled;
mod specs;
mod worker;

use cluster::{Cluster, KINDS};
use consumers::Hold;
use dice::Dice;
use disk::Disk;
use hub::Hub;
use invariants::Place;
use modelcache::api::ModelCacheEntry;
use modelcache::controller::config::Config;
use operator::{Log, Operator, Surroundings};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use worker::Worker;

/// Steps of a run before everything calms down.
const STEPS: usize = 400;
/// From this seed on, Hubs let only so many Jobs take from them at a time. What is rolled before is what it always was.
const LIMITED: u64 = 10_000;
/// What one settling may take, in steps: far more than any that ends.
const PATIENCE: usize = 50_000;
/// So many lines of a story are shown.
const LINES: usize = 150;

/// Seeds that once found something, and what. They shift with every change of what is rolled: a bug is worth a pure test too.
const NAMED: [(u64, &str); 14] = [
    // Before Pods, sizes and updates were rolled:
    (155, "an archive's entry was deleted before its archive's revision was heard, and its model stayed"),
    (186, "a wrong expectation: a missing archive's claim is said before an own claim's name that is taken"),
    (
        228,
        "an entry was deleted just after its worker published, beside a younger twin of an archive: the model stayed",
    ),
    (258, "a shared claim was made anew before a worker's end was recorded: an entry became Ready on an empty volume"),
    // Since then:
    (11, "a wrong expectation: a claim that goes waits for the Pods that have it"),
    (125, "a wrong expectation: a Pod with another revision's hub cache keeps a model from being deleted"),
    (226, "a wrong expectation: such a Pod does not bring a model back"),
    (392, "a wrong expectation: what is in a claim that goes, and that Pods still have, is left to it"),
    (420, "a wrong expectation: a model may go by itself in the time in which nothing else may happen"),
    (464, "an entry that went before its model came was counted by its connection for ever"),
    (10_021, "a Job whose claim never bound held up everybody of its Hub"),
    (10_036, "a removal that was decided by old news took what a twin had published a moment ago"),
    (10_046, "a Job that gave way was made anew by a round that had not heard of that, and kept its place for ever"),
    (10_264, "a deletion waited for ever beside an import whose archive never came"),
];

/// What happened, told line by line where somebody listens.
#[derive(Debug, Default)]
pub(crate) struct Story {
    is_told: bool,
    step: usize,
    lines: Vec<String>,
}

impl Story {
    pub(crate) fn tell(&mut self, line: impl FnOnce() -> String) {
        if self.is_told {
            self.lines.push(format!("{:5} {}", self.step, line()));
        }
    }
}

/// Everything there is.
pub(crate) struct World {
    cluster: Cluster,
    operator: Operator,
    config: Config,
    /// Whether connections may let only so many Jobs take from their Hubs at a time.
    hubs_are_limited: bool,
    dice: Dice,
    hub: Hub,
    /// Volumes, by their claim's uid.
    disks: BTreeMap<String, Disk>,
    /// The workers of running Pods, by the Pod's name.
    workers: BTreeMap<String, Worker>,
    logs: BTreeMap<String, Log>,
    /// Pods on which nothing moves now.
    hung: BTreeSet<String>,
    pods_are_refused: bool,
    /// Of a thousand requests of the operator, how many fail.
    failing: usize,
    /// The entries as they were a step ago.
    before: BTreeMap<String, Arc<ModelCacheEntry>>,
    /// Where those that are Ready were when they became so; nowhere, when their claim went in the same moment.
    ready: BTreeMap<String, Option<Place>>,
    /// What people left on volumes on purpose.
    left_behind: BTreeSet<Place>,
    /// What running Pods read, by the Pod's name.
    holds: BTreeMap<String, Vec<Hold>>,
    /// The entries whose deletion was forced, by their uid.
    forced: BTreeSet<String>,
    /// What removals left to others: the entry's uid, and the model's key.
    spared: BTreeSet<(String, String)>,
    /// The Jobs whose tasks were read for that, by their uid.
    read: BTreeSet<String>,
    /// Whether a connection ever limited its models.
    limited: bool,
    story: Story,
}

impl World {
    fn new(seed: u64, is_told: bool) -> Self {
        let mut cluster = Cluster::new();
        let mut dice = Dice::new(seed);
        let mut config: Config = serde_yaml::from_str("image: modelcache:1\nendpoint: https://hub.example").unwrap();
        let hubs_are_limited = seed >= LIMITED;
        if hubs_are_limited {
            config.max_concurrent_jobs = [None, Some(1), Some(1), Some(2)][dice.below(4)];
        }
        let mut world = Self {
            operator: Operator::start(&mut cluster),
            cluster,
            config,
            hubs_are_limited,
            dice,
            hub: Hub::new(),
            disks: BTreeMap::new(),
            workers: BTreeMap::new(),
            logs: BTreeMap::new(),
            hung: BTreeSet::new(),
            pods_are_refused: false,
            failing: 0,
            before: BTreeMap::new(),
            ready: BTreeMap::new(),
            left_behind: BTreeSet::new(),
            holds: BTreeMap::new(),
            forced: BTreeSet::new(),
            spared: BTreeSet::new(),
            read: BTreeSet::new(),
            limited: false,
            story: Story { is_told, ..Story::default() },
        };
        world.furnish();
        world
    }

    /// One step: something of all that may happen now.
    fn step(&mut self) -> Result<(), String> {
        let has_moved = match self.dice.below(100) {
            0..35 => self.step_operator(),
            35..55 => self.step_watch(),
            55..80 => self.step_cluster(),
            80..87 => false,
            87..94 => {
                self.somebody_acts();
                true
            }
            _ => {
                self.something_happens();
                true
            }
        };
        if !has_moved {
            let seconds = [1, 5, 20, 700][self.dice.below(13).min(12) / 4];
            self.cluster.later(seconds);
        }
        self.after_step()
    }

    fn after_step(&mut self) -> Result<(), String> {
        self.story.step += 1;
        self.check()
    }

    fn step_operator(&mut self) -> bool {
        let ready = self.operator.ready(self.cluster.now);
        let begins = self.operator.rounds.is_empty() || self.dice.happens(300);
        let (operator, mut around) = self.around();
        if begins && let Some(subject) = around.dice.one_of(ready) {
            operator.begin(&subject, &mut around);
            return true;
        }
        if operator.rounds.is_empty() {
            return false;
        }
        let at = around.dice.below(operator.rounds.len());
        operator.go_on(at, &mut around);
        true
    }

    fn step_watch(&mut self) -> bool {
        let waiting = KINDS.into_iter().filter(|kind| !self.cluster.watches[kind].is_empty());
        let Some(kind) = self.dice.one_of(waiting.collect::<Vec<_>>()) else { return false };
        let change = self.cluster.watches.get_mut(&kind).unwrap().pop_front().unwrap();
        self.operator.hear(kind, &change, &self.config, self.cluster.now);
        if self.dice.happens(20) {
            // Told twice.
            self.operator.hear(kind, &change, &self.config, self.cluster.now);
        }
        true
    }

    fn step_cluster(&mut self) -> bool {
        let moves = self.moves();
        let Some(what) = self.dice.one_of(moves) else { return false };
        self.do_move(what);
        true
    }

    /// Lets everything go its way for some time, without people and misfortune.
    fn settle(&mut self, seconds: i64) -> Result<(), String> {
        let end = self.cluster.now + jiff::SignedDuration::from_secs(seconds);
        for _ in 0..PATIENCE {
            let has_moved = match self.dice.below(3) {
                0 => self.step_watch() || self.step_cluster() || self.step_operator(),
                1 => self.step_cluster() || self.step_operator() || self.step_watch(),
                _ => self.step_operator() || self.step_watch() || self.step_cluster(),
            };
            self.after_step()?;
            if has_moved {
                continue;
            }
            let next = self.operator.due.values().min().copied().filter(|next| *next <= end);
            let Some(next) = next else {
                self.cluster.now = end;
                return Ok(());
            };
            self.cluster.now = self.cluster.now.max(next);
        }
        Err(format!("it does not come to rest: due are {:?}", self.operator.due))
    }

    /// What the operator finds around it, and the operator.
    fn around(&mut self) -> (&mut Operator, Surroundings<'_>) {
        let around = Surroundings {
            cluster: &mut self.cluster,
            logs: &self.logs,
            config: &self.config,
            dice: &mut self.dice,
            failing: self.failing,
            story: &mut self.story,
        };
        (&mut self.operator, around)
    }

    /// So many steps of people and misfortune, then calm, then the end.
    fn run(&mut self, steps: usize) -> Result<(), String> {
        for _ in 0..steps {
            self.step()?;
        }
        self.story.tell(|| "=== calm".to_owned());
        self.calm_down();
        self.settle(20 * 60)?;
        for name in self.cluster.entries.keys().cloned().collect::<Vec<_>>() {
            self.ask_to_retry(&name);
        }
        self.settle(5 * 60)?;
        self.check_settled()?;
        self.check_idle()?;
        self.story.tell(|| "=== the end".to_owned());
        for name in self.cluster.entries.keys().cloned().collect::<Vec<_>>() {
            self.delete_entry(&name);
        }
        // What Pods use waits for them.
        self.settle(60)?;
        self.end_consumers();
        self.settle(5 * 60)?;
        self.check_empty()
    }

    /// Nothing is written when nothing changed: not at once, whoever is looked at, and not by a new process with some time.
    fn check_idle(&mut self) -> Result<(), String> {
        if self.updates_may_wait() {
            return Ok(());
        }
        self.story.tell(|| "=== idle".to_owned());
        let (writes, version) = (self.cluster.writes, self.cluster.version);
        self.operator = Operator::start(&mut self.cluster);
        self.settle(0)?;
        let (operator, mut around) = self.around();
        let restless = operator.restless(&mut around);
        if (self.cluster.writes, self.cluster.version) != (writes, version) || !restless.is_empty() {
            let writes = self.cluster.writes - writes;
            return Err(format!("{writes} writes though nothing changed; still to be done: {restless:#?}"));
        }
        let may_change = self.is_restless();
        self.settle(2 * 60)?;
        if !may_change && (self.cluster.writes, self.cluster.version) != (writes, version) {
            return Err(format!("{} writes with time though nothing changed", self.cluster.writes - writes));
        }
        Ok(())
    }
}

/// Runs one seed; what went wrong, with its story.
fn run(seed: u64) -> Result<usize, String> {
    let mut world = World::new(seed, false);
    let Err(_) = world.run(STEPS) else { return Ok(world.story.step) };
    // The shortest beginning that leads to something wrong is the easiest to understand.
    let fails = |steps: &usize| World::new(seed, false).run(*steps).is_err();
    let steps = (0..STEPS).step_by(STEPS / 20).find(fails).unwrap_or(STEPS);
    let mut again = World::new(seed, true);
    let wrong = again.run(steps).expect_err("a seed decides everything");
    let lines = &again.story.lines;
    let end = lines[lines.len().saturating_sub(LINES)..].join("\n");
    Err(format!(
        "{end}\nseed {seed}, {steps} steps before all is calm, step {}: {wrong}\nto see it all: MODELCACHE_SEED={seed} MODELCACHE_STEPS={steps} cargo test --test simulator one_seed -- --nocapture",
        again.story.step
    ))
}

/// Runs seeds from `first` on until so many steps were made.
fn run_many(first: u64, steps: usize) {
    let mut done = 0;
    let mut seed = first;
    while done < steps {
        match run(seed) {
            Ok(steps) => done += steps,
            Err(wrong) => panic!("{wrong}"),
        }
        seed += 1;
    }
    println!("seeds {first} to {}: {done} steps", seed - 1);
}

#[test]
fn nothing_is_lost_and_everything_settles() {
    let is_soak = std::env::var_os("MODELCACHE_SOAK").is_some();
    let steps = if is_soak { 1_200_000 } else { 60_000 };
    run_many(1, steps);
    run_many(LIMITED, steps);
}

#[test]
fn what_was_once_wrong_is_right() {
    for (seed, what) in NAMED {
        if let Err(wrong) = run(seed) {
            panic!("{wrong}\nonce it found: {what}");
        }
    }
}

/// The run of `MODELCACHE_SEED`, told step by step.
#[test]
fn one_seed() {
    let seed = std::env::var("MODELCACHE_SEED").map_or(1, |text| text.parse().expect("MODELCACHE_SEED is a number"));
    let steps =
        std::env::var("MODELCACHE_STEPS").map_or(STEPS, |text| text.parse().expect("MODELCACHE_STEPS is a number"));
    let mut world = World::new(seed, true);
    let ended = world.run(steps);
    println!("{}", world.story.lines.join("\n"));
    if let Err(wrong) = ended {
        panic!("seed {seed}, step {}: {wrong}", world.story.step);
    }
}
