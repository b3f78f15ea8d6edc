//! Intake: what a source delivers becomes durable, listed and journalled, and only then is acknowledged. No user code runs here.

pub mod driver;
pub mod land;
pub mod state;
