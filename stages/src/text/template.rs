//! From an example to text: what the model reads, and what it shall learn to write.
//!
//! `alpaca` and `alpaca_short` are tloen/alpaca-lora's `templates/*.json`, to the byte. A conversation becomes a list of
//! [`Part`]s, so that prompt and answer can be tokenised apart: merging across their border would let the last token of the
//! prompt hold the first letters of the answer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Tokenizer, chat};
use crate::record::example::{Example, Message};

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

/// A template written out in minijinja, with `instruction`, `input`, `system` and (in `response`) `output`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InlineTemplate {
    /// What the model reads, for example `"Q: {{ instruction }} {{ input }}\nA: "`.
    pub prompt: String,
    /// What it writes, for example `"{{ output }}"`.
    pub response: String,
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

impl Template {
    /// Joins a choice with the system prompt of rows that have none, and with the tokenizer's own template.
    ///
    /// # Errors
    /// When `chat` is chosen and the tokenizer has no template.
    pub fn new(
        choice: &TemplateChoice,
        system: Option<&str>,
        chat: Option<chat::ChatTemplate>,
    ) -> Result<Template, String> {
        if *choice == TemplateChoice::Named(TemplateName::Chat) && chat.is_none() {
            return Err("`template: chat` needs a tokenizer with a chat template, and this one has none; try `template: chatml`".into());
        }
        Ok(Template { choice: choice.clone(), system: system.map(String::from), chat })
    }

    /// Returns what the model reads before it writes its last answer.
    ///
    /// # Errors
    /// When the row does not fit the template.
    pub fn prompt(&self, row: &Example) -> Result<String, String> {
        let mut row = row.clone();
        row.output = Some(String::new());
        if let Some(messages) = &mut row.messages
            && messages.last().is_none_or(|last| last.role != "assistant")
        {
            messages.push(Message { role: "assistant".into(), content: String::new(), train: None });
        }
        let mut parts = self.parts(&row)?;
        while let Some(part) = parts.pop() {
            if part.is_answer {
                break;
            }
        }
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

    /// Returns every id that ends an answer: the tokenizer's, and what the tokenizer's own template writes after one.
    pub fn stops(&self, tokenizer: &Tokenizer) -> Vec<u32> {
        let mut stops = tokenizer.special().stops.clone();
        let end = self.chat.as_ref().filter(|_| self.is_chat()).map(chat::ChatTemplate::end_of_answer);
        let first = end.and_then(|text| tokenizer.more(&text).ok()?.first().copied());
        stops.extend(first.filter(|id| tokenizer.is_control(*id) && !stops.contains(id)));
        stops
    }

    /// Returns the whole conversation, the last part being the last answer.
    ///
    /// # Errors
    /// When the row does not fit the template.
    pub fn parts(&self, row: &Example) -> Result<Vec<Part>, String> {
        match &self.choice {
            TemplateChoice::Named(TemplateName::Alpaca) => Ok(single(self.alpaca(row, true)?, output(row)?)),
            TemplateChoice::Named(TemplateName::AlpacaShort) => Ok(single(self.alpaca(row, false)?, output(row)?)),
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
        let output = output(row)?;
        let fields = minijinja::context! { instruction, input, system => self.system(row).unwrap_or_default(), output };
        let render =
            |text: &str| chat::environment(true).render_str(text, &fields).map_err(|e| format!("`template`: {e:#}"));
        Ok(single(render(&inline.prompt)?, render(&inline.response)?))
    }

    fn system(&self, row: &Example) -> Option<String> {
        row.system.clone().or_else(|| self.system.clone()).filter(|text| !text.is_empty())
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

/// Returns instruction and input of a row, also of one user turn and one answer.
fn exchange(row: &Example) -> Result<(String, String), String> {
    let Some(messages) = &row.messages else { return Ok((row.instruction.clone(), row.input.clone())) };
    let turns: Vec<&Message> = messages.iter().filter(|m| m.role != "system").collect();
    match turns.as_slice() {
        [user] | [user, _] if user.role == "user" => Ok((user.content.clone(), String::new())),
        _ => Err("a conversation of several turns needs `template: chat` or `chatml`".into()),
    }
}

fn output(row: &Example) -> Result<String, String> {
    let last = row.messages.as_ref().and_then(|list| list.last()).filter(|m| m.role == "assistant");
    let output = row.output.clone().or_else(|| last.map(|m| m.content.clone()));
    output.ok_or_else(|| "the row has no `output`; label the prompts first (`teacher-label`)".into())
}

fn single(prompt: String, answer: String) -> Vec<Part> {
    vec![Part { text: prompt, is_answer: false }, Part { text: answer, is_answer: true }]
}

fn chatml(messages: &[Message]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut open = String::new();
    for message in messages {
        open.push_str(&format!("<|im_start|>{}\n", message.role));
        let text = format!("{}<|im_end|>", message.content);
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
mod tests {
    use super::*;

    fn row(instruction: &str, input: &str) -> Example {
        Example {
            instruction: instruction.into(),
            input: input.into(),
            output: Some("yes".into()),
            ..Example::default()
        }
    }

    fn named(name: TemplateName, system: Option<&str>) -> Template {
        Template::new(&TemplateChoice::Named(name), system, None).unwrap()
    }

    #[test]
    fn alpaca_leaves_the_input_section_out_when_there_is_none() {
        let template = named(TemplateName::AlpacaShort, None);
        assert_eq!(template.prompt(&row("Do", "")).unwrap(), "### Instruction:\nDo\n\n### Response:\n");
        assert_eq!(
            template.prompt(&row("Do", "this")).unwrap(),
            "### Instruction:\nDo\n\n### Input:\nthis\n\n### Response:\n"
        );
    }

    #[test]
    fn chatml_learns_the_end_of_each_answer_but_not_the_user() {
        let parts = named(TemplateName::Chatml, Some("Be brief.")).parts(&row("Do", "this")).unwrap();
        assert_eq!(
            parts[0].text,
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nDo\n\nthis<|im_end|>\n<|im_start|>assistant\n"
        );
        assert_eq!(parts[1], Part { text: "yes<|im_end|>".into(), is_answer: true });
    }

    #[test]
    fn inline_template_keeps_its_spaces() {
        let inline = InlineTemplate { prompt: "Q: {{ instruction }}\nA: ".into(), response: "{{ output }}!".into() };
        let template = Template::new(&TemplateChoice::Inline(inline), None, None).unwrap();
        let parts = template.parts(&row("why", "")).unwrap();
        assert_eq!((parts[0].text.as_str(), parts[1].text.as_str()), ("Q: why\nA: ", "yes!"));
    }

    #[test]
    fn turns_marked_train_false_are_read_and_not_learned() {
        let turn = |role: &str, content: &str, train| Message { role: role.into(), content: content.into(), train };
        let messages = vec![
            turn("user", "a", None),
            turn("assistant", "b", Some(false)),
            turn("user", "c", None),
            turn("assistant", "d", None),
        ];
        let row = Example { messages: Some(messages), ..Example::default() };
        let parts = named(TemplateName::Chatml, None).parts(&row).unwrap();
        assert_eq!(parts.len(), 2);
        assert!(parts[0].text.contains("b<|im_end|>") && parts[1].text == "d<|im_end|>");
        assert!(named(TemplateName::Alpaca, None).parts(&row).is_err());
    }
}
