# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs a program where there is no network but a loopback, and a name server that knows no name.

    unshare --net --mount python3 lonely.py unknown|silent PROGRAM ARGUMENT...

unknown: every name is answered with NXDOMAIN. silent: no question is answered. Ends as the program does.
"""

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
MS_BIND = 4096
NXDOMAIN = 3


def raise_loopback():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", 0)
        flags, = struct.unpack("16xh14x", fcntl.ioctl(control, SIOCGIFFLAGS, request))
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def replace(path, content):
    """In this mount namespace only. A system without the file goes by defaults, which here are the same."""
    if not os.path.exists(path):
        return
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(content)
        file.flush()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(file.name.encode(), os.path.realpath(path).encode(), None, MS_BIND, None) != 0:
            raise OSError(ctypes.get_errno(), f"cannot replace {path}")


def answer(server, silent):
    while True:
        question, client = server.recvfrom(512)
        if not silent:
            # The same question, as a response without records.
            server.sendto(question[:2] + struct.pack(">HHHHH", 0x8180 | NXDOMAIN, 1, 0, 0, 0) + question_of(question), client)


def question_of(message):
    """Behind the header: labels up to an empty one, type and class. EDNS and such are left out."""
    at = 12
    while message[at]:
        at += message[at] + 1
    return message[12:at + 5]


def main():
    raise_loopback()
    replace("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:30 attempts:1\n")
    replace("/etc/nsswitch.conf", "hosts: files dns\n")
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    threading.Thread(target=answer, args=(server, sys.argv[1] == "silent"), daemon=True).start()
    # A handler, since the program would inherit that the signal is ignored.
    signal.signal(signal.SIGINT, lambda *_: None)
    status = subprocess.run(sys.argv[2:], check=False).returncode
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    with contextlib.suppress(BrokenPipeError):
        sys.exit(status)


if __name__ == "__main__":
    main()
