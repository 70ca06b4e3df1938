//! Text as it is written: which language it is in, and where its clauses lie. Pure; nothing is rewritten, only
//! byte ranges are found, because evidence is cut from the guest's own words.

mod boundaries;
pub mod clauses;
pub mod language;
