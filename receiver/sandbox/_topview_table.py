"""TopView's operations: bizType, paths, fields and results in one table.

Marks: A the provider's reference or its own client; B code of third parties; C assumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import _topview_fields as f
from . import _topview_results as r
from ._fields import Field


@dataclass(frozen=True)
class Flow:
    """One operation: its paths (below ``/topview``), fields, rule, and the shape of its result.

    ``marks``: evidence for the submit path and the query path. ``status``: the field that holds the state.
    """

    biz_type: str
    submit: str
    query: str
    marks: str
    fields: Sequence[Field]
    shape: r.Shape
    rule: f.Rule = f.no_rule
    status: str = "status"


_COMMON = "/v1/common_task"
_AVATAR = "product_avatar/task"

FLOWS: Sequence[Flow] = (
    Flow("SCRAPER", "/v1/scraper/task/submit", "/v1/scraper/task/query", "BB", f.SCRAPER, r.scraper),
    Flow(
        "ZERO_SHOT_AVATAR",
        "/v1/video_avatar/task/submit",
        "/v1/video_avatar/task/query",
        "AA",
        f.VIDEO_AVATAR,
        r.avatar_video,
        f.video_avatar_rule,
    ),
    Flow("M2V_PREVIEW", "/v1/m2v/task/submit", "/v1/m2v/task/query", "AA", f.M2V, r.m2v_preview, f.m2v_rule),
    Flow("M2V_EXPORT", "/v1/m2v/export", "/v1/m2v/task/query", "AA", f.M2V_EXPORT, r.m2v_export),
    Flow("M2V_EXPORT", "/v1/m2v/task/export", "/v1/m2v/task/query", "BA", f.M2V_EXPORT, r.m2v_export),
    Flow(
        "M2V_SCRIPT",
        "/v1/m2v/script/update",
        "/v1/m2v/script/list",
        "AA",
        f.M2V_SCRIPT,
        r.m2v_script,
        f.script_rule,
    ),
    Flow(
        "PRODUCT_AVATAR_REPLACE_PRODUCT_IMAGE",
        f"/v1/{_AVATAR}/image_replace/submit",
        f"/v1/{_AVATAR}/image_replace/result",
        "AA",
        f.REPLACE_V1,
        r.replace_v1,
        f.replace_rule,
        "taskStatus",
    ),
    *(
        Flow(
            "PRODUCT_AVATAR_REPLACE_PRODUCT_IMAGE",
            f"/{version}/{_AVATAR}/image_replace/submit",
            f"/{version}/{_AVATAR}/image_replace/query",
            "AA",
            f.REPLACE_NEWER,
            r.replace_newer,
        )
        for version in ("v2", "v3")
    ),
    *(
        Flow(
            "PRODUCT_AVATAR_IMAGE2VIDEO",
            f"/{version}/{_AVATAR}/image2Video/submit",
            f"/{version}/{_AVATAR}/image2Video/query",
            marks,
            f.AVATAR_VIDEO_V1 if version == "v1" else f.AVATAR_VIDEO_NEWER,
            r.product_video,
            f.script_mode_rule,
        )
        for version, marks in (("v1", "CC"), ("v2", "AA"), ("v3", "BB"))
    ),
    Flow(
        "PRODUCT_ANY_SHOOT",
        "/v1/product_anyShoot/task/submit",
        "/v1/product_anyShoot/task/result",
        "AC",
        f.SHOOT,
        r.shoot,
        f.shoot_rule,
    ),
    Flow(
        "PRODUCT_ANY_SHOOT",
        "/v3/product_anyShoot/product_model/task/submit",
        "/v3/product_anyShoot/product_model/task/result",
        "CB",
        f.SHOOT_V3,
        r.shoot,
    ),
    Flow(
        "COMMON_TASK_IMAGE2VIDEO",
        f"{_COMMON}/image2video/submit",
        f"{_COMMON}/image2video/result",
        "AA",
        f.IMAGE2VIDEO_V1,
        r.videos_v1,
    ),
    Flow(
        "COMMON_TASK_IMAGE2VIDEO",
        "/v2/common_task/image2video/task/submit",
        "/v2/common_task/image2video/task/query",
        "AA",
        f.IMAGE2VIDEO_V2,
        r.videos,
        f.image2video_v2_rule,
    ),
    Flow(
        "COMMON_TASK_TEXT2VIDEO",
        f"{_COMMON}/text2video/task/submit",
        f"{_COMMON}/text2video/task/query",
        "AA",
        f.TEXT2VIDEO,
        r.videos,
    ),
    Flow(
        "COMMON_TASK_TEXT2IMAGE",
        f"{_COMMON}/text2image/task/submit",
        f"{_COMMON}/text2image/task/query",
        "AA",
        f.TEXT2IMAGE,
        r.images,
    ),
    Flow(
        "COMMON_TASK_VIDEO2AIAVATAR",
        f"{_COMMON}/video2aiAvatar/submit",
        f"{_COMMON}/video2aiAvatar/query",
        "BA",
        f.VIDEO2AVATAR,
        r.ai_avatar,
    ),
    Flow(
        "VOICE_CLONE",
        "/v1/voice/clone/task/submit",
        "/v1/voice/clone/task/query",
        "AA",
        f.VOICE_CLONE,
        r.voice,
    ),
    Flow(
        "VOICE_TEXT2VOICE",
        "/v1/voice/text2voice/task/submit",
        "/v1/voice/text2voice/task/query",
        "AA",
        f.TEXT2VOICE,
        r.voice,
    ),
    # Tasks without a listed bizType; the name in their notice is assumed.
    Flow(
        "COMMON_TASK_REMOVE_BACKGROUND",
        f"{_COMMON}/remove_background/submit",
        f"{_COMMON}/remove_background/query",
        "AA",
        f.ANYTHING,
        r.one_image,
    ),
    Flow(
        "COMMON_TASK_IMAGE_EDIT",
        f"{_COMMON}/image_edit/task/submit",
        f"{_COMMON}/image_edit/task/query",
        "AA",
        f.ANYTHING,
        r.images,
    ),
    Flow(
        "PHOTO_AVATAR",
        "/v1/photo_avatar/task/submit",
        "/v1/photo_avatar/task/query",
        "AA",
        f.ANYTHING,
        r.avatar_video,
    ),
)
"""Every operation. The first path of a bizType is its oldest version."""

MESSAGES = {
    "200": "Success",
    "401": "Unauthorized",
    "4000": "Request parameter error",
    "4001": "Request data format does not match!",
    "4002": "Request digital signature does not match!",
    "4003": "Required parameter cannot be null",
    "4004": "Resource not found!",
    "4005": "Name duplicated",
    "4006": "Request refuse",
    "4007": "Exists unfinished task, please wait until the previous task is completed.",
    "4100": "Credit not enough",
    "5000": "Internal server error!",
    "5001": "Feign invoke error",
    "5003": "Server is busy, please try again later!",
    "5004": "I/O error occurred",
    "5005": "Unknown error occurred",
    "6001": "Security problem detect",
}
"""The provider's codes and their texts; 401 is from its own client."""
