//! A recommendation as a sentence: the item's title, and a reason that holds.

use serde_json::Map;

use crate::record::{example::Example, item::Item};
use crate::seeded::SplitMix;

use super::label::Outcome;
use super::shop::Shop;

/// Places of title and reason; several, so that a student learns the item and not one frame.
const FRAMES: [&str; 6] = [
    "I recommend \"{title}\": {reason}.",
    "You may enjoy \"{title}\", because {reason}.",
    "A good next choice is \"{title}\"; {reason}.",
    "Have a look at \"{title}\". I suggest it because {reason}.",
    "My suggestion for you is \"{title}\", since {reason}.",
    "Next, try \"{title}\": {reason}.",
];

/// Writes the label for `item`; frame and reason depend on the seed and the row's id alone.
pub fn sentence(shop: &Shop, prompt: &Example, item: &str, seed: u64, backend: &str) -> Outcome {
    let Some(product) = shop.titled(item) else { return Outcome::Failed(format!("item `{item}` has no title")) };
    let mut random = SplitMix::new(seed, &prompt.id);
    let frame = FRAMES[random.below(FRAMES.len() as u64) as usize];
    let reasons = reasons(shop, prompt, product);
    let reason = &reasons[random.below(reasons.len() as u64) as usize];
    // The reason goes in first: a title may hold braces, and must not be read as a place.
    let (before, after) = frame.split_once("{title}").expect("every frame has a title");
    let text = format!("{before}{}{}", product.title.trim(), after.replace("{reason}", reason));
    let meta = [("model", backend), ("provider", "watershed"), ("finish_reason", "stop"), ("item_id", item)];
    Outcome::Label(text, Map::from_iter(meta.map(|(name, value)| (name.to_string(), value.into()))))
}

/// Returns every reason that holds; never empty.
fn reasons(shop: &Shop, prompt: &Example, product: &Item) -> Vec<String> {
    let known: Vec<&Item> =
        prompt.history.iter().rev().filter_map(|id| shop.titled(id)).filter(|i| i.item_id != product.item_id).collect();
    let mut reasons = Vec::new();
    if let Some(other) = known.iter().find(|i| !i.brand.is_empty() && i.brand == product.brand) {
        reasons.push(format!("it comes from {}, the maker of {}", product.brand, other.title.trim()));
    }
    if let Some((leaf, other)) =
        leaf(product).and_then(|leaf| Some((leaf, known.iter().find(|i| self::leaf(i) == Some(leaf))?)))
    {
        reasons.push(format!("it is from {leaf}, as is {}", other.title.trim()));
    }
    if let Some(other) =
        known.iter().find(|i| shop.buyers(&i.item_id).any(|user| shop.bought[user].contains(&product.item_id)))
    {
        reasons.push(format!("customers who bought {} also bought it", other.title.trim()));
    }
    if reasons.is_empty() {
        reasons.push(match leaf(product) {
            Some(leaf) => format!("it adds something from {leaf} to what you have"),
            None => "it goes well with what you have".into(),
        });
    }
    reasons
}

fn leaf(item: &Item) -> Option<&str> {
    item.categories.first()?.last().map(String::as_str).filter(|c| !c.is_empty())
}
