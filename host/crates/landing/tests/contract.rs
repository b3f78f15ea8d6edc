//! tmp
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#[path = "../../../../tests/suite/contract/support.rs"]
mod support;
#[path = "../../../../tests/suite/contract/landing/mod.rs"]
mod landing;
