//! Keys: which settings a file may have, asked of the very types that read it.
//!
//! A type is read again and again, each time along one path: where the path ends it says what it
//! expects there, and is refused. So nothing has to be written down twice.
//!
//! # Invariants
//!
//! * A key that is read is here, and one that is here is read.

use std::collections::VecDeque;
use std::fmt;

use serde::Deserialize;
use serde::de::value::BorrowedStrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::cli::FileKind;

/// Tables in tables in lists: deeper would be read by nobody.
const DEPTH_MAX: usize = 8;

/// The table in which TOML's reader says where a value stands.
const SPANNED: &str = "$__serde_spanned_private_Spanned";

/// What a file expects at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text.
    Text,
    /// A whole number.
    Whole,
    /// A number.
    Number,
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A table with these keys.
    Table(&'static [&'static str]),
    /// A table with any keys.
    Map,
    /// A list.
    List,
    /// Of several kinds.
    Any,
}

/// A setting: where it stands, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// Its tables and its name; `[]` for every entry of a list.
    pub(crate) path: Vec<String>,
    /// What is expected.
    pub(crate) kind: Kind,
}

impl Key {
    /// As the reference writes it: `cohort[].select.tier`.
    pub(crate) fn name(&self) -> String {
        let mut name = String::new();
        for step in &self.path {
            if step != "[]" && !name.is_empty() {
                name.push('.');
            }
            name.push_str(step);
        }
        name
    }
}

/// All settings of what `read` reads, in its own order.
pub(crate) fn keys(read: impl Fn(Asker<'_>) -> Result<(), Told>) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut paths: VecDeque<Vec<String>> = VecDeque::from([Vec::new()]);
    while let Some(path) = paths.pop_front() {
        let Err(Told { kind: Some(kind), .. }) = read(Asker { path: &path }) else {
            continue;
        };
        let below: &[&str] = match &kind {
            Kind::Table(names) => names,
            Kind::List => &["[]"],
            Kind::Text
            | Kind::Whole
            | Kind::Number
            | Kind::Flag
            | Kind::Word(_)
            | Kind::Map
            | Kind::Any => &[],
        };
        if path.len() < DEPTH_MAX {
            let next =
                below.iter().map(|name| [&path[..], &[(*name).to_owned()]].concat());
            next.rev().for_each(|path| paths.push_front(path));
        }
        if !path.is_empty() {
            keys.push(Key { path, kind });
        }
    }
    keys
}

/// All settings of a type.
pub(super) fn keys_of<T: for<'de> Deserialize<'de>>() -> Vec<Key> {
    keys(|asker| T::deserialize(asker).map(|_| ()))
}

/// All settings that a kind of file may have.
pub(crate) fn of_kind(kind: FileKind) -> Vec<Key> {
    match kind {
        FileKind::Coordinator => keys_of::<super::coordinator::RawCoordinatorFile>(),
        FileKind::Worker => keys_of::<super::RawWorkerFile>(),
        FileKind::Mx => super::mx::keys(),
        FileKind::Solo => keys_of::<super::RawSoloFile>(),
        FileKind::Contexts => keys_of::<crate::preferences::File>(),
        FileKind::Policy => keys(|asker| tidegate_wire::policy_file::ask(asker)),
    }
}

/// What was expected where a path ends.
#[derive(Debug)]
pub(crate) struct Told {
    kind: Option<Kind>,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)
    }
}

impl std::error::Error for Told {}

impl de::Error for Told {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self { kind: None }
    }
}

/// Asks what is expected at the end of a path.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    path: &'a [String],
}

impl Asker<'_> {
    fn tell<T>(kind: Kind) -> Result<T, Told> {
        Err(Told { kind: Some(kind) })
    }
}

macro_rules! tells {
    ($($method:ident: $kind:expr),* $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Told> {
            Self::tell($kind)
        }
    )*};
}

impl<'de> Deserializer<'de> for Asker<'_> {
    type Error = Told;

    tells! {
        deserialize_any: Kind::Any,
        deserialize_bool: Kind::Flag,
        deserialize_i8: Kind::Whole,
        deserialize_i16: Kind::Whole,
        deserialize_i32: Kind::Whole,
        deserialize_i64: Kind::Whole,
        deserialize_u8: Kind::Whole,
        deserialize_u16: Kind::Whole,
        deserialize_u32: Kind::Whole,
        deserialize_u64: Kind::Whole,
        deserialize_f32: Kind::Number,
        deserialize_f64: Kind::Number,
        deserialize_char: Kind::Text,
        deserialize_str: Kind::Text,
        deserialize_string: Kind::Text,
        deserialize_bytes: Kind::Text,
        deserialize_byte_buf: Kind::Text,
        deserialize_unit: Kind::Any,
        deserialize_identifier: Kind::Text,
        deserialize_ignored_any: Kind::Any,
        deserialize_map: Kind::Map,
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Told> {
        visitor.visit_some(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: V,
    ) -> Result<V::Value, Told> {
        Self::tell(Kind::Any)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Told> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Told> {
        match self.path.split_first() {
            None => Self::tell(Kind::List),
            Some((_, path)) => visitor.visit_seq(Entry(Asker { path })),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Told> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Told> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Told> {
        if name == SPANNED {
            return visitor.visit_map(Place { asker: self, fields: fields.iter() });
        }
        match self.path.split_first() {
            None => Self::tell(Kind::Table(fields)),
            Some((step, path)) => {
                let field = fields.iter().find(|field| *field == step);
                visitor.visit_map(Field { field: field.copied(), asker: Asker { path } })
            }
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Told> {
        Self::tell(Kind::Word(variants))
    }
}

/// One field of a table.
struct Field<'a> {
    field: Option<&'static str>,
    asker: Asker<'a>,
}

impl<'de> MapAccess<'de> for Field<'_> {
    type Error = Told;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Told> {
        let Some(field) = self.field.take() else { return Ok(None) };
        seed.deserialize(BorrowedStrDeserializer::new(field)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, Told> {
        seed.deserialize(self.asker)
    }
}

/// A value with the place at which it stands: from, to, value.
struct Place<'a> {
    asker: Asker<'a>,
    fields: std::slice::Iter<'static, &'static str>,
}

impl<'de> MapAccess<'de> for Place<'_> {
    type Error = Told;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Told> {
        let Some(field) = self.fields.next() else { return Ok(None) };
        seed.deserialize(BorrowedStrDeserializer::new(field)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, Told> {
        if self.fields.len() == 0 {
            return seed.deserialize(self.asker);
        }
        seed.deserialize(de::value::U64Deserializer::new(0))
    }
}

/// One entry of a list.
struct Entry<'a>(Asker<'a>);

impl<'de> SeqAccess<'de> for Entry<'_> {
    type Error = Told;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Told> {
        seed.deserialize(self.0).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use toml::Spanned;

    use super::*;

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "it is only asked for its keys")]
    struct File {
        name: Spanned<String>,
        wave: Option<Vec<Wave>>,
        open: Option<Spanned<Wave>>,
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "it is only asked for its keys")]
    struct Wave {
        size: u32,
        end: End,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum End {
        Hold,
        GoOn,
    }

    #[test]
    fn a_type_tells_its_keys_through_places_options_and_lists() {
        let keys = keys_of::<File>();

        let lines = keys.iter().map(|key| format!("{} {:?}\n", key.name(), key.kind));
        expect![[r#"
            name Text
            wave List
            wave[] Table(["size", "end"])
            wave[].size Whole
            wave[].end Word(["hold", "go-on"])
            open Table(["size", "end"])
            open.size Whole
            open.end Word(["hold", "go-on"])
        "#]]
        .assert_eq(&lines.collect::<String>());
    }
}
