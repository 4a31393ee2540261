//! The tokenizer's own chat template, a Jinja program made for Python.
//!
//! minijinja renders it with `trim_blocks` and `lstrip_blocks` as transformers does, and the handful of Python string
//! methods that published templates call. What it cannot render is refused with the template's own error; a template that
//! asks for today's date (`strftime_now`) finds no such function and falls back to the date it has for that case.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Value, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State, context};

use super::template::Part;
use crate::record::example::Message;

/// A chat template with the texts that it may name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChatTemplate {
    /// The Jinja program.
    pub source: String,
    /// Text of the token that begins a text.
    pub bos: String,
    /// Text of the token that ends a text.
    pub eos: String,
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
    environment.set_unknown_method_callback(python_method);
    environment.add_filter("tojson", to_json);
    environment.add_function("raise_exception", |text: String| -> Result<String, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, text))
    });
    environment
}

impl ChatTemplate {
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
        let fields = context! {
            messages, tools => none(), documents => none(), add_generation_prompt => opens_answer, bos_token => self.bos.as_str(), eos_token => self.eos.as_str(),
        };
        let text = environment(false).render_str(&self.source, fields);
        text.map_err(|e| format!("the tokenizer's chat template fails: {e:#}; use `template: chatml`"))
    }
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

/// Python's methods of `str` that chat templates call.
fn python_method(_state: &mut State<'_, '_>, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let unknown = || Error::from(ErrorKind::UnknownMethod);
    let text = value.as_str().filter(|_| value.kind() == ValueKind::String).ok_or_else(unknown)?;
    match method {
        "strip" => stripped(text, args, true, true),
        "lstrip" => stripped(text, args, true, false),
        "rstrip" => stripped(text, args, false, true),
        "startswith" => from_args(args).map(|(prefix,): (&str,)| Value::from(text.starts_with(prefix))),
        "endswith" => from_args(args).map(|(suffix,): (&str,)| Value::from(text.ends_with(suffix))),
        "replace" => from_args(args).map(|(from, to): (&str, &str)| Value::from(text.replace(from, to))),
        "split" => from_args(args).map(|(by,): (&str,)| Value::from_iter(text.split(by).map(Value::from))),
        "upper" => Ok(Value::from(text.to_uppercase())),
        "lower" => Ok(Value::from(text.to_lowercase())),
        _ => Err(unknown()),
    }
}

fn stripped(text: &str, args: &[Value], left: bool, right: bool) -> Result<Value, Error> {
    let (set,): (Option<&str>,) = from_args(args)?;
    let cut = |c: char| set.map_or(c.is_whitespace(), |set| set.contains(c));
    let text = if left { text.trim_start_matches(cut) } else { text };
    Ok(Value::from(if right { text.trim_end_matches(cut) } else { text }))
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
        let chat = ChatTemplate { source: CHATML.into(), ..ChatTemplate::default() };
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
        let chat = ChatTemplate { source: last.into(), ..ChatTemplate::default() };
        let turns = [turn("user", "a"), turn("assistant", "b"), turn("user", "c"), turn("assistant", "d")];
        assert_eq!(chat.parts(&turns[..2]).unwrap().len(), 2);
        let error = chat.parts(&turns).unwrap_err();
        assert!(error.contains("turn 4 changes the text of the turns before it"), "{error}");
    }

    #[test]
    fn what_follows_an_answer_is_known() {
        let chat = ChatTemplate { source: CHATML.into(), ..ChatTemplate::default() };
        assert_eq!(chat.end_of_answer(), "<|im_end|>");
        assert_eq!(ChatTemplate { source: "none".into(), ..ChatTemplate::default() }.end_of_answer(), "");
    }

    #[test]
    fn json_and_the_last_line_break_are_pythons() {
        let chat =
            ChatTemplate { source: "{{ messages | tojson }}{{ bos_token }}\n".into(), ..ChatTemplate::default() };
        let text = chat.render(&[turn("user", "<é> & 'q'")], false).unwrap();
        assert_eq!(text, "[{\"role\": \"user\", \"content\": \"<é> & 'q'\"}]");
    }

    #[test]
    fn a_template_that_raises_is_an_error_with_its_words() {
        let chat =
            ChatTemplate { source: "{{ raise_exception('no system please') }}".into(), ..ChatTemplate::default() };
        assert!(chat.render(&[], false).unwrap_err().contains("no system please"));
    }
}
