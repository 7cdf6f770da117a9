# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from object_support import missing

settings.register_profile("default", max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", max_examples=3000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first; those of the kernel's own code only where it can be built."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
    of_kernel = [item for item in items if item.get_closest_marker("kernel")]
    why = missing() if of_kernel else ""
    if why and os.environ.get("VMAPLAB_REQUIRE_KERNEL", "0") not in ("", "0"):
        raise pytest.UsageError(f"VMAPLAB_REQUIRE_KERNEL is set, and the kernel's own code cannot be built: {why}")
    for item in of_kernel if why else []:
        item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium."""
    where = shutil.which("chromium")
    if where is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=where, args=[*flags, "--disable-sync"])
        yield started
        started.close()


@pytest.fixture(scope="module", autouse=True)
def _memory() -> Iterator[None]:
    """Machines have hundreds of megabytes and go in circles; Python looks for those by the number of objects alone."""
    yield
    gc.collect()
