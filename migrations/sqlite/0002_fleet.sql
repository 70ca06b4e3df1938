-- What the fleet added: representative vectors, epochs, running totals, and who worked what in which lane.

-- The representative vector of a restaurant: MessagePack of `Representative`, replaced by comparing digests.
CREATE TABLE representatives (
    restaurant_id TEXT    NOT NULL,
    model         TEXT    NOT NULL, -- digest of the embedding model
    digest        TEXT    NOT NULL, -- of what is in it
    value         BLOB    NOT NULL,
    updated_at    INTEGER NOT NULL, -- Unix seconds
    UNIQUE (restaurant_id, model)
) STRICT;
CREATE INDEX representatives_by_age ON representatives (updated_at);

-- A result of an older epoch does not replace one of a newer epoch.
ALTER TABLE last_results ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;

-- Sums of `aspect_counts` over restaurants. Only the triggers below write to it: whatever becomes of a share, the
-- totals follow in the same transaction.
CREATE TABLE aspect_totals (
    reader      TEXT    NOT NULL,
    aspect      INTEGER NOT NULL,
    restaurants INTEGER NOT NULL,
    reviews     INTEGER NOT NULL,
    positive    INTEGER NOT NULL,
    PRIMARY KEY (reader, aspect)
) WITHOUT ROWID, STRICT;
INSERT INTO aspect_totals
SELECT reader, aspect, count(*), sum(reviews), sum(positive) FROM aspect_counts GROUP BY reader, aspect;

CREATE TRIGGER aspect_counts_come AFTER INSERT ON aspect_counts BEGIN
    INSERT INTO aspect_totals VALUES (NEW.reader, NEW.aspect, 1, NEW.reviews, NEW.positive)
    ON CONFLICT (reader, aspect) DO UPDATE
    SET restaurants = restaurants + 1, reviews = reviews + NEW.reviews, positive = positive + NEW.positive;
END;
CREATE TRIGGER aspect_counts_go AFTER DELETE ON aspect_counts BEGIN
    UPDATE aspect_totals
    SET restaurants = restaurants - 1, reviews = reviews - OLD.reviews, positive = positive - OLD.positive
    WHERE reader = OLD.reader AND aspect = OLD.aspect;
    DELETE FROM aspect_totals WHERE reader = OLD.reader AND aspect = OLD.aspect AND restaurants = 0;
END;
CREATE TRIGGER aspect_counts_change AFTER UPDATE OF reader, aspect, reviews, positive ON aspect_counts BEGIN
    SELECT RAISE(ABORT, 'replace a share by DELETE and INSERT');
END;

-- A backfill works a job again, so a row belongs to a result, not to a job. SQLite cannot change a constraint: the
-- tables are made anew and the rows moved. Rows from before were all made by the embedded run, one result per job.
DROP VIEW token_saving;
DROP VIEW hour_of_day;

ALTER TABLE llm_metrics RENAME TO llm_metrics_1;
DROP INDEX llm_metrics_by_time;
CREATE TABLE llm_metrics (
    id               INTEGER PRIMARY KEY,
    request_id       TEXT    NOT NULL,
    job_id           TEXT    NOT NULL,
    result_id        TEXT    NOT NULL, -- the job's, or of its backfill
    restaurant_id    TEXT    NOT NULL,
    worker           TEXT    NOT NULL,
    lane             TEXT             CHECK (lane IN ('hi', 'live', 'backfill')), -- NULL: from a file
    trace_id         TEXT,            -- 32 hexadecimal digits; NULL: the job came without a trace
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
    UNIQUE (result_id, request_id)
) STRICT;
INSERT INTO llm_metrics
SELECT id, request_id, job_id, job_id, restaurant_id, 'embedded', NULL, NULL, analysis, kind, model,
       queue_ms, prefill_ms, decode_ms, total_ms, ttft_ms, tpot_ms, tps,
       prompt_tokens, cached_tokens, forced_tokens, generated_tokens, outcome, created_at
FROM llm_metrics_1;
DROP TABLE llm_metrics_1;
CREATE INDEX llm_metrics_by_time ON llm_metrics (created_at);

ALTER TABLE analysis_metrics RENAME TO analysis_metrics_1;
DROP INDEX analysis_metrics_by_time;
DROP INDEX analysis_metrics_by_restaurant;
CREATE TABLE analysis_metrics (
    id               INTEGER PRIMARY KEY,
    job_id           TEXT    NOT NULL,
    result_id        TEXT    NOT NULL, -- the job's, or of its backfill
    restaurant_id    TEXT    NOT NULL,
    worker           TEXT    NOT NULL,
    lane             TEXT             CHECK (lane IN ('hi', 'live', 'backfill')), -- NULL: from a file
    trace_id         TEXT,            -- 32 hexadecimal digits; NULL: the job came without a trace
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
    UNIQUE (result_id, analysis)
) STRICT;
INSERT INTO analysis_metrics
SELECT id, job_id, job_id, restaurant_id, 'embedded', NULL, NULL, analysis, outcome, error_code, model, prompt_version,
       processing_ms, queue_ms, ttft_ms, prompt_tokens, cached_tokens, forced_tokens, generated_tokens,
       reviews, reviews_read, cache_hits, baseline_tokens, warning_count, created_at
FROM analysis_metrics_1;
DROP TABLE analysis_metrics_1;
CREATE INDEX analysis_metrics_by_time ON analysis_metrics (created_at);
CREATE INDEX analysis_metrics_by_restaurant ON analysis_metrics (restaurant_id, analysis, created_at);

-- One row per start of a worker.
CREATE TABLE workers (
    id         INTEGER PRIMARY KEY,
    worker     TEXT NOT NULL,
    version    TEXT NOT NULL,
    model      TEXT NOT NULL,
    started_at TEXT NOT NULL,
    UNIQUE (worker, started_at)
) STRICT;

-- As before: see 0001.
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
