"""Kubernetes objects by path: enough of an API server's storage for the programs that are attacked."""

from __future__ import annotations

import asyncio
import copy
import secrets
from dataclasses import dataclass, field, replace
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """What a path names: a collection, or one object of it. A part of an object (`/status`) is the object."""

    group: str
    resource: str
    namespace: str
    name: str

    @classmethod
    def parse(cls, path: str) -> Place | None:
        """`/api/v1/namespaces/shop/pods/web/status` and the like."""
        parts = path.strip("/").split("/")
        depth = 2 if parts[0] == "api" else 3
        group, rest = "/".join(parts[:depth]), parts[depth:]
        if not rest:
            return None
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        return cls(group, rest[0], namespace, rest[1] if len(rest) > 1 else "")

    def holds(self, other: Place) -> bool:
        """Whether an object belongs to this collection."""
        same = (self.group, self.resource) == (other.group, other.resource)
        return same and self.namespace in ("", other.namespace)


class Refused(Exception):
    """An answer other than 2xx."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass
class Objects:
    """All objects, and all changes since the start."""

    held: dict[Place, Object] = field(default_factory=dict)
    changes: list[tuple[str, Place, Object]] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def version(self) -> int:
        """The number of the last change."""
        return len(self.changes)

    async def _put(self, kind: str, place: Place, value: Object) -> Object:
        value["metadata"]["resourceVersion"] = str(self.version + 1)
        self.held[place] = value
        async with self.changed:
            self.changes.append((kind, place, copy.deepcopy(value)))
            self.changed.notify_all()
        return value

    def get(self, place: Place) -> Object:
        """One object."""
        found = self.held.get(place)
        if found is None:
            raise Refused(404, "NotFound")
        return found

    def collection(self, place: Place) -> list[Object]:
        """All of a collection."""
        return [value for key, value in self.held.items() if place.holds(key)]

    async def create(self, place: Place, value: Object) -> Object:
        """A new object, with a UID."""
        metadata = value.setdefault("metadata", {})
        name = metadata.setdefault("name", metadata.get("generateName", "") + secrets.token_hex(4))
        place = replace(place, name=name)
        if place in self.held:
            raise Refused(409, "AlreadyExists")
        if place.namespace:
            metadata.setdefault("namespace", place.namespace)
        metadata.setdefault("uid", secrets.token_hex(16))
        metadata.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        metadata.setdefault("generation", 1)
        return await self._put("ADDED", place, value)

    async def replace(self, place: Place, value: Object) -> Object:
        """An update; refused when it is of an older version."""
        found = self.get(place)
        asked = value["metadata"].get("resourceVersion")
        if asked and asked != found["metadata"]["resourceVersion"]:
            raise Refused(409, "Conflict")
        return await self._put("MODIFIED", place, {**found, **value, "metadata": {**found["metadata"], **value["metadata"]}})

    async def patch(self, place: Place, value: Object | list[Object]) -> Object:
        """Members of both are merged, and what isn't there is created; a list is a JSON Patch of what is there."""
        try:
            found = copy.deepcopy(self.get(place))
        except Refused:
            if isinstance(value, list):
                raise
            value.setdefault("metadata", {})["name"] = place.name
            return await self.create(place, value)
        if isinstance(value, list):
            for operation in value:
                _operate(found, operation)
        else:
            value.get("metadata", {}).pop("resourceVersion", None)
            _merge(found, value)
        return await self._put("MODIFIED", place, found)


def _merge(target: Object, value: Object) -> None:
    for name, member in value.items():
        if member is None:
            target.pop(name, None)
        elif isinstance(member, dict) and isinstance(target.get(name), dict):
            _merge(target[name], member)
        else:
            target[name] = member


def _operate(target: Any, operation: Object) -> None:
    """One operation of a JSON Patch (RFC 6902): test, add, replace or remove."""
    *path, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    for part in path:
        target = target[int(part)] if isinstance(target, list) else target[part]
    key: Any = last
    if isinstance(target, list):
        key = len(target) if last == "-" else int(last)
    match operation["op"]:
        case "test":
            if target[key] != operation["value"]:
                raise Refused(422, "Invalid")
        case "remove":
            del target[key]
        case "add" if isinstance(target, list):
            target.insert(key, operation["value"])
        case "add" | "replace":
            target[key] = operation["value"]
        case other:
            raise Refused(422, f"Invalid operation {other}")
