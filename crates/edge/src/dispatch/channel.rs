//! The bytes of a worker's sockets: its channel, both ways, and its loop's lane, from the edge only.
//!
//! Owns the reading and writing tasks; what the frames mean is `frames`'. One read takes in all answers
//! that are there, one write sends all requests queued since the last: at saturation a request costs a fraction of a
//! system call on each side. Descriptors come with `SCM_RIGHTS`; at most `DESCRIPTORS` are held, more end the channel.
//! A worker is lost when its channel ends, whatever becomes of its lane, or when its process is gone, whoever still holds
//! the other end of the channel (a process that the app has forked). Its guard line is `guard::line`'s.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::sync::Arc;
use std::task::Waker;

use bandstand_wire::{Decoder, Hello, Kind, WireError};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, mpsc};

use super::guard::run_guard;
use super::outlet::{Line, Outbox, Writers};
use super::pool::Pool;

/// Descriptors that may come before the frames they belong to.
const DESCRIPTORS: usize = 512;

/// What a channel has to say about its worker as a whole.
#[derive(Debug)]
pub(crate) enum Notice {
    /// The worker is ready; JSON about the project.
    Hello { number: u32, project: Vec<u8> },
    /// The app could not be imported: the traceback.
    Failed { number: u32, traceback: String },
    /// The stream has ended; with an error if the worker broke the protocol.
    Lost { number: u32, error: Option<String> },
}

/// The edge's ends of a worker's sockets.
pub(crate) struct Sockets {
    pub(crate) channel: UnixStream,
    pub(crate) lane: UnixStream,
    /// Without one, a request that is over its time is not interrupted, and its worker replaced at once.
    pub(crate) guard: Option<UnixStream>,
    /// Told when the process is gone: what it has sent before that still counts, and nothing after it.
    pub(crate) gone: Arc<Notify>,
}

/// Runs the sockets of a worker until its channel's stream ends or its process has, then says so.
pub(crate) async fn run_channel(
    pool: Arc<Pool>,
    number: u32,
    sockets: Sockets,
    writers: Writers,
    notices: mpsc::UnboundedSender<Notice>,
) {
    let error = carry_frames(&pool, number, sockets, &writers, &notices).await.err();
    pool.remove(number);
    // Nobody listens any more once the server has stopped.
    let _ = notices.send(Notice::Lost { number, error: error.map(|error| error.to_string()) });
}

async fn carry_frames(
    pool: &Pool,
    number: u32,
    sockets: Sockets,
    writers: &Writers,
    notices: &mpsc::UnboundedSender<Notice>,
) -> io::Result<()> {
    let channel = bandstand_supervisor::watch_channel(sockets.channel)?;
    let lane = bandstand_supervisor::watch_channel(sockets.lane)?;
    let write = |line: Line, socket| write_frames(pool, number, line, socket, &writers[line as usize]);
    tokio::select! {
        result = read_frames(pool, number, &channel, &sockets.gone, notices) => result,
        result = write(Line::Channel, &channel) => result,
        result = write(Line::Lane, &lane) => result,
        result = run_guard(pool, number, sockets.guard, &writers[Line::Guard as usize]) => result,
    }
}

async fn read_frames(
    pool: &Pool,
    number: u32,
    socket: &AsyncFd<UnixStream>,
    gone: &Notify,
    notices: &mpsc::UnboundedSender<Notice>,
) -> io::Result<()> {
    let mut decoder = Decoder::default();
    let mut descriptors = VecDeque::new();
    let mut wakers: Vec<Waker> = Vec::new();
    let (mut greeted, mut is_gone) = (false, false);
    let mut gone = pin!(gone.notified());
    loop {
        let more = tokio::select! {
            biased;
            () = &mut gone, if !is_gone => {
                is_gone = true;
                continue;
            }
            more = receive(socket, is_gone, &mut decoder, &mut descriptors) => more?,
        };
        if !more {
            return Ok(());
        }
        if !greeted {
            greeted = greet(pool, number, &mut decoder, notices).map_err(invalid)?;
            if !greeted {
                continue;
            }
        }
        let result = pool.on_frames(
            number,
            |take| match decoder.next()? {
                Some(frame) => take(frame).map(|()| true),
                None => Ok(false),
            },
            &mut descriptors,
            &mut wakers,
        );
        wakers.drain(..).for_each(Waker::wake);
        result.map_err(invalid)?;
    }
}

/// The first frame: a hello, or the reason why there is none. True once it has come.
fn greet(
    pool: &Pool,
    number: u32,
    decoder: &mut Decoder,
    notices: &mpsc::UnboundedSender<Notice>,
) -> Result<bool, WireError> {
    let Some(frame) = decoder.next()? else { return Ok(false) };
    let notice = match frame.header.kind {
        Kind::Hello => {
            let hello = Hello::decode(frame.payload)?;
            pool.opened(number, usize::from(hello.threads), usize::from(hello.tasks));
            Notice::Hello { number, project: hello.project.to_vec() }
        }
        Kind::Failed => {
            Notice::Failed { number, traceback: String::from_utf8_lossy(frame.payload).into_owned() }
        }
        _ => return Err(WireError::OutOfSequence("before the hello")),
    };
    let _ = notices.send(notice);
    Ok(true)
}

fn invalid(error: WireError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// One read. False at the end of the stream, and with `is_gone` also when there is nothing left.
async fn receive(
    socket: &AsyncFd<UnixStream>,
    is_gone: bool,
    decoder: &mut Decoder,
    descriptors: &mut VecDeque<OwnedFd>,
) -> io::Result<bool> {
    if is_gone {
        // All that it has sent is in the socket; whether the runtime has heard of that does not matter.
        tokio::task::yield_now().await;
        return loop {
            match take(socket.get_ref(), decoder, descriptors)? {
                Taken::Interrupted => {}
                Taken::Bytes { count, .. } => break Ok(count > 0),
                Taken::Nothing => break Ok(false),
            }
        };
    }
    loop {
        let mut ready = socket.readable().await?;
        match take(socket.get_ref(), decoder, descriptors)? {
            Taken::Bytes { count, all } => {
                if all {
                    ready.clear_ready();
                }
                return Ok(count > 0);
            }
            Taken::Nothing => ready.clear_ready(),
            Taken::Interrupted => {}
        }
    }
}

/// What one look into the socket has brought.
enum Taken {
    /// None at the end of the stream. `all`: the socket is empty now.
    Bytes {
        count: usize,
        all: bool,
    },
    Nothing,
    Interrupted,
}

fn take(
    socket: &UnixStream,
    decoder: &mut Decoder,
    descriptors: &mut VecDeque<OwnedFd>,
) -> io::Result<Taken> {
    let space = decoder.space();
    let room = space.len();
    let mut control = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut control = RecvAncillaryBuffer::new(&mut control);
    let received = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(space)],
        &mut control,
        RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC,
    );
    let message = match received {
        Ok(message) => message,
        Err(rustix::io::Errno::AGAIN) => return Ok(Taken::Nothing),
        Err(rustix::io::Errno::INTR) => return Ok(Taken::Interrupted),
        Err(rustix::io::Errno::CONNRESET) => return Ok(Taken::Bytes { count: 0, all: false }),
        Err(error) => return Err(error.into()),
    };
    let before = descriptors.len();
    for piece in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = piece {
            descriptors.extend(rights);
        }
    }
    // One that is missing would let the next travel with the wrong frame, to the wrong client.
    if message.flags.contains(ReturnFlags::CTRUNC) {
        return Err(invalid(WireError::Malformed("a descriptor was lost on the way")));
    }
    if descriptors.len() > DESCRIPTORS {
        return Err(invalid(WireError::Malformed("more descriptors than frames that carry one")));
    }
    decoder.advance(message.bytes);
    // A short read means an empty socket, unless it was cut short at a descriptor.
    Ok(Taken::Bytes { count: message.bytes, all: message.bytes < room && descriptors.len() == before })
}

async fn write_frames(
    pool: &Pool,
    number: u32,
    line: Line,
    socket: &AsyncFd<UnixStream>,
    writer: &Notify,
) -> io::Result<()> {
    let mut outbox = Outbox::default();
    loop {
        writer.notified().await;
        outbox.bytes.clear();
        outbox.descriptors.clear();
        let last = pool.take_outbox(number, line, &mut outbox);
        if !send(socket, &mut outbox).await? {
            // It takes nothing more; the reading side sees the end of the stream and what came before it.
            pool.retire(number, None);
            return std::future::pending().await;
        }
        if last {
            // The worker reads the end of the stream and goes; the reading side sees it gone.
            let _ = rustix::net::shutdown(socket.get_ref(), rustix::net::Shutdown::Write);
            return std::future::pending().await;
        }
        // One large body must not pin its size for the life of the worker.
        if outbox.bytes.capacity() > 1024 * 1024 {
            outbox.bytes = Vec::new();
        }
    }
}

/// Writes an outbox; each descriptor leaves with the first byte of its frame. False when the worker no longer reads.
pub(super) async fn send(socket: &AsyncFd<UnixStream>, outbox: &mut Outbox) -> io::Result<bool> {
    let mut at = 0;
    while at < outbox.bytes.len() {
        let with = outbox.descriptors.front().filter(|(offset, _)| *offset == at).map(|(_, fd)| fd.clone());
        let skip = usize::from(with.is_some());
        let until = outbox.descriptors.get(skip).map_or(outbox.bytes.len(), |(offset, _)| *offset);
        let sent = match send_some(socket, &outbox.bytes[at..until], with.as_deref()) {
            Ok(sent) => sent,
            Err(rustix::io::Errno::AGAIN) => {
                socket.writable().await?.clear_ready();
                continue;
            }
            Err(rustix::io::Errno::INTR) => continue,
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        at += sent;
        if with.is_some() {
            outbox.descriptors.pop_front();
        }
    }
    Ok(true)
}

fn send_some(
    socket: &AsyncFd<UnixStream>,
    bytes: &[u8],
    descriptor: Option<&File>,
) -> rustix::io::Result<usize> {
    let Some(descriptor) = descriptor else {
        return rustix::net::send(socket.get_ref(), bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let borrowed = [descriptor.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&borrowed));
    rustix::net::sendmsg(
        socket.get_ref(),
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
    )
}
