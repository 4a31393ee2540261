//! Scores to a ranked list.

use std::cmp::Ordering;

/// Returns the `top` items by score, best first, without `bought` (ascending); ties by `tie`, smaller first.
///
/// Selects before it sorts: O(items + top log top).
pub fn best(scores: &[f64], bought: &[u32], tie: &[u32], top: usize) -> Vec<u32> {
    let mut items: Vec<u32> = (0..scores.len() as u32).filter(|item| bought.binary_search(item).is_err()).collect();
    let order = |a: &u32, b: &u32| {
        let (x, y) = (scores[*a as usize], scores[*b as usize]);
        y.partial_cmp(&x).unwrap_or(Ordering::Equal).then(tie[*a as usize].cmp(&tie[*b as usize]))
    };
    if top < items.len() {
        items.select_nth_unstable_by(top, order);
        items.truncate(top);
    }
    items.sort_unstable_by(order);
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_follow_their_order_and_bought_items_are_left_out() {
        let scores = [1.0, 3.0, 3.0, 0.0, -0.0];
        assert_eq!(best(&scores, &[0], &[0, 1, 2, 3, 4], 9), vec![1, 2, 3, 4]);
        assert_eq!(best(&scores, &[0], &[0, 2, 1, 4, 3], 9), vec![2, 1, 4, 3]);
        assert_eq!(best(&scores, &[], &[0, 1, 2, 3, 4], 2), vec![1, 2]);
    }
}
