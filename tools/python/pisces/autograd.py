"""The rewards as nodes of torch's autograd. Plans of transport are constants of the
differentiation."""

import numpy as np
import torch


def _like(array, frames):
    return torch.from_numpy(array).to(frames.device, frames.dtype)


class Rewards(torch.autograd.Function):
    """(quality, semantic) [B] of frames [B, T, 3, H, W]."""

    @staticmethod
    def forward(ctx, frames, reward, captions):
        ctx.save_for_backward(frames)
        ctx.reward, ctx.captions = reward, captions
        quality, semantic, _ = reward._gradient(frames, captions, None, None, wants=False)
        return _like(quality, frames), _like(semantic, frames)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_quality, d_semantic):
        (frames,) = ctx.saved_tensors
        gradient = ctx.reward._gradient(
            frames, ctx.captions, d_quality.double().cpu().numpy(),
            d_semantic.double().cpu().numpy(), wants=True,
        )[2]  # fmt: skip
        return _like(gradient, frames), None, None


class Loss(torch.autograd.Function):
    """Minus the weighted mean of both rewards; the gradient is computed on the way."""

    @staticmethod
    def forward(ctx, frames, reward, captions, quality, semantic):
        n = max(len(captions), 1)
        dq, ds = -np.asarray(quality, float) / n, -np.asarray(semantic, float) / n
        q, s, gradient = reward._gradient(frames, captions, dq, ds, wants=ctx.needs_input_grad[0])
        if gradient is not None:
            ctx.save_for_backward(_like(gradient, frames))
        return frames.new_tensor((dq * q + ds * s).sum())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d):
        (gradient,) = ctx.saved_tensors
        return gradient * d, None, None, None, None
