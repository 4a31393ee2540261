//! What a fitted recommender can do, whichever algorithm made it.

use watershed_engine::StageError;

/// A recommender that predicts ratings.
pub trait Rating: Sync {
    /// Returns the unclipped estimate; `None` where the algorithm cannot tell. An unknown user or item is `None`.
    fn estimate(&self, user: Option<usize>, item: Option<usize>) -> Option<f64>;

    /// Returns what was learned.
    fn tensors(&self) -> Vec<Tensor>;
}

/// A recommender that orders items without predicting ratings.
pub trait Ranking: Sync {
    /// Returns a score for each item; `None` where the algorithm knows nothing of the user.
    fn scores(&self, user: Option<usize>) -> Option<Vec<f64>>;

    /// Returns what was learned.
    fn tensors(&self) -> Vec<Tensor>;
}

/// A fitted recommender.
pub enum Model<'a> {
    /// Predicts ratings; ranks by them.
    Rating(Box<dyn Rating + 'a>),
    /// Ranks only.
    Ranking(Box<dyn Ranking + 'a>),
}

impl<'a> Model<'a> {
    /// Wraps a recommender that predicts ratings.
    pub fn rating(model: impl Rating + 'a) -> Model<'a> {
        Model::Rating(Box::new(model))
    }

    /// Wraps a recommender that only ranks.
    pub fn ranking(model: impl Ranking + 'a) -> Model<'a> {
        Model::Ranking(Box::new(model))
    }

    /// Returns what was learned.
    pub fn tensors(&self) -> Vec<Tensor> {
        match self {
            Model::Rating(model) => model.tensors(),
            Model::Ranking(model) => model.tensors(),
        }
    }
}

/// Called between epochs with how many are done of how many; an error ends the fit (the user cancelled).
pub type Tick<'a> = &'a dyn Fn(usize, usize) -> Result<(), StageError>;

/// One learned array, little endian.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Name, for example `pu`.
    pub name: &'static str,
    /// Element type.
    pub dtype: safetensors::Dtype,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// The elements.
    pub bytes: Vec<u8>,
}

impl Tensor {
    /// Returns an array of doubles.
    pub fn f64(name: &'static str, shape: Vec<usize>, values: &[f64]) -> Tensor {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor { name, dtype: safetensors::Dtype::F64, shape, bytes }
    }

    /// Returns an array of floats.
    pub fn f32(name: &'static str, shape: Vec<usize>, values: impl IntoIterator<Item = f32>) -> Tensor {
        let bytes = values.into_iter().flat_map(f32::to_le_bytes).collect();
        Tensor { name, dtype: safetensors::Dtype::F32, shape, bytes }
    }

    /// Returns an array of numbers of users or items.
    pub fn u32(name: &'static str, shape: Vec<usize>, values: impl IntoIterator<Item = u32>) -> Tensor {
        let bytes = values.into_iter().flat_map(u32::to_le_bytes).collect();
        Tensor { name, dtype: safetensors::Dtype::U32, shape, bytes }
    }
}

/// Refuses a table over all pairs of items that would be too large.
///
/// # Errors
/// Names the algorithm, the number of items and the memory it would take.
pub fn refuse_above(algorithm: &str, items: usize, most: usize, bytes: usize) -> Result<(), StageError> {
    if items <= most {
        return Ok(());
    }
    let gib = bytes as f64 / f64::from(1 << 30);
    Err(StageError::failed(format!(
        "`{algorithm}` needs a table over all pairs of {items} items ({gib:.1} GiB), more than the {most} items it takes: \
         use `item_knn` or `svd`, or clean with a larger `k_core.item`"
    )))
}
