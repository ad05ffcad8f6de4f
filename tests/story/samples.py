"""One task of each kind, with room for the sandbox's magic words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sample:
    """An operation with a valid input; ``field`` is the text that takes magic words. ``calls_back``: by default."""

    provider: str
    operation: str
    input: dict[str, Any]
    field: str
    calls_back: bool

    def given(self, *magic: str) -> dict[str, Any]:
        """The input with magic words of the sandbox, e.g. ``fail`` or ``duration=5``."""
        words = " ".join(f"[sandbox:{word}]" for word in magic)
        if self.field == "UserData":
            return {**self.input, "UserData": {"Extend": {"n": words}}} if words else dict(self.input)
        return {**self.input, self.field: f"{self.input[self.field]} {words}".strip()}

    def __str__(self) -> str:
        return f"{self.provider}-{self.operation}"


TOPVIEW = Sample("topview", "common_task_text2image", {"model": "Nano Banana", "prompt": "a red boat"}, "prompt", True)
SUPERAPP = Sample(
    "superapp", "text2image", {"inputText": "a red boat", "width": 512, "height": 512}, "inputText", False
)
VOD = Sample(
    "apsaravideo_vod",
    "submit_ai_image_job",
    {"VideoId": "357a8748c5774a0b89d2726e6436aa00", "AITemplateId": "ef1a8842cb9f4b6c8cea80cad902e416"},
    "UserData",
    True,
)
IMG_SD = Sample("img_open", "sd_text2image", {"prompt": "a red boat", "batch_size": 1}, "prompt", False)
IMG_TOOL = Sample(
    "img_open", "flux_text2image", {"prompt": "a red boat", "comfyTaskType": "Flux1SchnellFP8"}, "prompt", True
)

ALL = (TOPVIEW, SUPERAPP, VOD, IMG_SD, IMG_TOOL)
CALLING = tuple(sample for sample in ALL if sample.calls_back)
"""Those whose providers call back."""
