-- The embedded home of facts, last results and metrics: one SQLite file next to the output.
--
-- Times are UTC: metrics carry RFC 3339 text of fixed width ("2026-01-31T09:30:00.000Z", so that text order is
-- time order and SQLite's date functions read it), caches carry Unix seconds. Durations are milliseconds.
-- A column that was not measured is NULL, never zero.

-- What the models said of one review: MessagePack of `ReviewFacts`, immutable under its key.
-- A table with rowids, because values of some kilobytes make a clustered index slow.
CREATE TABLE facts (
    reader    TEXT    NOT NULL, -- digest of models, prompts and language
    text      TEXT    NOT NULL, -- digest of the review's text
    value     BLOB    NOT NULL,
    bytes     INTEGER NOT NULL, -- length of `value`, for pruning by size from the index alone
    last_used INTEGER NOT NULL, -- Unix seconds; refreshed at most once a day
    UNIQUE (reader, text)
) STRICT;
CREATE INDEX facts_by_use ON facts (last_used, bytes);

-- The earlier result of a restaurant: MessagePack of `LastResult`.
CREATE TABLE last_results (
    restaurant_id TEXT    NOT NULL PRIMARY KEY,
    value         BLOB    NOT NULL,
    updated_at    INTEGER NOT NULL -- Unix seconds
) STRICT;
CREATE INDEX last_results_by_age ON last_results (updated_at);

-- A restaurant's share in the fleet's running rates. One row per restaurant and aspect: replacing a share is exact,
-- because totals are summed, never adjusted.
CREATE TABLE aspect_counts (
    reader        TEXT    NOT NULL,
    restaurant_id TEXT    NOT NULL,
    aspect        INTEGER NOT NULL, -- index into the aspects that `reader` covers
    reviews       INTEGER NOT NULL, -- reviews of the restaurant
    positive      INTEGER NOT NULL, -- of those, the ones that praise the aspect
    updated_at    INTEGER NOT NULL, -- Unix seconds
    PRIMARY KEY (reader, restaurant_id, aspect)
) WITHOUT ROWID, STRICT;

-- One row per request to the engine.
CREATE TABLE llm_metrics (
    id               INTEGER PRIMARY KEY,
    request_id       TEXT    NOT NULL,
    job_id           TEXT    NOT NULL,
    restaurant_id    TEXT    NOT NULL,
    analysis         TEXT    NOT NULL,
    kind             TEXT    NOT NULL CHECK (kind IN ('probe', 'generation')),
    model            TEXT    NOT NULL,
    queue_ms         REAL    NOT NULL, -- arrival to admission
    prefill_ms       REAL,             -- admission to the first label or token
    decode_ms        REAL,             -- first label or token to the end
    total_ms         REAL    NOT NULL, -- arrival to the end
    ttft_ms          REAL,             -- arrival to the first label or token: queue wait included
    tpot_ms          REAL,             -- per generated token after the first
    tps              REAL,             -- tokens computed per second from admission to the end
    prompt_tokens    INTEGER NOT NULL,
    cached_tokens    INTEGER NOT NULL,
    forced_tokens    INTEGER NOT NULL,
    generated_tokens INTEGER NOT NULL,
    outcome          TEXT    NOT NULL,
    created_at       TEXT    NOT NULL,
    UNIQUE (job_id, request_id)
) STRICT;
CREATE INDEX llm_metrics_by_time ON llm_metrics (created_at);

-- One row per job and analysis; the same row twice is harmless.
CREATE TABLE analysis_metrics (
    id               INTEGER PRIMARY KEY,
    job_id           TEXT    NOT NULL,
    restaurant_id    TEXT    NOT NULL,
    analysis         TEXT    NOT NULL,
    outcome          TEXT    NOT NULL, -- ok, partial, unchanged, no_data, stale, failed
    error_code       TEXT,             -- of `failed` only
    model            TEXT    NOT NULL, -- the model that answered
    prompt_version   TEXT    NOT NULL,
    processing_ms    REAL    NOT NULL,
    queue_ms         REAL    NOT NULL,
    ttft_ms          REAL,             -- NULL: the model was not asked
    prompt_tokens    INTEGER NOT NULL,
    cached_tokens    INTEGER NOT NULL,
    forced_tokens    INTEGER NOT NULL,
    generated_tokens INTEGER NOT NULL,
    reviews          INTEGER NOT NULL,
    reviews_read     INTEGER NOT NULL,
    cache_hits       INTEGER NOT NULL,
    baseline_tokens  INTEGER NOT NULL,
    warning_count    INTEGER NOT NULL,
    created_at       TEXT    NOT NULL,
    UNIQUE (job_id, analysis)
) STRICT;
CREATE INDEX analysis_metrics_by_time ON analysis_metrics (created_at);
CREATE INDEX analysis_metrics_by_restaurant ON analysis_metrics (restaurant_id, analysis, created_at);

-- Raw and useful throughput over a stretch of wall time.
CREATE TABLE goodput_windows (
    id             INTEGER PRIMARY KEY,
    worker         TEXT    NOT NULL,
    started_at     TEXT    NOT NULL,
    ended_at       TEXT    NOT NULL,
    wall_seconds   REAL    NOT NULL,
    jobs           INTEGER NOT NULL,
    jobs_met       INTEGER NOT NULL,
    tokens         INTEGER NOT NULL,
    tokens_met     INTEGER NOT NULL,
    throughput_tps REAL,             -- NULL: no wall time
    goodput_tps    REAL,
    compliance     REAL,             -- jobs_met / jobs; NULL: no jobs
    ttft_p50_ms    REAL,
    ttft_p95_ms    REAL,
    UNIQUE (worker, started_at, ended_at)
) STRICT;
CREATE INDEX goodput_windows_by_time ON goodput_windows (ended_at);

-- Tokens computed against tokens that all reviews in each prompt would have cost, per day and analysis. Only work
-- that ended with findings: a failure is cheap, but saves nothing.
CREATE VIEW token_saving AS
SELECT
    date(created_at)                                       AS day,
    analysis,
    count(*)                                               AS analyses,
    sum(baseline_tokens)                                   AS baseline_tokens,
    sum(prompt_tokens + forced_tokens + generated_tokens)  AS computed_tokens,
    1.0 - sum(prompt_tokens + forced_tokens + generated_tokens) * 1.0 / nullif(sum(baseline_tokens), 0)
                                                           AS saved_share
FROM analysis_metrics
WHERE outcome IN ('ok', 'partial', 'unchanged')
GROUP BY day, analysis;

-- Load and outcome by hour of the day (UTC, 0 to 23).
CREATE VIEW hour_of_day AS
SELECT
    CAST(strftime('%H', created_at) AS INTEGER)            AS hour,
    count(*)                                               AS analyses,
    sum(outcome IN ('ok', 'partial'))                      AS worked,
    sum(outcome = 'unchanged')                             AS unchanged,
    sum(outcome = 'failed')                                AS failed,
    avg(processing_ms)                                     AS mean_processing_ms,
    avg(ttft_ms)                                           AS mean_ttft_ms,
    sum(prompt_tokens + forced_tokens + generated_tokens)  AS computed_tokens
FROM analysis_metrics
GROUP BY hour;
