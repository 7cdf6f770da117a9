"""Linux 6.12: vmap() stores one base page per page; huge vmalloc walks again for every chunk."""

from __future__ import annotations

from vmaplab.release.base import Release

RELEASE = Release(name="linux-6.12", title="no batching: every page is a base page")
