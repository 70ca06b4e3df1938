//! docker-compose.yml without a container engine: the file against its schema and our rules, and the scripts that
//! start its servers against the real servers.

mod file;
mod monitoring;
mod rules;
mod starting;
