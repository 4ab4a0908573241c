//! Writes the lines of an export.

use std::io::{self, Write};

use super::{Data, Line, PIECE, Part, PieceLine, RequestLine, Whole};
use crate::store::{Filter, Payload, redb::ClosedStore};

/// Most damaged requests that are named.
const NAMED: usize = 100;

/// What was exported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exported {
    /// Requests.
    pub requests: u64,
    /// Requests that were left out because their stored bytes are damaged.
    pub damaged: u64,
    /// What is damaged of the first hundred of them.
    pub named: Vec<String>,
}

/// Why an export came to an early end.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store cannot be read on.
    #[error("the store cannot be read: {0}")]
    Read(#[from] ::redb::Error),
    /// The lines cannot be written.
    #[error("the export cannot be written: {0}")]
    Write(#[from] io::Error),
}

/// Writes every request that `filter` means, in the order in which they came. Memory stays flat, whatever the size of the store and of its bodies.
pub fn export(store: &ClosedStore, filter: &Filter, out: &mut dyn Write) -> Result<Exported, ExportError> {
    let mut exported = Exported::default();
    store.each(filter, |found| {
        // A body in a file is read once to see whether it is whole, before the line of its request is written.
        let formed = found.and_then(|whole| {
            let damaged = |what, error| format!("the {what} of request {} cannot be read: {error}", whole.envelope.id);
            let body = whole.body.as_ref().map(is_text).transpose().map_err(|error| damaged("body", error))?;
            let answer =
                whole.answer.as_ref().map(|answer| is_text(&answer.payload)).transpose().map_err(|error| damaged("answer", error))?;
            Ok((whole, body, answer))
        });
        match formed {
            Ok((whole, body, answer)) => {
                exported.requests += 1;
                write_request(&whole, body.unwrap_or_default(), answer.unwrap_or_default(), out)
            }
            Err(why) => {
                exported.damaged += 1;
                if exported.named.len() < NAMED {
                    exported.named.push(why);
                }
                Ok(())
            }
        }
    })?;
    out.flush()?;
    Ok(exported)
}

fn write_request(whole: &Whole, body_is_text: bool, answer_is_text: bool, out: &mut dyn Write) -> io::Result<()> {
    let answer = whole.answer.as_ref().map(|answer| &answer.payload);
    let parts = [(Part::Body, whole.body.as_ref(), body_is_text), (Part::Answer, answer, answer_is_text)];
    let [body, answer] = parts.map(|(_, payload, text)| payload.map(|payload| short(payload, text)).transpose());
    write_line(&Line::Request(Box::new(RequestLine::new(whole, body?, answer?))), out)?;
    for (part, payload, text) in parts {
        let Some(payload) = payload.filter(|payload| payload.len() > PIECE as u64) else { continue };
        pieces(payload, text, |bytes| {
            let of = whole.envelope.id.to_string();
            write_line(&Line::Piece(PieceLine { of, part, data: Data::new(bytes, text) }), out)
        })?;
    }
    Ok(())
}

fn write_line(line: &Line, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

/// What stands in the line of the request.
fn short(payload: &Payload, text: bool) -> io::Result<Data> {
    if payload.len() > PIECE as u64 {
        return Ok(Data::Follows(payload.len()));
    }
    let mut all = Vec::new();
    payload.each(|bytes| {
        all.extend_from_slice(bytes);
        Ok(())
    })?;
    Ok(Data::new(&all, text))
}

/// Hands over a body in pieces that depend on nothing but its bytes. Those of a text end between two characters.
fn pieces(payload: &Payload, text: bool, mut put: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer: Vec<u8> = Vec::new();
    payload.each(|bytes| {
        buffer.extend_from_slice(bytes);
        let mut done = 0;
        while buffer.len() - done > PIECE {
            let mut end = done + PIECE;
            while text && buffer[end] & 0xc0 == 0x80 {
                end -= 1;
            }
            put(&buffer[done..end])?;
            done = end;
        }
        buffer.drain(..done);
        Ok(())
    })?;
    if buffer.is_empty() { Ok(()) } else { put(&buffer) }
}

/// Whether a body is UTF-8. Reads all of it, and fails where it does not match its checksum.
fn is_text(payload: &Payload) -> io::Result<bool> {
    let (mut text, mut cut) = (true, Vec::new());
    payload.each(|bytes| {
        if !text {
            return Ok(());
        }
        cut.extend_from_slice(bytes);
        match std::str::from_utf8(&cut) {
            Ok(_) => cut.clear(),
            // The last character goes on in the next piece.
            Err(error) if error.error_len().is_none() => drop(cut.drain(..error.valid_up_to())),
            Err(_) => text = false,
        }
        Ok(())
    })?;
    Ok(text && cut.is_empty())
}
