//! The planner against a naive one: random graphs, random edits and damage, and the same verdicts at every step.
//!
//! `naive.rs` is written from the promise, not from the engine: what a stage reads is text, a key is text, the store is a map.
//! A failure prints the number of its story; `STORY=number` tells it alone. `WATERSHED_CAMPAIGN=full` tells 10,000 stories.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod blend;
mod naive;
mod story;

use story::Story;

/// Stories of a plain run, and of the whole campaign.
const STORIES: (u64, u64) = (256, 10_000);

/// Edits of one story.
const STEPS: usize = 5;

#[test]
fn plans_and_runs_are_those_of_a_naive_planner() {
    let is_full = std::env::var("WATERSHED_CAMPAIGN").is_ok_and(|value| value == "full");
    let only = std::env::var("STORY").ok().and_then(|number| number.parse().ok());
    let last = if is_full { STORIES.1 } else { STORIES.0 };
    let numbers = only.map_or(0..last, |number: u64| number..number + 1);
    let (mut ran, mut hit) = (0, 0);
    for number in numbers.clone() {
        let mut story = Story::new(number);
        for step in 0..STEPS {
            story.edit();
            let counts = story.compare(&format!("story {number}, step {step}"));
            (ran, hit) = (ran + counts.0, hit + counts.1);
        }
    }
    eprintln!("{} stories of {STEPS} steps: {ran} stages executed, {hit} hits", numbers.end - numbers.start);
    assert!(ran > 0 && hit > 0);
}
