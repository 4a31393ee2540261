//! Headers made by hand: sound ones are read, hostile ones are refused and never panic.

use super::*;

/// Writes headers the way GGUF does.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn start(tensors: u64, pairs: u64) -> Writer {
        let mut writer = Writer::default();
        writer.0.extend(MAGIC);
        writer.u32(3).u64(tensors).u64(pairs);
        writer
    }

    fn u32(&mut self, number: u32) -> &mut Writer {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn u64(&mut self, number: u64) -> &mut Writer {
        self.0.extend(number.to_le_bytes());
        self
    }

    fn text(&mut self, text: &str) -> &mut Writer {
        self.u64(text.len() as u64);
        self.0.extend(text.as_bytes());
        self
    }

    fn tensor(&mut self, name: &str, dims: &[u64], dtype: u32, offset: u64) -> &mut Writer {
        self.text(name).u32(dims.len() as u32);
        dims.iter().for_each(|dim| {
            self.u64(*dim);
        });
        self.u32(dtype).u64(offset)
    }

    fn data(&mut self, len: usize) -> Vec<u8> {
        let start = self.0.len().next_multiple_of(32);
        self.0.resize(start + len, 0);
        std::mem::take(&mut self.0)
    }
}

fn refusal(bytes: &[u8]) -> String {
    read_header(bytes).err().expect("the header should be refused")
}

#[test]
fn sound_header_is_read() {
    let mut writer = Writer::start(1, 2);
    writer.text("general.architecture").u32(8).text("llama");
    writer.text("list").u32(9).u32(4).u64(2).u32(7).u32(9);
    let bytes = writer.tensor("x", &[4, 2], 0, 0).data(32);
    let header = read_header(&bytes).unwrap();
    assert_eq!(header.metadata["general.architecture"].as_text(), Some("llama"));
    assert_eq!(header.metadata["list"], Value::List(vec![Value::Unsigned(7), Value::Unsigned(9)]));
    assert_eq!(header.tensors["x"].shape, [2, 4]);
}

#[test]
fn every_cut_of_a_sound_file_is_refused() {
    let mut writer = Writer::start(2, 1);
    writer.text("a.b").u32(9).u32(8).u64(2).text("one").text("two");
    let bytes = writer.tensor("x", &[4], 0, 0).tensor("y", &[32], 8, 32).data(66);
    assert!(read_header(&bytes).is_ok());
    for len in 0..bytes.len() {
        assert!(read_header(&bytes[..len]).is_err(), "cut at {len}");
    }
}

#[test]
fn sizes_beyond_the_file_are_refused() {
    assert!(refusal(&Writer::start(1, 0).tensor("x", &[1 << 63, 4], 0, 0).data(64)).contains("impossible"));
    assert!(refusal(&Writer::start(1, 0).tensor("x", &[4], 0, u64::MAX - 8).data(64)).contains("too large"));
    assert!(refusal(&Writer::start(1, 0).tensor("x", &[1 << 40], 0, 0).data(64)).contains("beyond the file"));
    assert!(refusal(&Writer::start(1, 0).tensor("x", &[33], 8, 0).data(64)).contains("impossible"));
    assert!(refusal(&Writer::start(u64::MAX, 0).0).contains("cut off"));
    assert!(
        refusal(&Writer::start(0, 1).text("k").u32(9).u32(4).u64(1 << 62).data(8)).contains("longer than the file")
    );
    assert!(refusal(&Writer::start(0, 1).u64(1 << 63).data(8)).contains("beyond the file"));
}

#[test]
fn overlaps_and_doubles_are_refused() {
    let bytes = Writer::start(2, 0).tensor("x", &[8], 0, 0).tensor("y", &[8], 0, 16).data(64);
    assert_eq!(refusal(&bytes), "tensors `x` and `y` overlap");
    let bytes = Writer::start(2, 0).tensor("x", &[4], 0, 0).tensor("x", &[4], 0, 32).data(64);
    assert_eq!(refusal(&bytes), "tensor `x` stands twice");
}

#[test]
fn odd_versions_types_and_alignments_are_refused() {
    assert!(refusal(b"GGUF\x01\0\0\0").contains("version 1"));
    assert!(refusal(b"GGUF\0\0\0\x03").contains("not supported"));
    assert!(refusal(b"PK\x03\x04").contains("`GGUF`"));
    assert!(refusal(&Writer::start(1, 0).tensor("x", &[4], 23, 0).data(64)).contains("GGML type 23"));
    let mut writer = Writer::start(0, 1);
    assert!(refusal(&writer.text("general.alignment").u32(4).u32(0).data(64)).contains("power of two"));
}

#[test]
fn lists_of_a_header_are_bounded_together() {
    let most = value::MOST_ELEMENTS;
    assert!(Cursor::new(&[]).claim(most).is_ok());
    let mut writer = Writer::start(0, 2);
    writer.text("a").u32(9).u32(4).u64(1).u32(7).text("b").u32(9).u32(0).u64(most);
    assert!(
        refusal(&writer.data(most as usize)).contains("metadata `b`: its lists hold more than 8388608 values in all")
    );
    // the outer list has an element too
    let mut writer = Writer::start(0, 1);
    writer.text("k").u32(9).u32(9).u64(1).u32(0).u64(most);
    assert!(refusal(&writer.data(most as usize)).contains("in all"));
}

#[test]
fn lists_cannot_nest_without_end() {
    let mut writer = Writer::start(0, 1);
    writer.text("k").u32(9);
    for _ in 0..1000 {
        writer.u32(9).u64(1);
    }
    assert!(refusal(&writer.data(64)).contains("nested"));
}
