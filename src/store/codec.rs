//! How values are kept: MessagePack with named fields, as on the wire, so that a later field does not make the
//! earlier values unreadable. A value that cannot be read counts as unknown; it is computed again and replaced.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;

/// Packs a value for `store`.
pub(super) fn pack<T: Serialize>(store: &'static str, value: &T) -> Result<Vec<u8>, StoreError> {
    rmp_serde::to_vec_named(value)
        .map_err(|error| StoreError::new(store, format_args!("cannot encode a value: {error}")))
}

/// Unpacks a value; `None`, with a warning, if the bytes are not one.
pub(super) fn unpack<T: DeserializeOwned>(store: &'static str, bytes: &[u8]) -> Option<T> {
    rmp_serde::from_slice(bytes)
        .inspect_err(
            |error| tracing::warn!(store, %error, "a kept value cannot be read; it will be computed again"),
        )
        .ok()
}
