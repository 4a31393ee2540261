//! `run:`: how a stage is executed. The pipeline's own `run:` gives defaults; none of it is in any key.

use schemars::JsonSchema;
use serde_json::{Map, Value, json};
use std::sync::OnceLock;

use crate::code;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::language::kinds::{KindEntry, Kinds};
use crate::language::nearest::{did_you_mean, listed};
use crate::language::shape::Shape;
use crate::node::{Data, Key, Node, Span};
use crate::stage::Home;
use crate::study::RunKeys;

/// Keys of `run:` that every kind has.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is used: the values are read key by key, each with its place")]
pub struct CommonRun {
    /// Threads that the stage may keep busy; 1 by default.
    #[schemars(range(min = 1))]
    cpus: u32,
    /// CUDA devices that it wants when the device is CUDA; 0 by default.
    gpus: u32,
    /// Memory that it may use, for example `8GB`.
    memory: NumberOrText,
    /// Device to compute on; `auto` takes CUDA where there is an NVIDIA device.
    device: DeviceName,
    /// Longest time it may take, for example `6h`; then it is checkpointed and ended.
    timeout: NumberOrText,
    /// How often a passing fault is tried again, such as a lost connection or a `command` that ends with exit code 75; 0 by
    /// default. The rest before a try begins with a second and doubles.
    retries: u32,
    /// When to checkpoint: `epoch`, or a number of updates.
    checkpoint: NumberOrText,
    /// Keys for clusters.
    slurm: Slurm,
}

/// A number, or a number with its unit.
#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
enum NumberOrText {
    Number(u64),
    Text(String),
}

#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code, reason = "only its schema is used")]
enum DeviceName {
    Auto,
    Cpu,
    Cuda,
}

#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only its schema is used")]
struct Slurm {
    /// Account that pays.
    account: Option<String>,
    /// Partition.
    partition: Option<String>,
    /// Quality of service.
    qos: Option<String>,
    /// Time limit, as sbatch writes it.
    time: Option<String>,
    /// Features of the node.
    constraint: Option<String>,
    /// Further arguments of sbatch.
    extra: Option<Vec<String>>,
}

/// Returns the schema of the common keys, none of them required.
pub fn common_schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let mut schema = schemars::schema_for!(CommonRun).to_value();
        if let Some(map) = schema.as_object_mut() {
            map.remove("required");
        }
        schema
    })
}

/// Reads the keys of one stage over the pipeline's defaults. Keys that only other kinds have may stand in the defaults.
pub fn read(
    stage: &str,
    own: Option<&Node>,
    defaults: Option<&Node>,
    entry: &KindEntry,
    faults: &mut Diagnostics,
) -> RunKeys {
    let subject = format!("`run` of stage `{stage}` ({})", entry.kind.name);
    let path = format!("{stage}.run");
    let mut keys = RunKeys::default();
    let mut extra = Map::new();
    for (key, node) in defaults.and_then(Node::as_map).unwrap_or_default() {
        if property(entry.run_schema(), &key.text).is_some() {
            extra.insert(key.text.clone(), node.to_json());
        } else if is_common(&key.text) {
            set(&mut keys, key, node, &mut Diagnostics::default());
        }
    }
    for (key, node) in own.and_then(Node::as_map).unwrap_or_default() {
        let count = faults.errors.len();
        let root = if property(entry.run_schema(), &key.text).is_some() { entry.run_schema() } else { common_schema() };
        let Some(schema) = property(root, &key.text) else {
            faults.push(unknown(key, &subject, entry));
            continue;
        };
        let inner = format!("{path}.{}", key.text);
        Shape { root, subject: &subject, path: &inner }.check(node, schema, faults);
        if faults.errors.len() > count {
            continue;
        }
        if std::ptr::eq(root, entry.run_schema()) {
            extra.insert(key.text.clone(), node.to_json());
        } else {
            set(&mut keys, key, node, faults);
        }
    }
    keys.own = Value::Object(extra);
    if keys.gpus > 1 && entry.kind.home == Home::Torch {
        let node = [own, defaults].into_iter().flatten().find_map(|run| run.get("gpus"));
        faults.push(one_gpu(&path, entry.kind.name, keys.gpus, node.map(|node| node.span).unwrap_or_default()));
    }
    keys
}

fn one_gpu(path: &str, kind: &str, gpus: usize, span: Span) -> Diagnostic {
    let message = format!("`{path}.gpus` is {gpus}, and `{kind}` computes on one GPU: several are not supported");
    Diagnostic::at(code::BAD_RUN_KEY, span, message)
        .help("write `gpus: 1`; cases of a sweep use one each at the same time")
}

/// Checks the pipeline's own `run:`, once.
pub fn check_defaults(defaults: &Node, kinds: &Kinds, faults: &mut Diagnostics) {
    for (key, node) in defaults.as_map().unwrap_or_default() {
        let entries = kinds.entries().iter().map(KindEntry::run_schema);
        let known = std::iter::once(common_schema()).chain(entries);
        let Some((root, schema)) = known.filter_map(|root| Some((root, property(root, &key.text)?))).next() else {
            let names =
                || common_schema()["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str());
            let fault = Diagnostic::at(code::UNKNOWN_KEY, key.span, format!("unknown key `{}` in `run`", key.text));
            faults.push(fault.label(did_you_mean(&key.text, names())).help(listed("known here", names())));
            continue;
        };
        let count = faults.errors.len();
        Shape { root, subject: "`run`", path: &format!("run.{}", key.text) }.check(node, schema, faults);
        if faults.errors.len() == count && is_common(&key.text) {
            set(&mut RunKeys::default(), key, node, faults);
        }
    }
}

fn property<'s>(schema: &'s Value, name: &str) -> Option<&'s Value> {
    schema.get("properties")?.get(name)
}

fn is_common(name: &str) -> bool {
    property(common_schema(), name).is_some()
}

fn unknown(key: &Key, subject: &str, entry: &KindEntry) -> Diagnostic {
    let properties = |schema: &'_ Value| -> Vec<String> {
        schema["properties"].as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default()
    };
    let names = [properties(entry.run_schema()), properties(common_schema())].concat();
    let in_with = property(entry.schema(), &key.text).is_some();
    let label = if in_with {
        "this belongs to `with`".to_string()
    } else {
        did_you_mean(&key.text, names.iter().map(String::as_str))
    };
    Diagnostic::at(code::UNKNOWN_KEY, key.span, format!("unknown key `{}` in {subject}", key.text))
        .label(label)
        .help(listed("known here", names.iter().map(String::as_str)))
}

/// Stores a common key whose shape is right already.
fn set(keys: &mut RunKeys, key: &Key, node: &Node, faults: &mut Diagnostics) {
    let number = if let Data::Number(number) = &node.data { number.as_u64() } else { None };
    let text = node.as_text().unwrap_or_default();
    let mut refuse = |wanted: &str, help: &str| {
        let message = format!("`run.{}`: expected {wanted}, found {}", key.text, node.describe());
        faults.push(Diagnostic::at(code::BAD_RUN_KEY, node.span, message).help(help));
    };
    match key.text.as_str() {
        "cpus" => keys.cpus = number.unwrap_or(1) as usize,
        "gpus" => keys.gpus = number.unwrap_or(0) as usize,
        "retries" => keys.retries = number.unwrap_or(0) as u32,
        "device" => keys.device = text.to_string(),
        "slurm" => keys.slurm = node.to_json(),
        "memory" => match number.or_else(|| measured(text, &SIZES, 1)) {
            Some(bytes) => keys.memory_bytes = Some(bytes),
            None => refuse("a size", "write for example `8GB` or `512MiB`"),
        },
        "timeout" => match number.and_then(|s| s.checked_mul(1000)).or_else(|| measured(text, &TIMES, 1000)) {
            Some(ms) => keys.timeout_ms = Some(ms),
            None => refuse("a time", "write for example `90s`, `15m`, `6h` or `2d`"),
        },
        "checkpoint" => match (number, text) {
            (Some(updates), _) if updates > 0 => keys.checkpoint = updates.to_string(),
            (None, "epoch") => keys.checkpoint = text.to_string(),
            _ => refuse("`epoch` or a number of updates", "write for example `checkpoint: 100`"),
        },
        _ => {}
    }
}

const SIZES: [(&str, u64); 9] = [
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("B", 1),
];
const TIMES: [(&str, u64); 4] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];

/// Reads `8GB` or `1.5h` as a number of the smallest unit, times `scale`.
fn measured(text: &str, units: &[(&str, u64)], scale: u64) -> Option<u64> {
    let at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = (text[..at].trim(), text[at..].trim());
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    let number: f64 = number.parse().ok()?;
    let total = number * (*factor as f64) * scale as f64;
    (number > 0.0 && total < 1e18).then_some(total.round() as u64)
}

impl Default for RunKeys {
    fn default() -> RunKeys {
        RunKeys {
            cpus: 1,
            gpus: 0,
            memory_bytes: None,
            device: "auto".into(),
            timeout_ms: None,
            retries: 0,
            checkpoint: "epoch".into(),
            own: json!({}),
            slurm: Value::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_have_units() {
        assert_eq!(measured("8GB", &SIZES, 1), Some(8_000_000_000));
        assert_eq!(measured("1.5 GiB", &SIZES, 1), Some(3 << 29));
        assert_eq!(measured("6h", &TIMES, 1000), Some(21_600_000));
        assert_eq!(
            (measured("6 weeks", &TIMES, 1000), measured("-1h", &TIMES, 1000), measured("8G", &SIZES, 1)),
            (None, None, None)
        );
    }
}
