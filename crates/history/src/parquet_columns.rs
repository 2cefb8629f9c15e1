//! Columns of a Parquet file as values: which types are read, and one batch of one column.
//!
//! Flat columns alone: numbers of every width, decimals in 32 or 64 bits, booleans (0 and 1), text, and times in every unit.
//! Times without a zone are taken as UTC. What is null is missing.

use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{AsBytes, ByteArray, DataType, Int96};
use parquet::errors::ParquetError;
use parquet::schema::types::ColumnDescriptor;

const DAY_MS: i64 = 86_400_000;
/// The day that INT96 counts from is this long before 1970.
const JULIAN_DAY_OF_1970: i64 = 2_440_588;

/// One value.
#[derive(Clone, Debug)]
pub enum Value {
    /// Null.
    Missing,
    /// A whole number.
    Whole(i64),
    /// A number.
    Number(f64),
    /// Milliseconds since 1970.
    Time(i64),
    /// Text, or bytes that should be some.
    Text(ByteArray),
}

/// How the values of a column are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Numbers as they are.
    Number,
    /// Whole numbers without a sign.
    Unsigned,
    /// Whole numbers of this many digits behind the point.
    Decimal(i32),
    /// Days since 1970.
    Days,
    /// So many in a millisecond, since 1970.
    Ticks(i64),
    /// Julian day and nanoseconds of the day.
    Int96,
    /// Text.
    Text,
}

impl Kind {
    /// How a column is meant; where it can't be read, what it is.
    ///
    /// # Errors
    /// When it is nested, or of a type that is no number, time or text.
    pub fn of(column: &ColumnDescriptor) -> Result<Self, String> {
        if column.max_rep_level() > 0 || column.max_def_level() > 1 || column.path().parts().len() > 1 {
            return Err("a nested column".into());
        }
        let physical = column.physical_type();
        let logical = column.logical_type_ref();
        let converted = column.converted_type();
        let kind = match (physical, logical) {
            (Type::INT64, Some(LogicalType::Timestamp(t))) => Self::Ticks(match t.unit {
                TimeUnit::MILLIS => 1,
                TimeUnit::MICROS => 1_000,
                TimeUnit::NANOS => 1_000_000,
            }),
            (Type::INT32 | Type::INT64, Some(LogicalType::Decimal(d))) => Self::Decimal(d.scale),
            (Type::INT32, Some(LogicalType::Date)) => Self::Days,
            (Type::INT32 | Type::INT64, Some(LogicalType::Integer(i))) if !i.is_signed => Self::Unsigned,
            (Type::INT32 | Type::INT64, Some(LogicalType::Integer(_))) => Self::Number,
            (Type::BYTE_ARRAY, Some(LogicalType::String | LogicalType::Enum | LogicalType::Json)) => Self::Text,
            // A column that is null throughout.
            (_, Some(LogicalType::Unknown)) => Self::Number,
            (_, Some(other)) => return Err(format!("{physical} as {other:?}")),
            (Type::INT32 | Type::INT64, None) => match converted {
                ConvertedType::TIMESTAMP_MILLIS => Self::Ticks(1),
                ConvertedType::TIMESTAMP_MICROS => Self::Ticks(1_000),
                ConvertedType::DATE => Self::Days,
                ConvertedType::DECIMAL => Self::Decimal(column.type_scale()),
                ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32 | ConvertedType::UINT_64 => {
                    Self::Unsigned
                }
                ConvertedType::TIME_MILLIS | ConvertedType::TIME_MICROS => return Err(format!("{converted}")),
                _ => Self::Number,
            },
            (Type::BOOLEAN | Type::FLOAT | Type::DOUBLE, None) => Self::Number,
            (Type::INT96, None) => Self::Int96,
            (Type::BYTE_ARRAY, None) if converted == ConvertedType::DECIMAL => return Err(format!("{converted}")),
            (Type::BYTE_ARRAY, None) => Self::Text,
            (Type::FIXED_LEN_BYTE_ARRAY, None) => return Err(format!("{physical}")),
        };
        Ok(kind)
    }

    /// Whether its values are numbers.
    #[must_use]
    pub const fn is_number(self) -> bool {
        matches!(self, Self::Number | Self::Unsigned | Self::Decimal(_))
    }

    fn whole(self, n: i64, unsigned: u64) -> Value {
        #[allow(clippy::cast_precision_loss)] // metrics are doubles
        match self {
            Self::Unsigned => i64::try_from(unsigned).map_or(Value::Number(unsigned as f64), Value::Whole),
            Self::Decimal(scale) => Value::Number(n as f64 / 10f64.powi(scale)),
            Self::Days => Value::Time(n.saturating_mul(DAY_MS)),
            Self::Ticks(per_ms) => Value::Time(n.div_euclid(per_ms)),
            _ => Value::Whole(n),
        }
    }
}

/// Reads at most `rows` values onto the end of `into`; fewer only where the column ends.
///
/// # Errors
/// When the file is damaged there.
pub fn read(reader: &mut ColumnReader, kind: Kind, rows: usize, into: &mut Vec<Value>) -> Result<(), ParquetError> {
    match reader {
        ColumnReader::BoolColumnReader(r) => batch(r, rows, into, |b| Value::Whole(i64::from(*b))),
        ColumnReader::Int32ColumnReader(r) => {
            batch(r, rows, into, |n| kind.whole((*n).into(), n.cast_unsigned().into()))
        }
        ColumnReader::Int64ColumnReader(r) => batch(r, rows, into, |n| kind.whole(*n, n.cast_unsigned())),
        ColumnReader::Int96ColumnReader(r) => batch(r, rows, into, |t| Value::Time(millis_of(t))),
        ColumnReader::FloatColumnReader(r) => batch(r, rows, into, |x| Value::Number((*x).into())),
        ColumnReader::DoubleColumnReader(r) => batch(r, rows, into, |x| Value::Number(*x)),
        ColumnReader::ByteArrayColumnReader(r) => batch(r, rows, into, |t| Value::Text(t.clone())),
        ColumnReader::FixedLenByteArrayColumnReader(r) => {
            batch(r, rows, into, |t| Value::Text(t.as_bytes().to_vec().into()))
        }
    }
}

fn batch<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    rows: usize,
    into: &mut Vec<Value>,
    value: impl Fn(&T::T) -> Value,
) -> Result<(), ParquetError> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let mut left = rows;
    while left > 0 {
        levels.clear();
        values.clear();
        let (read, ..) = reader.read_records(left, Some(&mut levels), None, &mut values)?;
        if read == 0 {
            break;
        }
        left = left.saturating_sub(read);
        if levels.is_empty() {
            // A column that is never null has no levels.
            into.extend(values.iter().map(&value));
            continue;
        }
        let mut values = values.iter();
        for level in &levels {
            into.push(match level {
                0 => Value::Missing,
                _ => values.next().map_or(Value::Missing, &value),
            });
        }
    }
    Ok(())
}

fn millis_of(time: &Int96) -> i64 {
    let [low, high, day] = [0, 1, 2].map(|i| time.data().get(i).copied().unwrap_or(0));
    let nanos = i64::from(high) << 32 | i64::from(low);
    (i64::from(day) - JULIAN_DAY_OF_1970) * DAY_MS + nanos.div_euclid(1_000_000)
}
