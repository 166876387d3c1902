//! A PostgreSQL of a test's own: made by `initdb` in a temporary folder, reached through a socket in it, run by a
//! user without rights, and gone with the test.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use gloaming_central::StoreAddress;
use tempfile::TempDir;

use crate::process::{children, cpu_seconds};

/// How long a server may take to start or to recover from a crash.
const PATIENCE: Duration = Duration::from_secs(60);

/// The user that runs it; a socket lets in whoever bears its name.
const USER: &str = "gloaming";

/// A running server.
pub struct Cluster {
    folder: TempDir,
    bin: PathBuf,
    /// User and group, when this process is root's: PostgreSQL refuses to run as root.
    rank: Option<(u32, u32)>,
    settings: Vec<String>,
    server: Option<Child>,
}

/// Where Debian puts the newest version's programs.
fn programs() -> Result<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for entry in fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten() {
        if let Some(version) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            found.push((version, entry.path().join("bin")));
        }
    }
    found.retain(|(_, bin)| bin.join("initdb").exists());
    let newest = found.into_iter().max().map(|(_, bin)| bin);
    newest.ok_or_else(|| anyhow!("PostgreSQL is not installed: call `cargo xtask setup --postgres`"))
}

/// `postgres` where the package made it, else `nobody`.
fn unprivileged() -> Result<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd")?;
    for name in ["postgres", "nobody"] {
        let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == name);
        if let Some([_, _, user, group, ..]) = fields.as_deref() {
            return Ok((user.parse()?, group.parse()?));
        }
    }
    bail!("there is neither a user `postgres` nor `nobody` to run PostgreSQL as")
}

impl Cluster {
    /// Makes and starts one, with these settings beside the usual ones: `name=value`.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start; what it said is in the error.
    pub fn start(settings: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let rank = (fs::metadata(folder.path())?.uid() == 0).then(unprivileged).transpose()?;
        if let Some((user, group)) = rank {
            chown(folder.path(), Some(user), Some(group))?;
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        let mut cluster = Self { folder, bin: programs()?, rank, settings, server: None };
        let made = cluster
            .program("initdb")
            .args(["--username", USER, "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync", "-D"])
            .arg(cluster.data())
            .output()?;
        if !made.status.success() {
            bail!("initdb: {}", String::from_utf8_lossy(&made.stderr));
        }
        cluster.run()?;
        Ok(cluster)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.current_dir(self.folder.path()).env_remove("PGPORT").env("LC_ALL", "C");
        if let Some((user, group)) = self.rank {
            command.gid(group).uid(user);
        }
        command
    }

    /// Starts the server, after a crash too, and waits until it answers.
    ///
    /// # Errors
    /// When it does not within a minute.
    pub fn run(&mut self) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let log = fs::File::options().append(true).create(true).open(self.log_path())?;
            let mut command = self.program("postgres");
            command.arg("-D").arg(self.data()).arg("-k").arg(self.folder.path());
            command.args(["-c", "listen_addresses=", "-c", "unix_socket_permissions=0777"]);
            for setting in &self.settings {
                command.arg("-c").arg(setting);
            }
            let mut server = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
            while began.elapsed() < PATIENCE && server.try_wait()?.is_none() {
                if self.sql("postgres", "SELECT 1").is_ok() {
                    self.server = Some(server);
                    return Ok(());
                }
                sleep(Duration::from_millis(50));
            }
            // After a kill the old server's processes may still hold its memory: once more.
            let _ = server.kill();
            let _ = server.wait();
            sleep(Duration::from_millis(200));
        }
        bail!("PostgreSQL did not start; its log: {}", self.log()?)
    }

    /// A new database, empty.
    ///
    /// # Errors
    /// When there is one of this name, or the server does not answer.
    pub fn database(&self, name: &str) -> Result<StoreAddress> {
        self.sql("postgres", &format!("CREATE DATABASE {name}"))?;
        let folder = self.folder.path().to_str().context("the temporary folder's name is not UTF-8")?;
        Ok(format!("postgres:///{name}?host={folder}&user={USER}").parse()?)
    }

    /// What `psql` prints, without headings: columns end at `|`, rows at the line's end.
    ///
    /// # Errors
    /// With what `psql` says.
    pub fn sql(&self, database: &str, statement: &str) -> Result<String> {
        let asked = self
            .program("psql")
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-U", USER, "-d", database, "-c", statement, "-h"])
            .arg(self.folder.path())
            .output()?;
        if !asked.status.success() {
            bail!("psql: {}", String::from_utf8_lossy(&asked.stderr));
        }
        Ok(String::from_utf8(asked.stdout)?.trim_end().to_owned())
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Everything the server has logged.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.log_path())?)
    }

    /// Seconds of processor time that the server and its sessions have used, those that ended left out.
    ///
    /// # Errors
    /// When the processes cannot be listed.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let Some(server) = &self.server else { return Ok(0.0) };
        let own = cpu_seconds(server.id())?;
        Ok(children(server.id())?.into_iter().filter_map(|child| cpu_seconds(child).ok()).sum::<f64>() + own)
    }

    /// `kill -9` for every process of the server, as when the machine loses its power but keeps its disk.
    ///
    /// # Errors
    /// When the processes cannot be listed.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        // Stopped first, so that it sees no child die and ends nothing in good order.
        signal("-STOP", &[server.id()])?;
        let mut all = children(server.id())?;
        all.push(server.id());
        signal("-KILL", &all)?;
        server.wait()?;
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn signal(signal: &str, processes: &[u32]) -> Result<()> {
    let numbers: Vec<String> = processes.iter().map(u32::to_string).collect();
    // A child may be gone by itself meanwhile; that is as good.
    Command::new("sh").arg("-c").arg(format!("kill {signal} {} 2>/dev/null || :", numbers.join(" "))).status()?;
    Ok(())
}
