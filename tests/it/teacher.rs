//! A teacher that goes silent: what only a clock can tell.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::project::{Project, rows};

/// The kernel takes connections for a listener that never accepts them, as it does for a server that hangs. Asking every
/// row once before any is asked again would take a minute.
#[test]
fn a_teacher_that_accepts_and_never_answers_is_given_up_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/v1", silent.local_addr().unwrap());
    let project = Project::new(&format!(
        "stages:
  rows:   {{use: examples, in: {{files: ./data.jsonl}}}}
  labels:
    use: teacher-label
    in: {{prompts: rows}}
    with: {{backend: openai, endpoint: \"{endpoint}\", model: tiny}}
    run: {{request_timeout: 300ms, request_retries: 1, concurrency: 2}}
"
    ));
    project.write("data.jsonl", &rows(400));
    let begun = Instant::now();
    let ran = project.run(&[]);
    assert!(begun.elapsed() < Duration::from_secs(20), "it took {:?}", begun.elapsed());
    let error = ran.error("labels");
    assert_eq!((ran.code, ran.outcome("failed"), ran.outcome("ran")), (1, vec!["labels".into()], vec!["rows".into()]));
    for word in [
        &endpoint,
        "does not answer within `run.request_timeout`",
        "2 tries",
        "0 of 400 rows are answered",
        "run again",
    ] {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

#[test]
fn a_sweep_that_pays_for_one_stage_in_every_case_asks_first() {
    let nobody = crate::server::Server::address_of_nobody();
    let project = Project::new(&format!(
        "stages:
  rows:   {{use: examples, in: {{files: ./data.jsonl}}}}
  labels:
    use: teacher-label
    in: {{prompts: rows}}
    with: {{backend: openai, endpoint: \"{nobody}\", model: tiny}}
    run: {{request_retries: 0, request_timeout: 1s}}
sweeps:
  models: {{grid: {{labels.model: [small, large]}}}}
  limits: {{grid: {{labels.run.concurrency: [1, 2]}}}}
"
    ));
    project.write("data.jsonl", &rows(3));
    let refused = project.watershed(&["run", "--sweep", "models"]);
    let (told, why) = (String::from_utf8_lossy(&refused.stdout), String::from_utf8_lossy(&refused.stderr));
    assert_eq!(refused.status.code(), Some(2), "{told}{why}");
    assert!(
        why.contains("the cases of sweep `models` pay for stage `labels` 2 times") && why.contains("`--yes`"),
        "{why}"
    );
    assert!(told.contains("calls unknown until `rows` has run"), "{told}");
    // It goes as far as the silent teacher when it may, and when the cases share what is paid for.
    for arguments in [["--sweep", "models", "--yes"], ["--sweep", "limits", "--keep-going"]] {
        let ran = project.run(&arguments);
        assert_eq!((ran.code, ran.outcome("failed").is_empty()), (1, false), "{arguments:?}");
    }
}
