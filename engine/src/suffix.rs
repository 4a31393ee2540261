//! The suffixes of an input's name: what a program that looks at names can see of it, and so a part of the key.

use std::path::Path;

/// Longest part of a name that still is a suffix: `.safetensors` has 12 characters.
const LONGEST: usize = 12;

/// Returns the suffixes of a file's name, for example `.csv.gz`: short parts at its end that hold a letter.
pub fn suffixes(path: &Path) -> String {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let parts: Vec<&str> = name.trim_start_matches('.').split('.').skip(1).collect();
    let is_suffix = |part: &&&str| {
        part.len() < LONGEST
            && part.chars().all(|c| c.is_ascii_alphanumeric())
            && part.chars().any(|c| c.is_ascii_alphabetic())
    };
    let count = parts.iter().rev().take_while(is_suffix).count();
    parts[parts.len() - count..].iter().map(|part| format!(".{part}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_the_short_end_of_a_name() {
        let of = |name: &str| suffixes(Path::new(name));
        assert_eq!(of("/d.x/reviews.csv.gz"), ".csv.gz");
        assert_eq!(of("model.safetensors"), ".safetensors");
        assert_eq!(of("run-v1.2.json"), ".json");
        assert_eq!(of("2024.01.01"), "");
        assert_eq!(of(".hidden"), "");
        assert_eq!(of("Makefile"), "");
    }
}
