//! Reasons name the leaf, and the nearest former action: the stage's own, else a sibling's, else that of its former name.

use crate::project::{Project, of_four_stages, rows};

fn swept() -> Project {
    let project = of_four_stages();
    let text = std::fs::read_to_string(project.path("watershed.yaml")).unwrap();
    let sweep = "sweeps: {sizes: {grid: {parts.val: [4, 6, 8], large.val: [1, 2]}}}";
    project.write("watershed.yaml", &format!("{text}{sweep}\n"));
    project
}

fn why(project: &Project, arguments: &[&str]) -> String {
    let mut all = vec!["why"];
    all.extend(arguments);
    project.says(&all).trim().to_string()
}

#[test]
fn of_several_former_records_the_nearest_is_compared() {
    let project = of_four_stages();
    project.says(&["run", "--set", "small.val=3", "--set", "small.seed=9"]);
    project.says(&["run"]);
    let set = |val: &str, seed: &str| why(&project, &["small", "--set", val, "--set", seed]);
    assert_eq!(set("small.val=3", "small.seed=10"), "small <- small.seed 9 -> 10");
    assert_eq!(set("small.val=2", "small.seed=10"), "small <- small.seed 0 -> 10");
    assert_eq!(set("small.val=4", "small.seed=9"), "small <- small.val 3 -> 4");
}

#[test]
fn a_renamed_and_changed_stage_is_compared_with_its_former_name() {
    let project = of_four_stages();
    project.says(&["run"]);
    project.edit(
        "small: {use: split, in: parts.val, with: {val: 2}}",
        "tiny: {use: split, in: parts.val, with: {val: 3}}",
    );
    assert_eq!(why(&project, &["tiny"]), "tiny <- tiny.val 2 -> 3 (compared with small)");
    let reason = &project.plan(&["tiny"])["stages"][2]["reasons"][0];
    assert_eq!((reason["path"].as_str(), reason["beside"].as_str()), (Some("tiny.val"), Some("small")));
}

#[test]
fn another_kind_under_an_old_name_is_a_changed_kind_and_under_a_new_name_a_first_run() {
    let project = of_four_stages();
    project.says(&["run"]);
    let read = |name: &str| format!("  {name}: {{use: examples, in: {{files: parts.val}}}}\n");
    project.edit("  small: {use: split, in: parts.val, with: {val: 2}}\n", &read("small"));
    assert_eq!(
        why(&project, &["small"]),
        "small <- kind watershed/split@1 -> watershed/examples@4, small.val 2 -> none, input examples removed, \
         input files.parts <- parts added"
    );
    project.edit("  small: {use: examples", "  blend: {use: examples");
    assert_eq!(why(&project, &["blend"]), "blend <- first run");
}

#[test]
fn lists_and_maps_and_values_that_become_maps_are_one_leaf_each() {
    let project = Project::new(
        "stages:
  rows:  {use: examples, in: {files: ./data.jsonl}}
  parts: {use: split, in: rows, with: {val: 6}}
  said:  {use: command, with: {argv: [sh, -c, 'echo > ${out.out}'], env: {A: x, B: y}}}
",
    );
    project.write("data.jsonl", &rows(20));
    project.says(&["run"]);
    assert_eq!(
        why(&project, &["parts", "--set", "parts.val={base: 3, other: 4}"]),
        "parts <- parts.val 6 -> {\"base\":3,\"other\":4}"
    );
    assert_eq!(why(&project, &["said", "--set", "said.env.A=z"]), "said <- said.env.A x -> z");
    assert_eq!(why(&project, &["said", "--set", "said.env={B: y}"]), "said <- said.env.A x -> none");
    assert_eq!(
        why(&project, &["said", "--set", "said.argv=[sh, ls]"]),
        "said <- said.argv [\"sh\",\"-c\",\"echo > ${out.out}\"] -> [\"sh\",\"ls\"]"
    );
}

#[test]
fn a_changed_file_and_a_changed_variable_are_named() {
    let project = Project::new(
        "env: {PET: rex}
stages:
  rows: {use: examples, in: {files: ./data.jsonl}}
  said: {use: command, with: {shell: 'echo ${env.PET} > ${out.out}'}}
",
    );
    project.write("data.jsonl", &rows(20));
    project.says(&["run"]);
    project.write("data.jsonl", &rows(21));
    let plan = project.command(&["plan", "--format", "json"]).env("PET", "tom").output().unwrap();
    let plan: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
    let reasons = |stage: usize| {
        let told = plan["stages"][stage]["reasons"].as_array().unwrap().iter();
        let field = |reason: &serde_json::Value, name: &str| reason[name].as_str().unwrap_or("-").to_string();
        told.map(|r| ["what", "path", "text"].map(|name| field(r, name)).join(" | ")).collect::<Vec<_>>()
    };
    assert_eq!(reasons(0), ["input | rows.in.files.data | input files.data: ./data.jsonl changed"]);
    assert_eq!(
        reasons(1),
        [
            "param | said.shell | said.shell echo rex > ${out.out} -> echo tom > ${out.out}",
            "env | said | env PET rex -> tom"
        ]
    );
}

#[test]
fn a_case_without_a_past_is_compared_with_its_sibling_and_says_so() {
    let project = swept();
    project.says(&["run"]);
    let sizes = |stage: &str| why(&project, &[stage]);
    assert_eq!(
        sizes("parts@sizes/parts.val=4,large.val=1"),
        "parts@parts.val=4,large.val=1+1 <- parts.val 6 -> 4 (compared with parts)"
    );
    project.says(&["run", "--sweep", "sizes"]);
    project.edit("large.val: [1, 2]", "large.val: [1, 2, 3]");
    assert_eq!(
        sizes("large@sizes/parts.val=8,large.val=3"),
        "large@parts.val=8,large.val=3 <- large.val 2 -> 3 (compared with large@parts.val=8,large.val=2)"
    );
    project.edit("params: {seed: 1}", "params: {seed: 2}");
    assert_eq!(sizes("parts@sizes/parts.val=8,large.val=1"), "parts@parts.val=8,large.val=1+2 <- parts.seed 1 -> 2");
}

#[test]
fn the_cases_of_one_run_are_not_each_others_past() {
    let ran = swept().run(&["--sweep", "sizes"]);
    let texts: Vec<&str> = ran
        .events
        .iter()
        .filter(|e| e["event"] == "stage_finished")
        .flat_map(|e| e["reasons"].as_array().unwrap())
        .map(|r| r["text"].as_str().unwrap())
        .collect();
    assert!(!texts.is_empty() && texts.iter().all(|text| *text == "first run"), "{texts:?}");
}

#[test]
fn more_ways_than_can_be_walked_lead_to_one_leaf() {
    let mut text = "stages:\n  a0: {use: command, with: {shell: 'echo > ${out.out}'}}\n".to_string();
    for layer in 1..=24 {
        let below = layer - 1;
        let inputs = if layer == 1 { "x: a0".to_string() } else { format!("x: a{below}, y: b{below}") };
        for side in ["a", "b"] {
            let shell = format!("echo {side}{layer} > ${{out.out}}");
            text += &format!("  {side}{layer}: {{use: command, in: {{{inputs}}}, with: {{shell: '{shell}'}}}}\n");
        }
    }
    let project = Project::new(&text);
    let told = why(&project, &["a24"]);
    assert_eq!((told.lines().count(), told.split(" <- ").count()), (1, 26), "{told}");
}

#[test]
fn a_file_with_a_suffix_is_named_and_a_rename_is_one_reason() {
    let project =
        Project::new("stages:\n  a: {use: command, in: {x: ./x.csv}, with: {shell: 'cat $IN_x > $OUT_out'}}\n");
    project.write("x.csv", "1");
    project.says(&["run"]);
    project.write("x.csv", "2");
    assert_eq!(why(&project, &["a"]), "a <- input x: ./x.csv changed");
    assert_eq!(project.plan(&[])["stages"][0]["reasons"][0]["path"], "a.in.x");
    project.write("x.txt", "1");
    project.edit("./x.csv", "./x.txt");
    assert_eq!(why(&project, &["a"]), "a <- input x: ./x.txt, suffix .csv -> .txt");
    let reasons = &project.plan(&[])["stages"][0]["reasons"];
    assert_eq!(
        (reasons.as_array().unwrap().len(), reasons[0]["old"].as_str(), reasons[0]["new"].as_str()),
        (1, Some(".csv"), Some(".txt"))
    );
    project.write("x.txt", "2");
    assert_eq!(why(&project, &["a"]), "a <- input x: ./x.txt changed, suffix .csv -> .txt");
}

#[test]
fn of_a_script_the_line_that_changed_is_told_and_programs_get_it_whole() {
    let project = Project::new(
        "stages:
  a:
    use: command
    with:
      shell: |
        set -e
        echo one > $OUT_out
        echo done
",
    );
    project.says(&["run"]);
    project.edit("echo one", "echo two");
    assert_eq!(why(&project, &["a"]), "a <- a.shell line 2: echo one > $OUT_out -> echo two > $OUT_out");
    let plan = project.says(&["plan"]);
    assert!(!plan.contains("set -e") && !plan.contains("echo done"), "{plan}");
    let old = project.plan(&[])["stages"][0]["reasons"][0]["old"].clone();
    assert!(old.as_str().unwrap().starts_with("set -e\necho one > $OUT_out\necho done"), "{old}");
}

#[test]
fn an_answer_of_a_tool_that_differs_in_its_line_ends_only_is_told() {
    let project = Project::new(
        "stages:\n  out: {use: command, with: {shell: 'echo > $OUT_out', tools: {pet: [pet]}}, run: {path: [./bin]}}\n",
    );
    let install = |script: &str| {
        project.write("bin/pet", &format!("#!/bin/sh\n{script}\n"));
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(project.path("bin/pet"), mode).unwrap();
    };
    install("printf 'a\\r\\nb'");
    project.says(&["run"]);
    install("printf 'a\\nb'");
    assert_eq!(why(&project, &["out"]), "out <- tool pet: its answer differs");
    assert_eq!(project.run(&[]).outcome("ran"), ["out"]);
    install("true");
    assert_eq!(why(&project, &["out"]), "out <- tool pet: a -> none");
}
