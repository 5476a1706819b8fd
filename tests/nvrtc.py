"""NVRTC, the compiler that CuPy hands its kernels to: it needs no GPU, and comes as a wheel, nvidia-cuda-nvrtc."""

from __future__ import annotations

import ctypes
from importlib import metadata


def library() -> ctypes.CDLL | None:
    """None where it is not installed."""
    try:
        files = metadata.files("nvidia-cuda-nvrtc") or []
    except metadata.PackageNotFoundError:
        return None
    found = [file for file in files if file.name.startswith("libnvrtc.so")]
    return ctypes.CDLL(str(found[0].locate())) if found else None


def compile_kernels(nvrtc: ctypes.CDLL, source: str, *options: str) -> str:
    """The compiler's log; RuntimeError with it if the source is not right."""
    program = ctypes.c_void_p()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None) == 0
    flags = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    status = nvrtc.nvrtcCompileProgram(program, len(options), flags)
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    text = log.value.decode()
    if status:
        raise RuntimeError(text)
    return text
