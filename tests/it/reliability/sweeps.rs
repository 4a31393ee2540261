//! Sweeps that would explode: row 25.

use std::time::{Duration, Instant};

use crate::project::{Project, of_four_stages};

/// Memory that the refusal may use, in KiB of address space; a list of 10^9 cases would need hundreds of times more.
const ROOM_KIB: u64 = 256 * 1024;

fn exploding() -> Project {
    let project = of_four_stages();
    let text = std::fs::read_to_string(project.path("watershed.yaml")).unwrap();
    let axes: Vec<String> = (0..9).map(|i| format!("parts.x{i}: *v")).collect();
    let sweeps = format!(
        "sweeps:\n  big: {{grid: {{small.val: &v [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], {}}}}}\n",
        axes[..8].join(", ")
    );
    project.write("watershed.yaml", &format!("{text}{sweeps}"));
    project
}

#[test]
fn row_25_a_grid_of_a_thousand_million_cases_is_counted_and_refused_without_memory() {
    let project = exploding();
    for command in ["check", "plan --sweep big", "run --sweep big", "plan --max-cases 1000000"] {
        let begun = Instant::now();
        let program = project.command(&[]).get_program().to_string_lossy().into_owned();
        let limited = format!("ulimit -v {ROOM_KIB}; exec {program} {command}");
        let output =
            std::process::Command::new("sh").args(["-c", &limited]).current_dir(project.path("")).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{command}: {told}");
        assert!(told.contains("sweep `big` has 1000000000 cases, more than 1"), "{command}: {told}");
        assert!(told.contains("allow more with `--max-cases`"), "{command}: {told}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{command} took {:?}", begun.elapsed());
    }
}

#[test]
fn row_25_the_limit_is_the_users() {
    let project = of_four_stages();
    let text = std::fs::read_to_string(project.path("watershed.yaml")).unwrap();
    project.write("watershed.yaml", &format!("{text}sweeps: {{s: {{grid: {{small.val: [1, 2, 3]}}}}}}\n"));
    let told = project.watershed(&["plan", "--sweep", "s", "--max-cases", "2"]);
    assert_eq!(told.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&told.stderr).contains("sweep `s` has 3 cases, more than 2"));
    project.says(&["plan", "--sweep", "s", "--max-cases", "3"]);
    assert_eq!(project.watershed(&["plan", "--max-cases", "0"]).status.code(), Some(2));
}
