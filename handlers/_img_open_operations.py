"""The operations of Img Open: their inputs, where each is submitted, and how an operator adds tools."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, ClassVar, cast

from marshmallow import ValidationError, fields, validate, validates_schema

from handlers._base import InputSchema, Number, Operation, Switch, Whole
from handlers._records import JsonObject

TOOL_POLLS = (20.0, 30.0, 60.0)  # of a tool that calls back


class Family(StrEnum):
    """What kind of task it is: each has its own way of being submitted and asked for."""

    SD = "sd"
    TOOL = "tool"
    TRAINING = "training"


@dataclass(frozen=True, slots=True)
class Work:
    """One operation and where it is submitted, below the service's root.

    ``anything``: no result field is documented, so the rest of the answer is the result.
    """

    operation: Operation
    family: Family
    path: str
    anything: bool = False


class OursSchema(InputSchema):
    """Input in which the names that we fill in are refused."""

    ours: ClassVar[frozenset[str]] = frozenset(("businessTaskId", "id_task", "callbackUrl"))

    @validates_schema
    def check_ours(self, data: JsonObject, **_: Any) -> None:
        """Refuse the task's id and the callback address: they are set by us."""
        problems: dict[str, Any] = {name: [_ours(name)] for name in sorted(self.ours & data.keys())}
        scripts = data.get("alwayson_scripts")
        if isinstance(scripts, Mapping) and "id_task" in scripts:
            problems["alwayson_scripts"] = {"id_task": [_ours("id_task")]}
        if problems:
            raise ValidationError(problems)


class TrainingSchema(OursSchema):
    """Input of a training, in camelCase as the page's table has it."""

    ours = OursSchema.ours | {"taskId", "task_id", "callback_url"}


def _ours(name: str) -> str:
    if name.lower().startswith("callback"):
        return "is set by us; use callback_url of the task for your own address"
    return "is set by us: our task id is the provider's handle"


def _schema(
    name: str, known: Mapping[str, fields.Field[Any]], base: type[OursSchema] = OursSchema
) -> type[InputSchema]:
    return cast("type[InputSchema]", base.from_dict(dict(known), name=name))


def _text(*, required: bool = False, help: str = "") -> fields.String:  # noqa: A002 - the word of Option, too
    shortest = validate.Length(min=1) if required else None
    return fields.String(required=required, validate=shortest, metadata={"description": help} if help else {})


def _count(*, required: bool = False) -> Whole:
    return Whole(required=required, validate=validate.Range(min=1))


def _whole() -> Whole:
    return Whole()


def _side() -> Whole:
    """A side of InstantID's picture."""
    return Whole(validate=validate.Equal(960), metadata={"description": "960 for the present"})


def _url(help: str) -> fields.Url:  # noqa: A002 - the word of Option, too
    # No top-level domain is asked for: whether an address is public is for the provider to find out.
    return fields.Url(required=True, schemes={"http", "https"}, require_tld=False, metadata={"description": help})


def _urls(shortest: int, longest: int) -> fields.List[Any]:
    item = fields.Url(schemes={"http", "https"}, require_tld=False)
    return fields.List(item, required=True, validate=validate.Length(min=shortest, max=longest))


def _text_or_number(help: str, check: Any = None, **limits: float) -> fields.Raw:  # noqa: A002 - the word of Option, too
    """``limits``: of numbers, as JSON Schema has them; ``check`` holds for texts, too."""

    def plain(value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValidationError("must be a text or a number")
        if check is not None:
            check(value)

    return fields.Raw(validate=plain, metadata={"description": help, "type": ["string", "number"], **limits})


def _share(value: str | float) -> None:
    try:
        good = 0 <= float(value) <= 1
    except (ValueError, OverflowError):
        good = False
    if not good:
        raise ValidationError("must be between 0 and 1")


def _learning_rate(value: str | float) -> None:
    try:
        good = 0.0000001 <= float(value) <= 0.0001
    except (ValueError, OverflowError):
        good = False
    if not good:
        raise ValidationError("must be between 0.0000001 and 0.0001")


AlwaysOnScripts = InputSchema.from_dict(
    {
        "sd_model_checkpoint": _text(help="from the list of models"),
        "sd_vae": _text(help="from the list of VAEs"),
        "image_link": _text(help="image to image: URL of the picture to start from"),
        "mask_link": _text(help="image to image: URL of the mask"),
        "override_settings": fields.Dict(keys=fields.String()),
    },
    name="AlwaysOnScripts",
)


def _sd(name: str) -> type[InputSchema]:
    return _schema(
        name,
        {
            "prompt": _text(required=True, help="LoRA tags come from the list of LoRAs"),
            "negative_prompt": _text(),
            "batch_size": _count(required=True),
            "n_iter": _count(),
            "steps": _count(),
            "seed": _text_or_number("sent as text; -1 for any"),
            "width": _count(),
            "height": _count(),
            "cfg_scale": Number(),
            "denoising_strength": Number(),
            "sampler_index": _text(help="e.g. DPM++ 2M Karras"),
            "restore_faces": Switch(),
            "enable_hr": Switch(),
            "hr_scale": _whole(),
            "hr_second_pass_steps": _whole(),
            "hr_resize_x": _whole(),
            "hr_resize_y": _whole(),
            "alwayson_scripts": fields.Nested(AlwaysOnScripts),
        },
    )


FREE = _schema("AnyToolInput", {})
SD_FREE = _schema("AnySdInput", {
    "seed": _text_or_number("sent as text; -1 for any"), "alwayson_scripts": fields.Dict(keys=fields.String()),
})  # fmt: skip
FLUX = _schema("FluxInput", {
    "prompt": _text(required=True), "comfyTaskType": _text(help="e.g. Flux1SchnellFP8"),
    "width": _count(), "height": _count(), "steps": _count(), "fluxGuidance": Number(),
})  # fmt: skip
FACE_SWAP_V1 = _schema("FaceSwapV1Input", {
    "sourceUrl": _url("the face"), "targetUrl": _url("the picture that gets it"),
})  # fmt: skip
FACE_SWAP_V2 = _schema("FaceSwapV2Input", {
    "sourceUrl": _url("the face"), "targetUrl": _url("the picture that gets it"),
    "fidelityWeight": _text_or_number("0 to 1, sent as text", _share, minimum=0, maximum=1),
})  # fmt: skip
FACE_FUSION = _schema("FaceFusionInput", {
    "sourceUrl": _urls(1, 2), "targetUrl": _url("the picture that gets them"), "faceIdx": _whole(),
})  # fmt: skip
FACE_DETECTION = _schema("FaceDetectionInput", {"imageUrl": _url("the picture with the faces")})
INSTANT_ID = _schema("InstantIdInput", {
    "image": _text(required=True), "prompt": _text(required=True), "negativePrompt": _text(),
    "height": _side(), "width": _side(),
    "steps": _count(), "guidanceScale": Number(), "seed": _text_or_number("-1 for any"),
})  # fmt: skip
INTERROGATE = _schema("ImageDescriptionInput", {
    "image": _text(required=True), "model": fields.String(validate=validate.OneOf(["clip", "deepdanbooru"])),
})  # fmt: skip
OUTPAINTING = _schema("OutpaintingInput", {
    "sourceImage": _url("the picture to widen"), "imageCount": _count(required=True),
    "verticalExpansionRatio": Number(required=True, validate=validate.Range(1, 4)),
    "horizontalExpansionRatio": Number(required=True, validate=validate.Range(1, 4)),
    "prompt": _text(), "negativePrompt": _text(), "sampler": _text(), "seed": _whole(),
    "sampleStep": Whole(validate=validate.Range(0, 50)),
    "promptGuideFactor": Whole(validate=validate.Range(1, 45)),
})  # fmt: skip
CNT_PREVIEW = _schema("CntPreviewInput", {
    "sourceImage": _url("the picture"), "preprocessor": _text(required=True, help="e.g. canny"),
})  # fmt: skip
TRAINING = _schema("ModelTrainingInput", {
    "fileUrlList": _urls(10, 100),
    "maxEpochs": Whole(validate=validate.Range(10, 50)),
    "batchSize": Whole(validate=validate.Range(1, 4)),
    "learningRate": _text_or_number(
        "0.0000001 to 0.0001, sent as text to keep its precision", _learning_rate, minimum=0.0000001, maximum=0.0001
    ),
    "maxTokenLength": Whole(validate=validate.OneOf([0, 150, 225])),
}, TrainingSchema)  # fmt: skip


def _work(
    name: str,
    title: str,
    path: str,
    schema: type[InputSchema],
    *,
    calls_back: bool = False,
    anything: bool = False,
) -> Work:
    family = Family.SD if path.startswith("sd/") else Family.TOOL
    polls = TOOL_POLLS if calls_back else None
    return Work(Operation(name, title, schema, calls_back, poll_schedule=polls), family, path, anything)


_ALL = (
    _work("sd_text2image", "Stable Diffusion, text to image", "sd/v2/text2image", _sd("SdText2ImageInput")),
    _work("sd_image2image", "Stable Diffusion, image to image", "sd/v2/image2image", _sd("SdImage2ImageInput")),
    _work("sd_controlnet", "Stable Diffusion with ControlNet", "sd/v2/controlnet", _sd("SdControlnetInput")),
    _work("flux_text2image", "Flux, text to image", "tool/comfyui/text2image", FLUX, calls_back=True),
    _work("face_swap_v1", "Single face swap V1", "tool/roop", FACE_SWAP_V1),
    _work("face_swap_v2", "Single face swap V2", "tool/v2/roop", FACE_SWAP_V2),
    _work("face_fusion", "Multiple face swap", "tool/face/fusion", FACE_FUSION, calls_back=True),
    _work("face_detection", "Face detection", "tool/face/detection", FACE_DETECTION, calls_back=True,
          anything=True),
    _work("instant_id", "InstantID portrait", "tool/instantID", INSTANT_ID, calls_back=True),
    _work("image_description", "Image description", "tool/interrogate", INTERROGATE, calls_back=True),
    _work("hair_change", "Hairstyle changer", "tool/hair/change", FREE, anything=True),
    _work("style_recognition", "Style recognition", "tool/identifyStyle", FREE, anything=True),
    _work("outpainting", "Outpainting", "tool/imgExpand", OUTPAINTING, calls_back=True, anything=True),
    _work("cnt_preview", "ControlNet preview", "tool/cnt/preview", CNT_PREVIEW, calls_back=True, anything=True),
    Work(
        Operation("model_training", "Model training (experimental: its result comes by callback only)", TRAINING,
                  experimental=True, poll_schedule=(600.0, 1800.0)),
        Family.TRAINING, "modelTraining/submitTraining/Job", anything=True,
    ),
)  # fmt: skip

WORKS: Mapping[str, Work] = {work.operation.name: work for work in _ALL}

_TOOL = re.compile(r"([a-z][a-z0-9_]*)=/?([A-Za-z0-9_-]+(?:/[A-Za-z0-9_-]+)*)(:callback)?")


def more_tools(text: str) -> Mapping[str, Work]:
    """Operations from a text like ``background_remove=tool/removeBg,image_enlarge=tool/enlarge:callback``.

    A path is what follows the service's root: ``tool/<toolCode>``, or ``sd/...`` for one more of the
    Stable Diffusion family. ``:callback`` says that it takes a ``callbackUrl``. A known name keeps its
    input and gets the new path.
    """
    works: dict[str, Work] = {}
    for part in text.split(","):
        match = _TOOL.fullmatch(part.strip())
        if match is None or not match[2].startswith(("tool/", "sd/")):
            raise ValueError("must be like background_remove=tool/removeBg,image_enlarge=tool/enlarge:callback")
        name, path, calls_back = match[1], match[2], match[3] is not None
        free = SD_FREE if path.startswith("sd/") else FREE
        title = name.replace("_", " ").capitalize()
        added = _work(name, title, path, free, calls_back=calls_back, anything=True)
        known = WORKS.get(name)
        if known and known.family is not added.family:
            raise ValueError(f"gives {name} a path of another kind of task")
        works[name] = replace(known, path=path) if known else added
    return works
