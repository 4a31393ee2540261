//! Finds a scripting language in a command line, for the lint that asks for its version.

const INTERPRETERS: [&str; 9] = ["python", "python3", "perl", "ruby", "node", "Rscript", "julia", "php", "lua"];

/// Returns the interpreter that `text` runs, if one of its words is one.
pub fn find(text: &str) -> Option<&'static str> {
    let words = text.split(|c: char| c.is_whitespace() || ";|&()`\"'".contains(c));
    let names = words.map(|word| word.rsplit('/').next().unwrap_or(word));
    names.filter_map(|name| INTERPRETERS.iter().find(|i| **i == name)).next().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters_are_found_where_they_stand() {
        assert_eq!(find("cd x && /usr/bin/python3 score.py"), Some("python3"));
        assert_eq!(find("wc -l data.python"), None);
    }
}
