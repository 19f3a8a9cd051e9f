# SPDX-License-Identifier: Apache-2.0
"""Each driver, killed at every of its writes to the journal. The iSCSI disk is combined by dm-multipath, so that its steps are
among these."""

import pytest
from crashing import Crashing, Moments, test_killed_while_attaching, test_killed_while_detaching  # noqa: F401  (tests)
from each_driver import ready_on_one_path  # noqa: F401  (a fixture)
from flows import Flows


@pytest.fixture
def crashing(ready_on_one_path, tmp_path):  # noqa: F811
    ready = ready_on_one_path
    moments = Moments(tmp_path, tmp_path / "state/journal.sqlite")
    with Flows(tmp_path, ready.configuration, preload=moments.library) as flows:
        yield Crashing(ready.connection_info, flows, moments)
