//! A program of your own: the engine joined with the kinds that Watershed ships and with one of yours.
//!
//! Copy this folder out of the repository, put the `Cargo.toml` of README.md beside it, and change `sample_customers.rs`.

mod sample_customers;

use watershed_engine::{Kind, cli};

use sample_customers::SampleCustomers;

fn kinds() -> Vec<Kind> {
    let mut all = watershed_stages::kinds();
    all.push(Kind::of::<SampleCustomers>());
    all
}

fn main() {
    std::process::exit(cli::main(kinds, &[]));
}
