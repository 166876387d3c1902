//! Keys, policies and models as files.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow, bail};
use gloaming_model::Model;
use gloaming_policy::Policy;
use gloaming_policy::author::{Key, ManifestFacts, Problem, compile_with};
use gloaming_policy::gate::Record;
use gloaming_signal::hash;
use gloaming_window::WrappingKey;

/// What is being learnt of a model on devices lies beside its manifest.
pub const LEARNING: &str = "learning.json";

/// Longest file that is read whole, bytes: more than any policy, key or model may have.
const FILE_BYTES: u64 = 64 << 20;

/// Reads a file that may not be larger than anything we read.
///
/// # Errors
/// With the path in the text.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let length = fs::metadata(path).with_context(|| path.display().to_string())?.len();
    if length > FILE_BYTES {
        bail!("{} has {length} bytes; nothing read here has more than {FILE_BYTES}", path.display());
    }
    fs::read(path).with_context(|| path.display().to_string())
}

/// As [`read`], as text.
///
/// # Errors
/// As there, or when it is not UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read(path)?).map_err(|_| anyhow!("{} is not UTF-8 text", path.display()))
}

/// Days since 1970, UTC.
#[must_use]
pub fn today() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() / 86_400)
}

/// 32 bytes from the operating system.
///
/// # Errors
/// When it has none.
pub fn entropy() -> Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| anyhow!("the operating system gives no entropy: {error}"))?;
    Ok(seed)
}

/// Writes a new secret that only its owner may read; an existing file is never replaced.
///
/// # Errors
/// When it exists or cannot be written.
pub fn write_secret(path: &Path, text: &str) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options
        .open(path)
        .with_context(|| format!("{} cannot be made (a key file is never overwritten)", path.display()))?;
    file.write_all(text.as_bytes())?;
    file.sync_all().context("the key could not be written")
}

/// Replaces a file in one step: whoever looks meanwhile, or after the power failed, sees the old one or the new one.
///
/// # Errors
/// When it cannot be written; the old one is still there then.
pub fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".writing");
    let mut file = fs::File::create(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    sync_folder(path)
}

/// Makes names in a file's folder durable.
///
/// # Errors
/// When they are not.
pub fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Only Unix lets a folder be opened.
    if cfg!(unix) { fs::File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Whether others than the owner may read a secret.
#[must_use]
pub fn readable_by_others(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o077 != 0)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

/// A signing key's file.
///
/// # Errors
/// When it is not one.
pub fn key(path: &Path) -> Result<Key> {
    Key::from_text(&read_text(path)?).with_context(|| path.display().to_string())
}

/// The key that wraps window keys; made on first use.
///
/// # Errors
/// When the file is something else or cannot be made.
pub fn wrapping_key(path: &Path) -> Result<WrappingKey> {
    if !path.exists() {
        write_secret(path, &format!("{}\n", hash::hex(&entropy()?)))?;
    }
    hash::unhex(read_text(path)?.trim())
        .map(WrappingKey::new)
        .ok_or_else(|| anyhow!("{}: a wrapping key file holds 64 hexadecimal digits", path.display()))
}

/// A model as it lies in its folder, loaded as devices do and proven against its manifest.
pub struct Brought {
    /// What devices run.
    pub model: Model,
    /// Bytes of its manifest.
    pub manifest: Vec<u8>,
    /// Bytes of the file.
    pub onnx: Vec<u8>,
}

impl Brought {
    /// Reads the model whose manifest this is; `model.onnx` lies beside it.
    ///
    /// # Errors
    /// When one of them is not there, or the first difference between them.
    pub fn load(manifest: &Path) -> Result<Self> {
        let (bytes, onnx) = (read(manifest)?, read(&manifest.with_file_name("model.onnx"))?);
        let model = Model::load(&bytes, &onnx).with_context(|| manifest.display().to_string())?;
        Ok(Self { model, manifest: bytes, onnx })
    }

    /// SHA-256 of the manifest: what statements and records call the model.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        hash::sha256(&self.manifest)
    }
}

/// What the compiler asks of a model: its manifest and file are read, loaded and proven.
///
/// # Errors
/// One sentence.
pub fn manifest_facts(manifest: &[u8], onnx: &[u8]) -> Result<ManifestFacts, String> {
    let model = Model::load(manifest, onnx).map_err(|error| error.to_string())?;
    let described = model.manifest();
    Ok(ManifestFacts {
        manifest_sha256: hash::sha256(manifest),
        onnx_sha256: hash::sha256(onnx),
        id: described.id.clone(),
        inputs: described.input.features.clone(),
        score_edges: described.score_edges.clone(),
        score_means: described.score_means.clone(),
        kinds: described.output.kinds.clone(),
        learning: None,
    })
}

/// Where the record of a policy's models lies: beside it.
#[must_use]
pub fn record_path(policy: &Path) -> PathBuf {
    policy.with_file_name("gate.ndjson")
}

/// The record beside a policy, replayed; `None` when there is none.
///
/// # Errors
/// When it does not hold.
pub fn record(policy: &Path) -> Result<Option<Record>> {
    let path = record_path(policy);
    if !path.exists() {
        return Ok(None);
    }
    Record::read(&read(&path)?).map(Some).with_context(|| path.display().to_string())
}

/// A file that a policy names: relative to it, or under `models_in`.
///
/// # Errors
/// One sentence.
pub fn beside(name: &str, policy: &Path, models_in: Option<&Path>) -> Result<PathBuf, String> {
    let folders: Vec<PathBuf> =
        [policy.parent().map(Path::to_path_buf), models_in.map(Path::to_path_buf)].into_iter().flatten().collect();
    folders.iter().map(|folder| folder.join(name)).find(|p| p.is_file()).ok_or_else(|| {
        format!("there is no {name} beside the policy; copy the model's folder there, or pass --models FOLDER")
    })
}

/// Compiles a policy file; paths of manifests are relative to it, or under `models_in`. Also gives the record beside
/// it, which says what its models may do.
///
/// # Errors
/// All problems, each with its line and remedy.
pub fn compile_policy(path: &Path, models_in: Option<&Path>) -> Result<(Policy, Option<Record>)> {
    compile_policy_with(path, models_in, &|_| None)
}

/// As [`compile_policy`]; `learning` stands in, by a model's name, where there is no `learning.json` yet.
///
/// # Errors
/// As there.
pub fn compile_policy_with(
    path: &Path,
    models_in: Option<&Path>,
    learning: &dyn Fn(&str) -> Option<String>,
) -> Result<(Policy, Option<Record>)> {
    let (text, record) = (read_text(path)?, record(path)?);
    let manifests = |name: &str| {
        let found = beside(name, path, models_in)?;
        let manifest = read(&found).map_err(|e| format!("{e:#}"))?;
        let onnx = read(&found.with_file_name("model.onnx")).map_err(|e| format!("{e:#}"))?;
        let facts = manifest_facts(&manifest, &onnx)?;
        let path = found.with_file_name(LEARNING);
        let learning =
            if path.exists() { Some(read_text(&path).map_err(|e| format!("{e:#}"))?) } else { learning(&facts.id) };
        Ok(ManifestFacts { learning, ..facts })
    };
    let policy = compile_with(&text, today(), &manifests, record.as_ref())
        .map_err(|problems| anyhow!("{}", shown(path, &problems)))?;
    Ok((policy, record))
}

/// Problems as a compiler shows them.
#[must_use]
pub fn shown(path: &Path, problems: &[Problem]) -> String {
    let lines: Vec<String> = problems
        .iter()
        .map(|p| format!("{}:{}: {}\n  remedy: {}", path.display(), p.line, p.cause, p.remedy))
        .collect();
    let count = problems.len();
    format!("{}\n{count} problem{} found", lines.join("\n"), if count == 1 { "" } else { "s" })
}
