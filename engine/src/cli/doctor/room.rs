//! Where results lie: the store, its file system, the index, and the Hugging Face cache.

use std::path::Path;

use watershed_cache::{Ground, Store};

use super::{Finding, State};
use crate::cli::out;
use crate::{environment, language};

/// Room below which a model and its checkpoints hardly fit.
const LITTLE_ROOM: u64 = 5 << 30;

pub fn findings(root: &Path, cache: &Path) -> Vec<Finding> {
    let mut all = vec![Finding::new("project", State::Ok, root.display().to_string()), store(cache)];
    // A store that is not there yet is made by the first run, below the nearest folder that is.
    let ground = cache.ancestors().find(|folder| folder.is_dir()).unwrap_or(root);
    match Ground::of(ground) {
        Ok(found) => all.extend([disk(&found), room(&found)]),
        Err(error) => {
            let found = format!("cannot write into `{}`: {error}", ground.display());
            all.push(
                Finding::new("disk", State::Problem, found)
                    .help("name another folder: `--cache DIR` or WATERSHED_CACHE"),
            );
        }
    }
    all.extend([index(root), hugging_face()]);
    all
}

fn store(cache: &Path) -> Finding {
    match Store::open(cache) {
        Ok(_) if !cache.join("v1").exists() => {
            Finding::new("store", State::Ok, format!("{}, made by the first run", cache.display()))
        }
        Ok(store) => {
            let runs = std::fs::read_dir(store.runs()).map_or(0, Iterator::count);
            Finding::new("store", State::Ok, format!("{}, {runs} runs", cache.display()))
        }
        Err(error) => Finding::new("store", State::Problem, error.to_string()),
    }
}

fn disk(ground: &Ground) -> Finding {
    let copies = match (ground.clones, ground.links) {
        (true, _) => "copies share their bytes",
        (false, true) => "outputs are linked, not copied",
        (false, false) => "every output is copied",
    };
    if !ground.locks {
        let found = format!("{}: locks do not hold", ground.file_system);
        return Finding::new("disk", State::Problem, found).help("put the store on a local disk: `--cache DIR`");
    }
    Finding::new("disk", State::Ok, format!("{}, {copies}", ground.file_system))
}

fn room(ground: &Ground) -> Finding {
    let found = format!("{} free", out::bytes(ground.free_bytes));
    match ground.free_bytes {
        0..LITTLE_ROOM => Finding::new("room", State::Note, found).help("`watershed cache gc` tells what can go"),
        _ => Finding::new("room", State::Ok, found),
    }
}

/// The index may be removed at any time, so that a damaged one is no problem, only slow.
fn index(root: &Path) -> Finding {
    let folder = root.join(".watershed").join("index");
    let stats = std::fs::read(folder.join("stat.json"));
    if stats.is_ok_and(|bytes| serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_err()) {
        let found = "stat.json cannot be read and will be made anew: the next run hashes every input";
        return Finding::new("index", State::Note, found);
    }
    Finding::new("index", State::Ok, if folder.exists() { "readable" } else { "made by the first run" })
}

fn hugging_face() -> Finding {
    let hub = language::hub_folder(environment::read);
    let names =
        std::fs::read_dir(&hub).into_iter().flatten().flatten().filter_map(|i| i.file_name().into_string().ok());
    let count = names.filter(|name| name.starts_with("models--") || name.starts_with("datasets--")).count();
    match count {
        0 => Finding::new("hf", State::Note, format!("{} holds nothing, so `hf:` inputs are not found", hub.display())),
        _ => Finding::new("hf", State::Ok, format!("{}, {count} repositories", hub.display())),
    }
}
