"""Whatever is done in whatever order, through the whole public API: the workspace holds just that."""

from __future__ import annotations

import pytest

from tests.campaigns.everything import campaign


@pytest.mark.campaign
def test_short_histories() -> None:
    campaign(histories=2, steps=20, chosen=0)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_long_histories() -> None:
    campaign(histories=12, steps=80, chosen=1)
