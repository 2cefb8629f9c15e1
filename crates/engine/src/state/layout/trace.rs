//! Finds the layout of a type by asking its `Deserialize` for one value after another until every variant was seen.

use std::collections::VecDeque;

use serde::Deserialize;
use serde::de::value::{Error, U32Deserializer};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::{Layout, Plain};

/// What stands for any text; where texts are parsed, it is one that can be.
const TEXT: &str = "== 0";

/// A layout of which parts may not be known yet.
#[derive(Debug, Default)]
enum Draft {
    #[default]
    Unknown,
    Plain(Plain),
    Option(Box<Draft>),
    Seq(Box<Draft>),
    Map(Box<(Draft, Draft)>),
    Tuple(Vec<Draft>),
    Struct(String, Vec<(String, Draft)>),
    Enum(String, Vec<(String, Draft)>),
}

/// The layout of a type.
///
/// # Panics
/// When the type can't be made of what it asks for.
pub(crate) fn layout_of<'de, T: Deserialize<'de>>() -> Layout {
    let mut draft = Draft::Unknown;
    while !draft.is_complete() {
        if let Err(error) = T::deserialize(&mut draft) {
            panic!("{} can't be traced: {error}", std::any::type_name::<T>());
        }
    }
    draft.finish()
}

impl Draft {
    fn is_complete(&self) -> bool {
        let all = |parts: &[(String, Self)]| parts.iter().all(|(_, part)| part.is_complete());
        match self {
            Self::Unknown => false,
            Self::Plain(_) => true,
            Self::Option(one) | Self::Seq(one) => one.is_complete(),
            Self::Map(entry) => entry.0.is_complete() && entry.1.is_complete(),
            Self::Tuple(parts) => parts.iter().all(Self::is_complete),
            Self::Struct(_, parts) | Self::Enum(_, parts) => all(parts),
        }
    }

    fn finish(self) -> Layout {
        let all = |parts: Vec<(String, Self)>| parts.into_iter().map(|(name, part)| (name, part.finish())).collect();
        match self {
            Self::Unknown | Self::Plain(Plain::Unit) => Layout::Plain(Plain::Unit),
            Self::Plain(plain) => Layout::Plain(plain),
            Self::Option(some) => Layout::Option(Box::new(some.finish())),
            Self::Seq(each) => Layout::Seq(Box::new(each.finish())),
            Self::Map(entry) => Layout::Map(Box::new((entry.0.finish(), entry.1.finish()))),
            Self::Tuple(parts) => {
                let mut parts: VecDeque<Layout> = parts.into_iter().map(Self::finish).collect();
                match parts.pop_front() {
                    Some(first) if parts.len() > 1 && parts.iter().all(|part| *part == first) => {
                        Layout::Array(parts.len() + 1, Box::new(first))
                    }
                    first => Layout::Tuple(first.into_iter().chain(parts).collect()),
                }
            }
            Self::Struct(name, parts) => Layout::Struct(name, all(parts)),
            Self::Enum(name, parts) => Layout::Enum(name, all(parts)),
        }
    }

    /// What it is known to be, or `else_` if nothing is known.
    fn or(&mut self, else_: Self) -> &mut Self {
        if matches!(self, Self::Unknown) {
            *self = else_;
        }
        self
    }
}

fn unknown(names: &[&str]) -> Vec<(String, Draft)> {
    names.iter().map(|name| ((*name).to_owned(), Draft::Unknown)).collect()
}

fn mixed_up() -> Error {
    serde::de::Error::custom("it asks for different things at one place")
}

/// Gives each of the parts one value.
struct Parts<'a>(std::slice::IterMut<'a, Draft>);

impl<'de> SeqAccess<'de> for Parts<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|part| seed.deserialize(part)).transpose()
    }
}

struct Fields<'a>(std::slice::IterMut<'a, (String, Draft)>);

impl<'de> SeqAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|(_, part)| seed.deserialize(part)).transpose()
    }
}

/// One entry, if it is still to be found out.
struct Entry<'a>(Option<&'a mut Draft>, Option<&'a mut Draft>);

impl<'de> MapAccess<'de> for Entry<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.0.take().map(|key| seed.deserialize(key)).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(self.1.take().ok_or_else(mixed_up)?)
    }
}

/// One variant, and its draft.
struct Variant<'a>(u32, String, &'a mut Draft);

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let index: U32Deserializer<Error> = self.0.into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        self.2.or(Draft::Plain(Plain::Unit));
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.2)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.2.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        let Draft::Struct(_, parts) = self.2.or(Draft::Struct(self.1, unknown(fields))) else {
            return Err(mixed_up());
        };
        visitor.visit_seq(Fields(parts.iter_mut()))
    }
}

macro_rules! plain {
    ($($ask:ident: $kind:ident, $give:ident($value:expr);)*) => {$(
        fn $ask<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.or(Draft::Plain(Plain::$kind)) {
                Draft::Plain(Plain::$kind) => visitor.$give($value),
                _ => Err(mixed_up()),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Draft {
    type Error = Error;

    plain! {
        deserialize_bool: Bool, visit_bool(false);
        deserialize_i8: I8, visit_i8(0);
        deserialize_i16: I16, visit_i16(0);
        deserialize_i32: I32, visit_i32(0);
        deserialize_i64: I64, visit_i64(0);
        deserialize_u8: U8, visit_u8(0);
        deserialize_u16: U16, visit_u16(0);
        deserialize_u32: U32, visit_u32(0);
        deserialize_u64: U64, visit_u64(0);
        deserialize_u128: U128, visit_u128(0);
        deserialize_f32: F32, visit_f32(0.0);
        deserialize_f64: F64, visit_f64(0.0);
        deserialize_str: Text, visit_str(TEXT);
        deserialize_string: Text, visit_str(TEXT);
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(serde::de::Error::custom(
            "it asks for what the bytes say, which say nothing",
        ))
    }

    forward_to_deserialize_any! { char bytes byte_buf identifier ignored_any i128 }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.or(Draft::Plain(Plain::Unit));
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.or(Draft::Option(Box::default())) {
            Draft::Option(some) if some.is_complete() => visitor.visit_none(),
            Draft::Option(some) => visitor.visit_some(&mut **some),
            _ => Err(mixed_up()),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Draft::Seq(each) = self.or(Draft::Seq(Box::default())) else {
            return Err(mixed_up());
        };
        let wanted = usize::from(!each.is_complete());
        visitor.visit_seq(Parts(std::slice::from_mut(&mut **each)[..wanted].iter_mut()))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        let Draft::Tuple(parts) = self.or(Draft::Tuple((0..len).map(|_| Draft::Unknown).collect())) else {
            return Err(mixed_up());
        };
        visitor.visit_seq(Parts(parts.iter_mut()))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Draft::Map(entry) = self.or(Draft::Map(Box::default())) else {
            return Err(mixed_up());
        };
        let is_complete = entry.0.is_complete() && entry.1.is_complete();
        let (key, value) = &mut **entry;
        visitor.visit_map(if is_complete {
            Entry(None, None)
        } else {
            Entry(Some(key), Some(value))
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Draft::Struct(_, parts) = self.or(Draft::Struct(name.to_owned(), unknown(fields))) else {
            return Err(mixed_up());
        };
        visitor.visit_seq(Fields(parts.iter_mut()))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Draft::Enum(_, parts) = self.or(Draft::Enum(name.to_owned(), unknown(variants))) else {
            return Err(mixed_up());
        };
        let next = parts.iter().position(|(_, part)| !part.is_complete()).unwrap_or(0);
        let (variant, draft) = &mut parts[next];
        visitor.visit_enum(Variant(
            u32::try_from(next).unwrap(),
            format!("{name}::{variant}"),
            draft,
        ))
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}
