"""Where the parity sets lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import PARITY


@pytest.fixture(scope="session")
def fixtures(request: pytest.FixtureRequest) -> Path:
    """The folder given by --fixtures, else the one beside the checkout."""
    given = request.config.stash.get(PARITY, None)
    if given is not None:
        return given
    folder: Path = request.getfixturevalue("shared") / "fixtures"
    if not folder.is_dir():
        pytest.skip("needs parity sets in ../shared/fixtures, or --fixtures DIR")
    return folder
