use std::ops::AddAssign;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What happened since the last epoch; every drop and refusal is here.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters { $($(#[$doc])* pub $name: u64),* }

        impl Counters {
            /// Names and values, in a fixed order.
            #[must_use]
            pub fn entries(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),*]
            }
        }

        impl AddAssign for Counters {
            fn add_assign(&mut self, other: Self) { $(self.$name += other.$name;)* }
        }
    };
}

counters! {
    /// Records applied, but for silent replay.
    records,
    /// Records replayed silently after a restore.
    records_replayed,
    /// Records that the log had deleted before they were read, or before they could be replayed.
    records_gone,
    /// Metric samples taken into a window.
    samples,
    /// Log lines taken into a window.
    lines,
    /// Log lines that were joined to the line before them: the rest of a stack trace, pieces of a long line.
    lines_joined,
    /// Log lines with nothing in them.
    lines_empty,
    /// Log lines without a time that can be read, which count at the log's own.
    lines_untimed,
    /// Log lines that are not in the format of their source and were taken as raw text.
    lines_unlike,
    /// Log lines with bytes that are not UTF-8, which became U+FFFD.
    lines_replaced,
    /// Log lines that were cut for their length.
    lines_cut,
    /// Log lines out of which terminal escapes or control characters were taken.
    lines_cleaned,
    /// Incidents declared by others.
    incidents,
    /// Declarations of planned work that were forgotten for want of room.
    plans_displaced,
    /// Records that could not be read and went to dead letters.
    dead_letters,
    /// Batches that could not be unpacked and were skipped; a dead letter says which offsets.
    batches_skipped,
    /// Fields of readable records that hold no number.
    fields_skipped,
    /// Samples and lines that came after their window had closed.
    late,
    /// Samples and lines from a clock too far ahead.
    future,
    /// Samples and lines from before 1970 or after 9999.
    implausible,
    /// Samples with the timestamp of the sample before.
    duplicates,
    /// Samples that are NaN or infinite.
    missing,
    /// Samples of series refused at the cap.
    series_refused,
    /// Inputs of entities refused at the cap.
    entities_refused,
    /// Series and entities forgotten after long idleness.
    evicted,
    /// Times an input partition's clock was set back because its sources were.
    clock_resets,
    /// Sessions of log lines judged.
    sessions_judged,
    /// Sessions cut off unjudged: no room, no end, or begun before the first line.
    sessions_cut,
    /// Places inside log lines whose values are not followed, for want of room.
    values_refused,
    /// Metric windows scored.
    series_scored,
    /// Entity windows sent to the second stage.
    windows_sent,
    /// Signals sent to the second stage.
    signals_sent,
    /// Signals dropped at the cap of a window.
    signals_dropped,
    /// Windows that reached the second stage after their time had been decided.
    windows_late,
    /// Windows released early because too many were held back.
    windows_forced,
    /// Precursors opened.
    precursors_opened,
    /// Precursors resolved.
    precursors_resolved,
    /// Failures opened.
    failures_opened,
    /// Failures resolved.
    failures_resolved,
}
