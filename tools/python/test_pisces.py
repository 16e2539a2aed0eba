#!/usr/bin/env python3
"""Tests of the package pisces on the library built here; those that need torch are skipped without
it.

usage: tools/python/test_pisces.py     after tools/reward-library
"""

import json
import os
import struct
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "python"))
import pisces

PROGRAM = os.environ.get("PISCES_PROGRAM") or str(ROOT / ".build" / "release" / "pisces")
CAPTIONS = ["a large red circle moving left", "a small blue star turning"]

try:
    import torch
except ImportError:
    torch = None


def clips(n=2, t=9, h=32, w=32, seed=0):
    return np.random.default_rng(seed).random((n, t, 3, h, w), dtype=np.float32) * 0.8 + 0.1


def write_clip(path, x):
    """A safetensors file of one tensor `pixels`."""
    header = json.dumps(
        {"pixels": {"dtype": "F32", "shape": list(x.shape), "data_offsets": [0, x.nbytes]}}
    ).encode()
    header += b" " * (-len(header) % 8)
    Path(path).write_bytes(struct.pack("<Q", len(header)) + header + x.tobytes())


class Rewards(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.reward = pisces.Reward("embedded:reward")

    @unittest.skipUnless(os.path.exists(PROGRAM), "the program is not built")
    def test_same_bits_as_the_command(self):
        x = clips(1, h=40)[0]
        with tempfile.TemporaryDirectory() as folder:
            write_clip(f"{folder}/clip.safetensors", x)
            pairs = [
                word
                for caption in CAPTIONS
                for word in ("--video", f"{folder}/clip.safetensors", "--prompt", caption)
            ]
            lines = subprocess.run(
                [PROGRAM, "score", "--model", "embedded:reward", "--frames", "9", "--json"]
                + ["--quiet"]
                + pairs,
                capture_output=True,
                text=True,
                check=True,
            ).stdout.splitlines()
        for line, scores in zip(lines, self.reward.score(x, CAPTIONS)):
            record = json.loads(line)
            for name in ("quality", "semantic", "vanilla_quality", "vanilla_semantic"):
                self.assertEqual(record[name], getattr(scores, name))

    def test_kinds_of_frames(self):
        x = clips(1)[0]
        one = self.reward.score(x, CAPTIONS[0])
        self.assertEqual(one, self.reward.score(x[None], CAPTIONS)[0])
        self.assertEqual(one, self.reward.score(np.asfortranarray(x), CAPTIONS[0]))
        self.assertEqual(one, self.reward.score(x.astype(np.float64), CAPTIONS[0]))
        bytes_ = np.round(x * 255).astype(np.uint8)
        self.assertEqual(
            self.reward.score(bytes_, CAPTIONS[0]),
            self.reward.score(bytes_.astype(np.float32) / 255, CAPTIONS[0]),
        )
        if torch:
            y = torch.from_numpy(x)
            self.assertEqual(one, self.reward.score(y, CAPTIONS[0]))
            half = y.bfloat16()
            self.assertEqual(
                self.reward.score(half, CAPTIONS[0]), self.reward.score(half.float(), CAPTIONS[0])
            )

    def test_features_make_the_quality(self):
        x = clips(1)[0]
        video, text = self.reward.features(x), self.reward.text_features(CAPTIONS)
        mapped = self.reward.text_features(CAPTIONS, mapped=True)
        for i, s in enumerate(self.reward.score(x, CAPTIONS)):
            self.assertAlmostEqual(float(video @ text[i]), s.vanilla_quality, places=5)
            self.assertAlmostEqual(float(video @ mapped[i]), s.quality, places=5)
        self.assertEqual(self.reward.features(clips(3)).shape, (3, self.reward.width))
        self.assertEqual(self.reward.text_features("a star").shape, (self.reward.width,))

    def test_plans(self):
        plan = self.reward.explain(clips(1)[0], CAPTIONS[0])
        self.assertEqual(plan.words, CAPTIONS[0].split())
        self.assertEqual(plan.shares.shape, (6, 3, 8, 8))
        np.testing.assert_allclose(plan.shares.sum((1, 2, 3)) + plan.cls, 1, atol=1e-4)
        self.assertTrue(0 < plan.mass <= 1 and (plan.unmatched >= 0).all())
        self.assertEqual(len(self.reward.tokenize(CAPTIONS[0])), 7)

    def test_gradient_is_the_derivative(self):
        x, dq, ds = clips(2), np.array([1.0, -2]), np.array([0.5, 30])
        q, s, g = self.reward.gradient(x, CAPTIONS, dq, ds)
        np.testing.assert_array_equal(q, self.reward.rewards(x, CAPTIONS)[0])
        v = np.random.default_rng(1).standard_normal(x.shape).astype(np.float32)
        h = 2e-3

        def value(y):
            a, b = self.reward.rewards(y, CAPTIONS)
            return dq @ a + ds @ b

        difference = (value(x + h * v) - value(x - h * v)) / (2 * h)
        along = float((g.astype(np.float64) * v).sum())
        self.assertLess(abs(difference - along), 0.03 * abs(along) + 1e-3)

    def test_threads(self):
        expected = [self.reward.score(clips(1, seed=i)[0], CAPTIONS) for i in range(4)]
        found = [None] * 4

        def work(i):
            reward = self.reward if i % 2 else pisces.Reward(threads=1 + i)
            found[i] = reward.score(clips(1, seed=i)[0], CAPTIONS)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(found, expected)

    def test_hostile_arguments(self):
        x = clips(1)[0]
        with self.assertRaises(FileNotFoundError):
            pisces.Reward("/nowhere")
        for options in ({"threads": -1}, {"compute": "f8"}):
            with self.assertRaises(ValueError):
                pisces.Reward(**options)
        for frames in (
            x[:0],
            x[:8],
            x[:, :2],
            x[0],
            x * np.nan,
            x * 255,
            np.zeros((0, 9, 3, 8, 8)),
        ):
            with self.assertRaises(ValueError, msg=str(np.shape(frames))):
                self.reward.score(frames, "a")
        for captions in ([], ["a\0b"], [3], b"a"):
            with self.assertRaises(ValueError):
                self.reward.score(x, captions)
        with self.assertRaises(ValueError):
            self.reward.rewards(clips(2), ["one"])
        with self.assertRaises(ValueError):
            self.reward.gradient(clips(1), ["one"], quality=np.inf)
        self.assertTrue(self.reward.score(x, "red " * (1 << 20)).truncated)
        self.assertTrue(np.isfinite(self.reward.score(x, "").semantic))


@unittest.skipUnless(torch, "torch is not installed")
class Autograd(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.reward = pisces.Reward("embedded:reward")

    def test_same_gradient_as_numpy(self):
        x = torch.from_numpy(clips(2)).requires_grad_()
        q, s = self.reward.rewards(x, CAPTIONS)
        (2 * q[0] - q[1] + 3 * s.sum()).backward()
        g = self.reward.gradient(x, CAPTIONS, [2, -1], [3, 3])[2]
        np.testing.assert_array_equal(x.grad.numpy(), g)

    def test_loss_is_minus_the_weighted_mean(self):
        x = torch.from_numpy(clips(2)).requires_grad_()
        loss = self.reward.loss(x, CAPTIONS, quality=0.5, semantic=2)
        (3 * loss).backward()
        first, x.grad = x.grad, None
        q, s = self.reward.rewards(x, CAPTIONS)
        other = -(0.5 * q.mean() + 2 * s.mean())
        (3 * other).backward()
        self.assertAlmostEqual(loss.item(), other.item(), places=6)
        torch.testing.assert_close(first, x.grad, rtol=1e-4, atol=1e-7)
        weights = np.array([1.0, -2])
        loss = self.reward.loss(x, CAPTIONS, quality=weights, semantic=0)
        other = -(torch.from_numpy(weights) * self.reward.rewards(x, CAPTIONS)[0]).mean()
        self.assertAlmostEqual(loss.item(), other.item(), places=6)
        with torch.no_grad():
            self.assertFalse(self.reward.loss(x, CAPTIONS).requires_grad)

    def test_a_reward_rises(self):
        """A few steps on the pixels of a clip."""
        x = torch.full((1, 9, 3, 32, 32), 0.5).requires_grad_()
        optimizer = torch.optim.Adam([x], lr=0.02)
        values = []
        for _ in range(8):
            optimizer.zero_grad()
            loss = self.reward.loss(x.clamp(0, 1), CAPTIONS[:1], semantic=0)
            loss.backward()
            optimizer.step()
            values.append(-loss.item())
        self.assertGreater(values[-1], values[0] + 0.1)


if __name__ == "__main__":
    unittest.main()
