//! What is broken on purpose, to see that it is found: a promise that the edge, its disks, whoever runs it or the way to
//! the centre does not keep. Nothing of it is in the edge itself.

use gloaming_policy::author::{batch_signature, verify_batch};
use gloaming_signal::{SealedBatch, Submission, cbor};
use gloaming_window::OutboxRow;

use super::{Message, World};

/// See the module's page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// A sync of the journal does nothing: what is acknowledged is not durable.
    JournalUnsynced,
    /// A sync of the keys' file does nothing.
    KeysUnsynced,
    /// A sync of the log makes durable what the one before it should have: a power cut may take the last commit.
    LogSyncedLate,
    /// An edge that starts does not know the ids it counted before.
    IdsForgotten,
    /// A batch that is tried again bears other noise.
    NoiseDrawnAgain,
    /// The anchor comes back with the old copy of the store, which goes on in its epoch.
    AnchorRestored,
    /// A delivery that never arrived is taken for one that did.
    DeliveryForgotten,
}

impl World {
    pub(super) fn breaks(&self, what: Sabotage) -> bool {
        self.sabotage == Some(what)
    }

    /// Ids are opaque to an edge: to meet one under another name in every life is not to have kept it.
    pub(super) fn forget_ids(&self, arrived: &mut [Message]) {
        if !self.breaks(Sabotage::IdsForgotten) {
            return;
        }
        for message in arrived {
            let mut submission: Submission = cbor::from_slice(&message.body).unwrap();
            for contribution in &mut submission.contributions {
                contribution.id[4..8].copy_from_slice(&self.starts.to_le_bytes());
            }
            message.body = cbor::to_vec(&submission);
        }
    }

    /// The bytes that leave for a row: the same at every try. The budget leaves no noise, so other noise is made up.
    pub(super) fn bytes_of(&mut self, row: &OutboxRow) -> Vec<u8> {
        if !self.breaks(Sabotage::NoiseDrawnAgain) {
            return row.bytes.clone();
        }
        let tries = self.tries.entry((row.epoch, row.seq)).or_default();
        let bytes = verify_batch(&row.bytes, |_| Some(self.edge_key.public())).unwrap();
        let mut batch: SealedBatch = cbor::from_slice(&bytes).unwrap();
        batch.releases[0].values[0] += *tries;
        *tries += 1;
        batch_signature(&self.edge_key, &cbor::to_vec(&batch))
    }
}
