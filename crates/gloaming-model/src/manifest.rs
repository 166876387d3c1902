//! The manifest's file format.

use gloaming_signal::hash;
use serde::Deserialize;

/// Longest manifest, bytes: 64 reference rows of 256 features take a tenth of it.
const MANIFEST_BYTES: usize = 1024 * 1024;
/// Most features of a model.
const FEATURES: usize = 256;

/// Most kinds that visits are sorted into: more than a person tells apart, and each needs a crowd of its own.
const KINDS: usize = 20;
/// Longest name of a kind, bytes.
const KIND_BYTES: usize = 64;

/// Most rows that explanations compare with: each takes its part of five milliseconds.
pub(crate) const BACKGROUND: usize = 64;

/// Why a manifest is not one.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Larger than 1 MiB.
    #[error("the manifest is longer than {MANIFEST_BYTES} bytes; ship fewer reference rows")]
    TooLarge,
    /// Not JSON of this form.
    #[error("the manifest cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// JSON of this form that says something impossible.
    #[error("the manifest's {what}: {why}")]
    Field {
        /// Which part.
        what: &'static str,
        /// What is wrong and how to mend it.
        why: String,
    },
}

/// What a model must be. Further keys (training, evidence, licence) are for the model card.
#[derive(Clone, Debug, Deserialize)]
pub struct Manifest {
    format: u32,
    /// The model's name.
    pub id: String,
    /// Grows with every training.
    pub version: u32,
    /// The model file.
    pub onnx: Onnx,
    /// Its input.
    pub input: Input,
    /// Its output.
    pub output: Output,
    /// 19 interior edges of 20 score bins; for n kinds, the n - 1 numbers k / n.
    pub score_edges: Vec<f64>,
    /// Mean score of what it learnt from, by bin: what a bin stands for when it is asked whether scores come true. Without it
    /// that is the bin's middle, and the outermost bins are wide.
    #[serde(default)]
    pub score_means: Vec<f64>,
    /// Rows to check.
    pub reference: Reference,
    /// Usual rows, which explanations compare with; the reference rows when there are none.
    #[serde(default)]
    pub background: Vec<Vec<f32>>,
    /// Who answers for it; the gate asks.
    #[serde(default)]
    pub owner: Option<String>,
    /// Day by which it is to be looked at again, `YYYY-MM-DD`; the gate asks.
    #[serde(default)]
    pub next_review: Option<String>,
}

/// The model file as it must be.
#[derive(Clone, Debug, Deserialize)]
pub struct Onnx {
    /// File name beside the manifest.
    pub file: String,
    /// SHA-256, hexadecimal.
    pub sha256: String,
    /// Length.
    pub bytes: u64,
    /// Version by domain.
    pub opsets: std::collections::BTreeMap<String, i64>,
    /// Op types, sorted.
    pub ops: Vec<String>,
}

/// The one input.
#[derive(Clone, Debug, Deserialize)]
pub struct Input {
    /// Its name in the graph.
    pub name: String,
    /// `[1, features]`.
    pub shape: Vec<usize>,
    /// `name@version` of each feature, in order.
    pub features: Vec<String>,
}

/// The one output.
#[derive(Clone, Debug, Deserialize)]
pub struct Output {
    /// Its name in the graph.
    pub name: String,
    /// `[1, 1]`.
    pub shape: Vec<usize>,
    /// What the probability is of, or what is sorted into kinds.
    pub meaning: String,
    /// Names of the kinds into which it sorts visits; empty for a probability. The k-th of n is the score `(k + 0.5) / n`.
    #[serde(default)]
    pub kinds: Vec<String>,
}

/// Rows and what they give.
#[derive(Clone, Debug, Deserialize)]
pub struct Reference {
    /// Input rows.
    pub inputs: Vec<Vec<f32>>,
    /// The trainer's output for each.
    pub outputs: Vec<f32>,
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_BYTES {
            return Err(ManifestError::TooLarge);
        }
        let manifest: Self = serde_json::from_slice(bytes)?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let wrong = |what, why: String| Err(ManifestError::Field { what, why });
        let width = self.input.features.len();
        if self.format != 1 {
            return wrong("format", format!("{} is not 1, the only one there is", self.format));
        }
        if hash::unhex::<32>(&self.onnx.sha256).is_none() {
            return wrong("onnx.sha256", "not 64 hexadecimal digits".into());
        }
        if self.onnx.file.contains(['/', '\\']) || self.onnx.file.starts_with('.') {
            return wrong("onnx.file", format!("`{}` must be a file beside the manifest", self.onnx.file));
        }
        if width == 0 || width > FEATURES || self.input.shape != [1, width] {
            return wrong("input.shape", format!("{:?} is not [1, {width}], one for each feature", self.input.shape));
        }
        if self.output.shape != [1, 1] {
            return wrong("output.shape", format!("{:?} is not [1, 1]: one probability", self.output.shape));
        }
        self.check_kinds()?;
        if self.output.kinds.is_empty() && self.score_edges.len() != 19
            || !self.score_edges.is_sorted_by(|a, b| b - a >= 1e-6)
            || !self.score_edges.iter().all(|e| *e > 0.0 && *e < 1.0)
        {
            return wrong(
                "score_edges",
                "must be 19 growing numbers between 0 and 1, a millionth apart at least".into(),
            );
        }
        let ends = [&[0.0], &self.score_edges[..], &[1.0]].concat();
        let within = |(mean, bin): (&f64, &[f64])| bin[0] <= *mean && *mean <= bin[1];
        if !self.score_means.is_empty()
            && (self.score_means.len() + 1 != ends.len()
                || !self.score_means.iter().zip(ends.windows(2)).all(within)
                || !self.score_means.is_sorted_by(|a, b| b - a >= 1e-6))
        {
            return wrong("score_means", "must be a growing number within each bin of score_edges".into());
        }
        if self.background.len() > BACKGROUND || self.background.iter().any(|row| row.len() != width) {
            return wrong("background", format!("holds {BACKGROUND} rows at most, of {width} numbers each"));
        }
        let rows = &self.reference;
        if rows.inputs.len() < 8 || rows.inputs.len() != rows.outputs.len() {
            return wrong("reference", "needs 8 rows at least, and an output for each".into());
        }
        if rows.inputs.iter().any(|row| row.len() != width) {
            return wrong("reference.inputs", format!("every row needs {width} numbers"));
        }
        Ok(())
    }

    /// Kinds are few, differ, and have a bin each.
    fn check_kinds(&self) -> Result<(), ManifestError> {
        let (kinds, edges) = (&self.output.kinds, &self.score_edges);
        if kinds.is_empty() {
            return Ok(());
        }
        let twice = kinds.iter().enumerate().any(|(at, kind)| kinds[at + 1..].contains(kind));
        let wordless = kinds.iter().any(|kind| kind.trim().is_empty() || kind.len() > KIND_BYTES);
        if !(2..=KINDS).contains(&kinds.len()) || twice || wordless {
            let why = format!("must be 2 to {KINDS} different names of at most {KIND_BYTES} bytes");
            return Err(ManifestError::Field { what: "output.kinds", why });
        }
        let even = |(at, edge): (usize, &f64)| ((at + 1) as f64 / kinds.len() as f64 - edge).abs() < 1e-6;
        if edges.len() + 1 != kinds.len() || !edges.iter().enumerate().all(even) {
            let why =
                format!("of {} kinds must be k / {}, for k from 1 to {}", kinds.len(), kinds.len(), kinds.len() - 1);
            return Err(ManifestError::Field { what: "score_edges", why });
        }
        Ok(())
    }

    /// The kind that a score stands for; `None` for a probability.
    #[must_use]
    pub fn kind(&self, score: f32) -> Option<&str> {
        let kinds = &self.output.kinds;
        let place = (score.clamp(0.0, 1.0) * kinds.len() as f32) as usize;
        kinds.get(place.min(kinds.len().saturating_sub(1))).map(String::as_str)
    }

    /// The model file's hash.
    #[must_use]
    pub fn onnx_sha256(&self) -> [u8; 32] {
        hash::unhex(&self.onnx.sha256).unwrap_or_default()
    }
}
