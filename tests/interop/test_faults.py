# SPDX-License-Identifier: LGPL-2.1-or-later
"""nbdctl info against servers that are broken, hostile, old, or merely unusual."""

import itertools
import json
import random
import signal
import struct
import time

import fake_server as nbd
from fake_server import ERROR, Export, FakeServer, Script
from harness import add_test, check, check_equal, main, nbdctl, test

PATIENT = ("--connect-timeout", "20", "--io-timeout", "20")
IMPATIENT = ("--connect-timeout", "700ms", "--io-timeout", "700ms")

# What a terminal must not see: colours, a bell, a second line, no UTF-8, reversed text, a C1 control.
NASTY = b"\x1b[31mred\x07\nsecond\r\xff\xfe\xe2\x80\xaeabc\xc2\x9b31m"
NASTY_ESCAPED = r"\x1b[31mred\x07\x0asecond\x0d\xff\xfe\xe2\x80\xaeabc\xc2\x9b31m"


def ask(script, *args, patience=PATIENT, left=("eof",), transport="unix", budget=None, **kwargs):
    """Runs info against the script; the clients must have left like this."""
    with FakeServer(script, transport, budget) as server:
        result = nbdctl("info", *patience, *args, server.uri(), **kwargs)
        check_equal(server.lefts(len(left)), list(left), f"how the client left ({result})")
        result.peers = server.peers
    return result


def fails(script, match, *args, hint=None, **kwargs):
    result = ask(script, *args, **kwargs)
    result.failed(match, hint=hint)
    return result


def works(script, *args, left=("disc",), **kwargs):
    """Returns the only export of the JSON that was printed."""
    result = ask(script, "--json", *args, left=left, **kwargs)
    answer = json.loads(result.worked())
    check_equal(len(answer["exports"]), 1, "number of exports")
    return answer["exports"][0]


def add_fault(name, *args, **kwargs):
    """A conversation in which the server breaks the protocol: nothing more is said to it."""
    add_test(name, fails, *args, **kwargs)


def hang(peer, *_):
    """Whatever comes next is taken by the conversation, which knows what it may be."""
    if not peer.transmitting:
        peer.wait_until_gone()


def flood(peer, data):
    data *= max(1, 65536 // len(data))
    while True:
        peer.send(data)


def drip(peer, data):
    """One byte each 100 ms."""
    for byte in itertools.cycle(data):
        peer.send(bytes([byte]))
        time.sleep(0.1)


# ---- a server that does not answer, or not in time ----


def farewell(step):
    """An option that is not answered cannot be followed by another, so there is none; after a request there is one."""
    return "disc" if step == "read" else "eof"


def fails_late(farewell_, script, *args):
    result = fails(script, "did not answer in time", *args, patience=IMPATIENT, left=(farewell_,))
    result.check(0.6 < result.seconds < 5, f"it took {result.seconds:.1f} s")


def reply_header(option, kind, size=0):
    return struct.pack(">QIII", nbd.REPLY_MAGIC, option, kind, size)


SERVER_REPLY = reply_header(nbd.LIST, nbd.SERVER, 5) + b"\0\0\0\1a"
INFO_REPLY = reply_header(nbd.INFO, nbd.REP_INFO, 2) + b"\x77\x77"
CONTEXT_REPLY = reply_header(nbd.LIST_META_CONTEXT, nbd.META_CONTEXT, 7) + b"\0\0\0\0x:a"

GREETING = struct.pack(">QQH", nbd.NBD_MAGIC, nbd.OPTION_MAGIC, 3)


def drip_read(peer, request):
    peer.send(struct.pack(">IHHQI", nbd.STRUCTURED_MAGIC, nbd.DONE, nbd.OFFSET_DATA, request.cookie, 8200) + bytes(8))
    drip(peer, b"x")


LATE = {
    "greeting": (Script(greeting=hang),),
    "extended headers": (Script(extended_headers=hang),),
    "structured reply": (Script(structured_reply=hang),),
    "list": (Script(list_exports=hang), "--list"),
    "info": (Script(info=hang),),
    "contexts": (Script(list_meta_context=hang),),
    "go": (Script(go=hang),),
    "read": (Script(read=hang),),
}
DRIPPED = {
    "greeting": (Script(greeting=lambda peer: drip(peer, GREETING)),),
    "list": (Script(list_exports=lambda peer, _: drip(peer, SERVER_REPLY)), "--list"),
    "info": (Script(info=lambda peer, _: drip(peer, INFO_REPLY)),),
    "contexts": (Script(list_meta_context=lambda peer, _: drip(peer, CONTEXT_REPLY)), "--list-contexts"),
    "read": (Script(read=drip_read),),
}
for step, arguments in LATE.items():
    add_test(f"silent at {step}", fails_late, farewell(step), *arguments)
for step, arguments in DRIPPED.items():
    add_test(f"drips at {step}", fails_late, "eof", *arguments)


def is_interrupted(step, script, *args):
    """Ctrl-C ends every wait at once."""
    with FakeServer(script) as server:
        def arrived():
            server.connected.wait(10)
            time.sleep(0.3)
        result = nbdctl("info", *PATIENT, *args, server.uri(), interrupt=(arrived, signal.SIGINT))
        result.check(result.status == -signal.SIGINT, "it should die by the signal")
        result.check(result.seconds < 5, "it should end at once")
        result.check(result.out == b"", "there should be nothing on stdout")
        result.remarked("interrupted")
        check_equal(server.lefts(), [farewell(step)], "how the client left")


for step, arguments in LATE.items():
    add_test(f"interrupted at {step}", is_interrupted, step, *arguments)


# ---- the greeting ----


def say(data):
    """A greeting of these bytes; the client has nothing to answer."""
    def step(peer):
        peer.send(data)
        peer.wait_until_gone()
    return step


OLDSTYLE = struct.pack(">QQQI", nbd.NBD_MAGIC, nbd.OLDSTYLE_MAGIC, 1 << 20, 1) + bytes(124)

add_fault("garbage", Script(greeting=say(random.Random(1).randbytes(4096))), "does not speak NBD")
add_fault("zeroes", Script(greeting=say(bytes(4096))), "does not speak NBD")
add_fault("a web server", Script(greeting=say(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")),
          "does not speak NBD")
add_fault("endless garbage", Script(greeting=lambda peer: flood(peer, b"\xff")), "does not speak NBD")
add_fault("oldstyle", Script(greeting=say(OLDSTYLE)), "oldstyle", hint="nbd-server")
add_fault("unknown style", Script(greeting=say(struct.pack(">QQH", nbd.NBD_MAGIC, 1234, 3))), "unknown NBD negotiation")
add_fault("closes at once", Script(greeting=lambda peer: peer.socket.shutdown(1)), "closed the connection")


def unknown_handshake_flags_are_ignored(flags, expected):
    result = ask(Script(greeting=lambda peer: peer.greet(flags)), left=("disc",))
    result.worked()
    check_equal(result.peers[0].client_flags, expected, "client flags")


for server_flags in (1, 3, 0xffff, 0xfffd):
    add_test(f"handshake flags {server_flags:#x}", unknown_handshake_flags_are_ignored, server_flags, server_flags & 3)


# ---- replies that never end, or claim to be huge ----

LONG_NAME_REPLY = reply_header(nbd.LIST, nbd.SERVER, 4 + 8192) + struct.pack(">I", 4096) + b"n" * 4096 + b"d" * 4096

add_fault("endless list", Script(list_exports=lambda peer, _: flood(peer, SERVER_REPLY)), "sends more than 16385 replies",
          "--list")
add_fault("endless list of long names", Script(list_exports=lambda peer, _: flood(peer, LONG_NAME_REPLY)),
          "more than 16385 replies|cannot keep|in time", "--list", "--json")
add_fault("endless info", Script(info=lambda peer, _: flood(peer, INFO_REPLY)), "sends more than 64 replies")
add_fault("endless info at go", Script(go=lambda peer, _: flood(peer, reply_header(nbd.GO, nbd.REP_INFO, 2) + b"\x77\x77")),
          "sends more than 64 replies")
add_fault("endless contexts", Script(list_meta_context=lambda peer, _: flood(peer, CONTEXT_REPLY)),
          "sends more than 4097 replies")
add_fault("endless contexts asked for", Script(list_meta_context=lambda peer, _: flood(peer, CONTEXT_REPLY)),
          "sends more than 4097 replies", "--list-contexts=qemu:")


def long_names(peer, _data):
    for number in range(16384):
        peer.server(f"{number}".encode() + b"n" * 4000, b"d" * 4096)
    peer.reply(nbd.LIST, nbd.ACK)


add_test("list of more names than anyone has", fails, Script(list_exports=long_names), "cannot keep", "--list", "--json",
         left=("abort",))


def huge(option, kind, size):
    def step(peer, _data):
        peer.reply(option, kind, size=size)
        flood(peer, b"x")
    return step


HUGE_REPLIES = {
    "list server": ("list_exports", nbd.LIST, nbd.SERVER, "--list"),
    "list ack": ("list_exports", nbd.LIST, nbd.ACK, "--list"),
    "list error": ("list_exports", nbd.LIST, ERROR | 2, "--list"),
    "info info": ("info", nbd.INFO, nbd.REP_INFO),
    "info error": ("info", nbd.INFO, ERROR | 6),
    "context": ("list_meta_context", nbd.LIST_META_CONTEXT, nbd.META_CONTEXT),
    "structured ack": ("structured_reply", nbd.STRUCTURED_REPLY, nbd.ACK),
    "extended error": ("extended_headers", nbd.EXTENDED_HEADERS, ERROR | 1),
}
for reply, (step, option_number, kind_number, *arguments) in HUGE_REPLIES.items():
    for huge_size in (0xffffffff, 1 << 31, 1 << 20):
        add_fault(f"reply of {huge_size:#x} bytes: {reply}", Script(**{step: huge(option_number, kind_number, huge_size)}),
                  f"claims {huge_size} bytes", *arguments)


# ---- replies that are wrong ----


def answer(option, *replies):
    """Replies (kind, data) to an option, the last of them anything."""
    def step(peer, _data):
        for kind, data in replies:
            peer.reply(option, kind, data)
        peer.wait_until_gone()
    return step


def string(text, length=None):
    return struct.pack(">I", len(text) if length is None else length) + text


def wrong_magic(peer, _data):
    peer.reply(nbd.INFO, nbd.ACK, magic=nbd.REPLY_MAGIC + 1)
    peer.wait_until_gone()


EXPORT = struct.pack(">HQH", nbd.INFO_EXPORT, 1 << 20, 1)
OTHER_EXPORT = struct.pack(">HQH", nbd.INFO_EXPORT, 1 << 21, 1)
BLOCKS = struct.pack(">HIII", nbd.INFO_BLOCK_SIZE, 1, 4096, 1 << 25)

add_fault("wrong reply magic", Script(info=wrong_magic), "wrong magic number")
add_fault("reply to another option", Script(info=answer(nbd.LIST, (nbd.ACK, b""))), "replied to option 3 when NBD_OPT_INFO")
add_fault("reply to an option that was answered", Script(info=answer(nbd.STRUCTURED_REPLY, (nbd.ACK, b""))),
          "replied to option 8")

WRONG_REPLIES = {
    "list": ("list_exports", nbd.LIST, ["--list"], {
        "ack with data": ([(nbd.ACK, b"x")], "NBD_REP_ACK with data"),
        "info": ([(nbd.REP_INFO, EXPORT)], "answered NBD_OPT_LIST with reply type 3"),
        "unknown reply": ([(99, b"")], "reply type 99"),
        "no room for a name": ([(nbd.SERVER, b"\0\0\0")], "malformed"),
        "name longer than the reply": ([(nbd.SERVER, string(b"abc", 4))], "longer than the reply"),
        "name of 4 GiB": ([(nbd.SERVER, string(b"abc", 0xffffffff))], "longer than the reply"),
        "name of 4097 bytes": ([(nbd.SERVER, string(b"n" * 4097))], "more than 4096 bytes"),
        "name not UTF-8": ([(nbd.SERVER, string(b"\xff\xfe"))], "not UTF-8"),
        "name of a surrogate": ([(nbd.SERVER, string(b"\xed\xa0\x80"))], "not UTF-8"),
        "name with NUL": ([(nbd.SERVER, string(b"a\0b"))], "not UTF-8"),
    }),
    "info": ("info", nbd.INFO, [], {
        "ack with data": ([(nbd.REP_INFO, EXPORT), (nbd.ACK, b"x")], "NBD_REP_ACK with data"),
        "server": ([(nbd.SERVER, string(b"disk"))], "reply type 2"),
        "no info": ([(nbd.REP_INFO, b"\0")], "no room"),
        "short export": ([(nbd.REP_INFO, EXPORT[:-1])], "not 12 bytes"),
        "long export": ([(nbd.REP_INFO, EXPORT + b"\0")], "not 12 bytes"),
        "two exports that differ": ([(nbd.REP_INFO, EXPORT), (nbd.REP_INFO, OTHER_EXPORT)], "differ"),
        "no export": ([(nbd.REP_INFO, BLOCKS), (nbd.ACK, b"")], "without telling its size"),
        "nothing": ([(nbd.ACK, b"")], "without telling its size"),
        "short blocks": ([(nbd.REP_INFO, BLOCKS[:-1])], "not 14 bytes"),
        "name not UTF-8": ([(nbd.REP_INFO, b"\0\1\xff")], "not UTF-8"),
        "name with NUL": ([(nbd.REP_INFO, b"\0\1a\0")], "not UTF-8"),
        "name of 4097 bytes": ([(nbd.REP_INFO, b"\0\1" + b"n" * 4097)], "more than 4096 bytes"),
        "description not UTF-8": ([(nbd.REP_INFO, b"\0\2\xc0\x80")], "not UTF-8"),
    }),
    "contexts": ("list_meta_context", nbd.LIST_META_CONTEXT, [], {
        "ack with data": ([(nbd.ACK, b"x")], "NBD_REP_ACK with data"),
        "server": ([(nbd.SERVER, string(b"disk"))], "reply type 2"),
        "no name": ([(nbd.META_CONTEXT, b"\0\0\0\0")], "no room"),
        "nothing": ([(nbd.META_CONTEXT, b"")], "no room"),
        "not UTF-8": ([(nbd.META_CONTEXT, b"\0\0\0\0x:\xff")], "not UTF-8"),
        "NUL": ([(nbd.META_CONTEXT, b"\0\0\0\0x:\0")], "not UTF-8"),
        "4097 bytes": ([(nbd.META_CONTEXT, b"\0\0\0\0x:" + b"a" * 4095)], "more than 4096 bytes"),
    }),
    "structured": ("structured_reply", nbd.STRUCTURED_REPLY, [], {
        "ack with data": ([(nbd.ACK, b"x")], "NBD_REP_ACK with data"),
        "info": ([(nbd.REP_INFO, EXPORT)], "reply type 3"),
    }),
    "extended": ("extended_headers", nbd.EXTENDED_HEADERS, [], {
        "ack with data": ([(nbd.ACK, b"x")], "NBD_REP_ACK with data"),
    }),
    "go": ("go", nbd.GO, [], {
        "ack with data": ([(nbd.REP_INFO, EXPORT), (nbd.ACK, b"x")], "NBD_REP_ACK with data"),
        "nothing": ([(nbd.ACK, b"")], "without telling its size"),
        "two exports that differ": ([(nbd.REP_INFO, EXPORT), (nbd.REP_INFO, OTHER_EXPORT)], "differ"),
    }),
}
for reply, (step, option_number, arguments, wrong_replies) in WRONG_REPLIES.items():
    for reason, (replies, pattern) in wrong_replies.items():
        add_fault(f"wrong reply to {reply}: {reason}", Script(**{step: answer(option_number, *replies)}), pattern, *arguments)


for step, arguments in {"structured_reply": [], "info": [], "list_meta_context": [], "list_exports": ["--list"]}.items():
    def extra_reply(peer, data, step=step):
        nbd.STEPS[step](peer, data)
        peer.send(b"\0" * 20)
    add_fault(f"bytes after the ack: {step}", Script(**{step: extra_reply}), "wrong magic number", *arguments)


# ---- impossible exports ----

IMPOSSIBLE = {
    "size 2^63": (Export(size=1 << 63), r"size 9223372036854775808 is 2\^63 or more"),
    "size 2^64-1": (Export(size=(1 << 64) - 1), r"2\^63 or more"),
    "no HAS_FLAGS": (Export(flags=0), "lack NBD_FLAG_HAS_FLAGS"),
    "block size 3": (Export(blocks=(3, 4096, 1 << 25)), "minimum block size 3 "),
    "block size 0": (Export(blocks=(0, 4096, 1 << 25)), "minimum block size 0 "),
    "block size 128K": (Export(blocks=(1 << 17, 1 << 17, 1 << 25)), "minimum block size 131072 "),
    "preferred below minimum": (Export(blocks=(4096, 1024, 1 << 25)), "preferred block size 1024 "),
    "preferred below 512": (Export(blocks=(1, 256, 1 << 25)), "preferred block size 256 "),
    "preferred 0": (Export(blocks=(1, 0, 1 << 25)), "preferred block size 0 "),
    "preferred 5000": (Export(blocks=(1, 5000, 1 << 25)), "preferred block size 5000 "),
    "maximum below preferred": (Export(blocks=(1, 4096, 4095)), "maximum payload 4095 "),
    "maximum 0": (Export(blocks=(1, 4096, 0)), "maximum payload 0 "),
}
for reason, (export, pattern) in IMPOSSIBLE.items():
    add_fault(f"impossible export: {reason}", Script(export), pattern)
    add_fault(f"impossible export of a list: {reason}", Script(export), pattern, "--list", "--json")
    if export.blocks == Export().blocks:
        add_fault(f"impossible export by NBD_OPT_EXPORT_NAME: {reason}",
                  Script(export, info=nbd.unsupported(nbd.INFO), go=nbd.unsupported(nbd.GO)), pattern)


@test
def test_empty_export():
    """A disk cannot be empty, but an export can, and what it is can be told."""
    export = works(Script(Export(size=0)))
    check_equal((export["export-size"], export["export-size-str"], export["content"]), (0, "0", "empty"), "export")


@test
def test_size_is_no_multiple_of_the_block_size():
    export = works(Script(Export(size=8192 + 100, blocks=(512, 4096, 1 << 25))))
    check_equal(export["export-size"], 8292, "size")
    check("content" in export, "the whole blocks can be read")


@test
def test_export_smaller_than_its_block_size():
    """Nothing of it can be read, which is no reason to hide the rest."""
    result = ask(Script(Export(size=100, blocks=(512, 4096, 1 << 25))), "--json", left=("disc",))
    check_equal(result.status, 0, "status")
    result.remarked("content.*block")
    check_equal(json.loads(result.out)["exports"][0]["export-size"], 100, "size")


@test
def test_large_blocks():
    """A request is whole blocks, also where they are larger than what is wanted."""
    check("content" in works(Script(Export(blocks=(65536, 65536, 1 << 20)))), "content")


@test
def test_small_maximum_payload():
    """What does not fit into one request is read with several."""
    result = ask(Script(Export(blocks=(512, 1024, 3000))), "--json", left=("disc",))
    check("content" in json.loads(result.worked())["exports"][0], "content")
    check_equal(sum(request.length for request in result.peers[0].requests if request.command == nbd.READ), 8192,
                "bytes read")


# ---- every error reply ----


def refuse(option, error, message=b""):
    return lambda peer, _data: peer.refuse(option, error, message)


def is_refused(step, option, error, args, expected):
    """With every kind of message; told escaped, on one line, with the name of the error; and left politely."""
    for message in (b"", b"go away", NASTY, (NASTY * 200)[:4096], ("\u00e9\x1b".encode() * 2000)[:4096], b"\x1b" * 4096,
                    b"m" * 16384, b"cut\0off"):
        result = fails(Script(**{step: refuse(option, error, message)}), expected, *args, left=("abort",))
        if message == NASTY:
            result.check(NASTY_ESCAPED.encode() in result.err, "the message should be there, escaped")
        if message == b"go away":
            result.check(b'"go away"' in result.err, "the message should be quoted")


REFUSALS = {"list": ("list_exports", nbd.LIST, ["--list"]), "info": ("info", nbd.INFO, []), "go": ("go", nbd.GO, []),
            "list contexts": ("list_meta_context", nbd.LIST_META_CONTEXT, ["--list-contexts"])}
for refused, (step, option_number, arguments) in REFUSALS.items():
    for error_name in [*nbd.ERRORS, 99]:
        if error_name == "UNSUP" and refused in ("info", "go"):
            continue  # there is another way: see below
        add_test(f"refused {refused}: {error_name}", is_refused, step, option_number, error_name, arguments,
                 "an unknown error to NBD_OPT_" if error_name == 99 else f"NBD_REP_ERR_{error_name} to NBD_OPT_")


@test
def test_hints_of_refusals():
    fails(Script(info=refuse(nbd.INFO, "UNKNOWN")), 'export "disk": the server has no such export', hint="--list",
          left=("abort",))
    fails(Script(info=refuse(nbd.INFO, "TLS_REQD")), "demands TLS", hint="nbds://", left=("abort",))
    fails(Script(extended_headers=refuse(nbd.EXTENDED_HEADERS, "TLS_REQD")), "demands TLS", hint="nbds://", left=("abort",))


def goes_on_without(script, replies, **kwargs):
    """An extension that the server will not have, for whatever reason, is no reason to give up."""
    result = ask(script, "--no-content", left=("abort",), **kwargs)
    check(f"using {replies} packets" in result.worked(), f"{replies} replies ({result})")


for error_name in [*nbd.ERRORS, 99]:
    if error_name in ("TLS_REQD", "SHUTDOWN"):
        continue
    add_test(f"no extended headers: {error_name}", goes_on_without,
             Script(extended_headers=refuse(nbd.EXTENDED_HEADERS, error_name, NASTY)), "structured")
    add_test(f"no structured replies: {error_name}", goes_on_without,
             Script(structured_reply=refuse(nbd.STRUCTURED_REPLY, error_name, NASTY)), "simple")
    add_test(f"no meta contexts: {error_name}", goes_on_without,
             Script(list_meta_context=refuse(nbd.LIST_META_CONTEXT, error_name, NASTY)), "structured")

SHUTDOWNS = {"extended_headers": (nbd.EXTENDED_HEADERS, []), "structured_reply": (nbd.STRUCTURED_REPLY, []),
             "list_exports": (nbd.LIST, ["--list"]), "info": (nbd.INFO, []), "go": (nbd.GO, []),
             "list_meta_context": (nbd.LIST_META_CONTEXT, [])}
for step, (option_number, arguments) in SHUTDOWNS.items():
    add_test(f"shutdown at {step}", fails, Script(**{step: refuse(option_number, "SHUTDOWN")}), "shutting down", *arguments,
             left=("abort",))


def three_exports(peer, _data):
    for name in (b"one", b"two", b"three"):
        peer.server(name)
    peer.reply(nbd.LIST, nbd.ACK)


@test
def test_shutdown_in_the_middle_of_a_list():
    """Only ABORT may follow, not the question for the next export."""
    result = ask(Script(list_exports=three_exports, info=refuse(nbd.INFO, "SHUTDOWN")), "--list", left=("abort",))
    check_equal(result.status, 1, "status")
    result.remarked("shutting down")


@test
def test_list_goes_on_after_a_refused_export():
    def refuse_second(peer, data):
        if b"two" in data:
            peer.refuse(nbd.INFO, "POLICY", b"not for you")
        else:
            nbd.info(peer, data)
    result = ask(Script(list_exports=three_exports, info=refuse_second), "--list", "--json", left=("abort",))
    check_equal(result.status, 1, "status")
    result.remarked('export "two": .*"not for you"')
    check_equal([export["export-name"] for export in json.loads(result.out)["exports"]], ["one", "three"], "exports")


@test
def test_list_ends_with_the_connection():
    """One error, not one for each export that can no longer be asked about."""
    def leave(peer, _data):
        peer.socket.shutdown(1)
        peer.wait_until_gone()
    for args in ([], ["--json"]):
        result = ask(Script(list_exports=three_exports, info=leave), "--list", *args)
        check_equal(result.status, 1, "status")
        result.remarked('export "one": the server closed the connection')
        check(not args or not result.out, "half of an object is worse than none")


@test
def test_list_with_content_needs_a_session_for_each_export():
    result = ask(Script(list_exports=three_exports), "--list", "--content", "--json", left=("abort", "disc", "disc", "disc"))
    exports = json.loads(result.worked())["exports"]
    check_equal(["content" in export for export in exports], [True] * 3, "content")


# ---- names and messages that are shown ----


@test
def test_names_are_escaped_in_text_and_exact_in_json():
    name = b"a\x1b[2J\nb\xe2\x80\xae\"\\\xc3\xa9"

    def nasty_list(peer, _data):
        peer.server(name, b"first\n\x1b[1msecond")
        peer.reply(nbd.LIST, nbd.ACK)

    def nasty_contexts(peer, _data):
        peer.context(b"x-\x1b:a\nb")
        peer.reply(nbd.LIST_META_CONTEXT, nbd.ACK)

    script = Script(list_exports=nasty_list, list_meta_context=nasty_contexts)
    text = ask(script, "--list", left=("abort",)).worked()
    check(all(line.replace("\t", "").isprintable() for line in text.split("\n")), f"text fit for a terminal: {text!r}")
    check(r'export="a\x1b[2J\x0ab' in text and r"first\x0a\x1b[1msecond" in text, f"escaped: {text!r}")
    answer_ = works(script, "--list", left=("abort",))
    check_equal((answer_["export-name"], answer_["description"], answer_["contexts"]),
                (name.decode(), "first\n\x1b[1msecond", ["x-\x1b:a\nb"]), "exact strings")


@test
def test_canonical_name_and_description():
    def info_with_names(peer, _data):
        peer.info(nbd.INFO, nbd.INFO_NAME, "the real näme".encode())
        peer.info(nbd.INFO, nbd.INFO_DESCRIPTION, b"of a disk")
        nbd.describe(peer, nbd.INFO)
    export = works(Script(info=info_with_names))
    check_equal((export["export-name"], export["description"]), ("the real näme", "of a disk"), "strings")


@test
def test_unknown_infos_are_ignored():
    def info_with_unknown(peer, _data):
        for kind, data in ((4, b""), (0x7777, b"\xff" * 300), (100, bytes(16000)), (65535, b"x")):
            peer.info(nbd.INFO, kind, data)
        nbd.describe(peer, nbd.INFO)
    works(Script(info=info_with_unknown))


@test
def test_same_export_told_twice():
    def info_twice(peer, data):
        peer.info_export(nbd.INFO)
        nbd.info(peer, data)
    works(Script(info=info_twice))


@test
def test_go_knows_better_than_info():
    """nbd-server tells a size of 0 until the export is opened."""
    def empty(peer, _data):
        peer.info_export(nbd.INFO, size=0)
        peer.reply(nbd.INFO, nbd.ACK)
    export = works(Script(info=empty))
    check_equal((export["export-size"], export["content"], export.get("block_size_minimum")), (1 << 20, nbd.CONTENT_WORDS, 1),
                "export")


@test
def test_description_that_is_no_text():
    """What follows the name in a list is up to the server."""
    def binary(peer, _data):
        peer.server(b"disk", b"\xff\0\xfe")
        peer.reply(nbd.LIST, nbd.ACK)
    check("description" not in works(Script(list_exports=binary), "--list", left=("abort",)), "no description")


@test
def test_no_exports():
    result = ask(Script(list_exports=lambda peer, _: peer.reply(nbd.LIST, nbd.ACK)), "--list", "--json", left=("abort",))
    check_equal(json.loads(result.worked())["exports"], [], "exports")


@test
def test_many_exports():
    """As many as are taken at all, each with its description."""
    def many(peer, _data):
        for number in range(5000):
            peer.server(f"disk{number}".encode(), b"one of many")
        peer.reply(nbd.LIST, nbd.ACK)
    result = ask(Script(list_exports=many), "--list", "--json", left=("abort",))
    check_equal(len(json.loads(result.worked())["exports"]), 5000, "exports")


# ---- servers that know less, or more ----

NO_INFO = {"info": nbd.unsupported(nbd.INFO)}
NO_GO = {**NO_INFO, "go": nbd.unsupported(nbd.GO)}
NO_STRUCTURED = {"structured_reply": nbd.unsupported(nbd.STRUCTURED_REPLY)}


def greet_with(flags):
    return lambda peer: peer.greet(flags)


def old_server(steps, protocol, replies, contexts, leaves):
    result = ask(Script(**steps), "--json", left=("disc",))
    answer_ = json.loads(result.worked())
    export = answer_["exports"][0]
    check_equal((answer_["protocol"], answer_["structured"], answer_.get("extended", False)),
                (protocol, replies != "simple", replies == "extended"), "protocol")
    check_equal((export["export-name"], export["export-size"], "contexts" in export, "content" in export),
                ("disk", 1 << 20, contexts, True), "export")
    ask(Script(**steps), "--no-content", left=(leaves,)).worked()


for server_name, steps, *expected_of_it in (
        ("no INFO", NO_INFO, "newstyle-fixed", "structured", False, "disc"),
        ("no GO", NO_GO, "newstyle-fixed", "structured", False, "disc"),
        ("no GO, zeroes", {**NO_GO, "greeting": greet_with(nbd.FIXED_NEWSTYLE)}, "newstyle-fixed", "structured", False, "disc"),
        ("no structured replies", NO_STRUCTURED, "newstyle-fixed", "simple", False, "abort"),
        ("fixed newstyle only", {**NO_GO, **NO_STRUCTURED}, "newstyle-fixed", "simple", False, "disc"),
        ("newstyle", {"greeting": greet_with(nbd.NO_ZEROES)}, "newstyle", "simple", False, "disc"),
        ("newstyle, zeroes", {"greeting": greet_with(0)}, "newstyle", "simple", False, "disc"),
        ("extended headers", {"extended_headers": nbd.agree_extended_headers}, "newstyle-fixed", "extended", True, "abort"),
        ("no meta contexts", {"list_meta_context": nbd.unsupported(nbd.LIST_META_CONTEXT)}, "newstyle-fixed", "structured",
         False, "abort")):
    add_test(f"server: {server_name}", old_server, steps, *expected_of_it)


@test
def test_list_of_a_server_without_info():
    """Describing an export opens it there, so each needs a session."""
    result = ask(Script(list_exports=three_exports, **NO_GO), "--list", "--json", left=("disc", "disc", "disc"))
    check_equal(len(json.loads(result.worked())["exports"]), 3, "exports")


add_test("list of a newstyle server", fails, Script(greeting=greet_with(0)), "too old", "--list")
add_test("contexts of a server without structured replies", fails, Script(**NO_STRUCTURED), "structured replies",
         "--list-contexts", left=("abort",))


@test
def test_export_name_is_refused_by_closing():
    """The only way an old server has."""
    def close(peer, _data):
        peer.socket.shutdown(1)
        peer.wait_until_gone()
    fails(Script(export_name=close, **NO_GO), 'export "disk": the server closed the connection: it may not have', hint="--list")


@test
def test_waits_for_the_final_reply():
    """A client that does not would be seen while the server takes its time."""
    def patient(step):
        def slow(peer, data):
            peer.must_be_silent(0.1)
            nbd.STEPS[step](peer, data)
        return slow
    script = Script(**{step: patient(step) for step in ("extended_headers", "structured_reply", "info", "go", "read",
                                                        "list_meta_context")})
    works(script)


# ---- reading the first bytes ----

CHUNKS = nbd.STEPS["read"]


def add_read_fault(name, step, match, extended=False, **steps):
    """The server breaks the protocol in its answer to a read: nothing is shown, nothing more is said to it."""
    if extended:
        steps["extended_headers"] = nbd.agree_extended_headers
    add_fault(f"read: {name}", Script(read=step, **steps), match)


def read_step(*calls):
    """Each call is given the peer and the request; then the server waits."""
    def step(peer, request):
        for call in calls:
            call(peer, request)
        peer.wait_until_gone()
    return step


def data_at(offset, length, flags=0):
    return lambda peer, request: peer.data(request, offset, length, flags)


def hole_at(offset, length, flags=0):
    return lambda peer, request: peer.hole(request, offset, length, flags)


def chunk_of(kind, payload=b"", **fields):
    return lambda peer, request: peer.chunk(request, kind, payload, **fields)


def simple_reply(peer, request):
    peer.simple(request, 0, bytes(request.length))


def endless_chunks(kind, payload=b""):
    def step(peer, request):
        while True:
            peer.chunk(request, kind, payload)
    return step


def error_payload(number, message=b"", length=None, tail=b""):
    return struct.pack(">IH", number, len(message) if length is None else length) + message + tail


ALL = 8192

for is_extended in (False, True):
    suffix = " (extended)" if is_extended else ""
    add_read_fault("simple reply" + suffix, read_step(simple_reply), "simple reply|no use for", is_extended)
    add_read_fault("wrong cookie" + suffix, read_step(chunk_of(nbd.OFFSET_DATA, bytes(8 + ALL), cookie=77)), "cookie",
                   is_extended)
    add_read_fault("chunk past the range" + suffix, read_step(data_at(0, ALL + 1)), "outside", is_extended)
    add_read_fault("chunk begins past the range" + suffix, read_step(data_at(ALL, 512)), "outside", is_extended)
    add_read_fault("chunk at 2^64-1" + suffix, read_step(chunk_of(nbd.OFFSET_DATA, b"\xff" * 8 + b"x")), "outside", is_extended)
    add_read_fault("overlapping chunks" + suffix, read_step(data_at(0, 4096), data_at(4095, 4097)), "twice|outside",
                   is_extended)
    add_read_fault("the same chunk twice" + suffix, read_step(data_at(512, 512), data_at(512, 512)), "twice|outside",
                   is_extended)
    add_read_fault("chunk around a chunk" + suffix, read_step(data_at(512, 512), data_at(0, ALL)), "twice|outside", is_extended)
    add_read_fault("overlapping hole" + suffix, read_step(data_at(0, 4096), hole_at(0, 1)), "twice|outside", is_extended)
    add_read_fault("hole past the range" + suffix, read_step(hole_at(0, ALL + 1)), "outside", is_extended)
    add_read_fault("hole of 4 GiB" + suffix, read_step(hole_at(0, 0xffffffff)), "outside", is_extended)
    add_read_fault("empty hole" + suffix, read_step(hole_at(0, 0)), "outside", is_extended)
    add_read_fault("short hole" + suffix, read_step(chunk_of(nbd.OFFSET_HOLE, bytes(11))), "malformed", is_extended)
    add_read_fault("long hole" + suffix, read_step(chunk_of(nbd.OFFSET_HOLE, bytes(13))), "malformed", is_extended)
    add_read_fault("empty chunk" + suffix, read_step(chunk_of(nbd.OFFSET_DATA, bytes(8))), "too short", is_extended)
    add_read_fault("chunk without offset" + suffix, read_step(chunk_of(nbd.OFFSET_DATA, bytes(7))), "too short", is_extended)
    add_read_fault("4 GiB chunk" + suffix, read_step(chunk_of(nbd.OFFSET_DATA, bytes(8), size=0xffffffff)), "outside",
                   is_extended)
    add_read_fault("done too early" + suffix, read_step(data_at(0, 4096, nbd.DONE)), "only 4096 of 8192", is_extended)
    add_read_fault("nothing" + suffix, read_step(chunk_of(nbd.NONE, flags=nbd.DONE)), "only 0 of 8192", is_extended)
    add_read_fault("none with payload" + suffix, read_step(chunk_of(nbd.NONE, b"x", flags=nbd.DONE)), "malformed", is_extended)
    add_read_fault("endless none" + suffix, endless_chunks(nbd.NONE), "malformed", is_extended)
    add_read_fault("endless errors" + suffix, endless_chunks(nbd.CHUNK_ERROR, error_payload(5)), "bring nothing", is_extended)
    add_read_fault("unknown type" + suffix, read_step(chunk_of(77, bytes(20))), "reply type 77", is_extended)
    add_read_fault("block status" + suffix, read_step(chunk_of(5, bytes(12))), "reply type 5", is_extended)
    add_read_fault("error that lies about its message" + suffix,
                   read_step(chunk_of(nbd.CHUNK_ERROR, error_payload(5, b"abc", 4), flags=nbd.DONE)), "longer than itself",
                   is_extended)
    add_read_fault("error offset that lies about its message" + suffix,
                   read_step(chunk_of(nbd.CHUNK_ERROR_OFFSET, error_payload(5, b"abc", 4, bytes(8)), flags=nbd.DONE)),
                   "longer than itself", is_extended)
    add_read_fault("error too short" + suffix, read_step(chunk_of(nbd.CHUNK_ERROR, bytes(5), flags=nbd.DONE)), "too short",
                   is_extended)
    add_read_fault("error that is none" + suffix, read_step(chunk_of(nbd.CHUNK_ERROR, error_payload(0), flags=nbd.DONE)),
                   "carries no error", is_extended)
    add_read_fault("error of 4 GiB" + suffix, read_step(chunk_of(nbd.CHUNK_ERROR, size=0xffffffff, flags=nbd.DONE)), "too long",
                   is_extended)

add_read_fault("4 EiB chunk", read_step(chunk_of(nbd.OFFSET_DATA, bytes(8), size=1 << 62)), "outside", True)
add_read_fault("wrong offset", read_step(chunk_of(nbd.OFFSET_DATA, bytes(8 + ALL), offset=512)), "offset", True)
add_read_fault("structured reply where simple ones are due", read_step(
    lambda peer, request: peer.data(request, 0, ALL, nbd.DONE)), "no use for", **NO_STRUCTURED)
add_read_fault("structured reply where extended ones are due", read_step(
    lambda peer, request: peer.send(struct.pack(">IHHQI", nbd.STRUCTURED_MAGIC, 1, 0, request.cookie, 0))), "no use for", True)
add_read_fault("wrong magic", read_step(lambda peer, request: peer.send(bytes(64))), "no use for")
add_read_fault("wrong cookie of a simple reply", read_step(
    lambda peer, request: peer.send(struct.pack(">IIQ", nbd.SIMPLE_MAGIC, 0, 99) + bytes(ALL))), "cookie", **NO_STRUCTURED)
add_read_fault("closes", lambda peer, _: peer.socket.shutdown(1), "closed the connection")
add_read_fault("more chunks than anyone sends", read_step(
    *[data_at(offset, 1) for offset in range(0, ALL, 2)]), "pieces")


@test
def test_bytes_after_go():
    """What comes before the first request is no reply to it."""
    def early(peer, data):
        nbd.go(peer, data)
        peer.send(bytes(32))
    fails(Script(go=early), "no use for")


def reads(*calls, **steps):
    """Unusual, but as the specification allows."""
    def step(peer, request):
        for call in calls:
            call(peer, request)
    result = ask(Script(read=step, **steps), "--json", left=("disc",))
    check_equal(json.loads(result.worked())["exports"][0]["content"], nbd.CONTENT_WORDS, "content")


ORDERS = {
    "in order": (data_at(0, 4096), data_at(4096, 4096, nbd.DONE)),
    "backwards": (data_at(4096, 4096), data_at(0, 4096, nbd.DONE)),
    "middle last": (data_at(0, 512), data_at(7680, 512), data_at(512, 7168), chunk_of(nbd.NONE, flags=nbd.DONE)),
    "holes": (hole_at(7680, 512), hole_at(0, 512), data_at(512, 7168, nbd.DONE)),
    "every second first": tuple(data_at(offset, 512) for half in (0, 512) for offset in range(half, ALL, 1024)) +
                          (chunk_of(nbd.NONE, flags=nbd.DONE),),
    "byte by byte": tuple(data_at(offset, 1) for offset in range(ALL)) + (chunk_of(nbd.NONE, flags=nbd.DONE),),
    "unknown flags": (data_at(0, ALL, 0x8000 | nbd.DONE),),
}
for order, chunks in ORDERS.items():
    add_test(f"read in pieces: {order}", reads, *chunks)
    add_test(f"read in pieces: {order} (extended)", reads, *chunks, extended_headers=nbd.agree_extended_headers)


def cannot_read(*calls, match="content.*Input/output error", **steps):
    """The disk is bad, but the server is well: the rest is shown, with a remark."""
    def step(peer, request):
        for call in calls:
            call(peer, request)
    result = ask(Script(read=step, **steps), "--json", left=("disc",))
    check_equal(result.status, 0, f"status ({result})")
    result.remarked(match)
    export = json.loads(result.out)["exports"][0]
    check_equal(("content" in export, export["export-size"]), (False, 1 << 20), "export")


def fail_with(number, message=b""):
    return lambda peer, request: peer.error(request, number, message)


for is_extended in (False, True):
    suffix, more = (" (extended)", {"extended_headers": nbd.agree_extended_headers}) if is_extended else ("", {})
    add_test("read error" + suffix, cannot_read, fail_with(5), **more)
    add_test("read error with a message" + suffix, cannot_read, fail_with(5, b"sector 0 is gone"), match="sector 0 is gone",
             **more)
    add_test("read error with a nasty message" + suffix, cannot_read, fail_with(5, (NASTY * 200)[:4096]), **more)
    add_test("read error after data" + suffix, cannot_read, data_at(0, 4096), fail_with(5), **more)
    add_test("read error before data" + suffix, cannot_read, lambda peer, request: peer.error(request, 5, flags=0),
             data_at(0, ALL, nbd.DONE), **more)
    add_test("read error with an offset" + suffix, cannot_read, data_at(0, 4096),
             chunk_of(nbd.CHUNK_ERROR_OFFSET, error_payload(5, b"bad", tail=struct.pack(">Q", 4096)), flags=nbd.DONE), **more)
    add_test("read error of an unknown kind" + suffix, cannot_read,
             chunk_of(0x8abc, error_payload(5, b"bad", tail=b"more"), flags=nbd.DONE), **more)
add_test("read error, simple", cannot_read, lambda peer, request: peer.simple(request, 5), **NO_STRUCTURED)
add_test("read error without a remark", lambda: check_equal(
    ask(Script(read=fail_with(5)), "--quiet", left=("disc",)).err, b"", "stderr"))


@test
def test_shutdown_while_reading():
    """A polite leave is demanded."""
    result = ask(Script(read=fail_with(108)), left=("disc",))
    result.failed("shutdown|shutting down")


# ---- a connection that ends ----


def conversation_length(args, steps, export):
    """How many bytes a good server sends."""
    sent = []

    class Counting(Script):
        def converse(self, peer):
            send = peer.send
            peer.send = lambda data: (sent.append(len(data)), send(data))[1]
            super().converse(peer)

    with FakeServer(Counting(export, **steps)) as server:
        result = nbdctl("info", *PATIENT, *args, server.uri())
        result.worked()
        left = server.lefts()
    # What answers an ABORT is not waited for.
    return sum(sent) - (20 if left == ["abort"] else 0)


def closed_anywhere(args, steps, remainder):
    """At every byte; the offsets are shared out between several tests."""
    export = Export(size=96, blocks=steps.get("blocks", (1, 512, 1 << 20)))
    steps = {name: step for name, step in steps.items() if name != "blocks"}
    total = conversation_length(args, steps, export)
    for offset in range(remainder, total, SHARES):
        with FakeServer(Script(export, **steps), budget=offset) as server:
            result = nbdctl("info", *PATIENT, *args, server.uri())
            check_equal(server.lefts(), ["eof"], f"how the client left at byte {offset}")
        result.check(result.status == 1, f"it should fail at byte {offset}")
        result.remarked("closed the connection")
        result.check(result.out == b"" or "--list" in args, "there should be nothing on stdout")


SHARES = 4
CLOSED = {
    "info": (["--json"], {}),
    "extended": ([], {"extended_headers": nbd.agree_extended_headers}),
    "export name": ([], {**NO_GO, **NO_STRUCTURED, "greeting": greet_with(1), "blocks": None}),
    "list": (["--list"], {}),
    "contexts": (["--list-contexts", "base:"], {}),
}
for conversation, (arguments, steps) in CLOSED.items():
    for share in range(SHARES):
        add_test(f"closed at every byte: {conversation} {share + 1}/{SHARES}", closed_anywhere, arguments, steps, share)


def is_reset(step):
    """A connection that breaks, instead of ending."""
    def reset(peer, *_):
        peer.socket.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER: close() resets
        peer.socket.close()
        raise nbd.ClientLeft
    result = ask(Script(**{step: reset}), transport="tcp4")
    result.failed("Connection reset|closed the connection|Broken pipe")


for step in ("greeting", "extended_headers", "info", "go", "read"):
    add_test(f"reset at {step}", is_reset, step)

if __name__ == "__main__":
    main()
