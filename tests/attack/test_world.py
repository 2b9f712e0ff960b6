"""The small API server does what the programs rely on."""

from __future__ import annotations

import asyncio
import json
import unittest
from unittest import mock

from .attacks import ALL
from .attacks.payloads import BODY_BYTES, MIB, family, token_bombs
from .core.wire import Answer
from .settings import KINDS
from .world.everybody import Everybody
from .world.kube import service_account_token
from .world.objects import Objects, Place, Refused

PODS = "/api/v1/namespaces/shop/pods"


def place(path: str) -> Place:
    """One that must be there."""
    found = Place.parse(path)
    assert found is not None
    return found


class Places(unittest.TestCase):
    """Paths of the Kubernetes API."""

    def test_collections_hold_their_objects(self) -> None:
        web = place(f"{PODS}/web")
        self.assertTrue(place(PODS).holds(web))
        self.assertTrue(place("/api/v1/pods").holds(web))
        self.assertFalse(place("/api/v1/namespaces/other/pods").holds(web))

    def test_namespaces_are_objects_too(self) -> None:
        shop = place("/api/v1/namespaces/shop")
        self.assertEqual((shop.resource, shop.namespace, shop.name), ("namespaces", "", "shop"))


class Storage(unittest.IsolatedAsyncioTestCase):
    """Create, read, replace, patch."""

    async def test_an_object_is_created_once(self) -> None:
        objects = Objects()
        await objects.create(place(PODS), {"metadata": {"name": "web"}})
        with self.assertRaises(Refused):
            await objects.create(place(PODS), {"metadata": {"name": "web"}})
        self.assertEqual(objects.get(place(f"{PODS}/web"))["metadata"]["namespace"], "shop")

    async def test_a_replacement_of_an_old_version_is_refused(self) -> None:
        objects = Objects()
        old = dict(await objects.create(place(PODS), {"metadata": {"name": "web"}}))
        version = old["metadata"]["resourceVersion"]
        await objects.patch(place(f"{PODS}/web"), {"metadata": {"labels": {"a": "b"}}})
        with self.assertRaises(Refused):
            await objects.replace(place(f"{PODS}/web"), {"metadata": {"resourceVersion": version}})

    async def test_a_json_patch_changes_a_list(self) -> None:
        objects = Objects()
        await objects.create(place(PODS), {"metadata": {"name": "web"}, "hooks": [{"c": {}}]})
        changed = await objects.patch(place(f"{PODS}/web"), [{"op": "replace", "path": "/hooks/0/c/ca", "value": "x"}])
        self.assertEqual(changed["hooks"], [{"c": {"ca": "x"}}])

    async def test_each_change_is_numbered_for_watches(self) -> None:
        objects = Objects()
        await objects.create(place(PODS), {"metadata": {"name": "web"}})
        await asyncio.wait_for(objects.patch(place(f"{PODS}/web"), {"x": 1}), 1)
        self.assertEqual([kind for kind, _, _ in objects.changes], ["ADDED", "MODIFIED"])


class Patience(unittest.IsolatedAsyncioTestCase):
    """How long somebody waits for an answer that costs processor time."""

    async def _pieces(self, piece_seconds: float) -> int:
        """How many pieces of work are done before somebody with a patience of six seconds goes; no time passes."""
        pieces, now = 0, 0.0

        def work() -> float:
            nonlocal pieces, now
            pieces += 1
            now += piece_seconds
            return piece_seconds

        async def pause(*_: object, timeout: float) -> None:
            nonlocal now
            now += timeout

        async def never() -> Answer:
            await asyncio.Event().wait()
            raise AssertionError

        with mock.patch.multiple("attack.world.everybody", _work=work):
            everybody = Everybody({}, {})
            everybody._best_work, pieces = 1.0, 0
            with (
                mock.patch("attack.world.everybody.time", mock.Mock(monotonic=lambda: now)),
                mock.patch("attack.world.everybody.asyncio.wait", pause),
            ):
                await everybody.timed_by_work("app", never(), (200,), 6.0)
        self.assertTrue(everybody.samples[0].late)
        return pieces

    async def test_on_a_machine_of_half_the_speed_it_is_twice_as_long(self) -> None:
        self.assertEqual(await self._pieces(1.0), 6)
        self.assertGreater(await self._pieces(2.0) * 2.0, 10.0)


class Payloads(unittest.TestCase):
    """As large as they can be, and what they claim to be."""

    def test_bodies_fit_the_contract_and_are_large(self) -> None:
        for name, body in family():
            self.assertLessEqual(len(body), BODY_BYTES, name)
            self.assertGreater(len(body), 15_000, name)

    def test_those_that_are_json_are_json(self) -> None:
        bodies = dict(family(2000))
        for name in ("tiny objects", "tiny strings", "distinct members", "escapes", "long number", "spaces"):
            json.loads(bodies[name])

    def test_token_bombs_have_their_size(self) -> None:
        for token in token_bombs(MIB - 64):
            self.assertLess(len(token), MIB - 64)
            self.assertGreater(len(token), MIB // 2)

    def test_projected_tokens_have_three_segments(self) -> None:
        self.assertEqual(service_account_token({"aud": ["x"]}).count("."), 2)


class Registry(unittest.TestCase):
    """Each attack can run."""

    def test_attacks_name_settings_that_exist(self) -> None:
        for one in ALL.values():
            self.assertIn(one.setting, KINDS)
            self.assertTrue(one.full_sources)


if __name__ == "__main__":
    unittest.main()
