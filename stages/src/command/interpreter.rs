//! Finds a scripting language in a command line, for the lint that asks for its version.

const INTERPRETERS: [&str; 14] = [
    "python", "python2", "python3", "perl", "ruby", "node", "deno", "bun", "Rscript", "julia", "java", "php", "lua",
    "pwsh",
];

/// Returns the interpreter that `text` runs, if one of its words is one, perhaps with a version (`python3.12`).
pub fn find(text: &str) -> Option<&str> {
    let words = text.split(|c: char| c.is_whitespace() || ";|&()`\"'".contains(c));
    let mut names = words.map(|word| word.rsplit('/').next().unwrap_or(word));
    let is_version = |rest: &str| rest.strip_prefix('.').is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
    let is_one = |name: &str| {
        let rest = INTERPRETERS.iter().filter_map(|known| name.strip_prefix(known));
        rest.into_iter().any(|rest| rest.is_empty() || is_version(rest))
    };
    names.find(|name| is_one(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters_are_found_where_they_stand() {
        assert_eq!(find("cd x && /usr/bin/python3 score.py"), Some("python3"));
        assert_eq!(find("python3.12 -m score"), Some("python3.12"));
        assert_eq!(find("wc -l data.python node.py python3.py"), None);
    }
}
