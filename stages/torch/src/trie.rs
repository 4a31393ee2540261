//! Titles as a tree of tokens: what several begin with stands there once.
//!
//! The tree is cut into parts of neighbouring titles that go through the model at once. Only nodes that something follows
//! are fed; a title's last token is predicted, not read.

use crate::{Error, Result};

/// Nodes of a part that are fed at once; also the side of its square mask.
const FED: usize = 1024;

/// Token sequences, shared beginnings joined.
pub struct Trie {
    pub(crate) parts: Vec<Part>,
    /// Number of titles.
    pub(crate) titles: usize,
    /// Tokens of the longest.
    pub(crate) longest: usize,
    /// Largest token id.
    pub(crate) largest: u32,
}

/// Neighbouring titles.
#[derive(Default)]
pub(crate) struct Part {
    /// Parents before children.
    pub(crate) nodes: Vec<Node>,
    /// Titles and the nodes that they end at.
    pub(crate) ends: Vec<(usize, usize)>,
    /// Nodes that have children.
    pub(crate) fed: usize,
}

/// One token of some titles.
pub(crate) struct Node {
    pub(crate) token: u32,
    /// None when the title begins here.
    pub(crate) parent: Option<usize>,
    /// Tokens before it in the title.
    pub(crate) depth: usize,
    /// Place among the part's fed nodes; none for one without children.
    pub(crate) fed: Option<usize>,
}

impl Trie {
    /// Joins titles. Two titles of the same tokens end at the same node.
    ///
    /// # Errors
    /// [`Error::Input`] for a title without tokens.
    pub fn new(titles: &[Vec<u32>]) -> Result<Trie> {
        if let Some(empty) = titles.iter().position(Vec::is_empty) {
            return Err(Error::Input(format!("title {empty} has no tokens")));
        }
        let mut order: Vec<usize> = (0..titles.len()).collect();
        order.sort_by_key(|title| &titles[*title]);
        let mut parts: Vec<Part> = Vec::new();
        let mut path: Vec<usize> = Vec::new();
        for title in order {
            let tokens = &titles[title];
            if parts.last().is_none_or(|part| part.fed + tokens.len() > FED && !part.nodes.is_empty()) {
                parts.push(Part::default());
                path.clear();
            }
            let part = parts.last_mut().expect("one was pushed");
            part.add(title, tokens, &mut path);
        }
        let longest = titles.iter().map(Vec::len).max().unwrap_or(0);
        let largest = titles.iter().flatten().copied().max().unwrap_or(0);
        Ok(Trie { parts, titles: titles.len(), longest, largest })
    }

    /// Returns how many tokens are fed after each prompt.
    pub fn fed_tokens(&self) -> usize {
        self.parts.iter().map(|part| part.fed).sum()
    }
}

impl Part {
    /// Adds a title; `path` holds the nodes of the one before, then of this.
    fn add(&mut self, title: usize, tokens: &[u32], path: &mut Vec<usize>) {
        let common = path.iter().zip(tokens).take_while(|(node, token)| self.nodes[**node].token == **token).count();
        path.truncate(common);
        for token in &tokens[common..] {
            let parent = path.last().copied();
            if let Some(parent) = parent.filter(|parent| self.nodes[*parent].fed.is_none()) {
                self.nodes[parent].fed = Some(self.fed);
                self.fed += 1;
            }
            path.push(self.nodes.len());
            self.nodes.push(Node { token: *token, parent, depth: path.len() - 1, fed: None });
        }
        self.ends.push((title, path[path.len() - 1]));
    }

    /// Returns `[fed, fed]` in rows, true where the column's node is the row's or before it in a title.
    pub(crate) fn sight(&self) -> Vec<bool> {
        let mut sight = vec![false; self.fed * self.fed];
        for node in &self.nodes {
            let Some(row) = node.fed else { continue };
            if let Some(above) = node.parent.and_then(|parent| self.nodes[parent].fed) {
                sight.copy_within(above * self.fed..(above + 1) * self.fed, row * self.fed);
            }
            sight[row * self.fed + row] = true;
        }
        sight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_beginnings_stand_once() {
        let trie = Trie::new(&[vec![1, 2, 3], vec![1, 2, 4], vec![5], vec![1, 2], vec![5]]).unwrap();
        let part = &trie.parts[0];
        let tokens: Vec<u32> = part.nodes.iter().map(|node| node.token).collect();
        assert_eq!(tokens, [1, 2, 3, 4, 5]);
        assert_eq!((trie.fed_tokens(), trie.longest, trie.titles), (2, 3, 5));
        assert_eq!(part.ends, [(3, 1), (0, 2), (1, 3), (2, 4), (4, 4)]);
        assert_eq!(part.sight(), [true, false, true, true]);
    }

    #[test]
    fn a_large_tree_is_cut_between_titles() {
        let titles: Vec<Vec<u32>> = (0..500).map(|title| (0..8).map(|at| title * 8 + at).collect()).collect();
        let trie = Trie::new(&titles).unwrap();
        assert!(trie.parts.len() > 1 && trie.parts.iter().all(|part| part.fed <= FED));
        let mut ends: Vec<usize> = trie.parts.iter().flat_map(|part| &part.ends).map(|end| end.0).collect();
        ends.sort_unstable();
        assert!(ends.into_iter().eq(0..500));
        assert!(Trie::new(&[vec![1], vec![]]).is_err());
    }
}
