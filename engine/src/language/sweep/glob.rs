//! Patterns over the names of cases, as `--cases` takes them.

/// Says whether `name` fits a pattern of `*` and `?`.
pub fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, n) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_fit_as_in_a_shell() {
        assert!(fits("config-*", "config-1") && fits("*lr=0.?", "r=8,lr=0.1") && fits("*", ""));
        assert!(!fits("config-?", "config-10") && !fits("a*b", "ac"));
    }
}
