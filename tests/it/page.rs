//! The pages in a real browser, over the real program: a worker's own page, and that of the fleet.
//!
//! The worker has the simulated engine; the server is real, and so is the browser. Where either is not installed the
//! tests skip, visibly (`make servers` installs).

mod backlog;
mod browser;
mod fleet;
mod hostile;
mod refusing;
mod rig;
mod screenshots;
mod worker;
