"""TopView's results: what each operation's query shows, at every stage of a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ._artefacts import MOST_RESULTS
from ._fields import whole
from ._world import Task

Result = dict[str, Any]
Shape = Callable[["View"], Result]

_PARTLY = "generation of this item failed"


@dataclass(frozen=True)
class View:
    """A finished or unfinished task as its query shows it.

    ``link(extension, index)`` makes a link to a file of the task. ``done``: it has ended, with ``outcome``.
    """

    task: Task
    done: bool
    outcome: str
    link: Callable[[str, int], str]

    @property
    def ok(self) -> bool:
        """Whether there is anything to show."""
        return self.done and self.outcome in {"success", "partial"}

    def count(self, name: str = "generatingCount") -> int:
        """How many results the caller asked for; two at least where one of them is to fail."""
        asked = self.task.input.get(name)
        given = asked if isinstance(asked, int) else whole(asked) if isinstance(asked, str) else None
        number = 1 if given is None else given
        return min(max(number, 2) if self.outcome == "partial" else number, MOST_RESULTS)

    def items(self, number: int, good: Callable[[int], Result], bad: Mapping[str, Any]) -> list[Result]:
        """One entry for each result; with the outcome ``partial`` the first of several has failed."""
        if not self.ok:
            return []
        failing = 1 if self.outcome == "partial" else 0
        failed = [{"status": "fail", "errorMsg": _PARTLY, **bad} for _ in range(failing)]
        made = [{"status": "success", "errorMsg": None, **good(index)} for index in range(failing, number)]
        return [*failed, *made]


def scraper(view: View) -> Result:
    """A product page's contents."""
    name = "Sandbox product" if view.ok else None
    return {
        "productLink": view.task.input.get("productLink"),
        "productName": name,
        "productDescription": "A product that exists only in the sandbox." if view.ok else None,
        "productImages": [view.link("png", index) for index in range(2)] if view.ok else [],
        "productVideos": [view.link("mp4", 2)] if view.ok else [],
    }


def avatar_video(view: View) -> Result:
    """Video Avatar."""
    return {"outputVideoUrl": view.link("mp4", 0) if view.ok else None}


def _m2v_item(view: View, index: int) -> Result:
    return {
        "scriptId": int(view.task.data.get("script_id", index + 1)),
        "title": f"Script {index + 1}",
        "description": "A clip of the sandbox",
        "videoUrl": view.link("mp4", index),
        "coverUrl": view.link("png", index + 10),
        "videoDuration": 2000,
        "videoEtag": f"etag-{view.task.id[:8]}-{index}",
    }


_M2V_EMPTY = dict.fromkeys(("title", "description", "videoUrl", "coverUrl", "videoDuration", "videoEtag"))
_PLACEHOLDER = {"scriptId": 0, "status": None, "errorMsg": None, **_M2V_EMPTY}


def _m2v(view: View, filled: str, other: str) -> Result:
    number = 2 if view.outcome == "partial" else 1
    items = view.items(number, lambda index: _m2v_item(view, index), {"scriptId": 1, **_M2V_EMPTY})
    # The provider's own sample holds an entry without any value in the list that was not asked for.
    return {filled: items, other: [dict(_PLACEHOLDER)] if view.done else []}


def m2v_preview(view: View) -> Result:
    """Previews of a marketing video, beside a placeholder export."""
    return _m2v(view, "previewVideos", "exportVideos")


def m2v_export(view: View) -> Result:
    """A marketing video, beside a placeholder preview."""
    return _m2v(view, "exportVideos", "previewVideos")


def m2v_script(view: View) -> Result:
    """A script's text."""
    given = view.task.input.get("scriptContents")
    contents = given if isinstance(given, list) else [{"segId": 1, "segText": "A sentence of the sandbox."}]
    script = view.task.input.get("scriptId", 1)
    return {"scriptId": script, "scriptContents": contents if view.ok else []}


def replace_v1(view: View) -> Result:
    """Product pictures under keys that the next step takes."""
    number = 2 if view.outcome == "partial" else 1
    items = view.items(
        number,
        lambda i: {
            "key": f"{view.task.id}/{i}",
            "url": view.link("png", i),
            "faceExistence": "no-face" not in view.task.directives,
        },
        {"key": None, "url": None, "faceExistence": None},
    )
    # The provider's sample of this version has no state of its own on an item.
    return {"productReplaceResult": [{k: v for k, v in i.items() if k not in ("status", "errorMsg")} for i in items]}


def replace_newer(view: View) -> Result:
    """One product picture."""
    image = f"{view.task.id}-0" if view.ok else None
    return {"imageId": image, "resultImageUrl": view.link("png", 0) if view.ok else None}


def _avatar(view: View) -> Result:
    return {
        "aiavatarId": f"avatar-{view.task.id[:8]}",
        "aiavatarName": "Sandbox avatar",
        "gender": "female",
        "coverUrl": view.link("png", 1),
        "previewVideoUrl": view.link("mp4", 2),
    }


def product_video(view: View) -> Result:
    """A product avatar's video."""
    return {
        "finishedVideoUrl": view.link("mp4", 0) if view.ok else None,
        "aiAvatar": _avatar(view) if view.ok else None,
    }


def shoot(view: View) -> Result:
    """Pictures of a product in a scene; the fields' names are assumed."""
    number = 2 if view.outcome == "partial" else 1
    bad = {"key": None, "url": None}
    return {
        "resultImages": view.items(number, lambda i: {"key": f"{view.task.id}/{i}", "url": view.link("png", i)}, bad)
    }


def videos_v1(view: View) -> Result:
    """Videos with their measures, one level down."""

    def video(index: int) -> Result:
        return {"originVideo": {"filePath": view.link("mp4", index), "width": 160, "height": 90}}

    return {"videos": view.items(view.count(), video, {"originVideo": None})}


def videos(view: View) -> Result:
    """Videos, each with its own state."""
    return {"videos": view.items(view.count(), lambda i: {"filePath": view.link("mp4", i)}, {"filePath": None})}


def images(view: View) -> Result:
    """Pictures, each with its own state."""

    def image(index: int) -> Result:
        return {
            "fileId": f"{view.task.id}-{index}",
            "filePath": view.link("png", index),
            "width": 320,
            "height": 180,
        }

    bad = dict.fromkeys(("fileId", "filePath", "width", "height"))
    return {"images": view.items(view.count("generateCount"), image, bad)}


def ai_avatar(view: View) -> Result:
    """An avatar made from a video."""
    return {"aiAvatar": _avatar(view) if view.ok else None}


def voice(view: View) -> Result:
    """A voice and a sample of it."""
    if not view.ok:
        return {"voice": None}
    made = {"voiceId": f"voice-{view.task.id[:8]}", "demoAudioUrl": view.link("wav", 0), "durations": 1000}
    return {"voice": made}


def one_image(view: View) -> Result:
    """A single picture, for operations whose result is not described; the name is assumed."""
    return {"resultImageUrl": view.link("png", 0) if view.ok else None}
