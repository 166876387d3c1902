//! What a relay keeps: policies it serves, and sealed parcels that no home edge has taken yet.

use std::collections::BTreeMap;

use crate::storage::{StorageError, Waiting};

/// A sealed parcel on its way into the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedParcel {
    /// The home edge it is sealed for.
    pub home: String,
    /// Its name: site, when it came (in place of an epoch), and number.
    pub name: Waiting,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// All there is, read at start.
#[derive(Clone, Debug, Default)]
pub struct RelaySnapshot {
    /// Signed policies by site and version.
    pub policies: BTreeMap<(String, u32), Vec<u8>>,
    /// Parcels that wait, and for whom; oldest first.
    pub parcels: Vec<(String, Waiting)>,
}

/// Durable storage of a relay. Each method is one transaction, durable when it returns `Ok`.
pub trait RelayStore {
    /// Reads everything but the parcels' bytes.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn load(&mut self) -> Result<RelaySnapshot, StorageError>;

    /// Keeps a policy, and takes away the site's versions `below`.
    ///
    /// # Errors
    /// When nothing changed.
    fn put_policy(&mut self, site: &str, version: u32, signed: &[u8], below: u32) -> Result<(), StorageError>;

    /// Takes away a site's policies. What waits of it is delivered.
    ///
    /// # Errors
    /// When nothing changed.
    fn forget(&mut self, site: &str) -> Result<(), StorageError>;

    /// Keeps parcels.
    ///
    /// # Errors
    /// When they are not durable.
    fn put(&mut self, parcels: &[SealedParcel]) -> Result<(), StorageError>;

    /// A parcel's bytes.
    ///
    /// # Errors
    /// When it cannot be read.
    fn bytes(&mut self, home: &str, name: &Waiting) -> Result<Vec<u8>, StorageError>;

    /// Takes parcels out.
    ///
    /// # Errors
    /// When nothing changed.
    fn remove(&mut self, home: &str, names: &[Waiting]) -> Result<(), StorageError>;
}

/// A store in memory, for tests.
#[derive(Clone, Debug, Default)]
pub struct MemoryRelayStore {
    policies: BTreeMap<(String, u32), Vec<u8>>,
    parcels: BTreeMap<(String, u64), (Waiting, Vec<u8>)>,
    /// Fail once this many changes were made: a crash between two of them.
    pub fail_after: Option<u32>,
}

impl MemoryRelayStore {
    fn change(&mut self) -> Result<(), StorageError> {
        match &mut self.fail_after {
            Some(0) => Err(StorageError("as asked".into())),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The bytes of all parcels, for a test that looks for something in them.
    pub fn all_bytes(&self) -> impl Iterator<Item = &[u8]> {
        self.parcels.values().map(|(_, bytes)| &bytes[..])
    }
}

impl RelayStore for MemoryRelayStore {
    fn load(&mut self) -> Result<RelaySnapshot, StorageError> {
        let parcels = self.parcels.iter().map(|((home, _), (name, _))| (home.clone(), name.clone())).collect();
        Ok(RelaySnapshot { policies: self.policies.clone(), parcels })
    }

    fn put_policy(&mut self, site: &str, version: u32, signed: &[u8], below: u32) -> Result<(), StorageError> {
        self.change()?;
        self.policies.retain(|(own, version), _| own != site || *version >= below);
        self.policies.insert((site.to_owned(), version), signed.to_vec());
        Ok(())
    }

    fn forget(&mut self, site: &str) -> Result<(), StorageError> {
        self.change()?;
        self.policies.retain(|(own, _), _| own != site);
        Ok(())
    }

    fn put(&mut self, parcels: &[SealedParcel]) -> Result<(), StorageError> {
        self.change()?;
        let row = |parcel: &SealedParcel| {
            ((parcel.home.clone(), parcel.name.seq), (parcel.name.clone(), parcel.bytes.clone()))
        };
        self.parcels.extend(parcels.iter().map(row));
        Ok(())
    }

    fn bytes(&mut self, home: &str, name: &Waiting) -> Result<Vec<u8>, StorageError> {
        let found = self.parcels.get(&(home.to_owned(), name.seq)).map(|(_, bytes)| bytes.clone());
        found.ok_or_else(|| StorageError("a parcel is missing".into()))
    }

    fn remove(&mut self, home: &str, names: &[Waiting]) -> Result<(), StorageError> {
        self.change()?;
        for name in names {
            self.parcels.remove(&(home.to_owned(), name.seq));
        }
        Ok(())
    }
}
