-- The ledger: a row per result with the stamps of its way, GPU samples, dead letters, what a worker is, how busy it
-- was; views for people and for `maitred report`; and a way to let old rows go.
--
-- Types and units as in 0001. Stamps (`at_…_ms`) are on the worker's monotonic clock, in milliseconds since its engine
-- started: they order and subtract, and mean nothing between workers.

-- One row per result, worked or not; the same row twice is harmless.
CREATE TABLE job_metrics (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id            text             NOT NULL,
    result_id         text             NOT NULL UNIQUE, -- the job's, or of its backfill
    restaurant_id     text             NOT NULL,
    worker            text             NOT NULL,
    lane              text             CHECK (lane IN ('hi', 'live', 'backfill')), -- NULL: from a file
    trace_id          text,                      -- 32 hexadecimal digits; NULL: the job came without a trace
    outcome           text             NOT NULL, -- ok, partial, unchanged, no_data, stale, failed
    error_code        text,                      -- of `failed` only
    model             text             NOT NULL, -- the model that answered
    prompt_version    text             NOT NULL,
    device            text             NOT NULL, -- cpu, integrated_gpu, discrete_gpu
    config            text             NOT NULL, -- digest of the settings that bear on speed and findings
    deliveries        bigint,                    -- how often the server had delivered it; NULL: from a file
    at_received_ms    double precision NOT NULL,
    at_admitted_ms    double precision,          -- its first request was given a sequence; NULL: the model was not asked
    at_first_token_ms double precision,          -- its first label or token was known
    at_prefilled_ms   double precision,          -- the last of its prompts was read: its last request's first label or token
    at_published_ms   double precision NOT NULL, -- its result was stored
    queue_ms          double precision,          -- publication to admitted
    ttft_ms           double precision,          -- publication to first label or token
    total_ms          double precision NOT NULL, -- publication to result stored
    within_sla        boolean,                   -- against the worker's goodput.ttft; NULL: the model was not needed
    reviews           bigint           NOT NULL,
    reviews_read      bigint           NOT NULL,
    cache_hits        bigint           NOT NULL,
    embedded_texts    bigint           NOT NULL,
    requests          bigint           NOT NULL,
    prompt_tokens     bigint           NOT NULL,
    cached_tokens     bigint           NOT NULL, -- taken from a pinned prefix
    forced_tokens     bigint           NOT NULL,
    generated_tokens  bigint           NOT NULL,
    baseline_tokens   bigint           NOT NULL,
    claims_written    bigint           NOT NULL,
    claims_kept       bigint           NOT NULL,
    created_at        timestamptz      NOT NULL
);
CREATE INDEX job_metrics_by_time ON job_metrics (created_at);
CREATE INDEX job_metrics_by_restaurant ON job_metrics (restaurant_id, created_at);

-- One row per look at a GPU. What the driver does not tell is NULL.
CREATE TABLE gpu_samples (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    worker              text             NOT NULL,
    device              integer          NOT NULL, -- counted from 0
    name                text             NOT NULL,
    utilization         double precision,          -- 0 to 1
    memory_used_bytes   bigint,
    memory_total_bytes  bigint,
    power_watts         double precision,
    temperature_celsius double precision,
    sampled_at          timestamptz      NOT NULL,
    UNIQUE (worker, device, sampled_at)
);
CREATE INDEX gpu_samples_by_time ON gpu_samples (sampled_at);

-- One row per dead letter, whoever wrote it. The letters themselves are in their stream, and may be sent again, dropped,
-- or taken back since, because a slow worker had a result after all.
CREATE TABLE dead_letters (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id        text,                 -- NULL: the message could not be read
    restaurant_id text,
    worker        text        NOT NULL,
    lane          text        NOT NULL CHECK (lane IN ('hi', 'live', 'backfill')),
    reason        text        NOT NULL, -- a short stable code
    sequence      bigint      NOT NULL, -- of the job in its stream
    deliveries    bigint      NOT NULL,
    created_at    timestamptz NOT NULL,
    UNIQUE (sequence, created_at)
);
CREATE INDEX dead_letters_by_time ON dead_letters (created_at);

-- What a start is: added columns are NULL for starts before them.
ALTER TABLE workers
    ADD COLUMN device    text,
    ADD COLUMN slots     bigint,            -- jobs in work at the same time
    ADD COLUMN sequences bigint,            -- requests in work at the same time
    ADD COLUMN config    text,              -- as in job_metrics
    ADD COLUMN sla_ms    double precision;  -- goodput.ttft
CREATE INDEX workers_by_time ON workers (started_at);

-- One row per end of a worker that could tell: rows are only added, so an end is not written over its start.
CREATE TABLE worker_ends (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    worker     text        NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at   timestamptz NOT NULL,
    ending     text        NOT NULL, -- drained, aborted, stuck
    UNIQUE (worker, started_at)
);
CREATE INDEX worker_ends_by_time ON worker_ends (ended_at);

-- Time that the engine was at work in the window; NULL: not measured.
ALTER TABLE goodput_windows ADD COLUMN busy_seconds double precision;

-- When the request's job was received, on the worker's clock: its other stamps are this plus queue_ms, ttft_ms, total_ms.
ALTER TABLE llm_metrics ADD COLUMN at_received_ms double precision;

-- Requests charged to the analysis that the engine did not answer. warning_count: claims that failed a check and were
-- replaced by a quote (rows before this column: requests that were not answered).
ALTER TABLE analysis_metrics ADD COLUMN error_count bigint;

-- Starts of workers, and what is known of their ends: a worker that was killed has no end, but was seen.
CREATE VIEW worker_lives AS
SELECT
    w.worker, w.version, w.model, w.device, w.slots, w.sequences, w.config, w.sla_ms, w.started_at,
    e.ended_at, e.ending,
    (SELECT max(g.ended_at) FROM goodput_windows g
      WHERE g.worker = w.worker AND g.started_at >= w.started_at
        AND g.started_at < coalesce((SELECT min(n.started_at) FROM workers n
                                      WHERE n.worker = w.worker AND n.started_at > w.started_at), 'infinity'))
        AS last_window_at
FROM workers w LEFT JOIN worker_ends e USING (worker, started_at);

-- How each lane and size was served, per day (UTC). small: up to 5 reviews, medium: up to 30, large: more.
CREATE VIEW sla_by_lane_and_size AS
SELECT
    (created_at AT TIME ZONE 'UTC')::date                                            AS day,
    lane,
    CASE WHEN reviews <= 5 THEN 'small' WHEN reviews <= 30 THEN 'medium' ELSE 'large' END AS size,
    count(*)                                                                         AS jobs,
    count(within_sla)                                                                AS judged,
    count(*) FILTER (WHERE within_sla)                                               AS met,
    count(*) FILTER (WHERE within_sla)::double precision / nullif(count(within_sla), 0) AS compliance,
    percentile_disc(0.5) WITHIN GROUP (ORDER BY ttft_ms)                             AS ttft_p50_ms,
    percentile_disc(0.95) WITHIN GROUP (ORDER BY ttft_ms)                            AS ttft_p95_ms,
    percentile_disc(0.95) WITHIN GROUP (ORDER BY total_ms)                           AS total_p95_ms
FROM job_metrics
GROUP BY 1, 2, 3;

-- Jobs by hour of the day (UTC, 0 to 23): when the load comes, and how it is served then.
CREATE VIEW job_hours AS
SELECT
    extract(hour FROM created_at AT TIME ZONE 'UTC')::integer                        AS hour,
    count(*)                                                                         AS jobs,
    count(DISTINCT (created_at AT TIME ZONE 'UTC')::date)                            AS days,
    count(*) FILTER (WHERE outcome = 'failed')                                       AS failed,
    sum(reviews)::bigint                                                             AS reviews,
    sum(prompt_tokens + forced_tokens + generated_tokens)::bigint                    AS computed_tokens,
    count(*) FILTER (WHERE within_sla)::double precision / nullif(count(within_sla), 0) AS compliance,
    percentile_disc(0.95) WITHIN GROUP (ORDER BY ttft_ms)                            AS ttft_p95_ms
FROM job_metrics
GROUP BY 1;

-- What each restaurant took of the engines, per day (UTC): a worker's busy time, shared out by tokens. Its cost is
-- engine_seconds / 3600 * what an hour of a worker costs; time in which a worker idles is in nobody's. NULL: the
-- worker's busy time is not known.
CREATE VIEW restaurant_cost AS
WITH spent AS (
    SELECT (created_at AT TIME ZONE 'UTC')::date AS day, worker, restaurant_id, count(*) AS results,
           sum(prompt_tokens + forced_tokens + generated_tokens) AS tokens
    FROM job_metrics GROUP BY 1, 2, 3
), busy AS (
    SELECT (ended_at AT TIME ZONE 'UTC')::date AS day, worker, sum(busy_seconds) AS seconds
    FROM goodput_windows GROUP BY 1, 2
), shared AS (
    SELECT spent.*, sum(tokens) OVER (PARTITION BY day, worker) AS of_tokens FROM spent
)
SELECT
    day, restaurant_id,
    sum(results)::bigint                                                             AS results,
    sum(tokens)::bigint                                                              AS computed_tokens,
    sum(busy.seconds * (tokens / nullif(of_tokens, 0))::double precision)            AS engine_seconds
FROM shared LEFT JOIN busy USING (day, worker)
GROUP BY day, restaurant_id;

-- What `maitred report` reads: no restaurant, no job. `second` is Unix time.
CREATE VIEW report_jobs AS
SELECT created_at, floor(extract(epoch FROM created_at))::bigint AS second, worker, lane, reviews, outcome, error_code,
       queue_ms, ttft_ms, total_ms, within_sla, reviews_read, cache_hits,
       prompt_tokens, cached_tokens, forced_tokens, generated_tokens, baseline_tokens, claims_written, claims_kept
FROM job_metrics;

CREATE VIEW report_requests AS
SELECT created_at, kind, outcome, queue_ms, prefill_ms, decode_ms, tpot_ms, generated_tokens FROM llm_metrics;

CREATE VIEW report_windows AS
SELECT ended_at AS created_at, worker, extract(epoch FROM started_at)::double precision AS from_second,
       extract(epoch FROM ended_at)::double precision AS to_second,
       jobs, jobs_met, tokens, tokens_met, wall_seconds, busy_seconds
FROM goodput_windows;

CREATE VIEW report_gpus AS
SELECT sampled_at AS created_at, floor(extract(epoch FROM sampled_at))::bigint AS second, worker, device::bigint AS device, name,
       utilization, memory_used_bytes, memory_total_bytes, power_watts, temperature_celsius
FROM gpu_samples;

CREATE VIEW report_dead_letters AS
SELECT created_at, lane, reason FROM dead_letters;

CREATE VIEW report_workers AS
SELECT worker, model, device, slots, sequences, started_at,
       floor(extract(epoch FROM started_at))::bigint AS started_second, ended_at,
       floor(extract(epoch FROM ended_at))::bigint AS ended_second, ending
FROM worker_lives;

-- When old rows were last let go: one row at most.
CREATE TABLE retention (
    only_one    boolean     PRIMARY KEY DEFAULT true CHECK (only_one),
    finished_at timestamptz NOT NULL
);

-- Lets rows go that are older than `keep`, at most `at_most` of them; how many. NULL: nothing to do now, since another
-- worker is at it, or it was finished less than 20 hours ago (workers ask more often; this makes it daily).
--
-- With its owner's rights, so that the writer needs no DELETE: whoever has a worker's password can let go of what is
-- older than a day, and of nothing else.
CREATE FUNCTION let_go_of_metrics(keep interval, at_most bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    before timestamptz := now() - keep;
    target record;
    these  bigint;
    gone   bigint := 0;
BEGIN
    IF keep < interval '1 day' THEN
        RAISE EXCEPTION 'metrics are kept for a day at least';
    END IF;
    -- Of several at once one works; the lock ends with the transaction.
    IF NOT pg_try_advisory_xact_lock(7021868440812) THEN
        RETURN NULL;
    END IF;
    IF EXISTS (SELECT FROM retention WHERE finished_at > now() - interval '20 hours') THEN
        RETURN NULL;
    END IF;
    FOR target IN
        SELECT * FROM (VALUES
            ('llm_metrics', 'created_at', ''), ('analysis_metrics', 'created_at', ''),
            ('job_metrics', 'created_at', ''), ('gpu_samples', 'sampled_at', ''),
            ('dead_letters', 'created_at', ''), ('goodput_windows', 'ended_at', ''),
            ('worker_ends', 'ended_at', ''),
            -- A worker that is still at work keeps the row of its start.
            ('workers', 'started_at', 'AND NOT EXISTS (SELECT FROM goodput_windows g
                                         WHERE g.worker = aged.worker AND g.ended_at >= $1)')
        ) AS t (relation, stamp, unless)
    LOOP
        -- Oldest first, by the index on the stamp; then straight to the rows.
        EXECUTE format(
            'DELETE FROM %1$I WHERE ctid = ANY (ARRAY(
                 SELECT aged.ctid FROM %1$I AS aged WHERE aged.%2$I < $1 %3$s ORDER BY aged.%2$I LIMIT $2))',
            target.relation, target.stamp, target.unless)
        USING before, at_most - gone;
        GET DIAGNOSTICS these = ROW_COUNT;
        gone := gone + these;
        EXIT WHEN gone >= at_most;
    END LOOP;
    IF gone < at_most THEN
        INSERT INTO retention (finished_at) VALUES (now())
        ON CONFLICT (only_one) DO UPDATE SET finished_at = excluded.finished_at;
    END IF;
    RETURN gone;
END $$;
REVOKE EXECUTE ON FUNCTION let_go_of_metrics(interval, bigint) FROM PUBLIC;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'maitred_writer') THEN
        GRANT INSERT, SELECT ON job_metrics, gpu_samples, dead_letters, worker_ends TO maitred_writer;
        GRANT EXECUTE ON FUNCTION let_go_of_metrics(interval, bigint) TO maitred_writer;
        -- It sees the tables behind them anyway; so a report can be made where a worker runs.
        GRANT SELECT ON report_jobs, report_requests, report_windows, report_gpus, report_dead_letters, report_workers
            TO maitred_writer;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'maitred_reader') THEN
        GRANT SELECT ON worker_lives, sla_by_lane_and_size, job_hours, restaurant_cost, report_jobs, report_requests,
            report_windows, report_gpus, report_dead_letters, report_workers TO maitred_reader;
    END IF;
END $$;
