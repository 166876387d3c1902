//! The codec against the examples of RFC 8949 and against hostile bytes.
#![allow(clippy::unwrap_used)]

use gloaming_signal::cbor::{self, Bytes, Error};
use gloaming_signal::fold::add_up;
use gloaming_signal::{
    CellKey, Contribution, Reason, Release, ReleaseState, Row, SealedBatch, Submission, Verdict, limits,
};
use proptest::prelude::*;

fn submission() -> Submission {
    Submission {
        site: "shop.example".into(),
        policy_version: 7,
        policy_hash: [9; 32],
        check: false,
        contributions: vec![Contribution { id: [1; 16], metric: 12, window: 20_782, cell: 3, value: 1 }],
    }
}

#[test]
fn numbers_have_the_encodings_of_rfc_8949_appendix_a() {
    let unsigned: [(u64, &[u8]); 8] = [
        (0, &[0x00]),
        (23, &[0x17]),
        (24, &[0x18, 0x18]),
        (255, &[0x18, 0xff]),
        (1000, &[0x19, 0x03, 0xe8]),
        (1_000_000, &[0x1a, 0x00, 0x0f, 0x42, 0x40]),
        (1_000_000_000_000, &[0x1b, 0x00, 0x00, 0x00, 0xe8, 0xd4, 0xa5, 0x10, 0x00]),
        (u64::MAX, &[0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
    ];
    for (value, bytes) in unsigned {
        assert_eq!(cbor::to_vec(&value), bytes);
        assert_eq!(cbor::from_slice::<u64>(bytes), Ok(value));
    }
    let signed: [(i64, &[u8]); 4] =
        [(-1, &[0x20]), (-10, &[0x29]), (-100, &[0x38, 0x63]), (-1000, &[0x39, 0x03, 0xe7])];
    for (value, bytes) in signed {
        assert_eq!(cbor::to_vec(&value), bytes);
        assert_eq!(cbor::from_slice::<i64>(bytes), Ok(value));
    }
    assert_eq!(cbor::from_slice::<i64>(&cbor::to_vec(&i64::MIN)), Ok(i64::MIN));
}

#[test]
fn each_kind_of_bad_bytes_has_its_own_error() {
    let good = cbor::to_vec(&submission());
    assert_eq!(cbor::from_slice::<Submission>(&good[..good.len() - 1]), Err(Error::Truncated));
    let mut longer = good.clone();
    longer.push(0);
    assert_eq!(cbor::from_slice::<Submission>(&longer), Err(Error::Trailing));
    // 7 written as 0x18 0x07: well-formed, understood, and refused.
    let mut lax = good.clone();
    let at = 2 + 1 + 12;
    assert_eq!(lax[at], 7);
    lax.splice(at..=at, [0x18, 0x07]);
    assert_eq!(cbor::from_slice::<Submission>(&lax), Err(Error::NotCanonical));
    // Another format number.
    let mut other = good.clone();
    other[1] = 2;
    assert!(matches!(cbor::from_slice::<Submission>(&other), Err(Error::Limit(_))));
    assert!(matches!(cbor::from_slice::<Submission>(&[0xa0]), Err(Error::Type(_))));
    assert!(matches!(cbor::from_slice::<Submission>(&[0xff]), Err(Error::Type(_))));
    assert!(matches!(cbor::from_slice::<Submission>(&[0x9f]), Err(Error::Type(_))));
    assert!(matches!(cbor::from_slice::<Submission>(&[0x1c]), Err(Error::Syntax(_))));
    // A list that claims 2^40 items allocates nothing.
    assert_eq!(cbor::from_slice::<Vec<u64>>(&[0x9b, 0, 0, 1, 0, 0, 0, 0, 0]), Err(Error::Truncated));
}

/// Found by the property below, after a thousand runs of it.
#[test]
fn a_simple_value_in_more_bytes_than_it_needs_is_refused() {
    assert_eq!(cbor::from_either_encoding::<bool>(&[0xf4]), Ok(false));
    assert!(matches!(cbor::from_either_encoding::<bool>(&[0xf8, 20]), Err(Error::Syntax(_) | Error::Type(_))));
}

#[test]
fn deep_nesting_is_refused() {
    type Deep = Vec<Vec<Vec<Vec<Vec<Vec<Vec<Vec<Vec<u64>>>>>>>>>;
    let mut bytes = vec![0x81; 9];
    bytes.push(0);
    assert_eq!(cbor::from_slice::<Deep>(&bytes), Err(Error::Depth));
}

#[test]
fn too_many_contributions_are_refused() {
    let mut many = submission();
    many.contributions = vec![many.contributions[0]; limits::CONTRIBUTIONS + 1];
    assert!(matches!(cbor::from_slice::<Submission>(&cbor::to_vec(&many)), Err(Error::Limit(_))));
    many.site = "x".repeat(limits::SITE_BYTES + 1);
    many.contributions.clear();
    assert!(matches!(cbor::from_slice::<Submission>(&cbor::to_vec(&many)), Err(Error::Limit(_))));
}

prop_compose! {
    fn any_contribution()(id: [u8; 16], metric: u32, window: u64, cell: u32, value: u32) -> Contribution {
        Contribution { id, metric, window, cell, value }
    }
}

/// What another implementation reads where ours reads one item, as ours would give it: none when ours must refuse.
fn theirs(bytes: &[u8]) -> Option<ciborium_ll::Header> {
    // A simple value below 32 in two bytes is not well-formed (RFC 8949, 3.3); the other one reads it all the same.
    if let [0xf8, 0..32, ..] = bytes {
        return None;
    }
    let mut decoder = ciborium_ll::Decoder::from(bytes);
    let header = decoder.pull().ok()?;
    let left = bytes.len() - decoder.offset();
    match header {
        ciborium_ll::Header::Bytes(Some(len)) | ciborium_ll::Header::Text(Some(len)) => (len == left).then_some(header),
        other => (left == 0).then_some(other),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// Heads are read as `ciborium-ll` reads them, whatever the bytes.
    #[test]
    fn heads_are_read_as_another_implementation_reads_them(first: u8, rest in prop::collection::vec(any::<u8>(), 0..12)) {
        use ciborium_ll::Header;
        let bytes = [vec![first], rest].concat();
        let theirs = theirs(&bytes);
        let unsigned = cbor::from_either_encoding::<u64>(&bytes).ok();
        prop_assert_eq!(unsigned, match theirs { Some(Header::Positive(value)) => Some(value), _ => None });
        let signed = cbor::from_either_encoding::<i64>(&bytes).ok();
        prop_assert_eq!(signed, match theirs {
            Some(Header::Positive(value)) => i64::try_from(value).ok(),
            Some(Header::Negative(value)) => i64::try_from(value).ok().map(|value| !value),
            _ => None,
        });
        let blob = cbor::from_either_encoding::<Bytes>(&bytes).ok().map(|Bytes(blob)| blob.len());
        prop_assert_eq!(blob, match theirs { Some(Header::Bytes(Some(len))) => Some(len), _ => None });
        let text = cbor::from_either_encoding::<String>(&bytes).ok().map(|text| text.len());
        let utf8 = |len: usize| std::str::from_utf8(&bytes[bytes.len() - len..]).is_ok();
        prop_assert_eq!(text, match theirs { Some(Header::Text(Some(len))) if utf8(len) => Some(len), _ => None });
        let list = cbor::from_either_encoding::<Vec<u64>>(&bytes).ok().filter(Vec::is_empty);
        prop_assert_eq!(list.is_some(), matches!(theirs, Some(Header::Array(Some(0)))));
        let simple = cbor::from_either_encoding::<bool>(&bytes).ok();
        prop_assert_eq!(simple, match theirs { Some(Header::Simple(value @ 20..=21)) => Some(value == 21), _ => None });
        let nothing = cbor::from_either_encoding::<Option<u64>>(&bytes) == Ok(None);
        prop_assert_eq!(nothing, matches!(theirs, Some(Header::Simple(22))));
    }
}

proptest! {
    #[test]
    fn submissions_come_back(site in "[a-z.]{1,60}", policy_version: u32, policy_hash: [u8; 32], check: bool,
                             contributions in prop::collection::vec(any_contribution(), 0..64)) {
        let submission = Submission { site, policy_version, policy_hash, check, contributions };
        prop_assert_eq!(cbor::from_slice::<Submission>(&cbor::to_vec(&submission)).unwrap(), submission);
    }

    #[test]
    fn batches_come_back(epoch: u64, seq: u64, window: u64, values in prop::collection::vec(any::<i64>(), 0..50)) {
        let batch = SealedBatch {
            site: "s".into(), edge: "e".into(), epoch, seq, policy_version: 1, policy_hash: [0; 32], span_ms: 1, window,
            releases: vec![Release { metric: 3, state: ReleaseState::Released, values },
                           Release { metric: 4, state: ReleaseState::BelowK, values: vec![] }],
        };
        prop_assert_eq!(cbor::from_slice::<SealedBatch>(&cbor::to_vec(&batch)).unwrap(), batch);
    }

    /// Whatever decodes is the one encoding of what it decodes to; nothing panics.
    #[test]
    fn any_bytes_are_canonical_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(submission) = cbor::from_slice::<Submission>(&bytes) {
            prop_assert_eq!(cbor::to_vec(&submission), bytes.clone());
        }
        if let Ok(keys) = cbor::from_slice::<Vec<(CellKey, u64)>>(&bytes) {
            prop_assert_eq!(cbor::to_vec(&keys), bytes);
        }
    }

    /// Looking at heads tells what encoding it again tells, whatever is changed.
    #[test]
    fn a_submission_is_read_in_one_encoding_by_its_heads(
        edits in prop::collection::vec((any::<usize>(), 0u8..4, any::<u8>()), 0..4),
    ) {
        let mut bytes = cbor::to_vec(&submission());
        for (at, edit, to) in edits {
            let at = at % bytes.len();
            match edit {
                0 => bytes[at] = to,
                1 => bytes.insert(at, to),
                2 => drop(bytes.remove(at)),
                // A head of one byte becomes one of two, most often.
                _ if bytes[at] & 31 < 24 => {
                    let value = bytes[at] & 31;
                    bytes[at] = bytes[at] & 0xe0 | 24;
                    bytes.insert(at + 1, value);
                }
                _ => {}
            }
        }
        prop_assert_eq!(cbor::from_plain::<Submission>(&bytes).ok(), cbor::from_slice::<Submission>(&bytes).ok());
    }

    /// One changed byte never yields another reading of the same value.
    #[test]
    fn a_changed_byte_is_refused_or_another_value(at in 0usize..80, to: u8) {
        let good = cbor::to_vec(&submission());
        let mut bad = good.clone();
        let at = at % bad.len();
        bad[at] = to;
        match cbor::from_slice::<Submission>(&bad) {
            Ok(value) if bad != good => prop_assert_ne!(value, submission()),
            _ => {}
        }
    }

    #[test]
    fn folds_and_verdicts_come_back_and_add_up_to_what_went_in(
        rows in prop::collection::vec((0u64..3, 0u32..3, 0u32..3, any::<u32>(), any::<bool>()), 0..60),
    ) {
        let rows: Vec<Row> =
            rows.into_iter().map(|(window, metric, cell, value, check)| Row { window, metric, cell, value, check }).collect();
        let mut fold = Vec::new();
        rows.iter().for_each(|row| row.write(&mut fold));
        prop_assert_eq!(Row::split(&fold).unwrap().iter().map(Row::read).collect::<Vec<_>>(), rows.clone());
        prop_assert!(Row::split(&fold[..fold.len().saturating_sub(1)]).is_none() || fold.is_empty());

        let key = |row: &Row| CellKey { metric: row.metric, window: row.window, cell: row.cell };
        let mut sums: Vec<(CellKey, u64)> = rows.iter().map(|row| (key(row), row.value.into())).collect();
        add_up(&mut sums);
        let mut want = std::collections::BTreeMap::<CellKey, u64>::new();
        rows.iter().for_each(|row| *want.entry(key(row)).or_default() += u64::from(row.value));
        prop_assert_eq!(&sums, &want.into_iter().collect::<Vec<_>>());

        let verdict = Verdict { each: rows.iter().map(|_| Reason::Accepted).collect(), sums };
        let bytes = verdict.to_bytes();
        prop_assert_eq!(Verdict::from_bytes(&bytes, rows.len()), Some(verdict));
        prop_assert_eq!(Verdict::from_bytes(&bytes, rows.len() + 1), None);
    }
}
