#!/usr/bin/env python3
"""Tests of the benchmark itself: `python3 -m unittest -v test_bench` in this directory."""

import base64
import hashlib
import os
import shutil
import tempfile
import time
import unittest

from rig import report, resp
from rig.cell import Cell
from rig.dataset import Dataset, key_of
from rig.errors import BenchError
from rig.load import worst_gap_us
from rig.peers import decode_criu_stats, directory_bytes
from rig.programs import Redis


class Pure(unittest.TestCase):
    def test_data_are_stable(self):
        """A seed gives the same bytes for ever: figures of different days stay comparable."""
        with tempfile.TemporaryDirectory() as folder:
            data = Dataset(folder, 200, 7)
            everything = b"".join(data.loaded(index) for index in range(200))
            digest = hashlib.sha256(everything + data.updated(3, 2)).hexdigest()
            self.assertEqual(digest[:16], "b06fc95193c02ee8")
            self.assertEqual(data.bulk(5), b"$%d\r\n%s\r\n" % (len(data.loaded(5)), data.loaded(5)))
            again = Dataset(folder, 200, 7)
            self.assertEqual(again.loaded(199), data.loaded(199))
            again.close()
            data.close()

    def test_criu_stats(self):
        """A dump entry with freezing 300 us and frozen 70000 us."""
        dump = b"\x08\xac\x02" + b"\x10\xf0\xa2\x04" + b"\x38\x05"
        entry = b"\x0a" + bytes([len(dump)]) + dump
        image = b"\x26\x66\x44\x55" + b"\x06\x33\x09\x57" + len(entry).to_bytes(4, "little") + entry
        figures = decode_criu_stats(base64.b64encode(image))
        self.assertEqual((figures["freezing_us"], figures["frozen_us"]), (300, 70000))
        self.assertEqual(figures["pages_written"], 5)
        with self.assertRaises(BenchError):
            decode_criu_stats(base64.b64encode(b"something else"))

    def test_gaps(self):
        """Only gaps that touch the window count."""
        times = [0, 9_000_000, 10_000_000, 14_000_000, 15_000_000, 40_000_000]
        self.assertEqual(worst_gap_us(times, 10_500_000, 14_500_000), 4000)
        self.assertEqual(worst_gap_us(times, 9_500_000, 16_000_000), 25_000)
        with self.assertRaises(BenchError):
            worst_gap_us(times, 50_000_000, 60_000_000)

    def test_table(self):
        """Medians, ranges, a ratio, and failures that cannot be overlooked."""
        lines = [{"kind": "failure", "peer": "criu", "round": 1, "error": "no"}]
        for peer, pauses in (("rekindle", (10, 30, 20)), ("criu", (40, 40, 50))):
            lines += [{"kind": "round", "peer": peer, "peer_version": "1", "round": 1,
                       "program": "p 1", "live": {"pause_us": pause * 1000}} for pause in pauses]
        text = report.table(lines)
        self.assertIn("FAILED criu round 1: no", text)
        self.assertIn("20.0 [10.0..30.0]", text)
        self.assertIn("| 0.50", text)

    def test_bytes_of_a_directory(self):
        """Hard links count once, holes count with their length."""
        with tempfile.TemporaryDirectory() as folder:
            with open(folder + "/a", "wb") as file:
                file.truncate(1000)
            os.link(folder + "/a", folder + "/b")
            self.assertEqual(directory_bytes(folder), 1000)


@unittest.skipUnless(os.geteuid() == 0, "cells need root")
@unittest.skipUnless(shutil.which("redis-server"), "needs redis-server")
class Real(unittest.TestCase):
    def test_one_wrong_byte_is_found(self):
        """The comparison after a resume finds a changed byte, a lost key and a stale update."""
        def work():
            with resp.Client(20) as client:
                data.load(client, 20)
                data.check(client, {})
                value = bytearray(data.loaded(123))
                value[400] ^= 1
                for wrong in (("SET", key_of(123), bytes(value)), ("DEL", key_of(123))):
                    client.call(*wrong)
                    with resp.Client(2) as other, self.assertRaises(BenchError):
                        data.check(other, {})
                client.call("SET", key_of(123), data.updated(123, 2))
                data.check(client, {123: (1, 2)})
                with self.assertRaises(BenchError):
                    data.check(client, {123: (1,)})

        with tempfile.TemporaryDirectory() as folder, Cell(None, {}) as cell:
            data = Dataset(folder, 2000, 7)
            cell.start(Redis.argv)
            cell.in_network(lambda: resp.wait_for_answer(b"absent", None, 20))
            cell.in_network(work)
            outside = list(cell.pids().values())
            data.close()
        for pid in outside:
            self.assertFalse(os.path.exists(f"/proc/{pid}"), "a cell takes its processes along")

    def test_a_command_that_hangs_is_ended(self):
        """A time limit is kept, and the command is gone after it."""
        with Cell(None, {}) as cell:
            started = time.monotonic()
            with self.assertRaises(BenchError):
                cell.run(["sleep", "60"], 0.3)
            self.assertLess(time.monotonic() - started, 20)


if __name__ == "__main__":
    unittest.main()
