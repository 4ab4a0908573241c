//! From commands to verbs: the bytes of a batch, put where they will lie, and then what is done with each command.

use std::{io, sync::Arc};

use super::{
    command::{Command, End, Settle},
    row::Location,
    segments::Record,
    waiting::Waiting,
    work::Work,
};
use crate::{envelope::RequestId, store::StoreError};

/// Where the bytes of a command were put.
#[derive(Default)]
struct Staged {
    own: Option<Location>,
    head: Option<Location>,
}

/// Why nothing was staged.
enum StageError {
    Database(::redb::Error),
    Log(Arc<str>),
}

impl From<io::Error> for StageError {
    fn from(error: io::Error) -> Self {
        Self::Log(error.to_string().into())
    }
}

impl Work<'_, '_> {
    /// Notes the requests that commands add, before any is: nobody is told of them yet. How many.
    pub(super) fn doubt(&mut self, batch: &[Command]) -> usize {
        let known = self.doubtful.len();
        self.doubtful.extend(batch.iter().filter_map(Command::adds));
        self.doubtful.len() - known
    }

    /// Does what commands say, as far as they can be done. Where the bytes of none of them could be staged, why.
    pub(super) fn do_all(&mut self, batch: &mut Vec<Command>, waiting: &mut Vec<Waiting>) -> Result<Option<Arc<str>>, ::redb::Error> {
        let (now, mark) = (self.shared.clock.now(), self.log.mark());
        self.shared.index.lock().advance(now);
        let (staged, no_payload) = match stage(self, batch) {
            Ok(staged) => (staged, None),
            Err(StageError::Database(error)) => return Err(error),
            Err(StageError::Log(why)) => {
                self.log.forget_since(&mark);
                (Vec::new(), Some(why))
            }
        };
        let mut staged = staged.into_iter();
        for command in batch.drain(..) {
            let staged = staged.next().unwrap_or_default();
            waiting.extend(apply(self, command, &staged, no_payload.as_deref())?);
        }
        Ok(no_payload)
    }
}

/// Stages the bytes of a batch.
fn stage(work: &mut Work<'_, '_>, batch: &[Command]) -> Result<Vec<Staged>, StageError> {
    let mut all = Vec::with_capacity(batch.len());
    for command in batch {
        let mut staged = Staged::default();
        match command {
            Command::Append(append, _) => staged.own = Some(work.log.stage(&append.record)?),
            Command::Import(import, _) => {
                staged.own = Some(work.log.stage(&import.record)?);
                staged.head = import.answer.as_ref().map(|answer| work.log.stage(&answer.record)).transpose()?;
            }
            Command::Settle(Settle { id, end, answer, .. }, _) => {
                if let Some(answer) = answer {
                    staged.own = Some(work.log.stage(&answer.record)?);
                }
                if matches!(end, End::Delivered) {
                    staged.head = stage_head(work, *id)?;
                }
            }
            Command::Cancel(id, ..) => staged.head = stage_head(work, *id)?,
            _ => {}
        }
        all.push(staged);
    }
    Ok(all)
}

/// The head of a request whose body is let go, in a record of its own, so that the segment of the body can go too.
fn stage_head(work: &mut Work<'_, '_>, id: RequestId) -> Result<Option<Location>, StageError> {
    let Some((_, row)) = work.tables.find(id).map_err(StageError::Database)? else { return Ok(None) };
    if row.request.body == 0 {
        return Ok(None);
    }
    // A damaged head stays where it is, to be found damaged by whoever asks.
    let Ok(head) = work.shared.readers.head(id, row.request) else { return Ok(None) };
    let Some(record) = Record::new(id, &head, &[]) else { return Ok(None) };
    Ok(Some(work.log.stage(&record)?))
}

/// Does what a command says.
fn apply(work: &mut Work<'_, '_>, command: Command, staged: &Staged, no_payload: Option<&str>) -> Result<Option<Waiting>, ::redb::Error> {
    Ok(Some(match command {
        Command::Append(mut append, reply) => {
            let result = match staged.own {
                Some(at) => work.append(&mut append, at)?,
                None => Err(StoreError::failed(no_payload.unwrap_or("its payload was not written"))),
            };
            Waiting::Append(append, reply, result)
        }
        Command::Import(mut import, reply) => {
            let result = match staged.own {
                Some(at) => work.import(&mut import, at, staged.head)?,
                None => Err(StoreError::failed(no_payload.unwrap_or("its payload was not written"))),
            };
            Waiting::Import(import, reply, result)
        }
        Command::Claim(claim, reply) => Waiting::Claim(reply, work.claim(&claim)?),
        Command::Settle(mut settle, reply) => {
            let result = work.settle(&mut settle, staged.own, staged.head)?;
            let file = settle.answer.and_then(|answer| answer.file).filter(|_| staged.own.is_some());
            Waiting::Done(reply, result, file)
        }
        Command::Cancel(id, at, reply) => Waiting::Done(reply, work.cancel(id, at, staged.head)?, None),
        Command::Redrive(dead, reply) => Waiting::Step(reply, work.redrive(&dead)?),
        Command::Discard(dead, reply) => Waiting::Step(reply, work.discard(&dead)?),
        Command::Prune(now, reply) => Waiting::Step(reply, work.prune(now)?),
        Command::Close(reply) => Waiting::Close(reply),
        Command::Nudge => return Ok(None),
    }))
}
