use crate::state::layout::{Layout, Plain, Torn, counted, cut, number};

/// What names do not say of a step: of one field of a struct, by the struct's name.
pub(super) struct Change {
    pub(super) of: &'static str,
    pub(super) field: &'static str,
    pub(super) how: How,
}

/// Bytes of a value, or why there are none.
pub(super) type Made = Result<Vec<u8>, postcard::Error>;

#[derive(Clone, Copy)]
pub(super) enum How {
    /// It begins with this value.
    Begins(fn() -> Made),
    /// It holds what stood beside it before.
    Gathers,
    /// It is made of the bytes of the field that had its name.
    Remade(fn(&[u8]) -> Made),
}

/// The changes of a step, and which of them were asked for.
pub(super) struct Changes {
    all: &'static [Change],
    used: Vec<bool>,
}

impl Changes {
    pub(super) fn new(all: &'static [Change]) -> Self {
        let used = vec![false; all.len()];
        Self { all, used }
    }

    fn find(&mut self, of: &str, field: &str) -> Option<How> {
        let place = self.all.iter().position(|c| c.of == of && c.field == field)?;
        self.used[place] = true;
        Some(self.all[place].how)
    }

    /// Changes of what is not there.
    #[cfg(test)]
    pub(super) fn unused(&self) -> Vec<String> {
        let unused = self.all.iter().zip(&self.used).filter(|(_, used)| !**used);
        unused.map(|(c, _)| format!("{}.{}", c.of, c.field)).collect()
    }
}

/// How a value of one layout becomes one of another.
pub(super) enum Plan {
    /// It stays as it is.
    Keep(Layout),
    Option(Box<Self>),
    Seq(Box<Self>),
    Map(Box<(Self, Self)>),
    Array(usize, Box<Self>),
    Tuple(Vec<Self>),
    /// The fields as they are, and where those to be come from.
    Struct(Vec<Layout>, Vec<Source>),
    /// By variant; `None` for one that is gone.
    Enum(Vec<Option<(u32, Self)>>),
}

/// Where a field comes from.
pub(super) enum Source {
    Value(Vec<u8>),
    /// The field of this place.
    Field(usize, Plan),
    Remade(usize, fn(&[u8]) -> Made),
}

type Fields = [(String, Layout)];

impl Plan {
    /// From one layout to another.
    ///
    /// # Errors
    /// What names do not say and the step does not either.
    pub(super) fn new(old: &Layout, new: &Layout, changes: &mut Changes) -> Result<Self, String> {
        if old.becomes(new) {
            return Ok(Self::Keep(old.clone()));
        }
        Ok(match (old, new) {
            (Layout::Option(old), Layout::Option(new)) => Self::Option(Box::new(Self::new(old, new, changes)?)),
            (Layout::Seq(old), Layout::Seq(new)) => Self::Seq(Box::new(Self::new(old, new, changes)?)),
            (Layout::Map(old), Layout::Map(new)) => {
                let key = Self::new(&old.0, &new.0, changes)?;
                Self::Map(Box::new((key, Self::new(&old.1, &new.1, changes)?)))
            }
            (Layout::Array(len, old), Layout::Array(new_len, new)) if len == new_len => {
                Self::Array(*len, Box::new(Self::new(old, new, changes)?))
            }
            (Layout::Tuple(old), Layout::Tuple(new)) if old.len() == new.len() => {
                let parts = old.iter().zip(new).map(|(old, new)| Self::new(old, new, changes));
                Self::Tuple(parts.collect::<Result<_, _>>()?)
            }
            (Layout::Struct(_, old), Layout::Struct(name, new)) => {
                let mut sources = Vec::new();
                gather(old, name, new, changes, &mut sources)?;
                Self::Struct(old.iter().map(|(_, layout)| layout.clone()).collect(), sources)
            }
            (Layout::Enum(_, old), Layout::Enum(_, new)) => {
                let variants = old.iter().map(|(name, old)| {
                    let Some((index, (_, new))) = (0..).zip(new).find(|(_, (n, _))| n == name) else {
                        return Ok(None);
                    };
                    Ok(Some((index, Self::new(old, new, changes)?)))
                });
                Self::Enum(variants.collect::<Result<_, String>>()?)
            }
            (old, new) => return Err(format!("nothing says how this\n{old}\nbecomes this\n{new}")),
        })
    }

    /// Cuts a value of the one layout off the front and writes it in the other.
    pub(super) fn apply(&self, from: &mut &[u8], to: &mut Vec<u8>) -> Result<(), Torn> {
        match self {
            Self::Keep(layout) => {
                let before = *from;
                layout.skip(from)?;
                to.extend_from_slice(before.get(..before.len() - from.len()).ok_or(Torn)?);
            }
            Self::Option(some) => match cut(from, 1)? {
                [0] => to.push(0),
                [1] => {
                    to.push(1);
                    some.apply(from, to)?;
                }
                _ => return Err(Torn),
            },
            Self::Seq(each) => {
                for _ in 0..copied_count(from, to)? {
                    each.apply(from, to)?;
                }
            }
            Self::Map(entry) => {
                for _ in 0..copied_count(from, to)? {
                    entry.0.apply(from, to)?;
                    entry.1.apply(from, to)?;
                }
            }
            Self::Array(len, each) => (0..*len).try_for_each(|_| each.apply(from, to))?,
            Self::Tuple(all) => all.iter().try_for_each(|one| one.apply(from, to))?,
            Self::Struct(fields, sources) => {
                let spans = fields.iter().map(|layout| {
                    let before = *from;
                    layout.skip(from)?;
                    before.get(..before.len() - from.len()).ok_or(Torn)
                });
                let spans: Vec<&[u8]> = spans.collect::<Result<_, _>>()?;
                for source in sources {
                    match source {
                        Source::Value(bytes) => to.extend_from_slice(bytes),
                        Source::Field(place, plan) => {
                            let mut span = *spans.get(*place).ok_or(Torn)?;
                            plan.apply(&mut span, to)?;
                        }
                        Source::Remade(place, remake) => {
                            let made = remake(spans.get(*place).ok_or(Torn)?);
                            to.extend(made.map_err(|_| Torn)?);
                        }
                    }
                }
            }
            Self::Enum(variants) => {
                let variant = usize::try_from(number(from)?).map_err(|_| Torn)?;
                let (index, plan) = variants.get(variant).and_then(Option::as_ref).ok_or(Torn)?;
                count(*index, to)?;
                plan.apply(from, to)?;
            }
        }
        Ok(())
    }
}

fn count(number: impl serde::Serialize, to: &mut Vec<u8>) -> Result<(), Torn> {
    to.extend(postcard::to_stdvec(&number).map_err(|_| Torn)?);
    Ok(())
}

/// How many elements follow, which is written too.
fn copied_count(from: &mut &[u8], to: &mut Vec<u8>) -> Result<u64, Torn> {
    let len = counted(from)?;
    count(len, to)?;
    Ok(len)
}

/// Where the fields of a struct come from, out of what stood in one place.
fn gather(old: &Fields, name: &str, new: &Fields, changes: &mut Changes, into: &mut Vec<Source>) -> Result<(), String> {
    for (field, layout) in new {
        let place = old.iter().position(|(known, _)| known == field);
        into.push(match (changes.find(name, field), place) {
            (Some(How::Begins(value)), _) => Source::Value(value().map_err(|e| e.to_string())?),
            (Some(How::Gathers), _) => {
                let Layout::Struct(name, fields) = layout else {
                    return Err(format!("{name}.{field} gathers and is no struct"));
                };
                // One struct in another is no more than its fields.
                gather(old, name, fields, changes, into)?;
                continue;
            }
            (Some(How::Remade(remake)), Some(place)) => Source::Remade(place, remake),
            (None, Some(place)) => Source::Field(place, Plan::new(&old[place].1, layout, changes)?),
            (Some(How::Remade(_)) | None, None) => {
                let mut bytes = Vec::new();
                empty(&format!("{name}.{field}"), layout, changes, &mut bytes)?;
                Source::Value(bytes)
            }
        });
    }
    Ok(())
}

/// What a new field holds when nothing is known: nothing.
fn empty(name: &str, layout: &Layout, changes: &mut Changes, into: &mut Vec<u8>) -> Result<(), String> {
    match layout {
        Layout::Plain(Plain::Unit) => {}
        Layout::Plain(Plain::Text) | Layout::Option(_) | Layout::Seq(_) | Layout::Map(_) => into.push(0),
        Layout::Struct(of, fields) => {
            for (field, layout) in fields {
                match changes.find(of, field) {
                    Some(How::Begins(value)) => into.extend(value().map_err(|e| e.to_string())?),
                    _ => empty(&format!("{of}.{field}"), layout, changes, into)?,
                }
            }
        }
        Layout::Plain(_) | Layout::Array(..) | Layout::Tuple(_) | Layout::Enum(..) => {
            return Err(format!("nothing says what {name} begins with"));
        }
    }
    Ok(())
}
