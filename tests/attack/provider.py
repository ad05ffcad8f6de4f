"""The providers that call back, with answers that a test decides: one server plays them all."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

RUNNING = {
    "topview": '{"code":"200","message":"Success","result":{"taskId":"ID","status":"running"}}',
    "apsaravideo_vod": '{"RequestId":"r","AIImageJobList":[{"JobId":"ID","Status":"processing"}]}',
    "img_open": '{"code":"200","msg":"ok","data":{"businessTaskId":"ID","status":0}}',
}
DONE = {
    "topview": '{"code":"200","message":"Success","result":{"taskId":"ID","status":"success",'
    '"images":[{"status":"success","filePath":"URL","more":MORE}]}}',
    "apsaravideo_vod": '{"RequestId":"r","AIImageJobList":[{"JobId":"ID","Status":"success",'
    '"AIImageResult":[{"Url":"URL","Score":MORE}]}]}',
    "img_open": '{"code":"200","msg":"ok","data":{"businessTaskId":"ID","status":1,'
    '"outputImageUrl":"URL","more":MORE}}',
}


class AnyProvider:
    """Accepts every task, says that it runs, and that it is done once ``finish`` was called."""

    def __init__(self) -> None:
        self.callback_urls: dict[str, str] = {}
        """By the provider's id of the task."""
        self._final: dict[str, str] = {}
        self._count = 0
        self._lock = threading.Lock()
        me = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self._answer(me._answer(self.path, self.headers.get("x-acs-action"), body))

            def do_GET(self) -> None:
                self._answer(me._answer(self.path, None, b""))

            def _answer(self, text: str) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def finish(self, provider: str, task_id: str, url: str, more: str = "1") -> str:
        """From now on the task is done; the answer that says so. ``more``: JSON text of some detail."""
        text = DONE[provider].replace("ID", task_id, 1).replace("URL", url).replace("MORE", more)
        self._final[task_id] = text
        return text

    def _answer(self, target: str, action: str | None, body: bytes) -> str:
        parts = urlsplit(target)
        provider = parts.path.split("/")[1]
        given = json.loads(body) if body else {}
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        match provider, action:
            case "apsaravideo_vod", "SubmitAIImageJob":
                callback = json.loads(query["UserData"])["MessageCallback"]["CallbackURL"]
                return json.dumps({"JobId": self._started("job", callback)})
            case "apsaravideo_vod", "GetAIImageJobs":
                return self._state(provider, query["JobIds"])
            case "apsaravideo_vod", _:
                return '{"AIImageInfoList":[]}'
            case "topview", _ if body:
                task_id = self._started("tv", given["noticeUrl"])
                return json.dumps({"code": "200", "result": {"taskId": task_id, "status": "success"}})
            case "topview", _:
                return self._state(provider, query["taskId"])
        if re.search("query", parts.path, re.IGNORECASE):
            return self._state(provider, given["businessTaskId"])
        self.callback_urls[given["businessTaskId"]] = given["callbackUrl"]
        return json.dumps({"code": "200", "data": {"businessTaskId": given["businessTaskId"]}})

    def _started(self, prefix: str, callback: str) -> str:
        with self._lock:
            self._count += 1
            task_id = f"{prefix}-{self._count}"
        self.callback_urls[task_id] = callback
        return task_id

    def _state(self, provider: str, task_id: str) -> str:
        return self._final.get(task_id) or RUNNING[provider].replace("ID", task_id, 1)
