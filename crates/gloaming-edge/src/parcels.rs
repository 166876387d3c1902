//! A relay's durable store: redb, one transaction for each of the trait's methods.
//!
//! What waits lies here sealed for its home edge, and nobody here can open it. It is taken out when the home edge has it;
//! its bytes may lie in the file until others take their place.

use std::path::Path;

use gloaming_window::{RelaySnapshot, RelayStore, SealedParcel, StorageError, Waiting};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

const POLICIES: TableDefinition<'_, (&str, u32), &[u8]> = TableDefinition::new("relayed_policies");
/// Home edge, number; site, when it came, ms, and the sealed bytes.
const PARCELS: TableDefinition<'_, (&str, u64), (&str, u64, &[u8])> = TableDefinition::new("parcels");

/// See the module's page.
pub(crate) struct RedbParcels(Database);

fn failed(error: impl std::fmt::Display) -> StorageError {
    StorageError(error.to_string())
}

impl RedbParcels {
    /// Opens or creates the file.
    pub(crate) fn open(path: &Path) -> Result<Self, StorageError> {
        let database = Database::create(path).map_err(failed)?;
        let transaction = database.begin_write().map_err(failed)?;
        transaction.open_table(POLICIES).map_err(failed)?;
        transaction.open_table(PARCELS).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        Ok(Self(database))
    }
}

impl RelayStore for RedbParcels {
    fn load(&mut self) -> Result<RelaySnapshot, StorageError> {
        let read = self.0.begin_read().map_err(failed)?;
        let mut snapshot = RelaySnapshot::default();
        for row in read.open_table(POLICIES).map_err(failed)?.iter().map_err(failed)? {
            let (place, signed) = row.map_err(failed)?;
            let (site, version) = place.value();
            snapshot.policies.insert((site.to_owned(), version), signed.value().to_vec());
        }
        for row in read.open_table(PARCELS).map_err(failed)?.iter().map_err(failed)? {
            let (place, parcel) = row.map_err(failed)?;
            let ((home, seq), (site, epoch, bytes)) = (place.value(), parcel.value());
            let name = Waiting { site: site.to_owned(), epoch, seq, bytes: bytes.len() };
            snapshot.parcels.push((home.to_owned(), name));
        }
        Ok(snapshot)
    }

    fn put_policy(&mut self, site: &str, version: u32, signed: &[u8], below: u32) -> Result<(), StorageError> {
        let transaction = self.0.begin_write().map_err(failed)?;
        let mut policies = transaction.open_table(POLICIES).map_err(failed)?;
        policies.retain_in((site, 0)..(site, below), |_, _| false).map_err(failed)?;
        policies.insert((site, version), signed).map_err(failed)?;
        drop(policies);
        transaction.commit().map_err(failed)
    }

    fn forget(&mut self, site: &str) -> Result<(), StorageError> {
        let transaction = self.0.begin_write().map_err(failed)?;
        let mut policies = transaction.open_table(POLICIES).map_err(failed)?;
        policies.retain_in((site, 0)..=(site, u32::MAX), |_, _| false).map_err(failed)?;
        drop(policies);
        transaction.commit().map_err(failed)
    }

    fn put(&mut self, parcels: &[SealedParcel]) -> Result<(), StorageError> {
        let transaction = self.0.begin_write().map_err(failed)?;
        let mut table = transaction.open_table(PARCELS).map_err(failed)?;
        for SealedParcel { home, name, bytes } in parcels {
            table.insert((home.as_str(), name.seq), (name.site.as_str(), name.epoch, &bytes[..])).map_err(failed)?;
        }
        drop(table);
        transaction.commit().map_err(failed)
    }

    fn bytes(&mut self, home: &str, name: &Waiting) -> Result<Vec<u8>, StorageError> {
        let read = self.0.begin_read().map_err(failed)?;
        let parcels = read.open_table(PARCELS).map_err(failed)?;
        let row = parcels.get((home, name.seq)).map_err(failed)?;
        row.map(|row| row.value().2.to_vec()).ok_or_else(|| failed("a parcel is missing"))
    }

    fn remove(&mut self, home: &str, names: &[Waiting]) -> Result<(), StorageError> {
        let transaction = self.0.begin_write().map_err(failed)?;
        let mut parcels = transaction.open_table(PARCELS).map_err(failed)?;
        for name in names {
            parcels.remove((home, name.seq)).map_err(failed)?;
        }
        drop(parcels);
        transaction.commit().map_err(failed)
    }
}
