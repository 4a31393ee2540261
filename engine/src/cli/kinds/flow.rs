//! A value as YAML on one line, as an author would write it in `with: {…}`.

use serde_json::{Map, Value};

/// Returns `{r: 8, targets: [q_proj, v_proj]}` and the like.
pub fn flow(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::String(text) => scalar(text),
        Value::Array(elements) => format!("[{}]", elements.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => format!("{{{}}}", entries(map).join(", ")),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

fn entries(map: &Map<String, Value>) -> Vec<String> {
    map.iter().map(|(key, value)| format!("{}: {}", scalar(key), flow(value))).collect()
}

/// Leaves plain what YAML reads back as the same text, and quotes the rest.
fn scalar(text: &str) -> String {
    const NOT_TEXT: [&str; 8] = ["true", "false", "null", "yes", "no", "on", "off", "nan"];
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./+".contains(c));
    let is_text = is_word && !NOT_TEXT.contains(&text.to_ascii_lowercase().as_str());
    let is_percentage = text.strip_suffix('%').is_some_and(|number| number.parse::<f64>().is_ok());
    if is_text || is_percentage { text.to_string() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_yaml_would_read_otherwise_is_quoted() {
        let value = json!({"lora": {"r": 8, "on": true}, "names": ["q_proj", "no", "1.5", "-,", ""], "bad": "1%"});
        assert_eq!(flow(&value), r#"{lora: {r: 8, "on": true}, names: [q_proj, "no", "1.5", "-,", ""], bad: 1%}"#);
    }
}
