//! Sealing for a home edge: HPKE (RFC 9180) in base mode, X25519 with HKDF-SHA256 and ChaCha20-Poly1305.
//!
//! ```text
//! sealed = key id (8) | encapsulated key (32) | ciphertext and tag
//! ```
//! A relay cannot open what it has sealed. The pair is that of the key which the home edge signs with, taken to the other
//! form of the same curve: one key for an operator to copy, and both uses together are as hard to break as each alone
//! (Thormarker, "On using the same key pair for Ed25519 and an X25519 based KEM", 2021).

use gloaming_policy::author::{Key, PublicKey};
use hpke::rand_core::{Infallible, TryCryptoRng, TryRng};
use hpke::{Deserializable as _, OpModeR, OpModeS, Serializable as _};

use crate::vault::Entropy;

type Kem = hpke::kem::X25519HkdfSha256;
type Kdf = hpke::kdf::HkdfSha256;
type Aead = hpke::aead::ChaCha20Poly1305;

/// What both sides call what they do.
const INFO: &[u8] = b"gloaming parcel 1";
/// Bytes of a key's id.
const ID: usize = 8;
/// Bytes of an encapsulated key.
const ENCAPSULATED: usize = 32;

/// Entropy as the library asks for it.
struct Bytes<'a>(Entropy<'a>);

impl TryRng for Bytes<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        (self.0)(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        (self.0)(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, buffer: &mut [u8]) -> Result<(), Infallible> {
        (self.0)(buffer);
        Ok(())
    }
}

impl TryCryptoRng for Bytes<'_> {}

/// Seals for whoever has the secret half of `home`; `None` when that is no key to seal for.
pub(crate) fn seal(home: &PublicKey, plain: &[u8], entropy: Entropy<'_>) -> Option<Vec<u8>> {
    let key = <Kem as hpke::Kem>::PublicKey::from_bytes(&home.exchange()).ok()?;
    let (encapsulated, sealed) = hpke::single_shot_seal_with_rng::<Aead, Kdf, Kem>(
        &OpModeS::Base,
        &key,
        INFO,
        plain,
        &home.id(),
        &mut Bytes(entropy),
    )
    .ok()?;
    Some([&home.id()[..], &encapsulated.to_bytes(), &sealed].concat())
}

/// Opens what was sealed for one of `keys`.
pub(crate) fn open(keys: &[Key], sealed: &[u8]) -> Option<Vec<u8>> {
    let (id, rest) = sealed.split_first_chunk::<ID>()?;
    let (encapsulated, ciphertext) = rest.split_at_checked(ENCAPSULATED)?;
    let key = keys.iter().find(|key| key.public().id() == *id)?;
    let secret = <Kem as hpke::Kem>::PrivateKey::from_bytes(&key.exchange_secret()).ok()?;
    let encapsulated = <Kem as hpke::Kem>::EncappedKey::from_bytes(encapsulated).ok()?;
    hpke::single_shot_open::<Aead, Kdf, Kem>(&OpModeR::Base, &secret, &encapsulated, INFO, ciphertext, id).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_the_home_edge_opens_what_was_sealed_for_it() {
        let (home, other) = (Key::from_seed(&[1; 32]), Key::from_seed(&[2; 32]));
        let mut state = 0_u8;
        let mut entropy = |buffer: &mut [u8]| {
            buffer.iter_mut().for_each(|byte| {
                state = state.wrapping_mul(13).wrapping_add(7);
                *byte = state;
            });
        };
        let sealed = seal(&home.public(), b"what people did", &mut entropy).unwrap();
        assert_eq!(sealed.len(), ID + ENCAPSULATED + 15 + 16);
        assert!(!sealed.windows(6).any(|bytes| b"what people did".windows(6).any(|plain| plain == bytes)));
        let keys = [other.clone(), home];
        assert_eq!(open(&keys, &sealed).as_deref(), Some(&b"what people did"[..]));
        assert_eq!(open(&[other], &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(open(&keys, &changed), None, "byte {at}");
            assert_eq!(open(&keys, &sealed[..at]), None);
        }
        assert_ne!(seal(&keys[1].public(), b"what people did", &mut entropy).unwrap(), sealed);
    }

    /// RFC 9180, A.2.1: that the library does with these parameters what everybody else's does.
    #[test]
    fn the_standards_own_example_opens() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        let secret = hex("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb");
        let encapsulated = hex("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a");
        let sealed = hex("1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28");
        let plain = hpke::single_shot_open::<Aead, Kdf, Kem>(
            &OpModeR::Base,
            &<Kem as hpke::Kem>::PrivateKey::from_bytes(&secret).unwrap(),
            &<Kem as hpke::Kem>::EncappedKey::from_bytes(&encapsulated).unwrap(),
            &hex("4f6465206f6e2061204772656369616e2055726e"),
            &sealed,
            b"Count-0",
        );
        assert_eq!(plain.unwrap(), b"Beauty is truth, truth beauty");
    }
}
