//! Holds nothing: the measurements are benchmarks of this crate. `benches/README.md` says how and what for.
