//! A metadata value.

use super::cursor::Cursor;

/// A value of GGUF metadata; all integer widths are one.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// u8, u16, u32, u64
    Unsigned(u64),
    /// i8, i16, i32, i64
    Signed(i64),
    /// f32, f64
    Float(f64),
    /// bool
    Bool(bool),
    /// string
    Text(String),
    /// array
    List(Vec<Value>),
}

/// Elements of all lists of a header together: 256 MiB of memory. A tokenizer's four lists have below 2^20 each.
pub(super) const MOST_ELEMENTS: u64 = 1 << 23;

/// Arrays within arrays beyond this are not written by any program.
const MAX_DEPTH: usize = 4;

impl Value {
    /// Reads a type number and the value after it.
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Value, String> {
        let kind = cursor.u32()?;
        read_as(cursor, kind, 0)
    }

    /// Returns the number, none when this is not a whole number of at least 0.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Value::Unsigned(number) => Some(*number),
            Value::Signed(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// Returns the number, none when this is no number.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Unsigned(number) => Some(*number as f64),
            Value::Signed(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// Returns the truth value, none when this is none.
    pub fn as_bool(&self) -> Option<bool> {
        if let Value::Bool(truth) = self { Some(*truth) } else { None }
    }

    /// Returns the text, none when this is none.
    pub fn as_text(&self) -> Option<&str> {
        if let Value::Text(text) = self { Some(text) } else { None }
    }

    /// Returns the elements, none when this is no list.
    pub fn as_list(&self) -> Option<&[Value]> {
        if let Value::List(values) = self { Some(values) } else { None }
    }
}

fn read_as(cursor: &mut Cursor<'_>, kind: u32, depth: usize) -> Result<Value, String> {
    Ok(match kind {
        0 => Value::Unsigned(u64::from(cursor.array::<1>()?[0])),
        1 => Value::Signed(i64::from(cursor.array::<1>()?[0].cast_signed())),
        2 => Value::Unsigned(u64::from(u16::from_le_bytes(cursor.array()?))),
        3 => Value::Signed(i64::from(i16::from_le_bytes(cursor.array()?))),
        4 => Value::Unsigned(u64::from(cursor.u32()?)),
        5 => Value::Signed(i64::from(i32::from_le_bytes(cursor.array()?))),
        6 => Value::Float(f64::from(f32::from_le_bytes(cursor.array()?))),
        7 => Value::Bool(cursor.array::<1>()?[0] != 0),
        8 => Value::Text(cursor.text()?),
        9 => read_list(cursor, depth)?,
        10 => Value::Unsigned(cursor.u64()?),
        11 => Value::Signed(i64::from_le_bytes(cursor.array()?)),
        12 => Value::Float(f64::from_le_bytes(cursor.array()?)),
        other => return Err(format!("{other} is no GGUF value type")),
    })
}

fn read_list(cursor: &mut Cursor<'_>, depth: usize) -> Result<Value, String> {
    if depth == MAX_DEPTH {
        return Err(format!("lists are nested deeper than {MAX_DEPTH}"));
    }
    let (kind, len) = (cursor.u32()?, cursor.u64()?);
    if len > cursor.left() as u64 {
        return Err(format!("a list of {len} values is longer than the file"));
    }
    cursor.claim(len)?;
    let values = (0..len).map(|_| read_as(cursor, kind, depth + 1)).collect::<Result<_, _>>()?;
    Ok(Value::List(values))
}
