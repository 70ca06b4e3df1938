//! What the other tests rest on: the servers start, die and come back as they are told, and the checker sees what is
//! wrong.

mod checking;
mod children;
mod network;
mod servers;
