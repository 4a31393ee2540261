//! Every shipped pipeline and template is checked and planned.

use std::path::Path;

use crate::project::{Project, has_worker};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A project with the repository's pipelines and empty stand-ins for the files they name.
fn with_pipelines() -> Project {
    let project = Project::new("stages: {}\n");
    for name in ["models/smollm2-135m.gguf", "data/reviews.json.gz", "data/items.json.gz", "data/alpaca.json.gz"] {
        project.write(name, "");
    }
    for path in crate::project::files(&root().join("pipelines")) {
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
        project.write(name, &std::fs::read_to_string(&path).unwrap());
    }
    project
}

#[test]
fn every_shipped_pipeline_is_planned() {
    let project = with_pipelines();
    for name in ["quickstart", "paper", "compare"] {
        let file = format!("pipelines/{name}.yaml");
        project.says(&["check", &file]);
        let plan = project.plan(&[&file]);
        assert!(plan["stages"].as_array().unwrap().len() > 5);
    }
}

#[test]
fn the_papers_sweeps_have_five_cases_each() {
    let project = with_pipelines();
    for sweep in ["table1", "repaired", "quarter", "eighth"] {
        let plan = project.plan(&["pipelines/paper.yaml", "--sweep", sweep]);
        let tuned = plan["stages"].as_array().unwrap().iter().filter(|s| s["stage"] == "tuned");
        assert_eq!(tuned.count(), 5, "{sweep}");
    }
}

#[test]
fn every_template_passes_its_check() {
    for template in ["quickstart", "finetune", "paper", "sweep"] {
        let project = Project::new("");
        std::fs::remove_file(project.path("watershed.yaml")).unwrap();
        std::fs::remove_file(project.path("watershed.root")).unwrap();
        project.says(&["init", ".", "--template", template]);
        project.says(&["check"]);
    }
}

#[test]
fn every_template_runs_as_it_stands_and_then_does_nothing() {
    if !has_worker() {
        return;
    }
    let runs: [(&str, &[&str]); 5] = [
        ("quickstart", &[]),
        ("finetune", &[]),
        ("paper", &["--sweep", "table1", "--cases", "config-4"]),
        ("sweep", &[]),
        ("sweep", &["--sweep", "ranks"]),
    ];
    for (template, arguments) in runs {
        let project = Project::new("");
        project.says(&["init", "mine", "--template", template]);
        let file = ["mine/watershed.yaml"];
        let (first, second) = (project.run(&[&file, arguments].concat()), project.run(&[&file, arguments].concat()));
        assert_eq!(
            first.outcome("failed"),
            Vec::<String>::new(),
            "{template} {arguments:?}: {:?}",
            first.error("tuned")
        );
        assert_eq!((first.code, second.code, second.outcome("ran").len()), (0, 0, 0), "{template} {arguments:?}");
    }
}

#[test]
fn the_page_shows_a_conversation_by_its_turns() {
    if !has_worker() {
        return;
    }
    let project = Project::of_template("finetune");
    let turns = "{\"role\": \"user\", \"content\": \"What is a loss?\"}, {\"role\": \"assistant\", \"content\": \"So what is a loss? Nats.\"}";
    project.write("data.jsonl", &format!("{{\"messages\": [{turns}]}}\n"));
    project.edit("adapter: tuned.adapter, prompts: parts.test", "prompts: rows");
    assert_eq!(project.run(&["answers"]).outcome("ran"), ["answers", "base", "rows"]);
    let page = project.says(&["report", "-o", "-"]);
    assert!(page.contains("<summary>What is a loss?</summary>"), "{page}");
    assert!(page.contains("<p class=\"dim\">user</p><pre>What is a loss?</pre>"), "{page}");
    assert!(page.contains("<p class=\"dim\">teacher</p><pre>So <mark>what is a loss? </mark>Nats.</pre>"), "{page}");
}

#[test]
fn init_overwrites_nothing() {
    let project = Project::new("mine");
    let output = project.watershed(&["init", "."]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(project.path("watershed.yaml")).unwrap(), "mine");
}
