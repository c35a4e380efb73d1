"""Operations that need a second image beside the one that passes through."""

from __future__ import annotations

from collections.abc import Mapping

from pixelmill.images.image import Image
from pixelmill.operations.operation import Operation
from pixelmill.operations.parameters import ImageParameter


class WithSecondImage(Operation):
    """Base of operations with the parameter ``image``, their first: a reference until it is replaced by pixels."""

    image: ImageParameter

    def images(self) -> tuple[str, ...]:
        """The second image's reference, until it is replaced by pixels."""
        return (self.image,) if isinstance(self.image, str) else ()

    def with_images(self, images: Mapping[str, Image | str]) -> Operation:
        """With another reference, or pixels, for the second image."""
        if isinstance(self.image, Image) or self.image not in images:
            return self
        return self.model_copy(update={"image": images[self.image]})
