//! The contract of `ports::LandingZone`.
