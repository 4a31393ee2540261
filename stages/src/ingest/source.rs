//! A file of rows as lines of bytes, plain or gzip, whatever its name says.
//!
//! Compression is told by the first bytes. A gzip file may consist of several members, as `cat a.gz b.gz` makes them. One
//! that breaks off gives every whole line before the break, then [`Line::Broken`] with the offset in the compressed file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use watershed_engine::{JobInput, StageError};

/// Longer lines are quarantined: no review is this long, and a file without line ends must not fill the memory.
const MAX_LINE_BYTES: u64 = 16 << 20;

/// One line of a [`Source`].
#[derive(Debug, PartialEq)]
pub enum Line<'a> {
    /// The bytes without their line end.
    Whole(&'a [u8]),
    /// The start of a line longer than [`MAX_LINE_BYTES`]; the rest was passed over.
    TooLong(&'a [u8]),
    /// The file broke off; nothing follows.
    Broken(Break),
}

/// Where and how a compressed file breaks off.
#[derive(Debug, Clone, PartialEq)]
pub struct Break {
    /// Offset in the compressed file, in bytes.
    pub offset: u64,
    /// What the decompressor says.
    pub reason: String,
    /// The part of a line before the break.
    pub text: String,
}

/// A file opened for reading line by line.
pub struct Source {
    /// Name in reports: the input's label.
    pub label: String,
    /// Where it lies, for messages.
    pub path: PathBuf,
    /// Number of the line read last, from 1.
    pub line: u64,
    reader: Box<dyn Bytes>,
    buffer: Vec<u8>,
}

impl Source {
    /// Opens an input.
    ///
    /// # Errors
    /// When it is missing, a folder, empty, or compressed in a way that is not read.
    pub fn open(input: &JobInput) -> Result<Source, StageError> {
        let path = input.path.clone();
        let io = |e| StageError::io("read", &path, &e);
        if path.is_dir() {
            return Err(StageError::failed(format!(
                "cannot read `{}`: it is a folder; name the file in it",
                path.display()
            )));
        }
        let mut reader = BufReader::with_capacity(1 << 16, File::open(&path).map_err(io)?);
        let is_gzip = match compression(reader.fill_buf().map_err(io)?) {
            Compression::None => false,
            Compression::Gzip => true,
            Compression::Other(name, mend) => return Err(refuse_compression(&path, name, mend)),
            Compression::Empty => {
                return Err(StageError::failed(format!(
                    "`{}` is empty; expected one review or product a line",
                    path.display()
                )));
            }
        };
        let counted = Counted { inner: reader, consumed: 0 };
        let reader: Box<dyn Bytes> = if is_gzip {
            Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(counted)))
        } else {
            Box::new(counted)
        };
        Ok(Source { label: input.label.clone(), path, line: 0, reader, buffer: Vec::new() })
    }

    /// Returns the next line, or `None` at the end.
    ///
    /// # Errors
    /// When the disk fails; a broken archive is a [`Line::Broken`].
    pub fn next_line(&mut self) -> Result<Option<Line<'_>>, StageError> {
        self.buffer.clear();
        self.line += 1;
        let read = (&mut self.reader).take(MAX_LINE_BYTES).read_until(b'\n', &mut self.buffer);
        let is_long = self.buffer.len() as u64 == MAX_LINE_BYTES && self.buffer.last() != Some(&b'\n');
        let read = match read {
            Ok(_) if is_long => self.reader.skip_until(b'\n').map(|_| MAX_LINE_BYTES as usize),
            other => other,
        };
        match read {
            Ok(0) => Ok(None),
            Ok(_) if is_long => Ok(Some(Line::TooLong(&self.buffer[..200]))),
            Ok(_) => Ok(Some(Line::Whole(without_end(&self.buffer)))),
            Err(error) => self.broken(&error).map(|found| Some(Line::Broken(found))),
        }
    }

    /// Returns how the archive breaks off, or the disk's error.
    ///
    /// # Errors
    /// When `error` is the disk's and not the archive's.
    pub fn broken(&self, error: &io::Error) -> Result<Break, StageError> {
        use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        match error.kind() {
            UnexpectedEof => Ok(self.break_at("the file ends in the middle of its gzip data")),
            InvalidData | InvalidInput => Ok(self.break_at(&format!("the gzip data are damaged: {error}"))),
            _ => Err(StageError::io("read", &self.path, error)),
        }
    }

    fn break_at(&self, reason: &str) -> Break {
        let text = String::from_utf8_lossy(without_end(&self.buffer)).into_owned();
        Break { offset: self.reader.offset(), reason: reason.into(), text }
    }
}

impl Read for Source {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.reader.read(into)
    }
}

/// A reader that knows how far it is in the file on disk.
trait Bytes: BufRead {
    fn offset(&self) -> u64;
}

struct Counted<R> {
    inner: R,
    consumed: u64,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.consumed += read as u64;
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.consumed += amount as u64;
        self.inner.consume(amount);
    }
}

impl<R: BufRead> Bytes for Counted<R> {
    fn offset(&self) -> u64 {
        self.consumed
    }
}

impl<R: BufRead> Bytes for BufReader<MultiGzDecoder<Counted<R>>> {
    fn offset(&self) -> u64 {
        self.get_ref().get_ref().consumed
    }
}

enum Compression {
    Empty,
    None,
    Gzip,
    Other(&'static str, &'static str),
}

fn compression(start: &[u8]) -> Compression {
    match start {
        [] => Compression::Empty,
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Other("zstd", "unpack it with `zstd -d`"),
        [b'B', b'Z', b'h', ..] => Compression::Other("bzip2", "unpack it with `bunzip2`"),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Compression::Other("xz", "unpack it with `unxz`"),
        [b'P', b'K', 3, 4, ..] => Compression::Other("zip", "unpack it with `unzip` and name the file in it"),
        _ => Compression::None,
    }
}

fn refuse_compression(path: &Path, name: &str, mend: &str) -> StageError {
    StageError::failed(format!(
        "`{}` is compressed with {name}, which is not read here; {mend}, or use gzip",
        path.display()
    ))
}

fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression as Level;
    use flate2::write::GzEncoder;
    use watershed_engine::RecordType;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut out = GzEncoder::new(Vec::new(), Level::default());
        out.write_all(text).unwrap();
        out.finish().unwrap()
    }

    fn lines(bytes: &[u8]) -> Result<(Vec<String>, Option<Break>), StageError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, bytes).unwrap();
        let input =
            JobInput { label: "file".into(), path, digest: String::new(), record: RecordType::Bytes, gathered: false };
        let mut source = Source::open(&input)?;
        let (mut whole, mut end) = (Vec::new(), None);
        while let Some(line) = source.next_line()? {
            match line {
                Line::Whole(bytes) => whole.push(String::from_utf8_lossy(bytes).into_owned()),
                Line::TooLong(_) => whole.push("(too long)".into()),
                Line::Broken(found) => {
                    end = Some(found);
                    break;
                }
            }
        }
        Ok((whole, end))
    }

    #[test]
    fn members_of_a_concatenated_gzip_read_as_one_file() {
        let joined = [gzip(b"a\nb\n"), gzip(b"c\r\n")].concat();
        assert_eq!(lines(&joined).unwrap(), (vec!["a".into(), "b".into(), "c".into()], None));
    }

    #[test]
    fn truncated_gzip_gives_whole_lines_then_the_offset_of_the_break() {
        let text: String = (0..20_000u64).map(|i| format!("{}\n", i.wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect();
        let packed = gzip(text.as_bytes());
        let (whole, end) = lines(&packed[..packed.len() / 2]).unwrap();
        let end = end.unwrap();
        assert!(whole.len() > 1000 && whole.len() < 19_000);
        assert!(text.starts_with(&whole.join("\n")));
        assert_eq!(end.offset, packed.len() as u64 / 2);
        assert!(end.reason.contains("ends in the middle"));
    }

    #[test]
    fn bytes_after_the_last_member_are_a_break() {
        let (whole, end) = lines(&[gzip(b"a\n"), b"junk that is no gzip".to_vec()].concat()).unwrap();
        assert_eq!(whole, ["a"]);
        assert!(end.unwrap().reason.contains("damaged"));
    }

    #[test]
    fn a_line_beyond_the_limit_is_passed_over() {
        let long = [vec![b'x'; MAX_LINE_BYTES as usize + 5], b"\nb\n".to_vec()].concat();
        assert_eq!(lines(&long).unwrap().0, ["(too long)", "b"]);
    }

    #[test]
    fn empty_and_foreign_files_are_refused_by_name() {
        assert!(lines(b"").unwrap_err().to_string().contains("is empty"));
        assert!(lines(&[0x28, 0xb5, 0x2f, 0xfd, 0]).unwrap_err().to_string().contains("zstd"));
    }
}
