"""An S3 server on loopback (moto), behind a proxy that is as bad as it is told to be.

    python3 faulty_s3.py '{"fail": 5, "delay": 0.05}'

Prints the proxy's port, then lines that ask for another behaviour are read from standard input, each answered with how many requests
came since the last one. Ends when standard input does, or after two minutes (or as many seconds as a second argument says).

    fail       one request in so many is answered with 500
    truncate   one answer in so many with a body ends in its middle
    wrong      one answer in so many with a body has other bytes
    delay      seconds before each answer
    hang       whether requests are accepted and never answered
    die        after so many requests connections are closed at once
"""

import http.client
import http.server
import json
import sys
import threading
import time

from moto.server import ThreadedMotoServer


class State:
    def __init__(self, behaviour):
        self.lock = threading.Lock()
        self.behave(behaviour)

    def behave(self, behaviour):
        self.behaviour = behaviour
        self.requests = 0
        self.bodies = 0

    def count(self, name):
        with self.lock:
            value = getattr(self, name) + 1
            setattr(self, name, value)
            return value


def proxy(state, port):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self):
            try:
                super().handle_one_request()
            except (ConnectionError, TimeoutError):
                self.close_connection = True

        def forward(self):
            behaviour = state.behaviour
            number = state.count("requests")
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if behaviour.get("hang"):
                time.sleep(100)
                return self.cut()
            if behaviour.get("die") and number > behaviour["die"]:
                return self.cut()
            time.sleep(behaviour.get("delay", 0))
            if behaviour.get("fail") and number % behaviour["fail"] == 0:
                return self.answer(500, {}, b"told to fail")
            server = http.client.HTTPConnection("127.0.0.1", port)
            server.request(self.command, self.path, body=body, headers=dict(self.headers))
            answer = server.getresponse()
            content = answer.read()
            headers = {name: value for name, value in answer.getheaders() if name.lower() not in HOP}
            server.close()
            if content and answer.status < 300 and "list-type" not in self.path:
                body_number = state.count("bodies")
                if behaviour.get("truncate") and body_number % behaviour["truncate"] == 0:
                    return self.answer(answer.status, headers, content, cut=True)
                if behaviour.get("wrong") and body_number % behaviour["wrong"] == 0:
                    content = bytes([content[0] ^ 1]) + content[1:]
            self.answer(answer.status, headers, content, head=answer.getheader("Content-Length"))

        def answer(self, status, headers, content, cut=False, head=None):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            length = head if self.command == "HEAD" and head else len(content)
            if status not in (204, 304):
                self.send_header("Content-Length", str(length))
            self.end_headers()
            if self.command == "HEAD":
                return
            self.wfile.write(content[: len(content) // 2] if cut else content)
            if cut:
                self.cut()

        def cut(self):
            self.close_connection = True

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


HOP = {"connection", "content-length", "transfer-encoding", "keep-alive"}


def main():
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 120
    threading.Timer(seconds, lambda: __import__("os")._exit(0)).start()
    state = State(json.loads(sys.argv[1]) if len(sys.argv) > 1 else {})
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    moto.start()
    port = moto.get_host_and_port()[1]
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("PUT", "/bucket")
    connection.getresponse().read()
    print(proxy(state, port), flush=True)
    for line in sys.stdin:
        requests = state.requests
        state.behave(json.loads(line))
        print(requests, flush=True)
    __import__("os")._exit(0)


if __name__ == "__main__":
    main()
