//! The stores over their real servers, and what their faults cost.

mod agreement;
mod ledger;
mod postgres;
mod redis;
