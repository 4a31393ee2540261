//! How numbers are stored: plain floats, or GGML's blocks of small integers with a scale.

/// A storage type. Every type is a sequence of blocks; a plain float is a block of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types, reason = "GGML's own names")]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a single.
    Bf16,
    /// 4 bits, scale.
    Q4_0,
    /// 4 bits, scale and minimum.
    Q4_1,
    /// 5 bits, scale.
    Q5_0,
    /// 5 bits, scale and minimum.
    Q5_1,
    /// 8 bits, scale.
    Q8_0,
    /// 2 bits in super-blocks of 256.
    Q2_K,
    /// 3 bits in super-blocks of 256.
    Q3_K,
    /// 4 bits in super-blocks of 256.
    Q4_K,
    /// 5 bits in super-blocks of 256.
    Q5_K,
    /// 6 bits in super-blocks of 256.
    Q6_K,
}

/// Type, GGML's number for it, its name, numbers a block, bytes a block (ggml.h `ggml_type`, ggml-common.h `block_*`).
const TABLE: [(Dtype, u32, &str, usize, usize); 13] = [
    (Dtype::F32, 0, "F32", 1, 4),
    (Dtype::F16, 1, "F16", 1, 2),
    (Dtype::Bf16, 30, "BF16", 1, 2),
    (Dtype::Q4_0, 2, "Q4_0", 32, 18),
    (Dtype::Q4_1, 3, "Q4_1", 32, 20),
    (Dtype::Q5_0, 6, "Q5_0", 32, 22),
    (Dtype::Q5_1, 7, "Q5_1", 32, 24),
    (Dtype::Q8_0, 8, "Q8_0", 32, 34),
    (Dtype::Q2_K, 10, "Q2_K", 256, 84),
    (Dtype::Q3_K, 11, "Q3_K", 256, 110),
    (Dtype::Q4_K, 12, "Q4_K", 256, 144),
    (Dtype::Q5_K, 13, "Q5_K", 256, 176),
    (Dtype::Q6_K, 14, "Q6_K", 256, 210),
];

impl Dtype {
    /// Returns the type of this GGML number, none when it is not supported.
    pub fn from_ggml(number: u32) -> Option<Dtype> {
        TABLE.iter().find(|row| row.1 == number).map(|row| row.0)
    }

    /// Returns the type of this name, as safetensors and GGML spell it.
    pub fn parse(name: &str) -> Option<Dtype> {
        TABLE.iter().find(|row| row.2 == name).map(|row| row.0)
    }

    /// Returns GGML's number of the type.
    pub fn ggml(self) -> u32 {
        self.row().1
    }

    /// Returns the name.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// Returns how many numbers a block holds.
    pub fn block_len(self) -> usize {
        self.row().3
    }

    /// Returns how many bytes a block takes.
    pub fn block_bytes(self) -> usize {
        self.row().4
    }

    /// Returns the bytes of a tensor of this shape: none when a row is not a whole number of blocks or the size overflows.
    pub fn size_bytes(self, shape: &[usize]) -> Option<usize> {
        let row = shape.last().copied().unwrap_or(1);
        let numbers = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size))?;
        row.is_multiple_of(self.block_len()).then(|| (numbers / self.block_len()).checked_mul(self.block_bytes()))?
    }

    fn row(self) -> &'static (Dtype, u32, &'static str, usize, usize) {
        TABLE.iter().find(|row| row.0 == self).expect("the table holds every type")
    }
}
