//! Where the programs under test are. Cargo tells the tests of a crate only about binaries of that crate, so they
//! are looked for beside the test itself, or the program that measures: `target/<profile>/`.

use std::path::{Path, PathBuf};

/// `target/<profile>`, where this test and the binaries were built. Tests are in `deps` there, programs are not.
///
/// # Panics
/// It does not run from a directory.
#[must_use]
pub fn profile_dir() -> PathBuf {
    let ours = std::env::current_exe().expect("a running program has a path");
    let dir = ours.parent().expect("a file is in a directory");
    if dir.ends_with("deps") { dir.parent().expect("deps is in target/<profile>") } else { dir }.to_owned()
}

/// `target`.
#[must_use]
pub fn target_dir() -> PathBuf {
    profile_dir().parent().expect("the profile is in target").to_owned()
}

/// The root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the root").to_owned()
}

/// The path of one of our programs.
///
/// # Panics
/// It was not built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    built(profile_dir().join(name))
}

/// The path of one of the programs in `examples/`.
///
/// # Panics
/// It was not built.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    built(profile_dir().join("examples").join(name))
}

fn built(path: PathBuf) -> PathBuf {
    assert!(
        path.is_file(),
        "{} is missing: the tests start the real programs, and cargo does not build those of other crates; \
         run `cargo build --workspace --bins --examples` first, as ./tests/run does",
        path.display()
    );
    path
}
