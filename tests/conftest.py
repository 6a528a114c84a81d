"""What many tests share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the test clips are made, once a session."""
    return tmp_path_factory.mktemp("clips")
