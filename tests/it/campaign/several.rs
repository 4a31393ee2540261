//! Several processes on one store, some of them killed at random moments.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::kills::of_layers;
use super::{Numbers, assert_recovers, is_full, results};
use crate::project::Project;

const LAYERS: usize = 4;

fn start(project: &Project) -> Child {
    project.command(&["run", "-q"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Two to four processes; each but the last is killed at a random moment, or started anew beside the others.
fn round(project: &Project, length: Duration, numbers: &mut Numbers) -> usize {
    let mut children: Vec<Child> = (0..2 + numbers.below(3)).map(|_| start(project)).collect();
    let mut killed = 0;
    for victim in 0..children.len() - 1 {
        std::thread::sleep(Duration::from_micros(numbers.below(length.as_micros() as usize) as u64 / 2));
        children[victim].kill().unwrap();
        killed += usize::from(!children[victim].wait().unwrap().success());
        if numbers.below(2) == 0 {
            children.push(start(project));
        }
    }
    // Whoever was spared ends well, whatever befell the others.
    let spared = children.iter_mut().map(|child| child.wait().unwrap());
    assert!(spared.filter(|status| status.success()).count() >= 1, "nobody finished");
    killed
}

#[test]
fn processes_killed_beside_others_damage_nothing() {
    let quiet = of_layers(LAYERS);
    let begun = Instant::now();
    assert_eq!(quiet.run(&[]).code, 0);
    let (length, quiet) = (begun.elapsed(), results(&quiet));
    let (begun, mut numbers) = (Instant::now(), Numbers(7));
    let (mut killed, rounds) = (0, if is_full() { 200 } else { 10 });
    for number in 0..rounds {
        let project = of_layers(LAYERS);
        killed += round(&project, length, &mut numbers);
        assert_eq!(results(&project), quiet, "round {number}");
        assert_recovers(&project, &quiet, &format!("round {number} of several processes"));
    }
    eprintln!("campaign: {killed} kills beside others in {rounds} rounds, {:.1} s", begun.elapsed().as_secs_f64());
    assert!(killed > rounds / 4, "most kills came too late");
}
