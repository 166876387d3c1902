//! `cbor_record!` and `cbor_enum!`: what structs and enums are on the wire, said once.

/// Implements [`Cbor`](crate::cbor::Cbor) for a struct as a list of its fields in the order given.
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

/// Implements [`Cbor`](crate::cbor::Cbor) for a fieldless enum by its `u8` number, with `from_number` and `ALL`.
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
