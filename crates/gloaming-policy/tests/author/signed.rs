//! What is signed is believed as it was signed, of whom it says.

use super::*;

#[test]
fn a_signed_policy_is_believed_only_as_it_was_signed() {
    let policy = compiled(&shop());
    let (key, other) = (Key::from_seed(&[7; 32]), Key::from_seed(&[8; 32]));
    let bytes = Signed::sign(&policy, &[&key]).to_bytes();
    let (signed, read) = Signed::verify(&bytes, &key.public(), TODAY).unwrap();
    assert_eq!(read, policy);
    assert!(signed.notice_json().contains("\"keyid\""));
    assert!(matches!(Signed::verify(&bytes, &other.public(), TODAY), Err(SignError::NoSignature(_))));
    assert!(matches!(Signed::verify(&bytes, &key.public(), policy.expires_day), Err(SignError::Expired(_))));
    assert!(matches!(Signed::verify(&bytes[..99], &key.public(), TODAY), Err(SignError::Format(_))));
    let unsigned = Signed::sign(&policy, &[]).to_bytes();
    assert!(matches!(Signed::verify(&unsigned, &key.public(), TODAY), Err(SignError::NoSignature(_))));
    // Rotation: two signatures, either key is enough.
    let both = Signed::sign(&policy, &[&key, &other]).to_bytes();
    assert!(Signed::verify(&both, &other.public(), TODAY).is_ok());
    // Any changed byte is refused.
    for at in (0..bytes.len()).step_by(7) {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        assert!(Signed::verify(&bad, &key.public(), TODAY).is_err(), "byte {at}");
    }
}

#[test]
fn keys_are_read_as_written() {
    let key = Key::from_seed(&[7; 32]);
    assert_eq!(Key::from_text(&key.to_text()).unwrap().public(), key.public());
    assert!(Key::from_text("abc").is_err());
    assert!(gloaming_policy::author::PublicKey::from_text("!!").is_err());
}

#[test]
fn deliveries_are_believed_of_trusted_edges_only() {
    let key = Key::from_seed(&[7; 32]);
    let public = key.public();
    let delivery = batch_signature(&key, b"batch");
    assert_eq!(verify_batch(&delivery, |id| Some(public).filter(|key| key.id() == *id)).unwrap(), b"batch");
    assert!(matches!(verify_batch(&delivery, |_| None), Err(SignError::NoSignature(_))));
    let mut bad = delivery.clone();
    bad[3] ^= 1;
    assert!(verify_batch(&bad, |_| Some(public)).is_err());
}

#[test]
fn a_delivery_is_announced_by_whom_and_what_it_is() {
    let (key, other) = (Key::from_seed(&[7; 32]), Key::from_seed(&[8; 32]));
    let line = announcement(&key, b"delivery");
    let of = |line: &str| announced(line, |id| [&key, &other].map(Key::public).into_iter().find(|key| key.id() == *id));
    assert_eq!(of(&line).unwrap(), gloaming_signal::hash::sha256(b"delivery"));
    // Another key's name, other bytes, and no announcement at all.
    let renamed = line.replace(&line[..16], &announcement(&other, b"delivery")[..16]);
    let changed = line.replace(&line[17..81], &announcement(&key, b"another")[17..81]);
    assert!(matches!((of(&renamed), of(&changed)), (Err(SignError::BadSignature(_)), Err(SignError::BadSignature(_)))));
    assert!(matches!(announced(&line, |_| None), Err(SignError::NoSignature(_))));
    for nonsense in ["", "a.b.c", &line[1..], &format!("{line}.")] {
        assert_eq!(of(nonsense), Err(SignError::Announcement), "{nonsense}");
    }
}
