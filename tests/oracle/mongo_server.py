"""A small MongoDB on loopback: the real wire protocol (OP_MSG), documents in memory.

No wheel or Debian package brings the real one. It knows the commands that drivers send for finding,
writing and paging, answers errors as MongoDB does, and nothing about disks, replicas or plans.
"""

import contextlib
import socketserver
import struct
import threading
import time

import bson

OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
HEADER = struct.Struct("<iiii")
MORE_TO_COME = 2
DEFAULT_BATCH = 101

OPERATORS = {
    "$gt": lambda value, wanted: value is not None and value > wanted,
    "$lte": lambda value, wanted: value is not None and value <= wanted,
    "$in": lambda value, wanted: value in wanted,
}


class CommandError(Exception):
    """Answered as a failed command."""

    def __init__(self, code, name, message):
        super().__init__(message)
        self.answer = {"ok": 0.0, "code": code, "codeName": name, "errmsg": message}


class MongoServer:
    """Listens on an ephemeral port of 127.0.0.1; a document ``{"sleep": s}`` in a filter waits."""

    def __init__(self):
        self.collections = {}
        self.cursors = {}
        self._lock = threading.RLock()
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                with contextlib.suppress(OSError, EOFError):
                    while True:
                        outer.serve(self.request)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self):
        return f"mongodb://127.0.0.1:{self.port}/"

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    # -- the wire --------------------------------------------------------------------------------

    def serve(self, connection):
        length, request_id, _, opcode = HEADER.unpack(_receive(connection, HEADER.size))
        body = _receive(connection, length - HEADER.size)
        if opcode == OP_QUERY:  # how drivers say hello
            at = body.index(b"\0", 4) + 9
            document = bson.encode(self.answer(bson.decode(body[at:])))
            message = struct.pack("<iqii", 8, 0, 0, 1) + document
            self._send(connection, request_id, OP_REPLY, message)
            return
        flags, command = _command(body)
        answer = self.answer(command)
        if not flags & MORE_TO_COME:  # set: nobody waits for an answer
            message = struct.pack("<IB", 0, 0) + bson.encode(answer)
            self._send(connection, request_id, OP_MSG, message)

    @staticmethod
    def _send(connection, request_id, opcode, message):
        header = HEADER.pack(HEADER.size + len(message), 0, request_id, opcode)
        connection.sendall(header + message)

    def answer(self, command):
        name = next(iter(command))
        method = getattr(self, "do_" + name.lower(), _unknown)
        try:
            seconds = (command.get("filter") or {}).pop("sleep", 0)
            time.sleep(seconds)
            with self._lock:
                return {**method(command), "ok": 1.0}
        except CommandError as error:
            return error.answer

    # -- commands --------------------------------------------------------------------------------

    def do_hello(self, _command):
        return {
            "ismaster": True, "isWritablePrimary": True, "minWireVersion": 0, "maxWireVersion": 21,
            "maxBsonObjectSize": 16 << 20, "maxMessageSizeBytes": 48_000_000,
            "maxWriteBatchSize": 100_000, "logicalSessionTimeoutMinutes": 30, "readOnly": False,
        }  # fmt: skip

    do_ismaster = do_hello

    def do_ping(self, _command):
        return {}

    do_endsessions = do_ping

    def do_insert(self, command):
        held, errors = self._documents(command), []
        for index, document in enumerate(command["documents"]):
            if any(document["_id"] == other["_id"] for other in held):
                message = (
                    f"E11000 duplicate key error collection: shop.{command['insert']} index: _id_ "
                    f'dup key: {{ _id: "{document["_id"]}" }}'
                )
                errors.append({"index": index, "code": 11000, "errmsg": message})
                break
            held.append(document)
        return {"n": len(command["documents"]) - len(errors)} | _unless_empty("writeErrors", errors)

    def do_find(self, command):
        if "$broken" in command.get("filter", {}):
            wrong = command["filter"]["$broken"]
            raise CommandError(2, "BadValue", f'unknown top level operator: "{wrong}"')
        found = [d for d in self._documents(command) if _matches(d, command.get("filter", {}))]
        return self._page(command, found[: command.get("limit") or None])

    def do_aggregate(self, command):
        found = self._documents(command)
        for stage in command["pipeline"]:
            found = [d for d in found if _matches(d, stage.get("$match", {}))]
        return self._page(command, found)

    def do_getmore(self, command):
        return self._next(command["getMore"], command.get("batchSize", DEFAULT_BATCH), "nextBatch")

    def do_killcursors(self, command):
        for cursor in command["cursors"]:
            self.cursors.pop(cursor, None)
        return {"cursorsKilled": command["cursors"]}

    def do_update(self, command):
        changed = 0
        for update in command["updates"]:
            found = [d for d in self._documents(command) if _matches(d, update["q"])]
            for document in found if update.get("multi") else found[:1]:
                document.update(update["u"].get("$set", {}))
                changed += 1
        return {"n": changed, "nModified": changed}

    def do_delete(self, command):
        held, gone = self._documents(command), 0
        for delete in command["deletes"]:
            found = [d for d in held if _matches(d, delete["q"])]
            for document in found[: delete["limit"] or None]:
                held.remove(document)
                gone += 1
        return {"n": gone}

    def do_findandmodify(self, command):
        found = [d for d in self._documents(command) if _matches(d, command["query"])]
        before = dict(found[0]) if found else None
        if found:
            found[0].update(command["update"]["$set"])
        return {"value": before, "lastErrorObject": {"n": len(found)}}

    def do_distinct(self, command):
        return {"values": list({d.get(command["key"]) for d in self._documents(command)})}

    # -- documents -------------------------------------------------------------------------------

    def _documents(self, command):
        return self.collections.setdefault(next(iter(command.values())), [])

    def _page(self, command, found):
        cursor = len(self.cursors) + 1
        self.cursors[cursor] = (next(iter(command.values())), list(found))
        size = command.get("batchSize") or command.get("cursor", {}).get("batchSize")
        return self._next(cursor, size or DEFAULT_BATCH, "firstBatch")

    def _next(self, cursor, size, batch):
        name, left = self.cursors[cursor]
        page, rest = left[:size], left[size:]
        self.cursors[cursor] = (name, rest)
        answer = {"id": bson.Int64(cursor if rest else 0), "ns": f"shop.{name}", batch: page}
        return {"cursor": answer}


def _unknown(command):
    raise CommandError(59, "CommandNotFound", f"no such command: '{next(iter(command))}'")


def _receive(connection, length):
    data = b""
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def _command(body):
    """Flags and the command, with its sequences of documents in place."""
    (flags,) = struct.unpack_from("<I", body)
    at, command = 4, {}
    while at < len(body):
        kind, at = body[at], at + 1
        (length,) = struct.unpack_from("<i", body, at)
        section = body[at : at + length]
        if kind == 0:
            command = bson.decode(section) | command
        else:
            end = section.index(b"\0", 4)
            command[section[4:end].decode()] = bson.decode_all(section[end + 1 :])
        at += length
    return flags, command


def _matches(document, wanted):
    return all(
        all(OPERATORS[name](document.get(key), operand) for name, operand in value.items())
        if isinstance(value, dict)
        else document.get(key) == value
        for key, value in wanted.items()
    )


def _unless_empty(key, values):
    return {key: values} if values else {}
