//! Rows into their tables: one statement per table and batch, a column as an array each.

use std::borrow::Cow;

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use crate::store::metrics::MetricRow;
use crate::store::metrics::tables::{ByTable, Column, Record, names};

/// Inserts every row; those that are there already are left as they are.
pub(super) async fn all(connection: &mut PgConnection, rows: &[MetricRow]) -> Result<(), sqlx::Error> {
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

async fn insert<R: Record>(connection: &mut PgConnection, rows: &[&R]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    // Made of names that stand in this program, and of nothing else.
    let query = sqlx::query(AssertSqlSafe(statement::<R>()));
    let bound = R::COLUMNS.iter().fold(query, |query, column| match *column {
        Column::Text(_, value) => query.bind(each(rows, |row| value(row).map(without_nul))),
        Column::Real(_, value) => query.bind(each(rows, value)),
        Column::Count(_, value) => query.bind(each(rows, |row| value(row).map(integer))),
        Column::Flag(_, value) => query.bind(each(rows, value)),
        Column::Date(_, value) => query.bind(each(rows, value)),
    });
    bound.execute(connection).await.map(drop)
}

/// No constraint is named: that would need the right to read.
fn statement<R: Record>() -> String {
    let kind = |column: &Column<R>| match column {
        Column::Text(..) => "text",
        Column::Real(..) => "float8",
        Column::Count(..) => "bigint",
        Column::Flag(..) => "bool",
        Column::Date(..) => "timestamptz",
    };
    let arrays = R::COLUMNS.iter().zip(1..).map(|(column, place)| format!("${place}::{}[]", kind(column)));
    format!(
        "INSERT INTO {} ({}) SELECT * FROM unnest({}) ON CONFLICT DO NOTHING",
        R::TABLE,
        names::<R>(),
        arrays.collect::<Vec<_>>().join(", ")
    )
}

/// A column of the rows.
fn each<'r, R, T>(rows: &[&'r R], value: impl Fn(&'r R) -> T) -> Vec<T> {
    rows.iter().map(|row| value(row)).collect()
}

/// Text in Postgres cannot hold NUL: it would refuse the whole batch.
fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "").into() } else { text.into() }
}

/// Postgres' integers are signed; no count here comes near the difference.
fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
