//! Counting of the frames of an HTTP/2 connection (RFC 9113, section 4.1) as their bytes pass.

use tokio::time::{Duration, Instant};

/// Length of the text that opens every HTTP/2 connection (RFC 9113, section 3.4).
const PREFACE_LEN: usize = 24;
const HEADER_LEN: usize = 9;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const CONTINUATION: u8 = 0x9;
const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;

/// Control frames that every connection may send: per second, and in one burst.
const CONTROL_PER_SECOND: f64 = 100.0;
const CONTROL_BURST: f64 = 1000.0;
/// Control frames that each frame of ours entitles the client to: an acknowledgement, or a
/// WINDOW_UPDATE for the stream and one for the connection. Our own acknowledgements entitle it to
/// none. Otherwise, a flood of PINGs would pay for itself.
const CONTROL_PER_FRAME_SENT: u64 = 2;

/// Scanner for the frame headers in one direction of a connection, however the bytes are split.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes to skip before the next frame header: the rest of the preface or of a payload.
    skip: usize,
    header: [u8; HEADER_LEN],
    filled: usize,
    seen: bool,
}

/// Parts of a frame header that tell what kind of frame it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) len: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
}

/// Token bucket for the frames that carry no part of a call.
///
/// It is refilled by time and by the frames that we send. The total is not limited, because the
/// keep-alive of a long stream must not use it up.
#[derive(Debug)]
pub(super) struct ControlFrames {
    by_time: f64,
    filled_at: Instant,
    earned: u64,
    /// Ends of streams that the client may still send: an empty last frame and a reset for each
    /// stream.
    ends: u64,
}

impl Frames {
    /// Creates a scanner for the frames of a client, which come after the preface.
    pub(super) const fn received() -> Self {
        Self::after(PREFACE_LEN)
    }

    /// Creates a scanner for the frames that we send.
    pub(super) const fn sent() -> Self {
        Self::after(0)
    }

    const fn after(skip: usize) -> Self {
        Self {
            skip,
            header: [0; HEADER_LEN],
            filled: 0,
            seen: false,
        }
    }

    /// Calls `found` for each frame whose header is complete with these bytes.
    pub(super) fn scan(&mut self, mut bytes: &[u8], mut found: impl FnMut(FrameHeader)) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = bytes.len().min(HEADER_LEN - self.filled);
            self.header[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == HEADER_LEN {
                let [a, b, c, kind, flags, ..] = self.header;
                let len = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                (self.skip, self.filled, self.seen) = (len, 0, true);
                found(FrameHeader { len, kind, flags });
            }
        }
    }

    /// Returns whether the last byte that passed was the end of a frame.
    pub(super) const fn at_boundary(&self) -> bool {
        self.skip == 0 && self.filled == 0
    }

    /// Returns whether a whole frame has passed. While a later frame is incomplete, the result may
    /// be either.
    pub(super) const fn has_passed_a_frame(&self) -> bool {
        self.seen && self.skip == 0
    }
}

impl FrameHeader {
    /// Returns whether the frame carries no part of a call. hyper limits new streams.
    const fn is_control(self) -> bool {
        match self.kind {
            DATA => self.len == 0,
            HEADERS | CONTINUATION => false,
            _ => true,
        }
    }

    /// Returns whether the frame does nothing but end a stream.
    const fn is_end(self) -> bool {
        self.kind == RST_STREAM || (self.kind == DATA && self.len == 0 && self.flags & END_STREAM != 0)
    }

    const fn is_acknowledgement(self) -> bool {
        matches!(self.kind, SETTINGS | PING) && self.flags & ACK != 0
    }
}

impl ControlFrames {
    pub(super) fn new() -> Self {
        Self {
            by_time: CONTROL_BURST,
            filled_at: Instant::now(),
            earned: 0,
            ends: 0,
        }
    }

    /// Counts a frame that we sent.
    pub(super) const fn sent(&mut self, frame: FrameHeader) {
        if !frame.is_acknowledgement() {
            self.earned = self.earned.saturating_add(CONTROL_PER_FRAME_SENT);
        }
    }

    /// Counts a frame that the client sent. Returns `false` if it exceeds the limit.
    pub(super) fn received(&mut self, frame: FrameHeader) -> bool {
        if frame.kind == HEADERS {
            self.ends = self.ends.saturating_add(2);
        }
        if frame.is_end() && self.ends > 0 {
            self.ends -= 1;
            return true;
        }
        if !frame.is_control() {
            return true;
        }
        if let Some(left) = self.earned.checked_sub(1) {
            self.earned = left;
            return true;
        }
        let now = Instant::now();
        let elapsed: Duration = now - self.filled_at;
        self.by_time = (self.by_time + elapsed.as_secs_f64() * CONTROL_PER_SECOND).min(CONTROL_BURST);
        self.filled_at = now;
        if self.by_time < 1.0 {
            return false;
        }
        self.by_time -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(kind: u8, flags: u8, len: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, len, kind, flags, 0, 0, 0, 1];
        frame.resize(HEADER_LEN + usize::from(len), 0);
        frame
    }

    fn frame(kind: u8, flags: u8, len: usize) -> FrameHeader {
        FrameHeader { len, kind, flags }
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_split() {
        let mut bytes = vec![b'P'; PREFACE_LEN];
        let sent = [(4, 0, 18), (DATA, END_STREAM, 0), (PING, 0, 8), (DATA, 0, 200)];
        for (kind, flags, len) in sent {
            bytes.extend(bytes_of(kind, flags, len));
        }
        let expected = sent.map(|(kind, flags, len)| frame(kind, flags, len.into()));
        for size in 1..=bytes.len() {
            let (mut frames, mut found) = (Frames::received(), Vec::new());
            for chunk in bytes.chunks(size) {
                frames.scan(chunk, |frame| found.push(frame));
            }
            assert_eq!(found, expected, "in pieces of {size}");
            assert!(frames.at_boundary());
        }
        let mut frames = Frames::sent();
        frames.scan(&bytes_of(PING, 0, 8)[..16], |_| {});
        assert!(!frames.at_boundary());
    }

    #[test]
    fn frames_that_carry_calls_are_not_control_frames() {
        for (frame, control) in [
            (frame(DATA, 0, 1), false),
            (frame(DATA, END_STREAM, 0), true),
            (frame(DATA, 0, 0), true),
            (frame(HEADERS, 0, 0), false),
            (frame(CONTINUATION, 0, 0), false),
            (frame(RST_STREAM, 0, 4), true),
            (frame(0x2, 0, 5), true),
            (frame(0x4, 0, 0), true),
            (frame(PING, 0, 8), true),
            (frame(0x8, 0, 4), true),
            (frame(0x10, 0, 4), true),
            (frame(0xff, 0, 0), true),
        ] {
            assert_eq!(frame.is_control(), control, "{frame:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn floods_are_refused_but_keepalives_never_are() {
        let ping = frame(PING, 0, 8);
        let mut control = ControlFrames::new();
        let burst = std::iter::repeat_with(|| control.received(ping))
            .take_while(|ok| *ok)
            .count();
        assert_eq!(burst, 1000);
        tokio::time::advance(Duration::from_secs(1)).await;
        let second = std::iter::repeat_with(|| control.received(ping))
            .take_while(|ok| *ok)
            .count();
        assert_eq!(second, 100);
        // As many frames as acknowledge what we sent are always accepted, and so are calls.
        control.sent(frame(PING, ACK, 8));
        assert!(!control.received(ping), "an acknowledgement needs no answer");
        control.sent(frame(DATA, 0, 100));
        assert!(control.received(ping) && control.received(ping));
        assert!(!control.received(ping));
        // Each stream may end twice: by its last frame and by a reset.
        assert!(!control.received(frame(RST_STREAM, 0, 4)));
        assert!(control.received(frame(HEADERS, 0, 10)));
        assert!(control.received(frame(DATA, END_STREAM, 0)) && control.received(frame(RST_STREAM, 0, 4)));
        assert!(!control.received(frame(RST_STREAM, 0, 4)));
        // A ping every 10 ms, for an hour, is never refused.
        for _ in 0..360_000 {
            tokio::time::advance(Duration::from_millis(10)).await;
            assert!(control.received(ping));
        }
    }
}
