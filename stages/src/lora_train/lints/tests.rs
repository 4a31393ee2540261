//! Lints of rows that are made up, and of parameters alone.

use std::path::Path;

use tempfile::tempdir;

use super::*;

/// Code, severity and text of what `tell` adds.
fn told(tell: impl FnOnce(&mut Preview)) -> Vec<(String, Severity, String)> {
    let mut preview = Preview::default();
    tell(&mut preview);
    preview.lints.into_iter().map(|lint| (lint.code, lint.severity, lint.message)).collect()
}

fn warning(code: &str, text: &str) -> (String, Severity, String) {
    (code.into(), Severity::Warn, text.into())
}

/// Ports that are bound to nothing.
fn unbound(ports: &[&str]) -> PreviewInputs {
    let mut inputs = PreviewInputs::default();
    inputs.ports.extend(ports.iter().map(|port| (port.to_string(), Vec::new())));
    inputs
}

#[test]
fn settings_that_need_val_are_told_only_where_it_is_bound_to_nothing() {
    let params = LoraTrain { early_stop: Some(2), select: Some(Select::Best), ..LoraTrain::default() };
    let all = told(|preview| of_settings(preview, &params, &unbound(&["val"])));
    let wanted = [
        "`early_stop` never ends a training without `val`; give `val`, or leave it out",
        "`select: best` is the last adapter without `val`; give `val`, or leave it out",
    ];
    assert_eq!(all, wanted.map(|text| warning("L007", text)));
    assert_eq!(told(|preview| of_settings(preview, &params, &unbound(&["test"]))), []);
    let last = LoraTrain { select: Some(Select::Last), ..LoraTrain::default() };
    for silent in [last, LoraTrain::default()] {
        assert_eq!(told(|preview| of_settings(preview, &silent, &unbound(&["val"]))), []);
    }
}

#[test]
fn epochs_are_idle_beside_a_number_of_updates() {
    let all = |params: &LoraTrain| told(|preview| of_settings(preview, params, &PreviewInputs::default()));
    let both = LoraTrain { epochs: 7, max_steps: Some(50), ..LoraTrain::default() };
    let text = "`epochs` has no effect beside `max_steps`; leave one of them out";
    assert_eq!(all(&both), [warning("L007", text)]);
    for one in [LoraTrain { max_steps: None, ..both.clone() }, LoraTrain { epochs: 3, ..both }] {
        assert_eq!(all(&one), []);
    }
}

#[test]
fn a_system_prompt_without_a_place_in_the_template_is_idle() {
    let all = |system: Option<&str>, prompt: &str| {
        let template =
            serde_json::from_value(serde_json::json!({"prompt": prompt, "response": "{{ output }}"})).unwrap();
        let params = LoraTrain { system: system.map(String::from), template, ..LoraTrain::default() };
        told(|preview| of_settings(preview, &params, &PreviewInputs::default()))
    };
    let text =
        "`system` has no effect: the `template` does not use `{{ system }}`; write it there, or leave `system` out";
    assert_eq!(all(Some("Be brief."), "{{ instruction }}"), [warning("L007", text)]);
    assert_eq!((all(Some("Be brief."), "{{ system }}"), all(None, "{{ instruction }}")), (vec![], vec![]));
    let named = LoraTrain { system: Some("Be brief.".into()), ..LoraTrain::default() };
    assert_eq!(told(|preview| of_settings(preview, &named, &PreviewInputs::default())), []);
}

#[test]
fn marks_that_are_tokens_are_not_told() {
    let (source, folder) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference/chat"), tempdir().unwrap());
    for (from, to) in [("tokenizer.json", "tokenizer.json"), ("chatml.jinja", "chat_template.jinja")] {
        std::fs::copy(source.join(from), folder.path().join(to)).unwrap();
    }
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    let chatml = serde_json::from_value("chatml".into()).unwrap();
    let params = LoraTrain { template: chatml, ..LoraTrain::default() };
    assert_eq!(told(|preview| of_marks(preview, &params, &tokenizer)), []);
}

#[test]
fn rows_that_share_a_group_are_told_apart_from_rows_that_share_a_text() {
    let ids = |ids: &[&str]| ids.iter().map(|id| id.to_string()).collect::<Vec<String>>();
    let all = |groups: &[&str], texts: &[&str]| {
        let overlap = Overlap { groups: ids(groups), texts: ids(texts) };
        told(|preview| of_overlap(preview, Checks::default(), &overlap))
    };
    let fault = |text: &str| ("L004".to_string(), Severity::Fail, text.to_string());
    let groups =
        fault("2 held-out rows share their customer or other `group` with `train`, for example `a`; split by group");
    let texts =
        fault("3 held-out rows have the same text as a row of `train`, for example `c`; take the repeated rows out");
    assert_eq!(all(&["a", "b"], &["c", "d", "e"]), [groups, texts.clone()]);
    assert_eq!((all(&[], &["c", "d", "e"]), all(&[], &[])), (vec![texts], vec![]));
}

#[test]
fn micro_batch_size_is_idle_under_token_alone() {
    let token = LoraTrain { micro_batch_size: Some(4), ..LoraTrain::default() };
    let all = told(|preview| of_settings(preview, &token, &PreviewInputs::default()));
    assert!(
        all.len() == 1 && all[0].2.starts_with("`micro_batch_size` has no effect under `loss_norm: token`"),
        "{all:?}"
    );
    let mean = LoraTrain { loss_norm: LossNorm::MicroMean, ..token };
    assert_eq!(told(|preview| of_settings(preview, &mean, &PreviewInputs::default())), []);
}

#[test]
fn held_out_rows_that_are_cut_or_left_out_are_told_with_their_port() {
    let params = LoraTrain { max_len: 100, ..LoraTrain::default() };
    let audit = Audit { rows: 7, dropped: 1, cut: 2, answerless: 1, inputs_cut: 3, ..Audit::default() };
    let cut = "2 of 7 rows of `val` lose answer tokens at `max_len: 100` (1 of them the whole answer), so the loss leaves those out; raise `max_len`, or set `overflow: truncate_input`";
    assert_eq!(told(|preview| of_held_out(preview, &params, ("val", &audit), true)), [warning("L001", cut)]);
    let shortened = [
        "3 of 8 rows of `test` lose the middle of their input at `max_len: 100`; raise it to keep them whole",
        "1 of 8 rows of `test` are left out at `max_len: 100`; raise it to keep them whole",
    ];
    let all = told(|preview| of_overflow(preview, &params, ("test", &audit), true));
    assert_eq!(all, shortened.map(|text| warning("L005", text)));
}

#[test]
fn max_len_is_not_to_be_raised_beyond_the_base() {
    let (params, audit) = (LoraTrain::default(), Audit { rows: 9, cut: 9, dropped: 1, ..Audit::default() });
    let all = told(|preview| {
        of_answers(preview, &params, &audit, false);
        of_held_out(preview, &params, ("val", &audit), false);
        of_overflow(preview, &params, ("", &audit), false);
        of_schedule(preview, &params, &Audit { dropped: 3, ..Audit::default() }, false);
    });
    assert_eq!(all.iter().map(|lint| lint.0.as_str()).collect::<Vec<_>>(), ["L001", "L002", "L001", "L005", "L006"]);
    assert!(all.iter().all(|lint| !lint.2.contains("raise")), "{all:?}");
}

#[test]
fn no_training_row_is_a_finding_of_its_own() {
    let params = LoraTrain { max_len: 8, ..LoraTrain::default() };
    let text = |dropped| told(|preview| of_schedule(preview, &params, &Audit { dropped, ..Audit::default() }, true));
    let left_out = "no training row is left: `overflow: drop` leaves out all 5 at `max_len: 8`; raise `max_len`";
    assert_eq!(text(5), [("L006".into(), Severity::Fail, left_out.into())]);
    assert_eq!(text(0), [("L006".into(), Severity::Fail, "`train` has no rows; give it some".into())]);
}

#[test]
fn warm_up_that_ends_at_rate_zero_fails_whatever_checks_say() {
    let checks = Checks { warmup: Level::Off, ..Checks::default() };
    let rows = Audit { rows: 40, ..Audit::default() };
    let found = |max_steps| {
        let params = LoraTrain { checks, max_steps: Some(max_steps), warmup: 100.0, ..LoraTrain::default() };
        told(|preview| of_schedule(preview, &params, &rows, true))
    };
    let only = found(1);
    assert_eq!((only.len(), only[0].0.as_str(), only[0].1), (1, "L003", Severity::Fail));
    assert!(only[0].2.contains("the highest learning rate reached is 0.0e0, not 2.0e-4; set `warmup: 0`"), "{only:?}");
    assert_eq!(found(2), []);
}
