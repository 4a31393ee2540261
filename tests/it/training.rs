//! Trainings in the real worker: killed, ended and gone on with, they give the bytes of one that nobody disturbed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::project::{Project, Ran, files, has_worker};

/// The fixture's model and rows, or a visible skip.
fn tiny_llama() -> Option<(PathBuf, String)> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let folder = std::env::var_os("WATERSHED_FIXTURES").map_or(default, PathBuf::from).join("tiny-llama");
    let rows = std::fs::read(folder.join("dataset.json")).ok().filter(|_| folder.join("model").is_dir());
    let Some(rows) = rows else {
        eprintln!("skipped: no `{}`", folder.display());
        return None;
    };
    let rows: Vec<Value> = serde_json::from_slice(&rows).unwrap();
    Some((folder.join("model"), rows[..24].iter().map(|row| format!("{row}\n")).collect()))
}

/// `rows -> parts -> tuned` with these parameters and run keys; a visible skip where the worker is not built.
fn project(with: &str, run: &str) -> Option<Project> {
    let (model, rows) = tiny_llama()?;
    if !has_worker() {
        return None;
    }
    let project = Project::new(&format!(
        "stages:
  rows:  {{use: examples, in: {{files: ./data.jsonl}}}}
  parts: {{use: split, in: rows, with: {{val: 4}}}}
  tuned:
    use: lora-train
    in: {{train: parts.train, val: parts.val, base: ./base}}
    with: {{max_len: 256, lr: 1.0e-2, checks: {{eos: off, kl: off}}, {with}}}
    run: {{device: cpu, {run}}}
"
    ));
    project.write("data.jsonl", &rows);
    for path in files(&model) {
        let place = project.path("base").join(path.strip_prefix(&model).unwrap());
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::copy(&path, place).unwrap();
    }
    Some(project)
}

/// Two projects of the same settings: one for a run that nobody disturbs, and one to compare with it.
fn twins(with: &str, run: &str) -> Option<[Project; 2]> {
    Some([project(with, run)?, project(with, run)?])
}

/// Every byte of the curves and the adapters, by file.
fn results(project: &Project) -> Vec<(PathBuf, Vec<u8>)> {
    let place = |port: &str| project.path("results").join(port);
    for port in ["curves", "adapter", "last"] {
        project.says(&["get", &format!("tuned.{port}"), "-o", place(port).to_str().unwrap()]);
    }
    let all = files(&project.path("results"));
    all.into_iter()
        .map(|path| (path.strip_prefix(project.path("results")).unwrap().into(), std::fs::read(&path).unwrap()))
        .collect()
}

/// What ends a training early.
#[derive(Debug, Clone, Copy)]
enum End {
    KilledEngine,
    KilledWorker,
    Asked,
    AskedWorker,
}

/// Starts a run and ends it once it has told update `after` or a later one (0: the stage's start).
fn end_after(project: &Project, after: u64, how: End) -> Ran {
    act_after(project, after, |child| end(child, how))
}

/// Starts a run and does something to it once it has told update `after` or a later one (0: the stage's start).
fn act_after(project: &Project, after: u64, act: impl FnOnce(&mut Child)) -> Ran {
    let mut child = project.command(&["run", "--format", "json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut events = Vec::new();
    for line in lines.by_ref() {
        let event: Value = serde_json::from_str(&line).unwrap();
        let is_there = match after {
            0 => event["event"] == "stage_started" && event["stage"] == "tuned",
            _ => event["values"]["lr"].is_number() && event["step"].as_u64() >= Some(after),
        };
        events.push(event);
        if is_there {
            act(&mut child);
            break;
        }
    }
    events.extend(lines.filter_map(|line| serde_json::from_str(&line).ok()));
    Ran { code: child.wait().unwrap().code().unwrap_or(-1), events }
}

fn end(engine: &mut Child, how: End) {
    let id = engine.id() as i32;
    match how {
        End::KilledEngine => engine.kill().unwrap(),
        // SAFETY: signals a child that is not yet waited for.
        End::Asked => assert_eq!(unsafe { libc::kill(id, libc::SIGTERM) }, 0),
        // none where the engine has not started it yet: then the run ends by itself
        // SAFETY: the engine waits for its worker only after it has ended, so the number is still the worker's.
        End::KilledWorker => worker(id).into_iter().for_each(|id| {
            unsafe { libc::kill(id, libc::SIGKILL) };
        }),
        // SAFETY: as above.
        End::AskedWorker => worker(id).into_iter().for_each(|id| {
            unsafe { libc::kill(id, libc::SIGTERM) };
        }),
    }
}

/// Returns the engine's child that is the worker.
fn worker(engine: i32) -> Option<i32> {
    let threads = std::fs::read_dir(format!("/proc/{engine}/task")).ok()?.flatten();
    let children = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let ids: Vec<i32> = children
        .flat_map(|text| text.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
        .collect();
    let is_worker = |id: &i32| {
        std::fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name.starts_with("watershed-torch"))
    };
    ids.into_iter().find(is_worker)
}

fn logged(ran: &Ran, words: &str) -> Vec<String> {
    let texts = ran.events.iter().filter_map(|event| event["text"].as_str());
    texts.filter(|text| text.contains(words)).map(str::to_string).collect()
}

/// Numbers below `limit`, by a fixed seed (SplitMix64).
fn numbers(count: usize, limit: u64) -> Vec<u64> {
    let mut state = 20_240_607u64;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33
    };
    (0..count).map(|_| next() % limit).collect()
}

#[test]
fn a_training_killed_ten_times_gives_the_bytes_of_one_that_was_not() {
    let Some([quiet, killed]) = twins("batch_size: 4, epochs: 5, seed: 3", "checkpoint: 1") else { return };
    assert_eq!(quiet.run(&[]).code, 0);
    let mut moments = numbers(10, 24);
    moments.sort_unstable();
    for (number, after) in moments.into_iter().enumerate() {
        let how = if number % 2 == 0 { End::KilledEngine } else { End::KilledWorker };
        let ran = end_after(&killed, after, how);
        assert_ne!(ran.code, 0, "{how:?} after update {after}");
    }
    let last = killed.run(&[]);
    assert_eq!((last.code, logged(&last, "resumes after update").len()), (0, 1), "{:?}", last.events);
    assert_eq!(results(&killed), results(&quiet));
}

#[test]
fn a_training_that_is_asked_to_end_goes_on_from_there() {
    let Some([quiet, asked]) = twins("batch_size: 4, epochs: 3", "checkpoint: epoch") else { return };
    assert_eq!(quiet.run(&[]).code, 0);
    let ended = end_after(&asked, 2, End::Asked);
    assert_eq!((ended.code, logged(&ended, "keeps a checkpoint after update").len()), (143, 1), "{:?}", ended.events);
    assert!(asked.says(&["plan"]).contains("; goes on from a checkpoint"));
    let resumed = asked.run(&[]);
    let told = logged(&resumed, "resumes after update");
    // an epoch has 5 updates, so only the signal can have left a checkpoint of an update that ends none
    assert!(told.len() == 1 && !told[0].ends_with("update 0"), "{told:?}");
    assert_eq!(results(&asked), results(&quiet));
}

#[test]
fn a_worker_that_somebody_else_ends_fails_its_stage_and_the_next_run_goes_on() {
    let Some([quiet, asked]) = twins("batch_size: 4, epochs: 3", "checkpoint: epoch") else { return };
    assert_eq!(quiet.run(&[]).code, 0);
    let ended = end_after(&asked, 2, End::AskedWorker);
    assert_eq!(ended.code, 1);
    assert!(ended.error("tuned").starts_with("a signal from outside ended its program"), "{}", ended.error("tuned"));
    let resumed = asked.run(&[]);
    assert_eq!(
        (resumed.outcome("ran"), logged(&resumed, "resumes after update").len()),
        (vec!["tuned".to_string()], 1)
    );
    assert_eq!(results(&asked), results(&quiet));
}

#[test]
fn no_checkpoint_is_left_of_a_base_that_changed_meanwhile() {
    let Some([quiet, changed]) = twins("batch_size: 4, epochs: 5", "checkpoint: 1") else { return };
    assert_eq!(quiet.run(&[]).code, 0);
    let (config, text) = (changed.path("base/config.json"), "base/config.json");
    let whole = std::fs::read_to_string(config).unwrap();
    act_after(&changed, 3, |child| {
        changed.write(text, &format!("{whole}\n"));
        end(child, End::Asked);
    });
    changed.write(text, &whole);
    let again = changed.run(&[]);
    assert_eq!((again.code, logged(&again, "resumes after update").len()), (0, 0), "{:?}", again.events);
    assert_eq!(results(&changed), results(&quiet));
}

#[test]
fn no_worker_outlives_an_engine_that_is_killed_while_it_starts() {
    let Some(project) = project("batch_size: 2, max_steps: 20000, eval_every: 100000", "") else { return };
    let mut engine = project.command(&["run", "-q"]).stdout(Stdio::null()).spawn().unwrap();
    let started = loop {
        match worker(engine.id() as i32) {
            Some(id) => break id,
            None => assert!(engine.try_wait().unwrap().is_none(), "the run ended without a worker"),
        }
    };
    engine.kill().unwrap();
    engine.wait().unwrap();
    let state = || std::fs::read_to_string(format!("/proc/{started}/stat")).unwrap_or_default();
    let begun = Instant::now();
    while !state().is_empty() && !state().contains(") Z ") {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", state());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_training_out_of_time_leaves_a_checkpoint_and_the_next_run_goes_on_from_it() {
    let Some(project) = project("batch_size: 2, max_steps: 20000, eval_every: 100000", "timeout: 2s") else { return };
    for resumed in [0, 1] {
        let ran = project.run(&[]);
        assert!(ran.error("tuned").starts_with("timed out, resumable"), "{:?}", ran.error("tuned"));
        assert_eq!(logged(&ran, "resumes after update").len(), resumed);
    }
}

#[test]
fn a_training_that_diverges_is_called_so_in_the_log_and_in_show() {
    let diverging = "batch_size: 4, max_steps: 4, warmup: 0, lora: {alpha: 1.0e+38}";
    let Some(project) = project(diverging, "checkpoint: 1") else { return };
    let ran = project.run(&[]);
    assert!(
        ran.code == 1 && ran.error("tuned").starts_with("diverged: the gradient norm of update 1"),
        "{:?}",
        ran.error("tuned")
    );
    let end = ran.events.iter().find(|e| e["event"] == "stage_finished" && e["stage"] == "tuned").unwrap();
    assert_eq!((end["outcome"].as_str(), end["fault"].as_str()), (Some("failed"), Some("diverged")));
    assert!(project.says(&["show"]).lines().any(|line| line.contains("tuned") && line.contains("diverged")));
}

#[test]
fn a_base_whose_weights_are_no_numbers_is_refused_before_any_update() {
    let Some(project) = project("max_steps: 4", "checkpoint: 1") else { return };
    spoil(&project.path("base"));
    let error = project.run(&[]).error("tuned");
    assert!(error.contains("holds numbers that are not finite: fetch the model again"), "{error}");
}

/// Makes the final norm of a model no number, in whichever of its files that lies: its last four bytes, as a NaN in each of the
/// usual types.
fn spoil(base: &Path) {
    let shards = files(base).into_iter().filter(|path| path.extension().is_some_and(|end| end == "safetensors"));
    for shard in shards {
        let mut bytes = std::fs::read(&shard).unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let names: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
        let Some(end) = names["model.norm.weight"]["data_offsets"][1].as_u64() else { continue };
        let end = end as usize + 8 + header;
        bytes[end - 4..end].copy_from_slice(&[0xff, 0x7f, 0xff, 0x7f]);
        std::fs::write(&shard, bytes).unwrap();
    }
}

#[test]
fn an_adapter_brings_its_settings_and_a_key_that_differs_is_refused() {
    let Some(project) = project("max_steps: 1, warmup: 0, lora: {r: 4, targets: [q_proj, v_proj]}", "checkpoint: 1")
    else {
        return;
    };
    let more = "  more: {use: lora-train, in: {train: parts.train, base: ./base, adapter: tuned.adapter}, with: {max_len: 256, max_steps: 1, warmup: 0, lr: 1.0e-2, checks: {eos: off, kl: off}, lora: {}}, run: {device: cpu}}\n";
    let text = std::fs::read_to_string(project.path("watershed.yaml")).unwrap();
    project.write("watershed.yaml", &format!("{text}{more}"));
    let first = project.run(&[]);
    assert_eq!((first.code, first.outcome("ran").len()), (0, 4), "{}", first.error("more"));
    assert_eq!(logged(&first, "goes on from an adapter with r 4").len(), 1);
    // the default, written: it is no default any more
    project.edit("lora: {}", "lora: {r: 8}");
    let refused = project.run(&[]);
    assert!(refused.error("more").contains("`lora.r` is 8, the adapter's is 4"), "{:?}", refused.error("more"));
    project.edit("lora: {r: 8}", "lora: {r: 4}");
    assert_eq!(project.run(&[]).outcome("ran"), ["more"]);
}

#[test]
fn a_training_that_a_check_refused_is_not_done_again_when_the_check_is_softened() {
    let Some(project) = project("batch_size: 4, max_steps: 4, seed: 3", "checkpoint: epoch") else { return };
    project.edit("lr: 1.0e-2", "lr: 1.0e-9");
    project.edit("kl: off", "kl: fail");
    let refused = project.run(&[]);
    assert!(refused.error("tuned").contains("`checks.kl: warn`"), "{}", refused.error("tuned"));
    project.edit("kl: fail", "kl: warn");
    let plan = project.plan(&["tuned"]);
    let tuned = plan["stages"].as_array().unwrap().iter().find(|stage| stage["stage"] == "tuned").unwrap();
    assert_eq!(tuned["goes_on"], true, "it takes over what the other action did");
    let softened = project.run(&[]);
    let updates = softened.events.iter().filter(|event| event["values"]["lr"].is_number()).count();
    assert_eq!((softened.code, updates), (0, 0), "{:?}", softened.events);
    assert_eq!(logged(&softened, "resumes after update"), ["resumes after update 4"]);
}

#[test]
fn an_export_that_cannot_be_written_is_told_before_anything_is_trained() {
    let Some(project) = project("max_steps: 1, warmup: 0", "checkpoint: 1") else { return };
    let file = project.path("base/tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    tokenizer["pre_tokenizer"] =
        serde_json::json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    std::fs::write(&file, tokenizer.to_string()).unwrap();
    let text = std::fs::read_to_string(project.path("watershed.yaml")).unwrap();
    let more = "  out: {use: export, in: {base: ./base, adapter: tuned}, with: {format: gguf}}\n";
    project.write("watershed.yaml", &format!("{text}{more}"));
    let refused = project.run(&[]);
    assert!(refused.error("out").contains("use `format: hf`"), "{:?}", refused.events);
    assert_eq!(refused.outcome("ran"), ["parts", "rows"]);
    project.edit("format: gguf", "format: hf");
    assert_eq!(project.run(&[]).outcome("ran"), ["out", "tuned"]);
}

#[test]
fn answers_that_the_guard_refused_are_not_written_again_when_it_is_softened() {
    let Some(project) = project("batch_size: 4, epochs: 1", "") else { return };
    // the input is in no prompt, so that it can be what was answered
    let template = "{prompt: \"{{ instruction }}\", response: \"{{ output }}\"}";
    project.write(
        "watershed.yaml",
        &format!(
            "stages:
  answers:
    use: generate
    in: {{prompts: ./prompts.jsonl, base: ./base}}
    with: {{max_new_tokens: 48, template: {template}, parrot_guard: report}}
    run: {{device: cpu}}
"
        ),
    );
    let ask = |inputs: [&str; 4]| {
        let row = |(at, input): (usize, &&str)| {
            let instruction = format!("Recommend product {at} and say why.");
            format!("{}\n", json!({"id": at.to_string(), "instruction": instruction, "input": input}))
        };
        project.write("prompts.jsonl", &inputs.iter().enumerate().map(row).collect::<String>());
    };
    ask(["nothing"; 4]);
    assert_eq!(project.run(&[]).code, 0);
    let answers = project.says(&["get", "answers", "-o", "-"]);
    let rows: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    ask([0, 1, 2, 3].map(|at| rows[at]["text"].as_str().unwrap()));
    project.edit("parrot_guard: report", "parrot_guard: fail");
    let refused = project.run(&[]);
    assert!(refused.error("answers").contains("`parrot_guard: report`"), "{}", refused.error("answers"));
    project.edit("parrot_guard: fail", "parrot_guard: report");
    let softened = project.run(&[]);
    assert_eq!((softened.code, logged(&softened, "4 of 4 answers are there").len()), (0, 1), "{:?}", softened.events);
    assert_eq!(project.says(&["get", "answers", "-o", "-"]), answers);
}
