//! A template that is written out in the pipeline, in minijinja.
//!
//! Jinja renders a name that it does not know as nothing, and a model would learn from empty questions. So every name is
//! looked at when the template is read, before there is a row.

use minijinja::{UndefinedBehavior, context};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use watershed_engine::fault::ParamFault;

use crate::text::chat;

/// Names that stand for a row.
const NAMES: [&str; 4] = ["instruction", "input", SYSTEM, OUTPUT];

/// What stands for the system prompt.
const SYSTEM: &str = "system";

/// What only `response` may name: in `prompt` it would tell the answer.
const OUTPUT: &str = "output";

/// A template written out in minijinja, with `instruction`, `input`, `system` and (in `response`) `output`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InlineTemplate {
    /// What the model reads; variables: `instruction`, `input` and `system`.
    #[schemars(example = &"Q: {{ instruction }} {{ input }} A: ")]
    pub prompt: String,
    /// What it writes; variables: those of `prompt`, and `output`, which it has to use.
    #[schemars(example = &"{{ output }}")]
    pub response: String,
}

/// What a template's names stand for in one row.
pub struct Fields {
    /// What to do.
    pub instruction: String,
    /// What to do it with.
    pub input: String,
    /// The system prompt, or nothing.
    pub system: String,
    /// The answer.
    pub output: String,
}

impl InlineTemplate {
    /// Returns what is wrong with the texts; `path` is the template's own inside `with`.
    pub fn faults(&self, path: &str) -> Vec<ParamFault> {
        let (prompt, response) = (format!("{path}.prompt"), format!("{path}.response"));
        let mut faults: Vec<ParamFault> = named(&self.prompt, &prompt, &NAMES[..3]).err().into_iter().collect();
        match named(&self.response, &response, &NAMES) {
            Err(fault) => faults.push(fault),
            Ok(names) if names.iter().any(|name| name == OUTPUT) => {}
            Ok(_) => {
                let message = "`output` is not in it, so no answer would be learned";
                faults.push(ParamFault::new(response, message, "write for example `\"{{ output }}\"`"));
            }
        }
        faults
    }

    /// Says whether one of the texts names `system`.
    pub fn uses_system(&self) -> bool {
        let names = [&self.prompt, &self.response].into_iter().filter_map(|text| named(text, "", &NAMES).ok());
        names.flatten().any(|name| name == SYSTEM)
    }

    /// Returns the texts of prompt and answer.
    ///
    /// # Errors
    /// When one of them cannot be rendered.
    pub fn render(&self, fields: &Fields) -> Result<(String, String), String> {
        let Fields { instruction, input, system, output } = fields;
        let fields = context! { instruction, input, system, output };
        let environment = environment();
        let render = |part: &str, text: &str| {
            environment.render_str(text, &fields).map_err(|e| format!("`template.{part}`: {e:#}"))
        };
        Ok((render("prompt", &self.prompt)?, render("response", &self.response)?))
    }
}

fn environment() -> minijinja::Environment<'static> {
    let mut environment = chat::environment(true);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment
}

/// Returns the names of a text that stand for a row, or the fault that it is no template or has others than `known`.
fn named(text: &str, path: &str, known: &[&str]) -> Result<Vec<String>, ParamFault> {
    let environment = environment();
    let template = environment.template_from_str(text);
    let template = template.map_err(|e| ParamFault::new(path, format!("not a template: {e:#}"), "mend its Jinja"))?;
    let mut names: Vec<String> = template.undeclared_variables(false).into_iter().collect();
    names.retain(|name| environment.globals().all(|(global, _)| global != name));
    names.sort();
    match names.iter().find(|name| !known.contains(&name.as_str())) {
        None => Ok(names),
        Some(unknown) => {
            let help = format!("the variables here are `{}`", known.join("`, `"));
            Err(ParamFault::new(path, format!("unknown variable `{unknown}`"), help))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inline(prompt: &str, response: &str) -> InlineTemplate {
        InlineTemplate { prompt: prompt.into(), response: response.into() }
    }

    #[test]
    fn names_that_no_row_has_are_faults_with_those_that_there_are() {
        let faults = inline("Q: {{ instructon }} {{ output }}", "{{ answer }}").faults("template");
        assert_eq!(
            faults,
            [
                ParamFault::new(
                    "template.prompt",
                    "unknown variable `instructon`",
                    "the variables here are `instruction`, `input`, `system`"
                ),
                ParamFault::new(
                    "template.response",
                    "unknown variable `answer`",
                    "the variables here are `instruction`, `input`, `system`, `output`"
                ),
            ]
        );
        let telling = inline("{{ instruction }} {{ output }}", "{{ output }}").faults("template");
        assert_eq!(telling[0].message, "unknown variable `output`");
    }

    #[test]
    fn a_response_without_the_answer_and_broken_jinja_are_faults() {
        let faults = inline("{{ instruction", "yes").faults("template");
        assert!(faults[0].message.starts_with("not a template: "), "{}", faults[0].message);
        assert_eq!(faults[1].path, "template.response");
        assert_eq!(faults[1].message, "`output` is not in it, so no answer would be learned");
    }

    #[test]
    fn a_system_prompt_has_a_place_where_it_is_named() {
        let uses = |prompt: &str, response: &str| inline(prompt, response).uses_system();
        assert!(uses("{{ system }}{{ instruction }}", "{{ output }}"));
        assert!(
            uses("{% if system %}{{ system }}{% endif %}", "{{ output }}") && uses("Q", "{{ system }}{{ output }}")
        );
        assert!(!uses("system: {{ instruction }}", "{{ output }}"));
    }

    #[test]
    fn jinjas_own_names_and_those_that_the_text_sets_are_known() {
        let prompt = "{% set ask = instruction | upper %}{% for n in range(2) %}{{ ask }}{{ loop.index }} {% endfor %}\
                      {% if system %}{{ system }}{% endif %}";
        let template = inline(prompt, "{{ output }}");
        assert_eq!(template.faults("template"), []);
        let fields =
            Fields { instruction: "do".into(), input: String::new(), system: String::new(), output: "done".into() };
        assert_eq!(template.render(&fields), Ok(("DO1 DO2 ".into(), "done".into())));
        let refused = inline("{{ instruction.title }}", "{{ output }}").render(&fields).unwrap_err();
        assert!(refused.starts_with("`template.prompt`: undefined value"), "{refused}");
    }
}
