//! The kind as a whole, against replies recorded from OpenAI's documentation and from llama.cpp's server, played on loopback.

use std::path::Path;
use std::sync::Mutex;

use serde_json::{Value, json};
use watershed_engine::job::{Cancel, JobEvent, Sink};
use watershed_engine::{Job, JobInput, JobSpec, Kind, RecordType, StageError};

use super::TeacherLabel;
use super::fake::{Fake, answer, completion};

/// One execution: parameters, `run` keys, prompts, the folder that outputs and memo lie in.
struct Case<'a> {
    with: Value,
    run: Value,
    inputs: Vec<(&'a str, String)>,
    folder: &'a Path,
    offline: bool,
}

#[derive(Default)]
struct Heard(Mutex<Vec<JobEvent>>);

impl Sink for Heard {
    fn emit(&self, event: JobEvent) {
        self.0.lock().unwrap().push(event);
    }
}

impl Heard {
    fn count(&self, wanted: &str) -> f64 {
        let events = self.0.lock().unwrap();
        let found = events.iter().find_map(|e| match e {
            JobEvent::Count { name, value } if name == wanted => Some(*value),
            _ => None,
        });
        found.unwrap()
    }
}

impl<'a> Case<'a> {
    /// Two prompts for a server, tried quickly.
    fn ask(endpoint: &str, folder: &'a Path) -> Case<'a> {
        Case {
            with: json!({"backend": "openai", "endpoint": endpoint, "model": "m", "max_tokens": 20}),
            run: json!({"request_retries": 1, "concurrency": 1, "request_timeout": 20}),
            inputs: vec![("prompts", prompts(2))],
            folder,
            offline: false,
        }
    }

    fn set(mut self, part: &str, key: &str, value: Value) -> Case<'a> {
        let target = if part == "run" { &mut self.run } else { &mut self.with };
        target[key] = value;
        self
    }

    fn go(&self) -> (Result<(), StageError>, Heard) {
        let kind = Kind::of::<TeacherLabel>();
        let params = (kind.resolve)(&self.with).unwrap();
        assert_eq!((kind.check)(&params), vec![]);
        let mut spec = JobSpec {
            kind: kind.name.into(),
            params,
            run: self.run.clone(),
            offline: self.offline,
            ..JobSpec::default()
        };
        spec.memo = Some(self.folder.join("memo"));
        for port in ["examples", "report"] {
            spec.outputs.insert(port.into(), self.folder.join(port));
        }
        for (port, text) in &self.inputs {
            let path = self.folder.join(format!("{port}.in"));
            std::fs::write(&path, text).unwrap();
            let input = JobInput {
                label: port.to_string(),
                path,
                digest: String::new(),
                record: RecordType::Bytes,
                gathered: false,
            };
            spec.inputs.insert(port.to_string(), vec![input]);
        }
        let heard = Heard::default();
        let result = (kind.run)(&Job::new(spec, &heard, Cancel::default()));
        (result, heard)
    }

    fn fault(&self) -> String {
        self.go().0.unwrap_err().to_string()
    }

    fn labels(&self) -> Vec<Value> {
        self.go().0.unwrap();
        read_rows(&self.folder.join("examples"))
    }
}

fn read_rows(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn prompts(n: usize) -> String {
    (0..n)
        .map(|i| {
            json!({"id": format!("r{i}"), "group": "a", "instruction": "Recommend", "input": format!("bought {i}")})
                .to_string()
                + "\n"
        })
        .collect()
}

fn now(status: u16, body: &str) -> String {
    answer(status, "retry-after-ms: 1\r\n", body)
}

#[test]
fn labels_keep_order_and_say_where_they_come_from() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(vec![completion(" one ", "stop"), completion("two", "length")]);
    let rows = Case::ask(&fake.endpoint, folder.path()).labels();
    assert_eq!((rows[0]["id"].as_str(), rows[0]["output"].as_str()), (Some("r0"), Some("one")));
    assert_eq!(rows[1]["meta"]["finish_reason"], "length");
    assert_eq!(rows[0]["meta"]["model"], "fake-1");
    assert_eq!(rows[0]["meta"]["tokens_out"], 5);
    let report: Value = serde_json::from_str(&std::fs::read_to_string(folder.path().join("report")).unwrap()).unwrap();
    assert_eq!(
        (&report["calls"], &report["tokens_in"], &report["finish_reasons"]["stop"]),
        (&json!(2), &json!(20), &json!(1))
    );
}

#[test]
fn second_run_asks_nothing_and_needs_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(vec![completion("one", "stop"), completion("two", "stop")]);
    let case = Case::ask(&fake.endpoint, folder.path());
    let first = case.labels();
    let mut again =
        Case::ask(&fake.endpoint, folder.path()).set("run", "api_key", json!({"env": "WATERSHED_NO_SUCH_KEY"}));
    again.offline = true;
    assert_eq!(again.labels(), first);
    assert_eq!(fake.count(), 2);
    assert_eq!(again.go().1.count("memo_hits"), 2.0);
}

#[test]
fn changed_row_alone_is_asked_again_and_equal_rows_once() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(vec![completion("x", "stop")]);
    let mut case = Case::ask(&fake.endpoint, folder.path());
    case.labels();
    let changed = prompts(2).replace("bought 1", "bought 9");
    let twin = changed.lines().next().unwrap().replace("r0", "twin");
    case.inputs = vec![("prompts", format!("{changed}{twin}\n"))];
    assert_eq!(case.labels().len(), 3);
    assert_eq!(fake.count(), 3);
}

#[test]
fn row_lost_to_the_network_keeps_the_finished_ones() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(vec![completion("one", "stop"), now(500, ""), now(500, "")]);
    let (result, _) = Case::ask(&fake.endpoint, folder.path()).go();
    let Err(StageError::Retry(text)) = result else { panic!("{result:?}") };
    assert!(
        text.contains("answers 500") && text.contains("row `r1`, 2 tries") && text.contains("1 of 2 rows"),
        "{text}"
    );
    assert!(!folder.path().join("examples").exists());
    let healed = Fake::start(vec![completion("two", "stop")]);
    let case = Case::ask(&healed.endpoint, folder.path()).set(
        "with",
        "provider",
        json!(fake.endpoint[7..].trim_end_matches("/v1")),
    );
    assert_eq!(case.labels()[0]["output"], "one");
    assert_eq!(healed.count(), 1);
}

#[test]
fn limit_is_waited_out() {
    let folder = tempfile::tempdir().unwrap();
    let limited =
        r#"{"error":{"message":"Rate limit reached for requests","type":"requests","code":"rate_limit_exceeded"}}"#;
    let fake = Fake::start(vec![now(429, limited), completion("one", "stop")]);
    assert_eq!(Case::ask(&fake.endpoint, folder.path()).labels().len(), 2);
    assert_eq!(fake.count(), 3);
}

#[test]
fn used_up_quota_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let quota = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#;
    let fake = Fake::start(vec![now(429, quota)]);
    let text = Case::ask(&fake.endpoint, folder.path()).fault();
    assert!(text.contains("no quota left") && text.contains("0 of 2 rows"), "{text}");
    assert_eq!(fake.count(), 1);
}

#[test]
fn wrong_key_is_one_clear_error_that_never_shows_it() {
    // SAFETY: no other thread of this test program reads or writes this variable.
    unsafe { std::env::set_var("WATERSHED_CANARY_KEY", "sk-canary-77f3") };
    let folder = tempfile::tempdir().unwrap();
    let echo = r#"{"error":{"message":"Incorrect API key provided: sk-canary-77f3","code":"invalid_api_key"}}"#;
    let fake = Fake::start(vec![answer(401, "", echo)]);
    let case = Case::ask(&fake.endpoint, folder.path()).set("run", "api_key", json!({"env": "WATERSHED_CANARY_KEY"}));
    let (result, heard) = case.go();
    let text = result.unwrap_err().to_string();
    assert!(text.contains("401") && text.contains(&fake.endpoint) && text.contains("run.api_key"), "{text}");
    assert!(fake.requests.lock().unwrap()[0].contains("Bearer sk-canary-77f3"), "the server does get the key");
    assert!(!format!("{text}{:?}", heard.0.lock().unwrap()).contains("canary-77f3"));
}

#[test]
fn key_in_a_reply_reaches_no_file() {
    // SAFETY: as above.
    unsafe { std::env::set_var("WATERSHED_ECHO_KEY", "sk-canary-9a1b") };
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(vec![completion("your key is sk-canary-9a1b", "stop")]);
    Case::ask(&fake.endpoint, folder.path()).set("run", "api_key", json!({"env": "WATERSHED_ECHO_KEY"})).labels();
    let grep = std::process::Command::new("grep").args(["-r", "canary-9a1b"]).arg(folder.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&grep.stdout), "");
    assert!(read_rows(&folder.path().join("examples"))[0]["output"].as_str().unwrap().contains("[redacted]"));
}

#[test]
fn missing_key_names_its_variable() {
    let folder = tempfile::tempdir().unwrap();
    let case = Case::ask("http://127.0.0.1:9/v1", folder.path()).set(
        "run",
        "api_key",
        json!({"env": "WATERSHED_NO_SUCH_KEY"}),
    );
    assert!(case.fault().contains("`WATERSHED_NO_SUCH_KEY`"));
}

#[test]
fn garbage_and_silence_are_tried_again_and_then_named() {
    for (reply, wanted) in [
        (answer(200, "", "<html>"), "no chat completion"),
        (answer(200, "", r#"{"choices":[]}"#), "without choices"),
        (String::new(), "breaks the connection"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let fake = Fake::start(vec![reply]);
        let text = Case::ask(&fake.endpoint, folder.path()).fault();
        assert!(text.contains(wanted), "{text}");
        assert!(fake.count() >= 2, "{wanted}: {}", fake.count());
    }
}

#[test]
fn nobody_there_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = Case::ask(&format!("http://{free}/v1"), folder.path()).set("run", "request_retries", json!(0)).fault();
    assert!(text.contains("cannot be reached"), "{text}");
}

#[test]
fn stalled_server_times_out() {
    let folder = tempfile::tempdir().unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/v1", silent.local_addr().unwrap());
    let case = Case::ask(&endpoint, folder.path()).set("run", "request_retries", json!(0)).set(
        "run",
        "request_timeout",
        json!("50ms"),
    );
    assert!(case.fault().contains("does not answer within `run.request_timeout`"));
}

#[test]
fn redirect_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(vec![answer(307, "location: http://127.0.0.1:1/v1/chat/completions\r\n", "")]);
    assert!(Case::ask(&fake.endpoint, folder.path()).fault().contains("redirects (307)"));
}

#[test]
fn filtered_row_counts_against_max_failed() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(vec![completion("", "content_filter"), completion("two", "stop")]);
    let text = Case::ask(&fake.endpoint, folder.path()).fault();
    assert!(
        text.contains("1 of 2 rows have no label") && text.contains("`r0`: finish_reason `content_filter`"),
        "{text}"
    );
    let rows = Case::ask(&fake.endpoint, folder.path()).set("with", "max_failed", json!(1)).labels();
    assert_eq!((rows.len(), rows[0]["id"].as_str()), (1, Some("r1")));
    assert_eq!(fake.count(), 2, "the verdict itself was remembered");
}

#[test]
fn cut_answer_is_drawn_again_where_the_policy_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(vec![completion("cut", "length"), completion("whole", "stop")]);
    let case = Case::ask(&fake.endpoint, folder.path()).set("with", "finish", json!({"length": "retry"}));
    assert_eq!(case.labels()[0]["output"], "whole");
    assert_eq!((case.labels()[0]["output"].as_str(), fake.count()), (Some("whole"), 3), "both samples are remembered");
}

#[test]
fn budget_stops_before_the_request_that_could_pass_it() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(vec![completion("one", "stop")]);
    let case = Case::ask(&fake.endpoint, folder.path()).set("run", "budget_usd", json!(0.000_028));
    assert!(case.fault().contains("run.price"));
    // A reply costs 5 tokens, its worst case is 20: the first leaves, the second does not.
    let case = case.set("run", "price", json!({"input": 0, "output": 1.2}));
    let text = case.fault();
    assert!(text.contains("budget_usd") && text.contains("1 of 2 rows"), "{text}");
    assert_eq!(fake.count(), 1);
}

#[test]
fn offline_needs_every_reply() {
    let folder = tempfile::tempdir().unwrap();
    let mut case = Case::ask("http://127.0.0.1:9/v1", folder.path());
    case.offline = true;
    assert!(case.fault().contains("2 of 2 rows have no remembered reply and `--offline`"));
}

#[test]
fn batch_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    assert!(
        Case::ask("http://127.0.0.1:9/v1", folder.path())
            .set("run", "mode", json!("batch"))
            .fault()
            .contains("`run.mode: batch`")
    );
}

#[test]
fn conversation_gets_its_answer_as_last_turn() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(vec![completion("hello", "stop")]);
    let mut case = Case::ask(&fake.endpoint, folder.path());
    case.inputs = vec![("prompts", json!({"id": "c", "messages": [{"role": "user", "content": "hi"}]}).to_string())];
    assert_eq!(case.labels()[0]["messages"][1], json!({"role": "assistant", "content": "hello"}));
}

#[test]
fn replay_answers_by_id_or_by_messages_and_lists_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let exchange = json!({
        "request": {"messages": [{"role": "user", "content": "Recommend\n\nbought 1"}]},
        "response": {"choices": [{"message": {"content": "wired"}, "finish_reason": "stop"}]}
    });
    let recorded = format!("{}\n{exchange}\n", json!({"id": "r0", "output": "by id"}));
    let case = |n| Case {
        with: json!({"backend": "replay"}),
        run: json!({}),
        inputs: vec![("prompts", prompts(n)), ("recorded", recorded.clone())],
        folder: folder.path(),
        offline: true,
    };
    let rows = case(2).labels();
    assert_eq!((rows[0]["output"].as_str(), rows[1]["output"].as_str()), (Some("by id"), Some("wired")));
    let text = case(4).fault();
    assert!(text.contains("2 of 4 prompts: `r2`, `r3`"), "{text}");
}

#[test]
fn offline_backends_write_the_title_and_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let header = "user_id,item_id,rating,time_ms,user_name,title,text,style\n";
    let interactions = header.to_string() + "a,x,5,1,,,,\nb,x,5,1,,,,\nb,y,5,2,,,,\nc,z,5,1,,,,\n";
    let items = [
        json!({"item_id": "x", "title": "Red {reason} kit", "brand": "Acme"}),
        json!({"item_id": "y", "title": "Blue {title} kit", "brand": "Acme"}),
        json!({"item_id": "z", "title": "Zed"}),
    ];
    let items: String = items.iter().map(|i| i.to_string() + "\n").collect();
    let prompts: String =
        (0..40).map(|i| json!({"id": format!("r{i}"), "group": "a", "history": ["x"]}).to_string() + "\n").collect();
    for (backend, title) in [("neighbours", "Blue {title} kit"), ("target", "Red {reason} kit")] {
        let case = Case {
            with: json!({"backend": backend}),
            run: json!({}),
            inputs: vec![
                ("prompts", prompts.clone()),
                ("interactions", interactions.clone()),
                ("items", items.clone()),
            ],
            folder: folder.path(),
            offline: true,
        };
        let rows = case.labels();
        assert!(rows.iter().all(|r| r["output"].as_str().unwrap().contains(&format!("\"{title}\""))), "{}", rows[0]);
        let texts: std::collections::BTreeSet<&str> = rows.iter().map(|r| r["output"].as_str().unwrap()).collect();
        assert!(texts.len() >= 4, "{texts:?}");
        assert_eq!(rows, case.labels(), "the same seed gives the same sentences");
    }
}

/// The real teacher's script: `WATERSHED_REAL_TEACHER` is its path, or 1 for the one beside this checkout.
fn real_teacher() -> Option<std::path::PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/services/teacher.sh");
    let script = match std::env::var("WATERSHED_REAL_TEACHER").ok()?.as_str() {
        "1" => beside,
        path => path.into(),
    };
    script.exists().then_some(script)
}

/// A teacher that stops with the test, failed or not.
struct RealTeacher {
    script: std::path::PathBuf,
    home: std::path::PathBuf,
}

impl RealTeacher {
    fn command(&self, command: &str) {
        let mut script = std::process::Command::new(&self.script);
        let status = script.arg(command).arg(&self.home).env("TEACHER_PORT", "18492").status();
        assert!(status.unwrap().success(), "teacher.sh {command}");
    }
}

impl Drop for RealTeacher {
    fn drop(&mut self) {
        self.command("stop");
    }
}

/// Labels, a crash, and the rest after it.
#[test]
fn real_teacher_survives_a_crash() {
    let Some(script) = real_teacher() else {
        eprintln!("skipped: needs WATERSHED_REAL_TEACHER=1 and ../shared/services/teacher.sh");
        return;
    };
    let (home, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let teacher = RealTeacher { script, home: home.path().into() };
    // SAFETY: no other thread of this test program reads or writes this variable.
    unsafe { std::env::set_var("WATERSHED_TEACHER_KEY", "test-key") };
    teacher.command("install");
    teacher.command("start");
    let case = || {
        let with = json!({"backend": "openai", "endpoint": "http://127.0.0.1:18492/v1", "model": "smollm2-135m-instruct", "temperature": 0, "max_tokens": 20});
        let run = json!({"api_key": {"env": "WATERSHED_TEACHER_KEY"}, "concurrency": 2, "request_retries": 0});
        Case { with, run, inputs: vec![("prompts", prompts(4))], folder: folder.path(), offline: false }
    };
    let first = case().labels();
    teacher.command("crash");
    let mut more = case();
    more.inputs = vec![("prompts", prompts(6))];
    let text = more.fault();
    // A reset, where the kernel had not yet closed the port.
    assert!(["cannot be reached", "breaks the connection"].iter().any(|w| text.contains(w)), "{text}");
    assert!(text.contains("4 of 6 rows"), "{text}");
    teacher.command("start");
    let (result, heard) = more.go();
    result.unwrap();
    assert_eq!((heard.count("memo_hits"), heard.count("calls")), (4.0, 2.0));
    assert_eq!(read_rows(&folder.path().join("examples"))[..4], first[..]);
}
