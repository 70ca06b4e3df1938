-- The ledger, as in migrations/postgres/0002_ledger.sql: what a column means stands there.

CREATE TABLE job_metrics (
    id                INTEGER PRIMARY KEY,
    job_id            TEXT    NOT NULL,
    result_id         TEXT    NOT NULL UNIQUE,
    restaurant_id     TEXT    NOT NULL,
    worker            TEXT    NOT NULL,
    lane              TEXT             CHECK (lane IN ('hi', 'live', 'backfill')), -- NULL: from a file
    trace_id          TEXT,
    outcome           TEXT    NOT NULL,
    error_code        TEXT,
    model             TEXT    NOT NULL,
    prompt_version    TEXT    NOT NULL,
    device            TEXT    NOT NULL,
    config            TEXT    NOT NULL,
    deliveries        INTEGER,
    at_received_ms    REAL    NOT NULL,
    at_admitted_ms    REAL,
    at_first_token_ms REAL,
    at_prefilled_ms   REAL,
    at_published_ms   REAL    NOT NULL,
    queue_ms          REAL,
    ttft_ms           REAL,
    total_ms          REAL    NOT NULL,
    within_sla        INTEGER          CHECK (within_sla IN (0, 1)),
    reviews           INTEGER NOT NULL,
    reviews_read      INTEGER NOT NULL,
    cache_hits        INTEGER NOT NULL,
    embedded_texts    INTEGER NOT NULL,
    requests          INTEGER NOT NULL,
    prompt_tokens     INTEGER NOT NULL,
    cached_tokens     INTEGER NOT NULL,
    forced_tokens     INTEGER NOT NULL,
    generated_tokens  INTEGER NOT NULL,
    baseline_tokens   INTEGER NOT NULL,
    claims_written    INTEGER NOT NULL,
    claims_kept       INTEGER NOT NULL,
    created_at        TEXT    NOT NULL
) STRICT;
CREATE INDEX job_metrics_by_time ON job_metrics (created_at);
CREATE INDEX job_metrics_by_restaurant ON job_metrics (restaurant_id, created_at);

CREATE TABLE gpu_samples (
    id                  INTEGER PRIMARY KEY,
    worker              TEXT    NOT NULL,
    device              INTEGER NOT NULL,
    name                TEXT    NOT NULL,
    utilization         REAL,
    memory_used_bytes   INTEGER,
    memory_total_bytes  INTEGER,
    power_watts         REAL,
    temperature_celsius REAL,
    sampled_at          TEXT    NOT NULL,
    UNIQUE (worker, device, sampled_at)
) STRICT;
CREATE INDEX gpu_samples_by_time ON gpu_samples (sampled_at);

CREATE TABLE dead_letters (
    id            INTEGER PRIMARY KEY,
    job_id        TEXT,
    restaurant_id TEXT,
    worker        TEXT    NOT NULL,
    lane          TEXT    NOT NULL CHECK (lane IN ('hi', 'live', 'backfill')),
    reason        TEXT    NOT NULL,
    sequence      INTEGER NOT NULL,
    deliveries    INTEGER NOT NULL,
    created_at    TEXT    NOT NULL,
    UNIQUE (sequence, created_at)
) STRICT;
CREATE INDEX dead_letters_by_time ON dead_letters (created_at);

ALTER TABLE workers ADD COLUMN device TEXT;
ALTER TABLE workers ADD COLUMN slots INTEGER;
ALTER TABLE workers ADD COLUMN sequences INTEGER;
ALTER TABLE workers ADD COLUMN config TEXT;
ALTER TABLE workers ADD COLUMN sla_ms REAL;
CREATE INDEX workers_by_time ON workers (started_at);

CREATE TABLE worker_ends (
    id         INTEGER PRIMARY KEY,
    worker     TEXT NOT NULL,
    started_at TEXT NOT NULL,
    ended_at   TEXT NOT NULL,
    ending     TEXT NOT NULL,
    UNIQUE (worker, started_at)
) STRICT;
CREATE INDEX worker_ends_by_time ON worker_ends (ended_at);

ALTER TABLE goodput_windows ADD COLUMN busy_seconds REAL;
ALTER TABLE llm_metrics ADD COLUMN at_received_ms REAL;
ALTER TABLE analysis_metrics ADD COLUMN error_count INTEGER;

CREATE VIEW worker_lives AS
SELECT
    w.worker, w.version, w.model, w.device, w.slots, w.sequences, w.config, w.sla_ms, w.started_at,
    e.ended_at, e.ending,
    (SELECT max(g.ended_at) FROM goodput_windows g
      WHERE g.worker = w.worker AND g.started_at >= w.started_at
        AND g.started_at < coalesce((SELECT min(n.started_at) FROM workers n
                                      WHERE n.worker = w.worker AND n.started_at > w.started_at), '9999'))
        AS last_window_at
FROM workers w LEFT JOIN worker_ends e ON e.worker = w.worker AND e.started_at = w.started_at;

-- Without percentiles, which SQLite has not: `maitred report` computes them.
CREATE VIEW sla_by_lane_and_size AS
SELECT
    date(created_at)                                       AS day,
    lane,
    CASE WHEN reviews <= 5 THEN 'small' WHEN reviews <= 30 THEN 'medium' ELSE 'large' END AS size,
    count(*)                                               AS jobs,
    count(within_sla)                                      AS judged,
    coalesce(sum(within_sla), 0)                           AS met,
    sum(within_sla) * 1.0 / nullif(count(within_sla), 0)   AS compliance,
    avg(ttft_ms)                                           AS ttft_mean_ms,
    max(ttft_ms)                                           AS ttft_max_ms
FROM job_metrics
GROUP BY 1, 2, 3;

CREATE VIEW job_hours AS
SELECT
    CAST(strftime('%H', created_at) AS INTEGER)            AS hour,
    count(*)                                               AS jobs,
    count(DISTINCT date(created_at))                       AS days,
    sum(outcome = 'failed')                                AS failed,
    sum(reviews)                                           AS reviews,
    sum(prompt_tokens + forced_tokens + generated_tokens)  AS computed_tokens,
    sum(within_sla) * 1.0 / nullif(count(within_sla), 0)   AS compliance
FROM job_metrics
GROUP BY 1;

CREATE VIEW restaurant_cost AS
WITH spent AS (
    SELECT date(created_at) AS day, worker, restaurant_id, count(*) AS results,
           sum(prompt_tokens + forced_tokens + generated_tokens) AS tokens
    FROM job_metrics GROUP BY 1, 2, 3
), busy AS (
    SELECT date(ended_at) AS day, worker, sum(busy_seconds) AS seconds FROM goodput_windows GROUP BY 1, 2
), shared AS (
    SELECT spent.*, sum(tokens) OVER (PARTITION BY day, worker) AS of_tokens FROM spent
)
SELECT
    shared.day AS day, restaurant_id,
    sum(results)                                           AS results,
    sum(tokens)                                            AS computed_tokens,
    sum(busy.seconds * tokens / nullif(of_tokens, 0))      AS engine_seconds
FROM shared LEFT JOIN busy ON busy.day = shared.day AND busy.worker = shared.worker
GROUP BY shared.day, restaurant_id;

CREATE VIEW report_jobs AS
SELECT created_at, CAST(strftime('%s', created_at) AS INTEGER) AS second, worker, lane, reviews, outcome, error_code,
       queue_ms, ttft_ms, total_ms, within_sla, reviews_read, cache_hits,
       prompt_tokens, cached_tokens, forced_tokens, generated_tokens, baseline_tokens, claims_written, claims_kept
FROM job_metrics;

CREATE VIEW report_requests AS
SELECT created_at, kind, outcome, queue_ms, prefill_ms, decode_ms, tpot_ms, generated_tokens FROM llm_metrics;

-- Seconds, and the milliseconds at their place in the text.
CREATE VIEW report_windows AS
SELECT ended_at AS created_at, worker,
       strftime('%s', started_at) + substr(started_at, 21, 3) / 1000.0 AS from_second,
       strftime('%s', ended_at) + substr(ended_at, 21, 3) / 1000.0 AS to_second,
       jobs, jobs_met, tokens, tokens_met, wall_seconds, busy_seconds
FROM goodput_windows;

CREATE VIEW report_gpus AS
SELECT sampled_at AS created_at, CAST(strftime('%s', sampled_at) AS INTEGER) AS second, worker, device, name,
       utilization, memory_used_bytes, memory_total_bytes, power_watts, temperature_celsius
FROM gpu_samples;

CREATE VIEW report_dead_letters AS
SELECT created_at, lane, reason FROM dead_letters;

CREATE VIEW report_workers AS
SELECT worker, model, device, slots, sequences, started_at,
       CAST(strftime('%s', started_at) AS INTEGER) AS started_second, ended_at,
       CAST(strftime('%s', ended_at) AS INTEGER) AS ended_second, ending
FROM worker_lives;
