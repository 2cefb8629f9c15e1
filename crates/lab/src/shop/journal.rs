//! Orders are appended to a file and synced to disk by one thread; a full queue in front of it pushes back.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::log::{Level, Log};

/// Orders that may wait for the disk.
const WAITING_MAX: usize = 8;
const FILE_BYTES_MAX: u64 = 64 << 10;
const SLOW_SYNC: Duration = Duration::from_millis(400);

/// Where a shop's orders go.
#[derive(Clone, Debug)]
pub struct Journal(SyncSender<Order>);

/// A line of the journal.
#[derive(Debug)]
pub struct Order {
    /// Number of the order.
    pub number: u64,
    /// Items in it.
    pub items: u64,
    /// Sum in cents.
    pub cents: u64,
}

impl Journal {
    /// Starts the journal's thread; its file lies in `folder`.
    ///
    /// # Errors
    /// Where the file cannot be opened or the thread not be started.
    pub fn start(folder: &Path, log: Arc<Log>) -> Result<Self> {
        let path = folder.join("orders.journal");
        let file = open(&path)?;
        let (orders, queue) = sync_channel(WAITING_MAX);
        std::thread::Builder::new()
            .name("journal".into())
            .stack_size(128 << 10)
            .spawn(move || write_orders(&path, file, &queue, &log))
            .context("cannot start the journal")?;
        Ok(Self(orders))
    }

    /// Hands an order over without waiting; gives it back where too many wait already.
    pub fn append(&self, order: Order) -> Result<(), Order> {
        self.0.try_send(order).map_err(|refused| match refused {
            TrySendError::Full(order) | TrySendError::Disconnected(order) => order,
        })
    }
}

fn open(path: &PathBuf) -> Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.with_context(|| format!("cannot open {}", path.display()))
}

fn write_orders(path: &PathBuf, mut file: File, queue: &Receiver<Order>, log: &Log) {
    let mut line = String::with_capacity(128);
    while let Ok(first) = queue.recv() {
        line.clear();
        let mut orders = 0;
        for Order { number, items, cents } in std::iter::once(first).chain(queue.try_iter().take(WAITING_MAX)) {
            use std::fmt::Write as _;
            let _ = writeln!(line, "{number} {items} {cents}"); // a String takes everything
            orders += 1;
        }
        let began = Instant::now();
        if let Err(error) = file.write_all(line.as_bytes()).and_then(|()| file.sync_data()) {
            log.write(
                Level::Error,
                format_args!("journal write of {orders} orders failed: {error}"),
            );
        }
        let took = began.elapsed();
        if took > SLOW_SYNC {
            let took_ms = took.as_millis();
            log.write(
                Level::Warn,
                format_args!("journal sync of {orders} orders took {took_ms} ms"),
            );
        }
        let bytes = file.metadata().map_or(0, |m| m.len());
        if bytes > FILE_BYTES_MAX {
            match std::fs::rename(path, path.with_extension("old"))
                .map_err(Into::into)
                .and_then(|()| open(path))
            {
                Ok(next) => {
                    file = next;
                    log.write(Level::Info, format_args!("journal rotated at {bytes} bytes"));
                }
                Err(error) => log.write(Level::Error, format_args!("journal rotation failed: {error}")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_reach_the_disk_and_a_full_queue_gives_them_back() {
        let folder = std::env::temp_dir().join(format!("foreshock-lab-journal-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("folder");
        let journal = Journal::start(&folder, Arc::new(Log::new("t"))).expect("journal");
        journal
            .append(Order {
                number: 7,
                items: 2,
                cents: 995,
            })
            .expect("first order");
        let until = Instant::now() + Duration::from_secs(10);
        let text = || std::fs::read_to_string(folder.join("orders.journal")).expect("journal file");
        while text().is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(text(), "7 2 995\n");
        let (full, _queue) = sync_channel(0);
        let refused = Journal(full).append(Order {
            number: 8,
            items: 1,
            cents: 1,
        });
        assert_eq!(refused.expect_err("nobody takes it").number, 8);
        std::fs::remove_dir_all(&folder).expect("folder");
    }
}
