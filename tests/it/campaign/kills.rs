//! kill -9 at random moments of a run of fifty stages.

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::{Numbers, assert_recovers, is_full, results};
use crate::project::Project;

fn of_fifty_stages() -> Project {
    of_layers(10)
}

/// Layers of five stages; each reads two of the layer before.
pub fn of_layers(layers: usize) -> Project {
    let mut text = String::from("stages:\n");
    for layer in 0..layers {
        for place in 0..5 {
            let (a, b) = (place, (place + 1) % 5);
            let above = layer.saturating_sub(1);
            let (input, shell) = match layer {
                0 => (String::new(), format!("echo {place} > $OUT_out")),
                _ => (
                    format!("in: {{a: s{above}x{a}, b: s{above}x{b}}}, "),
                    format!("(cat $IN_a $IN_b | tail -n 40; echo {layer} {place}) > $OUT_out"),
                ),
            };
            text.push_str(&format!("  s{layer}x{place}: {{use: command, {input}with: {{shell: '{shell}'}}}}\n"));
        }
    }
    Project::new(&text)
}

#[test]
fn kills_at_random_moments_cost_only_unfinished_work() {
    let quiet = of_fifty_stages();
    let begun = Instant::now();
    assert_eq!(quiet.run(&[]).outcome("ran").len(), 50);
    let length = begun.elapsed();
    let quiet = results(&quiet);
    let mut numbers = Numbers(3);
    let count = if is_full() { 200 } else { 10 };
    let (mut killed, mut round) = (0, 0);
    // A run that ended before its kill does not count; ten times as many rounds end a test on a machine gone mad.
    while killed < count && round < 10 * count {
        round += 1;
        let project = of_fifty_stages();
        let delay = Duration::from_micros(numbers.below(length.as_micros() as usize) as u64);
        let mut child = project.command(&["run", "-q"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(delay);
        child.kill().unwrap();
        killed += usize::from(!child.wait().unwrap().success());
        assert_recovers(&project, &quiet, &format!("kill {round} after {delay:?}"));
    }
    eprintln!("campaign: {killed} kills in {round} runs, {:.1} s", begun.elapsed().as_secs_f64());
    assert_eq!(killed, count, "most kills came too late");
}
