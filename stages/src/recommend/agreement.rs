//! Agreement with Surprise and with a numpy reference on MovieLens 100k.
//!
//! Every number, fold, parameter and tolerance comes from `ml-100k-reference.json`. The data are not ours to ship: the tests
//! look for `ml-100k.inter` in `$WATERSHED_ML100K` (the file), then `data/` and the fixtures, and skip visibly without it.
//! It lies inside the wheel `recbole==1.2.1`: `pip download --no-deps recbole==1.2.1`, then unzip
//! `recbole/dataset_example/ml-100k/ml-100k.inter`.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use watershed_engine::{Kind, job::run_alone};

use crate::fixture;

use super::algorithm::Algorithm;
use super::model::Model;
use super::order::best;
use super::params::Baseline;
use super::ratings::{Ratings, Row};

/// A row of the data: the rating and its time in seconds.
type Dated = (Row, f64);

/// Returns the reference and the data, or says what is missing.
fn reference() -> Option<(Value, Vec<Dated>)> {
    let reference = fixture::json("ml-100k-reference.json")?;
    let named = std::env::var_os("WATERSHED_ML100K").map(PathBuf::from);
    let places = [
        named,
        Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/ml-100k.inter")),
        Some(fixture::folder().join("ml-100k.inter")),
    ];
    let Some(data) = places.into_iter().flatten().find(|path| path.is_file()) else {
        eprintln!("skipped: no ml-100k.inter; set WATERSHED_ML100K to the file of the wheel recbole==1.2.1");
        return None;
    };
    Some((reference, read_inter(&data)))
}

fn read_inter(path: &Path) -> Vec<Dated> {
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().skip(1).map(|line| {
        let cells: Vec<&str> = line.split('\t').collect();
        (
            Row { user: cells[0].into(), item: cells[1].into(), rating: cells[2].parse().unwrap() },
            cells[3].parse().unwrap(),
        )
    });
    rows.collect()
}

fn write_rows<'a>(path: &Path, rows: impl Iterator<Item = &'a Row>) {
    let lines = rows.map(|row| format!("{},{},{}\n", row.user, row.item, row.rating));
    std::fs::write(path, format!("user_id,item_id,rating\n{}", lines.collect::<String>())).unwrap();
}

/// Splits the rows as the fold file says into `train.csv` and `test.csv` of a folder.
fn write_fold(rows: &[Dated], fold: &str, folder: &Path) {
    let text = std::fs::read_to_string(fixture::folder().join(fold)).unwrap();
    let test: HashSet<usize> = text.lines().skip(1).map(|line| line.trim().parse().unwrap()).collect();
    let test = &test;
    let side =
        |held: bool| rows.iter().enumerate().filter(move |(n, _)| held == test.contains(n)).map(|(_, (row, _))| row);
    write_rows(&folder.join("train.csv"), side(false));
    write_rows(&folder.join("test.csv"), side(true));
}

/// Returns our name of a class of Surprise, `KNNWithZScore` being `knn_with_zscore`.
fn our_name(class: &str) -> Option<&'static str> {
    Some(match class {
        "NormalPredictor" => "normal_predictor",
        "BaselineOnly" => "baseline_only",
        "SVD" => "svd",
        "SVDpp" => "svdpp",
        "NMF" => "nmf",
        "KNNBasic" => "knn_basic",
        "KNNWithMeans" => "knn_with_means",
        "KNNWithZScore" => "knn_with_zscore",
        "KNNBaseline" => "knn_baseline",
        "SlopeOne" => "slope_one",
        "CoClustering" => "co_clustering",
        _ => return None,
    })
}

/// Returns the parameters of the kind for one entry of the reference; `None` where we lack the algorithm.
fn params_of(entry: &Value) -> Option<Value> {
    let name = our_name(entry["surprise_class"].as_str()?)?;
    let algorithm: Algorithm = serde_json::from_value(json!(name)).ok()?;
    algorithm.reads()?;
    let mut params = entry["params"].as_object().cloned().unwrap_or_else(Map::new);
    params.insert("algorithm".into(), json!(name));
    params.insert("compat".into(), json!("surprise"));
    Some(Value::Object(params))
}

/// Runs the kind on the fold in `folder`; returns the metrics and the predicted ratings.
fn run_kind(params: &Value, folder: &Path) -> (Value, Vec<f64>) {
    let out = tempfile::tempdir_in(folder).unwrap();
    let (train, test) = (folder.join("train.csv"), folder.join("test.csv"));
    let customers = folder.join("customers.jsonl");
    std::fs::write(&customers, "{\"group\":\"1\"}\n").unwrap();
    let inputs = [
        ("interactions", "train", train.as_path()),
        ("test", "test", test.as_path()),
        ("customers", "customers", customers.as_path()),
    ];
    run_alone(&Kind::of::<Baseline>(), params.clone(), &inputs, out.path()).unwrap();
    let metrics = serde_json::from_str(&std::fs::read_to_string(out.path().join("metrics")).unwrap()).unwrap();
    let mut reader = csv::Reader::from_path(out.path().join("predictions")).unwrap();
    let predictions = reader.records().map(|record| record.unwrap()[3].parse().unwrap()).collect();
    (metrics, predictions)
}

#[test]
fn every_algorithm_of_the_reference_predicts_as_surprise_does() {
    let Some((reference, rows)) = reference() else { return };
    let folds: Vec<&str> = reference["folds"].as_array().unwrap().iter().map(|fold| fold.as_str().unwrap()).collect();
    for fold in folds {
        let folder = tempfile::tempdir().unwrap();
        write_fold(&rows, fold, folder.path());
        for (name, entry) in reference["algorithms"].as_object().unwrap() {
            let Some(params) = params_of(entry) else {
                eprintln!("skipped: `{name}` is not available");
                continue;
            };
            let (metrics, predictions) = run_kind(&params, folder.path());
            agree(name, fold, entry, &metrics, &predictions);
        }
    }
}

fn agree(name: &str, fold: &str, entry: &Value, metrics: &Value, predictions: &[f64]) {
    let expected = &entry["folds"][fold];
    let tolerance = entry["tolerance_rmse"].as_f64().unwrap();
    for metric in ["rmse", "mae"] {
        let Some(want) = expected[format!("{metric}_mean")].as_f64() else { continue };
        let got = metrics[metric].as_f64().unwrap();
        eprintln!("{name} {fold}: {metric} {got:.6}, Surprise {want:.6}");
        assert!((got - want).abs() <= tolerance, "{name} {fold}: {metric} {got}, Surprise {want}");
    }
    for (n, want) in expected["first"].as_array().into_iter().flatten().enumerate() {
        let (got, want) = (predictions[n], want.as_f64().unwrap());
        assert!((got - want).abs() <= 1e-4, "{name} {fold}: prediction {n} is {got}, Surprise {want}");
    }
}

/// Holds the last row of each user out: `(train, target item by user)`.
fn leave_one_out(rows: &[Dated]) -> (Ratings, HashMap<String, String>) {
    let mut last: HashMap<&str, usize> = HashMap::new();
    for (n, (row, time)) in rows.iter().enumerate() {
        let place = last.entry(&row.user).or_insert(n);
        if *time >= rows[*place].1 {
            *place = n;
        }
    }
    let train =
        rows.iter().enumerate().filter(|(n, (row, _))| last[row.user.as_str()] != *n).map(|(_, (row, _))| row.clone());
    let targets = last.values().map(|&n| (rows[n].0.user.clone(), rows[n].0.item.clone())).collect();
    (Ratings::from_rows(train), targets)
}

/// Returns the parameters of a model of the ranking block, as its protocol describes it.
fn ranking_params(name: &str) -> Option<Baseline> {
    let params = match name {
        "popularity" => json!({"algorithm": "popularity"}),
        "itemknn_cosine" => json!({"algorithm": "item_knn", "k": 20}),
        "ease" => json!({"algorithm": "ease", "l2": 250}),
        "ease_r500" => json!({"algorithm": "ease", "l2": 500}),
        _ => return None,
    };
    serde_json::from_value(params).ok()
}

#[test]
fn ranking_algorithms_rank_as_the_reference_does() {
    let Some((reference, rows)) = reference() else { return };
    let (train, targets) = leave_one_out(&rows);
    assert_eq!(json!(train.len()), reference["ranking"]["n_train"]);
    assert_eq!(json!(train.items.len()), reference["ranking"]["n_items"]);
    for (name, entry) in reference["ranking"]["models"].as_object().unwrap() {
        let Some(params) = ranking_params(name) else {
            eprintln!("skipped: ranking model `{name}` is not available");
            continue;
        };
        let model = params.algorithm.unwrap().fit(&params, &train, &|_, _| Ok(())).unwrap();
        let ranked = rank_all(&model, &train);
        let ranks: Vec<Option<usize>> = train
            .users
            .names()
            .iter()
            .zip(&ranked)
            .map(|(user, items)| {
                let target = train.items.find(&targets[user])?;
                items.iter().position(|&item| item as usize == target).map(|place| place + 1)
            })
            .collect();
        agree_on_ranks(name, entry, &ranks);
        for (user, top10) in entry["top10_first5users"].as_object().unwrap() {
            let items = &ranked[train.users.find(user).unwrap()][..10];
            let names: Vec<&String> = items.iter().map(|&item| &train.items.names()[item as usize]).collect();
            assert_eq!(json!(names), *top10, "{name}: best items of user {user}");
        }
    }
}

/// Ranks all items for all users; ties by ascending number, as the reference's protocol has it.
fn rank_all(model: &Model, train: &Ratings) -> Vec<Vec<u32>> {
    let Model::Ranking(model) = model else { panic!("not a ranking algorithm") };
    let ties: Vec<u32> = (0..train.items.len() as u32).collect();
    let users = 0..train.users.len();
    users.map(|user| best(&model.scores(Some(user)).unwrap(), &train.bought(user), &ties, ties.len())).collect()
}

fn agree_on_ranks(name: &str, entry: &Value, ranks: &[Option<usize>]) {
    assert_eq!(json!(ranks[..20]), entry["ranks_first20"], "{name}: first ranks");
    assert_eq!(json!(ranks.iter().filter(|r| r.is_none()).count()), entry["n_unrankable"], "{name}: missing targets");
    for (metric, want) in entry["metrics"].as_object().unwrap() {
        let (measure, k) = metric.split_once('@').unwrap_or((metric, "1000000"));
        let k: usize = k.parse().unwrap();
        let gain = |rank: usize| match measure {
            "hit" => 1.0,
            "mrr" => 1.0 / rank as f64,
            _ => 1.0 / ((rank + 1) as f64).log2(),
        };
        if !["hit", "mrr", "ndcg"].contains(&measure) {
            continue;
        }
        let got =
            ranks.iter().flatten().filter(|&&rank| rank <= k).map(|&rank| gain(rank)).sum::<f64>() / ranks.len() as f64;
        assert!((got - want.as_f64().unwrap()).abs() < 1e-9, "{name}: {metric} {got}, reference {want}");
    }
}
