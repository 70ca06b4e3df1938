-- Least privilege for the metrics: run once per database, by a superuser, before `maitred init`. Running it again is
-- harmless. Passwords are not set here: ALTER ROLE maitred_owner PASSWORD '…'; and so for the others.
--
-- maitred_owner   runs the migrations (`maitred init`), owns the tables
-- maitred_writer  workers: adds rows; cannot change or drop anything, and let go only of what is past retention, by
--                 the function let_go_of_metrics
-- maitred_reader  people and dashboards: the views, not the rows
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['maitred_owner', 'maitred_writer', 'maitred_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
            EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE', role_name);
        END IF;
    END LOOP;
END $$;

-- Nobody but the owner makes anything in here, on versions before 15 too.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT CREATE, USAGE ON SCHEMA public TO maitred_owner;
GRANT USAGE ON SCHEMA public TO maitred_writer, maitred_reader;

-- Tables that were migrated before these roles were there. Later ones are granted by their migration.
DO $$
DECLARE
    relation record;
BEGIN
    FOR relation IN
        SELECT relname, relkind FROM pg_class
        WHERE relnamespace = 'public'::regnamespace
          AND relname IN ('llm_metrics', 'analysis_metrics', 'goodput_windows', 'workers', 'job_metrics',
                          'gpu_samples', 'dead_letters', 'worker_ends',
                          'token_saving', 'hour_of_day', 'lane_service', 'worker_goodput', 'worker_lives',
                          'sla_by_lane_and_size', 'job_hours', 'restaurant_cost', 'report_jobs', 'report_requests',
                          'report_windows', 'report_gpus', 'report_dead_letters', 'report_workers')
    LOOP
        IF relation.relkind = 'v' THEN
            EXECUTE format('GRANT SELECT ON %I TO maitred_reader', relation.relname);
            IF relation.relname LIKE 'report\_%' THEN
                EXECUTE format('GRANT SELECT ON %I TO maitred_writer', relation.relname);
            END IF;
        ELSE
            EXECUTE format('GRANT INSERT, SELECT ON %I TO maitred_writer', relation.relname);
        END IF;
    END LOOP;
    IF to_regprocedure('public.let_go_of_metrics(interval, bigint)') IS NOT NULL THEN
        GRANT EXECUTE ON FUNCTION public.let_go_of_metrics(interval, bigint) TO maitred_writer;
    END IF;
END $$;
