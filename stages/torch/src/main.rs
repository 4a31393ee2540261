//! `watershed-torch`: executes `lora-train`, `generate` and `rank` for the engine, one job a process.
//!
//! It links libtorch so that `watershed` need not. The protocol is `watershed_engine::worker`'s: one order on stdin, JSON
//! lines on stdout.

mod program;

use watershed_engine::Stage;
use watershed_stages::generate::Generate;
use watershed_stages::lora_train::LoraTrain;
use watershed_stages::rank::Rank;

fn main() {
    let kinds =
        [(LoraTrain::KIND, LoraTrain::VERSION), (Generate::KIND, Generate::VERSION), (Rank::KIND, Rank::VERSION)];
    std::process::exit(watershed_engine::worker::serve(&kinds, program::execute));
}
