//! Every bound on what crosses a boundary, in one place.
//!
//! A limit is enforced where bytes are first decoded, before anything is allocated for them.

/// Largest body of a `POST /v1/contributions`, bytes. 64 contributions take about 3 kB; 16 KiB leaves
/// room for growth and stays below the 64 KiB that browsers allow all `keepalive` requests together.
pub const SUBMISSION_BYTES: usize = 16 * 1024;

/// Contributions in one submission. The host marks some of them in one 64-bit mask, hence 64.
pub const CONTRIBUTIONS: usize = 64;

/// Submissions in one parcel from a relay to a home edge.
pub const PARCEL: usize = 1_024;

/// Bytes of parcels that a relay posts together, unless one alone is more: a parcel has at most a quarter of a megabyte of
/// submissions.
pub const LOAD_BYTES: usize = 512 * 1024;

/// Longest site name, bytes: that of a DNS name (RFC 1035, section 2.3.4).
pub const SITE_BYTES: usize = 253;

/// Contributions folded in one call of the edge component: 1,024 full submissions, 1.5 MB of rows.
pub const FOLD_ROWS: usize = 65_536;

/// Cells one metric may declare. A joint of 64 x 64 fits; each cell is released and stored for every
/// window, so more would be noise by the row.
pub const CELLS: u32 = 4_096;

/// Cells that all metrics of one window length may declare together: they are released in one batch, and
/// at nine bytes each they leave it room.
pub const WINDOW_CELLS: u32 = 65_536;

/// Metrics one policy may declare; all share one day's budget, so few sites will pass 40.
pub const METRICS: usize = 256;

/// Models in a policy. Each is loaded into the one worker of a page, a megabyte of memory for a small one; twice as many
/// would be felt on a phone.
pub const MODELS: usize = 8;

/// Experiments in a policy: all share one budget with everything else.
pub const EXPERIMENTS: usize = 16;

/// Largest value one contribution may carry (a clipped sum's `max`).
pub const VALUE: u32 = 1_000_000;

/// Bytes of a compiled policy.
pub const POLICY_BYTES: usize = 256 * 1024;

/// Bytes of a sealed batch: [`WINDOW_CELLS`] at nine bytes each, nearly twice over.
pub const BATCH_BYTES: usize = 1024 * 1024;

/// Bytes of collector state kept on the device. Browsers give an origin about 5 MB of local storage.
pub const STATE_BYTES: usize = 64 * 1024;

/// Deepest nesting of any message here: batch, release list, release, values.
pub const DEPTH: usize = 8;
