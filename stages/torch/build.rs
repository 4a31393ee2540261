//! Links libtorch with an rpath to the wheel's library folder, so that the program starts without LD_LIBRARY_PATH.

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let Ok(folder) = std::env::var("LIBTORCH") else { return };
    let Ok(torch) = std::fs::canonicalize(format!("{folder}/lib/libtorch_cpu.so")) else { return };
    let Some(real) = torch.parent() else { return };
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", real.display());
}
