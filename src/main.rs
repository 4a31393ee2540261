//! The program `watershed`: the engine joined with the kinds it ships.

/// Files of the projects that `watershed init` writes.
mod templates;

fn main() {
    std::process::exit(watershed_engine::cli::main(watershed_stages::kinds, templates::ALL));
}
