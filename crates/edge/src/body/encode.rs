//! The content codings that are made on the fly: gzip (RFC 1952), Brotli (RFC 7932), Zstandard (RFC 8878).
//!
//! Owns the compressors, their levels and their memory: one that has done its work is kept for the next body, and of those
//! that streams hold there is a bound. Leaves to `filters::compress` which answer is compressed and with what, and to the
//! senders when.
//! Invariant: what the pushes of an [`Encoder`] and its `finish` gave, one after the other, is one complete body, and a
//! client can decode all that was pushed so far from what was given so far. A window is at most 8 MiB (RFC 9659).

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use bandstand_semantics::negotiate::Coding;
use brotli::CompressorWriter;
use flate2::{Compress, Compression, FlushCompress, Status};
use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, ResetDirective};

/// Levels for what is made while a client waits. Measured on a shop's list of 100 kB: zstd 3 takes 0.18 ms for 19.3 %, gzip 5
/// 0.86 ms for 19.4 %, br 4 1.0 ms for 20.1 %; nginx's gzip 5 takes 2 ms for 19.5 % there. gzip 4 is a seventh quicker and larger
/// than nginx's; one level more than these costs from a quarter to four times as much, for a hundredth of the size.
const ZSTD_LEVEL: i32 = 3;
const GZIP_LEVEL: u32 = 5;
const BR_LEVEL: u32 = 4;
/// Base-2 logarithm of what Brotli looks back to: 256 KiB.
const BR_WINDOW_BITS: u32 = 18;
const GZIP_WINDOW_BITS: u8 = 15;
/// Of a stream, whose length nobody knows, each encoder lives as long as its client takes: it looks back 32 KiB, as gzip does.
const STREAM_ZSTD: [CParameter; 3] =
    [CParameter::WindowLog(15), CParameter::HashLog(14), CParameter::ChainLog(14)];
/// Streams that are compressed at once, some 350 KiB each; those past it are sent as they are.
const STREAMS_MOST: usize = 256;
/// Compressors of each kind that wait for work.
const KEPT: usize = 8;
/// Bytes written at once.
const STEP: usize = 8 * 1024;

/// Compresses a whole body. `None`: it did not get smaller. `coding` is not identity.
pub(crate) fn whole(coding: Coding, bytes: &[u8]) -> Option<Vec<u8>> {
    // Larger output than this is thrown away, but a compressor does not like to be cut off.
    let mut out = Vec::with_capacity(bytes.len() / 3 + 64);
    let mut engine = Engine::borrow(coding, Some(bytes.len()))?;
    let done = engine.write(bytes, Until::End, &mut out);
    engine.give_back();
    (done.is_some() && out.len() < bytes.len()).then_some(out)
}

/// As small as it gets, at some seconds a megabyte: for what is made once and sent often. `None`: it did not get smaller.
pub(crate) fn smallest(coding: Coding, bytes: &[u8]) -> Option<Vec<u8>> {
    /// Larger ones get a level that needs a tenth of the time and of the memory.
    const PATIENCE_BYTES: usize = 1024 * 1024;
    let is_small = bytes.len() <= PATIENCE_BYTES;
    let made = match coding {
        Coding::Gzip => {
            let mut engine = Compress::new_gzip(Compression::best(), GZIP_WINDOW_BITS);
            let mut out = Vec::new();
            write_gzip(&mut engine, bytes, Until::End, &mut out)?;
            out
        }
        Coding::Zstd => zstd::bulk::compress(bytes, if is_small { 19 } else { 12 }).ok()?,
        Coding::Br => {
            let mut writer = CompressorWriter::new(Vec::new(), STEP, if is_small { 11 } else { 9 }, 22);
            writer.write_all(bytes).ok()?;
            writer.into_inner()
        }
        Coding::Identity => return None,
    };
    (made.len() < bytes.len()).then_some(made)
}

/// Compresses a body piece by piece.
pub(crate) struct Encoder {
    engine: Option<Engine>,
    _place: StreamPlace,
}

impl Encoder {
    /// One that has seen nothing. `None`: there are too many at the moment, or `coding` is identity.
    pub(crate) fn new(coding: Coding) -> Option<Self> {
        let place = StreamPlace::take()?;
        Some(Self { engine: Some(Engine::borrow(coding, None)?), _place: place })
    }

    /// The next piece, compressed and flushed: the client can decode all of it at once. Nothing gives nothing.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        if bytes.is_empty() {
            return Vec::new();
        }
        self.write(bytes, Until::Flush)
    }

    /// What ends the body.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.write(&[], Until::End)
    }

    /// An engine that fails, which none does that is used as it is here, is not asked again: what it gave is no complete
    /// body, and a client can tell.
    fn write(&mut self, bytes: &[u8], until: Until) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() / 2 + 64);
        let done = self.engine.as_mut().and_then(|engine| engine.write(bytes, until, &mut out));
        if done.is_none() {
            self.engine = None;
        }
        out
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.give_back();
        }
    }
}

/// How far a piece is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    Flush,
    End,
}

enum Engine {
    Gzip(Compress),
    Zstd(CCtx<'static>),
    /// Has no way to begin anew, and so is never kept. Boxed: kilobytes.
    Br(Box<CompressorWriter<Vec<u8>>>),
}

struct Kept {
    gzip: Vec<Compress>,
    zstd: Vec<CCtx<'static>>,
}

static ENGINES: Mutex<Kept> = Mutex::new(Kept { gzip: Vec::new(), zstd: Vec::new() });

impl Engine {
    /// `size` is that of the whole body, where it is known.
    fn borrow(coding: Coding, size: Option<usize>) -> Option<Self> {
        let mut kept = ENGINES.lock().unwrap_or_else(PoisonError::into_inner);
        match coding {
            Coding::Gzip => {
                let engine = kept.gzip.pop();
                drop(kept);
                let new = || Compress::new_gzip(Compression::new(GZIP_LEVEL), GZIP_WINDOW_BITS);
                Some(Self::Gzip(engine.unwrap_or_else(new)))
            }
            Coding::Zstd => {
                let engine = kept.zstd.pop();
                drop(kept);
                prepare_zstd(engine.or_else(CCtx::try_create)?, size).map(Self::Zstd)
            }
            Coding::Br => {
                drop(kept);
                let writer = CompressorWriter::new(Vec::new(), STEP, BR_LEVEL, BR_WINDOW_BITS);
                Some(Self::Br(Box::new(writer)))
            }
            Coding::Identity => None,
        }
    }

    fn give_back(self) {
        match self {
            Self::Gzip(mut engine) => {
                engine.reset();
                keep(|kept| &mut kept.gzip, engine);
            }
            Self::Zstd(mut engine) => {
                if engine.reset(ResetDirective::SessionAndParameters).is_ok() {
                    keep(|kept| &mut kept.zstd, engine);
                }
            }
            Self::Br(_) => {}
        }
    }

    /// Appends to `out`. `None`: it failed.
    fn write(&mut self, bytes: &[u8], until: Until, out: &mut Vec<u8>) -> Option<()> {
        match self {
            Self::Gzip(engine) => write_gzip(engine, bytes, until, out),
            Self::Zstd(engine) => write_zstd(engine, bytes, until, out),
            Self::Br(engine) => write_br(engine, bytes, until, out),
        }
    }
}

fn keep<T>(of: impl FnOnce(&mut Kept) -> &mut Vec<T>, engine: T) {
    let mut kept = ENGINES.lock().unwrap_or_else(PoisonError::into_inner);
    let list = of(&mut kept);
    if list.len() < KEPT {
        list.push(engine);
    }
}

fn prepare_zstd(mut engine: CCtx<'static>, size: Option<usize>) -> Option<CCtx<'static>> {
    engine.set_parameter(CParameter::CompressionLevel(ZSTD_LEVEL)).ok()?;
    match size {
        Some(size) => {
            engine.set_pledged_src_size(Some(size as u64)).ok()?;
        }
        None => {
            for parameter in STREAM_ZSTD {
                engine.set_parameter(parameter).ok()?;
            }
        }
    }
    Some(engine)
}

fn write_zstd(engine: &mut CCtx<'static>, bytes: &[u8], until: Until, out: &mut Vec<u8>) -> Option<()> {
    let directive = match until {
        Until::Flush => ZSTD_EndDirective::ZSTD_e_flush,
        Until::End => ZSTD_EndDirective::ZSTD_e_end,
    };
    let mut input = InBuffer::around(bytes);
    loop {
        out.reserve(STEP);
        let at = out.len();
        let left =
            engine.compress_stream2(&mut OutBuffer::around_pos(out, at), &mut input, directive).ok()?;
        if left == 0 {
            return Some(());
        }
    }
}

fn write_gzip(engine: &mut Compress, bytes: &[u8], until: Until, out: &mut Vec<u8>) -> Option<()> {
    let flush = match until {
        Until::Flush => FlushCompress::Sync,
        Until::End => FlushCompress::Finish,
    };
    let begun = engine.total_in();
    loop {
        out.reserve(STEP);
        let used = (engine.total_in() - begun) as usize;
        let status = engine.compress_vec(&bytes[used..], out, flush).ok()?;
        let has_room = out.len() < out.capacity();
        match until {
            Until::End if status == Status::StreamEnd => return Some(()),
            // Room was left, so everything has been taken and written.
            Until::Flush if has_room => return Some(()),
            _ => {}
        }
    }
}

fn write_br(
    engine: &mut CompressorWriter<Vec<u8>>,
    bytes: &[u8],
    until: Until,
    out: &mut Vec<u8>,
) -> Option<()> {
    engine.write_all(bytes).ok()?;
    match until {
        Until::Flush => {
            engine.flush().ok()?;
            out.append(engine.get_mut());
        }
        // Only `into_inner` ends the body, and it takes the writer away; an empty one stands in its place.
        Until::End => {
            let ended = std::mem::replace(engine, CompressorWriter::new(Vec::new(), 1, 0, 10));
            out.append(&mut ended.into_inner());
        }
    }
    Some(())
}

/// One of [`STREAMS_MOST`], given back on drop.
struct StreamPlace;

static STREAMS: AtomicUsize = AtomicUsize::new(0);

impl StreamPlace {
    fn take() -> Option<Self> {
        let more = |count| (count < STREAMS_MOST).then_some(count + 1);
        STREAMS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Self)
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        STREAMS.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Read;

    use super::*;

    const CODINGS: [Coding; 3] = [Coding::Gzip, Coding::Zstd, Coding::Br];

    /// What a client that has got these bytes, and perhaps no more, can read of the body.
    pub(crate) fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut piece = [0; 512];
        let mut reader: Box<dyn Read + '_> = match coding {
            Coding::Gzip => Box::new(flate2::read::GzDecoder::new(bytes)),
            Coding::Zstd => Box::new(zstd::stream::read::Decoder::new(bytes).unwrap()),
            Coding::Br => Box::new(brotli::Decompressor::new(bytes, 4096)),
            Coding::Identity => Box::new(bytes),
        };
        // An end that has not come yet is an error of these readers, after all that could be read.
        while let Ok(count @ 1..) = reader.read(&mut piece) {
            out.extend_from_slice(&piece[..count]);
        }
        out
    }

    fn page(bytes: usize) -> Vec<u8> {
        let rows = (0..).map(|row| format!("<tr><td>{row}</td><td>{}</td></tr>\n", row * 7919 % 1009));
        let mut page: Vec<u8> = Vec::new();
        for row in rows {
            if page.len() >= bytes {
                break;
            }
            page.extend_from_slice(row.as_bytes());
        }
        page.truncate(bytes);
        page
    }

    #[test]
    fn a_whole_body_and_back() {
        for coding in CODINGS {
            for size in [100, 1_000, 70_000, 300_000] {
                let body = page(size);
                let made = whole(coding, &body).expect("tables are repetitive");
                assert!(made.len() < size * 9 / 10, "{coding:?} {size}: {}", made.len());
                assert_eq!(decoded(coding, &made), body, "{coding:?} {size}");
            }
            assert_eq!(whole(coding, b"x"), None, "{coding:?}: it would only grow");
        }
        assert_eq!(whole(Coding::Identity, &page(1_000)), None);
    }

    #[test]
    fn the_smallest_is_smaller_and_the_same() {
        for coding in CODINGS {
            let body = page(100_000);
            let made = smallest(coding, &body).unwrap();
            assert!(made.len() < whole(coding, &body).unwrap().len(), "{coding:?}");
            assert_eq!(decoded(coding, &made), body);
            assert_eq!(smallest(coding, b"x"), None);
        }
    }

    #[test]
    fn each_piece_can_be_decoded_at_once() {
        for coding in CODINGS {
            let mut encoder = Encoder::new(coding).unwrap();
            let (mut sent, mut expected) = (Vec::new(), Vec::new());
            for piece in [&b"data: one\n\n"[..], b"data: two\n\n", &page(50_000), b"", b"x"] {
                sent.extend(encoder.push(piece));
                expected.extend_from_slice(piece);
                assert_eq!(decoded(coding, &sent), expected, "{coding:?}");
            }
            sent.extend(encoder.finish());
            assert_eq!(decoded(coding, &sent), expected, "{coding:?}");
        }
    }

    #[test]
    fn an_empty_stream_is_a_valid_body() {
        for coding in CODINGS {
            let mut encoder = Encoder::new(coding).unwrap();
            assert_eq!(encoder.push(b""), b"");
            let end = encoder.finish();
            assert!(!end.is_empty());
            assert_eq!(decoded(coding, &end), b"");
        }
    }

    /// A kept compressor that was left in the middle of a body knows nothing of it afterwards.
    #[test]
    fn a_kept_compressor_begins_anew() {
        for coding in CODINGS {
            for _ in 0..KEPT + 2 {
                let mut left = Encoder::new(coding).unwrap();
                left.push(&page(10_000));
                drop(left);
                let made = whole(coding, &page(2_000)).unwrap();
                assert_eq!(decoded(coding, &made), page(2_000), "{coding:?}");
            }
        }
        let kept = ENGINES.lock().unwrap();
        assert!(kept.gzip.len() <= KEPT && kept.zstd.len() <= KEPT);
    }

    /// The memory of one stream, as `STREAMS_MOST` counts with it; RFC 9659 allows a window of 8 MiB.
    #[test]
    fn a_stream_holds_little() {
        let mut engine = prepare_zstd(CCtx::create(), None).unwrap();
        let mut out = Vec::new();
        write_zstd(&mut engine, &page(1_000_000), Until::Flush, &mut out).unwrap();
        assert!(engine.sizeof() < 400 * 1024, "{}", engine.sizeof());
    }
}
