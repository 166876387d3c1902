//! The centre as a process of its own, and the database under it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use gloaming_e2e::postgres::Cluster;
use gloaming_e2e::process::{Process, cpu_seconds, free_port, peak_memory};
use tempfile::TempDir;

use crate::fleet::Fleet;

const DATABASE: &str = "central";

pub(crate) struct Stand {
    folder: TempDir,
    cluster: Option<Cluster>,
    centre: Process,
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
        let port = free_port()?;
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
        let address = format!("http://127.0.0.1:{port}");
        let centre = Process::service(command, "central", folder.path(), &address).await?;
        Ok(Self { folder, cluster, centre, address })
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
        sqlx::any::install_default_drivers();
        let mut connection = <sqlx::AnyConnection as sqlx::Connection>::connect(&address).await?;
        let row = sqlx::query("SELECT COUNT(*) FROM release").fetch_one(&mut connection).await?;
        Ok((bytes, sqlx::Row::try_get::<i64, _>(&row, 0)?.try_into()?))
    }
}
