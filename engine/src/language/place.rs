//! Where a pipeline lives: its folder, its project, and which files its inputs may be.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::code;
use crate::diagnostic::Diagnostic;
use crate::language::nearest::did_you_mean;
use crate::node::{Base, Span, shorten};

/// Folders of a pipeline, and what was found out about its files.
pub struct Place {
    /// Folder of the pipeline file, absolute.
    pub folder: PathBuf,
    /// The current folder.
    pub current: PathBuf,
    /// Folder that paths may not leave.
    pub root: PathBuf,
    /// Folders of `roots:`.
    pub roots: BTreeMap<String, PathBuf>,
    /// Names in `roots:` whose folder is not known; that was reported there.
    pub broken_roots: BTreeSet<String>,
    real_roots: RefCell<Option<Vec<PathBuf>>>,
    verdicts: RefCell<HashMap<PathBuf, Verdict>>,
}

#[derive(Clone)]
enum Verdict {
    Fine,
    Missing(String),
    Outside(Option<PathBuf>),
    Odd,
    Unreadable(String),
}

/// Returns the project around a folder: the nearest ancestor with `watershed.root` or `.git`, else the folder itself.
pub fn project_root(folder: &Path) -> PathBuf {
    let is_root = |dir: &&Path| dir.join("watershed.root").exists() || dir.join(".git").exists();
    folder.ancestors().find(is_root).unwrap_or(folder).to_path_buf()
}

/// Returns the project around a pipeline file.
///
/// # Errors
/// When the current folder is gone.
pub fn root_of(file: &Path) -> io::Result<PathBuf> {
    Ok(project_root(&folder_of(file, &std::env::current_dir()?)))
}

fn folder_of(file: &Path, current: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if file != Path::new("-") => normal(&current.join(parent)),
        _ => current.to_path_buf(),
    }
}

impl Place {
    /// Finds the folders of a pipeline; `-` stands in the current folder.
    ///
    /// # Errors
    /// When the current folder is gone.
    pub fn of(file: &Path) -> io::Result<Place> {
        let current = std::env::current_dir()?;
        let folder = folder_of(file, &current);
        let root = project_root(&folder);
        Ok(Place {
            folder,
            current,
            root,
            roots: BTreeMap::new(),
            broken_roots: BTreeSet::new(),
            real_roots: RefCell::default(),
            verdicts: RefCell::default(),
        })
    }

    /// Returns the absolute path of a text, links not followed.
    pub fn absolute(&self, text: &str, base: Base) -> PathBuf {
        let base = if base == Base::File { &self.folder } else { &self.current };
        normal(&base.join(text))
    }

    /// Says what is wrong with an input file, if anything is. Each file is looked at once.
    pub fn check(&self, path: &Path, text: &str, span: Span) -> Option<Diagnostic> {
        let known = self.verdicts.borrow().get(path).cloned();
        let verdict = known.unwrap_or_else(|| {
            let found = self.look(path);
            self.verdicts.borrow_mut().insert(path.to_path_buf(), found.clone());
            found
        });
        let text = &shorten(text);
        let relative = "paths are relative to the file they stand in, and in `--set` to the current folder";
        Some(match verdict {
            Verdict::Fine => return None,
            Verdict::Missing(near) => {
                let message = format!("there is no file or folder `{text}`");
                let help = format!("looked for `{}`; {relative}", path.display());
                Diagnostic::at(code::MISSING_FILE, span, message).label(near).help(help)
            }
            Verdict::Outside(link) => {
                let message = format!("`{text}` lies outside the project");
                let end = link.map(|to| format!("it leads to `{}`; ", to.display())).unwrap_or_default();
                let help = format!(
                    "{end}the project is `{}`; name other folders in `roots:` and write `NAME:path`",
                    self.root.display()
                );
                Diagnostic::at(code::OUTSIDE_ROOT, span, message).help(help)
            }
            Verdict::Odd => {
                let message = format!("`{text}` is neither a file nor a folder");
                Diagnostic::at(code::NOT_A_FILE, span, message).help("copy its contents into a file")
            }
            Verdict::Unreadable(error) => {
                Diagnostic::at(code::MISSING_FILE, span, format!("cannot look at `{text}`: {error}")).help(relative)
            }
        })
    }

    /// Says what is wrong with a path in a folder of its own that no link may leave, if anything is.
    pub fn check_within(&self, folder: &Path, path: &Path, text: &str, span: Span) -> Option<Diagnostic> {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let verdict =
            if real(path).starts_with(real(folder)) { kind_of(path) } else { Verdict::Outside(Some(real(path))) };
        self.verdicts.borrow_mut().insert(path.to_path_buf(), verdict);
        self.check(path, text, span)
    }

    fn look(&self, path: &Path) -> Verdict {
        if !self.allowed().any(|root| path.starts_with(root)) {
            return Verdict::Outside(None);
        }
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Verdict::Missing(near_file(path)),
            Err(e) => return Verdict::Unreadable(e.to_string()),
        };
        let mut real_roots = self.real_roots.borrow_mut();
        let real_roots = real_roots.get_or_insert_with(|| {
            self.allowed().map(|r| r.canonicalize().unwrap_or_else(|_| r.to_path_buf())).collect()
        });
        if !real_roots.iter().any(|root| real.starts_with(root)) {
            return Verdict::Outside(Some(real));
        }
        kind_of(&real)
    }

    fn allowed(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.root.as_path()).chain(self.roots.values().map(PathBuf::as_path))
    }
}

fn kind_of(path: &Path) -> Verdict {
    match path.metadata() {
        Ok(found) if found.is_file() || found.is_dir() => Verdict::Fine,
        Ok(_) => Verdict::Odd,
        Err(e) => Verdict::Unreadable(e.to_string()),
    }
}

fn near_file(path: &Path) -> String {
    let Some((parent, name)) = path.parent().zip(path.file_name().and_then(|n| n.to_str())) else {
        return String::new();
    };
    let Ok(entries) = parent.read_dir() else { return String::new() };
    let mut names: Vec<String> =
        entries.take(1000).flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    did_you_mean(name, names.iter().map(String::as_str))
}

/// Takes `.` and `..` out of an absolute path by its text alone.
fn normal(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(clean.pop()),
            other => clean.push(other),
        }
    }
    clean
}
