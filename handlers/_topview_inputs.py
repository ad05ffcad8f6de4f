"""TopView's inputs: what is documented as required, as closed, or as belonging together.

Whatever the provider leaves open (model names, resolutions, newer fields) passes through.
"""
# ruff: noqa: N815  # schemas carry the provider's own field names

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from handlers._base import InputSchema, Number, Whole
from handlers._topview_fields import Choice, ScriptId, TextSwitch

RATIOS = ("9:16", "3:4", "1:1", "4:3", "16:9")


def _text(description: str, *, required: bool = False, one_of: tuple[str, ...] = ()) -> fields.String:
    rule = validate.OneOf(one_of) if one_of else validate.Length(min=1) if required else None
    return fields.String(required=required, validate=rule, metadata={"description": description})


def _file(what: str, *, required: bool = False) -> fields.String:
    return _text(f"{what}: the file_id of an upload.", required=required)


def _count(description: str, most: int | None = None, *, required: bool = False) -> Whole:
    return Whole(
        required=required,
        validate=validate.Range(min=1, max=most),
        metadata={"description": description},
    )


def _whole(description: str) -> Whole:
    return Whole(metadata={"description": description})


def _speed() -> Number:
    return Number(validate=validate.Range(min=0.8, max=1.2), metadata={"description": "Speed of speech, 0.8 to 1.2."})


def _files(description: str, least: int = 1) -> fields.List[Any]:
    return fields.List(fields.String(), validate=validate.Length(min=least), metadata={"description": description})


def _need(data: Mapping[str, Any], name: str, when: str) -> None:
    """Raise ValidationError for the field when it is missing or empty; ``when`` ends the sentence."""
    if not data.get(name):
        raise ValidationError({name: [f"Required {when}."]})


class TopViewInput(InputSchema):
    """Base of TopView's inputs, and the input of operations whose fields are not documented."""

    @validates_schema
    def _no_notice_url(self, data: Mapping[str, Any], **_: Any) -> None:
        if "noticeUrl" in data:
            raise ValidationError(
                {"noticeUrl": ["Set by the service itself; to be told of the result, use callback_url."]}
            )


class ScraperInput(TopViewInput):
    """SCRAPER."""

    productLink = _text("The product page to read.", required=True)


class M2VInput(TopViewInput):
    """The fields of an avatar marketing video."""

    productLink = _text("The product page; wins over fileIds.")
    fileIds = _files("Uploaded pictures and clips of the product.")
    productName = _text("Required without productLink.")
    productDescription = _text("Required without productLink, unless isDiyScript.")
    aspectRatio = _text("Default 9:16.", one_of=RATIOS)
    language = _text("Default en.")
    voiceId = _text("See the resource voices.")
    captionId = _text("See the resource captions.")
    aiavatarId = _text("The avatar that presents.")
    videoLengthType = Choice(
        "1", "2", "3", "4", description="1: 30 to 50 s, 2: 15 to 30 s, 3: 30 to 45 s, 4: 45 to 60 s."
    )
    endcardFileId = _file("The end card")
    endcardAspectRatio = _text("all, or a ratio.", one_of=("all", *RATIOS))
    endcardBackgroundColor = _text("Behind the end card.", one_of=("black", "white"))
    logoFileId = _file("The logo")
    musicFileId = _file("The music")
    isDiyScript = TextSwitch(description="Whether the script is your own.")

    @validates_schema
    def _some_source(self, data: Mapping[str, Any], **_: Any) -> None:
        if data.get("productLink"):
            return
        if not data.get("fileIds"):
            raise ValidationError({"productLink": ["One of productLink and fileIds is required."]})
        _need(data, "productName", "without productLink")
        if not data.get("isDiyScript"):
            _need(data, "productDescription", "without productLink, unless isDiyScript is true")


class M2VPreviewInput(M2VInput):
    """M2V_PREVIEW: the service itself sends ``preview`` true."""

    preview = TextSwitch(
        description="Always true for this operation.",
        only=True,
        error="Must be true; m2v_export makes the whole video.",
    )


class M2VExportInput(M2VInput):
    """M2V_EXPORT: of a preview (``taskId`` and ``scriptId``), or in one go from the fields of a video."""

    taskId = _text("The provider's task id of the preview to export.")
    scriptId = ScriptId("Which script of the preview; required with taskId.")
    preview = TextSwitch(
        description="Always false for this operation.",
        only=False,
        error="Must be false; m2v_preview makes previews.",
    )

    @validates_schema
    def _some_source(self, data: Mapping[str, Any], **more: Any) -> None:
        if data.get("taskId"):
            if data.get("scriptId") in (None, ""):
                raise ValidationError({"scriptId": ["Required with taskId."]})
        elif "scriptId" in data:
            raise ValidationError({"taskId": ["Required with scriptId."]})
        elif not (data.get("productLink") or data.get("fileIds")):
            raise ValidationError({"taskId": ["One of taskId, productLink and fileIds is required."]})
        else:
            super()._some_source(data, **more)


class ScriptSegment(InputSchema):
    """One sentence of a script."""

    segId = ScriptId("Which sentence.", required=True)
    segText = fields.String(required=True, metadata={"description": "Its words."})


class M2VScriptInput(TopViewInput):
    """M2V_SCRIPT: changes the words of a preview's script."""

    taskId = _text("The provider's task id of the preview.", required=True)
    scriptId = ScriptId("Which script.", required=True)
    scriptContents = fields.List(
        fields.Nested(ScriptSegment),
        required=True,
        validate=validate.Length(min=1),
        metadata={"description": "The sentences, each with segId and segText."},
    )


class ReplaceImageInput(TopViewInput):
    """PRODUCT_AVATAR_REPLACE_PRODUCT_IMAGE, first version."""

    productImageFileId = _file("The product", required=True)
    imageEditPrompt = _text("What to do.", required=True)
    avatarId = _text("See the resource public_avatars; this or templateImageFileId is required.")
    templateImageFileId = _file("A picture with a person; this or avatarId is required")
    userFaceImageFileId = _file("The face to use")
    productSize = Choice(*"123456", description="1 to 6, default 2.")

    @validates_schema
    def _some_template(self, data: Mapping[str, Any], **_: Any) -> None:
        if not (data.get("avatarId") or data.get("templateImageFileId")):
            raise ValidationError({"avatarId": ["One of avatarId and templateImageFileId is required."]})


class ReplaceImageNewerInput(TopViewInput):
    """PRODUCT_AVATAR_REPLACE_PRODUCT_IMAGE, second and third version: what is required is not documented."""

    productImageFileId = _file("The product")
    productImageWithoutBackgroundFileId = _file("The product, cut out")
    templateImageFileId = _file("A picture with a person")
    avatarId = _text("See the resource public_avatars.")
    userFaceImageFileId = _file("The face to use")
    imageEditPrompt = _text("What to do.")
    generateImageMode = _text("auto or manual.", one_of=("auto", "manual"))
    keepTarget = _text("model or product.", one_of=("model", "product"))
    version = _text("v3 or v4.", one_of=("v3", "v4"))
    location = fields.List(fields.List(Number()), metadata={"description": "Where the product goes: a list of points."})
    productSize = _whole("How large the product is.")


class _AvatarVideoInput(TopViewInput):
    """What every version of PRODUCT_AVATAR_IMAGE2VIDEO takes beside the picture."""

    mode = _text(
        "lite: 480p, 5 s; pro: 720p, 10 s; avatar2, avatar4, avatar4Fast: 1080p. avatar2 only, "
        "when the picture shows no face.",
        one_of=("lite", "pro", "avatar2", "avatar4", "avatar4Fast"),
    )
    scriptMode = _text("What is spoken comes as text or as audio.", one_of=("text", "audio"))
    ttsText = _text("What to say; required with scriptMode text.")
    voiceId = _text("Who says it; required with scriptMode text.")
    audioFileId = _file("The speech; required with scriptMode audio")
    captionId = _text("See the resource captions.")

    @validates_schema
    def _script(self, data: Mapping[str, Any], **_: Any) -> None:
        if data.get("scriptMode") == "text":
            _need(data, "ttsText", "when scriptMode is text")
            _need(data, "voiceId", "when scriptMode is text")
        if data.get("scriptMode") == "audio":
            _need(data, "audioFileId", "when scriptMode is audio")


class AvatarVideoInput(_AvatarVideoInput):
    """PRODUCT_AVATAR_IMAGE2VIDEO, first version."""

    productReplaceResultKey = _text("The key in the outputs of product_avatar_replace_product_image.", required=True)


class AvatarVideoNewerInput(_AvatarVideoInput):
    """PRODUCT_AVATAR_IMAGE2VIDEO, second and third version."""

    replaceProductTaskImageId = _text(
        "The imageId in the outputs of product_avatar_replace_product_image_v2 or _v3.", required=True
    )


class AnyShootInput(TopViewInput):
    """PRODUCT_ANY_SHOOT, first version."""

    productImageFileId = _file("The product", required=True)
    productMaskFileId = _file("Its mask, of the same pixel size as the product's picture")
    templateId = _text("See the resource any_shoot_templates; this or templateImageFileId is required.")
    templateImageFileId = _file("The scene; wins over templateId")
    templateMaskFileId = _file("Where the product goes: a mask of the same pixel size as the template", required=True)
    mode = _text("How to blend.", required=True)

    @validates_schema
    def _some_template(self, data: Mapping[str, Any], **_: Any) -> None:
        if not (data.get("templateId") or data.get("templateImageFileId")):
            raise ValidationError({"templateId": ["One of templateId and templateImageFileId is required."]})


class Image2VideoInput(TopViewInput):
    """COMMON_TASK_IMAGE2VIDEO, first version."""

    imageFileId = _file("The first frame", required=True)
    prompt = _text("What happens.")
    negativePrompt = _text("What must not happen.")
    duration = Choice("5", "10", required=True, description="Seconds: 5 or 10.")
    mode = _text("Quality.", required=True, one_of=("lite", "pro", "plus", "best"))
    generatingCount = _count("How many videos, 1 to 4.", 4, required=True)


class _ModelInput(TopViewInput):
    """What the operations with a choice of models share."""

    model = _text("Display name of a model.", required=True)
    prompt = _text("What to show.")
    aspectRatio = _text("For example 16:9; depends on the model.")


class _VideoInput(_ModelInput):
    """What the video operations with a choice of models share."""

    resolution = _whole("For example 720; depends on the model.")
    duration = _whole("Seconds; depends on the model.")
    sound = _text("With sound or without.", one_of=("on", "off"))
    generatingCount = _count("How many videos, 1 to 4, default 1.", 4)


class Image2VideoNewerInput(_VideoInput):
    """COMMON_TASK_IMAGE2VIDEO, second version."""

    firstFrameFileId = _file("The first frame")
    endFrameFileId = _file("The last frame")
    referenceImageFileIds = _files("At least two reference pictures.", least=2)


class Text2VideoInput(_VideoInput):
    """COMMON_TASK_TEXT2VIDEO."""

    prompt = _text("What to show.", required=True)


class Text2ImageInput(_ModelInput):
    """COMMON_TASK_TEXT2IMAGE; note the count's other name."""

    prompt = _text("What to show.", required=True)
    resolution = _text("For example 1K or 2K; depends on the model.")
    generateCount = _count("How many pictures.")


class Video2AvatarInput(TopViewInput):
    """COMMON_TASK_VIDEO2AIAVATAR."""

    videoFileId = _file("A video of the person", required=True)


class VideoAvatarInput(TopViewInput):
    """ZERO_SHOT_AVATAR, in the provider's pages "Video Avatar"."""

    avatarSourceFrom = Choice(
        *"0123", required=True, description="0 own video, 1 public avatar, 2 custom avatar, 3 own photo."
    )
    audioSourceFrom = Choice(*"01", required=True, description="0 audio file, 1 text.")
    videoFileId = _file("Your video; required with avatarSourceFrom 0")
    aiAvatarId = _text("Required with avatarSourceFrom 1 and 2.")
    audioFileId = _file("The speech; required with audioSourceFrom 0")
    ttsText = _text("What to say; required with audioSourceFrom 1.")
    voiceoverId = _text("Who says it; required with text, unless the avatar is public.")
    voiceSpeed = _speed()
    modeType = Choice(*"012", description="0, 1 or 2.")
    captionId = _text("See the resource captions.")

    @validates_schema
    def _sources(self, data: Mapping[str, Any], **_: Any) -> None:
        avatar, audio = str(data.get("avatarSourceFrom")), str(data.get("audioSourceFrom"))
        if avatar == "0":
            _need(data, "videoFileId", "when avatarSourceFrom is 0")
        if avatar in ("1", "2"):
            _need(data, "aiAvatarId", f"when avatarSourceFrom is {avatar}")
        if audio == "0":
            _need(data, "audioFileId", "when audioSourceFrom is 0")
        if audio == "1":
            _need(data, "ttsText", "when audioSourceFrom is 1")
            if avatar != "1":
                _need(data, "voiceoverId", "for text, unless the avatar is public")


class VoiceCloneInput(TopViewInput):
    """VOICE_CLONE."""

    originVoiceFileId = _file("The voice, mp3 or wav, 10 s to 5 min, under 10 MB", required=True)
    name = _text("What to call it.")
    voiceText = _text("What the demo says.")
    voiceSpeed = _speed()


class Text2VoiceInput(TopViewInput):
    """VOICE_TEXT2VOICE."""

    voiceText = _text("What to say.", required=True)
    voiceId = _text("Who says it; see the resource voices.", required=True)
    name = _text("What to call it.")
    voiceSpeed = _speed()
    emotionName = _text("The mood.")
