//! Kind `baseline`: a recommender from ratings alone, for the comparison with a language model.
//!
//! Fits one algorithm of `recommend/` to `interactions` and writes all four outputs, whatever the algorithm: a ranking for
//! the customers asked for, predicted ratings of `test`, what was learned, and how well the predictions fit.

use std::collections::BTreeSet;

use rayon::prelude::*;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use watershed_engine::fault::ParamFault;
use watershed_engine::port::{Ports, RecordType};
use watershed_engine::stage::NoRunKeys;
use watershed_engine::{Job, Stage, StageError};

use crate::recommend::check;
use crate::recommend::measure::{self, Pair};
use crate::recommend::model::Model;
pub use crate::recommend::params::Baseline;
use crate::recommend::params::Cold;
use crate::recommend::predict::{Prediction, Predictor};
use crate::recommend::ratings::{self, Ratings, Row};
use crate::recommend::saved;
use crate::record::lines;
use crate::record::ranking::Ranked;

impl Stage for Baseline {
    const KIND: &'static str = "baseline";
    const VERSION: u32 = 1;
    type Run = NoRunKeys;

    fn ports(&self) -> Ports {
        Ports::new()
            .reads("interactions", RecordType::Interactions)
            .may_read("items", RecordType::Items)
            .may_read("customers", RecordType::Customers)
            .may_read("test", RecordType::Interactions)
            .writes("ranking", RecordType::Ranking)
            .writes("predictions", RecordType::Predictions)
            .writes("recommender", RecordType::Recommender)
            .writes("metrics", RecordType::Metrics)
    }

    fn check(&self) -> Vec<ParamFault> {
        let mut faults = check::algorithm(self);
        faults.extend(check::options(self));
        let [low, high] = self.rating_scale;
        if !(low.is_finite() && high.is_finite() && low < high) {
            faults.push(ParamFault::new(
                "rating_scale",
                format!("`{low}` is not below `{high}`"),
                "write `[lowest, highest]`",
            ));
        }
        if self.top == 0 {
            faults.push(ParamFault::new("top", "`0` recommends nothing", "at least 1"));
        }
        faults
    }

    fn run(&self, _run: &NoRunKeys, job: &Job) -> Result<(), StageError> {
        let threads = rayon::ThreadPoolBuilder::new().num_threads(job.spec().limits.cpus.max(1)).build();
        let threads = threads.map_err(|e| StageError::Environment(format!("cannot start threads: {e}")))?;
        threads.install(|| self.fit_and_write(job))
    }
}

impl Baseline {
    fn fit_and_write(&self, job: &Job) -> Result<(), StageError> {
        let algorithm = self.algorithm.ok_or_else(|| StageError::failed("`algorithm` is missing"))?;
        let train = Ratings::from_rows(ratings::read(job.input("interactions")?)?);
        if train.is_empty() {
            return Err(StageError::failed("`interactions` holds no rows: there is nothing to learn from"));
        }
        job.count("ratings", train.len() as f64);
        job.count("users", train.users.len() as f64);
        job.count("items", train.items.len() as f64);
        let tick = |done: usize, total: usize| {
            job.progress(done as u64, total as u64, "epochs", "");
            job.check_cancelled()
        };
        let model = algorithm.fit(self, &train, &tick)?;
        if let Model::Rating(_) = model {
            self.check_scale(&train)?;
        }
        let predictor = Predictor { model, train: &train, cold: self.cold(), scale: self.rating_scale };
        self.write_ranking(job, &predictor)?;
        self.write_predictions(job, &predictor)?;
        saved::write(job.output("recommender"), &job.spec().params, &train, &predictor.model.tensors())
    }

    fn check_scale(&self, train: &Ratings) -> Result<(), StageError> {
        let ([low, high], (least, most)) = (self.rating_scale, train.range);
        if low <= least && most <= high {
            return Ok(());
        }
        Err(StageError::failed(format!(
            "`interactions` holds ratings from {least} to {most}, outside `rating_scale` [{low}, {high}]: \
             set `rating_scale: [{}, {}]`",
            least.min(low),
            most.max(high)
        )))
    }

    fn write_ranking(&self, job: &Job, predictor: &Predictor) -> Result<(), StageError> {
        let customers = customers(job, predictor.train)?;
        let (names, ties) = (predictor.train.items.names(), predictor.train.items.places());
        let ranked: Vec<Ranked> = customers
            .into_par_iter()
            .map(|group| {
                let (items, scores) = predictor.rank(&group, &ties, self.top);
                Ranked { items: items.iter().map(|&item| names[item as usize].clone()).collect(), scores, group }
            })
            .collect();
        job.count("customers", ranked.len() as f64);
        let unknown = ranked.iter().filter(|r| predictor.train.users.find(&r.group).is_none()).count();
        if unknown > 0 {
            job.count("customers_without_history", unknown as f64);
            job.warn(format!("{unknown} of {} customers have no row in `interactions`", ranked.len()));
        }
        lines::write(job.output("ranking"), ranked)
    }

    fn write_predictions(&self, job: &Job, predictor: &Predictor) -> Result<(), StageError> {
        let rows = job.optional_input("test").map(ratings::read).transpose()?.unwrap_or_default();
        let predictions: Vec<Prediction> = rows.par_iter().map(|row| predictor.rate(row)).collect();
        let path = job.output("predictions");
        let fail = |e: csv::Error| StageError::failed(format!("cannot write `{}`: {e}", path.display()));
        let mut out = csv::Writer::from_writer(job.create("predictions")?);
        out.write_record(["user_id", "item_id", "rating", "prediction", "impossible"]).map_err(fail)?;
        for (row, p) in rows.iter().zip(&predictions) {
            let (rating, predicted, impossible) =
                (row.rating.to_string(), p.rating.to_string(), p.impossible.to_string());
            out.write_record([&row.user, &row.item, &rating, &predicted, &impossible]).map_err(fail)?;
        }
        out.flush().map_err(|e| StageError::io("write", path, &e))?;
        let metrics = metrics(&predictor.model, predictor.cold, &rows, &predictions);
        lines::write(job.output("metrics"), [Value::Object(metrics)])
    }
}

/// Returns the groups of `customers`, sorted, each once; without the input, all users.
fn customers(job: &Job, train: &Ratings) -> Result<Vec<String>, StageError> {
    #[derive(Deserialize)]
    struct Line {
        #[serde(default)]
        group: String,
    }
    let Some(path) = job.optional_input("customers") else {
        return Ok(train.users.names().iter().cloned().collect::<BTreeSet<_>>().into_iter().collect());
    };
    let groups = lines::read::<Line>(path)?.into_iter().map(|line| line.group).filter(|group| !group.is_empty());
    let groups: Vec<String> = groups.collect::<BTreeSet<_>>().into_iter().collect();
    if groups.is_empty() {
        return Err(StageError::failed(format!(
            "`customers` names nobody: no line of `{}` holds a `group`",
            path.display()
        )));
    }
    Ok(groups)
}

/// Returns rmse, mae, fcp and the share of impossible predictions; nothing without rows.
///
/// A model that only ranks has no errors of its own: its rows hold means, and only `impossible` (1) is told.
fn metrics(model: &Model, cold: Cold, rows: &[Row], predictions: &[Prediction]) -> Map<String, Value> {
    let mut metrics = Map::new();
    if rows.is_empty() {
        return metrics;
    }
    let counted = rows.iter().zip(predictions).filter(|(_, p)| !(cold == Cold::Skip && p.impossible));
    let pairs: Vec<Pair> =
        counted.map(|(row, p)| Pair { user: &row.user, given: row.rating, predicted: p.rating }).collect();
    if matches!(model, Model::Rating(_)) && !pairs.is_empty() {
        metrics.insert("rmse".into(), json!(measure::rmse(&pairs)));
        metrics.insert("mae".into(), json!(measure::mae(&pairs)));
        if let Some(fcp) = measure::fcp(&pairs) {
            metrics.insert("fcp".into(), json!(fcp));
        }
    }
    let impossible = predictions.iter().filter(|p| p.impossible).count();
    metrics.insert("impossible".into(), json!(impossible as f64 / rows.len() as f64));
    metrics
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use watershed_engine::{Kind, job::run_alone};

    use super::*;
    use crate::recommend::algorithm::Algorithm;

    fn faults(params: Value) -> Vec<String> {
        let params: Baseline = serde_json::from_value(params).unwrap();
        params.check().into_iter().map(|fault| format!("{}: {}; {}", fault.path, fault.message, fault.help)).collect()
    }

    /// Three customers who all bought `a`; `c` has two buyers, `b` and `d` one.
    const TRAIN: &str = "user_id,item_id,rating,time_ms,user_name,title,text,style\n\
        u2,a,5,1,,,,\nu2,d,4,2,,,,\nu1,a,5,1,,,,\nu1,c,2,2,,,,\nu3,a,3,1,,,,\nu3,c,4,2,,,,\nu3,b,1,3,,,,\n";

    fn run(params: Value, inputs: &[(&str, &str)], folder: &Path) -> Result<(), StageError> {
        let files: Vec<_> =
            inputs.iter().map(|(port, text)| (*port, folder.join(format!("{port}.in")), *text)).collect();
        files.iter().for_each(|(_, path, text)| std::fs::write(path, text).unwrap());
        let inputs: Vec<_> = files.iter().map(|(port, path, _)| (*port, *port, path.as_path())).collect();
        run_alone(&Kind::of::<Baseline>(), params, &inputs, folder)
    }

    fn text(folder: &Path, port: &str) -> String {
        std::fs::read_to_string(folder.join(port)).unwrap()
    }

    #[test]
    fn a_knob_of_another_algorithm_is_a_fault() {
        let svd = faults(json!({"algorithm": "svd", "k": 5, "n_factors": 8}));
        assert_eq!(svd.len(), 1, "{svd:?}");
        assert!(svd[0].starts_with("k: algorithm `svd` does not use `k`; `svd` takes `n_factors`"), "{svd:?}");
        assert!(
            faults(json!({"algorithm": "knn_basic", "sim_options": {"shrinkage": 10}}))[0]
                .contains("sim_options.shrinkage")
        );
        assert!(faults(json!({"algorithm": "popularity", "seed": 3, "precision": "f64"})).is_empty());
    }

    #[test]
    fn an_algorithm_to_come_is_refused_by_name() {
        let fault = &faults(json!({"algorithm": "bpr"}))[0];
        assert!(fault.contains("algorithm `bpr` is not yet available; there are `popularity`, `item_knn`"), "{fault}");
        assert!(faults(json!({}))[0].contains("`algorithm` is missing"));
    }

    #[test]
    fn every_available_algorithm_writes_every_output() {
        for algorithm in Algorithm::available() {
            let folder = tempfile::tempdir().unwrap();
            let params = json!({"algorithm": algorithm.name(), "top": 2});
            run(params, &[("interactions", TRAIN)], folder.path()).unwrap();
            let ranking = text(folder.path(), "ranking");
            let groups: Vec<Ranked> = ranking.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(
                groups.iter().map(|r| r.group.as_str()).collect::<Vec<_>>(),
                ["u1", "u2", "u3"],
                "{}",
                algorithm.name()
            );
            assert_eq!(groups[2].items, ["d"], "{}: the only item u3 has not bought", algorithm.name());
            assert_eq!(text(folder.path(), "predictions"), "user_id,item_id,rating,prediction,impossible\n");
            assert_eq!(text(folder.path(), "metrics"), "{}\n");
            let weights = std::fs::read(folder.path().join("recommender/recommender.safetensors")).unwrap();
            assert!(!safetensors::SafeTensors::deserialize(&weights).unwrap().is_empty());
        }
    }

    #[test]
    fn customers_are_sorted_and_ties_follow_the_item_id() {
        let folder = tempfile::tempdir().unwrap();
        let customers = "{\"group\":\"u2\"}\n{\"group\":\"new\"}\n{\"group\":\"u2\"}\n";
        run(json!({"algorithm": "popularity"}), &[("interactions", TRAIN), ("customers", customers)], folder.path())
            .unwrap();
        let expected = "{\"group\":\"new\",\"items\":[\"a\",\"c\",\"b\",\"d\"],\"scores\":[3.0,2.0,1.0,1.0]}\n\
            {\"group\":\"u2\",\"items\":[\"c\",\"b\"],\"scores\":[2.0,1.0]}\n";
        assert_eq!(text(folder.path(), "ranking"), expected);
    }

    #[test]
    fn a_row_that_the_algorithm_cannot_tell_gets_the_item_mean_and_says_so() {
        let test = "user_id,item_id,rating\nnew,c,4\nnew,zzz,5\n";
        for (compat, first) in [("none", "3"), ("surprise", "3.4285714285714284")] {
            let folder = tempfile::tempdir().unwrap();
            let params = json!({"algorithm": "pmf", "compat": compat});
            run(params, &[("interactions", TRAIN), ("test", test)], folder.path()).unwrap();
            let predictions = text(folder.path(), "predictions");
            let expected = format!("new,c,4,{first},true\nnew,zzz,5,3.4285714285714284,true\n");
            assert!(predictions.ends_with(&expected), "{predictions}");
            let metrics: Value = serde_json::from_str(&text(folder.path(), "metrics")).unwrap();
            assert_eq!(metrics["impossible"], json!(1.0));
        }
    }

    #[test]
    fn ratings_outside_the_scale_are_refused_with_the_scale_to_set() {
        let folder = tempfile::tempdir().unwrap();
        let train = "user_id,item_id,rating\nu,a,0.5\nu,b,10\n";
        let error =
            run(json!({"algorithm": "svd"}), &[("interactions", train)], folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("set `rating_scale: [0.5, 10]`"), "{error}");
    }

    #[test]
    fn threads_do_not_change_a_byte() {
        let many = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let row = |n: u64| Row {
                    user: (n % 37).to_string(),
                    item: (n * n % 53).to_string(),
                    rating: (n % 5 + 1) as f64,
                };
                let train = Ratings::from_rows((0..900).map(row));
                let fitted = Algorithm::available()
                    .into_iter()
                    .map(|algorithm| algorithm.fit(&Baseline::default(), &train, &|_, _| Ok(())).unwrap().tensors());
                fitted.collect::<Vec<_>>()
            })
        };
        assert_eq!(many(1), many(3));
    }
}
