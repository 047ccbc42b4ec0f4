"""Many TCP connections, from within a namespace: the program that `run uplink-idle` starts there.

  connections.py serve ADDRESS PORT COUNT       echoes on COUNT ports from PORT on, until it is killed; says "serving"
  connections.py hold ADDRESS PORT COUNT        opens COUNT, echoes a byte on each, keeps them until SIGTERM, then closes them, a few at a time
  connections.py at-once ADDRESS PORT COUNT     opens COUNT at the same time, echoes a byte on each when all are open, closes them
  connections.py in-turn ADDRESS PORT COUNT     opens, echoes and closes COUNT, one after the other

The last three print one line of JSON: how many succeeded, how many failed and how, in how many seconds.
"""

import asyncio
import collections
import json
import resource
import signal
import socket
import sys
import time

BACKLOG = 4096
OPENING = 64  # Connections being opened at a time, with `hold`
PATIENCE = 15.0  # Seconds for a connection, or an answer on it
FAILURES_MAX = 100  # With `hold` and `in-turn`: then it gives up, for each costs time


class Count:
    """What became of the connections."""

    def __init__(self, wanted):
        self.wanted, self.good, self.bad, self.why = wanted, 0, 0, collections.Counter()
        self.start = time.monotonic()

    def failed(self, error):
        self.bad += 1
        self.why[str(error) or type(error).__name__] += 1

    def hopeless(self):
        return self.bad >= FAILURES_MAX

    def print(self):
        seconds = time.monotonic() - self.start
        why = ", ".join(f"{count} times {text}" for text, count in self.why.most_common(3))
        print(json.dumps({"wanted": self.wanted, "good": self.good, "bad": self.bad, "why": why, "seconds": seconds}), flush=True)


async def echo(reader, writer):
    try:
        while octets := await reader.read(64):
            writer.write(octets)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def serve(address, port, count):
    servers = [await asyncio.start_server(echo, address, each, backlog=BACKLOG) for each in range(port, port + count)]
    print("serving", flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


async def answered(stream):
    reader, writer = stream
    writer.write(b"x")
    if await asyncio.wait_for(reader.read(1), PATIENCE) != b"x":
        raise OSError("closed by the other end")


async def ended(stream):
    """Waits for the other end's FIN, within reason, and closes."""
    reader, writer = stream
    try:
        await asyncio.wait_for(reader.read(), PATIENCE)
    except (OSError, asyncio.TimeoutError):
        pass
    writer.close()


async def hold(address, port, count):
    result, streams, gate = Count(count), [], asyncio.Semaphore(OPENING)

    async def one():
        async with gate:
            if result.hopeless():
                return
            try:
                stream = await asyncio.wait_for(asyncio.open_connection(address, port), PATIENCE)
                streams.append(stream)
                await answered(stream)
                result.good += 1
            except (OSError, asyncio.TimeoutError) as error:
                result.failed(error)

    enough = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, enough.set)
    await asyncio.gather(*(one() for _ in range(count)))
    result.print()
    await enough.wait()
    # Not all in one burst, which a TAP's queue has no room for: that were a measurement of the kernel's patience with FINs.
    for first in range(0, len(streams), OPENING):
        some = streams[first : first + OPENING]
        for _, writer in some:
            writer.write_eof()
        await asyncio.gather(*(ended(stream) for stream in some))


async def at_once(address, port, count):
    result = Count(count)
    opened = await asyncio.gather(
        *(asyncio.wait_for(asyncio.open_connection(address, port), PATIENCE) for _ in range(count)), return_exceptions=True
    )
    streams = [stream for stream in opened if not isinstance(stream, BaseException)]
    for answer in await asyncio.gather(*(answered(stream) for stream in streams), return_exceptions=True):
        if isinstance(answer, BaseException):
            result.failed(answer)
        else:
            result.good += 1
    for error in opened:
        if isinstance(error, BaseException):
            result.failed(error)
    for _, writer in streams:
        writer.close()
    result.print()


async def in_turn(address, port, count):
    result = Count(count)
    while result.good + result.bad < count and not result.hopeless():
        try:
            with socket.create_connection((address, port), PATIENCE) as stream:
                stream.sendall(b"x")
                if stream.recv(1) != b"x":
                    raise OSError("closed by the other end")
            result.good += 1
        except OSError as error:
            result.failed(error)
    result.print()


def main():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    what, address, port, count = sys.argv[1:]
    work = {"serve": serve, "hold": hold, "at-once": at_once, "in-turn": in_turn}[what]
    asyncio.run(work(address, int(port), int(count)))


if __name__ == "__main__":
    main()
