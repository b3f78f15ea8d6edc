//! Refine: segments become rows. It never talks to a source; what fails here waits, visible, and stalls nobody.

pub mod apply;
mod beside;
pub mod bind;
mod binding;
pub mod bisect;
mod commit;
pub mod conform;
pub mod driver;
pub mod fit;
pub mod group;
pub mod heal;
mod lanes;
pub mod protocol;
pub mod rehearse;
pub mod rescue;
pub mod rows;
pub mod segment;
pub mod state;
pub mod trace;
pub mod trial;
mod turns;
