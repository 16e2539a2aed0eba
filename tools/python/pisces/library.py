"""The C library libpisces (Library/include/pisces.h) through ctypes."""

import ctypes as C
import os
from pathlib import Path

_pointer, _double, _size, _int = C.c_void_p, C.c_double, C.c_ssize_t, C.c_int
COMPUTE = {"f32": 0, "bf16": 1, "auto": 2}


class PiscesError(RuntimeError):
    """What the library refused: one line that says what, where, and how to mend it."""


class BadArgument(PiscesError, ValueError):
    """A size, an option or text that cannot be."""


class BadData(PiscesError, ValueError):
    """Frames that are not finite or not in [0, 1], or a damaged model."""


class _NotFound(PiscesError, FileNotFoundError):
    pass


class _NoMemory(PiscesError, MemoryError):
    pass


_ERRORS = {1: BadArgument, 2: BadData, 3: _NoMemory, 4: _NotFound}


class Message(C.Structure):
    _fields_ = [("text", C.c_char * 512)]


class Options(C.Structure):
    _fields_ = [
        ("size", C.c_size_t),
        ("ot_map", C.c_char_p),
        ("threads", _int),
        ("compute", _int),
    ]


class Sizes(C.Structure):
    _fields_ = [
        (name, _size)
        for name in "frames tubelet_size image_size grid features tokens plain_tokens".split()
    ] + [("has_map", _int)]


class Frames(C.Structure):
    _fields_ = [("pixels", _pointer)] + [(name, _size) for name in "clips t h w".split()]


class RawScores(C.Structure):
    _fields_ = [
        (name, _double) for name in "quality semantic vanilla_quality vanilla_semantic".split()
    ] + [("truncated", _int)]


class RawPlan(C.Structure):
    _fields_ = [(name, _pointer) for name in ("ids", "shares", "unmatched")] + [
        ("capacity", _size),
        ("count", _size),
        ("mass", _double),
    ]


def _load():
    """PISCES_LIBRARY; this package's own folder (a wheel); the prefix this file was installed
    under; the repository's build; the folders of the loader."""
    here, name = Path(__file__).resolve(), "libpisces.so.1"
    given = os.environ.get("PISCES_LIBRARY")
    places = [
        Path(given) if given else None,
        here.parent / "lib" / name,
        here.parents[4] / "lib" / name if len(here.parents) > 4 else None,
        here.parents[3] / ".build" / "library" / name if len(here.parents) > 3 else None,
    ]
    places = [p for p in places if p and (p.exists() or str(p) == given)] or [name]
    try:
        # RTLD_LOCAL: the OpenMP runtime that comes along must not take calls of another one.
        library = C.CDLL(str(places[0]), mode=C.RTLD_LOCAL)
    except OSError as error:
        raise ImportError(
            f"{name}: {error}: build it with tools/reward-library, install the wheel, or name it in "
            "PISCES_LIBRARY"
        ) from None
    p = C.POINTER
    for function, arguments in [
        ("open", [C.c_char_p, p(Options), p(_pointer)]),
        ("describe", [_pointer, p(Sizes)]),
        ("tokenize", [_pointer, C.c_char_p, _pointer, _size, p(_size)]),
        ("token", [_pointer, C.c_int32, C.c_char_p, C.c_size_t]),
        ("score", [_pointer, p(Frames), p(C.c_char_p), _size, p(RawScores)]),
        ("video_features", [_pointer, p(Frames), _pointer]),
        ("text_features", [_pointer, p(C.c_char_p), _size, _pointer, _pointer]),
        ("explain", [_pointer, p(Frames), C.c_char_p, p(RawPlan)]),
        ("gradient", [_pointer, p(Frames), p(C.c_char_p)] + [_pointer] * 5),
    ]:
        found = getattr(library, "pisces_reward_" + function)
        found.restype, found.argtypes = _int, arguments + [p(Message)]
    library.pisces_reward_options_init.argtypes = [p(Options)]
    library.pisces_reward_options_init.restype = None
    library.pisces_reward_close.argtypes = [_pointer]
    library.pisces_reward_close.restype = None
    library.pisces_version.restype = _int
    return library


_library = _load()


def call(function, *arguments):
    """A function of the header; raises what it refuses. The interpreter's lock is released."""
    message = Message()
    status = getattr(_library, "pisces_reward_" + function)(*arguments, C.byref(message))
    if status != 0:
        raise _ERRORS.get(status, PiscesError)(message.text.decode(errors="replace"))


def options():
    o = Options()
    _library.pisces_reward_options_init(C.byref(o))
    return o


def close(handle):
    _library.pisces_reward_close(handle)


def version():
    n = _library.pisces_version()
    return n // 10000, n // 100 % 100, n % 100
