#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The guest's part of `scripts/bench attach`: nbdctl beside nbd-client on one kernel, in alternating rounds.

A number is never an error: the status tells only whether everything ran. The ratio of a row is the median of the
rounds' ratios (what disturbs the machine disturbs both sides of a round), so it is not quite that of the medians.
"""
import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time

NBDCTL = os.environ["NBDCTL_BIN"]
NBD_CLIENT = os.environ["NBD_CLIENT"]
STOPWATCH = os.environ["STOPWATCH"]
KERNEL_6_1 = platform.release().startswith("6.1.")

QEMU_PORT, NBDKIT_PORT, FIO_PORT = 10901, 10902, 10903
MIB = 1 << 20
SETTLE = 0.05  # seconds between two measurements: what one leaves to be done must not be counted as the next one's
FIO_SECONDS = 2
FIO_REGION = 512  # MiB


# ---- servers ----

def listens(port):
    """Not by connecting: that would be a client like any other."""
    with open("/proc/net/tcp", encoding="ascii") as table:
        return any(f":{port:04X} 00000000:0000 0A" in line for line in table)


def serve(port, *command):
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    for _ in range(1600):
        if listens(port):
            return server
        if server.poll() is not None:
            break
        time.sleep(0.05)
    sys.exit(f"bench: {command[0]} does not listen on port {port}")


def start_servers(folder):
    """
    Both offer CAN_MULTI_CONN. One thread: nbdkit would start 16 of them for each connection, which takes longer on
    user-mode-linux than all that a client does.
    """
    image = os.path.join(folder, "disk.img")
    with open(image, "wb") as file:
        file.truncate(256 * MIB)
    return [
        serve(QEMU_PORT, "qemu-nbd", "-t", "-f", "raw", "-e", "32", "-b", "127.0.0.1", "-p", str(QEMU_PORT),
              "-x", "disk", image),
        serve(NBDKIT_PORT, "nbdkit", "-f", "-i", "127.0.0.1", "-p", str(NBDKIT_PORT), "-t", "1", "memory", "256M"),
    ]


# ---- the two clients ----

def timed(command):
    """Seconds and KiB."""
    done = subprocess.run([STOPWATCH, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"bench: {' '.join(command)}: status {done.returncode}: {done.stderr}")
    nanoseconds, kibibytes = done.stdout.split()
    return int(nanoseconds) / 1e9, int(kibibytes)


def wait_for(condition, what):
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    sys.exit(f"bench: {what}")


class Client:
    def __init__(self, number, connections=None):
        self.number = number
        self.connections = connections

    def option(self, name):
        return [name, str(self.connections)] if self.connections else []

    def attached(self):
        return os.path.exists(f"/sys/block/nbd{self.number}/pid")

    def attach(self, port):
        result = timed(self.attach_command(port))
        wait_for(self.attached, f"/dev/nbd{self.number} is not attached")
        return result

    def detach(self):
        result = timed(self.detach_command())
        wait_for(lambda: not self.attached(), f"/dev/nbd{self.number} does not detach")
        return result


class NbdClient(Client):
    def attach_command(self, port):
        return [NBD_CLIENT, "-N", "disk", *self.option("-C"), "127.0.0.1", str(port), f"/dev/nbd{self.number}"]

    def detach_command(self):
        return [NBD_CLIENT, "-d", f"/dev/nbd{self.number}"]


class Nbdctl(Client):
    """Without the agent, unless it is asked for: nbd-client leaves no process either."""

    def __init__(self, number, connections=None, agent=False):
        super().__init__(number, connections)
        self.agent = [] if agent else ["--no-agent"]

    def attach_command(self, port):
        return [NBDCTL, "attach", *self.agent, *self.option("--connections"), f"nbd://127.0.0.1:{port}/disk",
                f"nbd{self.number}"]

    def detach_command(self):
        return [NBDCTL, "detach", f"nbd{self.number}"]


# ---- the table ----

def row(what, reference, ours, unit, goal=None, fewer_is_better=True):
    """Two equally long lists, round by round. unit is (factor, name); goal a ratio."""
    ratio = statistics.median(b / a for a, b in zip(reference, ours))
    columns = [statistics.median(values) * unit[0] for values in (reference, ours)]
    verdict = ""
    if goal:
        met = ratio <= goal if fewer_is_better else ratio >= goal
        verdict = f"{'<=' if fewer_is_better else '>='} {goal:.2f}  {'met' if met else 'missed'}"
    print(f"{what:<46} {columns[0]:9.1f} {columns[1]:9.1f} {unit[1]:<5} {ratio:6.2f}  {verdict}", flush=True)


def title(text, reference="nbd-client", ours="nbdctl"):
    print(f"\n{text:<46} {reference:>9} {ours:>9} {'':5} {'ratio':>6}  goal", flush=True)


MS, MIB_S, KIOPS = (1e3, "ms"), (1 / MIB, "MiB/s"), (1e-3, "kIOPS")


# ---- attach and detach ----

def alternate(clients, port, rounds):
    """{name: {"attach": [...], "detach": [...], "memory": [...]}}; the first round only warms up."""
    results = {name: {"attach": [], "detach": [], "memory": []} for name in clients}
    names = list(clients)
    for number in range(rounds + 1):
        for name in names[number % len(names):] + names[:number % len(names)]:
            seconds, kibibytes = clients[name].attach(port)
            time.sleep(SETTLE)
            gone, _ = clients[name].detach()
            time.sleep(SETTLE)
            if number > 0:
                results[name]["attach"].append(seconds)
                results[name]["detach"].append(gone)
                results[name]["memory"].append(kibibytes)
    return results


def bench_wall(rounds):
    clients = {"reference": NbdClient(1), "default": Nbdctl(2), "one": Nbdctl(3, connections=1),
               "agent": Nbdctl(4, agent=True)}
    memory = 0
    for server, port in ("qemu-nbd", QEMU_PORT), ("nbdkit", NBDKIT_PORT):
        results = alternate(clients, port, rounds)
        title(f"One plain export, {server}")
        row("attach", results["reference"]["attach"], results["default"]["attach"], MS, 0.7)
        row("attach --connections 1", results["reference"]["attach"], results["one"]["attach"], MS, 0.7)
        row("attach, with its agent", results["reference"]["attach"], results["agent"]["attach"], MS, 0.7)
        row("detach (nbd-client's neither looks nor flushes)", results["reference"]["detach"],
            results["default"]["detach"], MS)
        row("detach, with its agent", results["reference"]["detach"], results["agent"]["detach"], MS)
        memory = max(memory, *results["default"]["memory"], *results["one"]["memory"])
    print(f"\npeak memory of nbdctl attach: {memory / 1024:.1f} MiB, goal <= 8.0  {'met' if memory <= 8192 else 'missed'}")


# ---- a round trip of 20 ms ----

def delay_loopback(on):
    subprocess.run(["tc", "qdisc", "add" if on else "del", "dev", "lo", "root", "netem", *(["delay", "10ms"] if on else [])],
                   check=True)


def round_trip(port):
    """What netem makes of it: a connect(2) takes one."""
    begin = time.monotonic()
    with socket.create_connection(("127.0.0.1", port)):
        return time.monotonic() - begin


def bench_rtt(rounds):
    subprocess.run(["modprobe", "sch_netem"], check=True)
    delay_loopback(True)
    try:
        clients = {"nbd-client 1": NbdClient(1), "nbd-client 4": NbdClient(2, connections=4),
                   "default": Nbdctl(3), "nbdctl 1": Nbdctl(4, connections=1), "nbdctl 4": Nbdctl(5, connections=4)}
        for server, port in ("qemu-nbd", QEMU_PORT), ("nbdkit", NBDKIT_PORT):
            title(f"4 connections, {server}, round trip {round_trip(port) * 1e3:.0f} ms", "1", "4")
            results = {name: result["attach"] for name, result in alternate(clients, port, rounds).items()}
            row("nbdctl attach", results["nbdctl 1"], results["nbdctl 4"], MS, 1.3)
            row("nbd-client", results["nbd-client 1"], results["nbd-client 4"], MS)
            title("", "nbd-client", "nbdctl")
            row("attach, defaults", results["nbd-client 1"], results["default"], MS, 0.7)
            row("attach, 4 connections", results["nbd-client 4"], results["nbdctl 4"], MS)
    finally:
        delay_loopback(False)


# ---- reading and writing ----

SEQUENTIAL = ["--bs=1M", "--ioengine=psync"]
RANDOM = ["--bs=4k", "--ioengine=libaio", "--iodepth=16", "--direct=1", "--norandommap", "--time_based",
          f"--runtime={FIO_SECONDS}", "--size=256M"]
JOBS = {
    "sequential read, direct": ["--rw=read", "--direct=1", *SEQUENTIAL],
    "sequential read, buffered": ["--rw=read", *SEQUENTIAL],
    "sequential write, direct": ["--rw=write", "--direct=1", *SEQUENTIAL],
    "sequential write, buffered": ["--rw=write", "--end_fsync=1", *SEQUENTIAL],
    "random read, 4 KiB, depth 16": ["--rw=randread", *RANDOM],
    "random write, 4 KiB, depth 16": ["--rw=randwrite", *RANDOM],
}


def fio(device, options):
    """Bytes per second."""
    command = ["fio", "--name=bench", f"--filename=/dev/nbd{device}", "--output-format=json", "--thread", *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd="/")
    job = json.loads(done.stdout[done.stdout.index("{"):])["jobs"][0]
    side = job["write" if "write" in options[0] else "read"]
    return side["io_bytes"] / (side["runtime"] / 1e3)


def sized(device, options):
    """As much as the reference moves in FIO_SECONDS: these kernels are 20 to 2000 MiB/s fast."""
    if "--time_based" in options:
        return options
    speed = fio(device, [*options, "--size=16M"])
    size = max(16, min(FIO_REGION, int(speed * FIO_SECONDS / MIB)))
    return [*options, f"--size={size}M"]


def fio_rounds(job, devices, rounds):
    """A list of lists, per device the speed in each round; the first device is the reference."""
    options = sized(devices[0], JOBS[job])
    speeds = [[] for _ in devices]
    for number in range(rounds):
        order = list(range(len(devices)))
        for which in order if number % 2 == 0 else reversed(order):
            speeds[which].append(fio(devices[which], options))
    return speeds


def fio_unit(job):
    return (KIOPS[0] / 4096, KIOPS[1]) if "random" in job else MIB_S


def fio_server():
    return serve(FIO_PORT, "nbdkit", "-f", "-i", "127.0.0.1", "-p", str(FIO_PORT), "memory", f"{FIO_REGION}M",
                 "allocator=malloc")


def bench_fio(rounds):
    goal = 1.2 if KERNEL_6_1 else 1.0
    clients = [NbdClient(1), Nbdctl(2)]
    for client in clients:
        client.attach(FIO_PORT)
    title("fio, nbdkit memory")
    for job in JOBS:
        reference, ours = fio_rounds(job, [client.number for client in clients], rounds)
        row(job, reference, ours, fio_unit(job), goal, fewer_is_better=False)
    for client in clients:
        client.detach()


def bench_sweep(rounds):
    counts = [1, 2, 4, 8]
    clients = [Nbdctl(1 + n, connections=count) for n, count in enumerate(counts)]
    for client in clients:
        client.attach(FIO_PORT)
    print(f"\n{'nbdctl attach --connections N: times as fast as 1':<52}" + "".join(f"{count:>8}" for count in counts))
    for job in JOBS:
        speeds = fio_rounds(job, [client.number for client in clients], rounds)
        factor, unit = fio_unit(job)
        ratios = [statistics.median(b / a for a, b in zip(speeds[0], speed)) for speed in speeds]
        print(f"{job:<30} {statistics.median(speeds[0]) * factor:12.1f} {unit:<8}" +
              "".join(f"{ratio:8.2f}" for ratio in ratios), flush=True)
    for client in clients:
        client.detach()


PARTS = {"wall": bench_wall, "rtt": bench_rtt, "fio": bench_fio, "sweep": bench_sweep}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--parts", default="wall,rtt,fio")
    arguments = parser.parse_args()
    parts = arguments.parts.split(",")
    subprocess.run(["modprobe", "nbd"], check=True)
    servers = start_servers("/tmp") if {"wall", "rtt"} & set(parts) else []
    servers += [fio_server()] if {"fio", "sweep"} & set(parts) else []
    print(f"kernel {platform.release()}, {os.cpu_count()} CPU")
    try:
        for part in parts:
            # Starting something takes milliseconds, a run of fio seconds.
            PARTS[part](arguments.rounds or (15 if part in ("wall", "rtt") else 5))
    finally:
        for server in servers:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
