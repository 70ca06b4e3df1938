//! What tests over the real parts share.

#[cfg(feature = "llama")]
use std::path::PathBuf;

pub mod fleet;
pub mod nvml;
pub mod yaml;

/// The path of a fetched model; `None`, said on stderr, where it has not been fetched.
#[cfg(feature = "llama")]
pub fn model(file: &str) -> Option<PathBuf> {
    let folder =
        |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let models = folder("MAITRED_MODELS_DIR").or_else(|| {
        let cache = folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")));
        cache.map(|cache| cache.join("maitred/models"))
    });
    let path = models.map(|models| models.join(file)).filter(|path| path.is_file());
    if path.is_none() {
        eprintln!("SKIPPED: no {file}, run make models");
    }
    path
}
