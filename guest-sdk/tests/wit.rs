//! The crate carries a copy of the WIT that it is built on, so that it can be used outside this repository.

use std::fs;

#[test]
fn the_copy_of_the_wit_is_the_projects_own() -> std::io::Result<()> {
    let own = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/wit/transform.wit"))?;
    let project = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../wit/0.1.0/transform.wit"))?;
    assert!(own == project, "guest-sdk/wit/transform.wit differs from wit/0.1.0/transform.wit: copy the latter here");
    Ok(())
}
