//! The tokenizer's own chat template, a Jinja program made for Python.
//!
//! minijinja renders it with `trim_blocks` and `lstrip_blocks` as transformers does, and its library of Python's methods knows
//! those that published templates call. What it cannot render is refused with the template's own error; a template that
//! asks for today's date (`strftime_now`) finds no such function and falls back to the date it has for that case.

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind, context};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::template::Part;
use crate::record::example::Message;

/// A chat template with the texts that it may name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChatTemplate {
    /// The Jinja program as its file holds it.
    pub source: String,
    /// Texts of the tokenizer's special tokens by the names that templates give them, such as `bos_token`.
    special: BTreeMap<String, String>,
}

/// Steps that one rendering may take; a template that loops ends with an error.
const FUEL: u64 = 1_000_000;

/// Returns an environment for templates that come from elsewhere: bounded, without files. A text in a pipeline keeps its last
/// line break, a tokenizer's template loses it, as under Python's Jinja.
pub fn environment(keeps_last_break: bool) -> Environment<'static> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(keeps_last_break);
    environment.set_syntax(syntax.build().expect("these settings of white space do not exclude each other"));
    environment.set_fuel(Some(FUEL));
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(unknown_method_callback);
    environment.add_filter("tojson", to_json);
    environment.add_filter("e", escaped);
    environment.add_filter("escape", escaped);
    environment.add_function("raise_exception", |text: String| -> Result<String, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, text))
    });
    environment
}

impl ChatTemplate {
    /// Joins a template with the special tokens that it may name.
    pub fn new(source: &str, special: BTreeMap<String, String>) -> ChatTemplate {
        ChatTemplate { source: source.into(), special }
    }

    /// Returns the program as minijinja takes it: Python's Jinja knows one sort of line break, and transformers a pair of tags
    /// that mark answers and print nothing.
    fn program(&self) -> String {
        without_marks(&self.source.replace("\r\n", "\n").replace('\r', "\n"))
    }

    /// Returns the conversation in parts; an answer reaches up to what its turn adds to the rendering.
    ///
    /// # Errors
    /// When the template refuses the conversation, or does not render a turn as a continuation of the turns before it.
    pub fn parts(&self, messages: &[Message]) -> Result<Vec<Part>, String> {
        let mut parts: Vec<Part> = Vec::new();
        let mut written = String::new();
        for (turn, message) in messages.iter().enumerate() {
            if message.role != "assistant" || message.train == Some(false) {
                continue;
            }
            let before = self.render(&messages[..turn], true)?;
            let after = self.render(&messages[..=turn], false)?;
            let question = before.strip_prefix(written.as_str()).ok_or_else(|| unstable(turn))?;
            let answer = after.strip_prefix(before.as_str()).ok_or_else(|| unstable(turn))?;
            // the line break after the end token belongs to the next turn, as the model stops before it
            let answer = answer.strip_suffix('\n').unwrap_or(answer);
            parts.push(Part { text: question.to_string(), is_answer: false });
            parts.push(Part { text: answer.to_string(), is_answer: true });
            written = format!("{before}{answer}");
        }
        Ok(parts)
    }

    /// Returns what the template writes after an answer, for example `<|im_end|>`; nothing where it cannot tell.
    pub fn end_of_answer(&self) -> String {
        let turn = |role: &str| Message { role: role.into(), content: "x".into(), train: None };
        let parts = self.parts(&[turn("user"), turn("assistant")]).unwrap_or_default();
        parts.last().and_then(|part| part.text.trim_start().strip_prefix('x')).unwrap_or_default().to_string()
    }

    /// Returns the text of a conversation, with the opening of an answer when `opens_answer`.
    ///
    /// # Errors
    /// When the template cannot be rendered.
    pub fn render(&self, messages: &[Message], opens_answer: bool) -> Result<String, String> {
        let turn = |m: &Message| context! { role => m.role.as_str(), content => m.content.as_str() };
        let messages: Vec<Value> = messages.iter().map(turn).collect();
        let none = || Value::from(());
        let own = context! { messages, tools => none(), documents => none(), add_generation_prompt => opens_answer };
        let fields = context! { ..own, ..Value::from_pairs(self.special.iter().map(|(name, text)| (name.as_str(), text.as_str()))) };
        let text = environment(false).render_str(&self.program(), fields);
        text.map_err(|e| format!("the tokenizer's chat template fails: {e:#}; use `template: chatml`"))
    }
}

/// Makes `{% generation %}` and its end a condition that always holds, with the white space that they cut.
fn without_marks(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let end = rest[start..].find("%}").map_or(rest.len(), |end| start + end + 2);
        let (before, tag) = (&rest[..start], &rest[start..end]);
        let word = tag.trim_matches(|c: char| c.is_whitespace() || "{%}-+".contains(c));
        let other = match word {
            "generation" => tag.replacen("generation", "if true", 1),
            "endgeneration" => tag.replacen("endgeneration", "endif", 1),
            _ => tag.to_string(),
        };
        text.extend([before, other.as_str()]);
        rest = &rest[end..];
    }
    text + rest
}

/// Says that a turn, counted from 0, changes what was written before it: what a model is trained on could then not be what
/// it reads when it answers.
fn unstable(turn: usize) -> String {
    format!(
        "the tokenizer's chat template does not render turn by turn: turn {} changes the text of the turns before it; use \
         `template: chatml`, or split the conversation",
        turn + 1
    )
}

/// Escapes text for HTML as Python's markupsafe does.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;").replace('"', "&#34;")
}

/// Writes JSON as transformers' `tojson` does: Python's separators, no letter escaped for HTML.
fn to_json(value: &Value) -> Result<String, Error> {
    let mut text = Vec::new();
    let mut writer = serde_json::Serializer::with_formatter(&mut text, Pythonic);
    let written = serde::Serialize::serialize(value, &mut writer);
    let text = written.map_err(|e| e.to_string()).and_then(|()| String::from_utf8(text).map_err(|e| e.to_string()));
    text.map_err(|why| Error::new(ErrorKind::BadSerialization, why))
}

/// `{"a": 1, "b": [2, 3]}`.
struct Pythonic;

impl serde_json::ser::Formatter for Pythonic {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'].strip() + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

    fn turn(role: &str, content: &str) -> Message {
        Message { role: role.into(), content: content.into(), train: None }
    }

    #[test]
    fn each_answer_is_what_its_turn_adds() {
        let chat = ChatTemplate::new(CHATML, BTreeMap::new());
        let turns = [turn("user", " a "), turn("assistant", "b"), turn("user", "c"), turn("assistant", "d")];
        let parts = chat.parts(&turns).unwrap();
        let texts: Vec<&str> = parts.iter().map(|p| p.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n",
                "b<|im_end|>",
                "\n<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n",
                "d<|im_end|>"
            ]
        );
    }

    #[test]
    fn a_template_that_rewrites_earlier_turns_is_refused_by_name() {
        // Mistral-7B-Instruct-v0.3 puts the system text into the last user turn
        let last = "{% for m in messages %}{% if m.role == 'user' %}[INST] {% if loop.index >= messages | length - 1 %}Be brief. {% endif %}{{ m.content }} [/INST]{% else %}{{ m.content }}</s>{% endif %}{% endfor %}";
        let chat = ChatTemplate::new(last, BTreeMap::new());
        let turns = [turn("user", "a"), turn("assistant", "b"), turn("user", "c"), turn("assistant", "d")];
        assert_eq!(chat.parts(&turns[..2]).unwrap().len(), 2);
        let error = chat.parts(&turns).unwrap_err();
        assert!(error.contains("turn 4 changes the text of the turns before it"), "{error}");
    }

    #[test]
    fn what_follows_an_answer_is_known() {
        let chat = ChatTemplate::new(CHATML, BTreeMap::new());
        assert_eq!(chat.end_of_answer(), "<|im_end|>");
        assert_eq!(ChatTemplate::new("none", BTreeMap::new()).end_of_answer(), "");
    }

    #[test]
    fn json_and_the_last_line_break_are_pythons() {
        let chat = ChatTemplate::new("{{ messages | tojson }}{{ bos_token }}\n", BTreeMap::new());
        let text = chat.render(&[turn("user", "<é> & 'q'")], false).unwrap();
        assert_eq!(text, "[{\"role\": \"user\", \"content\": \"<é> & 'q'\"}]");
        let chat = ChatTemplate::new("{{ messages[0].content | e }}", BTreeMap::new());
        assert_eq!(chat.render(&[turn("user", "<a> & '/'\"")], false).unwrap(), "&lt;a&gt; &amp; &#39;/&#39;&#34;");
    }

    #[test]
    fn a_template_that_raises_is_an_error_with_its_words() {
        let chat = ChatTemplate::new("{{ raise_exception('no system please') }}", BTreeMap::new());
        assert!(chat.render(&[], false).unwrap_err().contains("no system please"));
    }

    #[test]
    fn every_special_token_has_its_name_and_tags_that_print_nothing_are_passed_over() {
        let source = "{% for m in messages %}\r\n{% if loop.first %}{% continue %}{% endif %}{{ pad_token }}{{ m.get('role').title() }}\r\n{%- generation %}\r\n  {{ m.content.split()[0] }}{% endgeneration %}{% endfor %}";
        let special = BTreeMap::from([("pad_token".to_string(), "<pad>".to_string())]);
        let chat = ChatTemplate::new(source, special);
        // as Jinja2 3.1 renders it with `{% generation %}` as transformers defines it
        let text = chat.render(&[turn("system", "x"), turn("user", "two words")], false).unwrap();
        assert_eq!(text, "<pad>User  two");
    }
}
