"""Img Open's operations and request fields, as its pages list them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ._fields import Field, may, need

_STABLE_DIFFUSION = (
    *need("prompt"),
    *may("negative_prompt", "sampler_index"),
    Field("batch_size", "integer", required=True, low=1),
    Field("n_iter", "integer", low=1),
    *may("steps", "width", "height", "hr_second_pass_steps", kind="integer"),
    *may("hr_scale", "hr_resize_x", "hr_resize_y", kind="integer"),
    # A string in the provider's samples, a number in its answers.
    *may("seed", kind="scalar"),
    *may("cfg_scale", "denoising_strength", kind="number"),
    *may("restore_faces", "enable_hr", kind="boolean"),
    *may("alwayson_scripts", kind="object"),
)

STABLE_DIFFUSION: Mapping[str, Sequence[Field]] = {
    "sd/v2/text2image": _STABLE_DIFFUSION,
    # The picture comes in alwayson_scripts, as image_link; no page says that it must be there.
    "sd/v2/image2image": _STABLE_DIFFUSION,
    "sd/v2/controlnet": _STABLE_DIFFUSION,
}
"""Operations that draw, by path below the provider's prefix."""


@dataclass(frozen=True)
class Tool:
    """One image tool. ``result`` is the field of its answer; ``calls_back``: whether it takes ``callbackUrl``."""

    fields: Sequence[Field] = ()
    result: str = "outputImageUrl"
    calls_back: bool = False


_SWAP = need("sourceUrl", "targetUrl", kind="link")
_CALLBACK = may("callbackUrl", kind="link")

TOOLS: Mapping[str, Tool] = {
    "comfyui/text2image": Tool(
        (
            *need("prompt"),
            *need("callbackUrl", kind="link"),
            *may("comfyTaskType"),
            *may("width", "height", "steps", kind="integer"),
            *may("fluxGuidance", kind="scalar"),
        ),
        calls_back=True,
    ),
    "roop": Tool(_SWAP),
    "v2/roop": Tool((*_SWAP, Field("fidelityWeight", low=0, high=1))),
    "face/fusion": Tool(
        (
            Field("sourceUrl", "links", required=True, low=1, high=2),
            *need("targetUrl", kind="link"),
            *may("faceIdx", kind="integer"),
            *_CALLBACK,
        ),
        calls_back=True,
    ),
    # The result's name is assumed.
    "face/detection": Tool((*need("imageUrl"), *_CALLBACK), result="faces", calls_back=True),
    "instantID": Tool(
        (
            *need("image", "prompt"),
            Field("width", "integer", choices=("960",)),
            Field("height", "integer", choices=("960",)),
            *may("negativePrompt"),
            *_CALLBACK,
            *may("steps", kind="integer"),
            *may("guidanceScale", "seed", kind="scalar"),
        ),
        calls_back=True,
    ),
    "interrogate": Tool(
        (*need("image"), *need("callbackUrl", kind="link"), Field("model", choices=("clip", "deepdanbooru"))),
        result="caption",
        calls_back=True,
    ),
    # The fields of these two could not be obtained: anything is taken.
    "hair/change": Tool(),
    "identifyStyle": Tool(result="caption"),
    "imgExpand": Tool(
        (
            *need("sourceImage"),
            Field("imageCount", "integer", required=True, low=1),
            Field("verticalExpansionRatio", "number", required=True, low=1, high=4),
            Field("horizontalExpansionRatio", "number", required=True, low=1, high=4),
            *may("prompt", "negativePrompt", "sampler"),
            *_CALLBACK,
            Field("sampleStep", "integer", low=0, high=50),
            Field("promptGuideFactor", "integer", low=1, high=45),
            *may("seed", kind="integer"),
        ),
        calls_back=True,
    ),
    "cnt/preview": Tool((*need("sourceImage", "preprocessor"), *_CALLBACK), calls_back=True),
}
"""Image tools by tool code: the part of the path after ``tool/``."""

ANY_TOOL = Tool(_CALLBACK, calls_back=True)
"""A tool that no page describes."""

TRAINING = (
    *need("taskId"),
    Field("fileUrlList", "links", required=True, low=10, high=100),
    Field("maxEpochs", "integer", low=10, high=50),
    Field("batchSize", "integer", low=1, high=4),
    Field("learningRate", low=0.0000001, high=0.0001),
    Field("maxTokenLength", "integer", choices=("0", "150", "225")),
)

LISTS = ("queryModelList", "queryLoraList", "queryVaeList", "queryEmbeddingList")
"""Lists below ``sd/v2/``; all but the first are assumed."""

LIST_FIELDS = (
    Field("pageSize", "integer", required=True, low=1, high=500),
    Field("pageNum", "integer", required=True, low=1),
    *may("sdModelCheckpoint", "sdModelName"),
)
