//! Deterministic CBOR over `ciborium-ll`: one value, one encoding.
//!
//! ```text
//! unsigned 0..2^64   major 0, shortest head          text     major 3, definite, UTF-8
//! signed   <0        major 1, shortest head          list     major 4, definite
//! bytes              major 2, definite               record   list of its fields in declared order
//! bool               simple 20 / 21                  option   null (simple 22) or the value
//! ```
//! No maps, tags, floats or indefinite lengths, so the rules of RFC 8949 section 4.2.1 come down to
//! "shortest head, definite length". [`from_slice`] decodes with limits and then encodes again: bytes
//! that differ were not canonical and are refused. A record with more or fewer fields than this
//! version knows is refused as well; a new version of a message is a new message.

use alloc::string::String;
use alloc::vec::Vec;
use ciborium_io::Read as _;
use ciborium_ll::{Decoder, Encoder, Header};

use crate::limits;

/// Why bytes were refused. Every variant is a fault of the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes end inside an item.
    #[error("the message ends inside an item")]
    Truncated,
    /// Not well-formed CBOR at this offset.
    #[error("not well-formed CBOR at byte {0}")]
    Syntax(usize),
    /// Well-formed, but another type or shape than the message has.
    #[error("another type than expected at byte {0}")]
    Type(usize),
    /// A number, length or count beyond its limit.
    #[error("beyond a limit at byte {0}")]
    Limit(usize),
    /// Nested deeper than any message is.
    #[error("nested deeper than {} levels", limits::DEPTH)]
    Depth,
    /// Bytes follow the message.
    #[error("bytes follow the message")]
    Trailing,
    /// Decodes, but is not the one deterministic encoding of what it says.
    #[error("not in deterministic encoding (RFC 8949, section 4.2.1)")]
    NotCanonical,
}

/// A value with one CBOR encoding.
pub trait Cbor: Sized {
    /// Appends the encoding.
    fn encode(&self, writer: &mut Writer);
    /// Reads one value.
    ///
    /// # Errors
    /// As [`Error`] says; the reader is then in no defined place.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error>;
}

/// Encodes a value.
#[must_use]
pub fn to_vec<T: Cbor>(value: &T) -> Vec<u8> {
    let mut writer = Writer(Vec::new());
    value.encode(&mut writer);
    writer.0
}

/// Decodes exactly one value from exactly these bytes.
///
/// # Errors
/// Whatever is wrong with the bytes, as [`Error`].
pub fn from_slice<T: Cbor>(bytes: &[u8]) -> Result<T, Error> {
    let value = from_either_encoding(bytes)?;
    if to_vec(&value) != bytes {
        return Err(Error::NotCanonical);
    }
    Ok(value)
}

/// As [`from_slice`], for whom another encoding of the same value is as good: between host and component, where
/// nothing is hashed or signed.
///
/// # Errors
/// As there, but for [`Error::NotCanonical`].
pub fn from_either_encoding<T: Cbor>(bytes: &[u8]) -> Result<T, Error> {
    let mut reader = Reader { decoder: Decoder::from(bytes), total: bytes.len(), depth: 0 };
    let value = T::decode(&mut reader)?;
    if reader.decoder.offset() != bytes.len() {
        return Err(Error::Trailing);
    }
    Ok(value)
}

/// Collects an encoding.
pub struct Writer(Vec<u8>);

impl Writer {
    fn head(&mut self, header: Header) {
        // A Vec as sink cannot fail; the error type is uninhabited in all but name.
        let _ = Encoder::from(&mut self.0).push(header);
    }

    /// Starts a record or list of `len` items.
    pub fn list(&mut self, len: usize) {
        self.head(Header::Array(Some(len)));
    }

    /// A byte string.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.head(Header::Bytes(Some(bytes.len())));
        self.0.extend_from_slice(bytes);
    }
}

/// Reads an encoding, with limits.
pub struct Reader<'a> {
    decoder: Decoder<&'a [u8]>,
    total: usize,
    depth: usize,
}

impl Reader<'_> {
    fn head(&mut self) -> Result<Header, Error> {
        self.decoder.pull().map_err(|error| match error {
            ciborium_ll::Error::Io(_) => Error::Truncated,
            ciborium_ll::Error::Syntax(at) => Error::Syntax(at),
        })
    }

    fn wrong(&mut self) -> Error {
        Error::Type(self.decoder.offset())
    }

    /// Where the reader stands, for errors of the value's own rules.
    pub fn limit(&mut self) -> Error {
        Error::Limit(self.decoder.offset())
    }

    fn enter(&mut self) -> Result<usize, Error> {
        match self.head()? {
            Header::Array(Some(len)) => {
                self.depth += 1;
                if self.depth > limits::DEPTH {
                    return Err(Error::Depth);
                }
                // Each item takes a byte at least, so a longer count is a lie; nothing is allocated for it.
                if len > self.total - self.decoder.offset().min(self.total) {
                    return Err(Error::Truncated);
                }
                Ok(len)
            }
            _ => Err(self.wrong()),
        }
    }

    /// Reads a record of exactly `fields` fields.
    ///
    /// # Errors
    /// When the item is no list of that length, or what `read` says.
    pub fn record<T>(&mut self, fields: usize, read: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        if self.enter()? != fields {
            return Err(self.wrong());
        }
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    /// Enters a record that has `fields` fields in one form and another number in the other; tells
    /// whether it is the first form. [`Reader::leave`] must follow its fields. A wrong number of
    /// fields shows when the canonical form is checked.
    ///
    /// # Errors
    /// When the item is no list.
    pub fn record_or(&mut self, fields: usize) -> Result<bool, Error> {
        Ok(self.enter()? == fields)
    }

    /// Leaves what [`Reader::record_or`] entered.
    pub fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    fn fill(&mut self, len: usize, max: usize) -> Result<Vec<u8>, Error> {
        if len > max {
            return Err(self.limit());
        }
        if len > self.total - self.decoder.offset().min(self.total) {
            return Err(Error::Truncated);
        }
        let mut bytes = alloc::vec![0; len];
        self.decoder.read_exact(&mut bytes).map_err(|_| Error::Truncated)?;
        Ok(bytes)
    }

    /// A byte string of at most `max` bytes.
    ///
    /// # Errors
    /// When it is longer, truncated or something else.
    pub fn bytes(&mut self, max: usize) -> Result<Vec<u8>, Error> {
        match self.head()? {
            Header::Bytes(Some(len)) => self.fill(len, max),
            _ => Err(self.wrong()),
        }
    }
}

impl Cbor for u64 {
    fn encode(&self, writer: &mut Writer) {
        writer.head(Header::Positive(*self));
    }
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        match reader.head()? {
            Header::Positive(value) => Ok(value),
            _ => Err(reader.wrong()),
        }
    }
}

macro_rules! small_unsigned {
    ($($type:ty),*) => {$(
        impl Cbor for $type {
            fn encode(&self, writer: &mut Writer) {
                u64::from(*self).encode(writer);
            }
            fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
                u64::decode(reader)?.try_into().map_err(|_| reader.limit())
            }
        }
    )*};
}
small_unsigned!(u8, u16, u32);

impl Cbor for i64 {
    fn encode(&self, writer: &mut Writer) {
        writer.head(match u64::try_from(*self) {
            Ok(positive) => Header::Positive(positive),
            Err(_) => Header::Negative(!self.cast_unsigned()),
        });
    }
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        match reader.head()? {
            Header::Positive(value) => value.try_into().map_err(|_| reader.limit()),
            Header::Negative(inverted) => Self::try_from(inverted).map(|v| !v).map_err(|_| reader.limit()),
            _ => Err(reader.wrong()),
        }
    }
}

impl Cbor for bool {
    fn encode(&self, writer: &mut Writer) {
        writer.head(Header::Simple(if *self { 21 } else { 20 }));
    }
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        match reader.head()? {
            Header::Simple(20) => Ok(false),
            Header::Simple(21) => Ok(true),
            _ => Err(reader.wrong()),
        }
    }
}

/// Text of at most 64 KiB; messages with tighter limits check after decoding.
impl Cbor for String {
    fn encode(&self, writer: &mut Writer) {
        writer.head(Header::Text(Some(self.len())));
        writer.0.extend_from_slice(self.as_bytes());
    }
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        match reader.head()? {
            Header::Text(Some(len)) => {
                let bytes = reader.fill(len, 64 * 1024)?;
                Self::from_utf8(bytes).map_err(|_| reader.wrong())
            }
            _ => Err(reader.wrong()),
        }
    }
}

impl<const N: usize> Cbor for [u8; N] {
    fn encode(&self, writer: &mut Writer) {
        writer.bytes(self);
    }
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        reader.bytes(N)?.try_into().map_err(|_| reader.wrong())
    }
}

/// A byte string of its own type, so that a `Vec<u8>` stays a list of numbers elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Cbor for Bytes {
    fn encode(&self, writer: &mut Writer) {
        writer.bytes(&self.0);
    }
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        reader.bytes(limits::FOLD_BYTES).map(Self)
    }
}

impl<T: Cbor> Cbor for Vec<T> {
    fn encode(&self, writer: &mut Writer) {
        writer.list(self.len());
        for item in self {
            item.encode(writer);
        }
    }
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let len = reader.enter()?;
        let mut items = Self::with_capacity(len.min(1_024));
        for _ in 0..len {
            items.push(T::decode(reader)?);
        }
        reader.depth -= 1;
        Ok(items)
    }
}

impl<T: Cbor> Cbor for Option<T> {
    fn encode(&self, writer: &mut Writer) {
        match self {
            None => writer.head(Header::Simple(22)),
            Some(value) => value.encode(writer),
        }
    }
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        match reader.head()? {
            Header::Simple(22) => Ok(None),
            other => {
                reader.decoder.push(other);
                T::decode(reader).map(Some)
            }
        }
    }
}

impl<A: Cbor, B: Cbor> Cbor for (A, B) {
    fn encode(&self, writer: &mut Writer) {
        writer.list(2);
        self.0.encode(writer);
        self.1.encode(writer);
    }
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        reader.record(2, |r| Ok((A::decode(r)?, B::decode(r)?)))
    }
}

/// Implements [`Cbor`] for a struct as a list of its fields in the order given.
#[macro_export]
macro_rules! cbor_record {
    ($type:ident { $($field:ident),* $(,)? }) => {
        impl $crate::cbor::Cbor for $type {
            fn encode(&self, writer: &mut $crate::cbor::Writer) {
                writer.list([$(stringify!($field)),*].len());
                $( self.$field.encode(writer); )*
            }
            fn decode(reader: &mut $crate::cbor::Reader<'_>) -> Result<Self, $crate::cbor::Error> {
                reader.record([$(stringify!($field)),*].len(), |reader| {
                    Ok(Self { $( $field: $crate::cbor::Cbor::decode(reader)? ),* })
                })
            }
        }
    };
}

/// Implements [`Cbor`] for a fieldless enum by its `u8` number, with `from_number` and `ALL`.
#[macro_export]
macro_rules! cbor_enum {
    ($type:ident { $($variant:ident = $number:literal),* $(,)? }) => {
        impl $type {
            /// Every variant, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The variant with this number.
            #[must_use]
            pub fn from_number(number: u8) -> Option<Self> {
                match number {
                    $( $number => Some(Self::$variant), )*
                    _ => None,
                }
            }

            /// Its number on the wire; never reused for another meaning.
            #[must_use]
            pub fn number(self) -> u8 {
                match self {
                    $( Self::$variant => $number, )*
                }
            }
        }

        impl $crate::cbor::Cbor for $type {
            fn encode(&self, writer: &mut $crate::cbor::Writer) {
                self.number().encode(writer);
            }
            fn decode(reader: &mut $crate::cbor::Reader<'_>) -> Result<Self, $crate::cbor::Error> {
                let number = u8::decode(reader)?;
                Self::from_number(number).ok_or_else(|| reader.limit())
            }
        }
    };
}
