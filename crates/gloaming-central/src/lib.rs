//! The centre: stores sealed batches exactly once, and answers what they say.
//!
//! Nothing arrives here but noised cells, signed by an edge. A batch becomes one ledger row and its
//! cells in one transaction; the same batch again is welcome and changes nothing; another batch under
//! the same name is refused and raises an alarm, because two noised answers to one question are one
//! answer too many. The site is part of every key.
//!
//! What it is not: a place to correct noise. Negative cells stay negative; rounding them away would bias
//! every sum made from them.
#![forbid(unsafe_code)]

mod alerts;
mod apply;
mod config;
mod fair;
mod figures;
mod gauges;
mod ingest;
mod overview;
mod server;
mod store;
mod sudden;
mod trials;
mod watch;
mod worth;

pub use alerts::{Alert, Mail, MailError, MailServer, MailTls, Telling, Webhook, signature};
pub use config::{CentralError, Clock, Config, LOOK};
pub use fair::{Fair, FairGroup};
pub use figures::Row;
pub use overview::{Budget, MetricView, Overview, SiteRow, Total, WindowView};
pub use server::{Running, openapi, start};
pub use store::{Arrived, NoStore, ReleaseRow, Stop, Store, StoreAddress, StoreError, Stored};
pub use sudden::Sudden;
pub use trials::{ArmView, ExperimentView, RailView, StoppedView};
pub use watch::{Bin, Drift, Expected, Fared, Figure, ModelView, Performed, Point, Recent, ScoredBy, Series};
pub use worth::{Line, Worth};
