#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A server that negotiates like any other, and then is odd: for what the kernel side of nbdctl must survive.

usage: odd_server.py PORT KEY=VALUE...
  size=N flags=N blocks=MIN,PREFERRED,MAX   what it says of its export
  then=mute     reads are never answered
  then=close    closes after the negotiation
  then=extra    sends a byte that nobody asked for
  then=error    answers every request with EIO
  then=store    is a disk in memory, with two faults if asked for:
                slowflush=SECONDS before each FLUSH is answered; failwrite=N: the Nth WRITE fails with ENOSPC;
                cut=N: every Nth reply with data breaks off in its middle, and the connection is reset
  then=deaf     answers reads until the file named by deafen=FILE exists, then reads no more from the socket
"""
import socket
import struct
import os
import sys
import threading
import time

OPTION_REPLY = 0x3E889045565A9


def receive(connection, size):
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise ConnectionError
        data += piece
    return data


def reply(connection, option, kind, payload=b""):
    connection.sendall(struct.pack(">QIII", OPTION_REPLY, option, kind, len(payload)) + payload)


def describe(connection, option, settings):
    reply(connection, option, 3, struct.pack(">HQH", 0, settings["size"], settings["flags"]))
    if settings["blocks"]:
        reply(connection, option, 3, struct.pack(">HIII", 3, *settings["blocks"]))
    reply(connection, option, 1)


def store(connection, settings, command, cookie, offset, length):
    disk = settings["disk"]
    error, data = 0, b""
    if command == 1:
        data = receive(connection, length)
        settings["failwrite"] -= 1
        if settings["failwrite"] == 0:
            error = 28
        else:
            disk[offset : offset + length] = data
        data = b""
    elif command == 0:
        data = bytes(disk[offset : offset + length])
    elif command == 3:
        time.sleep(settings["slowflush"])
    answer = struct.pack(">IIQ", 0x67446698, error, cookie) + data
    if data and settings["cut"]:
        settings["replies"] = settings.get("replies", 0) + 1
        if settings["replies"] % settings["cut"] == 0:
            connection.sendall(answer[: len(answer) // 2])
            time.sleep(0.05)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise ConnectionError
    connection.sendall(answer)


def transmit(connection, settings):
    then = settings["then"]
    if then == "close":
        return
    if then == "extra":
        connection.sendall(b"x")
    while True:
        while then == "deaf" and os.path.exists(settings["deafen"]):
            time.sleep(0.1)
        header = receive(connection, 28)
        _, _, command, cookie, offset, length = struct.unpack(">IHHQQI", header)
        if then in ("store", "deaf") and command != 2:
            store(connection, settings, command, cookie, offset, length)
            continue
        if command == 2:
            return
        if command == 1:
            receive(connection, length)
        if then == "error":
            connection.sendall(struct.pack(">IIQ", 0x67446698, 5, cookie))


def serve(connection, settings):
    try:
        connection.sendall(struct.pack(">QQH", 0x4E42444D41474943, 0x49484156454F5054, 3))
        receive(connection, 4)
        while True:
            _, option, length = struct.unpack(">QII", receive(connection, 16))
            receive(connection, length)
            if option == 7:
                describe(connection, option, settings)
                transmit(connection, settings)
                return
            if option == 2:
                reply(connection, option, 1)
                return
            reply(connection, option, 0x80000001)
    except OSError:
        pass
    finally:
        connection.close()


def main():
    settings = {"size": 1 << 20, "flags": 0x145, "blocks": None, "then": "mute", "slowflush": 0, "failwrite": 0, "cut": 0,
                "deafen": ""}
    for word in sys.argv[2:]:
        key, value = word.split("=", 1)
        if key == "blocks":
            settings[key] = [int(n, 0) for n in value.split(",")]
        else:
            settings[key] = value if key in ("then", "deafen") else int(value, 0)
    settings["disk"] = bytearray(settings["size"]) if settings["size"] < 1 << 30 else None
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, settings), daemon=True).start()


main()
