// Empty: Cargo wants a target. See Cargo.toml.
