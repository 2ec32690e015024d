"""Following the system calls of a child process that change files, by ptrace; Linux only."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator
from typing import NamedTuple


class Call(NamedTuple):
    """A system call that changes a file."""

    name: str
    file: str
    """The last part of the file's path."""


def follow(child: int) -> Iterator[Call]:
    """Yield the file-changing calls of *child*, stopped before each, until it ends well."""
    _ptrace(_PTRACE_SETOPTIONS, child, None, _PTRACE_O_TRACESYSGOOD)
    pending = 0
    while True:
        _ptrace(_PTRACE_SYSCALL, child, None, pending)
        _, status = os.waitpid(child, 0)
        if not os.WIFSTOPPED(status):
            assert status == 0, f"the verb failed: status {status}"
            return
        pending = os.WSTOPSIG(status)
        if pending == signal.SIGTRAP | 0x80:
            pending = 0
            call = _entered_call(child)
            if call is not None:
                yield call


def reason_not_to_trace() -> str | None:
    """Return why the system calls of a child can't be followed here, None if they can."""
    child = os.fork()
    if child == 0:
        try:
            let_trace()
            os.write(2, b"")
        finally:
            os._exit(0)
    try:
        _, status = os.waitpid(child, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            return "a process may not trace its child here"
        if not [*follow(child)]:
            return "the system calls of this machine are not known here"
    except (OSError, KeyError, AttributeError) as error:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return f"system calls cannot be followed here: {error!r}"
    return None


_PTRACE_TRACEME, _PTRACE_SYSCALL, _PTRACE_SETOPTIONS = 0, 24, 0x4200
_PTRACE_GET_SYSCALL_INFO, _PTRACE_O_TRACESYSGOOD = 0x420E, 1
_ENTRY = 1

_X86_64 = {
    1: "write",
    18: "pwrite64",
    20: "writev",
    74: "fsync",
    75: "fdatasync",
    77: "ftruncate",
    82: "rename",
    83: "mkdir",
    84: "rmdir",
    86: "link",
    87: "unlink",
    257: "openat",
    258: "mkdirat",
    263: "unlinkat",
    264: "renameat",
    265: "linkat",
    285: "fallocate",
    316: "renameat2",
}
_AARCH64 = {
    34: "mkdirat",
    35: "unlinkat",
    37: "linkat",
    38: "renameat",
    46: "ftruncate",
    47: "fallocate",
    56: "openat",
    64: "write",
    66: "writev",
    68: "pwrite64",
    82: "fsync",
    83: "fdatasync",
    276: "renameat2",
}
_FILE_CALLS = {0xC000003E: _X86_64, 0xC00000B7: _AARCH64}
"""What may change a file, by the kernel's word for the architecture."""


_BY_DESCRIPTOR = {
    "write",
    "pwrite64",
    "writev",
    "fsync",
    "fdatasync",
    "ftruncate",
    "fallocate",
}


class _SyscallInfo(ctypes.Structure):
    _fields_ = (
        ("op", ctypes.c_uint8),
        ("arch", ctypes.c_uint32),
        ("instruction_pointer", ctypes.c_uint64),
        ("stack_pointer", ctypes.c_uint64),
        ("number", ctypes.c_uint64),
        ("arguments", ctypes.c_uint64 * 6),
    )


def let_trace() -> None:
    _ptrace(_PTRACE_TRACEME, 0, None, None)
    os.kill(os.getpid(), signal.SIGSTOP)


def _entered_call(process: int) -> Call | None:
    """Return the file-changing call that the stopped *process* is about to make, or None."""
    info = _SyscallInfo()
    size = ctypes.sizeof(info)
    _ptrace(_PTRACE_GET_SYSCALL_INFO, process, size, ctypes.addressof(info))
    if info.op != _ENTRY:
        return None
    name = _FILE_CALLS[info.arch].get(info.number)
    if name is None or (name == "openat" and not info.arguments[2] & os.O_CREAT):
        return None
    if name.endswith(("at", "at2")):
        return Call(name, _text_at(process, info.arguments[1]))
    if name in _BY_DESCRIPTOR:
        path = os.readlink(f"/proc/{process}/fd/{info.arguments[0]}")
        return Call(name, os.path.basename(path))
    return Call(name, _text_at(process, info.arguments[0]))


def _text_at(process: int, address: int) -> str:
    """Return the last part of the path at *address* in the memory of *process*."""
    with open(f"/proc/{process}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        return os.path.basename(os.fsdecode(memory.read(4096).partition(b"\0")[0]))


def _ptrace(request: int, process: int, address: int | None, argument: int | None) -> None:
    if _libc.ptrace(request, process, address, argument) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace: {os.strerror(number)}")


_libc = ctypes.CDLL(None, use_errno=True)
if hasattr(_libc, "ptrace"):
    _libc.ptrace.restype = ctypes.c_long
    _libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
