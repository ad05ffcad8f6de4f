"""Files that results point at: a picture, a clip and a tone, behind links that expire as the provider's do."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import math
import struct
import wave
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from urllib.parse import urlencode

MOST_RESULTS = 100
"""The most results that one task shows; some providers do not limit how many may be asked for."""

_TYPES = {"png": "image/png", "mp4": "video/mp4", "wav": "audio/wav"}
_STAMP = "%Y%m%dT%H%M%SZ"

STYLES = frozenset({"amz", "oss", "key", "private", "open"})
"""How a link proves itself: ``amz`` X-Amz-* parameters, ``oss`` Expires and Signature, ``key`` auth_key,
``private`` never fetchable, ``open`` no proof and no expiry."""


class Refused(Exception):
    """A link that is forged, incomplete or too old: HTTP 403."""


class Artefacts:
    """Makes and checks links to files, and draws the files.

    ``secret`` signs names and links; ``now`` is the clock that decides expiry, in seconds since the epoch.
    """

    def __init__(self, secret: bytes, now: Callable[[], float]) -> None:
        self._secret = secret
        self._now = now

    def link(self, base: str, owner: str, index: int, extension: str, style: str, *, lifetime: float = 86400) -> str:
        """A link to a file of its own for each owner and index.

        ``base`` is the sandbox's address; ``extension`` png, mp4 or wav; ``lifetime`` seconds from now,
        negative for a link that has expired already.
        """
        stem = f"{style}.{hashlib.sha256(owner.encode()).hexdigest()[:12]}.{index}"
        name = f"{stem}.{self._sign(stem)[:16]}.{extension}"
        query = self._proof(name, style, lifetime)
        return f"{base}/_sandbox/files/{name}" + (f"?{urlencode(query)}" if query else "")

    def upload_link(self, base: str, file_id: str) -> str:
        """A pre-signed link that takes the bytes of an upload by PUT, for an hour."""
        query = self._proof(f"upload/{file_id}", "amz", 3600)
        return f"{base}/_sandbox/uploads/{file_id}?{urlencode(query)}"

    def check_upload(self, file_id: str, query: Mapping[str, str]) -> None:
        """Raise Refused unless the link of an upload is genuine and still valid."""
        self._check(f"upload/{file_id}", "amz", query)

    def open(self, name: str, query: Mapping[str, str]) -> tuple[bytes, str]:
        """The bytes and media type behind a link. Raises Refused when the link does not hold."""
        parts = name.split(".")
        if len(parts) != 5 or parts[0] not in STYLES or parts[4] not in _TYPES:
            raise Refused("no such file")
        style, _, _, signature, extension = parts
        if not _same(self._sign(".".join(parts[:3]))[:16], signature):
            raise Refused("no such file")
        self._check(name, style, query)
        return _content(extension, ".".join(parts[1:3])), _TYPES[extension]

    def _sign(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()

    def _proof(self, name: str, style: str, lifetime: float) -> dict[str, str]:
        now = self._now()
        if style == "amz":
            # An expired link of this style is one that was signed long ago: its lifetime is never negative.
            begun = now if lifetime >= 0 else now - 2 * 86400
            span = int(lifetime) if lifetime >= 0 else 86400
            stamp = datetime.fromtimestamp(begun, UTC).strftime(_STAMP)
            return {
                "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
                "X-Amz-Credential": f"SANDBOX/{stamp[:8]}/us-east-1/s3/aws4_request",
                "X-Amz-Date": stamp,
                "X-Amz-Expires": str(span),
                "X-Amz-SignedHeaders": "host",
                "X-Amz-Signature": self._sign(f"{name}|{stamp}|{span}"),
            }
        until = str(int(now + lifetime))
        if style == "oss":
            return {"Expires": until, "OSSAccessKeyId": "LTAI-sandbox", "Signature": self._oss(name, until)}
        if style == "key":
            return {"auth_key": self._auth_key(name, until)}
        return {}

    def _oss(self, name: str, until: str) -> str:
        return base64.b64encode(bytes.fromhex(self._sign(f"{name}|{until}"))[:20]).decode()

    def _auth_key(self, name: str, until: str) -> str:
        return f"{until}-0-0-{self._sign(f'{name}|{until}')[:32]}"

    def _check(self, name: str, style: str, query: Mapping[str, str]) -> None:
        if style == "open":
            return
        try:
            until, genuine = self._read_proof(name, style, query)
        except (KeyError, ValueError, OverflowError) as error:
            raise Refused("the link carries no valid signature") from error
        if not genuine:
            raise Refused("the signature does not match")
        if self._now() >= until:
            raise Refused("the link has expired")

    def _read_proof(self, name: str, style: str, query: Mapping[str, str]) -> tuple[float, bool]:
        """When the link expires and whether its signature is ours."""
        if style == "amz":
            stamp, span = query["X-Amz-Date"], query["X-Amz-Expires"]
            begun = datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
            until = (begun + timedelta(seconds=int(span))).timestamp()
            return until, _same(self._sign(f"{name}|{stamp}|{span}"), query["X-Amz-Signature"])
        if style == "oss":
            return int(query["Expires"]), _same(self._oss(name, query["Expires"]), query["Signature"])
        if style == "key":
            stamp = query["auth_key"].partition("-")[0]
            return int(stamp), _same(self._auth_key(name, stamp), query["auth_key"])
        raise ValueError("a private file")


def _same(ours: str, theirs: str) -> bool:
    return hmac.compare_digest(ours.encode(), theirs.encode())


def _content(extension: str, owner: str) -> bytes:
    if extension == "mp4":
        return _clip()
    return draw_picture(owner) if extension == "png" else play_tone(owner)


@functools.cache
def _clip() -> bytes:
    return (Path(__file__).parent / "static" / "clip.mp4").read_bytes()


@functools.lru_cache(maxsize=64)
def draw_picture(owner: str) -> bytes:
    """A PNG of a sun over a sky, its colours and place drawn from the owner's name."""
    width, height = 320, 180
    dice = hashlib.sha256(owner.encode()).digest()
    top, bottom, sun = (tuple(dice[i : i + 3]) for i in (0, 3, 6))
    radius = height // 6 + dice[9] % (height // 6)
    middle_x, middle_y = radius + dice[10] * (width - 2 * radius) // 255, height // 3 + dice[11] % (height // 3)
    rows = bytearray()
    for y in range(height):
        sky = bytes((a * (height - y) + b * y) // height for a, b in zip(top, bottom, strict=True))
        inside = radius * radius - (y - middle_y) ** 2
        half = math.isqrt(inside) if inside > 0 else 0
        left, right = max(0, middle_x - half), min(width, middle_x + half)
        rows += b"\x00" + sky * left + bytes(sun) * (right - left) + sky * (width - right)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(rows), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@functools.lru_cache(maxsize=64)
def play_tone(owner: str) -> bytes:
    """A WAV of one second, its pitch drawn from the owner's name."""
    rate = 8000
    pitch = 220 * 2 ** (hashlib.sha256(owner.encode()).digest()[0] % 13 / 12)
    samples = bytes(128 + int(60 * math.sin(2 * math.pi * pitch * i / rate)) for i in range(rate))
    buffer = BytesIO()
    with wave.open(buffer, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(1)
        out.setframerate(rate)
        out.writeframes(samples)
    return buffer.getvalue()
