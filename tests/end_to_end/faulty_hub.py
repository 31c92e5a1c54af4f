"""A server on loopback that speaks the Hugging Face hub's API over a folder, and is as bad as it is told to be.

    python3 faulty_hub.py FOLDER

FOLDER holds models/ORG/NAME/REVISION/... and datasets/ORG/NAME/REVISION/...; in a revision's name `--` stands for `/`. What lies there
is read anew at each request, so that a branch moves when its files change. A card.json beside the files is the head of a README.md.

Prints its port, then lines that ask for another behaviour are read from standard input, each answered with how many requests came since
the last one. Ends when standard input does, or after two minutes (or as many seconds as a second argument says).

    cut        so many answers with a large file end in its middle
    hang       so many answers with a large file stop in its middle and never go on
    limit      so many requests are answered with 429, to be asked again after a second
    fail       one request in so many is answered with 500
    wrong      files of this name have other bytes, of the same length
    extra      names that a listing has besides
    token      without this token nothing is found
    gated      files are not for whoever asks
    slow       seconds that a large file takes
    resume     large files are sent from a byte on alone, not from their beginning
    ranges     false: a large file is sent from its beginning whatever is asked for
"""

import functools
import hashlib
import http.server
import json
import os
import sys
import threading
import time
import urllib.parse

# What is larger, or of these endings, git only points at.
LARGE = 10_000
ENDINGS = (".safetensors", ".gguf", ".parquet")


class State:
    def __init__(self, root):
        self.root = root
        self.lock = threading.Lock()
        self.behave({})

    def behave(self, behaviour):
        with self.lock:
            self.behaviour = behaviour
            self.requests = 0

    def count(self):
        with self.lock:
            self.requests += 1
            return self.requests

    def takes(self, name):
        """Whether it is still one of so many times."""
        with self.lock:
            left = self.behaviour.get(name, 0)
            self.behaviour[name] = left - 1
            return left > 0


class Missing(Exception):
    def __init__(self, code, status=404):
        self.code, self.status = code, status


@functools.lru_cache(maxsize=None)
def hashes(path, modified, size):
    """Of a file by git's name for it and by SHA-256."""
    with open(path, "rb") as file:
        data = file.read()
    return hashlib.sha1(f"blob {size}\0".encode() + data).hexdigest(), hashlib.sha256(data).hexdigest()


class File:
    def __init__(self, path, name):
        self.path, state = path, os.stat(path)
        self.size = state.st_size
        self.git, self.sha256 = hashes(path, state.st_mtime_ns, self.size)
        self.is_large = self.size > LARGE or name.endswith(ENDINGS)
        self.hash = self.sha256 if self.is_large else self.git

    def read(self):
        with open(self.path, "rb") as file:
            return file.read()


class Repository:
    def __init__(self, state, kind, name):
        self.kind, self.name = kind, name
        self.folder = os.path.join(state.root, kind, name)
        if not os.path.isdir(self.folder):
            raise Missing("RepoNotFound")

    def revisions(self):
        return {name.replace("--", "/"): os.path.join(self.folder, name) for name in sorted(os.listdir(self.folder))}

    def files(self, folder):
        found = {}
        for here, _, names in os.walk(folder):
            for name in names:
                path = os.path.join(here, name)
                found[os.path.relpath(path, folder)] = File(path, name)
        found.pop("card.json", None)
        return dict(sorted(found.items()))

    def commit(self, folder):
        digest = hashlib.sha1(f"{self.kind}/{self.name}".encode())
        for name, file in self.files(folder).items():
            digest.update(f"{name}\0{file.git}".encode())
        return digest.hexdigest()

    def at(self, revision):
        """A revision's folder and its commit."""
        known = {name: (folder, self.commit(folder)) for name, folder in self.revisions().items()}
        for name, (folder, commit) in known.items():
            if revision in (name, commit):
                return folder, commit
        raise Missing("RevisionNotFound")


def sibling(name, file):
    entry = {"rfilename": name, "size": file.size, "blobId": file.git}
    if file.is_large:
        entry["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": 134}
    return entry


def leaf(name, file):
    entry = {"type": "file", "path": name, "size": file.size, "oid": file.git}
    if file.is_large:
        entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 134}
    return entry


def handler(state):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self):
            try:
                super().handle_one_request()
            except (ConnectionError, TimeoutError):
                self.close_connection = True

        def do_GET(self):
            number = state.count()
            behaviour = state.behaviour
            if behaviour.get("fail") and number % behaviour["fail"] == 0:
                return self.answer(500, b"{}")
            if behaviour.get("limit", 0) > 0 and state.takes("limit"):
                return self.answer(429, b"{}", {"Retry-After": "1"})
            try:
                self.route(urllib.parse.urlsplit(self.path).path)
            except Missing as missing:
                words = {"RepoNotFound": "Repository not found", "GatedRepo": "Access to it is restricted"}
                said = {"X-Error-Code": missing.code, "X-Error-Message": words.get(missing.code, missing.code)}
                self.answer(missing.status, b'{"error": "no"}', said)

        do_HEAD = do_GET

        def route(self, path):
            parts = [urllib.parse.unquote(part) for part in path.strip("/").split("/")]
            token = state.behaviour.get("token")
            if parts[0] == "cdn":
                # Another host name, which a token is none of the business of.
                if "Authorization" in self.headers:
                    return self.answer(400, b"a token came to another host")
                return self.file(*parts[1:4], "/".join(parts[4:]))
            if token and self.headers.get("Authorization") != f"Bearer {token}":
                raise Missing("RepoNotFound", 401)
            if parts[:2] == ["api", "resolve-cache"]:
                return self.file(parts[2], "/".join(parts[3:5]), parts[5], "/".join(parts[6:]))
            if parts[0] == "api":
                return self.api(parts[1], "/".join(parts[2:4]), parts[4:])
            kind = "models"
            if parts[0] == "datasets":
                kind, parts = parts[0], parts[1:]
            name, revision, file = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
            if state.behaviour.get("gated"):
                raise Missing("GatedRepo", 403 if "Authorization" in self.headers else 401)
            repository = Repository(state, kind, name)
            folder, commit = repository.at(revision)
            found = repository.files(folder).get(file)
            if found is None:
                raise Missing("EntryNotFound")
            headers = {"X-Repo-Commit": commit}
            quoted = urllib.parse.quote(file)
            if found.is_large:
                port = self.server.server_address[1]
                flat = urllib.parse.quote(name, safe="")
                headers["Location"] = f"http://localhost:{port}/cdn/{kind}/{flat}/{commit}/{quoted}?signature=x"
                headers["X-Linked-Etag"] = f'"{found.hash}"'
                headers["X-Linked-Size"] = str(found.size)
                return self.answer(302, b"", headers)
            headers["ETag"] = f'"{found.hash}"'
            headers["Location"] = f"/api/resolve-cache/{kind}/{name}/{commit}/{quoted}"
            self.answer(307, b"", headers)

        def api(self, kind, name, rest):
            repository = Repository(state, kind, name)
            if rest == ["refs"]:
                named = [{"name": name, "ref": f"refs/heads/{name}"} for name in repository.revisions()]
                return self.json({"branches": named, "tags": [], "converts": []})
            what, revision = (rest + ["revision", "main"])[:2]
            folder, commit = repository.at(revision)
            files = repository.files(folder)
            if what == "tree":
                return self.json([leaf(*entry) for entry in files.items()])
            siblings = [sibling(*entry) for entry in files.items()]
            siblings += [dict(siblings[0], rfilename=extra) for extra in state.behaviour.get("extra", [])]
            said = {"id": name, "sha": commit, "private": False, "siblings": siblings}
            card = os.path.join(folder, "card.json")
            if os.path.exists(card):
                with open(card) as file:
                    said["cardData"] = json.load(file)
            self.json(said)

        def file(self, kind, name, commit, file):
            repository = Repository(state, kind, name)
            folder, commit = repository.at(commit)
            found = repository.files(folder)[file]
            data = found.read()
            behaviour = state.behaviour
            headers = {"ETag": f'"{found.hash}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
            if behaviour.get("wrong") == os.path.basename(file):
                data = bytes([data[0] ^ 1]) + data[1:]
            status, whole, large = 200, data, found.is_large
            wanted = self.headers.get("Range") if behaviour.get("ranges", True) else None
            if large and behaviour.get("resume") and not wanted:
                return self.answer(400, b"")
            if wanted:
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                if int(first) >= len(data):
                    return self.answer(416, b"", {"Content-Range": f"bytes */{len(whole)}"})
                last = min(int(last), len(data) - 1) if last else len(data) - 1
                data = data[int(first):last + 1]
                headers["Content-Range"] = f"bytes {first}-{last}/{len(whole)}"
                status = 206
            if large and behaviour.get("slow"):
                time.sleep(behaviour["slow"])
            body = self.command == "GET"
            if body and large and behaviour.get("cut", 0) > 0 and state.takes("cut"):
                self.answer(status, data, headers, sent=len(data) // 2)
                return self.cut()
            if body and large and behaviour.get("hang", 0) > 0 and state.takes("hang"):
                self.answer(status, data, headers, sent=len(data) // 2)
                time.sleep(100)
                return self.cut()
            self.answer(status, data, headers)

        def json(self, value):
            self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def answer(self, status, body, headers={}, sent=None):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body[:sent])
                self.wfile.flush()

        def cut(self):
            self.close_connection = True
            self.connection.close()

        def log_message(self, *arguments):
            pass

    return Handler


def main():
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 120
    threading.Timer(seconds, lambda: os._exit(0)).start()
    state = State(sys.argv[1])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(state))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    for line in sys.stdin:
        requests = state.requests
        state.behave(json.loads(line))
        print(requests, flush=True)
    os._exit(0)


main()
