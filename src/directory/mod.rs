//! Who asks, where that is not written in the configuration: organisations, teams, projects, users and keys, with the
//! rules, limits and budgets attached to them, and providers' credentials. They are in the state database; requests
//! see a view in memory.
//!
//! One thread owns the connection: it makes the changes that the administration API asks for, and looks twice a second
//! whether another node has made some, so that a change is in force on every node within a second; where nodes tell
//! each other (`state.redis`), at once. While the database
//! is away the view stays in force as it was, and changes are refused. A node that could never read it refuses keys of
//! the directory as unready, and serves those of the configuration.

pub mod policy;
pub mod role;
pub mod schema;
pub mod seal;
pub mod session;
pub mod store;
pub mod token;
pub mod view;
mod worker;

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::provider::Credential;
use crate::secret::{self, Secret};
use crate::state::{FILE, Location};
use seal::Sealer;
use session::Session;
use store::{Change, New, Object, Query, Refused};
pub use view::{Found, View};

/// The files in `state.dir` that hold what the configuration doesn't say.
pub const PEPPER: &str = "pepper";
pub const MASTER: &str = "master-key";

/// Changes that may wait.
const MOST_WAITING: usize = 256;
/// A token's use is noted once in so many seconds.
const NOTE_EVERY: i64 = 60;
/// Who asks waits so much longer than the thread does for the database.
const MARGIN: Duration = Duration::from_secs(1);

/// What the directory is opened with.
#[derive(Debug, Clone)]
pub struct Settings {
    pub location: Location,
    /// Keys are hashed with it. All nodes of one database must have the same.
    pub pepper: Secret,
    /// Credentials are sealed with it.
    pub master: Secret,
    /// Nobody is served without a key, whether there is one yet or not.
    pub required: bool,
}

/// The directory. Clones share it.
#[derive(Clone)]
pub struct Directory {
    view: Arc<View>,
    sealer: Arc<Sealer>,
    /// For what browsers keep while somebody signs in.
    tickets: Arc<Sealer>,
    /// When the use of each user's token was last noted.
    uses: Arc<DashMap<Box<str>, i64>>,
    health: Arc<Mutex<Option<String>>>,
    asks: mpsc::Sender<Ask>,
    /// Nobody waits longer, for a change or for what is there.
    patience: Duration,
    signals: Arc<Signals>,
}

/// Between this node's directory and those of the others.
#[derive(Default)]
struct Signals {
    /// Another node has changed something.
    look: Notify,
    /// Called when this one has.
    changed: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// Why an ask has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    Refused(Refused),
    /// The database is away, or too slow.
    Away,
}

type Reply<T> = oneshot::Sender<Result<T, Failed>>;

/// What the thread is asked to do.
enum Ask {
    Get(String, Reply<Option<Object>>),
    List(Query, Reply<Vec<Object>>),
    Create(New, Reply<Object>),
    Update(Change, Reply<Object>),
    Delete {
        id: String,
        version: Option<i64>,
        all: bool,
        reply: Reply<u64>,
    },
    OpenSession(Box<Session>, Reply<()>),
    Session(String, Reply<Option<Session>>),
    EndSession(String, Reply<()>),
    EndSessions(Option<String>, Reply<u64>),
    NoteUse(String, i64),
    Uses(Vec<String>, Reply<Vec<Option<i64>>>),
}

impl Ask {
    /// Returns whether nobody waits for the answer any more.
    fn is_left(&self) -> bool {
        match self {
            Ask::Get(_, reply) => reply.is_closed(),
            Ask::List(_, reply) => reply.is_closed(),
            Ask::Create(_, reply) | Ask::Update(_, reply) => reply.is_closed(),
            Ask::Delete { reply, .. } | Ask::EndSessions(_, reply) => reply.is_closed(),
            Ask::OpenSession(_, reply) | Ask::EndSession(_, reply) => reply.is_closed(),
            Ask::Session(_, reply) => reply.is_closed(),
            Ask::NoteUse(..) => false,
            Ask::Uses(_, reply) => reply.is_closed(),
        }
    }
}

impl Directory {
    /// Starts its thread, and waits a moment for the first look.
    pub fn start(settings: Settings) -> Self {
        let Settings {
            location,
            pepper,
            master,
            required,
        } = settings;
        let view = Arc::new(View::new(&seal::derive(&pepper, "strait keys"), required));
        // Until it is known that there is nobody to be kept out, everybody without a key is.
        let may_hold = match &location {
            Location::Dir(dir) => dir.join(FILE).exists(),
            Location::Server(_) => true,
        };
        if may_hold {
            view.close();
        }
        let (asks, asked) = mpsc::channel(MOST_WAITING);
        let directory = Self {
            view: view.clone(),
            sealer: Arc::new(Sealer::new(&master)),
            tickets: Arc::new(Sealer::of(&master, "strait sign-in")),
            uses: Arc::default(),
            health: Arc::default(),
            asks,
            patience: worker::patience(&location) + MARGIN,
            signals: Arc::default(),
        };
        let worker = worker::Worker {
            view,
            patience: worker::patience(&location),
            location,
            fingerprints: [("pepper", pepper), ("master-key", master)],
            health: directory.health.clone(),
            signals: directory.signals.clone(),
            asked,
        };
        let (tell, looked) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("directory".into())
            .spawn(move || worker.run(&tell));
        match thread {
            Ok(_) => {
                let _ = looked.recv_timeout(worker::FIRST_LOOK);
            }
            Err(error) => {
                *directory.health.lock() = Some(format!("its thread can't be started: {error}"));
            }
        }
        directory
    }

    /// Has `tell` called after each change that is made here.
    pub fn on_change(&self, tell: impl Fn() + Send + Sync + 'static) {
        // Set once, before the first request.
        let _ = self.signals.changed.set(Box::new(tell));
    }

    /// Looks at once whether another node has changed something.
    pub fn look(&self) {
        self.signals.look.notify_one();
    }

    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Returns the credentials that can be opened here, with the providers that they are for.
    pub fn credentials(&self) -> Vec<(Box<str>, Credential)> {
        let opened = |stored: &Arc<view::Credential>| {
            let Some(key) = self.sealer.open(&stored.id, &stored.sealed) else {
                tracing::error!(
                    id = &*stored.id,
                    "a credential was sealed with another state.master_key: it is not used"
                );
                return None;
            };
            let credential = Credential {
                name: stored.name.to_string(),
                key,
                weight: stored.weight,
            };
            Some((stored.provider.clone(), credential))
        };
        self.view.credentials().iter().filter_map(opened).collect()
    }

    pub fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    pub fn tickets(&self) -> &Sealer {
        &self.tickets
    }

    /// Returns what is wrong, if anything is.
    pub fn health(&self) -> Option<String> {
        self.health.lock().clone()
    }

    pub async fn get(&self, id: &str) -> Result<Option<Object>, Failed> {
        self.ask(|reply| Ask::Get(id.to_owned(), reply)).await
    }

    pub async fn list(&self, query: Query) -> Result<Vec<Object>, Failed> {
        self.ask(|reply| Ask::List(query, reply)).await
    }

    /// Makes an object. It is in force here when this returns.
    pub async fn create(&self, new: New) -> Result<Object, Failed> {
        self.ask(|reply| Ask::Create(new, reply)).await
    }

    pub async fn update(&self, change: Change) -> Result<Object, Failed> {
        self.ask(|reply| Ask::Update(change, reply)).await
    }

    /// Deletes an object with what is attached to it, with `all` also what belongs to it; returns how many went.
    pub async fn delete(&self, id: &str, version: Option<i64>, all: bool) -> Result<u64, Failed> {
        let id = id.to_owned();
        self.ask(|reply| Ask::Delete {
            id,
            version,
            all,
            reply,
        })
        .await
    }

    pub async fn open_session(&self, session: Session) -> Result<(), Failed> {
        self.ask(|reply| Ask::OpenSession(Box::new(session), reply))
            .await
    }

    /// Returns the session of a token, unless it is over.
    pub async fn session(&self, presented: &str) -> Result<Option<Session>, Failed> {
        let Some(public) = token::public_of(token::SESSION, presented) else {
            return Ok(None);
        };
        let digest = self.view.digest(presented);
        let id = String::from_utf8_lossy(&public).into_owned();
        let found = self.ask(|reply| Ask::Session(id, reply)).await?;
        Ok(found.filter(|found| found.digest.is(&digest)))
    }

    pub async fn end_session(&self, id: &str) -> Result<(), Failed> {
        let id = id.to_owned();
        self.ask(|reply| Ask::EndSession(id, reply)).await
    }

    /// Ends the sessions of whoever the identity provider names so, or all of them; returns how many.
    pub async fn end_sessions(&self, subject: Option<String>) -> Result<u64, Failed> {
        self.ask(|reply| Ask::EndSessions(subject, reply)).await
    }

    /// Notes that a user's token is used, without waiting for it; a busy database may miss one.
    pub fn note_use(&self, id: &str) {
        let now = jiff::Timestamp::now().as_second();
        if self.uses.get(id).is_some_and(|at| now < *at + NOTE_EVERY) {
            return;
        }
        if self.asks.try_send(Ask::NoteUse(id.to_owned(), now)).is_ok() {
            self.uses.insert(id.into(), now);
        }
    }

    /// Returns when the tokens of users were last used, in the order of their ids here.
    pub async fn uses(&self, ids: Vec<String>) -> Result<Vec<Option<i64>>, Failed> {
        self.ask(|reply| Ask::Uses(ids, reply)).await
    }

    async fn ask<T>(&self, ask: impl FnOnce(Reply<T>) -> Ask) -> Result<T, Failed> {
        let (reply, answered) = oneshot::channel();
        if self.asks.try_send(ask(reply)).is_err() {
            return Err(Failed::Away);
        }
        match tokio::time::timeout(self.patience, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Failed::Away),
        }
    }
}

/// Returns a secret of this node: what the configuration says, or what was made at the first start and is kept in the
/// state directory, for nobody else to read.
pub fn secret_of(dir: &Path, name: &str, configured: Option<&Secret>) -> std::io::Result<Secret> {
    if let Some(secret) = configured {
        return Ok(secret.clone());
    }
    let path = dir.join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok(Secret::new(text.trim())),
        Ok(_) => {
            let what = format!("{name} in state.dir is empty");
            return Err(std::io::Error::other(what));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    std::fs::create_dir_all(dir)?;
    secret::make(&path)
}
