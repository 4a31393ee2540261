//! Errors of predicted ratings.

use serde::Deserialize;
use watershed_engine::{JobInput, StageError};

use super::numbers::{Numbers, flag, mean};

/// One row of `predictions`, as far as it is needed here.
#[derive(Debug, Deserialize)]
struct Prediction {
    rating: f64,
    prediction: f64,
    #[serde(default)]
    impossible: String,
}

/// Sets RMSE and MAE of each system, over all rows.
///
/// # Errors
/// Names the file and the row that is no prediction.
pub fn measure(predictions: &[JobInput], numbers: &mut Numbers) -> Result<(), StageError> {
    for input in predictions {
        let rows = read(input)?;
        let error = |row: &Prediction| row.prediction - row.rating;
        numbers.put(&input.label, "rmse", mean(rows.iter().map(|r| Some(error(r).powi(2)))).map(f64::sqrt));
        numbers.put(&input.label, "mae", mean(rows.iter().map(|r| Some(error(r).abs()))));
        let impossible = |row: &Prediction| matches!(row.impossible.to_lowercase().as_str(), "true" | "1" | "yes");
        numbers.put(&input.label, "impossible_rate", mean(rows.iter().map(|r| flag(impossible(r)))));
    }
    Ok(())
}

fn read(input: &JobInput) -> Result<Vec<Prediction>, StageError> {
    let fail = |e: csv::Error| StageError::failed(format!("`{}` is not predictions: {e}", input.path.display()));
    csv::Reader::from_path(&input.path).map_err(fail)?.deserialize().map(|row| row.map_err(fail)).collect()
}
