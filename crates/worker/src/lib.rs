//! The extension module inside the user's Python: the whole surface that Python can see.
//!
//! `bandstand.worker` imports the app and hands it to `serve`, which returns when the edge wants no more. All protocol
//! with the edge is in `bandstand_wire`; the waiting is in `channel` (no interpreter), the calling in `pool` and
//! `wsgi`. An ASGI app runs on an event loop that `bandstand.asgi` makes: `lane` reads for it, `asgi` answers. Unsafe
//! code is in `descriptor`, `board`, `convert` and `interrupt`, a few lines each.

mod asgi;
mod board;
mod bridge;
mod channel;
mod child;
mod convert;
mod descriptor;
mod exchange;
mod interrupt;
mod lane;
mod linger;
mod output;
mod pool;
mod seats;
mod shift;
mod slot;
mod source;
mod wsgi;

use pyo3::prelude::*;

/// The native half of a worker.
#[pymodule]
mod _worker {
    use std::sync::Arc;

    use bandstand_wire::limits::{FRAME_MAX, PLACES};
    use bandstand_wire::{Flags, Header, Hello, Kind};
    use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
    use pyo3::prelude::*;
    use rustix::fd::OwnedFd;
    use rustix::io::Errno;

    use crate::board::Board;
    use crate::channel::Channel;
    use crate::descriptor::adopt;
    use crate::linger::Linger;
    use crate::pool;
    use crate::source::make_blocking;
    use crate::wsgi::Facts;

    #[pymodule_export]
    use crate::asgi::{Disconnected, Done, HttpCycle, Ready, WebSocketCycle};
    #[pymodule_export]
    use crate::bridge::{Crossing, Landing};
    #[pymodule_export]
    use crate::child::disown;
    #[pymodule_export]
    use crate::interrupt::{current_frames, holders, interrupt, work_for};
    #[pymodule_export]
    use crate::lane::Lane;
    #[pymodule_export]
    use crate::pool::Pool;
    #[pymodule_export]
    use crate::wsgi::{FileWrapper, Input};

    /// Version of the channel's protocol.
    #[pymodule_export]
    const PROTOCOL: u16 = bandstand_wire::PROTOCOL;

    /// Largest message of `fail`.
    const FAILURE_BYTES: usize = 256 * 1024;

    /// Says hello and answers requests until the edge ends the channel.
    ///
    /// Takes over both descriptors. `project` is JSON for the edge.
    ///
    /// # Errors
    /// `ValueError` for arguments out of range, `OSError` when a descriptor is not what it should be, `RuntimeError`
    /// when the edge breaks the protocol.
    #[pyfunction]
    fn serve(
        py: Python<'_>,
        app: Py<PyAny>,
        channel_fd: i32,
        board_fd: i32,
        threads: u16,
        multiprocess: bool,
        project: &str,
    ) -> PyResult<()> {
        if threads == 0 || usize::from(threads) > PLACES {
            return Err(PyValueError::new_err(format!("threads must be from 1 to {PLACES}")));
        }
        if project.len() > FRAME_MAX - 64 {
            return Err(PyValueError::new_err("what is known about the project is too long for one frame"));
        }
        let channel = Arc::new(Channel::new(open_channel(channel_fd)?));
        let memory = adopt(board_fd).map_err(|error| not_usable("board", error))?;
        let board = Board::map(&memory).map_err(|error| not_usable("board", error))?;
        Linger::start(&channel);
        let facts = Facts { multithread: threads > 1, multiprocess };
        let empty = py.import("threading")?.getattr("Event")?.call0()?;
        let on_empty = empty.getattr("set")?.unbind();
        let pool = Bound::new(py, Pool::new(Arc::clone(&channel), board, app, facts, on_empty))?;
        pool::run(&pool, threads, &empty, || {
            let header = Header { kind: Kind::Hello, flags: Flags::NONE, place: 0, id: 0 };
            channel.append(|out| {
                let open = header.open(out);
                Hello { threads, tasks: 0, project: project.as_bytes() }.encode(out);
                open.finish(out);
            });
            py.detach(|| channel.flush(true));
        })?;
        match py.detach(|| channel.verdict()) {
            None => Ok(()),
            Some(reason) => Err(PyRuntimeError::new_err(format!("the channel to the edge broke: {reason}"))),
        }
    }

    /// Tells the edge that the app could not be imported; `message` is for people. Takes over the descriptor.
    ///
    /// # Errors
    /// `OSError` when the descriptor is not a socket.
    #[pyfunction]
    fn fail(py: Python<'_>, channel_fd: i32, message: &str) -> PyResult<()> {
        let channel = Channel::new(open_channel(channel_fd)?);
        let message = &message.as_bytes()[..message.floor_char_boundary(FAILURE_BYTES)];
        let header = Header { kind: Kind::Failed, flags: Flags::NONE, place: 0, id: 0 };
        channel.append(|out| header.write(message, out));
        py.detach(|| channel.flush(true));
        Ok(())
    }

    pub(crate) fn open_channel(number: i32) -> PyResult<OwnedFd> {
        let socket = adopt(number).map_err(|error| not_usable("channel", error))?;
        make_blocking(&socket).map_err(|error| not_usable("channel", error))?;
        Ok(socket)
    }

    pub(crate) fn not_usable(what: &str, error: Errno) -> PyErr {
        PyOSError::new_err((
            error.raw_os_error(),
            format!("the {what} that was handed down cannot be used: {error}"),
        ))
    }
}
