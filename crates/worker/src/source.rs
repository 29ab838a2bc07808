//! Bytes from the edge, and the descriptors that come with them.
//!
//! Owns one thread's turn at reading: whoever holds the `Source` reads. What the frames mean is `channel`'s.
//! Invariant: descriptors come in the order of their frames and with the first byte of each, so a whole frame that
//! announces one finds it at the front of the queue.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;

use bandstand_wire::limits::PLACES;
use bandstand_wire::{Decoder, WireError};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

/// The reading end of the channel.
#[derive(Default)]
pub(crate) struct Source {
    pub(crate) decoder: Decoder,
    pub(crate) descriptors: VecDeque<OwnedFd>,
}

/// What one read brought.
pub(crate) enum Received {
    /// Bytes are in the decoder.
    Bytes,
    /// Nothing within the time allowed.
    Nothing,
    /// A signal came in between.
    Interrupted,
    /// The edge has closed its end.
    End,
}

impl Source {
    /// One read; waits for as long as it takes, or `patience`. The caller is detached from the interpreter.
    ///
    /// # Errors
    /// The socket cannot be read, or descriptors came that no frame announced.
    pub(crate) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        patience: Option<Timespec>,
    ) -> Result<Received, String> {
        if patience.is_some() {
            let mut watched = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
            match rustix::event::poll(&mut watched, patience.as_ref()) {
                Ok(0) => return Ok(Received::Nothing),
                Ok(_) => {}
                Err(Errno::INTR) => return Ok(Received::Interrupted),
                Err(error) => return Err(format!("the channel cannot be watched: {error}")),
            }
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(self.decoder.space())];
        let read = match rustix::net::recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) => message.bytes,
            Err(Errno::INTR) => return Ok(Received::Interrupted),
            // Only the loop's lane does not block.
            Err(Errno::AGAIN) => return Ok(Received::Nothing),
            Err(Errno::CONNRESET) => 0,
            Err(error) => return Err(format!("the channel cannot be read: {error}")),
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        if self.descriptors.len() > PLACES {
            return Err("more descriptors than requests came over the channel".to_owned());
        }
        self.decoder.advance(read);
        match read {
            0 if self.decoder.is_partial() => Err("the channel ended within a frame".to_owned()),
            0 => Ok(Received::End),
            _ => Ok(Received::Bytes),
        }
    }

    /// The descriptor of the frame just read.
    ///
    /// # Errors
    /// `OutOfSequence` when none came.
    pub(crate) fn descriptor(&mut self) -> Result<OwnedFd, WireError> {
        self.descriptors
            .pop_front()
            .ok_or(WireError::OutOfSequence("a descriptor was announced but did not come"))
    }
}

/// Whether a descriptor can be read as a stream socket, made blocking.
///
/// # Errors
/// What the system says: not a socket, not open.
pub(crate) fn make_blocking(socket: &impl AsFd) -> Result<(), Errno> {
    rustix::net::sockopt::socket_type(socket)?;
    rustix::io::ioctl_fionbio(socket, false)
}
