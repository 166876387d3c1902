//! Policies to start from.

/// Names of the templates.
pub const TEMPLATES: [&str; 4] = ["shop", "blog", "docs", "saas"];

const HEAD: &str = r#"# What {site} may learn from visits, and nothing else. `gloaming policy check` reads this file,
# `gloaming plan` says what the noise means at your traffic, `gloaming policy sign` makes it binding.
site = "{site}"
version = 1                        # must grow with every change
expires = "{expires}"
budget = { rho_per_device_day = 0.25, delta = 1e-6 }
origins = ["{origin}"]
home_edges = ["edge-1"]
"#;

const MEASUREMENT: &str = r#"
[[purpose]]
id = "measurement"
default = "deny"
text.en = "Count how pages are used."
text.de = "Zählen, wie Seiten genutzt werden."
text.fr = "Compter comment les pages sont utilisées."
text.es = "Contar cómo se usan las páginas."
"#;

const PREDICTION: &str = r#"
[[purpose]]
id = "prediction"
default = "deny"
text.en = "Guess on this device whether the visit will end in a purchase, and count how good the guesses are."
text.de = "Auf diesem Gerät schätzen, ob der Besuch mit einem Kauf endet, und zählen, wie gut die Schätzungen sind."
text.fr = "Estimer sur cet appareil si la visite se terminera par un achat, et compter la qualité des estimations."
text.es = "Estimar en este dispositivo si la visita acabará en compra, y contar lo buenas que son las estimaciones."
"#;

const SHOP_PAGES: &str = r#"
[[page_group]]
id = "home"
paths = ["/", "/index.html"]

[[page_group]]
id = "listing"
kind = "product"
paths = ["/c/*"]

[[page_group]]
id = "product"
kind = "product"
paths = ["/p/*"]

[[page_group]]
id = "search"
kind = "product"
paths = ["/search*"]

[[page_group]]
id = "checkout"
kind = "account"
paths = ["/cart", "/checkout", "/order/*"]

[[page_group]]
id = "account"
kind = "account"
paths = ["/account*"]

[[page_group]]
id = "help"
kind = "info"
paths = ["/help*"]
"#;

const SHOP_METRICS: &str = r#"
[[feature]]                        # given by the page: gloaming('feature', 'cart-value', 59)
id = "cart-value"
kind = "number"
min = 0
max = 500
unit = "EUR"
purpose = "measurement"

[[metric]]
id = 1
name = "visits"
of = "feature:visit-day@1"
category = ["first", "again"]
purpose = "measurement"
tier = "edge"
window = "day"
per_day = 3
rho = 0.005
k = 50

[[metric]]
id = 2
name = "landing-page"
of = "feature:landing-group@1"
category = ["home", "listing", "product", "search", "help", "other"]
purpose = "measurement"
tier = "edge"
window = "day"
per_day = 1
rho = 0.02
k = 50

[[metric]]
id = 3
name = "source"
of = "feature:referrer-class@1"
category = ["direct", "search", "social", "mail", "site", "own"]
purpose = "measurement"
tier = "edge"
window = "day"
per_day = 1
rho = 0.02
k = 50

[[metric]]
id = 4
name = "scroll-depth"
of = "feature:max-scroll@1"
histogram = { edges = [0, 25, 50, 75, 90, 100], unit = "percent" }
purpose = "measurement"
tier = "edge"
window = "day"
per_day = 1
rho = 0.02
k = 50

[[metric]]
id = 5
name = "engaged-time"
of = "feature:engaged-time@1"
histogram = { edges = [0, 5, 15, 30, 60, 180, 600], unit = "seconds" }
purpose = "measurement"
tier = "edge"
window = "day"
per_day = 1
rho = 0.02
k = 50

[[metric]]
id = 6
name = "shopping-funnel"
funnel = ["view_item", "add_to_cart", "begin_checkout", "purchase"]
purpose = "measurement"
tier = "edge"
window = "day"
per_day = 1
rho = 0.02
k = 50

[[metric]]
id = 7
name = "first-step"
of = "feature:journey-pair@1"
journey = ["home", "listing", "product", "checkout"]
purpose = "measurement"
tier = "edge"
window = "day"
per_day = 1
rho = 0.02
k = 50

[[metric]]
id = 8
name = "cart-value"
of = "page:cart-value"
sum = { max = 500, unit = "EUR" }
purpose = "measurement"
tier = "edge"
window = "day"
per_day = 1
rho = 0.02
k = 50

[[metric]]
id = 9
name = "dead-clicks"
of = "feature:dead-clicks@1"
histogram = { edges = [0, 1, 2, 5], unit = "clicks" }
purpose = "measurement"
tier = "edge"
window = "day"
per_day = 1
rho = 0.01
k = 50

[[metric]]
id = 10
name = "loading"
of = "feature:lcp-band@1"
category = ["good", "needs-improvement", "poor", "unknown"]
purpose = "measurement"
tier = "edge"
window = "day"
per_day = 1
rho = 0.01
k = 50
"#;

const SHOP_MODEL: &str = r#"
[[metric]]
id = 40
name = "purchase-calibration"
of = ["score:purchase-intent", "outcome:purchase@1"]
joint = [20, 2]
purpose = "prediction"
tier = "edge"
window = "week"
per_day = 1
rho = 0.05
k = 100

[[model]]
id = "purchase-intent"
manifest = "models/purchase-intent/manifest.json"
state = "shadow"                   # computed and counted; no page sees a score
owner = "data"                     # who answers for it, and who looks at it: roles of a [gate], without which it never acts
reviewer = "compliance"
purpose = "prediction"

[[monitor]]                        # what shows that it drifts; a model that acts must have one
model = "purchase-intent"          # all it takes is counted; `inputs = ["pages-product@1"]` would count that alone
window = "week"
rho = 0.02                         # shared by its inputs and by how it fares
k = 100
"#;

const READING: &str = r#"
[[metric]]
id = 1
name = "visits"
of = "feature:visit-day@1"
category = ["first", "again"]
purpose = "measurement"
tier = "edge"
window = "day"
per_day = 3
rho = 0.01
k = 50

[[metric]]
id = 2
name = "landing-page"
of = "feature:landing-group@1"
category = [{groups}, "other"]
purpose = "measurement"
tier = "edge"
window = "day"
per_day = 1
rho = 0.04
k = 50

[[metric]]
id = 3
name = "source"
of = "feature:referrer-class@1"
category = ["direct", "search", "social", "mail", "site", "own"]
purpose = "measurement"
tier = "edge"
window = "day"
per_day = 1
rho = 0.04
k = 50

[[metric]]
id = 4
name = "read-how-far"
of = "feature:max-scroll@1"
histogram = { edges = [0, 25, 50, 75, 90, 100], unit = "percent" }
purpose = "measurement"
tier = "edge"
window = "day"
per_day = 1
rho = 0.04
k = 50

[[metric]]
id = 5
name = "engaged-time"
of = "feature:engaged-time@1"
histogram = { edges = [0, 10, 30, 60, 180, 600], unit = "seconds" }
purpose = "measurement"
tier = "edge"
window = "day"
per_day = 1
rho = 0.04
k = 50
"#;

const SAAS_MORE: &str = r#"
[[metric]]
id = 6
name = "sign-up"
funnel = ["page:pricing", "form_start", "form_submit"]
purpose = "measurement"
tier = "edge"
window = "day"
per_day = 1
rho = 0.03
k = 50

[[metric]]
id = 7
name = "frustration"
of = "feature:rage-clicks@1"
histogram = { edges = [0, 1, 2, 5], unit = "times" }
purpose = "measurement"
tier = "edge"
window = "week"
per_day = 1
rho = 0.02
k = 50
"#;

fn group(id: &str, kind: &str, path: &str) -> String {
    format!("\n[[page_group]]\nid = \"{id}\"\nkind = \"{kind}\"\npaths = [\"{path}\"]\n")
}

/// A policy that works as it is, for one of [`TEMPLATES`]. `None` for another name.
#[must_use]
pub fn template(name: &str, site: &str, origin: &str, expires: &str) -> Option<String> {
    let body = match name {
        "shop" => [MEASUREMENT, PREDICTION, SHOP_PAGES, SHOP_METRICS, SHOP_MODEL].concat(),
        "blog" => {
            let pages =
                [group("home", "other", "/"), group("post", "other", "/posts/*"), group("about", "info", "/about*")];
            [MEASUREMENT, &pages.concat(), &READING.replace("{groups}", "\"home\", \"post\", \"about\"")].concat()
        }
        "docs" => {
            let pages = [
                group("home", "other", "/"),
                group("guide", "info", "/guide/*"),
                group("reference", "info", "/reference/*"),
            ];
            [MEASUREMENT, &pages.concat(), &READING.replace("{groups}", "\"home\", \"guide\", \"reference\"")].concat()
        }
        "saas" => {
            let pages = [
                group("home", "other", "/"),
                group("pricing", "product", "/pricing*"),
                group("app", "account", "/app/*"),
            ];
            [MEASUREMENT, &pages.concat(), &READING.replace("{groups}", "\"home\", \"pricing\", \"app\""), SAAS_MORE]
                .concat()
        }
        _ => return None,
    };
    Some([HEAD, &body].concat().replace("{site}", site).replace("{origin}", origin).replace("{expires}", expires))
}
