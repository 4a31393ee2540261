//! The tokenizer's own chat template, a Jinja program made for Python.
//!
//! minijinja renders it with `trim_blocks` and `lstrip_blocks` as transformers does, and the handful of Python string
//! methods that published templates call. What it cannot render is refused with the template's own error.

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

/// Returns an environment for templates that come from elsewhere: bounded, without files.
pub fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true);
    environment.set_syntax(syntax.build().expect("these settings of white space do not exclude each other"));
    environment.set_fuel(Some(FUEL));
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(python_method);
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
        let mut written = 0;
        for (turn, message) in messages.iter().enumerate() {
            if message.role != "assistant" || message.train == Some(false) {
                continue;
            }
            let before = self.render(&messages[..turn], true)?;
            let after = self.render(&messages[..=turn], false)?;
            let odd = "the tokenizer's chat template does not render turn by turn; use `template: chatml`";
            let answer = after.strip_prefix(before.as_str()).ok_or(odd)?;
            // the line break after the end token belongs to the next turn, as the model stops before it
            let answer = answer.strip_suffix('\n').unwrap_or(answer);
            parts.push(Part { text: before.get(written..).ok_or(odd)?.to_string(), is_answer: false });
            parts.push(Part { text: answer.to_string(), is_answer: true });
            written = before.len() + answer.len();
        }
        Ok(parts)
    }

    /// Returns the text of a conversation, with the opening of an answer when `opens_answer`.
    ///
    /// # Errors
    /// When the template cannot be rendered.
    pub fn render(&self, messages: &[Message], opens_answer: bool) -> Result<String, String> {
        let turn = |m: &Message| context! { role => m.role.as_str(), content => m.content.as_str() };
        let messages: Vec<Value> = messages.iter().map(turn).collect();
        let fields = context! {
            messages, add_generation_prompt => opens_answer, bos_token => self.bos.as_str(), eos_token => self.eos.as_str(),
        };
        let text = environment().render_str(&self.source, fields);
        text.map_err(|e| format!("the tokenizer's chat template fails: {e:#}; use `template: chatml`"))
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
    fn a_template_that_raises_is_an_error_with_its_words() {
        let chat =
            ChatTemplate { source: "{{ raise_exception('no system please') }}".into(), ..ChatTemplate::default() };
        assert!(chat.render(&[], false).unwrap_err().contains("no system please"));
    }
}
