"""Arrays in and out: numpy, lists, torch tensors and jax arrays come in, what comes out is of their
kind and precision.

A torch tensor that requires a gradient gets one: `Space.plan` is then a node of autograd whose
backward is the library's implicit differentiation, and everything built from the plan (a loss, a
divergence) is differentiated by torch.
"""

import sys

import numpy as np

POTENTIALS = ("u", "v", "log_u", "log_v", "logu", "logv", "alpha", "beta")


class Log(dict):
    """A log of a call that torch differentiates: what has no gradient there raises instead of
    silently lacking it. `warmstart`, a place to start from, is given as it is."""

    def __init__(self, entries, refuses):
        super().__init__(entries)
        self._refuses = refuses

    def __getitem__(self, key):
        if key in self._refuses and key in self:
            raise NotImplementedError(
                f"log[{key!r}] is not differentiated: call with detached inputs to have it, or take it from the plan"
            )
        return super().__getitem__(key)

    def get(self, key, default=None):
        return self[key] if key in self else default


def paid(plan, M):
    """<P, M>, of torch tensors differentiably: a pair that takes nothing costs nothing, though its
    cost be infinite."""
    if hasattr(plan, "new_tensor"):  # torch
        M = M if hasattr(M, "new_tensor") else plan.new_tensor(np.asarray(M))
        M = M.where(M.isfinite() | (plan > 0), M.new_zeros(()))
        return (plan * M).sum()
    M = np.asarray(M)
    return (plan * np.where(np.isfinite(M) | (np.asarray(plan) > 0), M, 0)).sum()


class Space:
    """The kind of array a call was made with. `M` decides the precision: f32 stays f32, everything
    else is f64."""

    def __init__(self, *inputs):
        self.torch, self.jax = sys.modules.get("torch"), sys.modules.get("jax")
        tensors = [x for x in inputs if self.torch and isinstance(x, self.torch.Tensor)]
        self.like = tensors[0] if tensors else None
        self.is_jax = bool(
            self.like is None and self.jax and any(isinstance(x, self.jax.Array) for x in inputs)
        )
        self.differentiable = any(x.requires_grad for x in tensors)

    def array(self, x):
        """As numpy, without a copy where there need not be one; None stays None, an empty list
        becomes None."""
        if x is None or (isinstance(x, (list, tuple)) and not len(x)):
            return None
        if self.like is not None and isinstance(x, self.torch.Tensor):
            x = x.detach().cpu()
            x = x.float() if x.dtype in (self.torch.float16, self.torch.bfloat16) else x
        x = np.asarray(x)
        x = x if x.dtype in (np.float32, np.float64) else x.astype(np.float64)
        return x if x.size else None

    def back(self, x, dtype=None):
        """A numpy array or number as the caller's kind; `dtype` of numpy."""
        if dtype is not None:
            x = np.asarray(x, dtype=dtype)[()]
        if self.like is not None:
            dtype = (
                self.like.dtype
                if self.like.dtype.itemsize == 2 and self.like.dtype.is_floating_point
                else None
            )
            return self.torch.as_tensor(x, device=self.like.device, dtype=dtype)
        return self.jax.numpy.asarray(x) if self.is_jax else x

    def log(self, entries, refuses=POTENTIALS):
        """A log dictionary with its arrays as the caller's kind; where torch would be given no
        gradient of some, they raise."""
        entries = {
            k: (
                self.back(v)
                if isinstance(v, np.ndarray)
                else tuple(map(self.back, v)) if isinstance(v, tuple) else v
            )
            for k, v in entries.items()
        }
        return Log(entries, refuses) if self.differentiable else entries

    def refuse_gradients(self, function, **inputs):
        """Raises where torch would be given no gradient for an input that asks for one."""
        for name, x in inputs.items():
            if self.torch and isinstance(x, self.torch.Tensor) and x.requires_grad:
                raise NotImplementedError(
                    f"{function} is not differentiated with respect to {name}: pass {name}.detach()"
                )

    def value(self, number, gradients, dtype):
        """`number` as the caller's kind; of torch, with the gradients given: [(input or None, array
        of the input's shape)]."""
        result = self.back(number, dtype)
        gradients = [
            (x, g)
            for x, g in gradients
            if self.torch and isinstance(x, self.torch.Tensor) and x.requires_grad
        ]
        if not gradients:
            return result
        tensors = [x for x, _ in gradients]
        parts = [
            self.torch.as_tensor(g, device=x.device, dtype=x.dtype).reshape(x.shape)
            for x, g in gradients
        ]
        return _valued(self.torch).apply(result, parts, *tensors)

    def plan(self, solve, M, a, b):
        """solve(M, a, b) -> Solution with a plan, all numpy. Returns the plan as the caller's kind
        and the solution."""
        if not self.differentiable:
            solution = solve(self.array(M), self.array(a), self.array(b))
            return self.back(solution.plan), solution
        held = []
        tensors = (
            (
                x
                if isinstance(x, self.torch.Tensor)
                else self.back(np.asarray([] if x is None else x, np.float64))
            )
            for x in (M, a, b)
        )
        return _differentiable(self.torch).apply(self, solve, held, *tensors), held[0]


def _differentiable(torch):
    class Plan(torch.autograd.Function):
        @staticmethod
        def forward(ctx, space, solve, held, M, a, b):
            # Copies: the caller may write to its own before it asks for gradients.
            ctx.solution = solve(
                *(None if x is None else x.copy() for x in map(space.array, (M, a, b)))
            )
            ctx.space, ctx.inputs = space, (M, a, b)
            held.append(ctx.solution)
            return space.back(ctx.solution.plan)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, upstream):
            g = ctx.solution.gradient(
                plan=ctx.space.array(upstream), weights=any(ctx.needs_input_grad[4:])
            )
            out = [
                (
                    ctx.space.torch.as_tensor(g[name], device=x.device, dtype=x.dtype)
                    if needed and x.numel()
                    else None
                )
                for name, x, needed in zip(
                    ("x", "source", "target"), ctx.inputs, ctx.needs_input_grad[3:]
                )
            ]
            return (None, None, None, *out)

    return Plan


def _valued(torch):
    class Value(torch.autograd.Function):
        """A number whose gradients are known."""

        @staticmethod
        def forward(ctx, value, gradients, *inputs):
            ctx.gradients = gradients
            return value.clone()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, upstream):
            return (None, None, *(upstream.to(g.dtype) * g for g in ctx.gradients))

    return Value
