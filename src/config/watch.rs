//! Watches the configuration file and calls back when its content has changed.
//!
//! The directories are watched, not the file: editors write a new file and rename it over the old one, and
//! Kubernetes swaps a symbolic link above it. So every directory on the way through symbolic links is watched, any
//! event there makes the content be looked at again, and only a content that differs calls back.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

/// Writes that come closer together than this are one change.
const QUIET: Duration = Duration::from_millis(200);

/// A file that is written all the time is looked at this often nevertheless.
const IMPATIENCE: Duration = Duration::from_secs(2);

/// Without any event (network file systems, directories made anew) the file is looked at this often.
const PATROL: Duration = Duration::from_secs(10);

/// Symbolic links that are followed, as in Linux.
const MOST_LINKS: usize = 40;

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Watch {
    stop: Sender<Signal>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The thread may be gone already, which is what is wanted.
        let _ = self.stop.send(Signal::Stop);
    }
}

#[derive(Debug)]
enum Signal {
    Touched,
    Stop,
}

/// Calls `changed` from a thread of its own, soon after the content of `file` has changed.
///
/// A file that vanishes is no change; one that comes back with another content is.
pub fn watch(file: &Path, changed: impl FnMut() + Send + 'static) -> std::io::Result<Watch> {
    let file = std::path::absolute(file)?;
    let (stop, signals) = channel();
    let events = stop.clone();
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Our own reading makes events too; to look again because of them would never end.
        if event.map_or(true, |event| is_change(&event.kind)) {
            let _ = events.send(Signal::Touched);
        }
    });
    let watcher = watcher.map_err(std::io::Error::other)?;
    let mut patrol = Patrol {
        seen: fingerprint(&file),
        file,
        watcher,
        watched: BTreeSet::new(),
    };
    patrol.arm();
    let run = move || patrol.run(&signals, changed);
    std::thread::Builder::new()
        .name("config-watch".into())
        .spawn(run)?;
    Ok(Watch { stop })
}

fn is_change(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}

struct Patrol {
    file: PathBuf,
    /// Of the content last read; `None` before there was any.
    seen: Option<u64>,
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
}

impl Patrol {
    fn run(mut self, signals: &Receiver<Signal>, mut changed: impl FnMut()) {
        loop {
            match signals.recv_timeout(PATROL) {
                Ok(Signal::Touched) => {
                    if settle(signals) == Settled::Stop {
                        return;
                    }
                }
                Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            // First the watch, then the look: what happens in between makes an event.
            self.arm();
            let now = fingerprint(&self.file);
            if now.is_some() && now != self.seen {
                self.seen = now;
                changed();
            }
        }
    }

    /// Watches the directories that matter now, and no others.
    fn arm(&mut self) {
        let wanted = directories(&self.file);
        for gone in self.watched.difference(&wanted) {
            let _ = self.watcher.unwatch(gone);
        }
        // Also those watched before: a directory made anew under the same name needs a new watch.
        self.watched = wanted;
        self.watched.retain(|directory| match self.watcher.watch(directory, RecursiveMode::NonRecursive) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(directory = %directory.display(), %error, "can't be watched yet");
                false
            }
        });
    }
}

#[derive(PartialEq)]
enum Settled {
    Quiet,
    Stop,
}

/// Waits until nothing has happened for a while.
fn settle(signals: &Receiver<Signal>) -> Settled {
    let began = Instant::now();
    while began.elapsed() < IMPATIENCE {
        match signals.recv_timeout(QUIET) {
            Ok(Signal::Touched) => {}
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return Settled::Stop,
            Err(RecvTimeoutError::Timeout) => return Settled::Quiet,
        }
    }
    // The rest of a long burst says nothing new.
    while let Ok(signal) = signals.try_recv() {
        match signal {
            Signal::Touched => {}
            Signal::Stop => return Settled::Stop,
        }
    }
    Settled::Quiet
}

/// Returns the directory of the file, and those of every link on the way to it.
fn directories(file: &Path) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    let mut waiting = vec![file.to_path_buf()];
    let mut links = 0;
    while let Some(path) = waiting.pop() {
        for place in path.ancestors() {
            let Some(parent) = place.parent() else {
                continue;
            };
            let is_file = place == path;
            let target = std::fs::read_link(place).ok();
            if is_file || target.is_some() {
                directories.insert(parent.to_path_buf());
            }
            if let Some(target) = target {
                links += 1;
                if links > MOST_LINKS {
                    return directories;
                }
                let rest = path.strip_prefix(place).unwrap_or(Path::new(""));
                let target = parent.join(target);
                waiting.push(if is_file { target } else { target.join(rest) });
            }
        }
    }
    directories
}

/// Returns a number that changes with the content; `None` when there is none to read.
fn fingerprint(file: &Path) -> Option<u64> {
    let text = super::read_text(file).ok()?;
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    Some(hasher.finish())
}
