//! The centre as a process of its own, and the database under it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use gloaming_e2e::postgres::Cluster;
use gloaming_e2e::process::{cpu_seconds, peak_memory};
use gloaming_http::Client;
use tempfile::TempDir;

use crate::fleet::Fleet;

const DATABASE: &str = "central";

pub(crate) struct Stand {
    folder: TempDir,
    cluster: Option<Cluster>,
    centre: Child,
    address: String,
}

impl Stand {
    pub(crate) async fn start(fleet: &Fleet, postgres: bool, command: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let cluster = if postgres { Some(Cluster::start(&["shared_buffers=256MB"])?) } else { None };
        let store = match &cluster {
            Some(cluster) => match cluster.database(DATABASE)? {
                gloaming_central::StoreAddress::Postgres(url) => url,
                other => other.to_string(),
            },
            None => "sqlite:central.sqlite".to_owned(),
        };
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut policies = Vec::new();
        for (name, bytes) in fleet.signed() {
            fs::write(folder.path().join(&name), bytes)?;
            policies.push(format!("{name:?}"));
        }
        let config = format!(
            "[central]\nlisten = \"127.0.0.1:{port}\"\nstore = {store:?}\npolicies = [{}]\n{}",
            policies.join(", "),
            fleet.tables()
        );
        fs::write(folder.path().join("gloaming.toml"), config)?;
        let log = fs::File::create(folder.path().join("log"))?;
        let centre = Command::new(command)
            .arg("central")
            .arg("--config")
            .arg(folder.path().join("gloaming.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot run {}", command.display()))?;
        let mut stand = Self { folder, cluster, centre, address: format!("http://127.0.0.1:{port}") };
        let (client, began) = (Client::new(Duration::from_secs(1)), Instant::now());
        while began.elapsed() < Duration::from_secs(120) {
            if client.get(&format!("{}/readyz", stand.address)).await.is_ok_and(|(status, ..)| status.is_success()) {
                return Ok(stand);
            }
            if stand.centre.try_wait()?.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the centre did not start: {}", fs::read_to_string(stand.folder.path().join("log"))?)
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Of the centre, and of a database that is a process of its own.
    pub(crate) fn cpu_seconds(&self) -> Result<(f64, f64)> {
        let database = self.cluster.as_ref().map_or(Ok(0.0), Cluster::cpu_seconds)?;
        Ok((cpu_seconds(self.centre.id())?, database))
    }

    pub(crate) fn peak_memory(&self) -> Result<u64> {
        peak_memory(self.centre.id())
    }

    /// Bytes on disk, and rows that hold releases.
    pub(crate) async fn size(&self) -> Result<(u64, u64)> {
        if let Some(cluster) = &self.cluster {
            let bytes = cluster.sql(
                DATABASE,
                "SELECT SUM(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace",
            )?;
            return Ok((bytes.parse()?, cluster.sql(DATABASE, "SELECT COUNT(*) FROM release")?.parse()?));
        }
        let file = self.folder.path().join("central.sqlite");
        let log: PathBuf = self.folder.path().join("central.sqlite-wal");
        let bytes = fs::metadata(&file)?.len() + fs::metadata(log).map_or(0, |file| file.len());
        let address = gloaming_central::StoreAddress::Sqlite(file).url();
        let mut connection = <sqlx::AnyConnection as sqlx::Connection>::connect(&address).await?;
        let row = sqlx::query("SELECT COUNT(*) FROM release").fetch_one(&mut connection).await?;
        Ok((bytes, sqlx::Row::try_get::<i64, _>(&row, 0)?.try_into()?))
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        let _ = self.centre.kill();
        let _ = self.centre.wait();
    }
}
