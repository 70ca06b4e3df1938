//! JetStream: where jobs come from and where results and dead letters go.
//!
//! Three layers. What decides is pure: [`lease`] (who holds which job and what becomes of it), [`shares`] (which lane
//! is asked next), [`retry`] (when a failed job comes again). [`wire`] turns messages into jobs and back. Everything
//! that talks to a server stands in `nats/`, and nothing else knows async-nats.

pub mod backfill;
pub mod checkup;
pub mod dead_letter;
pub mod lease;
pub mod names;
pub mod nats;
pub mod presence;
pub mod retry;
pub mod shares;
pub mod status;
pub mod topology;
pub mod wire;
