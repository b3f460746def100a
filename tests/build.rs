//! The published protos, compiled for a program of its own: the simulated fleet speaks to the control plane by them
//! alone, without code of the product.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let files = ["node", "resource", "status", "config", "inspect", "cache", "failover", "event", "admin"]
        .map(|name| format!("o1/control/v1/{name}.proto"));
    for file in &files {
        println!("cargo::rerun-if-changed=../proto/{file}");
    }
    let descriptors = protox::compile(&files, ["../proto"])?;
    tonic_prost_build::configure().build_server(false).compile_fds(descriptors)?;
    Ok(())
}
