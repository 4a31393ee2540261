//! `hf:OWNER/NAME@COMMIT[/FILE]`: a snapshot in the Hugging Face cache, or one file of it. Nothing is ever downloaded here.
//!
//! The folders are those of huggingface_hub (`constants.py` and `file_download.py` of 0.36): `models--OWNER--NAME/` or
//! `datasets--OWNER--NAME/` with `snapshots/COMMIT/`, whose files link to `blobs/`, and `refs/BRANCH`, which names a commit.

use std::path::{Path, PathBuf};

/// A snapshot as an input names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot<'t> {
    /// A dataset, not a model: `hf:datasets/OWNER/NAME@COMMIT`.
    is_dataset: bool,
    repository: &'t str,
    commit: &'t str,
    file: Option<&'t str>,
}

/// What is wrong with an input, and how to mend it.
pub type Fault = (String, String);

/// Digits of a commit.
const COMMIT_LEN: usize = 40;

impl<'t> Snapshot<'t> {
    /// Takes apart what follows `hf:`; `hub` serves the advice only.
    ///
    /// # Errors
    /// When it names no repository, no commit, or a file outside.
    pub fn parse(text: &'t str, hub: &Path) -> Result<Snapshot<'t>, Fault> {
        let form =
            || "write `hf:OWNER/NAME@COMMIT` or `hf:datasets/OWNER/NAME@COMMIT`, perhaps with `/FILE`".to_string();
        let (is_dataset, rest) = text.strip_prefix("datasets/").map_or((false, text), |rest| (true, rest));
        let (repository, revision) = rest.split_once('@').unwrap_or((rest, ""));
        if !is_repository(repository) {
            return Err((format!("`hf:{text}` names no repository"), form()));
        }
        let (commit, file) = revision.split_once('/').map_or((revision, None), |(commit, file)| (commit, Some(file)));
        if file.is_some_and(|file| file.split('/').any(|part| matches!(part, "" | "." | ".."))) {
            return Err((format!("`hf:{text}` names no file inside the snapshot"), form()));
        }
        let found = Snapshot { is_dataset, repository, commit, file };
        if commit.len() == COMMIT_LEN && commit.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(found);
        }
        let message = format!("`hf:{text}` is not pinned: expected a commit of {COMMIT_LEN} digits after `@`");
        let known = found.commit_of(hub, if commit.is_empty() { "main" } else { commit });
        Err((message, known.map_or_else(form, |commit| format!("in the cache it is `{}`", found.at(&commit)))))
    }

    /// Returns the place of the snapshot or file in the cache.
    pub fn path(&self, hub: &Path) -> PathBuf {
        let snapshot = self.folder(hub).join("snapshots").join(self.commit);
        self.file.map_or(snapshot.clone(), |file| snapshot.join(file))
    }

    /// Returns the folder of the repository in the cache, which the links of a snapshot do not leave.
    pub fn folder(&self, hub: &Path) -> PathBuf {
        let kind = if self.is_dataset { "datasets" } else { "models" };
        hub.join(format!("{kind}--{}", self.repository.replace('/', "--")))
    }

    /// Returns a label for the input where its file gives none.
    pub fn name(&self) -> &'t str {
        self.file.unwrap_or(self.repository).rsplit('/').next().unwrap_or_default()
    }

    /// Returns the command that brings it into the cache.
    pub fn command(&self) -> String {
        let file = self.file.map(|file| format!(" {file}")).unwrap_or_default();
        let kind = if self.is_dataset { " --repo-type dataset" } else { "" };
        format!("hf download {}{file}{kind} --revision {}", self.repository, self.commit)
    }

    /// Returns the commit that a branch, or the first digits of a commit, stands for in the cache.
    fn commit_of(&self, hub: &Path, revision: &str) -> Option<String> {
        let folder = self.folder(hub);
        let is_plain = revision.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        let of_branch = || std::fs::read_to_string(folder.join("refs").join(revision)).ok();
        let of_digits = || {
            let names = folder.join("snapshots").read_dir().ok()?.flatten();
            names.filter_map(|item| item.file_name().into_string().ok()).filter(|name| name.starts_with(revision)).min()
        };
        let found = is_plain.then(|| of_branch().or_else(of_digits)).flatten()?;
        Some(found.trim().to_string()).filter(|commit| commit.len() == COMMIT_LEN)
    }

    fn at(&self, commit: &str) -> String {
        let kind = if self.is_dataset { "datasets/" } else { "" };
        let file = self.file.map(|file| format!("/{file}")).unwrap_or_default();
        format!("hf:{kind}{}@{commit}{file}", self.repository)
    }
}

fn is_repository(name: &str) -> bool {
    let is_part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    };
    name.split('/').count() <= 2 && name.split('/').all(is_part)
}

/// Returns the folder that huggingface_hub keeps its cache in.
pub fn folder(lookup: fn(&str) -> Option<String>) -> PathBuf {
    let set = |name: &str| lookup(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || set("HOME").unwrap_or_default();
    set("HF_HUB_CACHE").unwrap_or_else(|| {
        let above = set("HF_HOME")
            .unwrap_or_else(|| set("XDG_CACHE_HOME").unwrap_or_else(|| home().join(".cache")).join("huggingface"));
        above.join("hub")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn models_datasets_and_files_have_their_places() {
        let path = |text: String| {
            let parsed = Snapshot::parse(&text, Path::new("/hub")).map_err(|(message, _)| message).unwrap();
            (parsed.path(Path::new("/hub")).display().to_string(), parsed.command())
        };
        let (place, command) = path(format!("o/n@{COMMIT}"));
        assert_eq!(place, format!("/hub/models--o--n/snapshots/{COMMIT}"));
        assert_eq!(command, format!("hf download o/n --revision {COMMIT}"));
        let (place, command) = path(format!("datasets/o/n@{COMMIT}/a/b.json"));
        assert_eq!(place, format!("/hub/datasets--o--n/snapshots/{COMMIT}/a/b.json"));
        assert_eq!(command, format!("hf download o/n a/b.json --repo-type dataset --revision {COMMIT}"));
        assert_eq!(path(format!("gpt2@{COMMIT}")).0, format!("/hub/models--gpt2/snapshots/{COMMIT}"));
    }

    #[test]
    fn what_moves_or_leaves_is_refused() {
        for text in ["", "o/n", "o/n@main", "o/n@0123abc", "../x@y", "o/n/m@x", "o/n@", &format!("o/n@{COMMIT}/../x")] {
            assert!(Snapshot::parse(text, Path::new("/hub")).is_err(), "{text}");
        }
    }

    #[test]
    fn a_branch_is_told_as_the_commit_that_the_cache_holds() {
        let hub = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(hub.path().join("models--o--n/refs")).unwrap();
        std::fs::write(hub.path().join("models--o--n/refs/main"), COMMIT).unwrap();
        for text in ["o/n", "o/n@main"] {
            let (_, help) = Snapshot::parse(text, hub.path()).unwrap_err();
            assert_eq!(help, format!("in the cache it is `hf:o/n@{COMMIT}`"));
        }
    }

    #[test]
    fn the_cache_is_where_the_library_keeps_it() {
        let only = |name: &str| (name == "HOME").then(|| "/home/me".to_string());
        assert_eq!(folder(only), Path::new("/home/me/.cache/huggingface/hub"));
        assert_eq!(folder(|name| (name == "HF_HOME").then(|| "/hf".to_string())), Path::new("/hf/hub"));
        assert_eq!(folder(|name| (name == "HF_HUB_CACHE").then(|| "/c".to_string())), Path::new("/c"));
    }
}
