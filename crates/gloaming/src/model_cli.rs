//! `gloaming model …`: what can be asked of it.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use gloaming::commands::{card, devices, evaluate, gate, learn, logged, model, recalibrate, retrain, rows, tend};
use gloaming::files;
use gloaming_policy::gate::Stage;

/// What `model add` wants to be told.
const ADD: &str = "The file of --says:

  { \"id\": \"churn\", \"version\": 1,
    \"input\": { \"features\": [\"pages-product@1\", \"returning@1\"] },
    \"output\": { \"meaning\": \"probability that nobody comes back within 30 days\" },
    \"score_edges\": [19 growing numbers: the edges of 20 bins with as many people in each],
    \"score_means\": [20 growing numbers: the mean score in each bin; may be left out],
    \"reference\": { \"inputs\": [[3, 1], …], \"outputs\": [0.25, …] } }

A model that sorts visits names its kinds. The k-th of n, from 0, is the score (k + 0.5) / n, and the edges are k / n:

    \"output\": { \"meaning\": \"kind of visit\", \"kinds\": [\"glance\", \"browse\", \"arrange\", \"research\"] },
    \"score_edges\": [0.25, 0.5, 0.75],

`reference` holds 8 rows at least and what onnxruntime computes from them with the exported file. Anything else in it
(training, evidence, owner, licence) goes into the manifest as it is. `docs/models.md` says what runs.";

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
    /// Make the next version of a model, with scores that say what comes true again: a sigmoid after the score, fitted to what
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

/// What `model tend` goes by.
const TEND: &str = "A model has lost its grip when its AUC in these windows is surely below what was shown of it (evidence/held-out.json beside its
manifest), or below what [gate] asks for; its scores do not come true when they are surely further off than [gate] lets pass, or
than 0.1. The next version goes beside the last one, as ID-vN, and policy.next.toml names it in shadow: look at it, sign it, put it.

  0 4 * * 1  cd /srv/shop && curl -s CENTRE/api/v1/sites/SITE/overview?last=4 > overview.json && gloaming model tend --from overview.json";

/// What `model learn` does when.
const LEARN: &str = "The first time, of what is released of the model's inputs (its [[monitor]] counts them), it writes learning.json beside
the manifest: each input as a number, none of which weighs anything yet. Then the policy asks for votes:

  [[retrain]]
  model = \"purchase-intent\"
  by = \"votes\"
  window = \"day\"
  rho = 0.0175
  k = 100

A visit says one word: an input of which more, or less, would have made what came of it likelier, drawn by how much. After a window
of votes this moves the weights, and signing the policy again asks for the next round. One to four rounds do; more add noise. What a page
gives has to be counted by a [[metric]] of the policy first.";

/// What `model retrain` needs to have been counted.
const RETRAIN: &str = "The policy says what is counted for it, and pays for it from the same budget:

  [[retrain]]
  model = \"purchase-intent\"
  outcome = \"outcome:purchase@1\"
  pairs = [[\"pages-product@1\", \"time-product@1\"]]   # which inputs go together; all pairs when left out
  window = \"week\"
  rho = 0.05
  k = 100

The model that comes of it adds up: a level, and a number for each bin of each input. It is explained exactly on devices. What
noise drowns adds nothing. `docs/models.md` says how, and how far it gets.";

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

/// What `model rows` reads.
const ROWS: &str = "A line for each event, for each device in the order of time; a row comes out for each session:

  {\"device\":\"d1\",\"at_ms\":1795430000000,\"event\":\"page_view\",\"path\":\"/p/lamp\",\"referrer\":\"www.google.com\",\"hour\":20}
  {\"device\":\"d1\",\"at_ms\":1795430030000,\"event\":\"add_to_cart\",\"value\":89.0}
  {\"device\":\"d1\",\"at_ms\":1795430031000,\"event\":\"feature\",\"feature\":\"cart-value\",\"value\":89.0}

Events have GA4's names where GA4 has one, or are the policy's own. A page_view takes path, referrer, campaign, device_class
(0 phone, 1 tablet, 2 desktop), width, weekday (0 Monday) and hour.

Of GA4's export and of Snowplow's enriched events what has a meaning here is read: pages, engagement, scrolling, links, forms, the shop's events,
and those of the policy. Neither says all that a device sees: hours are UTC where no offset is given, and clicks that lead nowhere are unknown, so
that features made of them are 0. Such a log says what people did: keep it as you keep
people's data, and delete it when the model is trained.";

/// What `model evaluate` wants.
const EVALUATE: &str = "ROWS.csv has a header: a column for each feature of the model, named as in its manifest
(`pages-product@1`), one for the outcome (0 or 1), and one for each attribute that groups are compared by.

  gloaming model evaluate models/churn/manifest.json --rows march.csv --outcome left \\
    --split time --trained 'to February' --tested March --group gender

writes held-out.json, calibration.json, fairness.json and parity.json. With --only at=3 --curve, of rows that
`gloaming model rows --at 1,2,3,5,8` wrote, it is judged at the third page, and held-out.json tells how it fares at the others.
Of a model in shadow devices count scores and outcomes;
then nobody's rows are needed:

  curl CENTRE/api/v1/sites/SITE/overview?last=4 > overview.json
  gloaming model evaluate models/churn-2/manifest.json --released overview.json

A model that names an action has no outcome that says whether it was right. It is judged by a log of another way to choose,
with a column for each feature, `action` (a name of the model's `output.kinds`), `propensity` (how likely that was when it was
done) and one for what it earned. With `expected:ACTION` for every action (what a model that did not see these rows expects
each to earn) the estimate is doubly robust:

  gloaming model evaluate models/offers/manifest.json --logged april.csv --reward clicked \\
    --split time --trained 'to March' --tested April

writes value.json and parity.json, and fairness.json where --no-group says why no groups are compared. Rows that were set aside by lot make evidence
that no gate takes: a random split tells how well a model remembers, and not how well it will do.";

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
        ModelCommand::Recalibrate { manifest, from, metric, out } => {
            recalibrate::run(&manifest, &from, metric.as_deref(), &out)
        }
        ModelCommand::Learn { manifest, under, from, outcome, out } => learn::run(&learn::Paths {
            manifest: &manifest,
            policy: &under.policy,
            models: under.models.as_deref(),
            from: from.as_deref(),
            outcome: outcome.as_deref(),
            out: out.as_deref(),
        }),
        ModelCommand::Retrain { manifest, under, from, out, sessions } => retrain::run(&retrain::Paths {
            manifest: &manifest,
            policy: &under.policy,
            models: under.models.as_deref(),
            from: &from,
            out: &out,
            sessions: sessions.as_deref(),
        }),
        ModelCommand::Check { manifest, key } => {
            model::check(&manifest)?;
            key.map_or(Ok(()), |key| card::check(&manifest, &key))
        }
        ModelCommand::Rows { events, log, policy, models, at, end, out } => {
            rows::run(&events, log, &policy, models.as_deref(), &rows::At { pages: at, ends: end }, &out)
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
                out,
            } = *asked;
            if let Some(released) = released {
                return devices::released(&manifest, &released, metric.as_deref(), &trained, &out);
            }
            if rows.is_none() && logged.is_none() {
                return evaluate::parity(&manifest, &out);
            }
            let split = evaluate::Split { by: evaluate::split(&split)?, trained, tested };
            if let Some(rows) = logged {
                return logged::run(&manifest, &logged::Log { rows, reward }, split, no_group, &out);
            }
            let rows = rows.unwrap_or_default();
            let groups = evaluate::Groups { columns: group, none: no_group, threshold };
            evaluate::run(&manifest, &evaluate::Labelled { rows, outcome, only, curve }, split, &turn, groups, &out)
        }
    }
}
