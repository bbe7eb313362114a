"""Training the codecs round the frozen backbone."""

from nirvana_mri.train.config import MaskRecipe, TrainConfig

__all__ = ["MaskRecipe", "TrainConfig"]
