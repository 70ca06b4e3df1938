//! Reading what `maitred report` tells.

use super::SqliteStore;
use crate::report::Period;
use crate::report::source::read;
use crate::report::tally::Tally;
use crate::store::StoreError;
use crate::store::metrics::utc_text;

impl SqliteStore {
    /// What is known of the period.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub async fn report(&self, period: Period) -> Result<Tally, StoreError> {
        self.read_period(period).await.map_err(|error| self.explain(error))
    }

    /// One picture of all tables, whatever is written meanwhile.
    async fn read_period(&self, period: Period) -> Result<Tally, sqlx::Error> {
        let mut transaction = self.readers.begin().await?;
        let tally = read!(transaction, period, utc_text)?;
        transaction.rollback().await?;
        Ok(tally)
    }
}
