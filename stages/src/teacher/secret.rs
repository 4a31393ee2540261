//! The provider's key: read late, shown never.

use std::fmt;

use watershed_engine::StageError;

use super::run_keys::KeySource;

/// A key. Its `Debug` hides it; there is no `Display` and no `Serialize`.
#[derive(Clone)]
pub struct Secret {
    key: String,
    /// The key as it may come back in a reply: plain, base64, percent-encoded.
    disguises: Vec<String>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// Reads the key from the environment.
    ///
    /// # Errors
    /// Names the variable that is missing or empty.
    pub fn read(source: &KeySource) -> Result<Secret, StageError> {
        let value = std::env::var(&source.env).unwrap_or_default();
        match value.trim() {
            "" => Err(StageError::failed(format!(
                "`run.api_key` names the environment variable `{}`, which is empty or not set: export it and run again",
                source.env
            ))),
            key => Ok(Secret::new(key)),
        }
    }

    /// Wraps a key.
    pub fn new(key: &str) -> Secret {
        let mut disguises = vec![key.to_string(), percent(key)];
        // Inside a longer text the key may begin at any of three phases of base64; whole groups are told apart by none.
        disguises.extend((0..3).map(|phase| base64_core(key.as_bytes(), phase)));
        disguises.retain(|d| !d.is_empty());
        disguises.sort_by_key(|d| std::cmp::Reverse(d.len()));
        Secret { key: key.to_string(), disguises }
    }

    /// Returns the value of the `Authorization` header.
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.key)
    }

    /// Returns `text` with every form of the key replaced.
    pub fn redact(&self, text: &str) -> String {
        self.disguises.iter().fold(text.to_string(), |text, form| text.replace(form, "[redacted]"))
    }
}

fn percent(key: &str) -> String {
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    key.bytes().map(|b| if unreserved(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Returns the base64 characters that `bytes` alone decide when `phase` bytes precede it in their group.
fn base64_core(bytes: &[u8], phase: usize) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let skip = (3 - phase) % 3;
    let whole = bytes.get(skip..).unwrap_or_default().chunks_exact(3);
    if whole.len() < 2 {
        return String::new();
    }
    let digit = |word: u32, shift: u32| char::from(DIGITS[(word >> shift & 63) as usize]);
    whole
        .map(|c| u32::from(c[0]) << 16 | u32::from(c[1]) << 8 | u32::from(c[2]))
        .flat_map(|word| [18, 12, 6, 0].map(|shift| digit(word, shift)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_key_is_redacted() {
        let secret = Secret::new("sk-canary/0123+456");
        // base64 of "Bearer sk-canary/0123+456", made with coreutils' base64.
        let text = "got sk-canary/0123+456 and sk-canary%2F0123%2B456 and QmVhcmVyIHNrLWNhbmFyeS8wMTIzKzQ1Ng==";
        let clean = secret.redact(text);
        assert!(!clean.contains("canary") && !clean.contains("LWNhbmFyeS8w"), "{clean}");
        assert_eq!(format!("{secret:?}"), "Secret");
    }
}
