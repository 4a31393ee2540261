//! From an example to text: what the model reads, and what it shall learn to write.
//!
//! `alpaca` and `alpaca_short` are tloen/alpaca-lora's `templates/*.json`, to the byte. A conversation becomes a list of
//! [`Part`]s, so that prompt and answer can be tokenised apart: merging across their border would let the last token of the
//! prompt hold the first letters of the answer.

mod inline;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use watershed_engine::fault::ParamFault;

use super::{Tokenizer, chat};
use crate::record::example::{Example, Message};
pub use inline::InlineTemplate;

/// Which template, as written in YAML.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TemplateChoice {
    /// One that has a name.
    Named(TemplateName),
    /// One written out.
    Inline(InlineTemplate),
}

impl Default for TemplateChoice {
    fn default() -> TemplateChoice {
        TemplateChoice::Named(TemplateName::Alpaca)
    }
}

impl TemplateChoice {
    /// Says whether a system prompt has a place in it.
    pub fn uses_system(&self) -> bool {
        match self {
            TemplateChoice::Named(_) => true,
            TemplateChoice::Inline(inline) => inline.uses_system(),
        }
    }

    /// Returns what is wrong with a template that is written out; `path` is its own inside `with`.
    pub fn faults(&self, path: &str) -> Vec<ParamFault> {
        match self {
            TemplateChoice::Named(_) => Vec::new(),
            TemplateChoice::Inline(inline) => inline.faults(path),
        }
    }
}

/// Templates with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TemplateName {
    /// alpaca-lora's `alpaca`.
    Alpaca,
    /// alpaca-lora's `alpaca_short`: without the opening sentences.
    AlpacaShort,
    /// `<|im_start|>role … <|im_end|>`.
    Chatml,
    /// The tokenizer's own chat template.
    Chat,
}

/// A run of text that is learned as a whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The text.
    pub text: String,
    /// Whether it is an answer.
    pub is_answer: bool,
}

/// A template that is ready to use.
#[derive(Debug, Clone)]
pub struct Template {
    choice: TemplateChoice,
    system: Option<String>,
    chat: Option<chat::ChatTemplate>,
}

const WITH_INPUT: &str = "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.\n\n";
const WITHOUT_INPUT: &str =
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n";

/// What ends a turn under `chatml`.
const CHATML_END: &str = "<|im_end|>";

impl Template {
    /// Joins a choice with the system prompt of rows that have none, and with the tokenizer's own template.
    ///
    /// # Errors
    /// When `chat` is chosen and the tokenizer has no template, or one that is written out has a fault.
    pub fn new(
        choice: &TemplateChoice,
        system: Option<&str>,
        chat: Option<chat::ChatTemplate>,
    ) -> Result<Template, String> {
        if *choice == TemplateChoice::Named(TemplateName::Chat) && chat.is_none() {
            return Err("`template: chat` needs a tokenizer with a chat template, and this one has none; try `template: chatml`".into());
        }
        if let Some(ParamFault { path, message, help }) = choice.faults("template").into_iter().next() {
            return Err(format!("`{path}`: {message}; {help}"));
        }
        Ok(Template { choice: choice.clone(), system: system.map(String::from), chat })
    }

    /// Returns what the model reads before it writes its last answer. Answers that end a conversation are left out, learned
    /// or not: the question before them is asked.
    ///
    /// # Errors
    /// When the row does not fit the template.
    pub fn prompt(&self, row: &Example) -> Result<String, String> {
        let row = unanswered(row);
        if let Some(chat) = self.chat.as_ref().filter(|_| self.is_chat()) {
            let mut turns = self.messages(&row)?;
            turns.pop();
            return chat.render(&turns, true);
        }
        let mut parts = self.parts(&row)?;
        parts.pop();
        Ok(parts.into_iter().map(|part| part.text).collect())
    }

    /// Says whether it is the tokenizer's own, which writes beginnings and ends of texts itself.
    pub fn is_chat(&self) -> bool {
        self.choice == TemplateChoice::Named(TemplateName::Chat)
    }

    /// Returns the ids of what the model reads before it writes its last answer.
    ///
    /// # Errors
    /// When the row does not fit the template, or the tokenizer fails on it.
    pub fn prompt_ids(&self, row: &Example, tokenizer: &Tokenizer) -> Result<Vec<u32>, String> {
        let text = self.prompt(row)?;
        let ids = if self.is_chat() { tokenizer.bare(&text) } else { tokenizer.start(&text) };
        ids.map_err(|e| e.to_string())
    }

    /// Returns every id that ends an answer: the tokenizer's, and what the template writes after one.
    pub fn stops(&self, tokenizer: &Tokenizer) -> Vec<u32> {
        let mut stops = tokenizer.special().stops.clone();
        let own = if self.is_chatml() { tokenizer.sign(CHATML_END) } else { self.chat_end(tokenizer) };
        stops.extend(own.filter(|id| !stops.contains(id)));
        stops
    }

    fn chat_end(&self, tokenizer: &Tokenizer) -> Option<u32> {
        let text = self.chat.as_ref().filter(|_| self.is_chat()).map(chat::ChatTemplate::end_of_answer)?;
        tokenizer.more(&text).ok()?.first().copied().filter(|id| tokenizer.is_mark(*id))
    }

    /// Returns the text that the template writes after an answer where the tokenizer has no token for it: a model that has
    /// learned it writes it out, and what it wrote before is the answer.
    pub fn stop_text(&self, tokenizer: &Tokenizer) -> Option<&'static str> {
        (self.is_chatml() && tokenizer.sign(CHATML_END).is_none()).then_some(CHATML_END)
    }

    fn is_chatml(&self) -> bool {
        self.choice == TemplateChoice::Named(TemplateName::Chatml)
    }

    /// Returns the whole conversation, the last part being the last answer.
    ///
    /// # Errors
    /// When the row does not fit the template.
    pub fn parts(&self, row: &Example) -> Result<Vec<Part>, String> {
        match &self.choice {
            TemplateChoice::Named(TemplateName::Alpaca) => Ok(single(row, self.alpaca(row, true)?, output(row)?)),
            TemplateChoice::Named(TemplateName::AlpacaShort) => Ok(single(row, self.alpaca(row, false)?, output(row)?)),
            TemplateChoice::Named(TemplateName::Chatml) => Ok(chatml(&self.messages(row)?)),
            TemplateChoice::Named(TemplateName::Chat) => {
                let chat = self.chat.as_ref().ok_or("the tokenizer has no chat template")?;
                chat.parts(&self.messages(row)?)
            }
            TemplateChoice::Inline(inline) => self.inline(inline, row),
        }
    }

    fn alpaca(&self, row: &Example, with_preamble: bool) -> Result<String, String> {
        let (instruction, input) = exchange(row)?;
        let system = self.system(row).map_or(String::new(), |system| format!("{system}\n\n"));
        let (preamble, input) = match input.as_str() {
            "" => (WITHOUT_INPUT, String::new()),
            text => (WITH_INPUT, format!("### Input:\n{text}\n\n")),
        };
        let preamble = if with_preamble { preamble } else { "" };
        Ok(format!("{system}{preamble}### Instruction:\n{instruction}\n\n{input}### Response:\n"))
    }

    fn inline(&self, inline: &InlineTemplate, row: &Example) -> Result<Vec<Part>, String> {
        let (instruction, input) = exchange(row)?;
        let (system, output) = (self.system(row).unwrap_or_default(), output(row)?);
        let (prompt, answer) = inline.render(&inline::Fields { instruction, input, system, output })?;
        Ok(single(row, prompt, answer))
    }

    /// Returns the system prompt: the turn that opens a conversation, else the row's own, else the one of rows without.
    fn system(&self, row: &Example) -> Option<String> {
        let opening = row.messages.as_ref().and_then(|turns| turns.first()).filter(|turn| turn.role == "system");
        let system = opening.map(|turn| &turn.content).or(row.system.as_ref()).or(self.system.as_ref());
        system.filter(|text| !text.is_empty()).cloned()
    }

    fn messages(&self, row: &Example) -> Result<Vec<Message>, String> {
        let message = |role: &str, content: String| Message { role: role.into(), content, train: None };
        let mut messages = match &row.messages {
            Some(messages) => messages.clone(),
            None => {
                let (instruction, input) = exchange(row)?;
                let user = [instruction, input].into_iter().filter(|t| !t.is_empty()).collect::<Vec<_>>().join("\n\n");
                vec![message("user", user), message("assistant", output(row)?)]
            }
        };
        if let Some(system) = self.system(row)
            && messages.first().is_none_or(|first| first.role != "system")
        {
            messages.insert(0, message("system", system));
        }
        match messages.last() {
            Some(last) if last.role == "assistant" => Ok(messages),
            _ => Err("the conversation does not end with an assistant turn".into()),
        }
    }
}

/// Returns the row before its last answer: an empty one stands for all answers that end a conversation.
pub fn unanswered(row: &Example) -> Example {
    let mut row = Example { output: Some(String::new()), ..row.clone() };
    if let Some(messages) = &mut row.messages {
        let asked = messages.iter().rposition(|turn| turn.role != "assistant").map_or(0, |last| last + 1);
        messages.truncate(asked);
        messages.push(Message { role: "assistant".into(), content: String::new(), train: None });
    }
    row
}

/// Returns instruction and input of a row, also of one user turn and one answer; [`Template::system`] has the turn before them.
fn exchange(row: &Example) -> Result<(String, String), String> {
    let Some(messages) = &row.messages else { return Ok((row.instruction.clone(), row.input.clone())) };
    let turns = match messages.as_slice() {
        [first, others @ ..] if first.role == "system" => others,
        all => all,
    };
    match turns {
        [user] | [user, _] if user.role == "user" => Ok((user.content.clone(), String::new())),
        _ => Err("a conversation of several turns needs `template: chat` or `chatml`".into()),
    }
}

fn output(row: &Example) -> Result<String, String> {
    let answer = row.answer().map(String::from);
    answer.ok_or_else(|| "the row has no `output`; label the prompts first (`teacher-label`)".into())
}

fn single(row: &Example, prompt: String, answer: String) -> Vec<Part> {
    let last = row.messages.iter().flatten().next_back();
    let is_learned = last.is_none_or(|turn| turn.train != Some(false));
    vec![Part { text: prompt, is_answer: false }, Part { text: answer, is_answer: is_learned }]
}

fn chatml(messages: &[Message]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut open = String::new();
    for message in messages {
        open.push_str(&format!("<|im_start|>{}\n", message.role));
        let text = format!("{}{CHATML_END}", message.content);
        if message.role == "assistant" && message.train != Some(false) {
            parts.push(Part { text: std::mem::take(&mut open), is_answer: false });
            parts.push(Part { text, is_answer: true });
        } else {
            open.push_str(&text);
        }
        open.push('\n');
    }
    parts
}

#[cfg(test)]
mod tests;
