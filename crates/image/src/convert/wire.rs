//! The trait of all conversions, and the ways in which fields are converted.

use std::fmt;

use crate::limits::LIST_ITEMS_MAX;

/// A value and its message.
pub(crate) trait Wire: Sized {
    /// The message, or the scalar, that stands for it in the schema.
    type Message;

    /// The message for this value.
    fn to_wire(&self) -> Result<Self::Message, Invalid>;

    /// The value of a message.
    fn from_wire(message: Self::Message) -> Result<Self, Invalid>;
}

/// A value that has no message, or a message that has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invalid(String);

impl Invalid {
    pub(crate) fn new(detail: impl Into<String>) -> Self {
        Self(detail.into())
    }

    /// The same, found inside `field`.
    pub(crate) fn inside(self, field: &str) -> Self {
        Self(format!("{field}: {}", self.0))
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Invalid {}

/// The field is the same type on both sides.
pub(crate) mod same {
    use super::Invalid;

    pub(crate) fn to<T: Clone>(value: &T) -> Result<T, Invalid> {
        Ok(value.clone())
    }

    pub(crate) fn from<T>(value: T) -> Result<T, Invalid> {
        Ok(value)
    }
}

/// The field is a scalar with a meaning of its own: an enumeration, an index, a mask.
pub(crate) mod scalar {
    use super::{Invalid, Wire};

    pub(crate) fn to<T: Wire>(value: &T) -> Result<T::Message, Invalid> {
        value.to_wire()
    }

    pub(crate) fn from<T: Wire>(message: T::Message) -> Result<T, Invalid> {
        T::from_wire(message)
    }
}

/// The field is a message that is always there.
pub(crate) mod one {
    use super::{Invalid, Wire};

    pub(crate) fn to<T: Wire>(value: &T) -> Result<Option<T::Message>, Invalid> {
        value.to_wire().map(Some)
    }

    pub(crate) fn from<T: Wire>(message: Option<T::Message>) -> Result<T, Invalid> {
        T::from_wire(message.ok_or_else(|| Invalid::new("is missing"))?)
    }
}

/// The field may be absent.
pub(crate) mod maybe {
    use super::{Invalid, Wire};

    pub(crate) fn to<T: Wire>(value: &Option<T>) -> Result<Option<T::Message>, Invalid> {
        value.as_ref().map(T::to_wire).transpose()
    }

    pub(crate) fn from<T: Wire>(message: Option<T::Message>) -> Result<Option<T>, Invalid> {
        message.map(T::from_wire).transpose()
    }
}

/// The field is a list.
pub(crate) mod many {
    use super::{Invalid, LIST_ITEMS_MAX, Wire};

    pub(crate) fn to<T: Wire>(values: &[T]) -> Result<Vec<T::Message>, Invalid> {
        check(values.len())?;
        let item = |(i, value): (usize, &T)| value.to_wire().map_err(|e| at(i, e));
        values.iter().enumerate().map(item).collect()
    }

    pub(crate) fn from<T: Wire>(messages: Vec<T::Message>) -> Result<Vec<T>, Invalid> {
        check(messages.len())?;
        let item = |(i, message)| T::from_wire(message).map_err(|e| at(i, e));
        messages.into_iter().enumerate().map(item).collect()
    }

    fn at(position: usize, error: Invalid) -> Invalid {
        Invalid(format!("[{position}] {error}"))
    }

    fn check(items: usize) -> Result<(), Invalid> {
        if items > LIST_ITEMS_MAX {
            return Err(Invalid(format!("has {items} items, at most {LIST_ITEMS_MAX}")));
        }
        Ok(())
    }
}

/// The field is a list of a fixed number of items.
pub(crate) mod fixed {
    use super::{Invalid, Wire, many};

    pub(crate) fn to<T: Wire, const N: usize>(values: &[T; N]) -> Result<Vec<T::Message>, Invalid> {
        many::to(values)
    }

    pub(crate) fn from<T: Wire, const N: usize>(
        messages: Vec<T::Message>,
    ) -> Result<[T; N], Invalid> {
        let values: Vec<T> = many::from(messages)?;
        let count = values.len();
        values.try_into().map_err(|_| Invalid(format!("has {count} items instead of {N}")))
    }
}

/// Scalars that mean the same on both sides, so that they can stand in [`fixed`] arrays.
macro_rules! as_they_are {
    ($($type:ty),+) => {
        $(impl Wire for $type {
            type Message = Self;

            fn to_wire(&self) -> Result<Self, Invalid> {
                Ok(self.clone())
            }

            fn from_wire(message: Self) -> Result<Self, Invalid> {
                Ok(message)
            }
        })+
    };
}

as_they_are!(u32, u64);

/// Bytes of a fixed number.
pub(crate) mod bytes {
    use super::Invalid;

    pub(crate) fn to<const N: usize>(value: &[u8; N]) -> Result<Vec<u8>, Invalid> {
        Ok(value.to_vec())
    }

    pub(crate) fn from<const N: usize>(bytes: Vec<u8>) -> Result<[u8; N], Invalid> {
        let count = bytes.len();
        bytes.try_into().map_err(|_| Invalid(format!("has {count} bytes instead of {N}")))
    }
}

/// Nanoseconds since an epoch, as a timestamp.
pub(crate) mod time {
    use super::Invalid;
    use crate::generated as proto;

    const SECOND_NS: i128 = 1_000_000_000;

    pub(crate) fn to(value: &i128) -> Result<Option<proto::Timestamp>, Invalid> {
        let seconds = i64::try_from(value.div_euclid(SECOND_NS))
            .map_err(|_| Invalid(format!("{value} ns is out of the range of clocks")))?;
        let nanoseconds = u32::try_from(value.rem_euclid(SECOND_NS))
            .map_err(|_| Invalid(format!("{value} ns has no remainder")))?;
        Ok(Some(proto::Timestamp { seconds, nanoseconds }))
    }

    pub(crate) fn from(message: Option<proto::Timestamp>) -> Result<i128, Invalid> {
        let time = message.ok_or_else(|| Invalid::new("is missing"))?;
        let nanoseconds = i128::from(time.nanoseconds);
        if nanoseconds >= SECOND_NS {
            return Err(Invalid(format!("has {nanoseconds} nanoseconds in a second")));
        }
        Ok(i128::from(time.seconds) * SECOND_NS + nanoseconds)
    }
}

/// The table of a struct's fields, each with the way in which it is converted.
macro_rules! wire_struct {
    ($type:ty => $message:ty { $($field:ident: $how:ident,)+ }) => {
        impl crate::convert::wire::Wire for $type {
            type Message = $message;

            fn to_wire(&self) -> Result<Self::Message, crate::convert::Invalid> {
                Ok(Self::Message {
                    $($field: crate::convert::wire::$how::to(&self.$field)
                        .map_err(|e| e.inside(stringify!($field)))?,)+
                })
            }

            fn from_wire(message: Self::Message) -> Result<Self, crate::convert::Invalid> {
                Ok(Self {
                    $($field: crate::convert::wire::$how::from(message.$field)
                        .map_err(|e| e.inside(stringify!($field)))?,)+
                })
            }
        }
    };
}

/// The table of an enumeration without fields.
macro_rules! wire_enum {
    ($type:ty => $message:ty { $($name:ident,)+ }) => {
        impl crate::convert::wire::Wire for $type {
            type Message = i32;

            fn to_wire(&self) -> Result<i32, crate::convert::Invalid> {
                Ok(match self {
                    $(Self::$name => <$message>::$name,)+
                }
                .into())
            }

            fn from_wire(code: i32) -> Result<Self, crate::convert::Invalid> {
                match <$message>::try_from(code) {
                    $(Ok(<$message>::$name) => Ok(Self::$name),)+
                    Ok(<$message>::Unspecified) | Err(_) => {
                        Err(crate::convert::Invalid::new(format!("has no value for code {code}")))
                    }
                }
            }
        }
    };
}

/// The table of wrappers of one number.
macro_rules! wire_index {
    ($($type:ty => $scalar:ty,)+) => {
        $(impl crate::convert::wire::Wire for $type {
            type Message = $scalar;

            fn to_wire(&self) -> Result<$scalar, crate::convert::Invalid> {
                Ok(self.0)
            }

            fn from_wire(number: $scalar) -> Result<Self, crate::convert::Invalid> {
                Ok(Self(number))
            }
        })+
    };
}

pub(crate) use {wire_enum, wire_index, wire_struct};
