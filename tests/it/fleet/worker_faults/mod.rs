//! What can go wrong with workers and with what they are given, over the real program, and what must hold all the same.
//!
//! The engine is simulated: its steps take their modelled time, and a text can make it abort or hang. How long things
//! took is printed; asserted is only what a busy machine cannot break.

mod crashes;
mod drain;
mod duplicates;
mod flow;
mod idle;
mod payloads;
mod sizes;
pub mod team;
mod wishes;
