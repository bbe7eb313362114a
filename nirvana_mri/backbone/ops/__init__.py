"""The operations that have more than one implementation: one folder each, `naive.py` is the definition.

Folders are named for the idea (`gated_delta`), functions for the act (`gated_delta_rule`): neither hides the other.
"""

from nirvana_mri.backbone.ops.gated_delta import gated_delta_rule
from nirvana_mri.backbone.ops.mixture import mix_branches
from nirvana_mri.backbone.ops.registry import implementations
from nirvana_mri.backbone.ops.trigger import TriggerBank, TriggerLogits, trigger_update

__all__ = ["TriggerBank", "TriggerLogits", "gated_delta_rule", "implementations", "mix_branches", "trigger_update"]
