//! One story: a project on disk and its naive twin, edited alike and compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use watershed_cache::Digest;
use watershed_engine::Kind;
use watershed_engine::backoff::Backoff;
use watershed_engine::event::Event;
use watershed_engine::graph::NodeId;
use watershed_engine::job::Cancel;
use watershed_engine::language::{Kinds, LoadRequest, load};
use watershed_engine::plan::{self, State};
use watershed_engine::run;
use watershed_engine::session::Session;
use watershed_engine::slots::Slots;
use watershed_engine::walk::{Given, Options};

use crate::blend::{Blend, padded};
use crate::naive::{Ended, Naive, NaiveStage, Source, Verdict};

/// A linear congruential generator (Knuth's MMIX constants), its high bits taken.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }
}

/// A project, its twin, and what the text of the pipeline says besides.
pub struct Story {
    dice: Dice,
    folder: tempfile::TempDir,
    kinds: Kinds,
    naive: Naive,
    names: Vec<String>,
    file_order: Vec<usize>,
    comment: String,
    forced: BTreeSet<usize>,
    target: Option<usize>,
    told: Vec<String>,
}

impl Story {
    /// Begins the story of this number: a few stages in one of several shapes, and an empty store.
    pub fn new(number: u64) -> Story {
        let mut dice = Dice(number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        for _ in 0..3 {
            dice.below(2);
        }
        let count = 2 + dice.below(7);
        let naive = Naive { stages: shape(&mut dice, count), files: vec![padded("0"); 2], ..Naive::default() };
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("watershed.root"), "").unwrap();
        let story = Story {
            dice,
            folder,
            kinds: Kinds::new(vec![Kind::of::<Blend>()]),
            naive,
            names: (0..count).map(|i| format!("s{i}")).collect(),
            file_order: (0..count).collect(),
            comment: String::new(),
            forced: BTreeSet::new(),
            target: None,
            told: Vec::new(),
        };
        (0..2).for_each(|file| story.write_file(file));
        story
    }

    fn write_file(&self, file: usize) {
        fs::write(self.folder.path().join(format!("f{file}.txt")), &self.naive.files[file]).unwrap();
    }

    /// Changes one thing, or two, and says what is asked of the next run.
    pub fn edit(&mut self) {
        self.forced.clear();
        self.told.clear();
        for _ in 0..=self.dice.below(2) {
            self.edit_once();
        }
        let count = self.names.len();
        self.target = self.dice.one_in(4).then(|| self.dice.below(count));
    }

    fn edit_once(&mut self) {
        let (stage, number) = (self.dice.below(self.names.len()), self.dice.below(3));
        match self.dice.below(13) {
            0 | 1 => {
                self.naive.stages[stage].blend.number = number as u64;
                self.told.push(format!("number of {stage} is {number}"));
            }
            2 => {
                self.naive.stages[stage].blend.same ^= true;
                self.told.push(format!("same of {stage} is turned"));
            }
            3 => {
                self.naive.stages[stage].blend.fails ^= true;
                self.told.push(format!("fails of {stage} is turned"));
            }
            4 | 5 => {
                self.naive.files[stage % 2] = padded(&number.to_string());
                self.write_file(stage % 2);
                self.told.push(format!("file {} is {number}", stage % 2));
            }
            6 => self.comment += "# nothing\n",
            7 => self.names[stage] += "x",
            8 => self.shuffle(),
            9 => self.damage_blob(),
            10 => self.damage_record(),
            11 => {
                self.forced.insert(stage);
                self.told.push(format!("{stage} is forced"));
            }
            _ => self.rewire(stage),
        }
    }

    fn shuffle(&mut self) {
        for i in (1..self.file_order.len()).rev() {
            let other = self.dice.below(i + 1);
            self.file_order.swap(i, other);
        }
    }

    fn rewire(&mut self, stage: usize) {
        let label = format!("l{}", self.dice.below(3));
        self.told.push(format!("{label} of {stage} is rewired"));
        if self.naive.stages[stage].reads.remove(&label).is_none() {
            let source = source(&mut self.dice, &self.naive.stages[..stage]);
            self.naive.stages[stage].reads.insert(label, source);
        }
    }

    /// Takes a text out of the store, or flips a bit of it.
    fn damage_blob(&mut self) {
        let number = self.dice.below(self.naive.store.blobs.len());
        let Some(text) = self.naive.store.blobs.keys().nth(number).cloned() else { return };
        let hex = Digest::of(text.as_bytes()).hex();
        let path = self.store().join("v1/cas").join(&hex[..2]).join(&hex[2..]);
        // A bit that is flipped twice is whole again.
        if self.dice.one_in(2) || !self.naive.store.blobs[&text] {
            self.told.push(format!("blob {} is gone", &hex[..8]));
            self.naive.store.blobs.remove(&text);
            fs::remove_file(&path).unwrap();
        } else {
            self.told.push(format!("blob {} is flipped", &hex[..8]));
            self.naive.store.blobs.insert(text, false);
            flip(&path);
        }
    }

    /// Damages the record of a key; it is found by how many records there are, sorted, so both sides drop the same.
    fn damage_record(&mut self) {
        let number = self.dice.below(self.naive.store.records.len());
        let Some(key) = self.naive.store.records.keys().nth(number).cloned() else { return };
        let session = self.session();
        let mut known = BTreeMap::new();
        // Only records of the pipeline as it stands are found; of others nobody here knows the key.
        for (id, line) in plan::plan(&session, &[], &[]).into_iter().enumerate() {
            let State::Hit(real, _) = line.state else { continue };
            let stage = self.names.iter().position(|name| *name == session.graph.nodes[id].stage.name).unwrap();
            known.insert(stage, real);
        }
        for (stage, naive_key) in self.naive_keys(known.keys().copied().collect()) {
            if naive_key == key {
                let hex = known[&stage].hex();
                let path = self.store().join("v1/ac").join(&hex[..2]).join(&hex[2..]);
                flip(&path);
                self.told.push(format!("record of {stage} is flipped"));
                self.naive.store.records.remove(&key);
                return;
            }
        }
    }

    fn naive_keys(&self, hits: BTreeSet<usize>) -> Vec<(usize, String)> {
        self.naive.keys_of_hits().into_iter().filter(|(stage, _)| hits.contains(stage)).collect()
    }

    fn store(&self) -> std::path::PathBuf {
        self.folder.path().join(".watershed")
    }

    fn text(&self) -> String {
        let mut text = format!("{}name: story\nstages:\n", self.comment);
        for &stage in &self.file_order {
            let NaiveStage { blend, reads } = &self.naive.stages[stage];
            let reads: Vec<String> =
                reads.iter().map(|(label, source)| format!("{label}: {}", self.reference(source))).collect();
            let reads =
                if reads.is_empty() { String::new() } else { format!(", in: {{of: {{{}}}}}", reads.join(", ")) };
            let with = serde_json::to_string(blend).unwrap();
            text += &format!("  {}: {{use: blend, with: {with}{reads}}}\n", self.names[stage]);
        }
        text
    }

    fn reference(&self, source: &Source) -> String {
        match source {
            Source::File(number) => format!("./f{number}.txt"),
            Source::Stage(stage, None) => self.names[*stage].clone(),
            Source::Stage(stage, Some(inside)) => format!("{}.out/{inside}", self.names[*stage]),
        }
    }

    fn session(&self) -> Session {
        let file = self.folder.path().join("watershed.yaml");
        fs::write(&file, self.text()).unwrap();
        let study = load(&LoadRequest::new(file), &self.kinds).unwrap_or_else(|faults| panic!("{faults}"));
        Session::open(study, &self.store()).unwrap()
    }

    /// Plans and runs on both sides; returns how many stages ran and how many were hits.
    pub fn compare(&mut self, what: &str) -> (usize, usize) {
        let session = self.session();
        let what = format!("{what}: {}, target {:?}\n{}", self.told.join(", "), self.target, self.text());
        let number = |id: NodeId| {
            let name = &session.graph.nodes[id].stage.name;
            self.names.iter().position(|other| other == name).unwrap()
        };
        let id = |stage: usize| session.graph.find(&self.names[stage], None).unwrap();
        let (targets, forced): (Vec<NodeId>, Vec<NodeId>) =
            (self.target.into_iter().map(id).collect(), self.forced.iter().copied().map(id).collect());
        let planned: BTreeMap<usize, Verdict> = plan::plan(&session, &targets, &forced)
            .into_iter()
            .map(|line| (number(line.node), verdict(line.state, &number)))
            .collect();
        assert_eq!(planned, self.naive.plan(self.target, &self.forced), "{what}");
        let order: Vec<usize> = (0..session.graph.nodes.len()).map(number).collect();
        let expected = self.naive.run(self.target, &self.forced, &order);
        let events = walked(&session, &targets, forced);
        let named = |outcome: &str| -> Vec<usize> {
            let of = |event: &Event| match event {
                Event::StageFinished { stage, outcome: found, .. } if found == outcome => {
                    self.names.iter().position(|name| name == stage)
                }
                _ => None,
            };
            events.iter().filter_map(of).collect()
        };
        assert_eq!(named("ran"), expected.ran, "executed, {what}");
        assert_eq!(named("failed").into_iter().collect::<BTreeSet<_>>(), expected.failed, "failed, {what}");
        let hits: BTreeSet<usize> = named("hit").into_iter().filter(|stage| !expected.ran.contains(stage)).collect();
        let expected_hits: BTreeSet<usize> =
            expected.hit.iter().copied().filter(|stage| !expected.ran.contains(stage)).collect();
        assert_eq!(hits, expected_hits, "hits, {what}");
        self.assert_kept(&session, &expected, &what);
        (expected.ran.len(), expected.hit.len())
    }

    /// Holds that the store gives, for what ran, the bytes that it should.
    fn assert_kept(&self, session: &Session, expected: &Ended, what: &str) {
        for stage in &expected.ran {
            for (_, text) in &expected.wrote[stage] {
                let path = session.store.blob(&Digest::of(text.as_bytes()));
                let kept = fs::read_to_string(&path).unwrap_or_default();
                assert!(kept == *text || self.naive.store.blobs.get(text) != Some(&true), "bytes of {stage}, {what}");
            }
        }
    }
}

/// Runs one stage at a time and returns what was told.
fn walked(session: &Session, targets: &[NodeId], forced: Vec<NodeId>) -> Vec<Event> {
    let events = Arc::new(Mutex::new(Vec::new()));
    let listener = events.clone();
    let options = Options {
        slots: Slots::new(1, Vec::new()),
        keep_going: true,
        forced,
        offline: true,
        patience: Duration::from_secs(60),
        given: Given::new(),
        backoff: Backoff::default(),
        cancel: Cancel::default(),
    };
    run::run(session, targets, options, Box::new(move |entry| listener.lock().unwrap().push(entry.event.clone())))
        .unwrap();
    let told = events.lock().unwrap();
    told.clone()
}

fn verdict(state: State, number: &dyn Fn(NodeId) -> usize) -> Verdict {
    match state {
        State::Hit(..) => Verdict::Hit,
        State::Run(..) => Verdict::Run,
        State::Depends(nodes) => Verdict::Depends(nodes.into_iter().map(number).collect()),
        State::Broken(error) => panic!("{error}"),
    }
}

/// Draws stages: a chain, a layered graph, a fan-in, diamonds, or anything.
fn shape(dice: &mut Dice, count: usize) -> Vec<NaiveStage> {
    let (kind, mut stages) = (dice.below(5), Vec::new());
    for i in 0..count {
        let mut reads = BTreeMap::new();
        let mut read = |number: usize, source: Source| {
            reads.insert(format!("l{number}"), source);
        };
        let whole = |stage: usize| Source::Stage(stage, None);
        match kind {
            _ if i == 0 => read(0, Source::File(0)),
            0 => read(0, whole(i - 1)),
            1 => {
                (0..2).for_each(|n| if i >= 2 { read(n, whole((i / 2) * 2 - 2 + n)) } else { read(n, Source::File(n)) })
            }
            2 if i + 1 == count => (0..i).for_each(|n| read(n, whole(n))),
            2 => read(0, Source::File(i % 2)),
            3 if i % 3 == 0 => (1..3).for_each(|n| read(n, whole(i - n))),
            3 => read(0, whole(i / 3 * 3)),
            _ => (0..dice.below(4)).for_each(|n| read(n, source(dice, &stages))),
        }
        let blend = Blend { folder: dice.one_in(3), same: dice.one_in(5), number: dice.below(2) as u64, fails: false };
        stages.push(NaiveStage { blend, reads });
    }
    stages
}

/// Draws something to read: a file, a stage, or a file in a stage's folder.
fn source(dice: &mut Dice, above: &[NaiveStage]) -> Source {
    if above.is_empty() || dice.one_in(4) {
        return Source::File(dice.below(2));
    }
    let stage = dice.below(above.len());
    let inside = above[stage].blend.folder && dice.one_in(2);
    Source::Stage(stage, inside.then(|| if dice.one_in(2) { "a" } else { "b" }))
}

/// Flips one bit of a file of the store, which is read-only.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
}
