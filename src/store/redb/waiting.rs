//! Answers that wait for the commit, and what the commit makes the store's own.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{
    command::{Append, ClaimedRows, Command, Import, KeptFile, Reply, Step},
    row::Row,
    shared::Shared,
};
use crate::store::{Appended, Position, StoreError};

/// An answer that waits for the commit.
pub(super) enum Waiting {
    Append(Box<Append>, Reply<Appended>, Result<Appended, StoreError>),
    Appended(Reply<Appended>, Result<Appended, StoreError>),
    Import(Box<Import>, Reply<bool>, Result<bool, StoreError>),
    Imported(Reply<bool>, Result<bool, StoreError>),
    Claim(Reply<ClaimedRows>, Vec<(Position, Row)>),
    Done(Reply<()>, Result<(), StoreError>, Option<KeptFile>),
    Step(Reply<Step>, Step),
    Close(oneshot::Sender<()>),
}

impl Waiting {
    /// What was appended is the store's now: its place in order, its room, its file.
    pub(super) fn keep(self) -> Self {
        match self {
            Self::Append(append, reply, result) => {
                let Append { turn, reserved, file, .. } = *append;
                if result.is_ok() {
                    turn.stored();
                    reserved.keep();
                    file.into_iter().for_each(KeptFile::needed);
                }
                Self::Appended(reply, result)
            }
            Self::Import(import, reply, result) => {
                if matches!(result, Ok(true)) {
                    import.stored();
                }
                Self::Imported(reply, result)
            }
            Self::Done(reply, result, file) => {
                file.filter(|_| result.is_ok()).into_iter().for_each(KeptFile::needed);
                Self::Done(reply, result, None)
            }
            other => other,
        }
    }

    /// Answers. Claims that nobody waits for are given back as they are dropped; who has stopped waiting for anything else needs no answer.
    pub(super) fn answer(self, shared: &Arc<Shared>) {
        match self {
            Self::Append(_, reply, result) | Self::Appended(reply, result) => drop(reply.send(result)),
            Self::Import(_, reply, result) | Self::Imported(reply, result) => drop(reply.send(result)),
            Self::Claim(reply, rows) => drop(reply.send(Ok(ClaimedRows::new(shared, rows)))),
            Self::Done(reply, result, _) => drop(reply.send(result)),
            Self::Step(reply, step) => drop(reply.send(Ok(step))),
            Self::Close(reply) => drop(reply.send(())),
        }
    }

    /// Refuses what went down with its batch. Its frame may be on the disk nevertheless, and so the files that it names stay until the next opening, or a reopening, knows.
    pub(super) fn refuse(self, why: &Arc<str>, shared: &Shared) {
        let failed = || StoreError::Failed(Arc::clone(why));
        let doubt = |file: Option<KeptFile>| shared.doubtful_files.lock().extend(file.map(KeptFile::doubtful));
        match self {
            Self::Append(append, reply, _) => {
                let Append { file, .. } = *append;
                doubt(file);
                drop(reply.send(Err(failed())));
            }
            Self::Appended(reply, _) => drop(reply.send(Err(failed()))),
            Self::Import(import, reply, _) => {
                let Import { file, answer, .. } = *import;
                doubt(file);
                doubt(answer.and_then(|answer| answer.file));
                drop(reply.send(Err(failed())));
            }
            Self::Imported(reply, _) => drop(reply.send(Err(failed()))),
            Self::Claim(reply, _) => drop(reply.send(Err(failed()))),
            Self::Done(reply, _, file) => {
                doubt(file);
                drop(reply.send(Err(failed())));
            }
            Self::Step(reply, _) => drop(reply.send(Err(failed()))),
            Self::Close(reply) => drop(reply.send(())),
        }
    }
}

/// Answers a command that was not even tried.
pub(super) fn refuse(command: Command, why: &str) {
    let failed = || StoreError::failed(why);
    match command {
        Command::Append(append, reply) => {
            drop(append);
            let _ = reply.send(Err(failed()));
        }
        Command::Import(_, reply) => drop(reply.send(Err(failed()))),
        Command::Claim(_, reply) => drop(reply.send(Err(failed()))),
        Command::Settle(_, reply) | Command::Cancel(_, _, reply) => drop(reply.send(Err(failed()))),
        Command::Redrive(_, reply) | Command::Discard(_, reply) | Command::Prune(_, reply) => drop(reply.send(Err(failed()))),
        Command::Close(reply) => drop(reply.send(())),
        Command::Nudge => {}
    }
}
