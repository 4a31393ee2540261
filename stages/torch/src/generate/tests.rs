//! Answers of transformers and PEFT, and what does not change them.

use serde_json::Value;
use tch::{Device, Kind};

use super::*;
use crate::fixture::Fixture;
use crate::model::Placement;
use crate::naive::{Naive, shapes};
use crate::{Init, LoraConfig, Scaling, Target};

/// Collects answers.
#[derive(Default)]
struct Collect(Vec<Answer>);

impl Watch for Collect {
    fn done(&mut self, answer: Answer) -> ControlFlow<()> {
        self.0.push(answer);
        ControlFlow::Continue(())
    }
}

fn greedy(fixture: &Fixture, answers: &Value) -> GenerateConfig {
    let ids = answers.as_array().unwrap().iter().flat_map(|row| row.as_object().unwrap().values());
    let longest = ids.filter_map(Value::as_array).map(Vec::len).max();
    GenerateConfig {
        max_new_tokens: longest.unwrap(),
        mode: Mode::Greedy,
        repetition_penalty: 1.0,
        no_repeat_ngram: 0,
        input_no_repeat_ngram: 0,
        stop_ids: vec![fixture.reference["eos_id"].as_u64().unwrap() as u32],
        seed: 0,
        batch_tokens: 10_000,
    }
}

fn prompts(fixture: &Fixture, answers: &Value) -> Vec<Prompt> {
    let prompt = |(index, row): (usize, &Value)| {
        let ids = fixture.encode(row["prompt"].as_str().unwrap());
        Prompt { id: index.to_string(), sample: 0, input: ids.clone(), ids }
    };
    answers.as_array().unwrap().iter().enumerate().map(prompt).collect()
}

fn written(model: &Model, lora: Option<&Lora>, prompts: &[Prompt], config: &GenerateConfig) -> Vec<Answer> {
    let mut collected = Collect::default();
    generate(model, lora, prompts, config, &mut collected).unwrap();
    collected.0.sort_by_key(|answer| answer.index);
    collected.0
}

fn assert_answers(answers: &[Answer], wanted: &Value, key: &str) {
    for (answer, wanted) in answers.iter().zip(wanted.as_array().unwrap()) {
        let wanted: Vec<u32> = serde_json::from_value(wanted[key].clone()).unwrap();
        assert_eq!(answer.ids, wanted, "{key} of prompt {}", answer.index);
    }
}

/// Checks every decoding that the reference holds.
fn assert_like_transformers(fixture: &Fixture, model: &Model, lora: Option<&Lora>, wanted: &Value) {
    let (prompts, plain) = (prompts(fixture, wanted), greedy(fixture, wanted));
    assert_answers(&written(model, lora, &prompts, &plain), wanted, "greedy");
    let alone = GenerateConfig { batch_tokens: 1, ..plain.clone() };
    assert_answers(&written(model, lora, &prompts, &alone), wanted, "greedy");
    for key in wanted[0].as_object().unwrap().keys() {
        if let Some(penalty) = key.strip_prefix("repetition_penalty_") {
            let config = GenerateConfig { repetition_penalty: penalty.parse().unwrap(), ..plain.clone() };
            assert_answers(&written(model, lora, &prompts, &config), wanted, key);
        } else if let Some(n) = key.strip_prefix("no_repeat_ngram_") {
            let config = GenerateConfig { no_repeat_ngram: n.parse().unwrap(), ..plain.clone() };
            assert_answers(&written(model, lora, &prompts, &config), wanted, key);
        } else if let Some(beams) = key.strip_prefix("beam") {
            let config = GenerateConfig { mode: Mode::Beam { beams: beams.parse().unwrap() }, ..plain.clone() };
            assert_answers(&written(model, lora, &prompts, &config), wanted, key);
        }
    }
}

#[test]
fn base_writes_what_transformers_writes() {
    let Some(fixture) = Fixture::open() else { return };
    assert_like_transformers(&fixture, &fixture.model("model"), None, &fixture.reference["generate_base"]);
}

#[test]
fn tuned_writes_what_peft_writes_applied_or_merged() {
    let Some(fixture) = Fixture::open() else { return };
    let (model, run) = (fixture.model("model"), fixture.run("a_qv_token_mean"));
    let lora = Lora::load(&fixture.path("adapter_a_qv_token_mean"), &model).unwrap();
    assert_like_transformers(&fixture, &model, Some(&lora), &run.json["generate"]);
    assert_like_transformers(&fixture, &model.merged(&lora), None, &run.json["generate"]);
}

#[test]
fn draws_do_not_depend_on_the_batch() {
    let Some(fixture) = Fixture::open() else { return };
    let (model, wanted) = (fixture.model("model"), &fixture.reference["generate_base"]);
    let mut prompts = prompts(&fixture, wanted);
    let mode = Mode::Sample { temperature: 1.0, top_k: 50, top_p: 0.95, min_p: 0.01 };
    let config = GenerateConfig { mode, max_new_tokens: 12, ..greedy(&fixture, wanted) };
    let together = written(&model, None, &prompts, &config);
    let alone = written(&model, None, &prompts, &GenerateConfig { batch_tokens: 1, ..config.clone() });
    assert!(together.iter().zip(&alone).all(|(a, b)| a.ids == b.ids));
    let reseeded = written(&model, None, &prompts, &GenerateConfig { seed: 1, ..config.clone() });
    assert!(together.iter().zip(&reseeded).any(|(a, b)| a.ids != b.ids));
    prompts.iter_mut().for_each(|prompt| prompt.sample = 1);
    let second = written(&model, None, &prompts, &config);
    assert!(together.iter().zip(&second).any(|(a, b)| a.ids != b.ids));
}

#[test]
fn banned_input_is_not_copied() {
    let Some(fixture) = Fixture::open() else { return };
    let (model, wanted) = (fixture.model("model"), &fixture.reference["generate_base"]);
    let prompts = prompts(&fixture, wanted);
    let copies = |config: &GenerateConfig| -> usize {
        let answers = written(&model, None, &prompts, config);
        let copied = |answer: &Answer| {
            let input = &prompts[answer.index].input;
            answer.ids.windows(4).filter(|gram| input.windows(4).any(|window| window == *gram)).count()
        };
        answers.iter().map(copied).sum()
    };
    // The base was trained to parrot, so there is something to ban.
    assert!(copies(&greedy(&fixture, wanted)) > 0);
    assert_eq!(copies(&GenerateConfig { input_no_repeat_ngram: 4, ..greedy(&fixture, wanted) }), 0);
}

#[test]
fn logprob_is_that_of_the_forward_pass() {
    let Some(fixture) = Fixture::open() else { return };
    let (model, wanted) = (fixture.model("model"), &fixture.reference["generate_base"]);
    let prompts = prompts(&fixture, wanted);
    let answer = &written(&model, None, &prompts, &greedy(&fixture, wanted))[0];
    let ids = [prompts[0].ids.as_slice(), &answer.ids].concat();
    let row = crate::Row::answered(ids, prompts[0].ids.len());
    let nll = crate::evaluate(&model, None, &[row], 1000).unwrap().sum_nll;
    assert!((nll + answer.logprob).abs() < 1e-3, "{nll} {}", answer.logprob);
}

/// Stops at a token by text, and the whole call after some answers.
struct StopAt(u32, usize);

impl Watch for StopAt {
    fn is_stop(&mut self, _prompt: &Prompt, answer: &[u32]) -> bool {
        answer.last() == Some(&self.0)
    }

    fn done(&mut self, answer: Answer) -> ControlFlow<()> {
        assert!(answer.finish != Finish::StopText || answer.ids.last() == Some(&self.0));
        self.1 -= 1;
        if self.1 == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

#[test]
fn watch_ends_an_answer_or_the_call() {
    let Some(fixture) = Fixture::open() else { return };
    let (model, wanted) = (fixture.model("model"), &fixture.reference["generate_base"]);
    let third = wanted[0]["greedy"][2].as_u64().unwrap() as u32;
    let mut watch = StopAt(third, 1);
    generate(&model, None, &prompts(&fixture, wanted), &greedy(&fixture, wanted), &mut watch).unwrap();
    assert_eq!(watch.1, 0);
}

#[test]
fn answers_that_cannot_fit_are_refused() {
    let Some(fixture) = Fixture::open() else { return };
    let (model, wanted) = (fixture.model("model"), &fixture.reference["generate_base"]);
    let config = GenerateConfig { max_new_tokens: model.config().max_positions, ..greedy(&fixture, wanted) };
    let error = generate(&model, None, &prompts(&fixture, wanted), &config, &mut Collect::default()).unwrap_err();
    assert!(error.to_string().contains("max_new_tokens"));
}

/// Collects answers, and runs out of memory, in libtorch's words, after so many questions, again and again.
struct Cramped {
    collected: Collect,
    /// Questions until then, the next time last.
    until: Vec<usize>,
    told: Vec<String>,
}

impl Cramped {
    fn new(until: Vec<usize>) -> Cramped {
        Cramped { collected: Collect::default(), until, told: Vec::new() }
    }
}

impl Watch for Cramped {
    fn is_stop(&mut self, _prompt: &Prompt, _answer: &[u32]) -> bool {
        match self.until.last_mut() {
            Some(0) => {
                self.until.pop();
                panic!("not enough memory: you tried to allocate 9 bytes")
            }
            Some(left) => *left -= 1,
            None => {}
        }
        false
    }

    fn done(&mut self, answer: Answer) -> ControlFlow<()> {
        self.collected.done(answer)
    }

    fn gave_way(&mut self, how: String) {
        self.told.push(how);
    }
}

#[test]
fn running_out_of_memory_halves_batches_and_changes_no_answer() {
    let Some(fixture) = Fixture::open() else { return };
    let (model, wanted) = (fixture.model("model"), &fixture.reference["generate_base"]);
    let (prompts, config) = (prompts(&fixture, wanted), greedy(&fixture, wanted));
    // the greedy search is in its last step then, with half of the prompts answered
    let late = prompts.len() * (config.max_new_tokens - 1) + prompts.len() / 2;
    for (mode, calls) in [(Mode::Greedy, late), (Mode::Beam { beams: 4 }, late)] {
        let config = GenerateConfig { mode, ..config.clone() };
        let mut cramped = Cramped::new(vec![2, calls]);
        generate(&model, None, &prompts, &config, &mut cramped).unwrap();
        let mut answers = cramped.collected.0;
        answers.sort_by_key(|answer| answer.index);
        let plain = written(&model, None, &prompts, &config);
        let ids =
            |answers: &[Answer]| answers.iter().map(|answer| (answer.index, answer.ids.clone())).collect::<Vec<_>>();
        assert_eq!(ids(&answers), ids(&plain));
        let mut order: Vec<usize> = (0..prompts.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(prompts[*index].ids.len()));
        let first = batch_tokens(&order, &prompts, &config);
        let why = "not enough memory: you tried to allocate 9 bytes";
        assert_eq!(
            cramped.told[0],
            format!("out of memory with `batch_tokens: {first}`: {why}; goes on with {}", first / 2)
        );
        assert_eq!((cramped.told.len(), cramped.until.len()), (2, 0));
    }
}

#[test]
fn one_prompt_that_does_not_fit_is_an_error() {
    let Some(fixture) = Fixture::open() else { return };
    let (model, wanted) = (fixture.model("model"), &fixture.reference["generate_base"]);
    let (prompts, config) = (prompts(&fixture, wanted), greedy(&fixture, wanted));
    let mut cramped = Cramped::new(vec![0; 100]);
    let error = generate(&model, None, &prompts, &config, &mut cramped).unwrap_err().to_string();
    let wanted = "out of memory: not enough memory: you tried to allocate 9 bytes, with one prompt at once; shorter prompts, shorter answers and `dtype: bf16` need less";
    assert_eq!(error, wanted);
    assert!(cramped.collected.0.is_empty());
}

#[test]
fn logits_that_are_no_numbers_are_an_error_that_names_the_prompt() {
    let place = Placement { device: Device::Cpu, kind: Kind::Float };
    let model = Model::of(&Naive::new(&shapes()[0].1, Kind::Float), place).unwrap();
    let targets = vec![Target::Down];
    let config = LoraConfig { r: 2, alpha: 4.0, dropout: 0.0, targets, scaling: Scaling::Lora, init: Init::Kaiming };
    let lora = Lora::new(&model, &config, 3).unwrap();
    let _ = lora.flat().0.shallow_clone().fill_(1e30);
    let prompts = [Prompt { id: "r7".into(), sample: 0, ids: vec![1, 7, 23], input: Vec::new() }];
    let sampled = Mode::Sample { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0 };
    for (mode, repetition_penalty) in
        [(Mode::Greedy, 1.0), (Mode::Greedy, 1.2), (sampled, 1.0), (Mode::Beam { beams: 3 }, 1.0)]
    {
        let config = GenerateConfig {
            max_new_tokens: 4,
            mode,
            repetition_penalty,
            no_repeat_ngram: 0,
            input_no_repeat_ngram: 0,
            stop_ids: vec![2],
            seed: 0,
            batch_tokens: 100,
        };
        let mut collected = Collect::default();
        let error = generate(&model, Some(&lora), &prompts, &config, &mut collected).unwrap_err().to_string();
        let wanted = "after prompt `r7` the model's logits are not finite: is the base or its `config.json` damaged, or was the adapter trained with a far too large `lr` or `lora.alpha`?";
        assert_eq!((error.as_str(), collected.0.len()), (wanted, 0), "{mode:?}");
        generate(&model, None, &prompts, &config, &mut collected).unwrap();
        assert_eq!(collected.0.len(), 1, "{mode:?}");
    }
}
