//! What customers write: sentences about the product, as many as a log-normal length asks for.

use super::catalogue::{Product, pick};
use crate::seeded::SplitMix;

const SHORT: [[&str; 4]; 3] = [
    ["Broke in a week.", "Returned it.", "Not as described.", "Poor quality."],
    ["It's okay.", "Does the job.", "Average.", "Fine for the price."],
    ["Love it!", "Works great.", "Perfect!", "Excellent product."],
];

const LONG: [[&str; 8]; 3] = [
    [
        "I wanted to like this {noun}, but it failed me after a few days.",
        "The {feature} came loose the second time I used it.",
        "It was supposed to help with {purpose}, and it made everything harder.",
        "{brand} did not answer my messages, so I am sending it back.",
        "The picture looks much better than what arrived in the box.",
        "For this price I expected something that lasts longer.",
        "My old one was cheaper and did better.",
        "I would look for another {noun} if I were you.",
    ],
    [
        "This {noun} is decent, though nothing special.",
        "I use it for {purpose} about once a week and it holds up so far.",
        "The {feature} is nice, but the instructions were hard to follow.",
        "It took a while to arrive and the box was dented.",
        "I might buy {brand} again if there is a sale.",
        "It is a bit smaller than I thought it would be.",
        "You get what you pay for here.",
        "Some parts feel solid and others feel thin.",
    ],
    [
        "This {noun} is exactly what I was looking for.",
        "I bought it for {purpose} and it has been a joy ever since.",
        "The {feature} makes a bigger difference than I expected.",
        "This is my third product from {brand} and they never let me down.",
        "My sister tried mine and ordered one the same evening.",
        "It feels sturdy, looks good, and was easy to set up.",
        "I use it almost every day and it still looks new.",
        "If you are thinking about {purpose}, this is the one to get.",
    ],
];

const SUMMARIES: [&[&str]; 5] = [
    &["One Star", "Very disappointed", "Don't buy this", "Waste of money"],
    &["Two Stars", "Not great", "Expected more"],
    &["Three Stars", "It's OK", "Good and bad"],
    &["Four Stars", "Good value", "Very nice", "Almost perfect"],
    &["Five Stars", "Love it", "Great product", "Highly recommended", "Exactly what I needed"],
];

/// Longest text, in characters: keeps the default set under one megabyte.
const LONGEST: f64 = 1100.0;

/// Returns the headline of a review.
pub fn summary(random: &mut SplitMix, stars: u8) -> &'static str {
    pick(random, SUMMARIES[usize::from(stars - 1)])
}

/// Returns the sentences of a review; median 120 characters, 90 % below 700 (the real sets of data.md 1 are alike).
pub fn sentences(random: &mut SplitMix, stars: u8, product: &Product) -> Vec<String> {
    let mood = usize::from(stars >= 3) + usize::from(stars >= 4);
    let length = (120f64.ln() + 1.37 * random.normal()).exp().min(LONGEST) as usize;
    if length < 45 {
        return vec![pick(random, &SHORT[mood]).to_string()];
    }
    let mut templates = LONG[mood];
    let (mut out, mut written) = (Vec::new(), 0);
    while written + 30 < length {
        random.shuffle(&mut templates);
        for template in templates {
            if written + 30 >= length {
                break;
            }
            let sentence = fill(template, product, pick(random, &product.features));
            written += sentence.len() + 1;
            out.push(sentence);
        }
    }
    out
}

fn fill(template: &str, product: &Product, feature: &str) -> String {
    template
        .replace("{noun}", &product.noun.to_lowercase())
        .replace("{feature}", &feature.to_lowercase())
        .replace("{purpose}", product.purpose)
        .replace("{brand}", product.brand)
}
