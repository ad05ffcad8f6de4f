"""TopView's request fields, per operation, as its pages list them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ._fields import Field, Problem, first_absent, is_absent, is_yes, may, need, one_of

Rule = Callable[[Mapping[str, Any]], Problem | None]

RATIOS = ("9:16", "3:4", "1:1", "4:3", "16:9")

_NOTICE = may("noticeUrl", kind="link")
_SPEED = Field("voiceSpeed", "scalar", low=0.8, high=1.2)
_COUNT = Field("generatingCount", "scalar", choices=tuple("1234"))
_VIDEO_OPTIONS = (
    *may("aspectRatio", "boardId"),
    *may("resolution", "duration", kind="integer"),
    Field("sound", choices=("on", "off")),
    *_NOTICE,
)
_AVATAR_MODES = ("lite", "pro", "avatar2", "avatar4", "avatar4Fast")


def no_rule(_: Mapping[str, Any]) -> Problem | None:
    """Nothing beyond the single fields."""
    return None


def m2v_rule(body: Mapping[str, Any]) -> Problem | None:
    """A link or files; without a link a name, and a description unless the script is the caller's own."""
    missing = one_of(body, "productLink", "fileIds")
    if missing or not is_absent(body.get("productLink")):
        return missing
    own_script = is_yes(body.get("isDiyScript"))
    return first_absent(body, "productName", *(() if own_script else ("productDescription",)))


def script_rule(body: Mapping[str, Any]) -> Problem | None:
    """Each sentence has an id and its words."""
    for sentence in body["scriptContents"]:
        if not (isinstance(sentence, dict) and "segId" in sentence and isinstance(sentence.get("segText"), str)):
            return Problem("scriptContents", False, "scriptContents must hold objects with segId and segText")
    return None


def replace_rule(body: Mapping[str, Any]) -> Problem | None:
    """An avatar or a picture as the template."""
    return one_of(body, "avatarId", "templateImageFileId")


def script_mode_rule(body: Mapping[str, Any]) -> Problem | None:
    """A text needs a voice, sound needs a file; neither needs to be chosen."""
    needed = {"text": ("ttsText", "voiceId"), "audio": ("audioFileId",)}
    return first_absent(body, *needed.get(str(body.get("scriptMode")), ()))


def shoot_rule(body: Mapping[str, Any]) -> Problem | None:
    """A template by id or by picture."""
    return one_of(body, "templateId", "templateImageFileId")


def image2video_v2_rule(body: Mapping[str, Any]) -> Problem | None:
    """Reference pictures come in twos or more."""
    pictures = body.get("referenceImageFileIds")
    if pictures and len(pictures) < 2:
        return Problem("referenceImageFileIds", False, "referenceImageFileIds needs at least 2")
    return None


def video_avatar_rule(body: Mapping[str, Any]) -> Problem | None:
    """What each source of the avatar and of its voice needs."""
    source, voice = str(body.get("avatarSourceFrom")), str(body.get("audioSourceFrom"))
    needed = []
    if source == "0":
        needed.append("videoFileId")
    if source in {"1", "2"}:
        needed.append("aiAvatarId")
    if voice == "0":
        needed.append("audioFileId")
    if voice == "1":
        needed += ["ttsText"] if source == "1" else ["ttsText", "voiceoverId"]
    return first_absent(body, *needed)


SCRAPER = (*need("productLink"), *_NOTICE)
M2V = (
    *may("productLink", "productName", "productDescription", "language", "voiceId", "captionId", "aiavatarId"),
    *may("fileIds", kind="texts"),
    Field("aspectRatio", choices=RATIOS),
    Field("videoLengthType", "scalar", choices=tuple("1234")),
    Field("endcardAspectRatio", choices=("all", *RATIOS)),
    Field("endcardBackgroundColor", choices=("black", "white")),
    *may("endcardFileId", "logoFileId", "musicFileId", "diyScriptDescription", "diyScriptPrompt"),
    *may("preview", "isDiyScript", kind="boolean"),
    *_NOTICE,
)
M2V_EXPORT = (*need("taskId"), *need("scriptId", kind="scalar"), *_NOTICE)
M2V_SCRIPT = (
    *need("taskId"),
    *need("scriptId", kind="scalar"),
    *need("scriptContents", kind="list"),
    *_NOTICE,
)
REPLACE_V1 = (
    *need("productImageFileId", "imageEditPrompt"),
    *may("avatarId", "templateImageFileId", "userFaceImageFileId"),
    Field("productSize", "scalar", choices=tuple("123456")),
    *_NOTICE,
)
REPLACE_NEWER = (
    *may("productImageFileId", "productImageWithoutBackgroundFileId", "templateImageFileId", "avatarId"),
    *may("userFaceImageFileId", "imageEditPrompt", "projectId", "boardId"),
    Field("generateImageMode", choices=("auto", "manual")),
    Field("keepTarget", choices=("model", "product")),
    Field("version", choices=("v3", "v4")),
    *may("location", kind="list"),
    *may("productSize", kind="integer"),
    *_NOTICE,
)
_AVATAR_VIDEO = (
    Field("mode", choices=_AVATAR_MODES),
    Field("scriptMode", choices=("text", "audio")),
    *may("ttsText", "voiceId", "audioFileId", "captionId"),
    *_NOTICE,
)
AVATAR_VIDEO_V1 = (*need("productReplaceResultKey"), *_AVATAR_VIDEO)
AVATAR_VIDEO_NEWER = (*need("replaceProductTaskImageId"), *_AVATAR_VIDEO)
SHOOT = (
    *need("productImageFileId", "templateMaskFileId"),
    *need("mode", kind="scalar"),
    *may("productMaskFileId", "templateId", "templateImageFileId"),
    *_NOTICE,
)
SHOOT_V3 = (*may("productImageFileId", "templateId", "templateImageFileId"), *_NOTICE)
IMAGE2VIDEO_V1 = (
    *need("imageFileId"),
    *may("prompt", "negativePrompt"),
    Field("duration", "scalar", required=True, choices=("5", "10")),
    Field("mode", required=True, choices=("lite", "pro", "plus", "best")),
    Field("generatingCount", "scalar", required=True, choices=tuple("1234")),
    *_NOTICE,
)
IMAGE2VIDEO_V2 = (
    *need("model"),
    *may("prompt", "firstFrameFileId", "endFrameFileId"),
    *may("referenceImageFileIds", kind="texts"),
    _COUNT,
    *_VIDEO_OPTIONS,
)
TEXT2VIDEO = (*need("model", "prompt"), _COUNT, *_VIDEO_OPTIONS)
TEXT2IMAGE = (
    *need("model", "prompt"),
    *may("aspectRatio", "boardId"),
    *may("resolution", kind="scalar"),
    Field("generateCount", "integer", low=1),
    *_NOTICE,
)
VIDEO2AVATAR = (*need("videoFileId"), *_NOTICE)
VIDEO_AVATAR = (
    Field("avatarSourceFrom", "scalar", required=True, choices=("0", "1", "2", "3")),
    Field("audioSourceFrom", "scalar", required=True, choices=("0", "1")),
    *may("videoFileId", "aiAvatarId", "audioFileId", "ttsText", "voiceoverId", "captionId"),
    _SPEED,
    Field("modeType", "scalar", choices=("0", "1", "2")),
    *_NOTICE,
)
VOICE_CLONE = (*need("originVoiceFileId"), *may("name", "voiceText"), _SPEED, *_NOTICE)
TEXT2VOICE = (
    *need("voiceText", "voiceId"),
    *may("name", "emotionName", "originVoiceFileId", "boardId"),
    _SPEED,
    *_NOTICE,
)
ANYTHING: Sequence[Field] = _NOTICE
