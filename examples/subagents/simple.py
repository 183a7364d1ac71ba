#!/usr/bin/env python3
"""A sub-agent with nothing but Python's standard library.

    python3 examples/subagents/simple.py --port 9998

It has one method, Simple.Greet, which greets a guest in its metadata;
examples/subagents/simple is the same in Go. The upper half is a sub-agent for
any purpose, to be copied. The lower half is the method.

The protocol is JSON-RPC 1.0: the agent posts {"method", "params": [REQUEST],
"id"} to /_mistify_RPC_, and gets {"result", "error", "id"}, where error is null
or a text. Who asked for it, and why, is in headers (Vagoth-Source and others).
"""

import argparse
import http.server
import json
import signal
import sys
import threading
import urllib.parse

PATH = "/_mistify_RPC_"
MAX_BODY = 1 << 20
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class Failed(Exception):
    """A method that could not do its work; its text goes to the agent."""


class Refused(Exception):
    """A request that is for no method."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024  # an answer is one write
    timeout = 60  # of a client that sends nothing
    methods = {}

    def do_POST(self):
        try:
            method, request, call_id = self.read_call()
        except Refused as refused:
            self.close_connection = True
            self.answer(refused.status, "text/plain; charset=utf-8", f"{refused}\n".encode())
            return
        result, error = None, None
        try:
            result = method(request, self.trail())
        except Failed as failed:
            error = str(failed)
        except Exception as exc:  # a mistake in a method costs its call
            self.log_error("%s", repr(exc))
            error = "the method failed: see the sub-agent's log"
        body = json.dumps({"result": result, "error": error, "id": call_id})
        self.answer(200, "application/json; charset=utf-8", body.encode())

    def read_call(self):
        """Returns the method, its request and the call's id."""
        if self.path != PATH:
            raise Refused(404, f"nothing is served here: ask at {PATH}")
        if self.headers.get_content_type() != "application/json":
            raise Refused(415, "the content type must be application/json")
        if self.headers.get("Host", "").rsplit(":", 1)[0] not in LOOPBACK or "Origin" in self.headers:
            raise Refused(403, "this is asked on this machine, and not by a browser")
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or int(length) > MAX_BODY:
            raise Refused(413, f"the request must say its length, at most {MAX_BODY} bytes")
        try:
            call = json.loads(self.rfile.read(int(length)))
            (request,) = call["params"]
            method = self.methods[call["method"]]
        except (ValueError, KeyError, TypeError, RecursionError) as exc:
            raise Refused(400, f"this is no call: {type(exc).__name__} {exc}") from exc
        if not isinstance(request, dict):
            raise Refused(400, "params must be a list of one object")
        return method, request, call.get("id")

    def trail(self):
        """Returns on whose behalf the call is."""
        names = ("Transaction", "Source", "Reason", "Job", "Attempt", "Token")
        return {n.lower(): urllib.parse.unquote(self.headers.get(f"Vagoth-{n}", "")) for n in names}

    def answer(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code="-", size="-"):
        pass  # a method logs what it does


def serve(port, methods):
    """Answers on loopback until the process is told to end."""
    handler = type("Calls", (Handler,), {"methods": methods})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"listening on 127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever(poll_interval=0.1)
    server.server_close()


# ------------------------------------------------------------------- the method


def greet(request, trail):
    """May be called again for a guest that it has greeted: that changes nothing."""
    guest = request.get("guest")
    if not isinstance(guest, dict):
        raise Failed("invalid request: it has no guest")
    greeting = (request.get("args") or {}).get("greeting") or "hello"
    guest["metadata"] = {**(guest.get("metadata") or {}), "greeting": greeting}
    print(f"greeted {guest.get('id')!r} for {trail['source']!r}", file=sys.stderr)
    return {"guest": guest, "message": f"greeted with {greeting}"}


def main():
    parser = argparse.ArgumentParser(description="a simple sub-agent")
    parser.add_argument("--port", type=int, default=9998, help="the port on loopback; 0 takes a free one")
    serve(parser.parse_args().port, {"Simple.Greet": greet})


if __name__ == "__main__":
    main()
