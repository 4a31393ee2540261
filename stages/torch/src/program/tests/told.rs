//! What a training tells while it goes and when it ends.

use super::*;

/// The notes beside the progress in `unit`, each with what was done.
fn progress(project: &Project, wanted: &str) -> Vec<(u64, String)> {
    let note = |event: &JobEvent| match event {
        JobEvent::Progress { done, unit, note, .. } if unit == wanted => Some((*done, note.clone())),
        _ => None,
    };
    project.told.lock().unwrap().iter().filter_map(note).collect()
}

#[test]
fn a_validation_loss_of_an_earlier_update_is_marked_with_it() {
    let Some(project) = Project::new() else { return };
    let out =
        project.train(with(json!({"max_steps": 6, "eval_every": 4, "checks": {"eos": "off"}})), "out", 0).unwrap();
    let val = numbers(&out, "eval.jsonl", "response_loss");
    let told = progress(&project, "updates");
    let of =
        |step: u64| told.iter().filter(move |(done, note)| *done == step && note != "evaluates").map(|(_, note)| note);
    for (step, evals) in [(3, vec![(0, " @0")]), (4, vec![(0, " @0"), (1, "")]), (6, vec![(1, " @4"), (2, "")])] {
        let notes: Vec<&String> = of(step).collect();
        assert_eq!(notes.len(), evals.len(), "{told:?}");
        for (note, (eval, mark)) in notes.iter().zip(evals) {
            assert!(note.contains(&format!(", val {:.3}{mark}, ", val[eval])), "{note} {val:?}");
        }
    }
}

#[test]
fn the_last_losses_are_told_before_the_checks_and_after_the_test_rows() {
    let Some(project) = Project::new() else { return };
    let mut inputs = project.inputs();
    inputs.push(("test", project.path("val.jsonl")));
    let params = with(json!({"select": "last"}));
    let out = project.run("lora-train", params, &inputs, "out", 0).unwrap();
    let [val, test] = ["eval.jsonl", "test.jsonl"].map(|file| numbers(&out, file, "response_loss"));
    let best = (1..val.len()).min_by(|a, b| val[*a].total_cmp(&val[*b])).unwrap();
    let step = numbers(&out, "eval.jsonl", "step")[best];
    let wanted = [
        format!("val {:.4} after update 12, the best is {:.4} after update {step}", val[3], val[best]),
        format!("test {:.4} with the adapter of update 12, {:.4} with the base", test[1], test[0]),
    ];
    assert_eq!(project.logged("note"), wanted);
    let checks: Vec<u64> = progress(&project, "checks").into_iter().map(|(done, _)| done).collect();
    assert_eq!(checks, [0, 1, 2, 3]);
}

#[test]
fn two_checks_that_refuse_a_training_are_told_in_one_message() {
    let Some(project) = Project::new() else { return };
    let params = with(json!({"lr": 1e-9, "max_steps": 2, "warmup": 0.0}));
    let error = project.train(params, "out", 0).unwrap_err().to_string();
    let words = ["`checks.kl: warn`; the tuned model ends", "`checks.eos: warn`; the trained weights are kept"];
    assert!(words.iter().all(|words| error.contains(words)), "{error}");
}
