//! The scripts that the services start with, run over the real servers.

use std::path::{Path, PathBuf};
use std::process::Command;

use maitred_testkit::{Manners, Nats, Port, Postgres, PostgresConfig, Redis, Server, Spec, connect, on_path};
use tempfile::TempDir;

use crate::compose::file::path;

/// Secrets as the script makes them.
struct Secrets(TempDir);

impl Secrets {
    fn make() -> Self {
        Self::around(&[])
    }

    /// With some that were there before.
    fn around(chosen: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, secret) in chosen {
            std::fs::write(folder.path().join(name), secret).unwrap();
        }
        let made = Command::new(path("deploy/compose/make-secrets.sh")).arg(folder.path()).status().unwrap();
        assert!(made.success());
        Self(folder)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.path().join(name)).unwrap()
    }

    fn folder(&self) -> &Path {
        self.0.path()
    }
}

/// Starts a server by its script, with these programs at hand.
fn start(script: &str, program: &Path, manners: Manners, secrets: &Secrets, arguments: &[&str]) -> Server {
    let (folder, port) = (tempfile::tempdir().unwrap(), Port::free());
    let fill = |argument: &str| {
        argument
            .replace("PORT", &port.number().to_string())
            .replace("FOLDER", &folder.path().to_string_lossy())
    };
    let mut spec = Spec::new(script, Path::new("/bin/sh"), folder.path())
        .arguments([path("deploy/compose").join(script)])
        .arguments(arguments.iter().map(|argument| fill(argument)));
    let programs =
        std::env::join_paths([program.parent().unwrap(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
    spec.environment = vec![
        ("PATH".into(), programs),
        ("SECRETS_DIR".into(), secrets.folder().into()),
        ("NATS_STORE_DIR".into(), folder.path().join("store").into()),
        ("TMPDIR".into(), folder.path().into()),
    ];
    Server::start(spec, port, folder, manners)
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_lets_in_its_four_users_and_nobody_else() {
    let Some(program) = Nats::program() else { return };
    // The server would take this one for a number, and that one for a variable.
    let odd = [("nats_producer_password", "12e4567"), ("nats_worker_password", "$2salt")];
    let secrets = Secrets::around(&odd);
    let held = Port::free();
    let monitoring = held.number().to_string();
    let arguments = ["-a", "127.0.0.1", "-p", "PORT", "-m", &monitoring];
    let server = start("nats.sh", &program, Nats::MANNERS, &secrets, &arguments);
    for user in ["operator", "producer", "worker", "viewer"] {
        let login = format!("{user}:{}", secrets.read(&format!("nats_{user}_password")));
        connect(&format!("nats://{login}@{}", server.address())).await.unwrap();
        let wrong = format!("nats://{user}:wrong@{}", server.address());
        assert!(connect(&wrong).await.is_err(), "{user} needs no password");
    }
    assert!(connect(&format!("nats://{}", server.address())).await.is_err());
    let url = secrets.read("nats_operator_url");
    assert_eq!(url, format!("nats://operator:{}@nats:4222", secrets.read("nats_operator_password")));
}

#[test]
fn redis_asks_for_its_password() {
    let program = on_path("redis-server").into_iter().find(|program| program.is_file());
    // Says that it is skipped.
    let Some(program) = program.or_else(|| Redis::start().map(|_| PathBuf::new())) else { return };
    let secrets = Secrets::make();
    let arguments = ["--bind", "127.0.0.1", "--port", "PORT", "--dir", "FOLDER"];
    let server = start("redis.sh", &program, Redis::MANNERS, &secrets, &arguments);
    let say = |words: &str| Redis::say(server.port(), words).unwrap();
    assert!(say("PING").starts_with("-NOAUTH"));
    assert!(say("AUTH wrong").starts_with("-WRONGPASS"));
    let inline = format!("AUTH {}\r\nCONFIG GET maxmemory-policy", secrets.read("redis_password"));
    assert!(say(&inline).starts_with("+OK"), "{}", say(&inline));
}

#[test]
fn postgres_knows_its_roles_by_their_passwords() {
    let files = tempfile::tempdir().unwrap();
    let logins = files.path().join("pg_hba.conf");
    std::fs::write(
        &logins,
        "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n",
    )
    .unwrap();
    readable(files.path());
    let lines = format!("hba_file = '{}'", logins.display());
    let Some(postgres) = Postgres::start_with(&PostgresConfig { lines, ..PostgresConfig::default() }) else {
        return;
    };
    let secrets = Secrets::make();
    postgres.sql("CREATE DATABASE maitred");
    let made = Command::new("/bin/sh")
        .arg(path("deploy/compose/postgres.sh"))
        .env(
            "PATH",
            std::env::join_paths([postgres.bin(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap(),
        )
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", postgres.port().to_string())
        .env("DEPLOY_DIR", path("deploy"))
        .env("SECRETS_DIR", secrets.folder())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for role in ["owner", "writer", "reader"] {
        let password = secrets.read(&format!("postgres_{role}_password"));
        assert!(lets_in(&postgres, role, &password), "{role}");
        assert!(!lets_in(&postgres, role, "wrong"), "{role} needs no password");
    }
}

fn lets_in(postgres: &Postgres, role: &str, password: &str) -> bool {
    let url = postgres.url_as(&format!("maitred_{role}:{password}"), "maitred");
    let mut psql = Command::new(postgres.bin().join("psql"));
    psql.args(["-XAtqw", "-d", &url, "-c", "SELECT 1"]).output().unwrap().status.success()
}

/// The server may run as another user.
fn readable(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}
