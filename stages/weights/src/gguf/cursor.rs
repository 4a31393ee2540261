//! Reads little-endian numbers off a byte slice, never past its end and never more list elements than a header may hold.

use super::value::MOST_ELEMENTS;

/// A position in a header.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
    /// Elements that lists may still have.
    elements: u64,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, position: 0, elements: MOST_ELEMENTS }
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Returns how many bytes are left: no list can hold more elements than this.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// Counts a list's elements before they are read.
    pub(super) fn claim(&mut self, elements: u64) -> Result<(), String> {
        let left = self.elements.checked_sub(elements);
        self.elements = left.ok_or_else(|| {
            format!(
                "its lists hold more than {MOST_ELEMENTS} values in all, which no tokenizer does: fetch the file again"
            )
        })?;
        Ok(())
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        if len > self.left() {
            return Err(format!("the header is cut off at byte {}: is the download whole?", self.bytes.len()));
        }
        let taken = &self.bytes[self.position..self.position + len];
        self.position += len;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(self.take(N)?.try_into().expect("take returns as many bytes as asked"))
    }

    pub(super) fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    /// Reads a length-prefixed text; names and keys must be UTF-8.
    pub(super) fn text(&mut self) -> Result<String, String> {
        let at = self.position;
        let len = usize::try_from(self.u64()?).unwrap_or(usize::MAX);
        let bytes = self.take(len).map_err(|_| format!("a text of {len} bytes at byte {at} ends beyond the file"))?;
        String::from_utf8(bytes.to_vec()).map_err(|_| format!("the text at byte {at} is not UTF-8"))
    }
}
