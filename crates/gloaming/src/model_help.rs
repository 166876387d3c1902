//! What `gloaming model … --help` says at its end.

/// What `model add` wants to be told.
pub(crate) const ADD: &str = "The file of --says:

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

/// What `model tend` goes by.
pub(crate) const TEND: &str = "A model has lost its grip when its AUC in these windows is surely below what was shown of it (evidence/held-out.json beside its
manifest), or below what [gate] asks for; its scores do not come true when they are surely further off than [gate] lets pass, or
than 0.1. The next version goes beside the last one, as ID-vN, and policy.next.toml names it in shadow: look at it, sign it, put it.

  0 4 * * 1  cd /srv/shop && curl -s CENTRE/api/v1/sites/SITE/overview?last=4 > overview.json && gloaming model tend --from overview.json";

/// What `model learn` does when.
pub(crate) const LEARN: &str = "The first time, of what is released of the model's inputs (its [[monitor]] counts them), it writes learning.json beside
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
pub(crate) const RETRAIN: &str = "The policy says what is counted for it, and pays for it from the same budget:

  [[retrain]]
  model = \"purchase-intent\"
  outcome = \"outcome:purchase@1\"
  pairs = [[\"pages-product@1\", \"time-product@1\"]]   # which inputs go together; all pairs when left out
  window = \"week\"
  rho = 0.05
  k = 100

The model that comes of it adds up: a level, and a number for each bin of each input. It is explained exactly on devices. What
noise drowns adds nothing. `docs/models.md` says how, and how far it gets.";

/// What `model rows` reads.
pub(crate) const ROWS: &str = "A line for each event, for each device in the order of time; a row comes out for each session:

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
pub(crate) const EVALUATE: &str = "ROWS.csv has a header: a column for each feature of the model, named as in its manifest
(`pages-product@1`), one for the outcome (0 or 1), and one for each attribute that groups are compared by.

  gloaming model evaluate models/churn/manifest.json --rows march.csv --outcome left \\
    --split time --trained 'to February' --tested March --group gender

writes held-out.json, calibration.json, fairness.json and parity.json. The last says how far the reference rows are off natively, under wasmtime
and, with --browser=/usr/bin/chromium, in that browser: what [gate] asks for as `runtimes`. Without rows it is all that is written. With --only at=3 --curve, of rows that
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

/// What `model score` reads and writes.
pub(crate) const SCORE: &str = "ROWS is a table with a header, as `gloaming model rows` writes it, or an object a line:

  {\"device\":\"d7\",\"pages-product@1\":3,\"returning@1\":1}

Of each comes a line, in the same order, with what --keep names; or why there is no score:

  {\"device\":\"d7\",\"line\":1,\"score\":0.25,\"reasons\":[{\"feature\":\"returning@1\",\"adds\":0.4,\"text\":\"more likely: came before (yes)\"}]}
  {\"device\":\"d8\",\"line\":2,\"error\":\"no number in `pages-product@1`\"}

Rows without a score are counted by reason at the end, on the error output. These are scores of people: what devices never let out
lies in a file then. Use it for sources that are yours already (a till, a server's own log), and keep it as you keep those.";
