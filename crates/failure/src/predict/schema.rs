//! Which feature stands where in a model's vector, and how it is standardised.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::features::{Features, PER_SERIES};

/// Standardised features are cut here, in spreads of the training rows: a model is not asked about what it never saw the like of.
const MOST: f64 = 8.0;

/// One series of a schema.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SchemaSeries {
    /// Key of its pooled name, or its template's id.
    pub key: u64,
    /// Its pooled name, or its template's text as far as that may be shown.
    pub name: Box<str>,
    /// Mean of each of its features over the training rows.
    pub mean: [f64; PER_SERIES],
    /// Spread of each; above zero.
    pub spread: [f64; PER_SERIES],
}

/// Series in order of their keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Schema {
    /// Sorted by key.
    pub series: Vec<SchemaSeries>,
}

impl Schema {
    /// Length of the vector.
    #[must_use]
    pub fn width(&self) -> usize {
        self.series.len() * PER_SERIES
    }

    /// Writes features into their places, standardised; what is missing is at its mean, which is 0.
    pub fn fill<'a>(&self, features: impl Iterator<Item = (u64, &'a Features)>, out: &mut Vec<f64>) {
        out.clear();
        out.resize(self.width(), 0.0);
        for (key, values) in features {
            let Ok(i) = self.series.binary_search_by_key(&key, |s| s.key) else {
                continue;
            };
            let series = &self.series[i];
            for k in 0..PER_SERIES {
                let x = (f64::from(values[k]) - series.mean[k]) / series.spread[k];
                out[i * PER_SERIES + k] = x.clamp(-MOST, MOST);
            }
        }
    }

    /// What tells this schema from another: keys, means and spreads.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let mut hash = Xxh3::new();
        for s in &self.series {
            hash.update(&s.key.to_le_bytes());
            for x in s.mean.iter().chain(&s.spread) {
                hash.update(&x.to_le_bytes());
            }
        }
        hash.digest()
    }
}
