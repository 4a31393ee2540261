//! `https://HOST/PATH#sha256=DIGEST`: a file from elsewhere, which a stage of its own brings into the store.
//!
//! That stage is made here, one for each file, of the program's kind that fetches. So the engine has one way for results of
//! every sort: fetched once, found by its key, verified when it is read, fetched again when it is damaged, freed by `gc`. The
//! key holds the digest and the file's name, not the address: a mirror changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::language::hub::Fault;
use crate::stage::Kind;
use crate::study::{RunKeys, StageDef};

/// Output of a stage that fetches: a folder with the one file.
pub const PORT: &str = "files";

/// Tries after the first: networks pass, and the digest says whether it worked.
const RETRIES: u32 = 2;

/// A file from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    url: String,
    sha256: String,
    /// Name of the file.
    pub file: String,
}

impl Fetch {
    /// Reads an input that begins with `https:` or `http:`.
    ///
    /// # Errors
    /// When it is not pinned, or is fetched in a way that anyone may read.
    pub fn parse(text: &str) -> Result<Fetch, Fault> {
        let (url, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (scheme, rest) = url.split_once("://").unwrap_or((url, ""));
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        if host.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err((format!("`{text}` is no address"), "write `https://HOST/PATH#sha256=DIGEST`".into()));
        }
        if host.contains('@') {
            let help = "download it into the project: addresses are kept in records, which hold no secrets".into();
            return Err(("an address may hold no user and no password".into(), help));
        }
        if scheme != "https" && !is_loopback(host) {
            return Err((format!("`{url}` is not encrypted"), "write `https:`".into()));
        }
        let digest = fragment.strip_prefix("sha256=").unwrap_or_default().to_ascii_lowercase();
        if digest.len() != 64 || !digest.bytes().all(|b| b.is_ascii_hexdigit()) {
            let help = format!("add `#sha256=` and its 64 digits, which `curl -L {url} | sha256sum` prints");
            return Err((format!("`{text}` is not pinned"), help));
        }
        Ok(Fetch { file: file_name(rest), url: url.to_string(), sha256: digest })
    }

    /// Returns the name of its stage, which no stage of the user's can have.
    pub fn stage(&self) -> String {
        format!("fetch:{}#{}", self.file, &self.sha256[..8])
    }

    /// Makes its stage.
    pub fn define(&self, kind: &Arc<Kind>) -> Arc<StageDef> {
        let keyed = [("file", &self.file), ("sha256", &self.sha256)];
        let params = json!({"url": self.url, "sha256": self.sha256, "file": self.file});
        Arc::new(StageDef {
            name: self.stage(),
            line: 0,
            kind: kind.clone(),
            differing: keyed.map(|(name, value)| (name.to_string(), Value::from(value.as_str()))).into(),
            ports: (kind.ports)(&params),
            params,
            inputs: Vec::new(),
            env: BTreeMap::new(),
            run: RunKeys { retries: RETRIES, ..RunKeys::default() },
            allow_missing: false,
        })
    }
}

fn is_loopback(host: &str) -> bool {
    let name =
        host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(host, |(n, _)| n);
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}

/// Returns the last part of the path, in letters that suit any file system.
fn file_name(rest: &str) -> String {
    let path = rest.split('?').next().unwrap_or_default().split_once('/').map_or("", |(_, path)| path);
    let name = path.rsplit('/').next().unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    let name: String = name.chars().map(plain).skip_while(|c| *c == '.').collect();
    let from = name.len().saturating_sub(100);
    if name.is_empty() { "file".into() } else { name[from..].to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855";

    #[test]
    fn an_address_gives_its_file_and_digest() {
        let fetch = Fetch::parse(&format!("https://a.org/x/r%C3%A9v.jsonl.gz?download=1#sha256={DIGEST}")).unwrap();
        assert_eq!(fetch.url, "https://a.org/x/r%C3%A9v.jsonl.gz?download=1");
        assert_eq!(
            (fetch.file.as_str(), fetch.stage().as_str()),
            ("r_C3_A9v.jsonl.gz", "fetch:r_C3_A9v.jsonl.gz#e3b0c442")
        );
        assert_eq!(Fetch::parse(&format!("http://127.0.0.1:80/#sha256={DIGEST}")).unwrap().file, "file");
    }

    #[test]
    fn what_is_not_pinned_or_not_safe_is_refused() {
        for bad in ["https://a.org/x", "https://a.org/x#sha256=12", "https:///x#", "https:x", "https://a.org/ x#"] {
            assert!(Fetch::parse(bad).is_err(), "{bad}");
        }
        for bad in ["http://a.org/x", "https://me:pw42@a.org/x", "http://127.0.0.1.a.org/x", "http://localhost@a.org/x"]
        {
            let (message, help) = Fetch::parse(&format!("{bad}#sha256={DIGEST}")).unwrap_err();
            assert!(!format!("{message} {help}").contains("pw42"), "{message} {help}");
        }
    }
}
