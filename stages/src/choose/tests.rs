use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use watershed_engine::job::run_alone;
use watershed_engine::{Kind, StageError};

use super::Choose;

/// Cases with what their scores hold, and the stage run on them.
struct Contest {
    folder: tempfile::TempDir,
    inputs: Vec<(&'static str, String, PathBuf)>,
}

impl Contest {
    fn new() -> Contest {
        Contest { folder: tempfile::tempdir().unwrap(), inputs: Vec::new() }
    }

    fn input(mut self, port: &'static str, label: &str, text: &str) -> Contest {
        let path = self.folder.path().join(format!("{port}-{label}"));
        std::fs::write(&path, text).unwrap();
        self.inputs.push((port, label.to_string(), path));
        self
    }

    /// A candidate whose bytes are its name, with its scores.
    fn case(self, name: &str, scores: Value) -> Contest {
        self.input("candidates", name, name).input("scores", name, &scores.to_string())
    }

    /// What the engine tells of a sweep.
    fn swept(self, cases: Value) -> Contest {
        self.input("cases", "cases", &cases.to_string())
    }

    /// Returns the chosen bytes and the table.
    fn run(&self, params: Value) -> Result<(String, String), StageError> {
        let inputs: Vec<(&str, &str, &Path)> =
            self.inputs.iter().map(|(port, label, path)| (*port, label.as_str(), path.as_path())).collect();
        run_alone(&Kind::of::<Choose>(), params, &inputs, self.folder.path())?;
        let read = |name| std::fs::read_to_string(self.folder.path().join(name)).unwrap();
        Ok((read("chosen"), read("table")))
    }
}

fn losses(cases: &[(&str, Value)]) -> Contest {
    cases.iter().fold(Contest::new(), |contest, (name, loss)| contest.case(name, json!({"m.loss": loss})))
}

fn by_loss() -> Value {
    json!({"metric": "m.loss", "mode": "min"})
}

fn seeded(cases: &[(&str, u32, u32, f64)]) -> Contest {
    let told = cases.iter().map(|(name, r, seed, _)| {
        json!({"name": name, "overrides": {"tuned.r": r, "tuned.seed": seed}, "in": ["candidates", "scores"]})
    });
    let contest = losses(&cases.iter().map(|(name, _, _, loss)| (*name, json!(loss))).collect::<Vec<_>>());
    contest.swept(told.collect())
}

#[test]
fn the_best_is_chosen_and_all_are_ranked_with_ties_by_name() {
    let contest = losses(&[("c", json!(1.0)), ("b", json!(1.0)), ("a", json!(2.5))]);
    let (chosen, table) = contest.run(by_loss()).unwrap();
    assert_eq!((chosen.as_str(), table.as_str()), ("b", "rank,case,m.loss,note\n1,b,1,\n2,c,1,\n3,a,2.5,\n"));
    assert_eq!(contest.run(json!({"metric": "m.loss", "mode": "max"})).unwrap().0, "a");
}

#[test]
fn what_is_no_number_is_never_chosen_and_the_table_says_why() {
    let contest = losses(&[("a", Value::Null), ("b", json!(3))]).case("c", json!({"m.other": 1}));
    let contest = contest.input("candidates", "d", "d").input("scores", "e", r#"{"m.loss": 0}"#);
    let (chosen, table) = contest.run(by_loss()).unwrap();
    assert_eq!(chosen, "b");
    assert_eq!(
        table,
        "rank,case,m.loss,note\n1,b,3,\n,a,,the metric is not a number\n,c,,its scores lack the metric\n\
         ,d,,it has no scores\n,e,0,it has scores but is no candidate\n"
    );
    let error = losses(&[("a", Value::Null)]).run(by_loss()).unwrap_err().to_string();
    assert_eq!(error, "no candidate has a number for `m.loss`: `a`: the metric is not a number");
}

#[test]
fn a_metric_that_no_case_has_is_told_with_near_names() {
    let contest = losses(&[("a", json!(1))]);
    let error = |metric: &str| contest.run(json!({"metric": metric, "mode": "min"})).unwrap_err().to_string();
    assert_eq!(error("m.los"), "no case has the metric `m.los`: did you mean `m.loss`? They have `m.loss`");
    assert_eq!(error("loss"), "no case has the metric `loss`: did you mean `m.loss`? They have `m.loss`");
}

#[test]
fn a_mean_over_seeds_beats_one_lucky_seed_and_takes_the_first_by_name() {
    let contest = seeded(&[("r4,s1", 4, 1, 2.0), ("r4,s2", 4, 2, 1.5), ("r8,s1", 8, 1, 3.0), ("r8,s2", 8, 2, 0.75)]);
    assert_eq!(contest.run(by_loss()).unwrap().0, "r8,s2");
    let (chosen, table) = contest.run(json!({"metric": "m.loss", "mode": "min", "mean_over": ["seed"]})).unwrap();
    assert_eq!(chosen, "r4,s1");
    assert_eq!(
        table,
        "rank,case,m.loss,mean,averaged,tuned.r,tuned.seed,note\n1,\"r4,s1\",2,1.75,2,4,1,\n\
         2,\"r4,s2\",1.5,1.75,2,4,2,\n3,\"r8,s1\",3,1.875,2,8,1,\n4,\"r8,s2\",0.75,1.875,2,8,2,\n"
    );
    let error = contest.run(json!({"metric": "m.loss", "mode": "min", "mean_over": ["sed"]})).unwrap_err().to_string();
    assert!(error.contains("names `sed`, which no case overrides: did you mean `seed`?"), "{error}");
}

#[test]
fn a_diverged_seed_takes_its_group_out_and_a_missing_one_does_not() {
    let told = |name: &str, r: u32, seed: u32| json!({"name": name, "overrides": {"r": r, "seed": seed}, "in": []});
    let contest = losses(&[("a1", json!(1)), ("a2", Value::Null), ("b1", json!(5))]).swept(json!([
        told("a1", 4, 1),
        told("a2", 4, 2),
        told("b1", 8, 1),
        told("b2", 8, 2)
    ]));
    let (chosen, table) = contest.run(json!({"metric": "m.loss", "mode": "min", "mean_over": ["seed"]})).unwrap();
    assert_eq!(chosen, "b1");
    assert!(table.contains("`a2` of its group has no number"), "{table}");
    assert!(table.contains("failed or was skipped"), "{table}");
}

#[test]
fn one_file_of_scores_has_each_case_as_a_system() {
    let scores = json!({"r=4,lr=0.1.loss": 2, "r=8,lr=0.1.loss": 1}).to_string();
    let contest = Contest::new().input("candidates", "r=4,lr=0.1", "four").input("candidates", "r=8,lr=0.1", "eight");
    let contest = contest.input("scores", "scores", &scores);
    assert_eq!(contest.run(json!({"metric": "loss", "mode": "min"})).unwrap().0, "eight");
}

#[test]
fn labels_that_do_not_meet_and_files_that_hold_no_numbers_are_told() {
    let contest = Contest::new().input("candidates", "a", "a").input("scores", "b", "{}").input("scores", "c", "{}");
    let error = contest.run(by_loss()).unwrap_err().to_string();
    assert!(error.contains("`candidates` are `a`, `scores` are `b`, `c`; label them alike"), "{error}");
    let error = losses(&[]).input("candidates", "a", "a").input("scores", "a", "{\"m.loss\": NaN}");
    let error = error.run(by_loss()).unwrap_err().to_string();
    assert!(error.contains("cannot read the scores of `a`") && error.contains("`null`"), "{error}");
}

#[test]
fn a_folder_is_copied_whole() {
    let folder = tempfile::tempdir().unwrap();
    let adapter = folder.path().join("adapter");
    std::fs::create_dir_all(adapter.join("inner")).unwrap();
    std::fs::write(adapter.join("inner/weights"), "w").unwrap();
    std::fs::write(folder.path().join("m"), r#"{"m.loss": 1}"#).unwrap();
    let inputs = [("candidates", "a", &*adapter), ("scores", "a", &*folder.path().join("m"))];
    run_alone(&Kind::of::<Choose>(), by_loss(), &inputs, folder.path()).unwrap();
    assert_eq!(std::fs::read_to_string(folder.path().join("chosen/inner/weights")).unwrap(), "w");
}

#[test]
fn metric_and_mode_have_no_default() {
    let paths = |params| (Kind::of::<Choose>().check)(&params).into_iter().map(|f| f.path).collect::<Vec<_>>();
    assert_eq!(paths(json!({})), ["metric", "mode"]);
    assert_eq!(paths(by_loss()), Vec::<String>::new());
}
