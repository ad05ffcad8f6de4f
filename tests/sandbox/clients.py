"""Callers of the four providers, as small as their pages allow."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import requests

from receiver.sandbox import _vod_signing as signing


class TopView:
    def __init__(self, url: str, uid: str = "demo-uid", key: str = "sk-demo") -> None:
        self.base = f"{url}/topview"
        self.headers = {"Topview-Uid": uid, "Authorization": f"Bearer {key}"}

    def post(self, path: str, body: object, **kwargs: Any) -> dict[str, Any]:
        answer = requests.post(self.base + path, json=body, headers=self.headers, timeout=10, **kwargs)
        assert answer.status_code in (200, 404), answer.text
        decoded: dict[str, Any] = answer.json()
        return decoded

    def get(self, path: str, **query: str) -> dict[str, Any]:
        answer = requests.get(self.base + path, params=query, headers=self.headers, timeout=10)
        assert answer.status_code in (200, 404), answer.text
        decoded: dict[str, Any] = answer.json()
        return decoded

    def draw(self, prompt: str = "a cat", **more: Any) -> dict[str, Any]:
        """Submit a text2image task and give the submit's result."""
        path = "/v1/common_task/text2image/task/submit"
        answer = self.post(path, {"model": "Demo", "prompt": prompt, **more})
        assert answer["code"] == "200", answer
        result: dict[str, Any] = answer["result"]
        return result

    def drawn(self, task_id: str) -> dict[str, Any]:
        answer = self.get("/v1/common_task/text2image/task/query", taskId=task_id)
        assert answer["code"] == "200", answer
        result: dict[str, Any] = answer["result"]
        return result


class SuperApp:
    def __init__(self, url: str, access_key: str = "ak-demo", secret: str = "sk-demo") -> None:
        self.base = f"{url}/superapp"
        self.access_key = access_key
        self.secret = secret

    def sign(self, method: str, uri: str, body: bytes, stamp: str, *, plain: bool = False) -> str:
        text = f"{method} {uri}\n".encode() + body + f".{stamp}.{self.access_key}".encode()
        digest = hmac.new(self.secret.encode(), text, hashlib.sha1).hexdigest()
        return digest if plain else base64.b64encode(digest.encode()).decode()

    def headers(self, signature: str, stamp: str) -> dict[str, str]:
        return {
            "X-Access-Key": self.access_key,
            "X-Request-Timestamp": stamp,
            "X-Request-Sign": signature,
            "x-acs-request-id": str(uuid.uuid4()),
            "Content-Type": "application/json",
        }

    def submit(self, body: object, *, stamp: str | None = None, **headers: str | None) -> requests.Response:
        raw = json.dumps(body, ensure_ascii=False).encode()
        stamp = stamp or str(int(time.time() * 1000))
        uri = "/openapi/v1/aigc/submitTask"
        sent = self.headers(self.sign("POST", uri, raw, stamp), stamp)
        for name, value in headers.items():
            sent.pop(name.replace("_", "-"), None)
            if value is not None:
                sent[name.replace("_", "-")] = value
        return requests.post(self.base + uri, data=raw, headers=sent, timeout=10)

    def query(self, task_id: str, form: str = "default") -> dict[str, Any]:
        uri, stamp = "/openapi/v1/aigc/queryTask", str(int(time.time() * 1000))
        signed = f"{uri}?taskId={task_id}" if form == "path_with_query" else uri
        signature = self.sign("GET", signed, b"", stamp, plain=form == "hex")
        headers = self.headers(signature, stamp)
        answer = requests.get(self.base + uri, params={"taskId": task_id}, headers=headers, timeout=10)
        decoded: dict[str, Any] = answer.json()
        return decoded

    def draw(self, text: str = "a cat") -> str:
        given = {"inputText": text, "width": 640, "height": 480}
        answer = self.submit({"workflow": "TEXT2IMAGE", "version": "1.0.0", "algoInput": given}).json()
        assert answer["success"] is True, answer
        task_id: str = answer["model"]
        return task_id


class Vod:
    """Signs V3 requests by hand, so that each part can be spoiled."""

    def __init__(self, url: str, key_id: str = "testAccessKeyId", secret: str = "testAccessKeySecret") -> None:
        self.url = f"{url}/apsaravideo_vod/"
        self.key_id = key_id
        self.secret = secret

    def call(self, action: str, parameters: dict[str, str], **headers: str) -> requests.Response:
        prepared = requests.Request("POST", self.url, params=parameters).prepare()
        host, _, query = str(prepared.url).removeprefix("http://").partition("/apsaravideo_vod/")
        sent = {
            "host": host,
            "x-acs-action": action,
            "x-acs-content-sha256": hashlib.sha256(b"").hexdigest(),
            "x-acs-date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "x-acs-signature-nonce": uuid.uuid4().hex,
            "x-acs-version": "2017-03-21",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        names = sorted(sent)
        received = signing.Received("POST", sent, query.lstrip("?"), b"")
        if "authorization" not in sent:
            signature = signing.v3_signature(received, names, self.secret)
            sent["authorization"] = (
                f"{signing.ALGORITHM} Credential={self.key_id},SignedHeaders={';'.join(names)},Signature={signature}"
            )
        return requests.post(str(prepared.url), headers=sent, timeout=10)

    def submit(self, video: str = "video-1", **parameters: str) -> str:
        answer = self.call("SubmitAIImageJob", {"VideoId": video, "AITemplateId": "t1", **parameters})
        assert answer.status_code == 200, answer.text
        job_id: str = answer.json()["JobId"]
        return job_id

    def job(self, job_id: str) -> dict[str, Any]:
        answer = self.call("GetAIImageJobs", {"JobIds": job_id})
        assert answer.status_code == 200, answer.text
        job: dict[str, Any] = answer.json()["AIImageJobList"][0]
        return job


class ImgOpen:
    def __init__(self, url: str, key_id: str = "demo-id", secret: str = "demo-secret") -> None:
        self.base = f"{url}/img_open/AIGCImgOpenServ/saas/"
        self.headers = {"X-Request-req-accessKeyId": key_id, "X-Request-req-accessKeySecret": secret}

    def post(self, path: str, body: object) -> dict[str, Any]:
        answer = requests.post(self.base + path, json=body, headers=self.headers, timeout=10)
        assert answer.status_code in (200, 404), answer.text
        decoded: dict[str, Any] = answer.json()
        return decoded

    def draw(self, task_id: str, prompt: str = "a cat", **more: Any) -> dict[str, Any]:
        scripts = {"id_task": task_id}
        body = {"prompt": prompt, "batch_size": 2, "alwayson_scripts": scripts, **more}
        return self.post("sd/v2/text2image", body)

    def drawn(self, task_id: str, version: str = "v2/") -> dict[str, Any]:
        return self.post(f"sd/{version}queryTaskInfo", {"businessTaskId": task_id})
