"""`Reward`: the reward model of a directory, from numpy and torch."""

import ctypes as C
import os
import sys
import weakref
from typing import NamedTuple

import numpy as np

from . import library as lib


class Scores(NamedTuple):
    """Of one clip and one caption: with transport, and without it (`vanilla`). quality is nan
    without an OT map."""

    quality: float
    semantic: float
    vanilla_quality: float
    vanilla_semantic: float
    truncated: bool


class Plan(NamedTuple):
    """Where the words of a caption were transported to: means over layers and heads."""

    words: list  # N pieces of words
    cls: np.ndarray  # [N]: the share on the CLS token
    shares: np.ndarray  # [N, times, grid, grid]: the shares on patches; with cls they sum to 1
    unmatched: np.ndarray  # [N]: of each word's mass, what was not transported
    mass: float  # total mass of the plans


class Reward:
    """A reward-model directory, or "embedded:reward".

    path     the directory
    ot_map   another OT map than the directory's own
    threads  of this model's computations; 0: as the environment says
    compute  "f32", "bf16" (operands of products rounded: within 0.02) or "auto"

    Frames are arrays or torch tensors [T, 3, H, W], or [B, T, 3, H, W] where clips are said: f32 in
    [0, 1], or u8. f32 that is contiguous is not copied. Methods may be called from any thread;
    one computes at a time.
    """

    def __init__(self, path="embedded:reward", *, ot_map=None, threads=0, compute="f32"):
        if compute not in lib.COMPUTE:
            raise lib.BadArgument(f"compute is {compute!r}: Reward: give f32, bf16 or auto")
        options, handle = lib.options(), C.c_void_p()
        options.ot_map = os.fsencode(ot_map) if ot_map else None
        options.threads, options.compute = threads, lib.COMPUTE[compute]
        lib.call("open", os.fsencode(path), C.byref(options), C.byref(handle))
        self._handle = handle
        self._finalizer = weakref.finalize(self, lib.close, handle)
        sizes = lib.Sizes()
        lib.call("describe", handle, C.byref(sizes))
        self.frames, self.tubelet_size = sizes.frames, sizes.tubelet_size
        self.image_size, self.grid = sizes.image_size, sizes.grid
        self.width, self.tokens, self.has_map = sizes.features, sizes.tokens, bool(sizes.has_map)

    def tokenize(self, caption):
        """Ids of the tokens that are read, [CLS] first."""
        ids, count = (C.c_int32 * self.tokens)(), C.c_ssize_t()
        lib.call("tokenize", self._handle, _text(caption), ids, self.tokens, C.byref(count))
        return list(ids[: count.value])

    def token(self, id):
        """The text of a token."""
        text = C.create_string_buffer(1024)
        lib.call("token", self._handle, int(id), text, len(text))
        return text.value.decode()

    def score(self, frames, captions):
        """`Scores` of one clip and one caption, or a list of them for a list of captions."""
        texts = [captions] if isinstance(captions, str) else list(captions)
        pixels, frame = _frames(frames, clips=1)
        scores = (lib.RawScores * max(len(texts), 1))()
        lib.call("score", self._handle, C.byref(frame), _texts(texts), len(texts), scores)
        del pixels
        found = [
            Scores(s.quality, s.semantic, s.vanilla_quality, s.vanilla_semantic, bool(s.truncated))
            for s in scores[: len(texts)]
        ]
        return found[0] if isinstance(captions, str) else found

    def features(self, frames):
        """Unit features of clips [B, E], or of one clip [E]."""
        pixels, frame = _frames(frames)
        out = np.empty((frame.clips, self.width), np.float32)
        lib.call("video_features", self._handle, C.byref(frame), out.ctypes.data)
        return out if len(pixels.shape) == 5 else out[0]

    def text_features(self, captions, mapped=False):
        """Unit features of captions [B, E], or of one [E]; `mapped` by the OT map."""
        texts = [captions] if isinstance(captions, str) else list(captions)
        out = np.empty((max(len(texts), 1), self.width), np.float32)
        other = np.empty_like(out) if mapped else None
        lib.call(
            "text_features", self._handle, _texts(texts), len(texts), out.ctypes.data,
            other.ctypes.data if mapped else None,
        )  # fmt: skip
        found = other if mapped else out
        return found[0] if isinstance(captions, str) else found

    def explain(self, frames, caption):
        """`Plan` of one clip and one caption."""
        pixels, frame = _frames(frames, clips=1)
        times, n = frame.t // max(self.tubelet_size, 1), max(self.tokens, 1)
        ids = np.empty(n, np.int32)
        shares = np.empty((n, 1 + times * self.grid**2), np.float32)
        unmatched = np.empty(n, np.float32)
        plan = lib.RawPlan(ids.ctypes.data, shares.ctypes.data, unmatched.ctypes.data, n, 0, 0)
        lib.call("explain", self._handle, C.byref(frame), _text(caption), C.byref(plan))
        del pixels
        n = plan.count
        return Plan(
            [self.token(i) for i in ids[:n]],
            shares[:n, 0].copy(),
            shares[:n, 1:].reshape(n, times, self.grid, self.grid).copy(),
            unmatched[:n].copy(),
            plan.mass,
        )

    def gradient(self, frames, captions, quality=1.0, semantic=1.0):
        """(quality [B], semantic [B], gradient like `frames`) of clips and as many captions: the
        gradient of sum_i quality[i] * quality_i + semantic[i] * semantic_i with respect to the
        frames. `quality` and `semantic` are numbers or arrays [B]."""
        return self._gradient(frames, captions, quality, semantic, wants=True)

    def rewards(self, frames, captions):
        """(quality [B], semantic [B]) of clips [B, T, 3, H, W] and as many captions. Of a torch
        tensor: tensors that autograd differentiates, whose backward computes the rewards again.
        `loss` is faster where the weights of the rewards are known."""
        torch = sys.modules.get("torch")
        if torch and isinstance(frames, torch.Tensor):
            from .autograd import Rewards

            return Rewards.apply(frames, self, tuple(_list(captions)))
        found = self._gradient(frames, captions, None, None, wants=False)
        return found[0], found[1]

    def loss(self, frames, captions, quality=1.0, semantic=1.0):
        """-(mean over clips of quality * quality_i + semantic * semantic_i), a torch scalar that
        autograd differentiates with respect to the tensor `frames` [B, T, 3, H, W]: rewards and
        gradient come from one pass. `quality` and `semantic` are numbers or arrays [B]."""
        from .autograd import Loss

        return Loss.apply(frames, self, tuple(_list(captions)), quality, semantic)

    def _gradient(self, frames, captions, quality, semantic, wants):
        texts = _list(captions)
        pixels, frame = _frames(frames)
        n = frame.clips
        if len(texts) != n:
            raise lib.BadArgument(
                f"{len(texts)} captions for {n} clips: Reward: give a caption for each clip"
            )

        def weights(x):
            if x is None:
                return None
            return np.ascontiguousarray(np.broadcast_to(np.asarray(x, np.float64), (n,)))

        dq, ds = weights(quality), weights(semantic)
        q, s = np.empty(n), np.empty(n)
        out = np.empty(pixels.shape, np.float32) if wants else None
        lib.call(
            "gradient", self._handle, C.byref(frame), _texts(texts),
            None if dq is None else dq.ctypes.data, None if ds is None else ds.ctypes.data,
            q.ctypes.data, s.ctypes.data, None if out is None else out.ctypes.data,
        )  # fmt: skip
        return q, s, out


def _list(captions):
    return [captions] if isinstance(captions, str) else list(captions)


def _text(caption):
    if not isinstance(caption, str):
        raise lib.BadArgument(f"a caption is {type(caption).__name__}: Reward: give text")
    if "\0" in caption:
        raise lib.BadArgument("a caption has a zero character: Reward: remove it")
    return caption.encode("utf-8", "replace")


def _texts(captions):
    return (C.c_char_p * max(len(captions), 1))(*[_text(c) for c in captions])


def _frames(frames, clips=None):
    """The array, which must be held while the structure is used, and the structure."""
    torch = sys.modules.get("torch")
    if torch and isinstance(frames, torch.Tensor):
        frames = frames.detach()
        frames = (frames.float() if frames.is_floating_point() else frames).cpu().numpy()
    x = np.asarray(frames)
    if x.ndim not in (4, 5) or x.shape[-3] != 3:
        raise lib.BadArgument(
            f"frames of shape {list(x.shape)}: Reward: give [T, 3, H, W] or [B, T, 3, H, W]"
        )
    if clips == 1 and x.ndim == 5 and x.shape[0] != 1:
        raise lib.BadArgument(f"{x.shape[0]} clips: Reward: give one clip [T, 3, H, W]")
    x = x.astype(np.float32) / 255 if x.dtype == np.uint8 else np.ascontiguousarray(x, np.float32)
    shape = (1,) + x.shape if x.ndim == 4 else x.shape
    return x, lib.Frames(x.ctypes.data, shape[0], shape[1], shape[3], shape[4])
