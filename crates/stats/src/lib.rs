//! Numbers: streaming statistics that know nothing of metrics, logs or events.
//!
//! Architecture invariant: no I/O, no clock, no randomness, no dependency on any other crate of this workspace. Times are
//! plain milliseconds and surprises plain −log10 p, so that everything here can be tested against the textbook formula.

mod budget;
mod combine;
mod episode;
mod evidence;
mod excess_tail;
mod excursion_rate;
mod gamma_poisson;
mod good_turing;
mod incomplete_beta;
mod life_table;
mod online_fdr;
mod tail;
mod unspent;

pub use budget::*;
pub use combine::*;
pub use episode::*;
pub use evidence::*;
pub use excess_tail::ExcessTail;
pub use excursion_rate::*;
pub use gamma_poisson::*;
pub use good_turing::*;
pub use incomplete_beta::*;
pub use life_table::*;
pub use online_fdr::*;
pub use tail::*;
pub use unspent::*;
