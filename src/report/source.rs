//! Reading the rows of a period. The views give the same columns in both databases, so the statements are the same;
//! only how a moment is written differs.

/// From when to when there are rows.
pub(crate) const EXTENT: &str = "
    SELECT CAST(min(first) AS bigint), CAST(max(last) AS bigint) FROM (
        SELECT min(second) AS first, max(second) AS last FROM report_jobs WHERE created_at BETWEEN $1 AND $2
        UNION ALL SELECT CAST(min(from_second) AS bigint), CAST(max(to_second) AS bigint)
            FROM report_windows WHERE created_at BETWEEN $1 AND $2
        UNION ALL SELECT min(second), max(second) FROM report_gpus WHERE created_at BETWEEN $1 AND $2
    ) AS extents";
pub(crate) const JOBS: &str = "SELECT * FROM report_jobs WHERE created_at BETWEEN $1 AND $2";
pub(crate) const WINDOWS: &str = "SELECT * FROM report_windows WHERE created_at BETWEEN $1 AND $2";
pub(crate) const GPUS: &str = "SELECT * FROM report_gpus WHERE created_at BETWEEN $1 AND $2";
pub(crate) const LETTERS: &str = "SELECT * FROM report_dead_letters WHERE created_at BETWEEN $1 AND $2";
pub(crate) const REQUESTS: &str = "
    SELECT kind, count(*) AS requests, sum(CASE WHEN outcome = 'ok' THEN 1 ELSE 0 END) AS answered,
           avg(queue_ms) AS queue_ms, avg(prefill_ms) AS prefill_ms, avg(decode_ms) AS decode_ms
    FROM report_requests WHERE created_at BETWEEN $1 AND $2 GROUP BY kind ORDER BY kind";
pub(crate) const TPOTS: &str =
    "SELECT tpot_ms FROM report_requests WHERE created_at BETWEEN $1 AND $2 AND tpot_ms IS NOT NULL";
pub(crate) const STARTS: &str = "SELECT * FROM report_workers WHERE started_at BETWEEN $1 AND $2";
/// Those that were there before: the last start of each, as far back as rows are kept.
pub(crate) const EARLIER: &str = "
    SELECT * FROM report_workers AS w WHERE started_at < $1 AND (ended_at IS NULL OR ended_at >= $1)
        AND NOT EXISTS (SELECT 1 FROM report_workers AS n
                         WHERE n.worker = w.worker AND n.started_at > w.started_at AND n.started_at < $1)
        AND $1 <= $2";

/// Reads a period over a connection, for which `$moment` writes its ends: `Result<Tally, sqlx::Error>`. A macro, since
/// what both databases have in common can be written once and not named in types.
macro_rules! read {
    ($connection:expr, $period:expr, $moment:expr) => {{
        use futures_util::TryStreamExt as _;
        use $crate::report::{rows, source, tally};
        let (from, to) = ($moment($period.from), $moment($period.to));
        macro_rules! ask {
            ($row:ty, $statement:expr) => {
                sqlx::query_as::<_, $row>($statement).bind(&from).bind(&to).fetch(&mut *$connection)
            };
        }
        let extent = ask!((Option<i64>, Option<i64>), source::EXTENT).try_next().await?;
        let (first, last) = extent.unwrap_or_default();
        let end = $period.to.unix_timestamp();
        let mut tally = tally::Tally::new(tally::Axis::over(first.unwrap_or(end), last.unwrap_or(end)));
        let mut jobs = ask!(rows::JobSeen, source::JOBS);
        while let Some(job) = jobs.try_next().await? {
            tally.job(&job);
        }
        drop(jobs);
        let mut windows = ask!(rows::WindowSeen, source::WINDOWS);
        while let Some(window) = windows.try_next().await? {
            tally.window(&window);
        }
        drop(windows);
        let mut gpus = ask!(rows::GpuSeen, source::GPUS);
        while let Some(gpu) = gpus.try_next().await? {
            tally.gpu(&gpu);
        }
        drop(gpus);
        let mut letters = ask!(rows::LetterSeen, source::LETTERS);
        while let Some(letter) = letters.try_next().await? {
            tally.letter(&letter);
        }
        drop(letters);
        let mut requests = ask!(rows::RequestsSeen, source::REQUESTS);
        while let Some(kind) = requests.try_next().await? {
            tally.requests(kind);
        }
        drop(requests);
        let mut tpots = ask!((f64,), source::TPOTS);
        while let Some((millis,)) = tpots.try_next().await? {
            tally.tpot(millis);
        }
        drop(tpots);
        let mut starts = ask!(rows::WorkerSeen, source::STARTS);
        while let Some(worker) = starts.try_next().await? {
            tally.worker(worker);
        }
        drop(starts);
        let mut earlier = ask!(rows::WorkerSeen, source::EARLIER);
        while let Some(worker) = earlier.try_next().await? {
            tally.earlier_worker(worker);
        }
        drop(earlier);
        Ok::<tally::Tally, sqlx::Error>(tally)
    }};
}
pub(crate) use read;
