//! Lean: asks for mailboxes over gRPC with as little as will do, so that the server is measured
//! and not whoever asks it.
//!
//! What is sent is whole HTTP/2 (RFC 9113) and gRPC. Of what comes, frames are read, and of an
//! answer its beginning: the address that was asked for.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What a client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

/// Flags of frames.
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Bytes of a frame's head, and of what stands before a message.
const HEAD_BYTES: usize = 9;
const PREFIX_BYTES: usize = 5;

/// All that a connection's window may have, besides what it has at first.
const WINDOW: u32 = 0x7fff_ffff - 65_535;

/// A question on its way.
struct Asked {
    stream: u32,
    address: String,
    at: Instant,
}

/// A connection over which several questions are on their way at once.
pub(crate) struct Lean {
    connection: TcpStream,
    /// The headers of each question, compressed.
    headers: Vec<u8>,
    next_stream: u32,
    asked: Vec<Asked>,
    out: Vec<u8>,
    got: Vec<u8>,
}

impl Lean {
    /// Connects to ask the method with this path.
    pub(crate) async fn connect(listen: SocketAddr, path: &str) -> anyhow::Result<Self> {
        let connection = TcpStream::connect(listen).await.context("connect")?;
        connection.set_nodelay(true)?;
        // POST and http, which have numbers; then texts, which are short.
        let mut headers = vec![0x83, 0x86];
        let authority = listen.to_string();
        let named = [(4, path), (1, authority.as_str())];
        for (name, value) in named {
            headers.push(name);
            text(&mut headers, value)?;
        }
        // The 31st name, in a prefix of four bits.
        headers.extend([0x0f, 31 - 15]);
        text(&mut headers, "application/grpc")?;
        headers.push(0);
        text(&mut headers, "te")?;
        text(&mut headers, "trailers")?;
        let mut out = PREFACE.to_vec();
        frame(&mut out, (SETTINGS, 0), 0, &[])?;
        frame(&mut out, (WINDOW_UPDATE, 0), 0, &WINDOW.to_be_bytes())?;
        let (asked, got) = (Vec::new(), Vec::new());
        Ok(Self { connection, headers, next_stream: 1, asked, out, got })
    }

    /// How many questions are on their way.
    pub(crate) fn under_way(&self) -> usize {
        self.asked.len()
    }

    /// Asks for the mailbox of `address`, as soon as answers are waited for.
    pub(crate) fn ask(&mut self, address: String) -> anyhow::Result<()> {
        let stream = self.next_stream;
        self.next_stream += 2;
        frame(&mut self.out, (HEADERS, END_HEADERS), stream, &self.headers)?;
        let message = begins(&address)?;
        let length = u32::try_from(message.len())?;
        let mut data = vec![0];
        data.extend(length.to_be_bytes());
        data.extend(message);
        frame(&mut self.out, (DATA, END_STREAM), stream, &data)?;
        self.asked.push(Asked { stream, address, at: Instant::now() });
        Ok(())
    }

    /// Waits for answers; the nanoseconds that each took.
    pub(crate) async fn answers(&mut self) -> anyhow::Result<Vec<u32>> {
        let mut took = Vec::new();
        while took.is_empty() {
            self.connection.write_all(&self.out).await?;
            self.out.clear();
            ensure!(self.connection.read_buf(&mut self.got).await? > 0, "it hangs up");
            let mut read = 0;
            while let Some((kind, flags, stream, body)) = next(&self.got, &mut read) {
                let at = self.asked.iter().position(|it| it.stream == stream);
                match (kind, at) {
                    (DATA, Some(at)) => {
                        let address = self.asked.get(at).map(|it| it.address.as_str());
                        let told = body.get(PREFIX_BYTES..).unwrap_or_default();
                        let begins = begins(address.unwrap_or_default())?;
                        // An empty call's answer is empty.
                        ensure!(told.is_empty() || told.starts_with(&begins), "another");
                    }
                    (HEADERS, Some(at)) if flags & END_STREAM != 0 => {
                        let nanos = self.asked.swap_remove(at).at.elapsed().as_nanos();
                        took.push(u32::try_from(nanos).unwrap_or(u32::MAX));
                    }
                    (SETTINGS | PING, _) if flags & ACK == 0 => {
                        let body = if kind == PING { body } else { &[] };
                        frame(&mut self.out, (kind, ACK), 0, body)?;
                    }
                    (RST_STREAM | GOAWAY, _) => bail!("it refuses: {body:?}"),
                    _ => {}
                }
            }
            self.got.drain(..read);
        }
        Ok(took)
    }
}

/// How a message with this text as its first field begins: what asks for a mailbox, and what
/// tells of it.
fn begins(address: &str) -> anyhow::Result<Vec<u8>> {
    let mut message = vec![1 << 3 | 2];
    text(&mut message, address)?;
    Ok(message)
}

/// A text with its length, as both HPACK and protobuf have short ones.
fn text(to: &mut Vec<u8>, text: &str) -> anyhow::Result<()> {
    let length = u8::try_from(text.len()).ok().filter(|length| *length < 0x7f);
    to.push(length.context("the text is too long")?);
    to.extend(text.as_bytes());
    Ok(())
}

fn frame(
    to: &mut Vec<u8>,
    (kind, flags): (u8, u8),
    stream: u32,
    body: &[u8],
) -> anyhow::Result<()> {
    let length = u32::try_from(body.len())?.to_be_bytes();
    to.extend(length.iter().skip(1));
    to.extend([kind, flags]);
    to.extend(stream.to_be_bytes());
    to.extend(body);
    Ok(())
}

/// The frame that begins at `read`, if all of it has come: its kind, flags, stream and body.
fn next<'a>(got: &'a [u8], read: &mut usize) -> Option<(u8, u8, u32, &'a [u8])> {
    let rest = got.get(*read..)?;
    let &[a, b, c, kind, flags, s0, s1, s2, s3] = rest.first_chunk::<HEAD_BYTES>()?;
    let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?;
    let body = rest.get(HEAD_BYTES..HEAD_BYTES + length)?;
    *read += HEAD_BYTES + length;
    Some((kind, flags, u32::from_be_bytes([s0, s1, s2, s3]), body))
}
