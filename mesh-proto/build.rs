//! Generates the gRPC code from `proto/` (needs protoc; `cargo xtask bootstrap` installs it).

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tonic_prost_build::configure().bytes(".").compile_protos(
        &[
            "proto/isthmus/v1/agent.proto",
            "proto/isthmus/v1/admin.proto",
            "proto/isthmus/v1/join.proto",
            "proto/isthmus/v1/store.proto",
        ],
        &["proto"],
    )?;
    Ok(())
}
