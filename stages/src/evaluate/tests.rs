//! Small studies whose numbers can be counted by hand, and the refusals.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use watershed_engine::Kind;
use watershed_engine::job::run_alone;

use super::*;
use crate::record::answer::Answer;
use crate::record::example::Example;
use crate::record::interaction::{self, Interaction};
use crate::record::item::{self, Item};
use crate::record::ranking::Ranked;

const INPUT: &str =
    "I am 'Ann'. I bought the following products: Blue Kettle Deluxe, Green Plate Large. I like the handle.";

/// A folder with the files of a study: three customers, `u1` to `u3`.
struct Study {
    folder: tempfile::TempDir,
    inputs: Vec<(&'static str, &'static str, PathBuf)>,
}

impl Study {
    fn new() -> Study {
        Study { folder: tempfile::tempdir().unwrap(), inputs: Vec::new() }
    }

    fn file(&mut self, port: &'static str, label: &'static str) -> PathBuf {
        let path = self.folder.path().join(format!("{port}-{label}"));
        self.inputs.push((port, label, path.clone()));
        path
    }

    fn prompts(mut self, port: &'static str, prompts: Vec<Example>) -> Study {
        lines::write(&self.file(port, "x"), prompts).unwrap();
        self
    }

    fn answers(mut self, label: &'static str, texts: &[(&str, &str, &str)]) -> Study {
        let answer = |(id, text, reason): &(&str, &str, &str)| Answer {
            id: id.to_string(),
            text: text.to_string(),
            finish_reason: reason.to_string(),
            ..Answer::default()
        };
        lines::write(&self.file("answers", label), texts.iter().map(answer)).unwrap();
        self
    }

    fn truth(mut self, rows: &[(&str, &str)]) -> Study {
        let row = |(user, item): &(&str, &str)| Interaction {
            user_id: user.to_string(),
            item_id: item.to_string(),
            ..Interaction::default()
        };
        interaction::write(&self.file("truth", "x"), rows.iter().map(row).collect()).unwrap();
        self
    }

    fn catalogue(mut self) -> Study {
        let titles = [
            ("i1", "Blue Kettle Deluxe"),
            ("i2", "Green Plate Large"),
            ("i3", "Red Mug Classic"),
            ("i4", "Tea Pot Iron"),
        ];
        let items = titles.map(|(id, title)| Item { item_id: id.into(), title: title.into(), ..Item::default() });
        item::write(&self.file("catalogue", "x"), items.to_vec()).unwrap();
        self
    }

    fn ranking(mut self, label: &'static str, lists: &[(&str, &[&str])]) -> Study {
        let row = |(user, items): &(&str, &[&str])| Ranked {
            group: user.to_string(),
            items: items.iter().map(|i| i.to_string()).collect(),
            scores: (0..items.len()).map(|i| -(i as f64)).collect(),
        };
        lines::write(&self.file("ranking", label), lists.iter().map(row)).unwrap();
        self
    }

    fn write(mut self, port: &'static str, label: &'static str, file: &str, text: &str) -> Study {
        let folder = self.file(port, label);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(file), text).unwrap();
        self
    }

    fn run(&self, params: Value) -> Result<BTreeMap<String, f64>, String> {
        let out = self.folder.path().join("out");
        std::fs::create_dir_all(&out).unwrap();
        let inputs: Vec<(&str, &str, &Path)> = self.inputs.iter().map(|(p, l, f)| (*p, *l, f.as_path())).collect();
        run_alone(&Kind::of::<Evaluate>(), params, &inputs, &out).map_err(|e| e.to_string())?;
        Ok(serde_json::from_str(&self.output("metrics")).unwrap())
    }

    fn output(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join("out").join(name)).unwrap()
    }
}

fn prompts() -> Vec<Example> {
    let prompt = |n: u32| Example {
        id: format!("p{n}"),
        group: format!("u{n}"),
        instruction: "Recommend a product.".into(),
        input: INPUT.into(),
        history: vec!["i1".into(), "i2".into()],
        ..Example::default()
    };
    (1..=3).map(prompt).collect()
}

fn labelled() -> Vec<Example> {
    let label =
        |prompt| Example { output: Some("I recommend the Red Mug Classic because it is red.".into()), ..prompt };
    prompts().into_iter().map(label).collect()
}

const GOOD: [(&str, &str, &str); 3] = [
    ("p1", "I recommend the Red Mug Classic because you like tea.", "stop"),
    ("p2", "You could try 'Tea Pot Iron' or 'Red Mug Classic'.", "stop"),
    ("p3", INPUT, "length"),
];

fn study() -> Study {
    let truth = [("u1", "i3"), ("u2", "i3"), ("u3", "i4"), ("u9", "i4")];
    Study::new().prompts("prompts", prompts()).answers("tuned", &GOOD).truth(&truth).catalogue()
}

fn close(numbers: &BTreeMap<String, f64>, key: &str, want: f64) {
    let ours = numbers.get(key).unwrap_or_else(|| panic!("no `{key}` in {:?}", numbers.keys()));
    assert!((ours - want).abs() < 1e-9, "{key}: {ours}, want {want}");
}

#[test]
fn answers_are_judged_by_the_order_in_which_they_name_products() {
    let numbers = study().run(json!({"k": [1, 2]})).unwrap();
    close(&numbers, "tuned.customers", 3.0);
    close(&numbers, "tuned.hit@1", 1.0 / 3.0);
    close(&numbers, "tuned.hit@2", 2.0 / 3.0);
    close(&numbers, "tuned.ndcg@2", (1.0 + 1.0 / 3f64.log2()) / 3.0);
    close(&numbers, "tuned.mrr@2", 0.5);
    close(&numbers, "tuned.coverage@2", 0.5);
    close(&numbers, "tuned.no_list_rate", 1.0 / 3.0);
    assert!(numbers["tuned.hit@1_low"] < 1.0 / 3.0 && numbers["tuned.hit@1_high"] > 1.0 / 3.0);
}

#[test]
fn a_copied_input_is_a_parrot_and_names_owned_products_only() {
    let numbers = study().run(json!({})).unwrap();
    close(&numbers, "tuned.parrot_rate", 1.0 / 3.0);
    close(&numbers, "tuned.eos_rate", 2.0 / 3.0);
    close(&numbers, "tuned.owned_only_rate", 1.0 / 3.0);
    close(&numbers, "tuned.in_history_rate", 2.0 / 5.0);
    close(&numbers, "tuned.unique_fraction", 1.0);
}

#[test]
fn rankings_are_judged_on_the_customers_that_were_answered_and_missing_ones_count_as_no_hit() {
    let lists: [(&str, &[&str]); 3] = [("u1", &["i1", "i3"]), ("u2", &["i4", "i3"]), ("u9", &["i4"])];
    let numbers = study().ranking("svd", &lists).run(json!({"k": [1]})).unwrap();
    close(&numbers, "svd.customers", 3.0);
    // Bought i1 is removed, so i3 leads for u1; u9 was never asked; u3 has no list.
    close(&numbers, "svd.hit@1", 1.0 / 3.0);
    close(&numbers, "svd.no_list_rate", 1.0 / 3.0);
}

#[test]
fn the_teacher_counts_only_where_systems_answered() {
    let study = Study::new().prompts("teacher", labelled()).answers("tuned", &GOOD[1..]);
    let numbers = study.run(json!({})).unwrap();
    close(&numbers, "teacher.answers", 2.0);
    close(&numbers, "teacher.parrot_rate", 0.0);
    assert!(numbers["tuned.excess_copy"] > 0.4 && numbers["tuned.excess_copy_low"] <= numbers["tuned.excess_copy"]);
    let alone = Study::new().prompts("teacher", labelled()).run(json!({})).unwrap();
    close(&alone, "teacher.answers", 3.0);
}

#[test]
fn losses_come_from_the_curves() {
    let metrics = "{\"step\":1,\"epoch\":0.5,\"loss\":2.0,\"response_loss\":3.0}\n{\"step\":2,\"epoch\":1,\"loss\":1.0,\"response_loss\":2.0}\n";
    let eval = "{\"step\":0,\"epoch\":0,\"loss\":0.5}\n{\"step\":1,\"epoch\":0.5,\"loss\":1.5}\n{\"step\":2,\"epoch\":1,\"loss\":1.75,\"sources\":{\"alpaca\":1.25}}\n";
    let mut study = Study::new().write("curves", "tuned", "metrics.jsonl", metrics);
    study.inputs.pop();
    let mut study = study.write("curves", "tuned", "eval.jsonl", eval);
    study.inputs.pop();
    let test = "{\"step\":0,\"epoch\":0,\"loss\":4.0}\n{\"step\":1,\"epoch\":0.5,\"loss\":2.5}\n";
    let numbers = study.write("curves", "tuned", "test.jsonl", test).run(json!({})).unwrap();
    for (name, want) in [
        ("test_loss_before", 4.0),
        ("test_loss", 2.5),
        ("train_loss", 1.5),
        ("train_response_loss", 2.5),
        ("val_loss", 1.75),
        ("val_loss_best", 1.5),
        ("val_loss_before", 0.5),
        ("val_loss_mean", 1.625),
        ("val_loss.alpaca", 1.25),
    ] {
        close(&numbers, &format!("tuned.{name}"), want);
    }
}

#[test]
fn ratings_give_rmse_and_mae() {
    let mut study = Study::new();
    let path = study.file("predictions", "svd");
    std::fs::write(path, "user_id,item_id,rating,prediction,impossible\nu,i,4,3,false\nu,j,2,5,true\n").unwrap();
    let numbers = study.run(json!({})).unwrap();
    close(&numbers, "svd.rmse", 5f64.sqrt());
    close(&numbers, "svd.mae", 2.0);
    close(&numbers, "svd.impossible_rate", 0.5);
}

#[test]
fn pairs_of_systems_are_compared_on_the_same_customers() {
    let lists: [(&str, &[&str]); 3] = [("u1", &["i4"]), ("u2", &["i4"]), ("u3", &["i3"])];
    let study = study().ranking("svd", &lists);
    let numbers = study.run(json!({"compare": [["tuned", "svd"]]})).unwrap();
    close(&numbers, "tuned_vs_svd.hit@10_diff", 2.0 / 3.0);
    close(&numbers, "tuned_vs_svd.hit@10_p", 0.5);
    let fault = study.run(json!({"compare": [["tuned", "ease"]]})).unwrap_err();
    assert!(fault.contains("`ease`") && fault.contains("svd, tuned"), "{fault}");
}

#[test]
fn only_the_metrics_that_were_asked_for_are_kept() {
    let numbers = study().run(json!({"metrics": ["parrot_rate", "hit@5"]})).unwrap();
    let keys: Vec<&str> = numbers.keys().map(String::as_str).collect();
    let want = ["hit@5", "hit@5_high", "hit@5_low", "parrot_rate", "parrot_rate_high", "parrot_rate_low"];
    assert_eq!(keys, want.map(|name| format!("tuned.{name}")));
    let fault = study().run(json!({"metrics": ["rmse"]})).unwrap_err();
    assert!(fault.contains("`rmse`") && fault.contains("`predictions`"), "{fault}");
}

#[test]
fn every_number_has_its_line_of_documentation() {
    let lists: [(&str, &[&str]); 1] = [("u1", &["i4"])];
    let numbers = study().ranking("svd", &lists).run(json!({})).unwrap();
    let known = names::all(&Evaluate::default().k);
    for key in numbers.keys() {
        assert!(known.iter().any(|metric| names::is_number_of(key, metric)), "`{key}` is not documented");
    }
}

#[test]
fn a_leaked_target_is_refused() {
    let bought = study_with(|prompt| prompt.history.push("i3".into()));
    let fault = bought.run(json!({"leaks": "warn"})).unwrap_err();
    assert!(fault.contains("`p1` lists `i3` as bought"), "{fault}");
    let named = || study_with(|prompt| prompt.input.push_str(" Also the RED mug (classic)!"));
    let fault = named().run(json!({})).unwrap_err();
    assert!(fault.contains("`p1`") && fault.contains("`i3`") && fault.contains("leaks: warn"), "{fault}");
    assert!(named().run(json!({"leaks": "warn"})).is_ok());
    let offered = study_with(|prompt| {
        prompt.input.push_str(" Choose: Red Mug Classic, Tea Pot Iron.");
        prompt.candidates = Some(vec!["i3".into(), "i4".into()]);
    });
    assert!(offered.run(json!({})).is_ok());
}

fn study_with(change: impl Fn(&mut Example)) -> Study {
    let mut changed = prompts();
    changed.iter_mut().for_each(change);
    Study::new().prompts("prompts", changed).answers("tuned", &GOOD).truth(&[("u1", "i3"), ("u2", "i4")]).catalogue()
}

#[test]
fn what_cannot_be_evaluated_is_refused_with_the_mend() {
    let faults = [
        (Study::new(), "nothing to evaluate"),
        (Study::new().answers("tuned", &GOOD), "`answers` needs `prompts` or `teacher`"),
        (
            Study::new().prompts("prompts", prompts()).answers("tuned", &[("zz", "", "")]),
            "the id `zz`, which no prompt has",
        ),
        (Study::new().prompts("prompts", prompts()).answers("tuned", &[GOOD[0], GOOD[0]]), "sample 0 of `p1` twice"),
        (Study::new().prompts("teacher", labelled()).answers("teacher", &GOOD), "give the answers another label"),
    ];
    for (study, text) in &faults {
        let fault = study.run(json!({})).unwrap_err();
        assert!(fault.contains(text), "{fault}");
    }
    let both: [(&str, &[&str]); 1] = [("u1", &["i4"])];
    assert!(study().ranking("tuned", &both).run(json!({})).unwrap_err().contains("both answers and a ranking"));
}

#[test]
fn faults_of_parameters_are_told_before_the_run() {
    let stage = Evaluate {
        k: vec![0],
        metrics: vec!["accuracy".into()],
        compare: vec![["a".into(), "a".into()]],
        ..Evaluate::default()
    };
    let paths: Vec<String> = stage.check().into_iter().map(|fault| fault.path).collect();
    assert_eq!(paths, ["k", "metrics", "compare"]);
    assert!(Evaluate::default().check().is_empty());
}

#[test]
fn customers_and_report_show_what_is_behind_the_numbers() {
    let study = study();
    study.run(json!({})).unwrap();
    let rows: Vec<Value> = study.output("per_customer").lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[1]["recommended"], json!(["i4", "i3"]));
    assert_eq!(
        (&rows[2]["customer"], &rows[2]["parrot"], &rows[2]["hit@10"]),
        (&json!("u3"), &json!(1.0), &json!(0.0))
    );
    let report: Value = serde_json::from_str(&study.output("report")).unwrap();
    assert_eq!(report["worst_parrots"]["tuned"][0]["id"], "p3");
    assert_eq!(report["side_by_side"][0]["target"], json!(["i3"]));
}

#[test]
fn the_same_inputs_give_the_same_bytes_at_any_number_of_threads() {
    let with = |threads| {
        let study = study();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| study.run(json!({}))).unwrap();
        ["metrics", "per_customer", "report"].map(|name| study.output(name))
    };
    assert_eq!(with(1), with(4));
}

#[test]
fn prompts_may_be_alpacas_json_and_answers_know_them_by_their_content() {
    let mut study = Study::new();
    let path = study.file("prompts", "x");
    std::fs::write(&path, json!([{"instruction": "Recommend a product.", "input": INPUT}]).to_string()).unwrap();
    let id = crate::formats::prompts(&path).unwrap().remove(0).id;
    let numbers = study.answers("tuned", &[(id.as_str(), INPUT, "stop")]).run(json!({})).unwrap();
    close(&numbers, "tuned.parrot_rate", 1.0);
}
