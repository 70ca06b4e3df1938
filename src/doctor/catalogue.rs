//! All that can be found wrong: what it means and what to do, each once.
//!
//! `docs/TROUBLESHOOTING.md` is written from this list, and a test holds the two together. A text in braces is a place
//! that a finding fills.

use super::finding::{Check, Status};

/// Something that can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// What it is called: short, and never changed.
    pub code: &'static str,
    /// Where it is found.
    pub check: Check,
    /// How bad it is.
    pub status: Status,
    /// What somebody sees who does not ask the doctor.
    pub symptom: &'static str,
    /// What it means.
    pub means: &'static str,
    /// What to do.
    pub mend: &'static str,
    /// A command that does it; empty: there is none.
    pub command: &'static str,
}

/// Names each of them, and the list of all.
macro_rules! catalogue {
    ($($name:ident: $status:ident $check:ident $code:literal,
        $symptom:literal, $means:literal, $mend:literal, $command:literal;)*) => {
        $(
            #[doc = $means]
            pub const $name: Known = Known {
                code: $code,
                check: Check::$check,
                status: Status::$status,
                symptom: $symptom,
                means: $means,
                mend: $mend,
                command: $command,
            };
        )*

        /// All of them, in the order of the checks.
        pub const ALL: &[Known] = &[$($name,)*];
    };
}

catalogue! {
    CONFIG_UNREADABLE: Fail Config "config.unreadable",
        "every command ends with exit code 2",
        "the settings cannot be read, so nothing else was looked at",
        "correct the file, or name another one with --config", "";
    CONFIG_INVALID: Fail Config "config.invalid",
        "every command ends with exit code 2 and names a key",
        "`{key}` from {origin} cannot be used, so nothing else was looked at",
        "correct it: {allowed}", "";
    CONFIG_EXPOSED: Warn Config "config.exposed",
        "nothing, until somebody reads it",
        "`{key}` has a password in it, and every user of this machine can read the file",
        "keep the file to yourself, or put the URL into a file of its own and name that in `{key}_file`",
        "chmod o= {path}";

    SECRET_UNREADABLE: Fail Secrets "secret.unreadable",
        "commands say \"cannot read the secret\"; a worker does not start",
        "the file that `{key}` names cannot be read: {cause}",
        "mount the file or let this user read it, or correct `{key}`", "";
    SECRET_EMPTY: Fail Secrets "secret.empty",
        "commands say \"the secret file is empty\"",
        "the file that `{key}` names has nothing in it",
        "write the secret into it, or correct `{key}`", "";
    SECRET_EXPOSED: Warn Secrets "secret.exposed",
        "nothing, until somebody reads it",
        "every user of this machine can read the secret of `{key}`",
        "keep the file to its owner and group", "chmod o= {path}";

    NATS_SETTINGS: Fail NatsConnection "nats.settings",
        "commands end at once and name a setting of `[nats]`",
        "a setting of [nats], or a file that it names, cannot be used: {told}",
        "correct the setting that is named", "";
    NATS_UNREACHABLE: Fail NatsConnection "nats.unreachable",
        "/readyz says \"no connection to nats\"; no job is worked",
        "nobody answers at `nats.url`: {told}",
        "start the server, open the way to it, or correct `nats.url`",
        "nats-server -c deploy/nats/nats.conf";
    NATS_REFUSED: Fail NatsConnection "nats.refused",
        "/readyz says \"no connection to nats\"; the log speaks of an authorization violation",
        "the server does not take this login: {told}",
        "correct the login in `nats.url`, `nats.creds_file` or `nats.nkey_file`", "";
    NATS_UNTRUSTED: Fail NatsConnection "nats.untrusted",
        "/readyz says \"no connection to nats\"; the log speaks of a certificate",
        "there is no trusted connection: {told}",
        "correct `nats.tls_ca`, `nats.tls_cert` and `nats.tls_key`", "";
    NATS_LATE: Fail NatsConnection "nats.late",
        "jobs come late or not at all; leases are lost",
        "the server did not answer within {limit}",
        "look at the server's load and at the network on the way", "";
    NATS_OLD: Fail NatsVersion "nats.old",
        "a worker ends at its start and names the version",
        "nats-server {version} loses streams when it crashes, or ignores settings that workers rely on",
        "run nats-server 2.10.25 or newer, best 2.14", "";
    NATS_NO_JETSTREAM: Fail NatsJetStream "nats.no_jetstream",
        "`maitred init` and `status` say that the server runs without JetStream",
        "the server keeps no streams for this login, so there is no queue",
        "switch JetStream on, and give it a folder (store_dir)",
        "nats-server -c deploy/nats/nats.conf";
    NATS_SILENT: Fail NatsJetStream "nats.silent",
        "requests to JetStream fail after their time",
        "JetStream does not answer: {told}",
        "give the login what deploy/nats/permissions.conf gives the user worker; look at the server's log", "";
    NATS_FORBIDDEN: Fail NatsRights "nats.forbidden",
        "the server's log has lines with \"Permissions Violation\"; jobs are taken and not settled",
        "this login may not {what}: the server forbids {subjects}",
        "give the user what deploy/nats/permissions.conf gives the user worker, or run this as that user", "";
    NATS_UNTOLD: Warn NatsRights "nats.untold",
        "nothing",
        "what this login may do could not be found out: {told}",
        "ask again; if it stays, look at the server's log", "";
    NATS_MISSING: Fail NatsStreams "nats.missing",
        "/readyz says \"streams: … is missing\"; no job is worked",
        "{objects} is not there, and workers make nothing",
        "let an operator make what is missing", "maitred init";
    NATS_DIFFERS: Fail NatsStreams "nats.differs",
        "/readyz names a stream or consumer and a setting; no job is worked",
        "{object} is not as the settings say: {field} is {actual}, {desired} is wanted",
        "correct the settings, or let an operator make the server follow them", "maitred init";
    NATS_FIXED: Fail NatsStreams "nats.fixed",
        "`maitred init` says that it cannot change something in what exists",
        "{object} is not as the settings say and cannot become so: {field} is {actual}, {desired} is wanted",
        "correct the settings, or delete the {object} with all that it holds and make it anew", "maitred init";
    NATS_UNSEEN: Fail NatsStreams "nats.unseen",
        "/readyz says \"streams: cannot read\"; no job is worked",
        "streams and consumers cannot be looked at: {told}",
        "give the login what deploy/nats/permissions.conf gives the user worker; look at the server's log", "";
    NATS_FULL: Fail NatsStorage "nats.full",
        "`submit` fails; results stay with their workers, and the same jobs are renewed for ever",
        "the account's streams have taken {used} of {most}: what is published is refused",
        "give the account more room, or lower `nats.jobs_max_bytes` and `nats.results_max_age`", "maitred init";
    NATS_FILLING: Warn NatsStorage "nats.filling",
        "nothing yet; later, `submit` fails",
        "the account's streams have taken {used} of {most}",
        "give the account more room, or lower `nats.jobs_max_bytes` and `nats.results_max_age`", "maitred init";
    NATS_SHORT: Warn NatsStorage "nats.short",
        "nothing yet; later, `submit` fails while the stream of jobs is not full",
        "the stream of jobs may grow to {wanted}, and the account may have {most} in all",
        "give the account more room, or lower `nats.jobs_max_bytes`", "maitred init";
    NATS_NARROW: Fail NatsStorage "nats.narrow",
        "`maitred init` fails in the middle",
        "the account may have {most}, and the fleet needs {wanted}",
        "raise the limits of the account", "";
    NATS_SMALL_PAYLOAD: Warn NatsPayload "nats.small_payload",
        "jobs are slow to submit and to begin",
        "the server takes messages of {most} at most, so that nearly every job goes through the bucket of large bodies",
        "set max_payload in the server's configuration to 1 MB, its default", "";
    NATS_SLOW: Warn NatsLatency "nats.slow",
        "jobs begin late; leases are lost under load",
        "JetStream takes {took} to answer, and a job needs several answers",
        "run workers near the server; look at its disk, since it writes before it answers", "";

    REDIS_SETTINGS: Fail RedisConnection "redis.settings",
        "a worker ends at its start and names `redis.url`",
        "the address of Redis cannot be used: {told}",
        "write `redis.url` as redis://user:password@host:6379/0", "";
    REDIS_UNREACHABLE: Fail RedisConnection "redis.unreachable",
        "`status` shows \"no redis\"; every review is read anew",
        "Redis does not answer: {told}",
        "start it, open the way to it, or correct `redis.url`; until then workers go on without it",
        "redis-server deploy/redis/redis.conf";
    REDIS_REFUSED: Fail RedisConnection "redis.refused",
        "`status` shows \"no redis\"; the log says that the login is refused",
        "Redis does not take this login",
        "correct user and password in `redis.url`", "";
    REDIS_LATE: Fail RedisConnection "redis.late",
        "jobs are slow, the log says that facts are computed without their store",
        "Redis did not answer within {limit}",
        "look at the server's load and at the network on the way", "";
    REDIS_OLD: Fail RedisVersion "redis.old",
        "the log has errors of Redis with each job",
        "Redis {version} is older than what maitred is tested with",
        "run Redis 7 or newer", "";
    REDIS_FORBIDDEN: Fail RedisRights "redis.forbidden",
        "the log says \"the user may not do this\"; every review is read anew",
        "this login may not {what}: Redis forbids {commands}",
        "give the user the rights in deploy/redis/users.acl, or name another one in `redis.url`", "";
    REDIS_REPLICA: Fail RedisRights "redis.replica",
        "the log says \"it is a replica that cannot be written\"; every review is read anew",
        "this Redis is a replica, and takes no changes",
        "name the primary in `redis.url`", "";
    REDIS_DISK: Fail RedisRights "redis.disk",
        "the log says \"it cannot write to its disk\"; every review is read anew",
        "Redis cannot save to its disk, and takes no changes meanwhile",
        "free some space there, or set stop-writes-on-bgsave-error no: all that it holds can be computed again", "";
    REDIS_FULL: Fail RedisMemory "redis.full",
        "the log says \"it is full and may drop nothing\"; new reviews are read anew in every run",
        "Redis is full and its policy lets it drop nothing, so that nothing new is kept",
        "let it drop what nobody asks for, or raise maxmemory",
        "redis-cli CONFIG SET maxmemory-policy allkeys-lru";
    REDIS_POLICY: Warn RedisMemory "redis.policy",
        "nothing yet; once it is full, new reviews are read anew in every run",
        "the policy is noeviction: at {most} Redis takes no more",
        "let it drop what nobody asks for", "redis-cli CONFIG SET maxmemory-policy allkeys-lru";
    REDIS_UNBOUNDED: Warn RedisMemory "redis.unbounded",
        "nothing yet; later, the system kills Redis or something beside it",
        "Redis has no maxmemory, and grows with every new review",
        "give it a bound and a policy, as deploy/redis/redis.conf does", "redis-cli CONFIG SET maxmemory 2gb";
    REDIS_SLOW: Warn RedisLatency "redis.slow",
        "the log says that facts are computed without their store, on and off",
        "Redis takes {took} for the least of answers, and a command may take {limit} (`redis.timeout`)",
        "run it near the workers, or raise `redis.timeout`", "";

    POSTGRES_SETTINGS: Fail PostgresConnection "postgres.settings",
        "a worker ends at its start and names `postgres.url`",
        "the address of Postgres cannot be used: {told}",
        "write `postgres.url` as postgres://user:password@host:5432/database", "";
    POSTGRES_UNREACHABLE: Fail PostgresConnection "postgres.unreachable",
        "`status` shows \"no postgres\"; metrics are missing",
        "Postgres does not answer: {told}",
        "start it, open the way to it, or correct `postgres.url`; until then workers go on and drop metrics", "";
    POSTGRES_REFUSED: Fail PostgresConnection "postgres.refused",
        "`status` shows \"no postgres\"; the log says that the login is refused",
        "Postgres does not take this login",
        "correct user and password in `postgres.url`", "";
    POSTGRES_UNTRUSTED: Fail PostgresConnection "postgres.untrusted",
        "`status` shows \"no postgres\"; the log speaks of a certificate",
        "there is no trusted connection to Postgres: {told}",
        "correct sslmode, sslrootcert, sslcert and sslkey in `postgres.url`", "";
    POSTGRES_NO_DATABASE: Fail PostgresConnection "postgres.no_database",
        "`status` shows \"no postgres\"; `maitred init` says that the database is not there",
        "the server is there, the database is not",
        "create the database, or correct its name in `postgres.url`", "";
    POSTGRES_LATE: Fail PostgresConnection "postgres.late",
        "metrics come late, or rows are dropped",
        "Postgres did not answer within {limit}",
        "look at the server's load and at the network on the way", "";
    POSTGRES_OLD: Fail PostgresVersion "postgres.old",
        "`maitred init` fails",
        "Postgres {version} is older than the tables need",
        "run Postgres 13 or newer", "";
    POSTGRES_BEHIND: Fail PostgresSchema "postgres.behind",
        "the log says \"its schema is not up to date\"; metrics are missing",
        "the database lacks {steps}",
        "let the owner of the tables bring them up to date", "maitred init";
    POSTGRES_FOREIGN: Fail PostgresSchema "postgres.foreign",
        "`maitred init` refuses the database",
        "the tables are not of this version: {told}",
        "update this program, or name another database in `postgres.url`", "";
    POSTGRES_READ_ONLY: Fail PostgresRights "postgres.read_only",
        "the log says \"it is read-only\"; metrics are missing",
        "the server or this login takes no changes: a replica, or default_transaction_read_only",
        "name the primary in `postgres.url`, or let the role write: ALTER ROLE {role} RESET default_transaction_read_only",
        "";
    POSTGRES_FORBIDDEN: Fail PostgresRights "postgres.forbidden",
        "the log says \"the user may not do this\"; metrics are missing",
        "the role {role} may not add rows to {tables}",
        "grant what deploy/postgres/roles.sql grants the role maitred_writer, or name that role in `postgres.url`",
        "psql -f deploy/postgres/roles.sql";
    POSTGRES_CROWDED: Warn PostgresRoom "postgres.crowded",
        "now and then metrics are missing; the log says \"it has no connection left\"",
        "{open} of {most} connections are open, and each worker takes two",
        "raise max_connections, or put a pooler before the server", "";

    MODEL_NO_ENGINE: Fail ModelLanguage "model.no_engine",
        "a worker ends at its start: \"this build has no llama.cpp\"",
        "this program was built without the engine that runs models",
        "build it with the feature llama; `engine.backend = \"sim\"` is for tests", "make build";
    MODEL_LANGUAGE_MISSING: Fail ModelLanguage "model.language_missing",
        "a worker ends at its start and names the model",
        "the language model is not here: {told}",
        "fetch it, or name another one in `models.language`", "maitred model fetch {model}";
    MODEL_LANGUAGE_UNUSABLE: Fail ModelLanguage "model.language_unusable",
        "a worker ends at its start and names the file",
        "the language model cannot be used: {told}",
        "get it again, or name another one in `models.language`", "maitred model fetch --force {model}";
    MODEL_EMBEDDING_MISSING: Fail ModelEmbedding "model.embedding_missing",
        "a worker ends at its start and names the model",
        "there is no embedding model: {told}",
        "fetch one, or name another one in `models.embedding`", "maitred model fetch {model}";
    MODEL_LANGUAGE_UNSPOKEN: Warn ModelEmbedding "model.unspoken",
        "jobs in one language fail, all others work",
        "there is no embedding model for the language {language}: {told}",
        "fetch it if such reviews come, or set `analysis.language`", "maitred model fetch {model}";
    MODEL_EMBEDDING_UNUSABLE: Fail ModelEmbedding "model.embedding_unusable",
        "a worker ends at its start and names the file",
        "an embedding model cannot be used: {told}",
        "get it again, or name another one in `models.embedding`", "maitred model fetch --force {model}";
    MEMORY_SHORT: Fail Memory "memory.short",
        "the worker is killed while it loads or reads, or everything stands still",
        "the models need about {needed} and this process may have {limit}",
        "lower `engine.context_cells` or `engine.micro_batch_tokens`, choose a smaller model, or give it more memory", "";
    MEMORY_TIGHT: Warn Memory "memory.tight",
        "the worker is killed now and then, or is slow after its start",
        "the models need about {needed}, and only {free} is free now",
        "end what else runs here, lower `engine.context_cells`, or give it more memory", "";
    CPU_CROWDED: Warn Cpu "cpu.crowded",
        "a step takes several times as long as it should",
        "`engine.threads` is {threads}, and this process may use {cores} cores: threads wait for one another",
        "set `engine.threads` to 0, which takes as many as there are", "";

    GPU_NO_SUPPORT: Fail Gpu "gpu.no_support",
        "a worker ends at its start: \"built without GPU support\"",
        "`engine.gpu_layers` asks for a GPU, and this program was built without any",
        "build it for the GPU, or set `engine.gpu_layers` to 0", "make build FEATURES=cuda";
    GPU_NONE: Fail Gpu "gpu.none",
        "a worker ends at its start: no GPU was found",
        "`engine.gpu_layers` asks for a GPU, and none is seen: {told}",
        "install its driver and let this process use it (in a container: --gpus all), or set `engine.gpu_layers` to 0",
        "nvidia-smi";
    GPU_UNKNOWN: Fail Gpu "gpu.unknown_device",
        "a worker ends at its start and names a GPU",
        "`engine.devices` cannot be used: {told}",
        "correct `engine.devices`; \"auto\" takes all", "nvidia-smi -L";
    GPU_TOO_SMALL: Fail Gpu "gpu.too_small",
        "a worker ends at its start: what is needed does not fit",
        "the models do not fit on the GPU: {told}",
        "lower `engine.context_cells` or `engine.gpu_layers`, or free memory there", "nvidia-smi";
    GPU_UNUSED: Warn Gpu "gpu.unused",
        "the worker is slow, and the GPU does nothing",
        "there is a GPU ({gpus}), and `engine.gpu_layers` is 0: the CPU does all",
        "build with the feature cuda, and set `engine.gpu_layers` to \"all\"", "make build FEATURES=cuda";

    DISK_MODELS_UNWRITABLE: Warn DiskModels "disk.models_unwritable",
        "every start takes longer than it should; `model fetch` fails",
        "nothing can be written to the folder of the models ({cause}), so what a start finds out is found out anew",
        "let this user write to {path}, or name another folder in `models.dir`", "";
    DISK_MODELS_FULL: Warn DiskModels "disk.models_full",
        "`model fetch` fails",
        "{free} is free where the models lie",
        "free some space, or name another folder in `models.dir`", "df -h {path}";
    DISK_CACHE_UNWRITABLE: Fail DiskCache "disk.cache_unwritable",
        "a worker ends at its start and names the file of `store.cache`",
        "nothing can be written to the folder of `store.cache`: {cause}",
        "let this user write to {path}, or name another file in `store.cache`", "";
    DISK_CACHE_FULL: Fail DiskCache "disk.cache_full",
        "the log says \"the disk is full\"; facts and metrics are not kept",
        "{free} is free where `store.cache` lies",
        "free some space, or name another file in `store.cache`", "df -h {path}";
    DISK_CACHE_LOW: Warn DiskCache "disk.cache_low",
        "nothing yet; later, facts and metrics are not kept",
        "{free} is free where `store.cache` lies",
        "free some space, or name another file in `store.cache`", "df -h {path}";

    CLOCK_UNSYNCHRONISED: Warn ClockSync "clock.unsynchronised",
        "times in logs, results and metrics do not fit together",
        "nothing keeps this machine's clock right",
        "switch time synchronisation on", "timedatectl set-ntp true";
    CLOCK_SKEW_NATS: Warn ClockNats "clock.skew_nats",
        "ages in `status` are wrong; times of results and jobs do not fit together",
        "this machine's clock and that of NATS are {apart} apart",
        "keep both clocks right", "timedatectl set-ntp true";
    CLOCK_SKEW_REDIS: Warn ClockRedis "clock.skew_redis",
        "times in logs do not fit together",
        "this machine's clock and that of Redis are {apart} apart",
        "keep both clocks right", "timedatectl set-ntp true";
    CLOCK_SKEW_POSTGRES: Warn ClockPostgres "clock.skew_postgres",
        "reports and dashboards miss the last rows, or show them in the future",
        "this machine's clock and that of Postgres are {apart} apart",
        "keep both clocks right", "timedatectl set-ntp true";
    LIMIT_FILES: Warn LimitFiles "limit.files",
        "now and then a connection fails with \"too many open files\"",
        "this process may open {limit} files and connections, {wanted} are advised",
        "raise the limit in the service or the shell that starts it", "ulimit -n {wanted}";

    HEALTH_TAKEN: Fail Health "health.taken",
        "a worker ends at its start: \"cannot serve health\"",
        "something that is no maitred listens on {listen}",
        "end it, or set `health.listen` to a free port", "ss -ltnp 'sport = :{port}'";
    HEALTH_UNUSABLE: Fail Health "health.unusable",
        "a worker ends at its start: \"cannot serve health\"",
        "{listen} cannot be listened on: {cause}",
        "set `health.listen` to an address of this machine and a port above 1023", "";
    TELEMETRY_UNREACHABLE: Warn Telemetry "telemetry.unreachable",
        "no metrics and traces come in; the work goes on",
        "nobody answers at the endpoint for telemetry: {cause}",
        "start the collector, open the way to it, or correct `{key}`", "";
    WATCHDOG_UNUSABLE: Fail Watchdog "watchdog.unusable",
        "an idle worker's machine is not stopped, and is paid for",
        "what `{key}` names cannot be used: {cause}",
        "correct `{key}`", "";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_stand_in_the_order_of_the_checks() {
        let mut codes: Vec<&str> = ALL.iter().map(|known| known.code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), ALL.len());
        assert!(ALL.is_sorted_by_key(|known| known.check), "in the order of the checks");
        for known in ALL {
            let area = known.check.name().split('.').next();
            assert!(matches!(known.status, Status::Warn | Status::Fail), "{}", known.code);
            let named = known.code.split('.').next();
            assert!(area == named || known.code.starts_with("secret."), "{}", known.code);
        }
    }

    #[test]
    fn texts_are_sentences_that_go_on_and_hold_no_tables() {
        for known in ALL {
            for text in [known.symptom, known.means, known.mend] {
                assert!(!text.is_empty() && !text.ends_with('.') && !text.contains('|'), "{text}");
            }
        }
    }
}
