"""A small Kubernetes API server in a process of its own: objects, watches, TokenReviews. Plain HTTP.

The programs under attack need one to start. A real one would be as good, but takes longer than the attacks, and
others may be using it. What it can't show - how a real API server treats a large pod - is no matter here: the
attackers talk to our programs, not to it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ctypes
import json
import multiprocessing
import os
import signal
import urllib.parse
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .objects import Object, Objects, Place, Refused

# A TokenReview of a bearer whose claims have this member is answered with what it says.
REVIEWED = "agentwrit.test/reviewed"


def service_account_token(claims: dict[str, Any]) -> str:
    """Looks like a projected token; nobody signed it."""

    def segment(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return ".".join([segment({"alg": "RS256", "kid": "test"}), segment(claims), "c2lnbmF0dXJl"])


def _claims(token: str) -> dict[str, Any]:
    segment = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    return claims


class _Server:
    def __init__(self, objects: list[tuple[str, Object]], review_seconds: float) -> None:
        self._given = objects
        self._review_seconds = review_seconds
        self._counts: Counter[str] = Counter()
        self._objects = Objects()

    async def serve(self, ready: Connection) -> None:
        for path, value in self._given:
            place = Place.parse(path)
            assert place is not None
            await self._objects.create(place, value)
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=512)
        ready.send(server.sockets[0].getsockname()[1])
        async with server:
            await server.serve_forever()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode("latin-1").split("\r\n")
                method, target, _ = first.split(" ", 2)
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                await self._request(method, target, headers, body, writer)
        writer.close()

    async def _request(
        self, method: str, target: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter
    ) -> None:
        url = urllib.parse.urlsplit(target)
        query = dict(urllib.parse.parse_qsl(url.query))
        if url.path == "/counts":
            return await _answer(writer, 200, dict(self._counts))
        watch = query.get("watch") in ("1", "true")
        self._counts[f"{'WATCH' if watch else method} {url.path}"] += 1
        place = Place.parse(url.path)
        try:
            if place is None:
                raise Refused(404, "NotFound")
            if watch:
                return await self._watch(place, query, writer)
            status, value = await self._do(method, place, body)
        except Refused as refused:
            status = refused.status
            value = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": refused.reason,
                     "reason": refused.reason, "code": refused.status}  # fmt: skip
        if "as=PartialObjectMetadataList" in headers.get("accept", "") and "items" in value:
            value["items"] = [_metadata_only(item) for item in value["items"]]
        return await _answer(writer, status, value)

    async def _do(self, method: str, place: Place, body: bytes) -> tuple[int, Object]:
        value = json.loads(body) if body else {}
        if place.resource == "tokenreviews":
            return 201, await self._review(value)
        match method:
            case "GET" if place.name:
                return 200, self._objects.get(place)
            case "GET":
                items = self._objects.collection(place)
                version = str(self._objects.version)
                return 200, {"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items}
            case "POST":
                return 201, await self._objects.create(place, value)
            case "PUT":
                return 200, await self._objects.replace(place, value)
            case "PATCH":
                return 200, await self._objects.patch(place, value)
        raise Refused(405, "MethodNotAllowed")

    async def _review(self, review: Object) -> Object:
        await asyncio.sleep(self._review_seconds)
        try:
            user = _claims(review["spec"]["token"])[REVIEWED]
        except (KeyError, ValueError, IndexError):
            review["status"] = {"authenticated": False, "error": "the token is not known"}
        else:
            review["status"] = {"authenticated": True, "audiences": review["spec"].get("audiences", []), "user": user}
        return review

    async def _watch(self, place: Place, query: dict[str, str], writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        seen = self._objects.version
        if query.get("sendInitialEvents") == "true":
            for value in self._objects.collection(place):
                _event(writer, "ADDED", value)
            mark = {"resourceVersion": str(seen), "annotations": {"k8s.io/initial-events-end": "true"}}
            _event(writer, "BOOKMARK", {"kind": "Status", "apiVersion": "v1", "metadata": mark})
        elif asked := query.get("resourceVersion"):
            seen = int(asked)
        while True:
            for kind, key, value in self._objects.changes[seen:]:
                if place.holds(key):
                    _event(writer, kind, value)
            seen = self._objects.version
            await writer.drain()
            async with self._objects.changed:
                while self._objects.version == seen:
                    await self._objects.changed.wait()


def _metadata_only(value: Object) -> Object:
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": value["metadata"]}


def _event(writer: asyncio.StreamWriter, kind: str, value: Object) -> None:
    line = json.dumps({"type": kind, "object": value}).encode() + b"\n"
    writer.write(b"%x\r\n%s\r\n" % (len(line), line))


async def _answer(writer: asyncio.StreamWriter, status: int, value: Any) -> None:
    body = json.dumps(value).encode()
    writer.write(b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body)))
    writer.write(body)
    await writer.drain()


def _serve(objects: list[tuple[str, Object]], review_seconds: float, ready: Connection) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_Server(objects, review_seconds).serve(ready))


class ApiServer:
    """Runs until `stop`."""

    def __init__(self, folder: Path, objects: list[tuple[str, Object]] | None = None, review_seconds: float = 0.0) -> None:
        mine, theirs = multiprocessing.Pipe(duplex=False)
        self._process = multiprocessing.get_context("fork").Process(
            target=_serve, args=(objects or [], review_seconds, theirs), daemon=True
        )
        self._process.start()
        self.port: int = mine.recv()
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1", "kind": "Config", "current-context": "attack",
                    "clusters": [{"name": "attack", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
                    "users": [{"name": "attack", "user": {}}],
                    "contexts": [{"name": "attack", "context": {"cluster": "attack", "user": "attack"}}],
                }
            )
        )  # fmt: skip

    def stop(self) -> None:
        """Ends the process."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()
