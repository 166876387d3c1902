//! Deterministic CBOR: one value, one encoding.
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

/// Bytes of a usual message: growing costs more than asking for a little too much.
const USUAL: usize = 512;

/// Encodes a value.
#[must_use]
pub fn to_vec<T: Cbor>(value: &T) -> Vec<u8> {
    let mut writer = Writer(Vec::with_capacity(USUAL));
    value.encode(&mut writer);
    writer.0
}

/// Decodes exactly one value from exactly these bytes.
///
/// # Errors
/// Whatever is wrong with the bytes, as [`Error`].
pub fn from_slice<T: Cbor>(bytes: &[u8]) -> Result<T, Error> {
    let value: T = read(bytes, false)?;
    // As long as what was read, or it is not the same.
    let mut again = Writer(Vec::with_capacity(bytes.len()));
    value.encode(&mut again);
    if again.0 != bytes {
        return Err(Error::NotCanonical);
    }
    Ok(value)
}

/// As [`from_slice`], for values whose fields all are always there: their encoding is the only one when every head is the
/// shortest, so it need not be made again. Twice as fast.
///
/// # Errors
/// As there.
pub fn from_plain<T: Cbor>(bytes: &[u8]) -> Result<T, Error> {
    read(bytes, true)
}

/// As [`from_slice`], for whom another encoding of the same value is as good.
///
/// # Errors
/// As there, but for [`Error::NotCanonical`].
pub fn from_either_encoding<T: Cbor>(bytes: &[u8]) -> Result<T, Error> {
    read(bytes, false)
}

/// Reads what `bytes` begin with, every head the shortest; what lies behind it is not looked at.
///
/// # Errors
/// Whatever `read` says.
pub fn start<'a, T>(bytes: &'a [u8], read: impl FnOnce(&mut Reader<'a>) -> Result<T, Error>) -> Result<T, Error> {
    read(&mut Reader { bytes, at: 0, depth: 0, shortest: true })
}

fn read<T: Cbor>(bytes: &[u8], shortest: bool) -> Result<T, Error> {
    let mut reader = Reader { bytes, at: 0, depth: 0, shortest };
    let value = T::decode(&mut reader)?;
    if reader.at != bytes.len() {
        return Err(Error::Trailing);
    }
    Ok(value)
}

/// Collects an encoding.
pub struct Writer(Vec<u8>);

impl Writer {
    /// The shortest head of a major type.
    fn head(&mut self, major: u8, value: u64) {
        let major = major << 5;
        let bytes = value.to_be_bytes();
        match value {
            // Fewer than 24 fit into the first byte.
            0..24 => self.0.push(major | bytes[7]),
            24..0x100 => self.0.extend_from_slice(&[major | 24, bytes[7]]),
            0x100..0x1_0000 => self.0.extend_from_slice(&[major | 25, bytes[6], bytes[7]]),
            0x1_0000..0x1_0000_0000 => {
                self.0.push(major | 26);
                self.0.extend_from_slice(&bytes[4..]);
            }
            _ => {
                self.0.push(major | 27);
                self.0.extend_from_slice(&bytes);
            }
        }
    }

    /// Starts a record or list of `len` items.
    pub fn list(&mut self, len: usize) {
        self.head(4, len as u64);
    }

    /// A byte string.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.head(2, bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }
}

/// The head of an item that messages here are made of.
#[derive(Clone, Copy)]
enum Head {
    Positive(u64),
    /// Minus one, minus this.
    Negative(u64),
    Bytes(usize),
    Text(usize),
    List(usize),
    Simple(u8),
    /// Well-formed, and nothing of ours: maps, tags, floats, indefinite lengths, a break.
    Other,
}

/// Reads an encoding, with limits.
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    /// Heads that could be shorter are refused.
    shortest: bool,
}

impl<'a> Reader<'a> {
    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let end = self.at.checked_add(len).ok_or(Error::Truncated)?;
        let taken = self.bytes.get(self.at..end).ok_or(Error::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        self.take(N)?.try_into().map_err(|_| Error::Truncated)
    }

    /// Nearly every head is one byte; the rest is out of line.
    #[inline]
    fn head(&mut self) -> Result<Head, Error> {
        let start = self.at;
        let first = *self.bytes.get(start).ok_or(Error::Truncated)?;
        self.at += 1;
        match first {
            0..24 => Ok(Head::Positive(first.into())),
            0x40..0x58 => Ok(Head::Bytes((first & 31).into())),
            0x80..0x98 => Ok(Head::List((first & 31).into())),
            _ => self.long_head(start, first),
        }
    }

    fn long_head(&mut self, start: usize, first: u8) -> Result<Head, Error> {
        let (major, info) = (first >> 5, first & 31);
        let value = match info {
            0..=23 => info.into(),
            24 => u8::from_be_bytes(self.array()?).into(),
            25 => u16::from_be_bytes(self.array()?).into(),
            26 => u32::from_be_bytes(self.array()?).into(),
            27 => u64::from_be_bytes(self.array()?),
            // Indefinite lengths, and the break that ends them.
            31 if matches!(major, 2..=5 | 7) => return Ok(Head::Other),
            _ => return Err(Error::Syntax(start)),
        };
        let could_be_shorter = match info {
            24 => value < 24,
            25 => value < 0x100,
            26 => value < 0x1_0000,
            27 => value < 0x1_0000_0000,
            _ => false,
        };
        if self.shortest && could_be_shorter && major < 7 {
            return Err(Error::NotCanonical);
        }
        // A length beyond what can be addressed is beyond what is here.
        let len = || usize::try_from(value).map_err(|_| Error::Truncated);
        Ok(match major {
            0 => Head::Positive(value),
            1 => Head::Negative(value),
            2 => Head::Bytes(len()?),
            3 => Head::Text(len()?),
            4 => Head::List(len()?),
            7 if info < 24 => Head::Simple(info),
            // A simple value that fits into the first byte must stand there (RFC 8949, section 3.3).
            7 if info == 24 && value < 32 => return Err(Error::Syntax(start)),
            _ => Head::Other,
        })
    }

    fn wrong(&mut self) -> Error {
        Error::Type(self.at)
    }

    /// Where the reader stands, for errors of the value's own rules.
    pub fn limit(&mut self) -> Error {
        Error::Limit(self.at)
    }

    fn enter(&mut self) -> Result<usize, Error> {
        match self.head()? {
            Head::List(len) => {
                self.depth += 1;
                if self.depth > limits::DEPTH {
                    return Err(Error::Depth);
                }
                // Each item takes a byte at least, so a longer count is a lie; nothing is allocated for it.
                if len > self.bytes.len() - self.at {
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

    /// As [`Reader::record_or`], for a record of several forms: tells how many fields it has.
    ///
    /// # Errors
    /// When the item is no list.
    pub fn record_of(&mut self) -> Result<usize, Error> {
        self.enter()
    }

    /// Leaves what [`Reader::record_or`] or [`Reader::record_of`] entered.
    pub fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    fn fill(&mut self, len: usize, max: usize) -> Result<&'a [u8], Error> {
        if len > max { Err(self.limit()) } else { self.take(len) }
    }

    /// A byte string of at most `max` bytes.
    ///
    /// # Errors
    /// When it is longer, truncated or something else.
    pub fn bytes(&mut self, max: usize) -> Result<&'a [u8], Error> {
        match self.head()? {
            Head::Bytes(len) => self.fill(len, max),
            _ => Err(self.wrong()),
        }
    }

    /// A text of at most `max` bytes.
    ///
    /// # Errors
    /// When it is longer, truncated, not UTF-8 or something else.
    pub fn text(&mut self, max: usize) -> Result<&'a str, Error> {
        match self.head()? {
            Head::Text(len) => {
                let text = core::str::from_utf8(self.fill(len, max)?);
                text.map_err(|_| self.wrong())
            }
            _ => Err(self.wrong()),
        }
    }
}

impl Cbor for u64 {
    fn encode(&self, writer: &mut Writer) {
        writer.head(0, *self);
    }
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        match reader.head()? {
            Head::Positive(value) => Ok(value),
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
        match u64::try_from(*self) {
            Ok(positive) => writer.head(0, positive),
            Err(_) => writer.head(1, !self.cast_unsigned()),
        }
    }
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        match reader.head()? {
            Head::Positive(value) => value.try_into().map_err(|_| reader.limit()),
            Head::Negative(inverted) => Self::try_from(inverted).map(|v| !v).map_err(|_| reader.limit()),
            _ => Err(reader.wrong()),
        }
    }
}

impl Cbor for bool {
    fn encode(&self, writer: &mut Writer) {
        writer.head(7, if *self { 21 } else { 20 });
    }
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        match reader.head()? {
            Head::Simple(20) => Ok(false),
            Head::Simple(21) => Ok(true),
            _ => Err(reader.wrong()),
        }
    }
}

/// Text of at most 64 KiB; messages with tighter limits check after decoding.
impl Cbor for String {
    fn encode(&self, writer: &mut Writer) {
        writer.head(3, self.len() as u64);
        writer.0.extend_from_slice(self.as_bytes());
    }
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        reader.text(64 * 1024).map(Into::into)
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
        Ok(Self(reader.bytes(limits::STATE_BYTES)?.to_vec()))
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
            None => writer.head(7, 22),
            Some(value) => value.encode(writer),
        }
    }
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let before = reader.at;
        match reader.head()? {
            Head::Simple(22) => Ok(None),
            _ => {
                reader.at = before;
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
