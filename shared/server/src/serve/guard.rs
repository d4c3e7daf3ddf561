//! Socket of a connection that is watched: what arrives, what is sent, and whether either gets
//! stuck.

use std::{
    io::{self, ErrorKind, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    activity::Activity,
    frames::{ControlFrames, Frames},
    protocol::Protocol,
};

/// GOAWAY with ENHANCE_YOUR_CALM, on stream 0. It names the highest stream id, because any stream
/// may have been served.
const GOAWAY_ENHANCE_YOUR_CALM: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0x0b];

/// Socket that reports its traffic to an [`Activity`], and fails if the client floods it.
#[derive(Debug)]
pub(super) struct Guarded<T> {
    socket: T,
    activity: Arc<Activity>,
    /// Only for HTTP/2.
    frames: Option<Box<FrameCounts>>,
}

#[derive(Debug)]
struct FrameCounts {
    received: Frames,
    sent: Frames,
    control: ControlFrames,
}

impl<T> Guarded<T> {
    pub(super) fn new(socket: T, protocol: Protocol, activity: Arc<Activity>) -> Self {
        let frames = match protocol {
            Protocol::Grpc => Some(Box::new(FrameCounts {
                received: Frames::received(),
                sent: Frames::sent(),
                control: ControlFrames::new(),
            })),
            Protocol::Http => None,
        };
        Self {
            socket,
            activity,
            frames,
        }
    }

    fn has_sent(&mut self, bytes: &[u8]) {
        if let Some(frames) = &mut self.frames {
            let FrameCounts { sent, control, .. } = &mut **frames;
            sent.scan(bytes, |frame| control.sent(frame));
        }
    }
}

impl FrameCounts {
    /// Counts the frames in these bytes. Returns `false` if one exceeds the limit.
    fn received(&mut self, bytes: &[u8], activity: &Activity) -> bool {
        let Self { received, control, .. } = self;
        let mut is_well = true;
        received.scan(bytes, |frame| is_well &= control.received(frame));
        // The client's SETTINGS, which end its preface, have arrived.
        if !activity.is_open() && received.has_passed_a_frame() {
            activity.open();
        }
        is_well
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.socket).poll_read(cx, buf);
        let arrived = &buf.filled()[before..];
        if arrived.is_empty() {
            return read;
        }
        let Some(frames) = &mut this.frames else {
            this.activity.head_arrives();
            return read;
        };
        if frames.received(arrived, &this.activity) {
            return read;
        }
        if frames.sent.at_boundary() {
            // Send as much as the socket takes. The connection ends in any case.
            let _ = Pin::new(&mut this.socket).poll_write(cx, &GOAWAY_ENHANCE_YOUR_CALM);
            let _ = Pin::new(&mut this.socket).poll_flush(cx);
        }
        Poll::Ready(Err(io::Error::new(ErrorKind::InvalidData, "too many control frames")))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let socket = Pin::new(&mut this.socket);
        let written = match slices {
            [bytes] => socket.poll_write(cx, bytes),
            slices => socket.poll_write_vectored(cx, slices),
        };
        match &written {
            Poll::Ready(Ok(len)) => {
                this.activity.written();
                let mut left = *len;
                for slice in slices {
                    let sent = left.min(slice.len());
                    this.has_sent(&slice[..sent]);
                    left -= sent;
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => this.activity.write_blocked(),
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.socket).poll_flush(cx);
        if flushed.is_pending() {
            this.activity.write_blocked();
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
