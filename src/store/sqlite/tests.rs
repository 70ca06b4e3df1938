//! Over real files in folders of their own.

mod metrics;

use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;
use time::OffsetDateTime;

use super::*;
use crate::store::contract::{self, block_on, facts_of, key, last_of, representative_of};
use crate::store::metrics::tests::request;
use crate::store::metrics::{MetricRow, MetricStore};
use crate::store::{AspectRate, ClauseFacts, FactStore, ReviewFacts};

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("maitred.db");
    (folder, path)
}

/// Runs SQL behind the store's back.
async fn tamper(store: &SqliteStore, sql: &'static str) {
    sqlx::raw_sql(sql).execute(&store.writer).await.unwrap();
}

async fn count(store: &SqliteStore, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&store.readers).await.unwrap()
}

async fn refusal(path: &Path) -> String {
    SqliteStore::open(path).await.expect_err("it should be refused").to_string()
}

#[test]
fn it_keeps_the_contract_of_fact_stores() {
    let (_folder, path) = folder();
    block_on(async { contract::holds(&SqliteStore::open(&path).await.unwrap()).await });
}

#[test]
fn an_empty_file_becomes_a_store() {
    let (_folder, path) = folder();
    std::fs::File::create(&path).unwrap();
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        assert_eq!(count(&store, "PRAGMA application_id").await, i64::from(APPLICATION_ID));
        assert_eq!(count(&store, "PRAGMA auto_vacuum").await, 2, "incremental");
        let journal: String =
            sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&store.readers).await.unwrap();
        assert_eq!(journal, "wal");
        for table in ["facts", "last_results", "aspect_counts", "llm_metrics", "token_saving", "job_metrics"]
        {
            let known: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE name = ?")
                .bind(table)
                .fetch_one(&store.readers)
                .await
                .unwrap();
            assert_eq!(known, 1, "{table}");
        }
    });
}

#[test]
fn what_was_kept_is_there_after_reopening() {
    let (folder, _) = folder();
    let path = folder.path().join("a folder that is missing").join("maitred.db");
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        store.put_many(vec![(key("m", "t"), facts_of(3, 0.7))]).await.unwrap();
        store.put_last_result(last_of("r", "m", 2)).await.unwrap();
        store.put_aspect_counts("m", "r", 9, &[4]).await.unwrap();
        store.close().await.unwrap();
        assert!(!path.with_extension("db-wal").exists(), "everything is in the one file");

        let store = SqliteStore::open(&path).await.unwrap();
        assert_eq!(store.get_many(&[key("m", "t")]).await.unwrap(), [Some(facts_of(3, 0.7))]);
        assert_eq!(store.last_result("r").await.unwrap(), Some(last_of("r", "m", 2)));
        assert_eq!(store.aspect_rates("m", "other", 1).await.unwrap()[0].positive, 4);
    });
}

#[test]
fn a_closed_store_refuses_and_does_not_hang() {
    let (_folder, path) = folder();
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        store.close().await.unwrap();
        assert!(store.get_many(&[key("m", "t")]).await.is_err());
        assert!(store.close().await.is_err(), "there is nothing left to prune");
    });
}

/// A folder in which nothing can be created, not even by root, whom permissions do not bind.
fn unwritable_folder() -> (TempDir, PathBuf) {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o555)).unwrap();
    let bound = std::fs::File::create(folder.path().join("probe")).is_err();
    let path = if bound { folder.path().to_owned() } else { "/proc".into() };
    (folder, path)
}

#[test]
fn a_folder_that_cannot_be_written_is_refused_with_what_to_do() {
    let (_folder, unwritable) = unwritable_folder();
    block_on(async {
        let message = refusal(&unwritable.join("maitred.db")).await;
        assert!(message.contains("name a file in a folder that can be written"), "{message}");
        let message = refusal(&unwritable.join("deeper").join("maitred.db")).await;
        assert!(message.contains("its folder cannot be created"), "{message}");
    });
}

#[test]
fn a_file_that_cannot_be_written_is_refused_even_if_its_schema_is_up_to_date() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, path) = folder();
    block_on(async {
        SqliteStore::open(&path).await.unwrap().close().await.unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).unwrap();
        if std::fs::File::options().write(true).open(&path).is_ok() {
            eprintln!("skipped: this user may write to a read-only file");
            return;
        }
        let message = refusal(&path).await;
        assert!(message.contains("change its permissions"), "{message}");
    });
}

#[test]
fn a_folder_is_not_a_file() {
    let (folder, _) = folder();
    let message = block_on(refusal(folder.path()));
    assert!(message.contains("it is a folder"), "{message}");
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_as_it_was() {
    let (_folder, path) = folder();
    let text = "review_id,text\n".repeat(400);
    std::fs::write(&path, &text).unwrap();
    let message = block_on(refusal(&path));
    assert!(message.contains("not an SQLite database"), "{message}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn a_damaged_file_is_refused() {
    let (_folder, path) = folder();
    block_on(async { SqliteStore::open(&path).await.unwrap().close().await.unwrap() });
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096..].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    let message = block_on(refusal(&path));
    assert!(message.contains("it is damaged"), "{message}");
}

#[test]
fn damage_behind_the_schema_is_an_error_of_the_call_that_meets_it() {
    let (_folder, path) = folder();
    block_on(async {
        SqliteStore::open(&path).await.unwrap().close().await.unwrap();
        let end = std::fs::metadata(&path).unwrap().len() as usize;
        let store = SqliteStore::open(&path).await.unwrap();
        let puts = (0..50).map(|id| (key("m", &id.to_string()), facts_of(4, 0.5))).collect();
        store.put_many(puts).await.unwrap();
        store.close().await.unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        // Pages that were added with the facts hold facts, or their index.
        bytes[end..].fill(0xff);
        std::fs::write(&path, bytes).unwrap();

        let store = SqliteStore::open(&path).await.unwrap();
        let keys: Vec<_> = (0..50).map(|id| key("m", &id.to_string())).collect();
        let message = store.get_many(&keys).await.unwrap_err().to_string();
        assert!(message.contains("it is damaged"), "{message}");
    });
}

#[test]
fn a_database_of_another_program_is_refused_and_left_as_it_was() {
    let (_folder, path) = folder();
    block_on(async {
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let mut other = options.connect().await.unwrap();
        sqlx::raw_sql("CREATE TABLE bookmarks (url TEXT)").execute(&mut other).await.unwrap();
        other.close().await.unwrap();
        let before = std::fs::read(&path).unwrap();
        let message = refusal(&path).await;
        assert!(message.contains("another program"), "{message}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    });
}

#[test]
fn a_file_of_a_newer_version_is_refused_by_its_schema() {
    let (_folder, path) = folder();
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        tamper(&store, "INSERT INTO _sqlx_migrations SELECT 9999, 'later', installed_on, success, checksum, 0 FROM _sqlx_migrations LIMIT 1")
            .await;
        store.close().await.unwrap();
        let message = refusal(&path).await;
        assert!(message.contains("newer version (schema 9999"), "{message}");
    });
}

#[test]
fn many_openers_of_a_new_file_all_succeed() {
    let (_folder, path) = folder();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        let openers: Vec<_> = (0..8)
            .map(|_| {
                let path = path.clone();
                tokio::spawn(async move { SqliteStore::open(&path).await })
            })
            .collect();
        for opener in openers {
            opener.await.unwrap().unwrap();
        }
    });
}

#[test]
fn writers_of_two_processes_wait_for_each_other() {
    let (_folder, path) = folder();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        // Two stores share nothing but the file, as two processes would.
        let stores = [
            Arc::new(SqliteStore::open(&path).await.unwrap()),
            Arc::new(SqliteStore::open(&path).await.unwrap()),
        ];
        let writers: Vec<_> = (0..16_usize)
            .map(|writer| {
                let store = Arc::clone(&stores[writer % 2]);
                tokio::spawn(async move {
                    for batch in 0..5 {
                        let puts =
                            (0..4).map(|id| (key("m", &format!("{writer}-{batch}-{id}")), facts_of(1, 0.5)));
                        store.put_many(puts.collect()).await?;
                        let counts = [writer as u64, 1];
                        store.put_aspect_counts("m", &format!("r{writer}"), 40, &counts).await?;
                        store.record(&[MetricRow::Request(request(&format!("{writer}-{batch}")))]).await?;
                    }
                    Ok::<_, StoreError>(())
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap().unwrap();
        }
        assert_eq!(count(&stores[0], "SELECT count(*) FROM facts").await, 16 * 5 * 4);
        assert_eq!(count(&stores[1], "SELECT count(*) FROM llm_metrics").await, 16 * 5);
        let rates = stores[1].aspect_rates("m", "none of them", 2).await.unwrap();
        assert_eq!((rates[0].restaurants, rates[0].positive, rates[1].positive), (16, (0..16).sum(), 16));
    });
}

#[test]
fn a_lookup_of_more_keys_than_a_statement_takes_keeps_their_order() {
    let (_folder, path) = folder();
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        let puts =
            (0..1201).map(|id| (key("m", &id.to_string()), ReviewFacts { tokens: id, ..facts_of(0, 0.0) }));
        store.put_many(puts.collect()).await.unwrap();
        // Every third is asked for twice, and there are unknown ones between them.
        let ids: Vec<u32> = (0..1500).rev().chain((0..1500).step_by(3)).collect();
        let keys: Vec<_> = ids.iter().map(|id| key("m", &id.to_string())).collect();
        let found = store.get_many(&keys).await.unwrap();
        let tokens: Vec<_> = found.iter().map(|facts| facts.as_ref().map(|facts| facts.tokens)).collect();
        let expected: Vec<_> = ids.iter().map(|&id| (id < 1201).then_some(id)).collect();
        assert_eq!(tokens, expected);
    });
}

#[test]
fn a_value_that_cannot_be_read_is_unknown_until_it_is_replaced() {
    let (_folder, path) = folder();
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        let pair = (key("m", "t"), facts_of(1, 0.5));
        store.put_many(vec![pair.clone()]).await.unwrap();
        store.put_last_result(last_of("r", "m", 2)).await.unwrap();
        tamper(&store, "UPDATE facts SET value = x'c1'; UPDATE last_results SET value = x'c1'").await;
        assert_eq!(store.get_many(&[key("m", "t")]).await.unwrap(), [None]);
        assert_eq!(store.last_result("r").await.unwrap(), None);
        store.put_many(vec![pair.clone()]).await.unwrap();
        assert_eq!(store.get_many(&[pair.0]).await.unwrap(), [Some(pair.1)]);
    });
}

#[test]
fn a_representative_vector_that_cannot_be_read_makes_room_for_its_successor() {
    let (_folder, path) = folder();
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        assert!(store.put_representative("r", None, &representative_of("m", 1)).await.unwrap());
        tamper(&store, "UPDATE representatives SET value = x'c1'").await;
        assert_eq!(store.representative("r", "m").await.unwrap(), None);
        let next = representative_of("m", 2);
        assert!(store.put_representative("r", None, &next).await.unwrap());
        assert_eq!(store.representative("r", "m").await.unwrap(), Some(next));
    });
}

#[test]
fn a_file_of_the_first_schema_is_brought_up_to_date_with_what_it_holds() {
    let (_folder, path) = folder();
    block_on(async {
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let mut old = options.connect().await.unwrap();
        let first = Migrator::with_migrations(MIGRATIONS.iter().take(1).cloned().collect());
        first.run_direct(None, &mut old, false).await.unwrap();
        let held = "PRAGMA application_id = 0x4d545244;
            INSERT INTO aspect_counts VALUES ('m', 'a', 0, 10, 4, 1), ('m', 'a', 1, 10, 5, 1), ('m', 'b', 0, 7, 2, 1);
            INSERT INTO llm_metrics (request_id, job_id, restaurant_id, analysis, kind, model, queue_ms, total_ms,
                prompt_tokens, cached_tokens, forced_tokens, generated_tokens, outcome, created_at)
            VALUES ('q', 'j', 'r', 'facts', 'probe', 'm', 1, 2, 3, 4, 5, 6, 'ok', '2026-01-31T09:30:00.000Z');
            INSERT INTO analysis_metrics (job_id, restaurant_id, analysis, outcome, model, prompt_version,
                processing_ms, queue_ms, prompt_tokens, cached_tokens, forced_tokens, generated_tokens, reviews,
                reviews_read, cache_hits, baseline_tokens, warning_count, created_at)
            VALUES ('j', 'r', 'summary', 'ok', 'm', 'p', 1, 2, 30, 4, 5, 6, 7, 8, 9, 100, 0, '2026-01-31T09:30:00.000Z')";
        sqlx::raw_sql(held).execute(&mut old).await.unwrap();
        old.close().await.unwrap();

        let store = SqliteStore::open(&path).await.unwrap();
        let rates = store.aspect_rates("m", "b", 2).await.unwrap();
        let rate = |positive| AspectRate { restaurants: 1, reviews: 10, positive };
        assert_eq!(rates, [rate(4), rate(5)]);
        assert_eq!(store.aspect_rates("m", "", 1).await.unwrap()[0].positive, 6);
        let moved = "SELECT (SELECT count(*) FROM llm_metrics WHERE result_id = 'j' AND worker = 'embedded')
                          + (SELECT count(*) FROM analysis_metrics WHERE result_id = 'j' AND baseline_tokens = 100)
                          + (SELECT count(*) FROM token_saving WHERE computed_tokens = 41)";
        assert_eq!(count(&store, moved).await, 3);
    });
}

#[test]
fn totals_follow_whatever_becomes_of_the_shares() {
    let (_folder, path) = folder();
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        for restaurant in ["a", "b"] {
            store.put_aspect_counts("m", restaurant, 10, &[5, 6]).await.unwrap();
        }
        tamper(&store, "DELETE FROM aspect_counts WHERE restaurant_id = 'a'").await;
        assert_eq!(store.aspect_rates("m", "", 1).await.unwrap()[0].restaurants, 1);
        store.put_aspect_counts("m", "b", 10, &[5]).await.unwrap();
        assert_eq!(store.aspect_rates("m", "", 2).await.unwrap()[1], AspectRate::default());
        tamper(&store, "DELETE FROM aspect_counts").await;
        assert_eq!(count(&store, "SELECT count(*) FROM aspect_totals").await, 0);
    });
}

fn any_facts() -> impl Strategy<Value = ReviewFacts> {
    let vector = || prop::collection::vec(any::<u8>(), 0..64);
    let p_positive = || prop::option::of(0.0_f32..=1.0);
    let clause =
        (any::<u32>(), any::<u32>(), prop::collection::vec(any::<u16>(), 0..4), p_positive(), vector())
            .prop_map(|(start, end, aspects, p_positive, vector)| ClauseFacts {
                start,
                end,
                aspects,
                p_positive,
                vector,
            });
    (any::<u32>(), p_positive(), prop::collection::vec(clause, 0..6), vector())
        .prop_map(|(tokens, p_positive, clauses, vector)| ReviewFacts { tokens, p_positive, clauses, vector })
}

#[test]
fn any_facts_come_back_as_they_were_put() {
    let (_folder, path) = folder();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = runtime.block_on(SqliteStore::open(&path)).unwrap();
    proptest!(ProptestConfig::with_cases(64), |(all in prop::collection::vec(any_facts(), 1..5), text in ".{0,12}")| {
        runtime.block_on(async {
            let puts: Vec<_> =
                all.iter().enumerate().map(|(id, facts)| (key("m", &format!("{text}{id}")), facts.clone())).collect();
            let keys: Vec<_> = puts.iter().map(|(key, _)| key.clone()).collect();
            store.put_many(puts).await.unwrap();
            let expected: Vec<_> = all.into_iter().map(Some).collect();
            prop_assert_eq!(store.get_many(&keys).await.unwrap(), expected);
            Ok(())
        })?;
    });
}

#[test]
fn using_facts_keeps_them_from_being_pruned() {
    let (_folder, path) = folder();
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        let puts = ["used", "unused"].map(|text| (key("m", text), facts_of(1, 0.5)));
        store.put_many(puts.into()).await.unwrap();
        tamper(&store, "UPDATE facts SET last_used = 0").await;
        store.get_many(&[key("m", "used")]).await.unwrap();
        store.prune(OffsetDateTime::now_utc()).await.unwrap();
        let found = store.get_many(&["used", "unused"].map(|text| key("m", text))).await.unwrap();
        assert_eq!(found, [Some(facts_of(1, 0.5)), None]);
    });
}

#[test]
fn facts_over_the_size_go_by_use_and_the_file_shrinks() {
    let (_folder, path) = folder();
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        let puts = (0..200).map(|id| (key("m", &id.to_string()), facts_of(4, 0.5)));
        store.put_many(puts.collect()).await.unwrap();
        // All within the days that are kept, the first ones most recently.
        tamper(&store, "UPDATE facts SET last_used = last_used - CAST(text AS INTEGER)").await;
        let each = count(&store, "SELECT max(bytes) FROM facts").await as u64;
        let before = {
            store.close().await.unwrap();
            std::fs::metadata(&path).unwrap().len()
        };

        let retention = Retention { fact_bytes: 10 * each + each / 2, ..Retention::default() };
        let store = SqliteStore::open(&path).await.unwrap().with_retention(retention);
        store.close().await.unwrap();
        let after = std::fs::metadata(&path).unwrap().len();
        assert!(after < before / 2, "{before} bytes became {after}");

        let store = SqliteStore::open(&path).await.unwrap();
        assert_eq!(count(&store, "SELECT count(*) FROM facts").await, 10);
        assert_eq!(count(&store, "SELECT max(CAST(text AS INTEGER)) FROM facts").await, 9);
    });
}

#[test]
fn what_is_not_used_goes_and_rates_of_a_reader_as_a_whole_or_not_at_all() {
    let (_folder, path) = folder();
    block_on(async {
        let store = SqliteStore::open(&path).await.unwrap();
        for (reader, restaurant) in [("old", "a"), ("old", "b"), ("live", "a"), ("live", "b")] {
            store.put_aspect_counts(reader, restaurant, 10, &[5]).await.unwrap();
        }
        store.put_last_result(last_of("a", "old", 1)).await.unwrap();
        store.put_last_result(last_of("b", "live", 1)).await.unwrap();
        tamper(&store, "UPDATE aspect_counts SET updated_at = 0 WHERE reader = 'old' OR restaurant_id = 'a'")
            .await;
        tamper(&store, "UPDATE last_results SET updated_at = 0 WHERE restaurant_id = 'a'").await;
        for restaurant in ["a", "b"] {
            store.put_representative(restaurant, None, &representative_of("m", 1)).await.unwrap();
        }
        tamper(&store, "UPDATE representatives SET updated_at = 0 WHERE restaurant_id = 'a'").await;
        store.prune(OffsetDateTime::now_utc()).await.unwrap();
        assert_eq!(store.aspect_rates("old", "", 1).await.unwrap()[0].restaurants, 0);
        assert_eq!(store.aspect_rates("live", "", 1).await.unwrap()[0].restaurants, 2);
        assert_eq!(store.representative("a", "m").await.unwrap(), None);
        assert!(store.representative("b", "m").await.unwrap().is_some());
        assert_eq!(store.last_result("a").await.unwrap(), None);
        assert_eq!(store.last_result("b").await.unwrap(), Some(last_of("b", "live", 1)));
    });
}
