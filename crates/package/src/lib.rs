//! OCI images and archives of what `cargo xtask build` has built.
//!
//! The same files of the same commit give the same bytes: nothing here has a time, a user or a path of the machine.
//!
//! [`images`] makes the images, as [`layout::Layout`]s, which are folders that `crane push` reads too.
//! [`archive`] packs files into tar archives. The program (`cargo xtask package`) adds the archives of `manifest-gen` and pushes
//! images to a registry.

pub mod archive;
pub mod images;
pub mod layout;
pub mod release;
