"""The small things that every verdict rests on."""

from __future__ import annotations

import math
import unittest
from unittest import mock

from .attacks import ALL
from .core import sources
from .core.ed25519 import Key
from .core.hand import Reached
from .core.limit import Peak
from .core.stats import allowed_p99, milliseconds, percentile, summary
from .core.table import table
from .core.wire import client_hello, fat_client_hello, request, tls_context
from .runner import SHORT, run
from .verdict import Reason, Result, Seen, against, seen_by_role
from .world.everybody import Sample

MIB = 1024 * 1024


class Percentiles(unittest.TestCase):
    """Nearest rank."""

    def test_of_a_hundred_values(self) -> None:
        values = [float(value) for value in range(100, 0, -1)]
        self.assertEqual([percentile(values, percent) for percent in (1, 50, 99, 100)], [1, 50, 99, 100])

    def test_of_few_values_the_p99_is_the_worst(self) -> None:
        self.assertEqual(percentile([3.0, 1.0, 2.0], 99), 3.0)

    def test_of_nothing_is_not_a_number(self) -> None:
        self.assertTrue(math.isnan(percentile([], 50)))
        self.assertEqual(milliseconds(math.nan), "-")

    def test_percent_out_of_range_is_refused(self) -> None:
        for percent in (0, -1, 101):
            with self.assertRaises(ValueError):
                percentile([1.0], percent)

    def test_failed_requests_count_but_have_no_time(self) -> None:
        found = summary([0.1, 0.2], 3)
        self.assertEqual((found.count, found.errors, found.worst), (5, 3, 0.2))


class AllowedP99(unittest.TestCase):
    """Ten times quiet, twice what a program sees that nobody attacks, never below what is always allowed."""

    def test_the_largest_of_the_three_counts(self) -> None:
        self.assertAlmostEqual(allowed_p99(0.001, 0.001, 0.1), 0.100)
        self.assertAlmostEqual(allowed_p99(0.030, 0.001, 0.1), 0.300)
        self.assertAlmostEqual(allowed_p99(0.001, 0.200, 0.1), 0.400)

    def test_what_was_not_measured_allows_nothing(self) -> None:
        self.assertAlmostEqual(allowed_p99(math.nan, math.nan, 0.1), 0.100)


class Sources(unittest.TestCase):
    """Addresses of attackers and of everybody else."""

    def test_all_are_different_and_of_this_machine(self) -> None:
        addresses = sources.attackers(2000)
        self.assertEqual(len(set(addresses)), 2000)
        self.assertTrue(all(address.startswith("127.") for address in addresses))

    def test_no_other_client_has_an_attackers_address(self) -> None:
        everybody = {sources.CLIENT, sources.ADMIN, sources.KUBELET, sources.API_SERVER, sources.POD}
        self.assertFalse(everybody & set(sources.attackers(sources.MOST_ATTACKERS)))

    def test_connections_are_dealt_evenly(self) -> None:
        slots = sources.deal(20, 8)
        self.assertEqual(sorted(slots.count(address) for address in set(slots)), [2, 2, 2, 2, 3, 3, 3, 3])

    def test_workers_share_all_connections(self) -> None:
        slots = sources.deal(7, 7)
        shares = [sources.share(slots, worker, 2) for worker in range(2)]
        self.assertEqual(sorted(shares[0] + shares[1]), sorted(slots))

    def test_no_source_is_refused(self) -> None:
        with self.assertRaises(ValueError):
            sources.attackers(0)


class Tables(unittest.TestCase):
    """Readable in a terminal."""

    def test_long_cells_go_on_in_the_next_line(self) -> None:
        shown = table(["a", "b"], [["one two", "x"], ["1\n2", "y"]], [4, 5])
        self.assertEqual(shown.split("\n"), ["a    | b", "-----+--", "one  | x", "two  |", "1    | y", "2    |"])

    def test_a_row_with_a_cell_too_few_is_refused(self) -> None:
        with self.assertRaises(ValueError):
            table(["a", "b"], [["1"]], [1, 1])


class Verdicts(unittest.TestCase):
    """When a program has held."""

    @staticmethod
    def _seen(quiet: float, beside: float, error: str = "") -> dict[str, Seen]:
        samples = [Sample("client", 0.5, quiet, ""), Sample("client", 1.5, beside, error)]
        return seen_by_role(samples, (0, 1), (1, 2))

    def test_a_calm_client_is_no_reason(self) -> None:
        self.assertEqual(against(self._seen(0.01, 0.09), "", Peak(MIB, 0, MIB), 2, 0.1), [])

    def test_a_slow_client_is_a_reason(self) -> None:
        self.assertIn("p99 110 ms, allowed 100", against(self._seen(0.01, 0.11), "", Peak(), 2, 0.1)[0].text)
        self.assertEqual(against(self._seen(0.01, 0.11), "", Peak(), 2, 1.0), [])

    def test_a_refused_client_is_a_reason(self) -> None:
        self.assertIn("1 of 1 failed, first: 503", against(self._seen(0.01, 0.01, "503"), "", Peak(), 2, 0.1)[0].text)

    def test_an_error_before_the_attack_is_none_of_it(self) -> None:
        samples = [Sample("client", 0.5, 0.1, "503"), Sample("client", 1.5, 0.01, "")]
        self.assertEqual(against(seen_by_role(samples, (0, 1), (1, 2)), "", Peak(), 2, 0.1), [])

    def test_nothing_measured_is_a_reason(self) -> None:
        samples = [Sample("admin", 0.5, 0.1, "")]
        self.assertIn("nothing was measured", against(seen_by_role(samples, (0, 1), (1, 2)), "", Peak(), 2, 0.1)[0].text)

    def test_an_ended_program_and_memory_are_reasons(self) -> None:
        self.assertEqual(against({}, "ended by signal 9", Peak(), 2, 0.1), [Reason("ended by signal 9")])
        self.assertIn("3 MiB", against({}, "", Peak(MIB, 2 * MIB, 3 * MIB), 2, 0.1)[0].text)

    def test_a_line_as_long_as_a_stranger_likes_is_a_reason(self) -> None:
        self.assertEqual(against({}, "", Peak(), 2, 0.1, 16 * 1024), [])
        self.assertIn("a line of 100000 bytes", against({}, "", Peak(), 2, 0.1, 100_000)[0].text)

    def test_only_what_was_slow_is_tried_again(self) -> None:
        late = [Sample("admin", 1.5, 1.0, "no answer within 1 s", late=True)]
        refused = [*late, Sample("admin", 1.6, 0.1, "503")]
        for samples, again in ((late, True), (refused, False)):
            seen = seen_by_role(samples, (0, 1), (1, 2))
            self.assertEqual(Result("a", 1, "", reasons=against(seen, "", Peak(), 2, 0.1)).is_worth_a_retry, again)


class Tries(unittest.TestCase):
    """How often an attack is run."""

    def _tries(self, *outcomes: list[Reason]) -> tuple[int, bool]:
        results = iter([Result("a", 1, "", reasons=list(reasons)) for reasons in outcomes])
        with mock.patch("attack.runner._once", lambda *_: next(results)):
            result = run(next(iter(ALL.values())), 1, SHORT, mock.Mock(), 0)
        self.assertIsNone(next(results, None), "a try was left out")
        return result.tries, result.held

    def test_what_a_busy_machine_can_cause_is_tried_three_times(self) -> None:
        slow = [Reason("slow", retry=True)]
        self.assertEqual(self._tries([]), (1, True))
        self.assertEqual(self._tries(slow, slow, []), (3, True))
        self.assertEqual(self._tries(slow, slow, slow), (3, False))

    def test_what_a_program_did_counts_at_once(self) -> None:
        self.assertEqual(self._tries([Reason("ended"), Reason("slow", retry=True)]), (1, False))
        self.assertEqual(self._tries([Reason("slow", retry=True)], [Reason("ended")]), (2, False))


class Wire(unittest.TestCase):
    """Requests and first messages."""

    def test_a_request_has_its_length_and_bearer(self) -> None:
        data = request("POST", "/x", b"{}", bearer="t")
        self.assertEqual(
            data, b"POST /x HTTP/1.1\r\nHost: agentwrit\r\nAuthorization: Bearer t\r\nContent-Length: 2\r\n\r\n{}"
        )

    def test_first_messages_are_tls_handshake_records(self) -> None:
        for hello in (client_hello(tls_context()), fat_client_hello(60_000)):
            self.assertEqual((hello[0], hello[5]), (22, 1))

    def test_the_fat_one_announces_more_than_it_sends(self) -> None:
        hello = fat_client_hello(60_000)
        self.assertEqual(len(hello), 60_000 + 4 * 5)
        self.assertEqual(int.from_bytes(hello[6:9], "big"), 65_000)


class Signatures(unittest.TestCase):
    """RFC 8032, section 7.1, test 1."""

    def test_known_answer(self) -> None:
        key = Key(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
        self.assertEqual(key.public.hex(), "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
        self.assertTrue(key.sign(b"").hex().startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901"))


class Sums(unittest.TestCase):
    """What workers report adds up."""

    def test_reached(self) -> None:
        one, other = Reached(opened=2, sent=MIB), Reached(opened=1, sent=MIB)
        one.answers[503] += 2
        other.answers[503] += 1
        one.add(other)
        self.assertEqual(one.text(), "3 connections, 0 at once, 2 MiB sent, answers 503: 3")


if __name__ == "__main__":
    unittest.main()
