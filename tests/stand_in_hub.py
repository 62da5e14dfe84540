"""A stand-in for the Hugging Face Hub on this machine: the part of its HTTP interface that making a repository,
uploading a folder and downloading a snapshot use. What is uploaded lies in memory, `repositories[name][file]`."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_test"


class Hub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.address, self.repositories, self.private, self.stored, self.asked = None, {}, {}, {}, []
        self.address = f"http://127.0.0.1:{self.server_port}"

    def commit(self, name):
        """The hash of what a repository holds."""
        files = self.repositories[name]
        return hashlib.sha1(b"".join(key.encode() + files[key] for key in sorted(files))).hexdigest()


@contextmanager
def hub():
    """`with hub() as server: ...` runs it; `server.address` is its URL."""
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, value=b"", status=200, head=False, **headers):
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for key, text in {"Content-Length": str(len(data)), "Content-Type": "application/json", **headers}.items():
            self.send_header(key.replace("_", "-"), text)
        self.end_headers()
        if not head:
            self.wfile.write(data)

    def refuse(self, status, code, head=False):
        self.answer({"error": code}, status, head, X_Error_Code=code, X_Error_Message=code)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def allowed(self):
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def do_POST(self):
        hub, path, body = self.server, unquote(urlsplit(self.path).path), self.body()
        hub.asked.append(f"POST {path}")
        if path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if not self.allowed():
            return self.refuse(401, "Unauthorized")
        if path == "/api/repos/create":
            told = json.loads(body)
            name = f"{told.get('organization') or 'nobody'}/{told['name']}"
            if name in hub.repositories:
                return self.answer({"url": f"{hub.address}/{name}", "error": "exists"}, 409)
            hub.repositories[name], hub.private[name] = {}, told.get("private", told.get("visibility") == "private")
            return self.answer({"url": f"{hub.address}/{name}", "name": name, "id": name})
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            upload = [{**o, "actions": {"upload": {"href": f"{hub.address}/store/{o['oid']}"}}} for o in objects]
            return self.answer({"transfer": "basic", "objects": upload})
        parts = path.split("/")
        name, verb = "/".join(parts[3:5]), parts[5]
        if verb == "preupload":  # as the real one: weights go into the large store
            files = json.loads(body)["files"]
            modes = ["lfs" if f["path"].endswith(".safetensors") else "regular" for f in files]
            return self.answer({"files": [{"path": f["path"], "uploadMode": mode, "shouldIgnore": False, "oid": None}
                                          for f, mode in zip(files, modes)]})  # fmt: skip
        for line in body.splitlines():
            told = json.loads(line)
            if told["key"] == "file":
                hub.repositories[name][told["value"]["path"]] = base64.b64decode(told["value"]["content"])
            elif told["key"] == "lfsFile":
                hub.repositories[name][told["value"]["path"]] = hub.stored[told["value"]["oid"]]
        commit = hub.commit(name)
        return self.answer({"success": True, "commitOid": commit, "commitUrl": f"{hub.address}/{name}/commit/{commit}"})

    def do_PUT(self):
        data = self.body()
        self.server.stored[hashlib.sha256(data).hexdigest()] = data
        self.answer(ETag='"stored"')

    def do_HEAD(self):
        self.do_GET(head=True)

    def do_GET(self, head=False):
        hub, path = self.server, unquote(urlsplit(self.path).path)
        hub.asked.append(f"{'HEAD' if head else 'GET'} {path}")
        parts = path.strip("/").split("/")
        name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        if name not in hub.repositories or (hub.private[name] and not self.allowed()):
            return self.refuse(401, "RepoNotFound", head)
        commit, files = hub.commit(name), hub.repositories[name]
        revision = parts[5] if parts[0] == "api" and len(parts) > 5 else parts[3] if parts[0] != "api" else "main"
        if revision not in ("main", commit):
            return self.refuse(404, "RevisionNotFound", head)
        if parts[0] == "api" and "tree" in parts:
            tree = [{"type": "file", "path": p, "size": len(d), "oid": hashlib.sha1(d).hexdigest()}
                    for p, d in files.items()]  # fmt: skip
            return self.answer(tree, head=head)
        if parts[0] == "api":
            return self.answer({"id": name, "sha": commit, "siblings": [{"rfilename": p} for p in files]}, head=head)
        file = "/".join(parts[4:])
        if file not in files:
            return self.refuse(404, "EntryNotFound", head)
        tag = {"ETag": f'"{hashlib.sha1(files[file]).hexdigest()}"', "X_Repo_Commit": commit}
        return self.answer(files[file], head=head, **tag)
