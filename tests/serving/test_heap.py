"""A model's memory in huge pages: which areas are taken, and that nothing but their pages changes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.serving.models import heap

HUGE = 2 << 20


def line(start: int, size: int, rights: str = "rw-p", behind: str = "00000000 00:00 0 ") -> str:
    return f"{start:x}-{start + size:x} {rights} {behind}"


def test_whole_huge_pages_of_the_heap_and_of_large_blocks_are_taken() -> None:
    maps = [
        line(0x55AA_0010_1000, 20 << 20, behind="00000000 00:00 0                          [heap]"),
        line(0x7F00_0000_0000, 64 << 20),
    ]
    assert list(heap.anonymous_memory("\n".join(maps))) == [
        (0x55AA_0020_0000, 18 << 20),
        (0x7F00_0000_0000, 64 << 20),
    ]


@pytest.mark.parametrize(
    "other",
    [
        line(0x7F00_0000_0000, 8 << 20),  # a thread's stack: whole huge pages of it would all be filled
        line(0x7F00_0000_0000, 64 << 20, behind="00000000 00:00 0                          [stack]"),
        line(0x7F00_0000_0000, 64 << 20, rights="r-xp"),
        line(0x7F00_0000_0000, 64 << 20, rights="rw-s"),
        line(0x7F00_0000_0000, 64 << 20, behind="00000000 fe:00 1234                       /model"),
        line(0x7F00_0000_0000, 64 << 20, behind="00001000 00:00 0 "),
        "",
        "7f0000000000",
        "not-a-map rw-p 00000000 00:00 0",
    ],
)
def test_other_areas_are_left_alone(other: str) -> None:
    assert not list(heap.anonymous_memory(other))


@given(st.integers(0, 2**47), st.integers(0, 2**40))
def test_what_is_taken_is_aligned_and_inside_the_area(start: int, size: int) -> None:
    for taken, length in heap.anonymous_memory(line(start, size)):
        assert taken % HUGE == length % HUGE == 0
        assert start <= taken and taken + length <= start + size


def test_a_machine_without_huge_pages_or_a_small_model_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _name: pytest.fail("the kernel was asked"))
    for setting, size in (("always madvise [never]", heap.WORTH_BYTES), ("[madvise]", heap.WORTH_BYTES - 1)):
        (tmp_path / "enabled").write_text(setting)
        monkeypatch.setattr(heap, "_HUGE_PAGES", tmp_path / "enabled")
        heap.gather_heap(size)
    monkeypatch.setattr(heap, "_HUGE_PAGES", tmp_path / "absent")
    heap.gather_heap(heap.WORTH_BYTES)


LOAD = """
import mmap, os
from strongroom.serving.models import heap

def huge_kb():
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("AnonHugePages"))

weights = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
content = os.urandom(64 << 20)
weights.write(content)
before = huge_kb()
heap.gather_heap(len(content))
assert weights[:] == content
print(huge_kb() - before)
"""


def test_a_model_s_memory_is_in_huge_pages_and_unchanged() -> None:
    settings = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    version = tuple(int(part) for part in os.uname().release.split(".")[:2])
    if not settings.exists() or "[madvise]" not in settings.read_text() or version < (6, 1):
        pytest.skip("Linux 6.1 with transparent_hugepage = madvise is needed")
    run = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, check=True, timeout=120)
    assert int(run.stdout) > 32 << 10
