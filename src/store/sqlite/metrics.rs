//! Metrics in SQLite: one statement per table, run for each row.

use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, SqlSafeStr};

use super::{SqliteStore, integer};
use crate::store::StoreError;
use crate::store::metrics::tables::{ByTable, Column, Record, names};
use crate::store::metrics::{MetricRow, MetricStore, utc_text};

impl MetricStore for SqliteStore {
    async fn record(&self, rows: &[MetricRow]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut transaction = self.write().await?;
        all(&mut transaction, rows).await.map_err(|error| self.explain(error))?;
        self.commit(transaction).await
    }
}

async fn all(connection: &mut SqliteConnection, rows: &[MetricRow]) -> Result<(), sqlx::Error> {
    let sorted = ByTable::sort(rows);
    insert(connection, &sorted.requests).await?;
    insert(connection, &sorted.analyses).await?;
    insert(connection, &sorted.jobs).await?;
    insert(connection, &sorted.windows).await?;
    insert(connection, &sorted.gpus).await?;
    insert(connection, &sorted.letters).await?;
    insert(connection, &sorted.starts).await?;
    insert(connection, &sorted.ends).await
}

async fn insert<R: Record>(connection: &mut SqliteConnection, rows: &[&R]) -> Result<(), sqlx::Error> {
    // Made of names that stand in this program, and of nothing else.
    let statement = AssertSqlSafe(statement::<R>()).into_sql_str();
    for row in rows {
        let query = sqlx::query(statement.clone());
        let bound = R::COLUMNS.iter().fold(query, |query, column| match *column {
            Column::Text(_, value) => query.bind(value(row)),
            Column::Real(_, value) => query.bind(value(row)),
            Column::Count(_, value) => query.bind(value(row).map(integer)),
            Column::Flag(_, value) => query.bind(value(row)),
            Column::Date(_, value) => query.bind(utc_text(value(row))),
        });
        bound.execute(&mut *connection).await?;
    }
    Ok(())
}

fn statement<R: Record>() -> String {
    let places = vec!["?"; R::COLUMNS.len()].join(", ");
    format!("INSERT INTO {} ({}) VALUES ({places}) ON CONFLICT DO NOTHING", R::TABLE, names::<R>())
}
