//! Where two outputs first differ: the file inside a folder, the byte inside a file.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use serde::{Deserialize, Serialize};
use watershed_cache::artifact::{Entry, Tree};

/// Bytes that are shown before the first one that differs, and from it on.
const BEFORE: u64 = 8;
const AFTER: u64 = 16;

/// The first difference between two outputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The output port.
    pub output: String,
    /// The file inside a folder output.
    pub file: Option<String>,
    /// Offset of the first byte that differs, counted from 0; `None` where it is not the bytes that differ.
    pub byte: Option<u64>,
    /// What the first execution left there, as text or as hexadecimal digits.
    pub first: String,
    /// What the second left there.
    pub second: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "output `{}`", self.output)?;
        if let Some(file) = &self.file {
            write!(f, ", file `{file}`")?;
        }
        if let Some(byte) = self.byte {
            write!(f, ", byte {byte}")?;
        }
        write!(f, ": first {}, then {}", self.first, self.second)
    }
}

/// Returns the first difference between two forms of an output; `None` when they are equal.
///
/// # Errors
/// In words, when one cannot be read.
pub fn find(output: &str, one: &Path, two: &Path) -> Result<Option<Difference>, String> {
    let (one_is_folder, two_is_folder) = (one.is_dir(), two.is_dir());
    if one_is_folder != two_is_folder {
        let word = |is_folder: bool| if is_folder { "a folder" } else { "a file" }.to_string();
        return Ok(Some(at(output, None, word(one_is_folder), word(two_is_folder))));
    }
    if one_is_folder {
        return in_folders(output, one, two);
    }
    let found = in_files(one, two).map_err(|e| format!("cannot compare `{}`: {e}", one.display()))?;
    Ok(found.map(|found| Difference { output: output.into(), ..found }))
}

fn in_folders(output: &str, one: &Path, two: &Path) -> Result<Option<Difference>, String> {
    let scan = |folder| Tree::scan(folder, None, &|_| true).map_err(|e| e.to_string());
    let (ones, twos) = (scan(one)?.entries, scan(two)?.entries);
    let Some(place) = (0..ones.len().max(twos.len())).find(|&i| ones.get(i) != twos.get(i)) else { return Ok(None) };
    let (a, b) = (ones.get(place), twos.get(place));
    let path = [a, b].into_iter().flatten().map(|e| e.path.as_str()).min().unwrap_or_default();
    let has = |entry: Option<&Entry>| entry.is_some_and(|e| e.path == path);
    let found = match (has(a), has(b)) {
        (true, true) => {
            in_files(&one.join(path), &two.join(path)).map_err(|e| format!("cannot compare `{path}`: {e}"))?
        }
        (is_in_one, _) => {
            let word = |is_there: bool| if is_there { "there" } else { "not there" }.to_string();
            Some(at(output, None, word(is_in_one), word(!is_in_one)))
        }
    };
    // Equal bytes in listings that differ: only the right to execute is left.
    let word = |entry: Option<&Entry>| {
        if entry.is_some_and(|e| e.executable) { "executable" } else { "not executable" }.to_string()
    };
    let found = found.unwrap_or_else(|| at(output, None, word(a), word(b)));
    Ok(Some(Difference { output: output.into(), file: Some(path.into()), ..found }))
}

fn at(output: &str, byte: Option<u64>, first: String, second: String) -> Difference {
    Difference { output: output.into(), file: None, byte, first, second }
}

fn in_files(one: &Path, two: &Path) -> io::Result<Option<Difference>> {
    let Some(byte) = first_byte(File::open(one)?, File::open(two)?)? else { return Ok(None) };
    Ok(Some(at("", Some(byte), around(one, byte)?, around(two, byte)?)))
}

fn first_byte(one: File, two: File) -> io::Result<Option<u64>> {
    let (mut ones, mut twos) = (BufReader::with_capacity(1 << 20, one), BufReader::with_capacity(1 << 20, two));
    let mut passed = 0;
    loop {
        let (a, b) = (ones.fill_buf()?, twos.fill_buf()?);
        let both = a.len().min(b.len());
        if let Some(place) = (0..both).find(|&i| a[i] != b[i]) {
            return Ok(Some(passed + place as u64));
        }
        if both == 0 {
            return Ok((a.len() != b.len()).then_some(passed));
        }
        ones.consume(both);
        twos.consume(both);
        passed += both as u64;
    }
}

/// Returns the bytes around a place, from `BEFORE` it, and says where the file ends among them.
fn around(path: &Path, byte: u64) -> io::Result<String> {
    let from = byte.saturating_sub(BEFORE);
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(byte - from + AFTER).read_to_end(&mut bytes)?;
    let ends = if (bytes.len() as u64) < byte - from + AFTER { " and the end" } else { "" };
    Ok(format!("{}{ends}", shown(&bytes)))
}

/// Text where it is plain, else hexadecimal digits.
fn shown(bytes: &[u8]) -> String {
    let is_plain = |text: &&str| text.chars().all(|c| !c.is_control() || c == '\n' || c == '\t');
    match std::str::from_utf8(bytes).ok().filter(is_plain) {
        Some(text) => format!("{text:?}"),
        None => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        folder
    }

    fn between(one: &[(&str, &[u8])], two: &[(&str, &[u8])]) -> Option<String> {
        find("out", folder(one).path(), folder(two).path()).unwrap().map(|difference| difference.to_string())
    }

    #[test]
    fn the_first_file_and_byte_are_named() {
        let long: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
        let mut other = long.to_vec();
        other[12] = b'!';
        let told = between(&[("a", b"1"), ("b/c", long), ("d", b"1")], &[("a", b"1"), ("b/c", &other), ("d", b"2")]);
        let expected =
            "output `out`, file `b/c`, byte 12: first \"456789abcdefghijklmnopqr\", then \"456789ab!defghijklmnopqr\"";
        assert_eq!(told.unwrap(), expected);
        assert_eq!(between(&[("a", b"1")], &[("a", b"1")]), None);
    }

    #[test]
    fn a_file_that_ends_early_or_is_missing_differs() {
        let told = between(&[("a", b"12\x00")], &[("a", b"12")]).unwrap();
        assert_eq!(told, "output `out`, file `a`, byte 2: first 31 32 00 and the end, then \"12\" and the end");
        let told = between(&[("a", b"1"), ("b", b"1")], &[("b", b"1")]).unwrap();
        assert_eq!(told, "output `out`, file `a`: first there, then not there");
        let told = between(&[("a", b"1")], &[("a", b"1"), ("b", b"1")]).unwrap();
        assert_eq!(told, "output `out`, file `b`: first not there, then there");
    }

    #[test]
    fn the_right_to_execute_and_the_form_count() {
        let (one, two) = (folder(&[("a", b"1")]), folder(&[("a", b"1")]));
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(two.path().join("a"), mode).unwrap();
        let told = find("out", one.path(), two.path()).unwrap().unwrap().to_string();
        assert_eq!(told, "output `out`, file `a`: first not executable, then executable");
        let told = find("out", &one.path().join("a"), two.path()).unwrap().unwrap().to_string();
        assert_eq!(told, "output `out`: first a file, then a folder");
    }
}
