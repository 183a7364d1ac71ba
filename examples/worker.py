#!/usr/bin/env python3
"""A worker outside the manager, with nothing but Python's standard library.

    python3 examples/worker.py --scratch /tmp/scratch

It takes jobs from the queues storage and emulation and works on files in a
scratch folder. docs/workers.md explains the protocol and walks through a
package; examples/worker is the same in Go.

The upper half is a worker for any purpose, to be copied: class Worker and what
it needs. The lower half is the five actions.
"""

import argparse
import http.client
import json
import logging
import os
import random
import re
import signal
import socket
import ssl
import sys
import threading
import time

log = logging.getLogger("worker")


# ------------------------------------------------------------------ the manager


class Problem(Exception):
    """What the manager answered instead of what was asked for."""

    def __init__(self, status, code, message):
        super().__init__(message)
        self.status, self.code = status, code


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the socket of a manager on this machine."""

    def __init__(self, path, timeout):
        super().__init__("vagoth", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Manager:
    """The five calls of a worker. Each thread that asks has a connection."""

    def __init__(self, address, token=None, ca=None):
        self.address, self.token = address, token
        self.local = threading.local()
        self.tls = None
        if "://" in address:
            if not address.startswith("https://") or not token:
                raise SystemExit("a manager elsewhere needs https:// and a token")
            self.tls = ssl.create_default_context(cafile=ca)

    def connect(self, timeout):
        if self.tls:
            host = self.address[len("https://"):].rstrip("/")
            return http.client.HTTPSConnection(host, timeout=timeout, context=self.tls)
        return UnixConnection(self.address, timeout)

    def call(self, verb, body, timeout=10):
        """POST /v1/leases/VERB. Raises Problem, or OSError if nobody answers."""
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = "Bearer " + self.token
        conn = getattr(self.local, "conn", None) or self.connect(timeout)
        self.local.conn = None
        conn.timeout = timeout
        if conn.sock:
            conn.sock.settimeout(timeout)
        try:
            conn.request("POST", "/v1/leases/" + verb, json.dumps(body), headers)
            answer = conn.getresponse()
            text = answer.read(8 << 20)
        except http.client.HTTPException as e:
            conn.close()
            raise OSError(f"the manager broke off: {e!r}") from e
        except OSError:
            conn.close()
            raise
        self.local.conn = conn
        try:
            value = json.loads(text)
        except ValueError:
            value = {}
        if answer.status >= 300:
            value = value if isinstance(value, dict) else {}
            raise Problem(answer.status, value.get("code", ""), value.get("message", f"status {answer.status}"))
        return value


def seconds(span):
    """What the manager writes as a length of time: "30s", "1h30m", "500ms"."""
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
    parts = re.findall(r"([0-9.]+)(ms|us|µs|ns|d|h|m|s)", span)
    return sum(float(number) * units[unit] for number, unit in parts)


# ------------------------------------------------------------------- the worker


class Failed(Exception):
    """The job failed, and another attempt makes no sense."""


class Stopped(Exception):
    """The job is to be left: it was cancelled, its lease is lost, or the worker stops."""


class Job:
    """A lease in the hands of an action."""

    def __init__(self, lease):
        self.id, self.queue, self.action = lease["job"], lease["queue"], lease["action"]
        self.params = lease.get("params") or {}
        self.hold = {"job": lease["job"], "token": lease["token"]}
        self.length = seconds(lease["length"])
        self.lock = threading.Lock()
        self.percent, self.words, self.lines = 0, "", []
        self.stop = threading.Event()  # the action ends soon after
        self.cancelled = ""            # why, if somebody cancelled the job
        self.over = threading.Event()  # the action has ended

    def progress(self, percent, words):
        self.percent, self.words = percent, words

    def log(self, line):
        with self.lock:
            self.lines.append(line)

    def take_lines(self):
        """As many as one request may have."""
        with self.lock:
            lines, self.lines = self.lines[:1000], self.lines[1000:]
            return lines

    def put_back(self, lines):
        with self.lock:
            self.lines = lines + self.lines

    def check(self):
        """Actions that take long call this now and then."""
        if self.stop.is_set():
            raise Stopped("the job was cancelled: " + self.cancelled if self.cancelled else "the worker stops")


class Action:
    def __init__(self, run, required, optional):
        self.run, self.required, self.optional = run, required, optional

    def check(self, name, params):
        """Presence and types, before the function runs."""
        for key, kind in self.required.items():
            if key not in params:
                raise Failed(f'action {name}: the parameter "{key}" ({kind.__name__}) is missing')
        for key, value in params.items():
            kind = self.required.get(key) or self.optional.get(key)
            if kind is None:
                raise Failed(f'action {name}: unknown parameter "{key}"')
            if not isinstance(value, kind) or isinstance(value, bool) and kind is not bool:
                raise Failed(f'action {name}: the parameter "{key}" must be of type {kind.__name__}')


class Worker:
    def __init__(self, manager, name, queues, parallel=1, grace=10):
        self.manager, self.name, self.queues, self.parallel, self.grace = manager, name, queues, parallel, grace
        self.actions = {}
        self.stopping = threading.Event()
        self.jobs = set()

    def action(self, required=None, optional=None):
        """Adds a function to the dispatch table, under its name."""
        def add(run):
            self.actions[run.__name__] = Action(run, required or {}, optional or {})
            return run
        return add

    def run(self):
        """Works until stopping is set; then finishes or hands back."""
        threads = [threading.Thread(target=self.loop, name=f"{self.name}-{i}", daemon=True) for i in range(self.parallel)]
        for thread in threads:
            thread.start()
        self.stopping.wait()
        # A thread that waits for a job gets none any more; what runs has the grace.
        until = time.monotonic() + self.grace
        while self.jobs and time.monotonic() < until:
            time.sleep(0.05)
        for job in list(self.jobs):
            job.stop.set()
        until = time.monotonic() + self.grace
        while self.jobs and time.monotonic() < until:
            time.sleep(0.05)

    def loop(self):
        pause = 0.1
        while not self.stopping.is_set():
            want = {"worker": self.name, "queues": self.queues, "max": 1, "wait": "20s"}
            try:
                leases = self.manager.call("next", want, timeout=35)
                pause = 0.1
            except (OSError, Problem) as e:
                log.warning("cannot ask for jobs, trying again: %s", e)
                self.stopping.wait(pause * random.uniform(0.5, 1))
                pause = min(2 * pause, 15)
                continue
            for lease in leases or []:
                self.attempt(Job(lease))

    def attempt(self, job):
        self.jobs.add(job)
        try:
            if self.stopping.is_set():
                self.tell(job, "return", {**job.hold, "reason": "the worker stops"})
                return
            keeper = threading.Thread(target=self.keep, args=(job,), daemon=True)
            keeper.start()
            end = self.perform(job)
            job.over.set()
            keeper.join()
            while lines := job.take_lines():
                self.tell(job, "log", {**job.hold, "lines": lines})
            self.tell(job, *end)
        finally:
            self.jobs.discard(job)

    def perform(self, job):
        """Runs the action; answers what to tell the manager."""
        try:
            action = self.actions.get(job.action)
            if action is None:
                raise Failed(f'this worker has no action "{job.action}" (known are {", ".join(sorted(self.actions))})')
            action.check(job.action, job.params)
            result = action.run(job, **job.params)
            return "complete", {**job.hold, "result": result or {}}
        except Stopped as e:
            if job.cancelled:
                return "complete", {**job.hold, "error": str(e)}
            return "return", {**job.hold, "reason": str(e)}
        except Failed as e:
            return "complete", {**job.hold, "error": str(e), "final": True}
        except Exception as e:  # a mistake in an action fails its job alone
            log.exception("action %s", job.action)
            return "complete", {**job.hold, "error": f"{type(e).__name__}: {e}"}

    def keep(self, job):
        """Beats three times in the length of a lease, or sooner if there is news."""
        expires = time.monotonic() + job.length
        told = (0, "")
        due = time.monotonic() + job.length / 3
        while not job.over.wait(min(1, job.length / 3)):
            now = time.monotonic()
            news = job.lines or (job.percent, job.words) != told
            if now < due and not news:
                continue
            if now >= expires:
                log.warning("job %s: the manager was not heard of for as long as the lease", job.id)
                job.stop.set()
                return
            try:
                lines = job.take_lines()
                if lines:
                    try:
                        self.manager.call("log", {**job.hold, "lines": lines}, timeout=job.length / 3)
                    except OSError:
                        job.put_back(lines)
                        raise
                told = (job.percent, job.words)
                beat = {**job.hold, "percent": told[0], "progress": told[1]}
                answer = self.manager.call("heartbeat", beat, timeout=job.length / 3)
                expires, due = now + job.length, now + job.length / 3
                if answer.get("cancel"):
                    job.cancelled = answer["cancel"]
                    job.stop.set()
            except Problem as e:
                if e.code in ("stale", "not_found"):
                    log.warning("job %s: the lease is lost", job.id)
                    job.stop.set()
                    return
                log.warning("job %s: cannot beat: %s", job.id, e)
            except OSError as e:
                log.warning("job %s: cannot beat: %s", job.id, e)

    def tell(self, job, verb, body):
        """Asks until the manager has taken it, or does not know the lease any more."""
        pause, tries = 0.1, 0
        while True:
            try:
                self.manager.call(verb, body)
                return
            except Problem as e:
                if e.code in ("stale", "not_found"):
                    log.warning("job %s: too late for %s", job.id, verb)
                    return
                if e.status in (400, 413):
                    log.error("job %s: %s was refused: %s", job.id, verb, e)
                    if verb != "complete" or body.get("error"):
                        return
                    body = {**job.hold, "error": f"the result was refused: {e}", "final": True}
                    continue
                log.warning("job %s: cannot %s, trying again: %s", job.id, verb, e)
            except OSError as e:
                log.warning("job %s: cannot %s, trying again: %s", job.id, verb, e)
            tries += 1
            if self.stopping.is_set() and tries > 3:
                return
            time.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, 15)


# ------------------------------------------------------------------ the actions
#
# All of them succeed when what they are to do is done already, since a job can be
# handed out again.


def actions(worker, scratch):
    def inside(*names):
        for name in names:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
                raise Failed(f"{name[:64]!r} is no name: use letters, digits, points, - and _")
        return os.path.join(scratch, "volumes", *names)

    def config(vm_id):
        return os.path.join(scratch, "vms", f"{vm_id}.json")

    def running(vm_id):
        return os.path.join(scratch, "running", str(vm_id))

    def read_vm(vm_id):
        try:
            with open(config(vm_id), encoding="utf-8") as f:
                return json.load(f)
        except FileNotFoundError:
            raise Failed(f"there is no VM {vm_id}: write its configuration first") from None

    @worker.action(required={"path": str})
    def add_volume(job, path):
        os.makedirs(inside(path), mode=0o700, exist_ok=True)
        job.log(f"the volume {path} is there")
        return {"path": "volumes/" + path}

    @worker.action(required={"volume_path": str, "image_name": str, "image_size": int})
    def create_image(job, volume_path, image_name, image_size):
        if not 1 <= image_size <= 100:
            raise Failed(f"image_size is {image_size} GB: use 1 to 100")
        if not os.path.isdir(inside(volume_path)):
            raise Failed(f'there is no volume "{volume_path}": add it first')
        job.progress(50, "making the image")
        with open(inside(volume_path, image_name), "ab") as f:
            f.truncate(image_size << 30)
        return {"image": f"volumes/{volume_path}/{image_name}", "bytes": image_size << 30}

    @worker.action(required={"id": int, "vm": dict})
    def write_config(job, id, vm):
        if vm.get("cpus", 0) < 1 or vm.get("memory", 0) < 1:
            raise Failed("the vm needs at least one cpu and one MB of memory")
        os.makedirs(os.path.join(scratch, "vms"), mode=0o700, exist_ok=True)
        with open(config(id) + ".new", "w", encoding="utf-8") as f:
            json.dump(vm, f, indent=2)
        os.replace(config(id) + ".new", config(id))
        return {"config": f"vms/{id}.json"}

    @worker.action(required={"id": int})
    def start(job, id):
        vm = read_vm(id)
        for disk in vm.get("storage", []):
            if not os.path.exists(inside(disk["volume"], disk["image"])):
                raise RuntimeError(f"the VM {id} lacks the disk {disk['image']}")
        os.makedirs(os.path.join(scratch, "running"), mode=0o700, exist_ok=True)
        job.log(f"starting {vm.get('name')} with {vm['cpus']} cpus and {vm['memory']} MB")
        with open(running(id), "w", encoding="utf-8") as f:
            f.write(f"{vm.get('name')}\n")
        return {"state": "running"}

    @worker.action(required={"id": int})
    def stop(job, id):
        read_vm(id)
        try:
            os.remove(running(id))
        except FileNotFoundError:
            pass
        return {"state": "stopped"}


def main():
    parser = argparse.ArgumentParser(description="A worker for the queues storage and emulation.")
    parser.add_argument("--manager", default="vagoth-data/vagoth.sock", help="the manager's socket, or https://HOST:PORT")
    parser.add_argument("--token", help="the file with a token of the role worker, for https")
    parser.add_argument("--ca", help="the file with the certificate that signed the manager's")
    parser.add_argument("--scratch", required=True, help="the folder to work in; it is made")
    parser.add_argument("--queues", default="storage,emulation", help="the queues to take jobs from")
    parser.add_argument("--parallel", type=int, default=2, help="how many jobs at once")
    options = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    token = None
    if options.token:
        with open(options.token, encoding="utf-8") as f:
            token = f.read().strip()
    os.makedirs(options.scratch, mode=0o700, exist_ok=True)
    worker = Worker(Manager(options.manager, token, options.ca), socket.gethostname(), options.queues.split(","), options.parallel)
    actions(worker, options.scratch)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: worker.stopping.set())
    log.info("waiting for jobs of %s", options.queues)
    worker.run()


if __name__ == "__main__":
    main()
