//! Where the database is, in one line.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// `sqlite:central.sqlite` or `postgres://user@host/database`.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreAddress {
    /// A file on this machine.
    Sqlite(PathBuf),
    /// A PostgreSQL 12 or later, or what speaks its language; the whole address, password and all.
    Postgres(String),
}

/// Neither of the two.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the address of a store; write `sqlite:central.sqlite` or `postgres://user@host/database`")]
pub struct NoStore(String);

impl StoreAddress {
    /// Makes a file's path relative to `base`.
    #[must_use]
    pub fn against(self, base: &Path) -> Self {
        match self {
            Self::Sqlite(path) => Self::Sqlite(base.join(path)),
            postgres @ Self::Postgres(_) => postgres,
        }
    }

    /// As sqlx takes it, a password in it or not.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Self::Sqlite(path) => {
                // A relative path's first part would be taken for a host.
                let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                let mut url = "sqlite://".to_owned();
                for byte in path.as_os_str().as_encoded_bytes() {
                    if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
                        url.push(char::from(*byte));
                    } else {
                        url.push_str(&format!("%{byte:02x}"));
                    }
                }
                url + "?mode=rwc"
            }
            Self::Postgres(url) => url.clone(),
        }
    }
}

impl FromStr for StoreAddress {
    type Err = NoStore;

    fn from_str(text: &str) -> Result<Self, NoStore> {
        let text = text.trim();
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres(text.to_owned()));
        }
        let path = text.strip_prefix("sqlite://").or_else(|| text.strip_prefix("sqlite:")).unwrap_or(text);
        // A path alone is one too; what looks like another kind of address is a mistake.
        if path.is_empty() || path.contains("://") || path.starts_with(':') {
            return Err(NoStore(text.to_owned()));
        }
        Ok(Self::Sqlite(PathBuf::from(path)))
    }
}

/// Without what stands before the host: that may be a password.
impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => {
                let rest = url.split_once("://").map_or("", |(_, rest)| rest);
                let rest = rest.split('?').next().unwrap_or_default();
                write!(f, "postgres://{}", rest.rsplit_once('@').map_or(rest, |(_, host)| host))
            }
        }
    }
}

impl fmt::Debug for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_line_names_the_store() {
        let sqlite = |path: &str| StoreAddress::Sqlite(PathBuf::from(path));
        for (text, address) in [
            ("central.sqlite", sqlite("central.sqlite")),
            ("sqlite:central.sqlite", sqlite("central.sqlite")),
            ("sqlite:///var/lib/c.db", sqlite("/var/lib/c.db")),
        ] {
            assert_eq!(text.parse::<StoreAddress>().unwrap(), address);
        }
        assert_eq!(sqlite("c").against(Path::new("/etc")), sqlite("/etc/c"));
        assert!(sqlite("conf/../c").url().starts_with("sqlite:///"), "{}", sqlite("conf/../c").url());
        assert_eq!(sqlite("/a b?#%").url(), "sqlite:///a%20b%3f%23%25?mode=rwc");
        for text in ["", "sqlite:", "mysql://host/x", "http://x", "sqlite::memory:"] {
            assert!(text.parse::<StoreAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let address: StoreAddress = "postgres://u:p@ss@db.example/c?password=p".parse().unwrap();
        assert_eq!(format!("{address} {address:?}"), "postgres://db.example/c postgres://db.example/c");
        let address: StoreAddress = "postgres://db.example/c?password=p@ss".parse().unwrap();
        assert_eq!(address.to_string(), "postgres://db.example/c");
    }
}
