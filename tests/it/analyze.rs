//! `maitred analyze` from end to end: the real program with real models, over files as people have them.
//!
//! Whatever a test is about, every result it reads is also held against the published schema and against the reviews
//! (`Place::results`): each quote must stand verbatim in the review it names.

mod again;
mod bad_input;
mod hostile;
mod interrupted;
mod memory;
mod places;
mod program;
mod results;
mod shapes;
