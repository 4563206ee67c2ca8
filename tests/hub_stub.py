"""A small Hugging Face Hub on 127.0.0.1: what huggingface_hub asks for to push and to load."""

import base64
import contextlib
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Repositories as name → file → bytes, and what was asked for."""

    def __init__(self):
        self.files, self.private, self.asked = {}, {}, []


def handler(hub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def answer(self, content=b"", status=200, **headers):
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def missing(self, code):
            self.answer(b"", 404, X_Error_Code=code, X_Error_Message="not found")

        def do_GET(self):
            hub.asked.append(f"{self.command} {self.path}")
            path = self.path.partition("?")[0]
            if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                repo, _, name = found.groups()
                if repo not in hub.files:
                    return self.missing("RepoNotFound")
                if name not in hub.files[repo]:
                    return self.missing("EntryNotFound")
                body = hub.files[repo][name]
                etag = hashlib.sha1(body).hexdigest()
                return self.answer(body, X_Repo_Commit=COMMIT, ETag=f'"{etag}"')
            if found := re.match(r"/api/models/([^/]+/[^/]+)", path):
                if found[1] not in hub.files:
                    return self.missing("RepoNotFound")
                files = [{"rfilename": name} for name in hub.files[found[1]]]
                return self.answer({"id": found[1], "sha": COMMIT, "siblings": files})
            return self.missing("RepoNotFound")

        do_HEAD = do_GET

        def do_POST(self):
            hub.asked.append(f"POST {self.path}")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            address = f"http://{self.headers['Host']}"
            if not self.headers.get("Authorization"):
                return self.answer({"error": "Invalid username or password."}, 401)
            if self.path == "/api/repos/create":
                asked = json.loads(body)
                repo = f"{asked.get('organization')}/{asked['name']}"
                hub.files.setdefault(repo, {})
                hub.private[repo] = asked.get("private") or asked.get("visibility") == "private"
                return self.answer({"url": f"{address}/{repo}", "name": repo, "id": repo})
            if self.path.startswith("/api/validate-yaml"):
                return self.answer({"errors": [], "warnings": []})
            repo = re.match(r"/api/models/([^/]+/[^/]+)/", self.path)[1]
            if "/preupload/" in self.path:
                files = [
                    {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for f in json.loads(body)["files"]
                ]
                return self.answer({"files": files})
            for line in body.decode().splitlines():  # a commit: a JSON object a line
                part = json.loads(line)
                if part["key"] == "file":
                    assert part["value"]["encoding"] == "base64"
                    content = base64.b64decode(part["value"]["content"])
                    hub.files[repo][part["value"]["path"]] = content
            url = f"{address}/{repo}/commit/{COMMIT}"
            return self.answer({"success": True, "commitOid": COMMIT, "commitUrl": url})

    return Handler


@contextlib.contextmanager
def hub_stub():
    """Yield a hub and its address."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(hub))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
