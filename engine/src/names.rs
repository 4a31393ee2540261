//! Dotted paths as tables head their columns with them, and as users then name them: `lr` for `tuned.lr`.

use std::collections::HashMap;

use crate::language;

/// Returns each path's shortest ending, cut at a dot, that no other path has.
pub fn shortened(paths: &[String]) -> Vec<String> {
    let mut endings: HashMap<&str, usize> = HashMap::new();
    for ending in paths.iter().flat_map(|path| endings_of(path)) {
        *endings.entry(ending).or_default() += 1;
    }
    let shortest = |path: &String| endings_of(path).find(|ending| endings[ending] == 1).unwrap_or(path).to_string();
    paths.iter().map(shortest).collect()
}

/// Finds the path that a user named, whole or by an ending. Of several that end so, it is the one with the fewest parts: a stage's
/// own number before one that another stage tells of it.
///
/// # Errors
/// Says that there is none, with the nearest, or lists those that it may mean.
pub fn find<'a>(paths: &'a [String], wanted: &str) -> Result<&'a String, String> {
    if let Some(whole) = paths.iter().find(|path| *path == wanted) {
        return Ok(whole);
    }
    let fitting: Vec<&String> = paths.iter().filter(|path| endings_of(path).any(|ending| ending == wanted)).collect();
    match (fitting.as_slice(), shortest(&fitting).as_slice()) {
        (_, [only]) => Ok(only),
        ([], _) => {
            let near = language::nearest(wanted, paths.iter().flat_map(|path| endings_of(path)));
            let help = || language::listed("columns", shortened(paths).iter().map(String::as_str));
            let help = near.map_or_else(help, |near| format!("did you mean `{near}`?"));
            Err(format!("there is no column `{wanted}`; {help}"))
        }
        (several, _) => {
            let names: Vec<String> = several.iter().map(|path| format!("`{path}`")).collect();
            Err(format!("`{wanted}` may be {}", names.join(" or ")))
        }
    }
}

/// Returns those of the paths that have the fewest parts.
fn shortest<'a>(paths: &[&'a String]) -> Vec<&'a String> {
    let parts = |path: &str| endings_of(path).count();
    let fewest = paths.iter().map(|path| parts(path)).min();
    paths.iter().copied().filter(|path| Some(parts(path)) == fewest).collect()
}

/// Returns the endings of a path, shortest first, the path itself last.
fn endings_of(path: &str) -> impl Iterator<Item = &str> {
    path.rmatch_indices('.').map(|(dot, _)| &path[dot + 1..]).chain([path])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(list: &[&str]) -> Vec<String> {
        list.iter().map(|path| path.to_string()).collect()
    }

    #[test]
    fn endings_are_as_short_as_they_stay_apart() {
        let all = paths(&["tuned.lora.r", "tuned.lr", "parts.val", "held.val", "scores.tuned.lr"]);
        assert_eq!(shortened(&all), ["r", "tuned.lr", "parts.val", "held.val", "scores.tuned.lr"]);
    }

    #[test]
    fn a_path_is_found_by_its_ending_and_a_doubtful_one_lists_what_it_may_be() {
        let all = paths(&["tuned.lora.r", "parts.val", "held.val"]);
        assert_eq!(find(&all, "lora.r"), Ok(&all[0]));
        assert_eq!(find(&all, "val"), Err("`val` may be `parts.val` or `held.val`".into()));
        assert_eq!(find(&all, "vall"), Err("there is no column `vall`; did you mean `val`?".into()));
    }

    #[test]
    fn of_paths_with_the_same_ending_the_one_with_the_fewest_parts_is_meant() {
        let all = paths(&["scores.tuned.loss", "tuned.loss", "scores.other.loss"]);
        assert_eq!(find(&all, "loss"), Ok(&all[1]));
        assert_eq!(find(&all, "scores.tuned.loss"), Ok(&all[0]));
        let several = "`loss` may be `scores.tuned.loss` or `scores.other.loss`";
        assert_eq!(find(&[all[0].clone(), all[2].clone()], "loss"), Err(several.into()));
    }
}
