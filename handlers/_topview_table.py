"""TopView's operations in one table: paths, versions, inputs and where the artefacts are.

Evidence of a path: A the provider's own pages or client, B code of others, C assumed (by analogy).
Any single path can be changed by the setting ``paths``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from handlers import _topview_inputs as inputs
from handlers._base import InputSchema
from handlers._records import OutputKind


@dataclass(frozen=True, slots=True)
class Artefacts:
    """Where an operation's result holds what it made.

    ``lists``: arrays whose items are artefacts, the first that is there counts; empty: the result
    itself is the one item. ``urls``: fields of an item, the first with a URL counts. ``inner``: an
    object inside the item that holds the URL. ``things``: what is an artefact without a URL.
    ``page``: a product page, read. ``guess``: the names are not documented, so what looks alike will do.
    """

    kind: OutputKind
    urls: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    inner: str | None = None
    things: tuple[str, ...] = ()
    page: bool = False
    guess: bool = False


@dataclass(frozen=True, slots=True)
class Flow:
    """One operation. ``evidence``: of the submit path and of the query path.

    ``fixed``: fields that we set. ``continues``: it may work on the task named by the input's ``taskId``.
    """

    title: str
    biz_type: str | None
    submit: str
    query: str
    evidence: str
    schema: type[InputSchema]
    artefacts: Artefacts
    fixed: Mapping[str, bool] | None = None
    continues: bool = False


URL_FIELDS = ("filePath", "url", "resultImageUrl", "imageUrl", "videoUrl", "audioUrl", "finishedVideoUrl",
              "outputVideoUrl", "demoAudioUrl", "resultUrl", "outputUrl")  # fmt: skip

_VIDEO, _IMAGE, _AUDIO, _DATA = OutputKind.VIDEO, OutputKind.IMAGE, OutputKind.AUDIO, OutputKind.DATA
_MADE_VIDEOS = Artefacts(_VIDEO, ("filePath",), ("videos",))
_REPLACED = Artefacts(
    _IMAGE, ("resultImageUrl", "url", "imageUrl"), ("productReplaceResult", "resultImages"), guess=True
)
_AVATAR_VIDEO = Artefacts(_VIDEO, ("finishedVideoUrl",), guess=True)
_SHOT = Artefacts(_IMAGE, ("url", "resultImageUrl"), ("resultImages",), guess=True)
_ANYTHING = Artefacts(_IMAGE, URL_FIELDS, guess=True)

_AVATAR = "product_avatar/task"
_COMMON = "/v1/common_task"

FLOWS: Mapping[str, Flow] = {
    "scraper": Flow(
        "Read a product page", "SCRAPER", "/v1/scraper/task/submit", "/v1/scraper/task/query", "BB",
        inputs.ScraperInput,
        Artefacts(_DATA, URL_FIELDS, page=True),
    ),
    "zero_shot_avatar": Flow(
        "Video avatar", "ZERO_SHOT_AVATAR", "/v1/video_avatar/task/submit", "/v1/video_avatar/task/query", "AA",
        inputs.VideoAvatarInput, Artefacts(_VIDEO, ("outputVideoUrl",), guess=True),
    ),
    "m2v_preview": Flow(
        "Avatar marketing video: previews", "M2V_PREVIEW", "/v1/m2v/task/submit", "/v1/m2v/task/query", "AA",
        inputs.M2VPreviewInput, Artefacts(_VIDEO, ("videoUrl",), ("previewVideos",)), {"preview": True},
    ),
    "m2v_export": Flow(
        "Avatar marketing video: the whole video", "M2V_EXPORT", "/v1/m2v/export", "/v1/m2v/task/query", "AA",
        inputs.M2VExportInput, Artefacts(_VIDEO, ("videoUrl",), ("exportVideos",)), continues=True,
    ),
    "m2v_script": Flow(
        "Avatar marketing video: change a script", "M2V_SCRIPT", "/v1/m2v/script/update", "/v1/m2v/script/list",
        "AC", inputs.M2VScriptInput, Artefacts(_DATA, things=("scriptContents",), guess=True), continues=True,
    ),
    "product_avatar_replace_product_image": Flow(
        "Product avatar: put the product in a picture", "PRODUCT_AVATAR_REPLACE_PRODUCT_IMAGE",
        f"/v1/{_AVATAR}/image_replace/submit", f"/v1/{_AVATAR}/image_replace/result", "AA",
        inputs.ReplaceImageInput, Artefacts(_IMAGE, ("url",), ("productReplaceResult",)),
    ),
    "product_avatar_replace_product_image_v2": Flow(
        "Product avatar: put the product in a picture (v2)", "PRODUCT_AVATAR_REPLACE_PRODUCT_IMAGE",
        f"/v2/{_AVATAR}/image_replace/submit", f"/v2/{_AVATAR}/image_replace/query", "AA",
        inputs.ReplaceImageNewerInput, _REPLACED,
    ),
    "product_avatar_replace_product_image_v3": Flow(
        "Product avatar: put the product in a picture (v3)", "PRODUCT_AVATAR_REPLACE_PRODUCT_IMAGE",
        f"/v3/{_AVATAR}/image_replace/submit", f"/v3/{_AVATAR}/image_replace/query", "AA",
        inputs.ReplaceImageNewerInput, _REPLACED,
    ),
    "product_avatar_image2video": Flow(
        "Product avatar: video", "PRODUCT_AVATAR_IMAGE2VIDEO",
        f"/v1/{_AVATAR}/image2Video/submit", f"/v1/{_AVATAR}/image2Video/query", "CC",
        inputs.AvatarVideoInput, _AVATAR_VIDEO,
    ),
    "product_avatar_image2video_v2": Flow(
        "Product avatar: video (v2)", "PRODUCT_AVATAR_IMAGE2VIDEO",
        f"/v2/{_AVATAR}/image2Video/submit", f"/v2/{_AVATAR}/image2Video/query", "AA",
        inputs.AvatarVideoNewerInput, _AVATAR_VIDEO,
    ),
    "product_avatar_image2video_v3": Flow(
        "Product avatar: video (v3)", "PRODUCT_AVATAR_IMAGE2VIDEO",
        f"/v3/{_AVATAR}/image2Video/submit", f"/v3/{_AVATAR}/image2Video/query", "BB",
        inputs.AvatarVideoNewerInput, _AVATAR_VIDEO,
    ),
    "product_any_shoot": Flow(
        "Product in any scene", "PRODUCT_ANY_SHOOT",
        "/v1/product_anyShoot/task/submit", "/v1/product_anyShoot/task/result", "AC",
        inputs.AnyShootInput, _SHOT,
    ),
    "product_any_shoot_v3": Flow(
        "Product in any scene (v3)", "PRODUCT_ANY_SHOOT", "/v3/product_anyShoot/product_model/task/submit",
        "/v3/product_anyShoot/product_model/task/result", "CB", inputs.TopViewInput, _SHOT,
    ),
    "common_task_image2video": Flow(
        "Image to video", "COMMON_TASK_IMAGE2VIDEO", f"{_COMMON}/image2video/submit",
        f"{_COMMON}/image2video/result", "AA", inputs.Image2VideoInput,
        Artefacts(_VIDEO, ("filePath",), ("videos",), inner="originVideo"),
    ),
    "common_task_image2video_v2": Flow(
        "Image to video (v2)", "COMMON_TASK_IMAGE2VIDEO", "/v2/common_task/image2video/task/submit",
        "/v2/common_task/image2video/task/query", "AA", inputs.Image2VideoNewerInput, _MADE_VIDEOS,
    ),
    "common_task_text2video": Flow(
        "Text to video", "COMMON_TASK_TEXT2VIDEO", f"{_COMMON}/text2video/task/submit",
        f"{_COMMON}/text2video/task/query", "AA", inputs.Text2VideoInput, _MADE_VIDEOS,
    ),
    "common_task_text2image": Flow(
        "Text to image", "COMMON_TASK_TEXT2IMAGE", f"{_COMMON}/text2image/task/submit",
        f"{_COMMON}/text2image/task/query", "AA", inputs.Text2ImageInput,
        Artefacts(_IMAGE, ("filePath",), ("images",)),
    ),
    "common_task_video2aiavatar": Flow(
        "Avatar from a video", "COMMON_TASK_VIDEO2AIAVATAR", f"{_COMMON}/video2aiAvatar/submit",
        f"{_COMMON}/video2aiAvatar/query", "BA", inputs.Video2AvatarInput,
        Artefacts(_DATA, things=("aiAvatar", "aiAvatarId")),
    ),
    "voice_clone": Flow(
        "Clone a voice", "VOICE_CLONE", "/v1/voice/clone/task/submit", "/v1/voice/clone/task/query", "AA",
        inputs.VoiceCloneInput, Artefacts(_AUDIO, ("demoAudioUrl",), inner="voice", things=("voice",)),
    ),
    "voice_text2voice": Flow(
        "Text to voice", "VOICE_TEXT2VOICE", "/v1/voice/text2voice/task/submit",
        "/v1/voice/text2voice/task/query", "AA", inputs.Text2VoiceInput,
        Artefacts(_AUDIO, ("demoAudioUrl",), inner="voice"),
    ),
    "remove_background": Flow(
        "Remove a background", None, f"{_COMMON}/remove_background/submit", f"{_COMMON}/remove_background/query",
        "AA", inputs.TopViewInput, _ANYTHING,
    ),
    "image_edit": Flow(
        "Edit an image", None, f"{_COMMON}/image_edit/task/submit", f"{_COMMON}/image_edit/task/query", "AA",
        inputs.TopViewInput, _ANYTHING,
    ),
    "photo_avatar": Flow(
        "Avatar from a photo", None, "/v1/photo_avatar/task/submit", "/v1/photo_avatar/task/query", "AA",
        inputs.TopViewInput, Artefacts(_VIDEO, URL_FIELDS, things=("aiAvatar",), guess=True),
    ),
}  # fmt: skip

RESOURCES: Mapping[str, tuple[str, str]] = {
    "credit": ("/user/credit/detail", "the credit that remains, and until when"),
    "credit_logs": ("/user/credit/logs", "what credit was spent on"),
    "voices": ("/v1/voice/query", "voices to speak with"),
    "captions": ("/v1/caption/list", "styles of captions"),
    "avatar_categories": ("/v1/product_avatar/category/list", "categories of product avatars"),
    "public_avatars": ("/v1/product_avatar/public_avatar/query", "product avatars for everyone"),
    "any_shoot_templates": ("/v1/product_anyShoot/template/list", "scenes for product_any_shoot"),
}

UPLOAD_CREDENTIAL = "/v1/upload/credential"
UPLOAD_CHECK = "/v1/upload/check"


def known_paths() -> dict[str, str]:
    """Every path that can be overridden, by its name in the setting ``paths``."""
    submits = {f"{name}.submit": flow.submit for name, flow in FLOWS.items()}
    queries = {f"{name}.query": flow.query for name, flow in FLOWS.items()}
    resources = {f"{name}.fetch": path for name, (path, _) in RESOURCES.items()}
    return {**submits, **queries, **resources}


def path_overrides(text: str) -> dict[str, str]:
    """Parse ``operation.submit=/path,operation.query=/path,resource.fetch=/path``."""
    known, found = known_paths(), {}
    for part in text.split(","):
        name, _, path = (piece.strip() for piece in part.partition("="))
        if name not in known:
            raise ValueError("must name operations of TopView, like product_any_shoot_v3.submit=/v3/path")
        if not path.startswith("/") or set(path) & set("?# "):
            raise ValueError("must give paths that begin with / and have no query")
        found[name] = path
    return found
