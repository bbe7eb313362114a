"""MRI ↔ tokens: the k-space encoder in front of the language model, the image decoder behind it."""

from nirvana_mri.codecs.image_decoder import ImageDecoder, ImageDecoderConfig
from nirvana_mri.codecs.kspace_encoder import KSpaceEncoder, KSpaceEncoderConfig

__all__ = ["ImageDecoder", "ImageDecoderConfig", "KSpaceEncoder", "KSpaceEncoderConfig"]
