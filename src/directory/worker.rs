//! The thread that owns the directory's connection: it reads everything once, looks for what is new, and makes changes.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::session;
use super::store::{self, Outcome};
use super::view::View;
use super::{Ask, Failed, Reply, Signals, seal, token};
use crate::secret::Secret;
use crate::state::Location;
use crate::state::database::{Connection, is_away, within};

/// How long a start waits for the first look.
pub const FIRST_LOOK: Duration = Duration::from_secs(10);
/// Other nodes' changes are looked for this often.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between two tries to reach the database.
const TRY_EVERY: Duration = Duration::from_secs(1);
/// Statements here touch few rows. A server that does not answer one within this is away, and its connection is given up.
const PATIENCE: Duration = Duration::from_secs(4);
/// A file may be written to by another thread or process, for which SQLite waits by itself.
const FILE_PATIENCE: Duration = Duration::from_secs(10);
/// Rows read at a time.
const PAGE: i64 = 1000;

pub struct Worker {
    pub view: Arc<View>,
    pub location: Location,
    pub patience: Duration,
    pub fingerprints: [(&'static str, Secret); 2],
    pub health: Arc<Mutex<Option<String>>>,
    pub signals: Arc<Signals>,
    pub asked: mpsc::Receiver<Ask>,
}

/// Returns how long a statement may take.
pub fn patience(location: &Location) -> Duration {
    match location {
        Location::Dir(_) => FILE_PATIENCE,
        Location::Server(_) => PATIENCE,
    }
}

/// How far the view is.
struct Seen {
    version: i64,
    at: Instant,
}

impl Worker {
    /// Runs until nobody can ask any more. Tells when the first look is over.
    pub fn run(mut self, tell: &Sender<()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        match runtime {
            Ok(runtime) => runtime.block_on(self.serve(tell)),
            Err(error) => {
                *self.health.lock() = Some(format!("its thread can't run: {error}"));
            }
        }
    }

    async fn serve(&mut self, tell: &Sender<()>) {
        let mut seen: Option<Seen> = None;
        loop {
            match self.open(&mut seen).await {
                Ok(mut connection) => {
                    self.well();
                    let _ = tell.send(());
                    match self.work(&mut connection, &mut seen).await {
                        Ok(()) => return,
                        Err(error) => self.ill(error.to_string()),
                    }
                }
                Err(what) => {
                    self.ill(what);
                    // Whoever starts doesn't wait for a database that is away.
                    let _ = tell.send(());
                }
            }
            let pause = tokio::time::sleep(TRY_EVERY);
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    ask = self.asked.recv() => match ask {
                        // Dropped: whoever asks learns that there is no answer.
                        Some(ask) => drop(ask),
                        None => return,
                    },
                }
            }
        }
    }

    /// Connects and brings the view up to date.
    async fn open(&self, seen: &mut Option<Seen>) -> Result<Connection, String> {
        let failed = |error: sqlx::Error| format!("the state database can't be used: {error}");
        if let Location::Dir(dir) = &self.location
            && !dir.exists()
        {
            // The state's own thread makes it, or says why not.
            return Err("state.dir is not there".into());
        }
        let mut connection = self.location.connect().await.map_err(failed)?;
        self.location
            .migrate(&mut connection)
            .await
            .map_err(failed)?;
        for (name, secret) in &self.fingerprints {
            let mine = token::hex(&seal::derive(secret, "strait fingerprint"));
            let kept = store::fingerprint(&mut connection, name, &mine);
            if within(self.patience, kept).await.map_err(failed)? != mine {
                return Err(format!(
                    "the {name} of this node is not that of the others: give all of them the same (state.pepper, state.master_key)"
                ));
            }
        }
        self.look(&mut connection, seen).await.map_err(failed)?;
        Ok(connection)
    }

    async fn work(
        &mut self,
        connection: &mut Connection,
        seen: &mut Option<Seen>,
    ) -> Result<(), sqlx::Error> {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let signals = self.signals.clone();
        loop {
            tokio::select! {
                ask = self.asked.recv() => match ask {
                    Some(ask) => self.answer(ask, connection, seen).await?,
                    None => return Ok(()),
                },
                _ = looks.tick() => self.look(connection, seen).await?,
                () = signals.look.notified() => self.look(connection, seen).await?,
            }
        }
    }

    /// Takes into the view what is new since the last look, or everything.
    async fn look(
        &self,
        connection: &mut Connection,
        seen: &mut Option<Seen>,
    ) -> Result<(), sqlx::Error> {
        let version = within(self.patience, store::version(connection)).await?;
        let known = seen.as_ref().filter(|seen| {
            // What was removed is not remembered for ever.
            let limit = Duration::from_secs(store::REMOVED_FOR.unsigned_abs());
            seen.at.elapsed() < limit && seen.version <= version
        });
        let since = known.map(|seen| seen.version);
        if since == Some(version) {
            *seen = Some(Seen {
                version,
                at: Instant::now(),
            });
            return Ok(());
        }
        let mut gone: std::collections::HashSet<Box<str>> = match since {
            Some(_) => Default::default(),
            None => self.view.ids().into_iter().collect(),
        };
        let mut after = String::new();
        loop {
            let page = store::changed(connection, since.unwrap_or(-1), &after, PAGE);
            let page = within(self.patience, page).await?;
            for object in &page {
                gone.remove(object.id.as_str());
                self.view.put(object);
            }
            match page.last() {
                Some(last) => after.clone_from(&last.id),
                None => break,
            }
        }
        if let Some(since) = since {
            let removed = within(self.patience, store::removed(connection, since)).await?;
            gone.extend(removed.into_iter().map(String::into_boxed_str));
        }
        for id in &gone {
            self.view.remove(id);
        }
        let closed = within(self.patience, store::closed(connection)).await?;
        self.view.load(closed);
        *seen = Some(Seen {
            version,
            at: Instant::now(),
        });
        Ok(())
    }

    /// Does what is asked. Errors: the connection must not be used again.
    async fn answer(
        &self,
        ask: Ask,
        connection: &mut Connection,
        seen: &mut Option<Seen>,
    ) -> Result<(), sqlx::Error> {
        if ask.is_left() {
            // Whoever asked was told that there is no answer: what is done now would come as a surprise.
            return Ok(());
        }
        match ask {
            Ask::Get(id, reply) => {
                let found = within(self.patience, store::get(connection, &id)).await;
                reply_with(reply, found.map(Ok))
            }
            Ask::List(query, reply) => {
                let found = within(self.patience, store::list(connection, &query)).await;
                reply_with(reply, found.map(Ok))
            }
            Ask::Create(new, reply) => {
                let done = within(self.patience, store::create(connection, &new)).await;
                self.changed(reply, done, connection, seen).await
            }
            Ask::Update(change, reply) => {
                let done = within(self.patience, store::update(connection, &change)).await;
                self.changed(reply, done, connection, seen).await
            }
            Ask::Delete {
                id,
                version,
                all,
                reply,
            } => {
                let done =
                    within(self.patience, store::delete(connection, &id, version, all)).await;
                self.changed(reply, done, connection, seen).await
            }
            Ask::OpenSession(new, reply) => {
                let done = within(self.patience, session::open(connection, &new)).await;
                reply_with(reply, done.map(Ok))
            }
            Ask::Session(id, reply) => {
                let found = within(self.patience, session::find(connection, &id)).await;
                reply_with(reply, found.map(Ok))
            }
            Ask::EndSession(id, reply) => {
                let done = within(self.patience, session::end(connection, &id)).await;
                reply_with(reply, done.map(Ok))
            }
            Ask::EndSessions(subject, reply) => {
                let done = session::end_all(connection, subject.as_deref());
                let done = within(self.patience, done).await;
                reply_with(reply, done.map(Ok))
            }
            Ask::NoteUse(id, at) => {
                let noted = within(self.patience, session::note_use(connection, &id, at)).await;
                match noted {
                    Err(error) if is_away(&error) => return Err(error),
                    Err(error) => tracing::warn!(%error, "the use of a token is not noted"),
                    Ok(()) => {}
                }
                Ok(())
            }
            Ask::Uses(ids, reply) => {
                let found = within(self.patience, session::uses(connection, &ids)).await;
                reply_with(reply, found.map(Ok))
            }
        }
    }

    /// Takes a change into the view before whoever asked for it is told.
    async fn changed<T>(
        &self,
        reply: Reply<T>,
        done: Outcome<T>,
        connection: &mut Connection,
        seen: &mut Option<Seen>,
    ) -> Result<(), sqlx::Error> {
        let looked = match &done {
            Ok(Ok(_)) => {
                if let Some(tell) = self.signals.changed.get() {
                    tell();
                }
                self.look(connection, seen).await
            }
            Ok(Err(_)) | Err(_) => Ok(()),
        };
        reply_with(reply, done)?;
        looked
    }

    fn well(&self) {
        if self.health.lock().take().is_some() {
            tracing::info!("the directory of keys is up to date again");
        }
    }

    fn ill(&self, what: String) {
        let mut health = self.health.lock();
        if health.as_ref() != Some(&what) {
            tracing::error!(
                error = what,
                "the directory of keys can't be looked into: what is known stays in force"
            );
        }
        *health = Some(what);
    }
}

fn reply_with<T>(reply: Reply<T>, done: Outcome<T>) -> Result<(), sqlx::Error> {
    // Nobody listens when whoever asked has left.
    match done {
        Ok(Ok(answer)) => drop(reply.send(Ok(answer))),
        Ok(Err(refused)) => drop(reply.send(Err(Failed::Refused(refused)))),
        Err(error) => {
            drop(reply.send(Err(Failed::Away)));
            if is_away(&error) {
                return Err(error);
            }
            tracing::error!(%error, "the state database refused a change of the directory");
        }
    }
    Ok(())
}
