//! `completions`: a script by which a shell completes commands and options.

use clap::Args;
use clap_complete::Shell;

use super::out;

/// Options of `completions`.
#[derive(Args)]
pub struct Options {
    /// The shell: `source <(watershed completions bash)` in `~/.bashrc`.
    #[arg(value_enum)]
    shell: Shell,
}

pub fn completions(options: &Options, mut command: clap::Command) -> i32 {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut command, "watershed", &mut script);
    out::raw(String::from_utf8_lossy(&script).trim_end());
    0
}
