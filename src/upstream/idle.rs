//! Bare connections between two requests.
//!
//! Pingora's own pool starts a task for each connection that rests, which costs more than the rest of a reuse does.
//! Here they rest on stacks, and are looked after from time to time: see [`Idle::sweep`].

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Instant;

use parking_lot::Mutex;
use pingora::protocols::Stream;
use tokio::io::{AsyncRead, ReadBuf};

/// Connections that rest, by the address that they lead to.
///
/// Each thread has a stack of its own, so that a connection stays with the thread whose events wake it; a thread
/// whose own is empty takes from the others.
pub struct Idle {
    stacks: Box<[Mutex<Stacks>]>,
    count: AtomicUsize,
    most: usize,
}

type Stacks = HashMap<SocketAddr, Vec<Resting>>;

struct Resting {
    stream: Stream,
    until: Instant,
}

/// Threads that have a stack of their own; more share them.
const MOST_STACKS: usize = 64;

static THREADS: AtomicUsize = AtomicUsize::new(0);
thread_local! {
    static THREAD: usize = THREADS.fetch_add(1, Ordering::Relaxed);
}

impl Idle {
    /// Room for `most` connections; one more is closed instead of kept.
    pub fn new(most: usize) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let stacks = (0..threads.min(MOST_STACKS)).map(|_| Mutex::default());
        Self {
            stacks: stacks.collect(),
            count: AtomicUsize::new(0),
            most,
        }
    }

    /// Takes a connection to `address` that its other side has not closed, the one that rested shortest first.
    pub fn take(&self, address: &SocketAddr) -> Option<Stream> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let own = THREAD.with(|thread| thread % self.stacks.len());
        let others = self.stacks.iter().cycle().skip(own);
        for stacks in others.take(self.stacks.len()) {
            loop {
                let taken = stacks.lock().get_mut(address).and_then(Vec::pop);
                let Some(mut resting) = taken else { break };
                self.count.fetch_sub(1, Ordering::Relaxed);
                if is_quiet(&mut resting.stream) {
                    return Some(resting.stream);
                }
            }
        }
        None
    }

    /// Keeps a connection until then. Nothing may be left to be read from it.
    pub fn put(&self, address: SocketAddr, stream: Stream, until: Instant) {
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let own = THREAD.with(|thread| thread % self.stacks.len());
        let mut stacks = self.stacks[own].lock();
        let resting = Resting { stream, until };
        stacks.entry(address).or_default().push(resting);
    }

    /// Closes what has rested long enough, and what the other side has closed.
    pub fn sweep(&self, now: Instant) {
        for stacks in &self.stacks {
            let mut gone = Vec::new();
            stacks.lock().retain(|_, stack| {
                let closed = stack.extract_if(.., |resting| {
                    resting.until <= now || !is_quiet(&mut resting.stream)
                });
                gone.extend(closed);
                !stack.is_empty()
            });
            self.count.fetch_sub(gone.len(), Ordering::Relaxed);
            // Closed outside the lock.
            drop(gone);
        }
    }
}

/// Returns whether a connection has neither ended nor said anything: a server that speaks unasked is not understood.
fn is_quiet(stream: &mut Stream) -> bool {
    let mut room = [0; 1];
    let reading = std::future::poll_fn(|context| {
        let mut room = ReadBuf::new(&mut room);
        std::pin::Pin::new(&mut *stream).poll_read(context, &mut room)
    });
    // Unconstrained: a task that has used up its turn would find every connection quiet.
    let reading = pin!(tokio::task::unconstrained(reading));
    reading
        .poll(&mut Context::from_waker(Waker::noop()))
        .is_pending()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pingora::protocols::l4::stream::Stream as L4;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn connected() -> (SocketAddr, Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let near = TcpStream::connect(address).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        (address, Box::new(L4::from(near)), far)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(600)
    }

    /// Waits until the other side's doing has been seen.
    async fn until(mut seen: impl FnMut() -> bool) {
        for _ in 0..1000 {
            if seen() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("not seen");
    }

    #[tokio::test]
    async fn a_connection_is_used_again_and_once() {
        let idle = Idle::new(8);
        let (address, near, _far) = connected().await;
        assert!(idle.take(&address).is_none());
        idle.put(address, near, soon());
        assert!(idle.take(&([127, 0, 0, 1], 1).into()).is_none());
        assert!(idle.take(&address).is_some());
        assert!(idle.take(&address).is_none());
    }

    #[tokio::test]
    async fn what_was_closed_or_speaks_unasked_is_not_used_again() {
        for says in [&b""[..], b"HTTP/1.1 408 Request Timeout\r\n\r\n"] {
            let idle = Idle::new(8);
            let (address, near, mut far) = connected().await;
            idle.put(address, near, soon());
            far.write_all(says).await.unwrap();
            drop(far);
            until(|| {
                idle.sweep(Instant::now());
                idle.count.load(Ordering::Relaxed) == 0
            })
            .await;
            assert!(idle.take(&address).is_none());
        }
    }

    #[tokio::test]
    async fn another_thread_finds_it_too() {
        let idle = std::sync::Arc::new(Idle::new(8));
        let (address, near, _far) = connected().await;
        idle.put(address, near, soon());
        let other = idle.clone();
        let found = std::thread::spawn(move || other.take(&address).is_some());
        assert!(found.join().unwrap());
    }

    #[tokio::test]
    async fn more_than_there_is_room_for_are_closed_and_so_is_what_rested_long() {
        let idle = Idle::new(2);
        let mut far = Vec::new();
        let mut addresses = Vec::new();
        for _ in 0..3 {
            let (address, near, other) = connected().await;
            idle.put(address, near, soon());
            far.push(other);
            addresses.push(address);
        }
        assert_eq!(idle.count.load(Ordering::Relaxed), 2);
        assert!(idle.take(&addresses[2]).is_none());
        idle.sweep(soon() + Duration::from_secs(1));
        assert!(idle.take(&addresses[0]).is_none());
        assert_eq!(idle.count.load(Ordering::Relaxed), 0);
    }
}
