//! The nearest right name for a wrong one.

/// Returns the candidate that `name` most likely meant, if one is near enough: at most a third of its letters wrong.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = fold(name);
    let limit = (wanted.chars().count() / 3).clamp(1, 4);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &fold(candidate)), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Returns `did you mean ...?`, or nothing.
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, candidates).map(|found| format!("did you mean `{found}`?")).unwrap_or_default()
}

/// Returns `LEAD: a, b, c`, cut where the list gets long.
pub fn listed<'a>(lead: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    const MOST: usize = 40;
    let names: Vec<&str> = names.into_iter().collect();
    if names.is_empty() {
        return format!("{lead}: none");
    }
    let more = if names.len() > MOST { format!(", and {} more", names.len() - MOST) } else { String::new() };
    format!("{lead}: {}{more}", names[..names.len().min(MOST)].join(", "))
}

/// Makes `batchSize`, `batch-size` and `batch_size` alike.
fn fold(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let known = ["batch_size", "epochs", "lr"];
        assert_eq!(nearest("batchsize", known), Some("batch_size"));
        assert_eq!(nearest("epoch", known), Some("epochs"));
        assert_eq!(nearest("temperature", known), None);
    }
}
