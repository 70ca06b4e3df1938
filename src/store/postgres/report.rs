//! Reading what `maitred report` tells, by the views that `maitred_reader` may see.

use sqlx::Connection;
use time::OffsetDateTime;

use super::error::explain;
use super::migrate::connect;
use crate::config::SecretUrl;
use crate::report::Period;
use crate::report::source::read;
use crate::report::tally::Tally;
use crate::store::StoreError;

/// What is known of the period.
///
/// # Errors
/// If the server cannot be reached, the user may not, or the schema is not up to date.
pub async fn report(url: &SecretUrl, period: Period) -> Result<Tally, StoreError> {
    let mut connection = connect(url, "maitred report").await?;
    let told = read_from(&mut connection, period).await.map_err(|error| explain(&error));
    connection.close().await.map_err(|error| explain(&error))?;
    told
}

/// One picture of all tables, whatever is written meanwhile.
async fn read_from(connection: &mut sqlx::PgConnection, period: Period) -> Result<Tally, sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let moment = |at: OffsetDateTime| at;
    let tally = read!(transaction, period, moment)?;
    transaction.rollback().await?;
    Ok(tally)
}
