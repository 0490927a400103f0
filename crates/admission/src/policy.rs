//! Policy: Postfix's question whether it may take mail for a recipient.
//!
//! The alternative to keeping the mail of held mailboxes in the own queue: it is left with
//! the senders. A request is lines `name=value` and an empty line. Postfix is told to ask by
//! `check_policy_service inet:127.0.0.1:10393` in `smtpd_recipient_restrictions`.
//!
//! # Invariants
//!
//! * Nothing is ever refused for good and nothing is ever permitted: answers are "later" and
//!   "no opinion", so that all other restrictions of the site hold as before.
//! * Only recipients are judged: at any other stage there is no opinion.
//! * Whoever does not speak the protocol is cut off without an answer.

use std::future::Future;
use std::io;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::connection::{Connection, Limits, each_caller};
use crate::serve::ServeError;
use crate::transport::{Next, Transport, mailbox_address};

/// No opinion.
const DUNNO: &str = "DUNNO";

/// Says 450, unless another restriction refuses the recipient anyway.
const HELD: &str =
    "DEFER_IF_PERMIT 4.2.1 Mailbox is being restored, please try again later";

const UNKNOWN: &str = "451 4.3.5 Mailbox state is not known, try again later";

/// Answers on `listener` until `stop` is done, and then hangs up.
///
/// # Errors
///
/// [`ServeError`] before the first connection is accepted; never later.
pub async fn serve(
    listener: TcpListener,
    transport: Arc<dyn Transport>,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    each_caller(Limits::POSTFIX, listener, stop, move |connection| {
        talk(connection, Arc::clone(&transport))
    })
    .await
}

async fn talk(connection: Connection, transport: Arc<dyn Transport>) -> io::Result<()> {
    let mut caller = BufReader::new(connection);
    while let Some(request) = request(&mut caller).await? {
        let action = action(&request, transport.as_ref());
        let answer = format!("action={action}\n\n");
        caller.get_mut().write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

/// What matters of one request.
#[derive(Debug, Default)]
struct Request {
    is_policy: bool,
    is_recipient: bool,
    recipient: Option<String>,
}

/// The next request; nothing once the caller has hung up between two. The connection's own
/// limit bounds it.
async fn request(caller: &mut BufReader<Connection>) -> io::Result<Option<Request>> {
    let mut request = Request::default();
    let mut line = Vec::new();
    let mut first = true;
    loop {
        line.clear();
        if caller.read_until(b'\n', &mut line).await? == 0 && first {
            return Ok(None);
        }
        first = false;
        let line = line.strip_suffix(b"\n").ok_or(io::ErrorKind::InvalidData)?;
        if line.is_empty() {
            return Ok(Some(request));
        }
        let equals = line.iter().position(|byte| *byte == b'=');
        let (name, value) = line.split_at(equals.ok_or(io::ErrorKind::InvalidData)?);
        let value = value.get(1..).unwrap_or_default();
        match name {
            b"request" => request.is_policy = value == b"smtpd_access_policy",
            b"protocol_state" => request.is_recipient = value == b"RCPT",
            // Addresses in other encodings belong to nobody here.
            b"recipient" => {
                request.recipient = str::from_utf8(value).ok().map(Into::into);
            }
            _ => {}
        }
    }
}

fn action(request: &Request, transport: &dyn Transport) -> &'static str {
    let recipient = request.recipient.as_deref().and_then(mailbox_address);
    let Some(recipient) = recipient.filter(|_| request.is_policy && request.is_recipient)
    else {
        return DUNNO;
    };
    match transport.transport(&recipient) {
        Next::Hold(_) => HELD,
        Next::Unknown => UNKNOWN,
        Next::Deliver(_) | Next::NotOurs => DUNNO,
    }
}
