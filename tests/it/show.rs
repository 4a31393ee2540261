//! `show`: a sweep's cases side by side, while they run and after.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use serde_json::Value;

use crate::mask::masked;
use crate::project::Project;

/// A training that writes curves, and its rating: `tuned -> scores`, over two rates and two seeds.
fn trained() -> Project {
    let curves = "mkdir $OUT_curves && for s in 1 2; do echo \"{\\\"step\\\": $s, \\\"epoch\\\": $s, \\\"loss\\\": $SEED.$s}\"; done \
                  > $OUT_curves/metrics.jsonl && for s in 0 1 2; do echo \"{\\\"step\\\": $s, \\\"epoch\\\": $s, \\\"loss\\\": $LR.$s}\"; \
                  done > $OUT_curves/eval.jsonl";
    let rating = "tail -n 1 $IN_c > rated; echo \"{\\\"a.rate\\\": $LR, \\\"a.rate_low\\\": 0, \\\"a.rate_high\\\": 9}\" > $OUT_m";
    let project = Project::new(&format!(
        "name: study
stages:
  rows:   {{use: command, with: {{shell: 'echo \"{{\\\"rows\\\": 3}}\" > $OUT_m', out: {{m: metrics}}}}}}
  tuned:  {{use: command, in: {{r: rows}}, with: {{shell: '{curves}', env: {{LR: 1, SEED: 1}}, out: {{curves: curves}}}}}}
  scores: {{use: command, in: {{c: tuned.curves/eval.jsonl}}, with: {{shell: '{rating}', env: {{LR: 1}}, out: {{m: metrics}}}}}}
sweeps:
  search: {{grid: {{\"tuned.env.LR, scores.env.LR\": [[2, 2], [3, 3]], tuned.env.SEED: [4, 6]}}}}
  cases:  {{cases: {{good: {{tuned.env.SEED: 5}}, bad: {{tuned.shell: exit 3}}}}}}
"
    ));
    project.edit("in: {r: rows}", "in: {r: rows.m}");
    project
}

/// Runs `watershed` on a wide screen, masked.
fn wide(project: &Project, arguments: &[&str]) -> String {
    let output = project.command(arguments).env("COLUMNS", "220").output().unwrap();
    masked(&String::from_utf8_lossy(&output.stdout))
}

/// A line of a table with single spaces between its cells.
fn row(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_sweep_shows_its_cases_with_what_differs_and_losses_last_best_and_at_the_best_validation() {
    let project = trained();
    project.says(&["run", "--sweep", "search"]);
    assert_eq!(
        wide(&project, &["show"]),
        "run RUN of study, sweep search: ok in T

case                                   scores.env.LR  tuned.env.LR  SEED  rate  train_loss_at_best_val  train_loss_best  train_loss_last  val_loss_best  val_loss_last  state
tuned.env.LR=2,scores.env.LR=2,SEED=4              2             2     4     2                  4.1000           4.1000           4.2000         2.1000         2.2000  ran T
tuned.env.LR=2,scores.env.LR=2,SEED=6              2             2     6     2                  6.1000           6.1000           6.2000         2.1000         2.2000  ran T
tuned.env.LR=3,scores.env.LR=3,SEED=4              3             3     4     3                  4.1000           4.1000           4.2000         3.1000         3.2000  ran T
tuned.env.LR=3,scores.env.LR=3,SEED=6              3             3     6     3                  6.1000           6.1000           6.2000         3.1000         3.2000  ran T

rows@tuned.env.LR=2,scores.env.LR=2,SEED=4+3
metric  rows
rows       3"
    );
}

#[test]
fn cases_are_ordered_cut_and_averaged() {
    let project = trained();
    project.says(&["run", "--sweep", "search"]);
    let table = |arguments: &[&str]| {
        let mut all = vec!["show", "--metrics", "train_loss_last"];
        all.extend(arguments);
        let rows =
            wide(&project, &all).lines().skip(3).take_while(|line| !line.is_empty()).map(row).collect::<Vec<_>>();
        rows.join("; ")
    };
    let told = [
        table(&["--sort", "-train_loss_last", "--top", "2"]),
        table(&["--sort", "train_loss_last", "--desc", "--top", "1"]),
        table(&["--sort", "train_loss_last", "--top", "1"]),
        table(&["--mean-over", "SEED"]),
        table(&["--mean-over", "SEED,tuned.env.LR,scores.env.LR"]),
    ];
    let expected = [
        "tuned.env.LR=2,scores.env.LR=2,SEED=6 2 2 6 6.2000 ran T; tuned.env.LR=3,scores.env.LR=3,SEED=6 3 3 6 6.2000 ran T",
        "tuned.env.LR=2,scores.env.LR=2,SEED=6 2 2 6 6.2000 ran T",
        "tuned.env.LR=2,scores.env.LR=2,SEED=4 2 2 4 4.2000 ran T",
        "tuned.env.LR=2,scores.env.LR=2,SEED=4+1 2 2 2 5.2000 ±1.4142 ran T; \
         tuned.env.LR=3,scores.env.LR=3,SEED=4+1 3 3 2 5.2000 ±1.4142 ran T",
        "tuned.env.LR=2,scores.env.LR=2,SEED=4+3 4 5.2000 ±1.1547 ran T",
    ];
    assert_eq!(told, expected);
    let output = project.watershed(&["show", "--sort", "train_loss_lst"]);
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(told, "error: there is no column `train_loss_lst`; did you mean `train_loss_last`?\n");
}

#[test]
fn a_failed_case_tells_why_and_a_narrow_screen_gets_the_table_in_blocks() {
    let project = trained();
    assert_eq!(project.run(&["--sweep", "cases"]).code, 1);
    assert_eq!(
        wide(&project, &["show", "--metrics", "rate"]),
        "run RUN of study, sweep cases: failed in T

case  SEED  shell                           rate  state
good     5  mkdir $OUT_curves && for s in…     1  ran T
bad      1  exit 3                             -  failed tuned

tuned@bad failed: the command ended with exit code 3 and printed nothing"
    );
    let narrow = project.command(&["show", "--metrics", "rate"]).env("COLUMNS", "20").output().unwrap();
    let narrow = masked(&String::from_utf8_lossy(&narrow.stdout));
    let blocks: Vec<&str> = narrow.split("\n\n").skip(1).take(3).collect();
    assert_eq!(
        blocks,
        [
            "case  SEED\ngood     5\nbad      1",
            "case  shell\ngood  mkdir $OUT_cu…\nbad   exit 3",
            "case  rate\ngood     1\nbad      -"
        ]
    );
}

#[test]
fn a_case_alone_is_shown_like_a_run_and_options_for_cases_need_a_sweep() {
    let project = trained();
    project.says(&["run", "--sweep", "cases", "--cases", "good"]);
    let shown = masked(&project.says(&["show", "last@good", "--metrics", "rate"]));
    assert!(shown.starts_with("run RUN@good of study, sweep cases: ok in T\n\nstage"), "{shown}");
    project.says(&["run"]);
    let output = project.watershed(&["show", "--sort", "rate"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        masked(&String::from_utf8_lossy(&output.stderr)),
        "error: run RUN ran no sweep; `--sort`, `--top` and `--mean-over` are for cases"
    );
}

#[test]
fn a_threshold_without_its_number_is_missed_and_told_everywhere() {
    let project = trained();
    let text = std::fs::read_to_string(project.path("watershed.yaml")).unwrap();
    project.write("watershed.yaml", &format!("{text}expect: {{scores.a.rate: '< 3', scores.a.rat: '< 3'}}\n"));
    let ran = project.run(&["--sweep", "search"]);
    assert_eq!((ran.code, ran.events.last().unwrap()["outcome"].as_str()), (1, Some("expectation_failed")));
    let missed = |v: &&Value| v["event"] == "expectation" && v["held"] == false;
    assert_eq!(ran.events.iter().filter(missed).count(), 6);
    let told = wide(&project, &["show"]);
    let told: Vec<&str> = told.lines().filter(|line| line.starts_with("expect")).collect();
    assert_eq!(told[0], "expect scores.a.rate@tuned.env.LR=3,scores.env.LR=3,SEED=4 < 3: MISSED, found 3");
    assert_eq!(
        told[2],
        "expect scores.a.rat@tuned.env.LR=2,scores.env.LR=2,SEED=4 < 3: MISSED, found nothing: \
         `scores` has no number `a.rat`; did you mean `scores.a.rate`?"
    );
    assert_eq!((told.len(), told[6]), (7, "expect scores.a.rate < 3: held 2 times"));
    let shown: Value = serde_json::from_str(&project.says(&["show", "--format", "json"])).unwrap();
    assert_eq!(shown["expectations"].as_array().unwrap().iter().filter(|v| v["held"] == false).count(), 6);
    project.says(&["report", "-o", "page.html"]);
    let page = std::fs::read_to_string(project.path("page.html")).unwrap();
    assert!(page.contains("<b>missed</b>, found nothing") && page.contains("held, found 2"));
    // A run that was asked for other stages compares nothing.
    assert_eq!(project.run(&["tuned"]).code, 0);
}

/// A stage that goes on until its gate is opened and closed.
fn gated() -> (Project, std::path::PathBuf) {
    let project = Project::new("stages:\n  slow: {use: command, with: {shell: 'echo begun; cat GATE > $OUT_out'}}\n");
    let gate = project.path("gate");
    assert!(std::process::Command::new("mkfifo").arg(&gate).status().unwrap().success());
    project.edit("GATE", &gate.display().to_string());
    (project, gate)
}

#[test]
fn a_run_is_watched_until_it_ends_and_its_log_read_meanwhile() {
    let (project, gate) = gated();
    let mut run = project.command(&["run"]).stdout(Stdio::null()).spawn().unwrap();
    // Waits until the stage opens the other end.
    let mut gate = std::fs::File::options().write(true).open(gate).unwrap();
    let mut watch = project.command(&["show", "--watch"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("slow") && line.contains("running")));
    while !project.says(&["log", "slow"]).contains("begun") {}
    assert!(project.says(&["runs"]).contains("running"));
    gate.write_all(b"go").unwrap();
    drop(gate);
    let rest: Vec<String> = lines.collect();
    assert!(rest.iter().any(|line| line.contains(": ok in ")), "{rest:?}");
    assert!(!rest.concat().contains('\u{1b}'));
    assert!(watch.wait().unwrap().success() && run.wait().unwrap().success());
}

#[test]
fn a_killed_run_is_unfinished_and_watching_it_ends() {
    let (project, gate) = gated();
    let mut run = project.command(&["run"]).stdout(Stdio::null()).spawn().unwrap();
    let gate = std::fs::File::options().write(true).open(gate).unwrap();
    run.kill().unwrap();
    run.wait().unwrap();
    drop(gate);
    let shown = project.says(&["show", "--watch"]);
    assert!(shown.contains(": unfinished in "), "{shown}");
}

#[test]
fn the_log_of_a_stage_that_was_a_hit_since_is_that_of_the_run_that_executed_it() {
    let project = trained();
    project.says(&["run"]);
    project.says(&["run", "--set", "scores.env.LR=7"]);
    project.says(&["run", "--set", "scores.env.LR=7"]);
    let told = masked(&project.says(&["log", "rows"]));
    assert!(told.starts_with("in run RUN, a hit since:\n"), "{told}");
    assert!(told.contains("rows  ran after"), "{told}");
    assert_eq!(project.watershed(&["log", "row"]).status.code(), Some(3));
}

#[test]
fn a_thousand_cases_of_fifty_parameters_show_in_a_moment() {
    let project = trained();
    let folder = project.store().join("v1/run/20260101-000000-000-00001");
    std::fs::create_dir_all(&folder).unwrap();
    let mut log =
        "{\"event\":\"run_started\",\"run\":\"20260101-000000-000-00001\",\"pipeline\":\"p\",\"file\":\"p.yaml\",\
                   \"sweep\":\"s\",\"nodes\":1000,\"started_ms\":1,\"version\":\"0\",\"t_ms\":0}\n"
            .to_string();
    for case in 0..1000 {
        let set: Vec<String> = (0..50).map(|p| format!("\"a.p{p}\":{}", (case + p) % 7)).collect();
        let params: Vec<String> = (0..50).map(|p| format!("\"p{p}\":{}", (case + p) % 7)).collect();
        let (set, params) = (set.join(","), params.join(","));
        log += &format!("{{\"event\":\"case_planned\",\"case\":\"c{case}\",\"set\":{{{set}}},\"t_ms\":0}}\n");
        log += &format!(
            "{{\"event\":\"stage_planned\",\"stage\":\"a\",\"case\":\"c{case}\",\"cases\":[\"c{case}\"],\"kind\":\"k\",\
             \"params\":{{{params}}},\"reads\":[],\"t_ms\":0}}\n"
        );
    }
    std::fs::write(folder.join("events.jsonl"), log).unwrap();
    let begun = std::time::Instant::now();
    let text = project.says(&["show", "--sort", "-p0", "--top", "1000"]);
    assert!(text.lines().all(|line| line.chars().count() <= 80) && text.contains("c999"));
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
}

#[test]
fn what_a_stage_warned_of_is_shown_again_when_it_is_a_hit() {
    let project = Project::new(
        "name: study
stages:
  made:  {use: synthetic, with: {customers: 20, seed: 1}}
  read:  {use: ingest, in: {reviews: made.reviews, items: ./none.jsonl}}
  rows:  {use: command, in: {x: read.interactions}, with: {shell: 'wc -l < $IN_x > $OUT_out'}}
",
    );
    project.write("none.jsonl", "{\"asin\": \"B000000000\", \"title\": \"A thing of another shop\"}\n");
    let warning = "warning: read: no product of the reviews is in the metadata; are both files of the same set?";
    project.says(&["run"]);
    assert!(project.says(&["show"]).contains(warning));
    project.edit("wc -l", "wc -c");
    project.says(&["run"]);
    let shown = project.says(&["show"]);
    assert_eq!(shown.matches(warning).count(), 1, "{shown}");
    assert!(project.says(&["report", "-o", "-"]).contains("<b>read</b>: no product of the reviews"));
    let document: Value = serde_json::from_str(&project.says(&["show", "--format", "json"])).unwrap();
    let stages = document["stages"].as_array().unwrap();
    let warned = |stage: &&Value| !stage["warnings"].as_array().unwrap().is_empty();
    assert_eq!(stages.iter().filter(warned).map(|stage| &stage["stage"]).collect::<Vec<_>>(), ["read"]);
}
