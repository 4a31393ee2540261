//! Rankings of the fixture's model through the program's own function.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use watershed_engine::job::run_alone;
use watershed_engine::{Kind, StageError};
use watershed_stages::evaluate::Evaluate;
use watershed_stages::record::interaction::{self, Interaction};
use watershed_stages::record::lines;
use watershed_stages::record::ranking::Ranked;
use watershed_stages::text::{Template, TemplateChoice, Tokenizer};
use watershed_torch::{Compute, Model, Row, evaluate};
use watershed_weights::ModelFiles;

use crate::program::project::Project;

/// A project with items: `a0`, `a1`, ... titled as below, and `x` without a title.
struct Shop(Project);

/// The last two are the same, and the first is the beginning of the second.
const TITLES: [&str; 6] = ["Aloe Soap", "Aloe Soap Bar", "Rose Water", "Blue Brush", "Comb", "Comb"];

impl Shop {
    fn new() -> Option<Shop> {
        let project = Project::new()?;
        let item = |(at, title): (usize, &&str)| json!({"item_id": format!("a{at}"), "title": title}).to_string();
        let mut items: Vec<String> = TITLES.iter().enumerate().map(item).collect();
        items.push(json!({"item_id": "x", "title": "  "}).to_string());
        std::fs::write(project.path("items.jsonl"), items.join("\n")).unwrap();
        Some(Shop(project))
    }

    fn try_rank(&self, name: &str, params: Value, prompts: &Path) -> Result<Vec<Ranked>, StageError> {
        self.rank_until(0, name, params, prompts)
    }

    /// Ranks and is cut off after so many prompts, with and without their input; 0 never.
    fn rank_until(&self, after: u64, name: &str, params: Value, prompts: &Path) -> Result<Vec<Ranked>, StageError> {
        let inputs =
            [("prompts", prompts.to_path_buf()), ("items", self.0.path("items.jsonl")), ("base", self.0.base.clone())];
        lines::read(&self.0.run("rank", params, &inputs, name, after)?.join("ranking"))
    }

    fn rank(&self, name: &str, params: Value) -> Vec<Ranked> {
        self.try_rank(name, params, &self.prompts()).unwrap()
    }

    fn prompts(&self) -> PathBuf {
        self.0.path("prompts.jsonl")
    }

    fn rows(&self) -> Vec<Value> {
        lines::read(&self.prompts()).unwrap()
    }

    /// Returns the log-likelihood of `title` by a forward pass over the whole sequence, and its number of tokens.
    fn plain(&self, row: &Value, before: &str, title: &str) -> (f64, usize) {
        let tokenizer = Tokenizer::open(&self.0.base).unwrap();
        let template = Template::new(&TemplateChoice::default(), None, None).unwrap();
        let prompt = tokenizer.start(&template.prompt(&serde_json::from_value(row.clone()).unwrap()).unwrap()).unwrap();
        let (before, title) = (tokenizer.more(before).unwrap(), tokenizer.more(title).unwrap());
        let start = prompt.len() + before.len();
        let ids = [prompt, before, title.clone()].concat();
        let files = ModelFiles::open(&self.0.base).unwrap();
        let model = Model::load(&files, Compute::F32, tch::Device::Cpu).unwrap();
        let row = Row::answered(ids, start);
        (-evaluate(&model, None, &[row], 1 << 20).unwrap().sum_nll, title.len())
    }
}

fn score_of(ranked: &Ranked, item: &str) -> f64 {
    ranked.scores[ranked.items.iter().position(|found| found == item).unwrap()]
}

#[test]
fn scores_are_mean_log_likelihoods_and_ties_go_by_id() {
    let Some(shop) = Shop::new() else { return };
    let found = shop.rank("all", json!({}));
    assert_eq!(found.len(), shop.rows().len());
    for (row, ranked) in shop.rows().iter().zip(&found).take(2) {
        assert_eq!(ranked.items.len(), TITLES.len(), "`x` has no title");
        for (at, title) in TITLES.iter().enumerate() {
            let (sum, tokens) = shop.plain(row, "", title);
            let score = score_of(ranked, &format!("a{at}"));
            assert!((score - sum / tokens as f64).abs() < 1e-4, "{title}: {score} and not {sum} / {tokens}");
        }
        assert!(ranked.scores.is_sorted_by(|a, b| a >= b));
        let place = |item: &str| ranked.items.iter().position(|found| found == item).unwrap();
        assert_eq!((place("a5"), score_of(ranked, "a4")), (place("a4") + 1, score_of(ranked, "a5")));
    }
}

#[test]
fn a_prefix_stands_before_every_title_and_is_not_scored() {
    let Some(shop) = Shop::new() else { return };
    let ranked = &shop.rank("prefix", json!({"prefix": "I recommend ", "length_norm": 0.0}))[0];
    let (sum, _) = shop.plain(&shop.rows()[0], "I recommend", " Aloe Soap Bar");
    let score = score_of(ranked, "a1");
    assert!((score - sum).abs() < 1e-4, "{score} and not {sum}");
}

#[test]
fn pmi_takes_off_what_is_likely_without_the_input() {
    let Some(shop) = Shop::new() else { return };
    let found = shop.rank("pmi", json!({"calibrate": "pmi"}));
    for (row, ranked) in shop.rows().iter().zip(&found).take(3) {
        let mut bare = row.clone();
        bare["input"] = "".into();
        let ((with, tokens), (without, _)) = (shop.plain(row, "", TITLES[2]), shop.plain(&bare, "", TITLES[2]));
        let (score, wanted) = (score_of(ranked, "a2"), (with - without) / tokens as f64);
        assert!((score - wanted).abs() < 1e-4, "{score} and not {wanted}");
    }
}

#[test]
fn a_row_with_candidates_ranks_these_and_k_cuts() {
    let Some(shop) = Shop::new() else { return };
    let mut rows = shop.rows();
    rows[1]["candidates"] = json!(["a2", "a0", "x", "a2"]);
    let write = |rows: &[Value]| {
        let path = shop.0.path("candidates.jsonl");
        lines::write(&path, rows).unwrap();
        path
    };
    let some = shop.try_rank("some", json!({"k": 3}), &write(&rows)).unwrap();
    let all = shop.rank("all", json!({}));
    assert_eq!(some[0].items, all[0].items[..3]);
    let mut chosen = some[1].items.clone();
    chosen.sort();
    assert_eq!(chosen, ["a0", "a2"]);
    assert!((score_of(&some[1], "a2") - score_of(&all[1], "a2")).abs() < 1e-4);
    rows[1]["candidates"] = json!(["nowhere"]);
    let error = shop.try_rank("none", json!({}), &write(&rows)).unwrap_err().to_string();
    assert!(error.contains("`nowhere` is not in `items`"), "{error}");
}

#[test]
fn a_row_without_a_group_is_a_customer_of_its_own_whom_evaluate_finds() {
    let Some(shop) = Shop::new() else { return };
    let ranked = shop.rank("own", json!({}));
    let mut rows = shop.rows();
    let customers: Vec<&str> = ranked.iter().map(|ranked| ranked.group.as_str()).collect();
    assert_eq!(customers, rows.iter().map(|row| row["id"].as_str().unwrap()).collect::<Vec<_>>());
    let bought = |ranked: &Ranked| Interaction {
        user_id: ranked.group.clone(),
        item_id: ranked.items[0].clone(),
        ..Interaction::default()
    };
    let (truth, list, out) = (shop.0.path("truth"), shop.0.path("own/ranking"), shop.0.path("judged"));
    interaction::write(&truth, ranked.iter().map(bought).collect()).unwrap();
    std::fs::create_dir(&out).unwrap();
    let inputs = [("ranking", "tuned", list.as_path()), ("truth", "x", truth.as_path())];
    run_alone(&Kind::of::<Evaluate>(), json!({"k": [1]}), &inputs, &out).unwrap();
    let metrics: Value = serde_json::from_slice(&std::fs::read(out.join("metrics")).unwrap()).unwrap();
    let number = |name: &str| metrics[name].as_f64().unwrap();
    assert_eq!((number("tuned.customers"), number("tuned.hit@1")), (rows.len() as f64, 1.0));
    rows[0]["group"] = "ann".into();
    let named = shop.0.path("named.jsonl");
    lines::write(&named, &rows).unwrap();
    assert_eq!(shop.try_rank("named", json!({}), &named).unwrap()[0].group, "ann");
}

#[test]
fn the_same_rows_are_ranked_to_the_same_bytes() {
    let Some(shop) = Shop::new() else { return };
    let bytes = |name: &str| {
        shop.rank(name, json!({"calibrate": "pmi"}));
        std::fs::read(shop.0.path(name).join("ranking")).unwrap()
    };
    assert!(bytes("first") == bytes("second"));
}

#[test]
fn a_ranking_that_was_cut_off_goes_on_to_the_same_bytes() {
    let Some(shop) = Shop::new() else { return };
    let params = json!({"calibrate": "pmi"});
    shop.rank("whole", params.clone());
    let bytes = |name: &str| std::fs::read(shop.0.path(name).join("ranking")).unwrap();
    let rows = shop.rows().len() as u64;
    for after in [1, rows / 2, rows + 1] {
        let name = format!("cut-{after}");
        let cut = shop.rank_until(after, &name, params.clone(), &shop.prompts());
        assert!(matches!(cut, Err(StageError::Cancelled)));
        shop.rank(&name, params.clone());
        assert!(bytes(&name) == bytes("whole"));
        let said = shop.0.logged("note");
        assert!(said.iter().any(|line| line.contains("rankings are there from a run that was cut off")), "{said:?}");
    }
}

#[test]
fn a_row_without_room_for_its_longest_title_is_named() {
    let Some(shop) = Shop::new() else { return };
    let context = ModelFiles::open(&shop.0.base).unwrap().config().max_positions;
    let mut rows = shop.rows();
    rows[1]["input"] = "7 ".repeat(context).into();
    let path = shop.0.path("long.json");
    std::fs::write(&path, json!(rows).to_string()).unwrap();
    let error = shop.try_rank("long", json!({}), &path).unwrap_err().to_string();
    let named = format!("prompt `{}` has ", rows[1]["id"].as_str().unwrap());
    assert!(error.starts_with(&named), "{error}");
    let wanted = format!(": the base was made for {context}; shorten the prompts");
    assert!(error.contains("leaves no room for a title of ") && error.contains(&wanted), "{error}");
}
