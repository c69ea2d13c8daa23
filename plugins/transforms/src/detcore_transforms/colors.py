"""Colours changed at random, in the numbers of SSD (Liu et al. 2016) and of YOLOX (Ge et al. 2021)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import Transform

from detcore_transforms.targets import check_range, is_image, refused, uniform


class YOLOXHSVRandomAug(Transform):  # type: ignore[misc]  # torchvision is not typed
    """Adds a random number to hue, to saturation and to value; each of the three with probability a half.

    Numbers are those of 8-bit HSV: a turn of the hue is 180, saturation and value end at 255.

    Args:
        hue_delta: Added at most, either way; as the next two.
        saturation_delta: Grey takes the hue of red.
        value_delta: The largest of a pixel's three.
    """

    def __init__(self, *, hue_delta: float = 5, saturation_delta: float = 30, value_delta: float = 30) -> None:
        super().__init__()
        self.deltas = (hue_delta, saturation_delta, value_delta)
        for name, value in zip(("hue_delta", "saturation_delta", "value_delta"), self.deltas, strict=True):
            if value < 0:
                raise refused(self, name, value, "It is at least 0.")

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """What is added to hue, saturation and value: whole numbers."""
        gains = [int(uniform(-delta, delta)) for delta in self.deltas]
        return {"gains": [gain * int(torch.randint(2, ())) for gain in gains]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """See the class."""
        hue, saturation, value = params["gains"]
        if not is_image(inpt) or not any(params["gains"]):
            return inpt
        hues, saturations, values = to_hsv(inpt.as_subclass(Tensor).float())
        saturations = (saturations + saturation / 255).clamp_(0, 1)
        return _as_image(from_hsv(hues + hue / 30, saturations, (values + value).clamp_(0, 255)), inpt)


class PhotoMetricDistortion(Transform):  # type: ignore[misc]  # torchvision is not typed
    """Brightness, contrast, saturation, hue and the order of channels, each changed with probability a half.

    Contrast comes first or last. In difference to ``RandomPhotometricDistort``, torchvision's: brightness is added to,
    and contrast is a factor of the pixels themselves (there they are mixed with the image's mean).

    Args:
        brightness_delta: Added to pixels at most, either way.
        contrast_range: A factor of pixels between these.
        saturation_range: A factor of the saturation between these.
        hue_delta: Degrees that hues turn by at most, either way.
    """

    def __init__(
        self,
        *,
        brightness_delta: float = 32,
        contrast_range: tuple[float, float] = (0.5, 1.5),
        saturation_range: tuple[float, float] = (0.5, 1.5),
        hue_delta: float = 18,
    ) -> None:
        super().__init__()
        check_range(self, "contrast_range", contrast_range)
        check_range(self, "saturation_range", saturation_range)
        self.brightness_delta = brightness_delta
        self.contrast_range = contrast_range
        self.saturation_range = saturation_range
        self.hue_delta = hue_delta

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """What is done; what stays as it is has its neutral number."""
        brightness = uniform(-self.brightness_delta, self.brightness_delta)
        contrast, saturation = uniform(*self.contrast_range), uniform(*self.saturation_range)
        hue, order = uniform(-self.hue_delta, self.hue_delta), torch.randperm(3).tolist()
        first, *done = (torch.rand(6) < 0.5).tolist()
        chosen = zip(
            ("brightness", "contrast", "saturation", "hue", "order"),
            (brightness, contrast, saturation, hue, order),
            (0.0, 1.0, 1.0, 0.0, [0, 1, 2]),
            done,
            strict=True,
        )
        return {"contrast_first": first, **{name: value if does else none for name, value, none, does in chosen}}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """See the class."""
        if not is_image(inpt):
            return inpt
        pixels = (inpt.as_subclass(Tensor).float() + params["brightness"]).clamp_(min=0)
        pixels *= params["contrast"] if params["contrast_first"] else 1
        if params["hue"] or params["saturation"] != 1:
            hues, saturations, values = to_hsv(pixels)
            pixels = from_hsv(hues + params["hue"] / 60, saturations * params["saturation"], values)
        pixels *= 1 if params["contrast_first"] else params["contrast"]
        return _as_image(pixels[params["order"]], inpt)


def _as_image(pixels: Tensor, like: Any) -> Any:
    return tv_tensors.wrap(pixels.round_().clamp_(0, 255).to(torch.uint8), like=like)


def to_hsv(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """RGB (3, H, W) float -> hues in sixths of a turn, 0 is red; saturations, 0 to 1; values; each (H, W)."""
    red, green, blue = image
    values, largest = image.max(0)
    spread = values - image.amin(0)
    safe = torch.where(spread > 0, spread, 1)
    hues = torch.where(largest == 0, (green - blue) / safe, (blue - red) / safe + 2)
    hues = torch.where(largest == 2, (red - green) / safe + 4, hues)
    return hues, spread / torch.where(values > 0, values, 1), values


def from_hsv(hues: Tensor, saturations: Tensor, values: Tensor) -> Tensor:
    """The way back from :func:`to_hsv`; hues may be of other turns."""
    spread = saturations * values
    planes = []
    for shift in (5, 3, 1):
        place = (hues + shift).remainder_(6)
        planes.append(values - spread * torch.minimum(place, 4 - place).clamp_(0, 1))
    return torch.stack(planes)
