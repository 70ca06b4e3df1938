//! The pages that people look at: one of a worker, at its health address, and one of the fleet, by `maitred ui`.
//!
//! HTML, one style sheet and a few ES modules, embedded as they stand in `assets/`: nothing is built and nothing is
//! loaded from elsewhere. What they show comes as JSON from `/api/state`, asked for every two seconds. A stream of
//! events would come no sooner, since what is shown is itself looked at every few seconds, and would have to be
//! reconnected, replayed and kept open through proxies.
//!
//! Invariants:
//! - A reader of a page changes nothing, unless there is a token and the request brings it ([`guard`]).
//! - What the fleet was given to read is hostile: it reaches the page as JSON only, and the page makes text of it,
//!   never markup. The policy sent with every answer allows no inline script, no markup from strings and no other
//!   server, so that a mistake in that stays harmless.
//! - What is not known is absent from the JSON, or null, and the page shows a dash; never a zero.
//!
//! Knows nothing of how a worker works: [`worker`] is handed what it tells.

mod assets;
pub mod fleet;
pub mod guard;
pub mod series;
pub mod worker;

/// Version of the JSON of `/api/…`. It is raised when a field changes its meaning or goes; new fields do not raise it.
pub const STATE_VERSION: u16 = 1;

/// How many points a sparkline has at most.
pub const POINTS: usize = 120;
