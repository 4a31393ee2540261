//! Action keys: BLAKE3 over a typed, canonical manifest.
//!
//! | enters the key | does not |
//! |---|---|
//! | `house/kind` and its VERSION (at VERSION 0 the executable's digest) | the stage's name, its place in the file, comments |
//! | parameters that differ from their defaults, presets expanded | parameters at their defaults |
//! | inputs: port, label (only in ports that take several), digest of the contents | paths, times, who made them, on which device |
//! | declared environment that the stage names: name and value | secrets, the rest of the environment |
//! | what the machine answers to the stage's probes (`tools`): name and text | where the probed program lies |
//! | output ports: name and type | `run:`, host, user, thread count, device, the engine's version |
//!
//! The encoding is prefix-free: every value carries a type tag and every string and list its length, so no two manifests
//! share an encoding. Integers and floats of equal value encode alike (`1` and `1.0`), `-0` is `0`, NaN is refused by the
//! language before it comes here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use watershed_cache::Digest;

/// Everything that decides an action's result, kept in its record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// `house/kind`.
    pub kind: String,
    /// The kind's version.
    pub version: u32,
    /// Digest of the executable, for kinds in development.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Digest>,
    /// Parameters that differ from their defaults, dotted path to value.
    pub params: BTreeMap<String, Value>,
    /// Inputs, sorted by port and label.
    pub inputs: Vec<InputDigest>,
    /// Declared environment, name to value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Programs that the stage asked the machine about, name to answer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tools: BTreeMap<String, String>,
    /// Output ports, name to type.
    pub outputs: BTreeMap<String, String>,
}

/// The contents of one input.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InputDigest {
    /// Port.
    pub port: String,
    /// Label, empty in ports that take one input.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// Digest of the file, or of the folder's listing.
    pub digest: Digest,
}

impl Manifest {
    /// Returns the action key.
    pub fn key(&self) -> Digest {
        let mut out = Encoder::default();
        out.text(&self.kind);
        out.number(f64::from(self.version));
        out.text(&self.build.map(|d| d.hex()).unwrap_or_default());
        out.length(self.params.len());
        for (path, value) in &self.params {
            out.text(path);
            out.value(value);
        }
        out.length(self.inputs.len());
        for input in &self.inputs {
            out.text(&input.port);
            out.text(&input.label);
            out.text(&input.digest.hex());
        }
        out.pairs(&self.env);
        out.pairs(&self.outputs);
        // Last and only where there are any: an encoding without them ends before, so it cannot be one with them.
        if !self.tools.is_empty() {
            out.pairs(&self.tools);
        }
        Digest::in_context("watershed/action/v1", &out.0)
    }

    /// Returns the digest of the work: all of the key but the parameters at and below `judges`, which look at it when it is done.
    pub fn work(&self, judges: &[&str]) -> Digest {
        let is_judge = |path: &str| {
            judges
                .iter()
                .any(|judge| path.strip_prefix(judge).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
        };
        let params = self.params.iter().filter(|(path, _)| !is_judge(path));
        let params = params.map(|(path, value)| (path.clone(), value.clone())).collect();
        Manifest { params, ..self.clone() }.key()
    }
}

/// Returns the first 8 bytes of a key: the job's seed.
pub fn seed_of(key: &Digest) -> u64 {
    let bytes: [u8; 8] = key.as_bytes()[..8].try_into().expect("a digest has 32 bytes");
    u64::from_le_bytes(bytes)
}

#[derive(Default)]
struct Encoder(Vec<u8>);

impl Encoder {
    fn length(&mut self, n: usize) {
        self.0.extend_from_slice(&(n as u64).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.0.push(b's');
        self.length(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    fn number(&mut self, number: f64) {
        self.0.push(b'n');
        self.0.extend_from_slice(&(if number == 0.0 { 0.0 } else { number }).to_bits().to_le_bytes());
    }

    fn pairs(&mut self, pairs: &BTreeMap<String, String>) {
        self.length(pairs.len());
        for (name, value) in pairs {
            self.text(name);
            self.text(value);
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.0.push(b'z'),
            Value::Bool(b) => self.0.extend_from_slice(&[b'b', u8::from(*b)]),
            Value::String(s) => self.text(s),
            Value::Number(n) => self.json_number(n),
            Value::Array(items) => {
                self.0.push(b'a');
                self.length(items.len());
                items.iter().for_each(|item| self.value(item));
            }
            Value::Object(map) => {
                self.0.push(b'o');
                self.length(map.len());
                let sorted: BTreeMap<_, _> = map.iter().collect();
                for (name, value) in sorted {
                    self.text(name);
                    self.value(value);
                }
            }
        }
    }

    /// Integers beyond 2^53 have no exact float, so they keep their digits.
    fn json_number(&mut self, number: &serde_json::Number) {
        let float = number.as_f64().unwrap_or(f64::NAN);
        let exact =
            number.as_i64().is_none_or(|i| i.unsigned_abs() <= 1 << 53) && number.as_u64().is_none_or(|u| u <= 1 << 53);
        if exact {
            self.number(float);
        } else {
            self.0.push(b'i');
            self.text(&number.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(params: &[(&str, Value)]) -> Manifest {
        let params = params.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
        Manifest {
            kind: "watershed/mix".into(),
            version: 1,
            build: None,
            params,
            inputs: vec![InputDigest { port: "base".into(), label: String::new(), digest: Digest::of(b"rows") }],
            env: BTreeMap::new(),
            tools: BTreeMap::new(),
            outputs: BTreeMap::from([("examples".into(), "examples".into())]),
        }
    }

    #[test]
    fn equal_numbers_make_equal_keys() {
        let key = |v: Value| manifest(&[("lr", v)]).key();
        assert_eq!(key(1.into()), key(1.0.into()));
        assert_eq!(key(0.0.into()), key((-0.0).into()));
        assert_ne!(key(1.into()), key("1".into()));
        assert_ne!(key((u64::MAX).into()), key((u64::MAX - 1).into()));
    }

    #[test]
    fn every_part_of_the_manifest_changes_the_key() {
        let base = manifest(&[("a", 1.into())]);
        let mut others = vec![base.clone(); 8];
        others[0].kind.push('x');
        others[1].version = 2;
        others[2].build = Some(Digest::of(b"program"));
        others[3].params.insert("b".into(), 1.into());
        others[4].inputs[0].digest = Digest::of(b"other rows");
        others[5].env.insert("A".into(), "1".into());
        others[6].outputs.insert("more".into(), "bytes".into());
        others[7].tools.insert("A".into(), "1".into());
        let keys: std::collections::BTreeSet<Digest> = others.iter().chain([&base]).map(Manifest::key).collect();
        assert_eq!(keys.len(), 9);
    }

    #[test]
    fn what_judges_the_work_is_no_part_of_it() {
        let judged = manifest(&[("lr", 1.into()), ("checks.eos", "warn".into())]);
        assert_eq!(judged.work(&["checks"]), manifest(&[("lr", 1.into())]).key());
        assert_ne!(judged.work(&["check"]), judged.work(&["checks"]));
    }

    #[test]
    fn the_key_of_a_known_manifest_is_pinned() {
        let hex = manifest(&[("total", 10.into()), ("seed", 42.into())]).key().hex();
        assert_eq!(hex, "9002aae32123e8ff2a2ab12003a8c36b03284e378d08dc1679b0f908c3eb02a1");
    }
}
