import dataclasses
import json

import pytest

from nirvana_mri import __version__
from nirvana_mri.errors import ProtocolError
from nirvana_mri.eval.protocol import FASTMRI, require_same


def test_every_part_of_the_rule_moves_the_hash_and_what_stands_beside_does_not():
    for part in dataclasses.fields(FASTMRI):
        other = dataclasses.replace(FASTMRI, **{part.name: 4.0 if part.name == "acceleration" else "something else"})
        assert (other.hash == FASTMRI.hash) == (part.name in ("acceleration", "toolkit_version"))


def test_is_stamped_with_what_moves_a_score():
    stamp = json.loads(json.dumps(FASTMRI.as_dict()))
    assert {"name", "target", "crop", "data_range", "window", "aggregation", "slices", "hash"} <= set(stamp)
    assert stamp["toolkit_version"] == __version__


def test_different_rules_are_not_brought_together():
    other = dataclasses.replace(FASTMRI, data_range="1")
    assert require_same([("a", FASTMRI), ("b", FASTMRI)]) == FASTMRI
    with pytest.raises(ProtocolError, match=r"a and c .*data_range"):
        require_same([("a", FASTMRI), ("b", FASTMRI), ("c", other)])
    with pytest.raises(ProtocolError, match="no scores"):
        require_same([])
