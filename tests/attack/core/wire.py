"""Connections from a chosen address, with or without TLS, down to single bytes; and just enough HTTP/1.1."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from dataclasses import dataclass
from typing import Any

# Linux only: the port is chosen at connect, so that each peer address has all ports for itself.
_BIND_ADDRESS_NO_PORT = 24
_READ_BYTES = 64 * 1024


class Closed(Exception):
    """The other side ended the connection before its answer was whole."""


@dataclass(frozen=True)
class Address:
    """Where a program listens."""

    host: str
    port: int
    tls: bool = False

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Answer:
    """One HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def tls_context() -> ssl.SSLContext:
    """A client that checks no certificate: who the server is doesn't matter to an attacker."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def request(
    method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None, *, bearer: str = ""
) -> bytes:
    """A request with a Content-Length where there is a body."""
    headers = {"Host": "agentwrit", **(headers or {})}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if bearer:
        lines.append(f"Authorization: Bearer {bearer}")
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


def post(target: str, value: Any, *, bearer: str = "", headers: dict[str, str] | None = None) -> bytes:
    """A POST of a JSON value."""
    return request("POST", target, json.dumps(value).encode(), headers, bearer=bearer)


class Connection:
    """A TCP connection from one of our addresses. With TLS, `shake_hands` comes before the first byte."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._tls: ssl.SSLObject | None = None
        self._from_peer = ssl.MemoryBIO()
        self._to_peer = ssl.MemoryBIO()

    @classmethod
    async def open(
        cls, address: Address, source: str, *, context: ssl.SSLContext | None = None, receive_buffer: int = 0
    ) -> Connection:
        """Connected, and with a context also shaken hands. A small receive buffer makes a reader slow from the start."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if receive_buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            sock.bind((source, 0))
            connection = cls(sock)
            await connection._loop.sock_connect(sock, (address.host, address.port))
            if context is not None:
                await connection.shake_hands(context)
        except BaseException:
            sock.close()
            raise
        return connection

    async def shake_hands(self, context: ssl.SSLContext) -> None:
        """The TLS handshake."""
        self._tls = context.wrap_bio(self._from_peer, self._to_peer, server_hostname="localhost")
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
                continue
            await self._flush()
            return

    async def _flush(self) -> None:
        if pending := self._to_peer.read():
            await self._loop.sock_sendall(self._socket, pending)

    async def _feed(self) -> None:
        received = await self._loop.sock_recv(self._socket, _READ_BYTES)
        if not received:
            raise Closed
        self._from_peer.write(received)

    async def send(self, data: bytes) -> None:
        """All of it."""
        if self._tls is None:
            await self._loop.sock_sendall(self._socket, data)
        else:
            self._tls.write(data)
            await self._flush()

    async def receive(self) -> bytes:
        """What is there next; nothing once the other side has ended the connection."""
        if self._tls is None:
            return await self._loop.sock_recv(self._socket, _READ_BYTES)
        while True:
            try:
                return self._tls.read(_READ_BYTES)
            except ssl.SSLWantReadError:
                try:
                    await self._feed()
                except Closed:
                    return b""
            except ssl.SSLZeroReturnError:
                return b""

    async def _more(self) -> None:
        received = await self.receive()
        if not received:
            raise Closed
        self._buffer += received

    async def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            await self._more()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    async def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            await self._more()
        body, self._buffer = self._buffer[:count], self._buffer[count:]
        return body

    async def answer(self) -> Answer:
        """The next final response. A body that ends with the connection is read to there."""
        while True:
            status = int((await self._line()).split(b" ", 2)[1])
            headers = {}
            while line := await self._line():
                name, _, value = line.partition(b":")
                headers[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
            if status >= 200:
                break
        if status in (204, 304):
            body = b""
        elif headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int((await self._line()).split(b";")[0], 16):
                body += await self._exactly(size)
                await self._line()
            await self._line()
        elif "content-length" in headers:
            body = await self._exactly(int(headers["content-length"]))
        else:
            body, self._buffer = self._buffer, b""
            while received := await self.receive():
                body += received
        return Answer(status, headers, body)

    def close(self) -> None:
        """Ends the connection."""
        self._socket.close()

    def reset(self) -> None:
        """Ends the connection by RST, which leaves nothing behind on this side."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


async def ask(address: Address, source: str, data: bytes, context: ssl.SSLContext | None = None) -> Answer:
    """One request on a connection of its own."""
    if address.tls and context is None:
        context = tls_context()
    connection = await Connection.open(address, source, context=context if address.tls else None)
    try:
        await connection.send(data)
        return await connection.answer()
    finally:
        connection.close()


def client_hello(context: ssl.SSLContext) -> bytes:
    """The first message of a TLS handshake, as any client sends it."""
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def fat_client_hello(sent: int) -> bytes:
    """The first `sent` bytes of a first message of 65,000, the most that a TLS record layer gathers for one."""
    whole = 65_000
    fixed = b"\x03\x03" + b"r" * 32 + b"\x00" + b"\x00\x02\x13\x01" + b"\x01\x00"
    message = b"\x01" + whole.to_bytes(3, "big") + fixed + (whole - len(fixed) - 2).to_bytes(2, "big")
    message = message.ljust(sent, b"\x00")
    parts = (message[start : start + 16_384] for start in range(0, len(message), 16_384))
    return b"".join(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part for part in parts)
