//! OCI images and archives of what `cargo xtask build` has built.
//!
//! The same files of the same commit give the same bytes: nothing here has a time, a user or a path of the machine.
//!
//! [`images`] makes the images, as [`layout::Layout`]s, which are folders that `crane push` reads too.
//! [`shipped`] makes those of a folder, and [`push`] pushes them to a registry. [`archive`] packs files into tar archives. The
//! program (`cargo xtask package`) does all of that, and adds the archives of `manifest-gen`.

pub mod archive;
pub mod images;
pub mod layout;
#[cfg(feature = "push")]
pub mod push;
pub mod release;
pub mod shipped;
