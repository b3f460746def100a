//! Compiles the contract with protox, a protoc in Rust, so that no protoc is needed on the machine.

use prost::Message as _;
use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let files =
        ["node", "resource", "status", "config", "inspect", "cache", "failover", "event", "audit", "admin"]
            .map(|name| format!("o1/control/v1/{name}.proto"));
    for file in &files {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(&files, ["."])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR for build scripts")?);
    // Served by gRPC reflection.
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_transport(false)
        .btree_map(".o1.control.v1") // sorted maps: the same message is always the same bytes
        .bytes(".o1.control.v1.Resource.payload")
        .bytes(".o1.control.v1.ConfigPart.content")
        .compile_fds(descriptors)?;
    Ok(())
}
