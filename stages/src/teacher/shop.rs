//! Who bought what, indexed for the offline backends.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use watershed_engine::{Job, StageError};

use crate::record::interaction::{self, Interaction};
use crate::record::item::{self, Item};

/// Purchases and products.
pub struct Shop {
    /// Products by id.
    pub items: BTreeMap<String, Item>,
    /// Purchases by customer, in the order of time.
    pub bought: BTreeMap<String, Vec<String>>,
    buyers: HashMap<String, BTreeSet<String>>,
}

impl Shop {
    /// Reads the inputs `interactions` and `items`.
    ///
    /// # Errors
    /// When an input is missing or is not what it should be.
    pub fn read(job: &Job) -> Result<Shop, StageError> {
        Ok(Shop::new(interaction::read(job.input("interactions")?)?, item::read(job.input("items")?)?))
    }

    /// Indexes interactions, which are sorted by user, time, item.
    pub fn new(interactions: Vec<Interaction>, items: Vec<Item>) -> Shop {
        let mut bought: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut buyers: HashMap<String, BTreeSet<String>> = HashMap::new();
        for row in interactions {
            buyers.entry(row.item_id.clone()).or_default().insert(row.user_id.clone());
            bought.entry(row.user_id).or_default().push(row.item_id);
        }
        Shop { items: items.into_iter().map(|i| (i.item_id.clone(), i)).collect(), bought, buyers }
    }

    /// Returns the customers who bought `item`.
    pub fn buyers(&self, item: &str) -> impl Iterator<Item = &str> {
        self.buyers.get(item).into_iter().flatten().map(String::as_str)
    }

    /// Returns how many customers bought `item`.
    pub fn popularity(&self, item: &str) -> usize {
        self.buyers.get(item).map_or(0, BTreeSet::len)
    }

    /// Returns the product if it has a title to speak of.
    pub fn titled(&self, item: &str) -> Option<&Item> {
        self.items.get(item).filter(|i| !i.title.trim().is_empty())
    }
}
