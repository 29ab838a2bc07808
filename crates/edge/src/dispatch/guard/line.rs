//! The bytes of a worker's guard line, both ways.
//!
//! Owns the socket and what a wrong word on it means: the line is closed, which is logged, and the worker goes on without
//! a guard. Its end without one is the worker's own, and says nothing: that it is lost, its channel tells. Frames are at
//! most `FRAME_MAX` bytes, so the decoder is; descriptors are not taken.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use bandstand_wire::{Decoder, Kind, WireError};
use rustix::net::RecvFlags;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use super::super::channel::send;
use super::super::outlet::{Line, Outbox};
use super::super::pool::Pool;

/// Serves a guard line until it ends, and then never returns: its worker is served on without it.
pub(crate) async fn run_guard(
    pool: &Pool,
    number: u32,
    socket: Option<UnixStream>,
    writer: &Notify,
) -> io::Result<()> {
    if let Some(socket) = socket {
        let result = serve(pool, number, socket, writer).await;
        pool.guard_closed(number);
        if let Err(error) = result {
            tracing::error!(
                worker = number,
                %error,
                "the worker's guard line was closed: it tells no stacks any more"
            );
        }
    }
    std::future::pending().await
}

async fn serve(pool: &Pool, number: u32, socket: UnixStream, writer: &Notify) -> io::Result<()> {
    let socket = bandstand_supervisor::watch_channel(socket)?;
    pool.guard_opened(number);
    tokio::select! {
        result = read(pool, number, &socket) => result,
        result = write(pool, number, &socket, writer) => result,
    }
}

async fn read(pool: &Pool, number: u32, socket: &AsyncFd<UnixStream>) -> io::Result<()> {
    let invalid = |error: WireError| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut decoder = Decoder::default();
    loop {
        let mut ready = socket.readable().await?;
        match rustix::net::recv(socket.get_ref(), decoder.space(), RecvFlags::DONTWAIT) {
            Ok((0, _)) | Err(rustix::io::Errno::CONNRESET) => return Ok(()),
            Ok((read, _)) => decoder.advance(read),
            Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        while let Some(frame) = decoder.next().map_err(invalid)? {
            if frame.header.kind != Kind::Stack {
                return Err(invalid(WireError::OutOfSequence("on the guard line")));
            }
            pool.on_stack(number, frame.header, frame.payload, Instant::now()).map_err(invalid)?;
        }
    }
}

async fn write(pool: &Pool, number: u32, socket: &AsyncFd<UnixStream>, writer: &Notify) -> io::Result<()> {
    let mut outbox = Outbox::default();
    loop {
        writer.notified().await;
        outbox.bytes.clear();
        pool.take_outbox(number, Line::Guard, &mut outbox);
        if !send(socket, &mut outbox).await? {
            return Ok(());
        }
    }
}
