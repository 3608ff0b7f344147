# SPDX-License-Identifier: LGPL-2.1-or-later
"""A server that speaks NBD correctly except where a script says otherwise, and watches what the client does.

A Script is what the server does at each step (STEPS); a test replaces the one step that is to go wrong with a small
function of its own. The server side of the rules is up to the script. The client side is checked here in every conversation:
flags only that were offered, options well-formed, none before the final reply to the one before, requests inside the export
and whole blocks, and how the client left.
"""

import contextlib
import select
import socket
import struct
import threading
import time

from harness import Address, Failure, check, check_equal, is_ending

NBD_MAGIC = 0x4E42444D41474943
OPTION_MAGIC = 0x49484156454F5054
OLDSTYLE_MAGIC = 0x00420281861253
REPLY_MAGIC = 0x3E889045565A9

FIXED_NEWSTYLE, NO_ZEROES = 1, 2

EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO, STRUCTURED_REPLY, LIST_META_CONTEXT, SET_META_CONTEXT, EXTENDED_HEADERS = (
    1, 2, 3, 5, 6, 7, 8, 9, 10, 11)

ACK, SERVER, REP_INFO, META_CONTEXT = 1, 2, 3, 4
ERROR = 1 << 31
ERRORS = {"UNSUP": 1, "POLICY": 2, "INVALID": 3, "PLATFORM": 4, "TLS_REQD": 5, "UNKNOWN": 6, "SHUTDOWN": 7,
          "BLOCK_SIZE_REQD": 8, "TOO_BIG": 9, "EXT_HEADER_REQD": 10}

INFO_EXPORT, INFO_NAME, INFO_DESCRIPTION, INFO_BLOCK_SIZE = 0, 1, 2, 3

HAS_FLAGS, READ_ONLY, SEND_FLUSH, SEND_DF = 1, 2, 4, 128

READ, DISC = 0, 2

REQUEST_MAGIC, EXTENDED_REQUEST_MAGIC = 0x25609513, 0x21E41C71
SIMPLE_MAGIC, STRUCTURED_MAGIC, EXTENDED_MAGIC = 0x67446698, 0x668E33EF, 0x6E8A278C

DONE = 1
NONE, OFFSET_DATA, OFFSET_HOLE = 0, 1, 2
CHUNK_ERROR, CHUNK_ERROR_OFFSET = 32769, 32770

MAX_OPTION = 1 << 20

CONTENT = b"".join((bytes(1024), struct.pack("<III", 1, 255, 0), bytes(range(16)), b"in its place".ljust(16, b"\0"),
                    bytes(3018), b"SWAPSPACE2"))
CONTENT_WORDS = ("Linux swap file, 4k page size, little endian, version 1, size 255 pages, 0 bad pages, LABEL=in its place, "
                 "UUID=00010203-0405-0607-0809-0a0b0c0d0e0f")


class ClientLeft(Exception):
    """The connection has ended where a message could have begun."""


class Violation(Failure):
    """The client broke a rule."""


class Export:
    """What the server says of its only export."""

    def __init__(self, size=1 << 20, flags=HAS_FLAGS | SEND_FLUSH, blocks=(1, 4096, 1 << 25), name="disk"):
        self.size = size
        self.flags = flags
        self.blocks = blocks
        self.name = name

    @staticmethod
    def content(offset, length):
        """Something that file(1) recognizes, at several places."""
        return CONTENT[offset:offset + length].ljust(length, b"\0")


class Request:
    def __init__(self, flags, command, cookie, offset, length):
        self.flags = flags
        self.command = command
        self.cookie = cookie
        self.offset = offset
        self.length = length


class Peer:
    """One client. left: how it went: "abort", "disc", or "eof" (without a word)."""

    def __init__(self, connection, script, budget=None):
        self.socket = connection
        self.script = script
        self.export = script.export
        self.left = None
        self.offered = None
        self.client_flags = None
        self.replies = "simple"
        self.options = []
        self.requests = []
        self.transmitting = False
        self._budget = budget

    # ---- bytes ----

    def send(self, data):
        """Sends, but never more than the budget of the connection, at whose end it is closed."""
        if self._budget is not None:
            data = data[:self._budget]
            self._budget -= len(data)
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise ClientLeft from error
        if self._budget == 0:
            self.socket.shutdown(socket.SHUT_WR)
            self.drain()
            raise ClientLeft

    def receive(self, size, begins_message=False):
        data = b""
        while len(data) < size:
            try:
                piece = self.socket.recv(size - len(data))
            except ConnectionError:
                piece = b""
            if not piece:
                if begins_message and not data:
                    raise ClientLeft
                raise Violation(f"the client left in the middle of a message, after {data!r}")
            data += piece
        return data

    def drain(self):
        """All that comes until the client has left."""
        data = b""
        while True:
            try:
                piece = self.socket.recv(65536)
            except ConnectionError:
                return data
            if not piece:
                return data
            data += piece

    def must_be_silent(self, seconds=0.0):
        """Nothing may come before the server has finished its reply."""
        if select.select([self.socket], [], [], seconds)[0]:
            with contextlib.suppress(ConnectionError):
                early = self.socket.recv(64, socket.MSG_PEEK)
                if early:
                    raise Violation(f"the client did not wait for the reply: {early!r}")

    def must_have_left(self):
        rest = self.drain()
        if rest:
            raise Violation(f"the client still said {rest!r}")

    def wait_until_gone(self):
        """For a server that says nothing more: the client has nothing more to say either."""
        self.must_have_left()
        raise ClientLeft

    # ---- handshake ----

    def greet(self, flags, magic=NBD_MAGIC, style=OPTION_MAGIC):
        self.offered = flags
        self.send(struct.pack(">QQH", magic, style, flags))

    def take_client_flags(self):
        """They may come together with the first option; a client that leaves needs not send them."""
        flags, = struct.unpack(">I", self.receive(4, begins_message=True))
        self.client_flags = flags
        if flags & ~(FIXED_NEWSTYLE | NO_ZEROES):
            raise Violation(f"unknown client flags {flags:#x}")
        if flags & ~self.offered:
            raise Violation(f"client flags {flags:#x} that the server did not offer ({self.offered:#x})")

    def option(self):
        """The next option: its number and its data."""
        header = self.receive(16, begins_message=True)
        magic, option, size = struct.unpack(">QII", header)
        if magic != OPTION_MAGIC:
            raise Violation(f"option with magic {magic:#x}")
        if size > MAX_OPTION:
            raise Violation(f"option {option} of {size} bytes")
        data = self.receive(size)
        self._check_option(option, data)
        self.options.append(option)
        return option, data

    def _check_option(self, option, data):
        if not self.client_flags & FIXED_NEWSTYLE and option != EXPORT_NAME:
            raise Violation(f"option {option} without fixed newstyle")
        if option in (ABORT, LIST, STARTTLS, STRUCTURED_REPLY, EXTENDED_HEADERS) and data:
            raise Violation(f"option {option} with {len(data)} bytes of data")
        if option in (STRUCTURED_REPLY, EXTENDED_HEADERS) and self.replies != "simple":
            raise Violation(f"option {option} after {self.replies} replies were agreed")
        if option in (LIST_META_CONTEXT, SET_META_CONTEXT) and self.replies == "simple":
            raise Violation("meta contexts without structured replies")
        if option in (INFO, GO):
            self._check_info(data)
        if option in (LIST_META_CONTEXT, SET_META_CONTEXT):
            self._check_meta(data)

    def _check_info(self, data):
        name, rest = take_string(data)
        check_string(name)
        count, = struct.unpack(">H", rest[:2])
        wanted = struct.unpack(f">{count}H", rest[2:])
        if len(set(wanted)) != len(wanted):
            raise Violation(f"information requested twice: {wanted}")
        if INFO_BLOCK_SIZE not in wanted:
            raise Violation("block sizes not requested")

    def _check_meta(self, data):
        name, rest = take_string(data)
        check_string(name)
        count, = struct.unpack(">I", rest[:4])
        rest = rest[4:]
        for _ in range(count):
            query, rest = take_string(rest)
            check_string(query)
        if rest:
            raise Violation(f"{len(rest)} bytes too many in a meta context option")

    def reply(self, option, kind, data=b"", magic=REPLY_MAGIC, size=None):
        """One reply to an option; the last of them only while the client waits."""
        if kind == ACK or kind & ERROR:
            self.must_be_silent()
        self.send(struct.pack(">QIII", magic, option, kind, len(data) if size is None else size) + data)

    def refuse(self, option, error, message=b""):
        self.reply(option, ERROR | (ERRORS[error] if isinstance(error, str) else error), message)

    def info(self, option, kind, data=b""):
        self.reply(option, REP_INFO, struct.pack(">H", kind) + data)

    def info_export(self, option, size=None, flags=None):
        self.info(option, INFO_EXPORT, struct.pack(">QH", self.export.size if size is None else size,
                                                   self.export.flags if flags is None else flags))

    def info_blocks(self, option, *blocks):
        self.info(option, INFO_BLOCK_SIZE, struct.pack(">III", *(blocks or self.export.blocks)))

    def server(self, name, description=b"", length=None):
        """A reply to LIST."""
        self.reply(LIST, SERVER, struct.pack(">I", len(name) if length is None else length) + name + description)

    def context(self, name, number=0):
        self.reply(LIST_META_CONTEXT, META_CONTEXT, struct.pack(">I", number) + name)

    # ---- transmission ----

    def request(self):
        extended = self.replies == "extended"
        header = self.receive(32 if extended else 28, begins_message=True)
        layout = ">IHHQQQ" if extended else ">IHHQQI"
        magic, *fields = struct.unpack(layout, header)
        check_equal(magic, EXTENDED_REQUEST_MAGIC if extended else REQUEST_MAGIC, "magic of the request")
        request = Request(*fields)
        self._check_request(request)
        self.requests.append(request)
        return request

    def _check_request(self, request):
        if request.command == DISC:
            check_equal((request.offset, request.length, request.flags), (0, 0, 0), "fields of NBD_CMD_DISC")
            return
        check_equal(request.command, READ, "command")
        check_equal(request.flags, 0, "command flags")
        minimum, _, maximum = self.export.blocks or (1, 4096, 1 << 25)
        check(0 < request.length <= maximum, f"read of {request.length} bytes, at most {maximum} are allowed")
        check(request.offset + request.length <= self.export.size, "read past the end of the export")
        check(request.offset % minimum == 0 and request.length % minimum == 0, "read of less than whole blocks")

    def simple(self, request, error=0, data=b""):
        self.send(struct.pack(">IIQ", SIMPLE_MAGIC, error, request.cookie) + data)

    def chunk(self, request, kind, payload=b"", flags=0, cookie=None, size=None, offset=None):
        """In the form that was agreed."""
        cookie = request.cookie if cookie is None else cookie
        size = len(payload) if size is None else size
        if self.replies == "extended":
            header = struct.pack(">IHHQQQ", EXTENDED_MAGIC, flags, kind, cookie,
                                 request.offset if offset is None else offset, size)
        else:
            header = struct.pack(">IHHQI", STRUCTURED_MAGIC, flags, kind, cookie, size)
        self.send(header + payload)

    def data(self, request, offset, length, flags=0):
        self.chunk(request, OFFSET_DATA, struct.pack(">Q", offset) + self.export.content(offset, length), flags)

    def hole(self, request, offset, length, flags=0):
        self.chunk(request, OFFSET_HOLE, struct.pack(">QI", offset, length), flags)

    def error(self, request, number, message=b"", flags=DONE, length=None):
        size = len(message) if length is None else length
        self.chunk(request, CHUNK_ERROR, struct.pack(">IH", number, size) + message, flags)


def take_string(data):
    if len(data) < 4:
        raise Violation("no room for a string")
    size, = struct.unpack(">I", data[:4])
    if size > len(data) - 4:
        raise Violation("a string longer than the option")
    return data[4:4 + size], data[4 + size:]


def check_string(text):
    if len(text) > 4096 or b"\0" in text:
        raise Violation(f"not a string of the protocol: {text[:80]!r}")
    text.decode("utf-8")


# ---- what a good server does at each step ----


def greeting(peer):
    peer.greet(FIXED_NEWSTYLE | NO_ZEROES)


def extended_headers(peer, _data):
    peer.refuse(EXTENDED_HEADERS, "UNSUP")


def agree_extended_headers(peer, _data):
    peer.reply(EXTENDED_HEADERS, ACK)
    peer.replies = "extended"


def structured_reply(peer, _data):
    peer.reply(STRUCTURED_REPLY, ACK)
    peer.replies = "structured"


def list_exports(peer, _data):
    peer.server(peer.export.name.encode())
    peer.reply(LIST, ACK)


def describe(peer, option):
    peer.info_export(option)
    if peer.export.blocks:
        peer.info_blocks(option)
    peer.reply(option, ACK)


def info(peer, _data):
    describe(peer, INFO)


def go(peer, _data):
    describe(peer, GO)
    peer.transmitting = True


def export_name(peer, _data):
    """Old servers pad their answer with zeroes."""
    peer.send(struct.pack(">QH", peer.export.size, peer.export.flags))
    if not peer.client_flags & NO_ZEROES:
        peer.send(bytes(124))
    peer.transmitting = True


def list_meta_context(peer, _data):
    peer.context(b"base:allocation")
    peer.reply(LIST_META_CONTEXT, ACK)


def unsupported(option):
    def step(peer, _data):
        peer.refuse(option, "UNSUP")
    return step


def read(peer, request):
    if peer.replies == "simple":
        peer.simple(request, 0, peer.export.content(request.offset, request.length))
    else:
        peer.data(request, request.offset, request.length, DONE)


OPTION_STEPS = {EXPORT_NAME: "export_name", LIST: "list_exports", INFO: "info", GO: "go",
                STRUCTURED_REPLY: "structured_reply", LIST_META_CONTEXT: "list_meta_context",
                EXTENDED_HEADERS: "extended_headers"}

STEPS = {"greeting": greeting, "extended_headers": extended_headers, "structured_reply": structured_reply,
         "list_exports": list_exports, "info": info, "go": go, "export_name": export_name,
         "list_meta_context": list_meta_context, "read": read}


class Script:
    """A server's whole behaviour: an export, and a function for each step."""

    def __init__(self, export=None, **steps):
        unknown = set(steps) - set(STEPS)
        check(not unknown, f"no such steps: {unknown}")
        self.export = export or Export()
        self.steps = {**STEPS, **steps}

    def converse(self, peer):
        self.steps["greeting"](peer)
        peer.take_client_flags()
        while not peer.transmitting:
            option, data = peer.option()
            if option == ABORT:
                peer.left = "abort"
                # It need not wait for this.
                with contextlib.suppress(ClientLeft):
                    peer.reply(ABORT, ACK)
                peer.must_have_left()
                return
            if option not in OPTION_STEPS:
                raise Violation(f"unexpected option {option}")
            self.steps[OPTION_STEPS[option]](peer, data)
        while True:
            request = peer.request()
            if request.command == DISC:
                peer.left = "disc"
                peer.must_have_left()
                return
            self.steps["read"](peer, request)


class FakeServer:
    """Serves a script to every client that comes, for as long as the block lasts. peers: all that came, in order."""

    def __init__(self, script, transport="unix", budget=None):
        self.script = script
        self.address = Address(transport, port=0)
        self.peers = []
        self._budget = budget
        self._wrong = []
        self._threads = []
        self._listener = socket.socket(self.address.family, socket.SOCK_STREAM)
        self._listener.bind(self.address.endpoint)
        self._listener.listen(16)
        if self.address.port is not None:
            self.address.port = self._listener.getsockname()[1]
        self.connected = threading.Event()

    def uri(self, export="disk", scheme="nbd"):
        return self.address.uri(export, scheme)

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind, *_):
        # Wakes accept(), which close() alone would not.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if kind is None:
            self._check()

    def _start(self, function, *args):
        thread = threading.Thread(target=function, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            peer = Peer(connection, self.script, self._budget)
            self.peers.append(peer)
            self._start(self._serve, peer)
            self.connected.set()

    def _serve(self, peer):
        try:
            with peer.socket:
                self.script.converse(peer)
        except ClientLeft:
            peer.left = "eof"
        except Exception as wrong:  # told by the thread of the test
            self._wrong.append(wrong)

    def lefts(self, count=1):
        """How the clients left; count of them must have come, and all be gone soon."""
        deadline = time.monotonic() + 10
        while len(self.peers) < count and time.monotonic() < deadline and not is_ending():
            time.sleep(0.01)
        self._check()
        return [peer.left for peer in self.peers]

    def _check(self):
        for thread in list(self._threads):
            thread.join(10)
            check(not thread.is_alive(), "the client has ended but its connection has not")
        if self._wrong:
            raise self._wrong[0]
