//! `gloaming model …`: what can be asked of it.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use gloaming::commands::{
    card, devices, evaluate, gate, learn, logged, model, recalibrate, retrain, rows, score, tend,
};
use gloaming::{files, runtimes};
use gloaming_policy::gate::Stage;

use crate::model_help::{ADD, EVALUATE, LEARN, RETRAIN, ROWS, SCORE, TEND};

#[derive(Subcommand)]
pub(crate) enum ModelCommand {
    /// Take a model that scikit-learn, LightGBM, XGBoost or PyTorch exported, rewrite it into what devices run, and
    /// prove it against rows that its trainer computed.
    #[command(after_help = ADD)]
    Add {
        /// The exported file.
        onnx: PathBuf,
        /// What the trainer says of it, as JSON.
        #[arg(long)]
        says: PathBuf,
        /// The output that holds the score, where it cannot be guessed.
        #[arg(long)]
        output: Option<String>,
        /// The column of it, from 0; the second of two when nothing is said.
        #[arg(long)]
        column: Option<usize>,
        /// The folder for `model.onnx` and `manifest.json`.
        #[arg(long)]
        out: PathBuf,
    },
    /// Make the next version of a model, with scores that say what comes true again: a map after the score, fitted to what
    /// the centre released of score and outcome. The order of scores stays. Nothing about anybody is needed for it.
    Recalibrate {
        /// The manifest; `model.onnx` lies beside it.
        manifest: PathBuf,
        /// The centre's overview: `curl CENTRE/api/v1/sites/SITE/overview?last=8 > overview.json` for the 8 newest windows.
        #[arg(long, value_name = "OVERVIEW.json")]
        from: PathBuf,
        /// The metric that counts score and outcome, where there are several.
        #[arg(long)]
        metric: Option<String>,
        /// By what: platt (a sigmoid; few outcomes do), isotonic (a line through the bins of scores), or auto (isotonic where it is
        /// surely better in windows that it was not fitted to, else platt).
        #[arg(long, value_name = "METHOD", default_value = "platt", value_parser = recalibrate::method)]
        method: recalibrate::Method,
        /// The folder for the next version.
        #[arg(long)]
        out: PathBuf,
    },
    /// Learn the next version of a model in rounds, on devices: each visit votes for more or less of one input, votes are counted
    /// as everything else is, and the weights move.
    #[command(after_help = LEARN)]
    Learn {
        /// The manifest of the version before; `model.onnx` lies beside it, and `learning.json` between rounds.
        manifest: PathBuf,
        #[command(flatten)]
        under: Under,
        /// The centre's overview: `curl CENTRE/api/v1/sites/SITE/overview?last=1 > overview.json` for the newest window.
        #[arg(long, value_name = "OVERVIEW.json")]
        from: Option<PathBuf>,
        /// What is to be told, when learning begins, as in outcome:purchase@1.
        #[arg(long, value_name = "OUTCOME")]
        outcome: Option<String>,
        /// The folder for the next version, when it is to be written.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Make the next version of a model from what the centre released of its inputs and the outcome, as [[retrain]] of the policy
    /// has it counted. Nobody's rows are needed for it, and none are made: what is written for other learners are sessions of
    /// nobody.
    #[command(after_help = RETRAIN)]
    Retrain {
        /// The manifest of the version before; `model.onnx` lies beside it.
        manifest: PathBuf,
        #[command(flatten)]
        under: Under,
        /// The centre's overview: `curl CENTRE/api/v1/sites/SITE/overview?last=8 > overview.json` for the 8 newest windows.
        #[arg(long, value_name = "OVERVIEW.json")]
        from: PathBuf,
        /// The folder for the next version.
        #[arg(long)]
        out: PathBuf,
        /// Also write sessions of nobody, drawn from what was learnt: a table for any learner, as of `gloaming model rows`.
        #[arg(long, value_name = "FILE.csv")]
        sessions: Option<PathBuf>,
    },
    /// Look after the models of a policy, as a timer does: put right or learn again what no longer holds what was shown of it, take a
    /// round of votes that is due, and state what shadows have shown. Signs nothing and promotes nothing: that stays with people.
    #[command(after_help = TEND)]
    Tend {
        #[command(flatten)]
        under: Under,
        /// The centre's overview: `curl CENTRE/api/v1/sites/SITE/overview?last=4 > overview.json`.
        #[arg(long, value_name = "OVERVIEW.json")]
        from: PathBuf,
    },
    /// Load a model as devices do: hash, op set, names, shapes, reference rows.
    Check {
        /// Its manifest; `model.onnx` lies beside it.
        manifest: PathBuf,
        /// Also check that this public key signed the folder (`gloaming model sign`).
        #[arg(long)]
        key: Option<String>,
    },
    /// Write a model card from manifest and evidence, as Markdown or HTML.
    Card {
        /// The manifest; `model.onnx` lies beside it.
        manifest: PathBuf,
        /// Folder of statements; `evidence` beside the manifest when nothing is said.
        #[arg(long, value_name = "FOLDER")]
        evidence: Option<PathBuf>,
        /// Where to write it; the ending says how.
        #[arg(long, default_value = "card.html")]
        out: PathBuf,
    },
    /// Sign a model's folder, every file of it, as an OpenSSF Model Signing bundle in model.sig.
    Sign {
        /// The folder with `manifest.json` and `model.onnx`.
        folder: PathBuf,
        /// The key.
        #[arg(long)]
        key: PathBuf,
    },
    /// Turn an event log into a table of features, by the code that devices run: for training, and for `evaluate`.
    #[command(after_help = ROWS)]
    Rows {
        /// The log, one event a line.
        events: PathBuf,
        /// In which form: gloaming, ga4 (rows of its export to BigQuery, as JSON) or snowplow (enriched events, with tabs).
        #[arg(long, value_name = "FORM", default_value = "gloaming", value_parser = rows::log)]
        log: rows::Log,
        /// The policy: it names page groups, campaigns, events and page-given features.
        #[arg(long, default_value = "policy.toml")]
        policy: PathBuf,
        /// Folder to look for models in, when they are not beside the policy.
        #[arg(long, value_name = "FOLDER")]
        models: Option<PathBuf>,
        /// Not the ends of visits, but how each stood at its first, second, … page, as in --at 1,2,3,5,8: for models that score
        /// while a visit lasts.
        #[arg(long, value_name = "PAGES", value_delimiter = ',')]
        at: Vec<u32>,
        /// With --at, a feature whose value at the end of the visit stands beside, as the column `end:NAME`; may be given again.
        #[arg(long, value_name = "FEATURE", default_value = "purchase@1")]
        end: Vec<String>,
        /// Where to write the table.
        #[arg(long, default_value = "rows.csv")]
        out: PathBuf,
    },
    /// Score rows as devices do, without one: for a till, an app's server, a gateway. The same code, the same scores.
    #[command(after_help = SCORE)]
    Score {
        /// The manifest; `model.onnx` lies beside it.
        manifest: PathBuf,
        /// Rows with a value for each of the model's features.
        #[arg(long, value_name = "FILE")]
        rows: PathBuf,
        /// A column that is copied beside the score, to know whose it is; may be given again.
        #[arg(long, value_name = "COLUMN")]
        keep: Vec<String>,
        /// Also the features that moved it most, in words: en, de, fr or es.
        #[arg(long, value_name = "LANGUAGE", num_args = 0..=1, require_equals = true, default_missing_value = "en", value_parser = score::language)]
        reasons: Option<score::Language>,
        /// Where to write scores; the standard output when nothing is said.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Say how good a model is on rows it has not seen, as statements that a role can sign.
    #[command(after_help = EVALUATE)]
    Evaluate(Box<Evaluate>),
    /// Move a model towards pages: to shadow, experiment or live, when it has shown what the policy's [gate] asks for.
    /// Says what is missing when it has not.
    Promote {
        #[command(flatten)]
        which: Which,
        /// The site's key.
        #[arg(long)]
        key: PathBuf,
        /// Why, for the record.
        #[arg(long, default_value = "it has shown what was asked")]
        because: String,
        /// Why visitors should load a file that is larger than model_bytes.
        #[arg(long, value_name = "REASON")]
        oversize: Option<String>,
    },
    /// Move a model away from pages, at once and for no more than a reason: to experiment, shadow, quarantined or
    /// retired.
    Withdraw {
        #[command(flatten)]
        which: Which,
        /// Which version, where several are in use; the one that acts when nothing is said.
        #[arg(long)]
        version: Option<u32>,
        /// The site's key.
        #[arg(long)]
        key: PathBuf,
        /// Why, for the record.
        #[arg(long)]
        because: String,
    },
    /// Hand the record over to the site's next key, before a policy is signed with it.
    Rotate {
        /// The policy's TOML; the record is gate.ndjson beside it.
        #[arg(long, default_value = "policy.toml")]
        policy: PathBuf,
        /// The site's key up to now.
        #[arg(long)]
        key: PathBuf,
        /// Its next key.
        #[arg(long)]
        next: PathBuf,
    },
    /// Add evidence and approvals to the record beside a policy.
    Evidence {
        /// Statements: signed ones, or what `gloaming model evaluate` wrote.
        #[arg(required = true)]
        statements: Vec<PathBuf>,
        /// The policy's TOML; the record is gate.ndjson beside it.
        #[arg(long, default_value = "policy.toml")]
        policy: PathBuf,
        /// The site's key, which signs the record's entries.
        #[arg(long)]
        key: PathBuf,
        /// Key of the role that answers for statements that nobody signed yet.
        #[arg(long)]
        signer: Option<PathBuf>,
    },
    /// Say yes to a move, in a role, having seen what is there.
    Approve {
        #[command(flatten)]
        which: Which,
        /// The role, as in [gate].
        #[arg(long)]
        role: String,
        /// Its key.
        #[arg(long)]
        signer: PathBuf,
        /// Where to write the approval.
        #[arg(long, default_value = "approval.json")]
        out: PathBuf,
    },
}

/// What a model is looked at under.
#[derive(Args)]
pub(crate) struct Under {
    /// The policy that is in force.
    #[arg(long, default_value = "policy.toml")]
    policy: PathBuf,
    /// Folder to look for models in, when they are not beside the policy.
    #[arg(long, value_name = "FOLDER")]
    models: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Which {
    /// The model's name in the policy.
    id: String,
    /// The stage.
    #[arg(long, value_name = "STAGE")]
    to: Stage,
    /// The policy's TOML; the record is gate.ndjson beside it.
    #[arg(long, default_value = "policy.toml")]
    policy: PathBuf,
    /// Folder to look for models in, when they are not beside the policy.
    #[arg(long, value_name = "FOLDER")]
    models: Option<PathBuf>,
}

impl Which {
    fn beside(&self) -> gate::Beside<'_> {
        gate::Beside { policy: &self.policy, models: self.models.as_deref() }
    }
}

#[derive(Args)]
pub(crate) struct Evaluate {
    /// The manifest; `model.onnx` lies beside it.
    manifest: PathBuf,
    /// Rows that the model has not seen; without any, only its parity is stated.
    #[arg(long, value_name = "FILE.csv", requires_all = ["outcome", "split", "trained", "tested"])]
    rows: Option<PathBuf>,
    /// The centre's overview of windows that came later than what the model was learnt from: what devices counted of it in
    /// shadow, in place of rows.
    #[arg(long, value_name = "OVERVIEW.json", conflicts_with = "rows")]
    released: Option<PathBuf>,
    /// A log of what was done, how likely that was, and what it earned: for models that name an action.
    #[arg(long, value_name = "FILE.csv", requires_all = ["reward", "split", "trained", "tested"], conflicts_with_all = ["rows", "released", "group", "threshold", "turn"])]
    logged: Option<PathBuf>,
    /// Column of what was earned.
    #[arg(long, requires = "logged", default_value = "", hide_default_value = true)]
    reward: String,
    /// The metric that counts score and outcome, where there are several.
    #[arg(long, requires = "released")]
    metric: Option<String>,
    /// Column of the outcome.
    #[arg(long, requires = "rows", default_value = "", hide_default_value = true)]
    outcome: String,
    /// Judge only rows with this value in a column, as in --only at=3 of a table that `rows --at` wrote: rows of one visit
    /// say the same thing twice.
    #[arg(long, value_name = "COLUMN=VALUE", requires = "rows", value_parser = evaluate::only)]
    only: Option<evaluate::Only>,
    /// Also tell how good it is at every value of that column: by how many pages a visit had come.
    #[arg(long, requires = "only")]
    curve: bool,
    /// How the rows were kept apart: time, source, group or random.
    #[arg(long, default_value = "", hide_default_value = true)]
    split: String,
    /// What the model learnt from, in words; with --released only where its manifest does not tell.
    #[arg(long, default_value = "", hide_default_value = true)]
    trained: String,
    /// What the rows are, in words.
    #[arg(long, default_value = "", hide_default_value = true)]
    tested: String,
    /// What came of another source, held out by the same training: its name, and the statement that was written then; once
    /// for each. The worst of all decides.
    #[arg(long, value_name = "NAME=held-out.json", requires = "rows", value_parser = evaluate::other_turn)]
    turn: Vec<evaluate::OtherTurn>,
    /// Column of an attribute to compare groups by; may be given again.
    #[arg(long)]
    group: Vec<String>,
    /// Why there is no attribute to compare groups by.
    #[arg(long, value_name = "REASON", conflicts_with = "group", value_parser = evaluate::reason)]
    no_group: Option<String>,
    /// Score from which a person counts as selected; the manifest's 70th percentile when nothing is said.
    #[arg(long)]
    threshold: Option<f64>,
    /// Also ask a browser whether it computes what the trainer computed: this program of Chromium's kind, or, with nothing
    /// after it, whichever opens the address that is printed then.
    #[arg(long, value_name = "PROGRAM", num_args = 0..=1, require_equals = true, default_missing_value = "", value_parser = runtimes::named)]
    browser: Option<runtimes::Browser>,
    /// Folder for the statements.
    #[arg(long, default_value = "evidence")]
    out: PathBuf,
}

pub(crate) fn run(command: ModelCommand) -> Result<()> {
    match command {
        ModelCommand::Promote { which, key, because, oversize } => {
            gate::promote(&which.beside(), &which.id, which.to, &files::key(&key)?, &because, oversize.as_deref())
        }
        ModelCommand::Rotate { policy, key, next } => {
            let beside = gate::Beside { policy: &policy, models: None };
            gate::rotate(&beside, &files::key(&key)?, &files::key(&next)?)
        }
        ModelCommand::Withdraw { which, version, key, because } => {
            gate::withdraw(&which.beside(), &which.id, version, which.to, &files::key(&key)?, &because)
        }
        ModelCommand::Approve { which, role, signer, out } => {
            gate::approve(&which.beside(), &which.id, which.to, &role, &files::key(&signer)?, &out)
        }
        ModelCommand::Evidence { statements, policy, key, signer } => {
            let signer = signer.map(|path| files::key(&path)).transpose()?;
            let beside = gate::Beside { policy: &policy, models: None };
            gate::evidence(&beside, &statements, &files::key(&key)?, signer.as_ref())
        }
        ModelCommand::Add { onnx, says, output, column, out } => {
            model::add(&onnx, &says, &gloaming_model::Choice { output, column }, &out)
        }
        ModelCommand::Tend { under, from } => {
            tend::run(&tend::Paths { policy: &under.policy, models: under.models.as_deref(), from: &from })
        }
        ModelCommand::Recalibrate { manifest, from, metric, method, out } => {
            recalibrate::run(&manifest, &from, metric.as_deref(), method, (&out, None))
        }
        ModelCommand::Learn { manifest, under, from, outcome, out } => learn::run(&learn::Paths {
            manifest: &manifest,
            policy: &under.policy,
            models: under.models.as_deref(),
            from: from.as_deref(),
            outcome: outcome.as_deref(),
            out: out.as_deref(),
            version: None,
        }),
        ModelCommand::Retrain { manifest, under, from, out, sessions } => retrain::run(&retrain::Paths {
            manifest: &manifest,
            policy: &under.policy,
            models: under.models.as_deref(),
            from: &from,
            out: &out,
            version: None,
            sessions: sessions.as_deref(),
        }),
        ModelCommand::Check { manifest, key } => {
            model::check(&manifest)?;
            key.map_or(Ok(()), |key| card::check(&manifest, &key))
        }
        ModelCommand::Rows { events, log, policy, models, at, end, out } => {
            rows::run(&events, log, &policy, models.as_deref(), &rows::At { pages: at, ends: end }, &out)
        }
        ModelCommand::Score { manifest, rows, keep, reasons, out } => {
            score::run(&manifest, &rows, &score::Told { keep, reasons }, out.as_deref())
        }
        ModelCommand::Card { manifest, evidence, out } => card::card(&manifest, evidence.as_deref(), &out),
        ModelCommand::Sign { folder, key } => card::sign(&folder, &key),
        ModelCommand::Evaluate(asked) => {
            let Evaluate {
                manifest,
                rows,
                released,
                logged,
                reward,
                metric,
                outcome,
                only,
                curve,
                split,
                trained,
                tested,
                turn,
                group,
                no_group,
                threshold,
                browser,
                out,
            } = *asked;
            let browser = browser.as_ref();
            if let Some(released) = released {
                return devices::released(&manifest, &released, metric.as_deref(), &trained, browser, &out);
            }
            if rows.is_none() && logged.is_none() {
                return evaluate::parity(&manifest, browser, &out);
            }
            let split = evaluate::Split { by: evaluate::split(&split)?, trained, tested };
            if let Some(rows) = logged {
                return logged::run(&manifest, &logged::Log { rows, reward }, split, no_group, browser, &out);
            }
            let rows = rows.unwrap_or_default();
            let groups = evaluate::Groups { columns: group, none: no_group, threshold };
            let labelled = evaluate::Labelled { rows, outcome, only, curve };
            evaluate::run(&manifest, &labelled, split, &turn, groups, browser, &out)
        }
    }
}
