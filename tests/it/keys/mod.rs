//! What the keys of shipped pipelines and kinds rest on: in process, with stand-ins for the bytes that nobody has here.
//!
//! A node's manifest is made by the code that `plan` and `run` use ([`lookup::manifest`]); only the digests of its inputs are
//! made up. An output of another stage is named by its writer, the user's file by its path as written.

mod added;
mod defaults;
mod fields;
mod mutation;
mod pinned;
mod same;

use std::path::{Path, PathBuf};

use watershed_cache::{Artifact, Digest};
use watershed_engine::Kind;
use watershed_engine::graph::{From, Graph, Node, NodeInput};
use watershed_engine::key::Manifest;
use watershed_engine::language::{Kinds, LoadRequest, load};
use watershed_engine::lookup::{self, Answers, KnownInput};

use crate::project::files;

#[path = "../../../examples/custom-stage/sample_customers.rs"]
#[allow(dead_code, missing_docs, reason = "the example's own tests are elsewhere")]
mod sample_customers;

/// Files that shipped pipelines read, empty here.
const STAND_INS: [&str; 17] = [
    "data/alpaca.json.gz",
    "data/items.json.gz",
    "data/reviews.json.gz",
    "examples/my-data/data.jsonl",
    "examples/my-data/model/config.json",
    "models/smollm2-135m.gguf",
    "templates/data.jsonl",
    "templates/tokenizer.json",
    "tests/golden/alpaca.json",
    "tests/golden/curves/eval.jsonl",
    "tests/golden/curves/metrics.jsonl",
    "tests/golden/tokenizer.json",
    "tests/it/data/alpaca.json.gz",
    "tests/it/data/items.jsonl.gz",
    "tests/it/data/reviews.jsonl.gz",
    "tests/it/models/smollm2-135m.gguf",
    "watershed.root",
];

/// Returns the root of the repository.
fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the kinds that ship, and the one of the example.
fn shipped_kinds() -> Vec<Kind> {
    watershed_stages::kinds().into_iter().chain([Kind::of::<sample_customers::SampleCustomers>()]).collect()
}

/// Copies of all pipelines that ship, with the files that they read; removed when dropped.
struct Shipped {
    folder: tempfile::TempDir,
}

impl Shipped {
    fn new() -> Shipped {
        let shipped = Shipped { folder: tempfile::tempdir().unwrap() };
        STAND_INS.iter().for_each(|name| shipped.write(name, ""));
        for name in Shipped::names() {
            shipped.write(&name, &std::fs::read_to_string(repository().join(&name)).unwrap());
        }
        shipped
    }

    /// Returns the pipelines, as paths from the root of the repository.
    fn names() -> Vec<String> {
        let all =
            ["pipelines", "templates", "examples", "tests/it", "tests/golden"].map(|name| repository().join(name));
        let found = all.iter().flat_map(|folder| files(folder)).filter(|p| p.extension().is_some_and(|e| e == "yaml"));
        found.map(|path| path.strip_prefix(repository()).unwrap().to_str().unwrap().to_string()).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Returns the names of a pipeline's sweeps.
    fn sweeps(&self, name: &str) -> Vec<String> {
        let tree = watershed_engine::yaml::parse(&std::fs::read_to_string(self.path(name)).unwrap()).unwrap().to_json();
        tree["sweeps"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
    }

    /// Returns the graph of a pipeline, or of one of its sweeps.
    fn graph(&self, kinds: &Kinds, name: &str, sweep: Option<&str>) -> Graph {
        let request = LoadRequest { sweep: sweep.map(str::to_string), ..LoadRequest::new(self.path(name)) };
        Graph::build(&load(&request, kinds).unwrap_or_else(|faults| panic!("{name}: {faults}")))
    }

    /// Returns all graphs: of each pipeline as it stands, and of each of its sweeps.
    fn graphs(&self, kinds: &Kinds) -> Vec<(String, Option<String>, Graph)> {
        let plans = Shipped::names().into_iter().flat_map(|name| {
            let sweeps = self.sweeps(&name).into_iter().map(Some);
            [None].into_iter().chain(sweeps).map(|sweep| (name.clone(), sweep)).collect::<Vec<_>>()
        });
        plans
            .map(|(name, sweep)| {
                let graph = self.graph(kinds, &name, sweep.as_deref());
                (name, sweep, graph)
            })
            .collect()
    }
}

/// How an output that nobody has is named: from its writer, whose manifest it is given.
type Namer = fn(&Node, &Manifest) -> String;

/// Names outputs by stage, and by case where the writer has exactly one: a manifest then tells of its own node only.
fn by_name(writer: &Node, _: &Manifest) -> String {
    writer.case().map_or_else(|| writer.stage.name.clone(), |case| format!("{}@{case}", writer.stage.name))
}

/// Names outputs by the key of their writer: stages may be called as they like.
fn by_key(_: &Node, manifest: &Manifest) -> String {
    manifest.key().hex()
}

/// Returns the manifest of each node.
fn manifests(graph: &Graph, namer: Namer) -> Vec<Manifest> {
    let mut made: Vec<Manifest> = Vec::new();
    for node in &graph.nodes {
        let inputs: Vec<KnownInput> = node.inputs.iter().map(|input| stand_in(graph, input, &made, namer)).collect();
        let folder = Path::new("");
        let probes = (node.stage.kind.probes)(&node.stage.params, &node.stage.run.own, folder);
        let tools = probes.into_iter().map(|probe| (probe.tool, "1.0".to_string())).collect();
        made.push(lookup::manifest(node, &inputs, Answers { build: None, tools }));
    }
    made
}

fn stand_in(graph: &Graph, input: &NodeInput, made: &[Manifest], namer: Namer) -> KnownInput {
    let name = match &input.from {
        From::Path { text, .. } => text.clone(),
        From::Cases => "cases.json".into(),
        From::Node { node, port, inside } => {
            format!("{}.{port}/{}", namer(&graph.nodes[*node], &made[*node]), inside.as_deref().unwrap_or_default())
        }
    };
    let artifact = Artifact { digest: Digest::of(name.as_bytes()), size: 0, folder: false };
    KnownInput { input: input.clone(), artifact }
}

/// Returns the key of each node by its title, as `namer` names what it reads.
fn keys(graph: &Graph, namer: Namer) -> Vec<(String, String)> {
    let made = manifests(graph, namer);
    graph.nodes.iter().zip(made).map(|(node, manifest)| (node.title(), manifest.key().hex())).collect()
}
