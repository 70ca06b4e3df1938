//! The stores over their real servers, and what their faults cost.

mod postgres;
mod redis;
