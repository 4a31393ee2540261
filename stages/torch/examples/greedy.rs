//! Prints what a model writes greedily as JSON, for `tests/reference/llamacpp.py`.
//!
//!     greedy MODEL NEW PROMPTS [ADAPTER]
//!
//! MODEL is a Hugging Face folder or a GGUF file and PROMPTS a JSON file with a list of texts; the answer is a list of
//! `[ids of the prompt, NEW ids after it]`, computed in f32. Nothing stops a text early.

use std::ops::ControlFlow;
use std::path::Path;

use tch::Device;
use watershed_stages::text::Tokenizer;
use watershed_torch::{Answer, Compute, Lora, Model, Prompt, Watch, generate};
use watershed_weights::ModelFiles;

#[path = "work/greedy.rs"]
mod greedy;

/// Answers, by prompt.
struct Answers(Vec<Vec<u32>>);

impl Watch for Answers {
    fn done(&mut self, answer: Answer) -> ControlFlow<()> {
        self.0[answer.index] = answer.ids;
        ControlFlow::Continue(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, new, prompts, adapter @ ..] = arguments.as_slice() else {
        return Err("greedy MODEL NEW PROMPTS [ADAPTER]".into());
    };
    let tokenizer = Tokenizer::open(Path::new(path))?;
    let texts: Vec<String> = serde_json::from_slice(&std::fs::read(prompts)?)?;
    let read = |text: &String| Ok(Prompt { id: String::new(), sample: 0, ids: tokenizer.start(text)?, input: vec![] });
    let prompts = texts.iter().map(read).collect::<Result<Vec<Prompt>, Box<dyn std::error::Error>>>()?;
    let model = Model::load(&ModelFiles::open(Path::new(path))?, Compute::F32, Device::Cpu)?;
    let adapter = adapter.first().map(|folder| Lora::load(Path::new(folder), &model)).transpose()?;
    let mut answers = Answers(vec![vec![]; prompts.len()]);
    generate(&model, adapter.as_ref(), &prompts, &greedy::greedy(new.parse()?), &mut answers)?;
    let rows: Vec<(&Vec<u32>, &Vec<u32>)> = prompts.iter().map(|prompt| &prompt.ids).zip(&answers.0).collect();
    serde_json::to_writer(std::io::stdout().lock(), &rows)?;
    Ok(())
}
