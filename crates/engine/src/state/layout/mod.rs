//! What the bytes of a state mean, as a tree that can be written down: fields and variants by name, in the order in which they stand.
//!
//! The bytes themselves (postcard) name nothing, so a state of an earlier version can only be read by who knows its layout. Each
//! version's stands in a file of its own; a test compares the present one with what serde says of the types.
//!
//! A line is a field, variant or element and what it is; what belongs to it is indented. Newtypes are not seen: their bytes are those of
//! what they hold.

#[cfg(test)]
pub(crate) mod trace;

use std::fmt;

/// The layout of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    Plain(Plain),
    Option(Box<Self>),
    Seq(Box<Self>),
    Map(Box<(Self, Self)>),
    Array(usize, Box<Self>),
    Tuple(Vec<Self>),
    /// Name and fields.
    Struct(String, Vec<(String, Self)>),
    /// Name and variants, each with what it holds.
    Enum(String, Vec<(String, Self)>),
}

/// What has no parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plain {
    Unit,
    Bool,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    U128,
    F32,
    F64,
    Text,
}

impl Plain {
    const ALL: [(Self, &'static str); 14] = [
        (Self::Unit, "nothing"),
        (Self::Bool, "bool"),
        (Self::I8, "i8"),
        (Self::I16, "i16"),
        (Self::I32, "i32"),
        (Self::I64, "i64"),
        (Self::U8, "u8"),
        (Self::U16, "u16"),
        (Self::U32, "u32"),
        (Self::U64, "u64"),
        (Self::U128, "u128"),
        (Self::F32, "f32"),
        (Self::F64, "f64"),
        (Self::Text, "text"),
    ];

    /// Whether values of the one are read as they stand where the other is expected: numbers may become wider.
    fn becomes(self, other: Self) -> bool {
        let width = |plain| match plain {
            Self::U16 => Some((false, 16)),
            Self::U32 => Some((false, 32)),
            Self::U64 => Some((false, 64)),
            Self::U128 => Some((false, 128)),
            Self::I16 => Some((true, 16)),
            Self::I32 => Some((true, 32)),
            Self::I64 => Some((true, 64)),
            _ => None,
        };
        self == other
            || match (width(self), width(other)) {
                (Some((signed, own)), Some((other_signed, of_other))) => signed == other_signed && own <= of_other,
                _ => false,
            }
    }
}

/// Bytes that are cut off, or no value of the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Torn;

/// Cuts so many bytes off the front.
pub(crate) fn cut<'a>(bytes: &mut &'a [u8], len: u64) -> Result<&'a [u8], Torn> {
    let len = usize::try_from(len).map_err(|_| Torn)?;
    let (front, rest) = bytes.split_at_checked(len).ok_or(Torn)?;
    *bytes = rest;
    Ok(front)
}

/// Cuts a number off the front: a length, or which variant it is.
pub(crate) fn number(bytes: &mut &[u8]) -> Result<u64, Torn> {
    let (number, rest) = postcard::take_from_bytes(bytes).map_err(|_| Torn)?;
    *bytes = rest;
    Ok(number)
}

impl Layout {
    /// Cuts a value off the front.
    pub(crate) fn skip(&self, bytes: &mut &[u8]) -> Result<(), Torn> {
        match self {
            Self::Plain(plain) => match plain {
                Plain::Unit => {}
                Plain::Bool | Plain::I8 | Plain::U8 => _ = cut(bytes, 1)?,
                Plain::I16 | Plain::I32 | Plain::I64 | Plain::U16 | Plain::U32 | Plain::U64 | Plain::U128 => {
                    let end = bytes.iter().position(|b| b & 0x80 == 0).ok_or(Torn)?;
                    cut(bytes, end as u64 + 1)?;
                }
                Plain::F32 => _ = cut(bytes, 4)?,
                Plain::F64 => _ = cut(bytes, 8)?,
                Plain::Text => {
                    let len = number(bytes)?;
                    cut(bytes, len)?;
                }
            },
            Self::Option(some) => match cut(bytes, 1)? {
                [0] => {}
                [1] => some.skip(bytes)?,
                _ => return Err(Torn),
            },
            Self::Seq(each) => {
                for _ in 0..counted(bytes)? {
                    each.skip(bytes)?;
                }
            }
            Self::Map(entry) => {
                for _ in 0..counted(bytes)? {
                    entry.0.skip(bytes)?;
                    entry.1.skip(bytes)?;
                }
            }
            Self::Array(len, each) => (0..*len).try_for_each(|_| each.skip(bytes))?,
            Self::Tuple(all) => all.iter().try_for_each(|one| one.skip(bytes))?,
            Self::Struct(_, fields) => fields.iter().try_for_each(|(_, field)| field.skip(bytes))?,
            Self::Enum(_, variants) => {
                let index = usize::try_from(number(bytes)?).map_err(|_| Torn)?;
                variants.get(index).ok_or(Torn)?.1.skip(bytes)?;
            }
        }
        Ok(())
    }

    /// Whether values of the one are read as they stand where the other is expected.
    pub(crate) fn becomes(&self, other: &Self) -> bool {
        let same_fields = |a: &[(String, Self)], b: &[(String, Self)]| {
            a.len() <= b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && a.1.becomes(&b.1))
        };
        match (self, other) {
            (Self::Plain(a), Self::Plain(b)) => a.becomes(*b),
            (Self::Option(a), Self::Option(b)) | (Self::Seq(a), Self::Seq(b)) => a.becomes(b),
            (Self::Map(a), Self::Map(b)) => a.0.becomes(&b.0) && a.1.becomes(&b.1),
            (Self::Array(n, a), Self::Array(m, b)) => n == m && a.becomes(b),
            (Self::Tuple(a), Self::Tuple(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.becomes(b)),
            (Self::Struct(_, a), Self::Struct(_, b)) => a.len() == b.len() && same_fields(a, b),
            // What it can't be yet is no matter.
            (Self::Enum(_, a), Self::Enum(_, b)) => same_fields(a, b),
            _ => false,
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, name: &dyn fmt::Display, of: &Self| {
            write!(f, "\n{:depth$}{name}: ", "", depth = 2 * (depth + 1))?;
            of.write(f, depth + 1)
        };
        match self {
            Self::Plain(plain) => {
                let name = Plain::ALL.iter().find(|(p, _)| p == plain).map_or("?", |(_, n)| n);
                f.write_str(name)
            }
            Self::Option(some) => {
                f.write_str("option ")?;
                some.write(f, depth)
            }
            Self::Seq(each) => {
                f.write_str("seq ")?;
                each.write(f, depth)
            }
            Self::Array(len, each) => {
                write!(f, "array {len} ")?;
                each.write(f, depth)
            }
            Self::Map(entry) => {
                f.write_str("map")?;
                line(f, &"key", &entry.0)?;
                line(f, &"value", &entry.1)
            }
            Self::Tuple(all) => {
                f.write_str("tuple")?;
                all.iter().enumerate().try_for_each(|(i, one)| line(f, &i, one))
            }
            Self::Struct(name, parts) | Self::Enum(name, parts) => {
                let is_enum = matches!(self, Self::Enum(..));
                write!(f, "{} {name}", if is_enum { "enum" } else { "struct" })?;
                parts.iter().try_for_each(|(name, part)| line(f, name, part))
            }
        }
    }

    /// Reads what stands on a line, and the indented lines after it.
    fn parse(text: &str, depth: usize, rest: &mut Lines<'_>) -> Option<Self> {
        let (word, after) = text.split_once(' ').unwrap_or((text, ""));
        let unnamed = |parts: Vec<(String, Self)>| parts.into_iter().map(|(_, part)| part);
        Some(match word {
            "option" => Self::Option(Box::new(Self::parse(after, depth, rest)?)),
            "seq" => Self::Seq(Box::new(Self::parse(after, depth, rest)?)),
            "array" => {
                let (len, each) = after.split_once(' ')?;
                Self::Array(len.parse().ok()?, Box::new(Self::parse(each, depth, rest)?))
            }
            "map" => {
                let mut parts = unnamed(parts(depth + 1, rest)?);
                let (Some(key), Some(value), None) = (parts.next(), parts.next(), parts.next()) else {
                    return None;
                };
                Self::Map(Box::new((key, value)))
            }
            "tuple" => Self::Tuple(unnamed(parts(depth + 1, rest)?).collect()),
            "struct" => Self::Struct(after.to_owned(), parts(depth + 1, rest)?),
            "enum" => Self::Enum(after.to_owned(), parts(depth + 1, rest)?),
            plain => Self::Plain(Plain::ALL.iter().find(|(_, name)| *name == plain)?.0),
        })
    }
}

/// How many elements follow: no more than bytes, so that a length that is wrong ends at once.
pub(crate) fn counted(bytes: &mut &[u8]) -> Result<u64, Torn> {
    let len = number(bytes)?;
    if len > bytes.len() as u64 { Err(Torn) } else { Ok(len) }
}

type Lines<'a> = std::iter::Peekable<std::str::Lines<'a>>;

/// The lines of this depth, with all that belongs to them.
pub(crate) fn parts(depth: usize, rest: &mut Lines<'_>) -> Option<Vec<(String, Layout)>> {
    let mut parts = Vec::new();
    while let Some(line) = rest.peek() {
        let text = line.trim_start();
        if line.len() - text.len() != 2 * depth {
            break;
        }
        rest.next();
        let (name, what) = text.split_once(": ")?;
        parts.push((name.to_owned(), Layout::parse(what, depth, rest)?));
    }
    Some(parts)
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}
