//! The engine on llama.cpp with real models.

mod engine;
mod guard;
