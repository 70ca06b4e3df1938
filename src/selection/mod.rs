//! Which reviews stand for a restaurant: unit vectors, the representative vector, the nearest and most diverse.
//!
//! Pure mathematics over embeddings made elsewhere. Vectors of different models must not meet: a representative
//! vector carries the name of its model, and lengths are compared.

pub mod representative;
pub mod select;
pub mod vector;
