-- The fleet's metrics. The same rows as in SQLite (migrations/sqlite), in the types of Postgres.
--
-- Times are timestamptz, durations milliseconds in double precision, counts bigint.
-- A column that was not measured is NULL, never zero. Rows are only added; the writer needs no more than INSERT.

-- One row per request to the engine.
CREATE TABLE llm_metrics (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request_id       text             NOT NULL,
    job_id           text             NOT NULL,
    result_id        text             NOT NULL, -- the job's, or of its backfill
    restaurant_id    text             NOT NULL,
    worker           text             NOT NULL,
    lane             text             CHECK (lane IN ('hi', 'live', 'backfill')), -- NULL: from a file
    trace_id         text,                      -- 32 hexadecimal digits; NULL: the job came without a trace
    analysis         text             NOT NULL,
    kind             text             NOT NULL CHECK (kind IN ('probe', 'generation')),
    model            text             NOT NULL,
    queue_ms         double precision NOT NULL, -- arrival to admission
    prefill_ms       double precision,          -- admission to the first label or token
    decode_ms        double precision,          -- first label or token to the end
    total_ms         double precision NOT NULL, -- arrival to the end
    ttft_ms          double precision,          -- arrival to the first label or token: queue wait included
    tpot_ms          double precision,          -- per generated token after the first
    tps              double precision,          -- tokens computed per second from admission to the end
    prompt_tokens    bigint           NOT NULL,
    cached_tokens    bigint           NOT NULL,
    forced_tokens    bigint           NOT NULL,
    generated_tokens bigint           NOT NULL,
    outcome          text             NOT NULL,
    created_at       timestamptz      NOT NULL,
    UNIQUE (result_id, request_id)
);
CREATE INDEX llm_metrics_by_time ON llm_metrics (created_at);

-- One row per result and analysis; the same row twice is harmless. A backfill works a job again: another result.
CREATE TABLE analysis_metrics (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id           text             NOT NULL,
    result_id        text             NOT NULL, -- the job's, or of its backfill
    restaurant_id    text             NOT NULL,
    worker           text             NOT NULL,
    lane             text             CHECK (lane IN ('hi', 'live', 'backfill')), -- NULL: from a file
    trace_id         text,                      -- 32 hexadecimal digits; NULL: the job came without a trace
    analysis         text             NOT NULL,
    outcome          text             NOT NULL, -- ok, partial, unchanged, no_data, stale, failed
    error_code       text,                      -- of `failed` only
    model            text             NOT NULL, -- the model that answered
    prompt_version   text             NOT NULL,
    processing_ms    double precision NOT NULL,
    queue_ms         double precision NOT NULL,
    ttft_ms          double precision,          -- NULL: the model was not asked
    prompt_tokens    bigint           NOT NULL,
    cached_tokens    bigint           NOT NULL,
    forced_tokens    bigint           NOT NULL,
    generated_tokens bigint           NOT NULL,
    reviews          bigint           NOT NULL,
    reviews_read     bigint           NOT NULL,
    cache_hits       bigint           NOT NULL,
    baseline_tokens  bigint           NOT NULL,
    warning_count    bigint           NOT NULL,
    created_at       timestamptz      NOT NULL,
    UNIQUE (result_id, analysis)
);
CREATE INDEX analysis_metrics_by_time ON analysis_metrics (created_at);
CREATE INDEX analysis_metrics_by_restaurant ON analysis_metrics (restaurant_id, analysis, created_at);

-- Raw and useful throughput over a stretch of wall time.
CREATE TABLE goodput_windows (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    worker         text             NOT NULL,
    started_at     timestamptz      NOT NULL,
    ended_at       timestamptz      NOT NULL,
    wall_seconds   double precision NOT NULL,
    jobs           bigint           NOT NULL,
    jobs_met       bigint           NOT NULL,
    tokens         bigint           NOT NULL,
    tokens_met     bigint           NOT NULL,
    throughput_tps double precision, -- NULL: no wall time
    goodput_tps    double precision,
    compliance     double precision, -- jobs_met / jobs; NULL: no jobs
    ttft_p50_ms    double precision,
    ttft_p95_ms    double precision,
    UNIQUE (worker, started_at, ended_at)
);
CREATE INDEX goodput_windows_by_time ON goodput_windows (ended_at);

-- One row per start of a worker.
CREATE TABLE workers (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    worker     text        NOT NULL,
    version    text        NOT NULL,
    model      text        NOT NULL,
    started_at timestamptz NOT NULL,
    UNIQUE (worker, started_at)
);

-- Tokens computed against tokens that all reviews in each prompt would have cost, per day (UTC) and analysis. Only
-- work that ended with findings: a failure is cheap, but saves nothing.
CREATE VIEW token_saving AS
SELECT
    (created_at AT TIME ZONE 'UTC')::date                          AS day,
    analysis,
    count(*)                                                       AS analyses,
    sum(baseline_tokens)::bigint                                   AS baseline_tokens,
    sum(prompt_tokens + forced_tokens + generated_tokens)::bigint  AS computed_tokens,
    (1 - sum(prompt_tokens + forced_tokens + generated_tokens) / nullif(sum(baseline_tokens), 0))::double precision
                                                                   AS saved_share
FROM analysis_metrics
WHERE outcome IN ('ok', 'partial', 'unchanged')
GROUP BY 1, 2;

-- Load and outcome by hour of the day (UTC, 0 to 23).
CREATE VIEW hour_of_day AS
SELECT
    extract(hour FROM created_at AT TIME ZONE 'UTC')::integer      AS hour,
    count(*)                                                       AS analyses,
    count(*) FILTER (WHERE outcome IN ('ok', 'partial'))           AS worked,
    count(*) FILTER (WHERE outcome = 'unchanged')                  AS unchanged,
    count(*) FILTER (WHERE outcome = 'failed')                     AS failed,
    avg(processing_ms)                                             AS mean_processing_ms,
    avg(ttft_ms)                                                   AS mean_ttft_ms,
    sum(prompt_tokens + forced_tokens + generated_tokens)::bigint  AS computed_tokens
FROM analysis_metrics
GROUP BY 1;

-- How well each lane was served, per day (UTC). Rows without a lane came from a file, where nobody waits. Waiting and
-- processing count for all that was worked; the first answer for those that asked the model.
CREATE VIEW lane_service AS
SELECT
    (created_at AT TIME ZONE 'UTC')::date                                              AS day,
    lane,
    count(DISTINCT result_id)                                                          AS results,
    count(DISTINCT result_id) FILTER (WHERE outcome = 'failed')                        AS failed_results,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY ttft_ms)                               AS ttft_p50_ms,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY ttft_ms)                              AS ttft_p95_ms,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY queue_ms)                             AS queue_p95_ms,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY queue_ms + processing_ms)             AS total_p95_ms
FROM analysis_metrics
WHERE lane IS NOT NULL AND outcome IN ('ok', 'partial', 'failed')
GROUP BY 1, 2;

-- Each worker's throughput per day (UTC), from its windows.
CREATE VIEW worker_goodput AS
SELECT
    (ended_at AT TIME ZONE 'UTC')::date                            AS day,
    worker,
    sum(jobs)::bigint                                              AS jobs,
    sum(jobs_met)::bigint                                          AS jobs_met,
    sum(tokens) / nullif(sum(wall_seconds), 0)                     AS throughput_tps,
    sum(tokens_met) / nullif(sum(wall_seconds), 0)                 AS goodput_tps
FROM goodput_windows
GROUP BY 1, 2;

-- The rights of the roles in deploy/postgres/roles.sql, where they exist: without them the owner does all.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'maitred_writer') THEN
        GRANT INSERT, SELECT ON llm_metrics, analysis_metrics, goodput_windows, workers TO maitred_writer;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'maitred_reader') THEN
        GRANT SELECT ON token_saving, hour_of_day, lane_service, worker_goodput TO maitred_reader;
    END IF;
END $$;
