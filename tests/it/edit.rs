//! An edit of one stage: that stage and its readers are loaded, all else stays as the last run left it, and nobody can tell.

use std::time::Duration;

use serde_json::Value;

use crate::campaign::Numbers;
use crate::project::{Project, files, flip};

/// `top -> left, right -> joined`, and `alone`, which nothing reads.
fn of_five() -> Project {
    let project = Project::new(
        "name: five
params: {word: hello}
stages:
  # The first.
  top: {use: command, with: {shell: 'echo ${params.word} > $OUT_out'}}
  left:
    use: command
    in: {x: top}
    with:
      shell: |
        cat $IN_x > $OUT_out
        echo left >> $OUT_out
  right: {use: command, in: {x: top}, with: {shell: 'wc -c < $IN_x > $OUT_out'}}
  joined: {use: command, in: {x: left, y: right}, with: {shell: 'cat $IN_x $IN_y > $OUT_out'}}
  alone: {use: command, with: {shell: 'echo alone > $OUT_out'}}   # the last
",
    );
    rest();
    project.says(&["run"]);
    project
}

/// Files and folders are trusted by their times only when they have rested for a tick of the file system.
fn rest() {
    std::thread::sleep(Duration::from_millis(60));
}

fn last_log(project: &Project) -> Vec<Value> {
    let logs = files(&project.store().join("v1/run"));
    let newest = logs.iter().filter(|path| path.ends_with("events.jsonl")).max().unwrap();
    std::fs::read_to_string(newest).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns the stages that the last run looked at; `None` when it took the long way.
fn looked_at(project: &Project) -> Option<Vec<String>> {
    let log = last_log(project);
    log.iter().any(|event| event["event"] == "unchanged").then_some(())?;
    let planned = log.iter().filter(|event| event["event"] == "stage_planned");
    Some(planned.map(|event| event["stage"].as_str().unwrap().to_string()).collect())
}

fn counts(project: &Project) -> (u64, u64) {
    let end = last_log(project).pop().unwrap();
    (end["ran"].as_u64().unwrap(), end["hit"].as_u64().unwrap())
}

/// The long way must agree: every key is one that it would compute, too.
fn nothing_is_left(project: &Project) {
    let text = project.says(&["run", "--frozen"]);
    assert!(text.contains("nothing to run"), "{text}");
}

#[test]
fn an_edited_leaf_runs_and_nothing_else_is_looked_at() {
    let project = of_five();
    project.edit("echo alone >", "echo alone again >");
    let text = project.says(&["run"]);
    assert!(text.contains("start  alone  (alone.shell echo alone > $OUT_out -> "), "{text}");
    assert!(text.contains("ok: 1 ran, 4 in the store, 0 failed, 0 skipped"), "{text}");
    assert_eq!(looked_at(&project), Some(vec!["alone".into()]));
    nothing_is_left(&project);
    let shown: Value = serde_json::from_str(&project.says(&["show", "--format", "json"])).unwrap();
    let outcomes: Vec<&str> =
        shown["stages"].as_array().unwrap().iter().map(|stage| stage["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["hit", "hit", "hit", "hit", "ran"]);
    assert_eq!(project.says(&["get", "alone", "-o", "-"]), "alone again\n");
}

#[test]
fn readers_follow_and_equal_bytes_stop_them() {
    let project = of_five();
    project.edit("echo left >>", "echo west >>");
    project.says(&["run"]);
    assert_eq!((looked_at(&project), counts(&project)), (Some(vec!["left".into(), "joined".into()]), (2, 3)));
    project.edit("echo west >>", "echo   west >>");
    project.says(&["run"]);
    assert_eq!((looked_at(&project).map(|l| l.len()), counts(&project)), (Some(2), (1, 4)), "the same bytes again");
    nothing_is_left(&project);
    assert_eq!(project.says(&["get", "joined", "-o", "-"]), "hello\nwest\n6\n");
}

#[test]
fn an_edit_builds_on_the_last_and_a_run_with_nothing_to_do_on_all() {
    let project = of_five();
    for turn in 0..20 {
        project.edit("> $OUT_out'}}   #", &format!("> $OUT_out; echo {turn} >> $OUT_out'}}}}   #"));
        assert!(project.says(&["run"]).contains("1 ran, 4 in the store"));
        assert_eq!(looked_at(&project).is_none(), turn == 16, "turn {turn}");
    }
    rest();
    assert!(project.says(&["run"]).contains("0 ran, 5 in the store"));
    assert_eq!(looked_at(&project), Some(Vec::new()));
    assert_eq!(project.says(&["get", "alone", "-o", "-"]).lines().count(), 21);
    nothing_is_left(&project);
}

#[test]
fn what_reaches_beyond_one_stage_goes_the_long_way() {
    let changes: [(&str, &str, (u64, u64)); 9] = [
        ("word: hello", "word: bye", (4, 1)),
        ("alone:", "lonely:", (0, 5)),
        ("  alone:", "  new: {use: command, with: {shell: 'echo new > $OUT_out'}}\n  alone:", (1, 5)),
        ("echo alone > $OUT_out'}}   #", "echo alone > $OUT_out'}}\nrun: {cpus: 1}\n#", (0, 5)),
        ("in: {x: left, y: right}", "in: {x: left, y: top}", (1, 4)),
        ("'echo alone >", "&a 'echo anchored >", (1, 4)),
        ("echo left >>", "echo ${params.word} >>", (2, 3)),
        ("echo alone > $OUT_out'}}", "echo alone > $OUT_out'}}\nexpect: {}", (0, 5)),
        ("top: {", "top: {description: read by nearly all, ", (0, 5)),
    ];
    for (old, new, ran) in changes {
        let project = of_five();
        project.edit(old, new);
        project.says(&["run"]);
        assert_eq!(counts(&project), ran, "{new}");
        // Only the parameter that a stage takes from outside it can be told apart from outside.
        assert_eq!(looked_at(&project).is_none(), !new.contains(">>"), "{new}");
        nothing_is_left(&project);
    }
}

#[test]
fn a_fault_is_told_at_its_place_in_the_whole_text() {
    let project = of_five();
    project.edit("with: {shell: 'echo alone", "with: {shel: 'echo alone");
    let output = project.watershed(&["run"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("watershed.yaml:15:32"), "{text}");
}

#[test]
fn a_damaged_input_of_the_edited_stage_is_made_again() {
    let project = of_five();
    rest();
    project.says(&["run"]);
    let right = project.blobs().into_iter().find(|blob| std::fs::read(blob).unwrap() == b"6\n").unwrap();
    flip(&right, 3);
    project.edit("cat $IN_x $IN_y", "cat $IN_y $IN_x");
    let text = project.says(&["run"]);
    assert!(text.contains("2 ran, 3 in the store"), "{text}");
    assert_eq!(project.says(&["get", "joined", "-o", "-"]), "6\nhello\nleft\n");
}

#[test]
fn whatever_is_edited_the_long_way_finds_nothing_left_to_do() {
    let edits: [(&str, &str); 12] = [
        ("echo left", "echo west"),
        ("echo west", "echo left"),
        ("  # The first.\n", "  # The very first.\n"),
        ("wc -c <", "wc -l <"),
        ("wc -l <", "wc -c <"),
        ("{x: left, y: right}", "{y: left, x: right}"),
        ("{y: left, x: right}", "{x: left, y: right}"),
        ("alone > $OUT_out'", "alone # $OUT_out\n      > $OUT_out'"),
        ("# the last", "# the last of them: \"'{["),
        ("cat $IN_x > $OUT_out\n", "cat $IN_x > $OUT_out\n\n        echo between >> $OUT_out\n"),
        ("echo ${params.word}", "printf '%s' ''; echo ${params.word}"),
        ("use: command\n", "use: command   # a kind\n"),
    ];
    let (project, mut numbers) = (of_five(), Numbers(7));
    for _ in 0..if crate::campaign::is_full() { 300 } else { 25 } {
        let (old, new) = edits[numbers.below(edits.len())];
        let text = std::fs::read_to_string(project.path("watershed.yaml")).unwrap();
        project.write("watershed.yaml", &text.replacen(old, new, 1));
        if project.watershed(&["run"]).status.success() {
            nothing_is_left(&project);
        } else {
            project.write("watershed.yaml", &text);
        }
    }
}
