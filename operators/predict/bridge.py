"""One stream over its gaps: which picture is shown at which moment, and what is said of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from engine import Frame, OpContext, rescale_pts
from engine.pool import BufferPool
from engine.timing import NANOSECONDS
from operators.predict.beside import Beside
from operators.predict.course import GRID, KEPT
from operators.predict.flow import F32, U8, working_size
from operators.predict.moving import Picture, small_luma
from operators.predict.outlook import Known, Outlook, Seen
from operators.predict.records import Concealed, Part
from operators.predict.rhythm import Rhythm
from operators.predict.seam import Seam, Target
from operators.video.yuv import frame_size, small_rgb

IDLE_BUFFERS = 12
PREPARE_NS = 2_000_000  # so late a frame is before work is done for it
LUMA_PX = 320  # longer side of the lumas that are kept; half of 640, which is fast
MS = 1_000_000
FEED = "the feed"


@dataclass(frozen=True)
class Tools:
    """What the bridges of an operator have in common."""

    most_ns: int
    patience_ns: int
    handback_ns: int
    damping: float | None
    beside: Beside | None


class Bridge:
    """All of a stream, from its first frame to its end or break. Used by the node's thread only."""

    def __init__(self, stream_id: str, ctx: OpContext, tools: Tools) -> None:
        self._stream_id = stream_id
        self._ctx = ctx
        self._tools = tools
        self._live = ctx.mode == "live"
        self._rhythm = Rhythm()
        self._told: set[str] = set()
        self._gave_up = False
        self._newest: Frame | None = None  # that the feed has brought
        self._shown_pts = 0  # of what went out last
        self._begin()

    def _begin(self) -> None:
        """The pictures until now have nothing to do with those that come."""
        pool = BufferPool(IDLE_BUFFERS)
        self._take = lambda: pool.take(self._size_of_data(), np.uint8)
        # pts, small luma, square for the predictor: of the last ones that the feed has brought
        self._past: deque[tuple[int, U8, U8 | None]] = deque(maxlen=KEPT)
        self._seam = Seam(self._take)
        self._outlook: Outlook | None = None
        self._ready: tuple[int, Seen] | None = None  # what may have to stand in next, and its pts
        self._source: object = None  # what the last target came of: the feed, or an outlook
        self._sure = Sureness()

    def _size_of_data(self) -> tuple[int, ...]:
        assert self._newest is not None
        shape: tuple[int, ...] = self._newest.data.shape
        return shape

    # ---- what the feed brings

    def come(self, frame: Frame) -> list[Frame]:
        """A frame of the feed: what goes out for it."""
        if frame.caps.pix_fmt != "yuv420p":
            self._tell("PIX_FMT", f"{frame.caps.pix_fmt} cannot be gone on from: it only passes")
            return [frame]
        stamp = frame.stamp
        out = [] if self._live else self._fill(frame)
        now_ns = self._ctx.clock.now_ns() if self._live else stamp.pts_ns
        self._rhythm.note(stamp.pts_ns, now_ns)
        behind_ns = self._behind_ns(frame)
        late = self._live and behind_ns is not None and behind_ns >= 0
        newest = self._newest
        self._learn(frame, newest is None or behind_ns is None or newest.caps != frame.caps)
        if not late:
            out.append(self._captured(frame))
        if self._live:
            self._plan()
        return out

    def _behind_ns(self, frame: Frame) -> int | None:
        """How long before the last moment that was made the frame's own is, -1 if it is after it or
        none was made; None where the two are of different counts.
        """
        newest, stamp = self._newest, frame.stamp
        if newest is None or newest.stamp.time_base != stamp.time_base:
            return None
        behind = self._shown_pts - stamp.pts
        if self._source is FEED or behind < 0:
            return -1
        behind_ns = rescale_pts(behind, stamp.time_base, NANOSECONDS)
        return behind_ns if behind_ns <= self._tools.most_ns else None

    def _learn(self, frame: Frame, first: bool) -> None:
        before, self._newest = self._newest, frame
        picture, beside = picture_of(frame), self._tools.beside
        if first:
            self._begin()
        elif before is not None and self._steps_between(before.stamp.pts, frame.stamp.pts) == 1:
            self._seam.learn(picture, picture_of(before))
        square = None
        if beside is not None:
            side = beside.predictor.size_px or LUMA_PX
            square = small_rgb(frame, (side, side))
        luma = small_luma(picture, working_size(*picture.size, LUMA_PX))
        self._past.append((frame.stamp.pts, luma, square))
        self._outlook = self._ready = None

    def _captured(self, frame: Frame) -> Frame:
        """The frame, or one that leads to it."""
        gap = self._sure.number > 0
        if self._gave_up:
            self._gave_up, gap = False, False
            self._seam.left = 0
            self._ctx.report("GAP_OVER", f"'{self._stream_id}' is back")
        together = self._source is FEED and self._steps_to(frame.stamp.pts) == 1
        target = Target(picture_of(frame), self._past[-1][1], captured=True, together=together)
        self._source, self._shown_pts = FEED, frame.stamp.pts
        share = self._shown(target, seam=gap and not together)
        if share == 1.0:
            self._sure = Sureness()
            return frame
        self._sure.rise(share)
        return self._said(frame, "handed back", since_ns=0)

    def _shown(self, target: Target, *, seam: bool) -> float:
        """Have a target shown: how far it is reached, 0 to 1."""
        if seam and self._seam.left == 0 and self._seam.shown is not None:
            period_ns = self._rhythm.period_ns or self._tools.handback_ns or 1
            self._seam.open(self._tools.handback_ns // period_ns + 1)
        if self._seam.left == 0:
            self._seam.show(target)
            return 1.0
        return self._seam.next(target)

    # ---- what is made

    def _plan(self) -> None:
        """Be called when the next frame is late."""
        period = self._period()
        if period is None and self._rhythm.is_unsteady:
            self._tell("UNSTEADY", "no steady rate: nothing is made where a frame is missing")
        if period is None or self._gave_up:
            return
        due_ns = self._due_ns(self._shown_pts + period)
        patience_ns = self._tools.patience_ns
        if self._ready is None:
            wait_ns = min(PREPARE_NS, patience_ns)
            self._ctx.call_at(due_ns + wait_ns, self._stream_id, self._prepare)
        else:
            self._ctx.call_at(due_ns + patience_ns, self._stream_id, self._stand_in)

    def _prepare(self) -> None:
        """The next frame is somewhat late: what may have to stand in for it is made."""
        period = self._period()
        if period is not None:
            pts = self._shown_pts + period
            self._ready = pts, self._seen(pts, period)
        self._plan()

    def _stand_in(self) -> Frame | None:
        """The next frame is too late: another goes out."""
        period, newest = self._period(), self._newest
        if period is None or newest is None:
            return None
        pts, now_ns = self._shown_pts + period, self._ctx.clock.now_ns()
        while self._due_ns(pts + period) + self._tools.patience_ns <= now_ns:
            pts += period  # moments that have gone by are left out
        if self._is_too_long(pts):
            return None
        made = self._made(pts, newest.stamp.seq)
        self._plan()
        return made

    def _fill(self, behind: Frame) -> list[Frame]:
        """File graphs: what is missing before a frame."""
        period, made = self._period(), []
        first = self._shown_pts
        for step in range(1, self._steps_to(behind.stamp.pts)):
            pts = first + step * (period or 1)
            if self._is_too_long(pts):
                break
            made.append(self._made(pts, behind.stamp.seq))
        return made

    def _made(self, pts: int, seq: int) -> Frame:
        """The picture of a moment that nothing came for."""
        newest, period = self._newest, self._period()
        assert newest is not None
        assert period is not None
        ready, self._ready = self._ready, None
        seen = ready[1] if ready and ready[0] == pts else self._seen(pts, period)
        outlook, picture = self._outlook, seen.picture
        assert outlook is not None
        source = (outlook, seen.corrected)
        next_one = self._steps_between(newest.stamp.pts, pts) == 1
        from_feed = self._source is FEED and next_one and not seen.corrected
        together = from_feed or self._source == source
        luma = small_luma(picture, working_size(*picture.size, LUMA_PX))
        target = Target(picture, luma, captured=False, together=together)
        self._shown(target, seam=not together)
        self._source, self._shown_pts = source, pts
        self._sure.fall(seen.sure, outlook.course.weights())
        since_ns = rescale_pts(pts - newest.stamp.pts, newest.stamp.time_base, NANOSECONDS)
        deadline_ns = newest.stamp.deadline_ns
        stamp = replace(
            newest.stamp, pts=pts, seq=seq, capture_ns=newest.stamp.capture_ns + since_ns,
            deadline_ns=None if deadline_ns is None else deadline_ns + since_ns,
        )  # fmt: skip
        return self._said(Frame(newest.data, newest.caps, stamp), "made", since_ns)

    def _seen(self, pts: int, period: int) -> Seen:
        """What is foreseen for a moment."""
        assert self._newest is not None
        self._outlook = outlook = self._outlook or self._look_out()
        seen = outlook.picture(max(round((pts - self._newest.stamp.pts) / period), 1))
        if outlook.trouble is not None:
            self._tell("PREDICT_FAILED", f"{outlook.trouble}; pictures go on by their course alone")
        return seen

    def _look_out(self) -> Outlook:
        """From what is known; only pictures a period apart tell of motion."""
        newest, past, span = self._newest, list(self._past), 1
        assert newest is not None
        for later in range(len(past) - 1, 0, -1):
            steps = self._steps_between(past[later - 1][0], past[later][0])
            if steps != 1:
                last = later == len(past) - 1
                past, span = past[later - last :], max(steps, 1) if last else 1
                break
        squares = [square for _, _, square in past if square is not None]
        beside = self._tools.beside
        if beside is not None:
            squares = squares[-beside.predictor.past :] if span == 1 else squares[-1:]
        known = Known(picture_of(newest), newest.caps, [luma for _, luma, _ in past], span, squares)
        return Outlook(known, self._tools.damping, beside, self._take)

    # ---- moments

    def _period(self) -> int | None:
        """Ticks between two frames, None where there is no steady rate."""
        period_ns, newest = self._rhythm.period_ns, self._newest
        if period_ns is None or newest is None:
            return None
        return max(rescale_pts(period_ns, NANOSECONDS, newest.stamp.time_base), 1)

    def _steps_to(self, pts: int) -> int:
        """Periods from what went out last."""
        return self._steps_between(self._shown_pts, pts)

    def _steps_between(self, before: int, after: int) -> int:
        """Periods; 1 between neighbours as long as the rate is unknown."""
        period = self._period()
        return 1 if period is None else round((after - before) / period)

    def _due_ns(self, pts: int) -> int:
        assert self._newest is not None
        return self._rhythm.due_ns(rescale_pts(pts, self._newest.stamp.time_base, NANOSECONDS))

    def _is_too_long(self, pts: int) -> bool:
        """Whether the gap is longer at this moment than is bridged; told once."""
        assert self._newest is not None
        stamp = self._newest.stamp
        since_ns = rescale_pts(pts - stamp.pts, stamp.time_base, NANOSECONDS)
        if since_ns <= self._tools.most_ns:
            return False
        self._gave_up = True
        after = f"nothing for {since_ns // MS} ms"
        self._ctx.report(
            "GAP_TOO_LONG", f"'{self._stream_id}': {after}; no more is made until it is back"
        )
        return True

    # ---- what is said

    def _said(self, frame: Frame, part: Part, since_ns: int) -> Frame:
        """What is shown now, at the moment and with the records of `frame`."""
        assert self._seam.shown is not None
        sure = self._sure
        record = Concealed(part, sure.number, since_ns // MS, sure.whole, sure.packed())
        return frame.with_data(self._seam.shown.data).with_records(record)

    def _tell(self, code: str, message: str) -> None:
        if code not in self._told:
            self._told.add(code)
            self._ctx.report(code, f"'{self._stream_id}': {message}")


class Sureness:
    """How far the pictures of one gap can be trusted: less and less, until the feed is back."""

    def __init__(self) -> None:
        self.number = 0  # pictures
        self.whole = 1.0
        self._cells = np.ones((GRID, GRID), np.float32)

    def fall(self, cells: F32, weights: F32) -> None:
        """One more that was made."""
        self.number += 1
        self._cells = np.minimum(self._cells, cells)
        self.whole = min(self.whole, float((self._cells * weights).sum()))

    def rise(self, share: float) -> None:
        """One more on the way back, taken a share of the way to what was captured."""
        self.number += 1
        self._cells = self._cells + (1 - self._cells) * np.float32(share)
        self.whole += (1 - self.whole) * share

    def packed(self) -> bytes:
        """Row by row, in 255ths."""
        return np.rint(self._cells * 255).astype(np.uint8).tobytes()


def picture_of(frame: Frame) -> Picture:
    """The frame's pixels. CapsError without a size."""
    return Picture(frame.data, *frame_size(frame))
