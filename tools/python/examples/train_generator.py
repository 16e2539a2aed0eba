#!/usr/bin/env python3
"""Trains a small torch generator on the rewards: noise and a caption become a clip of 9 frames of
32 x 32, and the mean reward over captions rises. A toy: nothing holds the clips to the look of real
ones but the quality reward itself.

usage: train_generator.py [--steps 60]
"""

import argparse

import torch
from torch import nn

import pisces

CAPTIONS = [
    f"a large {colour} {shape} moving {way}"
    for colour in ("red", "green", "blue", "yellow")
    for shape in ("circle", "square")
    for way in ("left", "right")
]


class Generator(nn.Module):
    """[B, E] text features and [B, 16] noise to frames [B, 9, 3, 32, 32] in (0, 1)."""

    def __init__(self, width):
        super().__init__()
        self.start = nn.Linear(width + 16, 64 * 3 * 8 * 8)
        self.layers = nn.Sequential(
            nn.SiLU(),
            nn.ConvTranspose3d(64, 48, (3, 4, 4), (3, 2, 2), (0, 1, 1)),
            nn.SiLU(),
            nn.ConvTranspose3d(48, 24, (3, 4, 4), (1, 2, 2), (1, 1, 1)),
            nn.SiLU(),
            nn.Conv3d(24, 3, 3, padding=1),
        )

    def forward(self, text, noise):
        x = self.start(torch.cat((text, noise), 1)).unflatten(1, (64, 3, 8, 8))
        return torch.sigmoid(self.layers(x)).transpose(1, 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    o = parser.parse_args()
    torch.manual_seed(0)
    reward = pisces.Reward("embedded:reward")
    text = torch.from_numpy(reward.text_features(CAPTIONS))
    generator = Generator(reward.width)
    optimizer = torch.optim.Adam(generator.parameters(), lr=2e-3)

    def judged():
        with torch.no_grad():
            clips = generator(text, torch.randn(len(CAPTIONS), 16))
        quality, semantic = reward.rewards(clips.numpy(), CAPTIONS)
        return quality.mean(), semantic.mean()

    print("before: quality %+.3f, semantic %.4f" % judged())
    for step in range(o.steps):
        clips = generator(text, torch.randn(len(CAPTIONS), 16))
        loss = reward.loss(clips, CAPTIONS, quality=1.0, semantic=1.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 9:
            print(f"step {step + 1}: loss {loss.item():.4f}")
    print("after:  quality %+.3f, semantic %.4f" % judged())


main()
