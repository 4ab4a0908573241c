//! What a scripted backend does with one request: an [`Act`], a list of [`Step`]s, and the common ones by name.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// One thing that the backend does.
#[derive(Debug, Clone)]
pub enum Step {
    /// Reads the head of the request and leaves the body in the socket.
    ReadHead,
    /// Reads what is left of the request.
    Read,
    /// Reads exactly these bytes, which are no HTTP; ends the connection at others.
    Hear(Vec<u8>),
    /// Sends these bytes.
    Write(Vec<u8>),
    /// Waits for the trigger to be pulled, once for each such step.
    Wait(Trigger),
    /// Closes the connection.
    Close,
    /// Resets the connection.
    Reset,
}

/// What the backend does with one request.
pub type Act = Vec<Step>;

/// Holds steps back until a test pulls it.
#[derive(Debug, Clone)]
pub struct Trigger(Arc<Semaphore>);

impl Default for Trigger {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }
}

impl Trigger {
    /// Lets `steps` waiting steps go on, now or when they come.
    pub fn pull(&self, steps: usize) {
        self.0.add_permits(steps);
    }

    /// Lets all go on, for good.
    pub fn release(&self) {
        self.0.close();
    }

    /// Waits for it.
    pub async fn wait(&self) {
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
    }
}

/// Reads the request and answers with a body of known length; `fields` are whole lines without their end.
pub fn answer(status: u16, fields: &[&str], body: impl AsRef<[u8]>) -> Act {
    vec![Step::Read, Step::Write(response(status, fields, body))]
}

/// As [`answer`], once the trigger is pulled.
pub fn answer_when(trigger: &Trigger, status: u16, fields: &[&str], body: impl AsRef<[u8]>) -> Act {
    vec![Step::Read, Step::Wait(trigger.clone()), Step::Write(response(status, fields, body))]
}

/// Reads the request and sends these bytes, whatever they are.
pub fn bytes(bytes: impl AsRef<[u8]>) -> Act {
    vec![Step::Read, Step::Write(bytes.as_ref().to_vec())]
}

/// Resets the connection with the request unread.
pub fn reset_unread() -> Act {
    vec![Step::Reset]
}

/// Reads the whole request and resets the connection: nobody can know whether it was executed.
pub fn reset_after_reading() -> Act {
    vec![Step::Read, Step::Reset]
}

/// Announces `length` bytes, sends this body, and closes.
pub fn truncated(length: usize, body: impl AsRef<[u8]>) -> Act {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    vec![Step::Read, Step::Write([head.as_bytes(), body.as_ref()].concat()), Step::Close]
}

/// Answers byte by byte, one for each pull of the trigger.
pub fn drip(trigger: &Trigger, bytes: impl AsRef<[u8]>) -> Act {
    let drops = bytes.as_ref().iter().flat_map(|byte| [Step::Wait(trigger.clone()), Step::Write(vec![*byte])]);
    std::iter::once(Step::Read).chain(drops).collect()
}

/// The bytes of a response with a body of known length.
pub fn response(status: u16, fields: &[&str], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut head = format!("HTTP/1.1 {status} Reason\r\nContent-Length: {}\r\n", body.len());
    for field in fields {
        head.push_str(field);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}
